"""Symbols where Python, NumPy and PyTorch expect numbers, and tensors in expressions."""

from __future__ import annotations

import copy
import math
import operator
from typing import Any

import numpy as np
import pytest
import sympy
import torch

import lnm_codegen as lnm
from lnm_codegen.language.functions import as_expr
from lnm_codegen.language.misuse import FUNCTIONS, MethodError, instead_of
from tests.refusals import refused

v, x = lnm.state("v"), lnm.input("x")
NO_TRUTH = "no truth value, because symbols have no values while a neuron is defined"
NO_NUMBER = "not a number, because symbols have no values while a neuron is defined"
FOREIGN = "a function of numbers received an expression"
FROZEN = "would become a constant, which no training changes"
DECLARE = "Declare it with lnm.param(name, init=...); for constants write value.tolist()."
OPERANDS = "numbers and expressions of declared states, inputs, parameters and spikes"
USE_WHERE = "Use lnm.where(condition, a, b)."

TRUTH: dict[str, Any] = {
    "v > 0": lambda: 1 if v > 0 else 0,
    "v < 0.5": lambda: not (v < 0.5),
    "v >= x": lambda: bool(v >= x),
    "v > 0 ": lambda: 0 < v < 1,
    "v < 1": lambda: max(v, 1),
    "v > 1": lambda: min(v, 1),
    "v <= x": lambda: (v <= x) and (x > 0),
    "(v > 0) & (x > 0)": lambda: bool((v > 0) & (x > 0)),
    "(v > 0) | (x > 0)": lambda: bool((v > 0) | (x > 0)),
    "(v > 0) & (x > 0) ": lambda: bool(((v > 0) & (x > 0)) & (v > 0)),
    "x <= 0": lambda: bool(~(x > 0)),
    "v": lambda: 1 if v else 0,
    "spike": lambda: 1 if lnm.spike else 0,
}
"""Text of a condition -> code that asks for its truth value."""


@pytest.mark.parametrize("text", TRUTH)
def test_a_condition_has_no_truth_value(text: str) -> None:
    """`if (v > 0) & (x > 0)` and `if v` were true; the others raised SymPy's TypeError."""
    remedy = (
        "In place of if, max, min and a < b < c use lnm.where(condition, a, b), lnm.max(a, b),"
        " lnm.min(a, b) or lnm.clip(a, low, high); in place of and, or, not use & | ~."
    )
    with refused(lnm.ModelError, text.strip(), NO_TRUTH, remedy=remedy):
        TRUTH[text]()


@pytest.mark.parametrize(
    "f", [float, int, complex, round, math.exp, math.tanh, math.floor, lambda a: round(a, 2)]
)
def test_a_symbol_is_no_number(f: Any) -> None:
    """Functions of `math` ask for a float."""
    functions = ", ".join(f"lnm.{word}" for word in FUNCTIONS if word not in ("where", "poly"))
    with refused(lnm.ModelError, "v", NO_NUMBER, remedy=functions):
        f(v)


@pytest.mark.parametrize(
    ("where", "call", "remedy"),
    [
        ("numpy.tanh", lambda: np.tanh(v), "lnm.tanh(a)"),
        ("numpy.exp", lambda: np.exp(v), "lnm.exp(a)"),
        ("numpy.maximum", lambda: np.maximum(v, 0), "lnm.max(a, b)"),
        ("numpy.absolute", lambda: np.abs(v), "lnm.abs(a)"),
        ("numpy.clip", lambda: np.clip(v, 0, 1), "lnm.clip(a, low, high)"),
        ("numpy.where", lambda: np.where(v > 0, v, 0), "lnm.where(condition, a, b)"),
        ("torch.tanh", lambda: torch.tanh(v), "lnm.tanh(a)"),
        ("torch.sigmoid", lambda: torch.sigmoid(v), "lnm.sigmoid(a)"),
        ("torch.detach", lambda: torch.detach(v), "lnm.stop_gradient(a)"),
        ("torch.relu", lambda: torch.nn.functional.relu(v), "lnm.max(a, 0)"),
        ("torch.clamp", lambda: torch.clamp(v, 0, 1), "lnm.clip(a, low, high)"),
        ("torch.where", lambda: torch.where(v > 0, v, x), "lnm.where(condition, a, b)"),
        ("torch.maximum", lambda: torch.maximum(v, x), "lnm.max(a, b)"),
        ("torch.erf", lambda: torch.erf(v), ""),
    ],
)
def test_functions_of_numpy_and_pytorch(where: str, call: Any, remedy: str) -> None:
    """The error names the function of the language."""
    accepted = "lnm.exp, lnm.log, lnm.sqrt, lnm.tanh"
    with refused(lnm.ModelError, where, FOREIGN, accepted, remedy and f"Use {remedy}."):
        call()


OPERATORS = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.pow,
    operator.lt, operator.le, operator.gt, operator.ge,
]  # fmt: skip
TENSORS = [
    torch.nn.Parameter(torch.tensor(2.5)),
    torch.tensor(2.5),
    torch.tensor(2),
    torch.ones(2),
    torch.nn.Parameter(torch.ones(1, 2)),
    np.ones(2),
    np.ones((1, 2)),
]


@pytest.mark.parametrize("value", TENSORS, ids=lambda t: f"{type(t).__name__}{tuple(t.shape)}")
@pytest.mark.parametrize("operate", OPERATORS)
def test_a_tensor_enters_no_expression(operate: Any, value: Any) -> None:
    """A tensor became the number that it then was, and no training changed it."""
    problem = f"{type(value).__name__} of shape {tuple(value.shape)} {FROZEN}"
    for a, b in ((v, value), (value, v)):
        with refused(lnm.ModelError, "expression", problem, OPERANDS, DECLARE):
            operate(a, b)


@pytest.mark.parametrize(
    ("where", "call"),
    [
        ("tanh", lambda p: lnm.tanh(p)),
        ("where", lambda p: lnm.where(v > 0, p, v)),
        ("max", lambda p: lnm.max(v, p)),
        ("poly", lambda p: lnm.poly(v, [p])),
        ("hard_reset", lambda p: lnm.hard_reset(v, p)),
        ("soft_reset", lambda p: lnm.soft_reset(v, p)),
        ("neuron.charge[v]", lambda p: lnm.Neuron({v: p}, v + x)),
        ("neuron.fire[spike]", lambda p: lnm.Neuron({v: v + x}, p)),
        ("neuron.output", lambda p: lnm.Neuron({v: v + x}, output=p)),
    ],
)
@pytest.mark.parametrize("value", TENSORS, ids=lambda t: f"{type(t).__name__}{tuple(t.shape)}")
def test_a_tensor_is_no_expression(where: str, call: Any, value: Any) -> None:
    """`lnm.tanh(torch.tensor(2.5))` was tanh(2): a tensor has `__index__`, which truncates."""
    with refused(lnm.ModelError, where, FROZEN, OPERANDS, DECLARE):
        call(value)


@pytest.mark.parametrize(
    "theta", [np.ones(2), np.ones((1, 2)), np.array(2.0), torch.ones(2), np.array([v, x])], ids=repr
)
def test_an_array_of_coefficients(theta: Any) -> None:
    """An array of numbers became constants in silence."""
    with refused(lnm.ModelError, "poly", FROZEN, OPERANDS, DECLARE):
        lnm.poly(v, theta)
    if theta.ndim == 1:
        a, b = theta.tolist()
        assert lnm.poly(v, [a, b]) == as_expr(a) + as_expr(b) * v


@pytest.mark.parametrize("operate", OPERATORS)
@pytest.mark.parametrize(
    "value", [np.float64(2.5), np.float32(2.5), np.int64(3), np.uint8(3), np.array(2.5)], ids=repr
)
def test_numbers_of_numpy_are_numbers(operate: Any, value: Any) -> None:
    """So is an array without axes: each operator gives what it gives for Python's number.

    NumPy turns its numbers into such arrays when it compares them.
    """
    assert sympy.nsimplify(operate(v, value)) == sympy.nsimplify(operate(v, value.item()))
    assert sympy.nsimplify(operate(value, v)) == sympy.nsimplify(operate(value.item(), v))
    assert as_expr(value) == as_expr(value.item())


def test_an_array_without_axes_may_hold_a_symbol() -> None:
    """The message was that v is no number, or, before, that v is a condition."""
    assert lnm.exp(np.array(v)) == lnm.exp(v)
    assert v + np.array(x) == v + x


def test_equality_with_a_number() -> None:
    """A symbol equals no number: helpers that take either skip a term only for a number."""
    terms = [1, v, x]
    assert x in terms
    assert terms.index(x) == 2
    assert v not in (0, 1)
    assert v != 0
    assert not v == 1
    assert [v, x] != [0, x]
    assert np.float64(0) != v


def test_equality_with_anything_else() -> None:
    """Symbols are compared by declaration, as keys and in SymPy; no text or None equals one."""
    assert v in (x, v)
    assert v in {x: 0, v: 1, 1: 2}
    assert v not in (x, "v", None, v + 1)
    assert v != lnm.state("v")
    assert {v: 1, x: 2} == {x: 2, v: 1}
    assert hash(v) == hash(copy.deepcopy(v))
    assert v == copy.deepcopy(v)
    assert not v != copy.deepcopy(v)
    assert sympy.Add(v, -v) == 0
    assert sympy.Integer(1) != v


@pytest.mark.parametrize("operate", OPERATORS)
@pytest.mark.parametrize("condition", [True, np.True_, v > 0, 2 * v > 0], ids=str)
def test_a_condition_is_no_operand(operate: Any, condition: Any) -> None:
    """`v * True` raised a TypeError."""
    for a, b in ((v, condition), (condition, v)):
        with refused(lnm.ModelError, "expression", " is a condition, not a number", "", USE_WHERE):
            operate(a, b)


@pytest.mark.parametrize("operate", OPERATORS)
@pytest.mark.parametrize("value", ["2", None, [1, 2], (1,), {}], ids=repr)
def test_no_operand(operate: Any, value: Any) -> None:
    """`v * "2"` raised "can't multiply sequence by non-int of type 'Declared'"."""
    for a, b in ((v, value), (value, v)):
        problem = f"{value!r} is a {type(value).__name__}"
        with refused(lnm.ModelError, "expression", problem, OPERANDS):
            operate(a, b)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("tanh", "Use lnm.tanh(a)."),
        ("clamp", "Use lnm.clip(a, low, high)."),
        ("clamp_", "Use lnm.clip(a, low, high)."),
        ("relu", "Use lnm.max(a, 0)."),
    ],
)
def test_methods_of_tensors(name: str, remedy: str) -> None:
    """Python said that 'Declared' has no such attribute."""
    problem, accepted = "expressions have no such method", "lnm.exp, lnm.log"
    with refused(MethodError, f"v.{name}", problem, accepted, remedy):
        getattr(v, name)
    assert not hasattr(v, name)
    assert not hasattr(v, "no_such_name")
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = v.no_such_name


@pytest.mark.parametrize(
    ("sign", "expression"),
    [("%", v % 2), ("%", 2 * v % 3), ("//", v // 2), ("Abs", abs(v)), ("sinh", sympy.sinh(v))],
)
def test_operators_and_functions_outside_of_the_language(sign: str, expression: Any) -> None:
    """`v % 2` was answered with "Did you mean 'sigmoid'?"."""
    problem = f"{sign!r} in {expression} is not a function of the language"
    remedy = "Use lnm.abs(a)." if sign == "Abs" else ""
    with refused(lnm.ModelError, "neuron.charge[v]", problem, "+ - * / **") as caught:
        lnm.Neuron({v: expression + x}, v)
    assert caught.value.remedy == remedy


@pytest.mark.parametrize(
    ("size", "given", "init"),
    [
        (None, torch.tensor(0.5), 0.5),
        (None, torch.nn.Parameter(torch.tensor(0.5)), 0.5),
        (None, np.array(0.5), 0.5),
        (None, np.array([0.5]), 0.5),
        (None, torch.tensor([[0.5]]), 0.5),
        (1, np.array([0.5]), (0.5,)),
        (None, torch.tensor(2), 2.0),
        (2, torch.tensor([0.5, 0.25], dtype=torch.float64), (0.5, 0.25)),
        (2, torch.nn.Parameter(torch.tensor([0.5, 0.25])), (0.5, 0.25)),
        (2, np.array([0.5, 0.25]), (0.5, 0.25)),
        (2, [torch.tensor(0.5), np.float32(0.25)], (0.5, 0.25)),
    ],
)
def test_init_may_be_a_tensor(size: int | None, given: Any, init: Any) -> None:
    """The numbers are copied."""
    made = lnm.param("p", size=size, init=given)
    assert (made if size is None else made[0]).decl.init == init
    if size is None:
        assert lnm.state("s", init=given).decl.init == init


@pytest.mark.parametrize(
    "given", [torch.ones(3), torch.tensor(math.nan), torch.ones(1, 2)], ids=["3", "nan", "1x2"]
)
def test_an_init_of_another_shape_is_refused(given: Any) -> None:
    """As a list of another length is."""
    with refused(lnm.ModelError, "parameter 'p'", f"init is {given!r}", "or 2 of them"):
        lnm.param("p", size=2, init=given)


def test_an_alpha_may_be_a_tensor() -> None:
    """It was truncated to 2."""
    for alpha in (torch.tensor(2.5), torch.tensor([2.5]), np.array([2.5])):
        assert lnm.surrogate.atan(alpha) == lnm.surrogate.atan(2.5)


def test_sympy_keeps_its_own_answers() -> None:
    """SymPy asks symbols for truth values and numbers, and expects True and TypeError."""
    assert sympy.floor(v).func is sympy.floor
    assert (v % 1).func is sympy.Mod
    assert sympy.Max(v, x, 1).args == (1, v, x)
    assert sympy.Piecewise((v, v > 0), (0, True)).subs(v, 2) == 2


def test_every_function_of_the_language_has_its_name() -> None:
    """Of `lnm` and of the remedies."""
    assert set(FUNCTIONS) <= set(lnm.__all__)
    assert all(f"lnm.{word}(" in instead_of(word) for word in FUNCTIONS)
    assert instead_of("no_such") == ""


@pytest.mark.parametrize(
    "call",
    [
        lambda array: lnm.where(array, 1, 2),
        lambda array: lnm.Neuron({array: v}, v),
        lambda array: lnm.Neuron({v: v + x}, v, surrogate={array: lnm.surrogate.atan()}),
        lambda array: lnm.get("lif").with_per({array: "layer"}),
        lambda array: lnm.state(array),
        lambda array: lnm.param("theta", size=2)[array],
        lambda array: lnm.get(array),
        lambda array: lnm.load(array),
        lambda array: lnm.emit(lnm.get("lif"), "c", rtl=array),
    ],
)
def test_a_large_array_in_a_wrong_place_makes_a_short_line(call: Any) -> None:
    """Its text has many lines, of which the message shows the beginning."""
    with refused(lnm.ModelError) as caught:
        call(torch.ones(30, 30))
    assert len(caught.value.problem) < 250
