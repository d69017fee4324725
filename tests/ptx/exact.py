"""Numbers of IEEE 754 from exact fractions, as the independent side of the tests of opcodes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt


@dataclass(frozen=True)
class Format:
    """A binary format: bits of the exponent and of the fraction."""

    exponent: int
    fraction: int

    @property
    def width(self) -> int:
        return 1 + self.exponent + self.fraction

    @property
    def bias(self) -> int:
        return (1 << (self.exponent - 1)) - 1

    @property
    def infinity(self) -> int:
        return ((1 << self.exponent) - 1) << self.fraction

    def sign(self, bits: int) -> int:
        return bits >> (self.width - 1)

    def size(self, bits: int) -> int:
        """Return the bits without the sign."""
        return bits & ((1 << (self.width - 1)) - 1)

    def is_nan(self, bits: int) -> bool:
        return self.size(bits) > self.infinity

    def is_infinite(self, bits: int) -> bool:
        return self.size(bits) == self.infinity

    def value(self, bits: int) -> Fraction:
        """Return the number that finite bits are."""
        biased, part = self.size(bits) >> self.fraction, bits & ((1 << self.fraction) - 1)
        if biased:
            part += 1 << self.fraction
        scale = max(biased, 1) - self.bias - self.fraction
        return (-1) ** self.sign(bits) * part * Fraction(2) ** scale

    def nearest(self, number: Fraction, negative_zero: bool = False, sticky: int = 0) -> int:
        """Return the bits nearest to a number, ties to even.

        `sticky` is the sign of what the number still lacks, which is less than any of its digits.
        """
        if not number:
            return int(negative_zero) << (self.width - 1)
        size = abs(number)
        power = size.numerator.bit_length() - size.denominator.bit_length()
        power -= Fraction(2) ** power > size
        power = max(power, 1 - self.bias)
        count = size / Fraction(2) ** (power - self.fraction)
        whole = round(count)
        if sticky and count - int(count) == Fraction(1, 2):
            whole = int(count) + (sticky > 0)
        normal = (power + self.bias - 1) << self.fraction
        bits = whole + normal if whole >> self.fraction else whole
        return min(bits, self.infinity) | int(number < 0) << (self.width - 1)


F16, BF16, F32, F64 = Format(5, 10), Format(8, 7), Format(8, 23), Format(11, 52)
FORMATS = {"f16": F16, "bf16": BF16, "f32": F32, "f64": F64}
NAN = None
"""The result of an operation that has none."""


def add(f: Format, a: int, b: int) -> int | None:
    """Return the bits of a sum."""
    return fma(f, a, f.nearest(Fraction(1)), b)


def negated(f: Format, a: int) -> int:
    return a ^ 1 << (f.width - 1)


def multiply(f: Format, a: int, b: int) -> int | None:
    """Return the bits of a product."""
    sign = f.sign(a) ^ f.sign(b)
    zero = sign << (f.width - 1)
    if f.is_nan(a) or f.is_nan(b):
        return NAN
    if f.is_infinite(a) or f.is_infinite(b):
        return zero | f.infinity if f.size(a) and f.size(b) else NAN
    return f.nearest(f.value(a) * f.value(b), bool(sign)) | zero


def fma(f: Format, a: int, b: int, c: int) -> int | None:
    """Return the bits of a product and a sum, rounded once."""
    product = multiply(f, a, b)
    if product is NAN or f.is_nan(c):
        return NAN
    sign = f.sign(a) ^ f.sign(b)
    if f.is_infinite(a) or f.is_infinite(b):
        return NAN if f.is_infinite(c) and f.sign(c) != sign else product
    if f.is_infinite(c):
        return c
    exact = f.value(a) * f.value(b) + f.value(c)
    return f.nearest(exact, negative_zero=bool(sign and f.sign(c)))


def divide(f: Format, a: int, b: int) -> int | None:
    """Return the bits of a quotient."""
    zero = (f.sign(a) ^ f.sign(b)) << (f.width - 1)
    if f.is_nan(a) or f.is_nan(b):
        return NAN
    if f.is_infinite(a) or not f.size(b):
        return NAN if f.is_infinite(b) or (f.size(a) == 0 == f.size(b)) else zero | f.infinity
    if f.is_infinite(b) or not f.size(a):
        return zero
    return f.nearest(f.value(a) / f.value(b), bool(zero)) | zero


def root(f: Format, a: int) -> int | None:
    """Return the bits of a square root."""
    if f.is_nan(a) or (f.sign(a) and f.size(a)):
        return NAN
    if f.is_infinite(a) or not f.size(a):
        return a
    number, shift = f.value(a), 4 * f.fraction + 2 * f.bias
    scaled = number * Fraction(4) ** shift
    assert scaled.denominator == 1
    whole = isqrt(scaled.numerator)
    return f.nearest(Fraction(whole, 2**shift), sticky=int(whole * whole != scaled.numerator))


def convert(source: Format, target: Format, a: int) -> int | None:
    """Return the bits of a number in another format."""
    if source.is_nan(a):
        return NAN
    sign = source.sign(a) << (target.width - 1)
    if source.is_infinite(a):
        return sign | target.infinity
    return target.nearest(source.value(a), bool(sign)) | sign
