"""Bounds of learned parameters: clamps in the definition, such as `lnm.clip(a, 0, 1)`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, cast

from lnm_codegen.analysis.charge import clamp_of
from lnm_codegen.ir.declarations import Param, State
from lnm_codegen.language.functions import Where
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import Declared

Ends = tuple[float, float]


@lru_cache(maxsize=256)
def parameter_bounds(neuron: Neuron) -> dict[str, Ends]:
    """Return the bounds of learnable scalars that are read through clamps alone, by name.

    The scalars of a vector parameter `w` are `w_0`, `w_1`, ... (`Param.element_names`). Of several
    clamps the widest bounds count. `max(1, w)` selects 1 where w is 1, so that w has no gradient
    there either: it is no such clamp, and `max(w, 1)` is.
    """
    found: dict[Declared, Ends] = {}
    steps = (neuron.charge, neuron.fire, neuron.reset, neuron.output)
    pairs = (*steps, neuron.counts, neuron.bindings)
    read = _read((expr for part in pairs for _, expr in part), found)
    starts = {cast("State", s.decl).param for s in neuron.states}
    return {
        s.name: ends
        for s, ends in found.items()
        if isinstance(s.decl, Param) and s.decl.learnable
        if s not in read and s.decl.name not in starts
    }


def _read(exprs: Iterable[Any], found: dict[Declared, Ends]) -> set[Any]:
    """Return the symbols that expressions read without a clamp, and add the clamps to `found`."""
    read: set[Any] = set()
    for expr in exprs:
        clamp = _clamp(expr)
        if clamp is not None:
            symbol, (low, high) = clamp
            other = found.get(symbol, (low, high))
            found[symbol] = min(low, other[0]), max(high, other[1])
        elif getattr(expr, "args", ()):
            read |= _read(expr.args, found)
        else:
            read.add(expr)
    return read


def _clamp(expr: Any) -> tuple[Declared, Ends] | None:
    """Return the symbol and the ends of a clamp of one symbol between numbers, or None."""
    low, high, inner, compared = -math.inf, math.inf, expr, []
    while isinstance(inner, Where):
        clamp = clamp_of(inner)
        if clamp is None or not clamp.is_open:
            return None
        if clamp.is_lower:
            low = max(low, clamp.bound)
        else:
            high = min(high, clamp.bound)
        if clamp.compared != clamp.rest:
            compared.append(clamp.compared)
        inner = clamp.rest
    is_one = isinstance(inner, Declared) and inner is not expr
    return (inner, (low, high)) if is_one and all(c == inner for c in compared) else None
