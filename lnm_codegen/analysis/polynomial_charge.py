"""Polynomial charges: coefficients of powers of v as exact sums of learnable numbers.

    h = f(v) + x,  or f(v + x);   coefficient k of f = offset_k + sum of theta_j * rows_jk

Every `lnm` has this shape, in any form and basis. A user's neuron may have it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import sympy

from lnm_codegen.analysis.arithmetic.univariate import Coefficients, fraction, to_sympy
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.declarations import Param
from lnm_codegen.language.functions import Where
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import Declared, is_spike


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

    def theta_of(self, coefficients: Coefficients) -> Coefficients:
        """Return the one theta with these coefficients of f, exactly."""
        wanted = [c - o for c, o in zip(coefficients, self.offset, strict=True)]
        matrix = sympy.Matrix([[to_sympy(c) for c in row] for row in self.rows]).T
        symbols = sympy.symbols(f"t:{len(self.rows)}")
        (found,) = sympy.linsolve((matrix, sympy.Matrix([to_sympy(w) for w in wanted])), *symbols)
        return tuple(fraction(t) for t in found)


@lru_cache(maxsize=256)
def polynomial_charge(neuron: Neuron) -> PolynomialCharge:
    """Return the polynomial charge of a neuron, or raise UnsupportedError."""
    if any(len(p) != 1 for p in (neuron.states, neuron.inputs, neuron.charge, neuron.fire)):
        raise _other(neuron, "one state, one input and one spike")
    (v,), (x,) = neuron.states, neuron.inputs
    h, v_min = _without_clamp(neuron.charge[0][1])
    f = sympy.expand(h.xreplace({x: sympy.S.Zero}))
    inside = sympy.expand(h - f - x) != 0
    if inside and sympy.expand(h - f.xreplace({v: v + x})) != 0:
        raise _other(neuron, "charge f(v) + x or f(v + x)")
    theta, rows, offset = _coefficients(neuron, f, v)
    threshold = _threshold(neuron, v)
    return PolynomialCharge(
        v.name, theta, rows, offset, inside, v_min, threshold.name, _reset(neuron, v, threshold)
    )


def _other(neuron: Neuron, wanted: str) -> UnsupportedError:
    return UnsupportedError(
        neuron.name,
        f"it has no {wanted}, as a polynomial neuron has",
        "lnm of any form and basis, or a neuron of its shape",
    )


def _without_clamp(h: Any) -> tuple[Any, Fraction | None]:
    """Return the charge without its clamps, and v_min of where(h < v_min, v_min, h) or None."""
    if isinstance(h, Where):
        cond, then, orelse = h.operands
        if then.is_Rational and getattr(cond, "lhs", None) == orelse:
            if isinstance(cond, sympy.StrictGreaterThan):
                return _without_clamp(orelse)
            if isinstance(cond, sympy.StrictLessThan):
                return orelse, fraction(then)
    return h, None


def _coefficients(
    neuron: Neuron, f: Any, v: Declared
) -> tuple[str, tuple[Coefficients, ...], Coefficients]:
    """Return the learnable vector's name, and rows and offset of f's coefficients."""
    vectors = [p for p in neuron.params if p.learnable and p.size is not None]
    wanted = "polynomial whose coefficients are sums of one learnable vector's elements"
    if len(vectors) != 1:
        raise _other(neuron, wanted)
    elements = [s for s in neuron.symbols if s.decl == vectors[0]]
    if not f.is_polynomial(v, *elements) or f.free_symbols - {v, *elements}:
        raise _other(neuron, wanted)
    degree = int(sympy.degree(f, v))
    rows = [[Fraction(0)] * (degree + 1) for _ in elements]
    offset = [Fraction(0)] * (degree + 1)
    for (power, *others), c in sympy.Poly(f, v, *elements).terms():
        if sum(others) > 1 or not c.is_Rational:
            raise _other(neuron, wanted)
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
