"""CUDA backend: device code for NVIDIA GPUs, fused over time, and a host launcher in C++.

It writes six files: `<name>_step.h`, the arithmetic of one neuron and one time step, that of C;
`<name>_layout.h`, arguments and memory layout; `<name>.cu`, the kernels, for nvcc or NVRTC;
`<name>_launch.h` and `<name>_launch.cpp`, the C interface; `example.cpp`, a caller. Python launches
the kernels by `plan.py`.
"""

from __future__ import annotations

import textwrap

from lnm_codegen.backends.base import Model, Source, pass_files
from lnm_codegen.backends.c.backend import init_numbers, number_of, settings, step_view
from lnm_codegen.backends.c.expr import c_type, cuda_meaning
from lnm_codegen.backends.cuda.kernels import SUM_THREADS, CudaPlan, kernels_source
from lnm_codegen.backends.loops import ABI, conditions
from lnm_codegen.backends.names import c_scopes, marked, renamed, require_no_collision
from lnm_codegen.backends.plan import HEAD, SIZES, Field, plan_of, values_text
from lnm_codegen.backends.render import render, render_files
from lnm_codegen.ir.declarations import Param

FLAGS = ("-std=c++17", "-fmad=false", "-ftz=false", "-prec-div=true", "-prec-sqrt=true")
"""Flags of nvcc and NVRTC under which the kernels compute what the interpreter computes."""


class Cuda:
    """The NVIDIA GPU backend."""

    def emit(self, model: Model) -> Source:
        """Return step, layout, kernels, launcher and example.

        Raises:
            UnsupportedError: Two names collide in the generated code, or CUDA or C++ reserves one.
        """
        files = _files(CudaPlan(plan_of(model)))
        scopes = c_scopes(_files(CudaPlan(plan_of(renamed(model, marked)))))
        require_no_collision(f"cuda: {model.name}", scopes, cuda_meaning)
        files |= pass_files(self, model, frozenset({"example.cpp"}))
        return Source(files, f"{model.name}.cu")


def _files(cuda: CudaPlan) -> dict[str, str]:
    """Return every file, in the order in which they are best read."""
    name = cuda.name
    interface = render_files(
        {
            f"{name}_layout.h": "cuda/layout.h.j2",
            f"{name}_launch.h": "cuda/launch.h.j2",
            f"{name}_launch.cpp": "cuda/launch.cpp.j2",
        },
        _interface_view(cuda),
    )
    step = {f"{name}_step.h": render("c/step.h.j2", step_view(cuda.plan))}
    layout = {f"{name}_layout.h": interface.pop(f"{name}_layout.h")}
    kernels = {f"{name}.cu": kernels_source(cuda)}
    return step | layout | kernels | interface | {"example.cpp": example_source(cuda)}


_IO_TEXTS = {
    "float32": "float",
    "float64": "double",
    "bfloat16": "bfloat16, as the bits in a uint16_t",
    "float16": "float16, as the bits in a uint16_t",
}


def _interface_view(cuda: CudaPlan) -> dict[str, object]:
    plan, model = cuda.plan, cuda.plan.model
    saved = f"{model.name}_checkpoint_count(a->time_steps, a->neurons)"
    return dict(
        **cuda.constants,
        upper=model.name.upper(),
        abi=ABI,
        equations=model.definition,
        io_text=_IO_TEXTS[model.dtype],
        real=c_type(model.real),
        granularity_text=plan.granularity_text,
        initial_lines=textwrap.wrap(plan.initial_text, 96),
        head=", ".join(HEAD),
        sizes=", ".join(SIZES),
        forward_fields=tuple(_declared(f, model) for f in plan.forward_fields),
        backward_fields=tuple(_declared(f, model) for f in plan.backward_fields),
        state_count=len(plan.states),
        layer_term_count=len(cuda.layer_terms),
        row_term_count=len(cuda.row_terms),
        counts=plan.counts,
        forward_lanes=cuda.forward_lanes,
        backward_lanes=cuda.backward_lanes,
        forward_bytes=cuda.forward_lanes * cuda.io_bytes,
        backward_bytes=cuda.backward_lanes * cuda.io_bytes,
        **conditions(plan, saved),
        reduction_grid=values_text(
            plan.finest,
            "a->channels",
            f"std::max(a->channels, (a->sample + {SUM_THREADS - 1}) / {SUM_THREADS})",
        ),
    )


def _declared(field: Field, model: Model) -> str:
    """Return the declaration of a field, with a comment."""
    declaration = field.declaration(c_type(model.dtype), c_type(model.real))
    return f"{declaration};" + (f" // {field.comment}" if field.comment else "")


# Example caller of the CUDA backend: a C++ program that runs forward and backward once.


_NUMBERS = {
    "float32": ("float", "", "float(number)"),
    "float64": ("double", "", "number"),
    "bfloat16": ("__nv_bfloat16", "cuda_bf16.h", "__bfloat162float(number)"),
    "float16": ("__half", "cuda_fp16.h", "__half2float(number)"),
}


def example_source(cuda: CudaPlan) -> str:
    """Return `example.cpp`."""
    plan, model = cuda.plan, cuda.plan.model
    real = c_type(model.real)
    number, header, value = _NUMBERS[model.dtype]
    sequence = "kTimeSteps * kNeurons"
    declarations = [
        *(f"Array<number> {x}_seq(ramp<number>({sequence}));" for x in model.inputs),
        *(f"Array<number> grad_{x}_seq({sequence});" for x in model.inputs),
        *(f"Array<number> {o}_seq({sequence});" for o in model.outputs),
        *(f"Array<number> grad_{o}_seq(ones<number>({sequence}));" for o in model.outputs),
        *(
            f"Array<{real}> {s.name}_init(std::vector<{real}>{{{number_of(s.init, model.real)}}});"
            for s in model.states
        ),
        *(line for p in model.params for line in _parameter(p, model.real)),
        f"Array<{real}> checkpoints({model.name}_checkpoints(kTimeSteps, kNeurons));",
    ]
    sequence_bits, data = "{0} = {0}.bits()", "{0} = {0}.data"
    shared, backward = settings(plan, sequence_bits, data, "{0} = {1}.data", "kNeurons")
    prints = [
        *(f'print_sum("{o}", {o}_seq);' for o in model.outputs),
        *(f'print_sum("grad_{x}", grad_{x}_seq);' for x in model.inputs),
        *(f'print_all("grad_{p.name}", grad_{p.name});' for p in plan.learnable),
    ]
    view = dict(
        family=model.family,
        name=model.name,
        upper=model.name.upper(),
        number=number,
        header=header,
        number_value=value,
        halves=bool(header),
        flags="-arch=sm_80 -O3 -std=c++17 -fmad=false",
        declarations=declarations,
        shared_settings=[data.format("checkpoints"), *shared],
        forward_settings=tuple(sequence_bits.format(f"{o}_seq") for o in model.outputs),
        backward_settings=backward,
        prints=prints,
        has_rows=any(p.per != "layer" for p in model.params),
        has_gradients=bool(plan.learnable),
    )
    return render("cuda/example.cpp.j2", view)


def _parameter(p: Param, dtype: str) -> tuple[str, ...]:
    real, rows = c_type(dtype), values_text(p.per, "kChannels", "kSample")
    numbers = f"std::vector<{real}>{init_numbers(p, dtype)}"
    value = numbers if p.per == "layer" else f"repeated({numbers}, {rows})"
    count = rows if p.size is None else f"{rows} * {p.size}"
    grad = (f"Array<{real}> grad_{p.name}({count});",) if p.learnable else ()
    return (f"Array<{real}> {p.name}_values({value});", *grad)
