"""Example caller of the CUDA backend: a C++ program that runs forward and backward once."""

from __future__ import annotations

from lnm_codegen.backends.c.example import init_numbers, number_of, settings
from lnm_codegen.backends.c.expr import c_type
from lnm_codegen.backends.cuda.plan import CudaPlan
from lnm_codegen.backends.plan import values_text
from lnm_codegen.backends.render import render
from lnm_codegen.ir.declarations import Param

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
