"""`cuda`: device code for NVIDIA GPUs, fused over time, and a host launcher behind a C ABI.

Six files: `<name>_step.h`, the arithmetic of one neuron and one step, which is the C backend's;
`<name>_layout.h`, arguments and places in memory; `<name>.cu`, the kernels, for nvcc or NVRTC;
`<name>_launch.h` and `<name>_launch.cpp`, the ABI; `example.cpp`, a caller. Python launches the
kernels itself, by `cuda_plan.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.base import Model, Source
from lnm_codegen.backends.c.backend import step_view
from lnm_codegen.backends.c.expr import c_type
from lnm_codegen.backends.cuda.example import example_source
from lnm_codegen.backends.cuda.loops import kernel_view
from lnm_codegen.backends.cuda.plan import MAX_GRID, SHARED, SUM_THREADS, CudaPlan
from lnm_codegen.backends.plan import FAR, SIZES, Field, plan_of
from lnm_codegen.backends.render import render

FLAGS = ("-std=c++17", "-fmad=false", "-ftz=false", "-prec-div=true", "-prec-sqrt=true")
"""Flags of nvcc and of NVRTC under which the kernels mean what the interpreter says."""


@dataclass(frozen=True, slots=True)
class _InterfaceView:
    family: str
    name: str
    upper: str
    equations: tuple[str, ...]
    io_text: str
    real: str
    granularity_text: str
    sizes: str
    forward_fields: tuple[str, ...]
    backward_fields: tuple[str, ...]
    chunk: int
    far: int
    state_count: int
    layer_term_count: int
    row_term_count: int
    by_rows: bool
    counts: tuple[str, ...]
    has_sums: bool
    forward_lanes: int
    backward_lanes: int
    forward_bytes: int
    backward_bytes: int
    forward_threads: int
    backward_threads: int
    forward_shared: int
    backward_shared: int
    shared: int
    sum_threads: int
    max_grid: int
    sums_grid: str


class Cuda:
    """The NVIDIA GPU backend."""

    name = "cuda"

    def emit(self, model: Model) -> Source:
        """Return step, layout, kernels, launcher and example.

        Raises:
            UnsupportedError: Two names of the model would meet in the C interface.
        """
        cuda = CudaPlan(plan_of(model))
        name = model.name
        step = step_view(model, cuda.plan)
        interface = _interface_view(cuda)
        files = {
            f"{name}_step.h": render("cuda/step.h.j2", step),
            f"{name}_layout.h": render("cuda/layout.h.j2", interface),
            f"{name}.cu": render("cuda/kernels.cu.j2", kernel_view(cuda)),
            f"{name}_launch.h": render("cuda/launch.h.j2", interface),
            f"{name}_launch.cpp": render("cuda/launch.cpp.j2", interface),
            "example.cpp": example_source(cuda),
        }
        return Source(files, f"{name}.cu")


_IO_TEXTS = {
    "float32": "float",
    "float64": "double",
    "bfloat16": "bfloat16, as the bits in a uint16_t",
    "float16": "float16, as the bits in a uint16_t",
}


def _interface_view(cuda: CudaPlan) -> _InterfaceView:
    plan = cuda.plan
    model = plan.model
    kinds = {"io": c_type(model.dtype), "real": c_type(model.real), "double": "double"}
    return _InterfaceView(
        family=model.family,
        name=model.name,
        upper=model.name.upper(),
        equations=model.equations,
        io_text=_IO_TEXTS[model.dtype],
        real=kinds["real"],
        granularity_text=plan.granularity_text,
        sizes=", ".join(SIZES),
        forward_fields=tuple(_declaration(f, kinds) for f in plan.forward_fields),
        backward_fields=tuple(_declaration(f, kinds) for f in plan.backward_fields),
        chunk=cuda.chunk,
        far=FAR,
        state_count=len(plan.states),
        layer_term_count=len(cuda.layer_terms),
        row_term_count=len(cuda.row_terms),
        by_rows=cuda.by_rows,
        counts=plan.counts,
        has_sums=cuda.sums,
        forward_lanes=cuda.forward_lanes,
        backward_lanes=cuda.backward_lanes,
        forward_bytes=cuda.forward_lanes * cuda.io_bytes,
        backward_bytes=cuda.backward_lanes * cuda.io_bytes,
        forward_threads=cuda.forward_threads,
        backward_threads=cuda.backward_threads,
        forward_shared=cuda.forward_shared,
        backward_shared=cuda.backward_shared,
        shared=SHARED,
        sum_threads=SUM_THREADS,
        max_grid=MAX_GRID,
        sums_grid={
            "layer": "1",
            "channel": "a.channels",
            "neuron": f"std::max(a.channels, (a.sample + {SUM_THREADS - 1}) / {SUM_THREADS})",
        }[plan.finest],
    )


def _declaration(field: Field, kinds: dict[str, str]) -> str:
    """Return a field in C, its note and whether it may be null as a comment."""
    if field.kind == "int64_t":
        text = f"int64_t {field.name};"
    else:
        text = f"{'' if field.written else 'const '}{kinds[field.kind]} *{field.name};"
    null = "null where not wanted" if field.written else "null for zeros"
    notes = [field.note, null if field.nullable else ""]
    note = "; ".join(n for n in notes if n)
    return f"{text} // {note}" if note else text
