"""Refractory period after a spike: a number of steps, or a condition that ends it.

A state counts the remaining steps, or holds 1 while the condition lasts. During the period paused
states keep their values and no spike occurs.

    time       c > 0 blocks a step;                 c' = where(spike, steps, max(c - 1, 0))
    condition  r = where(condition, r, 0) blocks;   r' = where(spike, 1, r)
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.names import Names
from lnm_codegen.language.binding import bind
from lnm_codegen.language.functions import compared, where
from lnm_codegen.language.ode.dimensions import Dimensions
from lnm_codegen.language.ode.functions import FUNCTIONS
from lnm_codegen.language.ode.quantities import (
    Quantity,
    known,
    names_in,
    quantity,
    tree,
    unit_sizes,
)
from lnm_codegen.language.ode.system import value_of
from lnm_codegen.language.ode.units import spelled
from lnm_codegen.language.symbols import Declared, spike, state
from lnm_codegen.language.text.expression import parse

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
