"""Table of a task with the differences from its reference; tables of experiments and limits."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import places
from comparison import LEVEL, differences, parts, reference_of, shown, task_of
from outcome import cells, ruled
from tasks import TASKS, Task

from lnm_codegen.train.comparison.plan import ComparisonPlan
from lnm_codegen.train.comparison.significance import MeanDifference
from lnm_codegen.train.comparison.table import ComparisonRow, difference_text, p_text, row_of
from lnm_codegen.train.runs.config import clamp_of
from lnm_codegen.validation import counted

REFERENCE = "reference"


def table(name: str) -> list[str]:
    """Return the lines of a task: figure and table."""
    task = task_of(name)
    rows = shown(task)
    if not rows:
        return [f"No row of [{task.plan}](../../experiments/{task.plan}.toml) has been run."]
    compared = differences(task, rows)
    texts = {parts(row): row.test + side(compared.get(k)) for k, row in enumerate(rows)}
    body = long_table(name)
    if task.degrees:
        body = matrix(texts, f"neuron, n = {', '.join(sorted({row.n for row in rows}))}")
    figure = f"![Test accuracy of the rows of the table, in %](../figures/{task.name}.svg)"
    return [figure, "", *body]


def long_table(name: str) -> list[str]:
    """Return the lines of a table with a line for each row of a task.

    A letter marks the rows of another experiment than that of the first row.
    """
    task = task_of(name)
    rows = shown(task)
    compared, letters = differences(task, rows), lettered(rows)
    base = None if task.degrees else reference_of(task, rows)
    head = ("neuron", "n", "test, %", against(task, rows), "Holm's p")
    head += ("parameters", *(("spikes",) if task.steps else ()))
    lines = ruled(head)
    for place, row in enumerate(rows):
        part = compared.get(place)
        middle = (REFERENCE if row is base else "", "")
        if part is not None:
            middle = (difference_text(part[0]), p_text(part[1]))
        parameters = f"{row.parameters:,}"
        end = (parameters, *((spikes(task, row),) if task.steps else ()))
        letter = letters[row.plan.name]
        name = f"{row.name} ({letter})" if letter != "A" else row.name
        lines.append(cells((name, row.n, row.test, *middle, *end)))
    return lines


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


def matrix(texts: Mapping[tuple[str, str], str], corner: str = "neuron") -> list[str]:
    """Return the lines of a table of (column, row) -> text."""
    columns, rows = (list(dict.fromkeys(names)) for names in zip(*texts, strict=True))
    return ruled((corner, *columns)) + [
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


def labelled(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Return the rows with the letter of the experiment in names that occur twice."""
    names, letters = [row.name for row in rows], lettered(rows)
    return [
        replace(row, name=f"{row.name} ({letters[row.plan.name]})")
        if names.count(row.name) > 1
        else row
        for row in rows
    ]


def experiments() -> list[str]:
    """Return the table of the experiments behind the tables: search, epochs, seeds, processors.

    The rows of a task's own experiment are counted out of those planned.
    """
    head = ("experiment", "rows", "settings of a row", "epochs of search, of final runs")
    lines = ruled((*head, "seeds from", "processor"))
    for task in TASKS:
        rows = shown(task)
        letters = lettered(rows)
        for name in dict.fromkeys((*letters, task.plan)):
            plan, mine = places.read_plan(name), [row for row in rows if row.plan.name == name]
            count = str(len(mine))
            if name == task.plan:
                count += f" of {sum(not task.is_variant(row.name) for row in plan.rows)}"
            letter = f"{letters[name]}: " if len(letters) > 1 else ""
            link = f"{letter}[{name}](../{name}.toml)"
            made = {r.values["machine"].removesuffix(" Processor") for w in mine for r in w.ended}
            end = (str(plan.seeds[0]), ", ".join(sorted(made)))
            lines.append(cells((link, count, *searched(plan), *end)))
    return lines


HELD = 0.1
"""Least share of potentials at a clamp that is reported."""


def limits() -> list[str]:
    """Return the table of rows whose best rate is the highest tried, and of clamps often reached.

    A star marks a count with the reference among its rows.
    """
    head = ("task", "rows", "highest `lr`", "highest `lr_neuron`")
    lines = ruled((*head, f"clamp holds {100 * HELD:.0f} % or more", "most held"))
    for task in TASKS:
        rows = shown(task)
        base = reference_of(task, rows)
        found = [[row for row in rows if is_highest(row, rate)] for rate in ("lr", "lr_neuron")]
        counts = [f"{len(one)}{' *' * (base in one)}" for one in found]
        shares = {row.name: held_share(row) for row in labelled(rows)}
        held = {name: share for name, share in shares.items() if share >= HELD}
        most = max(held, key=lambda name: held[name], default="")
        said = f"{100 * held[most]:.0f} % ({most})" if held else ""
        lines.append(cells((task.title, str(len(rows)), *counts, str(len(held)), said)))
    return lines


def is_highest(row: ComparisonRow, rate: str) -> bool:
    """Report whether the search chose the highest of several values of a rate."""
    settings = row.plan.row(row.row).settings
    tried = [getattr(setting, rate) for setting in settings]
    return min(tried) < max(tried) == tried[row.ended[0].setting]


def held_share(row: ComparisonRow) -> float:
    """Return the share of potentials that a clamp below holds, in the layer with most; else 0."""
    if clamp_of(row.config) is None:
        return 0.0
    layers = zip(*(map(float, r.values["outside"].split()) for r in row.ended), strict=True)
    return max(map(statistics.mean, layers))


def searched(plan: ComparisonPlan) -> tuple[str, str]:
    """Return the settings tried for each row, and the epochs of the search and of final runs."""
    numbers = sorted({len(row.settings) for row in plan.rows})
    final = plan.rows[0].config.epochs
    if numbers == [1]:
        return "not searched", str(final)
    settings = " to ".join(str(n) for n in dict.fromkeys((numbers[0], numbers[-1])))
    return settings, f"{plan.search_epochs or final}, {final}"


def figure_file(task: Task) -> Path:
    """Return the path of a task's figure in docs/."""
    return Path("figures") / f"{task.name}.svg"
