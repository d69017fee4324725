"""Proofs of the streams: no result is lost or added, and a waiting result does not change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from lnm_codegen.backends.render import render_files
from lnm_codegen.backends.verilog.folder.harness import module_ports
from lnm_codegen.backends.verilog.parts import CircuitDesign, connected

_NOT_OF_ARRAY = ("mul", "ram", "next", "comb", "seq")
"""Modules that the array lacks, and the two that the proof replaces by stubs."""


class _Stream(NamedTuple):
    """Stream of a form: its handshake ports, and the registers that count what is inside."""

    form: str
    handshake: tuple[str, str, str, str]
    inside: tuple[tuple[str, int], ...]
    counting: tuple[str, ...]
    asserts: tuple[str, ...]


_SEQ = _Stream(
    "seq",
    ("in_valid", "in_ready", "out_valid", "out_ready"),
    tuple((word, 1) for word in ("_idle", "_multiplying", "_adding", "_clamping", "_pending")),
    ("valid_count = {15'd0, !_idle} + {15'd0, _pending} + {15'd0, out_valid};",),
    (
        "assert ({1'b0, _idle} + {1'b0, _multiplying} + {1'b0, _adding} + {1'b0, _clamping}"
        " == 2'd1);",
        "assert (!_pending || _idle);",
    ),
)
_AXIS = ("s_axis_tvalid", "s_axis_tready", "m_axis_tvalid", "m_axis_tready")


def stream_proof(
    design: CircuitDesign, form: str, files: Mapping[str, str], latency: int
) -> dict[str, str]:
    """Return the proof of the stream of a form, "seq" or "array".

    Args:
        design: The neuron.
        form: Form of the circuit.
        files: The circuit, path -> text.
        latency: Latency of the form.
    """
    stream = _SEQ if form == "seq" else _array(design, files)
    top = f"{design.name}_{form}"
    templates = {
        f"formal/{design.name}_stubs.v": "verilog/formal/stubs.v.j2",
        f"formal/{top}_check.v": "verilog/formal/stream_check.v.j2",
        f"formal/{top}.sby": "verilog/formal/stream.sby.j2",
    }
    return render_files(templates, _view(design, stream, files, latency))


def _array(design: CircuitDesign, files: Mapping[str, str]) -> _Stream:
    """Return the array's stream: each neuron inside has a bit in a register of valid bits."""
    name, neurons = design.name, design.rtl.neurons
    inside = []
    for register, word in (("_valid", "array"), ("_core._valid", "core")):
        width = _register_width("_valid", files[f"rtl/{name}_{word}.v"])
        assert width is not None, f"{name}_{word} has no valid bits"
        inside.append((register, width))
    counting = tuple(
        f"for (k = 0; k < {width}; k = k + 1) valid_count = valid_count + {_flat(register)}[k];"
        if width > 1
        else f"valid_count = valid_count + {_flat(register)};"
        for register, width in inside
    )
    asserts = [f"assert (!input_transfer || inside_count < {neurons});"]
    waits = _register_width("_in_flight", files[f"rtl/{name}_array.v"])
    if waits is not None:
        inside.append(("_in_flight", waits))
        asserts.append("assert (inside_count == _in_flight);")
        asserts.append(f"assert (_in_flight <= {neurons});")
    return _Stream("array", _AXIS, tuple(inside), counting, tuple(asserts))


def _register_width(register: str, text: str) -> int | None:
    found = re.search(rf"^    reg (?:\[(\d+):0\] )?{register};$", text, re.M)
    return None if found is None else int(found[1] or 0) + 1


def _flat(name: str) -> str:
    return name.replace(".", "")


def _view(
    design: CircuitDesign, stream: _Stream, files: Mapping[str, str], latency: int
) -> dict[str, object]:
    top = f"{design.name}_{stream.form}"
    found = module_ports(files[f"rtl/{top}.v"])
    others = [p for p in found if p[0] not in ("clk", "rst", *stream.handshake)]
    inputs = [p for p in others if p[1] == "input"]
    results = [p for p in others if p[1] == "output"]
    payload = [p for p in results if p[0] != "tlast_error"]
    if stream.form == "seq":
        paths = [f"rtl/{top}.v"]
    else:
        omitted = {f"rtl/{design.name}_{word}.v" for word in _NOT_OF_ARRAY}
        paths = [p for p in files if p.startswith("rtl/") and p not in omitted]
    inside = [(_flat(n), width) for n, width in stream.inside]
    in_valid, in_ready, out_valid, out_ready = stream.handshake
    names = [name for name, _, _ in others] + [name for name, _ in inside]
    return {
        **design.heading,
        "top": top,
        "in_valid": in_valid,
        "in_ready": in_ready,
        "out_valid": out_valid,
        "out_ready": out_ready,
        "inputs": [f"(* anyseq *) {_wire(name, width)}" for name, _, width in inputs],
        "results": [_wire(name, width) for name, _, width in results],
        "inside": [_wire(name, width) for name, width in inside],
        "connections": connected((name, name) for name in names),
        "payload": ", ".join(name for name, _, _ in payload),
        "payload_width": sum(width for _, _, width in payload),
        "counting": stream.counting,
        "asserts": stream.asserts,
        "depth": latency + 8,
        "skip": latency,
        "sources": " ".join(p.removeprefix("rtl/") for p in paths),
        "exposed": " ".join(f"{top}/w:{n}" for n, _ in stream.inside),
        "renamed": [(n, _flat(n)) for n, _ in stream.inside if "." in n],
        "files": [f"../{p}" for p in paths],
    }


def _wire(name: str, width: int) -> str:
    return f"wire [{width - 1}:0] {name};" if width > 1 else f"wire {name};"
