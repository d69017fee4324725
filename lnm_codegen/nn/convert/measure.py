"""Comparison of an old layer with the new one on random input."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lnm_codegen.nn.convert.recipe import Recipe
from lnm_codegen.nn.layer import NeuronLayer

STEPS, BATCH, WIDTH = 16, 4, 32
"""Shape of the input, (T, N, C), unless parameters have one."""

_SCALES = (1.0, 4.0, 16.0, 64.0, 0.25)
"""Scales of the input; the first at which the old layer's outputs differ in time is used."""


class Differences(NamedTuple):
    """Share of outputs that differ, and the largest difference of gradients of x."""

    spikes: float
    gradient: float


def differences(old: nn.Module, new: NeuronLayer, recipe: Recipe) -> Differences | None:
    """Return the differences on random input, or None where the old layer does not run alone.

    Both layers lose their states.
    """
    shape = recipe.kept.shape or (recipe.kept.channels or WIDTH,)
    generator = torch.Generator().manual_seed(0)
    x = 0.3 + torch.randn((STEPS, BATCH, *shape), generator=generator)
    weight = torch.randn((STEPS, BATCH, *shape), generator=generator)
    like = next(iter(new.buffers()), next(iter(new.parameters()), x))
    x, weight = x.to(like), weight.to(like)
    for scale in _SCALES:
        try:
            theirs = _run(old, scale * x, weight, new.step_mode)
        except Exception:  # code of a library, on an input that the model never gives
            return None
        if not torch.equal(*theirs[0].aminmax()):
            break
    ours = _run(new, scale * x, weight, new.step_mode)
    differing = (theirs[0] != ours[0]).double().mean().item()
    largest = theirs[1].abs().max().clamp_min(torch.finfo(x.dtype).tiny)
    return Differences(differing, ((theirs[1] - ours[1]).abs().max() / largest).item())


def _run(layer: Any, x: Tensor, weight: Tensor, step_mode: str) -> tuple[Tensor, Tensor]:
    """Return the outputs of a layer and the gradient of x, from its initial states."""
    x = x.clone().requires_grad_()
    _reset(layer)
    with torch.enable_grad():
        if step_mode == "m":
            out = _first(layer(x))
        else:
            steps, state = [], ()
            for step in x.unbind():
                result = layer(step, *state)
                steps.append(_first(result))
                state = result[1:] if isinstance(result, tuple) and not _hidden(layer) else ()
            out = torch.stack(steps)
        (grad,) = torch.autograd.grad((out * weight).sum(), x, allow_unused=True)
    _reset(layer)
    return out.detach(), torch.zeros_like(x) if grad is None else grad


def _first(result: Any) -> Tensor:
    """Return the output of a call that may return states too."""
    out: Tensor = result[0] if isinstance(result, tuple) else result
    return out


def _hidden(layer: Any) -> bool:
    return bool(getattr(layer, "init_hidden", False))


def _reset(layer: Any) -> None:
    """Discard the states of a layer of any library."""
    for name in ("reset_mem", "reset"):
        if callable(getattr(layer, name, None)):
            getattr(layer, name)()
            return
