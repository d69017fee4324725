"""`ternary`: a neuron with spikes of both signs."""

from __future__ import annotations

from lnm_codegen.families.common import windows
from lnm_codegen.language.family import family
from lnm_codegen.language.functions import where
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, input, param, spike_named, state
from lnm_codegen.validation import require_number, require_numbers


@family
def ternary(
    decay: float = 0.25,
    v_threshold: float = 0.5,
    learn_amplitude: bool = False,
    per: Granularity = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Ternary-spike neuron (Guo et al. 2024): the output is the difference of two spikes.

        charge   h = decay * v + x
        fire     up = H(h - v_threshold),  down = H(-h - v_threshold)
        reset    v = h where neither fires, else 0
        output   amplitude * (up - down), in {-amplitude, 0, amplitude}

    With the default threshold and surrogate the slope of up - down is 1 where |h| <= 1, else 0, as
    in the authors' code, which clips a straight-through slope.

    Args:
        decay: Factor of the potential per time step.
        v_threshold: Firing threshold of both signs, > 0.
        learn_amplitude: Make the amplitude of the output learnable.
        per: Granularity of the amplitude.
        surrogate: Slope of both spikes; by default 1 where |z| <= 1/2, and at h = 0 for `up` alone
            where both windows end there.
    """
    require_number("ternary", "v_threshold", v_threshold, above=0)
    require_numbers("ternary", decay=decay)
    v, x = state("v"), input("x")
    leak = param("decay", init=decay, learnable=False)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    amplitude = param("amplitude", init=1.0, learnable=learn_amplitude, per=per)
    up, down = spike_named("up"), spike_named("down")
    return Neuron(
        charge={v: leak * v + x},
        fire={up: v - threshold, down: -v - threshold},
        reset={v: where(up, 0, where(down, 0, v))},
        output={"out": amplitude * (up - down)},
        surrogate=surrogate or windows(up, down),
    )
