"""Modules and memories of the layers of a network: events, feedback, synapses, poolings."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lnm_codegen.backends.network_verilog.layers import (
    Addition,
    Axis,
    Layer,
    Pooling,
    bits_for,
)
from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.array import LEAST_ROWS, ram_attributes
from lnm_codegen.backends.verilog.expr import hex_text
from lnm_codegen.ir.network.nodes import WeightStage, width_of


@dataclass(frozen=True, slots=True)
class LayerMemory:
    """A memory of trained numbers.

    Attributes:
        word: Its name in its module: weights, biases, scales or coefficients.
        rows: Its rows, as unsigned integers.
        width: Bits of a row.
    """

    word: str
    rows: list[int] = field(repr=False)
    width: int


def layer_memories(layer: Layer, stage: WeightStage | None = None) -> tuple[LayerMemory, ...]:
    """Return the memories of a layer.

    The rows of weights of input 0 come first, and lane 0 has the lowest bits. A convolution has,
    for each input channel and group of outputs, a row for each place of the flipped kernel. A word
    of scales is the multiplier of a sum, then its shift to the left beyond the least one.

    Args:
        layer: The layer.
        stage: Other numbers for the same circuit; by default those of the layer.
    """
    stage, bits = stage or layer.stage, layer.bias_bits
    factors = stage.multipliers if layer.multiplies else [0] * layer.channels
    least, low = layer.least_amount, layer.amount_bits
    amounts = [layer.right - shift - least for shift in stage.shifts]
    scales = [k << low | a for k, a in zip(factors, amounts, strict=True)]
    biases = [int(b) & ((1 << bits) - 1) for b in stage.bias]
    return (
        LayerMemory("weights", _weight_rows(layer, stage), layer.lanes * stage.bits),
        LayerMemory("biases", biases, bits),
        *([LayerMemory("scales", scales, layer.scale_bits)] if layer.scale_bits else []),
    )


def memory_files(layer: Layer) -> dict[str, str]:
    """Return file -> text of the memories of a layer, in rtl/."""
    return {
        f"rtl/{name}": hex_text(layer.network, memory.rows, memory.width)
        for name, memory in zip(layer.memories, layer_memories(layer), strict=True)
    }


def _weight_rows(layer: Layer, stage: WeightStage) -> list[int]:
    """Return the rows of weights as unsigned integers."""
    weight, bits = stage.weight, stage.bits
    rows = layer.groups if layer.is_conv else layer.rows
    filled = np.zeros((rows * layer.lanes, *weight.shape[1:]), np.int64)
    filled[: layer.channels] = weight
    split = filled.reshape(rows, layer.lanes, weight.shape[1], -1)  # group, lane, input, place
    ordered = split[..., ::-1].transpose(2, 0, 3, 1).reshape(-1, layer.lanes)
    mask = (1 << bits) - 1
    return [sum((w & mask) << (p * bits) for p, w in enumerate(row)) for row in ordered.tolist()]


# Modules: events of the inputs of a layer, its feedback, the synapse that adds weights, a pooling.


MOST_WORDS = 1 << 10
"""Most events that wait between two layers."""


def waiting_words(layer: Layer) -> int:
    """Return the words of the memory of events: those of a time step, up to `MOST_WORDS`."""
    return min(1 << max(layer.inputs.bit_length(), 2), MOST_WORDS)


def events_module(layer: Layer) -> str:
    """Return the module `<prefix>_events`."""
    view = events_view(layer) | {
        "attributes": ram_attributes(waiting_words(layer)),
        "value_note": "spikes" if layer.is_spike else f"numbers of {layer.value_bits} bits",
    }
    return render("network_verilog/events.v.j2", view)


def events_view(layer: Layer) -> dict[str, object]:
    """Return what both the module of the events and its proof are rendered from."""
    size, conv = waiting_words(layer), windows_of(layer)
    width = 1 + layer.address_bits + layer.value_bits
    place = "y, x, " if conv else ""
    stride = layer.groups * layer.kernel if conv else layer.rows
    taken, bits, inputs = layer.taken, layer.address_bits, layer.inputs // layer.taken
    block = (layer.shape[0] if conv else inputs * taken) // taken * stride
    last, address, value = "last", "address", "s_value"
    if taken > 1:
        last, address, value = "last && !more", "address + offset", "number"
    return {
        "family": layer.network,
        "top": layer.events,
        "layer": layer,
        "conv": conv,
        "size": size,
        "words": inputs,
        "offsets": [f"{bits}'d{k * block}" for k in range(taken)],
        "place_bits": bits_for(inputs),
        "rows": stride if block > stride else 0,
        "width": width + (conv.y_bits + conv.x_bits if conv else 0),
        "pointer": bits_for(size),
        "pushed": f"{{{last}, {address}, {place}{value}}}",
    }


def feedback_module(layer: Layer) -> str:
    """Return the module `<prefix>_feedback`."""
    bits, extra = layer.value_bits, layer.value_bits - layer.own_bits
    own = f"{{{{{extra}{{s_value[{layer.own_bits - 1}]}}}}, s_value}}" if extra else "s_value"
    view = feedback_view(layer) | {
        "place_bits": bits_for(layer.inputs),
        "step_bits": bits_for(layer.steps),
        "own_value": own,
        "spike_value": "fed" if bits == 1 else f"(fed ? {bits}'d{layer.spike} : {bits}'d0)",
    }
    return render("network_verilog/feedback.v.j2", view)


def feedback_view(layer: Layer) -> dict[str, object]:
    """Return what both the module of the feedback and its proof are rendered from."""
    size = layer.stage.delay * layer.outputs
    return {
        "family": layer.network,
        "top": f"{layer.prefix}_feedback",
        "layer": layer,
        "size": size,
        "wait_bits": bits_for(layer.stage.delay + 1),
        "at_bits": bits_for(size),
        "number_bits": bits_for(layer.outputs),
    }


def synapse_module(layer: Layer) -> str:
    """Return the module `<prefix>_synapse`."""
    in_block = layer.depth >= LEAST_ROWS and not layer.loadable
    view = {
        "family": layer.network,
        "top": f"{layer.prefix}_synapse",
        "layer": layer,
        "scaled_note": scaled_note(layer),
        "rom": '(* rom_style = "block" *) ' if in_block else "",
        "attributes": "" if layer.in_registers else ram_attributes(layer.rows),
        "copied": 3 if layer.in_registers else 2,
        "value_range": "" if layer.is_spike else f"signed [{layer.value_bits - 1}:0] ",
        "row_bits": bits_for(layer.rows),
        "lane_bits": bits_for(layer.lanes),
        "number_bits": bits_for(layer.channels),
        "step_bits": bits_for(layer.steps),
        "addend": "weight" if layer.is_spike else "weight * value_2",
        "extended": _extended("addend", layer.addend_bits, layer.accumulator),
        "bias": _extended("bias_2", layer.bias_bits, layer.accumulator),
        "load_bits": load_bits(layer),
        **_leaving(layer),
        "conv": windows_of(layer),
    }
    return render("network_verilog/synapse.v.j2", view)


def load_bits(layer: Layer) -> tuple[int, int, int]:
    """Return the widths of the load port of a synapse: memories, address, row."""
    widths = layer.lanes * layer.stage.bits, layer.bias_bits, layer.scale_bits
    return len(widths), bits_for(max(layer.depth, layer.channels)), max(widths)


def scaled_note(layer: Layer) -> str:
    """Return the output of a sum, as a comment; without a right shift nothing is rounded."""
    exact = "multiplier[o] * sum[o]" if layer.multiplies else "sum[o]"
    low, high = layer.shift_span
    if low == high == 0:
        return f"saturate({exact})"
    if high <= 0:
        ends = f", k from {-high} to {-low}" if low < high else ""
        return f"saturate({exact} * 2^{'k[o]' if ends else -low}){ends}"
    ends = f", shift from {low} to {high}" if low < high else ""
    return f"saturate(half_up({exact} / 2^{'shift[o]' if ends else high})){ends}"


def _leaving(layer: Layer) -> dict[str, object]:
    """Return the expressions by which a sum is scaled, rounded and saturated."""
    acc, product, wide = layer.accumulator, layer.product_bits, layer.shifted_bits
    low = layer.amount_bits
    factor = f"$signed({{1'b0, scale_3[{layer.scale_bits - 1}:{low}]}})"
    least = layer.least_amount
    shifted = _extended("product_4", product, wide)
    shifted = f"{shifted} << {least}" if least else shifted
    lines, saturated = _rounded("shifted_5", wide, layer.right, layer.stage.output.width)
    return {
        "selected": f"held_1[lane_1 * {acc} +: {acc}]" if layer.lanes > 1 else "held_1",
        "product": f"sum_3 * {factor}" if layer.factor_bits else "sum_3",
        "shifted": f"({shifted}) << amount_4" if low else shifted,
        "rounding": lines,
        "saturated": saturated,
    }


def _rounded(name: str, wide: int, right: int, bits: int) -> tuple[list[str], str]:
    """Return lines and the expression of a number of `wide` bits / 2**right in `bits` bits.

    It is rounded half up and saturated.
    """
    lines, width = list[str](), wide
    if right:
        half = f"{wide + 1}'d{1 << (right - 1)}"
        lines.append(f"wire [{wide}:0] rounded = {{{name}[{wide - 1}], {name}}} + {half};")
        lines.append(f"wire unused = &{{1'b0, rounded[{right - 1}:0]}};")
        name, width = "result", wide + 1 - right
        lines.append(f"wire [{width - 1}:0] result = rounded[{wide}:{right}];")
    if width <= bits:
        return lines, _extended(name, width, bits)
    top, sign = f"{name}[{width - 1}:{bits - 1}]", f"{name}[{width - 1}]"
    lines.append(f"wire fits = &{top} || !(|{top});")
    return lines, f"fits ? {name}[{bits - 1}:0] : {{{sign}, {{{bits - 1}{{!{sign}}}}}}}"


def _extended(name: str, width: int, wide: int) -> str:
    """Return a signed number in more bits."""
    if wide <= width:
        return name
    return f"{{{{{wide - width}{{{name}[{width - 1}]}}}}, {name}}}"


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of a convolution as its synapse counts them: widths, tables, steps of counters.

    A word of a table tells for a place of the input whether it is in a window, how many more
    windows it is in, its place in the flipped kernel in the first of them, and that window's row.
    """

    kernel_size: str
    y_bits: int
    x_bits: int
    down_bits: int
    across_bits: int
    group_bits: int
    position_bits: int
    down_width: int
    across_width: int
    down_words: list[str]
    across_words: list[str]
    down_firsts: list[int]
    across_firsts: list[int]
    wide: int
    stride: int
    kernel_y: int
    kernel_x: int
    lines: int
    columns: int
    step: str
    line_step: str
    group_step: str
    line_row_step: str
    group_row_step: str


def windows_of(layer: Layer) -> Windows | None:
    """Return the windows of a convolution; None of a linear layer."""
    if not layer.is_conv:
        return None
    bits, row_bits = layer.address_bits, bits_for(layer.rows)
    down, across = axes = layer.axes
    down_bits, across_bits = bits_for(down.most), bits_for(across.most)

    def words(axis: Axis, more_bits: int, place_step: int, row_step: int) -> list[str]:
        found = []
        for place in range(axis.inputs):
            windows = axis.reached(place)
            more, is_inside = max(len(windows) - 1, 0), len(windows) > 0
            first = axis.flipped(place) * place_step * is_inside
            row = windows.start * row_step * is_inside
            numbers = ((is_inside, 1), (more, more_bits), (first, bits), (row, row_bits))
            found.append("{" + ", ".join(f"{width}'d{n:d}" for n, width in numbers) + "}")
        return found

    def step(count: int, width: int) -> str:
        """Return a constant of a counter, which may be as large as its modulus where unused."""
        return f"{width}'d{count % (1 << width)}"

    return Windows(
        kernel_size=f"{down.kernel} x {across.kernel}",
        y_bits=bits_for(down.inputs),
        x_bits=bits_for(across.inputs),
        down_bits=down_bits,
        across_bits=across_bits,
        group_bits=bits_for(layer.groups),
        position_bits=bits_for(layer.positions),
        down_width=1 + down_bits + bits + row_bits,
        across_width=1 + across_bits + bits + row_bits,
        down_words=words(down, down_bits, across.kernel, across.outputs),
        across_words=words(across, across_bits, 1, 1),
        down_firsts=[down.reached(place).start for place in range(down.inputs)],
        across_firsts=[across.reached(place).start for place in range(across.inputs)],
        wide=max(bits, row_bits, *(bits_for(axis.inputs + 2 * axis.padding) for axis in axes)) + 2,
        stride=down.stride,
        kernel_y=down.kernel,
        kernel_x=across.kernel,
        lines=down.outputs,
        columns=across.outputs,
        step=step(across.stride, bits),
        line_step=step(down.stride * across.kernel, bits),
        group_step=step(layer.kernel, bits),
        line_row_step=step(across.outputs, row_bits),
        group_row_step=step(layer.positions, row_bits),
    )


@dataclass(frozen=True, slots=True)
class PoolWords:
    """Widths, constants and expressions of a pooling."""

    size: int
    word: str
    in_range: str
    out_range: str
    inside_bits: int
    across: int
    down: int
    across_bits: int
    down_bits: int
    channel_bits: int
    step_bits: int
    ends_line: str
    ends_channel: str
    column_slice: str
    value: str
    joined: str
    joined_watched: str


def pool_module(pool: Pooling) -> str:
    """Return the module of a pooling."""
    return render("network_verilog/pool.v.j2", pool_view(pool))


def pool_view(pool: Pooling) -> dict[str, object]:
    """Return what both the module of a pooling and its proof are rendered from."""
    size, (_, height, width) = pool.stage.size, pool.shape
    down, across = height // size, width // size
    across_bits, down_bits, inside_bits = bits_for(across + 1), bits_for(down + 1), bits_for(size)
    window_bits = bits_for(across)
    value = _extended("s_value", pool.own_bits, pool.out_bits)
    if pool.is_spike and not pool.gives_spikes:
        value = f"{{{pool.out_bits - 1}'d0, s_value}}"

    def at(word: str, counter: str, bits: int, place: int) -> str:
        whole, inside = divmod(place, size)
        return f"{word} == {bits}'d{whole} && {counter} == {inside_bits}'d{inside}"

    def joined(so_far: str) -> str:
        if pool.stage.kind == "sum":
            return f"{so_far} + value"
        if pool.gives_spikes:
            return f"{so_far} | value"
        return f"({so_far} > value ? {so_far} : value)"

    words = PoolWords(
        size=size,
        word={"sum": "Sums", "max": "Maxima"}[pool.stage.kind],
        in_range="" if pool.is_spike else f"signed [{pool.own_bits - 1}:0] ",
        out_range="" if pool.gives_spikes else f"signed [{pool.out_bits - 1}:0] ",
        inside_bits=inside_bits,
        across=across,
        down=down,
        across_bits=across_bits,
        down_bits=down_bits,
        channel_bits=bits_for(pool.shape[0]),
        step_bits=bits_for(pool.steps),
        ends_line=at("column", "x", across_bits, width - 1),
        ends_channel=at("line", "y", down_bits, height - 1),
        column_slice=f"[{window_bits - 1}:0]" if window_bits < across_bits else "",
        value=value,
        joined=joined("so_far"),
        joined_watched=joined("so_far_watched"),
    )
    return {"family": pool.network, "top": pool.prefix, "pool": pool, "words": words}


@dataclass(frozen=True, slots=True)
class AddWords:
    """Widths and expressions of an addition."""

    note: str
    size: int
    pointer: int
    attributes: str
    own_range: str
    other_range: str
    wide: int
    own: str
    other: str
    exact: str
    rounding: list[str]
    saturated: str
    place_bits: int
    step_bits: int
    reference: str
    rounded_reference: str
    clamped_reference: str


def add_module(part: Addition) -> str:
    """Return the module of an addition."""
    return render("network_verilog/add.v.j2", add_view(part))


def add_view(part: Addition) -> dict[str, object]:
    """Return what both the module of an addition and its proof are rendered from."""
    stage, places = part.stage, part.stage.places(*part.values)
    exact = stage.exact(*part.values)
    right = 0 if stage.output is None else exact.frac - stage.output.frac
    widths, are_spikes = (part.own_bits, part.other_bits), part.are_spikes
    wide = max(width_of(stage.held(*part.values)), part.out_bits, right + 1)
    wide = max(wide, *(w + p + s for w, p, s in zip(widths, places, are_spikes, strict=True)))

    def addend(name: str, width: int, is_spike: bool) -> str:
        return f"{{{wide - 1}'d0, {name}}}" if is_spike else _extended(name, width, wide)

    def shifted(name: str, left: int) -> str:
        return f"({name} <<< {left})" if left else name

    own, other = (
        addend(*each) for each in zip(("s_value", "word"), widths, are_spikes, strict=True)
    )
    lines, saturated = _rounded("exact", wide, right, part.out_bits)
    signed = [
        f"$signed({{1'b0, {name}}})" if is_spike else f"$signed({name})"
        for name, is_spike in zip(("s_value", "word"), are_spikes, strict=True)
    ]
    low, high = -(1 << (part.out_bits - 1)), (1 << (part.out_bits - 1)) - 1
    words = AddWords(
        note=_sum_note(part),
        size=part.words,
        pointer=bits_for(part.words),
        attributes=ram_attributes(part.words),
        own_range="" if are_spikes[0] else f"signed [{part.own_bits - 1}:0] ",
        other_range="" if are_spikes[1] else f"signed [{part.other_bits - 1}:0] ",
        wide=wide,
        own=own,
        other=other,
        exact=" + ".join(map(shifted, ("own", "other"), places)),
        rounding=lines,
        saturated=saturated,
        place_bits=bits_for(part.outputs),
        step_bits=bits_for(part.steps),
        reference=" + ".join(
            f"{name} * 64'sd{1 << left}" for name, left in zip(signed, places, strict=True)
        ),
        rounded_reference=f"(sum + 64'sd{(1 << right) >> 1}) >>> {right}",
        clamped_reference=f"rounded_sum > {high} ? {high} : rounded_sum < {low} ? {low}"
        " : rounded_sum",
    )
    return {"family": part.network, "top": part.prefix, "part": part, "words": words}


def _sum_note(part: Addition) -> str:
    """Return the output of an addition, as a comment."""
    left, right = part.stage.places(*part.values)
    own, other = (f"{n} * 2^{p}" if p else n for n, p in (("s", left), ("other", right)))
    if part.stage.output is None:
        return f"{own} + {other}"
    places = part.stage.exact(*part.values).frac - part.stage.output.frac
    total = f"({own} + {other}) / 2^{places}" if places else f"{own} + {other}"
    return f"saturate({f'half_up({total})' if places else total})"
