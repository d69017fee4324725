"""The loop of `recurrence.py` as one `autograd.Function` on the C kernels.

A kernel is handed addresses of rows in sequences (T, N, H) that are allocated once, so that a step
costs one product and one call, and autograd sees the loop as a whole; the gradients of W, b and U
are one product over all steps, after the loop. What is kept is x, spikes and states of every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lnm_codegen.nn.function import Kernels, save_call, saved_call


class Part(NamedTuple):
    """What the loop knows of a stage beside its tensors.

    Attributes:
        kernels: Of its neuron.
        sizes: Of one step, `plan.SIZES`.
        start: Initial states, (N, H) or (1,).
        width: H.
        source: The stage whose spikes of the step before it hears.
    """

    kernels: Kernels
    sizes: tuple[int, int, int, int, int]
    start: tuple[Tensor, ...]
    width: int
    source: int


class Own(NamedTuple):
    """The tensors of a stage that may be learned: W, b, U and the neuron's parameters."""

    weight: Tensor | None
    bias: Tensor | None
    back: Tensor | None
    params: tuple[Tensor, ...]


class Kept(NamedTuple):
    """The sequences of a stage: x and spikes (T, N, H), states (T + 1, N, H) before each step."""

    x: Tensor
    spikes: Tensor
    states: tuple[Tensor, ...]


def _owned(parts: Sequence[Part], tensors: Sequence[Any]) -> list[Own]:
    found, at = [], 0
    for part in parts:
        end = at + 3 + len(part.kernels.learnable)
        weight, bias, back, *params = tensors[at:end]
        found.append(Own(weight, bias, back, tuple(params)))
        at = end
    return found


def _kept(part: Part, steps: int, like: Tensor) -> Kept:
    shape = (like.shape[1], part.width)
    states = []
    for start in part.start:
        state = like.new_empty(steps + 1, *shape, dtype=part.kernels.real)
        state[0] = start
        states.append(state)
    return Kept(like.new_empty(steps, *shape), like.new_empty(steps, *shape), tuple(states))


class Loop(torch.autograd.Function):
    """Every stage at every step.

    Takes the parts, the limit of what is carried back over time (`Recurrent.carry_limit`), the
    current of stage 0 (T, N, H), then W, b, U (or None) and the parameters of each stage. Gives the
    spikes of each stage, then the current of each; gradients come to the spikes of the last alone.
    """

    @staticmethod
    def forward(
        ctx: Any,
        parts: tuple[Part, ...],
        carry_limit: float | None,
        current_seq: Tensor,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """Run the forward kernels, step after step."""
        steps = current_seq.shape[0]
        owned = _owned(parts, tensors)
        kept = [_kept(part, steps, current_seq) for part in parts]
        given = current_seq.unbind(0)
        xs = [own.x.unbind(0) for own in kept]
        spikes = [own.spikes.unbind(0) for own in kept]
        rows = [_Rows(*of) for of in zip(parts, owned, kept, strict=True)]
        turned = [(_turned(own.weight), _turned(own.back)) for own in owned]
        for t in range(steps):
            for k, part in enumerate(parts):
                x, (weight, back), bias = xs[k][t], turned[k], owned[k].bias
                if weight is not None and bias is not None:
                    torch.addmm(bias, spikes[k - 1][t], weight, out=x)
                    if back is not None and t:
                        x.addmm_(spikes[part.source][t - 1], back)
                elif back is not None and t:
                    torch.addmm(given[t], spikes[part.source][t - 1], back, out=x)
                else:
                    x.copy_(given[t])
                part.kernels.forward(part.sizes, rows[k].forward(t))
        sequences = [a for own in kept for a in (own.x, own.spikes, *own.states)]
        save_call(ctx, (parts, len(tensors), carry_limit), *tensors, *sequences)
        found = [*(own.spikes for own in kept), *(own.x for own in kept)]
        ctx.mark_non_differentiable(*(a for a in found if a is not kept[-1].spikes))
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *grads_out: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the backward kernels, from the last step to the first."""
        (parts, count, carry_limit), saved = saved_call(ctx, "Recurrent")
        tensors, sequences = saved[:count], saved[count:]
        grad_seq = grads_out[len(parts) - 1]
        if grad_seq is None:
            return (None, None, None, *(None for _ in tensors))
        owned, kept = _owned(parts, tensors), []
        for part in parts:
            end = 2 + len(part.start)
            x, spikes, *states = sequences[:end]
            kept.append(Kept(x, spikes, tuple(states)))
            sequences = sequences[end:]
        adjoints = [_Adjoint(*of) for of in zip(parts, owned, kept, strict=True)]
        grads = (grad_seq if grad_seq[:1].is_contiguous() else grad_seq.contiguous()).unbind(0)
        limit = None
        if carry_limit is not None and grad_seq.numel():
            limit = carry_limit * float(grad_seq.abs().max())
        hear = [
            [j for j, p in enumerate(parts) if p.source == k and owned[j].back is not None]
            for k in range(len(parts))
        ]
        for t in reversed(range(len(grads))):
            grad = grads[t]
            for k in reversed(range(len(parts))):
                into = adjoints[k].grad
                if k + 1 < len(parts):
                    above: Any = owned[k + 1].weight
                    grad = torch.mm(adjoints[k + 1].rows[t], above, out=into)
                if t + 1 < len(grads):
                    for j in hear[k]:
                        back: Any = owned[j].back
                        grad = torch.addmm(grad, adjoints[j].rows[t + 1], back, out=into)
                adjoints[k].step(t, grad)
                if limit is not None:
                    adjoints[k].hold(t, limit)
        found: list[Tensor | None] = [None, None, adjoints[0].x]
        for k, (part, own, adjoint) in enumerate(zip(parts, owned, adjoints, strict=True)):
            below = kept[k - 1].spikes if own.weight is not None else None
            found += adjoint.weights(own, below, kept[part.source].spikes)
            found += adjoint.parameters()
        return tuple(found)


def _turned(weight: Tensor | None) -> Tensor | None:
    return None if weight is None else weight.t()


def _addresses(sequence: Tensor) -> range:
    """Return where each row of a contiguous (T, *) begins."""
    begin, step = sequence.data_ptr(), sequence.stride(0) * sequence.element_size()
    return range(begin, begin + len(sequence) * step, step)


class _Rows:
    """The arguments of the forward kernel at each step, `plan.forward_fields`."""

    def __init__(self, part: Part, own: Own, kept: Kept) -> None:
        self._x, self._spikes = _addresses(kept.x), _addresses(kept.spikes)
        self._states = [_addresses(state) for state in kept.states]
        self._params = [p.data_ptr() for p in own.params]
        self._stride = part.sizes[1]

    def shared(self, t: int) -> list[int]:
        """Return those that the backward kernel takes too."""
        arguments = [self._x[t], self._stride]
        for state in self._states:
            arguments += (state[t], 1)
        return arguments + self._params

    def forward(self, t: int) -> list[int | None]:
        """Return them all."""
        return [*self.shared(t), self._spikes[t], *(s[t + 1] for s in self._states), None]


class _Adjoint:
    """The gradients of a stage, filled from the last step to the first.

    Attributes:
        x: Of its currents, (T, N, H); `rows` are its steps.
        grad: Room for that of its spikes at one step.
    """

    def __init__(self, part: Part, own: Own, kept: Kept) -> None:
        self.part = part
        self.x, self.grad = torch.empty_like(kept.x), torch.empty_like(kept.x[0])
        self.rows = self.x.unbind(0)
        self._given, self._x = _Rows(part, own, kept), _addresses(self.x)
        self._after = [torch.zeros_like(state[0]) for state in kept.states]
        self._before = [torch.empty_like(state[0]) for state in kept.states]
        learned = zip(own.params, part.kernels.learnable, strict=True)
        steps = len(self.rows)
        self._params = [p.new_empty(steps, *p.shape) if learns else None for p, learns in learned]
        self._learned = [_addresses(p) for p in self._params if p is not None]

    def step(self, t: int, grad: Tensor) -> None:
        """Run the backward kernel of a step, given the gradient of its spikes."""
        arguments = [
            *self._given.shared(t), None, grad, self.part.sizes[1], *self._after, self._x[t],
            *self._before, *(p[t] for p in self._learned),
        ]  # fmt: skip
        self.part.kernels.backward(self.part.sizes, arguments)
        self._after, self._before = self._before, self._after

    def hold(self, t: int, limit: float) -> None:
        """Hold what goes back from step t to [-limit, limit]."""
        for carried in (self.rows[t], *self._after):
            carried.clamp_(-limit, limit)

    def weights(self, own: Own, below: Tensor | None, source: Tensor) -> list[Tensor | None]:
        """Return the gradients of W, b and U."""
        x, weight, back = self.x.flatten(0, 1), None, None
        if below is not None:
            weight = x.t() @ below.flatten(0, 1)
        if own.back is not None:
            back = self.x[1:].flatten(0, 1).t() @ source[:-1].flatten(0, 1)
        return [weight, None if own.bias is None else x.sum(0), back]

    def parameters(self) -> list[Tensor | None]:
        """Return the gradients of the neuron's parameters; None where one is not learned."""
        return [None if p is None else p.sum(0) for p in self._params]
