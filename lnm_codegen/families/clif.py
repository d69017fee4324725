"""`clif`: a LIF neuron with a complementary potential that remembers spikes."""

from __future__ import annotations

from lnm_codegen.language.family import family
from lnm_codegen.language.functions import sigmoid
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, input, param, spike, state
from lnm_codegen.validation import require_number, require_numbers


@family
def clif(
    tau: float = 2.0,
    v_threshold: float = 1.0,
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
    require_number("clif", "tau", tau, above=1)
    require_numbers("clif", v_threshold=v_threshold)
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
