"""The key `surrogate` of a definition: a name, a table with `kind`, or a table by spike."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

from lnm_codegen.language.surrogate import SURROGATES, Surrogate
from lnm_codegen.language.symbols import Declared
from lnm_codegen.language.text.content import Content, is_number, joined, shorten_value
from lnm_codegen.language.text.tree import shorten
from lnm_codegen.validation import did_you_mean


def read_surrogate(file: Content, spikes: Mapping[str, Declared]) -> Any:
    """Return the argument `surrogate` of `Neuron`: None where the file has no such key."""
    given = file.tables.get("surrogate")
    if given is None:
        return None
    if not spikes:
        file.refuse("surrogate", "given, but nothing fires. Remove it, or give fire.")
    if not isinstance(given, dict) or not any(key in spikes for key in given):
        return _one(file, given, "surrogate")
    file.keys(given, "surrogate", spikes)
    for key in spikes:
        if key not in given:
            file.refuse(joined("surrogate", key), "missing. Give one for every spike.")
    return {
        spikes[key]: _one(file, value, joined("surrogate", key)) for key, value in given.items()
    }


def _one(file: Content, given: Any, where: str) -> Surrogate:
    table = {"kind": given} if isinstance(given, str) else given
    names = ", ".join(SURROGATES)
    if not isinstance(table, dict):
        file.refuse(where, f"{shorten_value(table)}. Accepted: {names}, or a table.")
    kind = file.get(table, where, "kind", str, f"one of {names}")
    if kind not in SURROGATES:
        file.refuse(
            where if isinstance(given, str) else joined(where, "kind"),
            f"no surrogate {shorten(kind)}. Accepted: {names}.{did_you_mean(kind, SURROGATES)}",
        )
    make = SURROGATES[kind]
    file.keys(table, where, ("kind", *signature(make).parameters))
    numbers = {key: value for key, value in table.items() if key != "kind"}
    for key, value in numbers.items():
        if not is_number(value):
            file.refuse(joined(where, key), f"{shorten_value(value)}. Accepted: a finite number.")
    surrogate: Surrogate = file.located(make, **numbers)
    return surrogate
