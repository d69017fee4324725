"""Neurons with a quadratic or an exponential upstroke."""

from __future__ import annotations

from typing import Any

from lnm_codegen.families.common import Positive, TimeConstant, clamped, reset_of
from lnm_codegen.language.family import family, family_by
from lnm_codegen.language.functions import ExprLike, as_expr, exp
from lnm_codegen.language.neuron import Neuron, hard_reset
from lnm_codegen.language.surrogate import Surrogate, atan
from lnm_codegen.language.symbols import Granularity, input, param, spike, state
from lnm_codegen.validation import Number, require_number


@family
def qif(
    tau: TimeConstant = 2.0,
    v_c: Number = 0.8,
    a0: Number = 1.0,
    v_threshold: Number = 1.0,
    v_rest: Number = 0.0,
    v_reset: Number | None = -0.1,
    v_min: Number | None = None,
    v_max: Number | None = None,
    learnable: bool = False,
    per: Granularity = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Quadratic integrate-and-fire (SpikingJelly `QIFNode`).

        charge   h = v + (x + a0 * (v - v_rest) * (v - v_c)) / tau
                 h = where(h < v_min, v_min, h)          if v_min is given
                 h = where(h > v_max, v_max, h)          if v_max is given
        fire     spike = H(h - v_threshold)
        reset    hard to v_reset; soft by v_threshold where v_reset is None

    A potential far above v_c or far below v_rest diverges to inf. `v_min` bounds it below; training
    uses -2. Under a soft reset `v_max` = 2*v_threshold bounds the potential after a spike by
    v_threshold.

    Args:
        tau: Membrane time constant in time steps, > 1.
        v_c: Critical potential: between v_rest and v_c the quadratic term lowers v.
        a0: Coefficient of the quadratic term.
        v_threshold: Firing threshold.
        v_rest: Potential at rest.
        v_reset: Potential after a spike; None for a soft reset.
        v_min: Lower clamp of the charged potential, < v_threshold, or None.
        v_max: Upper clamp of the charged potential, > v_threshold, or None.
        learnable: Make tau, v_rest, v_c and a0 learnable.
        per: Granularity of the learnable parameters.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    v, x = state("v", init=v_reset or 0.0), input("x")
    t = param("tau", init=tau, learnable=learnable, per=per)
    rest = param("v_rest", init=v_rest, learnable=learnable, per=per)
    critical = param("v_c", init=v_c, learnable=learnable, per=per)
    a = param("a0", init=a0, learnable=learnable, per=per)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    charged: ExprLike = v + (x + a * (v - rest) * (v - critical)) / t
    return Neuron(
        charge={v: clamped("qif", charged, v_min, v_max, v_threshold)},
        fire=v - threshold,
        reset=reset_of(v, threshold, v_reset),
        surrogate=surrogate,
    )


@family
def eif(
    tau: TimeConstant = 2.0,
    delta_T: Positive = 1.0,
    theta_rh: Number = 0.8,
    v_threshold: Number = 1.0,
    v_rest: Number = 0.0,
    v_reset: Number | None = -0.1,
    learnable: bool = False,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Exponential integrate-and-fire (Fourcaud-Trocme et al. 2003; SpikingJelly `EIFNode`).

        charge   h = v + (x + v_rest - v + delta_T*exp((v - theta_rh)/delta_T)) / tau
        fire     spike = H(h - v_threshold)
        reset    hard to v_reset; soft by v_threshold where v_reset is None

    The default v_threshold, like SpikingJelly's, is close to theta_rh. A potential far above
    theta_rh overflows in one step.

    Args:
        tau: Membrane time constant in time steps, > 1.
        delta_T: Sharpness of the upstroke, > 0, in the units of v.
        theta_rh: Rheobase threshold, where the exponential term begins to dominate.
        v_threshold: Firing threshold.
        v_rest: Potential at rest.
        v_reset: Potential after a spike; None for a soft reset.
        learnable: Make tau, delta_T, theta_rh and v_rest learnable.
        per: Granularity of the learnable parameters, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    v, x = state("v", init=v_reset or 0.0), input("x")
    t = param("tau", init=tau, learnable=learnable)
    sharpness = param("delta_T", init=delta_T, learnable=learnable)
    rheobase = param("theta_rh", init=theta_rh, learnable=learnable)
    rest = param("v_rest", init=v_rest, learnable=learnable)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    upstroke = sharpness * exp((v - rheobase) / sharpness)
    return Neuron(
        charge={v: v + (x + rest - v + upstroke) / t},
        fire=v - threshold,
        reset=reset_of(v, threshold, v_reset),
        surrogate=surrogate,
    ).with_per(per)


@family
def adex(
    tau: TimeConstant = 10.0,
    tau_w: TimeConstant = 500.0,
    a: Number = 4.0,
    b: Number = 0.02,
    delta_T: Positive = 0.5,
    theta_rh: Number | None = None,
    tau_syn: TimeConstant | None = 5.0,
    v_threshold: Number = 1.0,
    v_rest: Number = 0.0,
    v_reset: Number = 0.0,
    learnable: bool = False,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Adaptive exponential integrate-and-fire (Brette and Gerstner 2005; Norse `LIFAdEx`).

        charge   i' = i + x, of which i = i'*(1 - 1/tau_syn) remains    tau_syn; else i' = x
                 h  = v + (v_rest - v + delta_T*exp((v - theta_rh)/delta_T) + i' - w) / tau
                 w' = w + (a*(v - v_rest) - w) / tau_w
        fire     spike = H(h - v_threshold)
        reset    v hard to v_reset;  w' + b*spike

    Time constants are in time steps, potentials and currents in one unit: Brette and Gerstner's
    currents divided by their leak conductance. The defaults are Norse's at dt = 1 ms.

    Args:
        tau: Membrane time constant in time steps, > 1.
        tau_w: Time constant of the adaptation w in time steps, > 1.
        a: Coupling of w to v, over the leak conductance.
        b: Jump of w at a spike.
        delta_T: Sharpness of the upstroke, > 0.
        theta_rh: Rheobase threshold; v_threshold by default, as in Norse.
        tau_syn: Time constant of the synaptic current i in time steps, > 1; None for no current.
        v_threshold: Firing threshold.
        v_rest: Potential at rest.
        v_reset: Potential after a spike.
        learnable: Make tau, tau_w, a, b and delta_T learnable.
        per: Granularity of the learnable parameters, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    rheobase = v_threshold if theta_rh is None else theta_rh
    v, w, x = state("v", init=v_reset), state("w"), input("x")
    t, t_w = (param(n, init=c, learnable=learnable) for n, c in (("tau", tau), ("tau_w", tau_w)))
    coupling, jump = (param(n, init=c, learnable=learnable) for n, c in (("a", a), ("b", b)))
    sharpness = param("delta_T", init=delta_T, learnable=learnable)
    foot = param("theta_rh", init=rheobase, learnable=False)
    rest = param("v_rest", init=v_rest, learnable=False)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    charge: dict[Any, Any] = {}
    drive: Any = x
    if tau_syn is not None:
        current, t_syn = state("i"), param("tau_syn", init=tau_syn, learnable=False)
        drive = current + x
        charge[current] = drive - drive / t_syn
    upstroke = sharpness * exp((v - foot) / sharpness)
    charge[v] = v + (rest - v + upstroke + drive - w) / t
    charge[w] = w + (coupling * (v - rest) - w) / t_w
    return Neuron(
        charge=charge,
        fire=v - threshold,
        reset=hard_reset(v, v_reset) | {w: w + jump * spike},
        surrogate=surrogate,
    ).with_per(per)


@family
def izhikevich_(
    a: Number = 0.02,
    b: Number = 0.2,
    c: float = -65.0,
    d: Number = 6.0,
    *,
    sq: Number = 0.04,
    mn: Number = 5.0,
    bias: Number = 140.0,
    dt: Positive = 0.25,
    v_threshold: Number = 30.0,
    v_start: Number = -70.0,
    learnable: bool = False,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Izhikevich's neuron of 2003 in Norse's form (`izhikevich_feed_forward_step`).

        charge   h  = v + dt*(sq*v**2 + mn*v + bias - u + x)
                 u' = u + dt*a*(b*v - u)
        fire     spike = H(h - v_threshold)
        reset    v hard to c;  u' + d*spike

    v is in mV and time in ms; dt is Norse's tau_inv*dt. Norse fires where h > v_threshold. With
    a = 0.02, b = 0.2 the neuron spikes tonically at c = -65, d = 6 and bursts at c = -50, d = 2.

    Args:
        a: Rate of the recovery u per ms.
        b: Coupling of u to v.
        c: Potential after a spike in mV, < v_threshold.
        d: Jump of u at a spike.
        sq: Coefficient of v**2.
        mn: Coefficient of v.
        bias: Constant of the charge.
        dt: Time step in ms, > 0.
        v_threshold: Firing threshold in mV.
        v_start: Initial v; u begins at b*v_start. By default the rest of the default parameters.
            `with_init` of v or b leaves u as it is: give u too.
        learnable: Make a, b and d learnable.
        per: Granularity of the learnable parameters, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=0.1) by default, since potentials are in mV.
    """
    require_number("izhikevich", "c", c, below=v_threshold)
    v, u, x, step = state("v", init=v_start), state("u", init=b * v_start), input("x"), as_expr(dt)
    rate, coupling, jump = (
        param(name, init=value, learnable=learnable)
        for name, value in (("a", a), ("b", b), ("d", d))
    )
    square, linear, constant = (
        param(name, init=value, learnable=False)
        for name, value in (("sq", sq), ("mn", mn), ("bias", bias))
    )
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    return Neuron(
        charge={
            v: v + step * (square * v**2 + linear * v + constant - u + x),
            u: u + step * rate * (coupling * v - u),
        },
        fire=v - threshold,
        reset=hard_reset(v, c) | {u: u + jump * spike},
        surrogate=surrogate or atan(alpha=0.1),
    ).with_per(per)


@family_by("form", {"norse": izhikevich_}, own="spikingjelly")
def izhikevich(
    tau: TimeConstant = 2.0,
    v_c: Number = 0.8,
    a0: Number = 1.0,
    v_threshold: Number = 1.0,
    v_rest: Number = -0.1,
    v_reset: Number | None = 0.0,
    tau_w: TimeConstant = 2.0,
    a: Number = 0.0,
    b: Number = 0.0,
    learnable: bool = False,
    per: Granularity = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Izhikevich's neuron in SpikingJelly's form (`IzhikevichNode`), or in Norse's.

        charge   h = v + (x + a0 * (v - v_rest) * (v - v_c) - w) / tau
                 w' = w + (a * (h - v_rest) - w) / tau_w
        fire     spike = H(h - v_threshold)
        reset    v hard to v_reset, soft by v_threshold where it is None;  w' + b * spike

    `form="norse"` is the neuron of Izhikevich (2003) in mV and ms.

    Args:
        tau: Membrane time constant in time steps, > 1.
        v_c: Critical potential: between v_rest and v_c the quadratic term lowers v.
        a0: Coefficient of the quadratic term.
        v_threshold: Firing threshold.
        v_rest: Potential at rest.
        v_reset: Potential after a spike; None for a soft reset.
        tau_w: Time constant of the recovery w in time steps, > 1.
        a: Coupling of w to v.
        b: Jump of w at a spike.
        learnable: Make all but v_threshold and v_reset learnable.
        per: Granularity of the parameters.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    v, w, x = state("v", init=v_reset or 0.0), state("w"), input("x")
    t = param("tau", init=tau, learnable=learnable, per=per)
    rest = param("v_rest", init=v_rest, learnable=learnable, per=per)
    critical = param("v_c", init=v_c, learnable=learnable, per=per)
    gain = param("a0", init=a0, learnable=learnable, per=per)
    t_w = param("tau_w", init=tau_w, learnable=learnable, per=per)
    coupling = param("a", init=a, learnable=learnable, per=per)
    jump = param("b", init=b, learnable=learnable, per=per)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    h = v + (x + gain * (v - rest) * (v - critical) - w) / t
    return Neuron(
        charge={v: h, w: w + (coupling * (h - rest) - w) / t_w},
        fire=v - threshold,
        reset=reset_of(v, threshold, v_reset) | {w: w + jump * spike},
        surrogate=surrogate,
    )
