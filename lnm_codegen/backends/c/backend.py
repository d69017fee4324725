"""C backend: C++17 with OpenMP and SIMD behind a plain C interface, fused over time.

It writes four files: `<name>_step.h`, the arithmetic of one neuron and one time step; `<name>.cpp`,
memory, threads and time; `<name>.h`, the interface; `example.c`, a caller.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import NamedTuple

from lnm_codegen.backends.base import Model, Source, pass_files
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
    Places,
    Rows,
    conditions,
    counted_once,
    place,
    prepared_lines,
    raw_values,
    result_variables,
    step_call,
)
from lnm_codegen.backends.names import c_scopes, marked, renamed, require_no_collision
from lnm_codegen.backends.plan import FAR, Field, Plan, plan_of, values_text
from lnm_codegen.backends.render import render
from lnm_codegen.ir.declarations import Granularity, Param
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


# Source of the C loops: threads, tiles, chunks and blocks around the step.


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


# Example caller of the C backend: a C99 program that runs forward and backward once.


_SIZE = "TIME_STEPS * NEURONS"


def example_source(plan: Plan) -> str:
    """Return `example.c`."""
    model, real = plan.model, c_type(plan.model.real)
    sequences = (*model.inputs, *model.outputs)
    declarations = [
        *(f"static {real} {q}_seq[{_SIZE}], grad_{q}_seq[{_SIZE}];" for q in sequences),
        *(f"const {real} {s.name}_init = {number_of(s.init, model.real)};" for s in model.states),
        *(line for p in model.params for line in _parameter(p, model.real)),
        f"{real} *checkpoints = ({real} *)malloc(sizeof({real}) *"
        f" (size_t){model.name}_checkpoints(TIME_STEPS, NEURONS) + 1);",
    ]
    fills = [
        *(f"{x}_seq[k] = ({real})(k % 97) / 48 - ({real})0.5;" for x in model.inputs),
        *(f"grad_{o}_seq[k] = 1;" for o in model.outputs),
    ]
    shared = ["time_steps = TIME_STEPS", "neurons = NEURONS", "sample = CHANNELS * INNER"]
    shared += ["channels = CHANNELS", "inner = INNER", "threads = 2", "checkpoints = checkpoints"]
    both, gradients = settings(plan, "{0} = {0}", "{0} = &{0}", "{0} = {1}", "NEURONS")
    shared += both
    printed = (*model.outputs, *(f"grad_{x}" for x in model.inputs))
    prints = [
        *(f'printf("sum of {q} %g\\n", (double)sum({q}_seq, {_SIZE}));' for q in printed),
        *(
            f"for (int k = 0; k < {_count(p)}; ++k)"
            f' printf("grad_{p.name}[%d] %g\\n", k, (double)grad_{p.name}[k]);'
            for p in plan.learnable
        ),
    ]
    view = dict(
        family=model.family,
        name=model.name,
        prefix=model.name.upper(),
        real=real,
        declarations=declarations,
        fills=fills,
        forward_settings=(*shared, *(f"{o}_seq = {o}_seq" for o in model.outputs)),
        backward_settings=(*shared, *gradients),
        prints=prints,
    )
    return render("c/example.c.j2", view)


def settings(
    plan: Plan, sequence: str, state: str, parameter: str, stride: str
) -> tuple[list[str], list[str]]:
    """Return the assignments that both calls share, and those of the backward call alone.

    Args:
        plan: The plan.
        sequence: Assignment of a sequence, with `{0}` for the name of the field.
        state: Assignment of a state.
        parameter: Assignment of a parameter or its gradient; `{1}` is the variable.
        stride: The stride of every sequence.
    """
    model = plan.model
    shared, backward = [], []
    for x in model.inputs:
        shared += [sequence.format(f"{x}_seq"), f"{x}_stride = {stride}"]
    shared += [state.format(f"{s}_init") for s in plan.states]
    shared += [parameter.format(p.name, f"{p.name}_values") for p in model.params]
    for o in model.outputs:
        backward += [sequence.format(f"grad_{o}_seq"), f"grad_{o}_stride = {stride}"]
    backward += [sequence.format(f"grad_{x}_seq") for x in model.inputs]
    backward += [parameter.format(*[f"grad_{p.name}"] * 2) for p in plan.learnable]
    return shared, backward


def _count(p: Param) -> str:
    values = values_text(p.per, "CHANNELS", "CHANNELS * INNER")
    return f"{values} * {p.size}" if p.size else values


def _parameter(p: Param, real: str) -> tuple[str, ...]:
    """Return the declaration of a parameter's values; a user's name alone would hide others."""
    kind, start = c_type(real), init_numbers(p, real)
    grad = (f"{kind} grad_{p.name}[{_count(p)}] = {{0}};",) if p.learnable else ()
    if p.per == "layer":
        return (f"const {kind} {p.name}_values[] = {start};", *grad)
    fill = f"for (int k = 0; k < {_count(p)}; ++k)"
    return (
        f"{kind} {p.name}_values[{_count(p)}];",
        f"{fill} {p.name}_values[k] = (const {kind}[]){start}[k % {p.size or 1}];",
        *grad,
    )


def init_numbers(p: Param, real: str) -> str:
    """Return the initial numbers of one value of a parameter, in braces."""
    values = p.init if isinstance(p.init, tuple) else (p.init,) * (p.size or 1)
    return f"{{{', '.join(number_of(value, real) for value in values)}}}"


def number_of(init: object, real: str) -> str:
    """Return an initial number as a literal; 0 if a function computes it."""
    return literal(init if isinstance(init, float) else 0.0, real)
