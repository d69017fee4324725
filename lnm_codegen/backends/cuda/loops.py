"""The statements of the CUDA kernels, as text: calls of the step, parameters, stores.

Everything that `kernels.cu.j2` prints is decided here and in `cuda_sums.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.c.expr import c_type
from lnm_codegen.backends.cuda.plan import SUM_THREADS, TILE, CudaPlan
from lnm_codegen.backends.cuda.sums import Job, jobs_of
from lnm_codegen.backends.cuda.text import joined, raw_values
from lnm_codegen.backends.plan import Field, Plan
from lnm_codegen.backends.render import render
from lnm_codegen.ir.nodes import Kernel, Role

"""The type of a sequence's numbers in C: 16-bit ones as their bits."""

_CONVERSIONS = {
    "float32": "cuda/same_type.j2",
    "float64": "cuda/same_type.j2",
    "bfloat16": "cuda/bfloat16.j2",
    "float16": "cuda/float16.j2",
}


@dataclass(frozen=True, slots=True)
class KernelView:
    """The view of `kernels.cu.j2`."""

    family: str
    name: str
    upper: str
    io: str
    tile: int
    chunk: int
    ahead: int
    ahead_backward: int
    forward_threads: int
    forward_lanes: int
    backward_threads: int
    backward_lanes: int
    sum_threads: int
    conversions: str
    by_rows: bool
    by_channels: bool
    reduces: bool
    totals: bool
    sums_tiles: bool
    states: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    counts: tuple[str, ...]
    terms: tuple[str, ...]
    layer_terms: tuple[str, ...]
    row_terms: tuple[str, ...]
    term_count: int
    count_count: int
    layer_places: tuple[int, ...]
    row_places: tuple[int, ...]
    layer_parameters: tuple[str, ...]
    row_parameters: tuple[str, ...]
    prepared: tuple[str, ...]
    forward_locals: str
    forward_call: str
    forward_stores: tuple[str, ...]
    forward_alignment: str
    advance_locals: str
    advance_call: str
    advance_stores: tuple[str, ...]
    rerun_call: str
    rerun_stores: tuple[str, ...]
    backward_locals: str
    backward_call: str
    backward_stores: tuple[str, ...]
    backward_alignment: str
    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class _Nothing:
    """The view of a template without holes."""


def kernel_view(cuda: CudaPlan) -> KernelView:
    """Return the view of the kernels."""
    plan = cuda.plan
    model, states = plan.model, plan.states
    prepared = plan.prepare.result_names(Role.PARAM)
    jobs = jobs_of(cuda)
    return KernelView(
        family=model.family,
        name=model.name,
        upper=model.name.upper(),
        io=c_type(model.dtype),
        tile=TILE,
        chunk=cuda.chunk,
        ahead=cuda.ahead,
        ahead_backward=cuda.ahead_backward,
        forward_threads=cuda.forward_threads,
        forward_lanes=cuda.forward_lanes,
        backward_threads=cuda.backward_threads,
        backward_lanes=cuda.backward_lanes,
        sum_threads=SUM_THREADS,
        conversions=render(_CONVERSIONS[model.dtype], _Nothing()),
        by_rows=cuda.by_rows,
        by_channels=any(p.per == "channel" for p in model.params),
        reduces=bool(plan.counts or cuda.layer_terms) or _calls(jobs, "block_total"),
        totals=_calls(jobs, "block_total"),
        sums_tiles=_calls(jobs, "sum_of("),
        states=states,
        inputs=model.inputs,
        outputs=model.outputs,
        counts=plan.counts,
        terms=plan.terms,
        layer_terms=cuda.layer_terms,
        row_terms=cuda.row_terms,
        term_count=len(plan.terms),
        count_count=len(plan.counts),
        layer_places=tuple(plan.terms.index(q) for q in cuda.layer_terms),
        row_places=tuple(plan.terms.index(q) for q in cuda.row_terms),
        layer_parameters=tuple(q for q in prepared if plan.per[q] == "layer"),
        row_parameters=tuple(q for q in prepared if plan.per[q] != "layer"),
        prepared=_prepared(plan),
        forward_locals=_locals(plan.forward, 20),
        forward_call=_call(plan, plan.forward, "{}_now.at[i]", "{}_at[t]", 20),
        forward_stores=(
            *(f"{o}_out.at[i] = to_io({o}_value);" for o in model.outputs),
            *(f"{s}_now.at[i] = {s}_next_value;" for s in states),
            *(f"count_{q}[i] += {q}_value;" for q in plan.counts),
        ),
        forward_alignment=_alignment(cuda, cuda.forward_lanes, plan.forward_fields),
        advance_locals=_locals(plan.advance),
        advance_call=_call(plan, plan.advance, "{}_at[t].at[i]", "{}_at[t]", 24),
        advance_stores=tuple(f"{s}_at[t + 1].at[i] = {s}_next_value;" for s in states),
        rerun_call=_call(plan, plan.advance, "{}_now.at[i]", "{}_in", 16),
        rerun_stores=tuple(f"{s}_now.at[i] = {s}_next_value;" for s in states),
        backward_locals=_locals(plan.backward, 24),
        backward_call=_call(plan, plan.backward, "{}_at[t].at[i]", "{}_at[t]", 24),
        backward_stores=(
            *(f"grad_{x}_out.at[i] = to_io(grad_{x}_value);" for x in model.inputs),
            *(f"grad_{s}_now.at[i] = grad_{s}_value;" for s in states),
            *(f"sum_{q}[i] += grad_{q}_value;" for q in plan.terms),
        ),
        backward_alignment=_alignment(cuda, cuda.backward_lanes, plan.backward_fields),
        jobs=jobs,
    )


def _calls(jobs: tuple[Job, ...], word: str) -> bool:
    return any(word in line for job in jobs for line in job.lines)


def _prepared(plan: Plan) -> tuple[str, ...]:
    """Return the statements that fill `p`, for lane i in row `row` and channel `channel`."""
    raw = raw_values(plan, {"layer": "0", "channel": "channel", "neuron": "row"})
    made = plan.made.result_names(Role.PARAM)
    taken = [raw[p.var.name] for p in plan.read_inputs(plan.made)]
    indent = 4 if plan.finest == "layer" else 8
    call = joined("prepare(", [*taken, *(f"{q}_value" for q in made)], ");", indent)
    stores = []
    for q in plan.prepare.result_names(Role.PARAM):
        place = "" if plan.per[q] == "layer" else "[i]"
        stores.append(f"p.{q}{place} = {f'{q}_value' if q in made else raw[q]};")
    return (*((_locals(plan.made, indent), call) if made else ()), *stores)


def _call(plan: Plan, kernel: Kernel, state: str, pack: str, indent: int) -> str:
    """Return the arguments of a step; `state` and `pack` say where states and inputs are."""
    name_width = len("step_backward(")  # the longest
    values = []
    for port in plan.read_inputs(kernel):
        name = port.var.name
        match port.role:
            case Role.STATE:
                values.append(state.format(name))
            case Role.INPUT:
                values.append(f"to_real({pack.format(name)}.at[i])")
            case Role.GRAD:
                carried = name.removesuffix("_next")
                is_state = carried.removeprefix("grad_") in plan.states and carried != name
                ring = f"to_real({name}_at[t % kGradsAhead].at[i])"
                values.append(f"{carried}_now.at[i]" if is_state else ring)
            case _:
                values.append(f"p.{name}" + ("" if plan.per[name] == "layer" else "[i]"))
    words = [*values, *(f"{p.var.name}_value" for p in kernel.results)]
    return joined(" " * name_width, words, "", indent).lstrip(" ")


def _alignment(cuda: CudaPlan, lanes: int, arguments: tuple[Field, ...]) -> str:
    """Return the condition under which every access of a thread is whole."""
    plan = cuda.plan
    tests = [f"{'a.sample' if cuda.by_rows else 'a.neurons'} % {lanes} == 0"]
    strides = {f"{x}_seq": f"a.{x}_stride" for x in plan.model.inputs}
    strides |= {f"grad_{o}_seq": f"a.grad_{o}_stride" for o in plan.model.outputs}
    whole = {"checkpoints", *(f"{s}_final" for s in plan.states)}
    whole |= {f"grad_{s}_{end}" for s in plan.states for end in ("final", "init")}
    for field in arguments:
        name = field.name
        if field.kind == "io":
            tests.append(f"aligned(a.{name}, {strides.get(name, '0')}, kBytes)")
        elif name in whole:
            tests.append(f"aligned(a.{name}, 0, 16)")
    return " &&\n                       ".join(tests)


def _locals(kernel: Kernel, indent: int = 0) -> str:
    names = [f"{p.var.name}_value" for p in kernel.results]
    return joined("real ", names, ";", indent) if names else ""
