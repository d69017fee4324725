"""Equations and declarations of a neuron, as lines of text and in LaTeX.

`neuron.py` imports this module for its `repr`, so an argument `neuron` has no type here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import sympy

from lnm_codegen.ir.declarations import Init, Param, State
from lnm_codegen.language.functions import replaced

_LONGEST_LINE = 160
_LONGEST_VECTOR = 6
_MOST_BOUND = 20
_DETACHED = "reset   spikes inside it have no derivative (detach_reset)"
_LONGEST_NUMBER, _DIGITS = 10, 8
"""Digits of a number that is printed as it is; significant digits of any other."""


def equations(neuron: Any) -> tuple[str, ...]:
    """Return the definition as lines of text: phase, symbol, expression."""
    lines = [f"bound   {s} = {e}" for s, e in neuron.bindings]
    lines += [f"charge  {s} <- {e}" for s, e in neuron.charge]
    lines += [f"fire    {s} = [{e} >= 0]" for s, e in neuron.fire]
    lines += [f"reset   {s} <- {e}" for s, e in neuron.reset]
    return (*lines, *(f"output  {name} = {e}" for name, e in neuron.output))


def slopes(neuron: Any) -> tuple[str, ...]:
    """Return what derivatives depend on beside the equations: the slope of each spike, in a line.

    A surrogate of the library is named, with its argument.
    """
    lines = [
        f"slope   d {spike}/dz = {_rounded(s.slope)}" + (f"  ({s})" if s.arguments else "")
        for spike, s in neuron.surrogates
    ]
    return (*lines, _DETACHED) if neuron.detach_reset else tuple(lines)


def brief(neuron: Any) -> tuple[str, ...]:
    """Return the definition as in `equations`, for reading.

    More than 20 bound values become one line, and long numbers have 8 significant digits.
    """
    bound = [f"bound   {s} = {_rounded(e)}" for s, e in neuron.bindings]
    if len(bound) > _MOST_BOUND:
        bound = [f"bound   {len(bound)} values (neuron.bindings holds them)"]
    lines = [f"charge  {s} <- {_rounded(e)}" for s, e in neuron.charge]
    lines += [f"fire    {s} = [{_rounded(e)} >= 0]" for s, e in neuron.fire]
    lines += [f"reset   {s} <- {_rounded(e)}" for s, e in neuron.reset]
    return (*bound, *lines, *(f"output  {name} = {_rounded(e)}" for name, e in neuron.output))


def _rounded(expr: Any) -> Any:
    """Return an expression whose numbers have at most 8 significant digits, or are short."""
    numbers = expr.atoms(sympy.Rational, sympy.Float)
    long = [n for n in numbers if sum(map(str.isdigit, str(n))) > _LONGEST_NUMBER]
    return replaced(expr, {n: sympy.Float(n, _DIGITS) for n in long}) if long else expr


def text(neuron: Any) -> str:
    """Return name, equations, surrogates and declarations, a line each; long ones are cut."""
    lines = [*brief(neuron)]
    lines += [f"slope   d {spike}/dz = {s.slope}  ({s.name})" for spike, s in neuron.surrogates]
    if neuron.detach_reset:
        lines.append(_DETACHED)
    lines += [f"state   {s} {_initial(s.decl)}" for s in neuron.states]
    lines += [f"input   {s}" for s in neuron.inputs]
    for p in neuron.params:
        drawn = "" if p.draw is None else ", drawn in a layer"
        lines.append(f"param   {p.name} {_start(p.init)}{drawn}, {_kind(p)}")
    return "\n".join([f"neuron {neuron.name}", *(f"  {_cut(line)}" for line in lines)])


def latex(neuron: Any) -> str:
    """Return equations and declarations as an array in LaTeX, a row each, between `$` signs."""
    rows = [("bound", f"{_tex(s)} = {_tex(e)}") for s, e in neuron.bindings]
    rows += [("charge", rf"{_tex(s)} \leftarrow {_tex(e)}") for s, e in neuron.charge]
    rows += [("fire", rf"{_tex(s)} = \left[{_tex(e)} \geq 0\right]") for s, e in neuron.fire]
    rows += [("reset", rf"{_tex(s)} \leftarrow {_tex(e)}") for s, e in neuron.reset]
    rows += [("output", f"{_tex_name(name)} = {_tex(e)}") for name, e in neuron.output]
    declared = (
        ("states", [_tex(s) + _tex_initial(s.decl) for s in neuron.states]),
        ("inputs", [_tex(s) for s in neuron.inputs]),
        ("parameters", [_tex_name(p.name) + _tex_start(p.init) for p in neuron.params]),
    )
    rows += [(kind, r",\; ".join(items)) for kind, items in declared if items]
    lines = [rf"{_upright(neuron.name)} &", *(rf"\text{{{kind}}} & {row}" for kind, row in rows)]
    body = " \\\\\n".join(lines)
    return f"$\\displaystyle \\begin{{array}}{{ll}}\n{body}\n\\end{{array}}$"


def _kind(param: Param) -> str:
    per = "" if param.per == "layer" and not param.learnable else f" per {param.per}"
    return ("learnable" if param.learnable else "constant") + per


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 3]}..."


def _initial(state: State) -> str:
    return f"= {state.param}" if state.param else _start(state.init)


def _tex_initial(state: State) -> str:
    return f" = {_tex_name(state.param)}" if state.param else _tex_start(state.init)


def _start(init: Init) -> str:
    return f"drawn by {_name_of(init)}" if callable(init) else f"= {_numbers(init, '...')}"


def _tex_start(init: Init) -> str:
    """Return the initial value after a symbol: = number, = (vector), or ~ distribution."""
    if callable(init):
        return rf" \sim {_upright(_name_of(init))}"
    return f" = {_numbers(init, chr(92) + 'ldots')}"


def _name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _numbers(init: Any, ellipsis: str) -> str:
    """Return a number, or at most six of a vector."""
    if not isinstance(init, tuple):
        return f"{init + 0.0:g}"  # + 0.0: so that -0.0 becomes 0
    shown = [f"{value + 0.0:g}" for value in init[:_LONGEST_VECTOR]]
    more = [ellipsis] if len(init) > _LONGEST_VECTOR else []
    return f"[{', '.join([*shown, *more])}]"


def _tex(expr: Any) -> str:
    names = {symbol: _tex_name(symbol.name) for symbol in expr.free_symbols}
    return str(sympy.latex(expr, symbol_names=names, mul_symbol=r" \, "))


def _tex_name(name: str) -> str:
    r"""Return a name as SymPy writes it, `\theta_{0}`; several Latin letters stand upright."""
    return re.sub(r"^[A-Za-z]{2,}", r"\\mathrm{\g<0>}", str(sympy.latex(sympy.Symbol(name))))


def _upright(name: str) -> str:
    return r"\mathrm{" + re.sub(r"[^A-Za-z0-9]", lambda m: "\\" + m[0], name) + "}"
