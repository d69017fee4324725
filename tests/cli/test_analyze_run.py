"""`lnm analyze RUN`: it says what it took, writes whole files, and refuses in one line."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
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
from lnm_codegen.cli import run as command
from lnm_codegen.families import FAMILIES
from lnm_codegen.insight.energy.resnet19 import resnet19_overhead
from lnm_codegen.insight.layer import CLASSES, FLAT, INTEGRATOR, MOST_EPOCHS, PROVEN_ROWS
from lnm_codegen.train import TrainConfig, load, run
from tests.refusals import assert_line

SMALL = TrainConfig(
    arguments={"degree": 3}, network_arguments={"channels": (2, 3)}, epochs=1, batch=16, limit=32,
    backend="torch", threads=1,
)  # fmt: skip
Call = Callable[..., tuple[int, str, str]]
KINDS = (
    f"{', '.join(FAMILIES)}; a .toml file, file.py:function, module:function; a folder that lnm"
    " train wrote"
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("runs")
    data = load("digits", limit=32)
    run(SMALL, base / "lnm3", data=data)
    lif = replace(SMALL, family="lif", arguments={"decay_input": False})
    run(lif, base / "lif", data=data)
    run(replace(SMALL, family="plif", arguments={"per": "channel"}), base / "rates", data=data)
    wide = replace(lif, network_arguments={"channels": (2, 4)})
    run(wide, base / "wide", data=data)
    run(replace(lif, limit=16), base / "few")
    return base


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], runs: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(runs)

    def call_(*arguments: object) -> tuple[int, str, str]:
        status = command(["analyze", *map(str, arguments)])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return call_


def test_the_text_says_what_was_taken(call: Call, runs: Path) -> None:
    """A folder is a run; the page is written into it; it lists the energies with the baseline's."""
    status, out, err = call("lnm3", "--baseline", "./lif", "--samples", "8")
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
    text = (runs / "lnm3" / "analysis.html").read_text()
    assert over.replace("'", "&#x27;") in text
    assert text.endswith("</html>\n")


def test_json_has_all_numbers_and_writes_nothing(call: Call, runs: Path, tmp_path: Path) -> None:
    before = sorted((runs / "wide").iterdir())
    status, out, _ = call("wide", "--json", "--baseline", "wide")
    assert status == 0
    found = json.loads(out, parse_constant=lambda word: pytest.fail(word))
    assert sorted((runs / "wide").iterdir()) == before
    assert found["files"] == []
    first = found["layers"][0]
    assert first["dynamics"][0]["class"] == "leaky"
    assert first["dynamics"][0]["fixed_points"] == [{"v": 0.0, "slope": 0.5, "kind": "stable"}]
    assert len(first["curve"]["h"][0]) == len(first["curve"]["v"])
    assert sum(first["seen"]["charged"]["counts"]) == 32 * 4 * 2 * 64
    assert len(first["seen"]["firing_rates"]) == 2 * 64
    assert first["certificate"]["certified"] == first["certificate"]["rows"] == 1
    assert first["response"]["steps"] == 256
    assert found["energy"]["pj"]["fp32"]["total"] > 0
    assert found["overhead"]["network"]["fp32"] == {"total": 0, "neuron": 0, "rates": 0}
    figure, page = tmp_path / "grid.png", tmp_path / "page.html"
    status, out, _ = call("wide", "--json", "--figure", figure, "--html", page, "--samples", 4)
    assert json.loads(out)["files"] == [str(page), str(figure)]
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_family_of_the_name_of_a_folder_is_the_family(call: Call) -> None:
    status, out, err = call("lif")
    assert status == 0
    assert out.startswith("neuron lif: x in [-1, 1]\n")
    assert err == "note: lif is the family; give ./lif for the folder.\n"
    assert call("./lif", "--samples", 2)[1].startswith("run lif: ConvNet of lif on digits\n")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("lnm3", "--x", "1"), ("analyze: --x applies", "lnm3 is a training run", "--x.")),
        (("lnm3", "--degree", "2"), ("analyze: --degree applies to a family", "lnm3", "Omit")),
        (("lnm3", "--rounding", "bogus"), ("analyze: --rounding applies to a family", "Omit")),
        (("lnm3", "--scheme", "bogus"), ("analyze: --scheme applies to a family", "Omit")),
        (("plif", "--samples", "4"), ("analyze: --samples applies", "plif is a family", "Omit")),
        (("lnm3", "--samples", "0"), ("analyze: --samples is 0", "an integer >= 1")),
        (("lnm3", "--html", "page.txt"), ("analyze: --html is 'page.txt'", ".html")),
        (("lnm3", "--html", "none/page.html", "--samples", "2"),
         ("analyze: cannot write none/page.html: No such file or directory", "with --html.")),
        (("lnm3", "--baseline", "wide", "--samples", "2"),
         ("analyze: network_arguments is {'channels': (2, 3)} in lnm3 and {'channels': (2, 4)} in",
          "wide", "neuron alone")),
        (("lnm3", "--baseline", "few", "--samples", "2"),
         ("analyze: limit is 32 in lnm3 and 16 in few", "neuron alone")),
        (("none/lnm3",), ("analyze: ", "'none/lnm3'", KINDS)),
        (("lmn",), ("analyze: ", "'lmn'", KINDS, "'lnm'?")),
        ((".",), ("run: .", "config.json", "lnm train")),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    call: Call, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert_line(err, *parts)


def files_of(folder: Path) -> dict[Path, bytes]:
    """Return every file below a folder, hidden ones too."""
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("verb", ["analyze", "report"])
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
)  # fmt: skip
def test_damaged_runs_are_refused_in_a_line(
    verb: str, name: str, content: bytes | None, problem: str, runs: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A damaged file of the run or of its baseline; no page is written."""
    bad = tmp_path / "bad"
    shutil.copytree(runs / "wide", bad)
    (bad / "analysis.html").unlink(missing_ok=True)
    (bad / name).unlink() if content is None else (bad / name).write_bytes(content)
    before = files_of(tmp_path)
    page = ["--html", str(tmp_path / "page.html")]
    pairs = [[str(bad), "--baseline", str(runs / "wide")]]
    pairs += [[str(runs / "wide"), "--baseline", str(bad)]] if verb == "report" else []
    for pair in pairs:
        assert command([verb, *pair, *page]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert_line(shown.err, f"run: {bad}", problem)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("verb", ["analyze", "report"])
@pytest.mark.parametrize(
    ("option", "place", "problem"),
    [
        ("--html", "none/page.html", "No such file or directory"),
        ("--html", "folder.html", "Is a directory"),
        ("--html", "file/page.html", "Not a directory"),
        ("--html", "page.txt", "a file that ends in .html"),
        ("--figure", "none/grid.png", "No such file or directory"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_written_are_refused_before_the_work(
    verb: str, option: str, place: str, problem: str, runs: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The page of the run is not written either."""
    if (verb, option) == ("report", "--figure"):
        return
    for name in ("insight.analyze_run", "deploy.mismatch.measure_mismatch"):
        monkeypatch.setattr(f"lnm_codegen.{name}", lambda *_: pytest.fail("the work began"))
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("")
    (runs / "wide" / "analysis.html").unlink(missing_ok=True)
    before = files_of(runs) | files_of(tmp_path)
    pair = [str(runs / "wide"), "--baseline", str(runs / "wide")]
    assert command([verb, *pair, option, str(tmp_path / place)]) == 2
    assert_line(capsys.readouterr().err, f"{verb}: ", place, problem)
    assert files_of(runs) | files_of(tmp_path) == before


def test_the_python_of_the_page_runs(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/understanding.md, on three small runs."""
    page = Path(__file__).parents[2] / "docs" / "understanding.md"
    code = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
    (tmp_path / "runs").symlink_to(runs)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(page), "exec"), {"__name__": "page"})


def test_the_page_says_what_the_code_does() -> None:
    """Thresholds and derived percentages in docs/understanding.md are those of the code."""
    text = " ".join((Path(__file__).parents[2] / "docs" / "understanding.md").read_text().split())
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
    text = (Path(__file__).parents[2] / "docs" / "evidence" / "learned.md").read_text()
    for degree in (2, 3):
        cells = (f"{resnet19_overhead(r, degree).total:+.1f} %" for r in (0.10, 0.15, 0.20))
        assert f"| degree {degree} | {' | '.join(cells)} |" in text
