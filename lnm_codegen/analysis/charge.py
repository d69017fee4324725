"""What a neuron does to its potential in a step without input, as a neuron of its own.

    curve    z -> h(v[t-1] = z, x = 0)
    slope    z -> dh/dv there, and its derivatives in what is learned

The other states are at their initial values. Both are derived by SymPy from the charge, so that
they hold for every family and form, and come as neurons without states, which the compiler lowers
like any other: their input is the potential before the step, under its own name.

A clamp is ignored by the slope: a `where` with one branch that no state and no input decides
stands for its other branch. What a clamp cuts off has slope 0 and passes no gradient; counted so,
the largest slope would jump where the edge of the clamp moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy
from sympy.core.relational import Relational

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.language.functions import Where, as_expr
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import Declared, Input, Param, State, input


@dataclass(frozen=True)
class SlopeNeuron:
    """The slope of a charge.

    Attributes:
        neuron: Its outputs are the slope, then its derivatives in `learned`, then the potential.
        learned: (parameter, element) of each derivative, 0 for a scalar; those alone that the
            slope reads.
        degree: Of the slope as a polynomial in the potential; None where it is none.
    """

    neuron: Neuron
    learned: tuple[tuple[str, int], ...]
    degree: int | None


def potential_of(neuron: Neuron) -> Declared:
    """Return the state `v`, or the first one where none has that name.

    Raises:
        UnsupportedError: A neuron without states.
    """
    if not neuron.states:
        raise UnsupportedError(neuron.name, "no state, so there is no curve to draw")
    return next((s for s in neuron.states if s.name == "v"), neuron.states[0])


def charge_without_input(neuron: Neuron) -> Any:
    """Return the charged potential where inputs are 0 and the other states at their initial values.

    An initial value that is drawn counts as 0.
    """
    v = potential_of(neuron)
    table: dict[Any, Any] = {s: as_expr(0) for s in neuron.inputs}
    for state in neuron.states:
        if state != v:
            init = state.decl.init  # type: ignore[union-attr]
            table[state] = as_expr(0 if callable(init) else init)
    return substituted(dict(neuron.charge).get(v, v), table)


@lru_cache(maxsize=256)
def curve_neuron(neuron: Neuron) -> Neuron:
    """Return the neuron whose first output is the charge curve."""
    v = potential_of(neuron)
    return _probe(neuron, v, {"curve": charge_without_input(neuron)})


@lru_cache(maxsize=256)
def slope_neuron(neuron: Neuron) -> SlopeNeuron:
    """Return the slope of the charge curve, clamps ignored."""
    v = potential_of(neuron)
    slope = unclamped(charge_without_input(neuron)).diff(v)
    read = [s for s in neuron.symbols if isinstance(s.decl, Param) and s.decl.learnable]
    read = [s for s in read if s in slope.free_symbols]
    learned = tuple((s.decl.name, s.decl.element_names.index(s.name)) for s in read)  # type: ignore[union-attr]
    outputs = {"slope": slope} | {f"d{k}": slope.diff(s) for k, s in enumerate(read)}
    degree = sympy.degree(slope, v) if slope.is_polynomial(v) else None
    least = None if degree is None else int(max(degree, 0))  # SymPy has -oo for a slope of 0
    return SlopeNeuron(_probe(neuron, v, outputs), learned, least)


def unclamped(expr: Any) -> Any:
    """Return the expression without clamps, see above."""
    if isinstance(expr, Where):
        _, then, orelse = expr.operands
        moving = [b for b in (then, orelse) if _moves(b)]
        if len(moving) == 1:
            return unclamped(moving[0])
    if not expr.args or isinstance(expr, Relational):
        return expr
    return expr.func(*(unclamped(a) for a in expr.args))


def _moves(expr: Any) -> bool:
    """Say whether a state or an input decides the value."""
    return any(isinstance(getattr(s, "decl", None), State | Input) for s in expr.free_symbols)


def substituted(expr: Any, table: Mapping[Any, Any]) -> Any:
    """Return `expr` with symbols replaced; a comparison of symbols is left as it stands.

    SymPy would decide it by assumptions, which may take it long.
    """
    if expr in table:
        return table[expr]
    if not expr.args:
        return expr
    args = [substituted(a, table) for a in expr.args]
    if isinstance(expr, Relational) and not all(a.is_number for a in args):
        return expr.func(*args, evaluate=False)
    return expr.func(*args)


def _probe(neuron: Neuron, v: Declared, outputs: Mapping[str, Any]) -> Neuron:
    """Return the neuron of these outputs, whose input has the potential's name."""
    z = input(v.name)
    moved = {name: substituted(as_expr(e), {v: z}) for name, e in outputs.items()}
    return Neuron(output={**moved, "at": z}, name="curve")
