"""Results of a comparison: a CSV file with a line for each run, added when the run ends."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from lnm_codegen import __version__
from lnm_codegen.errors import ModelError
from lnm_codegen.files import text_of, unwritable, write_whole
from lnm_codegen.train.comparison.plan import ComparisonPlan, PlannedRun
from lnm_codegen.train.runs.config import TrainConfig

COLUMNS = (
    "row", "phase", "setting", "seed", "shown", "accuracy", "train_accuracy", "loss", "rates",
    "outside", "parameters", "epochs", "seconds_per_epoch", "failed", "lnm_codegen", "torch",
    "machine", "date", "commit", "config",
)  # fmt: skip
_RESTART = "Restore the plan, or give other files with --results and --out."


@dataclass(frozen=True)
class ResultLine:
    """A line of the file.

    Attributes:
        row: Name of the row of the plan.
        phase: "search" or "final".
        setting: Index into the settings of the row.
        seed: Seed of the run.
        accuracy: Test accuracy from 0 to 1; of a search, that on held-out samples; NaN if the run
            diverged.
        values: Every column as text. `failed` is the reason of a run that diverged, else empty.
    """

    row: str
    phase: str
    setting: int
    seed: int
    accuracy: float
    values: Mapping[str, str]

    @property
    def key(self) -> tuple[str, str, int, int]:
        """The key of its planned run."""
        return self.row, self.phase, self.setting, self.seed


@dataclass(frozen=True)
class ResultFile:
    """The CSV file of the results of one plan. A line is added under a lock."""

    path: Path

    def read(self) -> list[ResultLine]:
        """Return the results so far. An unfinished last line does not count.

        Raises:
            ModelError: The file cannot be read, or has other columns.
        """
        return [
            ResultLine(
                line["row"], line["phase"], int(line["setting"]), int(line["seed"]),
                float(line["accuracy"] or "nan"), line,
            )
            for line in self._lines()
        ]  # fmt: skip

    def add(self, run: PlannedRun, shown: str, values: Mapping[str, Any]) -> None:
        """Append the result of a run.

        Raises:
            LnmError: The file cannot be written.
        """
        line = {
            "row": run.row, "phase": run.phase, "setting": run.setting, "seed": run.seed,
            "shown": shown, "epochs": run.config.epochs, **values, "lnm_codegen": __version__,
            "torch": torch.__version__, "machine": _machine(), "commit": self._commit(),
            "date": datetime.now(UTC).date().isoformat(), "config": run.recorded,
        }  # fmt: skip
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock"):
                self._mend()
                with self.path.open("a", newline="", encoding="utf-8") as file:
                    _writer(file).writerow(line)
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise unwritable("compare", self.path, error) from None

    def _lines(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        where = f"compare: {self.path}"
        text, _, _ = text_of(self.path, where).rpartition("\n")
        lines = csv.DictReader(io.StringIO(text, newline=""))
        if text and set(lines.fieldnames or ()) not in (set(COLUMNS), set(COLUMNS[:-1])):
            problem = "not results of lnm compare: it has other columns"
            raise ModelError(where, problem, remedy="Name another file with --results.")
        return list(lines)

    def _mend(self) -> None:
        """Make a file of whole lines with the header of this version, unless it is one."""
        head = ",".join(COLUMNS) + "\n"
        data = self.path.read_bytes() if self.path.exists() else b""
        if not data.startswith(head.encode()):
            text = io.StringIO(newline="")
            writer = _writer(text)
            writer.writeheader()
            writer.writerows(self._lines())
            write_whole(self.path, text.getvalue())
        elif not data.endswith(b"\n"):
            with self.path.open("r+b") as file:
                file.truncate(data.rfind(b"\n") + 1)

    def _commit(self) -> str:
        """Return the commit of the files here, with -dirty if they differ; "" without git."""
        others = ("--", ".", f":(exclude){self.path.absolute().parent}")
        words = (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "-uno", *others))
        try:
            head, changed = (
                subprocess.run(["git", *w], capture_output=True, text=True) for w in words
            )
        except OSError:
            return ""
        return head.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")


def _writer(file: Any) -> csv.DictWriter[str]:
    return csv.DictWriter(file, COLUMNS, lineterminator="\n", restval="")


def _machine() -> str:
    """Return the names of the processor and of the GPU, if there is one."""
    name = platform.processor() or platform.machine()
    with suppress(OSError, StopIteration):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        names = (line for line in text.splitlines() if line.startswith("model name"))
        name = next(names).split(":", 1)[1].strip()
    return f"{name}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else name


def require_same_plan(plan: ComparisonPlan, records: Sequence[ResultLine]) -> None:
    """Refuse results of another plan of this name: other settings, options, or data.

    Lines of versions before 0.3 have no options; their settings are compared. Results of rows that
    the plan lacks do not count.

    Raises:
        ModelError: A result belongs to another plan.
    """
    rows = {row.name: row for row in plan.rows}
    options: dict[tuple[str, str, int], str] = {}
    for r in records:
        if r.row not in rows:
            continue
        row, where = rows[r.row], f"{plan.name}: {r.row}, setting {r.setting}"
        planned = row.shown[r.setting] if r.setting < len(row.shown) else None
        if r.values["shown"] != planned:
            has = "has no such setting" if planned is None else f"has {planned!r}"
            problem = f"the result is of {r.values['shown']!r}, the plan {has}"
            raise ModelError(where, problem, remedy=_RESTART)
        if recorded := r.values.get("config"):
            if r.key[:3] not in options:
                options[r.key[:3]] = plan.run_of(*r.key).recorded
            if recorded != options[r.key[:3]]:
                problem = _difference(recorded, options[r.key[:3]])
                raise ModelError(where, problem, remedy=_RESTART)


def _difference(recorded: str, planned: str) -> str:
    """Return the first option that differs as a clause."""
    default = TrainConfig().as_json()
    have, want = ({**default, **json.loads(text)} for text in (recorded, planned))
    for key in want:
        if have.get(key) != json.loads(json.dumps(want[key])):
            return f"the result is of {key} = {have.get(key)!r}, the plan has {want[key]!r}"
    return "the result is of other options than the plan has"


def best_settings(plan: ComparisonPlan, records: Sequence[ResultLine]) -> dict[str, int]:
    """Return the setting of each row whose search is complete: the best on held-out samples.

    Of equal ones it is the first.

    Raises:
        ModelError: A result belongs to another plan.
    """
    require_same_plan(plan, records)
    found: dict[str, int] = {}
    for row in plan.rows:
        means = validation_accuracies(plan, records, row.name)
        if len(row.settings) == 1:
            found[row.name] = 0
        elif len(means) == len(row.settings):
            found[row.name] = max(means, key=lambda k: (means[k], -k))
    return found


def validation_accuracies(
    plan: ComparisonPlan, records: Sequence[ResultLine], row: str
) -> dict[int, float]:
    """Return the mean accuracy on held-out samples of each setting that all search seeds ran.

    A setting with a run that diverged has -1.
    """
    mine: dict[int, list[float]] = {}
    for r in records:
        if r.row == row and r.phase == "search" and r.seed in plan.search_seeds:
            mine.setdefault(r.setting, []).append(r.accuracy)
    whole = {k: v for k, v in sorted(mine.items()) if len(v) == len(plan.search_seeds)}
    means = {k: sum(v) / len(v) for k, v in whole.items()}
    return {k: mean if mean == mean else -1.0 for k, mean in means.items()}
