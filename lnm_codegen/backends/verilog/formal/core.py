"""Proofs that the core computes the single-cycle step, some cycles later.

The first proof compares the core with its own logic without registers. The second compares that
logic with the single-cycle step. It replaces multipliers by boxes and proves their inputs equal, so
that their outputs are equal too. A degree of 8 therefore takes as long as a degree of 2.
"""

from __future__ import annotations

import re

from lnm_codegen.backends.render import render, render_files
from lnm_codegen.backends.verilog.expr import width_of
from lnm_codegen.backends.verilog.formal.instances import Instance, base_names, widest
from lnm_codegen.backends.verilog.parts import (
    CircuitDesign,
    Signals,
    connected,
    declarations,
    ports,
    same_names,
)

_PRODUCT = re.compile(r"(\w+) = \w+ \* \w+;")
_FOLDER = "verilog/formal"


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
    lines = (*ports("input", design.inner_inputs), *ports("output", design.inner_results))
    view = {
        **design.heading,
        "ports": [f"{line}," for line in lines],
        "connections": connected(zip(outer, inner, strict=True)),
        "control_connections": connected(zip(outer, control, strict=True)),
    }
    return render(f"{_FOLDER}/flow.v.j2", view)


def _prefixed(prefix: str, signals: Signals) -> Signals:
    return tuple((f"{prefix}{name}", v) for name, v in signals)


def pipeline_proof(
    design: CircuitDesign, instances: tuple[Instance, ...], sources: tuple[str, ...], latency: int
) -> dict[str, str]:
    """Return the proof of the core against its own logic without registers."""
    name, inputs, results = design.name, design.inner_inputs, design.inner_results
    delay = next((i for i in instances if i.module == "delay"), None)
    shortened = delay.name if delay is not None else ""
    flow, still = _prefixed("_flow_", results), _prefixed("_still_", results)
    before = [line.rstrip(";") for line in declarations("reg", _prefixed("_before_", inputs))]
    view = {
        **design.heading,
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
        f"formal/{name}_pipeline_check.v": f"{_FOLDER}/pipeline_check.v.j2",
        f"formal/{name}_pipeline.sby": f"{_FOLDER}/pipeline.sby.j2",
    }
    boxes = {**design.heading, "width": widest(instances)}
    return {
        f"formal/{name}_flow.v": _flow(design),
        f"formal/{name}_map.v": render(f"{_FOLDER}/map.v.j2", boxes),
        **render_files(files, view),
    }


def next_proof(
    design: CircuitDesign, instances: tuple[Instance, ...], sources: tuple[str, ...], text: str
) -> dict[str, str]:
    """Return the proof of the core without registers against the step with a given text."""
    name = design.name
    inner = {"mul": "", "step": ".mul"}
    multipliers = [f"_core.{i.name}{inner[i.module]}" for i in instances if i.module in inner]
    products = [f"{m[1]}$mul" for m in _PRODUCT.finditer(text)]
    assert len(products) == len(multipliers), f"{name}: {products} against {multipliers}"
    used = tuple(p for p in sources if not p.endswith("_mul.v") and "/sim/" not in p)
    local = tuple(f"{name}_{word}.v" for word in ("flow", "map", "box"))
    view = {
        **design.heading,
        "flipped": _flipped(design),
        "sources": base_names(used),
        "core_boxes": [(m, f"_mul_{k}") for k, m in enumerate(multipliers, 1)],
        "next_boxes": [(p, f"_mul_{k}") for k, p in enumerate(products, 1)],
        "files": (*local, *used, f"../rtl/{name}_next.v"),
    }
    boxes = {**design.heading, "width": widest(instances)}
    return {
        f"formal/{name}_box.v": render(f"{_FOLDER}/box.v.j2", boxes),
        f"formal/{name}_next.sby": render(f"{_FOLDER}/next.sby.j2", view),
    }
