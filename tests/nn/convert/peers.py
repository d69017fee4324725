"""Runs of layers of other libraries and of converted ones, in float64."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer

T, SHAPE = 6, (3, 4)


class Run(NamedTuple):
    """Outputs of every step, states after each, the gradient of x and those of the parameters."""

    out: Tensor
    states: tuple[Tensor, ...]
    grad_x: Tensor
    grads: dict[str, Tensor]
    kind: type  # of the states


def draw(seed: int, shape: tuple[int, ...] = (T, *SHAPE), scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * (0.4 + torch.randn(shape, generator=generator, dtype=torch.float64))


def eager(model: Any) -> Any:
    """Select backend "torch" for every layer, so that no kernel is compiled."""
    for layer in model.modules():
        if isinstance(layer, NeuronLayer):
            layer.backend = "torch"
    return model


def converted(model: Any, *given: Any, **options: Any) -> Any:
    """Convert a model in place for backend "torch"."""
    return eager(lnm.nn.convert(model, *given, **options))


def statuses(model: nn.Module) -> list[str]:
    return [line.status for line in lnm.nn.conversion_report(model).layers]


def refusal(layer: nn.Module) -> str:
    """Return why a layer stays as it is."""
    assert lnm.nn.convert(layer) is layer
    (line,) = lnm.nn.conversion_report(layer).layers
    assert line.status == "refused"
    return line.reason


class Holder(nn.Module):
    """A model in float64 with one layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))


def pair(layer: nn.Module) -> tuple[Any, Any]:
    """Return a layer in float64 and the conversion of its copy, in a model of that type."""
    layer = layer.double()
    new = converted(Holder(copy.deepcopy(layer))).layer
    assert isinstance(new, NeuronLayer)
    return layer, new


def finished(layer: nn.Module, x: Tensor, out: Tensor, states: Any) -> Run:
    """Return a run after a backward with fixed weights of outputs and states."""
    loss = (out * draw(1, tuple(out.shape))).sum()
    loss = loss + sum((s * draw(2 + k, tuple(s.shape))).sum() for k, s in enumerate(states))
    params = {n: p for n, p in layer.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, [x, *params.values()], allow_unused=True)
    grads = {n: g for n, g in zip(params, found[1:], strict=True) if g is not None}
    for old, names in getattr(layer, "renamed", {}).items():  # a recurrent layer of ours
        if names and all(n in grads for n in names):
            parts = [grads[n] for n in names]
            grads[old] = torch.cat(parts, -1) if len(parts) > 1 else parts[0]
    seen = tuple(s.detach() for s in states)
    return Run(out.detach(), seen, found[0], grads, type(states))


def assert_same(ours: Run, theirs: Run, rtol: float = 1e-8) -> None:
    """Outputs are equal, states and gradients up to rounding.

    `rtol` is relative to the largest gradient. snnTorch rounds gradients to float32.
    """
    assert ours.kind is theirs.kind
    torch.testing.assert_close(ours.out, theirs.out, rtol=rtol, atol=rtol)
    for own, their in zip(ours.states, theirs.states, strict=True):
        torch.testing.assert_close(own, their, rtol=rtol, atol=rtol)
    scale = float(theirs.grad_x.abs().max())
    torch.testing.assert_close(ours.grad_x, theirs.grad_x, rtol=rtol, atol=rtol * (scale + 1e-9))
    for name, grad in theirs.grads.items():
        size = float(grad.abs().max()) + 1e-9
        own = ours.grads[name].reshape(grad.shape)
        torch.testing.assert_close(own, grad, rtol=10 * rtol, atol=rtol * size)


def spikes(run: Run) -> bool:
    """Report whether some neurons spike and some do not."""
    return 0.01 < float(run.out.ne(0).double().mean()) < 0.99


class Own(torch.autograd.Function):
    """A spike of the user's, at >=, with slope 0.25."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return (z >= 0).to(z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 0.25 * grad
