"""Matrix of two coupled states: the linear part of a step without a spike.

SymPy differentiates charge and reset in the states, with clamps ignored (`charge.unclamped`).
Values of stop_gradient count as any other, since they move the states too:

    s' = A*s + B*x + ...,   A_ij = d s'_i / d s_j at s = 0

The matrix exists if the step is a polynomial in the states, without bound values of states or
inputs, such as stages of a Runge-Kutta method. It decides about stability if the step
is affine, or if it has no constant, so that s = 0 stays where x = 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy

from lnm_codegen.analysis.charge import moves, substituted, unclamped, without_spikes
from lnm_codegen.ir.declarations import Param, State
from lnm_codegen.language.binding import read_by, rebound
from lnm_codegen.language.functions import Where, as_expr, attached
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import Declared, input


@dataclass(frozen=True)
class LinearPart:
    """The matrix A of a neuron of two states, as a function of its parameters.

    Attributes:
        neuron: Neuron without states; its first outputs are A_00, A_01, A_10, A_11.
        scaled: (parameter, element) such that scaling all of them scales A, and changes nothing
            else in the neuron; element 0 of a scalar. None if no such elements exist.
        decides: The step is affine in the states, or a polynomial without a constant.
    """

    neuron: Neuron
    scaled: tuple[tuple[str, int], ...] | None
    decides: bool


@lru_cache(maxsize=256)
def linear_part(neuron: Neuron) -> LinearPart | None:
    """Return the matrix of a neuron of two states, or None where it does not exist."""
    if len(neuron.states) != 2 or any(moves(e) for _, e in neuron.bindings):
        return None
    states = neuron.states
    driven = [_without_spike(neuron, s) for s in states]
    silent: Mapping[Any, Any] = dict.fromkeys(neuron.inputs, as_expr(0))
    after = [substituted(e, silent) for e in driven]
    nothing = dict.fromkeys(states, as_expr(0))
    entries = [after[i].diff(states[j]) for i in range(2) for j in range(2)]
    affine = not any(e.free_symbols & set(states) for e in entries)
    if not affine and not all(e.is_polynomial(*states) for e in after):
        return None
    rests = affine or all(sympy.expand(substituted(e, nothing)) == 0 for e in after)
    matrix = [sympy.expand(substituted(e, nothing)) for e in entries]
    z = input("z")
    outputs = {f"matrix_{k}": e for k, e in enumerate(matrix)}
    probe = Neuron(output={**outputs, "at": z}, name="matrix")
    return LinearPart(probe, _scaled(neuron, matrix, driven), rests)


def _without_spike(neuron: Neuron, state: Declared) -> Any:
    """Return a state after a step without a spike, in inputs and the states before it.

    The spikes are removed first: `where(spike, w, 0)` is a reset, not a clamp.
    """
    charge = {s: unclamped(attached(e)) for s, e in neuron.charge}
    after, own = dict(neuron.reset).get(state, state), dict(neuron.bindings)
    reset = rebound(after, lambda e: attached(without_spikes(e)), own)
    return substituted(unclamped(reset), charge)


def _scaled(
    neuron: Neuron, matrix: list[Any], driven: list[Any]
) -> tuple[tuple[str, int], ...] | None:
    """Return the learnable elements in which A is linear, if they occur nowhere else.

    Args:
        neuron: The neuron.
        matrix: A_00, A_01, A_10, A_11.
        driven: The states after a step without a spike, in inputs and the states before it.
    """
    read = set().union(*(e.free_symbols for e in matrix))
    factors = [s for s in neuron.symbols if s in read]
    if not factors or not all(isinstance(s.decl, Param) and s.decl.learnable for s in factors):
        return None
    for e in matrix:
        if sympy.expand(sum(s * e.diff(s) for s in factors) - e) != 0:
            return None
        if any(e.diff(s).free_symbols & set(factors) for s in factors):
            return None
    linear = [sum(matrix[2 * i + j] * s for j, s in enumerate(neuron.states)) for i in range(2)]
    others = [sympy.expand(e - part) for e, part in zip(driven, linear, strict=True)]
    others += [e for _, e in (*neuron.fire, *neuron.reset, *neuron.output)]
    others += [bound for _, e in neuron.charge for bound in _clamp_bounds(e)]
    own = dict(neuron.bindings)
    if any(read_by(as_expr(e), own) & set(factors) for e in others):
        return None
    elements = [(s.decl.name, s.decl.element_names.index(s.name)) for s in factors]  # type: ignore[union-attr]
    starts = {s.decl.param for s in neuron.states if isinstance(s.decl, State)}
    return None if any(name in starts for name, _ in elements) else tuple(elements)


def _clamp_bounds(expr: Any) -> list[Any]:
    """Return the branches that `unclamped` removes, and other branches without a state or input."""
    branches = (b for where in as_expr(expr).atoms(Where) for b in where.operands[1:])
    return [b for b in branches if not moves(b)]
