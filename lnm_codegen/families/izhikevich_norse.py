"""`izhikevich` with `form="norse"`: the neuron of Izhikevich's paper, in mV and ms."""

from __future__ import annotations

from lnm_codegen.families.common import Positive
from lnm_codegen.language.family import family
from lnm_codegen.language.functions import as_expr
from lnm_codegen.language.neuron import Neuron, hard_reset
from lnm_codegen.language.surrogate import Surrogate, atan
from lnm_codegen.language.symbols import Granularity, input, param, spike, state
from lnm_codegen.validation import Number, require_number


@family
def izhikevich(
    a: Number = 0.02,
    b: Number = 0.2,
    c: float = -65.0,
    d: Number = 6.0,
    *,
    sq: Number = 0.04,
    mn: Number = 5.0,
    bias: Number = 140.0,
    dt: Positive = 0.25,
    v_threshold: Number = 30.0,
    v_start: Number = -70.0,
    learnable: bool = False,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Izhikevich's neuron of 2003 in Norse's form (`izhikevich_feed_forward_step`).

        charge   h  = v + dt*(sq*v**2 + mn*v + bias - u + x)
                 u' = u + dt*a*(b*v - u)
        fire     spike = H(h - v_threshold)
        reset    v hard to c;  u' + d*spike

    v is in mV and time in ms; dt is Norse's tau_inv*dt. Norse fires where h > v_threshold. With
    a = 0.02, b = 0.2 the neuron spikes tonically at c = -65, d = 6 and bursts at c = -50, d = 2.

    Args:
        a: Rate of the recovery u per ms.
        b: Coupling of u to v.
        c: Potential after a spike in mV, < v_threshold.
        d: Jump of u at a spike.
        sq: Coefficient of v**2.
        mn: Coefficient of v.
        bias: Constant of the charge.
        dt: Time step in ms, > 0.
        v_threshold: Firing threshold in mV.
        v_start: Initial v; u begins at b*v_start. By default the rest of the default parameters.
            `with_init` of v or b leaves u as it is: give u too.
        learnable: Make a, b and d learnable.
        per: Granularity of the learnable parameters, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=0.1) by default, since potentials are in mV.
    """
    require_number("izhikevich", "c", c, below=v_threshold)
    v, u, x, step = state("v", init=v_start), state("u", init=b * v_start), input("x"), as_expr(dt)
    rate, coupling, jump = (
        param(name, init=value, learnable=learnable)
        for name, value in (("a", a), ("b", b), ("d", d))
    )
    square, linear, constant = (
        param(name, init=value, learnable=False)
        for name, value in (("sq", sq), ("mn", mn), ("bias", bias))
    )
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    return Neuron(
        charge={
            v: v + step * (square * v**2 + linear * v + constant - u + x),
            u: u + step * rate * (coupling * v - u),
        },
        fire=v - threshold,
        reset=hard_reset(v, c) | {u: u + jump * spike},
        surrogate=surrogate or atan(alpha=0.1),
    ).with_per(per)
