"""`izhikevich`: quadratic charge with a recovery variable."""

from __future__ import annotations

from lnm_codegen.families.common import reset_of
from lnm_codegen.families.izhikevich_norse import izhikevich as norse
from lnm_codegen.language.family import family_by
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, input, param, spike, state
from lnm_codegen.validation import require_number, require_numbers


@family_by("form", {"norse": norse}, own="spikingjelly")
def izhikevich(
    tau: float = 2.0,
    v_c: float = 0.8,
    a0: float = 1.0,
    v_threshold: float = 1.0,
    v_rest: float = -0.1,
    v_reset: float | None = 0.0,
    tau_w: float = 2.0,
    a: float = 0.0,
    b: float = 0.0,
    learnable: bool = False,
    per: Granularity = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Izhikevich's neuron in SpikingJelly's form (`IzhikevichNode`), or in Norse's.

        charge   h = v + (x + a0 * (v - v_rest) * (v - v_c) - w) / tau
                 w' = w + (a * (h - v_rest) - w) / tau_w
        fire     spike = H(h - v_threshold)
        reset    v hard to v_reset, soft by v_threshold where it is None;  w' + b * spike

    `form="norse"` is the neuron of Izhikevich (2003) in mV and ms.

    Args:
        tau: Membrane time constant in time steps, > 1.
        v_c: Critical potential: between v_rest and v_c the quadratic term lowers v.
        a0: Coefficient of the quadratic term.
        v_threshold: Firing threshold.
        v_rest: Potential at rest.
        v_reset: Potential after a spike; None for a soft reset.
        tau_w: Time constant of the recovery w in time steps, > 1.
        a: Coupling of w to v.
        b: Jump of w at a spike.
        learnable: Make all but v_threshold and v_reset learnable.
        per: Granularity of the parameters.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    require_number("izhikevich", "tau", tau, above=1)
    require_number("izhikevich", "tau_w", tau_w, above=1)
    require_numbers("izhikevich", v_c=v_c, a0=a0, a=a, b=b, v_threshold=v_threshold, v_rest=v_rest)
    require_numbers("izhikevich", v_reset=v_reset, optional=["v_reset"])
    v, w, x = state("v", init=v_reset or 0.0), state("w"), input("x")
    t = param("tau", init=tau, learnable=learnable, per=per)
    rest = param("v_rest", init=v_rest, learnable=learnable, per=per)
    critical = param("v_c", init=v_c, learnable=learnable, per=per)
    gain = param("a0", init=a0, learnable=learnable, per=per)
    t_w = param("tau_w", init=tau_w, learnable=learnable, per=per)
    coupling = param("a", init=a, learnable=learnable, per=per)
    jump = param("b", init=b, learnable=learnable, per=per)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    h = v + (x + gain * (v - rest) * (v - critical) - w) / t
    return Neuron(
        charge={v: h, w: w + (coupling * (h - rest) - w) / t_w},
        fire=v - threshold,
        reset=reset_of(v, threshold, v_reset) | {w: w + jump * spike},
        surrogate=surrogate,
    )
