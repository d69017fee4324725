"""Head of the README: a figure of test accuracies on MNIST-1D.

write.py writes docs/headline.svg from experiments/results/*.csv. The first experiment of a row that
is complete is shown. The sentences of the README are written by hand; tests compare their numbers.
"""

from __future__ import annotations

from dataclasses import replace

import figures
from comparison import shown, task_of
from tasks import FREE

from lnm_codegen.train.comparison.table import ComparisonRow

TASK = task_of("mnist1d_feedforward")
ROWS = {
    "LIF": "LIF",
    "PLIF": "PLIF, a learned leak",
    "LNM degree 1, channel": "LNM, one state, degree 1",
    "LNM two states, degree 1, frozen as drawn, channel": "LNM, two states, frozen",
    "adlif": "SE-adLIF (adlif)",
    "rf": "resonate-and-fire (rf)",
    f"{FREE}, channel": "LNM, two states",
}
"""Row of the task -> label; the last one is compared with the others."""
MARKS = {name: TASK.published[name] for name in ("GRU", "CNN")}


def rows() -> list[ComparisonRow]:
    """Return the rows of the figure."""
    whole = {row.name: row for row in shown(TASK) if row.complete}
    return [replace(whole[name], name=label) for name, label in ROWS.items()]


def svg() -> str:
    """Return the figure."""
    return figures.svg(lambda: figures.accuracies(rows(), MARKS, "test accuracy on MNIST-1D"))
