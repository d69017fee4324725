"""Modules of a layer: events of its inputs, and the synapse that adds weights."""

from __future__ import annotations

from lnm_codegen.backends.network_verilog.layers import Layer, bits_for
from lnm_codegen.backends.network_verilog.memories import amount_bits, factor_bits, scale_bits
from lnm_codegen.backends.render import render

MOST_WORDS = 1 << 10
"""Most events that wait between two layers."""
LEAST_ROWS = 64
"""Least rows of weights that are worth a block RAM."""


def waiting_words(layer: Layer) -> int:
    """Return the words of the memory of events: those of a time step, up to `MOST_WORDS`."""
    return min(1 << max(layer.inputs.bit_length(), 2), MOST_WORDS)


def events_module(layer: Layer, family: str, prefix: str) -> str:
    """Return the module `<prefix>_events`."""
    size = waiting_words(layer)
    view = {
        "family": family,
        "top": f"{prefix}_events",
        "inputs": layer.inputs,
        "value_note": "spikes" if layer.is_spike else f"numbers of {layer.value_bits} bits",
        "size": size,
        "value_bits": layer.value_bits,
        "address_bits": layer.address_bits,
        "place_bits": bits_for(layer.inputs),
        "stride": f"{layer.address_bits}'d{layer.rows if layer.inputs > 1 else 0}",
        "width": 1 + layer.address_bits + layer.value_bits,
        "pointer": bits_for(size),
    }
    return render("network_verilog/events.v.j2", view)


def synapse_module(layer: Layer, family: str, prefix: str) -> str:
    """Return the module `<prefix>_synapse`."""
    stage, acc = layer.stage, layer.accumulator
    view = {
        "family": family,
        "top": f"{prefix}_synapse",
        "prefix": prefix,
        "layer": stage.name,
        "inputs": layer.inputs,
        "outputs": layer.outputs,
        "bits": stage.bits,
        "acc": acc,
        "bound": layer.bound,
        "scaled_note": scaled_note(layer),
        "output_format": stage.output,
        "output_bits": stage.output.width,
        "rows": layer.rows,
        "lanes": layer.lanes,
        "depth": layer.depth,
        "steps": layer.steps,
        "constant": layer.constant,
        "loadable": layer.loadable,
        "rom": '(* rom_style = "block" *) ' if _in_block(layer) else "",
        "is_spike": layer.is_spike,
        "value_bits": layer.value_bits,
        "value_range": "" if layer.is_spike else f"signed [{layer.value_bits - 1}:0] ",
        "address_bits": layer.address_bits,
        "row_bits": bits_for(layer.rows),
        "lane_bits": bits_for(layer.lanes),
        "number_bits": bits_for(layer.outputs),
        "step_bits": bits_for(layer.steps),
        "addend_bits": layer.addend_bits,
        "addend": "weight" if layer.is_spike else "weight * value_2",
        "extended": _extended("addend", layer.addend_bits, acc),
        "scale_bits": scale_bits(layer),
        "amount_bits": amount_bits(layer),
        "product_bits": layer.product_bits,
        "shifted_bits": layer.shifted_bits,
        **_leaving(layer),
    }
    return render("network_verilog/synapse.v.j2", view)


def _in_block(layer: Layer) -> bool:
    return layer.depth >= LEAST_ROWS and not layer.loadable


def scaled_note(layer: Layer) -> str:
    """Return the output of a sum, as a comment; without a right shift nothing is rounded."""
    exact = "multiplier[o] * sum[o]" if layer.multiplies else "sum[o]"
    shifts = [layer.stage.shift_of(k) for k in range(layer.outputs)]
    low, high = min(shifts), max(shifts)
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
    low = amount_bits(layer)
    factor = f"$signed({{1'b0, scale_3[{scale_bits(layer) - 1}:{low}]}})"
    least = min(layer.amounts)
    shifted = _extended("product_4", product, wide)
    shifted = f"{shifted} << {least}" if least else shifted
    lines, name, width = [], "shifted_5", wide
    if layer.right:
        half = f"{wide + 1}'d{1 << (layer.right - 1)}"
        lines.append(f"wire [{wide}:0] rounded = {{shifted_5[{wide - 1}], shifted_5}} + {half};")
        lines.append(f"wire unused = &{{1'b0, rounded[{layer.right - 1}:0]}};")
        name, width = "result", wide + 1 - layer.right
        lines.append(f"wire [{width - 1}:0] result = rounded[{wide}:{layer.right}];")
    bits = layer.stage.output.width
    saturated = _extended(name, width, bits)
    if width > bits:
        top = f"{name}[{width - 1}:{bits - 1}]"
        lines.append(f"wire fits = &{top} || !(|{top});")
        sign = f"{name}[{width - 1}]"
        saturated = f"fits ? {name}[{bits - 1}:0] : {{{sign}, {{{bits - 1}{{!{sign}}}}}}}"
    return {
        "selected": f"sums_2[lane_2 * {acc} +: {acc}]" if layer.lanes > 1 else "sums_2",
        "product": f"sum_3 * {factor}" if factor_bits(layer) else "sum_3",
        "shifted": f"({shifted}) << amount_4" if low else shifted,
        "rounding": lines,
        "saturated": saturated,
    }


def _extended(name: str, width: int, wide: int) -> str:
    """Return a signed number in more bits."""
    if wide <= width:
        return name
    return f"{{{{{wide - width}{{{name}[{width - 1}]}}}}, {name}}}"
