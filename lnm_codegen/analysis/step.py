"""A step of a neuron as a map F from boxes of states to boxes: exact, outward, and in floats."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property
from itertools import product
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lnm_codegen.analysis.arithmetic.interval import Interval, interval_of, point
from lnm_codegen.analysis.arithmetic.pieces import SymbolicKernel
from lnm_codegen.analysis.exact import nodes_of, parameters_for, prepared_parameters
from lnm_codegen.analysis.plane.polygon import hull_of
from lnm_codegen.analysis.plane.search import FARTHEST
from lnm_codegen.analysis.plane.step import PlaneStep, plane_step
from lnm_codegen.analysis.ranges import Given, checked
from lnm_codegen.analysis.symbolic import symbolic
from lnm_codegen.compiler.arguments import SINGLE, parameters_of, start_of
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import run
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.passes.simplify import keep_results
from lnm_codegen.language.neuron import Neuron

Box: TypeAlias = dict[str, Interval]
Ends: TypeAlias = NDArray[np.float64]
"""(2, states): the lows and the highs of a box, in floats."""
_LANES = 300  # most points of a grid in a box
_ROUNDING = 2.0**-30  # of the size, for floats
_NEAR = Fraction(1, 1 << 20)


class BoxStep:
    """F: box of states -> box of the states after a step.

    Two states whose step is affine in pieces have the exact F, from the corners of the box. Any
    other F is evaluated outward, by the ranges of the kernel.

    Attributes:
        work: Rational numbers that were visited, counted: terms of polynomials, once for their
            value and once for each condition, and corners. A deterministic measure of time.
    """

    def __init__(self, neuron: Neuron, inputs: Given, values: Mapping[str, Any] | None) -> None:
        nodes = nodes_of(lower(neuron))
        self.name = neuron.name
        after = set(nodes.result_names(Role.STATE))
        self.kernel: ir.Kernel = keep_results(nodes, after)
        self.inputs = checked(neuron.name, nodes, Role.INPUT, inputs)
        self.values = parameters_for(neuron.name, nodes, prepared_parameters(neuron, values))
        self.names = nodes.input_names(Role.STATE)
        kind = np.dtype("float64")
        raw = parameters_of(neuron, values or {}, SINGLE, kind)
        start = start_of(neuron, None, (), kind, raw)
        self.start = {n: interval_of(neuron.name, f"state {n!r}", float(start[n])) for n in start}
        self.work = 0
        self._fixed: Box = {**self.inputs, **{n: point(v) for n, v in self.values.items()}}

    def __call__(self, box: Mapping[str, Interval]) -> Box:
        """Return F(box), or raise UnsupportedError."""
        if self.plane is not None and all(i.magnitude <= FARTHEST for i in box.values()):
            return self._image(self.plane, box)
        found = self.pieces(box)
        return {n: found.range(f"{n}_next") for n in self.names}

    def keeps(self, box: Mapping[str, Interval]) -> bool:
        """Report whether F(box) lies in the box; True is proven."""
        try:
            after = self(box)
        except UnsupportedError:
            return False
        return all(box[n].holds(after[n]) for n in self.names)

    @cached_property
    def plane(self) -> PlaneStep[Fraction] | None:
        """The step of two states as one that is affine in pieces, or None."""
        if len(self.names) != 2:
            return None
        middle = {n: point((i.low + i.high) / 2) for n, i in self.inputs.items()}
        near = {n: Interval(i.low - _NEAR, i.high + _NEAR) for n, i in self.start.items()}
        around = dict.fromkeys(self.names, Interval(Fraction(-FARTHEST), Fraction(FARTHEST)))
        try:
            # Few pieces hold so near to the start, where most other steps show that they are none.
            if plane_step(self.pieces({**middle, **near}), self.names, middle) is None:
                return None
            return plane_step(self.pieces(around), self.names, self.inputs)
        except UnsupportedError:  # a chain of bound values has no finite range so far away
            return None

    def pieces(self, box: Mapping[str, Interval]) -> SymbolicKernel:
        """Return the kernel over a box, or raise UnsupportedError."""
        table = {**self._fixed, **box}
        ports = {p.var.name for p in self.kernel.inputs}
        found = symbolic(self.kernel, {n: table[n] for n in ports})
        self.work += _terms(found)
        return found

    def _image(self, plane: PlaneStep[Fraction], box: Mapping[str, Interval]) -> Box:
        v, w = ((box[n].low, box[n].high) for n in self.names)
        image = plane.image(hull_of(product(v, w)))
        self.work += len(image)
        columns = zip(*image, strict=True)
        return {n: Interval(min(c), max(c)) for n, c in zip(self.names, columns, strict=True)}

    def sampled(self, ends: Ends) -> Ends:
        """Return the least box, in floats, of states after a step from a grid in a box."""
        values = ends[0] + self._grid[:, : len(self.names)] * (ends[1] - ends[0])
        given = {n: values[:, k] for k, n in enumerate(self.names)}
        after = run(self.kernel, {**self._floats, **given})
        columns = [after[f"{n}_next"] for n in self.names]
        return np.array([[c.min() for c in columns], [c.max() for c in columns]])

    def leaves(self, box: Mapping[str, Interval]) -> bool:
        """Report whether a state of the grid leaves the box by more than rounding; in floats."""
        ends = self.ends(box)
        after, margin = self.sampled(ends), _ROUNDING * (1 + np.abs(ends).max())
        inside = (after[0] >= ends[0] - margin) & (after[1] <= ends[1] + margin)
        return not bool(inside.all())

    def ends(self, box: Mapping[str, Interval]) -> Ends:
        """Return the ends of a box, rounded."""
        lows = [float(box[n].low) for n in self.names]
        return np.array([lows, [float(box[n].high) for n in self.names]])

    @cached_property
    def _grid(self) -> Ends:
        """Points of the unit cube of states and inputs, its corners among them."""
        axes = len(self.names) + len(self.inputs)
        most = max(2, min(17, int(_LANES ** (1 / axes))))
        return np.array(list(product(np.linspace(0, 1, most), repeat=axes)))

    @cached_property
    def _floats(self) -> dict[str, Any]:
        """Parameters and inputs, for every point of the grid."""
        found: dict[str, Any] = {n: float(v) for n, v in self.values.items()}
        for k, (name, x) in enumerate(self.inputs.items(), start=len(self.names)):
            found[name] = float(x.low) + self._grid[:, k] * float(x.width)
        return found


def _terms(found: SymbolicKernel) -> int:
    return sum(
        (1 + len(piece.conditions))
        * (
            (1 if isinstance(piece.value, bool) else len(piece.value.terms))
            + sum(len(c.poly.terms) for c in piece.conditions)
        )
        for pieces in found.pieces.values()
        for piece in pieces
    )
