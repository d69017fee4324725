"""A system of rates over states, inputs and parameters, and its values at a point.

Rates are templates: a placeholder stands for a subexpression in them. `System.at` evaluates them
where the states have given values, for example at the middle of a Runge-Kutta step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import sympy

from lnm_codegen.ir.declarations import BoundValue
from lnm_codegen.language.binding import bind
from lnm_codegen.language.functions import replaced, where
from lnm_codegen.language.ode.functions import expanded
from lnm_codegen.language.symbols import ORDER, Declared

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
