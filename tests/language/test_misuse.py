"""Expressions where Python, NumPy and PyTorch expect numbers, and tensors in expressions."""

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
from tests.refusals import assert_refused, refused

v, x = lnm.state("v"), lnm.input("x")
FROZEN = "would become a constant, which no training changes"
DECLARE = "Declare it with lnm.param(name, init=...); for constants write value.tolist()."
OPERANDS = "numbers and expressions of declared states, inputs, parameters and spikes"
USE_WHERE = "Use lnm.where(condition, a, b)."
CALLS = "lnm.exp, lnm.log, lnm.sqrt, lnm.tanh"
NUMERIC = ", ".join(f"lnm.{word}" for word in FUNCTIONS if word not in ("where", "poly"))
DECIDE = (
    "In place of if, max, min and a < b < c use lnm.where(condition, a, b), lnm.max(a, b),"
    " lnm.min(a, b) or lnm.clip(a, low, high); in place of and, or, not use & | ~."
)
WEIGHT = torch.nn.Parameter(torch.tensor(2.5))
TENSORS = [
    WEIGHT, torch.tensor(2), torch.ones(2), torch.nn.Parameter(torch.ones(1, 2)), np.ones(2),
    np.ones((1, 2)),
]  # fmt: skip
OPERATORS = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.pow,
    operator.lt, operator.le, operator.gt, operator.ge,
]  # fmt: skip

SYMBOLS = """
? >> >> DECIDE
    1 if v > 0 else 0 >> v > 0: no truth value, because symbols have no values while a neuron is
        defined. In place of if
    not (v < 0.5) >> v < 0.5: no truth value
    bool(v >= x) >> v >= x: no truth value
    0 < v < 1 >> v > 0: no truth value
    max(v, 1) >> v < 1: no truth value
    min(v, 1) >> v > 1: no truth value
    (v <= x) and (x > 0) >> v <= x: no truth value
    bool((v > 0) & (x > 0)) >> (v > 0) & (x > 0): no truth value
    bool((v > 0) | (x > 0)) >> (v > 0) | (x > 0): no truth value
    bool(((v > 0) & (x > 0)) & (v > 0)) >> (v > 0) & (x > 0): no truth value
    bool(~(x > 0)) >> x <= 0: no truth value
    1 if v else 0 >> v: no truth value
    1 if lnm.spike else 0 >> spike: no truth value
v >> >> NUMERIC
    float(v) >> not a number, because symbols have no values while a neuron is defined
    int(v) >> not a number
    complex(v) >> not a number
    round(v) >> not a number
    round(v, 2) >> not a number
    math.exp(v) >> not a number
    math.floor(v) >> not a number
?
    np.tanh(v) >> numpy.tanh: a function of numbers received an expression >> CALLS
        >> Use lnm.tanh(a).
    np.maximum(v, 0) >> numpy.maximum: a function >> CALLS >> Use lnm.max(a, b).
    np.abs(v) >> numpy.absolute: a function >> CALLS >> Use lnm.abs(a).
    np.clip(v, 0, 1) >> numpy.clip: a function >> CALLS >> Use lnm.clip(a, low, high).
    np.where(v > 0, v, 0) >> numpy.where: a function >> CALLS >> USE_WHERE
    torch.detach(v) >> torch.detach: a function >> CALLS >> Use lnm.stop_gradient(a).
    torch.nn.functional.relu(v) >> torch.relu: a function >> CALLS >> Use lnm.max(a, 0).
    torch.where(v > 0, v, x) >> torch.where: a function >> CALLS >> USE_WHERE
    torch.erf(v) >> torch.erf: a function of numbers >> CALLS
"""
METHODS = """
?
    v.tanh >> v.tanh: expressions have no such method >> CALLS >> Use lnm.tanh(a).
    v.clamp_ >> v.clamp_: expressions have no such >> CALLS >> Use lnm.clip(a, low, high).
    v.relu >> v.relu: expressions have no such method >> CALLS >> Use lnm.max(a, 0).
"""


def test_symbols_are_no_numbers() -> None:
    """`if (v > 0) & (x > 0)` and `if v` were true; the others raised errors of Python or SymPy."""
    assert_refused(SYMBOLS, globals())
    assert_refused(METHODS, globals(), MethodError)
    assert not hasattr(v, "tanh")
    assert not hasattr(v, "no_such_name")
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = v.no_such_name


def family_of(f: Any) -> Any:
    """Return a family whose charge is f(v) + x."""

    @lnm.family
    def mine() -> lnm.Neuron:
        v, x = lnm.state("v"), lnm.input("x")
        return lnm.Neuron(charge={v: f(v) + x}, fire=v - 1)

    return mine


IN_A_FAMILY = """
? >> >> DECIDE
    1 if 2 * v > 0 else 0 >> mine: 2*v > 0: no truth value
    np.where(2 * v > 0, 1, 0) >> mine: 2*v > 0: no truth value
    max(2 * v, 1) >> mine: 2*v < 1: no truth value
    min(v + 1, 1) >> mine: v + 1 > 1: no truth value
    np.maximum(v + 1, 1) >> mine: v + 1 >= 1: no truth value
mine: an expression >> >> NUMERIC
    math.exp(v + 1) >> not a number, because symbols
    float(2 * v) >> not a number, because symbols
    int(2 * v) >> not a number, because symbols
    round(2 * v) >> not a number, because symbols
mine: expression >> >> USE_WHERE
    (v + 1) * True >> bool is a condition, not a number
    True - 2 * v >> bool is a condition, not a number
    (v + 1) * (v > 0) >> StrictGreaterThan is a condition
    (2 * v <= 0) * 2 * v >> LessThan is a condition
    1 - (v > 0) >> StrictGreaterThan is a condition
?
    math.exp(v) >> v: not a number, because symbols >> >> NUMERIC
    np.tanh(v + 1) >> mine: numpy.tanh: a function of >> CALLS >> Use lnm.tanh(a).
    torch.tanh(v + 1) >> mine: torch.tanh: a function of >> CALLS >> Use lnm.tanh(a).
    torch.sigmoid(lnm.tanh(v)) >> mine: torch.sigmoid: a function >> CALLS >> Use lnm.sigmoid(a).
    torch.clamp(lnm.where(v > 0, v, 1), 0, 1) >> mine: torch.clamp: a function >> CALLS
        >> Use lnm.clip(a, low, high).
    torch.where(2 * v > 0, 2 * v, v) >> mine: torch.where: a function >> CALLS >> USE_WHERE
"""
METHODS_IN_A_FAMILY = """
?
    v.tanh() >> mine: v.tanh: expressions have no such method >> CALLS >> Use lnm.tanh(a).
    (v + 1).tanh() >> mine: (v + 1).tanh: expressions have >> CALLS >> Use lnm.tanh(a).
    (2 * v).clamp(0) >> mine: 2*v.clamp: expressions >> CALLS >> Use lnm.clip(a, low, high).
"""
TENSORS_IN_A_FAMILY = """
mine: expression >> >> DECLARE
    (v + 1) * WEIGHT >> FROZEN
    WEIGHT * (v + 1) >> FROZEN
    v**2 / WEIGHT >> FROZEN
    WEIGHT - 2 * v >> FROZEN
    (2 * v) ** torch.tensor(0.5) >> FROZEN
    torch.tensor(0.5) ** (2 * v) >> FROZEN
    lnm.where(2 * v > WEIGHT, v, 0) >> FROZEN
    lnm.where(WEIGHT > 2 * v, v, 0) >> FROZEN
    (v + 1) * torch.ones(3) >> FROZEN
    torch.ones(3) * (v + 1) >> FROZEN
"""


def test_misuse_in_a_family() -> None:
    """Each raised an error of Python, SymPy, NumPy or PyTorch, which stays as the cause."""

    def built(text: str) -> lnm.Neuron:
        return family_of(eval(f"lambda v: {text}", globals()))()

    assert_refused(IN_A_FAMILY, globals(), run=built)
    assert_refused(TENSORS_IN_A_FAMILY, globals(), run=built)
    assert_refused(METHODS_IN_A_FAMILY, globals(), MethodError, built)


@pytest.mark.parametrize(
    "text",
    [
        "'a' + 1", "torch.tanh(1.0)", "int(None)", "{}['a']", "None * True", "'a'.tanh()",
        "(v + 1).no_such_name", "math.tanhh", "np.tanh('a')",
    ],
)  # fmt: skip
def test_another_mistake_is_raised_as_it_is(text: str) -> None:
    with pytest.raises((TypeError, KeyError, AttributeError)) as caught:
        family_of(eval(f"lambda v: {text}"))()
    assert not isinstance(caught.value, lnm.LnmError)


def test_a_refused_tensor_is_not_hidden() -> None:
    """A function that catches the TypeError does not get its neuron."""

    def hiding(v: Any) -> Any:
        try:
            return (v + 1) * WEIGHT
        except TypeError:
            return v

    with refused(lnm.ModelError, "expression", FROZEN):
        family_of(hiding)()


SURROGATES = """
surrogate 'custom': expression
    lnm.surrogate.from_slope(lambda z: z * WEIGHT) >> FROZEN
?
    lnm.surrogate.from_primitive(lambda z: torch.tanh(2 * z)) >> surrogate 'custom': torch.tanh: a
    lnm.surrogate.from_slope(lambda z: 1 if 2 * z > 0 else 0, name="mine")
        >> surrogate 'mine': 2*z > 0: no truth value
"""


def test_surrogates_of_compound_expressions() -> None:
    """A truth value of z alone is not noticed: docs/reference/language.md lists it."""
    assert_refused(SURROGATES, globals())
    assert lnm.surrogate.from_slope(lambda z: 1 if z else 2).slope == 1
    assert lnm.surrogate.from_slope(lambda z: 1 if z == 0 else 2).slope == 2


@pytest.mark.parametrize("value", TENSORS, ids=lambda t: f"{type(t).__name__}{tuple(t.shape)}")
def test_a_tensor_enters_no_expression(value: Any) -> None:
    """It became the number that it then was, and `lnm.tanh(torch.tensor(2.5))` was tanh(2)."""
    problem = f"{type(value).__name__} of shape {tuple(value.shape)} {FROZEN}"
    for operate in OPERATORS:
        for a, b in ((v, value), (value, v)):
            with refused(lnm.ModelError, "expression", problem, OPERANDS, DECLARE):
                operate(a, b)
    for where, call in (
        ("tanh", lambda: lnm.tanh(value)),
        ("where", lambda: lnm.where(v > 0, value, v)),
        ("max", lambda: lnm.max(v, value)),
        ("poly", lambda: lnm.poly(v, [value])),
        ("hard_reset", lambda: lnm.hard_reset(v, value)),
        ("soft_reset", lambda: lnm.soft_reset(v, value)),
        ("neuron.charge[v]", lambda: lnm.Neuron({v: value}, v + x)),
        ("neuron.fire[spike]", lambda: lnm.Neuron({v: v + x}, value)),
        ("neuron.output", lambda: lnm.Neuron({v: v + x}, output=value)),
    ):
        with refused(lnm.ModelError, where, FROZEN, OPERANDS, DECLARE):
            call()


def test_an_array_of_coefficients() -> None:
    """An array of numbers became constants in silence."""
    for theta in (np.ones(2), np.ones((1, 2)), np.array(2.0), torch.ones(2), np.array([v, x])):
        with refused(lnm.ModelError, "poly", FROZEN, OPERANDS, DECLARE):
            lnm.poly(v, theta)
        if theta.ndim == 1:
            a, b = theta.tolist()
            assert lnm.poly(v, [a, b]) == as_expr(a) + as_expr(b) * v


@pytest.mark.parametrize("operate", OPERATORS)
def test_operands(operate: Any) -> None:
    """NumPy's numbers, and arrays without axes, are Python's numbers; nothing else is."""
    for value in (np.float64(2.5), np.float32(2.5), np.int64(3), np.array(2.5)):
        assert sympy.nsimplify(operate(v, value)) == sympy.nsimplify(operate(v, value.item()))
        assert sympy.nsimplify(operate(value, v)) == sympy.nsimplify(operate(value.item(), v))
        assert as_expr(value) == as_expr(value.item())
    no_number = (" is a condition, not a number", "", USE_WHERE)
    conditions = [(one, no_number) for one in (True, np.True_, v > 0, 2 * v > 0)]
    others = ["2", None, [1, 2], (1,), {}]
    texts = [(one, (f"{one!r} is a {type(one).__name__}", OPERANDS)) for one in others]
    for value, parts in (*conditions, *texts):
        for a, b in ((v, value), (value, v)):
            with refused(lnm.ModelError, "expression", *parts):
                operate(a, b)


def test_an_array_without_axes_may_hold_a_symbol() -> None:
    assert lnm.exp(np.array(v)) == lnm.exp(v)
    assert v + np.array(x) == v + x


def test_equality() -> None:
    """Symbols are compared by declaration, as keys and in SymPy; a number, text or None is none."""
    terms = [1, v, x]
    assert x in terms
    assert terms.index(x) == 2
    assert v not in (0, 1, x, "v", None, v + 1)
    assert v != 0
    assert not v == 1
    assert np.float64(0) != v
    assert v in (x, v)
    assert v in {x: 0, v: 1, 1: 2}
    assert v != lnm.state("v")
    assert {v: 1, x: 2} == {x: 2, v: 1}
    assert hash(v) == hash(copy.deepcopy(v))
    assert v == copy.deepcopy(v)
    assert not v != copy.deepcopy(v)
    assert sympy.Add(v, -v) == 0
    assert sympy.Integer(1) != v


ARRAY = np.array([0.5, 0.25])


@pytest.mark.parametrize(
    ("mistake", "equal"),
    [
        (lambda v: 1 if not (v + 1) else 2, lambda v: 2),
        (lambda v: (v + 1) or 2, lambda v: v + 1),
        (lambda v: 1 if (v + 1 > 0) & (v < 2) else 2, lambda v: 1),
        (lambda v: 1 if v == 1 else 2, lambda v: 2),
        (lambda v: 1 if v + 1 in (0, 1) else 2, lambda v: 2),
        (lambda v: 1 if v == lnm.spike else 2, lambda v: 2),
        (lambda v: (ARRAY * (v + 1))[1], lambda v: 0.25 * v + 0.25),
        (lambda v: np.dot(ARRAY, [1, v]), lambda v: 0.25 * v + 0.5),
    ],
)
def test_mistakes_that_are_not_noticed(mistake: Any, equal: Any) -> None:
    """SymPy and NumPy answer, and are not patched: docs/reference/language.md lists these."""
    found, expected = (family_of(f)() for f in (mistake, equal))
    assert str(found.charge) == str(expected.charge)


def test_what_a_family_may_do() -> None:
    """Branches on numbers, None and text; symbols as keys; tensors outside of expressions."""

    @lnm.family
    def mine(
        start: Any, degree: int = 1, v_reset: float | None = None, kind: str = "a"
    ) -> lnm.Neuron:
        v, x = lnm.state("v", init=torch.tensor(0.5)), lnm.input("x")
        scale = 2 if degree == 1 and v_reset is None and kind in ("a", "b") else 3
        names = {s: s.name for s in (v, x) if s == v or s in (x,)}
        assert [s.name for s in names if s != x] == ["v"]
        theta = lnm.param("theta", size=3, init=torch.ones(3) * 2)
        charge = lnm.poly(v, theta) + lnm.param("a", init=start) * x / WEIGHT.item()
        reset = None if not v_reset else lnm.hard_reset(v)
        return lnm.Neuron({v: scale * lnm.param("g", init=WEIGHT) * v + charge}, v, reset)

    n = mine(torch.tensor(0.25))
    assert {d.name: d.init for d in n.params} == {"theta": (2.0, 2.0, 2.0), "a": 0.25, "g": 2.5}
    assert n.states[0].decl.init == 0.5
    assert "2*g*v" in str(n.charge)
    assert "3*g*v" in str(mine(0.25, 2, 0.0, "c").charge)


@pytest.mark.parametrize(
    ("size", "given", "init"),
    [
        (None, torch.nn.Parameter(torch.tensor(0.5)), 0.5),
        (None, np.array(0.5), 0.5),
        (None, np.array([0.5]), 0.5),
        (None, torch.tensor([[0.5]]), 0.5),
        (1, np.array([0.5]), (0.5,)),
        (None, torch.tensor(2), 2.0),
        (2, torch.tensor([0.5, 0.25], dtype=torch.float64), (0.5, 0.25)),
        (2, torch.nn.Parameter(torch.tensor([0.5, 0.25])), (0.5, 0.25)),
        (2, [torch.tensor(0.5), np.float32(0.25)], (0.5, 0.25)),
    ],
)
def test_init_may_be_a_tensor(size: int | None, given: Any, init: Any) -> None:
    made = lnm.param("p", size=size, init=given)
    assert (made if size is None else made[0]).decl.init == init
    if size is None:
        assert lnm.state("s", init=given).decl.init == init


def test_an_init_of_another_shape_is_refused() -> None:
    for given in (torch.ones(3), torch.tensor(math.nan), torch.ones(1, 2)):
        with refused(lnm.ModelError, "parameter 'p'", f"init is {given!r}", "or 2 of them"):
            lnm.param("p", size=2, init=given)


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
