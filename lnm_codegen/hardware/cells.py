"""Resources of a netlist: cells of each target as LUT, FF, DSP and BRAM.

Reports of the tools that cannot be read raise ToolError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from lnm_codegen.errors import ToolError


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources of a module without a harness."""

    lut: int
    ff: int
    dsp: int
    bram: int

    def as_dict(self) -> dict[str, int]:
        """Return them by their usual names."""
        return {"LUT": self.lut, "FF": self.ff, "DSP": self.dsp, "BRAM": self.bram}


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
        (r"LUT[1-6]|SRL16E|SRLC16E|SRLC32E|RAM\d+\w*", "lut", 1),
        (r"FD[RSCP]E(_1)?", "ff", 1),
        (r"DSP48E1", "dsp", 1),
        (r"RAMB(18|36)E1", "bram", 1),
    ),
}
"""Target -> (pattern of a cell, resource, number of it); the first match counts."""


def resources_of(cells: Mapping[str, int], target: str) -> Resources:
    """Return the resources of cells; one without a row (a buffer, a carry of iCE40) has none."""
    found = dict.fromkeys(("lut", "ff", "dsp", "bram"), 0)
    for cell, count in cells.items():
        for pattern, resource, each in KINDS[target]:
            if re.fullmatch(pattern, cell):
                found[resource] += each * count
                break
    return Resources(**found)


def cells_of(statistics: str, top: str) -> dict[str, int]:
    """Return type -> number of cells of a flat module, from `stat -json` of Yosys."""
    with _reading("yosys", f"its statistics of {top} cannot be read"):
        modules = json.loads(statistics)["modules"]
        found = next(m for n, m in modules.items() if n.lstrip("\\") == top)
        cells = {str(cell): int(count) for cell, count in found["num_cells_by_type"].items()}
    return cells


def ports_of(netlist: str, top: str) -> tuple[tuple[str, str, int], ...]:
    """Return (name, direction, width) of each port, from a JSON netlist of Yosys."""
    with _reading("yosys", f"its netlist of {top} cannot be read"):
        ports = json.loads(netlist)["modules"][top]["ports"]
        found = tuple((n, str(p["direction"]), len(p["bits"])) for n, p in ports.items())
    return found


def fmax_of(report: str) -> float:
    """Return the frequency in MHz of the slowest clock in a report of nextpnr."""
    with _reading("nextpnr", "its report cannot be read, or holds no clock"):
        fmax = min(float(clock["achieved"]) for clock in json.loads(report)["fmax"].values())
    return fmax


@contextmanager
def _reading(tool: str, problem: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        raise ToolError(tool, problem) from None
