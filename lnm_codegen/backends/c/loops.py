"""Source of the C loops: threads, tiles, chunks and blocks around the step."""

from __future__ import annotations

from typing import NamedTuple

from lnm_codegen.backends.arguments import conditions
from lnm_codegen.backends.c.expr import c_type
from lnm_codegen.backends.loops import (
    Places,
    Rows,
    counted_once,
    place,
    prepared_lines,
    raw_values,
    result_variables,
    step_call,
)
from lnm_codegen.backends.plan import Plan, values_text
from lnm_codegen.backends.render import render
from lnm_codegen.ir.declarations import Granularity
from lnm_codegen.ir.nodes import Role

TILE, BLOCK = 1024, 128
"""Neurons of a tile, and of a block."""

_SIZES = ("a.channels", "a.sample")
_SHAPES = {"channel": "{a.channels, a.inner}", "neuron": "{a.sample, 1}"}


class _Learnable(NamedTuple):
    """A learnable parameter: its name, the number of its values and the numbers of one value."""

    name: str
    rows: str
    size: int


def loops_source(plan: Plan, chunk: int, far: int) -> str:
    """Return `<name>.cpp`."""
    model = plan.model
    layer_parameters, row_parameters = plan.split(plan.prepared)
    layer_terms, row_terms = plan.split(plan.terms)
    uniform = bool(row_parameters) and plan.finest == "channel"
    narrow = model.dtype in ("bfloat16", "float16")
    row = "tile.{0}[c.at + i]"
    if plan.finest == "channel":
        row = f"(kUniform ? {{0}}_one : {row})"
    now = Places("{}_now[i]", "{}_row[i]", row)
    saved = Places("steps.{}[t][i]", "{}_row[i]", row, "{}[i]", "{}_row[i]")
    size = "a.time_steps, a.neurons"
    streamed = [f"(!a.grad_{x}_seq || streams(a.grad_{x}_seq, {size}))" for x in model.inputs]
    view = dict(
        family=model.family,
        name=model.name,
        prefix=model.name.upper(),
        tile=TILE,
        block=BLOCK,
        chunk=chunk,
        far=far,
        is_bfloat16=model.dtype == "bfloat16",
        is_float16=model.dtype == "float16",
        narrow=narrow,
        io=c_type(model.dtype),
        source="{}_from" if narrow else "{}_row",
        put="put_rounded" if narrow else "put",
        states=plan.states,
        inputs=model.inputs,
        further=model.inputs[1:],
        outputs=model.outputs,
        graded_outputs=plan.graded_outputs,
        counts=plan.counts,
        terms=plan.terms,
        state_count=len(plan.states),
        layer_parameters=layer_parameters,
        row_parameters=row_parameters,
        row_shapes=tuple((q, _SHAPES[plan.per[q]]) for q in row_parameters),
        uniform_parameters=row_parameters if uniform else (),
        has_uniform=uniform,
        by_rows=plan.finest != "layer",
        chunk_template=f"template <bool kStream{', bool kUniform' if uniform else ''}>",
        chunk_flags="kStream, kUniform" if uniform else "kStream",
        plain_flags="false, false" if uniform else "false",
        layer_terms=layer_terms,
        row_terms=row_terms,
        layer_term_count=len(layer_terms),
        prepared_loop=prepared_lines(plan, _indices(plan), _indices(plan), indent=8),
        finest_rows=values_text(plan.finest, *_SIZES),
        forward_locals=result_variables(plan.forward, indent=12),
        forward_call=step_call(plan, plan.forward, now, indent=12),
        advance_locals=result_variables(plan.advance, indent=12),
        advance_call=step_call(plan, plan.advance, saved, indent=12),
        backward_locals=result_variables(plan.backward, indent=12),
        backward_call=step_call(plan, plan.backward, saved, indent=12),
        learnable=tuple(
            _Learnable(p.name, values_text(p.per, *_SIZES), p.size or 1) for p in plan.learnable
        ),
        gradient_loop=_gradient_loop(plan, layer_terms),
        forward_streams=" && ".join(f"streams(a.{o}_seq, {size})" for o in model.outputs),
        backward_streams=" && ".join(streamed),
        **conditions(plan, "saved_numbers(a->time_steps, a->neurons)"),
    )
    return render("c/kernel.cpp.j2", view)


def _indices(plan: Plan) -> Rows:
    """Return the index of each granularity, where `row` counts the values of the finest."""
    rows: dict[Granularity, str] = {"layer": "0", "channel": "row / a.inner % a.channels"}
    return {**rows, **({} if plan.finest == "layer" else {plan.finest: "row"})}


def _gradient_loop(plan: Plan, layer_terms: tuple[str, ...]) -> tuple[str, ...]:
    """Return the call of the adjoint of prepare, and the sums over the values of a parameter."""
    kernel, raw, rows = plan.prepare_backward, raw_values(plan, _indices(plan)), _indices(plan)
    if not kernel.results:
        return ()
    words = [
        raw[p.var.name] if p.role is Role.PARAM else _seed(plan, p.var.name, layer_terms)
        for p in plan.read_inputs(kernel)
    ]
    words += [f"{p.var.name}_value" for p in kernel.results]
    adds = (
        f"grad_{p.name}[{place(rows[p.per], p, k)}] += grad_{element}_value;"
        for p in plan.learnable
        for k, element in enumerate(p.element_names)
    )
    call = f"prepare_backward({', '.join(words)});"
    return (result_variables(kernel, indent=8), call, *adds)


def _seed(plan: Plan, port: str, layer_terms: tuple[str, ...]) -> str:
    """Return the input `port` of the adjoint of prepare, for one value of the finest parameter."""
    q = port.removeprefix("sum_")
    if plan.per[q] == "layer":
        value = f"real(sums.tiles[{layer_terms.index(q)}])"
        return counted_once(value, "row == 0 && tiles")
    if plan.per[q] == plan.finest:
        return f"real(sums.sum_{q}[row])"
    first = "row % a.inner == 0 && row / a.inner < a.channels"
    return counted_once(f"real(sums.sum_{q}[row / a.inner])", first)
