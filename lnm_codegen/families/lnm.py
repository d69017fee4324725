"""`lnm`: the learnable neuron model, a polynomial of any degree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lnm_codegen.errors import ModelError
from lnm_codegen.families.common import check_choice, check_numbers, reset_of
from lnm_codegen.family import family
from lnm_codegen.functions import ExprLike, poly, where
from lnm_codegen.neuron import Neuron
from lnm_codegen.surrogate import Surrogate
from lnm_codegen.symbols import Granularity, Init, input, param, state


@family
def lnm(
    degree: int = 3,
    form: Literal["A", "B", "C"] = "A",
    theta: Sequence[float] | Init | None = None,
    learn_theta_0: bool = True,
    v_threshold: float = 1.0,
    learn_threshold: bool = False,
    v_reset: float | None = 0.0,
    v_min: float | None = None,
    decay: float = 0.5,
    detach_reset: bool = False,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Learnable Neuron Model (after Jahns, Moreno, Kinsy 2025, arXiv 2510.07341; our reading).

        charge   A: h = f(v) + x     B: h = f(v + x)     C: h = v + f(v) + x
                 f(z) = theta_0 + theta_1*z + ... + theta_d*z**d
                 h = where(h < v_min, v_min, h)          if v_min is given
        fire     spike = H(h - v_threshold)
        reset    hard to v_reset; soft by v_threshold where v_reset is None

    A polynomial of degree >= 2 can run away: under soft reset always, under hard reset below,
    where its leading behaviour points to -inf. `v_min` closes that side; training uses -2.

    Args:
        degree: 1 to 8.
        form: Where the input enters, see above.
        theta: Initial coefficients, degree + 1 of them, or a function (generator, shape) ->
            tensor; by default those of a LIF neuron, h = decay*v + x.
        learn_theta_0: False leaves theta_0 out of f (the bias of a normalisation does its work);
            then `theta` holds theta_1, ..., theta_d.
        v_threshold: Firing threshold.
        learn_threshold: Make it a learnable parameter.
        v_reset: Potential after a spike; None for a soft reset.
        v_min: Lower clamp of the charged potential; None for none.
        decay: theta_1 at the start (0 in form C plus decay - 1), if `theta` is not given.
        detach_reset: Treat the spike inside reset as a constant.
        per: Granularity of the learnable parameters, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    if isinstance(degree, bool) or not isinstance(degree, int) or not 1 <= degree <= 8:
        raise ModelError(f"lnm: degree is {degree!r}. Accepted: an integer from 1 to 8.")
    check_numbers("lnm", v_threshold=v_threshold, v_reset=v_reset, v_min=v_min, decay=decay)
    check_choice("lnm", "form", form, ("A", "B", "C"))
    size = degree + 1 if learn_theta_0 else degree
    if theta is None:
        first = decay - 1.0 if form == "C" else decay
        theta = (*((0.0,) if learn_theta_0 else ()), first, *(0.0,) * (degree - 1))
    v, x = state("v", init=v_reset or 0.0), input("x")
    coefficients = param("theta", size=size, init=theta)
    threshold = param("v_threshold", init=v_threshold, learnable=learn_threshold)
    z = v + x if form == "B" else v
    f = poly(z, [*(() if learn_theta_0 else (0,)), *coefficients])
    charged: ExprLike = {"A": f + x, "B": f, "C": v + f + x}[form]
    if v_min is not None:
        charged = where(charged < v_min, v_min, charged)
    return Neuron(
        charge={v: charged},
        fire=v - threshold,
        reset=reset_of(v, threshold, v_reset),
        surrogate=surrogate,
        detach_reset=detach_reset,
    ).with_per(per)
