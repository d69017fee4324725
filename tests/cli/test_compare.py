"""`lnm compare`: options, printed table, files, and mistakes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lnm_codegen.train import read_plan
from lnm_codegen.train.comparison.results import ResultFile
from tests.cli.conftest import Call
from tests.train.test_comparison import SHORT, in_order

ROOT = Path(__file__).parents[2]
ROWS = (
    SHORT
    + """
[[row]]
family = "lif"
[[row]]
family = "plif"
settings = [{ lr = 1e-2 }, { lr = 2e-2 }]
"""
)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a plan in the present folder. The test process keeps its allocator."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lnm_codegen.nn.keep_pages", lambda: None)
    (tmp_path / "two.toml").write_text(ROWS)
    return tmp_path / "two.toml"


def test_a_comparison(plan: Path, call: Call) -> None:
    """Table, JSON, files and figure; a second call trains nothing."""
    status, out, _ = call("compare", "two.toml", "--phase", "search")
    assert status == 0
    assert "Not complete, and not compared: lif (0 of 2); plif (0 of 2)." in out
    assert not Path("runs/two/figure.svg").exists()  # no row has a result
    status, out, err = call("compare", "two.toml", "--figure", "f.pdf")
    assert status == 0
    assert out.startswith("neuron  n  test, %")
    assert re.search(r"^plif +2 +\d+\.\d ± \d+\.\d ", out, re.M)
    assert out.endswith("\n".join(("figure.svg", "f.pdf", "")))
    begun = [line.rpartition(":")[0] for line in err.splitlines()]
    assert begun[0] == "lif, final, seed 0"
    assert re.fullmatch(r"plif, final \(lr = 0.0[12]\), seed 0", begun[1])
    before = in_order(Path("runs/two/results.csv"))
    status, out, err = call("compare", "two.toml", "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert found == json.loads(Path("runs/two/table.json").read_text()) | {"files": found["files"]}
    assert [row["n"] for row in found["rows"]] == [2, 2]
    assert in_order(Path("runs/two/results.csv")) == before
    assert Path("runs/two/table.md").read_text().startswith("| neuron | n | test, % |")
    assert Path("f.pdf").read_bytes().startswith(b"%PDF")
    reference = call("compare", "two.toml", "--table", "--reference", "plif")
    assert "difference from plif" in reference[1]
    assert len(call("compare", "two.toml", "--search")[1].splitlines()) == 3
    shown = json.loads(call("compare", "two.toml", "--search", "--json")[1])
    assert [line["setting"] for line in shown] == ["lr = 0.01", "lr = 0.02"]


@pytest.mark.slow
def test_processes_give_equal_results(plan: Path, call: Call) -> None:
    assert call("compare", "two.toml", "--jobs", "2", "--out", "a")[0] == 0
    assert call("compare", "two.toml", "--out", "b", "--results", "b.csv")[0] == 0
    assert in_order(Path("a/results.csv")) == in_order(Path("b.csv"))
    assert Path("a/table.json").read_bytes() == Path("b/table.json").read_bytes()
    assert not Path("b/results.csv").exists()


def test_mistakes(plan: Path, refuses: Callable[[str], None]) -> None:
    refuses("""
compare
    nope.toml >> nope.toml: no such file
    two.toml --jobs 0 >> compare: jobs is 0
    two.toml --row liff >> compare: >> no row 'liff'. Accepted: lif, plif. Did you mean 'lif'?
    two.toml --seed 7 >> compare: >> seed 7 is not in the plan. Accepted: 0, 1.
    two.toml --phase test >> compare: phase is 'test'
    two.toml --reference x >> compare: two: no row 'x'
    two.toml --figure f.gif >> compare: --figure is 'f.gif'
""")


def test_ctrl_c(plan: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ResultFile, "add", stopped)
    stop = "stopped. The same command goes on.\n"
    assert call("compare", "two.toml") == (130, "", stop)


def test_the_plans_of_the_page_are_read(tmp_path: Path) -> None:
    text = (ROOT / "docs/howto/compare.md").read_text(encoding="utf-8")
    plans = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    names = []
    for content in plans:
        (tmp_path / "plan.toml").write_text(content)
        names.append([row.name for row in read_plan(tmp_path / "plan.toml").rows])
    assert names == [
        ["lif", "plif"],
        ["LIF, tau = 2.0", "LIF, tau = 4.0", "LNM of two states"],
        ["mine", "lif"],
        ["fast", "slow"],
    ]
