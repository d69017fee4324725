"""Digests of a neuron: of its definition, and of its step in SymPy's order of terms."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import sympy

from lnm_codegen.ir.declarations import Param, State
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Declared
from lnm_codegen.language.text.written import printed


def definition_digest(neuron: Neuron, with_surrogates: bool = True) -> str:
    """Return the SHA-256 of the equations, declarations and surrogates of a neuron.

    It is equal in every process and version of SymPy.

    Its name and the initial values of learnable parameters are left out: a trained network has the
    learned values. Terms and factors are in the order of their text, not in that of SymPy.

    Args:
        neuron: The definition.
        with_surrogates: Include the surrogate of each spike.
    """
    lines = list(_lines(neuron))
    if with_surrogates:
        lines += [f"surrogate {spike} = {_surrogate(s)}" for spike, s in neuron.surrogates]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _lines(neuron: Neuron) -> Iterator[str]:
    for symbol in (*neuron.inputs, *neuron.states):
        yield _state(symbol.decl) if isinstance(symbol.decl, State) else str(symbol.decl)
    yield from map(_param, neuron.params)
    yield f"detach_reset = {neuron.detach_reset}, prologue = {neuron.prologue}"
    for phase in ("bindings", "charge", "fire", "reset", "output", "counts"):
        for key, expr in getattr(neuron, phase):
            yield f"{phase} {getattr(key, 'name', key)} = {printed(expr)}"


def _state(decl: State) -> str:
    return f"state {decl.name} = {decl.param or _value(decl.init)}"


def _param(decl: Param) -> str:
    value = "learnable" if decl.learnable else _value(decl.init)
    return f"param {decl.name}[{decl.size}] per {decl.per} = {value}"


def _value(init: object) -> str:
    return "function" if callable(init) else str(init)


def _surrogate(surrogate: Surrogate) -> str:
    if surrogate.arguments is None:
        return printed(surrogate.slope)
    return f"{surrogate.name} {surrogate.arguments}"


@lru_cache(maxsize=256)
def step_digest(neuron: Neuron) -> str:
    """Return a digest that is equal for two neurons only if their kernels are equal.

    The initial values of parameters are left out, since a call reads them from tensors. Unlike
    `Neuron.__eq__`, the digest does not distinguish symbols that were declared twice.
    """
    slopes = [(spike, surrogate.slope) for spike, surrogate in neuron.surrogates]
    phases = (neuron.charge, neuron.fire, neuron.reset, neuron.output, neuron.counts)
    parts = (*phases, neuron.bindings, slopes)
    content = (
        (neuron.name, neuron.detach_reset, neuron.prologue),
        [_interface(s.decl) for s in neuron.symbols],
        [[str(key) for key, _ in part] for part in parts],
        _nodes([expr for part in parts for _, expr in part]),
    )
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _interface(decl: Any) -> Any:
    """Return a declaration without the initial value of a parameter."""
    if isinstance(decl, Param):
        return decl.name, decl.size, decl.learnable, decl.per
    if isinstance(decl, State) and decl.param:
        return decl.name, decl.param
    return decl


def _nodes(exprs: Sequence[sympy.Basic]) -> list[Any]:
    """Return the nodes of expressions in preorder; a node that was there before is its number.

    An inner node is its name and the number of its arguments. A loop walks, because an equation
    may be deeper than Python's recursion limit.
    """
    seen: dict[sympy.Basic, int] = {}
    found: list[Any] = []
    stack = [*reversed(exprs)]
    while stack:
        node = stack.pop()
        if node in seen:
            found.append(seen[node])
            continue
        seen[node] = len(seen)
        if node.args:
            found.append((type(node).__name__, len(node.args)))
            stack.extend(reversed(node.args))
        else:
            found.append(node.name if isinstance(node, Declared) else sympy.srepr(node))
    return found
