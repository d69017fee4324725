"""Resonate-and-fire neurons."""

from __future__ import annotations

from math import pi

from lnm_codegen.families.common import Positive, Range, Share, param_in, positive_in
from lnm_codegen.language.family import family
from lnm_codegen.language.functions import abs, as_expr, cos, exp, sin, sqrt
from lnm_codegen.language.neuron import Neuron, soft_reset
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, input, param, spike, state
from lnm_codegen.validation import Number


@family
def rf(
    omega: Range = (5.0, 10.0),
    b_offset: Range = (0.0, 3.0),
    dt: Positive = 0.01,
    v_threshold: Number = 1.0,
    learnable: bool = True,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Resonate-and-fire neuron (Izhikevich 2001) in the form of Higuchi et al. 2024.

        charge   h  = v + dt*(b*v - |omega|*w + x),  b = -|b_offset|
                 w' = w + dt*(|omega|*v + b*w)
        fire     spike = H(h - v_threshold)
        reset    none

    arXiv 2402.14603 and github.com/AdaptiveAILab/brf-neurons. v and w are the real and imaginary
    part of the potential, which they call u and v. The neuron is a free `lnm` of two states and
    degree 1 without reset, whose input is dt*x. It diverges where (1 + dt*b)**2 + (dt*omega)**2
    exceeds 1; `brf` avoids that.

    Args:
        omega: Angular frequency in radians per unit of dt: a number, or a range (low, high). A
            layer draws it uniformly for each parameter set. Without a layer the middle counts.
        b_offset: Damping per unit of dt, given as `omega`.
        dt: Time step, > 0. The authors' omega is in radians per second for dt in seconds.
        v_threshold: Firing threshold.
        learnable: Make omega and b_offset learnable.
        per: Granularity of the learnable parameters, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=2) by default. The authors use a difference of two
            Gaussians.
    """
    v, w, x, step = state("v"), state("w"), input("x"), as_expr(dt)
    frequency = abs(param_in("rf", "omega", omega, learnable=learnable))
    damping = abs(param_in("rf", "b_offset", b_offset, learnable=learnable))
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    return Neuron(
        charge={
            v: v + step * (x - damping * v - frequency * w),
            w: w + step * (frequency * v - damping * w),
        },
        fire=v - threshold,
        surrogate=surrogate,
    ).with_per(per)


@family
def brf(
    omega: Range = (5.0, 10.0),
    b_offset: Range = (0.0, 3.0),
    dt: Positive = 0.01,
    gamma: Share = 0.9,
    v_threshold: Number = 1.0,
    learnable: bool = True,
    per: Granularity | dict[str, Granularity] = "layer",
    detach_reset: bool = False,
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Balanced resonate-and-fire neuron (Higuchi et al. 2024, arXiv 2402.14603).

        charge   p  = (sqrt(1 - (dt*omega)**2) - 1)/dt,  b = p - |b_offset| - q
                 h  = v + dt*(b*v - |omega|*w + x)
                 w' = w + dt*(|omega|*v + b*w)
        fire     spike = H(h - v_threshold - q)
        reset    q' = gamma*q + spike

    Also github.com/AdaptiveAILab/brf-neurons. v and w are the real and imaginary part of the
    potential, which they call u and v. A spike raises q, which raises the threshold (refractory
    period) and the damping (smooth reset). At b = p the linear part neither grows nor decays (the
    divergence boundary).

    Args:
        omega: Angular frequency in radians per unit of dt, |omega| <= 1/dt: a number, or a range
            (low, high). A layer draws it uniformly for each parameter set. Without a layer the
            middle counts. Beyond 1/dt the potential is NaN.
        b_offset: Damping beyond the boundary, per unit of dt, given as `omega`.
        dt: Time step, > 0. The authors' omega is in radians per second for dt in seconds. Without
            input the potential does not grow while
            dt*(|b_offset| + q) <= 2*sqrt(1 - (dt*omega)**2); q is at most 1/(1 - gamma).
        gamma: Decay of q per time step, 0 to 1.
        v_threshold: Firing threshold at rest.
        learnable: Make omega and b_offset learnable.
        per: Granularity of the learnable parameters, a word or a dict by name.
        detach_reset: Treat the spike in q as a constant.
        surrogate: Slope of the spike; atan(alpha=2) by default. The authors use a difference of two
            Gaussians.
    """
    v, w, q, x, step = state("v"), state("w"), state("q"), input("x"), as_expr(dt)
    turn = param_in("brf", "omega", omega, learnable=learnable, low=-1 / dt, high=1 / dt)
    offset = abs(param_in("brf", "b_offset", b_offset, learnable=learnable))
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    kept = param("gamma", init=gamma, learnable=False)
    growth = sqrt(1 - (step * turn) ** 2) - step * offset - step * q  # 1 + dt*b
    return Neuron(
        charge={
            v: growth * v + step * (x - abs(turn) * w),
            w: growth * w + step * abs(turn) * v,
        },
        fire=v - threshold - q,
        reset={q: kept * q + spike},
        surrogate=surrogate,
        detach_reset=detach_reset,
    ).with_per(per)


@family
def csilif(
    dt: Range = (0.01, 0.5),
    rate: Range = 0.5,
    omega: Range = pi,
    b: Range = (0.0, 1.0),
    v_threshold: Number = 1.0,
    learnable: bool = True,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Resonate-and-fire neuron as a state space model, C-SiLIF (Fabre et al. 2025).

        charge   h  = r*(cos(omega*dt)*v - sin(omega*dt)*w) + b*x,  r = exp(-rate*dt)
                 w' = r*(sin(omega*dt)*v + cos(omega*dt)*w)
        fire     spike = H(2*h - v_threshold)
        reset    v' = h - v_threshold/2*spike

    arXiv 2506.06374 and github.com/Maxtimer97/SSM-inspired-LIF. v and w are the real and imaginary
    part of one complex potential, whose conjugate makes the factor 2. The layer learns log_dt and
    log_rate, so that both stay positive. The defaults are the authors'; their states begin at
    random in [0, 1], ours at 0.

    Args:
        dt: Time step, > 0: a number, or a range (low, high). A layer draws the logarithm uniformly
            for each parameter set. Without a layer the middle counts.
        rate: Rate of decay, in 1 per unit of dt, > 0, given as `dt`.
        omega: Angular frequency in radians per unit of dt: a number, or a range that is drawn
            uniformly.
        b: Factor of the input, given as `omega`.
        v_threshold: Firing threshold of 2*v.
        learnable: Make log_dt, log_rate, omega and b learnable.
        per: Granularity of the learnable parameters, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=2) by default. The authors use a rectangle of
            width 1.
    """
    v, w, x = state("v"), state("w"), input("x")
    step = positive_in("csilif", "dt", dt, learnable=learnable)
    r = exp(-positive_in("csilif", "rate", rate, learnable=learnable) * step)
    angle = param_in("csilif", "omega", omega, learnable=learnable) * step
    gain = param_in("csilif", "b", b, learnable=learnable)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    real, imaginary = r * cos(angle), r * sin(angle)
    return Neuron(
        charge={v: real * v - imaginary * w + gain * x, w: imaginary * v + real * w},
        fire=2 * v - threshold,
        reset=soft_reset(v, threshold / 2),
        surrogate=surrogate,
    ).with_per(per)
