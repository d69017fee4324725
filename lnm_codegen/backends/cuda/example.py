"""The example caller of the CUDA backend: a C++ program that runs forward and backward once."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.c.expr import CDialect, literal
from lnm_codegen.backends.cuda.plan import CudaPlan
from lnm_codegen.backends.render import render
from lnm_codegen.ir.declarations import Param

_ROWS = {"layer": "1", "channel": "kChannels", "neuron": "kSample"}
_NUMBERS = {
    "float32": ("float", "", "float(number)"),
    "float64": ("double", "", "number"),
    "bfloat16": ("__nv_bfloat16", "cuda_bf16.h", "__bfloat162float(number)"),
    "float16": ("__half", "cuda_fp16.h", "__half2float(number)"),
}


@dataclass(frozen=True, slots=True)
class _View:
    family: str
    name: str
    real: str
    number: str
    header: str
    number_value: str
    halves: bool
    flags: str
    declarations: tuple[str, ...]
    shared_settings: tuple[str, ...]
    forward_settings: tuple[str, ...]
    backward_settings: tuple[str, ...]
    prints: tuple[str, ...]


def example_source(cuda: CudaPlan) -> str:
    """Return `example.cpp`."""
    plan = cuda.plan
    model = plan.model
    real = CDialect(model.real).real
    number, header, value = _NUMBERS[model.dtype]
    sequence = "kTimeSteps * kNeurons"
    declarations = [
        *(f"Array<number> {x}_seq(ramp<number>({sequence}));" for x in model.inputs),
        *(f"Array<number> grad_{x}_seq({sequence});" for x in model.inputs),
        *(f"Array<number> {o}_seq({sequence});" for o in model.outputs),
        *(f"Array<number> grad_{o}_seq(ones<number>({sequence}));" for o in model.outputs),
        *(
            f"Array<{real}> {s.name}_init(std::vector<{real}>{{{_number(s.init, real)}}});"
            for s in model.states
        ),
        *(line for p in model.params for line in _parameter(p, real)),
        f"Array<{real}> checkpoints({model.name}_checkpoints(kTimeSteps, kNeurons));",
    ]
    shared = ["checkpoints = checkpoints.data"]
    for x in model.inputs:
        shared += [f"{x}_seq = {x}_seq.bits()", f"{x}_stride = kNeurons"]
    shared += [f"{s}_init = {s}_init.data" for s in plan.states]
    shared += [f"{p.name} = {p.name}.data" for p in model.params]
    backward = []
    for o in model.outputs:
        backward += [f"grad_{o}_seq = grad_{o}_seq.bits()", f"grad_{o}_stride = kNeurons"]
    backward += [f"grad_{x}_seq = grad_{x}_seq.bits()" for x in model.inputs]
    backward += [f"grad_{p.name} = grad_{p.name}.data" for p in plan.learnable]
    prints = [
        *(f'print_sum("{o}", {o}_seq);' for o in model.outputs),
        *(f'print_sum("grad_{x}", grad_{x}_seq);' for x in model.inputs),
        *(f'print_all("grad_{p.name}", grad_{p.name});' for p in plan.learnable),
    ]
    return render(
        "cuda/example.cpp.j2",
        _View(
            family=model.family,
            name=model.name,
            real=real,
            number=number,
            header=header,
            number_value=value,
            halves=bool(header),
            flags="-O3 -std=c++17 -fmad=false",
            declarations=tuple(declarations),
            shared_settings=tuple(shared),
            forward_settings=tuple(f"{o}_seq = {o}_seq.bits()" for o in model.outputs),
            backward_settings=tuple(backward),
            prints=tuple(prints),
        ),
    )


def _parameter(p: Param, real: str) -> tuple[str, ...]:
    values = p.init if isinstance(p.init, tuple) else (p.init,) * (p.size or 1)
    numbers = f"{{{', '.join(_number(v, real) for v in values)}}}"
    rows = _ROWS[p.per]
    count = rows if p.size is None else f"{rows} * {p.size}"
    numbers = f"std::vector<{real}>{numbers}"
    value = numbers if p.per == "layer" else f"repeated({numbers}, {rows})"
    grad = (f"Array<{real}> grad_{p.name}({count});",) if p.learnable else ()
    return (f"Array<{real}> {p.name}({value});", *grad)


def _number(value: object, real: str) -> str:
    dtype = "float64" if real == "double" else "float32"
    return literal(value if isinstance(value, float) else 0.0, dtype)
