"""Requirements of the package: the core runs without the packages of its extras."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from lnm_codegen.options import VERSION
from tests.refusals import assert_line

ROOT = Path(__file__).parents[1]
EXTRA = "Run pip install 'lnm_codegen[train]'."
WITHOUT = "import sys\nsys.modules.update(dict.fromkeys({blocked!r}))\n"
COMMAND = "from lnm_codegen.cli import run\nsys.exit(run({arguments!r}))\n"


def python(
    code: str, *, without: tuple[str, ...] = ("matplotlib", "sklearn"), cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run code in another process, where importing the packages `without` fails."""
    code = WITHOUT.format(blocked=without) + code
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        check=False,
    )


def lnm(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return python(COMMAND.format(arguments=arguments), cwd=cwd)


def quick_start() -> str:
    """Return the first Python block of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"## Quick start\n\n```python\n(.*?)```", text, re.DOTALL)
    assert found
    return found.group(1)


@pytest.mark.needs_cc
@pytest.mark.slow
def test_the_quick_start_needs_no_extra() -> None:
    """The README's code runs without matplotlib and scikit-learn, and on a CPU without Triton."""
    done = python(quick_start(), without=("matplotlib", "sklearn", "triton"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "fma(" in done.stdout


def test_a_block_of_imports_blocks() -> None:
    """The packages are installed here, and the preamble hides them."""
    for name in ("matplotlib", "sklearn"):
        done = python(f"import {name}")
        assert done.returncode == 1
        assert "ModuleNotFoundError" in done.stderr


@pytest.mark.needs_cc
@pytest.mark.slow
def test_training_on_ones_own_data_needs_no_extra() -> None:
    """`lnm.train` is imported and trains; only a run folder has a figure."""
    code = """
import torch, lnm_codegen as lnm
from lnm_codegen.train.data.dataset import memory_split
x, y = torch.rand(32, 8, 4), torch.arange(32) % 2
split = memory_split(x, y)
data = lnm.train.Dataset("own", split, split, 2, "sequence", (8, 4))
config = lnm.train.TrainConfig(family="lif", network="feedforward", epochs=1)
print(len(lnm.train.run(config, data=data).epochs))
"""
    done = python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


@pytest.mark.parametrize(
    ("arguments", "place", "package"),
    [
        pytest.param(
            ("train", "--epochs", "1", "--out", "run"),
            "train",
            "matplotlib",
            marks=pytest.mark.slow,
        ),
        (("analyze", "lif", "--figure", "lif.png"), "analyze", "matplotlib"),
        pytest.param(
            ("bench", "lif", "--steps", "2", "--neurons", "1,1", "--out", "b"),
            "bench",
            "matplotlib",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_a_verb_needs(
    tmp_path: Path, arguments: tuple[str, ...], place: str, package: str
) -> None:
    """One line with the command that installs it, and no file is written."""
    done = lnm(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    *_, line = done.stderr.splitlines()
    assert len(done.stderr.splitlines()) == 1
    assert_line(line, f"{place}: {package} is not installed", EXTRA)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_digits_needs_scikit_learn() -> None:
    """The set comes from that package."""
    code = "from lnm_codegen.train.data import load\nload('digits')"
    done = python(code)
    assert done.stderr.splitlines()[-1] == (
        f"lnm_codegen.errors.ToolError: data: digits: scikit-learn is not installed. {EXTRA}"
    )


def project() -> dict[str, object]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: dict[str, object] = tomllib.load(file)["project"]
    return found


# ---- wheel and sdist ----


def shell(*command: object, cwd: Path, **environment: str) -> str:
    """Run a command without this checkout on the path; return what it prints."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(source: Path, target: str, folder: Path) -> Path:
    """Build a wheel or an sdist of a source tree."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the package, is not installed")
    backend = "from hatchling.cli import hatchling; import sys; sys.exit(hatchling())"
    path = os.pathsep.join(sys.path)
    command = (sys.executable, "-c", backend, "build", "-t", target, "-d", folder)
    shell(*command, cwd=source, PYTHONPATH=path)
    (made,) = folder.glob({"wheel": "*.whl", "sdist": "*.tar.gz"}[target])
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return built(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """Templates and `py.typed` are in both."""
    archive = built(ROOT, "sdist", tmp_path / "dist")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    (source,) = tmp_path.glob("lnm_codegen-*")
    again = built(source, "wheel", tmp_path / "again")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert set(zipfile.ZipFile(again).namelist()) == names
    files = {f"lnm_codegen/{p.relative_to(ROOT / 'lnm_codegen')}" for p in templates()}
    assert {"lnm_codegen/py.typed", *files} <= names
    assert not [name for name in names if "tests" in name or "__pycache__" in name]


def templates() -> list[Path]:
    return [p for p in (ROOT / "lnm_codegen/templates").rglob("*") if p.is_file()]


@pytest.mark.slow
@pytest.mark.needs_cc
def test_the_wheel_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    """The quick start, `lnm check lnm` and the metadata; dependencies are those installed here."""
    venv.create(tmp_path / "env", with_pip=False)
    bin_ = tmp_path / "env" / "bin"
    own = shell(
        bin_ / "python",
        "-c",
        "import sysconfig; print(sysconfig.get_path('purelib'))",
        cwd=tmp_path,
    ).strip()
    here = [p for p in sys.path if p.endswith("site-packages")]
    install = (sys.executable, "-m", "pip", "--python", bin_ / "python", "install", "--no-deps")
    shell(*install, "--no-index", "--quiet", wheel, cwd=tmp_path)
    Path(own, "dependencies.pth").write_text("\n".join(here) + "\n", encoding="utf-8")

    def run(*words: object) -> str:
        return shell(*words, cwd=tmp_path, LNM_CACHE=str(tmp_path / "cache"))

    found = run(bin_ / "python", "-c", "import lnm_codegen; print(lnm_codegen.__file__)")
    assert found.strip() == f"{own}/lnm_codegen/__init__.py"
    (tmp_path / "quick_start.py").write_text(quick_start(), encoding="utf-8")
    assert "fma(" in run(bin_ / "python", "quick_start.py")
    assert run(bin_ / "lnm", "check", "lnm").startswith("lnm: 37 steps")
    assert run(bin_ / "lnm", "--version") == f"lnm_codegen {VERSION}\n"
    metadata = "from importlib.metadata import requires; print(*requires('lnm_codegen'), sep='\\n')"
    core = [r for r in run(bin_ / "python", "-c", metadata).splitlines() if "extra ==" not in r]
    required = project()["dependencies"]
    assert len(core) == len(required)
    assert {re.match(r"[\w-]+", r).group() for r in core} == {
        re.match(r"[\w-]+", r).group() for r in required
    }
