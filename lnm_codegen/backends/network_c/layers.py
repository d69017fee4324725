"""Functions of the generated C: one for each stage of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lnm_codegen.backends.network_c.tables import CArray, constants, integer_type, memory
from lnm_codegen.backends.render import render
from lnm_codegen.ir.network.nodes import (
    PoolStage,
    Shape,
    ValueSpan,
    WeightStage,
    size_of,
)

Accumulation = Literal["events", "dense"]
ACCUMULATIONS: tuple[Accumulation, ...] = ("events", "dense")


@dataclass(frozen=True, slots=True)
class StageCode:
    """A stage in C: a function (a, y), its constants and its memory.

    Attributes:
        text: The function `stage_<k>`.
        constants: Constant arrays.
        memory: Arrays in memory, without the output.
        output: The output, an array of its own.
        sums: Numbers of 32 and of 64 bits in the shared accumulators.
    """

    text: str
    constants: tuple[CArray, ...]
    memory: tuple[CArray, ...]
    output: CArray
    sums: tuple[int, int] = (0, 0)


def weight_code(
    k: int, stage: WeightStage, shape: Shape, values: ValueSpan, accumulation: Accumulation
) -> StageCode:
    """Return the code of a linear layer or a convolution.

    "events" adds the weights of every input that is not zero: the work is in proportion to the
    spikes. "dense" multiplies every input.
    """
    out, outputs = stage.output_shape(shape), stage.channels
    size = 32 if stage.accumulator <= 32 else 64
    events = accumulation == "events"
    order = (1, 2, 3, 0) if stage.kind == "conv" else (1, 0)
    weight = stage.weight.transpose(order) if events else stage.weight
    tables = [
        constants(f"weight_{k}", weight, f"{stage.bits} bits"),
        constants(f"bias_{k}", stage.bias),
    ]
    lines, more = _requantized(k, stage, values, size)
    tables += more
    note = f"{stage.name}: {_text(shape)} to {_text(out)}, {stage.output}"
    view: dict[str, object] = dict(
        k=k,
        note=note,
        input_type=integer_type((values.low, values.high)),
        output_type=integer_type((stage.output.low, stage.output.high)),
        weight_type=tables[0].type,
        sum_type=f"int{size}_t",
        outputs=outputs,
        lines=lines,
    )
    factor = "" if values.are_spikes else " * value"
    if size == 64:
        factor = factor and " * (int64_t)value"
    view |= {"factor": factor, "sums": f"sums_{size}"} if events else {}
    if stage.kind == "linear":
        view |= {"inputs": shape[0]}
    else:
        view |= _convolution_view(stage, shape, out)
        if events:
            down = _taps(stage, shape[1], out[1], stage.weight.shape[2])
            across = _taps(stage, shape[2], out[2], stage.weight.shape[3])
            names = ("down_first", "down_last", "across_first", "across_last")
            pairs = zip(names, (*down, *across), strict=True)
            tables += [constants(f"{name}_{k}", array) for name, array in pairs]
    text = render(f"network_c/{stage.kind}_{accumulation}.c.j2", view)
    count = size_of(out) if events else 0
    output = memory(f"y_{k}", (stage.output.low, stage.output.high), size_of(out), stage.name)
    sums = (count, 0) if size == 32 else (0, count)
    return StageCode(text, tuple(tables), (), output, sums)


def _convolution_view(stage: WeightStage, shape: Shape, out: Shape) -> dict[str, object]:
    return dict(
        channels=shape[0],
        height=shape[1],
        width=shape[2],
        out_height=out[1],
        out_width=out[2],
        kernel_height=stage.weight.shape[2],
        kernel_width=stage.weight.shape[3],
        stride=stage.stride,
        padding=stage.padding,
    )


def _taps(stage: WeightStage, size: int, out: int, kernel: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last output row that each input row reaches; last < first: none."""
    row = np.arange(size) + stage.padding
    first = np.maximum(-((kernel - 1 - row) // stage.stride), 0)
    return first, np.minimum(row // stage.stride, out - 1)


def _requantized(
    k: int, stage: WeightStage, values: ValueSpan, size: int
) -> tuple[tuple[str, ...], list[CArray]]:
    """Return the lines that turn `sum` of output o into `out`, and their constant arrays."""
    channels = range(stage.channels)
    spans = [stage.scaled_span(values, c) for c in channels]
    shifts = [stage.shift_of(c) for c in channels]
    pairs = list(zip(spans, shifts, strict=True))
    low = min(_shifted(span[0], s) for span, s in pairs)
    high = max(_shifted(span[1], s) for span, s in pairs)
    most = max(max(-a, b) + ((1 << s) >> 1 if s > 0 else 0) for (a, b), s in pairs)
    factor = 1 << max(0, -min(shifts))  # printed also where every sum is 0
    wide = 64 if max(most, -low, high, factor) >= 1 << 31 else size
    kind, tables, lines = f"int{wide}_t", [], []
    value = "sum" if wide == size else f"({kind})sum"
    factors = {stage.multiplier_of(c) for c in channels}
    if factors != {1}:
        one = len(factors) == 1
        if not one:
            tables.append(constants(f"multiplier_{k}", stage.multiplier))
        value = f"{value} * {factors.pop() if one else f'multiplier_{k}[o]'}"
    if len({*shifts}) == 1:
        value = _places(value, shifts[0], wide)
    else:
        tables.append(constants(f"shift_{k}", stage.shift))
        lines += [f"const {kind} scaled = {value};", f"const int places = shift_{k}[o];"]
        right = f"fixed_half_up_{wide}(scaled, places)" if max(shifts) > 0 else ""
        left = f"scaled * (({kind})1 << -places)" if min(shifts) <= 0 else ""
        value = f"places > 0 ? {right} : {left}" if right and left else right or left
    if low < stage.output.low or high > stage.output.high:
        value = f"fixed_saturate_{wide}({value}, {stage.output.width})"
    output = integer_type((stage.output.low, stage.output.high))
    return (*lines, f"const {output} out = ({output})({value});"), tables


def _shifted(value: int, shift: int) -> int:
    return value << -shift if shift <= 0 else (value + (1 << (shift - 1))) >> shift


def _places(value: str, shift: int, size: int) -> str:
    if shift > 0:
        return f"fixed_half_up_{size}({value}, {shift})"
    return value if shift == 0 else f"{value} * ((int{size}_t)1 << {-shift})"


def pool_code(k: int, stage: PoolStage, shape: Shape, values: ValueSpan) -> StageCode:
    """Return the code of a pooling."""
    out, after = stage.output_shape(shape), stage.values(values)
    ends = (after.low, after.high)
    view: Mapping[str, object] = dict(
        k=k,
        note=f"{stage.kind} of {stage.size}x{stage.size}: {_text(shape)} to {_text(out)}",
        input_type=integer_type((values.low, values.high)),
        output_type=integer_type(ends),
        channels=out[0],
        height=shape[1],
        width=shape[2],
        out_height=out[1],
        out_width=out[2],
        size=stage.size,
        is_sum=stage.kind == "sum",
        low=values.low,
    )
    text = render("network_c/pool.c.j2", view)
    return StageCode(text, (), (), memory(f"y_{k}", ends, size_of(out), f"{stage.kind} of a pool"))


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))
