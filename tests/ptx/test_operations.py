"""Every opcode against values worked out another way: integers of Python, exact fractions.

Operands are all pairs of the edges of a type, among them signed zeros, subnormals, infinities and
NaN, and random bits. A NaN equals a NaN; all else must have the same bits.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.ptx import exact
from tests.ptx.exact import BF16, F16, F32, FORMATS, Format
from tests.ptx.kernels import bits, computed, kernel, run
from tests.ptx.memory import Fault
from tests.ptx.operations import TABLE, decode
from tests.ptx.program import UnknownPtx, type_of

LANES = 512

Expected = Callable[..., "int | None"]


def edges(word: str) -> list[int]:
    """Return the bits at which a type is special."""
    if word == "pred":
        return [0, 1]
    kind = type_of(word)
    if word in FORMATS:
        f = FORMATS[word]
        sizes = [0, 1, (1 << f.fraction) - 1, 1 << f.fraction, f.infinity - 1, f.infinity,
                 f.infinity + 1, f.nearest(Fraction(1)), f.nearest(Fraction(1)) + 1,
                 f.nearest(Fraction(5, 2)), f.nearest(Fraction(1, 3))]  # fmt: skip
        return [*sizes, *(exact.negated(f, size) for size in sizes)]
    half = 1 << (kind.bits - 1)
    return [
        0,
        1,
        2,
        3,
        half - 1,
        half,
        half + 1,
        2 * half - 1,
        2 * half - 2,
        1 << kind.bits // 2,
        7,
    ]


def drawn(words: tuple[str, ...], seed: int = 0) -> list[list[int]]:
    """Return operands: pairs of edges with edges, then random bits, near each other or not."""
    rng = np.random.default_rng(seed)
    table: list[list[int]] = [[] for _ in words]
    for pair in itertools.product(*(edges(word) for word in words[:2])):
        more = [int(rng.choice(np.array(edges(word), object))) for word in words[2:]]
        for column, number in zip(table, [*pair, *more], strict=True):
            column.append(number)
    for word, column in zip(words, table, strict=True):
        width = type_of(word).bits
        while len(column) < LANES:
            number = int.from_bytes(rng.bytes(8), "little")
            if word in FORMATS and rng.random() < 0.7:  # exponents near that of 1, so sums cancel
                f = FORMATS[word]
                number = number & ~f.infinity | (f.bias + int(rng.integers(-3, 4))) << f.fraction
            elif rng.random() < 0.3:
                number >>= int(rng.integers(0, 60))
            column.append(number & ((1 << width) - 1))
        del column[LANES:]
    return table


def signed(number: int, width: int) -> int:
    return number - (1 << width) if number >> (width - 1) else number


def compare(instruction: str, result: str, words: tuple[str, ...], expected: Expected) -> None:
    """Compare an instruction with its expected values, which Python works out one by one."""
    table = drawn(words)
    arrays = [bits(column, max(type_of(w).bits, 8)) for w, column in zip(words, table, strict=True)]
    got = computed(instruction, result, *zip(words, arrays, strict=True))
    mask = (1 << type_of(result).bits) - 1
    for k, row in enumerate(zip(*table, strict=True)):
        number, mine = expected(*row), int(got[k])
        operands = ", ".join(f"{x:#x}" for x in row)
        if number is exact.NAN:
            assert FORMATS[result].is_nan(mine), f"{instruction} of {operands}: {mine:#x}"
        else:
            assert mine == number & mask, (
                f"{instruction} of {operands}: {mine:#x}, {number & mask:#x}"
            )


# ---- integers ----


def trunc(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


INTEGERS: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul.lo": lambda a, b: a * b,
    "min": min, "max": max,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["s16", "u16", "s32", "u32", "s64", "u64"])
@pytest.mark.parametrize("name", [*INTEGERS, "mul.hi"])
def test_integers(name: str, kind: str) -> None:
    """Modulo 2**n; the upper half of a product."""
    width = type_of(kind).bits

    def expected(*given: int) -> int:
        a, b = (signed(x, width) if kind[0] == "s" else x for x in given)
        return a * b >> width if name == "mul.hi" else INTEGERS[name](a, b)

    compare(f"{name}.{kind} {{0}}, {{1}}, {{2}}", kind, (kind, kind), expected)


@pytest.mark.parametrize("kind", ["s16", "u16", "s32", "u32", "s64", "u64"])
@pytest.mark.parametrize("name", ["div", "rem"])
def test_quotients(name: str, kind: str) -> None:
    """Towards 0; a remainder has the sign of the first. By 0 nothing is defined, and it raises."""
    width = type_of(kind).bits

    def expected(*given: int) -> int:
        a, b = (signed(x, width) if kind[0] == "s" else x for x in given)
        return trunc(a, b | 1) if name == "div" else a - trunc(a, b | 1) * (b | 1)

    one = f"or.b{width} {{2}}, {{2}}, 1; {name}.{kind} {{0}}, {{1}}, {{2}}"
    compare(one, kind, (kind, kind), lambda a, b: expected(a, b | 1))


@pytest.mark.parametrize(
    ("kind", "wide"), [("s16", "s32"), ("u16", "u32"), ("s32", "s64"), ("u32", "u64")]
)
def test_wide_products(kind: str, wide: str) -> None:
    """The whole product, alone and with a sum."""
    width = type_of(kind).bits

    def times(a: int, b: int) -> int:
        return signed(a, width) * signed(b, width) if kind[0] == "s" else a * b

    compare(f"mul.wide.{kind} {{0}}, {{1}}, {{2}}", wide, (kind, kind), times)
    compare(
        f"mad.wide.{kind} {{0}}, {{1}}, {{2}}, {{3}}", wide, (kind, kind, wide),
        lambda a, b, c: times(a, b) + c,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["s32", "u32", "s64", "u64"])
@pytest.mark.parametrize("half", ["lo", "hi"])
def test_products_with_sums(half: str, kind: str) -> None:
    """A half of the product and a sum."""
    width = type_of(kind).bits

    def expected(*given: int) -> int:
        a, b, c = (signed(x, width) if kind[0] == "s" else x for x in given)
        return (a * b >> width if half == "hi" else a * b) + c

    compare(f"mad.{half}.{kind} {{0}}, {{1}}, {{2}}, {{3}}", kind, (kind,) * 3, expected)


def test_carries() -> None:
    """96 bits of a product by 32 bits: the carry of one instruction enters the next."""
    text = (
        "mov.b64 {{%r10, %r11}}, {1}; mul.lo.u32 %r12, %r10, {2}; mul.hi.u32 %r13, %r10, {2};"
        "mad.lo.cc.u32 %r14, %r11, {2}, %r13; madc.hi.u32 %r15, %r11, {2}, 0; "
    )
    high = text + "mov.b64 {0}, {{%r14, %r15}}"
    compare(high, "u64", ("u64", "u32"), lambda a, b: a * b >> 32)


def test_a_carry_of_a_sum() -> None:
    """128 bits of a product: carries pass through products, and end in a sum."""
    text = (
        "mov.b64 {{%r10, %r11}}, {1}; mov.b64 {{%r12, %r13}}, {2};"
        "mul.lo.u32 %r0, %r10, %r12; mul.hi.u32 %r1, %r10, %r12;"
        "mad.lo.cc.u32 %r1, %r10, %r13, %r1; madc.hi.u32 %r2, %r10, %r13, 0;"
        "mad.lo.cc.u32 %r1, %r11, %r12, %r1; madc.hi.cc.u32 %r2, %r11, %r12, %r2;"
        "addc.cc.u32 %r3, 0, 0;"
        "mad.lo.cc.u32 %r2, %r11, %r13, %r2; madc.hi.u32 %r3, %r11, %r13, %r3;"
        "mov.b64 {0}, {{%r2, %r3}}"
    )
    compare(text, "u64", ("u64", "u64"), lambda a, b: a * b >> 64)


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("add.cc.u32 %r10, %r10, %r12; addc.cc.u32 %r11, %r11, %r13; addc.u32 %r14, 7, 0;", 1),
        ("sub.cc.u32 %r10, %r10, %r12; subc.cc.u32 %r11, %r11, %r13; subc.u32 %r14, 7, 0;", -1),
    ],
)
def test_carries_of_sums(text: str, sign: int) -> None:
    """64 bits of a sum in halves; the carry out of the upper half, or its borrow."""
    text = f"mov.b64 {{{{%r10, %r11}}}}, {{1}}; mov.b64 {{{{%r12, %r13}}}}, {{2}}; {text}"
    both = f"{text} mov.b64 {{0}}, {{{{%r10, %r11}}}}"
    compare(both, "u64", ("u64", "u64"), lambda a, b: a + sign * b)
    over = f"{text} mov.u32 {{0}}, %r14"
    compare(over, "u32", ("u64", "u64"), lambda a, b: 7 + ((a + sign * b) >> 64))


def test_a_carry_belongs_to_its_thread() -> None:
    """A guard leaves the carry of the others as it is."""
    text = (
        "mad.lo.cc.u32 %r10, {1}, {2}, {1}; setp.lt.u32 %p8, {2}, 9; "
        "@%p8 mad.lo.cc.u32 %r10, 0, 0, 0; madc.lo.u32 {0}, 0, 0, 0"
    )
    compare(text, "u32", ("u32", "u32"), lambda a, b: 0 if b < 9 else (a * b % 2**32 + a) >> 32)


@pytest.mark.parametrize("kind", ["s32", "s64", "s16"])
def test_signs_of_integers(kind: str) -> None:
    """The least integer has no opposite."""
    width = type_of(kind).bits
    compare(f"neg.{kind} {{0}}, {{1}}", kind, (kind,), lambda a: -a)
    compare(f"abs.{kind} {{0}}, {{1}}", kind, (kind,), lambda a: abs(signed(a, width)))


# ---- bits ----


@pytest.mark.parametrize("width", [32, 64])
def test_leading_zeros(width: int) -> None:
    """Zeros before the first bit that is set; the width where none is."""
    compare(f"clz.b{width} {{0}}, {{1}}", "u32", (f"b{width}",), lambda a: width - a.bit_length())


@pytest.mark.parametrize("width", [16, 32, 64])
def test_logic(width: int) -> None:
    """Bit by bit."""
    kind = f"b{width}"
    for name, function in (
        ("and", lambda a, b: a & b), ("or", lambda a, b: a | b), ("xor", lambda a, b: a ^ b),
    ):  # fmt: skip
        compare(f"{name}.{kind} {{0}}, {{1}}, {{2}}", kind, (kind, kind), function)
    compare(f"not.{kind} {{0}}, {{1}}", kind, (kind,), lambda a: ~a)


def test_logic_of_predicates() -> None:
    """The same of predicates."""
    for name, function in (
        ("and", lambda a, b: a & b), ("or", lambda a, b: a | b), ("xor", lambda a, b: a ^ b),
    ):  # fmt: skip
        compare(f"{name}.pred {{0}}, {{1}}, {{2}}", "pred", ("pred", "pred"), function)
    compare("not.pred {0}, {1}", "pred", ("pred",), lambda a: 1 - a)
    compare("mov.pred {0}, {1}", "pred", ("pred",), lambda a: a)
    compare("mov.pred {0}, -1", "pred", ("pred",), lambda a: 1)


@pytest.mark.parametrize("kind", ["b16", "b32", "b64", "u16", "u32", "u64", "s16", "s32", "s64"])
def test_shifts(kind: str) -> None:
    """By the width or more: 0, or the sign."""
    width = type_of(kind).bits
    amounts = [*range(width + 2), 255, 256, 2**31, 2**32 - 1]
    number = [edges(kind)[k % len(edges(kind))] for k in range(LANES)]
    by = [amounts[k // 11 % len(amounts)] for k in range(LANES)]
    arrays = ((kind, bits(number, width)), ("u32", bits(by, 32)))
    if kind[0] == "b":
        got = computed(f"shl.{kind} {{0}}, {{1}}, {{2}}", kind, *arrays)
        expected = [a << b if b < width else 0 for a, b in zip(number, by, strict=True)]
        np.testing.assert_array_equal(got, bits(expected, width))
    got = computed(f"shr.{kind} {{0}}, {{1}}, {{2}}", kind, *arrays)
    values = [signed(a, width) if kind[0] == "s" else a for a in number]
    expected = [a >> min(b, width + 1) for a, b in zip(values, by, strict=True)]
    np.testing.assert_array_equal(got, bits(expected, width))


@pytest.mark.parametrize("side", ["l", "r"])
@pytest.mark.parametrize("mode", ["wrap", "clamp"])
def test_funnel_shifts(side: str, mode: str) -> None:
    """Of 64 bits the upper ones to the left, the lower ones to the right."""

    def expected(low: int, high: int, by: int) -> int:
        by = by % 32 if mode == "wrap" else min(by, 32)
        whole = high << 32 | low
        return whole << by >> 32 if side == "l" else whole >> by

    compare(
        f"shf.{side}.{mode}.b32 {{0}}, {{1}}, {{2}}, {{3}}", "b32", ("b32", "b32", "u32"), expected
    )


@pytest.mark.parametrize("kind", ["u32", "u64", "s32", "s64"])
def test_extraction_of_bits(kind: str) -> None:
    """As the definition of PTX has it, bit by bit; the sign is that of the last bit within."""
    width = type_of(kind).bits

    def expected(a: int, position: int, length: int) -> int:
        position, length = position & 255, length & 255
        sign = 0
        if kind[0] == "s" and length:
            sign = a >> min(position + length - 1, width - 1) & 1
        found = 0
        for k in range(width):
            inside = k < length and position + k < width
            found |= (a >> (position + k) & 1 if inside else sign) << k
        return found

    compare(f"bfe.{kind} {{0}}, {{1}}, {{2}}, {{3}}", kind, (kind, "u32", "u32"), expected)
    small = (
        f"and.b32 {{2}}, {{2}}, 63; and.b32 {{3}}, {{3}}, 31; bfe.{kind} {{0}}, {{1}}, {{2}}, {{3}}"
    )
    compare(small, kind, (kind, "u32", "u32"), lambda a, p, n: expected(a, p & 63, n & 31))


@pytest.mark.parametrize("kind", ["b32", "b64"])
def test_insertion_of_bits(kind: str) -> None:
    """As the definition of PTX has it, bit by bit."""
    width = type_of(kind).bits

    def expected(a: int, b: int, position: int, length: int) -> int:
        position, length = position & 255, length & 255
        for k in range(length):
            if position + k < width:
                bit = 1 << (position + k)
                b = b & ~bit | (bit if k < width and a >> k & 1 else 0)
        return b

    words = (kind, kind, "u32", "u32")
    compare(f"bfi.{kind} {{0}}, {{1}}, {{2}}, {{3}}, {{4}}", kind, words, expected)
    few = "and.b32 {3}, {3}, 63; and.b32 {4}, {4}, 31; "
    small = few + f"bfi.{kind} {{0}}, {{1}}, {{2}}, {{3}}, {{4}}"
    compare(small, kind, words, lambda a, b, p, n: expected(a, b, p & 63, n & 31))


def test_permutation_of_bytes() -> None:
    """A byte of each of four, of two registers, or its sign eight times."""

    def expected(a: int, b: int, choice: int) -> int:
        taken, found = (a | b << 32).to_bytes(8, "little"), []
        for k in range(4):
            byte = taken[choice >> 4 * k & 7]
            found.append(byte if not choice >> 4 * k & 8 else 255 * (byte >> 7))
        return int.from_bytes(bytes(found), "little")

    compare("prmt.b32 {0}, {1}, {2}, {3}", "b32", ("b32", "b32", "b32"), expected)


@pytest.mark.parametrize("kind", ["b16", "b32", "b64", "u32", "f32", "f64", "s64"])
def test_moves(kind: str) -> None:
    """Bits as they are; parts of a register, the lowest first."""
    width = type_of(kind).bits
    compare(f"mov.{kind} {{0}}, {{1}}", kind, (kind,), lambda a: a)
    compare(f"selp.{kind} {{0}}, {{1}}, {{2}}, {{3}}", kind, (kind, kind, "pred"),
            lambda a, b, p: a if p else b)  # fmt: skip
    if kind in ("b32", "b64"):
        half, register = width // 2, {32: "%h", 64: "%r"}[width]
        text = "mov.KIND {{AB5, AB6}}, {1}; mov.KIND {0}, {{AB6, AB5}}"
        swap = text.replace("KIND", kind).replace("AB", register)
        compare(swap, kind, (kind,), lambda a: a >> half | a << half)
        upper = text.replace("AB5, AB6", "_, AB5").replace("AB6", "AB5")
        upper = upper.replace("KIND", kind).replace("AB", register)
        compare(upper, kind, (kind,), lambda a: (a >> half) * (1 + 2**half))


def test_addresses_of_global_memory_are_generic() -> None:
    """`cvta` leaves them as they are."""
    compare("cvta.to.global.u64 {0}, {1}", "u64", ("u64",), lambda a: a)
    compare("cvta.global.u64 {0}, {1}", "u64", ("u64",), lambda a: a)


# ---- comparisons ----

ORDER: dict[str, Callable[[Fraction, Fraction], bool]] = {
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
}  # fmt: skip
UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}


@pytest.mark.parametrize("kind", ["s16", "u16", "s32", "u32", "s64", "u64", "b16", "b32", "b64"])
def test_comparisons_of_integers(kind: str) -> None:
    """In the order of the type."""
    width = type_of(kind).bits
    for name in [*ORDER, *UNSIGNED] if kind[0] == "u" else ORDER:
        order = ORDER[UNSIGNED.get(name, name)]

        def expected(a: int, b: int, order: Callable[..., bool] = order) -> int:
            if kind[0] == "s":
                a, b = signed(a, width), signed(b, width)
            return order(a, b)

        compare(f"setp.{name}.{kind} {{0}}, {{1}}, {{2}}", "pred", (kind, kind), expected)


def key(f: Format, a: int) -> Fraction:
    """Return a number by which floats have their order; infinities are beyond all."""
    if f.is_infinite(a):
        return Fraction(10**400) * (-1) ** f.sign(a)
    return f.value(a)


@pytest.mark.parametrize("kind", ["f32", "f64", "bf16"])
def test_comparisons_of_floats(kind: str) -> None:
    """False with NaN, and with a `u` true; -0 equals +0."""
    f = FORMATS[kind]
    for name, unordered in [(n, u) for n in ORDER for u in ("", "u")]:

        def expected(a: int, b: int, name: str = name, unordered: str = unordered) -> int:
            if f.is_nan(a) or f.is_nan(b):
                return bool(unordered)
            return ORDER[name](key(f, a), key(f, b))

        compare(
            f"setp.{name}{unordered}.{kind} {{0}}, {{1}}, {{2}}", "pred", (kind, kind), expected
        )
    either = lambda a, b: f.is_nan(a) or f.is_nan(b)  # noqa: E731
    compare(f"setp.nan.{kind} {{0}}, {{1}}, {{2}}", "pred", (kind, kind), either)
    compare(
        f"setp.num.{kind} {{0}}, {{1}}, {{2}}", "pred", (kind, kind), lambda a, b: not either(a, b)
    )


def test_comparisons_with_another_predicate() -> None:
    """Two destinations, the second of the opposite; a predicate joined to both."""
    compare("setp.lt.and.s32 {0}, {1}, {2}, {3}", "pred", ("s32", "s32", "pred"),
            lambda a, b, p: signed(a, 32) < signed(b, 32) and p)  # fmt: skip
    compare("setp.lt.or.s32 %p8|{0}, {1}, {2}, !{3}", "pred", ("s32", "s32", "pred"),
            lambda a, b, p: signed(a, 32) >= signed(b, 32) or not p)  # fmt: skip
    compare("setp.lt.xor.u32 {0}|_, {1}, {2}, {3}", "pred", ("u32", "u32", "pred"),
            lambda a, b, p: (a < b) != p)  # fmt: skip


# ---- floating point ----

FLOATS: dict[str, tuple[int, Callable[..., int | None]]] = {
    "add.rn": (2, exact.add),
    "sub.rn": (2, lambda f, a, b: exact.add(f, a, exact.negated(f, b))),
    "mul.rn": (2, exact.multiply),
    "div.rn": (2, exact.divide),
    "fma.rn": (3, exact.fma),
    "rcp.rn": (1, lambda f, a: exact.divide(f, f.nearest(Fraction(1)), a)),
    "sqrt.rn": (1, exact.root),
    "neg": (1, exact.negated),
    "abs": (1, lambda f, a: f.size(a)),
    "copysign": (2, lambda f, a, b: a & 1 << (f.width - 1) | f.size(b)),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize("name", FLOATS)
def test_floats(name: str, kind: str) -> None:
    """Rounded once, to nearest even, from exact fractions."""
    f, (count, function) = FORMATS[kind], FLOATS[name]
    operands = ", ".join(f"{{{k}}}" for k in range(count + 1))
    compare(f"{name}.{kind} {operands}", kind, (kind,) * count, lambda *given: function(f, *given))


def test_arithmetic_has_one_nan() -> None:
    """Threads that add in another order write the same bits."""
    table = drawn(("f32", "f32"))
    arrays = [("f32", bits(column, 32)) for column in table]
    for name in ("add.rn", "mul.rn", "div.rn"):
        got = computed(f"{name}.f32 {{0}}, {{1}}, {{2}}", "f32", *arrays)
        nan = (got & 0x7FFFFFFF) > F32.infinity
        assert nan.any()
        assert (got[nan] == 0x7FFFFFFF).all()


@pytest.mark.parametrize("name", ["add.rn", "sub.rn", "mul.rn", "fma.rn", "neg", "abs"])
def test_floats_that_are_flushed(name: str) -> None:
    """With .ftz a subnormal number is 0 of its sign, before and after."""
    count, function = FLOATS[name]

    def flushed(a: int | None) -> int | None:
        is_small = a is not None and F32.size(a) < 1 << F32.fraction
        return a & 1 << 31 if a is not None and is_small else a

    operands = ", ".join(f"{{{k}}}" for k in range(count + 1))
    compare(
        f"{name}.ftz.f32 {operands}", "f32", ("f32",) * count,
        lambda *given: flushed(function(F32, *map(flushed, given))),
    )  # fmt: skip
    for word in ("eq", "ltu", "ge"):
        order, unordered = ORDER[word[:2]], word.endswith("u")

        def expected(a: int, b: int, order=order, unordered=unordered) -> int:  # type: ignore[no-untyped-def]
            if F32.is_nan(a) or F32.is_nan(b):
                return unordered
            return order(*(key(F32, flushed(x)) for x in (a, b)))

        compare(f"setp.{word}.ftz.f32 {{0}}, {{1}}, {{2}}", "pred", ("f32", "f32"), expected)


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_sums_that_lie_between(kind: str) -> None:
    """A product that cancels but for its last bits, or lies just beside a tie of the sum."""
    f = FORMATS[kind]
    rng = np.random.default_rng(1)
    rows = []
    for k in range(LANES):
        a, b = (
            f.nearest(1 + Fraction(int(rng.integers(1 << f.fraction)), 1 << f.fraction))
            for _ in "ab"
        )
        product = f.value(a) * f.value(b)
        c = -product if k % 2 else (2 * product if k % 4 else product) * 2 ** (f.fraction + k % 3)
        rows.append((a, exact.negated(f, b) if k % 5 == 0 else b, f.nearest(c)))
    arrays = [(kind, bits(column, f.width)) for column in zip(*rows, strict=True)]
    got = computed(f"fma.rn.{kind} {{0}}, {{1}}, {{2}}, {{3}}", kind, *arrays)
    assert [int(x) for x in got] == [exact.fma(f, *row) for row in rows]


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize("name", ["min", "max"])
def test_extremes_of_floats(name: str, kind: str) -> None:
    """-0 is less than +0; a number before NaN, and with .NaN the reverse."""
    f = FORMATS[kind]

    def expected(a: int, b: int, keeps: bool) -> int | None:
        if f.is_nan(a) or f.is_nan(b):
            if keeps or (f.is_nan(a) and f.is_nan(b)):
                return exact.NAN
            return b if f.is_nan(a) else a
        order = lambda x: (key(f, x), -f.sign(x))  # noqa: E731
        return (min if name == "min" else max)(a, b, key=order)

    for word in ("", ".NaN"):
        compare(f"{name}{word}.{kind} {{0}}, {{1}}, {{2}}", kind, (kind, kind),
                lambda a, b, keeps=bool(word): expected(a, b, keeps))  # fmt: skip


# ---- conversions ----


@pytest.mark.parametrize(
    ("word", "target", "source"),
    [("rn", "f32", "f64"), ("", "f64", "f32"), ("rn", "f16", "f32"), ("", "f32", "f16"),
     ("rn", "bf16", "f32"), ("", "f32", "bf16"), ("rn", "f16", "f64"), ("", "f64", "f16")],
)  # fmt: skip
def test_conversions_between_floats(word: str, target: str, source: str) -> None:
    """To nearest even; to a wider type exactly."""
    opcode = ".".join(filter(None, ("cvt", word, target, source)))
    compare(f"{opcode} {{0}}, {{1}}", target, (source,),
            lambda a: exact.convert(FORMATS[source], FORMATS[target], a))  # fmt: skip


@pytest.mark.parametrize(("name", "f"), [("f16x2", F16), ("bf16x2", BF16)])
def test_conversions_of_two(name: str, f: Format) -> None:
    """The first operand is the upper half. A NaN is a NaN of the type."""

    def half(a: int) -> int:
        found = exact.convert(F32, f, a)
        return f.infinity + (1 << (f.fraction - 1)) if found is exact.NAN else found

    usual = "".join(
        f"setp.num.f32 %p8, {{{k}}}, {{{k}}}; selp.f32 {{{k}}}, {{{k}}}, 0f00000000, %p8; "
        for k in (1, 2)
    )
    compare(
        f"{usual}cvt.rn.{name}.f32 {{0}}, {{1}}, {{2}}", "b32", ("f32", "f32"),
        lambda a, b: half(0 if F32.is_nan(a) else a) << 16 | half(0 if F32.is_nan(b) else b),
    )  # fmt: skip


def test_conversions_to_tf32() -> None:
    """11 bits of a number, ties away from 0; the other 13 bits are 0."""

    def expected(a: int) -> int:
        if F32.is_nan(a) or F32.is_infinite(a):
            return 0x7FFFE000 if F32.is_nan(a) else a
        step = Fraction(2) ** (max(F32.size(a) >> 23, 1) - 127 - 10)
        size = math.floor(abs(F32.value(a)) / step + Fraction(1, 2)) * step
        return F32.nearest(size) | F32.sign(a) << 31

    compare("cvt.rna.tf32.f32 {0}, {1}", "b32", ("f32",), expected)
    compare("or.b32 {1}, {1}, 4096; and.b32 {1}, {1}, -4096; cvt.rna.tf32.f32 {0}, {1}", "b32",
            ("b32",), lambda a: expected((a | 4096) & -4096))  # fmt: skip


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_conversions_to_whole_numbers(kind: str) -> None:
    """Four roundings; beyond an integer's type its end, and NaN is 0."""
    f = FORMATS[kind]
    roundings = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}
    for word, function in roundings.items():
        for target in ("s32", "u32", "s64", "u64", "s16"):
            width = type_of(target).bits
            low = -(1 << (width - 1)) if target[0] == "s" else 0
            high = low + (1 << width) - 1

            def expected(a: int, function=function, low=low, high=high) -> int:  # type: ignore[no-untyped-def]
                if f.is_nan(a):
                    return 0
                return min(max(function(key(f, a)), low), high)

            compare(f"cvt.{word}.{target}.{kind} {{0}}, {{1}}", target, (kind,), expected)
            if kind == "f32" and word in ("rni", "rzi"):
                compare(f"cvt.{word}.ftz.{target}.f32 {{0}}, {{1}}", target, (kind,), expected)

        def whole(a: int, function=function) -> int | None:  # type: ignore[no-untyped-def]
            if f.is_nan(a) or f.is_infinite(a):
                return exact.NAN if f.is_nan(a) else a
            return f.nearest(Fraction(function(f.value(a))), bool(f.sign(a)))

        compare(f"cvt.{word}.{kind}.{kind} {{0}}, {{1}}", kind, (kind,), whole)


@pytest.mark.parametrize("target", ["f32", "f64"])
@pytest.mark.parametrize("kind", ["s16", "u16", "s32", "u32", "s64", "u64"])
def test_conversions_from_integers(kind: str, target: str) -> None:
    """To nearest even."""
    width = type_of(kind).bits

    def expected(a: int) -> int:
        return FORMATS[target].nearest(Fraction(signed(a, width) if kind[0] == "s" else a))

    compare(f"cvt.rn.{target}.{kind} {{0}}, {{1}}", target, (kind,), expected)


@pytest.mark.parametrize("kind", ["s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"])
@pytest.mark.parametrize("target", ["s16", "u16", "s32", "u32", "s64", "u64"])
def test_conversions_between_integers(target: str, kind: str) -> None:
    """The lower bits; the sign goes on in a wider type, and in a wider register."""
    width = type_of(kind).bits
    word = kind if width > 8 else f"{kind[0]}16"

    def expected(a: int) -> int:
        a &= (1 << width) - 1
        return signed(a, width) if kind[0] == "s" else a

    compare(f"cvt.{target}.{kind} {{0}}, {{1}}", target, (word,), expected)


def test_a_narrow_result_fills_a_wide_register() -> None:
    """With its sign, or zeros."""
    compare(
        "cvt.s8.s32 %h5, {1}; cvt.s32.s16 {0}, %h5", "s32", ("s32",), lambda a: signed(a & 255, 8)
    )
    compare("cvt.u8.u32 %h5, {1}; cvt.s32.s16 {0}, %h5", "s32", ("s32",), lambda a: a & 255)


# ---- the table ----

UNKNOWN = (
    "ex2.approx.f32 %f0, %f1", "add.f32 %f0, %f1, %f2", "add.rn.ftz.f64 %g0, %g1, %g2",
    "mul.f32 %f0, %f1, %f2", "fma.rz.f32 %f0, %f1, %f2, %f3", "div.full.f32 %f0, %f1, %f2",
    "add.sat.s32 %r0, %r1, %r2", "mul.24.lo.s32 %r0, %r1, %r2", "ld.f32 %f0, [%d0]",
    "bar.sync 1", "bar.arrive 0, 64", "cvt.rz.f32.f64 %f0, %g0", "cvt.s32.f32 %r0, %f0",
    "atom.global.exch.b32 %r0, [%d0], %r1", "mov.b64 %d0, %r1", "mov.b32 %f0, 0d3FF0000000000000",
    "ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%r0, %r1}, [%r4]",
    "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r0, %r1}, [%r4]",
    "stmatrix.sync.aligned.m8n8.x2.shared.b8 [%r4], {%r0, %r1}",
    "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
    "{%r0, %r1, %r2, %r3}, {%r4, %r5, %r6, %r7}, {%r8, %r9}, {%r0, %r1, %r2, %r3}",
    "mma.sync.aligned.m16n8k8.row.row.f32.tf32.tf32.f32 "
    "{%r0, %r1, %r2, %r3}, {%r4, %r5, %r6, %r7}, {%r8, %r9}, {%r0, %r1, %r2, %r3}",
    "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
    "{%r0, %r1, %r2, %r3}, {%r4, %r5}, {%r8, %r9}, {%r0, %r1, %r2, %r3}",
    "wgmma.fence.sync.aligned", "cvt.rn.tf32.f32 %r0, %f0", "cp.async.wait_all",
    "cp.async.cg.shared.global [%r0], [%d0], 8", "cp.async.ca.shared.global [%r0], [%d0], 2",
    "cp.async.ca.shared.global.L2::128B [%r0], [%d0], 16",
    "cvt.rmi.ftz.s32.f32 %r0, %f0", "setp.lo.s32 %p0, %r0, %r1", "and.s32 %r0, %r1, %r2",
    "st.param.b32 [k_0], %r0", "st.global.nc.b32 [%d0], %r0", "ld.global.wb.b32 %r0, [%d0]",
    "madc.lo.u64 %d0, %d1, %d2, %d3", "cvta.to.shared.u64 %d0, %d1", "call foo",
    "max.bf16 %h0, %h1, %h2", "neg.bf16 %h0, %h1", "add.rn.bf16 %h0, %h1, %h2",
)  # fmt: skip


@pytest.mark.parametrize("text", UNKNOWN)
def test_what_is_not_known_raises_by_name(text: str) -> None:
    """Other instructions, and forms whose result would be another."""
    with pytest.raises(UnknownPtx, match=text.split()[0].split(".")[0]):
        run(kernel(f"{text}; ret;"))


def test_every_opcode_has_a_test() -> None:
    """Each name of the table begins an instruction in the text of these tests."""
    text = "".join(
        Path(__file__).with_name(f"test_{name}.py").read_text(encoding="utf-8")
        for name in ("operations", "machine")
    )
    tables = {name.split(".")[0] for name in (*INTEGERS, *FLOATS, "and", "or", "xor", "div", "rem")}
    used = set(re.findall(r"\b([a-z]+)[.;]", text)) | tables
    assert not TABLE.keys() - used - {"nop"}


def test_a_division_by_0_raises() -> None:
    """Where the thread acts; under a guard that does not hold it does not."""
    text = "mov.u32 %r1, %tid.x; setp.ne.u32 %p1, %r1, 0; {} div.u32 %r0, 7, %r1; ret;"
    run(kernel(text.format("@%p1")))
    with pytest.raises(Fault, match="division by 0"):
        run(kernel(text.format("")))


def test_decoding_names_the_statement() -> None:
    """The message has the opcode and the text."""
    instruction = kernel("add.f32 %f0, %f1, %f2; ret;").code[0]
    with pytest.raises(UnknownPtx, match=r"add\.f32: add\.f32 %f0, %f1, %f2"):
        decode(instruction)
