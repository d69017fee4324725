"""Types that a user's checker sees: mypy and basedpyright on a script, and on mistakes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests" / "user_script.py"
needs_mypy = pytest.mark.skipif(
    importlib.util.find_spec("mypy") is None, reason="mypy, of the extra dev, is not installed"
)
needs_basedpyright = pytest.mark.skipif(
    importlib.util.find_spec("basedpyright") is None,
    reason="basedpyright, of the extra test, is not installed",
)
MISTAKES = {
    'lnm.nn.NeuronLayer(lnm.get("lif"), backend="cpp")': '"backend" to "NeuronLayer"',
    'lnm.nn.NeuronLayer(lnm.get("lif"), step_mode="multi")': '"step_mode" to "NeuronLayer"',
    'lnm.emit(lnm.get("lif"), "c++")': 'Argument 2 to "emit"',
    'lnm.emit(lnm.get("lif"), "c", dtype="float8")': '"dtype" to "emit"',
    'lnm.lower(lnm.get("lif"), scheme="naive")': '"scheme" to "lower"',
    'lnm.package(lnm.get("lif"), "verilog")': 'Argument 2 to "package"',
    'lnm.param("tau", per="synapse")': '"param"',
    'lnm.Fixed(16, 12, rounding="up")': '"Fixed"',
    'lnm.nn.NeuronLayer(lnm.get("lif"))("x")': 'No overload variant of "__call__"',
    'lnm.state("v") + "x"': "operand types",
    'lnm.exp("v")': "incompatible type",
    "lnm.no_such_name": "no attribute",
    "lnm.nn.no_such_name": "no attribute",
    "lnm.train.no_such_name": "no attribute",
}


def mypy(path: Path, cache: Path) -> tuple[int, str]:
    """Return the status and the output of mypy without this project's configuration."""
    options = ("--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={cache}")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(path)],
        capture_output=True,
        text=True,
        cwd=path.parent,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def scripts(folder: Path) -> tuple[Path, Path]:
    """Return a copy of the user's script, and one with a mistake in each line but the first."""
    script, wrong = folder / "script.py", folder / "wrong.py"
    script.write_text(SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")
    lines = ["import lnm_codegen as lnm", *(f"_{k} = {m}" for k, m in enumerate(MISTAKES))]
    wrong.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return script, wrong


@pytest.mark.slow
@needs_basedpyright
def test_basedpyright_accepts_a_users_script(tmp_path: Path) -> None:
    """With its recommended rules and no warning; it notices each mistake."""
    script, wrong = scripts(tmp_path)
    settings = {"extraPaths": [str(ROOT)], "pythonVersion": "3.11"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    options = ("--outputjson", "--pythonpath", sys.executable)
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", *options, str(script), str(wrong)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    assert [d for d in found if Path(d["file"]).name == script.name] == []
    lines = {d["range"]["start"]["line"] for d in found if d["severity"] == "error"}
    assert [m for k, m in enumerate(MISTAKES, start=1) if k not in lines] == []


@needs_mypy
@pytest.mark.slow
def test_mypy_accepts_a_users_script(tmp_path: Path) -> None:
    """And it notices each mistake in an option, a call, an operator or a name."""
    script, wrong = scripts(tmp_path)
    assert mypy(script, tmp_path / "cache") == (0, "Success: no issues found in 1 source file\n")
    status, output = mypy(wrong, tmp_path / "cache")
    assert status == 1
    for number, (mistake, part) in enumerate(MISTAKES.items(), start=2):
        found = [line for line in output.splitlines() if line.startswith(f"wrong.py:{number}: ")]
        assert any(part in line for line in found), (mistake, found)


@needs_mypy
@pytest.mark.slow
def test_the_results_of_a_call_have_types(tmp_path: Path) -> None:
    """A tensor, or with `return_state=True` a tensor and a dict; expressions are no Any."""
    lines = {
        "layer(x)": "Tensor",
        "layer.forward(x)": "Tensor",
        "layer(x, return_state=True)": "tuple[Tensor, dict[str, Tensor]]",
        'lnm.exp(lnm.state("v")) * 2 > 1': "Condition",
        'lnm.param("theta", size=2)[0] + 1': "Expression",
        "lnm.get": "def (name: str, **arguments: Any) -> Neuron",
    }
    script = tmp_path / "revealed.py"
    head = [
        "import torch, lnm_codegen as lnm",
        'x, layer = torch.zeros(1, 1), lnm.nn.NeuronLayer(lnm.get("lif"))',
    ]
    reveals = (f"reveal_type({code})" for code in lines)
    script.write_text("\n".join([*head, *reveals]) + "\n", encoding="utf-8")
    _, output = mypy(script, tmp_path / "cache")
    short = [
        line.split('"')[1].replace("torch._tensor.", "").replace("lnm_codegen.language.", "")
        for line in output.splitlines()
        if "Revealed type" in line
    ]
    assert len(short) == len(lines)
    for (code, expected), found in zip(lines.items(), short, strict=True):
        assert expected in found.replace("builtins.", "").replace("neuron.Neuron", "Neuron"), code


@pytest.mark.slow
def test_the_users_script_runs(tmp_path: Path) -> None:
    """It is no empty shell for the checker."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "lif tau is 0"
