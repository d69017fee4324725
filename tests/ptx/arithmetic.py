"""Arithmetic of PTX on NumPy arrays that NumPy itself does not have, or has otherwise.

Every function takes and returns arrays of one length. bfloat16 is held as bits, in uint16.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable

import numpy as np

Array = np.ndarray

# ---- integers ----


def divide(a: Array, b: Array) -> Array:
    """Return the quotient, rounded towards 0.

    Raises:
        ZeroDivisionError: PTX leaves a quotient by 0 open.
    """
    if not b.all():
        raise ZeroDivisionError("integer division by 0")
    if a.dtype.kind == "u":
        return a // b
    quotient = a // b
    return quotient + ((quotient < 0) & (quotient * b != a))


def remainder(a: Array, b: Array) -> Array:
    """Return what `divide` leaves; its sign is that of `a`."""
    return a - divide(a, b) * b


def product(a: Array, b: Array) -> tuple[Array, Array]:
    """Return the lower and the upper half of the full product, both in the type of `a`."""
    bits = 8 * a.dtype.itemsize
    if bits < 64:
        wide = np.dtype(f"{a.dtype.kind}{2 * a.dtype.itemsize}")
        whole = a.astype(wide) * b.astype(wide)
        return whole.astype(a.dtype), (whole >> wide.type(bits)).astype(a.dtype)
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    x, y = a.view(np.uint64), b.view(np.uint64)
    x0, x1, y0, y1 = x & low, x >> half, y & low, y >> half
    middle = x1 * y0 + (x0 * y0 >> half)
    other = x0 * y1 + (middle & low)
    high = x1 * y1 + (middle >> half) + (other >> half)
    if a.dtype.kind == "i":  # a negative factor counts as itself plus 2**64
        high = high - np.where(a < 0, y, 0).astype("u8") - np.where(b < 0, x, 0).astype("u8")
    return (x * y).view(a.dtype), high.view(a.dtype)


def shift_left(a: Array, by: Array) -> Array:
    """Return `a` shifted; by its width or more, 0."""
    bits = 8 * a.dtype.itemsize
    return np.where(by >= bits, a.dtype.type(0), a << (by % bits).astype(a.dtype))


def shift_right(a: Array, by: Array) -> Array:
    """Return `a` shifted; by its width or more, 0, or for a signed type its sign everywhere."""
    bits = 8 * a.dtype.itemsize
    if a.dtype.kind == "i":
        return a >> np.minimum(by, bits - 1).astype(a.dtype)
    return np.where(by >= bits, a.dtype.type(0), a >> (by % bits).astype(a.dtype))


def funnel(low: Array, high: Array, by: Array, left: bool, wraps: bool) -> Array:
    """Return 32 of the 64 bits `high:low` after a shift: the upper ones to the left."""
    count = (by & np.uint32(31) if wraps else np.minimum(by, 32)).astype(np.uint64)
    whole = high.astype(np.uint64) << np.uint64(32) | low
    shifted = whole << count >> np.uint64(32) if left else whole >> count
    return shifted.astype(np.uint32)


def leading_zeros(a: Array) -> Array:
    """Return how many bits before the first that is set are 0."""
    width = 8 * a.dtype.itemsize
    return np.sum([a >> a.dtype.type(k) == 0 for k in range(width)], 0, np.uint32)


def _field(like: Array, length: Array) -> Array:
    """Return ones in the lowest `length` bits."""
    one = np.ones_like(like)
    return shift_left(one, length) - one


def extract(a: Array, position: Array, length: Array) -> Array:
    """Return the bits of a field; in a signed type the last of them goes on beyond its end."""
    position, length = position & np.uint32(255), length & np.uint32(255)
    unsigned = a.view(f"u{a.dtype.itemsize}")
    bits = shift_right(unsigned, position) & _field(unsigned, length)
    if a.dtype.kind == "i":
        width = np.uint32(8 * a.dtype.itemsize)
        there = np.minimum(length, width - np.minimum(position, width))  # bits of the field
        last = np.minimum(position + np.maximum(length, 1), width) - np.uint32(1)
        negative = (shift_right(unsigned, last) & unsigned.dtype.type(1)).astype(bool)
        bits = np.where(negative & (length > 0), bits | ~_field(unsigned, there), bits)
    return bits.view(a.dtype)


def permuted(low: Array, high: Array, choice: Array) -> Array:
    """Return four of the eight bytes of two registers, or copies of the sign bit of a byte.

    Each of four groups of 4 bits of `choice` names a byte; its highest bit asks for the sign.
    """
    whole = low.astype(np.uint64) | high.astype(np.uint64) << np.uint64(32)
    found = np.zeros(np.shape(whole), np.uint64)
    for k in range(4):
        word = choice.astype(np.uint64) >> np.uint64(4 * k)
        byte = whole >> ((word & np.uint64(7)) * np.uint64(8)) & np.uint64(255)
        sign = np.where(byte >> np.uint64(7), np.uint64(255), np.uint64(0))
        found |= np.where(word & np.uint64(8), sign, byte) << np.uint64(8 * k)
    return found.astype(low.dtype)


def insert(a: Array, into: Array, position: Array, length: Array) -> Array:
    """Return `into` with a field that holds the lowest bits of `a`."""
    position, length = position & np.uint32(255), length & np.uint32(255)
    mask = shift_left(_field(a, length), position)
    return into & ~mask | shift_left(a, position) & mask


# ---- floating point ----


def _library_fma() -> Callable[[float, float, float], float]:
    function = ctypes.CDLL(ctypes.util.find_library("m")).fma
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double] * 3
    return function  # type: ignore[no-any-return]


_fma = np.frompyfunc(_library_fma(), 3, 1)


def fma(a: Array, b: Array, c: Array) -> Array:
    """Return `a*b + c`, rounded once."""
    if a.dtype == np.float64:
        return _fma64(a, b, c)
    assert a.dtype == np.float32
    wide, other = a.astype(np.float64) * b, c.astype(np.float64)  # the product is exact
    total, rest = _two_sum(wide, other)
    return _to_odd(total, rest).astype(np.float32)


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return the rounded sum, and what it lacks."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _to_odd(total: Array, rest: Array) -> Array:
    """Return a rounded sum with an odd last bit where it is not exact.

    Another rounding to fewer bits is then the only one.
    """
    bits = total.view(np.int64)
    inexact = (rest != 0) & (bits & 1 == 0) & np.isfinite(total)
    if not inexact.any():
        return total
    outwards = (rest > 0) == (total > 0)  # an inexact sum of float32 numbers is not 0
    return np.where(inexact, bits + np.where(outwards, 1, -1), bits).view(np.float64)


def _fma64(a: Array, b: Array, c: Array) -> Array:
    """As `fma`, by exact sums where no exponent is extreme, and by the C library elsewhere."""
    high, low = _two_product(a, b)
    with_c, rest = _two_sum(c, low)
    total, second = _two_sum(high, with_c)
    third, fourth = _two_sum(second, rest)
    result = total + _to_odd(third, fourth)
    exponents = [np.frexp(x)[1] for x in (a, b, c)]
    usual = np.isfinite(a) & np.isfinite(b) & np.isfinite(c) & (a != 0) & (b != 0) & (c != 0)
    for k in exponents:
        usual &= np.abs(k) < 400
    if not usual.all():
        rare = np.nonzero(~usual)[0]
        result[rare] = _fma(a[rare], b[rare], c[rare]).astype(np.float64)
    return result


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """Return the rounded product, and what it lacks."""
    a0, a1 = _halves(a)
    b0, b1 = _halves(b)
    whole = a * b
    return whole, ((a0 * b0 - whole) + a0 * b1 + a1 * b0) + a1 * b1


def _halves(a: Array) -> tuple[Array, Array]:
    """Return two numbers of 26 bits whose sum is `a`."""
    scaled = 134217729.0 * a  # 2**27 + 1
    high = scaled - (scaled - a)
    return high, a - high


NAN = {
    np.dtype(np.float32): np.array(0x7FFFFFFF, "u4").view("f4"),
    np.dtype(np.float64): np.array(0x7FF8000000000000, "u8").view("f8"),
}
"""The NaN that arithmetic returns. For float64 PTX leaves it open."""


def flushed(a: Array) -> Array:
    """Return float32 numbers with 0 of the same sign in place of subnormal ones."""
    if a.dtype != np.float32:
        return a  # the result of a comparison
    return np.where(np.abs(a) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), a), a)


def least(a: Array, b: Array, keeps_nan: bool = False) -> Array:
    """Return the lesser, -0 before +0; of a NaN and a number the number, or NaN if it is kept."""
    return _chosen(a, b, np.where(a == b, np.signbit(a), a < b), keeps_nan)


def greatest(a: Array, b: Array, keeps_nan: bool = False) -> Array:
    """Return the greater, as `least` returns the lesser."""
    return _chosen(a, b, np.where(a == b, np.signbit(b), a > b), keeps_nan)


def _chosen(a: Array, b: Array, first: Array, keeps_nan: bool) -> Array:
    first = np.where(np.isnan(a), keeps_nan, first | (np.isnan(b) & (not keeps_nan)))
    return np.where(first, a, b)


# ---- conversions ----


def bfloat16(a: Array) -> Array:
    """Return the bits of float32 numbers rounded to bfloat16, ties to even."""
    bits = a.view(np.uint32)
    rounded = bits + (np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)))
    return np.where(np.isnan(a), np.uint16(0x7FFF), (rounded >> np.uint32(16)).astype(np.uint16))


def from_bfloat16(bits: Array) -> Array:
    """Return bfloat16 numbers as float32."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def tf32(a: Array) -> Array:
    """Return the bits of float32 numbers rounded to TF32, ties away from 0: the lowest 13 are 0.

    PTX leaves these 13 open. `ptxas` makes the result of an addition and a mask, as here.
    """
    rounded = (a.view(np.uint32) + np.uint32(0x1000)) & TF32
    return np.where(np.isnan(a), NAN[a.dtype].view(np.uint32) & TF32, rounded)


TF32 = np.uint32(0xFFFFE000)
"""The bits of a register that a number in TF32 has."""

WHOLE: dict[str, Callable[[Array], Array]] = {
    "rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil
}  # fmt: skip
"""Rounding to a whole number, by its modifier."""


def to_integer(a: Array, dtype: np.dtype, rounding: str) -> Array:
    """Return whole numbers; what is beyond the type is its nearest, NaN is 0."""
    limits = np.iinfo(dtype)
    whole = WHOLE[rounding](a.astype(np.float64))
    inside = (whole >= float(limits.min)) & (whole < float(limits.max) + 1)
    beyond = np.where(np.isnan(a), 0, np.where(a > 0, limits.max, limits.min)).astype(dtype)
    return np.where(inside, np.where(inside, whole, 0).astype(dtype), beyond)
