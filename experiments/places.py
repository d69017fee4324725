"""Places of the experiments: a plan, results/<plan>.csv, and runs/<plan>/ (not committed)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from lnm_codegen.files import parse_toml
from lnm_codegen.train.comparison.plan import ComparisonPlan, plan_of
from lnm_codegen.train.comparison.queue import ComparisonRuns, runs_of
from lnm_codegen.train.comparison.results import ResultFile, ResultLine

FOLDER = Path(__file__).parent
RESULTS, RUNS = FOLDER / "results", FOLDER / "runs"


def read_plan(name: str) -> ComparisonPlan:
    """Return the plan of `<name>.toml` in this folder."""
    path = FOLDER / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise SystemExit(f"experiments: no plan {name!r}. Accepted: {known}.")
    return _plan(path, path.read_text(encoding="utf-8"))


@lru_cache
def _plan(path: Path, text: str) -> ComparisonPlan:
    return plan_of(parse_toml(text, str(path)), path.stem, path.name)


def runs(name: str, data_dir: Path | None = None) -> ComparisonRuns:
    """Return the runs of a plan."""
    return runs_of(read_plan(name), RUNS / name, RESULTS / f"{name}.csv", data_dir=data_dir)


def records(name: str) -> list[ResultLine]:
    """Return the results of a plan so far."""
    return ResultFile(RESULTS / f"{name}.csv").read()
