"""Text of a system of equations -> a record for each equation.

    dv/dt = (E - v + R*I)/tau : volt (unless refractory)     a state and its rate
    I = g*(E_s - v) : amp                                    a subexpression
    tau : second (constant)                                  a parameter or an input

An equation ends with the line of its colon. A comment begins with '#'. A backslash at the end of a
line counts as a space.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NoReturn, TypeAlias

from lnm_codegen.errors import ModelError
from lnm_codegen.language.text.cost import quoted
from lnm_codegen.validation import did_you_mean, shown

Kind: TypeAlias = Literal["rate", "subexpression", "parameter"]

MAX_CHARACTERS = 20_000
"""Largest number of characters of a text."""
MAX_EQUATIONS = 100
"""Largest number of equations of a text."""

UNLESS_REFRACTORY, CONSTANT_OVER_DT = "unless refractory", "constant over dt"
FLAGS: dict[Kind, tuple[str, ...]] = {
    "rate": (UNLESS_REFRACTORY,),
    "subexpression": (CONSTANT_OVER_DT,),
    "parameter": ("constant",),
}
"""Flags in parentheses behind the unit, by the kind of equation."""

_WHERE = "ode: text"
_FORMS = "dNAME/dt = EXPRESSION : UNIT, NAME = EXPRESSION : UNIT, NAME : UNIT"
_RATE = re.compile(r"d([A-Za-z][A-Za-z0-9_]*)\s*/\s*dt\Z")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Equation:
    """One equation. `text` is its right side, empty for a parameter; `unit` is still text."""

    kind: Kind
    name: str
    text: str
    unit: str
    flags: tuple[str, ...]

    @property
    def where(self) -> str:
        """Place of the equation, which begins its errors: "ode: dv/dt"."""
        return f"ode: d{self.name}/dt" if self.kind == "rate" else f"ode: {self.name}"


def equations_of(text: object) -> tuple[Equation, ...]:
    """Return the equations of a text, in their order.

    Raises:
        ModelError: No text, a line that is no equation, a name that is defined twice, an unknown
            flag, or a text that exceeds a bound.
    """
    if not isinstance(text, str):
        accepted = 'equations in quotes, such as "dv/dt = (x - v)/tau : 1"'
        raise ModelError("ode", f"text is {shown(text)}", accepted)
    if len(text) > MAX_CHARACTERS:
        _refuse(f"it has {len(text)} characters", f"at most {MAX_CHARACTERS}")
    lines = _statements(text)
    if len(lines) > MAX_EQUATIONS:
        _refuse(f"it has {len(lines)} equations", f"at most {MAX_EQUATIONS}")
    equations = tuple(map(_equation, lines))
    names = [e.name for e in equations]
    for name in names:
        if names.count(name) > 1:
            _refuse(f"{quoted(name)} is defined twice", remedy="Remove one of the equations.")
    if not any(e.kind == "rate" for e in equations):
        _refuse("no differential equation", "dNAME/dt = EXPRESSION : UNIT", "Write at least one.")
    return equations


def plain_lines(where: str, text: str) -> list[str]:
    """Return the lines of a text without comments and continuation characters.

    Raises:
        ModelError: A character outside a comment that is not printable ASCII.
    """
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        code = line.partition("#")[0].replace("\t", " ").rstrip(" ")
        for character in code:
            if not " " <= character <= "~":
                problem = f"the character {character!r} in {quoted(code.strip())}"
                raise ModelError(where, problem, "printable ASCII outside comments")
        lines.append(code.removesuffix("\\").strip(" "))
    return lines


def _statements(text: str) -> list[str]:
    """Return one line for each equation."""
    found: list[str] = []
    pending: list[str] = []
    for line in plain_lines(_WHERE, text):
        if line:
            pending.append(line)
        if ":" in line:
            found.append(" ".join(pending))
            pending = []
    if pending:
        problem = f"{quoted(' '.join(pending))} has no unit"
        _refuse(problem, _FORMS, "Write ': 1' for a number without a unit.")
    return found


def _equation(line: str) -> Equation:
    head, _, tail = line.partition(":")
    left, equals, right = (part.strip() for part in head.partition("="))
    rate, name = _RATE.match(left), _NAME.match(left)
    unit, flags = _unit_and_flags(line, tail)
    if rate and equals:
        kind: Kind = "rate"
    elif name:
        kind = "subexpression" if equals else "parameter"
    else:
        _refuse(f"{quoted(line)} is not an equation", _FORMS)
    found = rate.group(1) if rate else left
    equation = Equation(kind, found, right, unit, flags)
    for flag in flags:
        if flag not in FLAGS[kind]:
            problem = f"the flag {quoted(flag)}"
            raise ModelError(
                equation.where, problem, f"({FLAGS[kind][0]})", did_you_mean(flag, FLAGS[kind])
            )
    if equals and not right:
        raise ModelError(equation.where, "the expression is empty", _FORMS)
    return equation


def _unit_and_flags(line: str, tail: str) -> tuple[str, tuple[str, ...]]:
    unit, bracket, rest = (part.strip() for part in tail.partition("("))
    if not unit:
        _refuse(f"{quoted(line)} has no unit", _FORMS, "Write ': 1' for a number without a unit.")
    if not bracket:
        return unit, ()
    if not rest.endswith(")"):
        _refuse(f"{quoted(line)} has flags without ')'", "(FLAG) or (FLAG, FLAG)")
    return unit, tuple(" ".join(flag.split()) for flag in rest[:-1].split(","))


def _refuse(problem: str, accepted: str = "", remedy: str = "") -> NoReturn:
    raise ModelError(_WHERE, problem, accepted, remedy)
