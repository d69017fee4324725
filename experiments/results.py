"""Table of results, results/<plan>.csv: a row per run, added under a lock when the run ends."""

from __future__ import annotations

import csv
import io
import os
import platform
import statistics
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from lnm_codegen import __version__

from plan import Job, Plan  # isort: skip

FOLDER = Path(__file__).parent / "results"
COLUMNS = (
    "row", "phase", "setting", "seed", "shown", "accuracy", "train_accuracy", "loss", "rates",
    "outside", "parameters", "epochs", "seconds_per_epoch", "failed", "lnm_codegen", "torch",
    "machine", "date", "commit",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """A line of the table."""

    row: str
    phase: str
    setting: int
    seed: int
    accuracy: float
    values: dict[str, str]

    @property
    def key(self) -> tuple[str, str, int, int]:
        """The key of its job."""
        return self.row, self.phase, self.setting, self.seed


def read(plan: str) -> list[Result]:
    """Return the results of a plan so far."""
    path = FOLDER / f"{plan}.csv"
    if not path.is_file():
        return []
    text, _, _ = path.read_text(encoding="utf-8").rpartition("\n")  # no unfinished line
    return [
        Result(
            r["row"], r["phase"], int(r["setting"]), int(r["seed"]),
            float(r["accuracy"] or "nan"), r,
        )
        for r in csv.DictReader(io.StringIO(text, newline=""))
    ]  # fmt: skip


def add(job: Job, shown: str, values: dict[str, Any]) -> None:
    """Append the result of a job."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{job.plan}.csv"
    line = {
        "row": job.row, "phase": job.phase, "setting": job.setting, "seed": job.seed,
        "shown": shown, "epochs": job.config.epochs, **values, "lnm_codegen": __version__,
        "torch": torch.__version__, "machine": machine(), "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }  # fmt: skip
    with FileLock(f"{path}.lock"):
        new = not path.is_file()
        if not new:
            _mend(path)
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", restval="")
            if new:
                writer.writeheader()
            writer.writerow(line)
            file.flush()
            os.fsync(file.fileno())


def _mend(path: Path) -> None:
    """Remove an unfinished last line."""
    data = path.read_bytes()
    if not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)


def best_settings(plan: Plan, results: list[Result]) -> dict[str, int]:
    """Return the setting of each row whose search is complete: the best on the held-out set.

    Raises:
        ValueError: A result belongs to another setting than the plan has at its number.
    """
    shown = {row.name: row.shown for row in plan.rows}
    for r in results:
        planned = dict(enumerate(shown.get(r.row, ()))).get(r.setting, r.values["shown"])
        if r.values["shown"] != planned:
            raise ValueError(
                f"{plan.name}: {r.row}, setting {r.setting}: the result is of"
                f" {r.values['shown']!r}, the plan has {planned!r}. Keep the results of a plan that"
                " has changed under another name."
            )
    found: dict[str, int] = {}
    for row in plan.rows:
        if len(row.settings) == 1:
            found[row.name] = 0
            continue
        means = validation_accuracies(plan, results, row.name)
        if len(means) == len(row.settings):
            found[row.name] = max(means, key=lambda k: (means[k], -k))
    return found


def validation_accuracies(plan: Plan, results: list[Result], row: str) -> dict[int, float]:
    """Return the mean validation accuracy of each setting that all search seeds ran.

    A setting with a failed run has -1.
    """
    mine: dict[int, list[float]] = {}
    for r in results:
        if r.row == row and r.phase == "search" and r.seed in plan.search_seeds:
            mine.setdefault(r.setting, []).append(r.accuracy)
    means = {
        k: sum(v) / len(v) for k, v in sorted(mine.items()) if len(v) == len(plan.search_seeds)
    }
    return {k: mean if mean == mean else -1.0 for k, mean in means.items()}


def place(accuracy: float, others: list[float]) -> str:
    """Return an accuracy in percent, with the place that it has among others."""
    said = f"{100 * accuracy:.1f}"
    if not others:
        return f"{said}; the table has no seed of this row"
    low, high, mean = (100 * f(others) for f in (min, max, statistics.mean))
    one = len(others) == 1
    spread = "" if one else f", standard deviation {100 * statistics.stdev(others):.1f}"
    below = sum(other < accuracy for other in others)
    return (
        f"{said}; the table has n = {len(others)}, {low:.1f} to {high:.1f},"
        f" mean {mean:.1f}{spread}; {below} of them are below"
    )


def machine() -> str:
    """Return the names of the processor and of the GPU, if there is one."""
    name = platform.processor() or platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        names = (line for line in text.splitlines() if line.startswith("model name"))
        name = next(names).split(":", 1)[1].strip()
    except (OSError, StopIteration):
        pass
    return f"{name}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else name


def commit() -> str:
    """Return the commit, with -dirty if files differ from it; nothing without git."""
    paths = ("--", ".", ":!experiments/results", ":!docs")
    try:
        head, changed = (
            subprocess.run(
                ["git", *words], cwd=FOLDER.parent.parent, capture_output=True, text=True
            )
            for words in (
                ("rev-parse", "--short", "HEAD"),
                ("status", "--porcelain", "-uno", *paths),
            )
        )
    except OSError:
        return ""
    return head.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")
