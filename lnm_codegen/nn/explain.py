"""Explanation of a call of a layer: backend, schedule, memory traffic. Nothing runs or is compiled.

Bytes are counted from the kernel plan. A forward reads the inputs and writes the outputs. A
backward reads the inputs and the gradients of the outputs, and writes the gradients of the inputs.
States are written and read once in a chunk. Of a further input that repeats, each number is read
once. If it requires a gradient, the kernel writes T * N numbers, and their sum reads them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from lnm_codegen.backends.c.backend import CHUNK
from lnm_codegen.backends.cuda.kernels import CudaPlan
from lnm_codegen.backends.plan import BYTES, FAR, Plan, chunks_per_saved_state, saved_size
from lnm_codegen.backends.triton.backend import chunk_of, layer_params
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.ir.count import count
from lnm_codegen.ir.kernel import preformatted
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import TYPES
from lnm_codegen.nn.bits import packable
from lnm_codegen.nn.layout import Layout, is_indexed, layout_of, readable
from lnm_codegen.nn.load.cache import recall, speed_key
from lnm_codegen.nn.select import FUSED, device_mismatch, missing


@dataclass(frozen=True, slots=True)
class Schedule:
    """Chunks of time, and kernel launches of a call, of a backend."""

    chunk: int  # time steps
    far: int  # T from which on the states before some chunks are recomputed
    forward_launches: int
    backward_launches: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """Backend, schedule and memory traffic of a call; `str()` is a page to read.

    `floor_fraction` is what `lnm bench` last measured for a neuron of this name, this backend, type
    and T.
    """

    model: str  # name of the neuron
    backend: str
    reason: str  # for the backend
    others: Mapping[str, str]  # backend -> reason against it
    shape: tuple[int, ...]  # (T, N, *) of the input
    dtype: str  # of the sequences
    granularity: Mapping[str, str]  # parameter -> "layer", "channel" or "neuron"
    schedule: Schedule | None  # None for eager PyTorch
    chunks_per_checkpoint: int  # chunks from one saved state to the next
    bytes_moved: tuple[float, float]  # per neuron and time step, forward and backward
    bytes_kept: int  # saved for the backward, beyond inputs and outputs
    copies: tuple[str, ...]  # tensors copied because of their layout
    operations: tuple[int, int]  # per neuron and time step, forward and backward
    bits: Mapping[str, bool]  # output -> whether `pack_spikes` keeps it as bits
    feedback: str = ""  # of a recurrent layer: how its time steps run
    floor_fraction: float | None = None  # of the copy bandwidth

    def _repr_html_(self) -> str:
        return preformatted(str(self))

    def __str__(self) -> str:
        forward, backward = self.bytes_moved
        pers = ", ".join(f"{name} per {per}" for name, per in self.granularity.items())
        lines = [
            f"{self.model} on {self.shape} {self.dtype}: backend {self.backend!r}, {self.reason}",
            *(f"  not {name!r}: {why}" for name, why in self.others.items()),
            f"  parameters      {pers or 'none'}",
        ]
        if self.schedule is None:
            lines.append("  kernels         PyTorch's own, several for each operation and step")
        else:
            schedule, between = self.schedule, self.chunks_per_checkpoint
            every = "every" if between == 1 else f"every {between}th"
            lines += [
                f"  launches        {schedule.forward_launches} forward,"
                f" {schedule.backward_launches} backward",
                f"  chunk           {schedule.chunk} steps; the states before {every} chunk are"
                " saved",
                f"  bytes moved     {forward:.4g} forward + {backward:.4g} backward ="
                f" {forward + backward:.4g} per neuron and step",
                f"  bytes saved     {self.bytes_kept} beyond inputs and outputs",
            ]
        lines += [f"  feedback        {self.feedback}"] if self.feedback else []
        lines.append(
            f"  operations      {self.operations[0]} forward + {self.operations[1]} backward per"
            " neuron and step, the recomputed forward included"
        )
        bits = (f"{n} {'as bits' if packed else 'whole'}" for n, packed in self.bits.items())
        lines.append(f"  pack_spikes     keeps {', '.join(bits)}")
        lines += [f"  copied          {what}" for what in self.copies]
        if self.floor_fraction is not None:
            lines.append(f"  speed           {self.floor_fraction:.0%} of the copy bandwidth")
        return "\n".join(lines)


def bytes_moved(
    plan: Plan,
    schedule: Schedule,
    time_steps: int,
    shares: Sequence[float] = (),
    needed: Sequence[bool] = (),
) -> tuple[float, float]:
    """Return the memory traffic in bytes per neuron and time step, forward and backward.

    Shared parameters, initial states and final states do not count. `shares` are the numbers of
    each input per neuron and step (1 by default), `needed` says whether its gradient is needed.
    """
    io, real = BYTES[plan.dtype], BYTES[plan.real]
    shares = shares or (1.0,) * len(plan.inputs)
    needed = needed or (True,) * len(plan.inputs)
    inputs, outputs, states = sum(shares), len(plan.outputs), len(plan.states)
    written = sum(
        1 if share == 1 else 2 for share, need in zip(shares, needed, strict=True) if need
    )
    numbers = saved_size(time_steps, 1, states, schedule.chunk, schedule.far)
    saved = real * numbers / max(time_steps, 1)
    between = chunks_per_saved_state(time_steps, schedule.chunk, schedule.far)
    recomputed = io * inputs if between > 1 else 0
    forward = io * (inputs + outputs) + saved
    backward = io * (inputs + written + outputs) + saved + recomputed
    return forward, backward


def explain(
    neuron: Neuron,
    requested: str,
    backend: str,
    inputs: Sequence[Tensor],
    refused: Mapping[str, str] = MappingProxyType({}),
) -> Explanation:
    """Return the explanation of a call with inputs (T, N, *).

    Args:
        neuron: It outputs its records.
        requested: The layer's backend.
        backend: The selected one.
        inputs: Those of the call.
        refused: Backend -> why an earlier call could not load its kernels.
    """
    x = inputs[0]
    device = x.device.type
    plan = plan_of(neuron, dtype=TYPES[x.dtype])
    _, layout = readable(plan.params, x)
    schedule = schedule_of(plan, backend)
    steps, saved, moved, between, recomputed = layout.time_steps, 0, (0.0, 0.0), 1, 0
    if schedule is not None:
        shares = [1.0, *(_share(layout, other) for other in inputs[1:])]
        needed = [
            other.requires_grad or share == 1 for other, share in zip(inputs, shares, strict=True)
        ]
        moved = bytes_moved(plan, schedule, steps, shares, needed)
        recomputed = count(plan.advance).total
        between = chunks_per_saved_state(steps, schedule.chunk, schedule.far)
        states = len(plan.states)
        numbers = saved_size(steps, layout.neurons, states, schedule.chunk, schedule.far)
        saved = BYTES[plan.real] * numbers
    return Explanation(
        model=neuron.name,
        backend=backend,
        reason="as requested" if requested != "auto" else f"the selection of 'auto' on {device}",
        others={
            b: refused.get(b) or _why_not(b, requested, device)
            for b in (*FUSED, "torch")
            if b != backend
        },
        shape=tuple(layout.shape),
        dtype=plan.dtype,
        granularity={p.name: p.per for p in plan.params},
        schedule=schedule,
        chunks_per_checkpoint=between,
        bytes_moved=moved,
        bytes_kept=saved,
        copies=_copies(plan, layout, inputs) if schedule is not None else (),
        operations=(count(plan.forward).total, count(plan.backward).total + recomputed),
        bits={name: name in packable(neuron) for name, _ in neuron.output},
        floor_fraction=recall(speed_key(neuron.name, backend, plan.dtype, steps)),
    )


def _share(layout: Layout, x: Tensor) -> float:
    """Return the numbers of a further input that a kernel reads, per neuron and step."""
    count = layout.sharing(x)[1]
    share = count / max(layout.neurons, 1) if count else 1.0
    return share if x.stride(0) or layout.time_steps < 2 else share / layout.time_steps


def shaped(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> Tensor:
    """Return a tensor without memory, of any size, on a GPU that need not exist."""
    with FakeTensorMode():
        return torch.empty(shape, dtype=dtype, device=device)


def schedule_of(plan: Plan, backend: str) -> Schedule | None:
    """Return the schedule of a backend; None for eager PyTorch."""
    match backend:
        case "c":
            return Schedule(CHUNK, FAR, 1, 1)
        case "triton":
            sums = 2 * len(layer_params(plan))  # PyTorch adds the parts of each and copies the sum
            return Schedule(chunk_of(plan), FAR, 1, plan.backward_launches + sums)
        case "cuda":
            return Schedule(CudaPlan(plan).chunk, FAR, 1, plan.backward_launches)
        case _:
            return None


def _why_not(backend: str, requested: str, device: str) -> str:
    if problem := device_mismatch(backend, device):
        return problem
    if error := missing(backend):
        return error.problem
    if requested != "auto":
        return f"{requested!r} was requested"
    if backend == "torch":
        return "slower, several kernels for each operation and step"
    return f"'auto' never selects it on {device}"


def _copies(plan: Plan, layout: Layout, inputs: Sequence[Tensor]) -> tuple[str, ...]:
    """Return the tensors that a call copies because of their layout."""
    found = []
    if layout_of(inputs[0], is_indexed(plan.params)) is None:
        found.append(f"{plan.inputs[0]}: a step has gaps, or its outermost axis is not N")
    for name, other in zip(plan.inputs[1:], inputs[1:], strict=True):
        if layout.further(other) is not other:
            found.append(f"{name}: another layout than {plan.inputs[0]}, or axes with gaps")
    if layout.order is not None and any(p.per == "neuron" for p in plan.params):
        found.append("parameters per neuron: into the order of x in memory")
    return (*found, "gradients of the outputs, where they are expanded or have another layout")
