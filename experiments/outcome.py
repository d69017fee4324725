"""Outcome of a task in words, and the table of all tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence

from comparison import (
    LEVEL,
    SEEDS,
    differences,
    parts,
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
    """Return the outcome in words, of complete rows alone."""
    if not compared:
        return ["**Outcome.** Too few rows are complete for a comparison."]
    above = [rows[k] for k, (part, p) in compared.items() if p < LEVEL and part.mean > 0]
    below = [rows[k] for k, (part, p) in compared.items() if p < LEVEL and part.mean < 0]
    counts = {"above": len(above), "below": len(below)}
    counts["not separated from"] = len(compared) - len(above) - len(below)
    said = [f"{count} {where}" for where, count in counts.items() if count]
    if task.degrees:
        end = degrees_above(rows, compared)
        return [f"**Outcome.** {enumerated(said, 'cell')} degree 1 of the same neuron. {end}"]
    taken, base = taken_of(task, rows, compared), reference_of(task, rows)
    assert base is not None
    lines = [f"**Outcome.** {enumerated(said)} {base.name} ({base.test} %, n = {base.n})."]
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


def degrees_above(rows: Sequence[ComparisonRow], compared: Compared) -> str:
    """Return the polynomials that are above degree 1 of the same neuron as a sentence."""
    above = [rows[k] for k, (part, p) in compared.items() if p < LEVEL and part.mean > 0]
    if not above:
        return "No polynomial of degree 2 or 3 is above degree 1."
    said = []
    for name in dict.fromkeys(parts(row)[0] for row in above):
        same = [row for row in rows if row.complete and parts(row)[0] == name]
        found = listed([f"{parts(row)[1]} ({row.test} %)" for row in above if row in same])
        best = max(same, key=lambda row: row.mean)
        highest = f"the highest mean is {best.test} % ({parts(best)[1]})"
        said.append(f"{found}{f' on {name}' * bool(name)}; {highest}")
    return f"Above degree 1 of the same neuron: {', and '.join(said)}."


def enumerated(counts: Sequence[str], what: str = "row") -> str:
    """Return the number of rows above, below and not separated as the start of a sentence."""
    if len(counts) == 1:
        number, _, where = counts[0].partition(" ")
        if number == "1":
            return f"The compared {what} is {where}"
        if where.startswith("not "):
            return f"None of the {number} compared {what}s is {where.removeprefix('not ')}"
        return f"All {number} compared {what}s are {where}"
    total = sum(int(count.partition(" ")[0]) for count in counts)
    parts = []
    for count in counts:
        number, _, where = count.partition(" ")
        parts.append(f"{number} {'is' if number == '1' else 'are'} {where}")
    return f"Of the {total} compared {what}s, {', '.join(parts[:-1])} and {parts[-1]}"


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
    """Return a link to the section of a task in docs/results.md."""
    anchor = task.title.lower().replace(",", "").replace(" ", "-")
    return f"[{task.title}](#{anchor})"
