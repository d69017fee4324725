"""Testbench and proofs of a network, with golden vectors: inputs of samples, scores and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lnm_codegen.backends.network_verilog.layers import Layer, bits_for, memory_files, waiting_words
from lnm_codegen.backends.network_verilog.top import (
    NeuronArray,
    family_of,
    last_bits,
    load_address_bits,
    load_data_bits,
    load_layer_bits,
    most_cycles,
    padded,
    sample_size,
    score_bits,
)
from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.expr import hex_text
from lnm_codegen.ir.network.nodes import IntegerNetwork, Integers


def stream_widths(
    network: IntegerNetwork, layers: Sequence[Layer], arrays: Mapping[str, NeuronArray]
) -> tuple[int, int, int]:
    """Return the widths of s_axis_tdata, m_axis_tdata and m_axis_tuser."""
    bits = score_bits(network, last_bits(layers, arrays))
    return padded(layers[0].value_bits), padded(bits), padded(bits_for(network.classes))


def input_words(samples: Integers, width: int) -> list[int]:
    """Return samples (S, values) as words of s_axis_tdata."""
    mask = (1 << width) - 1
    return [int(k) & mask for k in samples.reshape(-1)]


def result_words(scores: Integers, width: int) -> list[int]:
    """Return scores (S, classes) as words of m_axis: tuser left, tdata right.

    tuser is the lowest class of the largest score so far.
    """
    mask = (1 << width) - 1
    words = []
    for row in scores.tolist():
        label = 0
        for k, score in enumerate(row):
            label = k if score > row[label] else label
            words.append((label << width) | (score & mask))
    return words


def testbench_files(
    network: IntegerNetwork,
    layers: Sequence[Layer],
    arrays: Mapping[str, NeuronArray],
    samples: Integers,
    scores: Integers,
) -> dict[str, str]:
    """Return the testbench and its two files of numbers."""
    name, (taken, given, label) = network.name, stream_widths(network, layers, arrays)
    family = family_of(network)
    view = {
        "family": family,
        "name": name,
        "vectors": f"{name}_inputs.hex and {name}_results.hex",
        "samples": len(samples),
        "size": sample_size(network),
        "classes": network.classes,
        "patience": 1000 + 2 * most_cycles(layers, arrays),
        "in_bits": taken,
        "out_bits": given,
        "label_bits": label,
        "loads": [
            {
                "number": k,
                "width": layer.lanes * layer.stage.bits,
                "depth": layer.depth,
                "file": f"{name}_{layer.name}_weights.hex",
            }
            for k, layer in enumerate(layers)
            if layer.loadable
        ],
        "load_layer_bits": load_layer_bits(layers),
        "load_address_bits": load_address_bits(layers),
        "load_data_bits": load_data_bits(layers),
    }
    rows = np.asarray(samples).reshape(len(samples), -1)
    return {
        f"tb/{name}_network_tb.v": render("network_verilog/tb.v.j2", view),
        f"tb/{name}_inputs.hex": hex_text(family, input_words(rows, taken), taken),
        f"tb/{name}_results.hex": hex_text(family, result_words(scores, given), given + label),
    }


# Proofs: no event is lost or invented between layers, and no accumulator overflows.


def proofs(layer: Layer, family: str, prefix: str) -> dict[str, str]:
    """Return the proofs of the events and of the synapse of a layer."""
    return _events(layer, family, f"{prefix}_events") | _synapse(layer, family, prefix)


def _events(layer: Layer, family: str, top: str) -> dict[str, str]:
    size = waiting_words(layer)
    view = {
        "family": family,
        "top": top,
        "width": 1 + layer.address_bits + layer.value_bits,
        "pointer": bits_for(size),
        "size": size,
        "place_bits": bits_for(layer.inputs),
        "inputs": layer.inputs,
        "rows": layer.rows if layer.inputs > 1 else 0,
    }
    texts = (
        f"The words of {top}: none is lost, invented or changed.",
        "every word counts as taken",
        "a word is taken after a stall",
    )
    return _files(view, "events", texts, 2, ())


def _synapse(layer: Layer, family: str, prefix: str) -> dict[str, str]:
    bits = bits_for(layer.rows)
    view = {
        "family": family,
        "top": f"{prefix}_synapse",
        "bound": layer.bound,
        "acc": layer.accumulator,
        "addend_bits": layer.addend_bits,
        "output_bits": layer.stage.output.width,
        "row_bits": bits,
        "last_row": f"{bits}'d{layer.rows - 1}",
    }
    texts = (
        f"The sums of {prefix}_synapse are exact, and no row is read before it is written.",
        "a sum is not bounded",
        "the row of an event is written",
    )
    memories = tuple(path.removeprefix("rtl/") for path in memory_files(layer, prefix, family))
    return _files(view, "synapse", texts, 8, memories)


def _files(
    view: dict[str, object],
    word: str,
    texts: tuple[str, str, str],
    depth: int,
    memories: tuple[str, ...],
) -> dict[str, str]:
    top = view["top"]
    title, control, reach = texts
    proof = {
        "family": view["family"],
        "top": top,
        "title": title,
        "control": control,
        "reach": reach,
        "depth": depth,
        "any_memory": "1'bx" if memories else "",
        "files": memories,
    }
    return {
        f"formal/{top}_properties.v": render(f"network_verilog/{word}_properties.v.j2", view),
        f"formal/{top}.sby": render("network_verilog/proof.sby.j2", proof),
    }
