"""What several families share: the choice of a reset, and checks of their arguments."""

from __future__ import annotations

from math import inf, isfinite
from typing import Any

from lnm_codegen.errors import ModelError
from lnm_codegen.language.functions import ExprLike, where
from lnm_codegen.language.neuron import hard_reset, soft_reset
from lnm_codegen.language.symbols import Declared


def reset_of(v: Declared, v_threshold: ExprLike, v_reset: ExprLike | None) -> dict[Any, Any]:
    """Return a hard reset to `v_reset`, or a soft one by `v_threshold` where it is None."""
    return soft_reset(v, v_threshold) if v_reset is None else hard_reset(v, v_reset)


def clamped(
    family: str, charged: ExprLike, v_min: float | None, v_max: float | None, v_threshold: float
) -> ExprLike:
    """Return the charged potential held to [v_min, v_max]; None leaves a side open.

    Raises:
        ModelError: An upper end at or below the threshold, which nothing could reach then, or a
            lower one at or above it, where all would fire always.
    """
    if v_min is not None and not v_min < v_threshold:
        raise ModelError(
            family, f"v_min is {v_min!r}", f"a number < v_threshold, {v_threshold!r}, or None"
        )
    if v_max is not None and not v_max > v_threshold:
        raise ModelError(
            family, f"v_max is {v_max!r}", f"a number > v_threshold, {v_threshold!r}, or None"
        )
    if v_min is not None:
        charged = where(charged < v_min, v_min, charged)
    return charged if v_max is None else where(charged > v_max, v_max, charged)


def check_choice(family: str, word: str, value: Any, accepted: tuple[Any, ...]) -> None:
    """Raise ModelError unless `value` is one of `accepted`."""
    if value not in accepted:
        choices = ", ".join(repr(a) for a in accepted)
        raise ModelError(family, f"{word} is {value!r}", choices)


def check_numbers(family: str, **values: Any) -> None:
    """Raise ModelError unless every value is a finite number, or None where a name allows it."""
    for word, value in values.items():
        optional = word in ("v_reset", "v_rest", "v_min", "v_max")
        if optional and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            accepted = "a finite number or None" if optional else "a finite number"
            raise ModelError(family, f"{word} is {value!r}", accepted)


def check_above(family: str, word: str, value: Any, low: float) -> None:
    """Raise ModelError unless `value` is a number > `low`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and low < value < inf):
        raise ModelError(family, f"{word} is {value!r}", f"a number > {low:g}")
