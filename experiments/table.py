"""Table of an experiment as Markdown, with the seeds finished so far.

    python experiments/table.py mnist1d_feedforward [--against "LIF, hard"] [--search]
    python experiments/table.py --write docs/results.md     rewrite every table of the page

Accuracy is on the test set after the last epoch: mean and sample standard deviation over seeds. p
belongs to a paired two-sided t-test over the seeds that both rows have. It is not corrected for the
number of rows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from scipy.stats import ttest_rel

from lnm_codegen.train.progress import percent

sys.path.insert(0, str(Path(__file__).parent))
import results
from page import filled as page_of
from plan import Plan, Row, read_plan
from results import Result


def main() -> None:
    """Read the arguments and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", nargs="?")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="rewrite the tables of a page")
    parser.add_argument("--against", help="row of the paired test; by default the best LIF")
    parser.add_argument("--search", action="store_true", help="print the searched settings instead")
    options = parser.parse_args()
    if options.write is not None:
        page = options.write.read_text(encoding="utf-8")
        options.write.write_text(filled(page), encoding="utf-8")
        return
    if options.plan is None:
        parser.error("no experiment named")
    plan, found = read_plan(options.plan), results.read(options.plan)
    print(
        "\n".join(searched(plan, found) if options.search else table(plan, found, options.against))
    )


def filled(page: str) -> str:
    """Return the text of a page with its present tables."""

    def one(name: str, against: str | None) -> list[str]:
        return table(read_plan(name), results.read(name), against)

    return page_of(page, "table", one)


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
        f"| neuron | setting | held out | seeds | test | train | p against {against} | rates |"
        " outside | parameters | s / epoch |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in plan.rows:
        mine = finals(found, row.name)
        best = validation(plan, row, found)
        lines.append(line(row.name, best, list(mine.values()), paired(mine, base)))
    return lines + picked(plan, found)


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
            spread([r.accuracy for r in whole]),
            spread([float(r.values["train_accuracy"]) for r in whole]),
            p,
            " ".join(f"{statistics.mean(r):.3f}" for r in rates),
            " ".join(percent(statistics.mean(o)) for o in outside),
            first["parameters"],
            f"{statistics.median(float(r.values['seconds_per_epoch']) for r in whole):.2f} |",
        ]
    )


def spread(values: list[float]) -> str:
    """Return mean and sample standard deviation in percent."""
    mean = f"{100 * statistics.mean(values):.1f}"
    return mean if len(values) < 2 else f"{mean} ± {100 * statistics.stdev(values):.1f}"


def paired(mine: dict[int, Result], base: dict[int, Result]) -> str:
    """Return p and the mean difference over the seeds of both."""
    seeds = [s for s in mine if s in base and mine[s].accuracy >= 0 and base[s].accuracy >= 0]
    if len(seeds) < 2 or mine == base:
        return ""
    a, b = ([r[s].accuracy for s in seeds] for r in (mine, base))
    difference = 100 * (statistics.mean(a) - statistics.mean(b))
    return f"{ttest_rel(a, b).pvalue:.2g} ({difference:+.1f})"


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
