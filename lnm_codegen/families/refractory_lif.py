"""`refractory_lif`: a LIF neuron with an absolute refractory period."""

from __future__ import annotations

from typing import Any

from lnm_codegen.language.family import family
from lnm_codegen.language.functions import stop_gradient, where
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, input, param, spike, state
from lnm_codegen.validation import require_integer, require_number, require_numbers, wrong


@family
def refractory_lif(
    tau: float = 10.0,
    refractory: int = 5,
    tau_syn: float | None = None,
    v_threshold: float = 1.0,
    v_rest: float = 0.0,
    v_reset: float = 0.0,
    learn_tau: bool = False,
    per: Granularity = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """LIF that neither charges nor fires for some steps after a spike (Norse `LIFRefrac`).

        charge   i' = i + x, of which i = i'*(1 - 1/tau_syn) remains    tau_syn; else i' = x
                 h  = v where pause > 0, else v + (v_rest - v + i')/tau
        fire     spike = H(h - v_threshold) where pause = 0, else 0
        reset    v hard to v_reset
                 pause' = refractory at a spike, else pause - 1 where pause > 0, else 0

    The synaptic current goes on in the refractory period. `pause` has no gradient: Norse
    differentiates it with the surrogate of the spike.

    Args:
        tau: Membrane time constant in time steps, > 1.
        refractory: Time steps after a spike in which the neuron rests, >= 0; 5 in Norse.
        tau_syn: Time constant of the synaptic current i in time steps, > 1; None for no current.
        v_threshold: Firing threshold.
        v_rest: Potential at rest.
        v_reset: Potential after a spike, < v_threshold.
        learn_tau: Make tau learnable.
        per: Granularity of tau.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    require_number("refractory_lif", "tau", tau, above=1)
    require_number("refractory_lif", "tau_syn", tau_syn, above=1, optional=True)
    require_integer("refractory_lif", "refractory", refractory, 0)
    require_numbers("refractory_lif", v_threshold=v_threshold, v_rest=v_rest, v_reset=v_reset)
    if not v_reset < v_threshold:
        accepted = f"a number < v_threshold, {v_threshold!r}"
        raise wrong("refractory_lif", "v_reset", v_reset, accepted)
    v, pause, x = state("v", init=v_reset), state("pause"), input("x")
    t = param("tau", init=tau, learnable=learn_tau, per=per)
    rest = param("v_rest", init=v_rest, learnable=False)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    charge: dict[Any, Any] = {}
    drive: Any = x
    if tau_syn is not None:
        current, t_syn = state("i"), param("tau_syn", init=tau_syn, learnable=False)
        drive = current + x
        charge[current] = drive - drive / t_syn
    pauses = pause > 0.5  # between the integers, so that no rounding matters
    charge[v] = where(pauses, v, v + (rest - v + drive) / t)
    return Neuron(
        charge=charge,
        fire=where(pauses, v_reset - threshold, v - threshold),
        reset={
            v: where(spike, v_reset, v),
            pause: stop_gradient(where(spike, refractory, where(pauses, pause - 1, 0))),
        },
        surrogate=surrogate,
    )
