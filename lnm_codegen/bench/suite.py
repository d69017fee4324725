"""Cases of the benchmark: a row for each subject; the rows as a table, CSV and figure."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, cast

import torch

from lnm_codegen.analysis.canvas import new_figure
from lnm_codegen.backends.plan import plan_of
from lnm_codegen.bench.measure import (
    Timing,
    Workload,
    by_allocator,
    copies,
    peak_bytes,
    round_robin,
    start_seconds,
)
from lnm_codegen.bench.network import measure_network
from lnm_codegen.bench.subjects import Subject, compiled, eager, hand_loop, layers, peers
from lnm_codegen.compiler.model import model_of
from lnm_codegen.files import write_whole
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


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. Times are in ns, and memory in bytes, per neuron and time step."""

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
    floor: float  # ratio to the plan's memory traffic at the copy bandwidth
    layer: float  # ratio to our first layer
    kept: float | None = None  # ns with pages kept (`lnm.nn.keep_pages`)
    peak_bytes: float | None = None
    first_call: float | None = None  # seconds, compilation included
    cached: float | None = None  # seconds of a first call with a filled cache


def measure_all(
    cases: Sequence[Case], network: bool = False
) -> tuple[list[Row], list[dict[str, Any]]]:
    """Return the rows of cases of one neuron on one device, and those of a network.

    Each row has its time under default allocation and its time with pages kept.
    """
    one = cases[0]
    lengths = [case.shape[0] for case in cases]

    def run(kept: bool) -> tuple[list[Row], list[dict[str, Any]]]:
        rows = [r for case in cases for r in measure(replace(case, start=None) if kept else case)]
        if not network:
            return rows, []
        return rows, measure_network(one.neuron, lengths, one.device, one.rounds, one.peers)

    (rows, steps), again = by_allocator(one.device, run)
    if again is not None:
        rows = [replace(row, kept=other.ns) for row, other in zip(rows, again[0], strict=True)]
        steps = [row | {"kept ms": x["ms"]} for row, x in zip(steps, again[1], strict=True)]
    return rows, steps


def measure(case: Case) -> list[Row]:
    """Return the rows of a case."""
    x, grad = aligned(case), aligned(case)
    # A clamp in the neuron would change the work: a clamped input keeps it from diverging.
    x.normal_(0.35, 0.6).clamp_(min=-1.0)
    grad.normal_()
    differentiable = x.clone().requires_grad_()
    subjects = list(_subjects(case))
    first, workloads = {}, {}
    for subject in subjects:
        workload = workloads[subject.name] = subject.workload(differentiable, grad)
        begin = time.perf_counter()
        workload.backward(workload.forward())  # type: ignore[misc]
        first[subject.name] = time.perf_counter() - begin
    bare = {
        f"{s.name}, kernels alone": kernels_alone(case, s.backend, x, grad)
        for s in subjects
        if s.backend and s.name.startswith(case.neuron.name)
    }
    elements = prod(case.shape)
    itemsize = x.element_size()
    copied = {f"copy {n}": c for n, c in copies(elements, itemsize, case.device).items()}
    timings = round_robin({**bare, **workloads, **copied}, case.rounds, case.device)
    best = min(timings[n].median for n in copied)
    floor = best / (2 * itemsize) * floor_bytes(case)
    layer = timings[subjects[0].name].median
    rows = [_row(case, name, timings[name], floor, layer) for name in (*bare, *workloads)]
    for k, row in enumerate(rows):
        if row.what in workloads:
            peak = peak_bytes(workloads[row.what], case.device) / elements
            rows[k] = replace(row, peak_bytes=peak, first_call=first[row.what])
    rows = [_with_starts(case, row, subjects) for row in rows]
    for row in rows:
        backend, _, rest = row.what.removeprefix(f"{case.neuron.name} ").partition(",")
        if rest == " kernels alone":
            key = speed_key(case.neuron.name, backend, row.dtype, row.steps)
            remember(key, round(1 / row.floor, 3))
    fraction = Timing(0.0, 0.0, floor, floor, floor)
    return [*rows, _row(case, "floor", fraction, floor, layer)]


def _with_starts(case: Case, row: Row, subjects: list[Subject]) -> Row:
    """Return a row with the cold and the cached start, if it is one of our own layers."""
    backend = next((s.backend for s in subjects if s.name == row.what), "")
    if case.start is None or not backend:
        return row
    family, arguments = case.start
    code = {"family": family, "arguments": arguments, "backend": backend, "device": case.device}
    cold, cached = start_seconds({**code, "steps": case.shape[0], "dtype": row.dtype})
    return replace(row, first_call=cold, cached=cached)


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


HEADER = (
    "T", "what", "ns", "forward", "backward", "x floor", "x layer", "kept ns", "bytes", "first s",
    "cached s",
)  # fmt: skip


def table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the cells under `HEADER`; times are in ns per neuron and time step."""
    return [
        (
            str(row.steps),
            row.what,
            f"{row.ns:.3f}",
            f"{row.forward:.3f}" if row.forward else "",
            f"{row.backward:.3f}" if row.backward else "",
            f"{row.floor:.2f}",
            f"{row.layer:.2f}",
            "" if row.kept is None else f"{row.kept:.3f}",
            *(_short(value) for value in (row.peak_bytes, row.first_call, row.cached)),
        )
        for row in rows
    ]


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write all fields of all rows as CSV."""
    write_table([_rounded(asdict(row)) for row in rows], path)


def write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows with the same keys as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.getvalue())


def _rounded(row: dict[str, object]) -> dict[str, object]:
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}


def write_figure(rows: Sequence[Row], path: Path) -> None:
    """Plot the time of each subject and of the floor against T, with log scales."""
    figure = new_figure("bench", 7, 4.5)
    axes = figure.subplots()
    for what in dict.fromkeys(row.what for row in rows):
        points = sorted((row.steps, row.ns) for row in rows if row.what == what)
        style = {"color": "black", "linestyle": "--"} if what == "floor" else {"marker": "o"}
        axes.plot(*zip(*points, strict=True), label=what, **style)  # type: ignore[arg-type]
    axes.set(xscale="log", yscale="log", xlabel="time steps T", ylabel="ns per neuron and step")
    axes.set_title(f"{rows[0].neuron}, forward and backward, {rows[0].dtype}, {rows[0].device}")
    axes.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
