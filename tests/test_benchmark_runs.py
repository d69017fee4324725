"""Scripts of benchmarks/ that resume, tables that pages have of them, and `make bench-gpu`."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts/bench_gpu.sh"
TABLE = """\
steps,what,ns,floor,layer,steady,steady_streams
4,lnm c,0.5,1.2,1,0.45,1.15
4,lnm triton,0.0071234,1.1,1,0.003,1.05
"""


def loaded(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path | None = None) -> ModuleType:
    """Return a script of benchmarks/ as a module that writes its results to a folder."""
    spec = importlib.util.spec_from_file_location(
        f"bench_{name}", ROOT / "benchmarks" / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, f"bench_{name}", module)
    spec.loader.exec_module(module)
    if folder is not None:
        monkeypatch.setattr(module, "RESULTS", folder)
    return module


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with three cases, results in a folder of the test."""
    module = loaded("run", monkeypatch, tmp_path)
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
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/sew-resnet18.csv").write_text("neuron,mode,step_ms\nours,eager,3\n")

    def measured(command: list[str], **options: Any) -> None:
        family, folder = command[4], Path(command[command.index("--out") + 1])
        called.append(family)
        assert options["timeout"] is None
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
    names = ["second.csv", "second.png", "sew-resnet18.csv", "step-third.csv"]
    assert sorted(p.name for p in (tmp_path / "cpu").iterdir()) == names
    broken.clear()
    script.main()
    assert called == ["first", "second", "third", "first"]
    script.main()
    assert called == ["first", "second", "third", "first"]
    out = capsys.readouterr().out
    assert "| second | 4 | lnm c | 0.500 | 1.20 | 1.00 | 0.450 | 1.15 |" in out
    assert "| second | 4 | lnm triton | 0.00712 | 1.10 | 1.00 | 0.003 | 1.05 |" in out
    (tmp_path / "cpu/second.csv").write_text("steps,what,ns,floor,layer\n4,lnm c,0.5,1.2,1\n")
    assert "| second | 4 | lnm c | 0.500 | 1.20 | 1.00 | | |" in script.summary(tmp_path / "cpu")


def test_nothing_runs_after_the_slice(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case is stopped at its end, and no further one begins."""
    clock, called = [0.0], []

    def measured(command: list[str], **options: Any) -> None:
        called.append(command[4])
        clock[0] += min(100, options["timeout"])
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(script.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(script.subprocess, "run", measured)
    monkeypatch.setattr(sys, "argv", ["run.py", "--slice", "150"])
    with pytest.raises(
        SystemExit, match=r"first .* 150 s\), second .* 50 s\), step-third \(no time"
    ):
        script.main()
    assert called == ["first", "second"]


def test_cases_of_a_gpu(script: ModuleType) -> None:
    """Every name is of one case; a sequence exceeds a level-2 cache of 50 MB."""
    names = [case.name for case in script.GPU]
    assert len(names) == len({*names})
    for case in script.GPU:
        assert case.network or 4 * 4 * eval(case.neurons.replace(",", "*")) > 200e6


def test_training_steps_go_on_where_they_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that failed or came too late is measured again; one with a time is not."""
    script = loaded("sew_resnet", monkeypatch, tmp_path)
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
    monkeypatch.setattr(script, "name_of", lambda device: "another card")
    script.main()
    assert [r.device for r in script.read(path)] == ["cpu", "cpu", "another card", "another card"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and it would be timed")
def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, before anything is run."""
    monkeypatch.setenv("GPU_PYTHON", sys.executable)
    monkeypatch.delenv("WHEELS", raising=False)
    done = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "bench_gpu: needs a GPU, and PyTorch finds none. Name an interpreter whose PyTorch finds"
        " one: GPU_PYTHON=...\n",
    )
    for name in ("run", "sew_resnet"):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--device", "cuda"])
        with pytest.raises(SystemExit, match=r"^--device cuda needs a GPU, and PyTorch finds none"):
            loaded(name, monkeypatch).main()


def script_in(folder: Path, python: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script with an interpreter, in a folder that has the scripts alone."""
    shutil.copytree(ROOT / "scripts", folder / "scripts", dirs_exist_ok=True)
    command = ["bash", str(folder / "scripts/bench_gpu.sh")]
    kept = {n: v for n, v in os.environ.items() if n != "PYTHONPATH"}
    given = kept | {"GPU_PYTHON": str(python)} | environment
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False)


def test_wheels_beside_a_virtual_environment(tmp_path: Path) -> None:
    """The script keeps the interpreter, adds a folder of the wheels, and names what is missing."""
    venv.create(tmp_path / "torch", with_pip=False)
    (site,) = tmp_path.glob("torch/lib/python*/site-packages")
    for name in ("torch", "pip"):
        (site / name).mkdir()
    (site / "torch/__init__.py").write_text("class cuda:\n    is_available = lambda: True\n")
    (site / "pip/__init__.py").write_text("")
    (site / "pip/__main__.py").write_text(PIP)
    done = script_in(tmp_path, tmp_path / "torch/bin/python", WHEELS=str(tmp_path))
    (said,) = done.stderr.splitlines()
    assert said.startswith("bench_gpu: packages are missing: mpmath numpy jinja2 pint ")
    assert "--no-index --no-deps" in done.stdout


PIP = """
import sys
from pathlib import Path

print(*sys.argv[1:])
found = Path(sys.argv[sys.argv.index("--target") + 1]) / "sympy-1.14.dist-info"
found.mkdir(parents=True)
(found / "METADATA").write_text("Name: sympy\\nVersion: 1.14\\n")
"""


def test_a_lost_gpu_ends_the_worker(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """After an illegal access each later test of the process would fail at once."""
    conftest = request.config.pluginmanager.get_plugin(str(ROOT / "tests/conftest.py"))
    manager = SimpleNamespace(global_and_fixture_disabled=nullcontext)
    plugins = SimpleNamespace(getplugin=lambda name: manager)
    item = SimpleNamespace(
        nodeid="tests/nn/test_gpu.py::test_it",
        config=SimpleNamespace(pluginmanager=plugins, workerinput={}),
        get_closest_marker=lambda name: name == "needs_cuda",
    )

    def lost() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def ended(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    monkeypatch.setattr(os, "_exit", ended)
    conftest.pytest_runtest_teardown(item)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(SystemExit) as caught:
        conftest.pytest_runtest_teardown(item)
    assert caught.value.code == 1
    assert "tests/nn/test_gpu.py::test_it: CUDA error: an illegal" in capsys.readouterr().err
    del item.config.workerinput
    with pytest.raises(pytest.exit.Exception, match="an illegal memory access"):
        conftest.pytest_runtest_teardown(item)


STUB = """#!/bin/sh
echo "$*" >>calls
case "$*" in
    "-m pytest"*) echo 1 failed; exit 1 ;;
    *sew_resnet*) sleep 1; echo step >benchmarks/results/cuda/sew-resnet18.csv ;;
esac
"""


def test_each_part_leaves_its_results(tmp_path: Path) -> None:
    """A stub is the interpreter. Failing tests stop nothing; the archive has what there is."""
    stub, archive = tmp_path / "python", tmp_path / "results.tar.gz"
    stub.write_text(STUB)
    stub.chmod(0o755)
    given = {"ARCHIVE": str(archive), "LIMIT": "60", "PARTS": "tests sew layers", "JOBS": "3"}
    done = script_in(tmp_path, stub, **given)
    assert done.returncode == 1, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    parts = ("-m pytest", "benchmarks/")
    pytest_, sew, layers = (line.split() for line in calls if line.startswith(parts))
    assert pytest_[:4] == ["-m", "pytest", "-vv", "-m"]
    assert pytest_[pytest_.index("-n") + 1] == "3"
    assert sew[:2] == ["benchmarks/sew_resnet.py", "--slice"]
    assert layers[:4] == ["benchmarks/run.py", "--device", "cuda", "--slice"]
    assert 60 >= int(sew[-1]) > int(layers[-1]) >= 30
    with tarfile.open(archive) as file:
        found = {Path(name).name for name in file.getnames()}
    assert found >= {"tests.txt", "machine.txt", "sew-resnet18.csv"}
    assert (tmp_path / "benchmarks/results/cuda/tests.txt").read_text() == "1 failed\n"


def test_every_test_of_a_gpu_is_run() -> None:
    """And every package that lnm_codegen requires is installed from the wheels."""
    text = SCRIPT.read_text(encoding="utf-8")
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if "mark.needs_cuda" in path.read_text(encoding="utf-8") and path != Path(__file__):
            assert path.relative_to(ROOT).as_posix() in text
    assert "tests/nn/test_convergence.py" in text  # it finds the marker by name
    needed = (ROOT / "scripts/gpu_python.sh").read_text(encoding="utf-8")
    (words,) = re.findall(r"NEEDED=\((.*)\)", needed)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    names = {re.split("[><=;~ ]", line)[0] for line in required}
    assert names - {"torch", "triton"} == {*words.split()}


def test_the_page_of_circuits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of circuits.md, latencies and intervals of the forms, and how far seeds differ.

    A dash stands for one cycle of an iCE40 that has multipliers in it, and for nothing else.
    """
    script = loaded("hardware", monkeypatch)
    page = (ROOT / "docs/evidence/circuits.md").read_text(encoding="utf-8")
    rows = script.read()
    for device in ("25k", "up5k"):
        assert f"\n\n{script.table(list(rows.values()), device)}\n\n" in page
    row = rows["lnm 2", "comb", "up5k"]
    assert script.cell(row).endswith(", -")
    assert not script.cell(replace(row, dsp=0)).endswith("-")
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
    tables = [script.chip_table(rows, data) for data in ("mnist", "mnist1d", "ecg", "fashion")]
    tables += [script.microcontroller_table(rows, data) for data in script.TESTED]
    for table in tables:
        assert f"\n\n{table}\n\n" in page
    assert {row.network for row in rows} == script.RUNS.keys()
    for row in rows:
        assert row.device == ("85k" if row.network.startswith("fashion") else "25k")
        assert row.real - row.integers <= 0.5
        assert not row.network.startswith("mnist-") or row.integers >= 96
