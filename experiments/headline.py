"""Head of the README: a figure of test accuracies on MNIST-1D, and what it says.

write.py writes docs/headline.svg and the lines of the README. Everything is read from
experiments/results/*.csv. The first experiment of a row that is complete is shown.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import figures
import places
from comparison import (
    LEVEL,
    SEEDS,
    differences,
    parts,
    reference_of,
    shown,
    taken_of,
    task_of,
)
from outcome import degrees_above, linked, listed
from summary import is_highest, p_equals, searched
from tasks import FREE, TASKS, Task

from lnm_codegen.train.comparison.table import Compared, ComparisonRow, difference, holm

TASK = task_of("mnist1d_feedforward")
ROWS = {
    "LIF": "LIF",
    "PLIF": "PLIF, a learned leak",
    "LNM degree 1, channel": "LNM, one state, degree 1",
    "LNM two states, degree 1, frozen as drawn, channel": "LNM, two states, as drawn",
    "adlif": "SE-adLIF (adlif)",
    "rf": "resonate-and-fire (rf)",
    f"{FREE}, channel": "LNM, two states",
}
"""Row of the task -> label; the last one is compared with the others."""
PAGE = "docs/results.md"
MARKS = {name: TASK.published[name] for name in ("GRU", "CNN")}


def rows() -> list[ComparisonRow]:
    """Return the rows of the figure."""
    whole = {row.name: row for row in shown(TASK) if row.complete}
    return [replace(whole[name], name=label) for name, label in ROWS.items()]


def svg() -> str:
    """Return the figure."""
    return figures.svg(lambda: figures.accuracies(rows(), MARKS, "test accuracy on MNIST-1D"))


def lines() -> list[str]:
    """Return the lines of the README: the figure, the result, and how to repeat a run of it."""
    *others, ours = rows()
    best = max(others, key=lambda row: row.mean)
    tested = (difference(ours.values, row.values) for row in others)
    known = [part for part in tested if part is not None]
    corrected = holm([part.p for part in known])
    part, p = known[others.index(best)], corrected[others.index(best)]
    said = [f"{row.name}: {row.test} (n = {row.n})" for row in (*others, ours)]
    marks = ", ".join(f"{name} {mark}" for name, mark in MARKS.items())
    tried = [
        f"{part} of the figure: experiment [{name}](experiments/{name}.toml)."
        f" {searched(places.read_plan(name))}."
        for name, part in parts_of([row.plan.name for row in (*others, ours)])
    ]
    seed = ours.ended[0].seed
    return [
        f"![Test accuracy on MNIST-1D in percent: {'; '.join(said)}; published: {marks}]"
        "(docs/headline.svg)",
        "",
        "**On feed-forward MNIST-1D, the Learnable Neuron Model (LNM) with two states is the most"
        f" accurate of the {len(others) + 1} neurons in the figure.** Its test accuracy is"
        f" {ours.test} % (n = {ours.n} seeds).",
        f"The second-best row, {best.name}, is {part.mean:.1f} percentage points lower, with a 95 %"
        f" interval from {part.low:.1f} to {part.high:.1f}.",
        f"Welch's test gives {p_equals(p)} after Holm's correction for {len(known)} comparisons.",
        "± is half the width of the 95 % confidence interval of the mean over n seeds. It does not"
        " include the choice of the setting and of the test samples. Each small point of the figure"
        " is one seed.",
        *tried,
        "",
        *elsewhere(),
        "",
        "After `make demo`, this command repeats one seed of the last row. It takes about one"
        " minute on one processor core:",
        "",
        "```sh",
        f'.venv/bin/python experiments/again.py {ours.plan.name} --row "{ours.row}" --seed {seed}',
        "```",
    ]


def elsewhere() -> list[str]:
    """Return an item on each of the other tasks, those with fewer seeds by name alone."""
    said, even, few = [], [], []
    for task in TASKS:
        rows = shown(task)
        compared = differences(task, rows)
        taken, base = taken_of(task, rows, compared), reference_of(task, rows)
        if task is TASK or not rows:
            continue
        plan = task.plan if base is None else base.plan.name
        if not compared or any(row.plan.name == plan and row.seeds < SEEDS for row in rows):
            few.append(linked(task, PAGE))
        elif task.degrees:
            said.append(of_degrees(task, rows, compared))
        elif taken is None:
            few.append(linked(task, PAGE))
        elif all("two states" in row.name for row in (taken, highest(rows))):
            said += lead(task, rows, compared, taken)
        elif taken is base:
            even.append(f"{linked(task, PAGE)} (reference: {taken.name})")
        else:
            said.append(above(task, rows, compared, taken))
    if even:
        said.append(
            f"On {listed(even)}, no neuron is more accurate than the reference with p < {LEVEL:g}."
        )
    if few:
        said.append(f"No claim is made on {listed(few)}, where rows have fewer than {SEEDS} seeds.")
    return [f"* {item}" for item in said]


def of_degrees(task: Task, rows: list[ComparisonRow], compared: Compared) -> str:
    """Return sentences on a task that compares degrees of the polynomial."""
    panels = {parts(row)[0] for row in rows}
    return (
        f"{linked(task, PAGE)} compares degrees of the polynomial on {len(panels)} synthetic tasks,"
        f" by Welch's test (n = {rows[0].n}). {degrees_above(rows, compared)}"
    )


def highest(rows: list[ComparisonRow]) -> ComparisonRow:
    """Return the complete row with the highest mean."""
    return max((row for row in rows if row.complete), key=lambda row: row.mean)


def above(task: Task, rows: list[ComparisonRow], compared: Compared, taken: ComparisonRow) -> str:
    """Return sentences on the rows above the reference, and on the one with fewest parameters."""
    base = reference_of(task, rows)
    assert base is not None
    found = [rows[k] for k, (part, p) in compared.items() if p < LEVEL and part.mean > 0]
    names = listed([f"{row.name} ({row.test} %)" for row in found])
    again = " by a rank test that was fixed before the first run," * task.ranks
    return (
        f"On {linked(task, PAGE)},{again} these neurons are above {base.name} ({base.test} %,"
        f" n = {base.n}; p < {LEVEL:g} after Holm's correction): {names}."
        f"{not_apart(highest(rows), taken)}"
    )


def not_apart(best: ComparisonRow, taken: ComparisonRow) -> str:
    """Return a sentence on the best row and the row to take, if they are two."""
    if best.name == taken.name:
        return ""
    return f" {best.name} is not separated from {taken.name}, which has fewer parameters."


def lead(
    task: Task, rows: list[ComparisonRow], compared: Compared, taken: ComparisonRow
) -> list[str]:
    """Return a sentence on LNM with two states and the best other row of the same experiment."""
    others = [
        place
        for place, row in enumerate(rows)
        if row.complete and row.plan == taken.plan and "two states" not in row.name
    ]
    best = max(others, key=lambda place: rows[place].mean, default=None)
    if best is None or best not in compared:
        return []
    (part, p), row = compared[best], rows[best]
    second = max(
        (r for r in rows if r.complete and "two states" not in r.name), key=lambda r: r.mean
    )
    earlier = f" An earlier experiment gave {second.test} % for {second.name} (n = {second.n})."
    return [
        f"On {linked(task, PAGE)}, {leaders(rows, taken)}. The best other row, {row.name}, has"
        f" {row.test} % (n = {row.n}), which is {-part.mean:.1f} points below {taken.name}"
        f" ({-part.high:.1f} to {-part.low:.1f}; {p_equals(p)} after Holm's correction)."
        f"{at_the_end(row)}"
        f"{earlier * (second.plan != taken.plan and second.mean > row.mean)}"
        f"{best_published(task)}"
    ]


def at_the_end(row: ComparisonRow) -> str:
    """Return a caveat on a row whose best learning rate is the highest that was tried."""
    if not any(is_highest(row, rate) for rate in ("lr", "lr_neuron")):
        return ""
    return (
        f" The best learning rate of {row.name} is the highest that was tried, so a higher one may"
        " be better."
    )


def best_published(task: Task) -> str:
    """Return a sentence on the highest published accuracy of a task, if it has one."""
    if not task.published:
        return ""
    name, mark = max(task.published.items(), key=lambda pair: pair[1])
    how = f", {task.published_as}" * bool(task.published_as)
    return f" The highest published accuracy is {mark} % ({name}{how})."


def leaders(rows: list[ComparisonRow], taken: ComparisonRow) -> str:
    """Return a clause on the rows with two states that learn, of the experiment of `taken`."""
    two = [
        row
        for row in rows
        if row.complete and row.plan == taken.plan and "two states" in row.name
        and "frozen" not in row.name
    ]  # fmt: skip
    if len(two) == 1:
        return f"{taken.name} has the highest mean: {taken.test} % (n = {taken.n})"
    said = [f"{row.test} % ({row.name.rpartition(', ')[2]}, n = {row.n})" for row in two]
    return f"LNM with two states has the highest means: {' and '.join(said)}"


def parts_of(plans: list[str]) -> list[tuple[str, str]]:
    """Return each plan with the numbers of its rows, such as rows 1 to 3."""
    found, first = [], 1
    for name, group in itertools.groupby(plans):
        last = first + len(list(group)) - 1
        found.append((name, f"Row {first}" if first == last else f"Rows {first} to {last}"))
        first = last + 1
    return found
