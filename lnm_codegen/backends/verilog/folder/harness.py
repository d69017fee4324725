"""A module around a circuit, for place and route: a chip has fewer pins than a neuron has ports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lnm_codegen.backends.render import render


@dataclass(frozen=True, slots=True)
class _View:
    name: str
    top: str
    taken: int
    given: int
    connections: str


def harness(top: str, ports: Sequence[tuple[str, str, int]]) -> str:
    """Return `<top>_harness`: inputs from a shift register, outputs to registers and then one XOR.

    Args:
        top: The module that is measured.
        ports: (name, direction, width) of each of its ports; "clk" is the clock.
    """
    pairs, taken, given = [], 0, 0
    for name, direction, width in ports:
        if name == "clk":
            pairs.append(".clk(clk)")
        elif direction == "input":
            pairs.append(f".{name}(chain[{taken + width - 1}:{taken}])")
            taken += width
        else:
            pairs.append(f".{name}(results[{given + width - 1}:{given}])")
            given += width
    return render(
        "verilog/folder/harness.v.j2",
        _View(f"{top}_harness", top, max(taken, 1), max(given, 1), ", ".join(pairs)),
    )


_PORT = re.compile(
    r"^ *(input|output) +(?:wire|reg) *(?:signed)? *(?:\[(\d+):0\])? *(\w+),?$", re.M
)


def module_ports(text: str) -> tuple[tuple[str, str, int], ...]:
    """Return (name, direction, width) of each port of a module as this package writes it."""
    found = _PORT.findall(text)
    return tuple((name, direction, int(high or 0) + 1) for direction, high, name in found)
