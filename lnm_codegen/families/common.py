"""Arguments and expressions that several families share: spikes, slopes, resets, clamps, ranges."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Annotated, Any, TypeAlias

from lnm_codegen.ir.declarations import Draw, Uniform, middle
from lnm_codegen.language.functions import ExprLike, as_expr, exp, min, where
from lnm_codegen.language.neuron import hard_reset, soft_reset
from lnm_codegen.language.surrogate import Surrogate, from_slope
from lnm_codegen.language.symbols import Declared, param, state
from lnm_codegen.validation import Accepted, is_number, require_interval, require_number, wrong

TimeConstant: TypeAlias = Annotated[float, Accepted(above=1)]
"""A time constant in time steps, which leaves less than all of the state in a step."""
Positive: TypeAlias = Annotated[float, Accepted(above=0)]
Share: TypeAlias = Annotated[float, Accepted(low=0, high=1)]
"""A number from 0 to 1."""
OpenShare: TypeAlias = Annotated[float, Accepted(above=0, below=1)]
"""A number between 0 and 1."""
LOWEST = -2.0
"""Lower end of the potential's interval where a neuron has no clamp."""


def reset_of(v: Declared, v_threshold: ExprLike, v_reset: ExprLike | None) -> dict[Any, Any]:
    """Return a hard reset to `v_reset`, or a soft reset by `v_threshold` where it is None."""
    return soft_reset(v, v_threshold) if v_reset is None else hard_reset(v, v_reset)


def clamped(
    family: str, charged: ExprLike, v_min: float | None, v_max: float | None, v_threshold: float
) -> ExprLike:
    """Return the charged potential clamped to [v_min, v_max]; None leaves a side open.

    Raises:
        ModelError: `v_max` <= `v_threshold`, so that the neuron never spikes, or `v_min` >=
            `v_threshold`, so that it always spikes.
    """
    if v_min is not None and not v_min < v_threshold:
        raise wrong(family, "v_min", v_min, f"a number < v_threshold, {v_threshold!r}, or None")
    if v_max is not None and not v_max > v_threshold:
        raise wrong(family, "v_max", v_max, f"a number > v_threshold, {v_threshold!r}, or None")
    return within(charged, v_min, v_max)


def within(value: ExprLike, low: float | None, high: float | None) -> ExprLike:
    """Return a value clamped to [low, high]; None leaves a side open."""
    if low is not None:
        value = where(value < low, low, value)
    if high is not None:
        value = where(value > high, high, value)
    return value


def spikes_at(v: Declared, threshold: ExprLike, crossing: bool) -> tuple[ExprLike, dict[Any, Any]]:
    """Return z of a neuron without a reset of `v`, and the charge of a further state.

    At an upward crossing z = min(v - threshold, threshold - last), where the charge of the state
    `last` is v before the step. Otherwise z = v - threshold, without a further state.
    """
    if not crossing:
        return v - threshold, {}
    last = state("last")
    return min(v - threshold, threshold - last), {last: v}


def windows(first: Declared, *others: Declared) -> dict[Declared, Surrogate]:
    """Return slopes of width 1 that do not overlap where they meet: 1 where |z| <= 1/2, else 0.

    The end z = -1/2 is in the window of the first spike alone.
    """
    half = as_expr(0.5)
    closed = from_slope(lambda z: where(z < -half, 0, where(z <= half, 1, 0)), "closed_rectangle")
    half_open = from_slope(
        lambda z: where(z <= -half, 0, where(z <= half, 1, 0)), "half_open_rectangle"
    )
    return {first: closed, **dict.fromkeys(others, half_open)}


# Arguments of families that are a number or a range, from which a layer draws initial values.


Range: TypeAlias = float | tuple[float, float]
"""A number, or the ends of a uniform distribution."""


def require_range(
    where: str,
    word: str,
    value: Any,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
) -> tuple[float, float]:
    """Return the ends of a range, equal for one number.

    Raises:
        ModelError: Neither a finite number nor a pair (low, high) with low < high, or out of the
            bounds; see `require_number` for them.
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        ends = require_interval(where, word, value)
    elif is_number(value):
        ends = (value, value)
    else:
        raise wrong(where, word, value, "a finite number, or (low, high) with low < high")
    for end in ends:
        require_number(where, word, end, low=low, above=above, high=high, below=below)
    return float(ends[0]), float(ends[1])


def positive_in(where: str, name: str, value: Any, *, learnable: bool = True) -> ExprLike:
    """Return exp(log_name), where the parameter log_`name` begins in the logarithms of a range."""
    low, high = (log(end) for end in require_range(where, name, value, above=0))
    ends = low if low == high else (low, high)
    found: ExprLike = exp(param_in(where, f"log_{name}", ends, learnable=learnable))
    return found


def param_in(
    where: str, name: str, value: Any, *, learnable: bool = True, **bounds: float
) -> Declared:
    """Declare a scalar parameter that begins in a range; for the bounds see `require_range`."""
    ends = require_range(where, name, value, **bounds)
    draw = Draw(Uniform(ends)) if ends[0] < ends[1] else None
    return param(name, init=middle(ends), learnable=learnable, draw=draw)
