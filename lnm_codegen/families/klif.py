"""`klif`: a LIF neuron whose charged potential is scaled and rectified."""

from __future__ import annotations

from lnm_codegen.language.family import family
from lnm_codegen.language.functions import max, where
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, input, param, spike, state
from lnm_codegen.validation import require_bool, require_number, require_numbers


@family
def klif(
    tau: float = 2.0,
    decay_input: bool = True,
    k: float = 1.0,
    scale_reset: bool = False,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
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
    require_number("klif", "tau", tau, above=1)
    require_number("klif", "k", k, above=0)
    require_numbers("klif", v_threshold=v_threshold, v_reset=v_reset, optional=["v_reset"])
    require_bool("klif", "decay_input", decay_input)
    require_bool("klif", "scale_reset", scale_reset)
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
