"""The floor of a kernel's time: copies of one array, and the kernels' own streams.

`copies` moves one array to another. Its bandwidth times the bytes of the kernels is the floor by
copies. Where two arrays fit into a cache and those of the kernels do not, that floor is too low.
`streams` reads and writes as many sequences as the kernels do, in arrays of the same size:

    forward    outputs = f(inputs)                      I reads, O writes
    backward   grad_inputs = f(inputs, grad_outputs)    I + O reads, I writes

with f a sum. For one input and one output these are five streams over four arrays. The floor is
the fastest of several loops: on a CPU with g++ plain OpenMP loops and streaming stores, besides
those of PyTorch.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from lnm_codegen.bench.measure import Workload

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
