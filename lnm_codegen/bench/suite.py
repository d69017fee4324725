"""Cases of the benchmark of layers: a row for each subject and floor."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from math import prod
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

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
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.errors import ToolError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import TYPES
from lnm_codegen.nn.explain import bytes_moved, schedule_of
from lnm_codegen.nn.layer import NeuronLayer
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
    plan = plan_of(case.neuron)
    ports = len(plan.inputs), len(plan.outputs)
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
    plan = plan_of(case.neuron, dtype=TYPES[case.dtype])
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
    out, grad_x = aligned(case), aligned(case)

    def forward() -> torch.Tensor | None:
        return kernels.run(layout, tensors, False, True, into=out).saved

    def backward(saved: torch.Tensor | None) -> None:
        kernels.run_backward(layout, tensors, saved, [grad], needed, into=grad_x)

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


# The floor of a kernel's time: copies of one array, and the kernels' own streams.
#
# `copies` moves one array to another. Its bandwidth times the bytes of the kernels is the floor by
# copies. Where two arrays fit into a cache and those of the kernels do not, that floor is too low.
# `streams` reads and writes as many sequences as the kernels do, in arrays of the same size:
#
#     forward    outputs = f(inputs)                      I reads, O writes
#     backward   grad_inputs = f(inputs, grad_outputs)    I + O reads, I writes
#
# with f a sum. For one input and one output these are five streams over four arrays. The floor is
# the fastest of several loops: on a CPU with g++ plain OpenMP loops and streaming stores, besides
# those of PyTorch.


_COPY = r"""
extern "C" void copy_memcpy(const float *a, float *b, int64_t n, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads; ++t) {
        const int64_t first = n * t / threads, last = n * (t + 1) / threads;
        memcpy(b + first, a + first, sizeof(float) * (last - first));
    }
}
"""
_HEAD = r"""
#include <cstdint>
#include <cstring>
#if defined(__AVX__)
#include <immintrin.h>
#endif
"""
_LOOPS = r"""
extern "C" void plain_{name}({fields}, int64_t n, int threads) {{
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; ++i) {{
        const float value = {sum};
        {stores}
    }}
}}
extern "C" void stream_{name}({fields}, int64_t n, int threads) {{
#if defined(__AVX__)
#pragma omp parallel num_threads(threads)
    {{
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n; i += 8) {{
            const __m256 value = {wide_sum};
            {streams}
        }}
        _mm_sfence();
    }}
#else
    plain_{name}({given}, n, threads);
#endif
}}
"""


def copies(elements: int, itemsize: int, device: str = "cpu") -> dict[str, Workload]:
    """Return workloads that copy `elements` elements of `itemsize` bytes."""
    a, b = _words(elements, itemsize, device), _words(elements, itemsize, device)
    workloads = {"torch": Workload(lambda: b.copy_(a))}
    if _compiles(device):
        for name in ("plain_1_1", "copy_memcpy", "stream_1_1"):
            call = _native(name, ((1, 1),), [a], [b])
            workloads[name.removesuffix("_1_1").removeprefix("copy_")] = Workload(call)
    return workloads


def streams(
    elements: int, itemsize: int, inputs: int = 1, outputs: int = 1, device: str = "cpu"
) -> dict[str, Workload]:
    """Return workloads that move the kernels' sequences, of `elements` elements each.

    A forward and a backward move 3*inputs + 2*outputs sequences.
    """
    given, results, grads, found = (
        [_words(elements, itemsize, device) for _ in range(count)]
        for count in (inputs, outputs, outputs, inputs)
    )
    passes = ((given, results), ([*given, *grads], found))

    def workload(forward: Callable[[], object], backward: Callable[[], object]) -> Workload:
        return Workload(forward, lambda _: backward())

    workloads = {"torch": workload(*(partial(_sum, *tensors) for tensors in passes))}
    if _compiles(device):
        kinds = tuple((len(reads), len(writes)) for reads, writes in passes)
        for name in ("plain", "stream"):
            calls = [
                _native(f"{name}_{kind[0]}_{kind[1]}", kinds, *tensors)
                for kind, tensors in zip(kinds, passes, strict=True)
            ]
            workloads[name] = workload(*calls)
    return workloads


def moved(inputs: int, outputs: int, itemsize: int) -> int:
    """Return the bytes for each element that a forward and a backward of `streams` move."""
    return (3 * inputs + 2 * outputs) * itemsize


def _sum(reads: Sequence[Tensor], writes: Sequence[Tensor]) -> None:
    """Write the sum of all reads to each result; PyTorch takes two at a time."""
    for into in writes:
        if len(reads) == 1:
            into.copy_(reads[0])
        else:
            torch.add(reads[0], reads[1], out=into)
        for further in reads[2:]:
            into.add_(further)


def _words(elements: int, itemsize: int, device: str) -> Tensor:
    """Return `elements * itemsize` bytes as float32, from a line of 64 bytes on."""
    count = elements * itemsize // 4
    whole = torch.rand(count + 16, device=device)
    offset = (-whole.data_ptr() // 4) % 16
    return whole[offset : offset + count]


def _compiles(device: str) -> bool:
    return device == "cpu" and shutil.which("g++") is not None


def _native(
    name: str, kinds: tuple[tuple[int, int], ...], reads: Sequence[Tensor], writes: Sequence[Tensor]
) -> Callable[[], object]:
    """Return a call of a compiled loop on these arrays."""
    function = getattr(_library(kinds), name)
    tensors = [*reads, *writes]
    function.argtypes = [*[ctypes.c_void_p] * len(tensors), ctypes.c_int64, ctypes.c_int]
    count = reads[0].numel()
    whole = count - count % 8  # a streamed store takes 8 numbers
    arguments = (*(t.data_ptr() for t in tensors), whole, torch.get_num_threads())
    return partial(_call, function, arguments, tensors)


def _call(function: Callable[..., object], arguments: tuple[int, ...], _: list[Tensor]) -> None:
    """Call a loop on the addresses of tensors, which the arguments of this keep alive."""
    function(*arguments)


@cache
def _library(kinds: tuple[tuple[int, int], ...]) -> ctypes.CDLL:
    """Return the loops of these numbers of reads and writes, compiled."""
    with tempfile.TemporaryDirectory() as folder:
        text = _HEAD + _COPY + "".join(_loops(*kind) for kind in kinds)
        Path(folder, "floor.cpp").write_text(text, encoding="utf-8")
        command = ["g++", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "floor.cpp"]
        subprocess.run([*command, "-o", "floor.so"], cwd=folder, check=True)
        return ctypes.CDLL(str(Path(folder, "floor.so")))


def _loops(reads: int, writes: int) -> str:
    """Return the C++ of a plain loop and of one with streaming stores."""
    a, b = [f"a{k}" for k in range(reads)], [f"b{k}" for k in range(writes)]
    wide = f"_mm256_loadu_ps({a[0]} + i)"
    for name in a[1:]:
        wide = f"_mm256_add_ps({wide}, _mm256_loadu_ps({name} + i))"
    return _LOOPS.format(
        name=f"{reads}_{writes}",
        fields=", ".join([*(f"const float *{n}" for n in a), *(f"float *{n}" for n in b)]),
        given=", ".join([*a, *b]),
        sum=" + ".join(f"{n}[i]" for n in a),
        wide_sum=wide,
        stores=" ".join(f"{n}[i] = value;" for n in b),
        streams=" ".join(f"_mm256_stream_ps({n} + i, value);" for n in b),
    )
