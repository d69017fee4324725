"""`li`: a leaky integrator that never spikes, for readouts."""

from __future__ import annotations

from lnm_codegen.language.family import family
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import Granularity, input, param, state
from lnm_codegen.validation import require_bool, require_number


@family
def li(
    tau: float = 2.0,
    decay_input: bool = True,
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
    require_number("li", "tau", tau, above=1)
    require_bool("li", "decay_input", decay_input)
    v, x = state("v"), input("x")
    t = param("tau", init=tau, learnable=learn_tau, per=per)
    return Neuron(charge={v: v + (x - v) / t if decay_input else v - v / t + x}, output={"out": v})
