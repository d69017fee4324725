"""What each target adds to a package: loaders of its kernels, and words for the README."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lnm_codegen.backends.cuda.backend import FLAGS as CUDA_FLAGS
from lnm_codegen.backends.cuda.plan import MAX_GRID, SHARED, SUM_THREADS, TILE, CudaPlan
from lnm_codegen.backends.package.view import PackageView, TargetWords
from lnm_codegen.backends.plan import FAR, Plan
from lnm_codegen.backends.render import render
from lnm_codegen.backends.triton.kernels import scaled

Words = tuple[str, ...]

C_FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-fPIC", "-shared", "-fopenmp",
    "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip
"""Flags of the C++ compiler, as in `lnm_codegen.nn.load.c`."""
_TORCH, _TRITON = "torch>=2.6", "triton>=3.3"


class Target(TargetWords, Protocol):
    """A backend that packages are made for."""

    def renamed(self, path: str) -> str:
        """Return what a file of the backend is called in the package."""
        ...

    def files(self, plan: Plan, view: PackageView) -> dict[str, str]:
        """Return the files that only this target has."""
        ...


@dataclass(frozen=True, slots=True)
class _LoaderView:
    family: str
    name: str
    module: str
    distribution: str
    sources: str = ""
    headers: str = ""
    flags: Words = ()


def _loader_view(view: PackageView, **words: object) -> _LoaderView:
    return _LoaderView(view.family, view.name, view.module, view.distribution, **words)  # type: ignore[arg-type]


def _flag_lines(flags: Words) -> Words:
    half = -(-len(flags) // 2)
    rows = (flags[:half], flags[half:])
    return tuple(" ".join(f'"{flag}",' for flag in row) for row in rows)


def _names(*paths: str) -> str:
    return ", ".join(f'"{path}"' for path in paths)


@dataclass(frozen=True, slots=True)
class CTarget:
    """C++ for CPUs, compiled at the first call and called through ctypes."""

    summary = "C++ kernels for CPUs"
    requirements = (
        "PyTorch, and a C++17 compiler with OpenMP: `$CXX`, else g++, clang++ or c++. The kernels "
        "are compiled at the first call, for the CPU at hand, into `$XDG_CACHE_HOME` (`~/.cache`)."
    )
    test_text = "It skips where there is no compiler."
    dependencies = (_TORCH,)
    data = ("*.cpp", "*.h", "*.c")
    on_gpu = False

    def renamed(self, path: str) -> str:
        """Return the path itself."""
        return path

    def files(self, plan: Plan, view: PackageView) -> dict[str, str]:
        """Return the loader."""
        name = view.name
        loader = _loader_view(
            view,
            sources=_names(f"{name}.cpp", f"{name}.h", f"{name}_step.h"),
            flags=_flag_lines(C_FLAGS),
        )
        templates = {"kernels": "c_kernels", "build": "c_build", "cache": "cache"}
        return {f"{n}.py": render(f"package/{t}.py.j2", loader) for n, t in templates.items()}


@dataclass(frozen=True, slots=True)
class TritonTarget:
    """The Triton module."""

    summary = "Triton kernels for NVIDIA and AMD GPUs"
    requirements = (
        "PyTorch and Triton, and a GPU; or `TRITON_INTERPRET=1` in the environment, which runs "
        "the kernels in Triton's interpreter on a CPU: slowly, to try and to test them."
    )
    test_text = "It skips where there is no GPU, unless `TRITON_INTERPRET=1` is set."
    dependencies = (_TORCH, _TRITON)
    data: Words = ()
    on_gpu = True

    def renamed(self, path: str) -> str:
        """Return one name for every neuron: its own may be a keyword, and is the function's."""
        return "generated.py"

    def files(self, plan: Plan, view: PackageView) -> dict[str, str]:
        """Return what hands the module's kernels on."""
        return {"kernels.py": render("package/triton_kernels.py.j2", _loader_view(view))}


@dataclass(frozen=True, slots=True)
class _LaunchesView:
    family: str
    name: str
    tile: int
    chunk: int
    far: int
    sum_threads: int
    max_grid: int
    shared: int
    by_rows: bool
    has_sums: bool
    forward_threads: int
    forward_shared: int
    backward_threads: int
    backward_shared: int
    real_bytes: int
    layer_sums: str
    row_sums: str
    state_rows: str
    groups: str


def launches_text(plan: Plan) -> str:
    """Return the formulas of `cuda_plan.py` for one model, as a module of their own."""
    cuda = CudaPlan(plan)
    view = _LaunchesView(
        family=plan.model.family,
        name=plan.model.name,
        tile=TILE,
        chunk=cuda.chunk,
        far=FAR,
        sum_threads=SUM_THREADS,
        max_grid=MAX_GRID,
        shared=SHARED,
        by_rows=cuda.by_rows,
        has_sums=cuda.sums,
        forward_threads=cuda.forward_threads,
        forward_shared=cuda.forward_shared,
        backward_threads=cuda.backward_threads,
        backward_shared=cuda.backward_shared,
        real_bytes=cuda.real_bytes,
        layer_sums=scaled(len(cuda.layer_terms), "tiles"),
        row_sums=scaled(len(cuda.row_terms), "_batch_tiles(neurons, sample)") + " * sample",
        state_rows=scaled(len(plan.states), "neurons"),
        groups={
            "layer": "1",
            "channel": "channels",
            "neuron": "max(channels, -(-sample // SUM_THREADS))",
        }[plan.finest],
    )
    return render("package/cuda/launches.py.j2", view)


@dataclass(frozen=True, slots=True)
class CudaTarget:
    """CUDA C, compiled at the first call and launched through the driver."""

    summary = "CUDA C kernels for NVIDIA GPUs"
    requirements = (
        "PyTorch, an NVIDIA GPU (compute capability 8.0 or later) with its driver, and a compiler: "
        "NVRTC (`pip install cuda-bindings nvidia-cuda-nvrtc`, of the CUDA that the driver knows) "
        "or nvcc on PATH. The kernels are compiled at the first call, for the GPU at hand, into "
        "`$XDG_CACHE_HOME` (`~/.cache`)."
    )
    test_text = "It skips where there is no GPU or neither compiler."
    dependencies = (_TORCH,)
    data = ("*.cu", "*.cpp", "*.h")
    on_gpu = True

    def renamed(self, path: str) -> str:
        """Return the path itself."""
        return path

    def files(self, plan: Plan, view: PackageView) -> dict[str, str]:
        """Return the loader, and sizes and launches."""
        name = view.name
        loader = _loader_view(
            view,
            headers=_names(f"{name}_layout.h", f"{name}_step.h"),
            flags=_flag_lines(CUDA_FLAGS),
        )
        templates = {"kernels": "cuda/kernels", "build": "cuda/build", "cache": "cache"}
        loaders = {f"{n}.py": render(f"package/{t}.py.j2", loader) for n, t in templates.items()}
        return loaders | {"launches.py": launches_text(plan)}


TARGETS: dict[str, Target] = {"c": CTarget(), "cuda": CudaTarget(), "triton": TritonTarget()}
"""Every backend that packages are made for."""
