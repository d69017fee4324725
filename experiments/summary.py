"""Short table of a task for docs/results.md, and the sentences that depend on its figures.

A row with all the seeds of its plan is complete. Only complete rows are compared, so that no
sentence rests on a row that is still being run.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import claims
import results
from claims import Difference
from plan import Plan, read_plan
from results import Result
from tasks import TASKS, Task

from lnm_codegen.validation import counted

LEVEL = 0.05
REFERENCE = "reference"
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
    def values(self) -> list[float]:
        """Test accuracies in percent."""
        return [100 * r.accuracy for r in self.ended]

    @property
    def complete(self) -> bool:
        """All seeds of the plan have a result."""
        return bool(self.ended) and len(self.ended) + self.failed >= len(self.plan.seeds)

    @property
    def n(self) -> str:
        """Number of seeds, also of the plan where some are missing."""
        of = "" if self.complete else f" of {len(self.plan.seeds)}"
        said = f"{len(self.ended)}{of}"
        return said + (f", {self.failed} diverged" if self.failed else "")

    @property
    def mean(self) -> float:
        """Mean test accuracy in percent."""
        return statistics.mean(self.values)

    @property
    def test(self) -> str:
        """Mean test accuracy in percent and half of its 95 % confidence interval."""
        half = claims.half_width(self.values)
        return f"{self.mean:.1f}" + ("" if half is None else f" ± {half:.1f}")


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
    groups = list(dict.fromkeys(row.name.partition(": ")[0] for row in rows))
    return sorted(rows, key=lambda row: groups.index(row.name.partition(": ")[0]))


def row_of(name: str, plan: Plan, row: str) -> Shown:
    """Return a row of an experiment with its results so far."""
    mine = [r for r in results.read(plan.name) if (r.row, r.phase) == (row, "final")]
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

    The key is the row's place in `rows`.
    """
    found = {}
    for place, row in enumerate(rows):
        base = base_of(task, rows, row)
        compared = None if base is None else claims.difference(row.values, base.values)
        if compared is not None:
            found[place] = compared
    ps = claims.holm([compared.p for compared in found.values()])
    return {place: (found[place], p) for place, p in zip(found, ps, strict=True)}


def table(name: str) -> list[str]:
    """Return the lines of a task: figure, table, sentences."""
    task = task_of(name)
    rows = shown(task)
    if not rows:
        return [f"No row of [{task.plan}](../experiments/{task.plan}.toml) has been run."]
    compared, letters = differences(task, rows), lettered(rows)
    base = None if task.degrees else reference_of(task, rows)
    head = ("neuron", "experiment", "n", "test, %", against(task, rows), "Holm's p")
    head += ("parameters", *(("spikes",) if task.steps else ()))
    lines = [f"![{alt(task, rows)}](figures/{task.name}.svg)", "", cells(head)]
    lines.append("|" + " --- |" * len(head))
    for place, row in enumerate(rows):
        part = compared.get(place)
        middle = (REFERENCE if row is base else "", "")
        if part is not None:
            middle = (signed(part[0]), p_text(part[1]))
        parameters = f"{int(row.ended[0].values['parameters']):,}"
        end = (parameters, *((spikes(task, row),) if task.steps else ()))
        lines.append(cells((row.name, letters[row.plan.name], row.n, row.test, *middle, *end)))
    lines += [
        cells((f"*{mark}, published*", "", "", str(value), *[""] * (len(head) - 4)))
        for mark, value in task.published.items()
    ]
    return [*lines, "", *notes(task, rows, len(compared)), "", *verdict(task, rows, compared)]


def lettered(rows: Sequence[Shown]) -> dict[str, str]:
    """Return plan -> letter, in the order of the rows."""
    plans = dict.fromkeys(row.plan.name for row in rows)
    return {plan: chr(ord("A") + k) for k, plan in enumerate(plans)}


def cells(words: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(words)} |"


def against(task: Task, rows: Sequence[Shown]) -> str:
    """Return the heading of the column of differences."""
    if task.degrees:
        return "difference from degree 1, points (95 % interval)"
    base = reference_of(task, rows)
    if base is None:
        return "difference"
    return f"difference from {base.name}, points (95 % interval)"


def signed(part: Difference) -> str:
    """Return a difference with its interval."""
    return f"{part.mean:+.1f} ({part.low:+.1f} to {part.high:+.1f})"


def p_text(p: float) -> str:
    """Return a p-value with two digits, or its bound."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def p_equals(p: float) -> str:
    """Return a p-value for a sentence: "p = 0.0088", or "p < 0.0001"."""
    text = p_text(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def spikes(task: Task, row: Shown) -> str:
    """Return the mean number of spikes of an inference."""
    config = next(r.config for r in row.plan.rows if r.name == row.row)
    widths = config.network_arguments["hidden"]
    each = [
        sum(float(rate) * w for rate, w in zip(r.values["rates"].split(), widths, strict=True))
        for r in row.ended
    ]
    return f"{task.steps * statistics.mean(each):,.0f}"


def alt(task: Task, rows: Sequence[Shown]) -> str:
    """Return the text that stands for the figure."""
    ours = [f"{row.name}: {row.test}" + f" (n = {row.n})" * (not row.complete) for row in rows]
    marks = [f"{mark}: {value} (published)" for mark, value in task.published.items()]
    return f"Test accuracy in percent: {'; '.join(ours + marks)}"


def labelled(rows: Sequence[Shown]) -> list[Shown]:
    """Return the rows with the letter of the experiment in names that occur twice."""
    names, letters = [row.name for row in rows], lettered(rows)
    return [
        replace(row, name=f"{row.name} ({letters[row.plan.name]})")
        if names.count(row.name) > 1
        else row
        for row in rows
    ]


def notes(task: Task, rows: Sequence[Shown], tests: int) -> list[str]:
    """Return the list that explains the table, and the line on the rows that lack runs."""
    lines = [f"* {letter}: {experiment(plan, rows)}" for plan, letter in lettered(rows).items()]
    said = "* ± is half the width of the 95 % confidence interval of the mean over n seeds."
    if tests:
        said += (
            " Differences are in percentage points. Their intervals and p are those of Welch's"
            f" test. Holm's p is p corrected for the {counted(tests, 'test')} of the table."
        )
    lines.append(said)
    if task.steps:
        lines.append(
            "* Spikes: number of spikes of all neurons in all time steps, for one test sample."
            " It is the mean over the test samples and the seeds."
        )
    if task.published:
        lines.append(f"* Published: {task.source}.")
    fewer = [f"{row.name} ({row.n})" for row in rows if not row.complete]
    if fewer:
        lines.append(f"* Not compared, because some seeds have not been run: {'; '.join(fewer)}.")
    present = {row.name for row in rows if row.plan.name == task.plan}
    missing = [row.name for row in read_plan(task.plan).rows if row.name not in present]
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        lines.append(f"* {counted(len(missing), 'row')} of `{task.plan}` not run yet: {names}.")
    return lines


def experiment(name: str, rows: Sequence[Shown]) -> str:
    """Return what a reader must know of an experiment: search, epochs, seeds, processors."""
    mine = [row for row in rows if row.plan.name == name]
    plan = mine[0].plan
    seeds = f"seeds {plan.seeds[0]} to {plan.seeds[-1]}"
    made = sorted(
        {r.values["machine"].removesuffix(" Processor") for row in mine for r in row.ended}
    )
    epochs = plan.rows[0].config.epochs
    link = f"[{name}](../experiments/{name}.toml)"
    return (
        f"{link}. {searched(plan)}. Final runs: {epochs} epochs, {seeds}, on {' and '.join(made)}"
        " processors."
    )


def searched(plan: Plan) -> str:
    """Return the size of a plan's search."""
    settings = len(plan.rows[0].settings)
    if settings == 1:
        return "Settings: not searched"
    epochs = plan.search_epochs or plan.rows[0].config.epochs
    return f"Settings: {settings} were tried for each row, with {epochs} epochs each"


def verdict(task: Task, rows: Sequence[Shown], compared: Compared) -> list[str]:
    """Return the outcome in words, of complete rows alone."""
    if not compared:
        return ["**Outcome.** Too few rows are complete for a comparison."]
    above = [rows[k] for k, (part, p) in compared.items() if p < LEVEL and part.mean > 0]
    below = [rows[k] for k, (part, p) in compared.items() if p < LEVEL and part.mean < 0]
    counts = {"above": len(above), "below": len(below)}
    counts["not separated from"] = len(compared) - len(above) - len(below)
    said = [f"{count} {where}" for where, count in counts.items() if count]
    taken = taken_of(task, rows, compared)
    if taken is None:
        names = "; ".join(row.name for row in above)
        end = f"Above: {names}." if names else "No polynomial of degree 2 or 3 is above degree 1."
        return [f"**Outcome.** {enumerated(said)} degree 1. {end}"]
    base = reference_of(task, rows)
    assert base is not None
    lines = [f"**Outcome.** {enumerated(said)} {base.name} ({base.test} %, n = {base.n})."]
    call = f": `{task.calls[taken.name]}`" if taken.name in task.calls else ""
    return [*lines, "", f"**Use** {taken.name}{call}."]


def enumerated(counts: Sequence[str]) -> str:
    """Return the number of rows above, below and not separated as the start of a sentence."""
    if len(counts) == 1:
        number, _, where = counts[0].partition(" ")
        if number == "1":
            return f"The compared row is {where}"
        if where.startswith("not "):
            return f"None of the {number} compared rows is {where.removeprefix('not ')}"
        return f"All {number} compared rows are {where}"
    total = sum(int(count.partition(" ")[0]) for count in counts)
    parts = []
    for count in counts:
        number, _, where = count.partition(" ")
        parts.append(f"{number} {'is' if number == '1' else 'are'} {where}")
    return f"Of the {total} compared rows, {', '.join(parts[:-1])} and {parts[-1]}"


def taken_of(task: Task, rows: Sequence[Shown], compared: Compared) -> Shown | None:
    """Return the neuron to take: the best row above the reference, or the reference itself."""
    if task.degrees or not compared:
        return None
    above = [rows[k] for k, (part, p) in compared.items() if p < LEVEL and part.mean > 0]
    return max(above, key=lambda row: row.mean) if above else reference_of(task, rows)


def overview() -> list[str]:
    """Return the table of all tasks: the neuron to take, its accuracy, the best published mark."""
    lines = [
        cells(("task", "neuron to use", "test, %", "n", "best published, %")),
        "| --- | --- | --- | --- | --- |",
    ]
    for task in TASKS:
        rows = shown(task)
        taken = taken_of(task, rows, differences(task, rows))
        words = ("not run yet" if not rows else "see the section", "", "")
        if taken is not None:
            words = (taken.name, taken.test, taken.n)
        best = max(task.published.items(), key=lambda mark: mark[1], default=("", ""))
        lines.append(cells((linked(task), *words, f"{best[0]} {best[1]}".strip())))
    return lines


def linked(task: Task, page: str = "") -> str:
    """Return a link to the section of a task in docs/results.md."""
    anchor = task.title.lower().replace(",", "").replace(" ", "-")
    return f"[{task.title}]({page}#{anchor})"


def figure_file(task: Task) -> Path:
    """Return the path of a task's figure in docs/."""
    return Path("figures") / f"{task.name}.svg"
