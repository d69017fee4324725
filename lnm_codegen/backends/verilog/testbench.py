"""Self-checking testbenches, and golden vectors of the NumPy model, as lines for `$readmemh`.

A line is one word. Its fields stand from the left in the order of `fields`, in two's complement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.array import (
    ArrayTimes,
    StreamField,
    data_width,
    load_ports,
    stream_fields,
)
from lnm_codegen.backends.verilog.design import CircuitDesign
from lnm_codegen.backends.verilog.expr import declared, hex_text, literal, width_of
from lnm_codegen.backends.verilog.module import connected, declarations, named, same_names
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.interpret import Array, run
from lnm_codegen.ir.types import Bits

SEED = 1


@dataclass(frozen=True, slots=True)
class Vectors:
    """Words for a testbench.

    Attributes:
        fields: Name and width of each field, from the left.
        words: One integer a line.
    """

    fields: tuple[tuple[str, int], ...]
    words: tuple[int, ...]

    @property
    def width(self) -> int:
        """Width of a word."""
        return sum(width for _, width in self.fields)

    def text(self, family: str) -> str:
        """Return the text of the file of a neuron."""
        return hex_text(family, self.words, self.width)

    def slice(self, name: str) -> str:
        """Return the bits of a field, as Verilog selects them."""
        low = self.width
        for field, width in self.fields:
            low -= width
            if field == name:
                return f"[{low}]" if width == 1 else f"[{low + width - 1}:{low}]"
        raise KeyError(name)


def step_vectors(design: CircuitDesign, count: int) -> Vectors:
    """Return time steps from random states and inputs, corners included."""
    rng = np.random.default_rng(SEED)
    variables = (*design.states, *design.inputs)
    values: dict[str, Array] = {v.name: drawn(v, count, rng) for v in variables}
    values |= {c.name: np.full(count, c.integers[0]) for c in design.model.coefficients}
    for var in design.coefficients:
        values[var.name] = _near(values[var.name], var, rng)
    return _packed(design, values, run(design.kernel, values))


def run_vectors(design: CircuitDesign, count: int) -> Vectors:
    """Return consecutive time steps of one neuron from its initial states."""
    rng = np.random.default_rng(SEED)
    inputs = {v.name: drawn(v, count, rng) for v in design.inputs}
    fixed = {c.name: np.asarray(c.integers[0]) for c in design.model.coefficients}
    now = {s.name: np.asarray(s.init) for s in design.model.states}
    taken: dict[str, list[Array]] = {}
    for t in range(count):
        step = {**fixed, **now, **{n: x[t] for n, x in inputs.items()}}
        results = run(design.kernel, step)
        for name, value in (step | results).items():
            taken.setdefault(name, []).append(np.asarray(value))
        now = {name: results[f"{name}_next"] for name in now}
    values = {name: np.array(column) for name, column in taken.items()}
    return _packed(design, values, values)


def _packed(
    design: CircuitDesign, values: Mapping[str, Array], results: Mapping[str, Array]
) -> Vectors:
    """Return states, inputs, coefficients on ports, outputs and next states as words."""
    columns = [(v, values[v.name]) for _, v in design.inner_inputs]
    columns += [(v, results[v.name]) for _, v in design.inner_results]
    count = max(len(np.atleast_1d(column)) for _, column in columns)
    words = [0] * count
    for var, column in columns:
        width = width_of(var) or 1
        mask = (1 << width) - 1
        spread = np.broadcast_to(column, (count,))
        words = [(word << width) | (int(x) & mask) for word, x in zip(words, spread, strict=True)]
    return Vectors(tuple((v.name, width_of(v) or 1) for v, _ in columns), tuple(words))


def drawn(var: fx.Var, count: int, rng: np.random.Generator) -> Array:
    """Return random integers: a quarter from the whole format, the rest near zero, some corners."""
    assert isinstance(var.type, Bits)
    low, high = var.type.low, var.type.high
    wide = rng.integers(low, high, count, endpoint=True)
    near = np.clip(np.rint(rng.normal(0, 1, count) * (1 << var.type.frac)), low, high)
    values = np.where(rng.random(count) < 0.25, wide, near).astype(np.int64)
    corners = [0, 1, -1, low, high, low + 1, high - 1]
    places = rng.permutation(count)[: min(count // 4, 8 * len(corners))]
    values[places] = np.resize(corners, len(places))
    return values


def _near(values: Array, var: fx.Var, rng: np.random.Generator) -> Array:
    """Return a coefficient varied by an eighth of its format, to detect a port that is not read."""
    assert isinstance(var.type, Bits)
    spread = max(1, var.type.high // 8)
    drawn = values + rng.integers(-spread, spread, len(values), endpoint=True)
    return np.asarray(np.clip(drawn, var.type.low, var.type.high))


# Self-checking testbenches of `comb`, `core` and `seq`: golden vectors with random stalls.


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
        **design.view,
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
    return render(f"verilog/testbench.v.j2:{form}", view)


# Testbench of the array: ticks of all neurons, compared with the NumPy model.


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
    ticks = min(3, length // neurons)
    view = {
        **design.view,
        "vectors": file,
        "neurons": neurons,
        "count": len(vectors.words),
        "length": length,
        "first": min(neurons + (neurons + 1) // 2, length),
        "short": min(length, 40),
        "latency": times.latency,
        "ticks": ticks,
        "ticks_cycles": times.until(ticks - 1, neurons),
        **dict(vectors.fields),
        "declarations": [
            f"{declared('wire', f'in_{c.name}', c.bits.width)} ="
            f" {literal(c.integers[0], c.bits.width)};"
            for c in coefficients
        ],
        "connections": "".join(
            [
                *(f", .in_{c.name}(in_{c.name})" for c in coefficients),
                *(f", .{port.name}({port.bits}'d0)" for port in load_ports(design)),
            ]
        ),
    }
    return render("verilog/testbench.v.j2:array", view)
