"""CUDA backend: device code for NVIDIA GPUs, fused over time, and a host launcher in C++.

It writes six files: `<name>_step.h`, the arithmetic of one neuron and one time step, that of C;
`<name>_layout.h`, arguments and memory layout; `<name>.cu`, the kernels, for nvcc or NVRTC;
`<name>_launch.h` and `<name>_launch.cpp`, the C interface; `example.cpp`, a caller. Python launches
the kernels by `plan.py`.
"""

from __future__ import annotations

import textwrap

from lnm_codegen.backends.base import Source, pass_files
from lnm_codegen.backends.c.backend import init_numbers, number_of, step_view
from lnm_codegen.backends.c.expr import CDialect, c_type, cuda_meaning
from lnm_codegen.backends.cuda.kernels import CudaPlan, kernels_source
from lnm_codegen.backends.cuda.launches import MAX_GRID, SHARED, SUM_THREADS
from lnm_codegen.backends.loops import ABI, conditions
from lnm_codegen.backends.names import Scope, names_of, require_no_collision, scope
from lnm_codegen.backends.plan import FAR, HEAD, SIZES, Plan, values_text
from lnm_codegen.backends.render import render, render_files
from lnm_codegen.ir.declarations import GRANULARITIES

FLAGS = ("-std=c++17", "-fmad=false", "-ftz=false", "-prec-div=true", "-prec-sqrt=true")
"""Flags of nvcc and NVRTC under which the kernels compute what the interpreter computes."""


class Cuda:
    """The NVIDIA GPU backend."""

    def emit(self, plan: Plan) -> Source:
        """Return step, layout, kernels, launcher and example.

        Raises:
            UnsupportedError: Two names collide in the generated code, or CUDA or C++ reserves one.
        """
        files = _files(CudaPlan(plan))
        require_no_collision(f"cuda: {plan.name}", scopes_of(plan), cuda_meaning)
        files |= pass_files(self, plan, frozenset({"example.cpp"}))
        return Source(files, f"{plan.name}.cu")


def scopes_of(plan: Plan) -> list[Scope]:
    """Return the scopes of the templates in which a name of the plan can equal another word."""
    names = names_of(plan)
    called = CDialect(plan.real).called(plan.functions.values())
    return [
        scope(
            names,
            f"DEVICE NEURON_FUNCTION real {called}",
            variable="{}",
            upper="{}_ABI {}_TILE {}_CHUNK {}_FAR {}_SHARED {}_LAYOUT_H {}_LAUNCH_H",
        ),
        scope(names, "real kLaneCount", prepared="{}"),
        scope(names, "DEVICE NEURON_FUNCTION int64_t", param="{}"),
    ]


def _files(cuda: CudaPlan) -> dict[str, str]:
    """Return every file, in the order in which they are best read."""
    plan, name = cuda.plan, cuda.plan.name
    step = {f"{name}_step.h": render("c/step.h.j2", step_view(plan))}
    interface = render_files(
        {
            f"{name}_layout.h": "cuda/layout.h.j2",
            f"{name}_launch.h": "cuda/launch.h.j2",
            f"{name}_launch.cpp": "cuda/launch.cpp.j2",
        },
        _interface_view(cuda),
    )
    layout = {f"{name}_layout.h": interface.pop(f"{name}_layout.h")}
    kernels = {f"{name}.cu": kernels_source(cuda)}
    return step | layout | kernels | interface | {"example.cpp": example_source(plan)}


_IO_TEXTS = {
    "float32": "float",
    "float64": "double",
    "bfloat16": "bfloat16, as the bits in a uint16_t",
    "float16": "float16, as the bits in a uint16_t",
}


def _interface_view(cuda: CudaPlan) -> dict[str, object]:
    plan = cuda.plan
    return dict(
        plan=plan,
        cuda=cuda,
        abi=ABI,
        far=FAR,
        shared=SHARED,
        sum_threads=SUM_THREADS,
        max_grid=MAX_GRID,
        io=c_type(plan.dtype),
        io_text=_IO_TEXTS[plan.dtype],
        real=c_type(plan.real),
        initial_lines=textwrap.wrap(plan.initial_text, 96),
        head=", ".join(HEAD),
        sizes=", ".join(SIZES),
        **conditions(plan, f"{plan.name}_checkpoint_count(a->time_steps, a->neurons)"),
        reduction_grid=values_text(
            plan.finest,
            "a->channels",
            f"std::max(a->channels, (a->sample + {SUM_THREADS - 1}) / {SUM_THREADS})",
        ),
    )


# Example caller of the CUDA backend: a C++ program that runs forward and backward once.


_NUMBERS = {
    "float32": ("float", "", "float(number)"),
    "float64": ("double", "", "number"),
    "bfloat16": ("__nv_bfloat16", "cuda_bf16.h", "__bfloat162float(number)"),
    "float16": ("__half", "cuda_fp16.h", "__half2float(number)"),
}


def example_source(plan: Plan) -> str:
    """Return `example.cpp`."""
    number, header, value = _NUMBERS[plan.dtype]
    view = dict(
        plan=plan,
        number=number,
        header=header,
        number_value=value,
        flags="-arch=sm_80 -O3 -std=c++17 -fmad=false",
        real=c_type(plan.real),
        starts={s.name: number_of(s.init, plan.real) for s in plan.declared_states},
        numbers={p.name: init_numbers(p, plan.real) for p in plan.params},
        values={per: values_text(per, "kChannels", "kSample") for per in GRANULARITIES},
    )
    return render("cuda/example.cpp.j2", view)
