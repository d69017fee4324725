"""Golden vectors: stimuli and results of the NumPy model, as hexadecimal lines for `$readmemh`.

A line is one word. Its fields stand from the left in the order of `fields`, in two's complement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lnm_codegen.backends.verilog.expr import width_of
from lnm_codegen.backends.verilog.hexadecimal import hex_text
from lnm_codegen.backends.verilog.parts import CircuitDesign
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.interpret import Array, run
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
