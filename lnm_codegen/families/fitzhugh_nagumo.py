"""`fitzhugh_nagumo`: a cubic potential with a linear recovery variable."""

from __future__ import annotations

from typing import Any

from lnm_codegen.families.common import spikes_at
from lnm_codegen.language.binding import substeps
from lnm_codegen.language.family import family
from lnm_codegen.language.functions import as_expr
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Granularity, input, param, state
from lnm_codegen.validation import require_bool, require_integer, require_number, require_numbers

REST = (-1.2, -0.625)
"""Initial v and w, near the fixed point of the default parameters without input."""


@family
def fitzhugh_nagumo(
    a: float = 0.7,
    b: float = 0.8,
    epsilon: float = 0.08,
    dt: float = 0.25,
    sub_steps: int = 1,
    v_threshold: float = 1.0,
    crossing: bool = True,
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
    require_number("fitzhugh_nagumo", "dt", dt, above=0)
    require_integer("fitzhugh_nagumo", "sub_steps", sub_steps, 1, 1000)
    require_numbers("fitzhugh_nagumo", a=a, b=b, epsilon=epsilon, v_threshold=v_threshold)
    require_bool("fitzhugh_nagumo", "crossing", crossing)
    v, w, x = state("v", init=REST[0]), state("w", init=REST[1]), input("x")
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
