"""Texts of `lnm.ode`: equations, their names, threshold and reset."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeAlias

import sympy
from sympy.core.relational import Relational

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import Input
from lnm_codegen.language.binding import bind
from lnm_codegen.language.bounds import quoted
from lnm_codegen.language.functions import max, min
from lnm_codegen.language.ode.functions import FUNCTIONS
from lnm_codegen.language.ode.methods import placeholder
from lnm_codegen.language.ode.units import (
    Dimensions,
    Dims,
    Quantity,
    names_in,
    none,
    spelled,
    tree,
    unit_dims,
    unit_named,
    unit_sizes,
)
from lnm_codegen.language.symbols import Declared, input, param, require_name, state, undriven
from lnm_codegen.language.text.expression import CONSTANTS, parse
from lnm_codegen.validation import did_you_mean, shown

# Text of a system of equations -> a record for each equation.
#
#     dv/dt = (E - v + R*I)/tau : volt (unless refractory)     a state and its rate
#     I = g*(E_s - v) : amp                                    a subexpression
#     tau : second (constant)                                  a parameter or an input
#
# An equation ends with the line of its colon. A comment begins with '#'. A backslash at the end of
# a line counts as a space.


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


# Names of an ODE text: what each one is, its symbol and its unit.
#
# | name | meaning |
# | --- | --- |
# | with a rate, `dv/dt = ...` | a state |
# | `NAME = ... : unit` | a subexpression |
# | `NAME : unit`, set by the reset | a state without a rate |
# | with a value in `parameters` | a parameter |
# | a unit, a function, `pi`, `dt` | itself |
# | any other | an input |


MAX_NAMES = 300
"""Largest number of names that the texts read, units among them."""

_NAME_IT = "Give its value in parameters=, or its name in inputs=."
_RANDOM = "Draw the noise in Python and give it as an input."
_REFUSED = {
    "xi": ("'xi' is a random number", _RANDOM),
    "t": ("'t' is the time", "Give a function of time as an input."),
    "t_in_timesteps": ("it is the time", "Give a function of time as an input."),
    "lastspike": ("'lastspike' is the time of the last spike", "Use refractory=."),
    "not_refractory": (
        "'not_refractory' is not of the grammar",
        "Use the flag (unless refractory).",
    ),
    "e": ("'e' is a constant of Brian2", "Write exp(1), or choose another name."),
    "inf": ("'inf' is not finite", "Write a finite number."),
}
"""Name -> problem and remedy, where Brian2 gives the name a meaning of its own."""


class NameTable:
    """Names of the texts of one neuron.

    Args:
        equations: The equations.
        more: Further texts by place: threshold, reset and refractory.
        assigned: Names that the reset assigns.
        values: Parameters by name.
        starts: Initial values by name.
        learnable: Names of the learnable parameters.
        inputs: Names of the inputs in their order, or None where every free name is one.
        constants: Names of the parameters that the refractory time reads; they become numbers.
        dt: The time step.
    """

    def __init__(
        self,
        equations: Iterable[Equation],
        more: Mapping[str, list[str]],
        assigned: Iterable[str],
        values: Mapping[str, Quantity],
        starts: Mapping[str, Quantity],
        learnable: Iterable[str],
        inputs: Iterable[str] | None,
        constants: Iterable[str],
        dt: Quantity,
    ) -> None:
        self.dims = Dimensions()
        self.table: dict[str, Any] = {}
        self.states: dict[str, Declared] = {}
        self._equations = {e.name: e for e in equations}
        self._values, self._starts, self._learnable = values, starts, frozenset(learnable)
        self._constants = frozenset(constants)
        self._inputs = None if inputs is None else tuple(inputs)
        self._read = self._reads(more)
        for name in (*self._equations, *values):
            _require_free(name)
        self._declare_states(frozenset(assigned))
        self._declare_inputs()
        self._declare_params()
        self._require_learnable()
        for equation in self._equations.values():
            if equation.kind == "subexpression":
                self._set(equation.name, placeholder(equation.name))
        if "dt" not in self.table:
            self.table["dt"] = dt.value
            self.dims.set("dt", dt.dims)
        units = unit_sizes(list(self._read))
        self.table |= {word: size for word, size in units.items() if word not in self.table}

    def parse(self, text: str, where: str, *, condition: bool = False) -> tuple[Any, Dims]:
        """Return the template of a text and its dimensions, which have been checked."""
        value = parse(text, self.table, where, functions=FUNCTIONS, condition=condition)
        return value, self.dims.of_text(text, where)

    def _reads(self, more: Mapping[str, list[str]]) -> dict[str, str]:
        """Return name -> place of its first use, in the order of the texts."""
        found: dict[str, str] = {}
        for equation in self._equations.values():
            if equation.text:
                for name in names_in(equation.text, equation.where):
                    found.setdefault(name, equation.where)
        for where, texts in more.items():
            for name in (name for text in texts for name in names_in(text, where)):
                found.setdefault(name, where)
        if len(found) > MAX_NAMES:
            raise ModelError("ode", f"the texts read {len(found)} names", f"at most {MAX_NAMES}")
        return found

    def _set(self, name: str, symbol: Any) -> None:
        """Give a name its symbol, and the unit of its equation."""
        self.table[name] = symbol
        equation = self._equations.get(name)
        self.dims.set(name, unit_dims(equation.unit, equation.where) if equation else None)

    def _declare_states(self, assigned: frozenset[str]) -> None:
        for equation in self._equations.values():
            own = equation.kind == "parameter" and "constant" not in equation.flags
            if equation.kind == "rate" or (own and equation.name in assigned):
                self._declare_state(equation)
        for name in self._starts:
            if name not in self.states:
                accepted = ", ".join(self.states)
                raise ModelError(
                    "ode: init", f"{quoted(name)} is not a state", accepted,
                    did_you_mean(name, self.states),
                )  # fmt: skip

    def _declare_state(self, equation: Equation) -> None:
        name = equation.name
        given = self._starts.get(name)
        if name in self._values:
            if equation.kind == "rate" or given is not None:
                problem = f"{name!r} is a state"
                raise ModelError("ode: parameters", problem, remedy="Give its start in init=.")
            given = self._values[name]
        start = 0.0 if given is None else given.number
        self.states[name] = state(name, init=start)
        self._set(name, self.states[name])
        if given is not None:
            self._require_unit("init", name, given)

    def _declare_inputs(self) -> None:
        """Declare the inputs in the order of `inputs`, else of their lines, then of first use."""
        self._require_lines_read()
        free = [name for name in self._read if self._is_free(name)]
        self._require_known(free)
        for name in dict.fromkeys(self._inputs or (*self._equations, *free)):
            if name in free:
                self._set(name, input(name))
        if not free:
            if "x" in (*self._equations, *self._values):
                problem = "no name is free, and 'x', the input that then sets the shape, is taken"
                raise ModelError("ode", problem, remedy="Rename 'x'.")
            undriven("x")

    def _require_lines_read(self) -> None:
        """Refuse a line `NAME : unit` that no expression reads, or a constant without a value."""
        for name, equation in self._equations.items():
            if equation.kind != "parameter" or name in self.states or name in self._values:
                continue
            if "constant" in equation.flags:
                problem = f"{name!r} has no value"
                raise ModelError(equation.where, problem, remedy="Give it in parameters=.")
            if name not in self._read:
                problem = f"{name!r} is declared but no expression reads it"
                raise ModelError(equation.where, problem, remedy="Remove the line.")

    def _require_known(self, free: list[str]) -> None:
        """Refuse Brian2's own names as inputs, and inputs that differ from `inputs`."""
        for name in free:
            if name not in self._equations and (name in _REFUSED or name.startswith("xi_")):
                problem, remedy = _REFUSED.get(name, (f"{name!r} is a random number", _RANDOM))
                raise ModelError(self._read[name], problem, remedy=remedy)
            if self._inputs is not None and name not in self._inputs:
                known = (*self._inputs, *self.states, *self._equations, *self._values)
                problem = f"{name!r} has no value and is not one of inputs="
                remedy = did_you_mean(name, known, cutoff=0.5)
                raise ModelError(self._read[name], problem, remedy=remedy or _NAME_IT)
        for name in self._inputs or ():
            if name not in free and (free or name != "x"):
                problem = f"no text reads {quoted(name)} as an input"
                raise ModelError("ode: inputs", problem, free, did_you_mean(name, free))

    def _is_free(self, name: str) -> bool:
        if name in self._equations:
            declared = self._equations[name].kind == "parameter"
            return declared and name not in self.states and name not in self._values
        known = name in self._values or name in FUNCTIONS or name in CONSTANTS
        return not (known or name == "dt" or unit_named(name))

    def _declare_params(self) -> None:
        for name, given in self._values.items():
            if name in self.states:
                continue
            equation = self._equations.get(name)
            if equation is not None and equation.kind != "parameter":
                problem = f"{name!r} is a subexpression"
                raise ModelError("ode: parameters", problem, remedy="Remove the value.")
            if name not in self._read and name not in self._constants:
                free = [
                    s
                    for s, value in self.table.items()
                    if isinstance(getattr(value, "decl", None), Input)
                ]
                problem = f"no text reads {name!r}"
                raise ModelError(
                    "ode: parameters", problem, sorted(self._read), did_you_mean(name, free)
                )
            if name in self._learnable & self._constants:
                problem = f"the refractory time reads {name!r}, so it has no gradient"
                raise ModelError("ode: learnable", problem, remedy=f"Leave {name!r} out.")
            if name in self._constants:
                symbol = given.value
            else:
                symbol = param(name, init=given.number, learnable=name in self._learnable)
            self._set(name, symbol)
            if equation is None:
                self.dims.set(name, given.dims)
            else:
                self._require_unit("parameters", name, given)

    def _require_learnable(self) -> None:
        for name in sorted(self._learnable & self.states.keys()):
            problem = f"{name!r} is a state"
            remedy = "Add a learnable parameter to a state that begins at 0."
            raise ModelError("ode: learnable", problem, "names of parameters", remedy)
        for name in self._learnable - self._values.keys():
            accepted = sorted(self._values) or "none; parameters is empty"
            hint = did_you_mean(name, self._values)
            raise ModelError("ode: learnable", f"{quoted(name)} is no parameter", accepted, hint)

    def _require_unit(self, word: str, name: str, given: Quantity) -> None:
        own = self.dims.of_name(name)
        if given.dims != own and not (given.value == 0 and given.dims == none()):
            problem = (
                f"{name} has the unit {spelled(own)}, its value the unit {spelled(given.dims)}"
            )
            raise ModelError(f"ode: {word}", problem, "one unit on both sides")


def _require_free(name: str) -> None:
    """Raise ModelError unless a name may be declared."""
    where = f"ode: name {quoted(name)}"
    problem = ""
    if name in FUNCTIONS or name in CONSTANTS:
        problem = "the grammar has a function or a constant of this name"
    elif name == "dt" or name in ("xi", "t", "lastspike", "not_refractory"):
        problem = "the name has a meaning of its own"
    elif unit_named(name):
        problem = "a unit has this name"
    if problem:
        raise ModelError(where, problem, remedy="Choose another name.")
    require_name("ode: name", name)


# Threshold, reset and refractory period of a neuron, from Brian2's texts.


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
