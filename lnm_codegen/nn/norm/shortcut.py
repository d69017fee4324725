"""Shortcuts of a layer: their types, those that its kernel adds, and calls with any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lnm_codegen.nn.arguments import is_autocast
from lnm_codegen.nn.dispatch import Dispatch
from lnm_codegen.nn.layer import NeuronLayer


def as_summand(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return inputs whose r, if it has one axis, follows the last axis of c, as in an addition."""
    if len(inputs) > 1 and isinstance(inputs[1], Tensor) and inputs[1].dim() == 1:
        return inputs[0], inputs[1][None], *inputs[2:]
    return inputs


def adds_in_kernel(c: Any, *more: Any) -> bool:
    """Report whether c + r has the shape and the type of c, or c is refused anyway."""
    if not (isinstance(c, Tensor) and more):
        return True
    r = more[0]
    if not isinstance(r, Tensor) or r.device != c.device or r.dim() > c.dim():
        return False
    pairs = zip(reversed(r.shape), reversed(c.shape), strict=False)
    is_widened = is_autocast(c) and r.is_floating_point()
    return (r.dtype is c.dtype or is_widened) and all(a == b or a == 1 for a, b in pairs)


def run_alone(
    layer: NeuronLayer, own: Dispatch, inputs: tuple[Tensor, ...], options: Mapping[str, Any]
) -> Any:
    """Return the results of a layer whose calls `own` runs; states and records stay in `layer`."""
    alone = NeuronLayer.__new__(NeuronLayer)
    vars(alone).update({**vars(layer), "_dispatch": own})
    results: Any = alone.forward(*inputs, **options)
    vars(layer).update({**vars(alone), "_dispatch": layer._dispatch})
    return results
