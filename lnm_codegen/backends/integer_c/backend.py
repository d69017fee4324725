"""`c` with a spec: the integer model of a circuit in C, equal to the NumPy model bit for bit.

Four files: `<name>_model_step.h`, one step of one neuron in plain C; `<name>_model.cpp`, memory,
threads and time; `<name>_model.h`, its C interface; `<name>_model_coefficients.h`, the values. The
first three know no value, so that one library serves every layer of a network.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.integer_c.expr import c_sizes, c_type, lines
from lnm_codegen.backends.integer_c.fields import WORDS, names, run_fields
from lnm_codegen.backends.integer_c.model import Coefficient, FixedModel
from lnm_codegen.backends.render import render
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.types import Bits

BLOCK = 256
REALS = ("float", "double")


@dataclass(frozen=True, slots=True)
class _StepView:
    family: str
    name: str
    guard: str
    equations: tuple[str, ...]
    formats: tuple[str, ...]
    result_fields: tuple[str, ...]
    signature: str
    lines: tuple[str, ...]
    result_lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Real:
    type: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _ModelView:
    family: str
    name: str
    guard: str
    equations: tuple[str, ...]
    formats: tuple[str, ...]
    block: int
    states: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    coefficients: tuple[str, ...]
    integer_fields: tuple[str, ...]
    reals: tuple[_Real, ...]
    format_constants: tuple[str, ...]
    step_arguments: str
    block_flag: str
    has_rows: str


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    count: int
    format: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _CoefficientsView:
    family: str
    name: str
    guard: str
    tables: tuple[_Table, ...]
    starts: tuple[str, ...]


class FixedC:
    """The integer C model."""

    name = "c"

    def emit(self, model: FixedModel) -> Source:
        """Return step, run, interface and values.

        Raises:
            UnsupportedError: Two names of the model would meet in C.
        """
        name, guard = f"{model.name}_model", f"{model.name.upper()}_MODEL"
        view = _model_view(model)
        tables = tuple(_table(model.name, c) for c in model.coefficients)
        starts = tuple(
            f"static const int32_t {model.name}_{s.name}_init = {s.init};"
            f"  // {_shown(float(s.bits.value(s.init)))} in {s.bits}"
            for s in model.states
        )
        values = _CoefficientsView(
            model.family, model.name, f"{guard}_COEFFICIENTS_H", tables, starts
        )
        files = {
            f"{name}_step.h": render("integer_c/step.h.j2", _step_view(model, f"{guard}_STEP_H")),
            f"{name}.h": render("integer_c/model.h.j2", view),
            f"{name}.cpp": render("integer_c/model.cpp.j2", view),
            f"{name}_coefficients.h": render("integer_c/coefficients.h.j2", values),
        }
        return Source(files, f"{name}.cpp")


def _formats(kernel: fx.Kernel) -> tuple[str, ...]:
    """Say the format of every port, those of one role and format on a line."""
    rows: dict[tuple[str, str], list[str]] = {}
    for port in (*kernel.inputs, *kernel.results):
        kind = port.var.type
        text = str(kind) if isinstance(kind, Bits) else "0 or 1"
        rows.setdefault((port.role.value, text), []).append(port.var.name)
    words = {"param": "coefficient"}
    return tuple(
        line
        for (role, text), names in rows.items()
        for line in textwrap.wrap(f"{words.get(role, role):<12}{text:<8}{', '.join(names)}", 90)
    )


def _step_view(model: FixedModel, guard: str) -> _StepView:
    kernel = model.program.kernel
    sizes = c_sizes(kernel)
    taken = ", ".join(f"int32_t {p.var.name}" for p in kernel.inputs)
    given = names(tuple(p.var for p in kernel.results))
    result = _free("result", {*sizes, *given})
    signature = (
        f"FIXED_POINT_FUNCTION {model.name}_model_result {model.name}_model_step({taken}) {{"
    )
    whole = signature.replace("int32_t ", "int32_t\0")  # a type stays with its name
    wrapped = "\n".join(textwrap.wrap(whole, 96, subsequent_indent="    "))
    return _StepView(
        family=model.family,
        name=model.name,
        guard=guard,
        equations=model.equations,
        formats=_formats(kernel),
        result_fields=tuple(f"{'int32_t' if sizes[n] else 'int'} {n};" for n in given),
        signature=wrapped.replace("\0", " "),
        lines=lines(kernel),
        result_lines=(
            f"{model.name}_model_result {result};",
            *(f"{result}.{n} = {_narrowed(n, sizes[n])};" for n in given),
            f"return {result};",
        ),
    )


def _narrowed(name: str, size: int) -> str:
    return f"({c_type(32)}){name}" if size == 64 else name


def _free(word: str, taken: set[str]) -> str:
    while word in taken:
        word += "_"
    return word


def _model_view(model: FixedModel) -> _ModelView:
    kernel, name = model.program.kernel, model.name
    _check_names(model)
    fields = run_fields(kernel)
    coefficients = names(kernel.input_vars(Role.PARAM))

    def declared(number: str) -> tuple[str, ...]:
        return (
            f"int64_t {', '.join(WORDS)};",
            *(f.declaration(name, number) for f in fields),
        )

    formats = [p.var for p in kernel.inputs if p.role is not Role.PARAM]
    formats += kernel.result_vars(Role.OUTPUT)
    return _ModelView(
        family=model.family,
        name=name,
        guard=f"{name.upper()}_MODEL_H",
        equations=model.equations,
        formats=_formats(kernel),
        block=BLOCK,
        states=names(kernel.input_vars(Role.STATE)),
        inputs=names(kernel.input_vars(Role.INPUT)),
        outputs=names(kernel.result_vars(Role.OUTPUT)),
        coefficients=coefficients,
        integer_fields=declared("int32_t"),
        reals=tuple(_Real(kind, declared(kind)) for kind in REALS),
        format_constants=tuple(_format_constant(v) for v in formats),
        step_arguments=_wrapped([_argument(p) for p in kernel.inputs], ", ", 16),
        block_flag="<kRows>" if coefficients else "",
        has_rows=_wrapped([f"a.{c}.rows > 1" for c in coefficients], " || ", 8),
    )


def _wrapped(parts: list[str], between: str, indent: int) -> str:
    """Join parts, as many on a line as fit, later lines indented."""
    text = between.join(p.replace(" ", "\0") for p in parts)
    lines = textwrap.wrap(text, 96 - indent, break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * indent}".join(lines).replace("\0", " ")


def _format_constant(var: fx.Var) -> str:
    bits = var.type if isinstance(var.type, Bits) else Bits(2, 0)
    return f"constexpr Format k_{var.name} = {{{bits.width}, {bits.frac}}};"


def _argument(port: fx.Port) -> str:
    name = port.var.name
    match port.role:
        case Role.STATE:
            return f"{name}_now[i]"
        case Role.INPUT:
            return f"{name}_row[i]"
        case _:
            return f"kRows ? lanes.{name}[i] : {name}_one"


def _check_names(model: FixedModel) -> None:
    """Refuse names that would meet in a struct of arguments, or what the step calls."""
    kernel = model.program.kernel
    fields = [*WORDS, *(f.name for f in run_fields(kernel))]
    calls = [
        f"{f}_{n}" for f in ("truncate", "half_up", "convergent", "saturate") for n in (32, 64)
    ]
    calls += [f"{model.name}_model_step", f"{model.name}_model_result"]
    calls += ["int32_t", "int64_t", "uint32_t", "INT64_C", "FIXED_POINT_FUNCTION"]
    lets = [let.target.name for let in kernel.body]
    ports = [p.var.name for p in kernel.inputs]
    for word in (*fields, *ports, *lets):
        if fields.count(word) > 1 or (word in calls):
            raise UnsupportedError(
                f"c: {model.name}",
                f"two things in the C model would be called {word!r}",
                remedy="Rename a state, an input, a parameter or an output.",
            )


def _table(model: str, c: Coefficient) -> _Table:
    many = len(c.integers) > 1
    rows = tuple(
        f"{k},  // {f'[{n}] ' if many else ''}{_shown(r)}"
        for n, (k, r) in enumerate(zip(c.integers, c.reals, strict=True))
    )
    return _Table(f"{model}_{c.name}", len(c.integers), str(c.bits), rows)


def _shown(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
