"""Integration methods: one time step dt of a system, inputs constant over the step.

| method | state after the step |
| --- | --- |
| euler | s + dt*f(s) |
| rk2 | s + dt*f(s + dt/2*f(s)), the midpoint rule |
| rk4 | the classical method of four stages |
| exponential_euler | s + dt*f(s)*(exp(b*dt) - 1)/(b*dt), where f = a + b*s in each state alone |
| exact | the solution of a linear system, by `exact.py` |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, TypeAlias, cast

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import BoundValue, Input, Param
from lnm_codegen.ir.kernel import Names
from lnm_codegen.language.binding import MOST, bind, bindings_of, read_by, substeps
from lnm_codegen.language.bounds import quoted
from lnm_codegen.language.functions import Where, exp, replaced, where
from lnm_codegen.language.ode.functions import expanded, exprel_of
from lnm_codegen.language.symbols import ORDER, Declared

# A system of rates over states, inputs and parameters, and its values at a point.
#
# Rates are templates: a placeholder stands for a subexpression in them. `System.at` evaluates them
# where the states have given values, for example at the middle of a Runge-Kutta step.


Values: TypeAlias = Mapping[Declared, Any]
"""State -> an expression of its value."""


def value_of(template: Any, table: Mapping[Any, Any]) -> Any:
    """Return the expression of a template, with symbols replaced by a table."""
    return expanded(replaced(template, table))


def placeholder(name: str) -> Declared:
    """Return a symbol that stands for a subexpression in templates."""
    return Declared(name, BoundValue(name), next(ORDER))


@dataclass(frozen=True, slots=True)
class Part:
    """A subexpression: its symbol in templates, its template, and whether a step holds it."""

    symbol: Declared
    value: sympy.Expr
    held: bool = False


def needed(parts: tuple[Part, ...], template: Any) -> tuple[Part, ...]:
    """Return the subexpressions that a template reads, directly or through others."""
    read, kept = set(template.free_symbols), []
    for part in reversed(parts):
        if part.symbol in read:
            kept.append(part)
            read |= part.value.free_symbols
    return tuple(reversed(kept))


@dataclass(frozen=True, slots=True)
class System:
    """Rates and subexpressions.

    Attributes:
        rates: State -> template of its rate.
        parts: Subexpressions, each after those that it reads.
        paused: States that keep their value during the refractory period.
        refractory: The condition of that period, or None.
    """

    rates: Mapping[Declared, sympy.Expr]
    parts: tuple[Part, ...]
    paused: frozenset[Declared] = frozenset()
    refractory: Any = None

    def table(self, values: Values, held: Mapping[Any, Any] | None = None) -> dict[Any, Any]:
        """Return what replaces states and subexpressions where the states have given values.

        Args:
            values: State -> value; none for the states themselves.
            held: The table at the start of the step, for subexpressions that the step holds.
        """
        table: dict[Any, Any] = dict(values)
        for part in self.parts:
            if part.held and held is not None:
                table[part.symbol] = held[part.symbol]
            else:
                table[part.symbol] = bind(value_of(part.value, table), part.symbol.name)
        return table

    def at(self, values: Values, held: Mapping[Any, Any]) -> dict[Declared, Any]:
        """Return the rates where the states have given values; 0 for a paused state."""
        table = self.table(values, held)
        rates = {state: value_of(rate, table) for state, rate in self.rates.items()}
        for state in self.paused:
            rates[state] = where(self.refractory, 0, rates[state])
        return rates


# Expressions that are linear in states: coefficients and the rest, found by structure.
#
# A rate f is read as f = sum of c[s]*s over the states s, plus c[None]. Products of states,
# functions of states and conditions on states are refused by name.


Form: TypeAlias = dict[Any, Any]
"""State -> its coefficient; None -> the rest."""


class LinearForms:
    """Linear forms of templates in some of the states.

    Args:
        states: The states; all others count as constants.
        parts: The subexpressions, each after those that it reads.
        table: What replaces the subexpressions that read none of the states, and constants.
        where: Place that begins an error.
        remedy: Last sentence of an error.
    """

    def __init__(
        self,
        states: Iterable[Declared],
        parts: Iterable[Part],
        table: Mapping[Any, Any],
        where: str,
        remedy: str,
    ) -> None:
        self._states = frozenset(states)
        self._table = table
        self._where = where
        self._remedy = remedy
        self._parts: dict[Any, Form | ModelError] = {}
        for part in parts:
            if not part.held and self._reads(part.value):
                self._parts[part.symbol] = self._of_part(part)

    def of(self, template: sympy.Expr) -> Form:
        """Return the linear form of a template.

        Raises:
            ModelError: The template is not linear. The message names the term.
        """
        if not self._reads(template):
            return {None: value_of(template, self._table)}
        if isinstance(template, sympy.Symbol):
            return self._of_symbol(template)
        if isinstance(template, sympy.Add):
            return _sum(self.of(term) for term in template.args)
        if isinstance(template, sympy.Mul):
            return self._product(template)
        if isinstance(template, Where):
            return self._where_node(template)
        raise self._refused(template)

    def _reads(self, expr: Any) -> bool:
        return any(s in self._states or s in self._parts for s in expr.free_symbols)

    def _of_part(self, part: Part) -> Form | ModelError:
        """Return the form of a subexpression, or the error for whoever reads it."""
        try:
            form = self.of(part.value)
        except ModelError as error:
            return error
        return {key: bind(value, f"{part.symbol.name}_part") for key, value in form.items()}

    def _of_symbol(self, symbol: Any) -> Form:
        if symbol in self._states:
            return {symbol: sympy.S.One, None: sympy.S.Zero}
        form = self._parts[symbol]
        if isinstance(form, ModelError):
            raise form
        return form

    def _product(self, product: sympy.Mul) -> Form:
        reading = [factor for factor in product.args if self._reads(factor)]
        if len(reading) > 1:
            raise self._refused(product)
        others = [f for f in product.args if f is not reading[0]]
        factor = value_of(sympy.Mul(*others), self._table)
        return {key: factor * value for key, value in self.of(reading[0]).items()}

    def _where_node(self, node: Where) -> Form:
        condition, then, orelse = node.operands
        if self._reads(condition):
            raise self._refused(node)
        condition = value_of(condition, self._table)
        a, b = self.of(then), self.of(orelse)
        return {
            key: Where(condition, a.get(key, sympy.S.Zero), b.get(key, sympy.S.Zero))
            for key in {**a, **b}
        }

    def _refused(self, term: Any) -> ModelError:
        names = sorted(s.name for s in self._states if s in term.free_symbols)
        read = f" in {', '.join(names)}" if names else ""
        problem = f"the term {quoted(str(term))} is not linear{read}"
        return ModelError(self._where, problem, remedy=self._remedy)


def _sum(forms: Iterable[Form]) -> Form:
    total: Form = {}
    for form in forms:
        for key, value in form.items():
            total.setdefault(key, []).append(value)
    return {key: sympy.Add(*values) for key, values in total.items()}


# Balancing of a matrix: units of the states, powers of two, in which its entries are small.
#
# State i is measured in 2**k[i]. Then entry (i, j) becomes a[i][j]*2**(k[j] - k[i]), and a capacity
# in farads does not inflate the norm. The rows and columns approach each other as in Osborne's
# method (J. ACM 7, 1960).


SWEEPS = 40
"""Largest number of passes over the states."""
FLOOR = 2.0**-10
"""Least norm of a row or column. A smaller one need not be balanced."""
_LARGEST = 200


def balance(a: Sequence[Sequence[float]]) -> list[int]:
    """Return k for each state; zeros where an entry is not finite."""
    n = len(a)
    k = [0] * n
    if not all(math.isfinite(e) for row in a for e in row):
        return k
    for _ in range(SWEEPS):
        moved = False
        for i in range(n):
            others = [j for j in range(n) if j != i]
            least = max(abs(a[i][i]), FLOOR)
            row = max(sum(abs(a[i][j]) * 2.0 ** (k[j] - k[i]) for j in others), least)
            column = max(sum(abs(a[j][i]) * 2.0 ** (k[i] - k[j]) for j in others), least)
            step = round(math.log2(row / column) / 2)
            if step and abs(k[i] + step) <= _LARGEST:
                k[i] += step
                moved = True
        if not moved:
            break
    return k


def scaled(a: Sequence[Sequence[Any]], k: Sequence[int]) -> list[list[Any]]:
    """Return a matrix in the units 2**k of the states; the factors are exact."""
    two = sympy.Integer(2)

    def factor(exponent: int, entry: Any) -> Any:
        return math.ldexp(1.0, exponent) if isinstance(entry, float) else two**exponent

    return [
        [e if k[i] == k[j] else e * factor(k[j] - k[i], e) for j, e in enumerate(row)]
        for i, row in enumerate(a)
    ]


# Exact solution of a linear system s' = M*s + b over a step dt, with b constant.
#
#     s(t + dt) = exp(dt*M)*s + dt*phi(dt*M)*b,    phi(A) = sum of A**k/(k+1)! = (exp(A) - 1)/A
#
# A state that reads no other one has the scalar solution. The others use a matrix exponential of
# expressions of parameters, which the compiler moves to `prepare`. No eigenvalues occur, so equal
# time constants are no special case. With A/2**s small, a Taylor polynomial gives P = phi and
# Y = exp - 1, and s doublings lead to A:
#
#     P <- P + Y*P/2,    Y <- 2*Y + Y*Y
#
# Y holds exp - 1, since squaring exp itself would double its rounding error s times. `balanced`
# scales the states before, so that A does not depend on their units.


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


MethodName: TypeAlias = Literal["euler", "exponential_euler", "exact", "rk2", "rk4"]
Held: TypeAlias = Mapping[Any, Any]
Method: TypeAlias = Callable[[System, Point, sympy.Expr, Held], Point]
"""Function of a system, the states, dt and the values held by the step -> the states after dt."""


def euler(system: System, now: Point, dt: sympy.Expr, held: Held) -> Point:
    """Return one step of Euler's forward method."""
    return _moved(now, dt, system.at(now, held))


def rk2(system: System, now: Point, dt: sympy.Expr, held: Held) -> Point:
    """Return one step of the midpoint rule."""
    middle = _named(_moved(now, dt / 2, system.at(now, held)), "middle")
    return _moved(now, dt, system.at(middle, held))


def rk4(system: System, now: Point, dt: sympy.Expr, held: Held) -> Point:
    """Return one step of the classical Runge-Kutta method."""
    stages = [_named(system.at(now, held), "k1")]
    for k, part in ((2, dt / 2), (3, dt / 2), (4, dt)):
        at = _named(_moved(now, part, stages[-1]), f"at{k}")
        stages.append(_named(system.at(at, held), f"k{k}"))
    k1, k2, k3, k4 = stages
    mean = {s: (k1[s] + 2 * k2[s] + 2 * k3[s] + k4[s]) / 6 for s in k1}
    return _moved(now, dt, mean)


def exponential_euler(system: System, now: Point, dt: sympy.Expr, held: Held) -> Point:
    """Return one step that is exact for each state while all others are constant.

    Raises:
        ModelError: A rate that is not linear in its own state.
    """
    table, after = system.table(now, held), {}
    for state, rate in system.rates.items():
        remedy = "Use method='rk4', or 'euler'."
        place = f"ode: d{state.name}/dt with method='exponential_euler'"
        parts = needed(system.parts, rate)
        form = LinearForms([state], parts, table, place, remedy).of(rate)
        slope = bind(form.get(state, sympy.S.Zero), f"slope_{state.name}")
        speed = form.get(None, sympy.S.Zero) + slope * now[state]
        change = dt * bind(exprel_of(slope * dt), f"factor_{state.name}") * speed
        if state in system.paused:
            change = where(system.refractory, 0, change)
        after[state] = now[state] + change
    return after


METHODS: dict[MethodName, Method] = {
    "euler": euler,
    "exponential_euler": exponential_euler,
    "exact": solved,
    "rk2": rk2,
    "rk4": rk4,
}
"""Methods by name."""


def _moved(now: Point, dt: sympy.Expr, rates: Mapping[Declared, Any]) -> Point:
    return {state: value + dt * rates[state] for state, value in now.items()}


def _named(values: Mapping[Declared, Any], word: str) -> Point:
    return {state: bind(value, f"{word}_{state.name}") for state, value in values.items()}


# Sub-steps of a method in one time step, and the number of them that fits one neuron.


def repeated(
    method: Method, count: int, system: System, dt: sympy.Expr, held: Held, others: Iterable[Any]
) -> Point:
    """Return the states after `count` steps of a method, each of length dt/count.

    Args:
        method: The method.
        count: Number of sub-steps.
        system: The rates.
        dt: The time step.
        held: The table at the start of the step.
        others: Further expressions of the neuron, whose bound values count too.

    Raises:
        ModelError: More bound values than a neuron may have.
    """
    states = list(system.rates)
    reads: list[int] = []

    def step(*values: Any) -> tuple[Any, ...]:
        if len(reads) < 3:
            reads.append(len(bindings_of([*values, *others])))
            _require_few_substeps(reads, count)
        after = method(system, dict(zip(states, values, strict=True)), dt / count, held)
        return tuple(after[s] for s in states)

    if count == 1:
        return dict(zip(states, step(*states), strict=True))
    names = Names(s.name for s in states)
    words = {names.fresh(f"{s.name}_at") if s.name in ("k", "step") else s.name: s for s in states}
    return dict(zip(states, substeps(count, step, **words), strict=True))


def _require_few_substeps(reads: Sequence[int], count: int) -> None:
    """Refuse too many sub-steps, by the bound values that 0, 1 and 2 of them read."""
    if len(reads) < 3:
        return
    each = reads[2] - reads[1]
    total = reads[2] + (count - 2) * each
    if total > MOST:
        fit = max(1, 2 + (MOST - reads[2]) // each)
        problem = f"{count} substeps need {total} bound values"
        raise ModelError(
            "ode: substeps", problem, f"at most {MOST}", f"Use substeps={fit} at most."
        )
