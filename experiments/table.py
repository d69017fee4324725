"""Table of an experiment as Markdown, with the seeds finished so far.

    python experiments/table.py mnist1d_feedforward [--against "LIF, hard"] [--search]

Accuracy is on the test set after the last epoch: mean over seeds, and half of its 95 % confidence
interval. p belongs to a paired two-sided t-test over the seeds that both rows have; Holm's p is
corrected for the tests of the table. Rows without a run are named below the table. write.py
rewrites the tables of pages.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from pathlib import Path

from scipy.stats import ttest_rel

from lnm_codegen.train.progress import percent

sys.path.insert(0, str(Path(__file__).parent))
import results
from claims import holm, mean_text
from plan import Plan, Row, read_plan
from results import Result


def main() -> None:
    """Read the arguments and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan")
    parser.add_argument("--against", help="row of the paired test; by default the best LIF")
    parser.add_argument("--search", action="store_true", help="print the searched settings instead")
    options = parser.parse_args()
    plan, found = read_plan(options.plan), results.read(options.plan)
    print(
        "\n".join(searched(plan, found) if options.search else table(plan, found, options.against))
    )


def finals(found: list[Result], row: str) -> dict[int, Result]:
    """Return the final results of a row by seed."""
    return {r.seed: r for r in found if r.row == row and r.phase == "final"}


def best_of(plan: Plan, found: list[Result], rows: list[Row]) -> str | None:
    """Return the row with the best search result; without a search, the first row."""
    if not rows:
        return None
    return max(rows, key=lambda row: validation(plan, row, found) or 0.0).name


def validation(plan: Plan, row: Row, found: list[Result]) -> float | None:
    """Return the best validation accuracy of a row in its search."""
    best = max(results.validation_accuracies(plan, found, row.name).values(), default=-1.0)
    return None if best < 0 else best


def table(plan: Plan, found: list[Result], against: str | None) -> list[str]:
    """Return the lines of the table of final results."""
    against = against or best_of(plan, found, [r for r in plan.rows if r.name.startswith("LIF")])
    base = finals(found, against) if against else {}
    lines = [
        f"| neuron | setting | held out | seeds | test | train | p, Holm's p against {against} |"
        " rates | outside | parameters | s / epoch |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    run = [row for row in plan.rows if finals(found, row.name)]
    if not run:
        return [f"No row of {plan.name} has been run."]
    tests = [paired(finals(found, row.name), base) for row in run]
    for row, said in zip(run, corrected(tests), strict=True):
        best = validation(plan, row, found)
        lines.append(line(row.name, best, list(finals(found, row.name).values()), said))
    missing = [row.name for row in plan.rows if row not in run]
    named = ["", f"Not run: {'; '.join(missing)}."] if missing else []
    return lines + picked(plan, found) + named


def picked(plan: Plan, found: list[Result]) -> list[str]:
    """Return a line with the best row of each family, among the complete searches."""
    ready, words = results.best_settings(plan, found), []
    for kind in dict.fromkeys(r.name.split()[0].rstrip(",") for r in plan.rows):
        rows = [r for r in plan.rows if r.name.split()[0].rstrip(",") == kind]
        whole = [r for r in rows if len(r.settings) > 1 and r.name in ready]
        if len(rows) > 1 and whole:
            best = best_of(plan, found, whole)
            words.append(f"{kind}: {best}{'' if whole == rows else ' (so far)'}")
    return ["", f"Chosen on held-out samples. {'; '.join(words)}."] if words else []


def line(name: str, best: float | None, mine: list[Result], p: str) -> str:
    """Return one line of the table."""
    whole = [r for r in mine if not r.values["failed"]]
    shown = "" if best is None else f"{100 * best:.1f}"
    failed = f", {len(mine) - len(whole)} failed" if len(whole) < len(mine) else ""
    if not whole:
        return f"| {name} | | {shown} | n = 0{failed} | | | | | | | |"
    first = whole[0].values
    rates = zip(*([float(x) for x in r.values["rates"].split()] for r in whole), strict=True)
    outside = zip(*([float(x) for x in r.values["outside"].split()] for r in whole), strict=True)
    return " | ".join(
        [
            f"| {name}",
            first["shown"],
            shown,
            f"{len(whole)}{failed}",
            mean_text([100 * r.accuracy for r in whole]),
            mean_text([100 * float(r.values["train_accuracy"]) for r in whole]),
            p,
            " ".join(f"{statistics.mean(r):.3f}" for r in rates),
            " ".join(percent(statistics.mean(o)) for o in outside),
            first["parameters"],
            f"{statistics.median(float(r.values['seconds_per_epoch']) for r in whole):.2f} |",
        ]
    )


def paired(mine: dict[int, Result], base: dict[int, Result]) -> tuple[float, float] | None:
    """Return p and the mean difference in points over the seeds of both.

    Without a spread of the differences, as two seeds may have, there is no test.
    """
    seeds = [s for s in mine if s in base and mine[s].accuracy >= 0 and base[s].accuracy >= 0]
    if len(seeds) < 2 or mine == base:
        return None
    a, b = ([r[s].accuracy for s in seeds] for r in (mine, base))
    if math.isclose(statistics.pstdev(x - y for x, y in zip(a, b, strict=True)), 0, abs_tol=1e-9):
        return None
    return float(ttest_rel(a, b).pvalue), 100 * (statistics.mean(a) - statistics.mean(b))


def corrected(tests: list[tuple[float, float] | None]) -> list[str]:
    """Return p, Holm's p and the difference of each test; nothing where there is none."""
    places = [k for k, test in enumerate(tests) if test is not None and not math.isnan(test[0])]
    known = [test for k in places if (test := tests[k]) is not None]
    said = [""] * len(tests)
    for k, (p, by), mended in zip(places, known, holm([p for p, _ in known]), strict=True):
        said[k] = f"{p:.2g}, {mended:.2g} ({by:+.1f})"
    return said


def searched(plan: Plan, found: list[Result]) -> list[str]:
    """Return every searched setting with its result."""
    lines = ["| neuron | setting | held out | train |", "| --- | --- | --- | --- |"]
    order = {row.name: k for k, row in enumerate(plan.rows)}
    known = [r for r in found if r.row in order and r.phase == "search"]
    for r in sorted(known, key=lambda r: (order[r.row], r.setting)):
        came = r.values["failed"] or f"{100 * r.accuracy:.1f}"
        train = r.values["train_accuracy"]
        train = f"{100 * float(train):.1f}" if train else ""
        lines.append(f"| {r.row} | {r.values['shown']} | {came} | {train} |")
    return lines


if __name__ == "__main__":
    main()
