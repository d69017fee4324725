"""A neuron as the text of a definition, which `definition.read` reads back as the same neuron."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable
from typing import Any

import sympy

from lnm_codegen.errors import LnmError, UnsupportedError
from lnm_codegen.ir.declarations import Param, State
from lnm_codegen.language.functions import replaced
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import SURROGATES, Surrogate, Z
from lnm_codegen.language.text.definition import read


def definition_of(neuron: Neuron) -> str:
    """Return a TOML text that defines the neuron.

    A parameter that a function initialises begins at 0 in the text. The name gets a final
    underscore if it is a word of Python.

    Raises:
        UnsupportedError: The text would define another neuron: bound values, a state that a
            function initialises, a surrogate without a name.
    """
    if neuron.bindings or neuron.prologue or neuron.counts:
        raise UnsupportedError(neuron.name, "bound values or a normalisation have no text form")
    text = "\n".join([*_head(neuron), *_tables(neuron)]) + "\n"
    try:
        same = _summary(read(text, neuron.name)) == _summary(neuron)
    except LnmError as error:
        raise UnsupportedError(neuron.name, f"it has no text form: {error.problem}") from None
    if not same:
        raise UnsupportedError(neuron.name, "its text form would be another neuron")
    return text


def _head(neuron: Neuron) -> list[str]:
    lines = [f'name = "{_name(neuron)}"']
    names = ", ".join(f'"{s.name}"' for s in neuron.inputs)
    lines.append(f"inputs = [{names}]")
    surrogates = {spike: _surrogate(neuron, s) for spike, s in neuron.surrogates}
    if len(neuron.fire) == 1 and neuron.spikes == ("spike",):
        lines.append(f"fire = {_quoted(neuron, neuron.fire[0][1])}")
        lines.append(f"surrogate = {surrogates['spike']}")
    elif surrogates:
        pairs = ", ".join(f"{spike} = {text}" for spike, text in surrogates.items())
        lines.append(f"surrogate = {{ {pairs} }}")
    if neuron.detach_reset:
        lines.append("detach_reset = true")
    return lines


def _tables(neuron: Neuron) -> list[str]:
    lines: list[str] = []
    for symbol in neuron.states:
        decl = symbol.decl
        assert isinstance(decl, State)
        if callable(decl.init) and not decl.param:
            raise UnsupportedError(neuron.name, f"a function initialises state {decl.name!r}")
        init = f'"{decl.param}"' if decl.param else repr(decl.init)
        lines += [f"[states.{decl.name}]", f"init = {init}"]
    for param in neuron.params:
        lines += [f"[params.{param.name}]", *_param(param)]
    phases: list[tuple[str, Iterable[tuple[Any, Any]]]] = [
        ("charge", neuron.charge),
        ("reset", neuron.reset),
        ("output", neuron.output),
    ]
    if neuron.fire and neuron.spikes != ("spike",):
        phases.insert(0, ("fire", neuron.fire))
    for phase, pairs in phases:
        if pairs and not _is_default_output(neuron, phase):
            lines.append(f"[{phase}]")
            lines += [f"{getattr(key, 'name', key)} = {_quoted(neuron, e)}" for key, e in pairs]
    return lines


def _is_default_output(neuron: Neuron, phase: str) -> bool:
    return phase == "output" and [n for n, _ in neuron.output] == ["spike"] == [
        str(e) for _, e in neuron.output
    ]


def _param(param: Param) -> list[str]:
    init = 0.0 if callable(param.init) else param.init
    lines = [] if param.size is None else [f"size = {param.size}"]
    lines.append(f"init = {list(init) if isinstance(init, tuple) else init!r}")
    return [*lines, f"learnable = {str(param.learnable).lower()}", f'per = "{param.per}"']


def _quoted(neuron: Neuron, expr: Any) -> str:
    """Return an expression in quotes, with elements of vectors as theta[2]."""
    text = str(_exact(expr))
    for param in neuron.params:
        for k, name in enumerate(param.element_names if param.size is not None else ()):
            text = re.sub(rf"\b{name}\b", f"{param.name}[{k}]", text)
    return f'"{text}"'


def _exact(expr: Any) -> Any:
    """Return an expression whose floats are the decimals that Python writes for them."""
    floats = {number: sympy.Rational(repr(float(number))) for number in expr.atoms(sympy.Float)}
    return replaced(expr, floats) if floats else expr


def _name(neuron: Neuron) -> str:
    return f"{neuron.name}_" if keyword.iskeyword(neuron.name) else neuron.name


def _surrogate(neuron: Neuron, surrogate: Surrogate) -> str:
    """Return the table of a surrogate, whose alpha is read off its slope."""
    make = SURROGATES.get(surrogate.name)
    if make is SURROGATES["straight_through"]:
        return f'"{surrogate.name}"'
    half = sympy.Rational(1, 2)
    at_zero, at_half = (sympy.nsimplify(surrogate.slope.subs(Z, z)) for z in (0, half))
    candidates = [at_zero * k for k in (1, 2, 4)] + [at_zero * sympy.sqrt(sympy.pi)]
    if at_half.is_positive:
        candidates += [2 * (1 / sympy.sqrt(at_half) - 1)]
    for alpha in candidates:
        if make and alpha.is_Rational and alpha > 0 and make(float(alpha)) == surrogate:
            return f'{{ kind = "{surrogate.name}", alpha = {float(alpha)!r} }}'
    raise UnsupportedError(neuron.name, f"surrogate {surrogate.name!r} has no name in text")


def _summary(neuron: Neuron) -> tuple[Any, ...]:
    """Return what a neuron is, with symbols by name; initial values of parameters are left out."""
    plain = {s: sympy.Symbol(s.name) for s in (*neuron.symbols, *(s for s, _ in neuron.fire))}
    phases = tuple(
        tuple((getattr(key, "name", key), replaced(_exact(e), plain)) for key, e in pairs)
        for pairs in (neuron.charge, neuron.fire, neuron.reset, neuron.output)
    )
    starts = tuple((s.name, getattr(s.decl, "param", "")) for s in neuron.states)
    params = tuple((p.name, p.size, p.learnable, p.per) for p in neuron.params)
    inputs = tuple(s.name for s in neuron.inputs)
    surrogates = tuple((spike, s.slope) for spike, s in neuron.surrogates)
    return (_name(neuron), phases, starts, params, inputs, surrogates, neuron.detach_reset)
