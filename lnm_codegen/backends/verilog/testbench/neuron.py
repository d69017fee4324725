"""Self-checking testbenches of `comb`, `core` and `seq`: golden vectors with random stalls."""

from __future__ import annotations

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.expr import declared, width_of
from lnm_codegen.backends.verilog.parts import (
    CircuitDesign,
    connected,
    declarations,
    named,
    same_names,
)
from lnm_codegen.backends.verilog.testbench.vectors import Vectors


def testbench(
    design: CircuitDesign, form: str, vectors: Vectors, file: str, pace: tuple[int, int]
) -> str:
    """Return the testbench of a form.

    Args:
        design: The neuron.
        form: "comb", "core" or "seq".
        vectors: Fields of a word drive the inputs; outputs and next states are compared with it.
        file: Name of the file of the vectors.
        pace: Latency and interval, which the testbench of `seq` measures.
    """
    inputs, results = design.outer_inputs, design.outer_results
    applied, expected = "given", "word"
    if form == "comb":
        applied = expected = "_word"
        inputs = named(design.inputs) + named(design.coefficients, "in_")
        results = tuple((name.removeprefix("out_"), v) for name, v in results)
    driven = [
        f"{declared('wire', name, width_of(v))} = {applied}{vectors.slice(v.name)};"
        for name, v in inputs
    ]
    view = {
        **design.heading,
        "count": len(vectors.words),
        "width": vectors.width,
        "vectors": file,
        "declarations": (*driven, *declarations("wire", results)),
        "connections": connected(same_names(inputs, results)),
        "differs": " || ".join(f"{n} !== {expected}{vectors.slice(v.name)}" for n, v in results),
        "shown": ", ".join(f"{name} %h" for name, _ in results),
        "found": ", ".join(name for name, _ in results),
    }
    if form == "core":
        view["latency"] = pace[0]
    if form == "seq":
        view |= {
            "latency": pace[0],
            "interval": pace[1],
            "result_width": sum(width_of(v) or 1 for _, v in results),
        }
    return render(f"verilog/testbench/{form}_tb.v.j2", view)
