"""Canonical signed digits: a product with a constant of few digits is shifts and additions."""

from __future__ import annotations


def signed_digits(number: int) -> tuple[tuple[int, int], ...]:
    """Return (sign, place) of the canonical signed-digit form, highest place first.

    number = sum of sign * 2**place, with no two places side by side; () for 0.
    """
    digits = []
    place = 0
    while number:
        if number & 1:
            sign = 2 - (number & 3)
            digits.append((sign, place))
            number -= sign
        number >>= 1
        place += 1
    return tuple(reversed(digits))
