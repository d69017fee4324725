"""`qif`: the quadratic integrate-and-fire neuron."""

from __future__ import annotations

from lnm_codegen.families.common import clamped, reset_of
from lnm_codegen.language.family import family
from lnm_codegen.language.functions import ExprLike
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, input, param, state
from lnm_codegen.validation import require_number, require_numbers


@family
def qif(
    tau: float = 2.0,
    v_c: float = 0.8,
    a0: float = 1.0,
    v_threshold: float = 1.0,
    v_rest: float = 0.0,
    v_reset: float | None = -0.1,
    v_min: float | None = None,
    v_max: float | None = None,
    learnable: bool = False,
    per: Granularity = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Quadratic integrate-and-fire (SpikingJelly `QIFNode`).

        charge   h = v + (x + a0 * (v - v_rest) * (v - v_c)) / tau
                 h = where(h < v_min, v_min, h)          if v_min is given
                 h = where(h > v_max, v_max, h)          if v_max is given
        fire     spike = H(h - v_threshold)
        reset    hard to v_reset; soft by v_threshold where v_reset is None

    A potential far above v_c or far below v_rest diverges to inf. `v_min` bounds it below; training
    uses -2. Under a soft reset `v_max` = 2*v_threshold bounds the potential after a spike by
    v_threshold.

    Args:
        tau: Membrane time constant in time steps, > 1.
        v_c: Critical potential: between v_rest and v_c the quadratic term lowers v.
        a0: Coefficient of the quadratic term.
        v_threshold: Firing threshold.
        v_rest: Potential at rest.
        v_reset: Potential after a spike; None for a soft reset.
        v_min: Lower clamp of the charged potential, < v_threshold, or None.
        v_max: Upper clamp of the charged potential, > v_threshold, or None.
        learnable: Make tau, v_rest, v_c and a0 learnable.
        per: Granularity of the learnable parameters.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    require_number("qif", "tau", tau, above=1)
    require_numbers("qif", v_c=v_c, a0=a0, v_threshold=v_threshold, v_rest=v_rest)
    optional = {"v_reset": v_reset, "v_min": v_min, "v_max": v_max}
    require_numbers("qif", **optional, optional=optional)
    v, x = state("v", init=v_reset or 0.0), input("x")
    t = param("tau", init=tau, learnable=learnable, per=per)
    rest = param("v_rest", init=v_rest, learnable=learnable, per=per)
    critical = param("v_c", init=v_c, learnable=learnable, per=per)
    a = param("a0", init=a0, learnable=learnable, per=per)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    charged: ExprLike = v + (x + a * (v - rest) * (v - critical)) / t
    return Neuron(
        charge={v: clamped("qif", charged, v_min, v_max, v_threshold)},
        fire=v - threshold,
        reset=reset_of(v, threshold, v_reset),
        surrogate=surrogate,
    )
