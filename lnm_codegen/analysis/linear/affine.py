"""Affine steps: leaky integrators, initial values that match one, the matrix of two states."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from math import isclose
from typing import Any

import numpy as np
import sympy
from sympy.solvers.solveset import NonlinearError

from lnm_codegen.analysis.charge import (
    moves,
    potential_of,
    substituted,
    unclamped,
    without_spikes,
)
from lnm_codegen.analysis.linear.step import Values, kernels_of, probe
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.declarations import Param, State
from lnm_codegen.ir.interpret import Array
from lnm_codegen.language.binding import read_by, rebound
from lnm_codegen.language.functions import (
    Where,
    as_decimal,
    as_expr,
    attached,
    min,
    replaced,
    sigmoid,
)
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import Declared, input, is_spike

# Neurons whose step is that of a leaky integrator, with or without current and threshold.
#
#     i <- current_decay*i + current_gain*x          a current, in a neuron of two states
#     v <- decay*v + gain*d + drift                  d is x, or the new current
#     spike where v >= threshold, then v <- reset
#
# The coefficients are expressions of parameters, and one spike is the output; or no spike, and v.
# A charge that reads `where(v >= threshold, 0, v)` in place of v, as that of snnTorch's Leaky with
# reset_mechanism="zero", has the same spikes: the reset is that of the step before.


_MOST_BOUND = 8
_TINY = sympy.Rational(1, 10**20)
"""Largest difference from the threshold that stands for none."""


@dataclass(frozen=True)
class Membrane:
    """A neuron of this kind.

    Attributes:
        potential: Name of v; empty if the spike depends on x alone.
        current: Name of i, or empty.
        fires: It has a spike.
        strict: It spikes where v > threshold, not where v >= threshold.
    """

    neuron: Neuron
    potential: str
    current: str
    fires: bool
    strict: bool
    coefficients: Mapping[str, sympy.Expr] = field(repr=False)

    def values(self, params: Values, rows: int) -> dict[str, Array]:
        """Return the coefficients of R parameter sets, (R,) each.

        They are those of the head of this module, and `start`, the initial v, and `current_start`.
        """
        reader = probe(self.neuron, (("value", e) for e in self.coefficients.values()))
        found = kernels_of(reader, params, rows).run(np.zeros((len(reader.states), rows)))
        values = (found[name] for name, _ in reader.output)
        pairs = zip(self.coefficients, values, strict=False)
        return {key: np.broadcast_to(value, (rows,)) for key, value in pairs}


def membrane_of(neuron: Neuron, *, loose: bool = False) -> Membrane:
    """Return the leaky integrator that a neuron is; if `loose`, up to reset and initial states.

    Raises:
        UnsupportedError: It is none; the message names the first difference.
    """
    return _Reader(neuron, loose).membrane()


class _Reader:
    def __init__(self, neuron: Neuron, loose: bool) -> None:
        self._neuron, self._loose = neuron, loose
        self._found: dict[str, sympy.Expr] = {}
        self._bound: dict[sympy.Expr, sympy.Expr] = {}
        self._late = False  # the reset is in the next charge

    def _refuse(self, problem: str, accepted: str) -> UnsupportedError:
        return UnsupportedError(self._neuron.name, problem, accepted)

    def membrane(self) -> Membrane:
        neuron = self._neuron
        if len(neuron.bindings) > _MOST_BOUND:
            raise self._refuse(f"it has {len(neuron.bindings)} bound values", "plain expressions")
        for name, definition in neuron.bindings:
            self._bound[name] = replaced(definition, self._bound)
        if len(neuron.inputs) != 1 or len(neuron.states) > 2:
            problem = f"{len(neuron.inputs)} inputs and {len(neuron.states)} states"
            raise self._refuse(problem, "one input, and at most two states")
        v, strict = self._fire()
        self._output()
        current = next((s for s in neuron.states if s is not v), None)
        if v is None and neuron.states:
            raise self._refuse("the spike depends on x alone", "a spike that depends on a state")
        if v is not None:
            self._charge(v, current, strict)
            with suppress(UnsupportedError) if self._loose else nullcontext():
                self._reset(v)
            if not self._loose:
                self._found["start"] = self._start(v)
        if current is not None and not self._loose:
            self._found["current_start"] = self._start(current)
        names = ["" if s is None else s.name for s in (v, current)]
        return Membrane(neuron, names[0], names[1], bool(neuron.fire), strict, self._found)

    def _fire(self) -> tuple[Declared | None, bool]:
        """Return the state that fires, or that is the output, and whether `>` does."""
        neuron = self._neuron
        if not neuron.fire:
            ((_, out),) = neuron.output if len(neuron.output) == 1 else (("", None),)
            if out not in neuron.states:
                raise self._refuse(f"no spike, and the output {out}", "a state as output")
            return out, False
        if len(neuron.fire) > 1:
            raise self._refuse(f"{len(neuron.fire)} spikes", "one spike")
        z, strict = _inclusive(replaced(neuron.fire[0][1], self._bound))
        poly = self._affine(z, "fire")
        read = [s for s in (*neuron.states, *neuron.inputs) if poly.coeff_monomial(s) != 0]
        if len(read) != 1 or poly.coeff_monomial(read[0]) != 1:
            raise self._refuse(f"fire is {z}", "v - v_threshold")
        self._found["threshold"] = -poly.coeff_monomial(1)
        return (read[0] if read[0] in neuron.states else None), strict

    def _output(self) -> None:
        neuron = self._neuron
        out = neuron.output[0][1] if len(neuron.output) == 1 else None
        if neuron.fire and out != neuron.fire[0][0]:
            texts = ", ".join(str(e) for _, e in neuron.output)
            raise self._refuse(f"the output is {texts}", "the spike")

    def _affine(self, expr: sympy.Expr, phase: str) -> Any:
        symbols = (*self._neuron.states, *self._neuron.inputs)
        if self._bound:
            expr = sympy.expand(replaced(expr, self._bound))
        # SymPy's Float(1) is not equal to 1.
        decimals = {f: as_decimal(f) for f in expr.atoms(sympy.Float)}
        try:
            poly = sympy.Poly(expr.xreplace(decimals), *symbols)
        except sympy.PolynomialError:
            poly = None
        if poly is None or poly.total_degree() > 1:
            raise self._refuse(f"{phase} is {_short(expr)}", "an affine function of states and x")
        return poly

    def _charge(self, v: Declared, current: Declared | None, strict: bool) -> None:
        charges = dict(self._neuron.charge)
        x = self._neuron.inputs[0]
        charge = self._without_late_reset(charges.get(v, v), v, strict)
        poly = self._affine(charge, f"the charge of {v}")
        found = self._found
        found["decay"], found["drift"] = poly.coeff_monomial(v), poly.coeff_monomial(1)
        found["gain"] = poly.coeff_monomial(x)
        if current is None:
            return
        own = self._affine(charges.get(current, current), f"the charge of {current}")
        decay, gain = own.coeff_monomial(current), own.coeff_monomial(x)
        if own.coeff_monomial(v) != 0 or own.coeff_monomial(1) != 0 or gain == 0:
            problem = f"state {current}, of charge {_short(own.as_expr())}, is no current"
            raise self._refuse(problem, f"a multiple of {current}, plus a multiple of x")
        if sympy.simplify(poly.coeff_monomial(current) * gain - found["gain"] * decay) != 0:
            problem = f"the charge of {v} reads {current} of the step before"
            raise self._refuse(problem, f"a charge of {v} that reads the new {current}")
        found["gain"] = sympy.cancel(found["gain"] / gain)
        found["current_decay"], found["current_gain"] = decay, gain

    def _without_late_reset(self, charge: sympy.Expr, v: Declared, strict: bool) -> sympy.Expr:
        """Return a charge with v in place of `where(v > threshold, 0, v)`, if it has that alone."""
        threshold = self._found.get("threshold")
        late = [w for w in charge.atoms(Where) if v in getattr(w.operands[0], "free_symbols", ())]
        if threshold is None or not late:
            return charge
        kind = sympy.StrictGreaterThan if strict else sympy.GreaterThan
        (condition, then, kept), *others = [w.operands for w in late]
        known = isinstance(condition, kind) and (condition.lhs, condition.rhs) == (v, threshold)
        alone = v not in replaced(charge, {late[0]: sympy.Integer(0)}).free_symbols
        if others or not known or then != 0 or kept != v or not alone:
            problem = f"the charge of {v} resets it a step late: {_short(charge)}"
            accepted = "a hard reset to a number, as that of Leaky with reset_mechanism='zero'"
            raise self._refuse(problem, accepted)
        self._late = True
        return replaced(charge, {late[0]: v})

    def _reset(self, v: Declared) -> None:
        resets = dict(self._neuron.reset)
        if self._late and not resets:
            self._found["reset"] = sympy.Integer(0)
            return
        for state in resets:
            if state is not v:
                raise self._refuse(f"the reset of {state} is {resets[state]}", f"a reset of {v}")
        value = resets.get(v, v)
        if not self._neuron.fire:
            if value != v:
                problem = f"the reset of {v} is {_short(value)}"
                raise self._refuse(problem, "no reset without a spike")
            return
        if not isinstance(value, Where):
            kind = "none" if value == v else _short(value)
            raise self._refuse(f"the reset of {v} is {kind}", "a hard reset to a number")
        on, then, kept = value.operands
        dynamic = {*self._neuron.states, *self._neuron.inputs}
        read = then.free_symbols & dynamic or [s for s in then.free_symbols if is_spike(s)]
        if not is_spike(on) or kept != v or read:
            raise self._refuse(f"the reset of {v} is {_short(value)}", "a hard reset to a number")
        self._found["reset"] = then

    def _start(self, state: Declared) -> sympy.Expr:
        if state.start is not None:
            return state.start
        init = getattr(state.decl, "init", 0.0)
        if callable(init):
            raise self._refuse(f"a function initialises {state}", "a number, or a parameter")
        return sympy.Rational(float(init))


def _inclusive(z: sympy.Expr) -> tuple[sympy.Expr, bool]:
    """Return z of a spike, and whether it occurs at z > 0 alone.

    Then z is `where(a > b, z, min(z, 0) - tiny)`, z = a - b, or z - tiny.
    """
    if not isinstance(z, Where):
        tiny, rest = (-z).as_coeff_Add()
        return (-rest, True) if 0 < tiny <= _TINY else (z, False)
    condition, then, orelse = z.operands
    if isinstance(condition, sympy.StrictGreaterThan):
        tiny = sympy.expand(min(then, 0) - orelse)
        if sympy.expand(condition.lhs - condition.rhs - then) == 0 and tiny.is_positive:
            return then, bool(tiny <= _TINY)
    return z, False


def _short(expr: Any) -> str:
    text = str(expr)
    return text if len(text) <= 60 else f"{text[:57]}..."


# Initial values with which a neuron has the spikes of a linear neuron of one state.
#
# The neuron's potential is q times that of the target, whose charge is a*v + b*x + c. So its charge
# must be a*v + q*b*x + q*c, its threshold q times the target's, and its reset likewise. The charge
# is linear in the parameters that are searched (theta of `lnm` in any form and basis), so both they
# and q follow from linear equations, one for each monomial. The potential begins at q times the
# target's initial value. Other states keep theirs: the coefficients with which they enter the
# potential become 0.


_Q = sympy.Symbol("q", positive=True)


def matched_start(neuron: Neuron, target: Neuron) -> dict[str, Any] | None:
    """Return initial values of parameters and of the potential, or None where there are none.

    Args:
        neuron: The neuron that is to begin like the target.
        target: A neuron of one state with a linear charge, at its initial values.
    """
    line = _line(target)
    if line is None or len(neuron.inputs) != 1 or len(neuron.fire) != 1:
        return None
    a, b, c, threshold, reset = line
    v, (x,) = potential_of(neuron), neuron.inputs
    learned = {s: s for s in neuron.symbols if isinstance(s.decl, Param) and s.decl.learnable}
    fixed = {s: value for s, value in _initial(neuron).items() if s not in learned}
    charge = _in_numbers(unclamped(_expanded(dict(neuron.charge).get(v, v))), fixed)
    read = [s for s in learned if s in charge.free_symbols]
    moving = [s for s in charge.free_symbols if s not in learned]
    wanted = a * v + _Q * b * x + _Q * c
    try:
        equations = sympy.Poly(sympy.expand(charge - wanted), *{v, x, *moving}).coeffs()
        solutions = sympy.linsolve(equations, *read, _Q)
    except (sympy.PolynomialError, NonlinearError):
        return None
    found = next(iter(solutions), None)
    if found is None or not found[-1].is_number or not found[-1] > 0:
        return None
    scale = float(found[-1])
    own = _initial(neuron)
    free = {s: own[s] for s in read}
    values = {s: float(e.subs(free)) for s, e in zip(read, found, strict=False)}
    values |= _at_threshold(neuron, v, scale * threshold)
    if not _fires_at(neuron, v, values, scale * threshold):
        return None
    begins = _at_start(v, scale, target.states[0].decl)
    if begins is None or not _resets(neuron, v, reset, scale, threshold):
        return None
    return _named(neuron, values) | begins


def _line(target: Neuron) -> tuple[float, float, float, float, float | None] | None:
    """Return a, b, c, threshold and reset (None if soft) of a linear neuron, or None."""
    if len(target.states) != 1 or len(target.inputs) != 1 or len(target.fire) != 1:
        return None
    (v,), (x,) = target.states, target.inputs
    start = _initial(target)
    charge = _in_numbers(_expanded(dict(target.charge).get(v, v)), start)
    z = _in_numbers(_expanded(target.fire[0][1]), start)
    if not (charge.is_polynomial(v, x) and z.is_polynomial(v)):
        return None
    line, over = sympy.Poly(charge, v, x), sympy.Poly(z, v)
    if line.total_degree() != 1 or over.degree() != 1 or float(over.coeff_monomial(v)) != 1:
        return None  # in SymPy, Float(1.0) != 1
    after = _in_numbers(dict(target.reset).get(v, v), start)
    threshold = -float(over.coeff_monomial(1))
    if isinstance(after, Where):
        reset = float(after.operands[1]) if after.operands[1].is_number else None
        if reset is None or after.operands[2] != v:
            return None
    else:
        reset = None
        if not _is_soft(after, v, threshold):
            return None
    a, b, c = (float(line.coeff_monomial(m)) for m in (v, x, 1))
    return (a, b, c, threshold, reset) if b else None


def _is_soft(after: Any, v: Declared, threshold: float) -> bool:
    """Report whether an expression is v - spike*threshold."""
    spikes = [s for s in after.free_symbols if is_spike(s)]
    amount = sympy.expand(v - after)
    if len(spikes) != 1 or not amount.is_polynomial(spikes[0]):
        return False
    value = amount.coeff(spikes[0])
    return bool(value.is_number and abs(float(value) - threshold) <= 1e-12 * (1 + abs(threshold)))


def _resets(
    neuron: Neuron, v: Declared, reset: float | None, scale: float, threshold: float
) -> bool:
    """Report whether the neuron's reset of v is `scale` times the target's."""
    table = _initial(neuron)
    place = next((s for s in table if s in neuron.fire[0][1].free_symbols), None)
    if place is not None:
        table[place] = as_expr(scale * threshold)
    after = _in_numbers(dict(neuron.reset).get(v, v), table)
    if not isinstance(after, Where):
        return reset is None and _is_soft(after, v, scale * threshold)
    value, kept = after.operands[1:]
    if reset is None or kept != v or not value.is_number:
        return False
    return isclose(float(value), scale * reset, rel_tol=1e-7, abs_tol=1e-12)  # as in float32


def _at_start(v: Declared, scale: float, target: Any) -> dict[str, float] | None:
    """Return the initial value of v, `scale` times the target's; {} where v has it, or None."""
    own: Any = v.decl
    if callable(target.init):
        return None
    start = scale * target.init
    if own.init == start:
        return {}
    return None if own.param else {own.name: start}


def _at_threshold(neuron: Neuron, v: Declared, threshold: float) -> dict[Any, float]:
    """Return the parameter that is the threshold, with its value; {} where there is none."""
    symbol = sympy.expand(v - neuron.fire[0][1])
    is_param = isinstance(symbol, Declared) and isinstance(symbol.decl, Param)
    return {symbol: threshold} if is_param else {}


def _fires_at(neuron: Neuron, v: Declared, values: dict[Any, float], threshold: float) -> bool:
    """Report whether a neuron with these values fires where v is at least the threshold."""
    table = _initial(neuron) | {s: as_expr(value) for s, value in values.items()}
    z = _in_numbers(_expanded(neuron.fire[0][1]), table)
    if z.free_symbols != {v} or not z.is_polynomial(v):
        return False
    line = sympy.Poly(z, v)
    gain, offset = float(line.coeff_monomial(v)), float(line.coeff_monomial(1))
    is_at = line.degree() == 1 and gain > 0
    return is_at and isclose(-offset / gain, threshold, rel_tol=1e-7, abs_tol=1e-12)


def _named(neuron: Neuron, values: dict[Any, float]) -> dict[str, Any]:
    """Return values of scalars as values of parameters; a vector keeps its other elements."""
    start, named = _initial(neuron), {}
    for param in dict.fromkeys(s.decl for s in values):
        elements = [s for s in neuron.symbols if s.decl == param]
        numbers = tuple(float(values.get(s, start[s])) for s in elements)
        named[param.name] = numbers[0] if param.size is None else numbers
    return named


def _initial(neuron: Neuron) -> dict[Any, Any]:
    """Return the initial value of each scalar of the parameters; 0 for one that is drawn."""
    table: dict[Any, Any] = {}
    for s in neuron.symbols:
        if isinstance(s.decl, Param):
            init: Any = s.decl.init
            if isinstance(init, tuple):
                init = init[s.decl.element_names.index(s.name)]
            table[s] = as_expr(0 if callable(init) else init)
    return table


def _expanded(expr: Any) -> Any:
    """Return an expression with each bound value replaced by its definition."""
    table = {s: s.definition for s in expr.free_symbols if getattr(s, "definition", None)}
    return _expanded(expr.subs(table)) if table else expr


def _in_numbers(expr: Any, table: dict[Any, Any]) -> Any:
    """Return an expression with numbers for the symbols of a table, and sigmoids evaluated."""
    return substituted(expr, table).replace(sigmoid, lambda a: 1 / (1 + sympy.exp(-a)))


# Matrix of two coupled states: the linear part of a step without a spike.
#
# SymPy differentiates charge and reset in the states, with clamps ignored (`charge.unclamped`).
# Values of stop_gradient count as any other, since they move the states too:
#
#     s' = A*s + B*x + ...,   A_ij = d s'_i / d s_j at s = 0
#
# The matrix exists if the step is a polynomial in the states, without bound values of states or
# inputs, such as stages of a Runge-Kutta method. It decides about stability if the step
# is affine, or if it has no constant, so that s = 0 stays where x = 0.


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
