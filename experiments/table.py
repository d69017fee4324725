"""Table of every row of an experiment in experiments/tables, with the seeds finished so far.

Accuracy is on the test set after the last epoch: mean over seeds, and half of its 95 % confidence
interval. p belongs to a paired two-sided t-test over the seeds that both rows have; Holm's p is
corrected for the tests of the table. Rows without a run are named below the table.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import places
from outcome import cells
from scipy.stats import ttest_rel

from lnm_codegen.train.comparison.results import best_settings
from lnm_codegen.train.comparison.significance import holm
from lnm_codegen.train.comparison.table import ComparisonRow, ComparisonTable, mean_text, table_of
from lnm_codegen.train.progress import percent

HEAD = ("neuron", "setting", "held out", "seeds", "test", "train")
END = ("rates", "outside", "parameters", "s / epoch")


def table(name: str, against: str) -> list[str]:
    """Return the lines of the table of final results."""
    found = table_of(places.read_plan(name), places.records(name), against)
    run = [row for row in found.rows if row.ended or row.failed]
    if not run:
        return [f"No row of {name} has been run."]
    base = next(row for row in found.rows if row.name == against)
    head = (*HEAD, f"p, Holm's p against {against}", *END)
    said = corrected([paired(row, base) for row in run])
    lines = [line(row, found.validation.get(row.name), p) for row, p in zip(run, said, strict=True)]
    missing = [row.name for row in found.rows if row not in run]
    named = ["", f"Not run: {'; '.join(missing)}."] if missing else []
    return [cells(head), cells(["---"] * len(head)), *lines, *picked(found), *named]


def picked(found: ComparisonTable) -> list[str]:
    """Return a line with the best row of each family, among the complete searches."""
    ready, words = best_settings(found.plan, places.records(found.plan.name)), []
    for kind in dict.fromkeys(r.name.split()[0].rstrip(",") for r in found.plan.rows):
        rows = [r for r in found.plan.rows if r.name.split()[0].rstrip(",") == kind]
        whole = [r for r in rows if len(r.settings) > 1 and r.name in ready]
        if len(rows) > 1 and whole:
            best = max(whole, key=lambda row: found.validation.get(row.name, 0.0)).name
            words.append(f"{kind}: {best}{'' if whole == rows else ' (so far)'}")
    return ["", f"Chosen on held-out samples. {'; '.join(words)}."] if words else []


def line(row: ComparisonRow, best: float | None, p: str) -> str:
    """Return one line of the table."""
    shown = "" if best is None else f"{best:.1f}"
    failed = f", {row.failed} failed" if row.failed else ""
    if not row.ended:
        return f"| {row.name} | | {shown} | n = 0{failed} | | | | | | | |"
    rates, outside = (
        zip(*(map(float, r.values[word].split()) for r in row.ended), strict=True)
        for word in ("rates", "outside")
    )
    seconds = statistics.median(float(r.values["seconds_per_epoch"]) for r in row.ended)
    return cells(
        (
            row.name,
            row.ended[0].values["shown"],
            shown,
            f"{len(row.ended)}{failed}",
            row.test,
            mean_text([100 * float(r.values["train_accuracy"]) for r in row.ended]),
            p,
            " ".join(f"{statistics.mean(r):.3f}" for r in rates),
            " ".join(percent(statistics.mean(o)) for o in outside),
            str(row.parameters),
            f"{seconds:.2f}",
        )
    )


def paired(row: ComparisonRow, base: ComparisonRow) -> tuple[float, float] | None:
    """Return p and the mean difference in points over the seeds of both.

    Without a spread of the differences, as two seeds may have, there is no test.
    """
    mine, others = ({r.seed: r.accuracy for r in one.ended} for one in (row, base))
    pairs = [(mine[seed], others[seed]) for seed in mine if seed in others]
    if len(pairs) < 2 or row.name == base.name:
        return None
    if math.isclose(statistics.pstdev(x - y for x, y in pairs), 0, abs_tol=1e-9):
        return None
    a, b = zip(*pairs, strict=True)
    return float(ttest_rel(a, b).pvalue), 100 * (statistics.mean(a) - statistics.mean(b))


def corrected(tests: Sequence[tuple[float, float] | None]) -> list[str]:
    """Return p, Holm's p and the difference of each test; nothing where there is none."""
    places_of = [k for k, test in enumerate(tests) if test is not None and not math.isnan(test[0])]
    known = [test for k in places_of if (test := tests[k]) is not None]
    said = [""] * len(tests)
    for k, (p, by), mended in zip(places_of, known, holm([p for p, _ in known]), strict=True):
        said[k] = f"{p:.2g}, {mended:.2g} ({by:+.1f})"
    return said
