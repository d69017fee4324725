"""Self-checking testbenches: the golden vectors through a module, with random stalls."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.expr import declared, width_of
from lnm_codegen.backends.verilog.parts import Design, connected
from lnm_codegen.backends.verilog.testbench.vectors import Vectors
from lnm_codegen.ir.fixed import nodes as fx


@dataclass(frozen=True, slots=True)
class _View:
    family: str
    name: str
    count: int
    width: int
    vectors: str
    declarations: tuple[str, ...]
    connections: str
    differs: str
    shown: str
    found: str
    result_width: int
    latency: int
    interval: int


def testbench(design: Design, form: str, vectors: Vectors, file: str, pace: tuple[int, int]) -> str:
    """Return the testbench of a form, which reads the vectors from `file`.

    The fields of a word are on the inputs; outputs and next states are compared with it. `pace` is
    the latency and the interval.
    """
    prefixed = form != "comb"
    into = "in_" if prefixed else ""
    source = "given" if prefixed else "word"
    taken = [(f"{into}{v.name}", v) for v in design.inputs]
    if prefixed:
        taken = [(f"in_{v.name}", v) for v in design.states] + taken
    taken += [(f"in_{v.name}", v) for v in design.coefficients]
    results = _results(design, "out_" if prefixed else "")
    declarations = []
    for port, var in taken:
        declarations.append(
            f"{declared('wire', port, width_of(var))} = {_slice(vectors, var.name, source)};"
        )
    declarations += [f"{declared('wire', port, width_of(var))};" for port, var in results]
    view = _View(
        family=design.model.family,
        name=design.name,
        count=len(vectors.words),
        width=vectors.width,
        vectors=file,
        declarations=tuple(declarations),
        connections=connected(tuple((port, port) for port, _ in (*taken, *results))),
        differs=" || ".join(f"{p} !== {_slice(vectors, v.name, 'word')}" for p, v in results),
        shown=", ".join(f"{p} %h" for p, _ in results),
        found=", ".join(p for p, _ in results),
        result_width=sum(width_of(v) or 1 for _, v in results),
        latency=pace[0],
        interval=pace[1],
    )
    return render(f"verilog/testbench/{form}_tb.v.j2", view)


def _results(design: Design, prefix: str) -> list[tuple[str, fx.Var]]:
    """Return the ports that give outputs and next states, with the field of each."""
    pairs = [(f"{prefix}{v.name}", v) for v in design.outputs]
    states = zip(design.states, design.next_states, strict=True)
    return pairs + [(f"{prefix}{state.name}", after) for state, after in states]


def _slice(vectors: Vectors, name: str, word: str) -> str:
    high, low = vectors.place(name)
    return f"{word}[{high}]" if high == low else f"{word}[{high}:{low}]"
