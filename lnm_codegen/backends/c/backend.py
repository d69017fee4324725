"""C backend: C++17 with OpenMP and SIMD behind a plain C interface, fused over time.

It writes four files: `<name>_step.h`, the arithmetic of one neuron and one time step; `<name>.cpp`,
memory, threads and time; `<name>.h`, the interface; `example.c`, a caller.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import NamedTuple

from lnm_codegen.backends.base import Source, pass_files
from lnm_codegen.backends.c.expr import (
    C_TYPES,
    CDialect,
    c_meaning,
    c_type,
    lines,
    literal,
    math_functions,
)
from lnm_codegen.backends.loops import (
    ABI,
    Indices,
    StepAccess,
    conditions,
    counted_once,
    place,
    prepared_lines,
    raw_values,
    result_variables,
    step_call,
)
from lnm_codegen.backends.names import Scope, names_of, require_no_collision, scope
from lnm_codegen.backends.plan import FAR, Plan, values_text
from lnm_codegen.backends.render import render
from lnm_codegen.ir.declarations import GRANULARITIES, Granularity, Param
from lnm_codegen.ir.nodes import Role

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

    def emit(self, plan: Plan) -> Source:
        """Return step, loops, header and example.

        Raises:
            UnsupportedError: Two names collide in the generated code, or C or C++ reserves one.
        """
        files = self._files(plan)
        require_no_collision(f"c: {plan.name}", scopes_of(plan), c_meaning)
        files |= pass_files(self, plan, frozenset({"example.c"}))
        return Source(files, f"{plan.name}.cpp")

    def _files(self, plan: Plan) -> dict[str, str]:
        name = plan.name
        files = {
            f"{name}_step.h": render("c/step.h.j2", step_view(plan)),
            f"{name}.h": _header(plan, self),
            f"{name}.cpp": loops_source(plan, self.chunk, self.far),
        }
        if plan.dtype in C_TYPES:  # C has no arithmetic with 16 bits
            files["example.c"] = example_source(plan)
        return files


def scopes_of(plan: Plan) -> list[Scope]:
    """Return the scopes of the templates in which a name of the plan can equal another word."""
    names = names_of(plan)
    called = CDialect(plan.real).called(plan.functions.values())
    return [
        scope(
            names,
            f"ALWAYS_INLINE NEURON_FUNCTION real {called}",
            variable="{}",
            upper="{}_H {}_ABI {}_OUT_OF_MEMORY {}_BAD_STRUCT {}_BAD_DIMENSION {}_NULL_POINTER",
        ),
        scope(names, "real std RowShape" if plan.by_rows else "real", prepared="{} _rows_{}"),
        scope(
            names,
            "real kTileNeurons kSumLanes kChunkSteps kBlockNeurons",
            state="{} grad_{}",
            prepared="{}",
            term="sum_{} _total_{}",
        ),
        scope(
            names,
            "",
            state="grad_{}",
            input="grad_{}_row",
            output="grad_{}_row grad_{}_from grad_{}_wide" if plan.is_narrow else "grad_{}_row",
        ),
        scope(names, "", param="grad_{}", element="grad_{}_value"),
        scope(names, "ALWAYS_INLINE NEURON_FUNCTION int64_t", param="{}"),
    ]


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
    dialect, kernels = CDialect(plan.real), plan.functions
    functions = []
    for name, kernel in ((name, kernels[name]) for name in _COMMENTS if name in kernels):
        taken = [f"real {p.var.name}" for p in plan.read_inputs(kernel)]
        given = [f"real &{p.var.name}" for p in kernel.results]
        signature = f"NEURON_FUNCTION void {name}({', '.join([*taken, *given])}) {{"
        wrapped = wrapped_signature(signature, "real")
        functions.append(_Function(_COMMENTS[name], wrapped, lines(kernel, dialect)))
    return dict(
        plan=plan,
        real=dialect.real,
        math=math_functions(tuple(kernels.values()), plan.real),
        functions=tuple(functions),
    )


def wrapped_signature(signature: str, kind: str) -> str:
    """Return a signature in lines of 96 columns; a type `kind` stays with its name."""
    whole = signature.replace(f"{kind} ", f"{kind}\0")
    return "\n".join(textwrap.wrap(whole, 96, subsequent_indent="    ")).replace("\0", " ")


def _header(plan: Plan, backend: C) -> str:
    view = dict(
        plan=plan,
        abi=ABI,
        initial_lines=textwrap.wrap(plan.initial_text, 96) if backend.initial else [],
        chunk=backend.chunk,
        far=backend.far,
        io=c_type(plan.dtype),
        real=c_type(plan.real),
    )
    return render("c/kernel.h.j2", view)


# Source of the C loops: threads, tiles, chunks and blocks around the step.


TILE, BLOCK = 1024, 128
"""Neurons of a tile, and of a block."""

VALUES = {per: values_text(per, "a.channels", "a.sample") for per in GRANULARITIES}


def loops_source(plan: Plan, chunk: int, far: int) -> str:
    """Return `<name>.cpp`."""
    uniform = bool(plan.row_parameters) and plan.finest == "channel"

    def row(q: str) -> str:
        lane = f"tile.{q}[c.at + i]"
        return f"(kUniform ? {q}_one : {lane})" if uniform else lane

    element = ("widen({}_from[i])" if plan.dtype == "bfloat16" else "{}_row[i]").format
    now = StepAccess("{}_now[i]".format, element, row)
    saved = StepAccess("steps.{}[t][i]".format, element, row, "{}[i]".format, element)
    view = dict(
        plan=plan,
        tile=TILE,
        block=BLOCK,
        chunk=chunk,
        far=far,
        uniform=uniform,
        io=c_type(plan.dtype),
        source="from" if plan.is_narrow else "row",
        widens=plan.dtype == "float16",  # the compiler may not convert it in a loop of vectors
        values=VALUES,
        prepared_loop=prepared_lines(plan, indices(plan), indices(plan), indent=8),
        forward_locals=result_variables(plan.forward, indent=12),
        forward_call=step_call(plan, plan.forward, now, indent=12),
        advance_locals=result_variables(plan.advance, indent=12),
        advance_call=step_call(plan, plan.advance, saved, indent=12),
        backward_locals=result_variables(plan.backward, indent=12),
        backward_call=step_call(plan, plan.backward, saved, indent=12),
        gradient_loop=gradient_loop(plan),
        **conditions(plan, "saved_numbers(a->time_steps, a->neurons)"),
    )
    return render("c/kernel.cpp.j2", view)


def indices(plan: Plan) -> Indices:
    """Return the index of each granularity, where `row` counts the values of the finest."""
    rows: dict[Granularity, str] = {"layer": "0", "channel": "row / a.inner % a.channels"}
    return {**rows, **({} if plan.finest == "layer" else {plan.finest: "row"})}


def gradient_loop(plan: Plan) -> tuple[str, ...]:
    """Return the call of the adjoint of prepare, and the sums over the values of a parameter."""
    kernel, raw, rows = plan.prepare_backward, raw_values(plan, indices(plan)), indices(plan)
    if not kernel.results:
        return ()
    words = [
        raw[p.var.name] if p.role is Role.PARAM else _seed(plan, p.var.name)
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


def _seed(plan: Plan, port: str) -> str:
    """Return the input `port` of the adjoint of prepare, for one value of the finest parameter."""
    q = port.removeprefix("sum_")
    if plan.per[q] == "layer":
        value = f"real(sums.tiles[{plan.layer_terms.index(q)}])"
        return counted_once(value, "row == 0 && tiles")
    if plan.per[q] == plan.finest:
        return f"real(sums.sum_{q}[row])"
    first = "row % a.inner == 0 && row / a.inner < a.channels"
    return counted_once(f"real(sums.sum_{q}[row / a.inner])", first)


# Example caller of the C backend: a C99 program that runs forward and backward once.


def example_source(plan: Plan) -> str:
    """Return `example.c`. Values of parameters have a suffix: a user's name might hide others."""
    view = dict(
        plan=plan,
        real=c_type(plan.real),
        values={per: values_text(per, "CHANNELS", "CHANNELS * INNER") for per in GRANULARITIES},
        starts={s.name: number_of(s.init, plan.real) for s in plan.declared_states},
        numbers={p.name: init_numbers(p, plan.real) for p in plan.params},
    )
    return render("c/example.c.j2", view)


def init_numbers(p: Param, real: str) -> str:
    """Return the initial numbers of one value of a parameter, in braces."""
    values = p.init if isinstance(p.init, tuple) else (p.init,) * (p.size or 1)
    return f"{{{', '.join(number_of(value, real) for value in values)}}}"


def number_of(init: object, real: str) -> str:
    """Return an initial number as a literal; 0 if a function computes it."""
    return literal(init if isinstance(init, float) else 0.0, real)
