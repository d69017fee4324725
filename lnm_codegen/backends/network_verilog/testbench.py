"""Testbench and proofs of a network, with golden vectors: inputs of samples, scores and labels."""

from __future__ import annotations

from lnm_codegen.backends.network_verilog.layers import (
    Addition,
    Layer,
    Part,
    Pooling,
    bits_for,
)
from lnm_codegen.backends.network_verilog.load import load_image
from lnm_codegen.backends.network_verilog.modules import (
    add_view,
    events_view,
    feedback_view,
    pool_view,
    windows_of,
)
from lnm_codegen.backends.network_verilog.top import NetworkDesign
from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.expr import hex_text
from lnm_codegen.ir.network.nodes import Integers


def input_words(samples: Integers, width: int) -> list[int]:
    """Return samples (S, values) as words of s_axis_tdata."""
    mask = (1 << width) - 1
    return [int(k) & mask for k in samples.reshape(-1)]


def result_words(scores: Integers, width: int) -> list[int]:
    """Return scores (labels, classes) as words of m_axis: tuser left, tdata right.

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


def patience_of(design: NetworkDesign) -> int:
    """Return the cycles after which a testbench ends if nothing moves."""
    return 1000 + 2 * design.most_cycles


def testbench_files(design: NetworkDesign, samples: Integers, scores: Integers) -> dict[str, str]:
    """Return the testbench and its two files of numbers.

    `samples` and `scores` are (S, values), the time steps of a sample one after another.
    """
    name, (taken, given, label) = design.name, design.stream_widths
    view = {
        "family": name,
        "name": name,
        "vectors": f"{name}_inputs.hex and {name}_results.hex",
        "samples": len(samples),
        "network": design.network,
        "patience": patience_of(design),
        "in_bits": taken,
        "out_bits": given,
        "label_bits": label,
        "loads": design.memories,
        "load": design.load_widths or None,
        "can_hold": design.can_hold,
        "writes": sum(len(m.memory.rows) for m in design.memories),
    }
    return {
        f"tb/{name}_network_tb.v": render("network_verilog/tb.v.j2", view),
        **{f"tb/{file}": text for file, text in vector_files(design, samples, scores).items()},
        **({f"tb/{name}_load.hex": load_image(design)} if design.loadable else {}),
    }


def vector_files(design: NetworkDesign, samples: Integers, scores: Integers) -> dict[str, str]:
    """Return the two files of golden vectors, for `samples` and `scores` as (S, values)."""
    name, (taken, given, label) = design.name, design.stream_widths
    by_label = scores.reshape(-1, design.network.classes)
    return {
        f"{name}_inputs.hex": hex_text(name, input_words(samples, taken), taken),
        f"{name}_results.hex": hex_text(name, result_words(by_label, given), given + label),
    }


# Proofs: no event is lost or invented between layers, and no accumulator overflows.


def proofs(part: Part) -> dict[str, str]:
    """Return the proofs of the modules of a part."""
    if isinstance(part, Pooling):
        return _pool_proof(part)
    if isinstance(part, Addition):
        return _add_proof(part)
    events = _events_proof(part) if part.slice.is_first else {}
    return events | _synapse_proof(part) | _feedback_proof(part)


def _events_proof(layer: Layer) -> dict[str, str]:
    view = events_view(layer)
    texts = (
        f"The words of {view['top']}: none is lost, invented or changed.",
        "every word counts as taken",
        "a word is taken after a stall",
    )
    return _files("events", view, texts, 2, ())


def _synapse_proof(layer: Layer) -> dict[str, str]:
    top, bits, conv = f"{layer.prefix}_synapse", bits_for(layer.rows), windows_of(layer)
    view = {
        "family": layer.network,
        "top": top,
        "layer": layer,
        "row_bits": bits,
        "last_row": f"{bits}'d{layer.rows - 1}",
    }
    view |= {"conv": conv} if conv else {"copied": 3 if layer.in_registers else 2}
    texts = (
        f"The sums of {top} are exact, and no row is read before it is written.",
        "a row begins at 1" if conv else "a sum is a difference",
        "an event waits while rows become 0" if conv else "the row of an event is written",
    )
    return _files("conv" if conv else "synapse", view, texts, 8, layer.memories)


def _feedback_proof(layer: Layer) -> dict[str, str]:
    if not layer.stage.delay:
        return {}
    view = feedback_view(layer)
    texts = (
        f"The spikes of {view['top']} return after the delay of the layer, each in its place.",
        "neurons give spikes of steps that have not come",
        "an input or a spike is taken after a stall",
    )
    return _files("feedback", view, texts, 3, ())


def _pool_proof(pool: Pooling) -> dict[str, str]:
    view = pool_view(pool)
    texts = (
        f"The outputs of {view['top']} are those of their windows, in order.",
        "no window begins",
        "an input comes after the first of a window",
    )
    return _files("pool", view, texts, 3, ())


def _add_proof(part: Addition) -> dict[str, str]:
    view = add_view(part)
    texts = (
        f"The outputs of {view['top']} are the sums of both streams, in order.",
        "every word of the memory counts as taken",
        "a number is taken after it waited",
    )
    return _files("add", view, texts, 3, ())


def _files(
    word: str,
    view: dict[str, object],
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
        "files": (
            f"{top}_properties.v",
            *(f"../rtl/{file}" for file in (f"{top}.v", *memories)),
        ),
    }
    return {
        f"formal/{top}_properties.v": render(f"network_verilog/{word}_properties.v.j2", view),
        f"formal/{top}.sby": render("verilog/formal/sby.j2:layer", proof),
    }
