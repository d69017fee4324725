"""Digest of a neuron's definition, equal in every process and version of SymPy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from lnm_codegen.ir.declarations import Param, State
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.text.printed import printed


def definition_digest(neuron: Neuron, with_surrogates: bool = True) -> str:
    """Return the SHA-256 of the equations, declarations and surrogates of a neuron.

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
