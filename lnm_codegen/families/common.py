"""What several families share: the choice of a reset, and checks of their arguments."""

from __future__ import annotations

from typing import Any

from lnm_codegen.errors import ModelError
from lnm_codegen.functions import ExprLike
from lnm_codegen.neuron import hard_reset, soft_reset
from lnm_codegen.symbols import Declared


def reset_of(v: Declared, v_threshold: ExprLike, v_reset: ExprLike | None) -> dict[Any, Any]:
    """Return a hard reset to `v_reset`, or a soft one by `v_threshold` where it is None."""
    return soft_reset(v, v_threshold) if v_reset is None else hard_reset(v, v_reset)


def check_choice(family: str, word: str, value: Any, accepted: tuple[Any, ...]) -> None:
    """Raise ModelError unless `value` is one of `accepted`."""
    if value not in accepted:
        choices = ", ".join(repr(a) for a in accepted)
        raise ModelError(f"{family}: {word} is {value!r}. Accepted: {choices}.")


def check_above(family: str, word: str, value: Any, low: float) -> None:
    """Raise ModelError unless `value` is a number > `low`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > low:
        raise ModelError(f"{family}: {word} is {value!r}. Accepted: a number > {low:g}.")
