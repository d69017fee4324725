"""`lnm`: the learnable neuron model, a polynomial of any degree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from lnm_codegen.errors import ModelError
from lnm_codegen.families.basis import BASES, in_powers, leak_in, polynomials
from lnm_codegen.families.common import check_choice, check_numbers, clamped, reset_of
from lnm_codegen.families.drawn import DrawnLeak
from lnm_codegen.language.family import family
from lnm_codegen.language.functions import ExprLike, as_expr, poly
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, Init, input, param, state

LOWEST = -2.0
"""Where the interval of a basis begins if there is no clamp."""


@family
def lnm(
    degree: int = 3,
    form: Literal["A", "B", "C"] = "A",
    theta: Sequence[float] | Init | None = None,
    learn_theta_0: bool = True,
    v_threshold: float = 1.0,
    learn_threshold: bool = False,
    v_reset: float | None = 0.0,
    v_min: float | None = None,
    v_max: float | None = None,
    decay: float = 0.5,
    decay_spread: float = 0.0,
    basis: Literal["monomial", "chebyshev", "legendre"] = "monomial",
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

    A polynomial of degree >= 2 can run away: under soft reset always, under hard reset below,
    where its leading behaviour points to -inf. `v_min` closes that side; training uses -2. Under a
    soft reset `v_max` = 2*v_threshold keeps what is left after a spike at v_threshold or below.

    Args:
        degree: 1 to 8.
        form: Where the input enters, see above.
        theta: Initial coefficients in the basis, degree + 1 of them, or a function (generator,
            shape) -> tensor; by default those of a LIF neuron, h = decay*v + x.
        learn_theta_0: False leaves theta_0 out of f (the bias of a normalisation does its work);
            then `theta` holds theta_1, ..., theta_d, and f(0) = 0 in every basis: P_k(t) stands
            for P_k(t) - P_k(t(0)).
        v_threshold: Firing threshold.
        learn_threshold: Make it a learnable parameter.
        v_reset: Potential after a spike; None for a soft reset.
        v_min: Lower clamp of the charged potential; None for none.
        v_max: Upper clamp of it, > v_threshold; None for none.
        decay: Slope of f at the start (decay - 1 in form C), if `theta` is not given.
        decay_spread: Draw the decay of each row, sigmoid(N(logit(decay), decay_spread**2)), so that
            channels or neurons begin unlike; 0 for alike.
        basis: What theta are the coefficients of. They become those of powers once per call, so a
            step costs the same; the gradient of theta is conditioned otherwise. The interval is
            from v_min, or -2 without a clamp, to the v_threshold given here.
        detach_reset: Treat the spike inside reset as a constant.
        per: Granularity of the learnable parameters, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    if isinstance(degree, bool) or not isinstance(degree, int) or not 1 <= degree <= 8:
        raise ModelError("lnm", f"degree is {degree!r}", "an integer from 1 to 8")
    check_numbers("lnm", v_threshold=v_threshold, v_reset=v_reset, v_min=v_min, decay=decay)
    check_numbers("lnm", decay_spread=decay_spread, v_max=v_max)
    check_choice("lnm", "form", form, ("A", "B", "C"))
    check_choice("lnm", "basis", basis, tuple(BASES))
    low = LOWEST if v_min is None else v_min
    if basis != "monomial" and not low < v_threshold:
        raise ModelError("lnm", f"basis {basis!r} on [{low}, {v_threshold}]", "v_min < v_threshold")
    size = degree + 1 if learn_theta_0 else degree
    if theta is None:
        ends = leak_in(basis, low, v_threshold)[0 if learn_theta_0 else 1 :]
        shift = 1 if form == "C" else 0
        theta = _initial(decay, decay_spread, shift, ends, size)
    elif decay_spread:
        raise ModelError("lnm", "theta and decay_spread are given", "one of them")
    v, x = state("v", init=v_reset or 0.0), input("x")
    coefficients = param("theta", size=size, init=theta)
    threshold = param("v_threshold", init=v_threshold, learnable=learn_threshold)
    z = v + x if form == "B" else v
    rows = polynomials(basis, degree, low, v_threshold)
    if not learn_theta_0:
        rows = tuple((as_expr(0), *row[1:]) for row in rows[1:])
    f = poly(z, in_powers(coefficients, rows))
    charged: ExprLike = {"A": f + x, "B": f, "C": v + f + x}[form]
    return Neuron(
        charge={v: clamped("lnm", charged, v_min, v_max, v_threshold)},
        fire=v - threshold,
        reset=reset_of(v, threshold, v_reset),
        surrogate=surrogate,
        detach_reset=detach_reset,
    ).with_per(per)


def _initial(
    decay: float, spread: float, shift: int, ends: tuple[Any, ...], size: int
) -> tuple[float, ...] | DrawnLeak:
    """Return theta of a leak, or what draws it."""
    if not spread:
        slope = as_expr(decay) - shift
        return (*(float(slope * c) for c in ends), *(0.0,) * (size - len(ends)))
    if not (spread > 0 and 0 < decay < 1):
        raise ModelError(
            "lnm",
            f"decay is {decay!r} and decay_spread {spread!r}",
            "with a spread > 0, a decay between 0 and 1",
        )
    return DrawnLeak(
        math.log(decay / (1 - decay)), float(spread), float(shift), tuple(map(float, ends))
    )
