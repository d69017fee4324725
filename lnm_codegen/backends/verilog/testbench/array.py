"""Testbench of the array: ticks of all neurons, compared with the NumPy model."""

from __future__ import annotations

from itertools import product

import numpy as np

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.array.module import ArrayTimes
from lnm_codegen.backends.verilog.array.stream import StreamField, data_width, stream_fields
from lnm_codegen.backends.verilog.expr import declared, literal
from lnm_codegen.backends.verilog.parts import CircuitDesign
from lnm_codegen.backends.verilog.testbench.vectors import SEED, Vectors, drawn
from lnm_codegen.ir.fixed.interpret import Array, run

MIN_TICKS, MAX_UPDATES = 8, 1 << 15
"""Minimum number of random ticks; maximum of neuron updates. There are at least two ticks."""


def array_vectors(design: CircuitDesign, count: int) -> Vectors:
    """Return ticks of all neurons: the model's stimulus, or about `count` random updates.

    A word concatenates the input data (left) and the result data. Each sequence of a stimulus
    begins with the initial states; random inputs are one sequence.
    """
    neurons, channels = design.rtl.neurons, design.model.channels
    stimulus = design.model.stimulus or _random_ticks(design, count)
    sequences, ticks = next(iter(stimulus.values())).shape[:2]
    coefficients = {
        c.name: np.repeat(c.integers, neurons // channels) if len(c.integers) > 1 else c.integers[0]
        for c in design.model.coefficients
    }
    start: dict[str, Array] = {s.name: np.full(neurons, s.init) for s in design.model.states}
    inputs, outputs = stream_fields(design)
    width = data_width(outputs)
    words: list[int] = []
    states = start
    for k, t in product(range(sequences), range(ticks)):
        states = states if t else start
        now = {name: x[k, t] for name, x in stimulus.items()}
        results = run(design.kernel, coefficients | states | now)
        states = {name: results[f"{name}_next"] for name in states}
        columns = (_data(inputs, now, neurons), _data(outputs, results | states, neurons))
        words += [(x << width) | y for x, y in zip(*columns, strict=True)]
    return Vectors((("taken", data_width(inputs)), ("given", width)), tuple(words))


def _random_ticks(design: CircuitDesign, count: int) -> dict[str, Array]:
    """Return random inputs of at least `count` updates, shape (1, ticks, neurons)."""
    neurons = design.rtl.neurons
    ticks = max(2, min(max(MIN_TICKS, -(-count // neurons)), MAX_UPDATES // neurons))
    rng = np.random.default_rng(SEED)
    shape = (1, ticks, neurons)
    return {v.name: drawn(v, ticks * neurons, rng).reshape(shape) for v in design.inputs}


def _data(fields: tuple[StreamField, ...], values: dict[str, Array], count: int) -> list[int]:
    words = [0] * count
    for field in fields:
        column = np.broadcast_to(values[field.var.name], (count,)).tolist()
        words = [w | field.packed(int(x)) for w, x in zip(words, column, strict=True)]
    return words


def sequence_length(design: CircuitDesign, vectors: Vectors) -> int:
    """Return the number of vectors per sequence."""
    stimulus = design.model.stimulus
    sequences = 1 if stimulus is None else len(next(iter(stimulus.values())))
    return len(vectors.words) // sequences


def array_testbench(design: CircuitDesign, times: ArrayTimes, vectors: Vectors, file: str) -> str:
    """Return the testbench, which reads the vectors from `file`."""
    neurons, length = design.rtl.neurons, sequence_length(design, vectors)
    held = {v.name for v in design.coefficients if design.rtl.coefficients == "port"}
    coefficients = [c for c in design.model.coefficients if c.name in held]
    view = {
        **design.heading,
        "vectors": file,
        "neurons": neurons,
        "count": len(vectors.words),
        "length": length,
        "first": min(neurons + (neurons + 1) // 2, length),
        "short": min(length, 40),
        "latency": times.latency,
        "ticks": min(3, length // neurons),
        "tick_cycles": times.tick_cycles,
        **dict(vectors.fields),
        "declarations": [
            f"{declared('wire', f'in_{c.name}', c.bits.width)} ="
            f" {literal(c.integers[0], c.bits.width)};"
            for c in coefficients
        ],
        "connections": "".join(f", .in_{c.name}(in_{c.name})" for c in coefficients),
    }
    return render("verilog/testbench/array_tb.v.j2", view)
