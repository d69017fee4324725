"""Polynomial bases of `lnm`, with the exact conversion of coefficients to those of powers.

    f(z) = sum of theta_k * P_k(t),   t = (2*z - low - high) / (high - low)

with P_k Chebyshev's or Legendre's polynomial on [-1, 1]. The coefficient of z**i is a sum of
theta_k times rational numbers: an expression of parameters alone, which the compiler moves into
`prepare`. A time step therefore costs the same as in the monomial basis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy

from lnm_codegen.language.functions import as_expr

BASES: dict[str, Any] = {
    "monomial": None,
    "chebyshev": sympy.chebyshevt_poly,
    "legendre": sympy.legendre_poly,
}
_Z = sympy.Symbol("z")


def polynomials(basis: str, degree: int, low: float, high: float) -> tuple[tuple[Any, ...], ...]:
    """Return the rational coefficients of z**0, ..., z**degree in each P_k(t(z)).

    Args:
        basis: A name of BASES.
        degree: The largest k.
        low: Lower end of the interval, read as a decimal; not used by the monomial basis.
        high: Upper end of the interval, > low.
    """
    make = BASES[basis]
    if make is None:
        return tuple(
            tuple(as_expr(int(i == k)) for i in range(degree + 1)) for k in range(degree + 1)
        )
    a, b = as_expr(low), as_expr(high)
    t = (2 * _Z - a - b) / (b - a)
    rows = [sympy.Poly(make(k, t), _Z, domain=sympy.QQ) for k in range(degree + 1)]
    return tuple(tuple(row.coeff_monomial(_Z**i) for i in range(degree + 1)) for row in rows)


def in_powers(theta: Sequence[Any], rows: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the coefficients of the powers of z in sum of theta_k * rows[k]."""
    size = len(rows[0])
    return [
        sympy.Add(*(t * row[i] for t, row in zip(theta, rows, strict=True))) for i in range(size)
    ]


def leak_in(basis: str, low: float, high: float) -> tuple[Any, Any]:
    """Return (c_0, c_1), rational, of z = c_0*P_0 + c_1*P_1."""
    if basis == "monomial":
        return as_expr(0), as_expr(1)
    a, b = as_expr(low), as_expr(high)
    return (a + b) / 2, (b - a) / 2
