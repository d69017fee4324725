"""Comparison of a neuron with a hand-written PyTorch loop, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import lnm_codegen as lnm
from tests.strategies import Arguments, rows_of

Step = Callable[[Tensor, dict[str, Tensor], dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]]
"""(x of a step, states, parameters) -> (output, states)."""


class Spike(torch.autograd.Function):
    """H(z) with the slope of atan(alpha=2)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return (z >= 0).double()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return grad / (1 + (torch.pi * z) ** 2)


def run(step: Step, neuron: lnm.Neuron, a: Arguments) -> tuple[np.ndarray, dict[str, Any], Any]:
    """Return outputs, final states and gradients of a loop over time on one input."""
    leaves = {"x": torch.tensor(a.x_seq[0], requires_grad=True)}
    for name, value in (a.state | a.params).items():
        leaves[name] = torch.tensor(value, requires_grad=True)
    states = {s.name: leaves[s.name] for s in neuron.states}
    params = {}
    for p in neuron.params:  # (C,) and (C, *) broadcast from the left; elements of a vector first
        value = leaves[p.name]
        value = value[None] if p.size is None else value.movedim(-1, 0)
        missing = a.x_seq[0].ndim - 2 - (value.dim() - 1)
        value = value.reshape((*value.shape, *(1,) * missing)) if value.dim() > 1 else value
        params[p.name] = value[0] if p.size is None else value
    outs = []
    for x in leaves["x"]:
        out, states = step(x, states, params)
        outs.append(out)
    ends = [torch.stack(outs), *(states[s.name] for s in neuron.states)]
    seeds = [a.grad_out[0], *(a.grad_state[s.name] for s in neuron.states)]
    found = torch.autograd.grad(
        ends, list(leaves.values()), [torch.tensor(g) for g in seeds], allow_unused=True
    )
    grads = {
        name: np.zeros(leaf.shape) if g is None else g.numpy()
        for (name, leaf), g in zip(leaves.items(), found, strict=True)
    }
    return ends[0].detach().numpy(), {n: s.detach().numpy() for n, s in states.items()}, grads


def drawn(neuron: lnm.Neuron, rng: np.random.Generator, shape: tuple[int, ...]) -> Arguments:
    """Draw inputs, states and gradients; parameters within 10 % of their initial values."""

    def normal(size: tuple[int, ...]) -> np.ndarray:
        return rng.normal(0.0, 0.8, size)

    params = {}
    for p in neuron.params:
        size = rows_of(p.per, shape) + (() if p.size is None else (p.size,))
        params[p.name] = np.asarray(p.init) * rng.uniform(0.9, 1.1, size)
    states = [s.name for s in neuron.states]
    return Arguments(
        x_seq=(normal(shape),),
        state={s: normal(shape[1:]) for s in states},
        params=params,
        grad_out=(normal(shape),),
        grad_state={s: normal(shape[1:]) for s in states},
    )


def check(neuron: lnm.Neuron, step: Step, a: Arguments) -> np.ndarray:
    """Assert equal spikes, states to 1e-12 and gradients to 1e-9, and return the spikes."""
    out, states, grads = run(step, neuron, a)
    result = a.interpret(neuron)
    np.testing.assert_array_equal(result.out, out)
    for name, value in states.items():
        np.testing.assert_allclose(result.states[name], value, 1e-12, 1e-12, err_msg=name)
    for name, value in grads.items():
        close = 1e-9 * max(1.0, float(np.abs(value).max(initial=0.0)))
        np.testing.assert_allclose(result.grads[name], value, 1e-9, close, err_msg=name)
    return out
