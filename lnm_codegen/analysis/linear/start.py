"""Initial values with which a neuron has the spikes of a linear neuron of one state.

The neuron's potential is q times that of the target, whose charge is a*v + b*x + c. So its charge
must be a*v + q*b*x + q*c, its threshold q times the target's, and its reset likewise. The charge is
linear in the parameters that are searched (theta of `lnm` in any form and basis), so both they and
q follow from linear equations, one for each monomial. The potential begins at q times the target's
initial value. Other states keep theirs: the coefficients with which they enter the potential become
0.
"""

from __future__ import annotations

from math import isclose
from typing import Any

import sympy
from sympy.solvers.solveset import NonlinearError

from lnm_codegen.analysis.charge import potential_of, substituted, unclamped
from lnm_codegen.ir.declarations import Param
from lnm_codegen.language.functions import Where, as_expr, sigmoid
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import Declared, is_spike

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
