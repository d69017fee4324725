"""Size and speed of circuits: each form of each neuron, synthesised, placed and routed.

    python benchmarks/hardware.py [--only WORD] [--seeds 3] [--again]

Each measurement adds a row to benchmarks/results/hardware.csv. A row that exists is skipped unless
--again is given, so an interrupted run resumes. At the end the script prints the tables of
docs/evidence/circuits.md and draws docs/hardware.png. It needs yosys and nextpnr.
"""

from __future__ import annotations

import argparse
import csv
import re
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

import lnm_codegen as lnm
from lnm_codegen.errors import ToolError
from lnm_codegen.files import write_whole
from lnm_codegen.hardware.folder import read_circuit
from lnm_codegen.hardware.synth import DEVICES, measure
from lnm_codegen.hardware.tools import version

RESULTS = Path(__file__).parent / "results" / "hardware.csv"
FIGURE = Path(__file__).parents[1] / "docs" / "hardware.png"
FORMS = ("comb", "core", "seq", "array")
THETA = {
    1: (0.0, 0.9),
    2: (0.02, 0.85, 0.11),
    3: (0.02, 0.85, 0.11, -0.06),
    4: (0.02, 0.85, 0.11, -0.06, 0.013),
}
"""Coefficients of each degree. Synthesis trims the first multiplier of constant coefficients."""


@dataclass(frozen=True)
class Row:
    """A neuron in one form on one device; `fmax` is the median over the seeds, in MHz."""

    neuron: str
    form: str
    device: str
    lut: int
    ff: int
    dsp: int
    bram: int
    fmax: float
    lowest: float
    highest: float
    latency: int
    interval: int


@dataclass(frozen=True)
class Case:
    """A neuron, a form, and the options of its circuit."""

    neuron: str
    form: str
    device: str
    label: str
    rtl: lnm.Rtl
    width: int = 16
    frac: int = 12


def neuron_of(name: str) -> lnm.Neuron:
    if name.startswith("lnm"):
        degree = int(name[-1])
        return lnm.get("lnm", degree=degree, theta=THETA[degree])
    if name.startswith("two-state"):
        return lnm.get("lnm", states=2, degree=1)
    if name.startswith("izhikevich"):
        return lnm.get("izhikevich", a=0.1, b=0.2)
    return lnm.get(name)


def cases() -> list[Case]:
    found = []
    for device in ("25k", "up5k"):
        for name in ("lif", "lnm 1", "lnm 2", "lnm 3", "lnm 4"):
            for form in FORMS:
                found.append(Case(name, form, device, form, lnm.Rtl(forms=(form,))))
            ports = lnm.Rtl(forms=("core",), coefficients="port")
            found.append(Case(name, "core", device, "core, coefficients on ports", ports))
    for name in ("lnm 1", "lnm 2", "lnm 3", "lnm 4"):
        ecp5 = lnm.Rtl(forms=("core",), multiplier="ecp5")
        found.append(Case(name, "core", "25k", "core, ECP5 multiplier", ecp5))
    for device in ("25k", "up5k"):
        for name in ("izhikevich", "cuba_lif"):
            for form in FORMS:
                found.append(Case(name, form, device, form, lnm.Rtl(forms=(form,))))
    return found + two_state_cases()


def two_state_cases() -> list[Case]:
    """Return `lnm` of two states and degree 1, in Q4.12 and in Q5.13."""
    circuits = [(form, lnm.Rtl(forms=(form,))) for form in FORMS]
    circuits.append(("core, coefficients on ports", lnm.Rtl(forms=("core",), coefficients="port")))
    ecp5 = ("core, ECP5 multiplier", lnm.Rtl(forms=("core",), multiplier="ecp5"))
    found = []
    for name, width, frac in (("two-state 1", 16, 12), ("two-state 1 Q5.13", 18, 13)):
        for device in ("25k", "up5k"):
            for label, rtl in (*circuits, ecp5) if device == "25k" else circuits:
                found.append(Case(name, rtl.forms[0], device, label, rtl, width, frac))
    return found


def row_of(case: Case, seeds: int) -> Row:
    with tempfile.TemporaryDirectory(prefix="lnm-hardware-") as place:
        spec = lnm.Fixed(case.width, case.frac)
        name = re.sub(r"\W", "_", case.neuron)
        lnm.emit(neuron_of(case.neuron), "verilog", spec=spec, name=name, rtl=case.rtl).write(place)
        circuit = read_circuit(Path(place), "hardware")
        found = measure(circuit, circuit.forms[case.form], DEVICES[case.device], seeds)
    speeds, used = sorted(found.fmax.values()), found.resources
    return Row(
        case.neuron, case.label, case.device, used.lut, used.ff, used.dsp, used.bram,
        round(found.median or 0, 1), round(speeds[0], 1), round(speeds[-1], 1),
        found.form.latency, found.form.interval,
    )  # fmt: skip


def read() -> dict[tuple[str, str, str], Row]:
    if not RESULTS.exists():
        return {}
    with RESULTS.open(encoding="utf-8", newline="") as file:
        rows = [
            Row(r["neuron"], r["form"], r["device"], *(int(r[k]) for k in ("lut", "ff", "dsp")),
                int(r["bram"]), *(float(r[k]) for k in ("fmax", "lowest", "highest")),
                int(r["latency"]), int(r["interval"]))
            for r in csv.DictReader(file)
        ]  # fmt: skip
    return {(r.neuron, r.form, r.device): r for r in rows}


def write(rows: dict[tuple[str, str, str], Row]) -> None:
    names = [f.name for f in fields(Row)]
    lines = [",".join(names)]
    for row in rows.values():
        values = [str(getattr(row, n)) for n in names]
        lines.append(",".join(f'"{v}"' if "," in v else v for v in values))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    write_whole(RESULTS, "\n".join(lines) + "\n")


LABELS = (
    "comb", "core", "core, ECP5 multiplier", "core, coefficients on ports", "seq", "array",
)  # fmt: skip
"""Forms, as columns of a table."""


def table(rows: list[Row], device: str) -> str:
    """Return a line for each neuron, and a column for each form with its size and median clock."""
    own = {(row.neuron, row.form): row for row in rows if row.device == device}
    labels = [label for label in LABELS if any(label == form for _, form in own)]
    heads = [f"{label}: LUT, FF, DSP,{' BRAM,' * (label == 'array')} MHz" for label in labels]
    head = ("neuron", "latency of core", "interval of seq", *heads)
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for neuron in dict.fromkeys(neuron for neuron, _ in own):
        cycles = (own[neuron, "core"].latency, own[neuron, "seq"].interval)
        cells = [cell(own.get((neuron, label))) for label in labels]
        lines.append(f"| {neuron} | {cycles[0]} | {cycles[1]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(row: Row | None) -> str:
    """Return the figures of a form: a dash for a clock that nextpnr does not time."""
    if row is None:
        return ""
    size = [row.lut, row.ff, row.dsp, *([row.bram] if row.form == "array" else [])]
    return ", ".join([*map(str, size), f"{row.fmax:.0f}" if is_timed(row) else "-"])


def is_timed(row: Row) -> bool:
    """Report whether nextpnr times the critical path: not through an SB_MAC16 without registers."""
    return not (DEVICES[row.device].target == "ice40" and row.form == "comb" and row.dsp)


def draw(rows: list[Row]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = ["lif", "lnm 1", "lnm 2", "lnm 3", "lnm 4"]
    for form in FORMS:
        found = {r.neuron: r for r in rows if r.form == form and r.device == "25k"}
        kept = [n for n in names if n in found]
        left.plot(kept, [found[n].lut for n in kept], "o-", label=form)
        rate = [found[n].fmax / found[n].interval for n in kept]
        right.semilogy(kept, rate, "o-", label=form)
    left.set(ylabel="LUT", title="Size on ECP5")
    right.set(ylabel="million updates / s", title="Throughput on ECP5")
    left.legend()
    figure.savefig(FIGURE, dpi=110)


def main() -> None:
    """Measure the cases without a row, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only rows whose name contains this word")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="also measure rows that exist")
    options = parser.parse_args()
    rows = read()
    for case in cases():
        key = (case.neuron, case.label, case.device)
        if options.only in " ".join(key) and (options.again or key not in rows):
            print("#", *key, flush=True)
            try:
                rows[key] = row_of(case, options.seeds)
            except ToolError as error:  # such as a circuit too large for the device: no row
                print(error, flush=True)
                continue
            write(rows)
    print("; ".join(f"{tool}: {version(tool)}" for tool in ("yosys", "nextpnr-ecp5")))
    for device in ("25k", "up5k"):
        print()
        print(table(list(rows.values()), device))
    draw(list(rows.values()))


if __name__ == "__main__":
    main()
