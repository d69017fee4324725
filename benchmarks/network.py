"""Measurements of docs/evidence/integer-networks.md, on a chip and a microcontroller.

    python benchmarks/network.py --data-dir DIR [--work DIR] [--only WORD] [--again] [--print]

Each network is trained, quantized, emitted, synthesised and verified by `lnm`; networks of MNIST-1D
and of ECG-QTDB also run on an emulated Cortex-M4. A step whose result lies in the work folder is
skipped, so an interrupted run resumes. Each network adds a row to benchmarks/results/network.csv.
At the end the script prints the tables of the page. DIR has the idx files of MNIST; of
Fashion-MNIST with `--only fashion`, the two files of ECG-QTDB with `--only ecg`; see docs/data.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from lnm_codegen.files import write_whole
from lnm_codegen.hardware.microcontroller import COMPILER
from lnm_codegen.hardware.tools import missing

RESULTS = Path(__file__).parent / "results" / "network.csv"
MNIST = (
    "--network feedforward --net hidden=128 --net readout=linear --time-steps 4 --data mnist"
    " --data-set scale=unit --data-set validation=5000 --batch 100 --lr 0.003"
    " --train optimizer=adamw --weight-decay 0.1 --seed 10 --threads 1"
)
MNIST1D = (
    "--network feedforward --net hidden=128,128 --data mnist1d --data-set validation=500"
    " --epochs 60 --batch 100 --lr 0.04 --seed 10 --threads 1"
)
FASHION = (
    "--network conv --net channels=8,16 --time-steps 4 --data fashion-mnist --data-set scale=unit"
    " --data-set validation=5000 --epochs 10 --batch 100 --lr 0.003 --train optimizer=adamw"
    " --weight-decay 0.01 --seed 10 --threads 1"
)
ECG = (
    "--set parametrisation=pole --set radius=0.9,0.995 --set angle=0,0.3 --network recurrent"
    " --net hidden=36 --net carry_limit=1 --net readout=li --data ecg-qtdb --epochs 40 --batch 16"
    " --lr 0.02 --lr-neuron 0.01 --seed 20 --threads 1"
)
TWO = "--family lnm --set states=2 --degree 1 --per channel"
RUNS = {
    "mnist-lif": f"--family lif --set v_threshold=0.5 --set v_reset=none {MNIST} --epochs 20",
    "mnist-lnm": f"--family lnm --degree 3 {MNIST} --epochs 30",
    "mnist-two": f"{TWO} {MNIST} --epochs 20",
    "mnist1d-lif": f"--family lif --set decay_input=false --set v_reset=none {MNIST1D}",
    "mnist1d-two": f"{TWO} {MNIST1D}",
    "ecg-two": f"{TWO} {ECG}",
    "fashion-lif": f"--family lif --set v_threshold=0.5 --set v_reset=none {FASHION}",
}
"""Name of a run -> options of `lnm train`. Samples of `validation` serve every choice."""
NEURONS = {"lif": "LIF", "lnm": "LNM, degree 3", "two": "LNM, two states, degree 1"}
TUNED = {"mnist-lif": 3, "mnist-lnm": 2, "mnist-two": 2, "mnist1d-lif": 5, "mnist1d-two": 5}
"""Name of a run -> epochs of `lnm quantize`; any other run has the default formats."""
CASES = tuple(
    (run, bits, lanes)
    for run, widths in (
        ("mnist-lif", ((4, 1), (4, 4), (4, 22), (5, 22), (6, 22))),
        ("mnist-lnm", ((4, 22), (5, 22), (6, 22))),
        ("mnist-two", ((4, 1), (4, 4), (4, 22), (5, 22), (6, 22))),
        ("mnist1d-lif", ((None, 4),)),
        ("mnist1d-two", ((None, 4),)),
        ("ecg-two", ((8, 4),)),
        ("fashion-lif", ((8, 8),)),
    )
    for bits, lanes in widths
)
"""Run, bits of a weight (None: searched for each layer), lanes."""
TESTED = {"mnist1d": 1000, "ecg": 141}
"""Data of the networks that run on a Cortex-M4 -> their test samples."""
DEVICES = {"25k": "ECP5-25F", "85k": "ECP5-85F"}


@dataclass(frozen=True)
class Row:
    """A network on a device, nextpnr's seed 1; percentages on the whole test set."""

    network: str
    bits: str
    lanes: int
    device: str
    real: float  # accuracy of the trained network, in percent
    integers: float  # accuracy in integers, in percent
    images: int
    lut: int
    ff: int
    dsp: int
    bram: int
    mhz: float
    cycles: int  # of a sample, mean of the golden samples
    verified: int  # samples in Verilator that are equal to C, random ones included
    code: int = 0  # bytes on a Cortex-M4; 0 where it was not run
    constants: int = 0
    ram: int = 0
    instructions: int = 0  # of a sample


def lnm(*words: str) -> str:
    """Return what a command of `lnm` prints; stop at the first that fails.

    A `quantize` with given bits may miss its target (exit status 3); its accuracy is reported.
    """
    command = [sys.executable, "-m", "lnm_codegen.cli", *words]
    print("lnm", shlex.join(words), flush=True)
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if (words[0], done.returncode) != ("quantize", 3):
        done.check_returncode()
    return done.stdout


def emitted(work: Path, run: str, bits: int | None, lanes: int, data: Path) -> tuple[Path, str]:
    """Train, quantize and emit; return the folder of the circuit and what `lnm deploy` printed."""
    name = run if bits is None else f"{run}-{bits}"
    trained, words = work / "runs" / run, work / "words" / name
    chip = work / "chip" / f"{name}-{lanes}"
    if not (trained / "figure.png").exists():
        folder = () if run.startswith("mnist1d") else ("--data-dir", str(data))
        lnm("train", *RUNS[run].split(), *folder, "--out", str(trained), "--force")
    if run in TUNED and not (words / "network.json").exists():
        samples, width = ("1000", ()) if bits is None else ("5000", ("--weights", str(bits)))
        more = ("--epochs", str(TUNED[run]), "--samples", samples)
        lnm("quantize", str(trained), *width, *more, "--out", str(words))
    return chip, _network(work, run, name, chip, "verilog", "--lanes", str(lanes), "--all")


def _network(work: Path, run: str, name: str, out: Path, backend: str, *more: str) -> str:
    """Emit a network once; return what `lnm deploy` printed."""
    log = out.with_suffix(".txt")
    if not log.exists():
        formats = ("--format", str(work / "words" / name)) if run in TUNED else ()
        trained = str(work / "runs" / run)
        text = lnm("deploy", trained, "--backend", backend, *formats, *more, "--out", str(out))
        write_whole(log, text)
    return log.read_text(encoding="utf-8")


def measured(work: Path, case: tuple[str, int | None, int], device: str, data: Path) -> Row:
    """Return the row of a network."""
    run, bits, lanes = case
    chip, printed = emitted(work, run, bits, lanes, data)
    report = _report(chip)
    if f"network.{device}" not in report.get("synthesis", {}):
        lnm("synth", str(chip), "--device", device, "--seeds", "1")
    if "verilator" not in report.get("verification", {}):
        lnm("verify", str(chip), "--all")
    report = _report(chip)
    found = report["synthesis"][f"network.{device}"]
    steps = report["verification"]
    failed = [name for name, step in steps.items() if step["status"] == "failed"]
    if failed:
        raise SystemExit(f"{chip}: {', '.join(failed)} failed")
    numbers = _match(r"float ([\d.]+) %, integers ([\d.]+) %.* on (\d+) (?:samples|steps)", printed)
    is_small = run.split("-")[0] in TESTED and device == "25k"
    small = _on_cortex_m4(work, run) if is_small else ()
    return Row(
        run, "searched" if bits is None else str(bits), lanes, device,
        float(numbers[0]), float(numbers[1]), int(numbers[2]),
        *(found[word] for word in ("LUT", "FF", "DSP", "BRAM")),
        round(found["fmax_mhz"], 1), found["cycles_per_sample"],
        steps["verilator"]["checks"][0]["count"], *small,
    )  # fmt: skip


def _on_cortex_m4(work: Path, run: str) -> tuple[int, ...]:
    """Return bytes of code, constants and RAM, and instructions a sample over the test samples."""
    if problem := missing(COMPILER, "qemu-system-arm"):
        raise SystemExit(problem)
    folder, count = work / "net" / run, str(TESTED[run.split("-")[0]])
    printed = _network(work, run, run, folder, "c", "--vectors", count)
    made = subprocess.run(
        ["make", "-s", "-C", str(folder), "qemu"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    _match(rf"(0) of {count} samples differ", made)
    sizes = _match(r"code (\d+) bytes, constants (\d+) bytes, RAM (\d+) bytes", printed)
    return (*map(int, sizes), int(_match(r"(\d+) instructions a sample", made)[0]))


def _match(pattern: str, text: str) -> tuple[str, ...]:
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"no {pattern!r} in: {text[-500:]}")
    return found.groups()


def _report(chip: Path) -> dict[str, dict]:
    path = chip / "report.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def read() -> dict[tuple[str, str, int, str], Row]:
    """Return the rows of the results, by network, bits, lanes and device."""
    if not RESULTS.exists():
        return {}
    with RESULTS.open(encoding="utf-8", newline="") as file:
        kinds = {f.name: {"int": int, "float": float}.get(str(f.type), str) for f in fields(Row)}
        rows = [Row(**{k: kinds[k](v) for k, v in row.items()}) for row in csv.DictReader(file)]
    return {(r.network, r.bits, r.lanes, r.device): r for r in rows}


def write(rows: list[Row]) -> None:
    """Write the rows of the results."""
    lines = [",".join(f.name for f in fields(Row))]
    lines += [",".join(map(str, asdict(row).values())) for row in rows]
    write_whole(RESULTS, "\n".join(lines) + "\n")


def chip_table(rows: list[Row], data: str) -> str:
    """Return the table of the networks of a data set on the chip of all rows."""
    lines = [
        "| neuron | bits of a weight | lanes | accuracy, float | accuracy, integers | LUT | FF"
        " | DSP | BRAM | MHz | cycles per sample | us per sample |",
        f"| {' | '.join(['---'] * 12)} |",
    ]
    for r in rows:
        own, neuron = r.network.split("-")
        if own == data:
            cells = (
                NEURONS[neuron], r.bits, r.lanes, f"{r.real:.2f} %",
                f"{r.integers:.2f} %", f"{r.lut:,}", f"{r.ff:,}", r.dsp, r.bram, f"{r.mhz:.0f}",
                f"{r.cycles:,}", f"{r.cycles / r.mhz:.0f}",
            )  # fmt: skip
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def microcontroller_table(rows: list[Row], data: str) -> str:
    """Return the table of the networks of a data set that ran on an emulated Cortex-M4."""
    lines = [
        "| neuron | flash, bytes | code | constants | RAM, bytes | instructions per sample |",
        f"| {' | '.join(['---'] * 6)} |",
    ]
    for r in rows:
        if r.instructions and r.network.split("-")[0] == data:
            sizes = (r.code + r.constants, r.code, r.constants, r.ram, r.instructions)
            cells = (NEURONS[r.network.split("-")[1]], *(f"{size:,}" for size in sizes))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what has no row yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, default=Path())
    parser.add_argument("--work", type=Path, default=Path("runs/network"))
    parser.add_argument("--only", default="", help="networks with this word in their name")
    parser.add_argument("--device", choices=tuple(DEVICES), default="25k")
    parser.add_argument("--again", action="store_true", help="replace rows that exist")
    parser.add_argument("--print", action="store_true", help="print the tables alone")
    options = parser.parse_args()
    rows = read()
    for case in () if options.print else CASES:
        key = (case[0], "searched" if case[1] is None else str(case[1]), case[2], options.device)
        if options.only in f"{key[0]}-{key[1]}" and (options.again or key not in rows):
            rows[key] = measured(options.work, case, options.device, options.data_dir)
            write([rows[k] for k in sorted(rows)])
    every = [rows[k] for k in sorted(rows)]
    for data in dict.fromkeys(row.network.split("-")[0] for row in every):
        print(data, chip_table(every, data), microcontroller_table(every, data), sep="\n\n")


if __name__ == "__main__":
    main()
