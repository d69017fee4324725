"""`lnm`: the learnable neuron model, a polynomial of any degree.

A basis gives f(z) = sum of theta_k * P_k(t) with t = (2*z - low - high) / (high - low). The
coefficient of z**i is then a sum of theta_k times rational numbers: an expression of parameters
alone, which the compiler moves into `prepare`, so that a time step costs the same in every basis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.families.common import LOWEST, clamped, reset_of
from lnm_codegen.families.lnm_two_states import lnm as two_states
from lnm_codegen.ir.declarations import DrawnLeak
from lnm_codegen.language.family import family_by
from lnm_codegen.language.functions import ExprLike, as_expr, poly
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, Init, input, param, state
from lnm_codegen.validation import (
    Accepted,
    Flag,
    Number,
)

BASES: dict[str, Any] = {
    "monomial": lambda k, t: t**k,
    "chebyshev": sympy.chebyshevt_poly,
    "legendre": sympy.legendre_poly,
}
"""Basis -> P_k(t), called with k and t."""
_Z = sympy.Symbol("z")
DECAY = 0.5
"""Initial slope of f, where no argument gives it."""


@family_by("states", {2: two_states})
def lnm(
    degree: Annotated[int, Accepted(low=1, high=8)] = 3,
    form: Annotated[Literal["A", "B", "C"], Accepted()] = "A",
    theta: Sequence[float] | Init | None = None,
    learn_theta_0: Flag = True,
    v_threshold: Number = 1.0,
    learn_threshold: bool = False,
    v_reset: Number | None = 0.0,
    v_min: Number | None = None,
    v_max: Number | None = None,
    decay: Number = DECAY,
    decay_spread: Number = 0.0,
    basis: Annotated[Literal["monomial", "chebyshev", "legendre"], Accepted()] = "monomial",
    detach_reset: bool = False,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Learnable Neuron Model (after Jahns, Moreno, Kinsy 2025, arXiv 2510.07341; our reading).

        charge   A: h = f(v) + x     B: h = f(v + x)     C: h = v + f(v) + x
                 f(z) = theta_0 + theta_1*z + ... + theta_d*z**d      basis monomial
        f(z) = theta_0*P_0(t) + ... + theta_d*P_d(t)         else: P_k of Chebyshev or Legendre,
                                                             t takes [v_min, v_threshold] to [-1, 1]
                 h = where(h < v_min, v_min, h)          if v_min is given
                 h = where(h > v_max, v_max, h)          if v_max is given
        fire     spike = H(h - v_threshold)
        reset    hard to v_reset; soft by v_threshold where v_reset is None

    A polynomial of degree >= 2 can diverge: under a soft reset on either side, under a hard reset
    below, where its leading term points to -inf. `v_min` bounds it below; training uses -2. Under a
    soft reset `v_max` = 2*v_threshold bounds the potential after a spike by v_threshold.

    Args:
        degree: 1 to 8.
        form: Place of the input, see above.
        theta: Initial coefficients in the basis, degree + 1 of them, or a function (generator,
            shape) -> tensor; by default those of a LIF neuron, h = decay*v + x.
        learn_theta_0: False removes theta_0 from f, for layers with a bias. `theta` then holds
            theta_1, ..., theta_d, and f(0) = 0 in every basis: P_k(t) - P_k(t(0)) replaces P_k(t).
        v_threshold: Firing threshold.
        learn_threshold: Make it learnable.
        v_reset: Potential after a spike; None for a soft reset.
        v_min: Lower clamp of the charged potential, < v_threshold, or None.
        v_max: Upper clamp of the charged potential, > v_threshold, or None.
        decay: Initial slope of f (decay - 1 in form C), without `theta`.
        decay_spread: Standard deviation of the logit of the decay: each parameter set draws its
            decay from sigmoid(N(logit(decay), decay_spread**2)). 0 gives every set the same decay.
        basis: Basis of theta on [v_min, v_threshold], or from -2 without a clamp; the interval does
            not follow a learnable threshold. theta is converted to powers once per call, so a time
            step costs the same in every basis; the basis conditions the gradient.
        detach_reset: Treat the spike inside reset as a constant.
        per: Granularity of the learnable parameters, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    low = LOWEST if v_min is None else v_min
    if basis != "monomial" and not low < v_threshold:
        raise ModelError("lnm", f"basis {basis!r} on [{low}, {v_threshold}]", "v_min < v_threshold")
    size = degree + 1 if learn_theta_0 else degree
    if theta is None:
        ends = _leak_in(basis, low, v_threshold)[0 if learn_theta_0 else 1 :]
        theta = _leak(decay, decay_spread, 1 if form == "C" else 0, ends, size)
    elif decay_spread or decay != DECAY:
        given = "decay_spread" if decay_spread else "decay"
        raise ModelError("lnm", f"theta and {given} are given", "one of them")
    v, x = state("v", init=v_reset or 0.0), input("x")
    coefficients = param("theta", size=size, init=theta)
    threshold = param("v_threshold", init=v_threshold, learnable=learn_threshold)
    z = v + x if form == "B" else v
    rows = polynomials(basis, degree, low, v_threshold)
    if not learn_theta_0:
        rows = tuple((as_expr(0), *row[1:]) for row in rows[1:])
    f = poly(z, _in_powers(coefficients, rows))
    charged: ExprLike = {"A": f + x, "B": f, "C": v + f + x}[form]
    return Neuron(
        charge={v: clamped("lnm", charged, v_min, v_max, v_threshold)},
        fire=v - threshold,
        reset=reset_of(v, threshold, v_reset),
        surrogate=surrogate,
        detach_reset=detach_reset,
    ).with_per(per)


def polynomials(basis: str, degree: int, low: float, high: float) -> tuple[tuple[Any, ...], ...]:
    """Return the rational coefficients of z**0, ..., z**degree in each P_k(t(z)).

    t(z) maps [low, high], read as decimals, to [-1, 1]; in the monomial basis t = z.
    """
    a, b = as_expr(low), as_expr(high)
    t = _Z if basis == "monomial" else (2 * _Z - a - b) / (b - a)
    rows = [sympy.Poly(BASES[basis](k, t), _Z, domain=sympy.QQ) for k in range(degree + 1)]
    return tuple(tuple(row.coeff_monomial(_Z**i) for i in range(degree + 1)) for row in rows)


def _in_powers(theta: Sequence[Any], rows: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the coefficients of the powers of z in sum of theta_k * rows[k]."""
    size = len(rows[0])
    return [
        sympy.Add(*(t * row[i] for t, row in zip(theta, rows, strict=True))) for i in range(size)
    ]


def _leak_in(basis: str, low: float, high: float) -> tuple[Any, Any]:
    """Return (c_0, c_1), rational, of z = c_0*P_0 + c_1*P_1."""
    if basis == "monomial":
        return as_expr(0), as_expr(1)
    a, b = as_expr(low), as_expr(high)
    return (a + b) / 2, (b - a) / 2


def _leak(
    decay: float, spread: float, shift: int, ends: tuple[Any, ...], size: int
) -> tuple[float, ...] | DrawnLeak:
    """Return theta of f(v) = (decay - shift)*v, or the function that draws it."""
    if not spread:
        slope = as_expr(decay) - shift
        return (*(float(slope * c) for c in ends), *(0.0,) * (size - len(ends)))
    if not (spread > 0 and 0 < decay < 1):
        raise ModelError(
            "lnm",
            f"decay is {decay!r} and decay_spread {spread!r}",
            "with a spread > 0, a decay between 0 and 1",
        )
    mean = math.log(decay / (1 - decay))
    return DrawnLeak(mean, float(spread), float(shift), tuple(map(float, ends)))
