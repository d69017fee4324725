"""Default ranges of plots, for neurons in any units: of a constant input, and of the states."""

from __future__ import annotations

import numpy as np

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.analysis.linear.step import StepMap, firing_rates, simulate
from lnm_codegen.ir.interpret import Array
from lnm_codegen.plot.scales import MOST_RATIO

RATE_STEPS, MORE_STEPS, FEW_SPIKES = 256, 1024, 8
"""Steps of a firing rate; steps for a neuron with fewer spikes than these in the former."""
_EXPONENTS = np.arange(-60, 61)
"""The inputs that are tried are the scale times these powers of 2."""
_HALF, _TOP = 0.5, 0.95
"""Rate at the right end of an f-I curve; share of the greatest rate, if that is less."""


def inputs_of(step: StepMap, steps: int = RATE_STEPS) -> tuple[float, float]:
    """Return inputs from silence to a rate of 1/2, for the f-I curve of a neuron.

    The inputs tried are powers of 2 times the scale, which is the distance |z| of the initial
    states to the threshold. Rates are the medians over the parameter sets, in at most 256 steps.

        high   the first input after the first spike with a rate of at least 1/2, or of 95 % of the
               rate at which it stops to rise; at least twice the first input that fires
        low    0 where the neuron is silent, else the first negative input without a spike

    Without any spike the result is 0 and 4 scales; without a silent input, low is -high.
    """
    low, _, high = _search(step, min(steps, RATE_STEPS))
    return low, high


def _search(step: StepMap, steps: int) -> tuple[float, float, float]:
    """Return the least input, the first that fires more than the input 0, and the greatest."""
    scale = float(np.median(step.scale()))
    tried = scale * 2.0**_EXPONENTS
    rates = _rates(step, np.concatenate([[0.0], tried, -tried]), steps)
    at_rest, positive, negative = rates[0], rates[1 : len(tried) + 1], rates[len(tried) + 1 :]
    first = _first(positive > at_rest) if at_rest else _first(positive > 0)
    if first is None:
        return (-scale, scale, scale) if at_rest else (0.0, scale, 4 * scale)
    falls = _first(np.diff(positive[first:]) < 0)
    rising = positive[first:] if falls is None else positive[first : first + falls + 1]
    top = min(_HALF, _TOP * float(rising.max()))
    last = first + max(int(np.argmax(rising >= top)), min(1, len(rising) - 1))
    least, high = float(tried[first]), float(tried[last])
    if not at_rest:
        return 0.0, least, high
    silent = _first(negative == 0)
    return (-high if silent is None else float(-tried[silent])), least, high


def rate_steps(step: StepMap, x: float) -> int:
    """Return the number of steps in which a neuron has several spikes at an input."""
    rate = float(_rates(step, np.array([x]), RATE_STEPS)[0])
    return RATE_STEPS if rate * RATE_STEPS >= FEW_SPIKES else MORE_STEPS


def state_scales(step: StepMap) -> Array:
    """Return the scale of each state of one parameter set, (n,), for its phase plane.

    The scale of the potential is the distance |z| of the initial states to the threshold. Another
    state has the same scale, or, where its range is over 5 times larger or smaller than that of the
    potential under the first input that fires, the scale times the ratio of both ranges.
    """
    scale = float(step.scale()[0])
    path = simulate(step, {step.inputs[0]: _search(step, RATE_STEPS)[1]}, RATE_STEPS)
    moved = np.abs(np.concatenate([path.states, path.charged]) - step.start())[..., 0]
    own = np.where(np.isfinite(moved), moved, 0).max(0)
    potential = own[step.states.index(potential_of(step.neuron).name)]
    if not potential:
        return np.full(len(own), scale)
    ratio = own / potential
    other = (ratio > 0) & ((ratio > MOST_RATIO) | (ratio < 1 / MOST_RATIO))
    return np.where(other, ratio, 1.0) * scale


def _rates(step: StepMap, currents: Array, steps: int) -> Array:
    with np.errstate(all="ignore"):  # the largest inputs overflow
        return np.asarray(np.median(firing_rates(step, currents, steps), axis=1))


def _first(where: Array) -> int | None:
    return int(where.argmax()) if where.any() else None
