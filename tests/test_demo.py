"""The demo on little data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.needs_cc
def test_demo_runs(tmp_path: Path) -> None:
    """As `make demo` does, in a process of its own; it compiles eight kernels."""
    done = subprocess.run(
        [sys.executable, "examples/demo.py", "--epochs", "1", "--seeds", "2", "--limit", "64",
         "--out", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=550, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    for line in ("1. A neuron is three equations", "LNM degree 3", "points, within chance"):
        assert line in done.stdout
    assert (tmp_path / "learned_dynamics.png").exists()
