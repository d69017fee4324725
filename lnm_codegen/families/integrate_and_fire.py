"""Integrate-and-fire neurons, with and without a leak."""

from __future__ import annotations

import math
from typing import Annotated, Any

from lnm_codegen.families.common import OpenShare, Positive, TimeConstant, reset_of, windows
from lnm_codegen.language.family import family
from lnm_codegen.language.functions import as_expr, max, sigmoid, stop_gradient, where
from lnm_codegen.language.neuron import Neuron, soft_reset
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, input, param, spike, spike_named, state
from lnm_codegen.validation import (
    Accepted,
    Count,
    Flag,
    Number,
    require_number,
    wrong,
)


@family
def if_(
    v_threshold: Number = 1.0, v_reset: Number | None = 0.0, surrogate: Surrogate | None = None
) -> Neuron:
    """Integrate-and-fire (SpikingJelly `IFNode`).

        charge   h = v + x
        fire     spike = H(h - v_threshold)
        reset    hard to v_reset; soft by v_threshold where v_reset is None

    Args:
        v_threshold: Firing threshold.
        v_reset: Potential after a spike; None for a soft reset.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    v, x = state("v", init=v_reset or 0.0), input("x")
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    return Neuron(
        charge={v: v + x},
        fire=v - threshold,
        reset=reset_of(v, threshold, v_reset),
        surrogate=surrogate,
    )


@family
def lif(
    tau: TimeConstant = 2.0,
    decay_input: Flag = True,
    v_threshold: Number = 1.0,
    v_reset: Number | None = 0.0,
    v_rest: Number | None = None,
    learn_tau: bool = False,
    per: Granularity = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Leaky integrate-and-fire (SpikingJelly `LIFNode`).

        charge   h = v + (x - (v - v_rest)) / tau      decay_input
                 h = v - (v - v_rest) / tau + x        else
        fire     spike = H(h - v_threshold)
        reset    hard to v_reset; soft by v_threshold where v_reset is None

    Args:
        tau: Membrane time constant in time steps, > 1.
        decay_input: Divide the input by tau too.
        v_threshold: Firing threshold.
        v_reset: Potential after a spike; None for a soft reset.
        v_rest: Potential at rest; v_reset by default, as in SpikingJelly.
        learn_tau: Make tau learnable.
        per: Granularity of tau.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    v, x = state("v", init=v_reset or 0.0), input("x")
    t = param("tau", init=tau, learnable=learn_tau, per=per)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    leak = v - ((v_reset or 0.0) if v_rest is None else v_rest)
    return Neuron(
        charge={v: v + (x - leak) / t if decay_input else v - leak / t + x},
        fire=v - threshold,
        reset=reset_of(v, threshold, v_reset),
        surrogate=surrogate,
    )


@family
def plif(
    tau: TimeConstant = 2.0,
    decay_input: Flag = True,
    v_threshold: Number = 1.0,
    v_reset: Number | None = 0.0,
    per: Granularity = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Parametric LIF (SpikingJelly `ParametricLIFNode`; Fang et al. 2021).

        charge   h = v + (x - (v - v_reset)) * sigmoid(w)     decay_input
                 h = v - (v - v_reset) * sigmoid(w) + x       else
        fire     spike = H(h - v_threshold)
        reset    hard to v_reset; soft by v_threshold where v_reset is None

    `w` is learnable; its initial value -ln(tau - 1) makes sigmoid(w) = 1/tau.

    Args:
        tau: Initial membrane time constant in time steps, > 1.
        decay_input: Multiply the input by sigmoid(w) too.
        v_threshold: Firing threshold.
        v_reset: Potential after a spike; None for a soft reset and a rest at 0.
        per: Granularity of w.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    v, x = state("v", init=v_reset or 0.0), input("x")
    w = param("w", init=-math.log(tau - 1.0), per=per)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    leak = v - (v_reset or 0.0)
    charged = v + (x - leak) * sigmoid(w) if decay_input else v - leak * sigmoid(w) + x
    return Neuron(
        charge={v: charged},
        fire=v - threshold,
        reset=reset_of(v, threshold, v_reset),
        surrogate=surrogate,
    )


@family
def klif(
    tau: TimeConstant = 2.0,
    decay_input: Flag = True,
    k: Positive = 1.0,
    scale_reset: Flag = False,
    v_threshold: Number = 1.0,
    v_reset: Number | None = 0.0,
    per: Granularity = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """LIF with a learnable rectifier (Jiang and Zhang 2023, arXiv 2302.09238).

        charge   h = max(0, k*(v + (x - (v - v_reset)) / tau))     decay_input
                 h = max(0, k*(v - (v - v_reset) / tau + x))       else
        fire     spike = H(h - v_threshold)
        reset    hard to v_reset; soft by v_threshold where v_reset is None
                 with scale_reset, h/k is reset, and a soft reset is by v_threshold/k

    SpikingJelly calls it `KLIFNode`.

    Args:
        tau: Membrane time constant in time steps, > 1.
        decay_input: Divide the input by tau too.
        k: Initial value of the learnable factor, > 0.
        scale_reset: Divide by k before the reset.
        v_threshold: Firing threshold.
        v_reset: Potential after a spike and at rest; None for a soft reset and rest 0.
        per: Granularity of k.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    v, x = state("v", init=v_reset or 0.0), input("x")
    factor = param("k", init=k, per=per)
    t = param("tau", init=tau, learnable=False)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    leak = v - (v_reset or 0.0)
    charged = v + (x - leak) / t if decay_input else v - leak / t + x
    unit = factor if scale_reset else 1
    soft, hard = (v - spike * threshold) / unit, where(spike, v_reset or 0.0, v / unit)
    return Neuron(
        charge={v: max(0, factor * charged)},
        fire=v - threshold,
        reset={v: soft if v_reset is None else hard},
        surrogate=surrogate,
    )


@family
def li(
    tau: TimeConstant = 2.0,
    decay_input: Flag = True,
    learn_tau: bool = False,
    per: Granularity = "layer",
) -> Neuron:
    """Leaky integrator; the output is its potential (SpikingJelly `NonSpikingLIFNode`).

        charge   h = v + (x - v) / tau      decay_input
                 h = v - v / tau + x        else
        output   h

    Args:
        tau: Membrane time constant in time steps, > 1.
        decay_input: Divide the input by tau too.
        learn_tau: Make tau learnable.
        per: Granularity of tau.
    """
    v, x = state("v"), input("x")
    t = param("tau", init=tau, learnable=learn_tau, per=per)
    return Neuron(charge={v: v + (x - v) / t if decay_input else v - v / t + x}, output={"out": v})


@family
def cuba_lif(
    current_decay: Number = 0.5,
    voltage_decay: Number = 0.75,
    v_threshold: Number = 0.5,
    v_reset: Number | None = 0.0,
    learnable: bool = False,
    per: Granularity = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Current-based LIF (SpikingJelly `CUBALIFNode`; for snnTorch's `Synaptic` see `synaptic`).

        charge   current' = current * current_decay + x
                 h        = v * voltage_decay + current'
        fire     spike = H(h - v_threshold)
        reset    hard to v_reset; soft by v_threshold where v_reset is None

    Args:
        current_decay: Decay of the current per time step.
        voltage_decay: Decay of the potential per time step.
        v_threshold: Firing threshold.
        v_reset: Potential after a spike; None for a soft reset.
        learnable: Make both decays learnable.
        per: Granularity of the decays.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    current, v, x = state("current"), state("v", init=v_reset or 0.0), input("x")
    d_c = param("current_decay", init=current_decay, learnable=learnable, per=per)
    d_v = param("voltage_decay", init=voltage_decay, learnable=learnable, per=per)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    new_current = current * d_c + x
    return Neuron(
        charge={current: new_current, v: v * d_v + new_current},
        fire=v - threshold,
        reset=reset_of(v, threshold, v_reset),
        surrogate=surrogate,
    )


@family
def clif(
    tau: TimeConstant = 2.0,
    v_threshold: Number = 1.0,
    learn_tau: bool = False,
    per: Granularity = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Complementary LIF (Huang et al. 2024, arXiv 2402.04663).

        charge   h = v - v/tau + x
        fire     spike = H(h - v_threshold)
        reset    m' = m*sigmoid(h/tau) + spike
                 v' = h - spike*(v_threshold + sigmoid(m'))

    SpikingJelly 2 calls it `ComplementaryLIFNode`. The complementary potential m adds to the soft
    reset, more so after recent spikes.

    Args:
        tau: Membrane time constant in time steps, > 1.
        v_threshold: Firing threshold.
        learn_tau: Make tau learnable.
        per: Granularity of tau.
        surrogate: Slope of the spike; atan(alpha=2) by default. The authors use a rectangle.
    """
    v, m, x = state("v"), state("m"), input("x")
    t = param("tau", init=tau, learnable=learn_tau, per=per)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    memory = m * sigmoid(v / t) + spike
    return Neuron(
        charge={v: v - v / t + x},
        fire=v - threshold,
        reset={v: v - spike * (threshold + sigmoid(memory)), m: memory},
        surrogate=surrogate,
    )


@family
def tc_lif(
    beta_d: OpenShare = 0.5,
    beta_s: OpenShare = 0.5,
    gamma: Number = 0.5,
    v_threshold: Number = 1.0,
    v_reset: Number | None = None,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Two-compartment LIF (Zhang et al. 2024, arXiv 2308.13250).

        charge   d' = d - sigmoid(w_d)*v + x
                 h  = v + sigmoid(w_s)*d'
        fire     spike = H(h - v_threshold)
        reset    soft: d' - gamma*spike,  h - v_threshold*spike
                 hard: h to v_reset, d' stays

    Also github.com/ZhangShimin1/TC-LIF, which calls d and v v1 and v2. d is the potential of the
    dendrite, v that of the soma. w_d and w_s are learnable; their initial sigmoids are beta_d
    and beta_s.

    Args:
        beta_d: Initial strength of the soma's effect on the dendrite, between 0 and 1.
        beta_s: Initial strength of the dendrite's effect on the soma, between 0 and 1.
        gamma: Amount of the dendrite's soft reset; not read if v_reset is given.
        v_threshold: Firing threshold.
        v_reset: Potential of the soma after a spike; None for a soft reset.
        per: Granularity of w_d and w_s, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=2) by default. The authors use a triangle.
    """
    d, v, x = state("d"), state("v", init=v_reset or 0.0), input("x")
    w_d, w_s = (
        param(name, init=math.log(beta / (1 - beta)))
        for name, beta in (("w_d", beta_d), ("w_s", beta_s))
    )
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    dendrite = d - sigmoid(w_d) * v + x
    reset = reset_of(v, threshold, v_reset)
    if v_reset is None:
        reset |= soft_reset(d, param("gamma", init=gamma, learnable=False))
    return Neuron(
        charge={d: dendrite, v: v + sigmoid(w_s) * dendrite},
        fire=v - threshold,
        reset=reset,
        surrogate=surrogate,
    ).with_per(per)


@family
def refractory_lif(
    tau: TimeConstant = 10.0,
    refractory: Annotated[int, Accepted(low=0)] = 5,
    tau_syn: TimeConstant | None = None,
    v_threshold: Number = 1.0,
    v_rest: Number = 0.0,
    v_reset: Number = 0.0,
    learn_tau: bool = False,
    per: Granularity = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """LIF that neither charges nor fires for some steps after a spike (Norse `LIFRefrac`).

        charge   i' = i + x, of which i = i'*(1 - 1/tau_syn) remains    tau_syn; else i' = x
                 h  = v where pause > 0, else v + (v_rest - v + i')/tau
        fire     spike = H(h - v_threshold) where pause = 0, else 0
        reset    v hard to v_reset
                 pause' = refractory at a spike, else pause - 1 where pause > 0, else 0

    The synaptic current goes on in the refractory period. `pause` has no gradient: Norse
    differentiates it with the surrogate of the spike.

    Args:
        tau: Membrane time constant in time steps, > 1.
        refractory: Time steps after a spike in which the neuron rests, >= 0; 5 in Norse.
        tau_syn: Time constant of the synaptic current i in time steps, > 1; None for no current.
        v_threshold: Firing threshold.
        v_rest: Potential at rest.
        v_reset: Potential after a spike, < v_threshold.
        learn_tau: Make tau learnable.
        per: Granularity of tau.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    if not v_reset < v_threshold:
        accepted = f"a number < v_threshold, {v_threshold!r}"
        raise wrong("refractory_lif", "v_reset", v_reset, accepted)
    v, pause, x = state("v", init=v_reset), state("pause"), input("x")
    t = param("tau", init=tau, learnable=learn_tau, per=per)
    rest = param("v_rest", init=v_rest, learnable=False)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    charge: dict[Any, Any] = {}
    drive: Any = x
    if tau_syn is not None:
        current, t_syn = state("i"), param("tau_syn", init=tau_syn, learnable=False)
        drive = current + x
        charge[current] = drive - drive / t_syn
    pauses = pause > 0.5  # between the integers, so that no rounding matters
    charge[v] = where(pauses, v, v + (rest - v + drive) / t)
    return Neuron(
        charge=charge,
        fire=where(pauses, v_reset - threshold, v - threshold),
        reset={
            v: where(spike, v_reset, v),
            pause: stop_gradient(where(spike, refractory, where(pauses, pause - 1, 0))),
        },
        surrogate=surrogate,
    )


@family
def glif(
    alpha: float = 0.5,
    beta: float = 0.5,
    gamma: float = 0.5,
    tau: float = 0.25,
    v_threshold: float = 0.5,
    leak: float | None = None,
    v_subreset: float | None = None,
    g: float = 0.5,
    time_steps: Count = 4,
    g_per_step: Flag = False,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Gated LIF (Yao et al. 2022, arXiv 2210.13768; SpikingJelly `GatedLIFNode`).

        charge   k = 1 - alpha*(1 - tau)
                 h = k*v*(1 - gamma*s_prev) - (1 - alpha)*leak + (1 - beta*(1 - g))*x
                     - (1 - gamma)*v_subreset*s_prev
        fire     spike = H(h - v_threshold)
        reset    s_prev = spike; the reset acts on the next charge, through s_prev

    Three gates mix two kinds of decay (alpha), of input (beta) and of reset (gamma). Every argument
    is learnable through a sigmoid: the parameters are `w_alpha`, `w_beta` and so on, and the
    initial sigmoid(w) is the argument, between 0 and 1.

    Args:
        alpha: Gate of the decay: 1 exponential, 0 linear. SpikingJelly draws the gates' w from
            [-0.1, 0.1].
        beta: Gate of the input: 1 scaled by g, 0 unscaled.
        gamma: Gate of the reset: 1 hard, 0 soft.
        tau: Exponential decay: at alpha = 1, h = tau*v.
        v_threshold: Firing threshold.
        leak: Linear decay per step; v_threshold / (2*time_steps) by default.
        v_subreset: Amount of the soft reset; v_threshold by default.
        g: Conductance of the input.
        time_steps: Sequence length T, for the default of `leak`.
        g_per_step: Make g a second input, in [0, 1], one per time step and neuron. The paper learns
            one per time step: pass sigmoid(w[t]), expanded to the shape of x.
        per: Granularity of the parameters, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    _logit("v_threshold", v_threshold)  # two defaults depend on it
    v, s_prev, x = state("v"), state("s_prev"), input("x")
    a, b, c = (_learned(*gate) for gate in (("alpha", alpha), ("beta", beta), ("gamma", gamma)))
    decay = _learned("tau", tau)
    threshold = _learned("v_threshold", v_threshold)
    linear = _learned("leak", v_threshold / (2 * time_steps) if leak is None else leak)
    amount = _learned("v_subreset", v_threshold if v_subreset is None else v_subreset)
    conductance = input("g") if g_per_step else _learned("g", g)
    kept = (1 - a * (1 - decay)) * v * (1 - c * s_prev) - (1 - a) * linear
    return Neuron(
        charge={v: kept + (1 - b * (1 - conductance)) * x - (1 - c) * amount * s_prev},
        fire=v - threshold,
        reset={s_prev: spike},
        surrogate=surrogate,
    ).with_per(per)


def _learned(name: str, value: float) -> Any:
    """Declare `w_name` and return its sigmoid, `value` at first."""
    return sigmoid(param(f"w_{name}", init=_logit(name, value)))


def _logit(name: str, value: Any) -> float:
    """Return w with sigmoid(w) = value, or raise ModelError."""
    require_number("glif", name, value, above=0, below=1)
    return math.log(value / (1 - value))


@family
def i_lif(
    tau: TimeConstant = 4 / 3,
    v_threshold: Positive = 1.0,
    max_count: Annotated[int, Accepted(low=1, high=16)] = 4,
    detach_reset: Flag = False,
    learn_tau: bool = False,
    per: Granularity = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Integer LIF (Luo et al. 2024, SpikeYOLO, arXiv 2407.20708; SpikingJelly 2 `ILIFNode`).

        charge   h = v - v/tau + x
        fire     spike_k = H(h/v_threshold - (k - 1/2)),  k = 1 ... max_count
        reset    v' = h - count*v_threshold
        output   count = spike_1 + ... + spike_max_count = round(clip(h/v_threshold, 0, max_count))

    A half is rounded up here, to the nearest even integer in the authors' code. With the default
    surrogate the slope of count is 1/v_threshold where 0 <= h <= max_count*v_threshold, else 0.

    Args:
        tau: Membrane time constant in time steps, > 1.
        v_threshold: Potential of one spike, > 0.
        max_count: Largest number of spikes in a time step, 1 to 16.
        detach_reset: Treat the count in the reset as a constant, as the authors' code does.
        learn_tau: Make tau learnable.
        per: Granularity of tau.
        surrogate: Slope of each spike; by default 1 where |z| <= 1/2, and at the end that two
            spikes share for the lower one alone.
    """
    v, x = state("v"), input("x")
    t = param("tau", init=tau, learnable=learn_tau, per=per)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    spikes = {spike_named(f"spike_{k}"): as_expr(k - 0.5) for k in range(1, max_count + 1)}
    count = sum(spikes)
    return Neuron(
        charge={v: v - v / t + x},
        fire={s: v / threshold - level for s, level in spikes.items()},
        reset={v: v - count * threshold},
        output={"count": count},
        surrogate=surrogate or windows(*spikes),
        detach_reset=detach_reset,
    )


@family
def ternary(
    decay: Number = 0.25,
    v_threshold: Positive = 0.5,
    learn_amplitude: bool = False,
    per: Granularity = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Ternary-spike neuron (Guo et al. 2024): the output is the difference of two spikes.

        charge   h = decay * v + x
        fire     up = H(h - v_threshold),  down = H(-h - v_threshold)
        reset    v = h where neither fires, else 0
        output   amplitude * (up - down), in {-amplitude, 0, amplitude}

    With the default threshold and surrogate the slope of up - down is 1 where |h| <= 1, else 0, as
    in the authors' code, which clips a straight-through slope.

    Args:
        decay: Factor of the potential per time step.
        v_threshold: Firing threshold of both signs, > 0.
        learn_amplitude: Make the amplitude of the output learnable.
        per: Granularity of the amplitude.
        surrogate: Slope of both spikes; by default 1 where |z| <= 1/2, and at h = 0 for `up` alone
            where both windows end there.
    """
    v, x = state("v"), input("x")
    leak = param("decay", init=decay, learnable=False)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    amplitude = param("amplitude", init=1.0, learnable=learn_amplitude, per=per)
    up, down = spike_named("up"), spike_named("down")
    return Neuron(
        charge={v: leak * v + x},
        fire={up: v - threshold, down: -v - threshold},
        reset={v: where(up, 0, where(down, 0, v))},
        output={"out": amplitude * (up - down)},
        surrogate=surrogate or windows(up, down),
    )
