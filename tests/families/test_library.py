"""References to neurons: built-in names, text definitions, and the user's Python code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import lnm_codegen as lnm
from lnm_codegen.families import FAMILIES
from lnm_codegen.families.library import get, load, resolve
from tests.refusals import refused

BUILT_IN = ", ".join(FAMILIES)
ACCEPTED = f"{BUILT_IN}, a .toml file, file.py:function, module:function"

CODE = """\
import lnm_codegen as lnm
from lnm_codegen import get


@lnm.family
def leaky(decay=0.5):
    v, x = lnm.state("v"), lnm.input("x")
    return lnm.Neuron(charge={v: decay * v + x}, fire=v - 1)


def plain(degree=2):
    return get("lnm", degree=degree)


def nothing():
    return None


def breaks():
    raise KeyError("no\\nkey")


def wrong():
    return lnm.get("lnm", degree=0)


ready = leaky(decay=0.25)
number = 3
_hidden = leaky
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a Python file in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("neurons.py").write_text(CODE, encoding="utf-8")
    return "neurons.py"


def test_get() -> None:
    """`get` builds a built-in family and refuses another name."""
    assert get("lnm", degree=2).params[0].size == 3
    hint = "Did you mean 'izhikevich'?"
    with refused(lnm.ModelError, "get", "no family 'izhikevitch'", BUILT_IN, hint):
        get("izhikevitch")


def test_load_is_the_public_one() -> None:
    """`lnm.load` and `library.load` are one function."""
    assert lnm.load is load


@pytest.mark.parametrize("name", FAMILIES)
def test_resolve_built_in(name: str) -> None:
    """A bare name is a built-in family."""
    assert resolve(name).name == name


def test_resolve_built_in_with_arguments() -> None:
    """Arguments go to the family."""
    assert resolve("lnm", degree=4).params[0].size == 5


def test_resolve_text(tmp_path: Path) -> None:
    """A path ending in .toml is a text definition, which takes no arguments."""
    file = tmp_path / "n.toml"
    text = 'name = "n"\ninputs = ["x"]\noutput = "v"\n[states.v]\n[charge]\nv = "v/2 + x"\n'
    file.write_text(text, encoding="utf-8")
    assert resolve(str(file)).name == "n"
    problem = "a text definition takes no arguments, given tau=2.0, degree=3"
    with refused(lnm.ModelError, file, problem, remedy="Write the values into it."):
        resolve(str(file), tau=2.0, degree=3)


def test_resolve_file(code: str) -> None:
    """A function of a file is a family, a callable or a neuron; the file is read anew each time."""
    assert resolve(f"{code}:leaky").name == "leaky"
    assert "0.25*v" in str(resolve(f"{code}:leaky", decay=0.25).charge)
    assert resolve(f"{code}:plain", degree=3).params[0].size == 4
    assert resolve(f"{code}:ready").name == "leaky"
    Path(code).write_text(CODE.replace("leaky", "lanky"), encoding="utf-8")
    assert resolve(f"{code}:lanky").name == "lanky"
    assert not Path("__pycache__").exists()


def test_resolve_file_imports_its_neighbours(code: str, tmp_path: Path) -> None:
    """A file may import from its own folder; the search path is as before afterwards."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "lnm_test_values.py").write_text("DEGREE = 2\n", encoding="utf-8")
    (folder / "n.py").write_text(
        "import lnm_codegen as lnm\nfrom lnm_test_values import DEGREE\n"
        "def f():\n    return lnm.get('lnm', degree=DEGREE)\n",
        encoding="utf-8",
    )
    before = list(sys.path)
    assert resolve(f"{folder}/n.py:f").params[0].size == 3
    assert sys.path == before
    del sys.modules["lnm_test_values"]


def test_resolve_module(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module is one that is installed, or in the current folder."""
    assert resolve("lnm_codegen.families:lif", tau=3.0).name == "lif"
    Path("lnm_test_module.py").write_text(CODE, encoding="utf-8")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert resolve("lnm_test_module:leaky").name == "leaky"
    del sys.modules["lnm_test_module"]


@pytest.mark.parametrize(
    "row",
    [
        ("liff", {}, "'liff'", "no built-in family", ACCEPTED, "Did you mean 'lif'?"),
        (
            "neurons.py",
            {},
            "'neurons.py'",
            "no built-in family",
            ACCEPTED,
            "Name the function too: neurons.py:function.",
        ),
        ("no.toml", {}, "no.toml", "no such file", "", "Give the path of a TOML file."),
        ("no.py:f", {}, "no.py", "no such file", "", "Give the path of a Python file."),
        ("dir.py:f", {}, "dir.py", "a directory", "", "Give the path of a Python file."),
        (
            "neurons.py:leakey",
            {},
            "neurons.py",
            "no 'leakey' in it",
            "leaky, plain, nothing, breaks, wrong, ready",
            "Did you mean 'leaky'?",
        ),
        (
            "empty.py:f",
            {},
            "empty.py",
            "no 'f' in it",
            "none; it has no family, function or neuron",
        ),
        (
            "neurons.py:number",
            {},
            "neurons.py:number",
            "a int",
            "a family, a function that returns an lnm.Neuron, or an lnm.Neuron",
        ),
        ("neurons.py:nothing", {}, "neurons.py:nothing", "it returned NoneType", "an lnm.Neuron"),
        ("neurons.py:breaks", {}, "neurons.py:breaks", "calling it raised KeyError: 'no\\nkey'"),
        ("neurons.py:wrong", {}, "lnm", "degree is 0", "an integer from 1 to 8"),
        (
            "neurons.py:plain",
            {"degre": 2},
            "neurons.py:plain",
            "no argument 'degre'",
            "degree",
            "Did you mean 'degree'?",
        ),
        (
            "neurons.py:leaky",
            {"dcay": 2},
            "leaky",
            "no argument 'dcay'",
            "decay",
            "Did you mean 'decay'?",
        ),
        (
            "neurons.py:ready",
            {"decay": 0.5},
            "neurons.py:ready",
            "a neuron takes no arguments, given decay=0.5",
            "",
            "Write the values into it.",
        ),
        ("raises.py:f", {}, "raises.py", "importing it raised ZeroDivisionError: a b"),
        ("silent.py:f", {}, "silent.py", "importing it raised ValueError: no message"),
        ("leaves.py:f", {}, "leaves.py", "importing it raised SystemExit: 3"),
        (
            "lacks.py:f",
            {},
            "lacks.py",
            "importing it raised ModuleNotFoundError: No module named 'lnm_no_such'",
        ),
        (
            "lnm_no_such:f",
            {},
            "lnm_no_such",
            "no module 'lnm_no_such', installed or in the current folder",
            "",
            "For a file write its path, file.py:function.",
        ),
        (
            "lnm_codegen.nope:f",
            {},
            "lnm_codegen.nope",
            "no module 'lnm_codegen.nope', installed or in the current folder",
            "",
            "For a file write its path, file.py:function.",
        ),
        (
            "lacks:f",
            {},
            "lacks",
            "importing it raised ModuleNotFoundError: No module named 'lnm_no_such'",
        ),
        (
            "a b:f",
            {},
            "'a b'",
            "neither a Python file nor a module",
            "file.py:function or module:function",
        ),
        (
            ":f",
            {},
            "''",
            "neither a Python file nor a module",
            "file.py:function or module:function",
        ),
    ],
)
def test_resolve_refused(code: str, row: tuple[Any, ...]) -> None:
    """Each row has a reference, its arguments and the parts of the error.

    The error of an exception of the user's code has its type and message.
    """
    reference, arguments, *parts = row
    Path("dir.py").mkdir()
    for name, text in (
        ("empty", ""),
        ("raises", "raise ZeroDivisionError('a\\nb')\n"),
        ("silent", "raise ValueError\n"),
        ("leaves", "raise SystemExit(3)\n"),
        ("lacks", "import lnm_no_such\n"),
    ):
        Path(f"{name}.py").write_text(text, encoding="utf-8")
    with refused(lnm.ModelError, *parts):
        resolve(reference, **arguments)


def test_the_cause_is_kept(code: str) -> None:
    """`--debug` can show the user's own traceback."""
    with pytest.raises(lnm.ModelError) as caught:
        resolve(f"{code}:breaks")
    assert isinstance(caught.value.__cause__, KeyError)


def test_syntax_error(code: str) -> None:
    """A file with a syntax error says so in one line."""
    Path(code).write_text("def f(:\n", encoding="utf-8")
    with refused(lnm.ModelError, code, "importing it raised SyntaxError: "):
        resolve(f"{code}:f")
