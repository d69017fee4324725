"""`glif`: the gated LIF neuron."""

from __future__ import annotations

import math
from typing import Any

from lnm_codegen.language.family import family
from lnm_codegen.language.functions import sigmoid
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, input, param, spike, state
from lnm_codegen.validation import require_bool, require_integer, require_number


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
    require_integer("glif", "time_steps", time_steps)
    require_bool("glif", "g_per_step", g_per_step)
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
