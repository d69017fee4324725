"""Exact solution of a linear system s' = M*s + b over a step dt, with b constant.

    s(t + dt) = exp(dt*M)*s + dt*phi(dt*M)*b,    phi(A) = sum of A**k/(k+1)! = (exp(A) - 1)/A

A state that reads no other one has the scalar solution. The others use a matrix exponential of
expressions of parameters, which the compiler moves to `prepare`. No eigenvalues occur, so equal
time constants are no special case. With A/2**s small, a Taylor polynomial gives P = phi and
Y = exp - 1, and s doublings lead to A:

    P <- P + Y*P/2,    Y <- 2*Y + Y*Y

Y holds exp - 1, since squaring exp itself would double its rounding error s times. `balance.py`
scales the states before, so that A does not depend on their units.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeAlias, cast

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import Input, Param
from lnm_codegen.language.binding import bind, bindings_of, read_by
from lnm_codegen.language.functions import exp, where
from lnm_codegen.language.ode.balance import balance, scaled
from lnm_codegen.language.ode.functions import exprel_of
from lnm_codegen.language.ode.linear import LinearForms
from lnm_codegen.language.ode.system import System, needed
from lnm_codegen.language.symbols import Declared

Matrix: TypeAlias = list[list[Any]]
Point: TypeAlias = dict[Declared, Any]

DEGREE = 12
"""Degree of the Taylor polynomial of phi."""
LARGEST_NORM = Fraction(1, 64)
"""Bound on the norm of A/2**s at the initial parameters. The polynomial has the precision of a
float64 up to 1/2, so while learned parameters make the norm of A at most 32 times larger."""
MOST_DOUBLINGS = 60
MOST_STATES = 24
"""Largest number of coupled states."""
MOST_ENTRIES = 900
"""Largest number of named entries of all matrices; a neuron has at most 1000 bound values."""

_WHERE = "ode: method='exact'"
_REMEDY = "Use method='rk4', or 'exponential_euler'."
_DIGITS = 40


def solved(system: System, now: Point, dt: sympy.Expr, held: Mapping[Any, Any]) -> Point:
    """Return the states after dt.

    Raises:
        ModelError: A rate that is not linear; the message names the term. A coefficient between
            states that reads an input. Too many coupled states.
    """
    _require_few(system)
    table = system.table({}, held)
    forms = {}
    for state, rate in system.rates.items():
        place = f"ode: d{state.name}/dt with method='exact'"
        forms[state] = LinearForms(system.rates, system.parts, table, place, _REMEDY).of(rate)
    free = _Solution(forms, dt).after(now)
    if not system.paused:
        return free
    for state in system.paused:
        forms[state] = {}
    paused = _Solution(forms, dt).after(now)
    return {state: where(system.refractory, paused[state], free[state]) for state in now}


def _require_few(system: System) -> None:
    """Refuse a system whose matrix would be too large."""
    coupled: set[Any] = set()
    for state, rate in system.rates.items():
        read = rate.free_symbols.union(*(p.value.free_symbols for p in needed(system.parts, rate)))
        others = {s for s in read if s in system.rates} - {state}
        coupled |= others | {state} if others else set()
    if len(coupled) > MOST_STATES:
        problem = f"{len(coupled)} states are coupled"
        raise ModelError(_WHERE, problem, f"at most {MOST_STATES}", _REMEDY)


class _Solution:
    """Solution of one system, given the linear form of each rate."""

    def __init__(self, forms: Mapping[Declared, Mapping[Any, Any]], dt: sympy.Expr) -> None:
        self._dt = dt
        self._rows = {s: {t: f[t] for t in forms if f.get(t, 0) != 0} for s, f in forms.items()}
        self._drive = {s: f.get(None, sympy.S.Zero) for s, f in forms.items()}
        self._entries = 0

    def after(self, now: Point) -> Point:
        """Return the states after dt."""
        coupled = self._coupled()
        found = self._coupled_after(coupled, now) if coupled else {}
        for state, row in self._rows.items():
            if row.keys() <= {state}:
                found[state] = self._alone(state, now[state])
        return {state: found[state] for state in now}

    def _alone(self, state: Declared, value: Any) -> Any:
        rate = self._dt * self._rows[state].get(state, sympy.S.Zero)
        drive = self._drive[state]
        if rate == 0:
            return value + self._dt * drive
        kept = bind(exp(rate), f"decay_{state.name}") * value
        if drive == 0:
            return kept
        return kept + self._dt * bind(exprel_of(rate), f"gain_{state.name}") * drive

    def _coupled(self) -> list[Declared]:
        """Return the states that read another one, and those that they read, in their order."""
        found = {s for s, row in self._rows.items() if not row.keys() <= {s}}
        while more := {t for s in found for t in self._rows[s]} - found:
            found |= more
        return [s for s in self._rows if s in found]

    def _coupled_after(self, states: Sequence[Declared], now: Point) -> Point:
        driven = [j for j, s in enumerate(states) if self._drive[s] != 0]
        rates = [[self._dt * self._rows[s].get(t, sympy.S.Zero) for t in states] for s in states]
        y, p = self._exponential(rates, driven)
        after = {}
        for i, state in enumerate(states):
            change = [y[i][j] * now[t] for j, t in enumerate(states)]
            drive = [p[i][j] * self._drive[states[j]] for j in driven]
            after[state] = now[state] + sympy.Add(*change) + self._dt * sympy.Add(*drive)
        return after

    def _exponential(self, a: Matrix, driven: Sequence[int]) -> tuple[Matrix, Matrix]:
        """Return exp(A) - 1 and the driven columns of phi(A)."""
        size = range(len(a))
        initial = [[_initial(e) for e in row] for row in a]
        units = balance(initial)
        doublings = _doublings(scaled(initial, units))
        b = [[e / 2**doublings for e in row] for row in scaled(a, units)]
        b = self._named(b, "scaled")
        p = _identity(len(a))
        for k in range(DEGREE + 1, 1, -1):
            product = _product(b, p)
            p = self._named([[product[i][j] / k + int(i == j) for j in size] for i in size], "phi")
        y = self._named(_product(b, p), "growth")
        p = [[e if j in driven else sympy.S.Zero for j, e in enumerate(row)] for row in p]
        for _ in range(doublings):
            half, square = _product(y, p), _product(y, y)
            p = self._named([[p[i][j] + half[i][j] / 2 for j in size] for i in size], "phi")
            y = self._named([[2 * y[i][j] + square[i][j] for j in size] for i in size], "growth")
        inverse = [-unit for unit in units]
        return scaled(y, inverse), scaled(p, inverse)

    def _named(self, matrix: Matrix, word: str) -> Matrix:
        """Return the matrix with each entry bound, or rounded to 40 digits if it is a number."""
        self._entries += sum(e != 0 for row in matrix for e in row)
        if self._entries > MOST_ENTRIES:
            problem = f"{len(matrix)} coupled states at this dt need more than {MOST_ENTRIES} terms"
            raise ModelError(_WHERE, problem, "fewer states, or a smaller dt", _REMEDY)
        return [[_rounded(e) if e.is_number else bind(e, word) for e in row] for row in matrix]


def _product(a: Matrix, b: Matrix) -> Matrix:
    columns = list(zip(*b, strict=True))
    return [[_dot(row, column) for column in columns] for row in a]


def _dot(row: Iterable[Any], column: Iterable[Any]) -> Any:
    zero = sympy.S.Zero
    pairs = zip(row, column, strict=True)
    return sympy.Add(*(x * y for x, y in pairs if x is not zero and y is not zero))


def _identity(n: int) -> Matrix:
    return [[sympy.Integer(int(i == j)) for j in range(n)] for i in range(n)]


def _rounded(value: Any) -> Any:
    """Return a number as a rational of 40 digits: exact products would double their digits."""
    if value.is_Integer:
        return value
    return sympy.Rational(str(value.evalf(_DIGITS)))


def _doublings(a: Sequence[Sequence[float]]) -> int:
    """Return s, so that A/2**s is small."""
    norm = max(sum(map(abs, row)) for row in a)
    if not norm <= float(LARGEST_NORM) * 2**MOST_DOUBLINGS:
        problem = f"the rates times dt are {norm:g} at the initial parameters"
        raise ModelError(_WHERE, problem, "finite numbers up to 1e16", "Check units and dt.")
    return max(0, math.ceil(math.log2(norm / LARGEST_NORM))) if norm > 0 else 0


def _initial(entry: Any) -> float:
    """Return the value of an entry at the initial parameters."""
    table: dict[Any, Any] = {}
    for symbol in read_by(entry):
        decl = symbol.decl
        if isinstance(decl, Input):
            problem = f"a coefficient between two states reads the input {decl.name!r}"
            raise ModelError(_WHERE, problem, "coefficients of parameters", _REMEDY)
        table[symbol] = sympy.Float(cast("float", cast("Param", decl).init))
    for symbol, definition in bindings_of([entry]):
        table[symbol] = definition.xreplace(table).evalf(15)
    value = entry.xreplace(table).evalf(15)
    return float(value) if isinstance(value, sympy.Float | sympy.Integer) else math.nan
