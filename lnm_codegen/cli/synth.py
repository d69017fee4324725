"""`lnm synth`: what a folder of Verilog costs on a chip, and how fast it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lnm_codegen.cli.options import JsonOption
from lnm_codegen.cli.output import print_json, print_table
from lnm_codegen.cli.verify import FolderArgument
from lnm_codegen.errors import ModelError

if TYPE_CHECKING:
    from lnm_codegen.hardware.folder import Circuit
    from lnm_codegen.hardware.synth import Device, Measured

MOST_SEEDS = 32


def synth(
    folder: FolderArgument,
    target: Annotated[
        str, typer.Option("--target", metavar="NAME", help="ecp5, ice40 or xilinx.")
    ] = "ecp5",
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="Of ice40: up5k (the default) or hx8k."),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--form", metavar="FORM,...", help="comb, core, seq, array; all by default."),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", help="Place and route for seeds 1 to N.")
    ] = 3,
    json: JsonOption = False,
) -> None:
    """Synthesise a circuit, place and route it.

    LUT, FF, DSP and BRAM are of the bare module; Fmax is of the module in a harness (inputs from a
    shift register, outputs to one XOR), the median over the seeds. No power or energy is told: no
    open tool gives one. Writes DIR/report.json.
    """
    from lnm_codegen.hardware.folder import read_circuit
    from lnm_codegen.hardware.report import check_writable, updated
    from lnm_codegen.hardware.synth import measure

    word, chip = _device(target, device)
    if not 1 <= seeds <= MOST_SEEDS:
        raise ModelError("synth", f"--seeds {seeds}: accepted: 1 to {MOST_SEEDS}")
    circuit = read_circuit(folder, "synth")
    check_writable(circuit, "synthesis")
    found = {
        name: measure(circuit, circuit.forms[name], chip, seeds) for name in _forms(circuit, form)
    }
    section = {f"{name}.{word}": m.as_dict() for name, m in found.items()}
    report = updated(circuit, "synthesis", section, ("yosys", *chip.place[:1]))
    if json:
        print_json({"folder": str(folder), **report})
    else:
        _print(circuit, chip, found)
        typer.echo(f"written to {folder / 'report.json'}")


def _device(target: str, device: str | None) -> tuple[str, Device]:
    from lnm_codegen.hardware.synth import DEVICES, TARGETS

    if target not in TARGETS:
        raise ModelError("synth", f"--target {target!r}: accepted: {', '.join(TARGETS)}")
    word = device or TARGETS[target]
    mine = [name for name, d in DEVICES.items() if d.target == target]
    if word not in mine:
        raise ModelError(
            "synth", f"--device {word!r}: accepted with --target {target}: {', '.join(mine)}"
        )
    return word, DEVICES[word]


def _forms(circuit: Circuit, text: str | None) -> list[str]:
    asked = list(circuit.forms) if text is None else [w.strip() for w in text.split(",")]
    for word in asked:
        if word not in circuit.forms:
            raise ModelError("synth", f"--form {word!r}: not in this folder", circuit.forms)
    return asked


def _print(circuit: Circuit, device: Device, found: dict[str, Measured]) -> None:
    typer.echo(f"{circuit.name} on {device.name}")
    print_table(
        ("form", "latency", "interval", "LUT", "FF", "DSP", "BRAM", "MHz", "MHz by seed"),
        [_row(name, m) for name, m in found.items()],
        numbers=True,
    )
    for note in dict.fromkeys(m.note for m in found.values() if m.note):
        typer.echo(note)


def _row(name: str, m: Measured) -> tuple[Any, ...]:
    by_seed = " ".join(f"{mhz:.0f}" for mhz in m.fmax.values())
    median = "-" if m.median is None else f"{m.median:.0f}"
    return (
        name, m.form.latency, m.form.interval, *m.cost.as_dict().values(), median, by_seed or "-"
    )  # fmt: skip
