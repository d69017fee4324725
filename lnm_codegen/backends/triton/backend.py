"""Triton backend: a standalone module for NVIDIA GPUs, fused over time.

It writes one file: the step as functions, three kernels (forward, backward, reduction), `forward`
and `backward` on buffers, and a differentiable function for use without this package. Tests compile
it for AMD GPUs too, and do not execute that.
"""

from __future__ import annotations

import textwrap
from typing import NamedTuple

from lnm_codegen.backends.base import Model, Source, pass_files
from lnm_codegen.backends.names import (
    collisions,
    marked,
    python_scopes,
    renamed,
    require_no_collision,
)
from lnm_codegen.backends.plan import FAR, ROLES, SIZES, Field, Plan, plan_of, sharing_fields
from lnm_codegen.backends.render import enclosed, function_name, render, shape_text, tuple_text
from lnm_codegen.backends.triton.expr import TritonDialect, lines, math_functions
from lnm_codegen.backends.triton.kernels import (
    LANES,
    Arguments,
    Lines,
    chunk_of,
    kernels_source,
    reduction_block,
    reduction_launch,
    reduction_source,
    scaled,
    warps_of,
)
from lnm_codegen.ir.declarations import Param

AHEAD, FORWARD_LANES, FORWARD_WARPS = 4, 512, 4

_COMMENTS = {
    "prepare": "Return the part of a step that depends on parameters alone.",
    "step_forward": "Return outputs and states of t, from states of t-1 and inputs of t.",
    "step_advance": "Return the states of the same step alone.",
    "step_backward": "Return gradients before step t, and a term of each parameter's gradient.",
    "prepare_backward": "Return parameters' gradients, from sums over time steps and neurons.",
}
_KERNELS = {*_COMMENTS, "_forward_kernel", "_backward_kernel", "_sums_kernel"}


class _Function(NamedTuple):
    comment: str
    signature: tuple[str, ...]
    lines: tuple[str, ...]
    results: tuple[str, ...]


class Triton:
    """The GPU backend in Python."""

    def emit(self, model: Model) -> Source:
        """Return one module.

        Names in the kernels get an affix if one collides with a variable of the kernels.

        Raises:
            UnsupportedError: A name collides with one of the host functions.
        """
        twin = renamed(model, marked)
        functions, module = python_scopes(_module(twin, twin))
        kernels = [functions.pop(name) for name in _KERNELS & functions.keys()]
        require_no_collision(f"triton: {model.name}", [*functions.values(), module])
        inner = renamed(model, "own_{}_".format) if collisions(kernels) else model
        path = f"{model.name}.py"
        files = {path: _module(model, inner)} | pass_files(self, model)
        return Source(files, path)


def _module(model: Model, inner: Model) -> str:
    """Return the module of a model whose kernels have the names of `inner`."""
    outer, arguments = Arguments(plan_of(model)), Arguments(plan_of(inner))
    plan = outer.plan
    view = dict(
        family=model.family,
        function=function_name(model.name),
        equations=model.definition,
        dtype=model.dtype,
        real_name=model.real,
        further=plan.model.inputs[1:],
        granularity_text=plan.granularity_text,
        start_lines=textwrap.wrap(plan.start_text, 96),
        chunk=chunk_of(plan),
        far=FAR,
        ahead=AHEAD,
        lanes=LANES,
        warps=warps_of(plan),
        forward_lanes=FORWARD_LANES,
        forward_warps=FORWARD_WARPS,
        rows_per_lane=16 if outer.by_rows else 4,
        math=math_functions(tuple(plan.functions.values()), model.real),
        functions=_functions(arguments.plan),
        kernels=kernels_source(arguments),
        reduction=reduction_source(arguments),
        reduction_block=reduction_block(plan),
        host=host_source(outer),
        autograd=autograd_source(outer),
    )
    return render("triton/module.py.j2", view)


def _functions(plan: Plan) -> tuple[_Function, ...]:
    dialect = TritonDialect(plan.model.real)
    return tuple(
        _Function(
            _COMMENTS[name],
            enclosed(f"def {name}(", [p.var.name for p in plan.read_inputs(kernel)], "):"),
            lines(kernel, dialect),
            enclosed("return ", kernel.result_names(*ROLES), indent=4),
        )
        for name, kernel in plan.functions.items()
    )


# Source of the host side of a Triton module: launches on buffers, a differentiable function.


def host_source(arguments: Arguments) -> str:
    """Return `checkpoints`, `forward` and `backward`."""
    plan = arguments.plan
    forward, backward = plan.forward_fields, plan.backward_fields
    sums = {f"{q}_sum" for q in plan.counts}
    view = dict(
        name=plan.model.name,
        real=f"torch.{plan.model.real}",
        state_rows=scaled(len(plan.states), "neurons"),
        counts=plan.counts,
        further=plan.model.inputs[1:],
        forward_arguments=_names(forward),
        forward_passed=tuple(
            f"{a.removesuffix('_sum')}_parts" if a in sums else a for a in _names(forward)
        ),
        forward_nullable=_nullable("skipped", forward),
        forward_aligned=_aligned(arguments, forward, "neurons"),
        forward_required=_required(arguments, forward),
        backward_arguments=_names(backward),
        backward_required=_required(arguments, arguments.backward_fields),
        backward_passed=_names(arguments.backward_fields),
        backward_nullable=_nullable("omitted or skipped", backward),
        backward_aligned=_aligned(arguments, arguments.backward_fields, "neurons", "_width"),
        unit="sample" if arguments.by_rows else "_LANES",
        columns="_width" if arguments.by_rows else "_programs",
        first=f"{(*plan.model.inputs, *plan.model.outputs)[0]}_seq",
        term_count=len(plan.terms),
        any_gradient=" or ".join(f"grad_{p.name} is not None" for p in plan.learnable),
        adjoint_only=not plan.learnable,
        **reduction_launch(plan),
    )
    return render("triton/host.py.j2", view)


def _names(fields: tuple[Field, ...]) -> Lines:
    return (*SIZES, *(f.name for f in fields))


def _required(arguments: Arguments, fields: tuple[Field, ...]) -> Lines:
    """Return the call that validates the arguments of a direction."""
    shared = [f'("{x}", {x}_inner, {x}_count),' for x in arguments.plan.model.inputs[1:]]
    tensors = [f"{f.name}={f.name}" for f in fields if f.kind != "int64_t" and not f.nullable]
    return enclosed("_require(", [*SIZES, f"({' '.join(shared)})", *tensors], ")", indent=4)


def _nullable(effect: str, fields: tuple[Field, ...]) -> str:
    text = ", ".join(f"`{f.name}`" for f in fields if f.nullable)
    line = f"    Arguments that may be None, and are then {effect}: {text or 'none'}."
    return textwrap.fill(line, 100, subsequent_indent="    ").strip()


def _aligned(arguments: Arguments, fields: tuple[Field, ...], *sizes: str) -> Lines:
    """Return the sizes and the tensors that decide the alignment of accesses."""
    plan = arguments.plan
    apart = {p.name for p in plan.model.params} | {f"{q}_sum" for q in plan.counts}
    apart |= {f"{s}_init_stride" for s in plan.states}
    further = plan.model.inputs[1:]
    apart |= {name for x in further for name, _ in sharing_fields(x)}
    words = {f"{x}_seq": f"None if {x}_count else {x}_seq" for x in further}
    words |= {f"{s}_init": f"{s}_init if {s}_init_stride else None" for s in plan.states}
    words |= {f"{x}_stride": f"0 if {x}_count else {x}_stride" for x in further}
    strides = [
        words.get(f.name, f.name) for f in fields if f.kind == "int64_t" and f.name not in apart
    ]
    rows = [
        words.get(f.name, f.name) for f in fields if f.kind != "int64_t" and f.name not in apart
    ]
    return (
        *enclosed("(", [*sizes, *strides], "),", indent=16),
        *enclosed("(", rows, ",)," if len(rows) == 1 else "),", indent=16),
    )


def autograd_source(arguments: Arguments) -> str:
    """Return the differentiable function."""
    plan, model = arguments.plan, arguments.plan.model
    function = function_name(model.name)
    inputs = tuple(f"{x}_seq" for x in model.inputs)
    states = tuple(f"{s}_init" for s in plan.states)
    taken = (*inputs, *(p.name for p in model.params), *states)
    finals = tuple(f"{s}_final" for s in plan.states)
    outputs = tuple(f"{o}_seq" for o in model.outputs)
    learned = {p.name for p in plan.learnable}
    with_gradient = [a for a in taken if a in (*inputs, *states) or a in learned]
    defaults = [
        f"{s.name}_init={s.init if isinstance(s.init, float | int) else 0.0}" for s in model.states
    ]
    passed = {f"{x}_stride": "_shape[0]" for x in model.inputs}
    passed |= {f"{s}_stride": "1" for s in states} | {f"{q}_sum": "None" for q in plan.counts}
    passed |= {name: "0" for x in model.inputs[1:] for name, _ in sharing_fields(x)}
    passed |= {f"grad_{o}_stride": "_shape[0]" for o in model.outputs} | {"checkpoints": "_saved"}
    kept = [*taken, "_saved"]
    received = [f"grad_{a}" for a in (*outputs, *finals)]
    given = [f"grad_{a}" if a in with_gradient else "None" for a in taken]
    view = dict(
        function=function,
        io=f"torch.{model.dtype}",
        real=f"torch.{model.real}",
        by_rows=arguments.by_rows,
        inputs=model.inputs,
        outputs=outputs,
        states=plan.states,
        first=inputs[0],
        forward_head=enclosed("def forward(", ["_ctx", *taken], "):", indent=4),
        save=enclosed("_ctx.save_for_backward(", kept, ")", indent=8),
        backward_head=enclosed("def backward(", ["_ctx", *received], "):", indent=4),
        restore=enclosed("", kept, " = map(torch.Tensor.contiguous, _ctx.saved_tensors)", indent=8),
        seeds=tuple(received),
        returned=", ".join((*outputs, *finals)),
        forward_passed=tuple(passed.get(f.name, f.name) for f in plan.forward_fields),
        backward_passed=tuple(passed.get(f.name, f.name) for f in plan.backward_fields),
        gradients=tuple((a, taken.index(a)) for a in with_gradient),
        grads_returned=enclosed("return ", given, indent=8),
        head=enclosed(
            f"def {function}(", [*inputs, *(p.name for p in model.params), *defaults], "):"
        ),
        params=tuple((p.name, shape_text(p, "channels", "*inner")) for p in model.params),
        applied=(
            *(f'_input("{x}", {x}, {inputs[0]})' for x in inputs),
            *(_parameter(p, inputs[0]) for p in model.params),
            *(f'_state("{s}", {s}, {inputs[0]})' for s in states),
        ),
        channels_text=", channels on axis 2" if arguments.by_rows else "",
        returned_text=", ".join((*outputs, *finals)),
    )
    return render("triton/autograd.py.j2", view)


def _parameter(p: Param, x_seq: str) -> str:
    rows = {
        "layer": (),
        "channel": (f"*{x_seq}.shape[2:3]",),
        "neuron": (f"*{x_seq}.shape[2:]",),
    }
    shape = (*rows[p.per], str(p.size)) if p.size is not None else rows[p.per]
    words = f'"{p.name}", {p.name}, {tuple_text(shape)}, {x_seq}, learnable={p.learnable}'
    return f"_parameter({words})"
