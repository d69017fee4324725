"""Tables over all tasks: outcome, and the call that makes the neuron to use."""

from __future__ import annotations

import json
from collections.abc import Sequence

from comparison import LEVEL, differences, reference_of, shown, taken_of
from tasks import TASKS, Task

from lnm_codegen.train.comparison.significance import Compared
from lnm_codegen.train.comparison.table import ComparisonRow
from lnm_codegen.train.runs.config import clamp_of, neuron_of

LEARNING = ("lr_neuron", "penalty", "project")
"""Fields of [train] that act on the parameters of a neuron; 0 or none is left out."""


def cells(words: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(words)} |"


def ruled(head: Sequence[str]) -> list[str]:
    """Return the first two lines of a Markdown table."""
    return [cells(head), "|" + " --- |" * len(head)]


def overview() -> list[str]:
    """Return the table of all tasks: counts of rows by outcome, neuron to use, published mark."""
    head = ("task", "reference", "above", "below", "not separated", "neuron to use", "test, %", "n")
    lines = ruled((*head, "highest mark cited, %"))
    for task in TASKS:
        rows = shown(task)
        compared = differences(task, rows)
        taken = taken_of(task, rows, compared)
        use = ("none", "", "") if taken is None else (taken.name, taken.test, taken.n)
        best = max(task.published.items(), key=lambda mark: mark[1], default=("", ""))
        middle = (*counts(task, rows, compared), *use)
        lines.append(cells((linked(task), *middle, f"{best[0]} {best[1]}".strip())))
    return lines


def counts(task: Task, rows: Sequence[ComparisonRow], compared: Compared) -> tuple[str, ...]:
    """Return the reference of a task, and how many rows are above it, below it and not separated.

    Only rows with all their seeds count.
    """
    if not compared:
        return ("too few seeds" if rows else "not run", "", "", "")
    separated = [part.mean > 0 for part, p in compared.values() if p < LEVEL]
    base = None if task.degrees else reference_of(task, rows)
    name = "degree 1 of the same neuron" if base is None else base.name
    numbers = (sum(separated), separated.count(False), len(compared) - len(separated))
    return (name, *map(str, numbers))


def calls() -> list[str]:
    """Return the table of the neurons to use: the Python call, and how each was trained."""
    lines = ruled(("task", "neuron", "call", "trained with"))
    for task in TASKS:
        rows = shown(task)
        taken = taken_of(task, rows, differences(task, rows))
        if taken is not None:
            lines.append(cells((task.title, taken.name, f"`{call_of(taken)}`", rates_of(taken))))
    return lines


def call_of(row: ComparisonRow) -> str:
    """Return the Python call that makes the neuron of a row."""
    config = row.config
    arguments = dict(config.arguments)
    if (clamp := clamp_of(config)) is not None:
        arguments["v_min"] = clamp
    words = [f'"{config.family}"']
    for name, value in arguments.items():
        words.append(f"{name}={json.dumps(value) if isinstance(value, str) else repr(value)}")
    return f"lnm.get({', '.join(words)})"


def rates_of(row: ComparisonRow) -> str:
    """Return the learning rates of a row, and what else acts on the neuron's parameters."""
    config = row.config
    said = [f"lr = {config.lr:g}"]
    if any(p.learnable for p in neuron_of(config).params):
        said += [f"{name} = {value:g}" for name in LEARNING if (value := getattr(config, name))]
    return ", ".join(said)


def linked(task: Task) -> str:
    """Return a link to the section of a task in docs/evidence/results.md."""
    anchor = task.title.lower().replace(",", "").replace(" ", "-")
    return f"[{task.title}](#{anchor})"
