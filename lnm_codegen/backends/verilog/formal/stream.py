"""Proofs of the streams: nothing is lost, nothing invented, and what waits stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.parts import Design, connected

_PORT = re.compile(r"^    (input|output) +(?:wire|reg) *( signed)? *(\[\d+:0\])? *(\w+),?$", re.M)
_CONTROLS = ("clk", "rst")


@dataclass(frozen=True, slots=True)
class _Port:
    direction: str
    shape: str
    name: str

    @property
    def width(self) -> int:
        return int(self.shape[1:].partition(":")[0]) + 1 if self.shape else 1


@dataclass(frozen=True, slots=True)
class _View:
    family: str
    name: str
    top: str
    in_valid: str
    in_ready: str
    out_valid: str
    out_ready: str
    inputs: tuple[str, ...]
    results: tuple[str, ...]
    inside: tuple[str, ...]
    connections: str
    payload: str
    payload_width: int
    counting: tuple[str, ...]
    asserts: tuple[str, ...]
    depth: int
    skip: int
    sources: str
    exposed: str
    renamed: tuple[tuple[str, str], ...]
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Stream:
    """How a form's stream is called, and where what is inside it can be counted."""

    form: str
    handshake: tuple[str, str, str, str]
    inside: tuple[tuple[str, int], ...]
    counting: tuple[str, ...]
    asserts: tuple[str, ...] = ()


_SEQ = _Stream(
    "seq",
    ("in_valid", "in_ready", "out_valid", "out_ready"),
    tuple((word, 1) for word in ("idle", "multiplying", "adding", "clamping", "pending")),
    ("held = {15'd0, !idle} + {15'd0, pending} + {15'd0, out_valid};",),
    (
        "assert ({1'b0, idle} + {1'b0, multiplying} + {1'b0, adding} + {1'b0, clamping} == 2'd1);",
        "assert (!pending || idle);",
    ),
)
_NOT_OF_ARRAY = ("mul", "ram", "next", "comb", "seq")  # the first two are stubs here
_AXIS = ("s_axis_tvalid", "s_axis_tready", "m_axis_tvalid", "m_axis_tready")


def stream_proof(
    design: Design, form: str, files: Mapping[str, str], latency: int
) -> dict[str, str]:
    """Return the proof of the stream of a form, "seq" or "array".

    Args:
        design: The neuron.
        form: Which.
        files: The circuit, path -> text.
        latency: Of the form.
    """
    stream = _SEQ if form == "seq" else _array(design, files)
    view = _view(design, stream, files, latency)
    return {
        f"formal/{design.name}_stubs.v": render("verilog/formal/stubs.v.j2", view),
        f"formal/{view.top}_check.v": render("verilog/formal/stream_check.v.j2", view),
        f"formal/{view.top}.sby": render("verilog/formal/stream.sby.j2", view),
    }


def _array(design: Design, files: Mapping[str, str]) -> _Stream:
    """Return the array's stream: what is inside has a bit in a register of valid bits."""
    inside = []
    for name, word in (("valid", "array"), ("core.valid", "core")):
        found = re.search(
            r"^    reg (?:\[(\d+):0\] )?valid;$", files[f"rtl/{design.name}_{word}.v"], re.M
        )
        assert found is not None, f"{design.name}_{word} has no valid bits"
        inside.append((name, int(found[1] or 0) + 1))
    text = files[f"rtl/{design.name}_array.v"]
    counting = tuple(
        f"for (k = 0; k < {width}; k = k + 1) held = held + {_flat(name)}[k];"
        if width > 1
        else f"held = held + {_flat(name)};"
        for name, width in inside
    )
    asserts = [f"assert (!take || taken_less_given < {design.rtl.neurons});"]
    waits = re.search(r"^    reg (?:\[(\d+):0\] )?in_flight;$", text, re.M)
    if waits is not None:
        inside.append(("in_flight", int(waits[1] or 0) + 1))
        asserts.append("assert (taken_less_given == in_flight);")
        asserts.append(f"assert (in_flight <= {design.rtl.neurons});")
    return _Stream("array", _AXIS, tuple(inside), counting, tuple(asserts))


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _view(design: Design, stream: _Stream, files: Mapping[str, str], latency: int) -> _View:
    name = design.name
    top = f"{name}_{stream.form}"
    head = files[f"rtl/{top}.v"].partition(");")[0]
    ports = [_Port(m[1], m[3] or "", m[4]) for m in _PORT.finditer(head)]
    others = [p for p in ports if p.name not in (*_CONTROLS, *stream.handshake)]
    taken = [p for p in others if p.direction == "input"]
    given = [p for p in others if p.direction == "output"]
    payload = [p for p in given if p.name != "tlast_error"]
    if stream.form == "seq":
        paths = [f"rtl/{top}.v"]
    else:
        others_of = {f"rtl/{name}_{word}.v" for word in _NOT_OF_ARRAY}
        paths = [p for p in files if p.startswith("rtl/") and p not in others_of]
    wires = [(_flat(n), f"[{w - 1}:0] " if w > 1 else "") for n, w in stream.inside]
    in_valid, in_ready, out_valid, out_ready = stream.handshake
    return _View(
        family=design.model.family,
        name=name,
        top=top,
        in_valid=in_valid,
        in_ready=in_ready,
        out_valid=out_valid,
        out_ready=out_ready,
        inputs=tuple(f"(* anyseq *) wire {_shaped(p)};" for p in taken),
        results=tuple(f"wire {_shaped(p)};" for p in given),
        inside=tuple(f"wire {shape}{n};" for n, shape in wires),
        connections=connected((*((p.name, p.name) for p in others), *((n, n) for n, _ in wires))),
        payload=", ".join(p.name for p in payload),
        payload_width=sum(p.width for p in payload),
        counting=stream.counting,
        asserts=stream.asserts,
        depth=latency + 8,
        skip=latency,
        sources=" ".join(p.removeprefix("rtl/") for p in paths),
        exposed=" ".join(f"{top}/w:{n}" for n, _ in stream.inside),
        renamed=tuple((n, _flat(n)) for n, _ in stream.inside if "." in n),
        files=tuple(f"../{p}" for p in paths),
    )


def _shaped(port: _Port) -> str:
    return f"{port.shape} {port.name}" if port.shape else port.name
