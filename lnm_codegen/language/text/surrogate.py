"""Surrogates in text: a name, a table with `kind` and its arguments, or one with a `slope` in z."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lnm_codegen.ir.declarations import Input
from lnm_codegen.language.functions import replaced
from lnm_codegen.language.surrogate import (
    SURROGATES,
    Surrogate,
    Z,
    from_slope,
    surrogate_named,
)
from lnm_codegen.language.symbols import Declared
from lnm_codegen.language.text.content import Content, joined
from lnm_codegen.language.text.expression import parse


def surrogates_of(file: Content, given: Any, spikes: Mapping[str, Declared]) -> Any:
    """Read `surrogate`: one for every spike, or a table from spike to one. None without the key."""
    if given is None:
        return None
    if not spikes:
        problem = "given, but the neuron has no spike"
        file.refuse("surrogate", problem, remedy="Remove it, or give fire.")
    if not isinstance(given, dict) or not any(key in spikes for key in given):
        return _one(file, given, "surrogate")
    file.require_keys(given, "surrogate", spikes)
    for key in spikes:
        if key not in given:
            file.refuse(joined("surrogate", key), "missing", "one for every spike")
    return {spikes[k]: _one(file, value, joined("surrogate", k)) for k, value in given.items()}


def _one(file: Content, given: Any, where: str) -> Surrogate:
    table = {"kind": given} if isinstance(given, str) else given
    names = ", ".join(SURROGATES)
    if not isinstance(table, dict):
        file.refuse_value(where, table, f"{names}, or a table")
    if "slope" in table:
        return _slope(file, table, where)
    file.require_keys(table, where, ("kind", "alpha"))
    kind = file.get(table, where, "kind", str, names)
    arguments = {key: value for key, value in table.items() if key != "kind"}
    surrogate: Surrogate = file.with_source(surrogate_named, where, kind, arguments)
    return surrogate


def _slope(file: Content, table: dict[str, Any], where: str) -> Surrogate:
    """Return the surrogate of a slope, an expression in z."""
    file.require_keys(table, where, ("name", "slope"))
    name = file.get(table, where, "name", str, "a word in quotes", "custom")
    place = joined(where, "slope")
    text = file.get(table, where, "slope", str, 'an expression in z, such as "1/(1 + z**2)"')
    expr = slope_of(text, f"{file.source}: {place}")
    return from_slope(lambda _: expr, name)


def slope_of(text: str, where: str) -> Any:
    """Return the expression in `Z` of a text in z; errors begin with `where`."""
    z = Declared("z", Input("z"), 0)
    return replaced(parse(text, {"z": z}, where), {z: Z})
