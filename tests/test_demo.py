"""The demos on little data, each in a process of its own."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "examples/demo.py", *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}, text=True,
        capture_output=True, timeout=550, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.needs_cc
def test_demo_runs(tmp_path: Path) -> None:
    """As `make demo` does: three networks, a figure, kernels and circuit."""
    pytest.importorskip("mnist1d")
    done = run("--epochs", "1", "--limit", "300", "--out", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    for line in ("MNIST-1D", "LNM, two states", "96.5", "(10 seeds)", "GRU", "icarus", "lint"):
        assert line in done.stdout
    assert (tmp_path / "learned_dynamics.png").exists()


@pytest.mark.slow
@pytest.mark.needs_cc
def test_demo_of_digits(tmp_path: Path) -> None:
    """Polynomials of one state; it compiles eight kernels."""
    arguments = ["--epochs", "1", "--seeds", "2", "--limit", "64", "--out", str(tmp_path)]
    done = run("--data", "digits", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    for line in ("1. A neuron is three equations", "LNM degree 3", "points, within chance"):
        assert line in done.stdout
    assert (tmp_path / "learned_dynamics.png").exists()


def test_committed_results_are_shown() -> None:
    """The column beside this run's accuracies, from the file of results."""
    path = str(ROOT / "examples" / "demo.py")
    demo = runpy.run_path(path)
    assert {name: demo["committed"](name)[-10:] for name in demo["COMMITTED"]} == dict.fromkeys(
        demo["COMMITTED"], "(10 seeds)"
    )


def test_an_unknown_option() -> None:
    """One line, before PyTorch is loaded."""
    done = run("--epoch", "0")
    assert done.returncode == 2
    assert "--epochs: give 1 or more" in done.stderr
