"""Arguments of `lnm.Neuron`, phase by phase, as pairs of a symbol or name and an expression.

`wellformed.py` decides which symbols each phase may read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.language.bounds import require_expression
from lnm_codegen.language.functions import as_expr
from lnm_codegen.language.surrogate import Surrogate, atan
from lnm_codegen.language.symbols import Declared, Spike, State, is_spike, require_name, spike

Assignments: TypeAlias = tuple[tuple[Declared, sympy.Expr], ...]
Named: TypeAlias = tuple[tuple[str, sympy.Expr], ...]


class Phases(NamedTuple):
    """Expressions of a neuron by phase."""

    charge: Assignments
    fire: Assignments
    reset: Assignments
    output: Named


def phases_of(name: str, charge: Any, fire: Any, reset: Any, output: Any) -> Phases:
    """Return the arguments of `Neuron` as phases; see there."""
    if not isinstance(fire, Mapping):
        fire = {} if fire is None else {spike: fire}
    charged = _assignments(f"{name}.charge", charge or {}, State)
    fired = _assignments(f"{name}.fire", fire, Spike)
    after = _assignments(f"{name}.reset", reset or {}, State)
    return Phases(charged, fired, after, _outputs(f"{name}.output", output, fired))


def _assignments(where: str, given: Any, kind: type) -> Assignments:
    """Return {symbol: expression} as pairs; every symbol is declared as `kind`, State or Spike."""
    if not isinstance(given, Mapping):
        raise ModelError(where, f"{given!r} is not a dict", "{symbol: expression}")
    for key in given:
        if not (isinstance(key, Declared) and isinstance(key.decl, kind)):
            problem = f"the key {key!r} is not a {kind.__name__.lower()}"
            made = "lnm.state" if kind is State else "lnm.spike_named"
            raise ModelError(where, problem, f"symbols made by {made}")
    return tuple((s, require_expression(f"{where}[{s.name}]", e)) for s, e in given.items())


def _outputs(where: str, output: Any, fire: Assignments) -> Named:
    if output is None:
        if spike not in dict(fire):
            problem = "no spike is named lnm.spike, the default output"
            remedy = "Give output=, an expression or {name: expression}."
            raise ModelError(where, problem, remedy=remedy)
        output = spike
    if not isinstance(output, Mapping):
        expr = as_expr(output, where)
        output = {expr.name if isinstance(expr, Declared) and is_spike(expr) else "out": expr}
    if not output:
        raise ModelError(where, "no output", remedy="Give an expression or {name: expression}.")
    return named(where, output)


def named(where: str, given: Mapping[Any, Any]) -> Named:
    """Return {name: expression} as pairs."""
    names = [key if key == "spike" else require_name(where, key) for key in given]
    return tuple((n, require_expression(f"{where}[{n}]", given[n])) for n in names)


def surrogates(where: str, given: Any, fire: Assignments) -> tuple[tuple[str, Surrogate], ...]:
    """Return one surrogate per spike, in the order of `fire`."""
    given = atan() if given is None else given
    table = given if isinstance(given, Mapping) else {s: given for s, _ in fire}
    for key, value in table.items():
        if key not in dict(fire) or not isinstance(value, Surrogate):
            accepted = "a surrogate such as lnm.surrogate.atan(), or one for each spike of fire"
            raise ModelError(where, f"{key!r} has {value!r}", accepted)
        require_expression(f"{where}[{key}]", value.slope)
    missing = [s.name for s, _ in fire if s not in table]
    if missing:
        raise ModelError(where, f"none for {', '.join(missing)}", remedy="Give one per spike.")
    return tuple((s.name, table[s]) for s, _ in fire)
