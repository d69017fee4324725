"""Table and figure of a comparison: accuracy of neurons over seeds, and differences of means.

A row with a result for each of its seeds is complete. Only complete rows are compared, so that no
p-value rests on a row that is still being run.
"""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lnm_codegen.analysis.canvas import new_figure
from lnm_codegen.errors import ModelError
from lnm_codegen.plot.axes import INK
from lnm_codegen.train.comparison.plan import ComparisonPlan
from lnm_codegen.train.comparison.results import (
    ResultLine,
    require_same_plan,
    validation_accuracies,
)
from lnm_codegen.train.comparison.significance import (
    Compared,
    MeanDifference,
    corrected,
    difference,
    half_width,
)
from lnm_codegen.train.runs.config import TrainConfig
from lnm_codegen.validation import counted, require_known

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def mean_text(values: Sequence[float]) -> str:
    """Return the mean with one decimal, and half of its 95 % confidence interval."""
    half = half_width(values)
    return f"{statistics.mean(values):.1f}" + ("" if half is None else f" ± {half:.1f}")


@dataclass(frozen=True)
class ComparisonRow:
    """A neuron with its final runs so far.

    Attributes:
        name: Its name in the table.
        plan: The plan; the name of its row there is `row`.
        ended: Final runs that did not diverge.
        failed: Number of final runs that diverged.
    """

    name: str
    plan: ComparisonPlan = field(repr=False)
    row: str
    ended: tuple[ResultLine, ...] = field(repr=False)
    failed: int

    @property
    def seeds(self) -> int:
        """Number of seeds that the plan gives this row."""
        return len(self.plan.row(self.row).seeds)

    @property
    def values(self) -> list[float]:
        """Test accuracies in percent."""
        return [100 * r.accuracy for r in self.ended]

    @property
    def complete(self) -> bool:
        """All seeds of the row have a result, and not every run diverged."""
        return bool(self.ended) and len(self.ended) + self.failed >= self.seeds

    @property
    def parameters(self) -> int:
        """Number of parameters of the network."""
        return int(self.ended[0].values["parameters"])

    @property
    def config(self) -> TrainConfig:
        """The config of the final runs, without their seed."""
        return self.plan.row(self.row).settings[self.ended[0].setting]

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
        return mean_text(self.values)


def row_of(
    plan: ComparisonPlan, records: Sequence[ResultLine], row: str, name: str | None = None
) -> ComparisonRow:
    """Return a row of a plan with its results so far.

    Raises:
        ModelError: It has final runs of several settings, as after a longer search.
    """
    mine = [r for r in records if (r.row, r.phase) == (row, "final")]
    if len({r.setting for r in mine}) > 1:
        remedy = "Keep those that the search did not choose in another file."
        raise ModelError(f"{plan.name}: {row}", "final runs of several settings", remedy=remedy)
    ended = tuple(r for r in mine if not r.values["failed"])
    return ComparisonRow(name or row, plan, row, ended, len(mine) - len(ended))


@dataclass(frozen=True)
class ComparisonTable:
    """Results of a comparison.

    Attributes:
        plan: The plan.
        rows: Its rows, in its order.
        reference: Name of the row that the others are compared with.
        compared: Index of a complete row -> its difference from the reference in points, by Welch's
            test, and p after Holm's correction for all of them. A row without spread is left out.
        validation: Name of a row -> accuracy on held-out samples, in percent, of the setting that
            its search chose. Rows without a complete search are left out.
    """

    plan: ComparisonPlan
    rows: tuple[ComparisonRow, ...]
    reference: str
    compared: Compared
    validation: Mapping[str, float]

    @property
    def header(self) -> tuple[str, ...]:
        """Titles of the columns."""
        return (
            "neuron", "n", "test, %", f"difference from {self.reference}, points (95 % interval)",
            "Holm's p", "parameters", "setting", "held out, %",
        )  # fmt: skip

    def cells(self) -> list[tuple[str, ...]]:
        """Return the rows of the table as text."""
        return [self._cells(k, row) for k, row in enumerate(self.rows)]

    def _cells(self, index: int, row: ComparisonRow) -> tuple[str, ...]:
        held_out = self.validation.get(row.row)
        found = self.compared.get(index)
        apart = ("reference" if row.name == self.reference else "", "")
        if found is not None:
            apart = (difference_text(found[0]), p_text(found[1]))
        return (
            row.name,
            row.n,
            row.test if row.ended else "",
            *apart,
            f"{row.parameters:,}" if row.ended else "",
            row.ended[0].values["shown"] if row.ended else "",
            "" if held_out is None else f"{held_out:.1f}",
        )

    def notes(self) -> list[str]:
        """Return sentences on what the table shows and lacks."""
        said = [
            "Test accuracy: mean over n seeds ± half of its 95 % confidence interval. p: Welch's"
            " test, two-sided, corrected by Holm for the tests of this table."
        ]
        diverged = sum(row.failed for row in self.rows)
        if diverged:
            said.append(f"{counted(diverged, 'run')} diverged, and no mean includes them.")
        missing = [f"{row.name} ({row.n})" for row in self.rows if not row.complete]
        if missing:
            said.append(f"Not complete, and not compared: {'; '.join(missing)}.")
        return said

    def markdown(self) -> str:
        """Return the table and its notes in Markdown."""
        lines = [self.header, ("---",) * len(self.header), *self.cells()]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{table}\n\n" + "\n".join(self.notes()) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """Return plain data; accuracies and differences are in percent and points."""
        return {
            "plan": self.plan.name,
            "reference": self.reference,
            "rows": [self._plain(k, row) for k, row in enumerate(self.rows)],
            "notes": self.notes(),
        }

    def _plain(self, index: int, row: ComparisonRow) -> dict[str, Any]:
        apart = self.compared.get(index)
        return {
            "name": row.name, "n": len(row.ended), "diverged": row.failed, "seeds": row.seeds,
            "complete": row.complete, "mean": row.mean if row.ended else None,
            "half_width": half_width(row.values),
            "accuracies": {str(r.seed): 100 * r.accuracy for r in row.ended},
            "difference": None if apart is None else {**vars(apart[0]), "holm": apart[1]},
            "parameters": row.parameters if row.ended else None,
            "setting": row.ended[0].values["shown"] if row.ended else None,
            "validation": self.validation.get(row.row),
        }  # fmt: skip


def table_of(
    plan: ComparisonPlan, records: Sequence[ResultLine], reference: str | None = None
) -> ComparisonTable:
    """Return the table of the results so far.

    Args:
        plan: The plan.
        records: What `ResultFile.read` returns.
        reference: Row that the others are compared with; by default that of the plan.

    Raises:
        ModelError: There is no such row, or a result belongs to another plan.
    """
    base = reference_of(plan, reference)
    require_same_plan(plan, records)
    rows = tuple(row_of(plan, records, row.name) for row in plan.rows)
    first = next(row for row in rows if row.name == base)
    best = {r.name: validation_accuracies(plan, records, r.name) for r in plan.rows}
    held_out = {name: 100 * max(found.values()) for name, found in best.items() if found}
    pairs = {k: (row, first) for k, row in enumerate(rows) if row.name != base}
    known = {name: accuracy for name, accuracy in held_out.items() if accuracy >= 0}
    return ComparisonTable(plan, rows, base, differences(pairs), known)


def reference_of(plan: ComparisonPlan, reference: str | None) -> str:
    """Return the name of the row that the others are compared with; by default the plan's.

    Raises:
        ModelError: There is no such row.
    """
    base = plan.reference if reference is None else reference
    return require_known(f"compare: {plan.name}", "row", base, plan.names())


def search_table(
    plan: ComparisonPlan, records: Sequence[ResultLine]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and rows of a table with every searched setting: accuracies in percent."""
    order = {row.name: k for k, row in enumerate(plan.rows)}
    known = [r for r in records if r.row in order and r.phase == "search"]
    rows: list[tuple[str, ...]] = []
    for r in sorted(known, key=lambda r: (order[r.row], r.setting)):
        train = r.values["train_accuracy"]
        held_out = r.values["failed"] or f"{100 * r.accuracy:.1f}"
        trained = f"{100 * float(train):.1f}" if train else ""
        rows.append((r.row, r.values["shown"], held_out, trained))
    return ("neuron", "setting", "held out", "train"), rows


def differences(pairs: Mapping[int, tuple[ComparisonRow, ComparisonRow]]) -> Compared:
    """Return the difference of the two rows of each pair, with p corrected for all of them.

    Pairs with an incomplete row, or without spread, are left out.
    """
    whole = {k: pair for k, pair in pairs.items() if all(row.complete for row in pair)}
    tests = {k: difference(row.values, base.values) for k, (row, base) in whole.items()}
    return corrected({k: test for k, test in tests.items() if test is not None})


def difference_text(part: MeanDifference) -> str:
    """Return a difference with its interval."""
    return f"{part.mean:+.1f} ({part.low:+.1f} to {part.high:+.1f})"


def p_text(p: float) -> str:
    """Return a p-value with two digits, or its bound."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


# Figure of a comparison: a point for each seed, a large one for the mean of each neuron.


NO_MARKS: Mapping[str, float] = MappingProxyType({})
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "lnm_codegen", "svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
}  # fmt: skip
"""Text stays text, in a font that viewers have. The same data make the same file."""


def accuracy_figure(
    rows: Sequence[ComparisonRow],
    marks: Mapping[str, float] = NO_MARKS,
    subject: str = "test accuracy",
    colour_of: Callable[[str], str] = lambda _: INK,
) -> Figure:
    """Return the figure of some rows; those without a result are left out.

    A row whose plan has more seeds than have run has an open mark.

    Args:
        rows: Rows of a table.
        marks: Accuracies in percent by name, such as published ones, as vertical lines. Those left
            of the axis are left out.
        subject: Label of the axis.
        colour_of: Name of a row -> its colour.

    Raises:
        ModelError: No row has a result.
        ToolError: matplotlib is not installed.
    """
    rows = [row for row in rows if row.ended]
    if not rows:
        raise ModelError("accuracy_figure", "no row has a result", remedy="Make the runs first.")
    marks = {name: mark for name, mark in marks.items() if mark >= limits(rows, ())[0]}
    low, high = limits(rows, tuple(marks.values()))
    figure = new_figure("compare", 7.2, 1.0 + 0.32 * len(rows))
    axis = figure.subplots()
    draw_rows(axis, dict(enumerate(rows)), [row.name for row in rows], (low, high), colour_of)
    for place, row in enumerate(rows):
        text = f"{row.test}, n = {row.n}"
        axis.text(high + 0.02 * (high - low), -place, text, va="center", fontsize=9)
    for name, mark in marks.items():
        axis.axvline(mark, color="black", linewidth=0.8, linestyle=":")
        side = "left" if mark == max(marks.values()) else "right"
        axis.text(mark, 0.75, f" {name} {mark} ", ha=side, fontsize=8.5, va="center")
    axis.set_ylim(top=1.1)
    axis.set_xlabel(f"{subject}, % (mean ± 95 % interval)", fontsize=9)
    return figure


def draw_rows(
    axis: Axes,
    rows: Mapping[int, ComparisonRow],
    names: Sequence[str],
    ends: tuple[float, float],
    colour_of: Callable[[str], str],
) -> None:
    """Draw rows at their indices among `names`: a point for each seed, a large one for the mean."""
    for place, row in rows.items():
        colour = colour_of(row.name)
        axis.hlines(-place, *ends, color="#dddddd", linewidth=0.8, zorder=0)
        face = colour if row.complete else "white"
        axis.plot([row.mean], [-place], "o", color=colour, mfc=face, ms=10, clip_on=False)
        points = row.values
        axis.plot(points, [-place] * len(points), "o", color="black", ms=2.5, clip_on=False)
    axis.set_yticks([-k for k in range(len(names))], names, fontsize=9, parse_math=False)
    axis.set(xlim=ends, ylim=(0.5 - len(names), 0.5))
    axis.spines[["top", "right", "left"]].set_visible(False)


def limits(rows: Sequence[ComparisonRow], marks: tuple[float, ...]) -> tuple[float, float]:
    """Return the ends of an axis that has all seeds of some rows and some marks, by steps of 5."""
    values = [v for row in rows for v in row.values]
    low = 5 * math.floor((min(values) - 1) / 5)
    return low, min(100, 5 * math.ceil((max([*values, *marks]) + 1) / 5))


def figure_data(figure: Callable[[], Figure], format_: str = "svg") -> bytes:
    """Return what `figure` draws as a file of a format of matplotlib, such as svg, pdf or png."""
    import matplotlib as mpl

    metadata = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}
    file = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure().savefig(file, format=format_, dpi=200, metadata=metadata.get(format_))
    data = file.getvalue()
    if format_ != "svg":
        return data
    return b"".join(line.rstrip() + b"\n" for line in data.splitlines())
