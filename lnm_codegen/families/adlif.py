"""`adlif`: the adaptive LIF neuron in symplectic Euler's discretisation."""

from __future__ import annotations

from lnm_codegen.families.draws import Range, param_in
from lnm_codegen.language.family import family
from lnm_codegen.language.functions import clip, exp, max, stop_gradient, where
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, input, param, spike, state
from lnm_codegen.validation import require_bool, require_number, require_numbers


@family
def adlif(
    tau_v: Range = (5.0, 25.0),
    tau_w: Range = (60.0, 300.0),
    a: Range = (0.0, 1.0),
    b: Range = (0.0, 2.0),
    q: float = 120.0,
    v_threshold: float = 1.0,
    learnable: bool = True,
    per: Granularity | dict[str, Granularity] = "layer",
    detach_reset: bool = False,
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Adaptive LIF neuron, SE-adLIF (Baronig et al. 2024, arXiv 2408.07517).

        charge   h = d_v*v + (1 - d_v)*(x - w),  d_v = exp(-1/tau_v)
        fire     spike = H(h - v_threshold)
        reset    v' = h*(1 - spike)
                 w' = d_w*w + (1 - d_w)*q*(a*v' + b*spike),  d_w = exp(-1/tau_w)

    Also github.com/IGITUGraz/SE-adlif, which calls v and tau_v u and tau_u. Euler's forward method
    would charge w with the potential of the previous step; the symplectic one takes v' of this
    step. The defaults are those of the authors' experiments on SHD, SSC and ECG.

    Args:
        tau_v: Time constant of v in time steps, >= 1: a number, or a range (low, high). A layer
            draws it uniformly for each parameter set. Without a layer the middle counts. A learned
            value may leave the range. One below 1 counts as 1.
        tau_w: Time constant of w, given as `tau_v`.
        a: Coupling of v to w over q, 0 to 1, given as `tau_v`.
        b: Jump of w at a spike over q, 0 to 2, given as `tau_v`. A learned a or b outside these
            bounds counts as the nearest bound. As the authors' code, `lnm train` moves every
            parameter to its bound after a step of the optimiser (`lnm.train.clamp_parameters`).
            The authors learn the share of tau in its range, and clamp tau to that range.
        q: Common factor of a and b, > 0.
        v_threshold: Firing threshold.
        learnable: Make tau_v, tau_w, a and b learnable.
        per: Granularity of the learnable parameters, a word or a dict by name.
        detach_reset: Treat the spike as a constant in v' = h*(1 - spike), as the authors' code
            always does. The jump b*spike of w' keeps its gradient, since it is not a reset.
            `with_detach_reset(True)` of the neuron detaches both.
        surrogate: Slope of the spike; atan(alpha=2) by default. The authors use an exponential.
    """
    require_number("adlif", "q", q, above=0)
    require_numbers("adlif", v_threshold=v_threshold)
    v, w, x = state("v"), state("w"), input("x")
    t_v = max(param_in("adlif", "tau_v", tau_v, learnable=learnable, low=1), 1)
    t_w = max(param_in("adlif", "tau_w", tau_w, learnable=learnable, low=1), 1)
    coupling = clip(param_in("adlif", "a", a, learnable=learnable, low=0, high=1), 0, 1)
    jump = clip(param_in("adlif", "b", b, learnable=learnable, low=0, high=2), 0, 2)
    factor = param("q", init=q, learnable=False)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    d_v, d_w = exp(-1 / t_v), exp(-1 / t_w)
    require_bool("adlif", "detach_reset", detach_reset)
    fired = stop_gradient(spike) > 0 if detach_reset else spike
    after = where(fired, 0, v)
    return Neuron(
        charge={v: d_v * v + (1 - d_v) * (x - w)},
        fire=v - threshold,
        reset={v: after, w: d_w * w + (1 - d_w) * factor * (coupling * after + jump * spike)},
        surrogate=surrogate,
    ).with_per(per)
