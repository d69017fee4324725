"""The arguments of `lnm.Neuron`, phase by phase, as expressions and names; what is none is refused.

Whether the expressions of a phase read what they may is `wellformed.py`'s to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.language.functions import as_expr, check_functions
from lnm_codegen.language.surrogate import Surrogate, atan
from lnm_codegen.language.symbols import Declared, State, check_name, is_spike, spike
from lnm_codegen.language.text.cost import check_size

Assignments: TypeAlias = tuple[tuple[Declared, sympy.Expr], ...]
Named: TypeAlias = tuple[tuple[str, sympy.Expr], ...]


def assignments(given: Any, where: str, kind: type) -> Assignments:
    """Return {symbol: expression} as pairs; every symbol is declared as `kind`, State or Spike."""
    if not isinstance(given, Mapping):
        raise ModelError(where, f"{given!r} is not a dict", "{symbol: expression}")
    pairs = []
    for key, value in given.items():
        if not (isinstance(key, Declared) and isinstance(key.decl, kind)):
            made = "lnm.state" if kind is State else "lnm.spike_named"
            raise ModelError(
                where,
                f"the key {key!r} is not a {kind.__name__.lower()}",
                f"symbols made by {made}",
            )
        pairs.append((key, _expression(value, f"{where}[{key.name}]")))
    return tuple(pairs)


def outputs(output: Any, fire: Assignments, name: str) -> Named:
    """Return the outputs by name: the spike where none is given, `out` for one without a name."""
    if output is None:
        if spike not in dict(fire):
            raise ModelError(
                f"{name}.output",
                "the neuron has no spike named lnm.spike to put out",
                remedy="Give output=, an expression or {name: expression}.",
            )
        output = spike
    if not isinstance(output, Mapping):
        expr = as_expr(output, f"{name}.output")
        output = {expr.name if isinstance(expr, Declared) and is_spike(expr) else "out": expr}
    if not output:
        raise ModelError(
            f"{name}.output", "no output", remedy="Give an expression or {name: expression}."
        )
    return named(output, f"{name}.output")


def named(given: Mapping[Any, Any], where: str) -> Named:
    """Return {name: expression} as pairs."""
    pairs = []
    for key, value in given.items():
        if key != "spike":
            check_name(key, where)
        pairs.append((str(key), _expression(value, f"{where}[{key}]")))
    return tuple(pairs)


def surrogates(given: Any, fire: Assignments, name: str) -> tuple[tuple[str, Surrogate], ...]:
    """Return one surrogate per spike, in the order of `fire`."""
    given = atan() if given is None else given
    table = given if isinstance(given, Mapping) else {s: given for s, _ in fire}
    for key, value in table.items():
        if key not in dict(fire) or not isinstance(value, Surrogate):
            raise ModelError(
                f"{name}.surrogate: {key!r}",
                f"{value!r}",
                "a surrogate such as lnm.surrogate.atan(), or one for each spike of fire",
            )
        check_size(value.slope, f"{name}.surrogate[{key}]")
        check_functions(value.slope, f"{name}.surrogate[{key}]")
    missing = [s.name for s, _ in fire if s not in table]
    if missing:
        raise ModelError(
            f"{name}.surrogate", f"none for {', '.join(missing)}", remedy="Give one per spike."
        )
    return tuple((s.name, table[s]) for s, _ in fire)


def _expression(value: Any, where: str) -> sympy.Expr:
    expr = as_expr(value, where)
    check_size(expr, where)
    check_functions(expr, where)
    return expr
