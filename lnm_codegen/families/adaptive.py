"""Leaky neurons that adapt."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from lnm_codegen.errors import ModelError
from lnm_codegen.families.common import Positive, Range, param_in, positive_in
from lnm_codegen.language.family import family
from lnm_codegen.language.functions import clip, exp, max, stop_gradient, where
from lnm_codegen.language.neuron import Neuron, hard_reset, soft_reset
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, Init, input, param, spike, state
from lnm_codegen.validation import (
    Accepted,
    Flag,
    Number,
    require_number,
)


@family
def alif(
    form: Annotated[Literal["yin", "lsnn"], Accepted()] = "yin",
    tau_m: float | Init = 20.0,
    tau_adp: float | Init = 150.0,
    v_threshold: Number | None = None,
    beta: Number = 1.8,
    v_reset: Number | None = 0.0,
    tau_syn: float | None = None,
    learn_tau: bool = True,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Adaptive LIF: each spike raises the threshold, which decays with time constant tau_adp.

        yin (Yin et al. 2021)          a = exp(-1/tau_m),  r = exp(-1/tau_adp)
            charge   b' = r*b + (1 - r)*s_prev,  B = v_threshold + beta*b'
                     h  = a*v + (1 - a)*x - B*s_prev
            fire     spike = H(h - B)
            reset    s_prev = spike; the soft reset acts on the next charge
        lsnn (Bellec et al. 2018; Norse `lsnn_feed_forward_step`)
            charge   b' = b + (v_threshold - b)/tau_adp
                     h  = v + (x - v)/tau_m
            fire     spike = H(h - b')
            reset    v hard to v_reset, b' + beta*spike;  initially b = v_threshold

    Args:
        form: The equations, see above.
        tau_m: Membrane time constant in time steps, > 1, or a function (generator, shape) ->
            tensor.
        tau_adp: Time constant of the threshold, given as `tau_m`.
        v_threshold: Threshold at rest; 0.01 in form yin, 1 in form lsnn by default.
        beta: Strength of the adaptation.
        v_reset: Potential after a spike, in form lsnn.
        tau_syn: In form lsnn, time constant of Norse's synaptic current between x and v: the
            current charges v before this step's x is added to it. None: x charges v.
        learn_tau: Make tau_m and tau_adp learnable. A value below 1 counts as 1, because
            exp(-1/tau) diverges at 0.
        per: Granularity of the learnable parameters, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    for word, tau in (("tau_m", tau_m), ("tau_adp", tau_adp), ("tau_syn", tau_syn)):
        if not callable(tau):
            require_number("alif", word, tau, above=1, optional=word == "tau_syn")
    rest = {"yin": 0.01, "lsnn": 1.0}[form] if v_threshold is None else v_threshold
    if v_reset is None or (form == "yin" and (v_reset != 0 or tau_syn is not None)):
        raise ModelError(
            "alif",
            f"form is {form!r}, v_reset {v_reset!r}, tau_syn {tau_syn!r}",
            "a number as v_reset in form 'lsnn'; neither in form 'yin', whose reset is soft",
        )
    t_m = max(param("tau_m", init=tau_m, learnable=learn_tau), 1)
    t_adp = max(param("tau_adp", init=tau_adp, learnable=learn_tau), 1)
    threshold = param("v_threshold", init=rest, learnable=False)
    jump = param("beta", init=beta, learnable=False)
    x, v, b = input("x"), state("v"), state("b", init=0.0 if form == "yin" else threshold)
    charge: dict[Any, Any]
    if form == "yin":
        s_prev, keep, fade = state("s_prev"), exp(-1 / t_m), exp(-1 / t_adp)
        adapted = fade * b + (1 - fade) * s_prev
        charge = {b: adapted, v: keep * v + (1 - keep) * x - (threshold + jump * adapted) * s_prev}
        fire, reset = v - threshold - jump * b, {s_prev: spike}
    else:
        charge = {b: b + (threshold - b) / t_adp, v: v + (x - v) / t_m}
        if tau_syn is not None:
            current, t_syn = state("current"), param("tau_syn", init=tau_syn, learnable=False)
            charge |= {v: v + (current - v) / t_m, current: current - current / t_syn + x}
        fire, reset = v - b, hard_reset(v, v_reset) | {b: b + jump * spike}
    return Neuron(charge=charge, fire=fire, reset=reset, surrogate=surrogate).with_per(per)


@family
def adlif(
    tau_v: Range = (5.0, 25.0),
    tau_w: Range = (60.0, 300.0),
    a: Range = (0.0, 1.0),
    b: Range = (0.0, 2.0),
    q: Positive = 120.0,
    v_threshold: Number = 1.0,
    learnable: bool = True,
    per: Granularity | dict[str, Granularity] = "layer",
    detach_reset: Flag = False,
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Adaptive LIF neuron, SE-adLIF (Baronig et al. 2024, arXiv 2408.07517).

        charge   h = d_v*v + (1 - d_v)*(x - w),  d_v = exp(-1/tau_v)
        fire     spike = H(h - v_threshold)
        reset    v' = h*(1 - spike)
                 w' = d_w*w + (1 - d_w)*q*(a*v' + b*spike),  d_w = exp(-1/tau_w)

    Also github.com/IGITUGraz/SE-adlif, which calls v and tau_v u and tau_u. Euler's forward method
    would charge w with the potential of the previous step; the symplectic one takes v' of this
    step. The defaults are those of the authors' experiments on SHD, SSC and ECG.

    Args:
        tau_v: Time constant of v in time steps, >= 1: a number, or a range (low, high). A layer
            draws it uniformly for each parameter set. Without a layer the middle counts. A learned
            value may leave the range. One below 1 counts as 1.
        tau_w: Time constant of w, given as `tau_v`.
        a: Coupling of v to w over q, 0 to 1, given as `tau_v`.
        b: Jump of w at a spike over q, 0 to 2, given as `tau_v`. A learned a or b outside these
            bounds counts as the nearest bound. As the authors' code, `lnm train` moves every
            parameter to its bound after a step of the optimiser (`lnm.train.clamp_parameters`).
            The authors learn the share of tau in its range, and clamp tau to that range.
        q: Common factor of a and b, > 0.
        v_threshold: Firing threshold.
        learnable: Make tau_v, tau_w, a and b learnable.
        per: Granularity of the learnable parameters, a word or a dict by name.
        detach_reset: Treat the spike as a constant in v' = h*(1 - spike), as the authors' code
            always does. The jump b*spike of w' keeps its gradient, since it is not a reset.
            `with_detach_reset(True)` of the neuron detaches both.
        surrogate: Slope of the spike; atan(alpha=2) by default. The authors use an exponential.
    """
    v, w, x = state("v"), state("w"), input("x")
    t_v = max(param_in("adlif", "tau_v", tau_v, learnable=learnable, low=1), 1)
    t_w = max(param_in("adlif", "tau_w", tau_w, learnable=learnable, low=1), 1)
    coupling = clip(param_in("adlif", "a", a, learnable=learnable, low=0, high=1), 0, 1)
    jump = clip(param_in("adlif", "b", b, learnable=learnable, low=0, high=2), 0, 2)
    factor = param("q", init=q, learnable=False)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    d_v, d_w = exp(-1 / t_v), exp(-1 / t_w)
    fired = stop_gradient(spike) > 0 if detach_reset else spike
    after = where(fired, 0, v)
    return Neuron(
        charge={v: d_v * v + (1 - d_v) * (x - w)},
        fire=v - threshold,
        reset={v: after, w: d_w * w + (1 - d_w) * factor * (coupling * after + jump * spike)},
        surrogate=surrogate,
    ).with_per(per)


@family
def silif(
    dt: Range = 0.004,
    rate_v: Range = (10.0, 250.0),
    rate_w: Range = (2.5, 10.0),
    a: Range = (0.0, 1.0),
    b: Range = (0.0, 2.0),
    v_threshold: Number = 1.0,
    learnable: bool = True,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Adaptive LIF neuron as a state space model, SiLIF (Fabre et al. 2025).

        charge   h = d_v*v + (1 - d_v)*(x - w),  d_v = exp(-rate_v*dt)
        fire     spike = H(h - v_threshold)
        reset    v' = h - v_threshold*spike
                 w' = d_w*w + a*h + b*spike,  d_w = exp(-rate_w*dt)

    arXiv 2506.06374 and github.com/Maxtimer97/SSM-inspired-LIF. The layer learns log_dt, log_rate_v
    and log_rate_w, so that rates and dt stay positive. The defaults are the authors'; their states
    begin at random in [0, 1], ours at 0.

    Args:
        dt: Time step in seconds, > 0: a number, or a range (low, high). A layer draws the logarithm
            uniformly for each parameter set. Without a layer the middle counts.
        rate_v: Rate of decay of v in 1/s, > 0, given as `dt`.
        rate_w: Rate of decay of w in 1/s, > 0, given as `dt`.
        a: Coupling of v to w, 0 to 1: a number, or a range that is drawn uniformly.
        b: Jump of w at a spike, 0 to 2, given as `a`. A learned a or b outside these bounds counts
            as the nearest bound.
        v_threshold: Firing threshold.
        learnable: Make log_dt, log_rate_v, log_rate_w, a and b learnable.
        per: Granularity of the learnable parameters, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=2) by default. The authors use a rectangle of
            width 1.
    """
    v, w, x = state("v"), state("w"), input("x")
    step = positive_in("silif", "dt", dt, learnable=learnable)
    d_v = exp(-positive_in("silif", "rate_v", rate_v, learnable=learnable) * step)
    d_w = exp(-positive_in("silif", "rate_w", rate_w, learnable=learnable) * step)
    coupling = clip(param_in("silif", "a", a, learnable=learnable, low=0, high=1), 0, 1)
    jump = clip(param_in("silif", "b", b, learnable=learnable, low=0, high=2), 0, 2)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    return Neuron(
        charge={v: d_v * v + (1 - d_v) * (x - w)},
        fire=v - threshold,
        reset=soft_reset(v, threshold) | {w: d_w * w + coupling * v + jump * spike},
        surrogate=surrogate,
    ).with_per(per)
