"""Modules of one neuron: leaves, the combinational step, the single-cycle neuron, the core."""

from __future__ import annotations

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.core.ecp5 import ecp5_leaf
from lnm_codegen.backends.verilog.core.pipeline import Pipeline
from lnm_codegen.backends.verilog.expr import declared, literal, width_of
from lnm_codegen.backends.verilog.parts import (
    CircuitDesign,
    connected,
    declarations,
    indented,
    named,
    port,
    ports,
    same_names,
    separated,
)


def leaf(design: CircuitDesign, word: str) -> str:
    """Return a module that depends only on its parameters: mul, delay, clamp, step."""
    if word == "mul" and design.rtl.multiplier == "ecp5":
        return ecp5_leaf(design)
    return render(f"verilog/core/{word}.v.j2", design.heading)


def next_module(design: CircuitDesign) -> str:
    """Return the combinational step."""
    names = {v.name: f"in_{v.name}" for v in design.coefficients}
    printer = design.printer(names, design.names())
    results = {name for name, _ in design.inner_results}
    lines: list[str] = []
    for let in design.kernel.body:
        name = let.target.name
        printer.lines = []
        text = printer.bound(let)
        is_port = name in results
        target = f"assign {name}" if is_port else declared("wire", name, width_of(let.target))
        lines += ["", *printer.lines, f"{target} = {text};"]
    view = {
        **design.heading,
        "equations": design.model.equations,
        "ports": separated(
            (*ports("input", design.inner_inputs), *ports("output", design.inner_results))
        ),
        "localparams": design.localparams(lines),
        "lines": indented(lines),
        "unread": design.unread(""),
    }
    return render("verilog/core/next.v.j2", view)


def comb_module(design: CircuitDesign) -> str:
    """Return the neuron that makes one step in each cycle."""
    start = {s.name: s.init for s in design.model.states}
    inputs = named(design.inputs) + named(design.coefficients, "in_")
    registers = named((*design.outputs, *design.states))
    outputs_next = tuple((f"{v.name}_next", v) for v in design.outputs)
    resets = {v.name: _zero(width_of(v)) for v in design.outputs}
    resets |= {v.name: literal(start[v.name], width_of(v) or 1) for v in design.states}
    connections = (
        *same_names(design.inner_inputs),
        *((v.name, name) for name, v in outputs_next),
        *same_names(named(design.next_states)),
    )
    view = {
        **design.heading,
        "equations": design.model.equations,
        "ports": separated(
            (
                *(port("input", word) for word in ("clk", "rst", "ce")),
                *ports("input", inputs),
                *ports("output", registers, "reg"),
            )
        ),
        "wires": declarations("wire", outputs_next + named(design.next_states)),
        "connections": connected(connections),
        "resets": [f"{name} <= {value};" for name, value in resets.items()],
        "updates": [f"{name} <= {name}_next;" for name, _ in registers],
    }
    return render("verilog/core/comb.v.j2", view)


def _zero(width: int | None) -> str:
    return "1'b0" if width is None else literal(0, width)


def core_module(design: CircuitDesign, pipeline: Pipeline) -> str:
    """Return the pipelined step."""
    latency = pipeline.latency
    several = latency > 1
    results = zip(design.outer_results, pipeline.results(), strict=True)
    inputs = [port("input", word) for word in ("clk", "rst", "ce", "in_valid")]
    view = {
        **design.heading,
        "equations": design.model.equations,
        "latency": latency,
        "ports": separated(
            (
                *inputs,
                *ports("input", design.outer_inputs),
                port("output", "out_valid"),
                *ports("output", design.outer_results),
            )
        ),
        "localparams": design.localparams(pipeline.lines),
        "lines": indented(pipeline.lines),
        "valid_shape": f"[{latency - 1}:0] " if several else "",
        "valid_zero": f"{latency}'d0" if several else "1'b0",
        "valid_next": f"{{_valid[{latency - 2}:0], in_valid}}" if several else "in_valid",
        "valid_last": f"_valid[{latency - 1}]" if several else "_valid",
        "assigns": [f"assign {name} = {result};" for (name, _), result in results],
        "unread": design.unread("in_"),
    }
    return render("verilog/core/core.v.j2", view)
