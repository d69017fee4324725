"""Kernels as text, with the fewest parentheses."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import BinaryOp, Const, Var, expr_text, number_text
from tests.ir.kernels import expr

TEXTS = [  # with no parentheses that could go; precedence and associativity are Python's
    "a - (b - c)", "a - b - c", "a + (b + c)", "a + b + c", "a * (b + c)", "a * b * c",
    "a * (b * c)", "a / (b * c)", "a / b / c", "a * b / c", "a / b * c", "a - b * c", "-a", "--a",
    "-(a + b)", "-(a * b)", "-a * b", "a - -b", "a**3", "(-a)**2", "-a**2", "(a + b)**2",
    "(a**2)**3", "a**2 * b", "exp(a - b)", "sqrt(a)**3", "fma(a, -b, b + c)",
    "select(a < b, a + b, c)", "detach(a)", "spike(a; slope 1 / (1 + a))", "a < b and b == c",
    "a < b and b == c or a < b", "(a < b or b == c) and a < b", "not a < b",
    "not (a < b and b == c)", "not a < b and b == c", "a + b >= -c", "(-2) * a", "a + (-2)",
    "(1/3) * a", "0.25 * a", "pi * a",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_expressions(text):
    assert expr_text(expr(text)) == text
    assert expr_text(ir.Power(Const(Fraction(987, 100), "pi**2"), 2)) == "(pi**2)**2"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(3), "3"), (Fraction(-3), "-3"), (Fraction(1, 10), "0.1"),
        (Fraction(-5, 4), "-1.25"), (Fraction(1, 3), "1/3"), (Fraction(10**20), "1" + 20 * "0"),
        (Fraction(1, 10**7), "1e-07"),
    ],
)  # fmt: skip
def test_numbers(value, text):
    """Whole numbers and decimals that are exact; a ratio otherwise; a name before all."""
    assert number_text(value) == text
    assert number_text(value, "named") == "named"


def random_expressions():
    """Draw expressions of every node; a number is no sign, and no quotient of numbers."""
    numbers = [Fraction(2), Fraction(-1, 4), Fraction(1, 3)]
    leaf = st.sampled_from([*map(Var, "abc"), *map(Const, numbers)])
    arithmetic, logic = list(BinaryOp)[:4], list(BinaryOp)[4:]

    def larger(real):
        compared = st.builds(ir.Compare, st.sampled_from(ir.CompareOp), real, real)
        negated = st.builds(ir.Unary, st.just(ir.UnaryOp.NOT), compared)
        condition = st.builds(ir.Binary, st.sampled_from(logic), compared | negated, compared)
        no_number = real.filter(lambda e: not isinstance(e, Const))
        return st.one_of(
            st.builds(ir.Binary, st.sampled_from(arithmetic), no_number, real),
            st.builds(ir.Unary, st.just(ir.UnaryOp.NEG), no_number),
            st.builds(ir.Power, no_number, st.integers(2, 3)),
            st.builds(ir.Select, compared | condition, real, real),
            st.builds(ir.Fma, real, real, real),
            st.builds(ir.Call, st.sampled_from(ir.Fn), real),
            st.builds(ir.Detach, real),
        )

    return st.recursive(leaf, larger, max_leaves=8)


@settings(max_examples=100, deadline=None)
@given(random_expressions())
def test_text_means_what_the_tree_means(e):
    """Python's grammar, whose precedence is ours, reads the text as the same tree."""
    assert expr(expr_text(e)) == e


def test_a_kernel():
    """Ports by role, Lets by phase, results."""
    assert str(lnm.lower(lnm.get("cuba_lif", v_reset=None)).forward) == CUBA


CUBA = """\
kernel cuba_lif
  takes state: current, v
  takes input: x
  takes param: current_decay, voltage_decay, v_threshold
  # charge
  h_current = fma(current_decay, current, x)
  h = fma(voltage_decay, v, h_current)
  # fire
  z = h - v_threshold
  fired = spike(z; slope 1 / ((pi**2) * z**2 + 1))
  # output
  spike = select(fired, 1, 0)
  # reset
  current_next = h_current
  v_next = fma(-v_threshold, spike, h)
  gives output: spike
  gives state: current_next, v_next"""


def test_a_program_is_its_kernels():
    """prepare, forward, backward, prepare_backward, a blank line between."""
    program = lnm.lower(lnm.get("lnm", degree=2))
    names = ["lnm_prepare", "lnm", "lnm_backward", "lnm_prepare_backward"]
    heads = [line for line in str(program).splitlines() if line.startswith("kernel")]
    assert heads == [f"kernel {n}" for n in names]
    assert str(program).count("\n\n") == 3
