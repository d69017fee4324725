"""Synthesis by Yosys, place and route by nextpnr.

Resources are of the bare module; the frequency is that of the module in a harness, for several
seeds.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnm_codegen.backends.verilog.folder.harness import harness
from lnm_codegen.errors import ToolError
from lnm_codegen.hardware.cells import Cost, cells_of, cost_of, fmax_of, ports_of
from lnm_codegen.hardware.folder import Circuit, Form
from lnm_codegen.hardware.parallel import side_by_side
from lnm_codegen.hardware.tools import need, run, workshop

SECONDS = 600
_STUCK, _ANNEALING = "Unable to find legal placement", ("--placer", "sa")
"""What nextpnr's analytic placer says for a seed where it gives up; the placer that goes on there.

Seen on iCE40 where a circuit takes all eight global buffers, for three seeds of eight.
"""


@dataclass(frozen=True, slots=True)
class Device:
    """A chip.

    Attributes:
        target: "ecp5", "ice40" or "xilinx".
        name: As people call it.
        synthesis: The pass of Yosys with its options.
        place: nextpnr and its options; empty where no open place and route is here.
    """

    target: str
    name: str
    synthesis: str
    place: tuple[str, ...] = ()


DEVICES = {
    "25k": Device(
        "ecp5",
        "LFE5U-25F CABGA381 speed 6",
        "synth_ecp5",
        ("nextpnr-ecp5", "--25k", "--package", "CABGA381", "--speed", "6", "--freq", "250"),
    ),
    "up5k": Device(
        "ice40",
        "iCE40UP5K SG48",
        "synth_ice40 -dsp -abc9 -device u",
        ("nextpnr-ice40", "--up5k", "--package", "sg48", "--freq", "100"),
    ),
    "hx8k": Device(
        "ice40",
        "iCE40HX8K CT256",
        "synth_ice40 -abc9 -device hx",
        ("nextpnr-ice40", "--hx8k", "--package", "ct256", "--freq", "200"),
    ),
    "xc7": Device("xilinx", "7 series (synthesis alone)", "synth_xilinx -flatten -family xc7"),
}
"""Every device by the word for it; the first of a target is what it means by default."""

TARGETS = {"ecp5": "25k", "ice40": "up5k", "xilinx": "xc7"}
UNTIMED = (
    "nextpnr takes no time for the way through an SB_MAC16 without registers: the true MHz of a"
    " single-cycle form with multipliers are fewer"
)
NO_PLACE = "not placed: no open place and route for Xilinx is here, so no Fmax"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a form costs on a device.

    Attributes:
        cost: Of the bare module.
        cells: Of the bare module, by type.
        fmax: Seed -> MHz, of the module in its harness; empty where nothing was placed.
        seconds: Of synthesis, and of place and route in all.
    """

    form: Form
    device: Device
    cost: Cost
    cells: Mapping[str, int]
    fmax: Mapping[int, float]
    seconds: float

    @property
    def median(self) -> float | None:
        """The median Fmax in MHz; None where nothing was placed."""
        return statistics.median(self.fmax.values()) if self.fmax else None

    @property
    def note(self) -> str | None:
        """What has to be said beside the frequency, or instead of it."""
        if not self.device.place:
            return NO_PLACE
        combinational = self.device.target == "ice40" and self.form.word == "comb"
        return UNTIMED if combinational and self.cost.dsp else None

    def as_dict(self) -> dict[str, Any]:
        """Return what report.json and --json hold."""
        return {
            "device": self.device.name,
            **self.cost.as_dict(),
            "fmax_mhz": self.median,
            "fmax_mhz_by_seed": {str(seed): mhz for seed, mhz in self.fmax.items()},
            **({} if self.note is None else {"note": self.note}),
            "latency_cycles": self.form.latency,
            "interval_cycles": self.form.interval,
            "cells": dict(self.cells),
            "commands": [self.device.synthesis, " ".join(self.device.place)],
            "seconds": round(self.seconds, 1),
        }


def synthesise(circuit: Circuit, form: Form, device: Device, folder: Path) -> tuple[Any, float]:
    """Synthesise a form by itself into `folder`; return its cells by type, and the seconds.

    Raises:
        ToolError: Yosys is missing, or fails.
    """
    need("synth", "yosys")
    _linked(circuit, form, folder)
    seconds = _yosys(" ".join(form.files), form.top, device, folder, "bare")
    text = (folder / "bare.stat").read_text(encoding="utf-8")
    return cells_of(text, form.top), seconds


def measure(circuit: Circuit, form: Form, device: Device, seeds: int) -> Measured:
    """Return what a form costs on a device, and how fast it is for seeds 1, 2, ...

    Raises:
        ToolError: A tool is missing, or fails.
    """
    if device.place:
        need("synth", "yosys", device.place[0])
    with workshop() as folder:
        cells, seconds = synthesise(circuit, form, device, folder)
        fmax: dict[int, float] = {}
        if device.place:
            netlist = (folder / "bare.json").read_text(encoding="utf-8")
            text = harness(form.top, ports_of(netlist, form.top))
            (folder / "harness.v").write_text(text, encoding="utf-8")
            sources, top = (*form.files, "harness.v"), f"{form.top}_harness"
            seconds += _yosys(" ".join(sources), top, device, folder, "whole")
            placed = side_by_side(lambda s: _place(device, folder, s), range(1, seeds + 1))
            fmax = {seed: mhz for seed, (mhz, _) in enumerate(placed, 1)}
            seconds += sum(taken for _, taken in placed)
    return Measured(form, device, cost_of(cells, device.target), cells, fmax, seconds)


def _linked(circuit: Circuit, form: Form, folder: Path) -> None:
    """Put the form's files in reach by the names that the manifest gives and `read_circuit` checks.

    A path of the user's own has no place in a script: Yosys takes a space in it for the end of a
    file name, and a semicolon for the end of a command.
    """
    for part in {file.partition("/")[0] for file in form.files}:
        (folder / part).symlink_to(circuit.folder / part)


def _yosys(sources: str, top: str, device: Device, folder: Path, stem: str) -> float:
    script = (
        f"read_verilog {sources}; {device.synthesis} -top {top};"
        f" write_json {stem}.json; tee -q -o {stem}.stat stat -json"
    )
    done = run(("yosys", "-q", "-p", script), folder, timeout=SECONDS)
    if not done.passed:
        raise ToolError(f"synth: yosys fails on {top}: {done.last_line()}")
    return done.seconds


def _place(device: Device, folder: Path, seed: int) -> tuple[float, float]:
    report = f"seed{seed}.json"
    options = ("--json", "whole.json", "--seed", str(seed), "--report", report)
    command = (*device.place, *options, "--timing-allow-fail")
    done = run(command, folder, timeout=SECONDS)
    seconds = done.seconds
    if not done.passed and _STUCK in done.output:
        done = run((*command, *_ANNEALING), folder, timeout=SECONDS)
        seconds += done.seconds
    if not done.passed:
        lines = [x for x in done.output.splitlines() if x.startswith("ERROR")]
        raise ToolError(
            f"synth: {device.place[0]} fails: {lines[0] if lines else done.last_line()}"
        )
    return fmax_of((folder / report).read_text(encoding="utf-8")), seconds
