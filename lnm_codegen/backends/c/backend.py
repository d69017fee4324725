"""`c`: C++17 with OpenMP and SIMD behind a plain C ABI, fused over time.

Four files: `<name>_step.h`, the arithmetic of one neuron and one step; `<name>.cpp`, memory,
threads and time; `<name>.h`, the ABI; `example.c`, a caller.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field

from lnm_codegen.backends.base import Model, Source
from lnm_codegen.backends.c.example import example_source
from lnm_codegen.backends.c.expr import C_TYPES, CDialect, c_type, lines, math_functions
from lnm_codegen.backends.c.loops import kernel_view
from lnm_codegen.backends.plan import FAR, ROLES, Field, Plan, plan_of
from lnm_codegen.backends.render import render
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.nodes import Kernel

TILE, BLOCK, CHUNK = 1024, 128, 16


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
    io_note: str
    forward_fields: tuple[str, ...]
    backward_fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class C:
    """The CPU backend. Sequences of 16-bit numbers are passed as their bits, without an example.

    Attributes:
        chunk: Steps between two states that the forward keeps.
        far: The T from which on it keeps fewer.
        name: The word that users have for it.
    """

    chunk: int = CHUNK
    far: int = FAR
    name: str = field(default="c", init=False)

    def emit(self, model: Model) -> Source:
        """Return step, loops, header and example.

        Raises:
            UnsupportedError: Two names of the model would meet in the C interface.
        """
        plan = plan_of(model)
        _check_names(plan)
        name = model.name
        files = {
            f"{name}_step.h": render("c/step.h.j2", step_view(model, plan)),
            f"{name}.h": render("c/kernel.h.j2", _header_view(model, plan, self.chunk)),
            f"{name}.cpp": render(
                "c/kernel.cpp.j2", kernel_view(plan, TILE, BLOCK, self.chunk, self.far)
            ),
        }
        if model.dtype in C_TYPES:  # C has no number of 16 bits to begin with
            files["example.c"] = example_source(model, plan)
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


def _check_names(plan: Plan) -> None:
    """Refuse names that would meet what the loops call theirs, such as a tile's sums."""
    prepared = set(plan.per)
    taken = {
        *(f"{q}_rows" for q in prepared),
        *(f"total_{q}" for q in plan.terms),
        *(f"count_{q}" for q in plan.counts),
    }
    for word in sorted(taken & {*prepared, *plan.states, *plan.model.inputs, *plan.model.outputs}):
        raise UnsupportedError(
            f"c: {plan.model.name}",
            f"the loops have a variable called {word!r}",
            remedy="Rename the parameter, state, input or output.",
        )


def step_view(model: Model, plan: Plan) -> _StepView:
    """Return the view of the step header, which CUDA shares."""
    dialect = CDialect(model.real)

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
        math=math_functions(plan.kernels, model.real),
        functions=tuple(function(n, k) for n, k in named.items() if k.results),
    )


def _header_view(model: Model, plan: Plan, chunk: int) -> _HeaderView:
    return _HeaderView(
        family=model.family,
        name=model.name,
        guard=f"{model.name.upper()}_H",
        equations=model.equations,
        granularity_text=plan.granularity_text,
        chunk=chunk,
        io_note=f" of {model.dtype}, passed as their bits" if model.dtype not in C_TYPES else "",
        forward_fields=tuple(_declared(f, model) for f in plan.forward_fields),
        backward_fields=tuple(_declared(f, model) for f in plan.backward_fields),
    )


def _declared(field: Field, model: Model) -> str:
    """Write a field with what there is to say of it."""
    notes = [field.note] if field.note else []
    notes += ["or NULL"] if field.nullable else []
    declaration = field.declaration(c_type(model.dtype), c_type(model.real))
    return f"{declaration};" + (f" /* {', '.join(notes)} */" if notes else "")
