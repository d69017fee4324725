"""Integer arithmetic without a compiler: the NumPy model, and autograd through the torch backend.

`arithmetic.py` defines the gradient. Each step of the generated PyTorch runs on the state of the
integer model; the integers then replace its value, not its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lnm_codegen.compiler.arguments import extent_of
from lnm_codegen.compiler.fixed import integers, run_sequence
from lnm_codegen.nn.eager import run_eager
from lnm_codegen.nn.integer.arithmetic import Arithmetic, clipped


class _Straight(torch.autograd.Function):
    """`value`, with the gradient of `through`, or none where `stopped`."""

    @staticmethod
    def forward(ctx: Any, through: Tensor, value: Tensor, stopped: Tensor | None) -> Tensor:
        ctx.save_for_backward(stopped)
        ctx.shape = through.shape
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (stopped,) = ctx.saved_tensors
        passed = grad if stopped is None else torch.where(stopped, torch.zeros_like(grad), grad)
        return passed.sum_to_size(ctx.shape), None, None


def _straight(through: Tensor, value: Any, stopped: Tensor | None = None) -> Tensor:
    value = torch.as_tensor(value).to(through.dtype)
    result: Tensor = _Straight.apply(through, value, stopped)  # type: ignore[no-untyped-call]
    return result


def run_fixed_eager(
    arithmetic: Arithmetic,
    inputs: Sequence[Tensor],
    start: Sequence[Tensor],
    params: Sequence[Tensor],
    returns_states: bool = True,
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Return the outputs (T, N, *) and the final states (N, *); see `run_fixed_c`."""
    del returns_states  # they cost nothing
    neuron, program = arithmetic.neuron, arithmetic.program
    shape = tuple(inputs[0].shape)
    names = [s.name for s in neuron.inputs], [s.name for s in neuron.states]
    numbers = {n: x.detach().numpy() for n, x in zip(names[0], inputs, strict=True)}
    before = {n: v.detach().expand(shape[1:]).numpy() for n, v in zip(names[1], start, strict=True)}
    ran = run_sequence(
        program,
        {n: integers(x, arithmetic.bits(n)) for n, x in numbers.items()},
        arithmetic.parameters(params, shape),
        {n: integers(v, arithmetic.bits(n)) for n, v in before.items()},
        extent_of(neuron.step_params, shape),
    )
    units = {n: 2.0 ** -arithmetic.bits(n).frac for n in (*names[0], *names[1])}
    units |= arithmetic.units()

    def rounded(name: str, value: Tensor) -> Tensor:
        bits = arithmetic.bits(name)
        exact = integers(value.detach().numpy(), bits) * units[name]
        return _straight(value, exact, clipped(value.detach(), bits))

    seen = [rounded(n, x) for n, x in zip(names[0], inputs, strict=True)]
    states = [rounded(n, v.expand(shape[1:])) for n, v in zip(names[1], start, strict=True)]
    steps: list[list[Tensor]] = []
    for t in range(shape[0]):
        outputs, after, _ = run_eager(
            neuron, tuple(x[t : t + 1] for x in seen), states, list(params)
        )
        exact = [array[t] * units[n] for n, array in ran.outputs.items()]
        steps.append([_straight(o[0], e) for o, e in zip(outputs, exact, strict=True)])
        last = t + 1 == shape[0]
        following = ran.states if last else {n: ran.trajectory[n][t + 1] for n in names[1]}
        states = [_straight(after[n], following[n] * units[n]) for n in names[1]]
    finals = dict(zip(names[1], states, strict=True))
    if not steps:
        return tuple(inputs[0].clone() for _ in neuron.output), finals
    return tuple(torch.stack(column) for column in zip(*steps, strict=True)), finals
