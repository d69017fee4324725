"""Proofs of a circuit for sby, each with a control that must fail.

NAME_step.sby, NAME_clamp.sby   the leaves against models written as comparisons
NAME_pipeline.sby               the core against its own logic without registers
NAME_next.sby                   that logic against the single-cycle step
NAME_state.sby                  bounds of the states after every step
NAME_seq.sby, NAME_array.sby    the streams neither lose nor add a result
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from lnm_codegen.backends.render import render, render_files
from lnm_codegen.backends.verilog.design import CircuitDesign
from lnm_codegen.backends.verilog.expr import literal, width_of
from lnm_codegen.backends.verilog.module import (
    Instance,
    Module,
    Signals,
    connected,
    declarations,
    named,
    ports,
    same_names,
)
from lnm_codegen.backends.verilog.pipeline import FACTOR_BITS, simulation_files
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.interpret import run
from lnm_codegen.ir.nodes import CompareOp
from lnm_codegen.ir.types import Bits, Rounding


def widest(instances: tuple[Instance, ...]) -> int:
    """Return one bit more than the widest factor, so that a box extends every factor."""
    widths = [v for i in instances for k, v in i.parameters.items() if k in ("A_WIDTH", "B_WIDTH")]
    return max(widths, default=1) + 1


def _sources(design: CircuitDesign, modules: Mapping[str, Module], *words: str) -> tuple[str, ...]:
    """Return the files of modules, and of the vendor's cells in `mul`, relative to formal/."""
    paths = [f"../rtl/{design.name}_{word}.v" for word in words if word in modules]
    if "mul" in words and "mul" in modules:
        paths += [f"../{path}" for path in simulation_files(design)]
    return tuple(paths)


def base_names(paths: tuple[str, ...]) -> str:
    """Return the names of files without their folders: sby copies all files into one folder."""
    return " ".join(p.rpartition("/")[2] for p in paths)


# Proofs of the modules `_step` and `_clamp` against independent reference models.


def leaf_proofs(design: CircuitDesign, modules: Mapping[str, Module]) -> dict[str, str]:
    """Return the proofs of `_step` and `_clamp` for every size used in the core."""
    found: dict[str, str] = {}
    instances = modules["core"].instances
    leaves = _sources(design, modules, "mul", "clamp", "step")
    for module, keys, cycles in (
        ("step", ("A_WIDTH", "B_WIDTH", "SUM_WIDTH", "PLACES", "WIDTH", "SUBTRACT"), 4),
        ("clamp", ("IN_WIDTH", "WIDTH"), 3),
    ):
        sizes = [{k: i.parameters[k] for k in keys} for i in instances if i.module == module]
        if sizes:
            found |= _leaf(design, module, sizes, cycles, leaves)
    return found


def _leaf(
    design: CircuitDesign,
    module: str,
    sizes: list[dict[str, int]],
    cycles: int,
    leaves: tuple[str, ...],
) -> dict[str, str]:
    name = design.name
    checker, top = f"{name}_{module}_check", f"{name}_{module}_sizes"
    modes: list[dict[str, int]] = [{}]
    if module == "step":
        modes = [{"ROUNDING": k} for k in range(len(Rounding))]
    given = dict.fromkeys(
        _parameters(size | mode | {"FITS": fits})
        for size in sizes
        for mode in modes
        for fits in (0, 1)
    )
    clamping = [size for size in sizes if _kept(size) > size["WIDTH"]]
    one = next(iter(clamping), sizes[0])
    narrow = {"WIDTH": max(min(one["WIDTH"], _kept(one) - 1), 2)}  # its clamp can act
    control = _parameters(one | narrow | {"FITS": 1, "ASSUMED": 0})
    roundings = ", with each rounding" if module == "step" else ""
    note = f"{name}_{module} in every size of {name}_core{roundings}."
    top_view = {
        "family": design.model.family,
        "top": top,
        "note": note,
        "control": f"{checker} #({control}) size (.clk(clk));",
        "instances": [f"{checker} #({g}) size_{k} (.clk(clk));" for k, g in enumerate(given)],
    }
    sby_view = {
        "family": design.model.family,
        "note": note,
        "top": top,
        "checker": f"{checker}.v",
        "cycles": cycles,
        "clamps": bool(clamping),
        "sources": base_names(leaves),
        "files": (f"{top}.v", f"{checker}.v", *leaves),
    }
    checker_view = dict(design.view)
    if module == "step":
        checker_view["width"] = FACTOR_BITS if design.rtl.multiplier == "ecp5" else 0
    return {
        f"formal/{checker}.v": render(f"verilog/formal/leaves.j2:{module}", checker_view),
        f"formal/{top}.v": render("verilog/formal/leaves.j2:sizes", top_view),
        f"formal/{name}_{module}.sby": render("verilog/formal/sby.j2:leaf", sby_view),
    }


def _kept(size: dict[str, int]) -> int:
    """Return the width of the number that the clamp receives."""
    return size["IN_WIDTH"] if "IN_WIDTH" in size else size["SUM_WIDTH"] - size["PLACES"]


def _parameters(values: dict[str, int]) -> str:
    return connected((name, str(value)) for name, value in values.items())


# Proofs that the core computes the single-cycle step, some cycles later.
#
# The first proof compares the core with its own logic without registers. The second compares that
# logic with the single-cycle step. It replaces multipliers by boxes and proves their inputs equal,
# so that their outputs are equal too. A degree of 8 therefore takes as long as a degree of 2.


def _flipped(design: CircuitDesign) -> str:
    """Return the first input or state that a result depends on."""
    read = {v.name for v in design.kernel.reads}
    moving = [v.name for v in (*design.inputs, *design.states)]
    return next((n for n in moving if n in read), moving[0])


def _flow(design: CircuitDesign) -> str:
    """Return the core with the ports of the combinational step."""
    outer = [name for name, _ in (*design.outer_inputs, *design.outer_results)]
    inner = [name for name, _ in (*design.inner_inputs, *design.inner_results)]
    flipped = _flipped(design)
    signs = {v.name: f"{{1'b1, {(width_of(v) or 1) - 1}'d0}}" for _, v in design.inner_inputs}
    control = [f"{n} ^ {signs[n]}" if n == flipped else n for n in inner]
    found = (*ports("input", design.inner_inputs), *ports("output", design.inner_results))
    view = {
        **design.view,
        "ports": [f"{p.text}," for p in found],
        "connections": connected(zip(outer, inner, strict=True)),
        "control_connections": connected(zip(outer, control, strict=True)),
    }
    return render("verilog/formal/core.j2:flow", view)


def _prefixed(prefix: str, signals: Signals) -> Signals:
    return tuple((f"{prefix}{name}", v) for name, v in signals)


def pipeline_proof(design: CircuitDesign, modules: Mapping[str, Module]) -> dict[str, str]:
    """Return the proof of the core against its own logic without registers."""
    name, inputs, results = design.name, design.inner_inputs, design.inner_results
    instances, latency = modules["core"].instances, modules["core"].registers["_valid"]
    sources = _sources(design, modules, "mul", "delay", "clamp", "step", "core")
    delay = next((i for i in instances if i.module == "delay"), None)
    shortened = delay.name if delay is not None else ""
    flow, still = _prefixed("_flow_", results), _prefixed("_still_", results)
    before = [line.rstrip(";") for line in declarations("reg", _prefixed("_before_", inputs))]
    view = {
        **design.view,
        "latency": latency,
        "inputs": [f"(* anyseq *) {line}" for line in declarations("wire", inputs)],
        "delayed": [f"{line} [0:LATENCY-1];" for line in before],
        "shifts": [
            line
            for n, _ in inputs
            for line in (
                f"_before_{n}[0] <= {n};",
                f"for (_k = 1; _k < LATENCY; _k = _k + 1) _before_{n}[_k] <= _before_{n}[_k-1];",
            )
        ],
        "results": declarations("wire", flow + still),
        "flow_connections": connected(
            (*same_names(inputs), *((n, f"_flow_{n}") for n, _ in results))
        ),
        "still_connections": connected(
            (
                *((n, f"_before_{n}[LATENCY-1]") for n, _ in inputs),
                *((n, f"_still_{n}") for n, _ in results),
            )
        ),
        "asserts": [f"assert (_flow_{n} == _still_{n});" for n, _ in results],
        "control_note": f"{shortened} without its registers" if shortened else "one cycle later",
        "shortened": shortened,
        "sources": base_names(sources),
        "files": (f"{name}_flow.v", f"{name}_map.v", f"{name}_pipeline_check.v", *sources),
    }
    files = {
        f"formal/{name}_pipeline_check.v": "verilog/formal/core.j2:pipeline",
        f"formal/{name}_pipeline.sby": "verilog/formal/sby.j2:pipeline",
    }
    boxes = {**design.view, "width": widest(instances)}
    return {
        f"formal/{name}_flow.v": _flow(design),
        f"formal/{name}_map.v": render("verilog/formal/core.j2:map", boxes),
        **render_files(files, view),
    }


def next_proof(design: CircuitDesign, modules: Mapping[str, Module]) -> dict[str, str]:
    """Return the proof of the core without registers against the single-cycle step."""
    name, instances = design.name, modules["core"].instances
    inner = {"mul": "", "step": ".mul"}
    multipliers = [f"_core.{i.name}{inner[i.module]}" for i in instances if i.module in inner]
    products = [f"{product}$mul" for product in modules["next"].products]
    assert len(products) == len(multipliers), f"{name}: {products} against {multipliers}"
    used = _sources(design, modules, "delay", "clamp", "step", "core")
    local = tuple(f"{name}_{word}.v" for word in ("flow", "map", "box"))
    view = {
        **design.view,
        "flipped": _flipped(design),
        "sources": base_names(used),
        "core_boxes": [(m, f"_mul_{k}") for k, m in enumerate(multipliers, 1)],
        "next_boxes": [(p, f"_mul_{k}") for k, p in enumerate(products, 1)],
        "files": (*local, *used, f"../rtl/{name}_next.v"),
    }
    boxes = {**design.view, "width": widest(instances)}
    return {
        f"formal/{name}_box.v": render("verilog/formal/core.j2:box", boxes),
        f"formal/{name}_next.sby": render("verilog/formal/sby.j2:next", view),
    }


# Proof of bounds of the states after every step, for a hard or soft reset by constants.


MOST_STEPS = 64
"""Most steps that the control of a proof takes."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Bounds of a state that a spike resets.

    Attributes:
        state: The state.
        spike: The output that is the spike.
        threshold: Bound that the state stays under without a spike, at most one above its format.
        low: Least value after a spike.
        high: Largest value after a spike.
        start: Initial value.
    """

    state: fx.Var
    spike: fx.Var
    threshold: int
    low: int
    high: int
    start: int


def resets(design: CircuitDesign) -> tuple[Reset, ...]:
    """Return the states whose reset has constants and a spike of the outputs as its condition.

    Hard reset: `where(h >= threshold, v_reset, h)`.
    Soft reset: `h - where(h >= threshold, amount, 0)`.
    """
    values = {let.target.name: let.value for let in design.kernel.body}
    starts = {s.name: s.init for s in design.model.states}
    found = []
    for state, after in zip(design.states, design.next_states, strict=True):
        parts = _parts(design, _followed(values, fx.Var(after.name, after.type)))
        if parts is None:
            continue
        kept, select, number = parts
        cond = _root(values, select.cond)
        spike = next((o for o in design.outputs if _root(values, o) == cond), None)
        threshold = _threshold(design, cond, kept)
        if threshold is None or spike is None:
            continue
        low = high = number
        if kept != select.orelse:  # soft: the amount is subtracted from the threshold or more
            bits = fx.bits_of(kept)
            low, high = max(threshold - number, bits.low), min(bits.high - number, bits.high)
        own = fx.bits_of(state)  # the state may be narrower than `kept`: it saturates
        low, high = (min(max(end, own.low), own.high) for end in (low, high))
        threshold = min(max(threshold, own.low + 1), own.high + 1)
        found.append(Reset(state, spike, threshold, low, high, starts[state.name]))
    return tuple(found)


def _parts(design: CircuitDesign, value: fx.Expr) -> tuple[fx.Expr, fx.Select, int] | None:
    """Return the value without a spike, the selection, and its constant at a spike.

    None unless `value` is `select(spike, constant, h)` or `h - select(spike, constant, 0)`.
    """
    match value:
        case fx.Select(_, then, kept):
            select = value
        case fx.Sum(SumOp.SUB, kept, fx.Select(_, then, orelse) as select):
            if _constant(design, orelse) != 0:
                return None
        case _:
            return None
    number = _constant(design, then)
    return None if number is None else (kept, select, number)


def _followed(values: dict[str, fx.Expr], e: fx.Expr) -> fx.Expr:
    """Return the expression behind names and clamps."""
    while (isinstance(e, fx.Var) and e.name in values) or isinstance(e, fx.Saturate):
        e = e.arg if isinstance(e, fx.Saturate) else values[e.name]
    return e


def _root(values: dict[str, fx.Expr], e: fx.Expr) -> fx.Expr:
    """Return the last name or expression behind names of names."""
    while isinstance(e, fx.Var) and isinstance(values.get(e.name), fx.Var | fx.Compare):
        e = values[e.name]
    return e


def _constant(design: CircuitDesign, e: fx.Expr) -> int | None:
    return design.printer().constant_of(e)


def _threshold(design: CircuitDesign, cond: fx.Expr, kept: fx.Expr) -> int | None:
    """Return the constant of the condition `kept >= constant`, None for any other."""
    if not isinstance(cond, fx.Compare) or cond.op is not CompareOp.GE or cond.lhs != kept:
        return None
    return _constant(design, cond.rhs)


def _steps_to_spike(design: CircuitDesign, found: tuple[Reset, ...]) -> int:
    """Return the fewest steps to a spike of constant inputs at the ends of their formats.

    The control needs as many from the initial states to break its bound. It is at most `MOST_STEPS`
    and 1 where coefficients are ports, which may have any value.
    """
    if design.on_ports:
        return 1
    ends = ((bits.low, bits.high) for bits in map(fx.bits_of, design.inputs))
    drives = np.array(list(product(*ends)), np.int64).T
    fixed: dict[str, Any] = {v.name: x for v, x in zip(design.inputs, drives, strict=True)}
    fixed |= design.constants
    states: dict[str, Any] = {s.name: s.init for s in design.model.states}
    for steps in range(1, MOST_STEPS):
        after = run(design.kernel, fixed | states)
        if any(np.any(after[r.spike.name]) for r in found):
            return steps
        states = {name: after[f"{name}_next"] for name in states}
    return MOST_STEPS


def state_proof(design: CircuitDesign) -> dict[str, str]:
    """Return the proof of the bounds, no file where no bound is known."""
    found = resets(design)
    if not found:
        return {}
    claims, localparams, asserts = [], [], []
    for r in found:
        v, spike = r.state.name, r.spike.name
        assert isinstance(r.state.type, Bits)
        width = r.state.type.width
        after = f"{v} is {r.low}" if r.low == r.high else f"{v} is in {r.low} to {r.high}"
        claims += [
            f"{spike}: {after} (integers)",
            f"no {spike}: {v} is below the threshold, {r.threshold}, or has its initial value",
        ]
        bounds = (("LOW", r.low), ("HIGH", r.high), ("LIMIT", r.threshold), ("START", r.start))
        localparams += [
            f"localparam signed [{width}:0] _{v}_{word} = {literal(number, width + 1)};"
            for word, number in bounds
        ]
        asserts += [
            f"assert (!{spike} || ({v} >= _{v}_LOW && {v} <= _{v}_HIGH));",
            f"assert ({spike} || {v} == _{v}_START || {v} < _{v}_LIMIT - _TIGHTER);",
        ]
    inputs = named(design.inputs) + named(design.coefficients, "in_")
    results = named((*design.outputs, *design.states))
    view = {
        **design.view,
        "claims": claims,
        "localparams": localparams,
        "inputs": [f"(* anyseq *) {line}" for line in declarations("wire", inputs)],
        "results": declarations("wire", results),
        "connections": connected(same_names(inputs, results)),
        "asserts": asserts,
        "depth": max(4, _steps_to_spike(design, found) + 3),
        "files": (
            f"{design.name}_state_check.v",
            *(f"../rtl/{design.name}_{word}.v" for word in ("next", "comb")),
        ),
    }
    files = {
        f"formal/{design.name}_state_check.v": "verilog/formal/states.j2:check",
        f"formal/{design.name}_state.sby": "verilog/formal/sby.j2:state",
    }
    return render_files(files, view)


# Proofs of the streams: no result is lost or added, and a waiting result does not change.


_NOT_OF_ARRAY = ("mul", "ram", "next", "comb")
"""Modules that the array lacks, and the two that the proof replaces by stubs."""


class _Stream(NamedTuple):
    """Stream of a form: its handshake ports, and the registers that count what is inside."""

    form: str
    handshake: tuple[str, str, str, str]
    inside: tuple[tuple[str, int], ...]
    counting: tuple[str, ...]
    asserts: tuple[str, ...]


_SEQ_COUNT = "({15'd0, !_idle} + {15'd0, _pending} + {15'd0, out_valid})"
"""Neurons in `seq`: one that is computed, one that waits, one at the output."""
_SEQ = _Stream(
    "seq",
    ("in_valid", "in_ready", "out_valid", "out_ready"),
    tuple((word, 1) for word in ("_idle", "_multiplying", "_adding", "_clamping", "_pending")),
    (f"valid_count = {_SEQ_COUNT};",),
    (
        "assert ({1'b0, _idle} + {1'b0, _multiplying} + {1'b0, _adding} + {1'b0, _clamping}"
        " == 2'd1);",
        "assert (!_pending || _idle);",
    ),
)
_AXIS = ("s_axis_tvalid", "s_axis_tready", "m_axis_tvalid", "m_axis_tready")


def stream_proof(
    design: CircuitDesign, form: str, modules: Mapping[str, Module], latency: int
) -> dict[str, str]:
    """Return the proof of the stream of a form, "seq" or "array".

    Args:
        design: The neuron.
        form: Form of the circuit.
        modules: The circuit.
        latency: Latency of the form.
    """
    stream = _SEQ if form == "seq" else _array_stream(design, modules)
    top = f"{design.name}_{form}"
    templates = {
        f"formal/{design.name}_stubs.v": "verilog/formal/streams.j2:stubs",
        f"formal/{top}_check.v": "verilog/formal/streams.j2:check",
        f"formal/{top}.sby": "verilog/formal/sby.j2:stream",
    }
    return render_files(templates, _view(design, stream, modules, latency))


def _array_stream(design: CircuitDesign, modules: Mapping[str, Module]) -> _Stream:
    """Return the array's stream: each neuron inside has a bit in a register of valid bits."""
    neurons, registers = design.rtl.neurons, modules["array"].registers
    sequence: list[str] = []
    if design.rtl.through == "core":
        inner = [("_core._valid", modules["core"].registers["_valid"])]
    else:
        inner = [("_busy", 1)]
        sequence = [_inside_seq(text) for text in _SEQ.asserts]
        sequence.append(f"assert ({{15'd0, _busy}} == {_inside_seq(_SEQ_COUNT)});")
    inside = [("_valid", registers["_valid"]), *inner]
    counting = tuple(
        f"for (k = 0; k < {width}; k = k + 1) valid_count = valid_count + {_flat(register)}[k];"
        if width > 1
        else f"valid_count = valid_count + {_flat(register)};"
        for register, width in inside
    )
    asserts = [f"assert (!input_transfer || inside_count < {neurons});", *sequence]
    if "_in_flight" in registers:
        inside.append(("_in_flight", registers["_in_flight"]))
        asserts.append("assert (inside_count == _in_flight);")
        asserts.append(f"assert (_in_flight <= {neurons});")
    if sequence:
        inside += [(f"_seq.{name}", width) for name, width in _SEQ.inside]
    return _Stream("array", _AXIS, tuple(inside), counting, tuple(asserts))


def _inside_seq(text: str) -> str:
    """Return a statement about registers of `seq` as one about those in an array."""
    for word, _ in _SEQ.inside:
        text = re.sub(rf"\b{word}\b", _flat(f"_seq.{word}"), text)
    return text.replace("out_valid", "m_axis_tvalid")


def _flat(name: str) -> str:
    return name.replace(".", "")


def _view(
    design: CircuitDesign, stream: _Stream, modules: Mapping[str, Module], latency: int
) -> dict[str, object]:
    top = f"{design.name}_{stream.form}"
    found = modules[stream.form].ports
    others = [p for p in found if p.name not in ("clk", "rst", *stream.handshake)]
    inputs = [p for p in others if p.direction == "input"]
    results = [p for p in others if p.direction == "output"]
    payload = [p for p in results if p.name != "tlast_error"]
    words = [stream.form]
    if stream.form == "array":
        other = "seq" if design.rtl.through == "core" else "core"
        words = [word for word in modules if word not in (*_NOT_OF_ARRAY, other)]
    files = [f"{design.name}_{word}.v" for word in words]
    inside = [(_flat(n), width) for n, width in stream.inside]
    in_valid, in_ready, out_valid, out_ready = stream.handshake
    names = [p.name for p in others] + [name for name, _ in inside]
    return {
        **design.view,
        "top": top,
        "in_valid": in_valid,
        "in_ready": in_ready,
        "out_valid": out_valid,
        "out_ready": out_ready,
        "inputs": [f"(* anyseq *) {_wire(p.name, p.bits)}" for p in inputs],
        "results": [_wire(p.name, p.bits) for p in results],
        "inside": [_wire(name, width) for name, width in inside],
        "connections": connected((name, name) for name in names),
        "payload": ", ".join(p.name for p in payload),
        "payload_width": sum(p.bits for p in payload),
        "counting": stream.counting,
        "asserts": stream.asserts,
        "depth": latency + 8,
        "skip": latency,
        "sources": " ".join(files),
        "exposed": " ".join(f"{top}/w:{n}" for n, _ in stream.inside),
        "renamed": [(n, _flat(n)) for n, _ in stream.inside if "." in n],
        "files": (
            f"{design.name}_stubs.v",
            f"{top}_check.v",
            *(f"../rtl/{file}" for file in files),
        ),
    }


def _wire(name: str, width: int) -> str:
    return f"wire [{width - 1}:0] {name};" if width > 1 else f"wire {name};"


# All proofs of a circuit.


def proofs(
    design: CircuitDesign, modules: Mapping[str, Module], latencies: Mapping[str, int]
) -> dict[str, str]:
    """Return the files of formal/.

    Args:
        design: The neuron.
        modules: The circuit, by the words of its modules.
        latencies: Form of the circuit -> latency.
    """
    found: dict[str, str] = {}
    if "comb" in latencies:
        found |= state_proof(design)
    if "core" in modules:  # an array has it too
        found |= leaf_proofs(design, modules)
        found |= pipeline_proof(design, modules)
        found |= next_proof(design, modules)
    for form in ("seq", "array"):
        if form in latencies:
            found |= stream_proof(design, form, modules, latencies[form])
    return found
