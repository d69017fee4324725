"""Polynomial charges: exact coefficients, exact stability, and moments.

    h = f(v) + x,  or f(v + x);   coefficient k of f = offset_k + sum of theta_j * rows_jk

Every `lnm` has this shape, in any form and basis. A user's neuron may have it too.

*Stability.* For h = f(v) + x, a threshold V and |x| <= X, the potential after the reset stays in
[v_min, V] if

    hard reset, to a value inside:   f(v) - X >= v_min               on [v_min, V]
    soft reset, by V:                the same, and f(v) + X <= 2*V   on [v_min, V]

Below V the neuron does not fire, so only the reset acts on the upper side; a soft reset leaves
h - V >= 0. For h = f(v + x) the conditions are f >= v_min and f <= 2*V on [v_min - X, V + X].
Both state that a polynomial is nowhere negative, which Sturm's theorem decides in rationals. There
is no tolerance, even where the polynomial touches 0.

*Moments.* For a normal potential v ~ N(mu, sigma**2) and m_k = E v**k,

    m_0 = 1,  m_1 = mu,  m_k = mu*m_(k-1) + (k-1)*sigma**2*m_(k-2)
    E f(v)   = sum_i theta_i m_i
    Var f(v) = sum_ij theta_i theta_j (m_(i+j) - m_i m_j)

The quadratic neuron of the group behind LNM (arXiv 2510.05168) derives the width of its surrogate
from the distribution of the potential. Half the width as this deviation is our reading of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import sympy

from lnm_codegen.analysis.interval import Interval, interval_of, rational
from lnm_codegen.analysis.polynomial import (
    Coefficients,
    fraction,
    is_nonnegative,
    shifted,
    to_sympy,
)
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir.declarations import Param
from lnm_codegen.language.functions import Where, attached
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import Declared, is_spike
from lnm_codegen.validation import wrong


@dataclass(frozen=True)
class PolynomialCharge:
    """A polynomial charge, its clamp, its threshold and its reset."""

    state: str  # name of the potential
    theta: str  # name of the learnable vector parameter
    rows: tuple[Coefficients, ...]  # of each theta_j to the coefficients, (size, degree + 1)
    offset: Coefficients  # coefficients for theta = 0, (degree + 1,)
    inside: bool  # the input is added before f
    v_min: Fraction | None  # the lower clamp, or None
    threshold: str  # name of the threshold parameter
    v_reset: Fraction | None  # the potential after a spike; None for a soft reset by the threshold

    def coefficients(self, theta: Any) -> Coefficients:
        """Return f's coefficients for theta; floats are exact."""
        numbers = [Fraction(t) for t in theta]
        return tuple(
            o + sum(t * row[k] for t, row in zip(numbers, self.rows, strict=True))
            for k, o in enumerate(self.offset)
        )

    def theta_of(self, coefficients: Coefficients) -> Coefficients | None:
        """Return a theta with these coefficients of f, exactly, or None if there is none.

        Of several, elements that may have any value are 0.
        """
        expected = [c - o for c, o in zip(coefficients, self.offset, strict=True)]
        matrix = sympy.Matrix([[to_sympy(c) for c in row] for row in self.rows]).T
        symbols = sympy.symbols(f"t:{len(self.rows)}")
        found = sympy.linsolve((matrix, sympy.Matrix([to_sympy(w) for w in expected])), *symbols)
        zeros = dict.fromkeys(symbols, sympy.S.Zero)
        return next((tuple(fraction(t.xreplace(zeros)) for t in one) for one in found), None)


@lru_cache(maxsize=256)
def polynomial_charge(neuron: Neuron) -> PolynomialCharge:
    """Return the polynomial charge of a neuron, or raise UnsupportedError."""
    if any(len(p) != 1 for p in (neuron.states, neuron.inputs, neuron.charge, neuron.fire)):
        raise _other(neuron, "one state, one input and one spike")
    (v,), (x,) = neuron.states, neuron.inputs
    h, v_min = _without_clamp(attached(neuron.charge[0][1]))
    f = sympy.expand(h.xreplace({x: sympy.S.Zero}))
    inside = sympy.expand(h - f - x) != 0
    if inside and sympy.expand(h - f.xreplace({v: v + x})) != 0:
        raise _other(neuron, "charge f(v) + x or f(v + x)")
    theta, rows, offset = _coefficients(neuron, f, v)
    threshold = _threshold(neuron, v)
    return PolynomialCharge(
        v.name, theta, rows, offset, inside, v_min, threshold.name, _reset(neuron, v, threshold)
    )


def _other(neuron: Neuron, expected: str) -> UnsupportedError:
    return UnsupportedError(
        neuron.name,
        f"it has no {expected}, as a polynomial neuron has",
        "lnm of any form and basis, or a neuron of its shape",
    )


def _without_clamp(h: Any) -> tuple[Any, Fraction | None]:
    """Return the charge without its clamps, and v_min of where(h < v_min, v_min, h) or None."""
    if isinstance(h, Where):
        cond, then, orelse = h.operands
        if then.is_Rational and getattr(cond, "lhs", None) == orelse and _equal(cond.rhs, then):
            if isinstance(cond, sympy.StrictGreaterThan):
                return _without_clamp(orelse)
            if isinstance(cond, sympy.StrictLessThan):
                return orelse, fraction(then)
    return h, None


def _equal(a: Any, b: Any) -> bool:
    """Report whether two numbers are equal; SymPy's Float(-2.0) is not equal to -2."""
    return bool(a.is_number and float(a) == float(b))


def _coefficients(
    neuron: Neuron, f: Any, v: Declared
) -> tuple[str, tuple[Coefficients, ...], Coefficients]:
    """Return the learnable vector's name, and rows and offset of f's coefficients."""
    vectors = [p for p in neuron.params if p.learnable and p.size is not None]
    expected = "polynomial whose coefficients are sums of one learnable vector's elements"
    if len(vectors) != 1:
        raise _other(neuron, expected)
    elements = [s for s in neuron.symbols if s.decl == vectors[0]]
    if not f.is_polynomial(v, *elements) or f.free_symbols - {v, *elements}:
        raise _other(neuron, expected)
    degree = int(sympy.degree(f, v))
    rows = [[Fraction(0)] * (degree + 1) for _ in elements]
    offset = [Fraction(0)] * (degree + 1)
    for (power, *others), c in sympy.Poly(f, v, *elements).terms():
        if sum(others) > 1 or not c.is_Rational:
            raise _other(neuron, expected)
        place = rows[others.index(1)] if sum(others) else offset
        place[power] = fraction(c)
    return vectors[0].name, tuple(tuple(r) for r in rows), tuple(offset)


def _threshold(neuron: Neuron, v: Declared) -> Declared:
    rest = v - neuron.fire[0][1]
    if isinstance(rest, Declared) and isinstance(rest.decl, Param) and rest.decl.size is None:
        return rest
    raise _other(neuron, "spike where v reaches a parameter")


def _reset(neuron: Neuron, v: Declared, threshold: Declared) -> Fraction | None:
    """Return the potential after a hard reset, or None for a soft reset by the threshold."""
    spike = neuron.fire[0][0]
    after = dict(neuron.reset).get(v)
    if isinstance(after, Where) and is_spike(after.operands[0]):
        _, then, orelse = after.operands
        if then.is_Rational and orelse == v:
            return fraction(then)
    if after is not None and sympy.expand(after - v + spike * threshold) == 0:
        return None
    raise _other(neuron, "hard reset to a number, or soft reset by the threshold")


def keeps_potential(
    theta: Sequence[Any],
    x: Any,
    v_min: Any,
    v_threshold: Any,
    *,
    soft: bool = False,
    inside: bool = False,
) -> bool:
    """Report whether a polynomial neuron keeps its potential in [v_min, V].

    Args:
        theta: theta_0, ..., theta_d of f(v) = sum of theta_k * v**k; floats are exact.
        x: X >= 0, the largest |x|; or (low, high).
        v_min: The lowest potential.
        v_threshold: V > v_min.
        soft: The reset subtracts V, and V >= 0 >= v_min; otherwise the reset is hard.
        inside: The input is added before f, h = f(v + x).

    Raises:
        ModelError: A number is not finite, or an interval's low exceeds its high.
    """
    f = tuple(rational("keeps_potential", f"theta[{k}]", t) for k, t in enumerate(theta))
    if not isinstance(x, tuple | list):
        most = rational("keeps_potential", "x", x)
        x = (-most, most)
    inputs = interval_of("keeps_potential", "x", x)
    v = interval_of("keeps_potential", "[v_min, v_threshold]", (v_min, v_threshold))
    if soft and not v.low <= 0 <= v.high:
        raise ModelError(
            "keeps_potential",
            f"[v_min, v_threshold] is {v}, with a soft reset",
            "an interval that holds 0",
        )
    return all(is_nonnegative(p, on) for p, on in conditions(f, inputs, v, soft, inside))


def conditions(
    f: Coefficients, x: Interval, v: Interval, soft: bool, inside: bool
) -> tuple[tuple[Coefficients, Interval], ...]:
    """Return (p, interval) of each polynomial that must be nowhere negative on its interval.

    Each p is affine in the coefficients of f.
    """
    on = v + x if inside else v
    low, high = (Fraction(0), Fraction(0)) if inside else (x.low, x.high)
    lower = (shifted(f, low - v.low), on)
    upper = (shifted(tuple(-c for c in f), 2 * v.high - high), on)
    return (lower, upper) if soft else (lower,)


def normal_moments(mean: float, deviation: float, count: int) -> list[float]:
    """Return m_0, ..., m_count of N(mean, deviation**2)."""
    moments = [1.0, mean]
    for k in range(2, count + 1):
        moments.append(mean * moments[-1] + (k - 1) * deviation**2 * moments[-2])
    return moments[: count + 1]


def charge_spread(
    theta: Sequence[float], mean: float, deviation: float, x_deviation: float = 0.0
) -> tuple[float, float]:
    """Return mean and deviation of f_theta(v) + x; x has mean 0 and is independent of v.

    Args:
        theta: theta_0, theta_1, ...
        mean: mu of the potential before the step.
        deviation: sigma of the potential, >= 0.
        x_deviation: Deviation of the input, >= 0.

    Raises:
        ModelError: A number is not finite, or a deviation is below 0.
    """
    for word, value in (("deviation", deviation), ("x_deviation", x_deviation), ("mean", mean)):
        if not math.isfinite(value) or (value < 0 and word != "mean"):
            number = "a finite number" if word == "mean" else "a finite number >= 0"
            raise wrong("charge_spread", word, value, number)
    m = normal_moments(mean, deviation, 2 * (len(theta) - 1))
    centre = sum(a * m[i] for i, a in enumerate(theta))
    variance = sum(
        a * b * (m[i + j] - m[i] * m[j]) for i, a in enumerate(theta) for j, b in enumerate(theta)
    )
    return centre, math.sqrt(max(variance, 0.0) + x_deviation**2)
