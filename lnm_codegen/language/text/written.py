"""Neurons as text: `written(neuron)`, which `definition.load` reads back.

`neuron.py` imports this module for `Neuron.to_toml`, so an argument `neuron` has no type here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from typing import Any

import sympy
from sympy.core.relational import Relational

from lnm_codegen.errors import InternalError, ModelError
from lnm_codegen.ir.declarations import Param, State
from lnm_codegen.language import functions as fn
from lnm_codegen.language.bounds import applied
from lnm_codegen.language.functions import CALLS, Where, as_decimal, stop_gradient
from lnm_codegen.language.surrogate import DEFAULT, Surrogate
from lnm_codegen.language.symbols import Declared, Vector
from lnm_codegen.language.text.expression import CONSTANTS, FUNCTIONS, parse
from lnm_codegen.language.text.tables import init_table, slope_of, table_of

_SURROGATE_KEYS = ("kind", "alpha", "name", "slope")


def written(neuron: Any) -> str:
    """Return the TOML definition of a neuron; see `Neuron.to_toml`."""
    return _Writer(neuron).text()


class _Writer:
    """Writer of one neuron."""

    def __init__(self, neuron: Any) -> None:
        self._neuron = neuron
        self._where = f"{neuron.name}.to_toml"
        self._names: dict[str, Any] = {s.name: s for s in (*neuron.states, *neuron.inputs)}
        for param in neuron.params:
            own = tuple(s for s in neuron.symbols if s.decl == param)
            self._names[param.name] = own[0] if param.size is None else Vector(param, own)
        spikes = {s.name: s for s, _ in neuron.fire}
        bound = {s.name: s for s, _ in neuron.bindings}
        for word in (*self._names, *spikes, *bound):
            if word in FUNCTIONS or word in CONSTANTS:
                problem = f"{word!r} is a function or constant of text definitions"
                self._refuse(problem, remedy="Rename it.")
        self._names |= spikes | bound

    def _refuse(self, problem: str, accepted: str = "", remedy: str = "") -> Any:
        raise ModelError(self._where, problem, accepted, remedy)

    def text(self) -> str:
        """Return the file: keys of the neuron, then its tables."""
        neuron = self._neuron
        if neuron.prologue is not None or neuron.counts:
            kind = "a normalised neuron" if neuron.prologue else "a neuron with counts"
            self._refuse(
                f"{kind} has no text", "a neuron of lnm.Neuron", "Write the neuron itself."
            )
        slopes, fire, output = self._surrogates(), self._fire(), self._output()
        one_slope = len(slopes) == 1 and "" in slopes
        top: dict[str, Any] = {
            "name": neuron.name,
            "inputs": [
                s.name if s.decl.read else {"name": s.name, "read": False} for s in neuron.inputs
            ],
            "fire": fire if isinstance(fire, str) else None,
            "output": output if isinstance(output, str) else None,
            "surrogate": slopes[""] if one_slope else None,
            "detach_reset": neuron.detach_reset or None,
        }
        lines = [f"{key} = {_toml(value)}" for key, value in top.items() if value is not None]
        for state in neuron.states:
            lines += _table(f"states.{state.name}", self._state(state.decl))
        for param in neuron.params:
            lines += _table(f"params.{param.name}", self._param(param))
        phases = {
            "bound": self._phase("bound", neuron.bindings),
            "charge": self._phase("charge", neuron.charge),
            "fire": fire if isinstance(fire, dict) else {},
            "reset": self._phase("reset", neuron.reset),
            "output": output if isinstance(output, dict) else {},
        }
        for phase, table in phases.items():
            lines += _table(phase, table) if table else []
        for spike, slope in {} if one_slope else slopes.items():
            lines += _table(f"surrogate.{spike}", slope)
        return "\n".join(lines) + "\n"

    def _expression(self, place: str, expr: Any) -> str:
        """Return the text of an expression that the grammar accepts."""
        text = printed(expr)
        parse(text, self._names, f"{self._where}: {place}")
        return text

    def _phase(self, phase: str, pairs: Iterable[tuple[Any, Any]]) -> dict[str, str]:
        return {str(s): self._expression(f"{phase}.{s}", e) for s, e in pairs}

    def _fire(self) -> Any:
        fire = self._phase("fire", self._neuron.fire)
        return (fire["spike"] if [*fire] == ["spike"] else fire) or None

    def _output(self) -> Any:
        pairs = self._neuron.output
        name, expr = pairs[0]
        is_spike = isinstance(expr, Declared) and expr.name in self._neuron.spikes
        default = expr.name if is_spike else "out"
        if len(pairs) > 1 or name != default:
            return self._phase("output", pairs)
        return None if name == "spike" else self._expression("output", expr)

    def _state(self, decl: State) -> dict[str, Any]:
        return {"init": decl.param or self._number(f"state {decl.name!r}", decl.init)}

    def _number(self, what: str, init: Any) -> Any:
        if callable(init):
            name = getattr(init, "__name__", type(init).__name__)
            self._refuse(
                f"{what} begins with the function {name}",
                "numbers, and draws of the built-in families",
                "Give numbers, with draw=Draw(Uniform((low, high))) for a random scalar parameter,"
                " or keep the definition in Python.",
            )
        return list(init) if isinstance(init, tuple) else init

    def _param(self, decl: Param) -> dict[str, Any]:
        what = f"parameter {decl.name!r}"
        found: dict[str, Any] = {} if decl.size is None else {"size": decl.size}
        found["init"] = init_table(decl.init) or self._number(what, decl.init)
        if not decl.learnable:
            found["learnable"] = False
        if decl.per != "layer":
            found["per"] = decl.per
        if decl.draw is not None:
            found["draw"] = table_of(decl.draw) or self._number(what, decl.draw.sample)
        return found

    def _surrogates(self) -> dict[str, Any]:
        """Return the surrogate of each spike; one that all have under an empty name."""
        found = {spike: self._slope(spike, s) for spike, s in self._neuron.surrogates}
        values = list(found.values())
        if not found or any(value != values[0] for value in values):
            return found
        if values[0] == self._slope("", DEFAULT()):
            return {}
        if any(spike in _SURROGATE_KEYS for spike in found):
            return found
        return {"": values[0] if len(values[0]) > 1 else values[0]["kind"]}

    def _slope(self, spike: str, surrogate: Surrogate) -> dict[str, Any]:
        if surrogate.arguments is not None:
            return {"kind": surrogate.name, **dict(surrogate.arguments)}
        place = f"surrogate.{spike}.slope"
        slope = printed(surrogate.slope)
        slope_of(slope, f"{self._where}: {place}")
        return {"name": surrogate.name, "slope": slope}


def _table(name: str, content: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table."""
    return ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in content.items())]


def _toml(value: Any) -> str:
    """Return a value of TOML: text, a number, true or false, a list, or an inline table."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool | str):
        return json.dumps(value)
    return repr(value)


# Expressions as text of the grammar: `printed(expr)`, which `expression.parse` reads back.


_SUM, _PRODUCT, _POWER, _ATOM = range(4)
"""How tightly the outermost operator of a text binds."""
_DIGITS = 20
"""Most digits of a rational number that is written as a decimal."""


def printed(expr: sympy.Expr) -> str:
    """Return the text of an expression. A sum times a number becomes a sum when it is read."""
    return _sum(expr)[0]


def _at(expr: Any, least: int) -> str:
    """Return the text of an operand, in parentheses unless it binds as tightly as `least`."""
    text, binds = _sum(expr)
    return text if binds >= least else f"({text})"


def _sum(expr: Any) -> tuple[str, int]:
    """Return a text and how tightly it binds."""
    if not isinstance(expr, sympy.Add):
        negative, text, binds = _term(expr)
        return (f"-{text}", _SUM) if negative else (text, binds)
    terms = [_term(e) for e in expr.args]
    terms.sort(key=lambda term: (term[0], term[1][0].isdigit(), len(term[1]), term[1]))
    words = []
    for k, (negative, text, binds) in enumerate(terms):
        text = text if binds >= _PRODUCT else f"({text})"
        words.append((" - " if negative else " + ") + text if k else "-" * negative + text)
    return "".join(words), _SUM


def _term(expr: Any) -> tuple[bool, str, int]:
    """Return whether a term is negative, and the text and binding of its absolute value."""
    if isinstance(expr, sympy.Add):
        return False, *_sum(expr)
    if isinstance(expr, sympy.Number):
        text = _number(abs(expr))
        return bool(expr < 0), text, _PRODUCT if "/" in text else _ATOM
    if not isinstance(expr, sympy.Mul | sympy.Pow):
        return False, _atom(expr), _ATOM
    number, rest = expr.as_coeff_Mul()
    number = as_decimal(number)  # 1.0*v
    above: list[Any] = []
    below: list[Any] = []
    for factor in sympy.Mul.make_args(rest):
        inverse = isinstance(factor, sympy.Pow) and factor.exp.could_extract_minus_sign()
        (below if inverse else above).append(1 / factor if inverse else factor)
    above.sort(key=lambda e: (isinstance(e, sympy.Add), _factor(e)))  # 2*(a + b) is 2*a + 2*b
    below.sort(key=_factor)
    size = abs(number)
    scale = "" if size == 1 else _number(size)
    first = [] if not scale or (above and isinstance(above[0], sympy.Add)) else [scale]
    words = [*first, *(_factor(e) for e in above)] or ["1"]
    text = "*".join(words) + "".join(f"/{_factor(e, _POWER)}" for e in below)
    if scale and not first:
        text += f"*{scale}" if "/" not in scale else f"*({scale})"
    if number < 0 and above and isinstance(above[0], sympy.Add):
        return False, f"{text}*(-1)", _PRODUCT
    single = len(words) + len(below) == 1 and text == words[0]
    return bool(number < 0), text, _binding(above[0]) if single and above else _PRODUCT


def _binding(expr: Any) -> int:
    is_power = isinstance(expr, sympy.Pow) and expr.exp != sympy.Rational(1, 2)
    return _POWER if is_power else _ATOM


def _factor(expr: Any, least: int = _PRODUCT) -> str:
    if isinstance(expr, sympy.Pow):
        return _power(expr)
    return _at(expr, least)


def _power(expr: Any) -> str:
    if expr.exp == sympy.Rational(1, 2):
        return f"sqrt({printed(expr.base)})"
    return f"{_at(expr.base, _ATOM)}**{_at(expr.exp, _ATOM)}"


def _number(value: Any) -> str:
    """Return a number >= 0: an integer, a decimal where it is exact, or a fraction."""
    value = as_decimal(value)
    if value.q == 1:
        return str(value.p)
    exact = Context(prec=_DIGITS)
    decimal = exact.divide(Decimal(int(value.p)), Decimal(int(value.q)))
    if sympy.Rational(str(decimal)) == value:
        return str(decimal)
    return f"{value.p}/{value.q}"


def _atom(expr: Any) -> str:
    if isinstance(expr, Declared):
        return _name(expr)
    if isinstance(expr, sympy.Symbol):
        return str(expr.name)
    if expr == sympy.pi:
        return "pi"
    if expr == sympy.E:
        return "exp(1)"
    if isinstance(expr, Where):
        return _where(expr)
    if isinstance(expr, stop_gradient):
        return f"stop_gradient({printed(expr.args[0])})"
    for kind, name in CALLS.items():
        if isinstance(expr, kind):
            return f"{name}({printed(expr.args[0])})"
    raise InternalError("to_toml", f"no text for {type(expr).__name__} in {expr}")


def _name(symbol: Declared) -> str:
    decl = symbol.decl
    if isinstance(decl, Param) and decl.size is not None:
        return f"{decl.name}[{decl.element_names.index(symbol.name)}]"
    return symbol.name


def _where(expr: Where) -> str:
    """Return the call of a function of `where` that the grammar builds as this node, or `where`."""
    cond, then, orelse = expr.operands
    calls: list[tuple[str, tuple[Any, ...]]] = []
    if isinstance(cond, Relational):
        a, b = cond.args
        calls = [("abs", (a,)), ("max", (a, b)), ("min", (a, b))]
        if isinstance(orelse, Where) and isinstance(orelse.args[0], Relational):
            calls.append(("clip", (a, b, orelse.args[0].args[1])))
    for word, args in calls:
        if applied(word, getattr(fn, word), *args) == expr:
            return f"{word}({', '.join(map(printed, args))})"
    return f"where({_condition(cond)}, {printed(then)}, {printed(orelse)})"


def _condition(cond: Any) -> str:
    if isinstance(cond, Relational):
        return f"{printed(cond.lhs)} {cond.rel_op} {printed(cond.rhs)}"
    if isinstance(cond, sympy.Not):
        return f"~({_condition(cond.args[0])})"
    if isinstance(cond, sympy.And | sympy.Or):
        sign = " & " if isinstance(cond, sympy.And) else " | "
        return sign.join(sorted(f"({_condition(c)})" for c in cond.args))
    return _atom(cond)
