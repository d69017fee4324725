"""Launches of generated CUDA kernels on arrays: NVRTC or nvcc compiles, a `Machine` executes.

Inside `compiled`, `run_host` of `tests/backends/cuda/host.py` runs PTX in place of C++.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from unittest import mock

import numpy as np

from lnm_codegen.backends.cuda.backend import FLAGS, Cuda
from lnm_codegen.backends.cuda.launches import Launch
from lnm_codegen.backends.plan import FAR, Plan
from lnm_codegen.files import write_whole
from lnm_codegen.language.neuron import Neuron
from tests.backends.cuda.host import HostKernels, host_kernels, struct
from tests.backends.cuda.host import Memory as Arrays
from tests.ptx.machine import Machine
from tests.ptx.memory import Memory
from tests.ptx.program import Kernel, parse
from tests.ptx.triton_launch import cache_folder
from tests.strategies import rows_of


@cache
def compiler() -> str | None:
    """Return the compiler of PTX that is here and its version: NVRTC, nvcc, or None."""
    try:
        from cuda.bindings import nvrtc

        _, major, minor = nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError):
        if not shutil.which("nvcc"):
            return None
        said = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True)
        return f"nvcc {said.stdout.splitlines()[-1]}"
    return f"nvrtc {major}.{minor}"


MISSING = "PTX of CUDA needs NVRTC (cuda-bindings and nvidia-cuda-nvrtc) or nvcc on PATH"


@lru_cache(maxsize=16)  # all that a session runs would be gigabytes
def kernels(model: Plan, target: str, far: int | None = None) -> dict[str, Kernel]:
    """Return the kernels of a model, compiled for a target.

    Args:
        model: The model.
        target: A name such as "sm_90".
        far: Steps beyond which saved states have two levels, if not what the layout says.
    """
    source = Cuda().emit(model)
    options = [*FLAGS, f"--gpu-architecture={target}"]
    options += [f"-D{model.name.upper()}_FAR={far}"] if far else []
    found = compiler()
    assert found, MISSING
    files = {n: t for n, t in source.files.items() if n.endswith((".h", ".cu"))}
    key = hashlib.sha256(repr((files, options, found)).encode()).hexdigest()
    path = cache_folder() / f"{model.name}-{key[:32]}.ptx"
    if not path.exists():
        text = (_by_nvrtc if found.startswith("nvrtc") else _by_nvcc)(files, source.entry, options)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
    return parse(path.read_text(encoding="utf-8"))


def _by_nvrtc(files: dict[str, str], entry: str, options: list[str]) -> str:
    from cuda.bindings import nvrtc

    headers = {n: t for n, t in files.items() if n != entry}
    _, program = nvrtc.nvrtcCreateProgram(
        files[entry].encode(), entry.encode(), len(headers),
        [t.encode() for t in headers.values()], [n.encode() for n in headers],
    )  # fmt: skip
    (failed,) = nvrtc.nvrtcCompileProgram(program, len(options), [o.encode() for o in options])
    size = nvrtc.nvrtcGetProgramLogSize(program)[1]
    log = bytes(size)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert not int(failed), log.decode()
    size = nvrtc.nvrtcGetPTXSize(program)[1]
    text = bytes(size)
    nvrtc.nvrtcGetPTX(program, text)
    nvrtc.nvrtcDestroyProgram(program)
    return text.rstrip(b"\0").decode()


def _by_nvcc(files: dict[str, str], entry: str, options: list[str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        command = ["nvcc", *options, "-ptx", "-o", "out.ptx", entry]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr
        return Path(folder, "out.ptx").read_text(encoding="utf-8")


@contextmanager
def compiled(machine: Machine, target: str = "sm_90") -> Iterator[None]:
    """Run the kernels of `run_host` on a machine, from PTX for a target."""

    def launch(
        self: HostKernels, launch: Launch, arguments: ctypes.Structure, workspace: np.ndarray
    ) -> None:
        far = int(self.counter("far").value)
        ptx = kernels(self.model, target, None if far == FAR else far)[launch.kernel]
        memory = Memory()
        words = type(arguments).from_buffer_copy(arguments)
        for name, array in arguments.arrays.items():
            setattr(words, name, memory.add(array))
        params = bytes(words) + memory.add(workspace).to_bytes(8, "little")
        machine.launch(
            ptx, launch.grid, launch.block, launch.shared, params[: ptx.param_bytes], memory
        )

    with mock.patch.object(HostKernels, "launch", launch):
        yield


def reduced(
    neuron: Neuron, dtype: str, shape: tuple[int, ...], grid: int | None = None
) -> dict[str, np.ndarray]:
    """Return the gradients that the second launch of a backward alone makes of drawn numbers.

    It reads what the first launch would have written for a shape (T, N, C, *), which may be as
    large as no test runs: every path of the sums is reached. With a grid of a few blocks, a block
    has several channels.
    """
    kernels, memory = host_kernels(neuron, dtype), Arrays(dtype)
    cuda, (steps, _, channels, *inner) = kernels.cuda, shape
    sizes = {"time_steps": steps, "neurons": math.prod(shape[1:]), "sample": math.prod(shape[2:])}
    sizes |= {"channels": channels, "inner": math.prod(inner)}
    if not cuda.plan.by_rows:
        sizes |= {"sample": 1, "channels": 1, "inner": sizes["neurons"]}
    rng = np.random.default_rng(math.prod(shape))
    grads, values = {}, dict(sizes)
    for p in neuron.params:
        size = rows_of(p.per, shape) + (() if p.size is None else (p.size,))
        values[p.name] = memory.numbers(np.broadcast_to(p.init, size) + rng.uniform(0, 0.1, size))
        if p.learnable:
            values[f"grad_{p.name}"] = grads[p.name] = memory.empty(size, memory.real)
    count = (
        cuda.launches.backward_workspace(steps, sizes["neurons"], sizes["sample"])
        // cuda.real_bytes
    )
    workspace = memory.empty((count,), memory.real, True)
    workspace[:] = rng.standard_normal(count)
    launches = cuda.launches.backward_launches(sizes["neurons"], sizes["sample"], sizes["channels"])
    second = launches[1]._replace(grid=grid) if grid else launches[1]
    kernels.launch(second, struct(cuda.plan.backward_fields, values), workspace)
    memory.check()
    return grads
