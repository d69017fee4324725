"""Expressions of the fixed-point IR as Verilog: the exact text of every operator."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnm_codegen.backends.verilog.expr import Printer, literal, signed_digits
from lnm_codegen.errors import InternalError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.kernel import Names
from lnm_codegen.ir.nodes import CompareOp
from lnm_codegen.ir.types import BOOL, Bits, Rounding
from tests.refusals import refused

A, B, C = fx.Var("a", Bits(8, 4)), fx.Var("b", Bits(6, 4)), fx.Var("c", BOOL)
K, N = fx.Var("k", Bits(5, 2)), fx.Var("n", Bits(8, 0))


def const(integer: int) -> fx.Const:
    return fx.Const(integer, Bits(8, 4), Fraction(integer, 16))


def at_least(lhs: fx.Expr, rhs: fx.Expr) -> fx.Compare:
    return fx.Compare(CompareOp.GE, lhs, rhs)


@given(st.integers(-(2**40), 2**40))
def test_signed_digits(number):
    """They add up, no two stand side by side, and no form has fewer (Reitwiesner, 1960)."""
    digits = signed_digits(number)
    assert sum(sign << place for sign, place in digits) == number
    assert all(sign in (1, -1) for sign, _ in digits)
    places = [place for _, place in digits]
    assert all(high - low > 1 for high, low in itertools.pairwise(places))
    assert len(digits) == bin(abs(number) ^ (3 * abs(number))).count("1")


def test_signed_digits_of_small_numbers():
    """Highest place first."""
    assert signed_digits(0) == ()
    assert signed_digits(7) == ((1, 3), (-1, 0))
    assert signed_digits(-6) == ((-1, 3), (1, 1))


@given(
    st.integers(2, 40).flatmap(
        lambda w: st.tuples(st.just(w), st.integers(-(1 << (w - 1)), (1 << (w - 1)) - 1))
    )
)
def test_literals(pair):
    """Read back by the rules of Verilog: sized, signed, the sign in front an operator."""
    width, integer = pair
    text = literal(integer, width)
    sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text)
    size, _, rest = digits.partition("'s")
    value = int(rest[1:], {"d": 10, "h": 16}[rest[0]])
    assert int(size) == width
    assert value < 1 << width
    if value >= 1 << (width - 1):
        value -= 1 << width
    assert sign * value == integer


NUMBERS = [
    (
        "a constant",
        const(5),
        ["8'sd5"],
    ),
    (
        "the least number",
        const(-128),
        ["8'sh80"],
    ),
    (
        "a name",
        A,
        ["a"],
    ),
    (
        "shift",
        fx.Shift(A, 3),
        ["{a, 3'd0}"],
    ),
    (
        "negate",
        fx.Negate(A),
        ["-{a[7], a}"],
    ),
    (
        "negate a shift",
        fx.Negate(fx.Shift(A, 2)),
        ["wire signed [9:0] y_operand = {a, 2'd0};", "-{y_operand[9], y_operand}"],
    ),
    (
        "add",
        fx.Sum(SumOp.ADD, A, B),
        ["{a[7], a} + {{3{b[5]}}, b}"],
    ),
    (
        "subtract a constant",
        fx.Sum(SumOp.SUB, B, const(3)),
        ["{{3{b[5]}}, b} - 9'sd3"],
    ),
    (
        "nested sums",
        fx.Sum(SumOp.ADD, fx.Sum(SumOp.SUB, A, B), A),
        [
            "wire signed [8:0] y_sum = {a[7], a} - {{3{b[5]}}, b};",
            "{y_sum[8], y_sum} + {{2{a[7]}}, a}",
        ],
    ),
    (
        "product",
        fx.Product(A, B),
        ["a * b"],
    ),
    (
        "square",
        fx.Product(A, A),
        ["a * a"],
    ),
    (
        "product with a coefficient",
        fx.Product(K, A),
        ["13'sd0"],
    ),
    (
        "product with few digits",
        fx.Product(const(7), A),
        [
            "wire signed [10:0] y_operand = {a, 3'd0};",
            "{{5{y_operand[10]}}, y_operand} - {{8{a[7]}}, a}",
        ],
    ),
    (
        "product with zero",
        fx.Product(const(0), A),
        ["16'sd0"],
    ),
    (
        "product of a shift",
        fx.Product(fx.Shift(A, 1), B),
        ["wire signed [8:0] y_operand = {a, 1'd0};", "y_operand * b"],
    ),
    (
        "truncate",
        fx.Round(A, 3, Rounding.TRUNCATE),
        ["wire y_unused = &{1'b0, a[2:0]};", "a[7:3]"],
    ),
    (
        "half up",
        fx.Round(A, 3, Rounding.HALF_UP),
        [
            "wire signed [8:0] y_biased = {a[7], a} + 9'sd4;",
            "wire y_unused = &{1'b0, y_biased[2:0]};",
            "y_biased[8:3]",
        ],
    ),
    (
        "convergent",
        fx.Round(A, 3, Rounding.CONVERGENT),
        [
            "wire signed [8:0] y_biased = {a[7], a} + 9'sd4;",
            "{y_biased[8:4], y_biased[3] & (|y_biased[2:0])}",
        ],
    ),
    (
        "convergent, one place",
        fx.Round(A, 1, Rounding.CONVERGENT),
        [
            "wire signed [8:0] y_biased = {a[7], a} + 9'sd1;",
            "{y_biased[8:2], y_biased[1] & (|y_biased[0:0])}",
        ],
    ),
    (
        "half up, in the zeros of an addend",
        fx.Round(fx.Sum(SumOp.ADD, fx.Product(A, B), fx.Shift(A, 4)), 4, Rounding.HALF_UP),
        [
            "wire signed [13:0] y_product = a * b;",
            "wire signed [11:0] y_addend = {a, 4'd8};",
            "wire signed [14:0] y_biased ="
            " {y_product[13], y_product} + {{3{y_addend[11]}}, y_addend};",
            "wire y_unused = &{1'b0, y_biased[3:0]};",
            "{y_biased[14], y_biased[14:4]}",
        ],
    ),
    (
        "saturate",
        fx.Saturate(fx.Sum(SumOp.ADD, A, B), 8),
        [
            "wire signed [8:0] y_sum = {a[7], a} + {{3{b[5]}}, b};",
            "wire y_above = !y_sum[8] && |y_sum[7:7];",
            "wire y_below = y_sum[8] && !(&y_sum[7:7]);",
            "{y_sum[8], (y_sum[6:0] | {7{y_above}}) & ~{7{y_below}}}",
        ],
    ),
    (
        "saturate what is narrower",
        fx.Saturate(B, 8),
        ["{{2{b[5]}}, b}"],
    ),
    (
        "saturate what fits",
        fx.Saturate(fx.Sum(SumOp.ADD, N, N), 8),
        [
            "wire signed [8:0] y_sum = {n[7], n} + {n[7], n};",
            "wire y_unused = &{1'b0, y_sum[8:8]};",
            "y_sum[7:0]",
        ],
    ),
    (
        "select",
        fx.Select(C, A, B),
        ["c ? a : {{2{b[5]}}, b}"],
    ),
    (
        "select by a condition",
        fx.Select(fx.Not(fx.Both(C, at_least(A, B))), B, const(1)),
        [
            "wire signed [7:0] y_compared = {{2{b[5]}}, b};",
            "!(c && (a >= y_compared)) ? {{2{b[5]}}, b} : 8'sd1",
        ],
    ),
]


@pytest.mark.parametrize(("e", "expected"), [x[1:] for x in NUMBERS], ids=[x[0] for x in NUMBERS])
def test_numbers(e, expected):
    """Wires of exact widths, then the text that defines a name."""
    spans = {"a": (-128, 127), "b": (-32, 31), "n": (-3, 4)}
    printer = Printer({}, {"k": 0}, 2, spans)
    text = printer.definition(e, fx.bits_of(e).width, "y")
    assert [*printer.lines, text] == expected


CONDITIONS = [
    (
        "a name",
        C,
        ["c"],
    ),
    (
        "not",
        fx.Not(C),
        ["!c"],
    ),
    (
        "both",
        fx.Both(C, fx.Not(C)),
        ["(c && !c)"],
    ),
    (
        "either",
        fx.Either(C, C),
        ["(c || c)"],
    ),
    (
        "a sign",
        at_least(A, const(0)),
        ["(a >= 8'sd0)"],
    ),
    (
        "of two widths",
        fx.Compare(CompareOp.LT, A, B),
        ["wire signed [7:0] y_compared = {{2{b[5]}}, b};", "(a < y_compared)"],
    ),
    (
        "of few bits with a negative constant",
        fx.Compare(CompareOp.LT, K, fx.Const(-16, Bits(5, 2), Fraction(-4))),
        ["({!k[4], k} < 6'd16)"],
    ),
    (
        "of few bits with a constant of more",
        fx.Compare(CompareOp.GE, fx.Shift(K, 1), const(-3)),
        [
            "wire signed [5:0] y_operand = {k, 1'd0};",
            "wire signed [7:0] y_compared = {{2{y_operand[5]}}, y_operand};",
            "({!y_compared[7], y_compared} >= 9'd253)",
        ],
    ),
    (
        "of few bits with a positive constant",
        fx.Compare(CompareOp.LT, K, fx.Const(3, Bits(5, 2), Fraction(3, 4))),
        ["(k < 5'sd3)"],
    ),
    (
        "equal",
        fx.Compare(CompareOp.EQ, A, const(-3)),
        ["(a == -8'sd3)"],
    ),
    (
        "at least a power of two",
        at_least(A, const(16)),
        ["(!a[7] && |a[6:4])"],
    ),
    (
        "its highest bit",
        at_least(A, const(64)),
        ["(!a[7] && |a[6:6])"],
    ),
    (
        "more than it holds",
        at_least(B, const(64)),
        ["wire signed [7:0] y_compared = {{2{b[5]}}, b};", "(y_compared >= 8'sd64)"],
    ),
    (
        "a shift against a power of two",
        at_least(fx.Shift(B, 2), const(16)),
        ["wire y_unused = &{1'b0, b[1:0]};", "(!b[5] && |b[4:2])"],
    ),
    (
        "a sum against a power of two",
        at_least(fx.Sum(SumOp.ADD, A, B), const(16)),
        [
            "wire signed [8:0] y_sum = {a[7], a} + {{3{b[5]}}, b};",
            "wire y_unused = &{1'b0, y_sum[3:0]};",
            "(!y_sum[8] && |y_sum[7:4])",
        ],
    ),
    (
        "a shift",
        fx.Compare(CompareOp.NE, fx.Shift(B, 2), A),
        ["wire signed [7:0] y_compared = {b, 2'd0};", "(y_compared != a)"],
    ),
]


@pytest.mark.parametrize(
    ("e", "expected"), [x[1:] for x in CONDITIONS], ids=[x[0] for x in CONDITIONS]
)
def test_conditions(e, expected):
    """Operands; of a name that is read whole elsewhere, no bit need be said to be unused."""
    printer = Printer({}, {}, 2, {}, whole=frozenset("a"))
    text = printer.condition(e, "y")
    assert [*printer.lines, text] == expected


def test_names():
    """What is taken gets a number, and Vars are called as the module calls them."""
    printer = Printer({"a": "in_a"}, {}, 0, {}, Names({"y_sum"}))
    e = fx.Negate(fx.Sum(SumOp.ADD, A, A))
    assert printer.definition(e, 10, "y") == "-{y_sum_2[8], y_sum_2}"
    assert printer.lines == ["wire signed [8:0] y_sum_2 = {in_a[7], in_a} + {in_a[7], in_a};"]


def test_multipliers_that_stay():
    """Without digits every product is one; a coefficient of more digits stays too."""
    seven = fx.Product(const(7), A)
    assert Printer({}, {}, 1, {}).shift_add_of(seven) is None
    assert Printer({}, {}, 2, {}).shift_add_of(seven) == (7, A)
    assert Printer({}, {"k": 5}, 2, {}).shift_add_of(fx.Product(A, K)) == (5, A)
    assert Printer({}, {"k": 5}, 1, {}).shift_add_of(fx.Product(A, K)) is None
    assert Printer({}, {}, 8, {}).shift_add_of(fx.Product(A, K)) is None
    printer = Printer({}, {}, 1, {})
    assert printer.definition(seven, 16, "y") == "y_operand * a"
    assert printer.lines == ["wire signed [7:0] y_operand = 8'sd7;"]


def test_no_operators():
    """A number where a condition belongs, and the other way, is a mistake of ours."""
    printer = Printer({}, {}, 0, {})
    with refused(InternalError, "verilog", "Negate is not a condition"):
        printer.condition(fx.Negate(A), "y")
    with refused(InternalError, "bits_of", "Not is not a number"):
        printer.number(fx.Not(C), "y")
