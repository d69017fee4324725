"""References to neurons: built-in names, text definitions, and the user's Python code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.errors import shortened
from lnm_codegen.families import FAMILIES
from lnm_codegen.families.library import get, is_missing, load, resolve
from tests.refusals import assert_refused, refused

FORMS = ("a .toml file", "file.py:function", "module:function")
ACCEPTED = shortened((*FAMILIES, *FORMS))

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


def test_built_in_families() -> None:
    """A bare name is a family, whose arguments it takes."""
    assert lnm.load is load
    for name in FAMILIES:
        assert resolve(name).name == name
    assert get("lnm", degree=2).params[0].size == 3
    assert resolve("lnm", degree=4).params[0].size == 5
    hint = "Did you mean 'izhikevich'?"
    with refused(lnm.ModelError, "get", "no family 'izhikevitch'", shortened(FAMILIES), hint):
        get("izhikevitch")


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


def test_a_missing_file_or_module(code: str, tmp_path: Path) -> None:
    """A missing function, or code that fails, is no missing file."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "own.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "__init__.py").write_text("1 / 0", encoding="utf-8")
    for name in ("lif", "lifs", "neurons.py:none", "parts.own:leaky", "broken.own:leaky"):
        assert not is_missing(name), name
    for name in ("own.toml", "own.py:own", "no_module:own", "parts.none:own", "no_module.own:own"):
        assert is_missing(name), name


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


def test_the_search_path_keeps_its_order(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder may be in it already, or a file may add it; that entry was once removed."""
    here = str(Path.cwd())
    monkeypatch.setattr(sys, "path", [here, *sys.path])
    before = list(sys.path)
    resolve(f"{code}:leaky")
    assert sys.path == before
    Path(code).write_text(f"import sys\nsys.path.insert(0, {here!r})\n{CODE}", encoding="utf-8")
    resolve(f"{code}:leaky")
    assert sys.path == [here, *before]


def test_resolve_module(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module is one that is installed, or in the current folder."""
    assert resolve("lnm_codegen.families:lif", tau=3.0).name == "lif"
    Path("lnm_test_module.py").write_text(CODE, encoding="utf-8")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert resolve("lnm_test_module:leaky").name == "leaky"
    del sys.modules["lnm_test_module"]


MISUSES = """\
import math

import torch

import lnm_codegen as lnm

WEIGHT = torch.nn.Parameter(torch.tensor(2.5))
v, x = lnm.state("v"), lnm.input("x")


def helper(v):
    return math.exp(v)


@lnm.family
def branch():
    v, x = lnm.state("v"), lnm.input("x")
    if 2 * v > 0:
        x = x + 1
    return lnm.Neuron(charge={v: v + x}, fire=v - 1)


def plain():
    return lnm.Neuron(charge={v: helper(v) + x}, fire=v - 1)


def compound():
    return lnm.Neuron(charge={v: helper(2 * v) + x}, fire=v - 1)


@lnm.family
def frozen():
    v, x = lnm.state("v"), lnm.input("x")
    return lnm.Neuron(
        charge={v: v + (v - x) / WEIGHT},
        fire=v - 1,
    )


def unknown():
    return lnm.get("lif").with_outputs(y=v)
"""

RETURNS = "a family, a function that returns an lnm.Neuron, or an lnm.Neuron"
NO_PLACE = "file.py:function or module:function"
BY_PATH = "For a file write its path, file.py:function."
TOML, PYTHON = "Give the path of a TOML file.", "Give the path of a Python file."
REFUSALS = r"""
?
    "liff" >> 'liff': no built-in family >> ACCEPTED >> Did you mean 'lif'?
    "neurons.py" >> 'neurons.py': no built-in family >> ACCEPTED
        >> Name the function too: neurons.py:function.
    "no.toml" >> no.toml: no such file >> >> TOML
    "no.py:f" >> no.py: no such file >> >> PYTHON
    "dir.py:f" >> dir.py: a directory >> >> PYTHON
    "neurons.py:leakey" >> neurons.py: no 'leakey' in it
        >> leaky, plain, nothing, breaks, wrong, ready >> Did you mean 'leaky'?
    "empty.py:f" >> empty.py: no 'f' in it >> none; it has no family, function or neuron
    "neurons.py:number" >> neurons.py:number: a int >> RETURNS
    "neurons.py:nothing" >> neurons.py:nothing: it returned NoneType >> an lnm.Neuron
    "neurons.py:breaks" >> neurons.py:20: calling it raised KeyError: 'no\nkey'
    "neurons.py:wrong" >> neurons.py:24: lnm: degree is 0 >> an integer from 1 to 8
    "neurons.py:plain", degre=2 >> neurons.py:plain: no argument 'degre' >> degree
        >> Did you mean 'degree'?
    "neurons.py:leaky", dcay=2 >> leaky: no argument 'dcay' >> decay >> Did you mean 'decay'?
    "neurons.py:ready", decay=0.5 >> neurons.py:ready: a neuron takes no arguments, given decay=0.5
        >> >> Write the values into it.
    "raises.py:f" >> raises.py:1: importing it raised ZeroDivisionError: a b
    "silent.py:f" >> silent.py:1: importing it raised ValueError: no message
    "leaves.py:f" >> leaves.py:1: importing it raised SystemExit: 3
    "syntax.py:f" >> syntax.py:1: importing it raised SyntaxError
    "lacks.py:f" >> lacks.py:1: importing it raised ModuleNotFoundError: No module named
        'lnm_no_such'
    "lacks:f" >> lacks: importing it raised ModuleNotFoundError: No module named 'lnm_no_such'
    "lnm_no_such:f" >> lnm_no_such: no module 'lnm_no_such', installed or in the current folder >>
        >> BY_PATH
    "lnm_codegen.nope:f" >> lnm_codegen.nope: no module 'lnm_codegen.nope', installed or in the
        current folder >> >> BY_PATH
    "a b:f" >> 'a b': neither a Python file nor a module >> NO_PLACE
    ":f" >> '': neither a Python file nor a module >> NO_PLACE
    "values.py:y" >> values.py:3: v + 1 > 0: no truth value
    "misuses.py:branch" >> misuses.py:18: branch: 2*v > 0: no truth value
    "misuses.py:plain" >> misuses.py:12: v: not a number
    "misuses.py:compound" >> misuses.py:12: an expression: not a number
    "misuses.py:frozen" >> misuses.py:35: frozen: expression: Parameter of shape () would become
    "misuses.py:unknown" >> misuses.py:41: lif.with_outputs[y]: 'v' is a symbol of another neuron
"""


def test_refusals(code: str) -> None:
    """An exception of the user's code has its type, message and line; its cause is kept."""
    Path("dir.py").mkdir()
    for name, text in (
        ("empty", ""),
        ("raises", "raise ZeroDivisionError('a\\nb')\n"),
        ("silent", "raise ValueError\n"),
        ("leaves", "raise SystemExit(3)\n"),
        ("lacks", "import lnm_no_such\n"),
        ("syntax", "def f(:\n"),
        ("values", "import lnm_codegen as lnm\nv = lnm.state('v')\ny = 1 if v + 1 > 0 else 0\n"),
        ("misuses", MISUSES),
    ):
        Path(f"{name}.py").write_text(text, encoding="utf-8")
    assert_refused(REFUSALS, globals(), run=lambda call: eval(f"resolve({call})"))
    with pytest.raises(lnm.ModelError) as caught:
        resolve(f"{code}:breaks")
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("name", "numbers", "options"),
    [
        ("glif", {"tau": 0.5, "v_threshold": 0.75}, {}),
        ("qif", {"tau": 4.0, "v_threshold": 0.75, "v_min": -2.0}, {"learnable": True}),
        ("lnm", {"theta": [0.0, 0.5, 0.25], "v_threshold": 0.75}, {"degree": 2}),
    ],
)
def test_arguments_may_be_arrays_and_tensors(
    name: str, numbers: dict[str, Any], options: dict[str, Any]
) -> None:
    """`get` takes their numbers."""
    expected = [(p.name, p.init) for p in get(name, **numbers, **options).params]
    for make in (torch.tensor, np.array, lambda n: torch.nn.Parameter(torch.tensor(n))):
        made = get(name, **{word: make(n) for word, n in numbers.items()}, **options)
        assert [(p.name, p.init) for p in made.params] == expected


def test_one_element_is_a_number() -> None:
    """In any shape; but not where a family takes a sequence, which another length would fill."""
    for one in (np.array([4.0]), np.array([[4.0]]), torch.tensor([4.0]), np.float32(4)):
        assert get("lif", tau=one, v_threshold=one).params[0].init == 4.0
        assert get("lif", v_reset=one).states[0].decl.init == 4.0
    one = np.array([4.0])
    assert get("lnm", degree=np.array([2])).params[0].size == 3
    with refused(lnm.ModelError, "parameter 'theta'", "init is [4.0]", "or 3 of them"):
        get("lnm", degree=2, theta=one)
    with refused(lnm.ModelError, "lif", "tau is [4.0, 4.0]", "a number > 1"):
        get("lif", tau=torch.tensor([4.0, 4.0]))


def test_a_function_may_name_its_arguments_as_ours(tmp_path: Path) -> None:
    """`where` of a user's function was an internal TypeError; `self` is no argument of a family."""
    text = "import lnm_codegen as lnm\ndef mine(where, run=1.0):\n"
    (tmp_path / "own.py").write_text(text + "    return lnm.get('lif', tau=where + run)\n")
    found = resolve(f"{tmp_path / 'own.py'}:mine", where=2.0)
    assert found.to_toml() == lnm.get("lif", tau=3.0).to_toml()
    with refused(lnm.ModelError, "lif", "no argument 'self'"):
        lnm.get("lif", **{"self": 1})
