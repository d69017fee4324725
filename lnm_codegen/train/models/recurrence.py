"""Loop over time of recurrent layers, which receive spikes of the previous step.

    x_k[t] = W_k s_{k-1}[t] + b_k + U_k s_source(k)[t-1]       for stage 0, W_0 in[t] + b_0 is given
    s_k[t] = neuron_k(x_k[t])

Recurrence rules out kernels that are fused over time: every stage and step is a product and a call
with T = 1. `loop.py` calls the C kernels themselves. In other cases (backend "torch", a GPU,
`torch.compile`, integer arithmetic) the loop here calls the layers and uses autograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.arguments import REAL
from lnm_codegen.nn.call import start_states
from lnm_codegen.nn.layout import readable
from lnm_codegen.nn.parameters import values_of
from lnm_codegen.nn.select import kernels_of
from lnm_codegen.train.models.loop import Loop, StagePlan


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
    run = _run_kernels if all(_uses_c(s.neuron, current_seq) for s in stages) else _run_layers
    spikes, currents = run(stages, current_seq, carry_limit, last)
    if carries and memory is not None and len(current_seq):
        memory.update((k, own[-1].detach()) for k, own in enumerate(spikes))
    with torch.no_grad():
        for k, stage in enumerate(stages):
            if stage.feed is not None and _is_hooked(stage.feed):
                stage.feed(spikes[k - 1])
            if _is_hooked(stage.neuron) or stage.neuron.record:
                stage.neuron(currents[k].detach(), state=start[k] if carries else None)
            if stage.back is not None and _is_hooked(stage.back):
                before = spikes[stage.source][:-1]
                if stage.source in last:
                    before = torch.cat([last[stage.source][None], before])
                stage.back(before)
    return spikes[-1]


def _width(stage: Stage, current_seq: Tensor) -> int:
    """Return H of a stage."""
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
    bound = None if carry_limit is None else _GradientBound(carry_limit)
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


class _GradientBound:
    """Clamp of gradients to a multiple of the largest gradient of the last stage's spikes."""

    def __init__(self, carry_limit: float) -> None:
        self._carry_limit, self._limit = carry_limit, float("inf")

    def measure(self, grad: Tensor) -> None:
        """Set the bound from the gradient of the spikes, which exists before any other."""
        if grad.numel():
            self._limit = self._carry_limit * float(grad.abs().max())

    def _clamp(self, grad: Tensor) -> Tensor:
        return grad.clamp(-self._limit, self._limit)

    def hooked(self, value: Tensor) -> Tensor:
        """Return a value whose gradient is clamped."""
        if value.requires_grad:
            value = value.view_as(value)
            value.register_hook(self._clamp)  # type: ignore[no-untyped-call]
        return value


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
