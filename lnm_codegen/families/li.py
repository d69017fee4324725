"""`li`: a leaky integrator that never spikes, for readouts."""

from __future__ import annotations

from lnm_codegen.families.common import check_above, check_choice
from lnm_codegen.language.family import family
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import Granularity, input, param, state


@family
def li(
    tau: float = 2.0,
    decay_input: bool = True,
    learn_tau: bool = False,
    per: Granularity = "layer",
) -> Neuron:
    """Leaky integrator: puts out its potential (SpikingJelly `NonSpikingLIFNode`).

    charge   h = v + (x - v) / tau      decay_input
             h = v - v / tau + x        else
    output   h
    """
    check_above("li", "tau", tau, 1)
    check_choice("li", "decay_input", decay_input, (True, False))
    v, x = state("v"), input("x")
    t = param("tau", init=tau, learnable=learn_tau, per=per)
    return Neuron(charge={v: v + (x - v) / t if decay_input else v - v / t + x}, output={"out": v})
