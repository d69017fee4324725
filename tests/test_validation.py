"""Argument validation: what each function accepts, and the error of everything else."""

from __future__ import annotations

import inspect
import pickle

import numpy as np

from lnm_codegen import validation as val
from lnm_codegen.errors import InternalError, ModelError, ToolError, reason
from tests.refusals import assert_refused


def test_an_error_is_composed_of_its_parts() -> None:
    """Absent parts leave nothing behind; words are joined with commas."""
    assert str(ModelError("lif", "tau is 0", "a number > 1")) == (
        "lif: tau is 0. Accepted: a number > 1."
    )
    assert str(ModelError("get", "no family 'lifx'", ("if", "lif"), "Did you mean 'lif'?")) == (
        "get: no family 'lifx'. Accepted: if, lif. Did you mean 'lif'?"
    )
    assert str(ToolError("c", "no compiler", remedy="Install g++.")) == (
        "c: no compiler. Install g++."
    )
    assert str(InternalError("build", "no rule")).endswith("please report it.")


def test_an_error_survives_pickle_and_takes_an_outer_place() -> None:
    """Errors cross processes; `within` keeps the kind and the other parts."""
    error = ModelError("lif", "tau is 0", ("a", "b"), "Raise it.")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (ModelError, str(error))
    assert str(error.within("run: x.json")) == f"run: x.json: {error}"
    assert type(ToolError("c", "x").within("y")) is ToolError


def test_reason_is_one_line_without_a_full_stop() -> None:
    assert reason(ValueError("a\n  b.")) == "a b"
    assert reason(ValueError()) == "ValueError"
    assert reason(FileNotFoundError(2, "No such file")) == "No such file"


REFUSALS = """
f >> an integer from 1 to 7
    val.require_integer("f", "n", 0, 1, 7) >> n is 0
    val.require_integer("f", "n", 8, 1, 7) >> n is 8
    val.require_integer("f", "n", True, 1, 7) >> n is True
    val.require_integer("f", "n", 1.0, 1, 7) >> n is 1.0
    val.require_integer("f", "n", "1", 1, 7) >> n is '1'
    val.require_integer("f", "n", None, 1, 7) >> n is None
    val.require_integer("f", "n", float("nan"), 1, 7) >> n is nan
    val.require_integer("f", "n", -1, 0) >> n is -1 >> an integer >= 0
    val.require_integer("f", "n", 0) >> n is 0 >> an integer >= 1
    val.require_integer("f", "n", 0, optional=True) >> n is 0 >> an integer >= 1 or None
    val.require_integer("f", "n", int("1" * 200), 0, 9) >> n is 11111 >> an integer from 0 to 9
f >> (low, high) with low < high, finite
    val.require_interval("f", "x", (1, 1)) >> x is (1, 1)
    val.require_interval("f", "x", (2, 1)) >> x is (2, 1)
    val.require_interval("f", "x", (0, float("inf"))) >> x is (0, inf)
    val.require_interval("f", "x", (float("nan"), 1)) >> x is (nan, 1)
    val.require_interval("f", "x", (0,)) >> x is (0,)
    val.require_interval("f", "x", "01") >> x is '01'
    val.require_interval("f", "x", 3) >> x is 3
    val.require_interval("f", "x", (True, 2)) >> x is (True, 2)
f >> one or more integers >= 1
    val.require_integers("f", "n", []) >> n is []
    val.require_integers("f", "n", [0]) >> n is [0]
    val.require_integers("f", "n", [True]) >> n is [True]
    val.require_integers("f", "n", "12") >> n is '12'
    val.require_integers("f", "n", None) >> n is None
    val.require_integers("f", "n", 2.0) >> n is 2.0
f >> a finite number
    val.require_number("f", "x", float("nan")) >> x is nan
    val.require_number("f", "x", float("inf")) >> x is inf
    val.require_number("f", "x", True) >> x is True
    val.require_number("f", "x", "1") >> x is '1'
    val.require_number("f", "x", None) >> x is None
    val.require_number("f", "x", 10**400) >> x is 1000
    val.require_numbers("f", x=None, y=None, optional=["y"]) >> x is None
    val.require_number("f", "x", 0, above=0) >> x is 0 >> a number > 0
    val.require_number("f", "x", -1, low=0, high=1) >> x is -1 >> a number >= 0 and <= 1
    val.require_number("f", "x", 2, low=0, high=1) >> x is 2 >> a number >= 0 and <= 1
    val.require_number("f", "x", 1, low=0, below=1, optional=True) >> x is 1
        >> a number >= 0 and < 1 or None
f >> degree
    val.require_arguments("f", SIGNATURE, (), {"degre": 2}) >> 'degre' >> degree
        >> Did you mean 'degree'?
    val.require_arguments("f", SIGNATURE, (1, 2), {}) >> too many positional arguments
f
    val.require_one_of("f", "mode", "layre", ("layer", "channel")) >> mode is 'layre'
        >> 'layer', 'channel' >> Did you mean 'layer'?
    val.require_one_of("f", "n", True, (1, 2)) >> n is True >> 1, 2
    val.require_bool("f", "flag", 1) >> flag is 1 >> True, False
    val.require_type("f", "x", 1, str, "text") >> x is 1 >> text
    val.require_known("f", "set", "b", {"a": 1}) >> no set 'b' >> a
    val.require_known("f", "set", 3, ()) >> no set 3 >> none
"""
SIGNATURE = inspect.signature(lambda degree=3: degree)


def test_refusals() -> None:
    assert_refused(REFUSALS, globals())


def test_accepted_values() -> None:
    for value in (1, 3, 7):
        assert val.require_integer("f", "n", value, 1, 7) == value
    assert val.require_integer("f", "n", 0, 0) == 0
    assert val.require_integer("f", "n", None, optional=True) is None
    assert val.require_interval("f", "x", [-1, 2.5]) == (-1, 2.5)
    assert val.require_integers("f", "n", 3) == (3,)
    assert val.require_integers("f", "n", [3, 1]) == (3, 1)
    assert val.require_number("f", "x", 2) == 2
    assert val.require_number("f", "x", None, optional=True) is None
    for value in (0.0, 1):
        assert val.require_number("f", "x", value, low=0, high=1) == value
    val.require_numbers("f", x=1, y=None, optional=["y"])
    assert val.require_one_of("f", "mode", "a", ("a", "b", None)) == "a"
    assert val.require_known("f", "set", "a", {"a": 1}) == "a"
    val.require_arguments("f", SIGNATURE, (), {"degree": 2})


def test_a_value_is_shown_on_one_short_line() -> None:
    assert val.shown("a  b") == "'a  b'"
    assert val.shown(np.eye(2)) == "array([[1., 0.], [0., 1.]])"
    assert val.shown("a" * 118) == f"'{'a' * 118}'"
    assert val.shown("a" * 119) == f"'{'a' * 116}..."
