"""Targets of packages: the loaders of their kernels, and their words in the README."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lnm_codegen.backends.arguments import ABI
from lnm_codegen.backends.c.backend import FLAGS as C_FLAGS
from lnm_codegen.backends.cuda.backend import FLAGS as CUDA_FLAGS
from lnm_codegen.backends.cuda.plan import CudaPlan
from lnm_codegen.backends.plan import Plan, values_text
from lnm_codegen.backends.python import function_name
from lnm_codegen.backends.render import render, render_files
from lnm_codegen.backends.triton.kernels import scaled

Words = tuple[str, ...]

_TORCH, _TRITON = "torch>=2.6", "triton>=3.3"


class Target(NamedTuple):
    """A backend that packages are made for.

    Attributes:
        summary: The kernels, in a few words.
        requirements: Requirements of a machine, as sentences.
        test_text: Conditions under which the test is skipped, as a sentence.
        dependencies: Distributions that are installed with the package.
        data: Patterns of the files that are not Python.
        on_gpu: True if tensors are on a GPU.
        files: A plan to the files of this target.
        module: Name of the backend's file in the package; "" keeps the names.
        name: The backend, the end of the package's name: packages of one neuron on several
            backends can be installed together.
    """

    summary: str
    requirements: str
    test_text: str
    dependencies: Words
    data: Words
    on_gpu: bool
    files: Callable[[Plan], dict[str, str]]
    name: str
    module: str = ""


def module_name(name: str, backend: str) -> str:
    """Return the name of the module that is imported, for a neuron's name."""
    return f"{function_name(name)}_{backend}"


def distribution(name: str, backend: str) -> str:
    """Return the name of the distribution."""
    return f"{function_name(name)}-neuron-{backend}"


def _loaders(
    backend: str, templates: dict[str, str], plan: Plan, **words: object
) -> dict[str, str]:
    name = plan.model.name
    shared = dict(
        family=plan.model.family,
        name=name,
        module=module_name(name, backend),
        distribution=distribution(name, backend),
    )
    return render_files({f: f"package/{t}" for f, t in templates.items()}, shared | words)


def _flag_lines(flags: Words) -> Words:
    half = -(-len(flags) // 2)
    rows = (flags[:half], flags[half:])
    return tuple(" ".join(f'"{flag}",' for flag in row) for row in rows)


def _c_files(plan: Plan) -> dict[str, str]:
    name = plan.model.name
    return _loaders(
        "c",
        {"kernels.py": "c_kernels.py.j2", "build.py": "c_build.py.j2", "cache.py": "cache.py.j2"},
        plan,
        sources=f'"{name}.cpp", "{name}.h", "{name}_step.h"',
        flags=_flag_lines(C_FLAGS),
        abi=ABI,
    )


def _triton_files(plan: Plan) -> dict[str, str]:
    view = dict(family=plan.model.family)
    return {"kernels.py": render("package/triton_kernels.py.j2", view)}


def _cuda_files(plan: Plan) -> dict[str, str]:
    name = plan.model.name
    templates = {"kernels.py": "cuda/kernels.py.j2", "build.py": "cuda/build.py.j2"}
    loaders = _loaders(
        "cuda",
        templates | {"cache.py": "cache.py.j2"},
        plan,
        headers=f'"{name}_layout.h", "{name}_step.h"',
        flags=_flag_lines(CUDA_FLAGS),
        abi=ABI,
    )
    return loaders | {"launches.py": launches_text(plan)}


def launches_text(plan: Plan) -> str:
    """Return the formulas of `cuda/plan.py` for one model, as a module."""
    cuda = CudaPlan(plan)
    view = dict(
        **cuda.constants,
        real_bytes=cuda.real_bytes,
        layer_sums=scaled(len(cuda.layer_terms), "tiles"),
        row_sums=scaled(len(cuda.row_terms), "_batch_tiles(neurons, sample)") + " * sample",
        state_rows=scaled(len(plan.states), "neurons"),
        groups=values_text(plan.finest, "channels", "max(channels, -(-sample // SUM_THREADS))"),
    )
    return render("package/cuda/launches.py.j2", view)


TARGETS = {
    "c": Target(
        summary="C++ kernels for CPUs",
        requirements="PyTorch, and a C++17 compiler with OpenMP: `$CXX`, else g++, clang++ or c++."
        " The first call compiles the kernels for the CPU of the machine, into `$XDG_CACHE_HOME`"
        " (`~/.cache`).",
        test_text="It is skipped without a compiler.",
        dependencies=(_TORCH,),
        data=("*.cpp", "*.h", "*.c"),
        on_gpu=False,
        files=_c_files,
        name="c",
    ),
    "cuda": Target(
        summary="CUDA C kernels for NVIDIA GPUs",
        requirements="PyTorch, an NVIDIA GPU (compute capability 8.0 or later) with its driver, and"
        " a compiler: NVRTC (`pip install cuda-bindings nvidia-cuda-nvrtc`, of a CUDA version that"
        " the driver supports) or nvcc on PATH. The first call compiles the kernels for the GPU of"
        " the machine, into `$XDG_CACHE_HOME` (`~/.cache`).",
        test_text="It is skipped without a GPU or a compiler.",
        dependencies=(_TORCH,),
        data=("*.cu", "*.cpp", "*.h"),
        on_gpu=True,
        files=_cuda_files,
        name="cuda",
    ),
    "triton": Target(
        summary="Triton kernels for NVIDIA GPUs",
        requirements="PyTorch and Triton, and a GPU. With `TRITON_INTERPRET=1` in the environment,"
        " Triton's interpreter runs the kernels on a CPU, slowly, for trials and tests.",
        test_text="It is skipped without a GPU, unless `TRITON_INTERPRET=1` is set.",
        dependencies=(_TORCH, _TRITON),
        data=(),
        on_gpu=True,
        files=_triton_files,
        name="triton",
        module="generated.py",  # the neuron's own name may be a keyword, and is the function's
    ),
}
"""Every backend that packages are made for."""
