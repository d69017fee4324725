"""`cuba_lif`: a LIF neuron with a synaptic current."""

from __future__ import annotations

from lnm_codegen.families.common import reset_of
from lnm_codegen.language.family import family
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, input, param, state
from lnm_codegen.validation import require_numbers


@family
def cuba_lif(
    current_decay: float = 0.5,
    voltage_decay: float = 0.75,
    v_threshold: float = 0.5,
    v_reset: float | None = 0.0,
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
    require_numbers("cuba_lif", current_decay=current_decay, voltage_decay=voltage_decay)
    require_numbers("cuba_lif", v_threshold=v_threshold, v_reset=v_reset, optional=["v_reset"])
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
