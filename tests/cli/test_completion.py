"""Completion of the command line by a shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lnm_codegen.cli import VERBS

ROOT = Path(__file__).parents[2]
LNM = [sys.executable, "-m", "lnm_codegen.cli"]


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        check=False,
    )


def completed(line: str) -> list[str]:
    """Return what bash completes the last word of a line to."""
    words = line.split(" ")
    done = run(LNM, _LNM_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.slow
def test_verbs_and_options_are_completed() -> None:
    """A verb is imported for its options alone; an unknown one completes to nothing."""
    assert completed("lnm ") == list(VERBS)
    assert completed("lnm tr") == ["train"]
    assert completed("lnm emit --sch") == ["--scheme"]
    assert completed("lnm nope --sch") == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_completion_is_installed(tmp_path: Path) -> None:
    """`lnm --install-completion` in bash writes a script that bash reads."""
    line = f"{' '.join(LNM)} --install-completion; exit $?"
    done = run(["bash", "-c", line], HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    script = tmp_path / ".bash_completions" / "lnm.sh"
    assert str(script) in (tmp_path / ".bashrc").read_text(encoding="utf-8")
    shown = run(["bash", "-c", f"source {script}; complete -p lnm"])
    assert shown.stdout.strip() == "complete -o default -F _lnm_completion lnm"
