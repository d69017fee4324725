"""Arguments of a plot: numbers, also those of NumPy, and axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lnm_codegen.analysis.canvas import require_matplotlib
from lnm_codegen.ir.interpret import Array
from lnm_codegen.language.misuse import as_number, as_numbers
from lnm_codegen.validation import (
    is_number,
    require_integer,
    require_interval,
    require_number,
    wrong,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def number_of(where: str, word: str, value: Any, *, optional: bool = False) -> Any:
    """Return a finite number as a float, or None if `optional`.

    Raises:
        ModelError: The value is not a finite number.
    """
    found = require_number(where, word, as_number(value), optional=optional)
    return None if found is None else float(found)


def integer_of(where: str, word: str, value: Any, low: int = 1, high: int | None = None) -> int:
    """Return an integer of at least `low` and at most `high`.

    Raises:
        ModelError: The value is not such an integer.
    """
    return int(require_integer(where, word, as_number(value), low, high))


def interval_of(where: str, word: str, value: Any) -> tuple[float, float]:
    """Return a pair (low, high) of finite numbers with low < high.

    Raises:
        ModelError: The value is not such a pair.
    """
    low, high = require_interval(where, word, _plain(value))
    return float(low), float(high)


def intervals_of(where: str, word: str, value: Any, count: int) -> list[tuple[float, float]]:
    """Return `count` pairs (low, high) of finite numbers with low < high.

    Raises:
        ModelError: The value is anything else. The message shows all of it.
    """
    pairs = _pairs(value)
    if pairs is None or len(pairs) != count or not all(low < high for low, high in pairs):
        accepted = f"({', '.join(['(low, high)'] * count)}) with low < high, finite"
        raise wrong(where, word, value, accepted)
    return pairs


def points_of(where: str, word: str, value: Any) -> Array:
    """Return pairs of numbers ((v, w), ...) as an array (2, S).

    Raises:
        ModelError: The value is anything else.
    """
    pairs = _pairs(value)
    if not pairs:
        raise wrong(where, word, value, "pairs of numbers, ((v, w), ...)")
    return np.array(pairs).T


def axes_of(where: str, ax: Axes | None) -> Axes:
    """Return the given axes, or those of a new figure of pyplot.

    Raises:
        ModelError: `ax` is neither None nor axes of matplotlib.
        ToolError: matplotlib is not installed.
    """
    require_matplotlib(f"plot.{where}")
    from matplotlib.axes import Axes

    if isinstance(ax, Axes):
        return ax
    if ax is not None:
        raise wrong(f"plot.{where}", "ax", ax, "one Axes, or None for a new figure")
    from matplotlib import pyplot

    return pyplot.subplots(layout="constrained")[1]


def _plain(value: Any) -> Any:
    """Return a sequence, or an array, with numbers of Python."""
    value = as_numbers(value)
    if isinstance(value, list | tuple):
        return type(value)([_plain(one) for one in value])
    return value


def _pairs(value: Any) -> list[tuple[float, float]] | None:
    """Return pairs of finite numbers, or None for anything else."""
    found = _plain(value)
    if not isinstance(found, list | tuple) or not all(map(_is_pair, found)):
        return None
    return [(float(a), float(b)) for a, b in found]


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(is_number, value))
