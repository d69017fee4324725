"""Expressions of the fixed-point IR as Verilog: the exact text of every operator."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from fractions import Fraction

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


NUMBERS = """
    const(5) >> 8'sd5
    const(-128) >> 8'sh80
    A >> a
    Shift(A, 3) >> {a, 3'd0}
    Negate(A) >> -{a[7], a}
    Negate(Shift(A, 2)) >> wire signed [9:0] y_operand = {a, 2'd0}; >> -{y_operand[9], y_operand}
    Sum(ADD, A, B) >> {a[7], a} + {{3{b[5]}}, b}
    Sum(SUB, B, const(3)) >> {{3{b[5]}}, b} - 9'sd3
    Sum(ADD, Sum(SUB, A, B), A)
        >> wire signed [8:0] y_sum = {a[7], a} - {{3{b[5]}}, b};
        >> {y_sum[8], y_sum} + {{2{a[7]}}, a}
    Product(A, B) >> a * b
    Product(A, A) >> a * a
    Product(K, A) >> 13'sd0
    Product(const(7), A)
        >> wire signed [10:0] y_operand = {a, 3'd0};
        >> {{5{y_operand[10]}}, y_operand} - {{8{a[7]}}, a}
    Product(const(0), A) >> 16'sd0
    Product(Shift(A, 1), B) >> wire signed [8:0] y_operand = {a, 1'd0}; >> y_operand * b
    Round(A, 3, TRUNCATE) >> wire y_unused = &{1'b0, a[2:0]}; >> a[7:3]
    Round(A, 3, HALF_UP)
        >> wire signed [8:0] y_biased = {a[7], a} + 9'sd4;
        >> wire y_unused = &{1'b0, y_biased[2:0]};
        >> y_biased[8:3]
    Round(A, 3, CONVERGENT)
        >> wire signed [8:0] y_biased = {a[7], a} + 9'sd4;
        >> {y_biased[8:4], y_biased[3] & (|y_biased[2:0])}
    Round(A, 1, CONVERGENT)
        >> wire signed [8:0] y_biased = {a[7], a} + 9'sd1;
        >> {y_biased[8:2], y_biased[1] & (|y_biased[0:0])}
    Round(Sum(ADD, Product(A, B), Shift(A, 4)), 4, HALF_UP)
        >> wire signed [13:0] y_product = a * b;
        >> wire signed [11:0] y_addend = {a, 4'd8};
        >> wire signed [14:0] y_biased = {y_product[13], y_product} + {{3{y_addend[11]}}, y_addend};
        >> wire y_unused = &{1'b0, y_biased[3:0]};
        >> {y_biased[14], y_biased[14:4]}
    Saturate(Sum(ADD, A, B), 8)
        >> wire signed [8:0] y_sum = {a[7], a} + {{3{b[5]}}, b};
        >> wire y_above = !y_sum[8] && |y_sum[7:7];
        >> wire y_below = y_sum[8] && !(&y_sum[7:7]);
        >> {y_sum[8], (y_sum[6:0] | {7{y_above}}) & ~{7{y_below}}}
    Saturate(B, 8) >> {{2{b[5]}}, b}
    Saturate(Sum(ADD, N, N), 8)
        >> wire signed [8:0] y_sum = {n[7], n} + {n[7], n};
        >> wire y_unused = &{1'b0, y_sum[8:8]};
        >> y_sum[7:0]
    Select(C, A, B) >> c ? a : {{2{b[5]}}, b}
    Select(Not(Both(C, at_least(A, B))), B, const(1))
        >> wire signed [7:0] y_compared = {{2{b[5]}}, b};
        >> !(c && (a >= y_compared)) ? {{2{b[5]}}, b} : 8'sd1
"""
"""Expressions of numbers, the lines of wires, and the text that defines one."""
CONDITIONS = """
    C >> c
    Not(C) >> !c
    Both(C, Not(C)) >> (c && !c)
    Either(C, C) >> (c || c)
    at_least(A, const(0)) >> (a >= 8'sd0)
    Compare(LT, A, B) >> wire signed [7:0] y_compared = {{2{b[5]}}, b}; >> (a < y_compared)
    Compare(LT, K, Const(-16, Bits(5, 2), Fraction(-4))) >> ({!k[4], k} < 6'd16)
    Compare(GE, Shift(K, 1), const(-3))
        >> wire signed [5:0] y_operand = {k, 1'd0};
        >> wire signed [7:0] y_compared = {{2{y_operand[5]}}, y_operand};
        >> ({!y_compared[7], y_compared} >= 9'd253)
    Compare(LT, K, Const(3, Bits(5, 2), Fraction(3, 4))) >> (k < 5'sd3)
    Compare(EQ, A, const(-3)) >> (a == -8'sd3)
    at_least(A, const(16)) >> (!a[7] && |a[6:4])
    at_least(A, const(64)) >> (!a[7] && |a[6:6])
    at_least(B, const(64))
        >> wire signed [7:0] y_compared = {{2{b[5]}}, b};
        >> (y_compared >= 8'sd64)
    at_least(Shift(B, 2), const(16)) >> wire y_unused = &{1'b0, b[1:0]}; >> (!b[5] && |b[4:2])
    at_least(Sum(ADD, A, B), const(16))
        >> wire signed [8:0] y_sum = {a[7], a} + {{3{b[5]}}, b};
        >> wire y_unused = &{1'b0, y_sum[3:0]};
        >> (!y_sum[8] && |y_sum[7:4])
    Compare(NE, Shift(B, 2), A) >> wire signed [7:0] y_compared = {b, 2'd0}; >> (y_compared != a)
"""
"""Conditions likewise."""


def rows(table: str) -> Iterator[tuple[fx.Expr, list[str]]]:
    """Yield expression and lines; a line that is indented further continues the one before."""
    names = {**vars(fx), **{m.name: m for e in (SumOp, CompareOp, Rounding) for m in e}}
    names |= {"A": A, "B": B, "C": C, "K": K, "N": N, "const": const, "at_least": at_least}
    for line in re.sub(r"\n {5,}", " ", table).strip("\n").splitlines():
        text, *lines = (part.strip() for part in line.split(" >> "))
        yield eval(text, names | {"Fraction": Fraction, "Bits": Bits}), lines


def test_numbers() -> None:
    """Wires of exact widths, then the text that defines a name."""
    for e, expected in rows(NUMBERS):
        printer = Printer({}, {"k": 0}, 2, {"a": (-128, 127), "b": (-32, 31), "n": (-3, 4)})
        text = printer.definition(e, fx.bits_of(e).width, "y")
        assert [*printer.lines, text] == expected


def test_conditions() -> None:
    """Operands; of a name that is read whole elsewhere, no bit need be said to be unused."""
    for e, expected in rows(CONDITIONS):
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
