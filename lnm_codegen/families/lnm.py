"""`lnm`: the learnable neuron model, a polynomial of any degree, of one state or of two.

A basis gives f(z) = sum of theta_k * P_k(t) with t = (2*z - low - high) / (high - low). The
coefficient of z**i is then a sum of theta_k times rational numbers: an expression of parameters
alone, which the compiler moves into `prepare`, so that a time step costs the same in every basis.

With `states=2` the linear part is a free matrix or a pole pair. Its initial values are those of a
damped rotation, drawn once for each parameter set, so that the four numbers of a matrix fit each
other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.families.common import LOWEST, Range, clamped, require_range, reset_of, within
from lnm_codegen.ir.declarations import DrawnLeak, Matrix, PolePair, Poles, rotation
from lnm_codegen.language.family import family, family_by
from lnm_codegen.language.functions import ExprLike, as_expr, cos, poly, sigmoid, sin
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Declared, Granularity, Init, input, param, state
from lnm_codegen.validation import Accepted, Flag, Number, wrong

BASES: dict[str, Any] = {
    "monomial": lambda k, t: t**k,
    "chebyshev": sympy.chebyshevt_poly,
    "legendre": sympy.legendre_poly,
}
"""Basis -> P_k(t), called with k and t."""
_Z = sympy.Symbol("z")
DECAY = 0.5
"""Initial slope of f, where no argument gives it."""


# Two states.


Powers: TypeAlias = tuple[tuple[int, int], ...]
"""Exponents (i, j) of monomials v**i * w**j."""
Start: TypeAlias = "Sequence[float] | Init | None"

RADIUS, ANGLE = (0.5, 0.95), (0.0, 1.5)
"""Ranges of the initial pole pair. Another tuple is an argument that a caller gives."""


@family
def lnm_(
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


# One state.


@family_by("states", {2: lnm_})
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
