"""Everything in docs/ and experiments/tables/ that depends on experiments/results/*.csv.

python experiments/write.py        rewrite tables, sentences and figures after new results
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import dynamics
import energy
import figures
import headline
import outcome
import summary
import table
from comparison import shown
from page import filled
from tasks import TASKS, Task

from lnm_codegen.train.comparison.table import ComparisonRow

ROOT = Path(__file__).parent.parent
KINDS: dict[str, Callable[[str, str | None], list[str]]] = {
    "table": lambda name, against: table.table(name, against),
    "summary": lambda name, _: summary.table(name),
    "limits": lambda *_: summary.limits(),
    "experiments": lambda *_: summary.experiments(),
    "variants": lambda name, _: summary.variants(name),
    "rows": lambda name, _: summary.long_table(name),
    "energy": lambda name, _: energy.table(name),
    "dynamics": lambda name, _: dynamics.table(name),
    "overview": lambda *_: outcome.overview(),
    "calls": lambda *_: outcome.calls(),
}
"""Kind of a generated part -> its lines, by the name of a plan or task and the row `against`."""


def main() -> None:
    """Write every file whose text has changed."""
    for path, text in files().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))


def figure(task: Task, rows: Sequence[ComparisonRow]) -> str:
    """Return the figure of a task."""
    subject, named = "test accuracy", summary.labelled(rows)
    if task.degrees:
        return figures.svg(lambda: figures.panels(named, subject))
    return figures.svg(lambda: figures.accuracies(named, task.published, subject))


def pages() -> list[Path]:
    """Return the pages that have generated parts."""
    return [ROOT / "docs/evidence/results.md", *sorted(ROOT.glob("experiments/tables/*"))]


def files() -> dict[Path, str]:
    """Return the present text of each page and figure by its path."""
    found = {ROOT / "docs/headline.svg": headline.svg()}
    for task in TASKS:
        if rows := shown(task):
            found[ROOT / "docs" / summary.figure_file(task)] = figure(task, rows)
    for path in pages():
        text = path.read_text(encoding="utf-8")
        for kind, lines in KINDS.items():
            text = filled(text, kind, lines)
        found[path] = text
    return found


if __name__ == "__main__":
    main()
