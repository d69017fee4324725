"""`lnm` with `states=2`: polynomials of two coupled states.

The linear part is a free matrix or a pole pair. Its initial values are those of a damped rotation,
drawn once for each parameter set, so that the four numbers of a matrix fit each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.families.common import Range, clamped, require_range, reset_of, within
from lnm_codegen.ir.declarations import Matrix, PolePair, Poles, rotation
from lnm_codegen.language.family import family
from lnm_codegen.language.functions import ExprLike, cos, sigmoid, sin
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Declared, Granularity, Init, input, param, state
from lnm_codegen.validation import (
    Accepted,
    Flag,
    Number,
    wrong,
)

Powers: TypeAlias = tuple[tuple[int, int], ...]
"""Exponents (i, j) of monomials v**i * w**j."""
Start: TypeAlias = "Sequence[float] | Init | None"

RADIUS, ANGLE = (0.5, 0.95), (0.0, 1.5)
"""Ranges of the initial pole pair. Another tuple is an argument that a caller gives."""


@family
def lnm(
    degree: Annotated[int, Accepted(low=1, high=5)] = 3,
    *,
    parametrisation: Annotated[Literal["free", "pole"], Accepted()] = "free",
    reset: Annotated[Literal["v", "both"], Accepted()] = "v",
    v_reset: Number | None = None,
    radius: Range = RADIUS,
    angle: Range = ANGLE,
    theta_v: Start = None,
    theta_w: Start = None,
    learn_theta_0: Flag = False,
    v_threshold: Number = 1.0,
    learn_threshold: bool = False,
    v_min: Number | None = None,
    v_max: Number | None = None,
    w_min: Number | None = None,
    w_max: Number | None = None,
    detach_reset: bool = False,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Learnable Neuron Model with two states v and w, coupled by polynomials P and Q.

        charge   h  = P(v, w) + x,  w' = Q(v, w), both of the states of the previous step
                 h  = where(h < v_min, v_min, h), where(h > v_max, v_max, h)      if given
                 w' = where(w' < w_min, w_min, w'), where(w' > w_max, w_max, w')  if given
        fire     spike = H(h - v_threshold)
        reset    v: soft by v_threshold, or hard to v_reset; w the same if reset is "both"

        P = sum of theta_v[k] * m_k,  Q = sum of theta_w[k] * m_k,
        m = v, w, v**2, v*w, w**2, v**3, v**2*w, ... up to total degree d; 1 first if learn_theta_0

    With parametrisation "pole" the linear part is a pole pair inside the unit circle:

        P = r*(v*cos(phi) - w*sin(phi)) + ...,  Q = r*(v*sin(phi) + w*cos(phi)) + ...,
        r = sigmoid(rho);  theta_v and theta_w hold the other terms: 1 and those of degree >= 2

    Degree 1 with "pole" is stable for any rho and phi. A free matrix diverges where an eigenvalue
    leaves the unit circle, and so can every polynomial of degree >= 2: clamp both states.

    The neuron's name is `lnm_states2`, or `lnm_states2_pole`, since files of different neurons
    need different names.

    Args:
        degree: Total degree, 1 to 5. A C++ compiler takes longer with each degree.
        parametrisation: Parameters of the linear part: "free", its coefficients in theta_v and
            theta_w; "pole", rho and phi.
        reset: States that a spike resets, "v" or "both".
        v_reset: State after a spike; None for a soft reset. A state with a hard reset begins there,
            other states begin at 0.
        radius: Initial modulus r of the pole pair: a number, or a range (low, high). At least 0
            for "free"; between 0 and 1, both excluded, for "pole".
        angle: Initial angle phi of the pole pair in radians per step: a number or a range. In a
            layer, one uniform draw of (r, phi) for each parameter set gives all its linear
            coefficients. Without a layer, the middle of each range is used. `radius` and `angle`
            are refused where theta_v and theta_w give the whole linear part.
        theta_v: Initial coefficients of P, as many as monomials, or a function (generator, shape)
            -> tensor. By default the linear ones are those of the pole pair, the others 0.
        theta_w: Initial coefficients of Q, likewise.
        learn_theta_0: True adds constants to P and Q.
        v_threshold: Firing threshold.
        learn_threshold: Make it learnable.
        v_min: Lower clamp of the charged potential, < v_threshold, or None.
        v_max: Upper clamp of the charged potential, > v_threshold, or None.
        w_min: Lower clamp of the charged w, or None.
        w_max: Upper clamp of the charged w, > w_min, or None.
        detach_reset: Treat the spike inside reset as a constant.
        per: Granularity of the learnable parameters, a word or a dict by name. A layer refuses
            different ones for parameters that are drawn together.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    if w_min is not None and w_max is not None and not w_max > w_min:
        raise wrong("lnm", "w_max", w_max, f"a number > w_min, {w_min!r}, or None")
    pole = parametrisation == "pole"
    if not pole and theta_v is not None and theta_w is not None:
        _refuse_poles(radius=radius is not RADIUS, angle=angle is not ANGLE)
    bound = {"above": 0, "below": 1} if pole else {"low": 0}
    poles = Poles(
        require_range("lnm", "radius", radius, **bound), require_range("lnm", "angle", angle)
    )
    v, x = state("v", init=v_reset or 0.0), input("x")
    w = state("w", init=(v_reset or 0.0) if reset == "both" else 0.0)
    terms = _pole_pair if pole else _free
    p, q = terms(v, w, degree, learn_theta_0, poles, (theta_v, theta_w))
    threshold = param("v_threshold", init=v_threshold, learnable=learn_threshold)
    after = reset_of(v, threshold, v_reset)
    return Neuron(
        charge={v: clamped("lnm", p + x, v_min, v_max, v_threshold), w: within(q, w_min, w_max)},
        fire=v - threshold,
        reset=after | reset_of(w, threshold, v_reset) if reset == "both" else after,
        surrogate=surrogate,
        detach_reset=detach_reset,
        name="lnm_states2_pole" if pole else "lnm_states2",
    ).with_per(per)


def _refuse_poles(**given: bool) -> None:
    """Raise ModelError if an initial pole is given, which nothing would read."""
    words = " and ".join(word for word, is_given in given.items() if is_given)
    if words:
        problem = f"{words} given with theta_v and theta_w, which are the linear part"
        remedy = f"Omit {words}, or one of theta_v and theta_w."
        raise ModelError("lnm", problem, remedy=remedy)


def monomials(degree: int, least: int = 0) -> Powers:
    """Return the exponents of v and w in graded order, from total degree `least` to `degree`."""
    return tuple((k - j, j) for k in range(least, degree + 1) for j in range(k + 1))


def _free(
    v: Declared, w: Declared, degree: int, constant: bool, poles: Poles, given: tuple[Start, Start]
) -> tuple[ExprLike, ExprLike]:
    """Return P and Q with every coefficient in theta_v and theta_w."""
    powers = monomials(degree, 0 if constant else 1)
    first = int(constant)
    r, phi = poles.middle()
    rows = rotation(r, math.cos(phi), math.sin(phi))
    sample = Matrix(poles, first, len(powers))
    found = []
    for part, (name, theta) in enumerate(zip(("theta_v", "theta_w"), given, strict=True)):
        others = (0.0,) * (len(powers) - first - 2)
        init = (*(0.0,) * first, *rows[part], *others) if theta is None else theta
        draw = poles.draw(sample, part) if theta is None else None
        found.append(_polynomial(param(name, len(powers), init, draw=draw), powers, v, w))
    return found[0], found[1]


def _pole_pair(
    v: Declared, w: Declared, degree: int, constant: bool, poles: Poles, given: tuple[Start, Start]
) -> tuple[ExprLike, ExprLike]:
    """Return P and Q with the linear part in rho and phi."""
    powers = ((0, 0),) * constant + monomials(degree, 2)
    r, angle = poles.middle()
    sample = PolePair(poles)
    rho = param("rho", init=math.log(r / (1 - r)), draw=poles.draw(sample, 0))
    phi = param("phi", init=angle, draw=poles.draw(sample, 1))
    linear = [a * v + b * w for a, b in rotation(sigmoid(rho), cos(phi), sin(phi))]
    for k, (name, start) in enumerate(zip(("theta_v", "theta_w"), given, strict=True)):
        if powers:
            init = (0.0,) * len(powers) if start is None else start
            linear[k] += _polynomial(param(name, len(powers), init), powers, v, w)
        elif start is not None:
            problem = f"{name} is given, but degree 1 has no term beside the pole pair"
            raise ModelError("lnm", problem, remedy=f"Omit {name}.")
    return linear[0], linear[1]


def _polynomial(theta: Sequence[Any], powers: Powers, v: Declared, w: Declared) -> Any:
    return sympy.Add(*(t * v**i * w**j for t, (i, j) in zip(theta, powers, strict=True)))
