"""Interpreter of networks in integers: NumPy integers of 64 bits. The reference of C and Verilog.

Samples are independent, so they run together. `require_network` proves that no sum exceeds 63
bits. Products of matrices run in float64 where the bound of the sums is below 2**53, which is
exact and quicker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lnm_codegen.errors import ShapeError
from lnm_codegen.ir.interpret import run
from lnm_codegen.ir.network.nodes import (
    AddStage,
    BranchStage,
    FlattenStage,
    IntegerNetwork,
    Integers,
    NeuronStage,
    OverTime,
    PoolStage,
    Shape,
    ValueSpan,
    WeightStage,
    operands,
    size_of,
    sources_of,
)

EXACT = 1 << 53
"""Integers below are exact in float64."""
AT_ONCE = 256
"""Samples of one pass, which bounds the memory."""


@dataclass(frozen=True, eq=False)
class NetworkResult:
    """Scores and labels of samples.

    Attributes:
        scores: Integers (N, classes), or (T, N, classes) of every step.
        labels: Class of the largest score, the lowest one of equal scores, (N,) or (T, N).
        outputs: Outputs of every stage, (T, N, *), if traced; T is 1 for a constant stage.
        spikes: Nonzero outputs of each stage of neurons, by its name, over all samples and steps.
    """

    scores: Integers
    labels: Integers
    outputs: tuple[Integers, ...] = field(default=(), repr=False)
    spikes: dict[str, int] = field(default_factory=dict)


_REDUCTIONS: dict[OverTime, Callable[[Integers], Integers]] = {
    "mean": lambda x: np.asarray(x.sum(0)),
    "last": lambda x: np.asarray(x[-1]),
    "max": lambda x: np.asarray(x.max(0)),
    "step": lambda x: x,
}


def interpret_network(
    network: IntegerNetwork, samples: Any, *, trace: bool = False
) -> NetworkResult:
    """Run a network on samples.

    Args:
        network: A valid network.
        samples: Integers: (T, N, *input_shape), or (N, *input_shape) if the sample is repeated.
        trace: Keep the outputs of every stage.

    Raises:
        ShapeError: Another shape or type, or an integer outside the span of the input.
    """
    x = _require_samples(network, samples)
    parts = [_run(network, x[:, k : k + AT_ONCE], trace) for k in range(0, x.shape[1], AT_ONCE)]
    if len(parts) == 1:
        return parts[0]
    columns = zip(*(p.outputs for p in parts), strict=True)
    axis = 1 if network.over == "step" else 0
    return NetworkResult(
        np.concatenate([p.scores for p in parts], axis),
        np.concatenate([p.labels for p in parts], axis),
        tuple(np.concatenate(column, axis=1) for column in columns),
        {name: sum(p.spikes[name] for p in parts) for name in parts[0].spikes},
    )


def sample_rows(network: IntegerNetwork, samples: Integers) -> Integers:
    """Return samples (N, values), the time steps of a sample one after another."""
    rows = samples if network.repeated else np.moveaxis(samples, 0, 1)
    return np.asarray(rows.reshape(len(rows), -1))


def score_rows(network: IntegerNetwork, scores: Integers) -> Integers:
    """Return scores (N, values), the time steps of a sample one after another."""
    rows = np.moveaxis(scores, 0, 1) if network.over == "step" else scores
    return np.asarray(rows.reshape(len(rows), -1))


def _require_samples(network: IntegerNetwork, samples: Any) -> Integers:
    """Return the samples as int64 (T, N, *), T = 1 if repeated."""
    x, own = np.asarray(samples), network.input_shape
    lead = ("N",) if network.repeated else (str(network.time_steps), "N")
    accepted = f"integers ({', '.join((*lead, *map(str, own)))}), N >= 1"
    fits = x.dtype.kind in "iub" and x.ndim == len(lead) + len(own)
    fits = fits and x.shape[len(lead) :] == own and x.size > 0
    if not fits or (not network.repeated and len(x) != network.time_steps):
        raise ShapeError(network.name, f"samples are {x.dtype} {x.shape}", accepted)
    values = network.input
    outside = x[(x < values.low) | (x > values.high)]
    if outside.size:
        accepted = f"{values.low} to {values.high}"
        raise ShapeError(network.name, f"a sample holds {outside.flat[0]}", accepted)
    x = x.astype(np.int64)
    return x[None] if network.repeated else x


def _run(network: IntegerNetwork, x: Integers, trace: bool) -> NetworkResult:
    outputs, spikes, shapes = [], {}, network.shapes()
    values = network.values()
    known: Integers | None = None  # the outputs of neurons that the stage before needed
    later = {n for k, stage in enumerate(network.stages) for n in sources_of(k, stage) if n < k - 1}
    kept = {-1: x}  # outputs that a later stage reads
    for k, stage in enumerate(network.stages):
        if k >= network.constant_stages and len(x) < network.time_steps:
            x = np.broadcast_to(x, (network.time_steps, *x.shape[1:]))
        if isinstance(stage, WeightStage) and stage.delay:
            x, known = _recurrent(stage, network.neurons_after(k), x, values[k])
        elif known is not None:
            x, known = known, None
        elif isinstance(stage, AddStage):
            x = added(stage, x, kept[stage.other], *operands(k, stage, values))
        elif isinstance(stage, BranchStage):
            x = kept[stage.origin]
        else:
            x = _stage(stage, x, shapes[k], values[k])
        if isinstance(stage, NeuronStage):
            spikes[stage.name] = int(np.count_nonzero(x))
        if k in later:
            kept[k] = x
        if trace:
            outputs.append(x)
    x = np.broadcast_to(x, (network.time_steps, *x.shape[1:]))
    found = np.asarray(_REDUCTIONS[network.over](x))
    return NetworkResult(found, found.argmax(-1), tuple(outputs), spikes)


def _recurrent(
    stage: WeightStage, neurons: NeuronStage, x: Integers, values: ValueSpan
) -> tuple[Integers, Integers]:
    """Return the outputs (T, N, *) of a recurrent layer of weights, and of its neurons."""
    (steps, count, inputs), spike = x.shape, 1 << values.frac
    sums = np.empty((steps, count, stage.channels), np.int64)
    fed = np.zeros((steps + stage.delay, count, stage.channels), np.int64)
    step = _NeuronSteps(neurons, (count, stage.channels))
    for t in range(steps):
        both = np.concatenate([x[t].reshape(count, inputs), spike * fed[t]], axis=1)
        sums[t] = requantized(stage, accumulated(stage, both, values))
        fed[t + stage.delay] = step(sums[t])
    return sums, fed[stage.delay :]


def _stage(
    stage: WeightStage | PoolStage | FlattenStage | NeuronStage,
    x: Integers,
    shape: Shape,
    values: ValueSpan,
) -> Integers:
    """Return the outputs (T, N, *) of a stage."""
    steps, count = x.shape[:2]
    match stage:
        case WeightStage():
            rows = x.reshape(steps * count, *shape)
            sums = accumulated(stage, rows, values)
            out = requantized(stage, sums)
            return np.reshape(out, (steps, count, *out.shape[1:]))
        case PoolStage(kind, size):
            channels, height, width = stage.output_shape(shape)
            kept = x[..., : height * size, : width * size]
            windows = kept.reshape(steps, count, channels, height, size, width, size)
            pooled = windows.sum((4, 6)) if kind == "sum" else windows.max((4, 6))
            return np.asarray(pooled)
        case FlattenStage():
            return x.reshape(steps, count, size_of(shape))
        case NeuronStage():
            return _neurons(stage, x)


def accumulated(stage: WeightStage, x: Integers, values: ValueSpan) -> Integers:
    """Return the accumulators (N, outputs, *) for inputs (N, *)."""
    rows = stage.weight.reshape(stage.channels, -1)
    if stage.kind == "conv":
        pad, (height, width) = stage.padding, stage.weight.shape[2:]
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
        windows = windows[:, :, :: stage.stride, :: stage.stride]
        count, _, down, across = windows.shape[:4]
        x = windows.transpose(0, 2, 3, 1, 4, 5).reshape(count * down * across, -1)
    kind = np.float64 if stage.bound(values) < EXACT else np.int64
    sums = (x.astype(kind) @ rows.T.astype(kind)).astype(np.int64) + stage.bias.astype(np.int64)
    if stage.kind == "conv":
        sums = sums.reshape(count, down, across, -1).transpose(0, 3, 1, 2)
    return np.asarray(sums)


def requantized(stage: WeightStage, sums: Integers) -> Integers:
    """Return accumulators (N, outputs, *) in the format of the output: rounded once, saturated."""
    axes = (-1, *(1,) * (sums.ndim - 2))
    shift = stage.shift.astype(np.int64).reshape(axes)
    right, left = np.maximum(shift, 0), np.maximum(-shift, 0)
    scaled = sums * stage.multiplier.astype(np.int64).reshape(axes)
    half = (np.int64(1) << right) >> np.int64(1)
    out = ((scaled + half) >> right) << left
    return np.asarray(np.clip(out, stage.output.low, stage.output.high))


def added(
    stage: AddStage, x: Integers, other: Integers, values: ValueSpan, others: ValueSpan
) -> Integers:
    """Return sums in the format of the output: rounded once, saturated."""
    left, right = stage.places(values, others)
    sums = (x << left) + (other << right)
    if stage.output is None:
        return np.asarray(sums)
    places = values.frac + left - stage.output.frac
    rounded = (sums + ((1 << places) >> 1)) >> places
    return np.asarray(np.clip(rounded, stage.output.low, stage.output.high))


def _neurons(stage: NeuronStage, x: Integers) -> Integers:
    """Return the outputs of neurons over a sequence (T, N, *), each sample from `initial`."""
    step = _NeuronSteps(stage, x.shape[1:])
    return np.stack([step(x[t]) for t in range(len(x))])


class _NeuronSteps:
    """The steps of neurons, with samples and neurons in the given shape (N, *)."""

    def __init__(self, stage: NeuronStage, shape: Shape) -> None:
        self._stage = stage

        def spread(integers: Integers) -> Integers:
            each = np.repeat(integers, size_of(shape[1:]) // len(integers))
            return np.tile(each.astype(np.int64), shape[0]).reshape(shape)

        self._coefficients = {name: spread(integers) for name, integers in stage.coefficients}
        self._states = {name: spread(integers) for name, integers in stage.initial}

    def __call__(self, x: Integers) -> Integers:
        """Return the outputs of the next step, with inputs (N, *)."""
        stage = self._stage
        given = {**self._coefficients, **self._states, stage.input.name: x}
        found = run(stage.program.kernel, given)
        new = {name: np.broadcast_to(found[f"{name}_next"], x.shape) for name in self._states}
        self._states = new
        return np.broadcast_to(np.asarray(found[stage.output.name], np.int64), x.shape)
