"""Balancing of a matrix: units of the states, powers of two, in which its entries are small.

State i is measured in 2**k[i]. Then entry (i, j) becomes a[i][j]*2**(k[j] - k[i]), and a capacity
in farads does not inflate the norm. The rows and columns approach each other as in Osborne's method
(J. ACM 7, 1960).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import sympy

SWEEPS = 40
"""Largest number of passes over the states."""
FLOOR = 2.0**-10
"""Least norm of a row or column. A smaller one need not be balanced."""
_LARGEST = 200


def balance(a: Sequence[Sequence[float]]) -> list[int]:
    """Return k for each state; zeros where an entry is not finite."""
    n = len(a)
    k = [0] * n
    if not all(math.isfinite(e) for row in a for e in row):
        return k
    for _ in range(SWEEPS):
        moved = False
        for i in range(n):
            others = [j for j in range(n) if j != i]
            least = max(abs(a[i][i]), FLOOR)
            row = max(sum(abs(a[i][j]) * 2.0 ** (k[j] - k[i]) for j in others), least)
            column = max(sum(abs(a[j][i]) * 2.0 ** (k[i] - k[j]) for j in others), least)
            step = round(math.log2(row / column) / 2)
            if step and abs(k[i] + step) <= _LARGEST:
                k[i] += step
                moved = True
        if not moved:
            break
    return k


def scaled(a: Sequence[Sequence[Any]], k: Sequence[int]) -> list[list[Any]]:
    """Return a matrix in the units 2**k of the states; the factors are exact."""
    two = sympy.Integer(2)

    def factor(exponent: int, entry: Any) -> Any:
        return math.ldexp(1.0, exponent) if isinstance(entry, float) else two**exponent

    return [
        [e if k[i] == k[j] else e * factor(k[j] - k[i], e) for j, e in enumerate(row)]
        for i, row in enumerate(a)
    ]
