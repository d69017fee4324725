"""`c`: C++17 with OpenMP and SIMD behind a plain C ABI, fused over time.

Four files: `<name>_step.h`, the arithmetic of one neuron and one step; `<name>.cpp`, memory,
threads and time; `<name>.h`, the ABI; `example.c`, a caller.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from lnm_codegen.backends.base import Model, Source
from lnm_codegen.backends.c_example import example_source
from lnm_codegen.backends.c_expr import CDialect, lines, math_functions
from lnm_codegen.backends.c_loops import kernel_view
from lnm_codegen.backends.c_plan import ROLES, Plan, plan_of
from lnm_codegen.backends.render import render
from lnm_codegen.ir.nodes import Kernel

TILE, BLOCK, CHUNK = 1024, 64, 16


@dataclass(frozen=True, slots=True)
class _Function:
    comment: tuple[str, ...]
    signature: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _StepView:
    family: str
    equations: tuple[str, ...]
    real: str
    math: str
    functions: tuple[_Function, ...]


@dataclass(frozen=True, slots=True)
class _HeaderView:
    family: str
    name: str
    guard: str
    equations: tuple[str, ...]
    granularity_text: str
    chunk: int
    forward_fields: tuple[tuple[str, str], ...]
    backward_fields: tuple[tuple[str, str], ...]


class C:
    """The CPU backend."""

    name = "c"

    def emit(self, model: Model) -> Source:
        """Return step, loops, header and example.

        Raises:
            UnsupportedError: Two names of the model would meet in the C interface.
        """
        plan = plan_of(model)
        name = model.name
        files = {
            f"{name}_step.h": render("c/step.h.j2", step_view(model, plan)),
            f"{name}.h": render("c/kernel.h.j2", _header_view(model, plan)),
            f"{name}.cpp": render("c/kernel.cpp.j2", kernel_view(plan, TILE, BLOCK, CHUNK)),
            "example.c": example_source(model, plan),
        }
        return Source(files, f"{name}.cpp")


_COMMENTS = {
    "step_forward": (
        "States of t-1, inputs of t, prepared parameters -> outputs of t, states of t.",
    ),
    "step_advance": ("The same step where only its states are wanted.",),
    "step_backward": (
        "The adjoint of step_forward: gradients of outputs and states of t -> gradients of the",
        "states of t-1 and of the inputs of t, and a term of each parameter's gradient.",
    ),
    "prepare": ("What a step needs that parameters alone decide.",),
    "prepare_backward": (
        "The adjoint of prepare, on the gradients summed over steps and neurons.",
    ),
}


def step_view(model: Model, plan: Plan) -> _StepView:
    """Return the view of the step header, which CUDA shares."""
    dialect = CDialect(model.dtype)

    def function(name: str, kernel: Kernel) -> _Function:
        taken = [f"real {p.var.name}" for p in plan.read_inputs(kernel)]
        given = [f"real &{p.var.name}" for p in kernel.results]
        signature = f"NEURON_FUNCTION void {name}({', '.join([*taken, *given])}) {{"
        whole = signature.replace("real ", "real\0")  # a type stays with its name
        wrapped = "\n".join(textwrap.wrap(whole, 96, subsequent_indent="    "))
        return _Function(
            _COMMENTS[name],
            wrapped.replace("\0", " "),
            lines(kernel, dialect, kernel.result_names(*ROLES)),
        )

    named = {
        "step_forward": plan.forward,
        "step_advance": plan.advance,
        "step_backward": plan.backward,
        "prepare": plan.made,
        "prepare_backward": plan.prepare_backward,
    }
    return _StepView(
        family=model.family,
        equations=model.equations,
        real=dialect.real,
        math=math_functions(plan.kernels, model.dtype),
        functions=tuple(function(n, k) for n, k in named.items() if k.results),
    )


def _header_view(model: Model, plan: Plan) -> _HeaderView:
    shares = {"layer": "one value", "channel": "one per channel", "neuron": "one per channel*inner"}
    texts = [
        f"{p.name} {shares[p.per]}" + (f" of {p.size} numbers" if p.size else "")
        for p in model.params
    ]
    return _HeaderView(
        family=model.family,
        name=model.name,
        guard=f"{model.name.upper()}_H",
        equations=model.equations,
        granularity_text=", ".join(texts) or "none",
        chunk=CHUNK,
        forward_fields=plan.forward_fields,
        backward_fields=plan.backward_fields,
    )
