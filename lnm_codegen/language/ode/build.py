"""Neuron of the texts of `lnm.ode`: rates, threshold, reset and refractory period."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.names import Names
from lnm_codegen.language.functions import where
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.ode.equations import (
    CONSTANT_OVER_DT,
    UNLESS_REFRACTORY,
    Equation,
    Kind,
    equations_of,
)
from lnm_codegen.language.ode.functions import exprel
from lnm_codegen.language.ode.methods import METHODS, MethodName
from lnm_codegen.language.ode.quantities import Quantity
from lnm_codegen.language.ode.refractory import PLACE as REFRACTORY
from lnm_codegen.language.ode.refractory import Blocking, blocking, period_of
from lnm_codegen.language.ode.repeated import repeated
from lnm_codegen.language.ode.scope import NameTable
from lnm_codegen.language.ode.spiking import Statement, margin, statements_of
from lnm_codegen.language.ode.system import Part, System, needed, value_of
from lnm_codegen.language.ode.units import Dims, spelled
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Declared, spike
from lnm_codegen.language.text.cost import quoted
from lnm_codegen.validation import shown

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
