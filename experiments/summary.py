"""Table of a task: its rows, the differences from its reference, and the notes on them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import places
from comparison import LEVEL, differences, parts, reference_of, shown, task_of
from outcome import cells, listed, verdict
from tasks import Task

from lnm_codegen.train.comparison.plan import ComparisonPlan
from lnm_codegen.train.comparison.table import (
    ComparisonRow,
    MeanDifference,
    difference_text,
    p_text,
    row_of,
)
from lnm_codegen.train.runs.config import clamp_of
from lnm_codegen.validation import counted

REFERENCE = "reference"


def table(name: str) -> list[str]:
    """Return the lines of a task: figure, table, sentences."""
    task = task_of(name)
    rows = shown(task)
    if not rows:
        none = f"No row of [{task.plan}](../../experiments/{task.plan}.toml) has been run."
        marks = ", ".join(f"{name} {mark} %" for name, mark in task.published.items())
        return [none, *(["", f"Published: {marks}; {task.source}."] if marks else [])]
    compared = differences(task, rows)
    texts = {parts(row): row.test + side(compared.get(k)) for k, row in enumerate(rows)}
    body = matrix(texts) if task.degrees else long_table(name)
    return [
        f"![{alt(task, rows)}](../figures/{task.name}.svg)", "", *body, "",
        *notes(task, rows), "", *verdict(task, rows, compared),
    ]  # fmt: skip


def long_table(name: str) -> list[str]:
    """Return the lines of a table with a line for each row of a task, and the published marks."""
    task = task_of(name)
    rows = shown(task)
    compared, letters = differences(task, rows), lettered(rows)
    base = None if task.degrees else reference_of(task, rows)
    head = ("neuron", "experiment", "n", "test, %", against(task, rows), "Holm's p")
    head += ("parameters", *(("spikes",) if task.steps else ()))
    lines = [cells(head), "|" + " --- |" * len(head)]
    for place, row in enumerate(rows):
        part = compared.get(place)
        middle = (REFERENCE if row is base else "", "")
        if part is not None:
            middle = (difference_text(part[0]), p_text(part[1]))
        parameters = f"{row.parameters:,}"
        end = (parameters, *((spikes(task, row),) if task.steps else ()))
        lines.append(cells((row.name, letters[row.plan.name], row.n, row.test, *middle, *end)))
    return lines + [
        cells((f"*{mark}, published*", "", "", str(value), *[""] * (len(head) - 4)))
        for mark, value in task.published.items()
    ]


def variants(name: str) -> list[str]:
    """Return a table of a task's rows of each granularity: per channel and per layer."""
    task = task_of(name)
    plan, known = places.read_plan(task.plan), places.records(task.plan)
    rows = [row_of(plan, known, row.name) for row in plan.rows if by_granularity(row.name)[0]]
    rows = [row for row in rows if row.ended]
    missing = sum(task.is_variant(row.name) for row in plan.rows) - sum(
        task.is_variant(row.name) for row in rows if row.complete
    )
    lines = matrix(
        {
            by_granularity(row.name): f"{row.test if row.complete else f'{row.mean:.1f}'} ({row.n})"
            for row in rows
        }
    )
    return [*lines, *(["", f"{counted(missing, 'row')} not complete yet."] if missing else [])]


def by_granularity(name: str) -> tuple[str, str]:
    """Return the granularity in a row's name, and the rest of the name; "" for none."""
    words = name.split(", ")
    found = next((word for word in words if word in ("channel", "layer")), "")
    return found and f"per {found}", ", ".join(word for word in words if word != found)


def matrix(texts: Mapping[tuple[str, str], str]) -> list[str]:
    """Return the lines of a table of (column, row) -> text."""
    columns, rows = (list(dict.fromkeys(names)) for names in zip(*texts, strict=True))
    lines = [cells(("neuron", *columns)), "|" + " --- |" * (1 + len(columns))]
    return lines + [
        cells((row, *(texts.get((column, row), "") for column in columns))) for row in rows
    ]


def side(part: tuple[MeanDifference, float] | None) -> str:
    """Return ", above" or ", below" for a row that is separated from its base."""
    if part is None or part[1] >= LEVEL:
        return ""
    return ", above" if part[0].mean > 0 else ", below"


def lettered(rows: Sequence[ComparisonRow]) -> dict[str, str]:
    """Return plan -> letter, in the order of the rows."""
    plans = dict.fromkeys(row.plan.name for row in rows)
    return {plan: chr(ord("A") + k) for k, plan in enumerate(plans)}


def against(task: Task, rows: Sequence[ComparisonRow]) -> str:
    """Return the heading of the column of differences."""
    if task.degrees:
        return "difference from degree 1, points (95 % interval)"
    base = reference_of(task, rows)
    if base is None:
        return "difference"
    return f"difference from {base.name}, points (95 % interval)"


def spikes(task: Task, row: ComparisonRow) -> str:
    """Return the mean number of spikes of an inference."""
    config = row.config
    widths = config.network_arguments["hidden"]
    each = [
        sum(float(rate) * w for rate, w in zip(r.values["rates"].split(), widths, strict=True))
        for r in row.ended
    ]
    return f"{task.steps * statistics.mean(each):,.0f}"


def alt(task: Task, rows: Sequence[ComparisonRow]) -> str:
    """Return the text that stands for the figure."""
    if task.degrees:
        return "Test accuracy of each neuron in percent, with a panel for each task of the table"
    ours = [f"{row.name}: {row.test}" + f" (n = {row.n})" * (not row.complete) for row in rows]
    marks = [f"{mark}: {value} (published)" for mark, value in task.published.items()]
    return f"Test accuracy in percent: {'; '.join(ours + marks)}"


def labelled(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Return the rows with the letter of the experiment in names that occur twice."""
    names, letters = [row.name for row in rows], lettered(rows)
    return [
        replace(row, name=f"{row.name} ({letters[row.plan.name]})")
        if names.count(row.name) > 1
        else row
        for row in rows
    ]


def notes(task: Task, rows: Sequence[ComparisonRow]) -> list[str]:
    """Return the experiments behind the table, and the line on the rows that lack runs."""
    lines = [f"* {letter}: {experiment(plan, rows)}" for plan, letter in lettered(rows).items()]
    if task.degrees:
        lines = [line.replace("* A: ", "* ") for line in lines]
        lines.append(f"* n = {listed(sorted({row.n for row in rows}))} in each cell.")
    if task.published:
        lines.append(f"* Published: {task.source}.")
    fewer = [f"{row.name} ({row.n})" for row in rows if not row.complete]
    if fewer:
        lines.append(f"* Not compared, because some seeds have not been run: {'; '.join(fewer)}.")
    present = {row.name for row in rows if row.plan.name == task.plan}
    missing = [
        row.name
        for row in places.read_plan(task.plan).rows
        if row.name not in present and not task.is_variant(row.name)
    ]
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        lines.append(f"* {counted(len(missing), 'row')} of `{task.plan}` not run yet: {names}.")
    return lines


def limits(name: str) -> list[str]:
    """Return the lines on rates at the end of their range, and on clamps that are often reached."""
    task = task_of(name)
    rows = shown(task)
    return [*at_the_end(task, rows), *held(rows)]


HELD = 0.1
"""Least share of potentials at a clamp that is reported."""


def at_the_end(task: Task, rows: Sequence[ComparisonRow]) -> list[str]:
    """Return a line on the rows whose best rate is the highest of several that were tried."""
    said, base = [], reference_of(task, rows)
    for rate in ("lr", "lr_neuron"):
        found = [row for row in rows if is_highest(row, rate)]
        if found:
            also = ", also the reference" * (base in found)
            said.append(f"`{rate}` in {len(found)} of {counted(len(rows), 'row')}{also}")
    return [f"* Best at the highest rate that was tried: {'; '.join(said)}."] if said else []


def is_highest(row: ComparisonRow, rate: str) -> bool:
    """Report whether the search chose the highest of several values of a rate."""
    settings = row.plan.row(row.row).settings
    tried = [getattr(setting, rate) for setting in settings]
    return min(tried) < max(tried) == tried[row.ended[0].setting]


def held(rows: Sequence[ComparisonRow]) -> list[str]:
    """Return a line on the rows whose clamp below holds many potentials of a layer."""
    shares = {row.name: held_share(row) for row in labelled(rows)}
    found = {name: share for name, share in shares.items() if share >= HELD}
    if not found:
        return []
    most = max(found, key=lambda name: found[name])
    said = f"up to {100 * found[most]:.0f} % ({most})"
    where = f"at least {100 * HELD:.0f} % of a layer's potentials in {counted(len(found), 'row')}"
    return [f"* A clamp holds {where}, {said}."]


def held_share(row: ComparisonRow) -> float:
    """Return the share of potentials that a clamp below holds, in the layer with most; else 0."""
    if clamp_of(row.config) is None:
        return 0.0
    layers = zip(*(map(float, r.values["outside"].split()) for r in row.ended), strict=True)
    return max(map(statistics.mean, layers))


def experiment(name: str, rows: Sequence[ComparisonRow]) -> str:
    """Return what a reader must know of an experiment: search, epochs, seeds, processors."""
    mine = [row for row in rows if row.plan.name == name]
    plan = mine[0].plan
    seeds = f"seeds from {plan.seeds[0]}"
    made = sorted(
        {r.values["machine"].removesuffix(" Processor") for row in mine for r in row.ended}
    )
    epochs = plan.rows[0].config.epochs
    link = f"[{name}](../../experiments/{name}.toml)"
    return f"{link}. {searched(plan)}. Final runs: {epochs} epochs, {seeds}, {' and '.join(made)}."


def searched(plan: ComparisonPlan) -> str:
    """Return the size of a plan's search."""
    counts = {len(row.settings) for row in plan.rows}
    if counts == {1}:
        return "Settings: not searched"
    settings = " to ".join(str(n) for n in sorted({min(counts), max(counts)}))
    epochs = plan.search_epochs or plan.rows[0].config.epochs
    return f"Settings: {settings} were tried for each row, with {epochs} epochs each"


def figure_file(task: Task) -> Path:
    """Return the path of a task's figure in docs/."""
    return Path("figures") / f"{task.name}.svg"
