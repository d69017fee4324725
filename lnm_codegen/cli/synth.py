"""`lnm synth`: resources and clock frequency of a circuit on a chip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lnm_codegen.cli.options import Meta, Seeds
from lnm_codegen.cli.output import print_json, print_table
from lnm_codegen.errors import ModelError
from lnm_codegen.sections import Table
from lnm_codegen.validation import listed, require_one_of, wrong

if TYPE_CHECKING:
    from lnm_codegen.hardware.folder import Circuit
    from lnm_codegen.hardware.synth import Device, Measured


def synth(
    folder: Annotated[Path, Meta("DIR")],
    /,
    *,
    target: Annotated[str, Meta("NAME")] = "ecp5",
    device: Annotated[str | None, Meta("NAME")] = None,
    form: Annotated[str | None, Meta("FORM,...")] = None,
    seeds: Seeds = 3,
    json: bool = False,
) -> None:
    """Synthesise, place and route a circuit.

    LUT, FF, DSP and BRAM count the bare module. Fmax is the median over the seeds, for the module
    in a harness: inputs from a shift register, outputs to one XOR. Power and energy are not
    reported, since no open tool estimates them. A network has latency and interval of the worst
    case; a simulation of its golden samples gives the cycles of a sample, and so samples a second.
    Writes DIR/report.json.

    Options:
        device: Of ecp5: 25k (default) or 85k; of ice40: up5k (default) or hx8k.
        form: Of comb, core, seq, array. [default: all]
    """
    from lnm_codegen.hardware.folder import read_circuit
    from lnm_codegen.hardware.result import require_writable, update_report
    from lnm_codegen.hardware.synth import measure
    from lnm_codegen.hardware.verify.network import sample_cycles, with_cycles

    word, chip = _device(target, device)
    circuit = read_circuit(folder, "synth")
    require_writable(circuit, "synthesis")
    found = {
        name: measure(circuit, circuit.forms[name], chip, seeds) for name in _forms(circuit, form)
    }
    cycles = sample_cycles(circuit) if circuit.is_network else None
    section = {f"{name}.{word}": with_cycles(m, cycles) for name, m in found.items()}
    report = update_report(circuit, "synthesis", section, chip.tools)
    if json:
        print_json({"folder": str(folder), **report})
    else:
        _print(circuit, chip, found)
        if cycles is not None:
            for m in found.values():
                rate = m.median and f", {m.median * 1e6 / cycles:.0f} samples a second"
                typer.echo(f"{cycles} cycles a sample (mean of the golden samples){rate or ''}")
        typer.echo(f"written to {folder / 'report.json'}")


def _device(target: str, device: str | None) -> tuple[str, Device]:
    from lnm_codegen.hardware.synth import DEVICES, TARGETS

    require_one_of("synth", "--target", target, list(TARGETS))
    word = device or TARGETS[target]
    mine = [name for name, d in DEVICES.items() if d.target == target]
    if word in DEVICES and word not in mine:
        remedy = f"Add --target {DEVICES[word].target}, or omit --device."
        raise wrong(f"synth: --target {target}", "--device", word, listed(mine), remedy)
    require_one_of(f"synth: --target {target}", "--device", word, mine)
    return word, DEVICES[word]


def _forms(circuit: Circuit, text: str | None) -> list[str]:
    requested = list(circuit.forms) if text is None else [w.strip() for w in text.split(",")]
    for word in requested:
        if word not in circuit.forms:
            raise ModelError("synth", f"--form {word!r} is not in this folder", circuit.forms)
    return requested


def _print(circuit: Circuit, device: Device, found: dict[str, Measured]) -> None:
    typer.echo(f"{circuit.name} on {device.name}")
    header = ("form", "latency", "interval", "LUT", "FF", "DSP", "BRAM", "MHz", "MHz by seed")
    rows = [_row(name, m, circuit.is_network) for name, m in found.items()]
    print_table(Table(header, rows, numbers=True))
    for note in dict.fromkeys(m.note for m in found.values() if m.note):
        typer.echo(note)


def _row(name: str, m: Measured, is_network: bool) -> tuple[Any, ...]:
    """Return the cells of a form; cycles of a network are bounds."""
    by_seed = " ".join(f"{mhz:.0f}" for mhz in m.fmax.values()) or "-"
    median = "-" if m.median is None else f"{m.median:.0f}"
    resources = m.resources.as_dict().values()
    cycles = (m.form.latency, m.form.interval)
    shown = [f"at most {n}" for n in cycles] if is_network else cycles
    return (name, *shown, *resources, median, by_seed)
