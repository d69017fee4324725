"""Tables of circuits.md and integer-networks.md against the scripts that print them."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = ROOT / f"benchmarks/{name}.py"
    spec = importlib.util.spec_from_file_location(f"bench_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, f"bench_{name}", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return loaded("hardware", monkeypatch)


@pytest.mark.parametrize("device", ["25k", "up5k"])
def test_the_page_has_the_tables(script: ModuleType, device: str) -> None:
    """Every row of benchmarks/results/hardware.csv, as the script prints it."""
    page = (ROOT / "docs/evidence/circuits.md").read_text(encoding="utf-8")
    assert f"\n\n{script.table(list(script.read().values()), device)}\n\n" in page


def test_no_clock_without_a_timed_path(script: ModuleType) -> None:
    """A dash for one cycle of an iCE40 that has multipliers in it, and for nothing else."""
    row = script.read()["lnm 2", "comb", "up5k"]
    assert script.cell(row).endswith(", -")
    timed = replace(row, dsp=0)
    assert not script.cell(timed).endswith("-")


def test_the_sentences_of_the_page_hold(script: ModuleType) -> None:
    """Latencies and intervals of the forms, and how far seeds are from the median."""
    page = (ROOT / "docs/evidence/circuits.md").read_text(encoding="utf-8")
    rows = script.read()
    for (neuron, form, device), row in rows.items():
        core, seq = rows[neuron, "core", device], rows[neuron, "seq", device]
        assert row.interval == (seq.interval if form == "seq" else 1)
        offset = neuron == "lif" and "ports" in form
        core_latency = core.latency + offset
        known = {"comb": 1, "seq": seq.interval + 1, "array": core.latency + 3}
        assert row.latency == known.get(form, core_latency)
    timed = [row for row in rows.values() if script.is_timed(row)]
    apart = [max(r.fmax - r.lowest, r.highest - r.fmax) / r.fmax for r in timed]
    near = sum(one <= 0.1 for one in apart)
    assert f"In {near} of {len(timed)} timed circuits" in page
    assert f"at worst {100 * max(apart):.0f} %" in page


def test_the_page_has_the_tables_of_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row of benchmarks/results/network.csv; each is within half a point of float."""
    script = loaded("network", monkeypatch)
    page = (ROOT / "docs/evidence/integer-networks.md").read_text(encoding="utf-8")
    rows = list(script.read().values())
    tables = [script.chip_table(rows, data) for data in ("mnist", "mnist1d")]
    for table in (*tables, script.microcontroller_table(rows)):
        assert f"\n\n{table}\n\n" in page
    assert {row.network for row in rows} == script.RUNS.keys()
    assert {script.DEVICES[row.device] for row in rows} == {"ECP5-25F"}
    for row in rows:
        assert row.real - row.integers <= 0.5
        assert row.network.startswith("mnist1d") or row.integers >= 96
