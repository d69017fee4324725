"""Proofs that the core is the single-cycle step, some cycles later.

First the core against its own logic without registers, then that logic against the single-cycle
step. Multipliers are cut out of the second, so that it takes as long for a degree of 8 as for one
of 2: what goes into each is equal, and so is then what comes out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.expr import declared, width_of
from lnm_codegen.backends.verilog.formal.parts import Instance, NameView, names, widest
from lnm_codegen.backends.verilog.parts import Design, connected, ports
from lnm_codegen.ir.fixed import nodes as fx

_PRODUCT = re.compile(r"(\w+) = \w+ \* \w+;")


@dataclass(frozen=True, slots=True)
class _FlowView:
    family: str
    name: str
    ports: tuple[str, ...]
    connections: str
    control_connections: str


def _flipped(design: Design) -> str:
    """Return the first input or state that a result depends on."""
    read = {v.name for let in design.kernel.body for v in fx.variables(let.value)}
    moving = [v.name for v in (*design.inputs, *design.states)]
    return next((n for n in moving if n in read), moving[0])


def _flow(design: Design) -> str:
    taken = [(f"in_{v.name}", v.name) for v in (*design.states, *design.inputs)]
    taken += [(f"in_{v.name}", f"in_{v.name}") for v in design.coefficients]
    given = [(f"out_{v.name}", v.name) for v in design.outputs]
    given += [
        (f"out_{s.name}", v.name) for s, v in zip(design.states, design.next_states, strict=True)
    ]
    flipped = _flipped(design)
    turned = [(port, f"{n} ^ 1'b1" if n == flipped else n) for port, n in taken]
    view = _FlowView(
        family=design.model.family,
        name=design.name,
        ports=tuple(
            f"{line},"
            for line in (
                *ports("input ", design.states),
                *ports("input ", design.inputs),
                *ports("input ", design.coefficients, "in_"),
                *ports("output", (*design.outputs, *design.next_states)),
            )
        ),
        connections=connected((*taken, *given)),
        control_connections=connected((*turned, *given)),
    )
    return render("verilog/formal/flow.v.j2", view)


@dataclass(frozen=True, slots=True)
class _PipelineView:
    family: str
    name: str
    latency: int
    inputs: tuple[str, ...]
    delayed: tuple[str, ...]
    shifts: tuple[str, ...]
    results: tuple[str, ...]
    flow_connections: str
    still_connections: str
    asserts: tuple[str, ...]
    control_note: str
    shortened: str
    sources: str
    files: tuple[str, ...]


def pipeline_proof(
    design: Design, instances: tuple[Instance, ...], sources: tuple[str, ...], latency: int
) -> dict[str, str]:
    """Return the proof of the core against its own logic without registers."""
    name = design.name
    taken = [(v.name, v) for v in (*design.states, *design.inputs)]
    taken += [(f"in_{v.name}", v) for v in design.coefficients]
    given = [(v.name, v) for v in (*design.outputs, *design.next_states)]
    delay = next((i for i in instances if i.module == "delay"), None)
    shortened = delay.name if delay is not None else ""
    view = _PipelineView(
        family=design.model.family,
        name=name,
        latency=latency,
        inputs=tuple(f"(* anyseq *) {declared('wire', n, width_of(v))};" for n, v in taken),
        delayed=tuple(
            f"{declared('reg', f'{n}_before', width_of(v))} [0:LATENCY-1];" for n, v in taken
        ),
        shifts=tuple(
            line
            for n, _ in taken
            for line in (
                f"{n}_before[0] <= {n};",
                f"for (k = 1; k < LATENCY; k = k + 1) {n}_before[k] <= {n}_before[k-1];",
            )
        ),
        results=tuple(
            f"{declared('wire', f'{where}_{n}', width_of(v))};"
            for where in ("flow", "still")
            for n, v in given
        ),
        flow_connections=connected(
            (*((n, n) for n, _ in taken), *((n, f"flow_{n}") for n, _ in given))
        ),
        still_connections=connected(
            (
                *((n, f"{n}_before[LATENCY-1]") for n, _ in taken),
                *((n, f"still_{n}") for n, _ in given),
            )
        ),
        asserts=tuple(f"assert (flow_{n} == still_{n});" for n, _ in given),
        control_note=f"{shortened} without its registers" if shortened else "the same a cycle late",
        shortened=shortened,
        sources=names(sources),
        files=(f"{name}_flow.v", f"{name}_map.v", f"{name}_pipeline_check.v", *sources),
    )
    named = NameView(design.model.family, name, widest(instances))
    return {
        f"formal/{name}_flow.v": _flow(design),
        f"formal/{name}_map.v": render("verilog/formal/map.v.j2", named),
        f"formal/{name}_pipeline_check.v": render("verilog/formal/pipeline_check.v.j2", view),
        f"formal/{name}_pipeline.sby": render("verilog/formal/pipeline.sby.j2", view),
    }


@dataclass(frozen=True, slots=True)
class _NextView:
    family: str
    name: str
    flipped: str
    sources: str
    core_boxes: tuple[tuple[str, str], ...]
    next_boxes: tuple[tuple[str, str], ...]
    files: tuple[str, ...]


def next_proof(
    design: Design, instances: tuple[Instance, ...], sources: tuple[str, ...], text: str
) -> dict[str, str]:
    """Return the proof of the core without registers against the step, whose text is given."""
    name = design.name
    inner = {"mul": "", "step": ".mul"}
    multipliers = [f"core.{i.name}{inner[i.module]}" for i in instances if i.module in inner]
    products = [f"{m[1]}$mul" for m in _PRODUCT.finditer(text)]
    assert len(products) == len(multipliers), f"{name}: {products} against {multipliers}"
    used = tuple(p for p in sources if not p.endswith("_mul.v") and "/sim/" not in p)
    view = _NextView(
        family=design.model.family,
        name=name,
        flipped=_flipped(design),
        sources=names(used),
        core_boxes=tuple((m, f"mul_{k}") for k, m in enumerate(multipliers, 1)),
        next_boxes=tuple((p, f"mul_{k}") for k, p in enumerate(products, 1)),
        files=(
            f"{name}_flow.v",
            f"{name}_map.v",
            f"{name}_box.v",
            *used,
            f"../rtl/{name}_next.v",
        ),
    )
    return {
        f"formal/{name}_box.v": render(
            "verilog/formal/box.v.j2",
            NameView(design.model.family, name, widest(instances)),
        ),
        f"formal/{name}_next.sby": render("verilog/formal/next.sby.j2", view),
    }
