"""`lnm.ode`: a neuron from ordinary differential equations in text."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.kernel import Names
from lnm_codegen.language.binding import bind
from lnm_codegen.language.bounds import quoted
from lnm_codegen.language.functions import compared, where
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.ode.equations import (
    CONSTANT_OVER_DT,
    UNLESS_REFRACTORY,
    Equation,
    Kind,
    NameTable,
    Statement,
    equations_of,
    margin,
    statements_of,
)
from lnm_codegen.language.ode.functions import FUNCTIONS, exprel
from lnm_codegen.language.ode.methods import (
    METHODS,
    MethodName,
    Part,
    System,
    needed,
    repeated,
    value_of,
)
from lnm_codegen.language.ode.units import (
    ACCEPTED,
    Dimensions,
    Dims,
    Quantity,
    Value,
    known,
    names_in,
    quantity,
    spelled,
    tree,
    unit_named,
    unit_sizes,
)
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import SCOPE, Declared, Scope, require_name, spike, state
from lnm_codegen.language.text.expression import parse
from lnm_codegen.validation import require_integer, require_one_of, shown, wrong

# Refractory period after a spike: a number of steps, or a condition that ends it.
#
# A state counts the remaining steps, or holds 1 while the condition lasts. During the period paused
# states keep their values and no spike occurs.
#
#     time       c > 0 blocks a step;                 c' = where(spike, steps, max(c - 1, 0))
#     condition  r = where(condition, r, 0) blocks;   r' = where(spike, 1, r)


PLACE = "ode: refractory"
MOST_STEPS = 2**24
"""Largest number of steps; a float32 counts up to it."""

_TOLERANCE = sympy.Rational(1, 1000)
"""Part of a step by which a time may be too short for a whole number of steps, as in Brian2."""


@dataclass(frozen=True, slots=True)
class Period:
    """A refractory period as it is given.

    Attributes:
        steps: Steps after a spike that are blocked; None for a condition.
        condition: Text of the condition, or empty.
        constants: Names of the parameters that the time reads.
    """

    steps: int | None = 0
    condition: str = ""
    constants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Blocking:
    """A refractory period in expressions.

    Attributes:
        in_charge: Condition of a blocked step, in the states of the previous step.
        in_fire: The same in the charged states.
        charge: What the charge adds.
        reset: What the reset adds.
    """

    in_charge: Any
    in_fire: Any
    charge: dict[Declared, Any]
    reset: dict[Declared, Any]


def period_of(given: Any, values: Mapping[str, Quantity], dt: Quantity) -> Period:
    """Return the period of the argument `refractory`; a time may read parameters and dt.

    Raises:
        ModelError: No time and no condition, a negative time, or one of another unit than dt.
    """
    if given is None:
        return Period()
    if isinstance(given, str):
        node = tree(given, PLACE)
        negated = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert)
        joined = isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr)
        if negated or joined or isinstance(node, ast.Compare | ast.BoolOp):
            return Period(None, given)
        time, read = _time_of(given, values, dt)
    else:
        time, read = quantity("ode", "refractory", given), []
    if time.dims != dt.dims and time.value != 0:
        problem = f"the time has the unit {spelled(time.dims)}, dt the unit {spelled(dt.dims)}"
        raise ModelError(PLACE, problem, "one unit on both sides")
    steps = float(time.value / dt.value + _TOLERANCE)
    if not 0 <= steps < MOST_STEPS:
        problem = f"the time {given!r} is {float(time.value / dt.value):g} steps dt"
        raise ModelError(PLACE, problem, f"0 to {MOST_STEPS} steps")
    return Period(max(int(steps) - 1, 0), "", tuple(n for n in read if n in values))


def _time_of(text: str, values: Mapping[str, Quantity], dt: Quantity) -> tuple[Quantity, list[str]]:
    """Return the time that a text writes, and the names that it reads."""
    read = names_in(text, PLACE)
    given = {"dt": dt, **values}
    dims = Dimensions()
    for name, value in given.items():
        dims.set(name, value.dims)
    table = unit_sizes(read) | {name: value.value for name, value in given.items()}
    time = known(parse(text, table, PLACE, functions=FUNCTIONS), text, PLACE)
    return Quantity(time, dims.settled(text, PLACE)), read


def blocking(
    period: Period, condition: Any, table: Mapping[Any, Any], names: Names
) -> Blocking | None:
    """Declare the state of a period and return its expressions, or None where nothing is blocked.

    Args:
        period: The period.
        condition: Template of its condition, if it has one.
        table: What replaces subexpressions in it.
        names: Names that are taken.
    """
    if period.steps == 0:
        return None
    held = state(names.fresh("refractory"))
    on = compared(sympy.Gt, held, sympy.S.Zero)
    if period.steps is not None:
        counted = where(spike, period.steps, where(on, held - 1, 0))
        return Blocking(on, on, {}, {held: counted})
    now = bind(where(value_of(condition, table), held, 0), "refractory_now")
    in_charge = compared(sympy.Gt, now, sympy.S.Zero)
    return Blocking(in_charge, on, {held: now}, {held: where(spike, 1, held)})


# Neuron of the texts of `lnm.ode`: rates, threshold, reset and refractory period.


REFRACTORY = PLACE


MAX_TERMS = 4000
"""Largest number of nodes of all equations together."""
_EXPREL_TERMS = 50

_THRESHOLD, _RESET = "ode: threshold", "ode: reset"


@dataclass(frozen=True, slots=True)
class Given:
    """Texts and quantities of a neuron; the texts as they are given."""

    equations: Any
    threshold: Any
    reset: Any
    refractory: Any
    values: Mapping[str, Quantity]
    starts: Mapping[str, Quantity]
    learnable: Sequence[str]
    inputs: Sequence[str] | None
    dt: Quantity


def built(given: Given, method: MethodName, substeps: int, surrogate: Surrogate | None) -> Neuron:
    """Return the neuron; see `lnm.ode`. Symbols are declared in the present scope."""
    return _Build(given).neuron(method, substeps, surrogate)


class _Build:
    def __init__(self, given: Given) -> None:
        self._given = given
        self._equations = equations_of(given.equations)
        self._statements = _require_spikes(given)
        self._period = period_of(given.refractory, given.values, given.dt)
        self._scope = NameTable(
            self._equations,
            self._texts(),
            [s.name for s in self._statements],
            given.values,
            given.starts,
            given.learnable,
            given.inputs,
            self._period.constants,
            given.dt,
        )
        self._templates = {
            e.name: self._template(e) for e in self._equations if e.kind != "parameter"
        }
        _require_size(self._templates.values())
        self._parts = self._ordered()

    def neuron(self, method: MethodName, substeps: int, surrogate: Surrogate | None) -> Neuron:
        """Return the neuron."""
        states = self._scope.states
        flags = {states[e.name]: e.flags for e in self._of("rate")}
        rates = {s: self._templates[s.name] for s in flags}
        table = System(rates, self._parts).table({})
        z, resets = self._fire(table), self._resets(table)
        block = self._blocking(table)
        paused = frozenset(s for s in rates if block and UNLESS_REFRACTORY in flags[s])
        system = System(rates, self._parts, paused, block and block.in_charge)
        more: dict[Any, Any] = {}
        if block:
            z = where(block.in_fire, -1, z)
            more, resets = block.charge, resets | block.reset
        others = [e for e in (z, *more.values(), *resets.values()) if e is not None]
        dt = self._given.dt.value
        charge = repeated(METHODS[method], substeps, system, dt, table, others) | more
        output = next(iter(rates)) if z is None else None
        return Neuron(charge, z, resets, output, surrogate)

    def _texts(self) -> dict[str, list[str]]:
        """Return the texts beside the equations by their place."""
        texts: dict[str, list[str]] = {}
        for statement in self._statements:
            texts.setdefault(statement.where, []).append(statement.value)
        if self._given.threshold is not None:
            texts[_THRESHOLD] = [self._given.threshold]
        if self._period.condition:
            texts[REFRACTORY] = [self._period.condition]
        return texts

    def _of(self, kind: Kind) -> list[Equation]:
        return [e for e in self._equations if e.kind == kind]

    def _template(self, equation: Equation) -> sympy.Expr:
        """Return the right side of an equation, whose unit is that of the left side."""
        template, right = self._scope.parse(equation.text, equation.where)
        left = self._scope.dims.of_name(equation.name)
        name = equation.name
        if equation.kind == "rate":
            left, name = left / self._given.dt.dims, f"d{equation.name}/dt"
        self._require_unit(equation.where, name, left, equation.text, right)
        return template

    def _require_unit(self, where_: str, name: str, left: Dims, text: str, right: Dims) -> None:
        dims = self._scope.dims
        if not dims.agree(left, right):
            left, right = dims.resolved(left), dims.resolved(right)
            problem = (
                f"{name} has the unit {spelled(left)}, {quoted(text)} the unit {spelled(right)}"
            )
            raise ModelError(where_, problem, "one unit on both sides")

    def _ordered(self) -> tuple[Part, ...]:
        """Return the subexpressions, each after those that it reads.

        Raises:
            ModelError: Subexpressions that read one another in a circle.
        """
        left = {e.name: e for e in self._of("subexpression")}
        parts: list[Part] = []
        while left:
            ready = [e for e in left.values() if not self._read_by(e) & left.keys()]
            if not ready:
                problem = f"the subexpressions {', '.join(left)} read one another in a circle"
                raise ModelError("ode: text", problem, remedy="Make one of them a state.")
            for equation in ready:
                del left[equation.name]
                held = CONSTANT_OVER_DT in equation.flags
                symbol = self._scope.table[equation.name]
                parts.append(Part(symbol, self._templates[equation.name], held))
        return tuple(parts)

    def _read_by(self, equation: Equation) -> set[str]:
        return {s.name for s in self._templates[equation.name].free_symbols}

    def _fire(self, table: Mapping[Any, Any]) -> Any:
        if self._given.threshold is None:
            return None
        condition, _ = self._scope.parse(self._given.threshold, _THRESHOLD, condition=True)
        self._require_not_held(_THRESHOLD, condition)
        return margin(value_of(condition, table), _THRESHOLD)

    def _resets(self, table: Mapping[Any, Any]) -> dict[Declared, Any]:
        """Return state -> its value after the step, by the assignments in their order."""
        states = self._scope.states
        after: dict[Any, Any] = {}
        for statement in self._statements:
            if statement.name not in states:
                problem = f"{quoted(statement.name)} is not a state"
                raise ModelError(statement.where, problem, ", ".join(states))
            place = statement.where
            value, right = self._scope.parse(statement.value, place)
            self._require_not_held(place, value)
            left = self._scope.dims.of_name(statement.name)
            self._require_unit(place, statement.name, left, statement.text, right)
            now = System({}, needed(self._parts, value)).table(after) if after else table
            after[states[statement.name]] = value_of(value, now)
        return {state: where(spike, value, state) for state, value in after.items()}

    def _require_not_held(self, place: str, template: Any) -> None:
        """Refuse a subexpression of the start of the step: the states have changed since then."""
        for part in needed(self._parts, template):
            if part.held:
                problem = f"it reads {part.symbol.name!r}, which is constant over dt"
                remedy = "Leave the flag out, or make it a state."
                raise ModelError(place, problem, "states, and other subexpressions", remedy)

    def _blocking(self, table: Mapping[Any, Any]) -> Blocking | None:
        condition = None
        if self._period.condition:
            condition, _ = self._scope.parse(self._period.condition, REFRACTORY, condition=True)
            self._require_not_held(REFRACTORY, condition)
        return blocking(self._period, condition, table, Names(self._scope.table))


def _require_size(templates: Iterable[sympy.Expr]) -> None:
    """Refuse equations that are too large together; a method repeats each of them."""
    terms = 0
    for template in templates:
        for node in sympy.preorder_traversal(template):
            terms += _EXPREL_TERMS if isinstance(node, exprel) else 1
        if terms > MAX_TERMS:
            problem = f"the equations have more than {MAX_TERMS} terms together"
            raise ModelError("ode: text", problem, remedy="Leave some out.")


def _require_spikes(given: Given) -> list[Statement]:
    """Return the statements of the reset; a reset or a period needs a threshold."""
    if not (given.threshold is None or isinstance(given.threshold, str)):
        problem = f"{shown(given.threshold)} is not a text"
        raise ModelError(_THRESHOLD, problem, 'a condition such as "v > -50*mV", or None')
    for place, value in ((_RESET, given.reset), (REFRACTORY, given.refractory)):
        if value is not None and given.threshold is None:
            raise ModelError(place, "it needs a spike", remedy="Give threshold= too.")
    return [] if given.reset is None else statements_of(given.reset)


_NOTHING: Mapping[str, Value] = MappingProxyType({})


def ode(
    text: str,
    *,
    parameters: Mapping[str, Value] = _NOTHING,
    dt: Value,
    method: MethodName = "euler",
    threshold: str | None = None,
    reset: str | None = None,
    refractory: Value | None = None,
    learnable: Iterable[str] = (),
    inputs: Iterable[str] | None = None,
    init: Mapping[str, Value] = _NOTHING,
    substeps: int = 1,
    surrogate: Surrogate | None = None,
    name: str = "ode",
) -> Neuron:
    """Return the neuron of differential equations in Brian2's notation.

    Units are checked and removed: states, inputs and parameters are numbers in SI units, a
    potential in volts. Names that are neither defined nor parameters are inputs, constant during a
    step. Where no name is free, an input `x` that no equation reads sets T and the shape.

    Args:
        text: Equations, one a line: `dv/dt = (R*I - v)/tau : volt` for a state,
            `I = g*(E - v) : amp` for a subexpression, `tau : second` for a parameter or an input.
            Flags: (unless refractory), (constant), (constant over dt).
        parameters: Name -> a number, or text with units such as "10*ms".
        dt: The time step, > 0. Where it is a number, time has no unit.
        method: "euler"; "rk2", the midpoint rule; "rk4"; "exponential_euler", for rates that are
            linear in their own state; "exact", for systems that are linear in all states.
        threshold: Condition of a spike, "v > -50*mV". z is the difference of its sides, so a spike
            occurs at equality too, for `>` as for `>=`. None for a neuron that never spikes, whose
            output is the first state.
        reset: Assignments at a spike, "v = Vr; w += b", one after the other.
        refractory: Time from a spike to the next one at least, "5*ms", rounded down to steps; or a
            condition, "v > -20*mV", that blocks spikes as long as it holds after one. Parameters
            that a time reads are constants of the neuron.
        learnable: Names of parameters that are learnable. `neuron.with_per("channel")` gives each
            channel its own value.
        inputs: Names of the inputs, in their order. Any other name that has no value is then an
            error, so that a misspelt name does not become an input. Without it, the inputs that
            lines declare come first, in the order of the lines, then the others by first use.
        init: State -> its value before the first step, 0 by default.
        substeps: Number of steps of `method` in one step dt.
        surrogate: Slope of the spike; atan(alpha=2) by default, for z in SI units.
        name: Name of the neuron.

    Raises:
        ModelError: A text that is not of the grammar, units that do not agree (the message shows
            both sides), or a method that does not fit the equations (it names the term).

    Example:
        >>> lif = ode("dv/dt = (R*I - v)/tau : volt", parameters={"R": "50*Mohm", "tau": "10*ms"},
        ...           dt="0.1*ms", threshold="v > 15*mV", reset="v = 0*mV", refractory="2*ms")
        >>> [s.name for s in lif.inputs]
        ['I']
    """
    require_name("ode: neuron", name)
    require_one_of("ode", "method", method, get_args(MethodName))
    require_integer("ode", "substeps", substeps)
    step = quantity("ode", "dt", dt)
    if (step.dims and step.dims != _time()) or not step.number > 0:
        raise wrong("ode", "dt", dt, 'a number > 0, or a time > 0 such as "0.1*ms"')
    if method == "exact" and substeps > 1:
        problem = f"substeps is {substeps} with method='exact'"
        raise ModelError("ode", problem, "1, since one exact step has no error")
    given = Given(
        equations=text,
        threshold=threshold,
        reset=reset,
        refractory=refractory,
        values=_quantities("parameters", parameters),
        starts=_quantities("init", init),
        learnable=_names("learnable", learnable, 'names of parameters, ["tau"]'),
        inputs=None if inputs is None else _names("inputs", inputs, 'names of inputs, ["x"]'),
        dt=step,
    )
    declarations = SCOPE.set(Scope(name, []))
    try:
        return built(given, method, substeps, surrogate)
    except RecursionError:
        problem = "an expression is nested too deeply"
        raise ModelError("ode", problem, remedy="Split the expression.") from None
    finally:
        SCOPE.reset(declarations)


def _time() -> Any:
    unit = unit_named("second")
    return unit and unit.dims


def _quantities(word: str, given: Any) -> dict[str, Quantity]:
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise wrong("ode", word, given, f"a dict: name -> {ACCEPTED}")
    return {key: quantity(f"ode: {word}", key, value) for key, value in given.items()}


def _names(word: str, given: Any, accepted: str) -> tuple[str, ...]:
    names = () if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
    if (not names and given not in ((), [])) or not all(isinstance(name, str) for name in names):
        raise wrong("ode", word, given, accepted)
    for name in names:
        if names.count(name) > 1:
            raise ModelError(f"ode: {word}", f"{quoted(name)} is listed more than once", accepted)
    return names
