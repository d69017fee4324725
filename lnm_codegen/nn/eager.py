"""Eager PyTorch backend of a layer: the generated module, on any device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lnm_codegen.compiler.emit import emit
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import REAL
from lnm_codegen.nn.load.cache import import_source
from lnm_codegen.nn.parameters import broadcastable


@cache
def eager_module(neuron: Neuron) -> ModuleType:
    """Return the generated PyTorch module of a neuron."""
    return import_source(emit(neuron, "torch"), "torch", neuron.name)


def run_eager(
    neuron: Neuron, inputs: tuple[Tensor, ...], start: list[Tensor], params: list[Tensor]
) -> tuple[tuple[Tensor, ...], dict[str, Tensor], Sequence[Any]]:
    """Return the outputs (T, N, *), the final states (N, *) and the counts."""
    module = eager_module(neuron)
    dtype = inputs[0].dtype
    inputs = tuple(x.to(REAL[dtype]) for x in inputs)
    axes = inputs[0].dim() - 2
    shaped = {
        p.name: broadcastable(p, value, axes)
        for p, value in zip(neuron.params, params, strict=True)
    }
    results = module.multi_step(*inputs, *start, **shaped)
    count = len(neuron.output)
    results = _anchored(results, count, count + len(neuron.states))
    states = {
        s.name: r.expand(inputs[0].shape[1:])
        for s, r in zip(neuron.states, results[count:], strict=False)
    }
    outputs = tuple(out.to(dtype) for out in results[:count])
    return outputs, states, results[count + len(states) :]


class _Anchor(torch.autograd.Function):
    """Outputs whose backward adds a zero gradient to the final states.

    The backward kernels begin with that zero. So 0 * inf is NaN in both backends, or in neither.
    """

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.count = count
        ctx.save_for_backward(*tensors[count:])
        return tuple(t.view_as(t) for t in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *grads, *(torch.zeros_like(s) for s in ctx.saved_tensors))


def _anchored(results: tuple[Any, ...], outputs: int, states: int) -> tuple[Any, ...]:
    if not any(s.requires_grad for s in results[outputs:states]):
        return results
    anchored = _Anchor.apply(outputs, *results[:states])  # type: ignore[no-untyped-call]
    return (*anchored, *results[outputs:])
