"""The figure of docs/index.md: states of the neuron that the page defines, under a constant input.

python -m scripts.docs.front
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import lnm_codegen as lnm
from lnm_codegen.train.comparison.table import figure_data

DOCS = Path(__file__).parents[2] / "docs"
PAGE, FIGURE = DOCS / "index.md", DOCS / "neuron.svg"


def neuron() -> lnm.Neuron:
    """Return the neuron of the page's first block."""
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found, "docs/index.md has no Python"
    names: dict[str, Any] = {}
    exec(compile(found[1], str(PAGE), "exec"), names)
    made: lnm.Neuron = names["neuron"]
    return made


def figure() -> Figure:
    """Draw the states of both lines of the charge."""
    drawn = Figure(figsize=(7, 2.4), layout="constrained")
    lnm.plot.step_response(neuron(), x=0.6, steps=60, ax=drawn.add_subplot())
    return drawn


if __name__ == "__main__":
    FIGURE.write_bytes(figure_data(figure))
