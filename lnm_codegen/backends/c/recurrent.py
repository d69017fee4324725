"""C++ source of a recurrent layer: all time steps in one call, parallel over samples.

`<name>_recurrent.cpp` has the product with U, the loops and the sums; the step is that of the C
backend.
"""

from __future__ import annotations

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.c.backend import (
    VALUES,
    gradient_loop,
    indices,
    step_view,
)
from lnm_codegen.backends.loops import StepAccess, prepared_lines, result_variables, step_call
from lnm_codegen.backends.plan import Field
from lnm_codegen.backends.recurrent import CHUNK, RecurrentPlan
from lnm_codegen.backends.render import render

TILE = 32
"""Most samples that a thread takes through all steps at once."""
GROUP = 4
"""Samples whose terms of a gradient are summed in the type of the arithmetic."""
DENSE = 0.3
"""Share of nonzero numbers in the fed output from which the dense product is taken."""


def emit(model: RecurrentPlan) -> Source:
    """Return step and loops."""
    plan = model.plan
    access = StepAccess(
        "{}_row[h]".format, "{}_row[h]".format, "p.{}[h]".format,
        "{}_row[h]".format, "{}_row[h]".format,
    )  # fmt: skip
    wide = plan.real == "float64"
    view = dict(
        plan=plan,
        fed=model.fed,
        into=model.into,
        others=model.others,
        graded=model.graded,
        forward_fields=model.forward_fields,
        backward_fields=model.backward_fields,
        outer_fields=OUTER_FIELDS,
        chunk=CHUNK,
        group=GROUP,
        tile=TILE,
        dense=DENSE,
        packed="pd" if wide else "ps",
        wide512="__m512d" if wide else "__m512",
        wide256="__m256d" if wide else "__m256",
        values=VALUES,
        prepared_loop=prepared_lines(plan, indices(plan), indices(plan), indent=8),
        forward_locals=result_variables(plan.forward, indent=16),
        forward_call=step_call(plan, plan.forward, access, indent=16),
        advance_locals=result_variables(plan.advance, indent=20),
        advance_call=step_call(plan, plan.advance, access, indent=20),
        backward_locals=result_variables(plan.backward, indent=20),
        backward_call=step_call(plan, plan.backward, access, indent=20),
        gradient_loop=gradient_loop(plan),
    )
    name = f"{plan.name}_recurrent.cpp"
    files = {f"{plan.name}_step.h": render("c/step.h.j2", step_view(plan))}
    return Source(files | {name: render("c/recurrent.cpp.j2", view)}, name)


OUTER_FIELDS = (
    *(Field(n, "int64_t") for n in ("_rows", "sample", "_threads")),
    *(Field(n, "real", note="(rows, sample)") for n in ("_s", "_e")),
    Field("_outer", "real", written=True, note="(sample, sample), [of s][of e]"),
)
"""Words of the argument of the sparse gradient of U."""
