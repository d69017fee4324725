"""Comparisons of symbols: SymPy's in all but their truth value."""

from __future__ import annotations

import copy
import operator
import pickle
from typing import Any

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.language import symbols
from lnm_codegen.language.symbols import plain

v, x, p = lnm.state("v"), lnm.input("x"), lnm.param("p")
MIRRORED = {
    operator.gt: operator.lt, operator.ge: operator.le,
    operator.lt: operator.gt, operator.le: operator.ge,
}  # fmt: skip
RELATIONS = dict(zip(MIRRORED, (sympy.Gt, sympy.Ge, sympy.Lt, sympy.Le), strict=True))
sides = st.sampled_from([v, x, p, 2 * v + x, lnm.tanh(v), sympy.Integer(1), 0.5, 3, v + 1])


@st.composite
def pairs(draw: Any) -> tuple[Any, Any]:
    """Draw a condition in Python's operators, and the same in SymPy's classes."""
    if draw(st.integers(0, 2)):
        compare = draw(st.sampled_from(list(RELATIONS)))
        a, b = draw(st.permutations([draw(st.sampled_from([v, x, p])), draw(sides)]))
        mirrored = not isinstance(a, sympy.Basic)  # Python evaluates 3 > v as v < 3
        own = RELATIONS[MIRRORED[compare]](b, a) if mirrored else RELATIONS[compare](a, b)
        return compare(a, b), own
    (a, own_a), (b, own_b) = draw(pairs()), draw(pairs())
    joined = [(a & b, sympy.And(own_a, own_b)), (a | b, sympy.Or(own_a, own_b)), (~a, ~own_a)]
    return draw(st.sampled_from(joined))


def is_ours(node: Any) -> bool:
    return isinstance(node, symbols._Undecided)


@settings(max_examples=40)
@given(pairs())
def test_a_condition_is_that_of_sympy(pair: tuple[Any, Any]) -> None:
    """Equal both ways, with its hash, text, order and derived forms; its truth value raises.

    One that SymPy has decided, v <= v, has its truth value.
    """
    ours, theirs = pair
    assert ours == theirs
    assert theirs == ours
    assert not ours != theirs
    assert hash(ours) == hash(theirs)
    assert str(ours) == str(theirs)
    assert sympy.latex(ours) == sympy.latex(theirs)
    assert sympy.Not(ours) == sympy.Not(theirs)
    assert sympy.And(ours, x > 2) == sympy.And(theirs, sympy.Gt(x, 2))
    assert sympy.default_sort_key(ours) == sympy.default_sort_key(theirs)
    if theirs in (True, False):
        assert bool(ours) is bool(theirs)
    elif is_ours(ours):
        with pytest.raises(lnm.ModelError):
            bool(ours)


@settings(max_examples=25)
@given(pairs())
def test_no_neuron_contains_another_class(pair: tuple[Any, Any]) -> None:
    """`lnm.where` stores SymPy's conditions, and so do copies and pickles.

    SymPy's caches may put our classes into a condition of its own classes, which is equal.
    """
    for same in (lambda c: c, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))):
        ours, theirs = map(same, pair)  # SymPy may decide a condition of its own when it is loaded
        assert ours == theirs
        chosen = lnm.where(plain(ours), 1, v)
        assert chosen == lnm.where(ours, 1, v) == lnm.where(theirs, 1, v)
        for node in (plain(ours), chosen):
            assert not any(map(is_ours, sympy.preorder_traversal(sympy.sympify(node))))


def test_which_conditions_raise() -> None:
    """Those of a symbol; SymPy makes those of compound expressions."""
    for condition in (v > 0, 0 < v, v >= x, (v > 0) & (2 * v > 1), (v > 0) | (x > 0), ~(v > 0)):
        assert is_ours(condition)
    assert not is_ours(2 * v > 0)
    for unequal in (v >= 0, x > 0, 3):
        assert (v > 0) != unequal
