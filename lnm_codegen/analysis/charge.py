"""Charge curve of a neuron in a step without input, and its slope, as neurons of their own.

    curve    z -> h(v[t-1] = z, x = 0)
    slope    z -> dh/dv, and its derivatives by the learnable parameters

The other states have their initial values. SymPy derives both from the charge, so they exist for
every family and form. They are neurons without states, which the compiler lowers like any other;
their input is the potential before the step.

The slope ignores clamps: a `where` with exactly one branch that depends on a state or an input is
replaced by that branch. The clamped branch has slope 0 and passes no gradient. If it counted, the
largest slope would jump where the edge of the clamp moves. A stopped gradient is a constant, as in
the backward.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, cast

import sympy
from sympy.core.relational import Relational

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.declarations import Input, Param, State
from lnm_codegen.language.binding import bind, bindings_of, read_by, rebound
from lnm_codegen.language.functions import Where, as_expr, attached
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import Declared, input, is_spike


@dataclass(frozen=True)
class SlopeNeuron:
    """Slope of a charge."""

    neuron: Neuron  # outputs: the slope, its derivatives by `learned`, and the potential
    learned: tuple[tuple[str, int], ...]  # (parameter, element) that the slope depends on
    degree: int | None  # of the slope as a polynomial in the potential


def potential_of(neuron: Neuron) -> Declared:
    """Return the state `v`, or else the first state, or raise UnsupportedError."""
    if not neuron.states:
        raise UnsupportedError(neuron.name, "no state, so there is no charge curve")
    return next((s for s in neuron.states if s.name == "v"), neuron.states[0])


def emits_spikes(neuron: Neuron) -> bool:
    """Report whether the first output reads a spike; a potential does not."""
    spikes = {s for s, _ in neuron.fire}
    return not spikes.isdisjoint(read_by(neuron.output[0][1], dict(neuron.bindings)))


def readable_inputs(neuron: Neuron) -> tuple[Declared, ...]:
    """Return the inputs for a neuron made of parts of this one; also one that nothing reads."""
    return tuple(
        s if cast("Input", s.decl).read else Declared(s.name, Input(s.name), s.order)
        for s in neuron.inputs
    )


def charge_without_input(neuron: Neuron) -> Any:
    """Return the charged potential for inputs of 0; a random initial value counts as 0.

    An initial value that is a parameter stays one.
    """
    v = potential_of(neuron)
    params = {s.name: s for s in neuron.symbols}
    table: dict[Any, Any] = {s: as_expr(0) for s in neuron.inputs}
    for state in neuron.states:
        if state != v:
            decl = cast("State", state.decl)
            init = params[decl.param] if decl.param else decl.init
            table[state] = as_expr(0 if callable(init) else init)
    charge, own = dict(neuron.charge).get(v, v), dict(neuron.bindings)
    return rebound(charge, lambda e: substituted(e, table), own)


@lru_cache(maxsize=256)
def curve_neuron(neuron: Neuron) -> Neuron:
    """Return the neuron whose first output is the charge curve."""
    v = potential_of(neuron)
    return _probe(v, {"curve": charge_without_input(neuron)})


@lru_cache(maxsize=256)
def slope_neuron(neuron: Neuron) -> SlopeNeuron:
    """Return the slope of the charge curve without clamps."""
    v = potential_of(neuron)
    slope = derivative(rebound(charge_without_input(neuron), unclamped), v)
    learnable = (s for s in neuron.symbols if isinstance(s.decl, Param) and s.decl.learnable)
    read = [s for s in learnable if s in read_by(slope)]
    learned = tuple((s.decl.name, s.decl.element_names.index(s.name)) for s in read)  # type: ignore[union-attr]
    outputs = {"slope": slope} | {f"d{k}": derivative(slope, s) for k, s in enumerate(read)}
    is_polynomial = slope.is_polynomial(v) and not bindings_of([slope])
    degree = sympy.degree(slope, v) if is_polynomial else None
    least = None if degree is None else int(max(degree, 0))  # SymPy returns -oo for a slope of 0
    return SlopeNeuron(_probe(v, outputs), learned, least)


def derivative(expr: Any, symbol: Declared) -> Any:
    """Return the derivative by a symbol, also through bound values: the chain rule."""
    rates: dict[Any, Any] = {}

    def total(e: Any) -> Any:
        inner = sorted(e.free_symbols & rates.keys(), key=lambda b: b.order)
        return sympy.Add(e.diff(symbol), *(e.diff(b) * rates[b] for b in inner))

    for bound, definition in bindings_of([expr]):
        rates[bound] = bind(total(definition), f"d_{bound.name}")
    return total(expr)


def unclamped(expr: Any) -> Any:
    """Return the expression without clamps."""
    if isinstance(expr, Where):
        moving = [branch for branch in expr.operands[1:] if moves(branch)]
        if len(moving) == 1:
            return unclamped(moving[0])
    if not expr.args or isinstance(expr, Relational):
        return expr
    return expr.func(*(unclamped(a) for a in expr.args))


@lru_cache(maxsize=256)
def lower_clamp(neuron: Neuron) -> float | None:
    """Return the number below which the charge of the potential is clamped to it, or None.

    The clamp is `where(h < c, c, h)` in any spelling, such as `lnm.max(h, c)`, alone or inside an
    upper clamp.
    """
    v = potential_of(neuron)
    h = attached(dict(neuron.charge).get(v, v))
    while isinstance(h, Where):
        clamp = clamp_of(h)
        if clamp is None or unclamped(clamp.compared) != unclamped(clamp.rest):
            return None
        if clamp.is_lower:
            return clamp.bound
        h = clamp.rest
    return None


class Clamp(NamedTuple):
    """`rest`, or the number `bound` where the expression `compared` is beyond that number.

    `is_open` says that `rest` is selected at the bound itself, so that it has a gradient there.
    """

    compared: Any
    rest: Any
    bound: float
    is_lower: bool
    is_open: bool


def clamp_of(node: Where) -> Clamp | None:
    """Return the clamp that a `where` is, or None."""
    cond, then, orelse = node.operands
    number, rest = (then, orelse) if then.is_number else (orelse, then)
    if not isinstance(cond, sympy.Lt | sympy.Le | sympy.Gt | sympy.Ge) or not number.is_number:
        return None
    is_left = cond.rhs.is_number
    compared, bound = (cond.lhs, cond.rhs) if is_left else (cond.rhs, cond.lhs)
    if not bound.is_number or bound - number != 0:
        return None
    is_below = is_left == isinstance(cond, sympy.Lt | sympy.Le)
    is_open = isinstance(cond, sympy.Lt | sympy.Gt) == (number is then)
    return Clamp(compared, rest, float(number), is_below == (number is then), is_open)


def without_spikes(expr: Any) -> Any:
    """Return the value of an expression of a reset in a step without spikes: each spike is 0.

    A comparison of numbers, such as `spike >= 0.5`, selects its branch.
    """
    if is_spike(expr):
        return as_expr(0)
    if isinstance(expr, Where) and is_spike(expr.operands[0]):
        return without_spikes(expr.operands[2])
    if not expr.args:
        return expr
    return _with_arguments(expr, [without_spikes(a) for a in expr.args])


def moves(expr: Any) -> bool:
    """Report whether a value depends on a state or an input."""
    return any(isinstance(getattr(s, "decl", None), State | Input) for s in read_by(expr))


def substituted(expr: Any, table: Mapping[Any, Any]) -> Any:
    """Return `expr` with symbols replaced."""
    if expr in table:
        return table[expr]
    if not expr.args:
        return expr
    return _with_arguments(expr, [substituted(a, table) for a in expr.args])


def _with_arguments(expr: Any, args: list[Any]) -> Any:
    """Return `expr` with other arguments; slow comparisons of symbols stay unevaluated."""
    if isinstance(expr, Relational) and not all(a.is_number for a in args):
        return expr.func(*args, evaluate=False)
    return expr.func(*args)


def _probe(v: Declared, outputs: Mapping[str, Any]) -> Neuron:
    """Return the neuron with these outputs, whose input has the potential's name."""
    z = input(v.name)
    moved = {
        name: rebound(as_expr(e), lambda e: substituted(e, {v: z})) for name, e in outputs.items()
    }
    return Neuron(output={**moved, "at": z}, name="curve")


# Bounds of learned parameters: clamps in the definition, such as `lnm.clip(a, 0, 1)`.


Ends = tuple[float, float]


@lru_cache(maxsize=256)
def parameter_bounds(neuron: Neuron) -> dict[str, Ends]:
    """Return the bounds of learnable scalars that are read through clamps alone, by name.

    The scalars of a vector parameter `w` are `w_0`, `w_1`, ... (`Param.element_names`). Of several
    clamps the widest bounds count. `max(1, w)` selects 1 where w is 1, so that w has no gradient
    there either: it is no such clamp, and `max(w, 1)` is.
    """
    found: dict[Declared, Ends] = {}
    steps = (neuron.charge, neuron.fire, neuron.reset, neuron.output)
    pairs = (*steps, neuron.counts, neuron.bindings)
    read = _read((expr for part in pairs for _, expr in part), found)
    starts = {cast("State", s.decl).param for s in neuron.states}
    return {
        s.name: ends
        for s, ends in found.items()
        if isinstance(s.decl, Param) and s.decl.learnable
        if s not in read and s.decl.name not in starts
    }


def _read(exprs: Iterable[Any], found: dict[Declared, Ends]) -> set[Any]:
    """Return the symbols that expressions read without a clamp, and add the clamps to `found`."""
    read: set[Any] = set()
    for expr in exprs:
        clamp = _clamp(expr)
        if clamp is not None:
            symbol, (low, high) = clamp
            other = found.get(symbol, (low, high))
            found[symbol] = min(low, other[0]), max(high, other[1])
        elif getattr(expr, "args", ()):
            read |= _read(expr.args, found)
        else:
            read.add(expr)
    return read


def _clamp(expr: Any) -> tuple[Declared, Ends] | None:
    """Return the symbol and the ends of a clamp of one symbol between numbers, or None."""
    low, high, inner, compared = -math.inf, math.inf, expr, []
    while isinstance(inner, Where):
        clamp = clamp_of(inner)
        if clamp is None or not clamp.is_open:
            return None
        if clamp.is_lower:
            low = max(low, clamp.bound)
        else:
            high = min(high, clamp.bound)
        if clamp.compared != clamp.rest:
            compared.append(clamp.compared)
        inner = clamp.rest
    is_one = isinstance(inner, Declared) and inner is not expr
    return (inner, (low, high)) if is_one and all(c == inner for c in compared) else None


# Summary of a neuron in a few words: degree of its charge, its reset, its surrogates.


def degree_of(neuron: Neuron) -> int | None:
    """Return the largest degree of a charge, without clamps, as a polynomial in the charged states.

    None if a charge is not a polynomial or reads a bound value, or if there is no charge.
    """
    states, degrees = [s for s, _ in neuron.charge], []
    if bindings_of((charge for _, charge in neuron.charge), dict(neuron.bindings)):
        return None
    for _, charge in neuron.charge:
        try:
            degrees.append(int(sympy.Poly(unclamped(attached(charge)), *states).total_degree()))
        except sympy.PolynomialError:
            return None
    return max(degrees, default=None)


def reset_kind(neuron: Neuron) -> str:
    """Return "hard", "soft", "none", or "custom" for the resets of the charged states.

    A hard reset is `where(spike, value, state)`; a soft one subtracts a multiple of the spike.
    """
    charged = {state for state, _ in neuron.charge}
    kinds = {_kind(state, value) for state, value in neuron.reset if state in charged}
    return (kinds or {"none"}).pop() if len(kinds) < 2 else "custom"


def reset_words(neuron: Neuron) -> dict[str, str | bool | None]:
    """Return the kind of the reset, the surrogates, and True where spikes in a reset are constants.

    A value is None where there is nothing to say.
    """
    slopes = dict.fromkeys(str(surrogate) for _, surrogate in neuron.surrogates)
    return {
        "reset": reset_kind(neuron),
        "surrogate": ", ".join(slopes) or None,
        "detach_reset": neuron.detach_reset or None,
    }


def _kind(state: sympy.Symbol, value: sympy.Expr) -> str:
    if isinstance(value, Where):
        condition, _, kept = value.args
        return "hard" if is_spike(condition) and kept == state else "custom"
    subtracted = state - value
    spikes = [s for s in subtracted.free_symbols if is_spike(s)]
    return "soft" if len(spikes) == 1 and subtracted.subs(spikes[0], 0) == 0 else "custom"
