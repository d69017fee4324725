"""A user's function that gives compound expressions to Python, NumPy or PyTorch."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

import lnm_codegen as lnm
from tests.refusals import refused

NO_TRUTH = "no truth value, because symbols have no values while a neuron is defined"
NO_NUMBER = "not a number, because symbols have no values while a neuron is defined"
FOREIGN = "a function of numbers received an expression"
NO_METHOD = "expressions have no such method"
FROZEN = "would become a constant, which no training changes"
WEIGHT = torch.nn.Parameter(torch.tensor(2.5))
UNRELATED = torch.ones(3)


def family_of(f: Any) -> Any:
    """Return a family whose charge is f(v) + x."""

    @lnm.family
    def mine() -> lnm.Neuron:
        v, x = lnm.state("v"), lnm.input("x")
        return lnm.Neuron(charge={v: f(v) + x}, fire=v - 1)

    return mine


@pytest.mark.parametrize(
    ("f", "where", "problem", "remedy"),
    [
        (lambda v: 1 if 2 * v > 0 else 0, "2*v > 0", NO_TRUTH, "lnm.where(condition, a, b)"),
        (lambda v: max(2 * v, 1), "2*v < 1", NO_TRUTH, "lnm.max(a, b)"),
        (lambda v: min(v + 1, 1), "v + 1 > 1", NO_TRUTH, "lnm.min(a, b)"),
        (lambda v: np.maximum(v + 1, 1), "v + 1 >= 1", NO_TRUTH, "lnm.max(a, b)"),
        (lambda v: np.where(2 * v > 0, 1, 0), "2*v > 0", NO_TRUTH, "lnm.where(condition, a, b)"),
        (lambda v: math.exp(v + 1), "an expression", NO_NUMBER, "lnm.exp"),
        (lambda v: float(2 * v), "an expression", NO_NUMBER, "lnm.exp"),
        (lambda v: int(2 * v), "an expression", NO_NUMBER, "lnm.exp"),
        (lambda v: round(2 * v), "an expression", NO_NUMBER, "lnm.exp"),
        (lambda v: np.tanh(v + 1), "numpy.tanh", FOREIGN, "Use lnm.tanh(a)."),
        (lambda v: torch.tanh(v + 1), "torch.tanh", FOREIGN, "Use lnm.tanh(a)."),
        (lambda v: torch.relu(2 * v), "torch.relu", FOREIGN, "Use lnm.max(a, 0)."),
        (lambda v: torch.sigmoid(lnm.tanh(v)), "torch.sigmoid", FOREIGN, "Use lnm.sigmoid(a)."),
        (
            lambda v: torch.clamp(lnm.where(v > 0, v, 1), 0, 1),
            "torch.clamp",
            FOREIGN,
            "Use lnm.clip(a, low, high).",
        ),
        (
            lambda v: torch.where(2 * v > 0, 2 * v, v),
            "torch.where",
            FOREIGN,
            "Use lnm.where(condition, a, b).",
        ),
        (lambda v: math.exp(v), "v", NO_NUMBER, "lnm.exp"),
        (lambda v: v.tanh(), "v.tanh", NO_METHOD, "Use lnm.tanh(a)."),
        (lambda v: (v + 1).tanh(), "(v + 1).tanh", NO_METHOD, "Use lnm.tanh(a)."),
        (lambda v: (2 * v).clamp(0), "2*v.clamp", NO_METHOD, "Use lnm.clip(a, low, high)."),
        (lambda v: (v + 1) * True, "expression", "bool is a condition, not a number", "lnm.where"),
        (lambda v: True - 2 * v, "expression", "bool is a condition, not a number", "lnm.where"),
        (
            lambda v: (v + 1) * (v > 0),
            "expression",
            "StrictGreaterThan is a condition",
            "lnm.where",
        ),
        (lambda v: (2 * v <= 0) * 2 * v, "expression", "LessThan is a condition", "lnm.where"),
        (lambda v: 1 - (v > 0), "expression", "StrictGreaterThan is a condition", "lnm.where"),
    ],
)
def test_misuse_in_a_family(f: Any, where: str, problem: str, remedy: str) -> None:
    """Each raised an error of Python, SymPy, NumPy or PyTorch, which stays as the cause."""
    with pytest.raises(lnm.ModelError) as caught:
        family_of(f)()
    error = caught.value
    assert error.where in (where, f"mine: {where}")
    assert problem in error.problem
    assert remedy in error.remedy


@pytest.mark.parametrize(
    "f",
    [
        lambda v: "a" + 1,
        lambda v: torch.tanh(1.0),
        lambda v: int(None),
        lambda v: {}["a"],
        lambda v: None * True,
        lambda v: "a".tanh(),
        lambda v: (v + 1).no_such_name,
        lambda v: math.tanhh,
        lambda v: np.tanh("a"),
    ],
)
def test_another_mistake_is_raised_as_it_is(f: Any) -> None:
    """Only errors over expressions are translated."""
    with pytest.raises((TypeError, KeyError, AttributeError)) as caught:
        family_of(f)()
    assert not isinstance(caught.value, lnm.LnmError)


CLOSURE = torch.tensor(0.5)


@pytest.mark.parametrize(
    "f",
    [
        lambda v: (v + 1) * WEIGHT,
        lambda v: WEIGHT * (v + 1),
        lambda v: v**2 / WEIGHT,
        lambda v: WEIGHT - 2 * v,
        lambda v: (2 * v) ** CLOSURE,
        lambda v: CLOSURE ** (2 * v),
        lambda v: lnm.where(2 * v > WEIGHT, v, 0),
        lambda v: lnm.where(WEIGHT > 2 * v, v, 0),
        lambda v: (v + 1) * UNRELATED,
        lambda v: UNRELATED * (v + 1),
        lambda v, own=WEIGHT: (v + 1) * own,
        lambda v: v * WEIGHT,
        lambda v: lnm.tanh(WEIGHT) + v,
    ],
)
def test_a_tensor_of_the_closure_is_refused(f: Any) -> None:
    """Wherever the function has it from; it became a constant of the kernel."""
    remedy = "Declare it with lnm.param(name, init=...); for constants write value.tolist()."
    with refused(lnm.ModelError, None, FROZEN, "", remedy):
        family_of(f)()


def test_a_refused_tensor_is_not_hidden() -> None:
    """A function that catches the TypeError does not get its neuron."""

    def hiding(v: Any) -> Any:
        try:
            return (v + 1) * WEIGHT
        except TypeError:
            return v

    with refused(lnm.ModelError, "expression", FROZEN):
        family_of(hiding)()


def test_tensors_outside_of_expressions_are_accepted() -> None:
    """As `init`, as arguments of a family, as explicit numbers, and unread."""

    @lnm.family
    def mine(start: Any, tau: Any = 2.0) -> lnm.Neuron:
        v, x = lnm.state("v", init=CLOSURE), lnm.input("x")
        g = lnm.param("g", init=WEIGHT)
        theta = lnm.param("theta", size=3, init=UNRELATED * 2)
        other = lnm.get("lif", tau=WEIGHT)
        a = lnm.param("a", init=start)
        assert other.params[0].init == 2.5
        charge = g * v + lnm.poly(v, theta) + a * x / WEIGHT.item()
        return lnm.Neuron(charge={v: charge}, fire=v - float(CLOSURE))

    n = mine(torch.tensor(0.25))
    assert {d.name: d.init for d in n.params} == {"g": 2.5, "theta": (2.0, 2.0, 2.0), "a": 0.25}
    assert n.states[0].decl.init == 0.5


def test_a_surrogate_of_compound_expressions() -> None:
    """The functions of `lnm.surrogate` are called too."""
    with refused(lnm.ModelError, "surrogate 'custom': torch.tanh", FOREIGN):
        lnm.surrogate.from_primitive(lambda z: torch.tanh(2 * z))
    with refused(lnm.ModelError, "surrogate 'mine': 2*z > 0", NO_TRUTH):
        lnm.surrogate.from_slope(lambda z: 1 if 2 * z > 0 else 0, name="mine")
    with refused(lnm.ModelError, "surrogate 'custom': expression", FROZEN):
        lnm.surrogate.from_slope(lambda z: z * WEIGHT)


ARRAY = np.array([0.5, 0.25])


@pytest.mark.parametrize(
    ("mistake", "equal"),
    [
        (lambda v: 1 if v + 1 else 2, lambda v: 1),
        (lambda v: 1 if not (v + 1) else 2, lambda v: 2),
        (lambda v: (v + 1) or 2, lambda v: v + 1),
        (lambda v: 1 if (v + 1 > 0) & (v < 2) else 2, lambda v: 1),
        (lambda v: 1 if (v + 1 > 0) | (2 * v > 2) else 2, lambda v: 1),
        (lambda v: 1 if v == 1 else 2, lambda v: 2),
        (lambda v: 1 if v + 1 == 1 else 2, lambda v: 2),
        (lambda v: 1 if v + 1 in (0, 1) else 2, lambda v: 2),
        (lambda v: 1 if v == lnm.spike else 2, lambda v: 2),
        (lambda v: (ARRAY * (v + 1))[1], lambda v: 0.25 * v + 0.25),
        (lambda v: np.dot(ARRAY, [1, v]), lambda v: 0.25 * v + 0.5),
    ],
)
def test_mistakes_that_are_not_noticed(mistake: Any, equal: Any) -> None:
    """SymPy and NumPy answer, and are not patched: docs/reference/language.md lists these."""
    x = np.linspace(-1, 3, 5).reshape(5, 1)
    found, expected = (lnm.interpret(family_of(f)(), x).out for f in (mistake, equal))
    assert np.array_equal(found, expected)


def test_a_surrogate_formula_that_is_not_noticed() -> None:
    """z is a symbol of SymPy: docs/reference/language.md lists this too."""
    assert lnm.surrogate.from_slope(lambda z: 1 if z else 2).slope == 1
    assert lnm.surrogate.from_slope(lambda z: 1 if z == 0 else 2).slope == 2


def test_ordinary_python_on_the_arguments_of_a_family() -> None:
    """Branches on numbers, None and text are accepted, and so are symbols as keys."""

    @lnm.family
    def mine(degree: int = 1, v_reset: float | None = None, kind: str = "a") -> lnm.Neuron:
        v, x = lnm.state("v"), lnm.input("x")
        scale = 2 if degree == 1 and v_reset is None and kind in ("a", "b") else 3
        names = {s: s.name for s in (v, x) if s == v or s in (x,)}
        charge = {s: scale * s + x for s in names if s != x}
        return lnm.Neuron(charge, fire=v - 1, reset=None if not v_reset else lnm.hard_reset(v))

    assert str(mine().charge) == "((v, 2*v + x),)"
    assert str(mine(2, 0.0, "c").charge) == "((v, 3*v + x),)"


def test_a_family_does_not_load_pytorch() -> None:
    """A family is built and refused without it."""
    code = (
        "import sys, lnm_codegen as lnm; lnm.get('lif')\n"
        "try:\n    lnm.surrogate.from_slope(lambda z: 1 if 2*z > 0 else 0)\n"
        "except lnm.ModelError as error:\n    print('lnm.where' in str(error))\n"
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["True", "False"]
