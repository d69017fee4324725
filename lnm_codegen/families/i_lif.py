"""`i_lif`: a LIF neuron that emits an integer number of spikes in a time step."""

from __future__ import annotations

from lnm_codegen.families.common import windows
from lnm_codegen.language.family import family
from lnm_codegen.language.functions import as_expr
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, input, param, spike_named, state
from lnm_codegen.validation import require_bool, require_integer, require_number


@family
def i_lif(
    tau: float = 4 / 3,
    v_threshold: float = 1.0,
    max_count: int = 4,
    detach_reset: bool = False,
    learn_tau: bool = False,
    per: Granularity = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Integer LIF (Luo et al. 2024, SpikeYOLO, arXiv 2407.20708; SpikingJelly 2 `ILIFNode`).

        charge   h = v - v/tau + x
        fire     spike_k = H(h/v_threshold - (k - 1/2)),  k = 1 ... max_count
        reset    v' = h - count*v_threshold
        output   count = spike_1 + ... + spike_max_count = round(clip(h/v_threshold, 0, max_count))

    A half is rounded up here, to the nearest even integer in the authors' code. With the default
    surrogate the slope of count is 1/v_threshold where 0 <= h <= max_count*v_threshold, else 0.

    Args:
        tau: Membrane time constant in time steps, > 1.
        v_threshold: Potential of one spike, > 0.
        max_count: Largest number of spikes in a time step, 1 to 16.
        detach_reset: Treat the count in the reset as a constant, as the authors' code does.
        learn_tau: Make tau learnable.
        per: Granularity of tau.
        surrogate: Slope of each spike; by default 1 where |z| <= 1/2, and at the end that two
            spikes share for the lower one alone.
    """
    require_number("i_lif", "tau", tau, above=1)
    require_number("i_lif", "v_threshold", v_threshold, above=0)
    require_integer("i_lif", "max_count", max_count, 1, 16)
    require_bool("i_lif", "detach_reset", detach_reset)
    v, x = state("v"), input("x")
    t = param("tau", init=tau, learnable=learn_tau, per=per)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    spikes = {spike_named(f"spike_{k}"): as_expr(k - 0.5) for k in range(1, max_count + 1)}
    count = sum(spikes)
    return Neuron(
        charge={v: v - v / t + x},
        fire={s: v / threshold - level for s, level in spikes.items()},
        reset={v: v - count * threshold},
        output={"count": count},
        surrogate=surrogate or windows(*spikes),
        detach_reset=detach_reset,
    )
