"""Generated kernels as an `autograd.Function`: forward and backward of a sequence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from lnm_codegen.backends.plan import Plan
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn.layout import Layout


class Kernels(ABC):
    """The two kernels of a model on one target, with names in the order of their arguments.

    `forward` and `backward` take `plan.SIZES`, then what `plan.forward_fields` and
    `backward_fields` say: tensors, None for null, and strides. The names stand here because the
    host's share of a call is measured in microseconds.
    """

    def __init__(self, plan: Plan) -> None:
        model = plan.model
        self.inputs, self.states, self.outputs = model.inputs, plan.states, model.outputs
        self.learnable = tuple(p.learnable for p in model.params)
        self.counts = plan.counts
        self.real: torch.dtype = getattr(torch, model.real)

    @abstractmethod
    def checkpoints(self, time_steps: int, neurons: int) -> int:
        """Return how many numbers the checkpoints hold."""

    @abstractmethod
    def forward(self, sizes: Sequence[int], arguments: Sequence[Tensor | int | None]) -> None:
        """Run the forward kernel; the sums of what it counts are given as zeros."""

    @abstractmethod
    def backward(self, sizes: Sequence[int], arguments: Sequence[Tensor | int | None]) -> None:
        """Run the backward kernel."""


Ran: TypeAlias = tuple[tuple[Tensor, ...], dict[str, Tensor], Sequence[Any]]
"""What running a layer gives: outputs, final states (if they are kept), and what was counted."""


class Call(NamedTuple):
    """What a call of the kernels needs beside its tensors."""

    kernels: Kernels
    layout: Layout
    keeps_states: bool
    trains: bool
    sums: list[float]


class Results(NamedTuple):
    """What the forward kernel gives."""

    outputs: list[Tensor]
    finals: list[Tensor]
    checkpoints: Tensor | None
    sums: Tensor | None


def run_forward(
    kernels: Kernels,
    layout: Layout,
    tensors: Sequence[Tensor],
    keeps_states: bool,
    trains: bool,
    into: Tensor | None = None,
) -> Results:
    """Run the forward kernel on inputs (T, N, *), initial states and parameters.

    The first output is written to `into`, which may be the first input, if that is given.
    """
    dtype, device = tensors[0].dtype, tensors[0].device
    arguments = _shared(kernels, layout, tensors)
    outputs = [layout.empty_sequence(dtype, device) for _ in kernels.outputs[into is not None :]]
    if into is not None:
        outputs.insert(0, into)
    finals = []
    if keeps_states:
        finals = [layout.empty_step(kernels.real, device) for _ in kernels.states]
    sums = checkpoints = None
    if kernels.counts:
        sums = torch.zeros(len(kernels.counts), dtype=torch.float64, device=device)
    if trains:
        count = kernels.checkpoints(layout.time_steps, layout.neurons)
        checkpoints = torch.empty(count, dtype=kernels.real, device=device)
    arguments += outputs
    arguments += finals or [None] * len(kernels.states)
    arguments += [sums[k : k + 1] for k in range(len(kernels.counts))] if sums is not None else []
    kernels.forward(layout.sizes, [*arguments, checkpoints])
    return Results(outputs, finals, checkpoints, sums)


def run_over(
    kernels: Kernels, layout: Layout, tensors: Sequence[Tensor], keeps_states: bool, x: Tensor
) -> Ran:
    """Run the forward kernel without a backward, its output over the first input."""
    written = run_forward(kernels, layout, tensors, keeps_states, False, into=x)
    torch.autograd.graph.increment_version(x)
    sums = [] if written.sums is None else written.sums.tolist()
    return (x,), dict(zip(kernels.states, written.finals, strict=False)), sums


def run_backward(
    kernels: Kernels,
    layout: Layout,
    tensors: Sequence[Tensor],
    checkpoints: Tensor,
    grads: Sequence[Tensor | None],
    needed: Sequence[bool],
    into: Tensor | None = None,
) -> list[Tensor | None]:
    """Run the backward kernel.

    Args:
        kernels: Those of the forward.
        layout: That of the forward.
        tensors: What the forward took.
        checkpoints: What the forward kept.
        grads: Gradients of the outputs and, if they were kept, of the final states.
        needed: For each of `tensors`, whether its gradient is wanted.
        into: Where the gradient of the first input goes, if that exists.
    """
    like = tensors[0]
    outputs, inputs, states = len(kernels.outputs), len(kernels.inputs), len(kernels.states)
    arguments = [*_shared(kernels, layout, tensors), checkpoints]
    for grad in grads[:outputs]:
        sequence = _zero_row(layout, like) if grad is None else layout.sequence(grad)
        arguments += [sequence, time_stride(sequence, layout)]
    finals = [None if g is None else layout.step(g) for g in grads[outputs:]]
    arguments += finals or [None] * states
    results: list[Tensor | None] = []
    for k, (tensor, need) in enumerate(zip(tensors, needed, strict=True)):
        if k < inputs:
            make = layout.empty_sequence
        elif k < inputs + states:
            make = layout.empty_step
        else:
            need = need and kernels.learnable[k - inputs - states]
            results.append(torch.empty_like(tensor) if need else None)
            continue
        if k == 0 and into is not None:
            results.append(into)
        else:
            results.append(make(tensor.dtype, tensor.device) if need else None)
    own = inputs + states
    learned = zip(results[own:], kernels.learnable, strict=True)
    arguments += [*results[:own], *(grad for grad, learns in learned if learns)]
    kernels.backward(layout.sizes, arguments)
    return results


def _shared(kernels: Kernels, layout: Layout, tensors: Sequence[Tensor]) -> list[Any]:
    inputs, states = len(kernels.inputs), len(kernels.states)
    arguments: list[Any] = []
    for x in tensors[:inputs]:
        arguments += (x, time_stride(x, layout))
    for value in tensors[inputs : inputs + states]:
        arguments += (value, int(value.numel() > 1))
    return [*arguments, *tensors[inputs + states :]]


def time_stride(x: Tensor, layout: Layout) -> int:
    """Return how many numbers lie between two steps of a sequence."""
    return x.stride(0) if layout.time_steps > 1 else layout.neurons


def _zero_row(layout: Layout, like: Tensor) -> Tensor:
    """Return zeros that stand for a gradient at every step: one row, with time stride 0."""
    step = layout.empty_step(like.dtype, like.device).zero_()
    return step.expand(max(layout.time_steps, 1), *step.shape)


class Fused(torch.autograd.Function):
    """A sequence, forward and backward, each one call of a generated kernel.

    Takes a `Call`, then inputs (T, N, *), initial states (N, *) or (1,), parameters, all in the
    layout of the call. Gives the outputs (T, N, *) and, if the call keeps states, the final states
    (N, *). What the kernel counts it writes to `call.sums`.
    """

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run the forward kernel."""
        results = run_forward(call.kernels, call.layout, tensors, call.keeps_states, call.trains)
        if results.sums is not None:
            call.sums.extend(results.sums.tolist())
        if call.trains:
            ctx.call = call
            ctx.set_materialize_grads(False)
            ctx.save_for_backward(*tensors, results.checkpoints)
        return (*results.outputs, *results.finals)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the backward kernel."""
        if torch.is_grad_enabled():
            raise UnsupportedError(
                "NeuronLayer",
                "double backward (create_graph=True) through the generated kernels is not supported",
                remedy="Use backend='torch' for higher derivatives.",
            )
        call: Call = ctx.call
        *tensors, checkpoints = ctx.saved_tensors
        needed = ctx.needs_input_grad[1:]
        results = run_backward(call.kernels, call.layout, tensors, checkpoints, grads, needed)
        return (None, *results)
