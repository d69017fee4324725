"""`lnm analyze RUN`: it says what it took, writes whole files, and refuses in one line."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lnm_codegen.analysis.linear.modes import (
    BOUND,
    MOST_STEPS,
    POLE_CLASSES,
    RUN_STEPS,
    SLOW,
    STARTS,
)
from lnm_codegen.analysis.linear.modes import FLAT as ALTERNATING
from lnm_codegen.insight.energy.resnet19 import resnet19_overhead
from lnm_codegen.insight.layer import CLASSES, FLAT, INTEGRATOR, MOST_EPOCHS, PROVEN_ROWS
from tests.cli.conftest import Call, files_below
from tests.refusals import assert_line

PAGE = Path(__file__).parents[2] / "docs" / "understanding.md"


@pytest.fixture(autouse=True)
def folder(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(runs)
    return runs


def test_the_text_says_what_was_taken(call: Call) -> None:
    """A folder is a run; the page is written into it; it lists the energies with the baseline's."""
    status, out, err = call("analyze", "lnm3", "--baseline", "./lif", "--samples", "8")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "run lnm3: ConvNet of lnm on digits"
    assert "% of 8 test samples, 95 % interval " in lines[2]
    assert lines[lines.index("Layer 2: blocks.1.neuron") + 1].startswith("theta = (")
    assert any("classes of behaviour in 2" in x or "One class of behaviour" in x for x in lines)
    (over,) = (line for line in lines if line.startswith("Over lif: "))
    assert "% by the neurons' updates and" in over
    assert any(line.startswith("In ResNet-19's layer sizes at these rates") for line in lines)
    assert lines[-1] == "lnm3/analysis.html"
    text = Path("lnm3/analysis.html").read_text()
    assert over.replace("'", "&#x27;") in text
    assert text.endswith("</html>\n")


def test_json_has_all_numbers_and_writes_nothing(call: Call, tmp_path: Path) -> None:
    """But for a page and a figure with names of their own."""
    figure, page, before = tmp_path / "grid.png", tmp_path / "page.html", files_below(Path("wide"))
    places = ("--figure", figure, "--html", page)
    status, out, _ = call("analyze", "wide", "--json", "--baseline", "wide", *places)
    assert status == 0
    found = json.loads(out, parse_constant=lambda word: pytest.fail(word))
    assert files_below(Path("wide")) == before
    first = found["layers"][0]
    assert first["dynamics"][0]["class"] == "leaky"
    assert first["dynamics"][0]["fixed_points"] == [{"v": 0.0, "slope": 0.5, "kind": "stable"}]
    assert len(first["curve"]["h"][0]) == len(first["curve"]["v"])
    assert sum(first["seen"]["charged"]["counts"]) == 32 * 2 * 2 * 64
    assert len(first["seen"]["firing_rates"]) == 2 * 64
    assert first["certificate"]["certified"] == first["certificate"]["rows"] == 1
    assert first["response"]["steps"] == 256
    assert found["energy"]["pj"]["fp32"]["total"] > 0
    assert found["overhead"]["network"]["fp32"] == {"total": 0, "neuron": 0, "rates": 0}
    assert found["files"] == [str(page), str(figure)]
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_family_of_the_name_of_a_folder_is_the_family(call: Call) -> None:
    status, out, err = call("analyze", "lif")
    assert status == 0
    assert out.startswith("neuron lif: x in [-1, 1]\n")
    assert err == "note: lif is the family; give ./lif for the folder.\n"
    assert "./lif is a training run" in call("analyze", "./lif", "--x", 2)[2]


def test_mistakes(runs: Path, tmp_path: Path, refuses: Callable[[str], None]) -> None:
    for name in ("lnm3", "wide", "few"):
        (tmp_path / name).symlink_to(runs / name)
    refuses("""
analyze
    lnm3 --x 1 >> analyze: --x applies >> lnm3 is a training run >> --x.
    lnm3 --degree 2 >> analyze: --degree applies to a family >> lnm3 >> Omit
    lnm3 --rounding bogus >> analyze: --rounding applies to a family >> Omit
    lnm3 --scheme bogus >> analyze: --scheme applies to a family >> Omit
    plif --samples 4 >> analyze: --samples applies >> plif is a family >> Omit
    lnm3 --html page.txt >> analyze: --html is 'page.txt' >> .html
    lnm3 --baseline wide --samples 2 >> analyze: network_arguments is {'channels': (2, 3), >> in
        lnm3 and {'channels': (2, 4), >> wide >> neuron alone
    lnm3 --baseline few --samples 2 >> analyze: limit is 32 in lnm3 and 16 in few >> neuron alone
    none/lnm3 >> analyze: >> 'none/lnm3' >> if, lif, >> a .toml file, file.py:function,
        module:function; a folder that lnm train wrote
    lmn >> analyze: >> 'lmn' >> a .toml file, >> 'lnm'?
    . >> run: . >> config.json >> lnm train
""")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("config.json", b"{", "not JSON"),
        ("config.json", b"\xff", "not UTF-8"),
        ("config.json", None, "config.json"),
        ("model.safetensors", b"\x00" * 20, "model.safetensors"),
        ("model.safetensors", b"", "model.safetensors"),
        ("model.safetensors", None, "no complete epoch"),
    ],
)
def test_damaged_runs_are_refused_in_a_line(
    name: str, content: bytes | None, problem: str, tmp_path: Path, call: Call
) -> None:
    """A damaged file of the run or of its baseline; no page is written."""
    bad = tmp_path / "bad"
    shutil.copytree("wide", bad, ignore=shutil.ignore_patterns("*.html"))
    (bad / name).unlink() if content is None else (bad / name).write_bytes(content)
    before = files_below(tmp_path)
    for words in (("analyze", bad, "--baseline", "wide"), ("report", bad, "--baseline", "wide"),
                  ("report", "wide", "--baseline", bad)):  # fmt: skip
        status, out, err = call(*words, "--html", tmp_path / "page.html")
        assert (status, out) == (2, "")
        assert_line(err, f"run: {bad}", problem)
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("verb", ["analyze", "report"])
def test_files_that_cannot_be_written_are_refused_before_the_work(
    verb: str, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of the run is not written either."""
    for name in ("insight.analyze_run", "deploy.mismatch.measure_mismatch"):
        monkeypatch.setattr(f"lnm_codegen.{name}", lambda *_: pytest.fail("the work began"))
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("")
    Path("wide/analysis.html").unlink(missing_ok=True)
    before = files_below(Path()) | files_below(tmp_path)
    for option, place, problem in (
        ("--html", "none/page.html", "No such file or directory"),
        ("--html", "folder.html", "Is a directory"),
        ("--html", "file/page.html", "Not a directory"),
        ("--html", "page.txt", "a file that ends in .html"),
        ("--figure", "none/grid.png", "No such file or directory"),
    ):
        if (verb, option) != ("report", "--figure"):
            status, _, err = call(verb, "wide", "--baseline", "wide", option, tmp_path / place)
            assert status == 2
            assert_line(err, f"{verb}: ", place, problem)
    assert files_below(Path()) | files_below(tmp_path) == before


@pytest.mark.slow
def test_the_python_of_the_page_runs() -> None:
    """docs/understanding.md, on small runs."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    code = code.replace('f"runs/{name}"', "name")
    exec(compile(code, str(PAGE), "exec"), {"__name__": "page"})


def test_the_page_says_what_the_code_does() -> None:
    """Thresholds and derived percentages in docs/understanding.md are those of the code."""
    text = " ".join(PAGE.read_text().split())
    assert f"<= {INTEGRATOR:g} everywhere" in text
    assert f"f' < \N{MINUS SIGN}{FLAT:g} at" in text
    assert all(f"| {word} |" in text for word in (*CLASSES, *POLE_CLASSES))
    minus = "\N{MINUS SIGN}"
    for line in (
        f"| integrator | a₁ real, \\|a₁ {minus} 1\\| <= {SLOW:g} |",
        f"| resonator | a₁ complex, r₁ >= {1 - SLOW:g} |",
        f"| oscillator | a₁ complex, r₁ < {1 - SLOW:g} |",
        f"| alternating | a₁ real, a₁ < {minus}{ALTERNATING:g} |",
        f"Free runs are {RUN_STEPS} steps of the whole neuron without input, from {STARTS} states",
        f"further than {BOUND:g} scales",
        f"near 1 needs more steps, at most {MOST_STEPS}, or",
        f"(at most {MOST_EPOCHS} epochs, evenly spaced)",
        f"At most {PROVEN_ROWS} rows are examined for several states",
    ):
        assert line in text
    text = (PAGE.parent / "evidence" / "learned.md").read_text()
    for degree in (2, 3):
        cells = (f"{resnet19_overhead(r, degree).total:+.1f} %" for r in (0.10, 0.15, 0.20))
        assert f"| degree {degree} | {' | '.join(cells)} |" in text
