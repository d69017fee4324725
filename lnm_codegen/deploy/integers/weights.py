"""Real weights as integers times a scale: a power of two, or a multiplier and a shift."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import floor, frexp, log2
from typing import Literal

import numpy as np

from lnm_codegen.deploy.integers.real import RealWeights
from lnm_codegen.ir.fixed.interpret import Array
from lnm_codegen.ir.fixed.nodes import Span
from lnm_codegen.ir.network.nodes import ValueSpan, WeightStage, width_of
from lnm_codegen.ir.network.verify import MULTIPLIER_BITS, SHIFTS
from lnm_codegen.ir.types import MOST_BITS, Bits

ScaleName = Literal["layer", "channel"]
SCALES: tuple[ScaleName, ...] = ("layer", "channel")
MOST_BIAS = 1 << 30
"""Largest magnitude of a bias, so that most accumulators have 32 bits."""
_PLACES = (SHIFTS[0] + MULTIPLIER_BITS, SHIFTS[1] - MULTIPLIER_BITS)
"""Fraction bits that a sum may have more than its result; a multiplier changes the shift."""
_TRIED = 3
"""Powers of two that are tried for a scale, the smaller ones clip weights."""


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """Format of the weights of a layer.

    Attributes:
        bits: Width of a weight, 2 to 16.
        per: A scale for the "layer", or for each output "channel".
        multiplier: The scale is an integer times a power of two; otherwise a power of two.
    """

    bits: int = 8
    per: ScaleName = "channel"
    multiplier: bool = False


def integer_weights(
    real: RealWeights, form: WeightFormat, inputs: ValueSpan, output: Bits
) -> WeightStage:
    """Return weights that give sums in the format of the next neurons.

    The fraction bits of a power-of-two scale minimise the squared error of the weights.
    """
    ends = (output.frac + _PLACES[0], output.frac + _PLACES[1])
    return _stage(real, form, inputs, output, _scales(real, form, inputs.frac, ends))


def integer_readout(real: RealWeights, form: WeightFormat, inputs: ValueSpan) -> WeightStage:
    """Return weights whose sums are the scores, with one power-of-two scale for the layer.

    The sums are not rounded, unless they have more than 32 bits.
    """
    form = replace(form, per="layer", multiplier=False)
    scales = _scales(real, form, inputs.frac, (_PLACES[0], MOST_BITS))
    places = max(0, round(inputs.frac - log2(scales[0])))
    wide = _stage(real, form, inputs, Bits(32, places), scales)
    bound = wide.bound(inputs)
    shift = wide.shift_of(0)
    need = width_of((-bound, bound)) + max(-shift, 0)
    frac = max(places - max(need - 32, 0), 0)
    width = min(max(need, 2), 32)
    return _stage(real, form, inputs, Bits(width, frac), scales)


def weight_scales(stage: WeightStage, inputs: ValueSpan) -> Array:
    """Return the real value of a weight of 1 for each output channel."""
    places = stage.shift.astype(float) + stage.output.frac - inputs.frac
    return np.broadcast_to(stage.multiplier / 2.0**places, (stage.channels,))


def _scales(real: RealWeights, form: WeightFormat, frac: int, places: Span) -> Array:
    """Return the scale of each output channel.

    `places` are the least and the most fraction bits of a sum, whose inputs have `frac`.
    """
    rows = real.weight.reshape(len(real.weight), -1)
    groups = rows if form.per == "channel" else rows.reshape(1, -1)
    biases = np.abs(real.bias) if form.per == "channel" else np.abs(real.bias).max(keepdims=True)
    found = [_scale(g, b, form, frac, places) for g, b in zip(groups, biases, strict=True)]
    return np.broadcast_to(np.array(found), (len(rows),))


def _scale(weights: Array, bias: float, form: WeightFormat, frac: int, places: Span) -> float:
    """Return the scale of one group of weights."""
    most = (1 << (form.bits - 1)) - 1
    largest = float(np.abs(weights).max())
    least = bias / MOST_BIAS * 2.0**frac
    low, high = max(2.0 ** (frac - places[1]), least), 2.0 ** (frac - places[0])
    exact = min(max(largest / most if largest > 0 else 1.0, low), high)
    if form.multiplier:
        return exact
    powers = [2.0 ** (floor(log2(exact)) + 1 - k) for k in range(_TRIED)]
    fits = [p for p in powers if p >= low] or powers[:1]
    return min(fits, key=lambda p: _error(weights, p, most))


def _error(weights: Array, scale: float, most: int) -> float:
    rounded = np.clip(np.floor(weights / scale + 0.5), -most - 1, most) * scale
    return float(np.square(rounded - weights).sum())


def _stage(
    real: RealWeights, form: WeightFormat, inputs: ValueSpan, output: Bits, scales: Array
) -> WeightStage:
    ratio = 2.0 ** (output.frac - inputs.frac)
    pairs = [_factor(s * ratio, form.multiplier) for s in scales]
    scales = np.array([m / 2.0**s / ratio for m, s in pairs])  # with the rounded multiplier
    if len({*pairs}) == 1:
        pairs = pairs[:1]
    factors, shifts = (np.array(column) for column in zip(*pairs, strict=True))
    limit = 1 << (form.bits - 1)
    column = scales.reshape(-1, *(1,) * (real.weight.ndim - 1))
    weight = np.clip(np.floor(real.weight / column + 0.5), -limit, limit - 1).astype(np.int64)
    bias = np.floor(real.bias / scales * 2.0**inputs.frac + 0.5).astype(np.int64)
    made = WeightStage(
        name=real.name,
        kind=real.kind,
        weight=weight,
        bits=form.bits,
        bias=bias,
        multiplier=factors,
        shift=shifts,
        accumulator=2,
        output=output,
        stride=real.stride,
        padding=real.padding,
    )
    bound = made.bound(inputs)
    return replace(made, accumulator=max(2, width_of((-bound, bound))))


def _factor(ratio: float, multiplier: bool) -> tuple[int, int]:
    """Return (m, s) with m / 2**s equal to a ratio, or nearest to it with m of 15 bits."""
    mantissa, exponent = frexp(ratio)  # 0.5 <= mantissa < 1
    if not multiplier:
        return 1, 1 - exponent
    bits = MULTIPLIER_BITS - 1
    factor = min(round(mantissa * (1 << bits)), (1 << bits) - 1)
    return factor, bits - exponent
