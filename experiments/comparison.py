"""Rows of a task with their results, and the comparison of each with its base.

A row with a result for each seed that its plan gives it is complete. Only complete rows are
compared, so that no sentence rests on a row that is still being run.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import claims
import results
from claims import Difference
from plan import Plan, read_plan
from results import Result
from tasks import TASKS, Task

LEVEL = 0.05
SEEDS = 10
"""Seeds of a row on which a sentence of the README rests, or of a reference that is recommended."""
Compared = dict[int, tuple[Difference, float]]
"""Place of a row in its table -> its difference from its base, and Holm's p."""


@dataclass(frozen=True)
class Shown:
    """A row of a table.

    Attributes:
        name: Name of the row.
        plan: The experiment; its row's name there is `row`.
        ended: Its final runs that did not diverge.
        failed: Number of final runs that diverged.
    """

    name: str
    plan: Plan
    row: str
    ended: tuple[Result, ...]
    failed: int

    @property
    def seeds(self) -> int:
        """Number of seeds that the plan gives this row."""
        return next(len(row.seeds) for row in self.plan.rows if row.name == self.row)

    @property
    def values(self) -> list[float]:
        """Test accuracies in percent."""
        return [100 * r.accuracy for r in self.ended]

    @property
    def complete(self) -> bool:
        """All seeds of the row have a result."""
        return bool(self.ended) and len(self.ended) + self.failed >= self.seeds

    @property
    def parameters(self) -> int:
        """Number of parameters of the network."""
        return int(self.ended[0].values["parameters"])

    @property
    def n(self) -> str:
        """Number of seeds, also of the row where some are missing."""
        of = "" if self.complete else f" of {self.seeds}"
        said = f"{len(self.ended)}{of}"
        return said + (f", {self.failed} diverged" if self.failed else "")

    @property
    def mean(self) -> float:
        """Mean test accuracy in percent."""
        return statistics.mean(self.values)

    @property
    def test(self) -> str:
        """Mean test accuracy in percent and half of its 95 % confidence interval."""
        return claims.mean_text(self.values)

    @property
    def test_so_far(self) -> str:
        """The same, without an interval while some seeds have not been run."""
        return self.test if self.complete else f"{self.mean:.1f}"


def task_of(name: str) -> Task:
    """Return a task by its name."""
    return next(task for task in TASKS if task.name == name)


def shown(task: Task) -> list[Shown]:
    """Return the rows with a result; of one neuron up to the first experiment that is complete.

    The highest mean is first. Rows of several tasks in one plan are grouped, in its order.
    """
    rows: list[Shown] = []
    sources = task.sources()
    plans = {plan: read_plan(plan) for found in sources.values() for plan, _ in found}
    for name, found in sources.items():
        for plan, row in found:
            rows.append(row_of(name, plans[plan], row))
            if rows[-1].complete:
                break
    rows = [row for row in rows if row.ended]
    if not task.degrees:
        return sorted(rows, key=lambda row: -row.mean)
    groups = list(dict.fromkeys(parts(row)[0] for row in rows))
    return sorted(rows, key=lambda row: groups.index(parts(row)[0]))


def parts(row: Shown) -> tuple[str, str]:
    """Return task and neuron of a row named "task: neuron"; without a task, an empty text."""
    task, _, neuron = row.name.rpartition(": ")
    return task, neuron


def row_of(name: str, plan: Plan, row: str) -> Shown:
    """Return a row of an experiment with its results so far.

    Raises:
        ValueError: It has final runs of several settings, as after a longer search.
    """
    mine = [r for r in results.read(plan.name) if (r.row, r.phase) == (row, "final")]
    if len({r.setting for r in mine}) > 1:
        raise ValueError(
            f"{plan.name}: {row}: final runs of several settings. Keep those that the search did"
            " not choose under another name."
        )
    ended = tuple(r for r in mine if not r.values["failed"])
    return Shown(name, plan, row, ended, len(mine) - len(ended))


def base_of(task: Task, rows: Sequence[Shown], row: Shown) -> Shown | None:
    """Return the row that a complete row is compared with, if that is complete."""
    base = reference_of(task, rows)
    if task.degrees:
        first = row.name.replace("degree 2", "degree 1").replace("degree 3", "degree 1")
        base = next((r for r in rows if r.complete and r.name == first), None)
    return base if row.complete and base is not None and base.name != row.name else None


def reference_of(task: Task, rows: Sequence[Shown]) -> Shown | None:
    """Return the first complete row of the task's references."""
    whole = {r.name: r for r in rows if r.complete}
    return next((whole[name] for name in task.references if name in whole), None)


def differences(task: Task, rows: Sequence[Shown]) -> Compared:
    """Return the difference of each compared row from its base, with p corrected for all of them.

    The key is the row's place in `rows`. p is that of Welch's test, or of a task's rank test; then
    1 where the means do not have the order of the ranks.
    """
    found = {}
    for place, row in enumerate(rows):
        base = base_of(task, rows, row)
        compared = None if base is None else claims.difference(row.values, base.values)
        if base is not None and compared is not None:
            p, order = claims.ranked(row.values, base.values)
            ranked = replace(compared, p=p if order * compared.mean > 0 else 1.0)
            found[place] = ranked if task.ranks else compared
    ps = claims.holm([compared.p for compared in found.values()])
    return {place: (found[place], p) for place, p in zip(found, ps, strict=True)}


def is_apart(row: Shown, best: Shown) -> bool:
    """Report whether a row is separated from the best one, by Welch's test alone."""
    part = claims.difference(row.values, best.values)
    return part is not None and part.p < LEVEL


def taken_of(task: Task, rows: Sequence[Shown], compared: Compared) -> Shown | None:
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
