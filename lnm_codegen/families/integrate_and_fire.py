"""`if`: the integrate-and-fire neuron without a leak."""

from __future__ import annotations

from lnm_codegen.families.common import reset_of
from lnm_codegen.language.family import family
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import input, param, state
from lnm_codegen.validation import require_numbers


@family
def if_(
    v_threshold: float = 1.0, v_reset: float | None = 0.0, surrogate: Surrogate | None = None
) -> Neuron:
    """Integrate-and-fire (SpikingJelly `IFNode`).

        charge   h = v + x
        fire     spike = H(h - v_threshold)
        reset    hard to v_reset; soft by v_threshold where v_reset is None

    Args:
        v_threshold: Firing threshold.
        v_reset: Potential after a spike; None for a soft reset.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    require_numbers("if", v_threshold=v_threshold, v_reset=v_reset, optional=["v_reset"])
    v, x = state("v", init=v_reset or 0.0), input("x")
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    return Neuron(
        charge={v: v + x},
        fire=v - threshold,
        reset=reset_of(v, threshold, v_reset),
        surrogate=surrogate,
    )
