"""`glif`: the gated LIF neuron."""

from __future__ import annotations

import math
from typing import Any

from lnm_codegen.errors import ModelError
from lnm_codegen.language.family import family
from lnm_codegen.language.functions import sigmoid
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, input, param, spike, state


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
    time_steps: int = 4,
    g_per_step: bool = False,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Gated LIF (Yao et al. 2022, arXiv 2210.13768; SpikingJelly `GatedLIFNode`).

        charge   k = 1 - alpha*(1 - tau)
                 h = k*v*(1 - gamma*s_prev) - (1 - alpha)*leak + (1 - beta*(1 - g))*x
                     - (1 - gamma)*v_subreset*s_prev
        fire     spike = H(h - v_threshold)
        reset    s_prev = spike; the reset acts on the next charge, through s_prev

    Three gates choose between two kinds of decay (alpha), of input (beta) and of reset (gamma).
    Everything is learned, each through sigmoid: the parameters are `w_alpha`, `w_beta` and so on,
    with sigmoid(w) at the start what the argument says.

    Args:
        alpha: Gate of the decay: 1 exponential, 0 linear. SpikingJelly draws the gates' w from
            [-0.1, 0.1]; here they begin alike.
        beta: Gate of the input: 1 scaled by g, 0 as it is.
        gamma: Gate of the reset: 1 hard, 0 soft.
        tau: Exponential decay: at alpha = 1, h = tau*v.
        v_threshold: Firing threshold.
        leak: Linear decay per step; v_threshold / (2*time_steps) by default.
        v_subreset: What a soft reset subtracts; v_threshold by default.
        g: Conductance of the input.
        time_steps: T, for the default of `leak` alone.
        g_per_step: Take g as a second input, in [0, 1], one per step and neuron: to learn one for
            each step as the paper does, pass sigmoid(w[t]) expanded to the shape of x.
        per: Granularity of the parameters, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    if isinstance(time_steps, bool) or not isinstance(time_steps, int) or time_steps < 1:
        raise ModelError("glif", f"time_steps is {time_steps!r}", "an integer >= 1")
    if not isinstance(g_per_step, bool):
        raise ModelError("glif", f"g_per_step is {g_per_step!r}", "True, False")
    _logit("v_threshold", v_threshold)  # two defaults hang on it
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
    """Declare `w_name` and return sigmoid of it, which begins at `value`."""
    return sigmoid(param(f"w_{name}", init=_logit(name, value)))


def _logit(name: str, value: Any) -> float:
    """Return w with sigmoid(w) = value, or raise ModelError."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and 0 < value < 1):
        raise ModelError("glif", f"{name} is {value!r}", "a number between 0 and 1")
    return math.log(value / (1 - value))
