"""The array's testbench: ticks of all neurons, as the NumPy model says they go."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.array.array import ArrayTimes
from lnm_codegen.backends.verilog.array.stream import Field, data_width, fields
from lnm_codegen.backends.verilog.expr import declared, literal
from lnm_codegen.backends.verilog.parts import Design
from lnm_codegen.backends.verilog.testbench.vectors import SEED, Vectors, drawn
from lnm_codegen.ir.fixed.interpret import Array, run

TICKS, MOST = 8, 1 << 15
"""How many ticks, and how many updates at most; two ticks in any case."""


def array_vectors(design: Design, count: int) -> Vectors:
    """Return ticks of all neurons: what the model is to play, or `count` updates that are drawn.

    A word is the data of an input, then that of its result. Each sequence of a stimulus begins
    with the initial states; drawn inputs are one sequence.
    """
    neurons, channels = design.rtl.neurons, design.model.channels
    inputs = design.model.stimulus or _drawn_ticks(design, count)
    sequences, ticks = next(iter(inputs.values())).shape[:2]
    coefficients = {
        c.name: np.repeat(c.integers, neurons // channels) if len(c.integers) > 1 else c.integers[0]
        for c in design.model.coefficients
    }
    start = {s.name: np.full(neurons, s.init) for s in design.model.states}
    taken, given = fields(design.inputs), fields((*design.states, *design.outputs))
    words: list[int] = []
    states = start
    for k, t in product(range(sequences), range(ticks)):
        states = states if t else start
        now = {name: x[k, t] for name, x in inputs.items()}
        results = run(design.kernel, coefficients | states | now)
        states = {name: results[f"{name}_next"] for name in states}
        columns = (_data(taken, now, neurons), _data(given, results | states, neurons))
        width = data_width(given)
        words += [(x << width) | y for x, y in zip(*columns, strict=True)]
    return Vectors((("taken", data_width(taken)), ("given", data_width(given))), tuple(words))


def _drawn_ticks(design: Design, count: int) -> dict[str, Array]:
    """Return inputs that are drawn, (1, ticks, neurons): `count` updates or some more."""
    neurons = design.rtl.neurons
    ticks = max(2, min(max(TICKS, -(-count // neurons)), MOST // neurons))
    rng = np.random.default_rng(SEED)
    shape = (1, ticks, neurons)
    return {v.name: drawn(v, ticks * neurons, rng).reshape(shape) for v in design.inputs}


def _data(placed: tuple[Field, ...], values: dict[str, Array], count: int) -> list[int]:
    words = [0] * count
    for field in placed:
        column = np.broadcast_to(values[field.var.name], (count,)).tolist()
        words = [w | field.packed(int(x)) for w, x in zip(words, column, strict=True)]
    return words


@dataclass(frozen=True, slots=True)
class _View:
    family: str
    name: str
    vectors: str
    neurons: int
    count: int
    length: int
    first: int
    short: int
    latency: int
    ticks: int
    tick_cycles: int
    taken: int
    given: int
    declarations: tuple[str, ...]
    connections: str


def array_testbench(design: Design, times: ArrayTimes, vectors: Vectors, file: str) -> str:
    """Return the testbench, which reads the vectors from `file`."""
    neurons, count = design.rtl.neurons, len(vectors.words)
    stimulus = design.model.stimulus
    length = count if stimulus is None else count // len(next(iter(stimulus.values())))
    widths = dict(vectors.fields)
    values = {c.name: c.integers[0] for c in design.model.coefficients}
    held = design.coefficients if design.rtl.coefficients == "port" else ()
    bits = {c.name: c.bits.width for c in design.model.coefficients}
    view = _View(
        family=design.model.family,
        name=design.name,
        vectors=file,
        neurons=neurons,
        count=count,
        length=length,
        first=min(neurons + (neurons + 1) // 2, length),
        short=min(length, 40),
        latency=times.latency,
        ticks=min(3, length // neurons),
        tick_cycles=times.tick_cycles,
        taken=widths["taken"],
        given=widths["given"],
        declarations=tuple(
            f"{declared('wire', f'in_{v.name}', bits[v.name])} ="
            f" {literal(values[v.name], bits[v.name])};"
            for v in held
        ),
        connections="".join(f", .in_{v.name}(in_{v.name})" for v in held),
    )
    return render("verilog/testbench/array_tb.v.j2", view)
