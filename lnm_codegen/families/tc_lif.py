"""`tc_lif`: a neuron of two compartments, dendrite and soma."""

from __future__ import annotations

import math

from lnm_codegen.families.common import reset_of
from lnm_codegen.language.family import family
from lnm_codegen.language.functions import sigmoid
from lnm_codegen.language.neuron import Neuron, soft_reset
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, input, param, state
from lnm_codegen.validation import require_number, require_numbers


@family
def tc_lif(
    beta_d: float = 0.5,
    beta_s: float = 0.5,
    gamma: float = 0.5,
    v_threshold: float = 1.0,
    v_reset: float | None = None,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Two-compartment LIF (Zhang et al. 2024, arXiv 2308.13250).

        charge   d' = d - sigmoid(w_d)*v + x
                 h  = v + sigmoid(w_s)*d'
        fire     spike = H(h - v_threshold)
        reset    soft: d' - gamma*spike,  h - v_threshold*spike
                 hard: h to v_reset, d' stays

    Also github.com/ZhangShimin1/TC-LIF, which calls d and v v1 and v2. d is the potential of the
    dendrite, v that of the soma. w_d and w_s are learnable; their initial sigmoids are beta_d
    and beta_s.

    Args:
        beta_d: Initial strength of the soma's effect on the dendrite, between 0 and 1.
        beta_s: Initial strength of the dendrite's effect on the soma, between 0 and 1.
        gamma: Amount of the dendrite's soft reset; not read if v_reset is given.
        v_threshold: Firing threshold.
        v_reset: Potential of the soma after a spike; None for a soft reset.
        per: Granularity of w_d and w_s, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=2) by default. The authors use a triangle.
    """
    require_number("tc_lif", "beta_d", beta_d, above=0, below=1)
    require_number("tc_lif", "beta_s", beta_s, above=0, below=1)
    require_numbers("tc_lif", gamma=gamma, v_threshold=v_threshold)
    require_numbers("tc_lif", v_reset=v_reset, optional=["v_reset"])
    d, v, x = state("d"), state("v", init=v_reset or 0.0), input("x")
    w_d, w_s = (
        param(name, init=math.log(beta / (1 - beta)))
        for name, beta in (("w_d", beta_d), ("w_s", beta_s))
    )
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    dendrite = d - sigmoid(w_d) * v + x
    reset = reset_of(v, threshold, v_reset)
    if v_reset is None:
        reset |= soft_reset(d, param("gamma", init=gamma, learnable=False))
    return Neuron(
        charge={d: dendrite, v: v + sigmoid(w_s) * dendrite},
        fire=v - threshold,
        reset=reset,
        surrogate=surrogate,
    ).with_per(per)
