"""`leaky`, `synaptic` and `lapicque`: snnTorch's neurons, whose reset acts one step late."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeAlias

from lnm_codegen.errors import ModelError
from lnm_codegen.families.common import OpenShare, Positive, Share
from lnm_codegen.language.family import family
from lnm_codegen.language.functions import ExprLike, clip, where
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Declared, Granularity, input, param, spike, state
from lnm_codegen.validation import Accepted, Flag, Number

Reset: TypeAlias = Annotated[Literal["subtract", "zero", "none"], Accepted()] | None


@family
def leaky(
    beta: Share = 0.9,
    v_threshold: Number = 1.0,
    reset: Reset = "subtract",
    reset_delay: Flag = True,
    learn_beta: bool = False,
    learn_threshold: bool = False,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Leaky integrate-and-fire with snnTorch's delayed reset (`Leaky`; Eshraghian et al. 2023).

        charge   h = beta*v + x - v_threshold*r             reset "subtract"
                 h = beta*v*(1 - r) + x                     "zero"
                 h = beta*v + x                             "none"
                 r = H(v - v_threshold), of the last step, without a gradient
        fire     spike = H(h - v_threshold)
        reset    none; if not reset_delay, h - (spike - r)*v_threshold or h - (spike - r)*h

    snnTorch fires where h > v_threshold, this family where h >= v_threshold. A beta outside [0, 1]
    counts as the nearest bound.

    Args:
        beta: Decay of the potential per time step, 0 to 1.
        v_threshold: Firing threshold.
        reset: "subtract", "zero" or "none", snnTorch's `reset_mechanism`; None is "none".
        reset_delay: False resets in the step of the spike too, through a further state r.
        learn_beta: Make beta learnable.
        learn_threshold: Make v_threshold learnable.
        per: Granularity of the learnable parameters, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=2) by default, as in snnTorch.
    """
    v, x, threshold = _declared(v_threshold, learn_threshold)
    decay = clip(param("beta", init=beta, learnable=learn_beta), 0, 1)
    kept = where(v >= threshold, 0, v) if reset == "zero" else v
    late = where(v >= threshold, threshold, 0) if reset == "subtract" else 0
    states, after = _at_once(v, threshold, "none" if reset_delay else reset)
    return Neuron(
        charge={v: decay * kept + x - late} | states,
        fire=v - threshold,
        reset=after,
        surrogate=surrogate,
    ).with_per(per)


@family
def synaptic(
    alpha: Share = 0.9,
    beta: Share = 0.8,
    v_threshold: Number = 1.0,
    reset: Reset = "subtract",
    reset_delay: Flag = True,
    learn_alpha: bool = False,
    learn_beta: bool = False,
    learn_threshold: bool = False,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """LIF with a synaptic current and snnTorch's delayed reset (`Synaptic`).

        charge   i' = alpha*i + x
                 h  = beta*v + i' - v_threshold*r           reset "subtract"
                 h  = (beta*v + i')*(1 - r)                 "zero"
                 h  = beta*v + i'                           "none"
                 r  = H(v - v_threshold), of the last step, without a gradient
        fire     spike = H(h - v_threshold)
        reset    none; if not reset_delay, h - (spike - r)*v_threshold or h - (spike - r)*h

    snnTorch fires where h > v_threshold, this family where h >= v_threshold. An alpha or beta
    outside [0, 1] counts as the nearest bound.

    Args:
        alpha: Decay of the current per time step, 0 to 1.
        beta: Decay of the potential per time step, 0 to 1.
        v_threshold: Firing threshold.
        reset: "subtract", "zero" or "none", snnTorch's `reset_mechanism`; None is "none".
        reset_delay: False resets in the step of the spike too, through a further state r.
        learn_alpha: Make alpha learnable.
        learn_beta: Make beta learnable.
        learn_threshold: Make v_threshold learnable.
        per: Granularity of the learnable parameters, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=2) by default, as in snnTorch.
    """
    current = state("i")
    v, x, threshold = _declared(v_threshold, learn_threshold)
    new = clip(param("alpha", init=alpha, learnable=learn_alpha), 0, 1) * current + x
    charged = clip(param("beta", init=beta, learnable=learn_beta), 0, 1) * v + new
    states, after = _at_once(v, threshold, "none" if reset_delay else reset)
    return Neuron(
        charge={current: new, v: _late(charged, v, threshold, reset)} | states,
        fire=v - threshold,
        reset=after,
        surrogate=surrogate,
    ).with_per(per)


@family
def lapicque(
    beta: OpenShare | None = None,
    r: Positive = 1.0,
    c: Positive | None = None,
    dt: Positive = 1.0,
    v_threshold: Number = 1.0,
    reset: Reset = "subtract",
    learnable: bool = False,
    learn_threshold: bool = False,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Lapicque's RC circuit (1907) in Euler's method, with snnTorch's delayed reset (`Lapicque`).

        charge   u = (1 - dt/(r*c))*v + (dt/c)*x
                 h = u - v_threshold*s                      reset "subtract"
                 h = u*(1 - s)                              "zero"
                 h = u                                      "none"
                 s = H(v - v_threshold), of the last step, without a gradient
        fire     spike = H(h - v_threshold)
        reset    none

    snnTorch fires where h > v_threshold, this family where h >= v_threshold.

    Args:
        beta: Decay exp(-dt/(r*c)) of the circuit in continuous time, between 0 and 1. It gives c,
            dt/(r*ln(1/beta)), as in snnTorch. By default c is given.
        r: Resistance in ohms, > 0.
        c: Capacitance in farads, > 0; 5 by default.
        dt: Time step in seconds, > 0. Beyond 2*r*c the potential grows without bound.
        v_threshold: Firing threshold in volts, if x is in amperes.
        reset: "subtract", "zero" or "none", snnTorch's `reset_mechanism`; None is "none".
        learnable: Make r and c learnable.
        learn_threshold: Make v_threshold learnable.
        per: Granularity of the learnable parameters, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=2) by default, as in snnTorch.
    """
    if beta is not None and c is not None:
        raise ModelError("lapicque", f"beta is {beta!r} and c is {c!r}", "one of them")
    capacitance = 5.0 if c is None else c
    if beta is not None:
        capacitance = dt / (r * math.log(1 / beta))
    v, x, threshold = _declared(v_threshold, learn_threshold)
    step = param("dt", init=dt, learnable=False)
    ohms, farads = (
        param(n, init=z, learnable=learnable) for n, z in (("r", r), ("c", capacitance))
    )
    charged = (1 - step / (ohms * farads)) * v + step / farads * x
    return Neuron(
        charge={v: _late(charged, v, threshold, reset)}, fire=v - threshold, surrogate=surrogate
    ).with_per(per)


def _declared(v_threshold: float, learnable: bool) -> tuple[Declared, Declared, Declared]:
    """Return potential, input and threshold."""
    threshold = param("v_threshold", init=v_threshold, learnable=learnable)
    return state("v"), input("x"), threshold


def _late(charged: ExprLike, v: Declared, threshold: Declared, reset: Reset) -> ExprLike:
    """Return the charged potential after the reset that the potential of the last step causes."""
    match reset:
        case "subtract":
            return charged - where(v >= threshold, threshold, 0)
        case "zero":
            return where(v >= threshold, 0, charged)
    return charged


def _at_once(
    v: Declared, threshold: Declared, reset: Reset
) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Return charge and reset that reset in the step of the spike, unless it was reset late."""
    if reset in ("none", None):
        return {}, {}
    r = state("r")
    amount = threshold if reset == "subtract" else v
    return {r: where(v >= threshold, 1, 0)}, {v: v - (spike - r) * amount}
