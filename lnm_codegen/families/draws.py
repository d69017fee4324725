"""Arguments of families that are a number or a range, from which a layer draws initial values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from lnm_codegen.ir.declarations import Draw, Uniform, middle
from lnm_codegen.language.symbols import Declared, param
from lnm_codegen.validation import is_number, require_interval, require_number, wrong

Range: TypeAlias = float | tuple[float, float]
"""A number, or the ends of a uniform distribution."""


def require_range(
    where: str,
    word: str,
    value: Any,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
) -> tuple[float, float]:
    """Return the ends of a range, equal for one number.

    Raises:
        ModelError: Neither a finite number nor a pair (low, high) with low < high, or out of the
            bounds; see `require_number` for them.
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        ends = require_interval(where, word, value)
    elif is_number(value):
        ends = (value, value)
    else:
        raise wrong(where, word, value, "a finite number, or (low, high) with low < high")
    for end in ends:
        require_number(where, word, end, low=low, above=above, high=high, below=below)
    return float(ends[0]), float(ends[1])


def param_in(
    where: str, name: str, value: Any, *, learnable: bool = True, **bounds: float
) -> Declared:
    """Declare a scalar parameter that begins in a range; for the bounds see `require_range`."""
    ends = require_range(where, name, value, **bounds)
    draw = Draw(Uniform(ends)) if ends[0] < ends[1] else None
    return param(name, init=middle(ends), learnable=learnable, draw=draw)
