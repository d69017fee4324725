"""One case of the benchmark: measure every subject, return a row for each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import torch

from lnm_codegen.backends.plan import plan_of
from lnm_codegen.bench.floor import copies
from lnm_codegen.bench.measure import Call, Timing, peak_bytes, round_robin, start_seconds
from lnm_codegen.bench.subjects import Subject, compiled, eager, hand_loop, layers, peers
from lnm_codegen.compiler.pipeline import model_of
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.arguments import TYPES
from lnm_codegen.nn.choice import kernels_of
from lnm_codegen.nn.explain import bytes_moved, schedule_of
from lnm_codegen.nn.function import run_backward, run_forward
from lnm_codegen.nn.layout import arranged
from lnm_codegen.nn.load.measured import keep, speed_key


@dataclass(frozen=True, slots=True)
class Case:
    """A neuron on a shape.

    Attributes:
        neuron: What our own layers run.
        label: The neuron as the table names it.
        shape: (T, N, C, *).
        dtype: Of the sequences.
        device: "cpu" or "cuda".
        loops: Whether to time the eager module and a hand-written loop too.
        compile: Whether to time the loop under `torch.compile` too.
        peers: Whether to time other libraries too.
        start: (family, arguments) for cold and cached starts, or None.
        rounds: Of the round-robin.
    """

    neuron: Neuron
    label: str
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    loops: bool = True
    compile: bool = True
    peers: bool = True
    start: tuple[str, dict[str, object]] | None = None
    rounds: int = 9


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. Times are ns per neuron and step; bytes too.

    Attributes:
        floor: The time over that of moving the bytes of the kernel plan at the copy bandwidth.
        layer: The time over that of our first layer.
        first_call: Seconds of the first call, compilation among it; `cached` the same with a
            filled cache.
    """

    neuron: str
    steps: int
    neurons: int
    dtype: str
    device: str
    threads: int
    what: str
    forward: float
    backward: float
    ns: float
    low: float
    high: float
    floor: float
    layer: float
    peak_bytes: float | None = None
    first_call: float | None = None
    cached: float | None = None


def measure(case: Case) -> list[Row]:
    """Measure one case."""
    x, grad = aligned(case), aligned(case)
    # A clamp in the neuron would change the work: the input is clamped instead, so that nothing
    # runs away.
    x.normal_(0.35, 0.6).clamp_(min=-1.0)
    grad.normal_()
    wanted = x.clone().requires_grad_()
    subjects = list(_subjects(case))
    first, calls = {}, {}
    for subject in subjects:
        calls[subject.name] = subject.call(wanted, grad)
        begin = time.perf_counter()
        calls[subject.name].backward(calls[subject.name].forward())  # type: ignore[misc]
        first[subject.name] = time.perf_counter() - begin
    bare = {
        f"{s.name}, kernels alone": kernels_alone(case, s.backend, x, grad)
        for s in subjects
        if s.backend and s.name.startswith(case.neuron.name)
    }
    elements = prod(case.shape)
    itemsize = x.element_size()
    copied = {f"copy {n}": c for n, c in copies(elements, itemsize, case.device).items()}
    timings = round_robin({**bare, **calls, **copied}, case.rounds, case.device)
    best = min(timings[n].median for n in copied)
    floor = best / (2 * itemsize) * floor_bytes(case)
    layer = timings[subjects[0].name].median
    rows = [_row(case, name, timings[name], floor, layer) for name in (*bare, *calls)]
    for k, row in enumerate(rows):
        if row.what in calls:
            peak = peak_bytes(calls[row.what], case.device) / elements
            rows[k] = replace(row, peak_bytes=peak, first_call=first[row.what])
    rows = [_with_starts(case, row, subjects) for row in rows]
    for row in rows:
        backend, _, rest = row.what.removeprefix(f"{case.neuron.name} ").partition(",")
        if rest == " kernels alone":
            key = speed_key(case.neuron.name, backend, row.dtype, row.steps)
            keep(key, round(1 / row.floor, 3))
    fraction = Timing(0.0, 0.0, floor, floor, floor)
    return [*rows, _row(case, "floor", fraction, floor, layer)]


def _with_starts(case: Case, row: Row, subjects: list[Subject]) -> Row:
    """Add the cold and the cached start of our own layers, each in a process of its own."""
    backend = next((s.backend for s in subjects if s.name == row.what), "")
    if case.start is None or not backend:
        return row
    family, arguments = case.start
    code = {"family": family, "arguments": arguments, "backend": backend, "device": case.device}
    cold, cached = start_seconds({**code, "steps": case.shape[0], "dtype": row.dtype})
    return replace(row, first_call=cold, cached=cached)


def floor_bytes(case: Case) -> float:
    """Return the bytes per neuron and step of the streams alone, five for one input and output."""
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
    if case.peers:  # under torch.compile where theirs is the same work, LIF
        yield from peers(case.device, case.compile and case.neuron.name == "lif")


def kernels_alone(case: Case, backend: str, x: torch.Tensor, grad: torch.Tensor) -> Call:
    """Return a call of both kernels on buffers that exist."""
    layer = NeuronLayer(case.neuron, channels=x.shape[2], shape=x.shape[2:], backend=backend)
    layer = layer.to(case.device)
    kernels = kernels_of(case.neuron, backend, x.dtype)
    start = [torch.zeros(1, device=x.device, dtype=kernels.real) for _ in case.neuron.states]
    given = [x, *start, *(getattr(layer, p.name).detach() for p in case.neuron.params)]
    layout, tensors = arranged(case.neuron.params, given, 1, len(start))
    needed = [True, *([False] * len(start)), *([True] * len(case.neuron.params))]
    out, grad_x = aligned(case), aligned(case)

    def forward() -> torch.Tensor:
        kept = run_forward(kernels, layout, tensors, False, True, into=out).checkpoints
        assert kept is not None
        return kept

    def backward(kept: torch.Tensor) -> None:
        run_backward(kernels, layout, tensors, kept, [grad], needed, into=grad_x)

    return Call(forward, backward)


def aligned(case: Case) -> torch.Tensor:
    """Return zeros of the shape that begin a line of 64 bytes."""
    count = prod(case.shape)
    whole = torch.zeros(count + 64, dtype=case.dtype, device=case.device)
    offset = (-whole.data_ptr() // whole.element_size()) % (64 // whole.element_size())
    return whole[offset : offset + count].view(case.shape)


def _row(case: Case, what: str, timing: Timing, floor: float, layer: float) -> Row:
    scale = 1e9 / prod(case.shape)
    return Row(
        neuron=case.label,
        steps=case.shape[0],
        neurons=prod(case.shape[1:]),
        dtype=str(case.dtype).removeprefix("torch."),
        device=torch.cuda.get_device_name() if case.device != "cpu" else "cpu",
        threads=torch.get_num_threads(),
        what=what,
        forward=timing.forward * scale,
        backward=timing.backward * scale,
        ns=timing.median * scale,
        low=timing.low * scale,
        high=timing.high * scale,
        floor=timing.median / floor,
        layer=timing.median / layer,
    )
