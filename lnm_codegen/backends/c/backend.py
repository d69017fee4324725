"""C backend: C++17 with OpenMP and SIMD behind a plain C interface, fused over time.

It writes four files: `<name>_step.h`, the arithmetic of one neuron and one time step; `<name>.cpp`,
memory, threads and time; `<name>.h`, the interface; `example.c`, a caller.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import NamedTuple

from lnm_codegen.backends.arguments import ABI
from lnm_codegen.backends.base import Model, Source, pass_files
from lnm_codegen.backends.c.example import example_source
from lnm_codegen.backends.c.expr import C_TYPES, CDialect, c_type, lines, math_functions
from lnm_codegen.backends.c.loops import loops_source
from lnm_codegen.backends.c.words import c_meaning
from lnm_codegen.backends.names import c_scopes, marked, renamed, require_no_collision
from lnm_codegen.backends.plan import FAR, Field, Plan, plan_of
from lnm_codegen.backends.render import render

FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-fPIC", "-shared", "-fopenmp",
    "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip
"""C++ compiler flags that keep the kernels consistent with the interpreter."""
CHUNK = 16
"""Time steps between saved states; also the chunk of the backward."""


@dataclass(frozen=True, slots=True)
class C:
    """The CPU backend. 16-bit sequences are passed as raw bits, and no example is generated.

    Attributes:
        chunk: Time steps between saved states.
        far: Time steps beyond which fewer states are saved.
        initial: The header has the initial values of the definition, and the text depends on them.
    """

    chunk: int = CHUNK
    far: int = FAR
    initial: bool = True

    def emit(self, model: Model) -> Source:
        """Return step, loops, header and example.

        Raises:
            UnsupportedError: Two names collide in the generated code, or C or C++ reserves one.
        """
        files = self._files(plan_of(model))
        scopes = c_scopes(self._files(plan_of(renamed(model, marked))))
        require_no_collision(f"c: {model.name}", scopes, c_meaning)
        files |= pass_files(self, model, frozenset({"example.c"}))
        return Source(files, f"{model.name}.cpp")

    def _files(self, plan: Plan) -> dict[str, str]:
        name = plan.model.name
        files = {
            f"{name}_step.h": render("c/step.h.j2", step_view(plan)),
            f"{name}.h": _header(plan, self),
            f"{name}.cpp": loops_source(plan, self.chunk, self.far),
        }
        if plan.model.dtype in C_TYPES:  # C has no arithmetic with 16 bits
            files["example.c"] = example_source(plan)
        return files


_COMMENTS = {
    "step_forward": (
        "States of t-1, inputs of t, prepared parameters -> outputs of t, states of t.",
    ),
    "step_advance": ("The same step; returns only the states.",),
    "step_backward": (
        "The adjoint of step_forward: gradients of outputs and states of t -> gradients of the",
        "states of t-1 and of the inputs of t, and a term of the gradient of each parameter.",
    ),
    "prepare": ("The part of a step that depends on parameters alone.",),
    "prepare_backward": (
        "The adjoint of prepare, on gradients summed over time steps and neurons.",
    ),
}


class _Function(NamedTuple):
    comment: tuple[str, ...]
    signature: str
    lines: tuple[str, ...]


def step_view(plan: Plan) -> dict[str, object]:
    """Return the view of the step header, which CUDA shares."""
    dialect, kernels = CDialect(plan.model.real), plan.functions
    functions = []
    for name, kernel in ((name, kernels[name]) for name in _COMMENTS if name in kernels):
        taken = [f"real {p.var.name}" for p in plan.read_inputs(kernel)]
        given = [f"real &{p.var.name}" for p in kernel.results]
        signature = f"NEURON_FUNCTION void {name}({', '.join([*taken, *given])}) {{"
        wrapped = wrapped_signature(signature, "real")
        functions.append(_Function(_COMMENTS[name], wrapped, lines(kernel, dialect)))
    return dict(
        family=plan.model.family,
        equations=plan.model.definition,
        real=dialect.real,
        math=math_functions(tuple(kernels.values()), plan.model.real),
        functions=tuple(functions),
    )


def wrapped_signature(signature: str, kind: str) -> str:
    """Return a signature in lines of 96 columns; a type `kind` stays with its name."""
    whole = signature.replace(f"{kind} ", f"{kind}\0")
    return "\n".join(textwrap.wrap(whole, 96, subsequent_indent="    ")).replace("\0", " ")


def _header(plan: Plan, backend: C) -> str:
    model = plan.model
    view = dict(
        family=model.family,
        name=model.name,
        guard=f"{model.name.upper()}_H",
        prefix=model.name.upper(),
        abi=ABI,
        equations=model.definition,
        granularity_text=plan.granularity_text,
        by_rows=plan.finest != "layer",
        states=plan.states,
        initial_lines=textwrap.wrap(plan.initial_text, 96) if backend.initial else [],
        chunk=backend.chunk,
        far=backend.far,
        dtype=model.dtype,
        is_narrow=model.dtype not in C_TYPES,
        forward_fields=tuple(_declared(f, model) for f in plan.forward_fields),
        backward_fields=tuple(_declared(f, model) for f in plan.backward_fields),
    )
    return render("c/kernel.h.j2", view)


def _declared(field: Field, model: Model) -> str:
    """Return the declaration of a field, with a comment."""
    declaration = field.declaration(c_type(model.dtype), c_type(model.real))
    return f"{declaration};" + (f" /* {field.comment} */" if field.comment else "")
