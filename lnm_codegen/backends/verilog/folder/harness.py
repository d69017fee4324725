"""Harness around a circuit for place and route: a chip has fewer pins than a neuron has ports."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lnm_codegen.backends.render import render

_PORT = re.compile(
    r"^ *(input|output) +(?:wire|reg) *(?:signed)? *(?:\[(\d+):0\])? *(\w+),?$", re.M
)


def harness(family: str, top: str, ports: Sequence[tuple[str, str, int]]) -> str:
    """Return `<top>_harness`: inputs from a shift register, outputs to registers and one XOR.

    Args:
        family: Name of the neuron.
        top: The measured module.
        ports: (name, direction, width) of each port; "clk" is the clock.
    """
    pairs, inputs, outputs = [], 0, 0
    for name, direction, width in ports:
        if name == "clk":
            pairs.append(".clk(clk)")
        elif direction == "input":
            pairs.append(f".{name}(chain[{inputs + width - 1}:{inputs}])")
            inputs += width
        else:
            pairs.append(f".{name}(results[{outputs + width - 1}:{outputs}])")
            outputs += width
    view = {
        "family": family,
        "top": top,
        "inputs": max(inputs, 1),
        "outputs": max(outputs, 1),
        "connections": ", ".join(pairs),
    }
    return render("verilog/folder/harness.v.j2", view)


def module_ports(text: str) -> tuple[tuple[str, str, int], ...]:
    """Return (name, direction, width) of each port of a module that this package has written."""
    found = _PORT.findall(text)
    return tuple((name, direction, int(high or 0) + 1) for direction, high, name in found)
