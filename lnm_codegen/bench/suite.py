"""Cases of the benchmark of layers: a row for each subject and floor."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import cast

import torch

from lnm_codegen.backends.plan import plan_of
from lnm_codegen.bench.floor import copies, streams
from lnm_codegen.bench.measure import (
    Timing,
    Workload,
    by_allocator,
    device_name,
    first_line,
    in_blocks,
    peak_bytes,
    round_robin,
    start_seconds,
)
from lnm_codegen.bench.subjects import Subject, compiled, eager, hand_loop, layers, peers
from lnm_codegen.bench.table import COPIES, STREAMS, Row
from lnm_codegen.compiler.emit import model_of
from lnm_codegen.errors import ToolError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.arguments import TYPES
from lnm_codegen.nn.explain import bytes_moved, schedule_of
from lnm_codegen.nn.function import FusedCall, run_backward, run_forward
from lnm_codegen.nn.layout import arranged
from lnm_codegen.nn.load.cache import remember, speed_key
from lnm_codegen.nn.parameters import values_of
from lnm_codegen.nn.select import kernels_of
from lnm_codegen.options import BackendName


@dataclass(frozen=True, slots=True)
class Case:
    """A neuron, a shape, and the implementations to compare."""

    neuron: Neuron
    label: str  # of the neuron in the table
    shape: tuple[int, ...]  # (T, N, C, *)
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    loops: bool = True  # the eager module and a hand-written loop
    compile: bool = True  # the loop under `torch.compile`
    peers: bool = True  # other libraries
    start: tuple[str, dict[str, object]] | None = None  # (family, arguments) of cold starts
    rounds: int = 9
    blocks: int = 3  # of consecutive calls, for each subject


def measure_all(cases: Sequence[Case]) -> list[Row]:
    """Return the rows of cases of one neuron on one device.

    Each row has its time under default allocation and its time with pages kept.
    """

    def run(kept: bool) -> list[Row]:
        return [r for case in cases for r in measure(replace(case, start=None) if kept else case)]

    rows, again = by_allocator(cases[0].device, run)
    if again is not None:
        rows = [replace(row, kept=other.ns) for row, other in zip(rows, again, strict=True)]
    return rows


def measure(case: Case) -> list[Row]:
    """Return the rows of a case.

    A subject of another library, or a loop, that raises an error is left out; stderr has the error.
    """
    x, grad = aligned(case), aligned(case)
    # A clamp in the neuron would change the work: a clamped input keeps it from diverging.
    x.normal_(0.35, 0.6).clamp_(min=-1.0)
    grad.normal_()
    differentiable = x.clone().requires_grad_()
    first, workloads, subjects = {}, {}, []
    for subject in _subjects(case):
        workload = subject.workload(differentiable, grad)
        begin = time.perf_counter()
        try:
            workload.backward(workload.forward())  # type: ignore[misc]
        except Exception as error:  # of any kind: the code is not ours
            if subject.backend:
                raise
            print(f"left out: {subject.name}: {first_line(error)}", file=sys.stderr)
            continue
        first[subject.name] = time.perf_counter() - begin
        workloads[subject.name] = workload
        subjects.append(subject)
    if not subjects:
        problem = f"no kernel of {case.neuron.name} runs on {case.device}"
        raise ToolError("bench", problem, remedy="Run lnm check, which prints the reasons.")
    bare = {
        f"{s.name}, kernels alone": kernels_alone(case, s.backend, x, grad)
        for s in subjects
        if s.backend and s.name.startswith(case.neuron.name)
    }
    floors = _floors(case)
    everything = {**bare, **workloads, **floors}
    robin = _with_floors(case, round_robin(everything, case.rounds, case.device))
    steady = _with_floors(case, in_blocks(everything, case.blocks, case.device))
    layer = robin[subjects[0].name].median
    names = (*bare, *workloads, COPIES, STREAMS)
    rows = [_row(case, name, robin, steady, layer) for name in names]
    learned = [p for s in subjects for p in s.parameters]
    for k, row in enumerate(rows):
        if row.what in workloads:
            prepare = partial(_forget, [differentiable, *learned])
            peak = peak_bytes(workloads[row.what], case.device, prepare) / prod(case.shape)
            rows[k] = replace(row, peak_bytes=peak, first_call=first[row.what])
    rows = [_with_starts(case, row, subjects) for row in rows]
    for row in rows:
        backend, _, rest = row.what.removeprefix(f"{case.neuron.name} ").partition(",")
        if rest == " kernels alone":
            key = speed_key(case.neuron.name, backend, row.dtype, row.steps)
            remember(key, round(1 / row.floor, 3))
    return rows


def _forget(tensors: Sequence[torch.Tensor]) -> None:
    """Drop the gradients of earlier runs, which a run replaces."""
    for tensor in tensors:
        tensor.grad = None


def _with_starts(case: Case, row: Row, subjects: list[Subject]) -> Row:
    """Return a row with the cold and the cached start, if it is one of our own layers."""
    backend = next((s.backend for s in subjects if s.name == row.what), "")
    if case.start is None or not backend:
        return row
    family, arguments = case.start
    code = {"family": family, "arguments": arguments, "backend": backend, "device": case.device}
    cold, cached = start_seconds({**code, "steps": case.shape[0], "dtype": row.dtype})
    return replace(row, first_call=cold, cached=cached)


def _floors(case: Case) -> dict[str, Workload]:
    """Return the workloads of both floors; each name begins with that of its floor."""
    elements, itemsize = prod(case.shape), case.dtype.itemsize
    model = model_of(case.neuron)
    ports = len(model.inputs), len(model.outputs)
    return {
        f"{name}, {kind}": workload
        for name, found in (
            (COPIES, copies(elements, itemsize, case.device)),
            (STREAMS, streams(elements, itemsize, *ports, case.device)),
        )
        for kind, workload in found.items()
    }


def _with_floors(case: Case, timings: dict[str, Timing]) -> dict[str, Timing]:
    """Return timings with those of the floors: the fastest copy, scaled, and the fastest streams.

    A copy moves two sequences; its time is scaled to the bytes of the kernels.
    """
    fastest = {
        floor: min((t for n, t in timings.items() if n.startswith(floor)), key=lambda t: t.median)
        for floor in (COPIES, STREAMS)
    }
    seconds = fastest[COPIES].median * floor_bytes(case) / (2 * case.dtype.itemsize)
    fastest[COPIES] = Timing(0.0, 0.0, seconds, seconds, seconds)
    return {**timings, **fastest}


def floor_bytes(case: Case) -> float:
    """Return bytes per neuron and time step of the sequences, five for one input and output."""
    plan = plan_of(model_of(case.neuron, dtype=TYPES[case.dtype]))
    schedule = schedule_of(plan, "c" if case.device == "cpu" else "triton")
    assert schedule is not None
    return sum(bytes_moved(plan, schedule, 1))


def _subjects(case: Case) -> Iterator[Subject]:
    yield from layers(case.neuron, case.shape, case.device)
    if case.loops:
        loop = hand_loop(case.neuron, case.device)
        loops = [eager(case.neuron, case.shape, case.device), *([loop] if loop else [])]
        yield from loops
        if case.compile:
            yield compiled(loops[-1])
    if case.peers:  # under torch.compile for LIF, which is the same work
        yield from peers(case.device, case.compile and case.neuron.name == "lif")


def kernels_alone(case: Case, backend: str, x: torch.Tensor, grad: torch.Tensor) -> Workload:
    """Return both kernels on buffers allocated before."""
    name, channels = cast("BackendName", backend), x.shape[2]
    layer = NeuronLayer(case.neuron, channels=channels, shape=x.shape[2:], backend=name)
    layer = layer.to(case.device)
    kernels, params = kernels_of(case.neuron, backend, x.dtype), case.neuron.step_params
    start = [torch.zeros(1, device=x.device, dtype=kernels.real) for _ in case.neuron.states]
    given = [x, *start, *(values_of(layer)[p.name].detach() for p in params)]
    layout, tensors = arranged(params, given, 1, len(start))
    needed = [True, *([False] * len(start)), *([True] * len(params))]
    call = FusedCall(kernels, layout, False, True, [])
    out, grad_x = aligned(case), aligned(case)

    def forward() -> torch.Tensor | None:
        return run_forward(call, tensors, into=out).saved

    def backward(saved: torch.Tensor | None) -> None:
        run_backward(kernels, layout, tensors, saved, [grad], needed, into=grad_x)

    return Workload(forward, backward)


def aligned(case: Case) -> torch.Tensor:
    """Return zeros of the shape, aligned to a line of 64 bytes."""
    count = prod(case.shape)
    whole = torch.zeros(count + 64, dtype=case.dtype, device=case.device)
    offset = (-whole.data_ptr() // whole.element_size()) % (64 // whole.element_size())
    return whole[offset : offset + count].view(case.shape)


def _row(
    case: Case, what: str, robin: dict[str, Timing], steady: dict[str, Timing], layer: float
) -> Row:
    scale, timing, block = 1e9 / prod(case.shape), robin[what], steady[what]
    # On a GPU the round-robin contains the time of a launch.
    alone = robin if case.device == "cpu" else steady
    return Row(
        neuron=case.label,
        steps=case.shape[0],
        neurons=prod(case.shape[1:]),
        dtype=str(case.dtype).removeprefix("torch."),
        device=device_name(case.device),
        threads=torch.get_num_threads(),
        what=what,
        forward=timing.forward * scale,
        backward=timing.backward * scale,
        ns=timing.median * scale,
        low=timing.low * scale,
        high=timing.high * scale,
        floor=alone[what].median / alone[COPIES].median,
        streams=timing.median / robin[STREAMS].median,
        steady=block.median * scale,
        steady_streams=block.median / steady[STREAMS].median,
        layer=timing.median / layer,
    )
