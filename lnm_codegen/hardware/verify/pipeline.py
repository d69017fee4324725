"""Faults in a pipeline, compared as logic.

A core is a pipeline; an array contains one, with the memory of its coefficients. In a pipeline
whose ce is 1, every value keeps its cycle. So its outputs are a function of its inputs, which the
circuit with wires for registers computes; step formal proves it for the core. The inputs of a core
are its ports. The inputs of an array's pipeline are the states, the drive and the channel: any
values, so more than occur. Its outputs are all wires that leave it, so states too. Stored
coefficients and constants are part of the pipeline.

A fault maps a word w to f(w), in logic, or at the input or the output of a register. ce = 0 holds a
register, and may apply f again in each of those cycles: the value is then f(...f(w)). Every fault
that Yosys draws has f(f(w)) = w (an inverted bit) or f(f(w)) = f(w) (a stuck bit). So the value is
w or f(w), also with a multiplexer that holds the register, where only some of its cycles have the
fault. If f(w) and w give the same outputs for all inputs, the fault changes no output.

Faults of ce, of rst and of the registers that rst clears are not compared here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lnm_codegen.hardware.folder import CircuitForm

CORE, ARRAY = "core", "array"
PIPELINE = "pipeline.il"
"""The pipeline of a circuit, as RTLIL."""

_SELECTIONS = {
    "all": "c:*",
    "registers": "t:$*dff*",
    "hold": "w:ce %co1:+[S] t:$mux %i",  # multiplexers that ce selects
    "control": "w:ce %co1:-[S] w:rst %co3 %u",  # cells after rst, to registers
    "enabled": "w:ce %co1",
}
"""Name -> selection of cells in Yosys."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of a pipeline, by name."""

    all: frozenset[str]
    registers: frozenset[str]
    hold: frozenset[str]
    control: frozenset[str]
    enabled: frozenset[str]


def keep_enable(form: CircuitForm) -> str:
    """Return a command of Yosys that keeps the name of the wire ce in an array, or no text."""
    return f"setattr -set keep 1 {form.top}/w:ce; " if form.name == ARRAY else ""


def cut_pipeline(form: CircuitForm, folder: Path) -> str:
    """Return commands of Yosys that reduce a flat circuit to its pipeline and list its cells.

    They write `PIPELINE` into the folder. Cells keep their names, so the commands of faults apply.
    A circuit of another form has an empty pipeline.
    """
    commands = []
    if form.name == ARRAY:
        cells = [f"c:{word}.* c:$flatten?{word}.* %u" for word in ("_core", "coefficients")]
        commands += [
            f"select -set inside {' '.join(cells)} %u",
            "select -set outside c:* @inside %d",
            "expose @inside %co1 w:* %i @outside %ci1 w:* %i %i",  # results that are stored
            "delete @outside",
            "setundef -undriven -expose -undef",
        ]
    elif form.name != CORE:
        commands.append("delete t:*")
    lists = [f"select -write {folder / name}.cells {what}" for name, what in _SELECTIONS.items()]
    return "; ".join((*commands, "opt_clean", f"write_rtlil {folder / PIPELINE}", *lists))


def read_cells(folder: Path) -> Cells:
    """Return the cells that the commands of `cut_pipeline` listed."""

    def listed(name: str) -> frozenset[str]:
        lines = (folder / f"{name}.cells").read_text(encoding="utf-8").splitlines()
        return frozenset(line.partition("/")[2] for line in lines)

    return Cells(**{name: listed(name) for name in _SELECTIONS})


def on_wires(command: str, cells: Cells) -> str | None:
    """Return the command of a fault for the pipeline with wires, or None if it is not one of data.

    A fault of a held multiplexer becomes one of its output.
    """
    command = re.split(r" -(?:wire|src) ", command)[0]
    found = re.search(r"-cell (\S+) -port (\S+)", command)
    if found is None:
        return None
    name, port = found[1].lstrip("\\"), found[2].lstrip("\\")
    if name not in cells.all or name in cells.control:
        return None
    if name in cells.registers:
        return command if port in ("D", "Q") else None
    if name in cells.hold:
        return None if port == "S" else re.sub(r"-port \S+", "-port Y", command)
    return None if name in cells.enabled else command
