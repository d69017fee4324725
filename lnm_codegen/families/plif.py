"""`plif`: a LIF neuron with a learnable leak."""

from __future__ import annotations

import math

from lnm_codegen.families.common import reset_of
from lnm_codegen.language.family import family
from lnm_codegen.language.functions import sigmoid
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, input, param, state
from lnm_codegen.validation import require_bool, require_number, require_numbers


@family
def plif(
    tau: float = 2.0,
    decay_input: bool = True,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
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
    require_number("plif", "tau", tau, above=1)
    require_numbers("plif", v_threshold=v_threshold, v_reset=v_reset, optional=["v_reset"])
    require_bool("plif", "decay_input", decay_input)
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
