"""Loop over time of recurrent layers, which receive spikes of the previous step.

    x_k[t] = W_k s_{k-1}[t] + b_k + U_k s_source(k)[t-1]       for stage 0, W_0 in[t] + b_0 is given
    s_k[t] = neuron_k(x_k[t])

One stage that receives its own spikes is one kernel in each direction, in C or Triton
(`nn/feedback.py`). Several stages are, at every step, a product and a call with T = 1; the second
part calls the C kernels themselves. In other cases (backend "torch", several stages on a GPU or
under `torch.compile`, integer arithmetic) the loop here calls the layers and uses autograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn.arguments import REAL, lengths_of
from lnm_codegen.nn.call import start_states
from lnm_codegen.nn.feedback import GradientBound, has_kernel, run_layer
from lnm_codegen.nn.function import (
    Kernels,
    backward_arguments,
    forward_arguments,
    save_call,
    saved_tensors,
)
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.layout import readable
from lnm_codegen.nn.parameters import values_of
from lnm_codegen.nn.select import kernels_of


class Stage(NamedTuple):
    """One layer of the loop.

    Attributes:
        neuron: The neurons.
        feed: W and b, from the stage below; None for stage 0, whose current is given.
        back: U, without bias; or None.
        source: Index of the stage whose spikes of the previous step U multiplies.
    """

    neuron: NeuronLayer
    feed: nn.Linear | None = None
    back: nn.Linear | None = None
    source: int = 0


Memory: TypeAlias = dict[int, Tensor]
"""Index of a stage -> its spikes at the last step of the call before, (N, H)."""


def run_stages(
    stages: Sequence[Stage],
    current_seq: Tensor,
    carry_limit: float | None = None,
    memory: Memory | None = None,
    lengths: Tensor | None = None,
) -> Tensor:
    """Return the spikes (T, N, H) of the last stage.

    Layers with `carry_state` begin with the states, and with the spikes in `memory`, of the call
    before. Gradients do not pass from call to call.

    The loop calls no module. Modules with forward hooks are called once after it, with their whole
    inputs: neurons with the current including feedback, U with the spikes except the last step's.
    So are neurons with `record`; their records have no gradient.

    Args:
        stages: First to last.
        current_seq: (T, N, H) of stage 0, without its feedback.
        carry_limit: See `Recurrent`.
        memory: The last spikes; changed in place where layers carry their states.
        lengths: Of the samples, for one stage; see `NeuronLayer`.

    Raises:
        UnsupportedError: Some layers keep their states from call to call, or one is single-step.
    """
    carries = memory is not None and all(s.neuron.carry_state for s in stages)
    for stage in stages:
        if stage.neuron.step_mode == "s" or stage.neuron.carry_state is not carries:
            problem = "a layer of a recurrent network is single-step, or alone keeps its states"
            accepted = "step_mode='m', and carry_state=True for all layers or for none"
            remedy = "Set them on every layer in network.neurons."
            raise UnsupportedError(stage.neuron.neuron.name, problem, accepted, remedy)
    start: list[dict[str, Any]] = [stage.neuron.state for stage in stages]
    last = dict(memory or {}) if carries and all(start) else {}
    layer, back = stages[0].neuron, stages[0].back
    own = back.weight if len(stages) == 1 and back is not None else None
    if lengths is not None or (own is not None and has_kernel(layer, current_seq, own)):
        spikes, currents = _run_feedback(stages, current_seq, carry_limit, last, lengths)
    else:
        is_c = all(_uses_c(s.neuron, current_seq) for s in stages)
        run = _run_kernels if is_c else _run_layers
        spikes, currents = run(stages, current_seq, carry_limit, last)
    if carries and memory is not None and len(current_seq):
        memory.update((k, own[-1].detach()) for k, own in enumerate(spikes))
    with torch.no_grad():
        for k, stage in enumerate(stages):
            if stage.feed is not None and _is_hooked(stage.feed):
                stage.feed(spikes[k - 1])
            if _is_hooked(stage.neuron) or stage.neuron.record:
                state = start[k] if carries else None
                stage.neuron(currents[k].detach(), state=state, lengths=lengths)
            if stage.back is not None and _is_hooked(stage.back):
                before = spikes[stage.source][:-1]
                if stage.source in last:
                    before = torch.cat([last[stage.source][None], before])
                stage.back(before)
    return spikes[-1]


def _width(stage: Stage, current_seq: Tensor) -> int:
    return current_seq.shape[2] if stage.feed is None else stage.feed.out_features


def _is_hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _uses_c(layer: NeuronLayer, x: Tensor) -> bool:
    if torch.compiler.is_compiling() or layer.arithmetic is not None or x.device.type != "cpu":
        return False
    return layer._dispatch.on("cpu", x.dtype) == "c"


def _run_layers(
    stages: Sequence[Stage], current_seq: Tensor, carry_limit: float | None, last: Memory
) -> tuple[list[Tensor], list[Tensor]]:
    """Run the loop through the layers; return spikes and currents of each stage.

    `last` are spikes of the step before the first one.
    """
    bound = None if carry_limit is None else GradientBound(carry_limit)
    states: list[Any] = [None] * len(stages)
    spikes: list[list[Tensor]] = [[] for _ in stages]
    currents: list[list[Tensor]] = [[] for _ in stages]
    for t, x in enumerate(current_seq.unbind(0)):
        for k, stage in enumerate(stages):
            if stage.feed is not None:
                x = linear(spikes[k - 1][t], stage.feed.weight, stage.feed.bias)
            before = spikes[stage.source][t - 1] if t else last.get(stage.source)
            if stage.back is not None and before is not None:
                x = x + linear(before.to(x.dtype), stage.back.weight)
            if bound is not None:
                x = bound.hooked(x)
            out, states[k], *_ = stage.neuron.forward(x[None], state=states[k], return_state=True)
            if bound is not None:
                states[k] = {name: bound.hooked(v) for name, v in states[k].items()}
            spikes[k].append(out[0])
            currents[k].append(x)
    for stage in stages:
        stage.neuron.detach()
    if not spikes[-1]:  # T = 0
        batch = current_seq.shape[1]
        nothing = [current_seq.new_empty(0, batch, _width(s, current_seq)) for s in stages]
        return nothing, nothing
    found = [torch.stack(s) for s in spikes]
    if bound is not None and found[-1].requires_grad:
        found[-1].register_hook(bound.measure)  # type: ignore[no-untyped-call]
    return found, [torch.stack(c) for c in currents]


def _run_feedback(
    stages: Sequence[Stage],
    current_seq: Tensor,
    carry_limit: float | None,
    last: Memory,
    lengths: Tensor | None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Run one stage, whose own spikes it receives; return spikes and currents."""
    (stage,) = stages
    layer, before, back = stage.neuron, last.get(0), stage.back
    assert back is not None
    ends = None if lengths is None else lengths_of(layer.neuron.name, lengths, current_seq)
    own: dict[str, Any] = {"before": before, "ends": ends, "carry_limit": carry_limit}
    outputs, final, *_ = run_layer(layer, current_seq, back.weight, **own)
    if layer.carry_state and len(current_seq):
        layer.state = {name: value.detach() for name, value in final.items()}
    spikes = outputs[0]
    if not (_is_hooked(layer) or layer.record):
        return [spikes], []
    with torch.no_grad():
        first = torch.zeros_like(spikes[:1]) if before is None else before[None]
        fed = torch.cat([first, spikes[:-1]])[: len(spikes)]
        return [spikes], [current_seq + linear(fed, back.weight.to(fed.dtype))]


def _run_kernels(
    stages: Sequence[Stage], current_seq: Tensor, carry_limit: float | None, last: Memory
) -> tuple[list[Tensor], list[Tensor]]:
    """Run the loop on the C kernels; return spikes and currents of each stage.

    `last` are spikes of the step before the first one.
    """
    plans: list[StagePlan] = []
    tensors: list[Tensor | None] = []
    dtype = current_seq.dtype
    for stage in stages:
        neuron, feed, back = stage.neuron.neuron, stage.feed, stage.back
        width = _width(stage, current_seq)
        step = current_seq.new_empty(1, current_seq.shape[1], width)
        values = {n: p.to(REAL[dtype]) for n, p in values_of(stage.neuron).items()}
        _, layout = readable(neuron.step_params, step)
        kept = stage.neuron.state
        start = start_states(neuron, step, kept, list(values.values()), previous=kept)
        kernels = kernels_of(neuron, "c", dtype, stage.neuron.backend == "auto")
        plans.append(StagePlan(kernels, layout.sizes, width, stage.source))
        weights = (None, None) if feed is None else (feed.weight, feed.bias)
        given = (*weights, None if back is None else back.weight)
        tensors += [None if w is None else w.to(dtype) for w in given]
        tensors += [values[p.name].contiguous() for p in neuron.step_params]
        tensors += start
    before = tuple(
        None if s.source not in last else last[s.source].to(dtype).contiguous() for s in stages
    )
    found = iter(Loop.apply(tuple(plans), carry_limit, before, current_seq, *tensors))  # type: ignore[no-untyped-call]
    spikes, currents = (list(islice(found, len(plans))) for _ in range(2))
    for stage in stages:
        states = dict(zip((s.name for s in stage.neuron.neuron.states), found, strict=False))
        if stage.neuron.carry_state and len(current_seq):
            stage.neuron.state = states
    return spikes, currents


# The loop as one `autograd.Function` on the C kernels.
#
# A kernel takes addresses of rows in sequences (T, N, H) that are allocated once, so a step costs
# one product and one call. Autograd sees one operation, and the gradients of W, b and U are one
# product over all steps, after the loop. The forward saves x, spikes and states of every step.


class StagePlan(NamedTuple):
    """The constants of a stage.

    Attributes:
        kernels: Kernels of its neuron.
        sizes: Sizes of one step, `plan.SIZES`.
        width: H.
        source: Index of the stage whose spikes of the previous step U multiplies.
    """

    kernels: Kernels
    sizes: tuple[int, int, int, int, int]
    width: int
    source: int


class Learnable(NamedTuple):
    """The tensors of a stage that may have gradients.

    W, b, U, the parameters that the neuron's step reads, and its initial states, (N, H) or (1,).
    Those of shape (1,) are constants.
    """

    weight: Tensor | None
    bias: Tensor | None
    back: Tensor | None
    params: tuple[Tensor, ...]
    start: tuple[Tensor, ...]


class Sequences(NamedTuple):
    """Saved sequences of a stage: x and spikes (T, N, H), states (T + 1, N, H) before each step."""

    x: Tensor
    spikes: Tensor
    states: tuple[Tensor, ...]


def _learnable(plans: Sequence[StagePlan], tensors: Sequence[Any]) -> list[Learnable]:
    found, at = [], 0
    for plan in plans:
        begin = at + 3 + len(plan.kernels.params)
        weight, bias, back, *params = tensors[at:begin]
        at = begin + len(plan.kernels.states)
        found.append(Learnable(weight, bias, back, tuple(params), tuple(tensors[begin:at])))
    return found


def _empty_sequences(plan: StagePlan, own: Learnable, steps: int, like: Tensor) -> Sequences:
    shape = (like.shape[1], plan.width)
    states = []
    for start in own.start:
        state = like.new_empty(steps + 1, *shape, dtype=plan.kernels.real)
        state[0] = start
        states.append(state)
    return Sequences(like.new_empty(steps, *shape), like.new_empty(steps, *shape), tuple(states))


class Loop(torch.autograd.Function):
    """Every stage at every step.

    The inputs are the plans, the bound of gradients carried back over time
    (`Recurrent.carry_limit`), for each stage the spikes (N, H) that U multiplies at the first step
    or None, the current of stage 0 (T, N, H), then the tensors of each stage, `Learnable`. The
    outputs are the spikes of each stage, the current of each, then the states of each after the
    last step. Only the spikes of the last stage are differentiable.
    """

    @staticmethod
    def forward(
        ctx: Any,
        plans: tuple[StagePlan, ...],
        carry_limit: float | None,
        before: tuple[Tensor | None, ...],
        current_seq: Tensor,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """Run the forward kernels, step after step."""
        steps = current_seq.shape[0]
        learnable = _learnable(plans, tensors)
        pairs = zip(plans, learnable, strict=True)
        seqs = [_empty_sequences(plan, own, steps, current_seq) for plan, own in pairs]
        given = current_seq.unbind(0)
        xs = [own.x.unbind(0) for own in seqs]
        spikes = [own.spikes.unbind(0) for own in seqs]
        rows = [_Rows(*of) for of in zip(plans, learnable, seqs, strict=True)]
        transposed = [(_transposed(own.weight), _transposed(own.back)) for own in learnable]
        for t in range(steps):
            for k, plan in enumerate(plans):
                x, (weight, back), bias = xs[k][t], transposed[k], learnable[k].bias
                fed = spikes[plan.source][t - 1] if t else before[k]
                if weight is not None and bias is not None:
                    torch.addmm(bias, spikes[k - 1][t], weight, out=x)
                    if back is not None and fed is not None:
                        x.addmm_(fed, back)
                elif back is not None and fed is not None:
                    torch.addmm(given[t], fed, back, out=x)
                else:
                    x.copy_(given[t])
                plan.kernels.forward(plan.sizes, rows[k].forward(t))
        sequences = [a for own in seqs for a in (own.x, own.spikes, *own.states)]
        save_call(ctx, (plans, len(tensors), carry_limit, before), *tensors, *sequences)
        found = [*(own.spikes for own in seqs), *(own.x for own in seqs)]
        found += [state[-1].clone() for own in seqs for state in own.states]
        ctx.mark_non_differentiable(*(a for a in found if a is not seqs[-1].spikes))
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *grads_out: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the backward kernels, from the last step to the first."""
        plans, count, carry_limit, before = ctx.call
        given = saved_tensors(ctx, grads_out, "Recurrent")
        saved: list[Any] = [None if a is None else a.contiguous() for a in given]
        tensors, sequences = saved[:count], saved[count:]
        grad_seq = grads_out[len(plans) - 1]
        if grad_seq is None:
            return (None, None, None, None, *(None for _ in tensors))
        learnable, seqs = _learnable(plans, tensors), []
        for own in learnable:
            end = 2 + len(own.start)
            x, spikes, *states = sequences[:end]
            seqs.append(Sequences(x, spikes, tuple(states)))
            sequences = sequences[end:]
        adjoints = [_Adjoint(*of) for of in zip(plans, learnable, seqs, strict=True)]
        grads = (grad_seq if grad_seq[:1].is_contiguous() else grad_seq.contiguous()).unbind(0)
        limit = None
        if carry_limit is not None and grad_seq.numel():
            limit = carry_limit * float(grad_seq.abs().max())
        receivers = [
            [j for j, p in enumerate(plans) if p.source == k and learnable[j].back is not None]
            for k in range(len(plans))
        ]
        for t in reversed(range(len(grads))):
            grad = grads[t]
            for k in reversed(range(len(plans))):
                into = adjoints[k].grad
                if k + 1 < len(plans):
                    above: Any = learnable[k + 1].weight
                    grad = torch.mm(adjoints[k + 1].rows[t], above, out=into)
                if t + 1 < len(grads):
                    for j in receivers[k]:
                        back: Any = learnable[j].back
                        grad = torch.addmm(grad, adjoints[j].rows[t + 1], back, out=into)
                adjoints[k].step(t, grad)
                if limit is not None:
                    adjoints[k].clamp(t, limit)
        found: list[Tensor | None] = [None, None, None, adjoints[0].x]
        for k, (plan, own, adjoint) in enumerate(zip(plans, learnable, adjoints, strict=True)):
            below = seqs[k - 1].spikes if own.weight is not None else None
            found += adjoint.weights(own, below, seqs[plan.source].spikes, before[k])
            found += [*adjoint.parameters(), *adjoint.starts(own)]
        return tuple(found)


def _transposed(weight: Tensor | None) -> Tensor | None:
    return None if weight is None else weight.t()


def _addresses(sequence: Tensor) -> range:
    """Return the address of each row of a contiguous (T, *)."""
    begin, step = sequence.data_ptr(), sequence.stride(0) * sequence.element_size()
    return range(begin, begin + len(sequence) * step, step)


class _Rows:
    """The arguments of the forward kernel at each step, `plan.forward_fields`."""

    def __init__(self, plan: StagePlan, own: Learnable, seqs: Sequences) -> None:
        self._x, self._spikes = _addresses(seqs.x), _addresses(seqs.spikes)
        self._states = [_addresses(state) for state in seqs.states]
        self._params = [p.data_ptr() for p in own.params]
        self._stride = plan.sizes[1]

    def shared(self, t: int) -> list[int]:
        """Return the arguments that the backward kernel takes too."""
        arguments = [self._x[t], self._stride]
        for state in self._states:
            arguments += (state[t], 1)
        return arguments + self._params

    def forward(self, t: int) -> list[int | None]:
        """Return all arguments."""
        finals = [state[t + 1] for state in self._states]
        return forward_arguments(self.shared(t), [self._spikes[t]], finals, (), None)


class _Adjoint:
    """The gradients of a stage, filled from the last step to the first.

    Attributes:
        x: Gradient of its currents, (T, N, H); `rows` are its steps.
        grad: Memory for the gradient of its spikes at one step.
    """

    def __init__(self, plan: StagePlan, own: Learnable, seqs: Sequences) -> None:
        self.plan = plan
        self.x, self.grad = torch.empty_like(seqs.x), seqs.x.new_empty(seqs.x.shape[1:])
        self.rows = self.x.unbind(0)
        self._rows, self._x = _Rows(plan, own, seqs), _addresses(self.x)
        self._after = [torch.zeros_like(state[0]) for state in seqs.states]
        self._before = [torch.empty_like(state[0]) for state in seqs.states]
        learned = zip(own.params, plan.kernels.params, strict=True)
        steps = len(self.rows)
        self._params = [v.new_empty(steps, *v.shape) if p.learnable else None for v, p in learned]
        self._learned = [_addresses(p) for p in self._params if p is not None]

    def step(self, t: int, grad: Tensor) -> None:
        """Run the backward kernel of a step, given the gradient of its spikes."""
        results = [self._x[t], *self._before, *(p[t] for p in self._learned)]
        grads = [grad, self.plan.sizes[1]]
        arguments = backward_arguments(self._rows.shared(t), None, grads, self._after, results)
        self.plan.kernels.backward(self.plan.sizes, arguments)
        self._after, self._before = self._before, self._after

    def clamp(self, t: int, limit: float) -> None:
        """Clamp the gradients that step t carries back to [-limit, limit]."""
        for carried in (self.rows[t], *(self._after if t else ())):
            carried.clamp_(-limit, limit)

    def weights(
        self, own: Learnable, below: Tensor | None, source: Tensor, before: Tensor | None
    ) -> list[Tensor | None]:
        """Return the gradients of W, b and U, which multiplied `before` at the first step."""
        x, weight, back = self.x.flatten(0, 1), None, None
        if below is not None:
            weight = x.t() @ below.flatten(0, 1)
        if own.back is not None:
            back = self.x[1:].flatten(0, 1).t() @ source[:-1].flatten(0, 1)
            if before is not None:
                back = back.addmm_(self.x[0].t(), before)
        return [weight, None if own.bias is None else x.sum(0), back]

    def parameters(self) -> list[Tensor | None]:
        """Return the gradients of the neuron's parameters, None for one that is not learned."""
        return [None if p is None else p.sum(0) for p in self._params]

    def starts(self, own: Learnable) -> list[Tensor | None]:
        """Return the gradients of the initial states, None for constants."""
        pairs = zip(own.start, self._after, strict=True)
        return [after if start.dim() > 1 else None for start, after in pairs]
