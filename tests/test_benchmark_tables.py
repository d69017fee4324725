"""Tables of docs/reference/circuit-costs.md against `benchmarks/hardware.py`."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_hardware", ROOT / "benchmarks/hardware.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_hardware", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("device", ["25k", "up5k"])
def test_the_page_has_the_tables(script: ModuleType, device: str) -> None:
    """Every row of benchmarks/results/hardware.csv, as the script prints it."""
    page = (ROOT / "docs/reference/circuit-costs.md").read_text(encoding="utf-8")
    assert f"\n\n{script.table(list(script.read().values()), device)}\n\n" in page


def test_no_clock_without_a_timed_path(script: ModuleType) -> None:
    """A dash for one cycle of an iCE40 that has multipliers in it, and for nothing else."""
    row = script.read()["lnm 2", "comb", "up5k"]
    assert script.speeds(row) == ("-", "-")
    timed = replace(row, dsp=0)
    assert script.speeds(timed)[1] != "-"
