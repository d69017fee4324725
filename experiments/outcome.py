"""Outcome of a task, and the table of all tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence

from comparison import (
    LEVEL,
    SEEDS,
    differences,
    reference_of,
    shown,
    taken_of,
)
from tasks import TASKS, Task

from lnm_codegen.train.comparison.table import Compared, ComparisonRow
from lnm_codegen.train.runs.config import clamp_of, neuron_of

LEARNING = ("lr_neuron", "penalty", "project")
"""Fields of [train] that act on the parameters of a neuron; 0 or none is left out."""


def cells(words: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(words)} |"


def verdict(task: Task, rows: Sequence[ComparisonRow], compared: Compared) -> list[str]:
    """Return the numbers of complete rows above and below their base, and the neuron to use."""
    if not compared:
        return ["**Outcome.** Too few rows are complete for a comparison."]
    separated = [part.mean > 0 for part, p in compared.values() if p < LEVEL]
    above, below, other = sum(separated), separated.count(False), len(compared) - len(separated)
    counts = f"{above} above, {below} below, {other} not separated"
    if task.degrees:
        return [f"**Outcome**, against degree 1 of the same neuron: {counts}."]
    base, taken = reference_of(task, rows), taken_of(task, rows, compared)
    assert base is not None
    lines = [f"**Outcome**, against {base.name} ({base.test} %, n = {base.n}): {counts}."]
    if taken is None:
        few = f"No neuron is above {base.name}, and it has fewer than {SEEDS} seeds"
        return [*lines, "", f"**Use**: no recommendation. {few}."]
    return [*lines, "", f"**Use** {taken.name}: {use_of(taken)}."]


def use_of(row: ComparisonRow) -> str:
    """Return the Python call that makes the neuron of a row, and how it was trained."""
    config = row.config
    arguments = dict(config.arguments)
    if (clamp := clamp_of(config)) is not None:
        arguments["v_min"] = clamp
    words = [f'"{config.family}"']
    for name, value in arguments.items():
        words.append(f"{name}={json.dumps(value) if isinstance(value, str) else repr(value)}")
    said = [f"lr = {config.lr:g}"]
    if any(p.learnable for p in neuron_of(config).params):
        said += [f"{name} = {value:g}" for name in LEARNING if (value := getattr(config, name))]
    return f"`lnm.get({', '.join(words)})`, trained with {listed(said)}"


def listed(words: Sequence[str]) -> str:
    """Return words with commas, and "and" before the last."""
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def overview() -> list[str]:
    """Return the table of all tasks that have a result, and a line on the others.

    It has the neuron to take, its accuracy and the highest published mark that is cited.
    """
    lines = [
        cells(("task", "neuron to use", "test, %", "n", "highest mark cited, %")),
        "| --- | --- | --- | --- | --- |",
    ]
    missing = [linked(task) for task in TASKS if not shown(task)]
    for task in TASKS:
        rows = shown(task)
        if not rows:
            continue
        taken = taken_of(task, rows, differences(task, rows))
        words = ("see the section" if task.degrees else "no recommendation", "", "")
        if taken is not None:
            words = (taken.name, taken.test, taken.n)
        best = max(task.published.items(), key=lambda mark: mark[1], default=("", ""))
        lines.append(cells((linked(task), *words, f"{best[0]} {best[1]}".strip())))
    return [*lines, *(["", f"Not run yet: {listed(missing)}."] if missing else [])]


def linked(task: Task) -> str:
    """Return a link to the section of a task in docs/evidence/results.md."""
    anchor = task.title.lower().replace(",", "").replace(" ", "-")
    return f"[{task.title}](#{anchor})"
