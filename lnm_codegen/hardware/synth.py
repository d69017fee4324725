"""Synthesis by Yosys; place and route by nextpnr; resources and frequency in their reports.

Resources are those of the bare module. The frequency is that of the module in a harness, for
several seeds. A report that cannot be read raises ToolError.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnm_codegen.backends.verilog.folder import harness
from lnm_codegen.backends.verilog.module import ModulePort
from lnm_codegen.errors import ToolError
from lnm_codegen.hardware.folder import Circuit, CircuitForm
from lnm_codegen.hardware.tools import in_parallel, require_tools, run, temporary_folder

TIMEOUT_SECONDS = 600
_STUCK, _ANNEALING = "Unable to find legal placement", ("--placer", "sa")
"""Error text of a failed analytic placer, and options for the annealing placer, tried next.

On iCE40, circuits that need all eight global buffers fail for three of eight seeds.
"""


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources of a module without a harness."""

    lut: int
    ff: int
    dsp: int
    bram: int

    def as_dict(self) -> dict[str, int]:
        """Return the resources by name."""
        return {"LUT": self.lut, "FF": self.ff, "DSP": self.dsp, "BRAM": self.bram}

    def beyond(self, there: Resources) -> str:
        """Return which of these resources a chip lacks, in words; empty if none."""
        pairs = zip(self.as_dict().items(), there.as_dict().values(), strict=True)
        return ", ".join(
            f"{need:,} {word} needed, {has:,} there" for (word, need), has in pairs if need > has
        )


KINDS: dict[str, tuple[tuple[str, str, int], ...]] = {
    "ecp5": (
        (r"LUT4", "lut", 1),
        (r"CCU2C", "lut", 2),  # two LUTs with their carries
        (r"TRELLIS_DPR16X4", "lut", 4),
        (r"TRELLIS_FF", "ff", 1),
        (r"MULT\d+X\d+D", "dsp", 1),
        (r"DP16KD|PDPW16KD", "bram", 1),
    ),
    "ice40": (
        (r"SB_LUT4", "lut", 1),
        (r"SB_DFF\w*", "ff", 1),
        (r"SB_MAC16", "dsp", 1),
        (r"SB_RAM40_4K\w*|SB_SPRAM256KA", "bram", 1),
    ),
    "xilinx": (
        (r"LUT[1-6]|SRL16E|SRLC16E|SRLC32E|RAM(32|64)X1S\w*", "lut", 1),
        (r"RAM(16|32|64)X1D\w*|RAM32X2S|RAM128X1S\w*", "lut", 2),
        (r"RAM(32|64)M|RAM128X1D|RAM256X1S", "lut", 4),
        (r"FD[RSCP]E(_1)?", "ff", 1),
        (r"DSP48E1", "dsp", 1),
        (r"RAMB(18|36)E1", "bram", 1),
    ),
}
"""Target -> (cell pattern, resource, resources per cell); the first match counts."""


def resources_of(cells: Mapping[str, int], target: str) -> Resources:
    """Return the resources of cells; cells without an entry in KINDS (buffers) do not count."""
    found = dict.fromkeys(("lut", "ff", "dsp", "bram"), 0)
    for cell, count in cells.items():
        for pattern, resource, each in KINDS[target]:
            if re.fullmatch(pattern, cell):
                found[resource] += each * count
                break
    return Resources(**found)


@dataclass(frozen=True, slots=True)
class Device:
    """A chip."""

    target: str  # "ecp5", "ice40" or "xilinx"
    name: str
    synthesis: str  # Yosys pass with its options
    resources: Resources | None = None  # of the chip
    place: str = ""  # nextpnr and its options; empty without open place and route

    @property
    def tools(self) -> tuple[str, ...]:
        """Tools required by this device."""
        return ("yosys", *self.place.split()[:1])


DEVICES = {
    "25k": Device(
        "ecp5", "LFE5U-25F CABGA381 speed 6", "synth_ecp5", Resources(24_288, 24_288, 28, 56),
        "nextpnr-ecp5 --25k --package CABGA381 --speed 6 --freq 250",
    ),
    "85k": Device(
        "ecp5", "LFE5U-85F CABGA381 speed 6", "synth_ecp5", Resources(83_640, 83_640, 156, 208),
        "nextpnr-ecp5 --85k --package CABGA381 --speed 6 --freq 250",
    ),
    "up5k": Device(
        "ice40", "iCE40UP5K SG48", "synth_ice40 -dsp -abc9 -device u",
        Resources(5_280, 5_280, 8, 30),
        "nextpnr-ice40 --up5k --package sg48 --freq 100",
    ),
    "hx8k": Device(
        "ice40", "iCE40HX8K CT256", "synth_ice40 -abc9 -device hx", Resources(7_680, 7_680, 0, 32),
        "nextpnr-ice40 --hx8k --package ct256 --freq 200",
    ),
    "xc7": Device("xilinx", "7 series (synthesis alone)", "synth_xilinx -flatten -family xc7"),
}  # fmt: skip
"""Name on the command line -> device."""

TARGETS = {"ecp5": "25k", "ice40": "up5k", "xilinx": "xc7"}
"""Target -> name of its default device."""

UNTIMED = (
    "nextpnr counts no delay through an SB_MAC16 without registers: the true Fmax of a"
    " single-cycle form with multipliers is lower"
)
NO_PLACE = "not placed: there is no open place and route for Xilinx, so no Fmax"


@dataclass(frozen=True, slots=True)
class Measured:
    """Resources and frequency of a form on a device."""

    form: CircuitForm
    device: Device
    resources: Resources  # of the bare module
    cells: Mapping[str, int]  # type -> number, of the bare module
    fmax: Mapping[int, float]  # seed -> MHz of the module in its harness; empty if not placed
    seconds: float  # of synthesis, place and route

    @property
    def median(self) -> float | None:
        """Median Fmax in MHz; None if nothing was placed."""
        return statistics.median(self.fmax.values()) if self.fmax else None

    @property
    def note(self) -> str | None:
        """Caveat about the frequency, or the reason why no frequency was measured."""
        if not self.device.place:
            return NO_PLACE
        combinational = self.device.target == "ice40" and self.form.name == "comb"
        return UNTIMED if combinational and self.resources.dsp else None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object of report.json and --json."""
        return {
            "device": self.device.name,
            **self.resources.as_dict(),
            "fmax_mhz": self.median,
            "fmax_mhz_by_seed": {str(seed): mhz for seed, mhz in self.fmax.items()},
            **({} if self.note is None else {"note": self.note}),
            "latency_cycles": self.form.latency,
            "interval_cycles": self.form.interval,
            "cells": dict(self.cells),
            "commands": [self.device.synthesis, self.device.place],
            "seconds": round(self.seconds, 1),
        }


def synthesise(
    circuit: Circuit, form: CircuitForm, device: Device, folder: Path
) -> tuple[dict[str, int], float]:
    """Synthesise a bare form into `folder`; return type -> number of cells, and seconds."""
    require_tools("synth", "yosys")
    _link_files(circuit, form, folder)
    seconds = _yosys(" ".join(form.files), form.top, device, folder, "bare")
    text = (folder / "bare.stat").read_text(encoding="utf-8")
    return cells_of(text, form.top), seconds


def measure(circuit: Circuit, form: CircuitForm, device: Device, seeds: int) -> Measured:
    """Return resources of a form on a device, and its frequency for seeds 1 to `seeds`."""
    require_tools("synth", *device.tools)
    with temporary_folder() as folder:
        cells, seconds = synthesise(circuit, form, device, folder)
        _require_fitting(form, device, resources_of(cells, device.target))
        fmax: dict[int, float] = {}
        if device.place:
            netlist = (folder / "bare.json").read_text(encoding="utf-8")
            text = harness(circuit.name, form.top, ports_of(netlist, form.top))
            (folder / "harness.v").write_text(text, encoding="utf-8")
            sources, top = (*form.files, "harness.v"), f"{form.top}_harness"
            seconds += _yosys(" ".join(sources), top, device, folder, "whole")
            with _counting(resources_of(cells, device.target)):
                placed = in_parallel(lambda s: _place(device, folder, s), range(1, seeds + 1))
            fmax = {seed: mhz for seed, (mhz, _) in enumerate(placed, 1)}
            seconds += sum(taken for _, taken in placed)
    return Measured(form, device, resources_of(cells, device.target), cells, fmax, seconds)


def _link_files(circuit: Circuit, form: CircuitForm, folder: Path) -> None:
    """Link the form's files into a folder, under names that `read_circuit` has validated.

    A user's path must not enter a script: Yosys ends a file name at a space and a command at a
    semicolon.
    """
    for part in {file.partition("/")[0] for file in form.files}:
        (folder / part).symlink_to(circuit.folder / part)


def _yosys(sources: str, top: str, device: Device, folder: Path, stem: str) -> float:
    script = (
        f"read_verilog {sources}; {device.synthesis} -top {top};"
        f" write_json {stem}.json; tee -q -o {stem}.stat stat -json"
    )
    done = run(("yosys", "-q", "-p", script), folder, timeout=TIMEOUT_SECONDS)
    if not done.passed:
        raise ToolError("synth", f"yosys fails on {top}: {done.last_line()}")
    return done.seconds


def _place(device: Device, folder: Path, seed: int) -> tuple[float, float]:
    report = f"seed{seed}.json"
    options = ("--json", "whole.json", "--seed", str(seed), "--report", report)
    command = (*device.place.split(), *options, "--timing-allow-fail")
    done = run(command, folder, timeout=TIMEOUT_SECONDS)
    seconds = done.seconds
    if not done.passed and _STUCK in done.output:
        done = run((*command, *_ANNEALING), folder, timeout=TIMEOUT_SECONDS)
        seconds += done.seconds
    if not done.passed:
        errors = [x for x in done.output.splitlines() if x.startswith("ERROR")]
        raise ToolError("synth", f"{command[0]} fails: {[*errors, done.last_line()][0]}")
    return fmax_of((folder / report).read_text(encoding="utf-8")), seconds


def cells_of(statistics: str, top: str) -> dict[str, int]:
    """Return type -> number of cells of a flat module, from `stat -json` of Yosys."""
    with _reading("yosys", f"the statistics of {top} cannot be read"):
        modules = json.loads(statistics)["modules"]
        found = next(m for n, m in modules.items() if n.lstrip("\\") == top)
        cells = {str(cell): int(count) for cell, count in found["num_cells_by_type"].items()}
    return cells


def ports_of(netlist: str, top: str) -> tuple[ModulePort, ...]:
    """Return the ports in a JSON netlist of Yosys."""
    with _reading("yosys", f"the netlist of {top} cannot be read"):
        ports = json.loads(netlist)["modules"][top]["ports"]
        found = tuple(ModulePort(str(p["direction"]), n, len(p["bits"])) for n, p in ports.items())
    return found


def fmax_of(report: str) -> float:
    """Return the frequency in MHz of the slowest clock in a report of nextpnr."""
    with _reading("nextpnr", "the report cannot be read, or has no clock"):
        fmax = min(float(clock["achieved"]) for clock in json.loads(report)["fmax"].values())
    return fmax


def _require_fitting(form: CircuitForm, device: Device, found: Resources) -> None:
    """Raise ToolError where a chip has fewer resources than a form needs."""
    lacks = "" if device.resources is None else found.beyond(device.resources)
    if lacks:
        problem = f"{form.top} does not fit {device.name}: {lacks}"
        remedy = "Choose a larger --device, a smaller network, or another --target."
        raise ToolError("synth", problem, remedy=remedy)


@contextmanager
def _counting(resources: Resources) -> Iterator[None]:
    """Add the resources of the bare module to an error: a chip may have fewer."""
    try:
        yield
    except ToolError as error:
        counts = ", ".join(f"{count:,} {word}" for word, count in resources.as_dict().items())
        problem = f"{error.problem.rstrip('.')}. The module has {counts}"
        raise ToolError(error.where, problem, error.accepted, error.remedy) from None


@contextmanager
def _reading(tool: str, problem: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        remedy = f"Install another version of {tool}; `lnm doctor` prints the present one."
        raise ToolError("synth", f"{tool} fails: {problem}", remedy=remedy) from None
