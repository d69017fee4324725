"""`lif`: the leaky integrate-and-fire neuron."""

from __future__ import annotations

from lnm_codegen.families.common import reset_of
from lnm_codegen.language.family import family
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, input, param, state
from lnm_codegen.validation import require_bool, require_number, require_numbers


@family
def lif(
    tau: float = 2.0,
    decay_input: bool = True,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    v_rest: float | None = None,
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
    require_number("lif", "tau", tau, above=1)
    require_numbers("lif", v_threshold=v_threshold)
    require_numbers("lif", v_reset=v_reset, v_rest=v_rest, optional=["v_reset", "v_rest"])
    require_bool("lif", "decay_input", decay_input)
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
