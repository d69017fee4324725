"""Proofs: no event is lost or invented between layers, and no accumulator overflows."""

from __future__ import annotations

from lnm_codegen.backends.network_verilog.layers import Layer, bits_for
from lnm_codegen.backends.network_verilog.memories import memory_files
from lnm_codegen.backends.network_verilog.synapse import waiting_words
from lnm_codegen.backends.render import render


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
