"""The kernels of a .cu compiled for the host over `host.h`, and run on NumPy arrays."""

from __future__ import annotations

import atexit
import ctypes
import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

import lnm_codegen as lnm
from lnm_codegen.backends.cuda.backend import Cuda
from lnm_codegen.backends.cuda.kernels import CudaPlan
from lnm_codegen.backends.cuda.launches import Launch
from lnm_codegen.backends.plan import HEAD, SIZES, Field, Plan
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.nn.load.c import compiler
from tests.cases import Results
from tests.strategies import Arguments, distinct

HERE = Path(__file__).parent
FLAGS = ("-std=c++17", "-O1", "-march=native", "-fPIC", "-shared", "-ffp-contract=off",
         "-fno-math-errno", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas",
         "-Wno-clobbered", "-Wno-maybe-uninitialized", "-Wno-sign-compare")  # fmt: skip
GUARD = 64
"""Numbers before and after every array, NaN before a call and after it."""


def model_in(neuron: lnm.Neuron, dtype: str) -> Plan:
    """Return the model of a neuron with sequences of `dtype`."""
    return replace(plan_of(neuron), dtype=dtype)


def host_text(model: Plan) -> str:
    """Return the .cu, its dynamic shared memory and its counted accesses those of the host."""
    text = Cuda().emit(model).files[f"{model.name}.cu"]
    text, _ = re.subn(
        r"extern __shared__ real (\w+)\[\];",
        r"real *\1 = reinterpret_cast<real *>(host::shared.data());",
        text,
    )
    counted = "host::host_{0} += sizeof {1}, host::host_narrow += kCount == 1;\n"
    for name, value, verb in (("load", "to", "loaded"), ("store", "from", "stored")):
        pattern = rf"(DEVICE void {name}\(.*\) \{{\n)"
        text, found = re.subn(pattern, r"\1    " + counted.format(verb, value), text)
        assert found == 1, name
    return text


@dataclass
class HostKernels:
    """The library of one model."""

    model: Plan
    cuda: CudaPlan
    library: ctypes.CDLL

    def counter(self, name: str) -> ctypes.c_int64:
        """Return one of the harness's variables."""
        return ctypes.c_int64.in_dll(self.library, f"host_{name}")

    @contextmanager
    def far(self, steps: int) -> Iterator[None]:
        """Keep checkpoints at two levels beyond so many steps."""
        variable = self.counter("far")
        before, variable.value = variable.value, steps
        try:
            yield
        finally:
            variable.value = before

    def launch(self, launch: Launch, arguments: ctypes.Structure, workspace: np.ndarray) -> None:
        """Run one kernel."""
        getattr(self.library, f"host_{launch.kernel}")(
            ctypes.byref(arguments), ctypes.c_void_p(workspace.ctypes.data),
            ctypes.c_uint(launch.grid), ctypes.c_uint(launch.block), ctypes.c_int64(launch.shared),
        )  # fmt: skip


def compiled(model: Plan, lines: list[str], more: Mapping[str, str] = MappingProxyType({})) -> Any:
    """Compile lines of C++ over `host.h` beside the files of a model, and load the library."""
    folder = Path(tempfile.mkdtemp(prefix="lnm-cuda-host-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Cuda().emit(model).write(folder)
    for name, text in more.items():
        (folder / name).write_text(text, encoding="utf-8")
    whole = "\n".join([f'#include "{HERE / "host.h"}"', *lines])
    (folder / "host.cpp").write_text(whole, encoding="utf-8")
    command = [compiler().path, *FLAGS, "-I.", "-o", "host.so", "host.cpp"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(folder / "host.so"))


SIZES_OF = {
    "checkpoints": "checkpoint_count(t, n)", "numbers": "backward_numbers(t, n, s)",
    "tiles": "tiles(t, n)", "offset": "offset(t, n, s)", "kept": "kept(t, n, s)",
    "spacing": "spacing(t)",
}  # fmt: skip
"""Functions of `<name>_layout.h`, as the library has them: host_<function>."""


@cache
def host_kernels(neuron: lnm.Neuron, dtype: str) -> HostKernels:
    """Compile the kernels of a neuron for the host."""
    model = model_in(neuron, dtype)
    text = host_text(model)
    kernels = re.findall(r"(\w+_kernel)\(const (\w+) a, (?:const )?void", text)
    lines = [f"#define {model.name.upper()}_FAR host::host_far", text]
    lines += [f"HOST_KERNEL({kernel}, {arguments})" for kernel, arguments in kernels]
    lines += [
        f'extern "C" int64_t host_{name}(int64_t t, int64_t n, int64_t s) {{'
        f" (void)n, (void)s; return {model.name}_{call}; }}"
        for name, call in SIZES_OF.items()
    ]
    library = compiled(model, lines)
    for function in SIZES_OF:
        getattr(library, f"host_{function}").restype = ctypes.c_int64
    return HostKernels(model, CudaPlan(model), library)


def struct(fields: tuple[Field, ...], values: dict[str, Any]) -> ctypes.Structure:
    """Return the arguments of a kernel; arrays by their address, what is missing null or 0.

    The attribute `arrays` has the arrays by name, for a caller that gives them other addresses.
    """
    kinds = [(n, ctypes.c_int64) for n in (*HEAD, *SIZES)]
    kinds += [(f.name, ctypes.c_int64 if f.kind == "int64_t" else ctypes.c_void_p) for f in fields]
    unknown = set(values) - {n for n, _ in kinds}
    assert not unknown, unknown
    kind = type("arguments", (ctypes.Structure,), {"_fields_": kinds})
    arrays = {n: v for n, v in values.items() if isinstance(v, np.ndarray)}
    made = kind(**(values | {n: array.ctypes.data for n, array in arrays.items()}))
    made.arrays = arrays
    return made


class Memory:
    """Arrays with guards around them, `shift` numbers off the alignment of 16 bytes."""

    def __init__(self, dtype: str, shift: int = 0) -> None:
        self.io = np.dtype({"float32": "f4", "float64": "f8"}.get(dtype, "u2"))
        self.real = np.dtype("f8" if dtype == "float64" else "f4")
        self.dtype, self.shift = dtype, shift
        self.guarded: list[tuple[np.ndarray, np.ndarray]] = []

    def empty(self, shape: tuple[int, ...], kind: np.dtype[Any], aligned: bool = False) -> Any:
        """Return an array full of NaN."""
        count, size = int(np.prod(shape)), kind.itemsize
        raw = np.full((count + 2 * GUARD) * size + 256, 0xFF, np.uint8)
        offset = -raw.ctypes.data % 128 + GUARD * size + (0 if aligned else self.shift * size)
        self.guarded.append((raw, np.arange(offset, offset + count * size)))
        return raw[offset : offset + count * size].view(kind).reshape(shape)

    def sequence(self, values: np.ndarray) -> Any:
        """Return values as a sequence in the type of sequences."""
        array = self.empty(values.shape, self.io)
        array[...] = encoded(values, self.dtype)
        return array

    def numbers(self, values: Any) -> Any:
        """Return values in the type of the arithmetic."""
        values = np.asarray(values)
        array = self.empty(values.shape, self.real)
        array[...] = values
        return array

    def check(self) -> None:
        """Nothing was written outside of an array."""
        for raw, inside in self.guarded:
            outside = np.ones(raw.size, bool)
            outside[inside] = False
            assert (raw[outside] == 0xFF).all()


def encoded(values: np.ndarray, dtype: str) -> np.ndarray:
    """Return numbers in the type of sequences, 16-bit ones as bits."""
    if dtype in ("float32", "float64"):
        return values.astype(dtype)
    tensor = torch.as_tensor(np.asarray(values, np.float32)).to(getattr(torch, dtype))
    return tensor.view(torch.int16).numpy().view(np.uint16)


def decoded(array: np.ndarray, dtype: str) -> np.ndarray:
    """Return what `encoded` took."""
    if dtype in ("float32", "float64"):
        return array.copy()
    bits = torch.as_tensor(array.view(np.int16).copy())
    return bits.view(getattr(torch, dtype)).float().numpy()


def run_host(
    neuron: lnm.Neuron,
    a: Arguments,
    dtype: str = "float32",
    *,
    shift: int = 0,
    repeated: bool = False,
    grid: int | None = None,
    ends: bool = True,
    absent: Collection[str] = (),
    one_state: bool = False,
    sharing: Mapping[str, tuple[int, int]] = MappingProxyType({}),
) -> Results:
    """Run forward and backward on `a`.

    Args:
        neuron: The definition.
        a: The arguments, shape (T, N, C, *).
        dtype: The type of sequences.
        shift: By how many numbers arrays miss the alignment of vectors.
        repeated: Read the first row of every sequence at every step (stride 0).
        grid: Blocks of the large kernels, if not what the plan says.
        ends: Take the final states, pass their gradients, and take those of the initial ones.
        absent: Arguments that are null. Without "checkpoints" no backward runs.
        one_state: All neurons begin with the first one's states (stride 0).
        sharing: Further input -> inner, count: neuron m reads number m / inner % count of a step.
    """
    kernels = host_kernels(neuron, dtype)
    cuda, plan, memory = kernels.cuda, kernels.cuda.plan, Memory(dtype, shift)
    steps, *extent = a.x_seq[0].shape
    neurons, sample = int(np.prod(extent)), int(np.prod(extent[1:]))
    sizes = {"time_steps": steps, "neurons": neurons, "sample": sample}
    sizes |= {"channels": extent[1], "inner": int(np.prod(extent[2:]))}
    if plan.finest == "layer":
        sizes |= {"sample": 1, "channels": 1, "inner": neurons}
    stride = 0 if repeated else neurons
    values: dict[str, Any] = dict(sizes)
    for s, x in zip(neuron.inputs, a.x_seq, strict=True):
        if s.name in sharing:
            inner, count = sharing[s.name]
            values |= {f"{s.name}_inner": inner, f"{s.name}_count": count}
            x, stride = distinct(x, inner, count), count
        values |= {f"{s.name}_seq": memory.sequence(x), f"{s.name}_stride": stride}
    for name, state in a.state.items():
        starts = state.reshape(-1)[:1] if one_state else state
        values |= {f"{name}_init": memory.numbers(starts), f"{name}_init_stride": 1 - one_state}
    values |= {name: memory.numbers(p) for name, p in a.params.items()}
    flat = (steps, *extent)
    outputs = {o: memory.empty(flat, memory.io) for o in plan.outputs}
    finals = {s: memory.empty(tuple(extent), memory.real) for s in plan.states}
    counted = {q: memory.empty((1,), np.dtype("f8")) for q in plan.counts}
    for total in counted.values():
        total[...] = 0  # the launcher's memset
    checkpoints = memory.empty(
        (kernels.library.host_checkpoints(ctypes.c_int64(steps), ctypes.c_int64(neurons)),),
        memory.real,
    )
    args = struct(
        plan.forward_fields,
        _but(
            absent,
            values
            | {"checkpoints": checkpoints}
            | {f"{o}_seq": t for o, t in outputs.items()}
            | ({f"{s}_final": t for s, t in finals.items()} if ends else {})
            | {f"{q}_sum": t for q, t in counted.items()},
        ),
    )
    workspace = memory.empty((0,), np.dtype("u1"), True)
    for launch in cuda.launches.forward_launches(neurons, sizes["sample"]):
        kernels.launch(_on_grid(launch, grid), args, workspace)
    memory.check()
    counts = {q: t.copy() for q, t in counted.items()}
    made = {o: decoded(t, dtype) for o, t in outputs.items()}
    states = {**(finals if ends else {}), **counts}
    if "checkpoints" in absent:
        return Results(made, states, {})

    grads: dict[str, np.ndarray] = {}
    stride = 0 if repeated else neurons
    for o, g in zip(plan.outputs, a.grad_out, strict=True):
        values |= {f"grad_{o}_seq": memory.sequence(g), f"grad_{o}_stride": stride}
    for x in plan.inputs:
        grads[x] = values[f"grad_{x}_seq"] = memory.empty(flat, memory.io)
    if ends:
        for s in plan.states:
            values[f"grad_{s}_final"] = memory.numbers(a.grad_state[s])
            grads[s] = values[f"grad_{s}_init"] = memory.empty(tuple(extent), memory.real)
    for p in plan.learnable:
        grads[p.name] = memory.empty(a.params[p.name].shape, memory.real)
        values[f"grad_{p.name}"] = grads[p.name]
    args = struct(plan.backward_fields, _but(absent, values | {"checkpoints": checkpoints}))
    numbers = kernels.library.host_numbers(
        *(ctypes.c_int64(k) for k in (steps, neurons, sizes["sample"]))
    )
    workspace = memory.empty((numbers,), memory.real, True)
    for launch in cuda.launches.backward_launches(neurons, sizes["sample"], sizes["channels"]):
        kernels.launch(_on_grid(launch, grid), args, workspace)
    memory.check()
    found = {n: decoded(g, dtype) if n in plan.inputs else g for n, g in grads.items()}
    return Results(made, states, found)


def _but(absent: Collection[str], values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in absent}


def _on_grid(launch: Launch, grid: int | None) -> Launch:
    large = launch.kernel.endswith(("forward_kernel", "backward_kernel"))
    return launch._replace(grid=grid) if grid and large else launch
