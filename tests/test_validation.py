"""Argument validation: what each function accepts, and the error of everything else."""

from __future__ import annotations

import inspect
import math
import pickle

import numpy as np
import pytest

from lnm_codegen import validation as val
from lnm_codegen.errors import InternalError, ModelError, ToolError, reason
from tests.refusals import refused


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


@pytest.mark.parametrize("value", [1, 3, 7])
def test_integers_in_range(value: int) -> None:
    assert val.require_integer("f", "n", value, 1, 7) == value


@pytest.mark.parametrize("value", [0, 8, True, 1.0, "1", None, math.nan])
def test_other_integers(value: object) -> None:
    with refused(ModelError, "f", f"n is {value!r}", "an integer from 1 to 7"):
        val.require_integer("f", "n", value, 1, 7)
    with refused(ModelError, "f", "n is -1", "an integer >= 0"):
        val.require_integer("f", "n", -1, 0)


def test_optional_integers() -> None:
    assert val.require_integer("f", "n", None, optional=True) is None
    with refused(ModelError, "f", "n is 0", "an integer >= 1 or None"):
        val.require_integer("f", "n", 0, optional=True)


def test_intervals() -> None:
    assert val.require_interval("f", "x", [-1, 2.5]) == (-1, 2.5)
    for value in ((1, 1), (2, 1), (0, math.inf), (math.nan, 1), (0,), "01", 3, (True, 2)):
        with refused(ModelError, "f", f"x is {value!r}", "(low, high) with low < high, finite"):
            val.require_interval("f", "x", value)


def test_sequences_of_integers() -> None:
    assert val.require_integers("f", "n", 3) == (3,)
    assert val.require_integers("f", "n", [3, 4]) == (3, 4)
    for value in ([], [0], [True], "12", None, 2.0):
        with refused(ModelError, "f", f"n is {value!r}", "one or more integers >= 1"):
            val.require_integers("f", "n", value)


def test_numbers() -> None:
    assert val.require_number("f", "x", 2) == 2
    assert val.require_number("f", "x", None, optional=True) is None
    assert val.require_number("f", "x", 0.0, low=0, high=1) == 0
    for value in (math.nan, math.inf, True, "1", None, 10**400):
        with refused(ModelError, "f", "x is ", "a finite number"):
            val.require_number("f", "x", value)
    with refused(ModelError, "f", "x is 0", "a number > 0"):
        val.require_number("f", "x", 0, above=0)
    with refused(ModelError, "f", "x is 1", "a number >= 0 and < 1 or None"):
        val.require_number("f", "x", 1, low=0, below=1, optional=True)
    with refused(ModelError, "f", "x is 2", "a number >= 0 and <= 1"):
        val.require_number("f", "x", 2, low=0, high=1)


def test_words() -> None:
    assert val.require_one_of("f", "mode", "a", ("a", "b", None)) == "a"
    with refused(ModelError, "f", "mode is 'layre'", "'layer', 'channel'", "Did you mean 'layer'?"):
        val.require_one_of("f", "mode", "layre", ("layer", "channel"))
    with refused(ModelError, "f", "flag is 1", "True, False"):
        val.require_bool("f", "flag", 1)
    assert val.require_known("f", "set", "a", {"a": 1}) == "a"
    with refused(ModelError, "f", "no set 'b'", "a"):
        val.require_known("f", "set", "b", {"a": 1})
    with refused(ModelError, "f", "no set 3", "none"):
        val.require_known("f", "set", 3, ())


def test_a_value_is_shown_on_one_short_line() -> None:
    assert val.shown("a  b") == "'a  b'"
    assert val.shown(np.eye(2)) == "array([[1., 0.], [0., 1.]])"
    assert val.shown("a" * 200) == f"'{'a' * 116}..."
    with refused(ModelError, "f", f"n is {'1' * 117}..."):
        val.require_integer("f", "n", int("1" * 200), 0, 9)


def test_several_numbers() -> None:
    val.require_numbers("f", x=1, y=None, optional=["y"])
    with refused(ModelError, "f", "x is None", "a finite number"):
        val.require_numbers("f", x=None, y=None, optional=["y"])


def test_arguments_of_a_callable() -> None:
    signature = inspect.signature(lambda degree=3: degree)
    val.require_arguments("f", signature, (), {"degree": 2})
    with refused(ModelError, "f", "'degre'", "degree", "Did you mean 'degree'?"):
        val.require_arguments("f", signature, (), {"degre": 2})
    with refused(ModelError, "f", "too many positional arguments", "degree"):
        val.require_arguments("f", signature, (1, 2), {})
