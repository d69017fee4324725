"""`triton`: a standalone module for NVIDIA and AMD GPUs, fused over time.

One file: the step as functions, three kernels (forward, backward, sums), `forward` and `backward`
on buffers, and a differentiable function for an engineer who takes the file along.
"""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.base import Model, Source
from lnm_codegen.backends.plan import FAR, ROLES, Plan, plan_of
from lnm_codegen.backends.render import render
from lnm_codegen.backends.triton.expr import TritonDialect, enclosed, lines
from lnm_codegen.backends.triton.host import autograd_text, function_name, host_text
from lnm_codegen.backends.triton.kernels import LANES, chunk_of, kernels_text, warps_of
from lnm_codegen.backends.triton.math import math_functions
from lnm_codegen.backends.triton.names import Names
from lnm_codegen.backends.triton.sums import sums_text, sums_view
from lnm_codegen.ir.nodes import Kernel

AHEAD, FORWARD_LANES, FORWARD_WARPS = 4, 512, 4


@dataclass(frozen=True, slots=True)
class _Function:
    comment: str
    signature: tuple[str, ...]
    lines: tuple[str, ...]
    results: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _ModuleView:
    family: str
    function: str
    equations: tuple[str, ...]
    dtype: str
    real_name: str
    granularity_text: str
    chunk: int
    far: int
    ahead: int
    lanes: int
    warps: int
    forward_lanes: int
    forward_warps: int
    rows_per_lane: int
    math: str
    functions: tuple[_Function, ...]
    kernels: str
    sums: str
    sums_block: str
    host: str
    autograd: str


class Triton:
    """The GPU backend in Python."""

    name = "triton"

    def emit(self, model: Model) -> Source:
        """Return one module.

        Raises:
            UnsupportedError: A name of the model is one of the kernels' own.
        """
        path = f"{model.name}.py"
        return Source({path: render("triton/module.py.j2", _module_view(model))}, path)


_COMMENTS = {
    "prepare": "Return what a step needs that parameters alone decide.",
    "step_forward": "Return outputs and states of t; from states of t-1 and inputs of t.",
    "step_advance": "Return the states of the same step alone.",
    "step_backward": "Return gradients before step t, and a term of each parameter's gradient.",
    "prepare_backward": "Return parameters' gradients; from sums over steps and neurons.",
}


def _module_view(model: Model) -> _ModuleView:
    plan = plan_of(model)
    names = Names(plan, TritonDialect(model.real))
    names.check()
    return _ModuleView(
        family=model.family,
        function=function_name(model.name),
        equations=model.equations,
        dtype=model.dtype,
        real_name=model.real,
        granularity_text=plan.granularity_text,
        chunk=chunk_of(plan),
        far=FAR,
        ahead=AHEAD,
        lanes=LANES,
        warps=warps_of(plan),
        forward_lanes=FORWARD_LANES,
        forward_warps=FORWARD_WARPS,
        rows_per_lane=16 if names.by_rows else 4,
        math=math_functions(plan.kernels, model.real),
        functions=_functions(plan, names.dialect),
        kernels=kernels_text(names),
        sums=sums_text(names),
        sums_block=sums_view(names).block,
        host=host_text(names),
        autograd=autograd_text(names),
    )


def _functions(plan: Plan, dialect: TritonDialect) -> tuple[_Function, ...]:
    def function(name: str, kernel: Kernel) -> _Function:
        taken = [p.var.name for p in plan.read_inputs(kernel)]
        return _Function(
            _COMMENTS[name],
            enclosed(f"def {name}(", taken, "):"),
            lines(kernel, dialect),
            enclosed("return ", kernel.result_names(*ROLES), indent=4),
        )

    named = {
        "prepare": plan.made,
        "step_forward": plan.forward,
        "step_advance": plan.advance,
        "step_backward": plan.backward,
        "prepare_backward": plan.prepare_backward,
    }
    return tuple(function(n, k) for n, k in named.items() if k.results)
