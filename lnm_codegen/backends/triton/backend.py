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
from lnm_codegen.backends.plan import FAR, ROLES, Plan, plan_of
from lnm_codegen.backends.python import enclosed, function_name
from lnm_codegen.backends.render import render
from lnm_codegen.backends.triton.expr import TritonDialect, lines, math_functions
from lnm_codegen.backends.triton.host import autograd_source, host_source
from lnm_codegen.backends.triton.kernels import (
    LANES,
    Arguments,
    chunk_of,
    kernels_source,
    warps_of,
)
from lnm_codegen.backends.triton.reduction import reduction_block, reduction_source

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
