"""Neurons of biophysics: FitzHugh and Nagumo's, Hodgkin and Huxley's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from lnm_codegen.families.common import Positive, spikes_at
from lnm_codegen.language.binding import bind, substeps
from lnm_codegen.language.family import family
from lnm_codegen.language.functions import as_expr, exp, where
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate, atan
from lnm_codegen.language.symbols import Granularity, input, param, state
from lnm_codegen.validation import (
    Accepted,
    Flag,
    Number,
)

FITZHUGH_REST = (-1.2, -0.625)
"""Initial v and w, near the fixed point of the default parameters without input."""


@family
def fitzhugh_nagumo(
    a: Number = 0.7,
    b: Number = 0.8,
    epsilon: Number = 0.08,
    dt: Positive = 0.25,
    sub_steps: Annotated[int, Accepted(low=1, high=1000)] = 1,
    v_threshold: Number = 1.0,
    crossing: Flag = True,
    learnable: bool = False,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """FitzHugh-Nagumo (FitzHugh 1961; Nagumo, Arimoto and Yoshizawa 1962), in Euler's method.

        charge   v' = v + dt*(v - v**3/3 - w + x)
                 w' = w + dt*epsilon*(v + a - b*w)
                 last' = v                                             crossing
        fire     spike = H(min(v' - v_threshold, v_threshold - v))     crossing
                 spike = H(v' - v_threshold)                           else
        reset    none

    All quantities have no unit. Without input the default neuron rests near v = -1.2, w = -0.625.
    A constant input between about 0.33 and 1.42 makes it oscillate. Euler's method diverges where
    v**2 exceeds about 3 + 6*sub_steps/dt.

    Args:
        a: Constant of the recovery.
        b: Leak of the recovery.
        epsilon: Rate of the recovery over that of v.
        dt: Time step, > 0.
        sub_steps: Steps of Euler's method in a time step, each of dt/sub_steps.
        v_threshold: Potential at which it spikes.
        crossing: Spike once, where v rises through v_threshold. False: at every step above it.
        learnable: Make a, b and epsilon learnable.
        per: Granularity of the learnable parameters, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=2) by default.
    """
    v, w, x = state("v", init=FITZHUGH_REST[0]), state("w", init=FITZHUGH_REST[1]), input("x")
    shift, leak, rate = (
        param(n, init=c, learnable=learnable) for n, c in (("a", a), ("b", b), ("epsilon", epsilon))
    )
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    step = as_expr(dt) / sub_steps

    def euler(v: Any, w: Any) -> tuple[Any, Any]:
        return v + step * (v - v**3 / 3 - w + x), w + step * rate * (v + shift - leak * w)

    after = euler(v, w) if sub_steps == 1 else substeps(sub_steps, euler, v=v, w=w)
    fire, last = spikes_at(v, threshold, crossing)
    return Neuron(
        charge=dict(zip((v, w), after, strict=True)) | last, fire=fire, surrogate=surrogate
    ).with_per(per)


HODGKIN_REST = {"v": -65.0, "m": 0.0529, "h": 0.5961, "n": 0.3177}
"""Initial states: the resting potential, and the gates in equilibrium there."""


@family
def hodgkin_huxley(
    g_na: Number = 120.0,
    g_k: Number = 36.0,
    g_l: Positive = 0.3,
    e_na: Number = 50.0,
    e_k: Number = -77.0,
    e_l: Number = -54.4,
    capacitance: Positive = 1.0,
    dt: Positive = 0.1,
    sub_steps: Annotated[int, Accepted(low=1, high=1000)] = 1,
    v_threshold: Number = 0.0,
    crossing: Flag = True,
    learnable: bool = False,
    per: Granularity | dict[str, Granularity] = "layer",
    surrogate: Surrogate | None = None,
) -> Neuron:
    """Hodgkin and Huxley's squid axon (1952), rest at -65 mV, in exponential Euler steps.

        C dv/dt = x - g_na*m**3*h*(v - e_na) - g_k*n**4*(v - e_k) - g_l*(v - e_l)
          dp/dt = alpha_p*(1 - p) - beta_p*p,  p = m, h, n
          alpha_m = E((v + 40)/10),      beta_m = 4*exp(-(v + 65)/18)
          alpha_h = 0.07*exp(-(v + 65)/20),  beta_h = 1/(1 + exp(-(v + 35)/10))
          alpha_n = E((v + 55)/10)/10,   beta_n = exp(-(v + 65)/80)/8,  E(u) = u/(1 - exp(-u))
        charge   y' = y_inf + (y - y_inf)*exp(-k*dt) of each dy/dt = k*(y_inf - y), with k and
                 y_inf at the states before the step
                 last' = v                                             crossing
        fire     spike = H(min(v' - v_threshold, v_threshold - v))     crossing
                 spike = H(v' - v_threshold)                           else
        reset    none

    Potentials are in mV, time in ms, x in uA/cm**2, conductances in mS/cm**2, the capacitance in
    uF/cm**2. A constant x of 10 makes it spike about every 15 ms. The step remains stable for any
    dt. Near u = 0, E is its Taylor polynomial.

    Args:
        g_na: Conductance of sodium.
        g_k: Conductance of potassium.
        g_l: Leak conductance, > 0.
        e_na: Reversal potential of sodium.
        e_k: Reversal potential of potassium.
        e_l: Reversal potential of the leak.
        capacitance: Membrane capacitance C, > 0.
        dt: Time step in ms, > 0.
        sub_steps: Exponential Euler steps in a time step, each of dt/sub_steps.
        v_threshold: Potential at which it spikes.
        crossing: Spike once, where v rises through v_threshold. False: at every step above it.
        learnable: Make the conductances and reversal potentials learnable.
        per: Granularity of the learnable parameters, a word or a dict by name.
        surrogate: Slope of the spike; atan(alpha=0.1) by default, since potentials are in mV.
    """
    given = {"g_na": g_na, "g_k": g_k, "g_l": g_l, "e_na": e_na, "e_k": e_k, "e_l": e_l}
    states, x = [state(name, init=init) for name, init in HODGKIN_REST.items()], input("x")
    channels = [param(name, init=value, learnable=learnable) for name, value in given.items()]
    c = param("capacitance", init=capacitance, learnable=False)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    step = as_expr(dt) / sub_steps
    after = substeps(
        sub_steps,
        lambda v, m, h, n: _exponential_euler((v, m, h, n), x, channels, c, step),
        **dict(zip(HODGKIN_REST, states, strict=True)),
    )
    fire, last = spikes_at(states[0], threshold, crossing)
    return Neuron(
        charge=dict(zip(states, after, strict=True)) | last,
        fire=fire,
        surrogate=surrogate or atan(alpha=0.1),
    ).with_per(per)


def _exponential_euler(
    now: Sequence[Any], x: Any, channels: Sequence[Any], c: Any, step: Any
) -> tuple[Any, ...]:
    """Return v, m, h and n after a step."""
    v, m, h, n = now
    g_na, g_k, g_l, e_na, e_k, e_l = channels
    sodium, potassium = bind(g_na * m**3 * h, "sodium"), bind(g_k * n**4, "potassium")
    linear = [
        (v, (sodium * e_na + potassium * e_k + g_l * e_l + x) / c, (sodium + potassium + g_l) / c)
    ]
    for gate, name, (alpha, beta) in zip((m, h, n), "mhn", _rates(v), strict=True):
        opening = bind(alpha, f"alpha_{name}")
        linear.append((gate, opening, opening + beta))
    after = []
    for y, gain, k in linear:
        rate = bind(k, f"k_{y.name[0]}")
        settled = bind(gain / rate, f"settled_{y.name[0]}")
        after.append(settled + (y - settled) * exp(-rate * step))
    return tuple(after)


def _rates(v: Any) -> tuple[tuple[Any, Any], ...]:
    """Return opening and closing rates of m, h and n per ms."""
    return (
        (_linoid(v, -40), 4 * exp(-(v + 65) / 18)),
        (as_expr(0.07) * exp(-(v + 65) / 20), 1 / (1 + exp(-(v + 35) / 10))),
        (_linoid(v, -55) / 10, exp(-(v + 65) / 80) / 8),
    )


def _linoid(v: Any, centre: int) -> Any:
    """Return E(u) of u = (v - centre)/10; its Taylor polynomial, to 3e-11, where |u| < 1/2."""
    u = (v - centre) / 10
    near = (v > centre - 5) & (v < centre + 5)
    away = where(near, 1, u)
    s = u**2
    taylor = 1 + u / 2 + s / 12 - s**2 / 720 + s**3 / 30240 - s**4 / 1209600
    return where(near, taylor, away / (1 - exp(-away)))
