"""Triton source of a recurrent layer: all time steps in one launch, parallel over samples.

`<name>_recurrent.py` has the product with U and the loops; steps and sums are those of the Triton
backend.
"""

from __future__ import annotations

from dataclasses import replace

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.names import renamed
from lnm_codegen.backends.plan import Field, Plan
from lnm_codegen.backends.recurrent import CHUNK, RecurrentPlan
from lnm_codegen.backends.render import render
from lnm_codegen.backends.triton.backend import (
    any_gradient,
    as_real,
    functions_of,
    math_functions,
    prepared_lines,
    quoted,
    reduction_block,
    reduction_launch,
    reduction_view,
    step_call,
)


def emit(model: RecurrentPlan) -> Source:
    """Return the module. Names of the neuron begin with `own_`, so none collides with another."""
    whole = model.plan
    plan = renamed(whole, "own_{}".format)
    new = dict(zip((*whole.inputs, *whole.outputs), (*plan.inputs, *plan.outputs), strict=True))
    own = replace(model, plan=plan, fed=new[model.fed], into=new[model.into])
    on_host = _ON_HOST | {f"grad_{p.name}" for p in plan.learnable}
    forward = tuple(f for f in own.forward_fields if f.name not in on_host)
    backward = tuple(f for f in own.backward_fields if f.name not in on_host)
    sums = {f"{q}_sum": q for q in plan.counts}
    view = dict(
        plan=plan,
        inner=plan,
        family=whole.family,
        fed=own.fed,
        into=own.into,
        others=own.others,
        graded=own.graded,
        is_spike=own.is_spike,
        chunk=CHUNK,
        math=math_functions(tuple(plan.functions.values()), plan.real),
        functions=functions_of(plan),
        as_real=as_real(plan),
        place=_PLACE,
        columns=_COLUMNS,
        others_read=tuple(_read(z, as_real(plan)) for z in own.others),
        prepared=prepared_lines(plan, channel="own", neuron="own"),
        forward_names=tuple(f.name for f in own.forward_fields),
        forward_passed=tuple(
            f"_parts_{sums[f.name]}" if f.name in sums else f.name for f in forward
        ),
        backward_names=tuple(f.name for f in own.backward_fields),
        backward_passed=tuple(f.name for f in backward),
        forward_signature=_signature(plan, forward),
        backward_signature=_signature(plan, backward),
        forward_run_time=_run_time(forward),
        backward_run_time=_run_time(backward),
        forward_step=step_call(plan, "step_forward", plan.forward, 12),
        advance_step=step_call(plan, "step_advance", plan.advance, 16),
        backward_step=step_call(plan, "step_backward", plan.backward, 16),
        first="_x",
        any_gradient=any_gradient(plan),
        reduction_block=reduction_block(plan),
        **reduction_view(plan),
        **reduction_launch(plan),
    )
    name = f"{whole.name}_recurrent.py"
    return Source({name: render("triton/recurrent.py.j2", view)}, name)


_PLACE = (
    "column = block + tl.arange(0, _SIZE)[None, :]",
    "h = first + column",
    "mask = (n < _samples) & (column < _WIDTH) & (h < sample)",
    "lane = n * sample + h",
    "own = tl.minimum(h, sample - 1)",
)
"""Lines that find the numbers of some neurons: their place in a step, and in a parameter."""


_COLUMNS = "table, n, _samples, first, block, sample, _WIDTH, _SIZE, _PART, _TERMS, _PRECISION"
"""Last arguments of a product."""


def _read(z: str, as_real: str) -> str:
    """Return the line that loads an input without feedback."""
    at = f"{z}_seq + step * {z}_stride + n * _{z}_sample + h * _{z}_neuron"
    return f"{z} = tl.load({at}, mask=mask, other=0.0){as_real}"


_ON_HOST = {"channels", "inner", "_threads", "_diagonal", "_u", "_s", "_fed", "_grad_feedback"}
"""Arguments that the kernels over time do not take; the sums write gradients of parameters."""


def _signature(plan: Plan, fields: tuple[Field, ...]) -> tuple[str, ...]:
    params = {p.name for p in plan.params}
    return tuple(
        f.name
        + (_TYPES.get(f.name, ": tl.int64") if f.kind == "int64_t" else "_ptr" * (f.name in params))
        for f in fields
    )


_TYPES = {"sample": ": tl.constexpr", "_samples": ": tl.int32"}
"""Types of arguments that are not int64: H is a constant, since addresses of U follow from it."""


def _run_time(fields: tuple[Field, ...]) -> tuple[str, ...]:
    """Return the numbers for each of whose values one kernel serves."""
    return quoted([f.name for f in fields if f.name in ("time_steps", "_samples", "_delay")])
