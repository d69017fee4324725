"""Rows of a task with their results, and the comparison of each with its base.

A row with a result for each seed that its plan gives it is complete. Only complete rows are
compared, so that no sentence rests on a row that is still being run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import places
from scipy.stats import mannwhitneyu
from tasks import TASKS, Task

from lnm_codegen.train.comparison.significance import Compared, corrected, difference
from lnm_codegen.train.comparison.table import ComparisonRow, row_of

LEVEL = 0.05
SEEDS = 10
"""Seeds of a row on which a sentence of the README rests, or of a reference that is recommended."""


def task_of(name: str) -> Task:
    """Return a task by its name."""
    return next(task for task in TASKS if task.name == name)


def shown(task: Task) -> list[ComparisonRow]:
    """Return the rows with a result; of one neuron up to the first experiment that is complete.

    The highest mean is first. Rows of several tasks in one plan are grouped, in its order.
    """
    rows: list[ComparisonRow] = []
    sources = task.sources()
    names = {plan for found in sources.values() for plan, _ in found}
    known = {plan: (places.read_plan(plan), places.records(plan)) for plan in names}
    for name, found in sources.items():
        for plan, row in found:
            rows.append(row_of(*known[plan], row, name))
            if rows[-1].complete:
                break
    rows = [row for row in rows if row.ended]
    if not task.degrees:
        return sorted(rows, key=lambda row: -row.mean)
    groups = list(dict.fromkeys(parts(row)[0] for row in rows))
    return sorted(rows, key=lambda row: groups.index(parts(row)[0]))


def parts(row: ComparisonRow) -> tuple[str, str]:
    """Return task and neuron of a row named "task: neuron"; without a task, an empty text."""
    task, _, neuron = row.name.rpartition(": ")
    return task, neuron


def base_of(task: Task, rows: Sequence[ComparisonRow], row: ComparisonRow) -> ComparisonRow | None:
    """Return the row that a complete row is compared with, if that is complete."""
    base = reference_of(task, rows)
    if task.degrees:
        first = row.name.replace("degree 2", "degree 1").replace("degree 3", "degree 1")
        base = next((r for r in rows if r.complete and r.name == first), None)
    return base if row.complete and base is not None and base.name != row.name else None


def reference_of(task: Task, rows: Sequence[ComparisonRow]) -> ComparisonRow | None:
    """Return the first complete row of the task's references."""
    whole = {r.name: r for r in rows if r.complete}
    return next((whole[name] for name in task.references if name in whole), None)


def differences(task: Task, rows: Sequence[ComparisonRow]) -> Compared:
    """Return the difference of each compared row from its base, with p corrected for all of them.

    The key is the row's place in `rows`. p is that of Welch's test, or of a task's rank test; then
    1 where the means do not have the order of the ranks.
    """
    found = {}
    for place, row in enumerate(rows):
        base = base_of(task, rows, row)
        compared = None if base is None else difference(row.values, base.values)
        if base is not None and compared is not None:
            p, order = ranked(row.values, base.values)
            by_ranks = replace(compared, p=p if order * compared.mean > 0 else 1.0)
            found[place] = by_ranks if task.ranks else compared
    return corrected(found)


def ranked(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Return p of the two-sided rank test of Mann and Whitney, and the order of the ranks.

    The order is above 0 if values of `a` are more often above those of `b` than below.
    """
    found = mannwhitneyu(a, b)
    return float(found.pvalue), float(found.statistic) - len(a) * len(b) / 2


def is_apart(row: ComparisonRow, best: ComparisonRow) -> bool:
    """Report whether a row is separated from the best one, by Welch's test alone."""
    part = difference(row.values, best.values)
    return part is not None and part.p < LEVEL


def taken_of(task: Task, rows: Sequence[ComparisonRow], compared: Compared) -> ComparisonRow | None:
    """Return the neuron to take, above the reference, or the reference itself.

    Of the rows above that are not separated from the best one, it is the one with the fewest
    parameters. A reference with few seeds is not recommended: no difference from it says nothing.
    """
    if task.degrees or not compared:
        return None
    above = [rows[k] for k, (part, p) in compared.items() if p < LEVEL and part.mean > 0]
    if above:
        best = max(above, key=lambda row: row.mean)
        return min(above, key=lambda row: (is_apart(row, best), row.parameters, -row.mean))
    base = reference_of(task, rows)
    return base if base is not None and len(base.ended) + base.failed >= SEEDS else None
