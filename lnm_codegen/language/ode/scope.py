"""Names of an ODE text: what each one is, its symbol and its unit.

| name | meaning |
| --- | --- |
| with a rate, `dv/dt = ...` | a state |
| `NAME = ... : unit` | a subexpression |
| `NAME : unit`, set by the reset | a state without a rate |
| with a value in `parameters` | a parameter |
| a unit, a function, `pi`, `dt` | itself |
| any other | an input |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import Input
from lnm_codegen.language.names import require_name
from lnm_codegen.language.ode.dimensions import Dimensions
from lnm_codegen.language.ode.equations import Equation
from lnm_codegen.language.ode.functions import FUNCTIONS
from lnm_codegen.language.ode.quantities import Quantity, names_in, unit_dims, unit_sizes
from lnm_codegen.language.ode.system import placeholder
from lnm_codegen.language.ode.units import Dims, none, spelled, unit_named
from lnm_codegen.language.symbols import Declared, input, param, state, undriven
from lnm_codegen.language.text.cost import quoted
from lnm_codegen.language.text.expression import CONSTANTS, parse
from lnm_codegen.validation import did_you_mean

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
