"""Source of the CUDA kernels: tiles, threads and time steps around the step."""

from __future__ import annotations

from lnm_codegen.backends.c.expr import c_type
from lnm_codegen.backends.cuda.plan import SUM_THREADS, CudaPlan
from lnm_codegen.backends.cuda.reduction import Job, jobs_of
from lnm_codegen.backends.loops import Places, prepared_lines, result_variables, step_call
from lnm_codegen.backends.plan import Field
from lnm_codegen.backends.render import render

_CONVERSIONS = {
    "float32": "cuda/same_type.j2",
    "float64": "cuda/same_type.j2",
    "bfloat16": "cuda/bfloat16.j2",
    "float16": "cuda/float16.j2",
}


def _places(state: str, pack: str) -> Places:
    return Places(
        state,
        f"to_real({pack}.at[i])",
        "p.{}[i]",
        "{}_now.at[i]",
        "to_real({}_at[t % kGradsAhead].at[i])",
    )


_NOW = _places("{}_now.at[i]", "{}_at[t]")
_SAVED = _places("{}_at[t].at[i]", "{}_at[t]")
_RECOMPUTED = _places("{}_now.at[i]", "{}_in")


def kernels_source(cuda: CudaPlan) -> str:
    """Return `<name>.cu`."""
    plan, model = cuda.plan, cuda.plan.model
    layer_parameters, row_parameters = plan.split(plan.prepared)
    jobs = jobs_of(cuda)
    totals = _calls(jobs, "block_total")
    view = dict(
        family=model.family,
        name=model.name,
        upper=model.name.upper(),
        io=c_type(model.dtype),
        real=c_type(model.real),
        is_narrow=model.dtype != model.real,
        tile=cuda.tile,
        chunk=cuda.chunk,
        ahead=cuda.ahead,
        ahead_backward=cuda.ahead_backward,
        forward_threads=cuda.forward_threads,
        forward_lanes=cuda.forward_lanes,
        backward_threads=cuda.backward_threads,
        backward_lanes=cuda.backward_lanes,
        sum_threads=SUM_THREADS,
        conversions=render(_CONVERSIONS[model.dtype], {}),
        by_rows=cuda.by_rows,
        by_channels=any(p.per == "channel" for p in model.params),
        reduces=bool(plan.counts or cuda.layer_terms) or totals,
        totals=totals,
        sums_tiles=_calls(jobs, "sum_of("),
        states=plan.states,
        inputs=model.inputs,
        further=model.inputs[1:],
        outputs=model.outputs,
        graded_outputs=plan.graded_outputs,
        counts=plan.counts,
        terms=plan.terms,
        layer_terms=cuda.layer_terms,
        row_terms=cuda.row_terms,
        term_count=len(plan.terms),
        count_count=len(plan.counts),
        layer_places=tuple(map(plan.terms.index, cuda.layer_terms)),
        row_places=tuple(map(plan.terms.index, cuda.row_terms)),
        layer_parameters=layer_parameters,
        row_parameters=row_parameters,
        prepared=prepared_lines(
            plan,
            {"layer": "0", "channel": "channel", "neuron": "row"},
            {"channel": "i", "neuron": "i"},
            indent=8 if cuda.by_rows else 4,
        ),
        forward_locals=result_variables(plan.forward, 20),
        forward_call=step_call(plan, plan.forward, _NOW, 20),
        forward_alignment=_alignment(cuda, cuda.forward_lanes, plan.forward_fields),
        advance_locals=result_variables(plan.advance, 24),
        advance_call=step_call(plan, plan.advance, _SAVED, 24),
        recompute_locals=result_variables(plan.advance, 16),
        recompute_call=step_call(plan, plan.advance, _RECOMPUTED, 16),
        backward_locals=result_variables(plan.backward, 24),
        backward_call=step_call(plan, plan.backward, _SAVED, 24),
        backward_alignment=_alignment(cuda, cuda.backward_lanes, plan.backward_fields),
        jobs=jobs,
    )
    return render("cuda/kernels.cu.j2", view)


def _calls(jobs: tuple[Job, ...], word: str) -> bool:
    return any(word in line for job in jobs for line in job.lines)


def _alignment(cuda: CudaPlan, lanes: int, arguments: tuple[Field, ...]) -> str:
    """Return the condition under which every access of a thread is aligned and complete."""
    plan = cuda.plan
    tests = [f"{'a.sample' if cuda.by_rows else 'a.neurons'} % {lanes} == 0"]
    strides = {f"{x}_seq": f"a.{x}_stride" for x in plan.model.inputs}
    strides |= {f"grad_{o}_seq": f"a.grad_{o}_stride" for o in plan.model.outputs}
    further = {
        f"{x}_seq": f"(a.{x}_count ? a.{x}_inner % {lanes} == 0 : {{}})"
        for x in plan.model.inputs[1:]
    }
    packed = {"checkpoints", *(f"{s}_final" for s in plan.states)}
    packed |= {f"grad_{s}_{end}" for s in plan.states for end in ("final", "init")}
    starts = {f"{s}_init" for s in plan.states}
    for field in arguments:
        name = field.name
        if field.kind == "io":
            test = f"aligned(a.{name}, {strides.get(name, '0')}, kBytes)"
            tests.append(further[name].format(test) if name in further else test)
        elif name in starts:
            tests.append(f"(!a.{name}_stride || aligned(a.{name}, 0, 16))")
        elif name in packed:
            tests.append(f"aligned(a.{name}, 0, 16)")
    return " &&\n                       ".join(tests)
