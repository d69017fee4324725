"""The modules of one neuron: leaves, the combinational step, the single-cycle neuron, the core."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.core.pipeline import Pipeline
from lnm_codegen.backends.verilog.expr import literal, width_of
from lnm_codegen.backends.verilog.parts import Design, connected, port, ports, separated
from lnm_codegen.ir.types import Bits


@dataclass(frozen=True, slots=True)
class _LeafView:
    family: str
    name: str


def leaf(design: Design, word: str) -> str:
    """Return a module that hangs on parameters alone: mul, delay, clamp, step."""
    view = _LeafView(design.model.family, design.name)
    return render(f"verilog/core/{word}.v.j2", view)


@dataclass(frozen=True, slots=True)
class _NextView:
    family: str
    name: str
    head: tuple[str, ...]
    ports: tuple[str, ...]
    localparams: tuple[str, ...]
    lines: tuple[str, ...]
    assigns: tuple[str, ...]


def next_module(design: Design) -> str:
    """Return the combinational step."""
    kernel = design.kernel
    results = (*design.outputs, *design.next_states)
    names = {v.name: f"in_{v.name}" for v in design.coefficients}
    taken = {v.name for v in (*design.states, *design.inputs, *results)}
    taken |= {let.target.name for let in kernel.body}
    printer = design.printer(names, taken)
    given = {v.name for v in results}
    lines = []
    for let in kernel.body:
        name, kind = let.target.name, let.target.type
        printer.lines = []
        if isinstance(kind, Bits):
            text = printer.definition(let.value, kind.width, name)
        else:
            text = printer.condition(let.value, name)
        declared = "assign " if name in given else _wire(name, width_of(let.target))
        lines += ["", *printer.lines, f"{declared}{name if name in given else ''} = {text};"]
    view = _NextView(
        family=design.model.family,
        name=design.name,
        head=design.head,
        ports=separated(
            (
                *ports("input ", design.states),
                *ports("input ", design.inputs),
                *ports("input ", design.coefficients, "in_"),
                *ports("output", results),
            )
        ),
        localparams=design.localparams(tuple(lines)),
        lines=indented(lines),
        assigns=design.unread(""),
    )
    return render("verilog/core/next.v.j2", view)


def _wire(name: str, width: int | None) -> str:
    return f"wire {name}" if width is None else f"wire signed [{width - 1}:0] {name}"


def indented(lines: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Return lines with four spaces before those that are not empty, and none empty at the ends."""
    return tuple(f"    {line}" if line else "" for line in lines)


@dataclass(frozen=True, slots=True)
class _CombView:
    family: str
    name: str
    head: tuple[str, ...]
    ports: tuple[str, ...]
    wires: tuple[str, ...]
    connections: str
    resets: tuple[str, ...]
    updates: tuple[str, ...]


def comb_module(design: Design) -> str:
    """Return the neuron that makes one step in each cycle."""
    start = {s.name: s for s in design.model.states}
    pairs = [(v.name, v.name) for v in (*design.states, *design.inputs)]
    pairs += [(f"in_{v.name}", f"in_{v.name}") for v in design.coefficients]
    pairs += [(v.name, f"{v.name}_now") for v in design.outputs]
    pairs += [(v.name, v.name) for v in design.next_states]
    resets = [f"{v.name} <= {_zero(width_of(v))};" for v in design.outputs]
    resets += [
        f"{v.name} <= {literal(start[v.name].init, width_of(v) or 1)};" for v in design.states
    ]
    updates = [f"{v.name} <= {v.name}_now;" for v in design.outputs]
    updates += [f"{v.name} <= {v.name}_next;" for v in design.states]
    view = _CombView(
        family=design.model.family,
        name=design.name,
        head=design.head,
        ports=separated(
            (
                *(port("input ", word, None) for word in ("clk", "rst", "ce")),
                *ports("input ", design.inputs),
                *ports("input ", design.coefficients, "in_"),
                *(port("output", v.name, width_of(v), "reg ") for v in design.outputs),
                *(port("output", v.name, width_of(v), "reg ") for v in design.states),
            )
        ),
        wires=tuple(
            f"{_wire(name, width_of(v))};"
            for name, v in (
                *((f"{v.name}_now", v) for v in design.outputs),
                *((v.name, v) for v in design.next_states),
            )
        ),
        connections=connected(tuple(pairs)),
        resets=tuple(resets),
        updates=tuple(updates),
    )
    return render("verilog/core/comb.v.j2", view)


def _zero(width: int | None) -> str:
    return "1'b0" if width is None else literal(0, width)


@dataclass(frozen=True, slots=True)
class _CoreView:
    family: str
    name: str
    head: tuple[str, ...]
    latency: int
    ports: tuple[str, ...]
    localparams: tuple[str, ...]
    lines: tuple[str, ...]
    valid_shape: str
    valid_zero: str
    valid_next: str
    valid_last: str
    assigns: tuple[str, ...]


def core_module(design: Design, pipeline: Pipeline) -> str:
    """Return the pipelined step."""
    latency = pipeline.latency
    results = pipeline.results()
    targets = [f"out_{v.name}" for v in (*design.outputs, *design.states)]
    several = latency > 1
    view = _CoreView(
        family=design.model.family,
        name=design.name,
        head=design.head,
        latency=latency,
        ports=separated(core_ports(design)),
        localparams=design.localparams(tuple(pipeline.lines)),
        lines=indented(pipeline.lines),
        valid_shape=f"[{latency - 1}:0] " if several else "",
        valid_zero=f"{latency}'d0" if several else "1'b0",
        valid_next=f"{{valid[{latency - 2}:0], in_valid}}" if several else "in_valid",
        valid_last=f"valid[{latency - 1}]" if several else "valid",
        assigns=(
            *(f"assign {t} = {r};" for t, r in zip(targets, results, strict=True)),
            *design.unread("in_"),
        ),
    )
    return render("verilog/core/core.v.j2", view)


def core_ports(design: Design) -> tuple[str, ...]:
    """Return the ports of the core."""
    return (
        *(port("input ", word, None) for word in ("clk", "rst", "ce", "in_valid")),
        *ports("input ", design.states, "in_"),
        *ports("input ", design.inputs, "in_"),
        *ports("input ", design.coefficients, "in_"),
        port("output", "out_valid", None),
        *ports("output", design.outputs, "out_"),
        *ports("output", design.states, "out_"),
    )
