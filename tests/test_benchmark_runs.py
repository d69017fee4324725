"""Scripts of benchmarks/ that resume, and `make bench-gpu` on a machine without a GPU."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]
TABLE = "steps,what,ns,floor,layer\n4,lnm c,0.5,1.2,1\n"


def loaded(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a script of benchmarks/ as a module that writes its results to a folder."""
    path = ROOT / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"bench_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, f"bench_{name}", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", folder)
    return module


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with three cases, results in a folder of the test."""
    module = loaded("run", tmp_path, monkeypatch)
    cases = [
        module.Case("first", "first", (), "4", "2,3", loops=False),
        module.Case("second", "second", (), "4", "2,3"),
        module.Case("step-third", "third", (), "", "", network="conv"),
    ]
    monkeypatch.setattr(module, "CPU", cases)
    return module


def test_goes_on_where_it_stopped(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A case that fails is reported and measured again; one that has its file is not."""
    called, broken = [], {"first"}

    def measured(command: list[str], **options: Any) -> None:
        family, folder = command[4], Path(command[command.index("--out") + 1])
        called.append(family)
        if family in broken:
            raise subprocess.CalledProcessError(1, command)
        if "--network" in command:
            assert "--steps" not in command
            (folder / "network.csv").write_text("T\n4\n")
        else:
            (folder / "bench.csv").write_text(TABLE)
            (folder / "bench.png").write_text("")

    monkeypatch.setattr(script.subprocess, "run", measured)
    monkeypatch.setattr(sys, "argv", ["run.py"])
    with pytest.raises(SystemExit) as caught:
        script.main()
    assert str(caught.value) == ("not measured: first (exit status 1). Run the script again.")
    names = ["second.csv", "second.png", "step-third.csv"]
    assert sorted(p.name for p in (tmp_path / "cpu").iterdir()) == names
    broken.clear()
    script.main()
    assert called == ["first", "second", "third", "first"]
    script.main()
    assert called == ["first", "second", "third", "first"]
    assert "| second | 4 | lnm c | 0.500 | 1.20 | 1.00 |" in capsys.readouterr().out


def test_training_steps_go_on_where_they_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that failed or came too late is measured again; one with a time is not."""
    script = loaded("sew_resnet", tmp_path, monkeypatch)
    rows = [("ours, fused", "eager"), ("FlexSN", "eager"), ("ours, fused", "graph")]
    monkeypatch.setattr(script, "ROWS", tuple(rows))
    called, broken = [], {"FlexSN"}

    def measured(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        neuron, _ = row = tuple(command[-2:])
        called.append(row)
        if neuron in broken:
            return subprocess.CompletedProcess(command, 1, "", "Traceback\nRuntimeError: no\n")
        return subprocess.CompletedProcess(command, 0, "a report\n3.5 None\n", "")

    monkeypatch.setattr(script.subprocess, "run", measured)
    arguments = ["sew_resnet.py", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--slice", "0"])
    with pytest.raises(SystemExit, match="Time is up"):
        script.main()
    monkeypatch.setattr(sys, "argv", arguments)
    script.main()
    path = tmp_path / "cpu" / "sew-resnet18.csv"
    assert called == rows[:2]  # a graph needs a GPU
    assert [(r.step_ms, r.problem) for r in script.read(path)] == [
        (3.5, ""), (None, "RuntimeError: no")
    ]  # fmt: skip
    broken.clear()
    script.main()
    assert called == [*rows[:2], rows[1]]
    assert [r.step_ms for r in script.read(path)] == [3.5, 3.5]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and it would be timed")
def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, before anything is run."""
    monkeypatch.setenv("GPU_PYTHON", sys.executable)
    monkeypatch.delenv("WHEELS", raising=False)
    command = ["bash", str(ROOT / "scripts/bench_gpu.sh")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "bench_gpu: PyTorch finds no GPU. Name an interpreter that has PyTorch for it:"
        " GPU_PYTHON=...\n",
    )
