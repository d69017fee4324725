"""`layer.explain(x)`: what a call would run, why not another way, and what it moves and keeps.

Nothing runs and nothing is compiled. Bytes are counted from the kernel plan: a forward reads the
inputs and writes the outputs, a backward reads the inputs and the gradients of the outputs and
writes the gradients of the inputs; states go through memory once in a chunk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from lnm_codegen.backends.c.backend import CHUNK
from lnm_codegen.backends.cuda.plan import CudaPlan
from lnm_codegen.backends.plan import BYTES, FAR, Plan, checkpoints, chunks_per_checkpoint, plan_of
from lnm_codegen.backends.triton.kernels import chunk_of
from lnm_codegen.compiler.pipeline import model_of
from lnm_codegen.ir.count import count
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import TYPES
from lnm_codegen.nn.choice import FUSED, misplaced, missing
from lnm_codegen.nn.layout import Layout, layout_of, readable
from lnm_codegen.nn.load.measured import recall, speed_key


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a backend cuts time, and how often it launches."""

    chunk: int
    far: int
    forward_launches: int
    backward_launches: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """What one call of a layer would do; `str()` is a page to read.

    Attributes:
        model: Name of the neuron.
        backend: What would run.
        reason: Why that.
        others: Backend -> why not that.
        shape: (T, N, *) of the input.
        dtype: Type of the sequences.
        granularity: Parameter -> per layer, channel or neuron.
        schedule: How the kernels cut time; None where nothing is fused.
        chunks_per_checkpoint: How many chunks lie between two states that are kept.
        bytes_moved: Per neuron and step, through memory, forward and backward.
        bytes_kept: From forward to backward, beyond inputs and outputs.
        copies: What is copied because of its layout.
        operations: Arithmetic per neuron and step, forward and backward.
        floor_fraction: Share of the copy bandwidth that the kernels reached where `lnm bench`
            last measured a neuron of this name on this T.
    """

    model: str
    backend: str
    reason: str
    others: Mapping[str, str]
    shape: tuple[int, ...]
    dtype: str
    granularity: Mapping[str, str]
    schedule: Schedule | None
    chunks_per_checkpoint: int
    bytes_moved: tuple[float, float]
    bytes_kept: int
    copies: tuple[str, ...]
    operations: tuple[int, int]
    floor_fraction: float | None = None

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
            cut, between = self.schedule, self.chunks_per_checkpoint
            every = "every" if between == 1 else f"every {between}th"
            lines += [
                f"  launches        {cut.forward_launches} forward,"
                f" {cut.backward_launches} backward",
                f"  chunk           {cut.chunk} steps; the states before {every} chunk are kept",
                f"  bytes moved     {forward:.4g} forward + {backward:.4g} backward ="
                f" {forward + backward:.4g} per neuron and step",
                f"  bytes kept      {self.bytes_kept} beyond inputs and outputs",
            ]
        lines.append(
            f"  operations      {self.operations[0]} forward + {self.operations[1]} backward per"
            " neuron and step, the rerun of the forward among them"
        )
        lines += [f"  copied          {what}" for what in self.copies]
        if self.floor_fraction is not None:
            lines.append(f"  speed           {self.floor_fraction:.0%} of the copy bandwidth")
        return "\n".join(lines)


def bytes_moved(plan: Plan, schedule: Schedule, time_steps: int) -> tuple[float, float]:
    """Return bytes through memory per neuron and step, forward and backward.

    Without those of what every neuron shares, and of one state at either end of the sequence.
    """
    model = plan.model
    io, real = BYTES[model.dtype], BYTES[model.real]
    inputs, outputs, states = len(model.inputs), len(model.outputs), len(plan.states)
    kept = checkpoints(time_steps, 1, states, schedule.chunk, schedule.far)
    checkpoint = real * kept / max(time_steps, 1)
    between = chunks_per_checkpoint(time_steps, schedule.chunk, schedule.far)
    rerun = io * inputs if between > 1 else 0
    forward = io * (inputs + outputs) + checkpoint
    backward = io * (2 * inputs + outputs) + checkpoint + rerun
    return forward, backward


def explain(neuron: Neuron, asked: str, backend: str, inputs: Sequence[Tensor]) -> Explanation:
    """Put together what is known of a call of a layer.

    Args:
        neuron: With what is recorded among its outputs.
        asked: The backend that the layer was made with.
        backend: The one that was chosen.
        inputs: (T, N, *).
    """
    x = inputs[0]
    device = x.device.type
    plan = plan_of(model_of(neuron, dtype=TYPES[x.dtype]))
    _, layout = readable(plan.model.params, x)
    schedule = schedule_of(plan, backend)
    steps, kept, moved, between, rerun = layout.time_steps, 0, (0.0, 0.0), 1, 0
    if schedule is not None:
        moved = bytes_moved(plan, schedule, steps)
        rerun = count(plan.advance).total
        between = chunks_per_checkpoint(steps, schedule.chunk, schedule.far)
        states = len(plan.states)
        numbers = checkpoints(steps, layout.neurons, states, schedule.chunk, schedule.far)
        kept = BYTES[plan.model.real] * numbers
    return Explanation(
        model=neuron.name,
        backend=backend,
        reason="which was asked for" if asked != "auto" else f"which 'auto' takes on {device}",
        others={b: _why_not(b, asked, device) for b in (*FUSED, "torch") if b != backend},
        shape=tuple(layout.shape),
        dtype=plan.model.dtype,
        granularity={p.name: p.per for p in plan.model.params},
        schedule=schedule,
        chunks_per_checkpoint=between,
        bytes_moved=moved,
        bytes_kept=kept,
        copies=_copies(plan, layout, inputs) if schedule is not None else (),
        operations=(count(plan.forward).total, count(plan.backward).total + rerun),
        floor_fraction=recall(speed_key(neuron.name, backend, plan.model.dtype, steps)),
    )


def shaped(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> Tensor:
    """Return a tensor without memory, of any size, on a GPU that need not be here."""
    with FakeTensorMode():
        return torch.empty(shape, dtype=dtype, device=device)


def schedule_of(plan: Plan, backend: str) -> Schedule | None:
    """Return how a backend cuts time; None for eager PyTorch."""
    match backend:
        case "c":
            return Schedule(CHUNK, FAR, 1, 1)
        case "triton":
            return Schedule(chunk_of(plan), FAR, 1, 2 if plan.terms else 1)
        case "cuda":
            chunk = CudaPlan(plan).chunk
            return Schedule(chunk, FAR, 1, 2 if plan.terms else 1)
        case _:
            return None


def _why_not(backend: str, asked: str, device: str) -> str:
    lack = misplaced(backend, device) or missing(backend)
    if lack is not None:
        return lack.split(". ")[0].rstrip(".")
    if asked != "auto":
        return f"{asked!r} was asked for"
    return "slower, several kernels for each operation and step" if backend == "torch" else "second"


def _copies(plan: Plan, layout: Layout, inputs: Sequence[Tensor]) -> tuple[str, ...]:
    """Say what a call copies because of its layout."""
    found = []
    if layout_of(inputs[0], any(p.per != "layer" for p in plan.model.params)) is None:
        found.append(f"{plan.model.inputs[0]}: a step has gaps, or its outermost axis is no batch")
    for name, other in zip(plan.model.inputs[1:], inputs[1:], strict=True):
        if layout.sequence(other) is not other:
            found.append(f"{name}: it lies otherwise than {plan.model.inputs[0]}")
    if layout.order is not None and any(p.per == "neuron" for p in plan.model.params):
        found.append("parameters per neuron: their rows, into the order of x in memory")
    return (*found, "gradients of the outputs, only where they lie otherwise or are expanded")
