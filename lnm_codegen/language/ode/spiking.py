"""Threshold, reset and refractory period of a neuron, from Brian2's texts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import sympy
from sympy.core.relational import Relational

from lnm_codegen.errors import ModelError
from lnm_codegen.language.binding import bind
from lnm_codegen.language.functions import max, min
from lnm_codegen.language.ode.equations import plain_lines
from lnm_codegen.language.ode.quantities import tree
from lnm_codegen.language.text.cost import quoted
from lnm_codegen.validation import shown

_STATEMENT = re.compile(r"([A-Za-z][A-Za-z0-9_]*)\s*([-+*/]?)=(?!=)(.+)\Z")
MAX_STATEMENTS = 20
"""Largest number of statements of a reset."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One assignment of a reset: `v = text`, or `v + (text)` for `v += text`."""

    name: str
    operator: str
    text: str

    @property
    def value(self) -> str:
        """The text of the new value."""
        return f"{self.name} {self.operator} ({self.text})" if self.operator else self.text

    @property
    def where(self) -> str:
        """Place of the statement."""
        return f"ode: reset of {self.name}"


def statements_of(reset: object) -> list[Statement]:
    """Return the statements of a reset, `v = Vr; w += b`, separated by ';' or line ends.

    Raises:
        ModelError: No text, or a statement that is no assignment.
    """
    accepted = 'assignments in quotes, such as "v = Vr; w += b"'
    if not isinstance(reset, str):
        raise ModelError("ode: reset", f"{shown(reset)} is not a text", accepted)
    lines = plain_lines("ode: reset", reset[:20_000])
    parts = [part.strip() for line in lines for part in line.split(";")]
    found = []
    for part in filter(None, parts):
        match = _STATEMENT.match(part)
        if match is None or not match[3].strip():
            raise ModelError("ode: reset", f"{quoted(part)} is not an assignment", accepted)
        found.append(Statement(match[1], match[2], match[3].strip()))
        tree(found[-1].text, found[-1].where)  # `v += 1) * (2` is an expression only in parentheses
    if not 0 < len(found) <= MAX_STATEMENTS:
        problem = f"{len(found)} statements"
        raise ModelError("ode: reset", problem, f"1 to {MAX_STATEMENTS} assignments")
    return found


def margin(condition: Any, where: str) -> sympy.Expr:
    """Return z of a condition, which holds where z >= 0: the difference of its sides.

    `and` takes the smaller z, `or` the larger one.

    Raises:
        ModelError: A constant condition, or an equality.
    """
    if isinstance(condition, sympy.StrictGreaterThan | sympy.GreaterThan):
        return condition.lhs - condition.rhs
    if isinstance(condition, sympy.StrictLessThan | sympy.LessThan):
        return condition.rhs - condition.lhs
    if isinstance(condition, sympy.And | sympy.Or):
        join = min if isinstance(condition, sympy.And) else max
        first, *others = sorted(condition.args, key=sympy.default_sort_key)
        z: Any = margin(first, where)
        for other in others:
            z = bind(join(bind(z, "margin"), bind(margin(other, where), "margin")), "margin")
        return z
    if isinstance(condition, sympy.Not):
        return -margin(condition.args[0], where)
    problem = f"the condition {quoted(str(condition))} has no sign"
    if not isinstance(condition, Relational):
        problem = f"the condition is always {quoted(str(condition))}"
    raise ModelError(where, problem, "v > V_th, and comparisons joined by and, or, not")
