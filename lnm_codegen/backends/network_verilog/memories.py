"""Memories of a synapse as lines for `$readmemh`: weights, biases, scales."""

from __future__ import annotations

from lnm_codegen.backends.network_verilog.layers import Layer
from lnm_codegen.backends.verilog.expr import hex_text


def memory_files(layer: Layer, prefix: str, family: str) -> dict[str, str]:
    """Return file -> text of the memories of a layer, in rtl/."""
    files = {"weights": weight_words(layer), "biases": bias_words(layer)}
    widths = {"weights": layer.lanes * layer.stage.bits, "biases": layer.lanes * layer.accumulator}
    if scale_bits(layer):
        files["scales"], widths["scales"] = scale_words(layer), scale_bits(layer)
    return {f"rtl/{prefix}_{w}.hex": hex_text(family, n, widths[w]) for w, n in files.items()}


def weight_words(layer: Layer) -> list[int]:
    """Return the rows of weights: the rows of input 0 first; lane 0 has the lowest bits."""
    columns = layer.stage.weight.T.tolist()
    return [w for column in columns for w in _rows(layer, column, layer.stage.bits)]


def bias_words(layer: Layer) -> list[int]:
    """Return the rows of biases."""
    return _rows(layer, layer.stage.bias.tolist(), layer.accumulator)


def scale_words(layer: Layer) -> list[int]:
    """Return the multiplier and the shift to the left of each sum, the multiplier left."""
    low = amount_bits(layer)
    least = min(layer.amounts)
    pairs = zip(layer.factors, layer.amounts, strict=True)
    return [
        (factor << low if layer.multiplies else 0) | (amount - least) for factor, amount in pairs
    ]


def amount_bits(layer: Layer) -> int:
    """Return the width of a shift to the left; 0 if all are equal."""
    return (max(layer.amounts) - min(layer.amounts)).bit_length()


def factor_bits(layer: Layer) -> int:
    """Return the width of a multiplier, without a sign; 0 if all are 1."""
    return max(layer.factors).bit_length() if layer.multiplies else 0


def scale_bits(layer: Layer) -> int:
    """Return the width of a word of scales; 0 if the layer has no such memory."""
    return amount_bits(layer) + factor_bits(layer)


def _rows(layer: Layer, numbers: list[int], width: int) -> list[int]:
    """Return numbers in rows of `lanes`, with zeros at the end."""
    size, mask = layer.rows * layer.lanes, (1 << width) - 1
    filled = [*numbers, *[0] * (size - len(numbers))]
    return [
        sum((filled[first + p] & mask) << (p * width) for p in range(layer.lanes))
        for first in range(0, size, layer.lanes)
    ]
