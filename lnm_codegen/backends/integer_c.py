"""Integer C backend: the fixed-point model of a circuit in C, bit-exact to the NumPy model.

It writes four files: `<name>_model_step.h`, one time step of one neuron in C99;
`<name>_model.cpp`, memory, threads and time; `<name>_model.h`, the interface;
`<name>_model_coefficients.h`, the values. The first three contain no values, so that one library
serves every layer of a network.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, assert_never

from lnm_codegen.backends import expr
from lnm_codegen.backends.base import Source
from lnm_codegen.backends.c.backend import wrapped_signature
from lnm_codegen.backends.c.expr import c_meaning
from lnm_codegen.backends.fixed import Coefficient, FixedModel
from lnm_codegen.backends.loops import ABI, wrapped
from lnm_codegen.backends.names import (
    Scope,
    require_no_collision,
    scope,
)
from lnm_codegen.backends.plan import require_distinct, sharing_fields
from lnm_codegen.backends.render import render, render_files
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import Span, SumOp, span, spans
from lnm_codegen.ir.kernel import Role
from lnm_codegen.ir.nodes import number_text
from lnm_codegen.ir.types import BOOL, Bits, Rounding

# Printer of fixed-point kernels in C. Each value has 32 bits if its range fits, else 64.
#
# A shift to the left is a multiplication, which C defines for negative numbers too.


_INT32 = (-(1 << 31), (1 << 31) - 1)

NOTHING: Mapping[str, Span] = MappingProxyType({})
"""No known spans: an input may be any integer of its bits."""

_WORDS = ("truncate", "half_up", "convergent", "saturate")
FUNCTIONS = tuple(f"{word}_{size}" for word in _WORDS for size in (32, 64))
"""Functions of `integer_c/functions.h.j2`, which have the prefix `fixed_`."""

Sizes = Mapping[str, int]
"""Name of a Let or a port -> the bits of its C variable, 32 or 64, or 0 for a condition."""


def literal(value: int) -> str:
    """Return an integer as C writes it; the least one of a type is no literal."""
    if -(1 << 31) < value < 1 << 31:
        return str(value)
    return "(-2147483647 - 1)" if value == -(1 << 31) else f"INT64_C({value})"


def called(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the `FUNCTIONS` that some statements call."""
    whole = "\n".join(texts)
    return tuple(name for name in FUNCTIONS if f"fixed_{name}(" in whole)


def c_sizes(kernel: fx.Kernel, known: Mapping[str, Span] = NOTHING) -> dict[str, int]:
    """Return the size of the C variable of every name; `known` are spans of inputs by name."""
    found = spans(kernel, known)
    names = [p.var for p in kernel.inputs] + [let.target for let in kernel.body]
    return {v.name: 0 if v.type is BOOL else _size(found[v.name]) for v in names}


def c_type(size: int) -> str:
    """Return the type of a C variable of a size."""
    return f"int{size}_t" if size else "int"


def lines(kernel: fx.Kernel, known: Mapping[str, Span] = NOTHING) -> tuple[str, ...]:
    """Return the body as C statements, each with the format of its number.

    Parameters that the body does not read come first, as `(void)name;`.
    """
    sizes, found = c_sizes(kernel, known), spans(kernel, known)

    def statement(let: fx.Let) -> list[str]:
        name = let.target.name
        value = _written(let.value, found, sizes)
        text = value.at(expr.LOOSEST)
        if value.size > sizes[name]:
            text = f"({c_type(sizes[name])}){value.at(expr.CALL)}"
        note = f"  // {let.target.type}" if isinstance(let.target.type, Bits) else ""
        wrapped = textwrap.wrap(
            f"const {c_type(sizes[name])} {name} = {text};",
            108 - len(note),
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        return [*wrapped[:-1], f"{wrapped[-1]}{note}"]

    read = {e.name for let in kernel.body for e in fx.walk(let.value) if isinstance(e, fx.Var)}
    read |= {p.var.name for p in kernel.results}
    unread = (f"(void){p.var.name};" for p in kernel.inputs if p.var.name not in read)
    return (*unread, *expr.statements(kernel.phases(), "//", statement))


def step_view(kernel: fx.Kernel, known: Mapping[str, Span] = NOTHING) -> dict[str, tuple[Any, ...]]:
    """Return the body of a step, and the fields and values of its result, for a template."""
    sizes, given = c_sizes(kernel, known), kernel.result_names(*Role)
    return {
        "lines": lines(kernel, known),
        "fields": tuple(f"{'int32_t' if sizes[n] else 'int'} {n};" for n in given),
        "results": tuple((n, f"(int32_t){n}" if sizes[n] == 64 else n) for n in given),
    }


@dataclass(frozen=True, slots=True)
class _Text:
    """A printed expression, its level of precedence, and the size of its type."""

    text: str
    level: int
    size: int

    def at(self, level: int) -> str:
        """Return the text, in parentheses where an operator of `level` requires them."""
        return f"({self.text})" if self.level < level else self.text

    def wide(self, level: int) -> str:
        """Return the text as a number of 64 bits."""
        return self.at(level) if self.size == 64 else f"(int64_t){self.at(expr.CALL)}"


def _size(values: Span) -> int:
    return 32 if _INT32[0] <= values[0] and values[1] <= _INT32[1] else 64


def _written(e: fx.Expr, found: Mapping[str, Span], sizes: Sizes) -> _Text:
    def of(child: fx.Expr) -> _Text:
        return _written(child, found, sizes)

    match e:
        case fx.Const():
            return _constant(e)
        case fx.Var(name, _):
            return _Text(name, expr.CALL, sizes[name])
        case fx.Negate(arg):
            value, size = of(arg), _size(span(e, found))
            text = value.wide(expr.CALL) if size == 64 else value.at(expr.CALL)
            return _Text(f"-{text}", expr.UNARY, max(size, value.size))
        case fx.Sum(op, lhs, rhs):
            symbol = "+" if op is SumOp.ADD else "-"
            return _binary(symbol, expr.SUM, of(lhs), of(rhs), _size(span(e, found)))
        case fx.Product(lhs, rhs):
            return _binary("*", expr.PRODUCT, of(lhs), of(rhs), _size(span(e, found)))
        case fx.Shift(arg, places):
            one = "1" if places < 31 else "INT64_C(1)"
            power = _Text(f"({one} << {places})", expr.CALL, 32)
            return _binary("*", expr.PRODUCT, of(arg), power, _size(span(e, found)))
        case fx.Round(arg, places, rounding):
            return _round(of(arg), span(arg, found), places, rounding)
        case fx.Saturate(arg, width):
            value = of(arg)
            assert width <= 32, "quantize saturates to the width of a Fixed"
            return _Text(f"fixed_saturate_{value.size}({value.at(0)}, {width})", expr.CALL, 32)
        case fx.Compare(compare, lhs, rhs):
            a, b = of(lhs), of(rhs)
            return _Text(f"{a.at(expr.SUM)} {compare.value} {b.at(expr.SUM)}", expr.COMPARE, 0)
        case fx.Not(arg):
            return _Text(f"!{of(arg).at(expr.CALL)}", expr.UNARY, 0)
        case fx.Both(lhs, rhs):
            return _Text(f"{of(lhs).at(expr.CALL)} & {of(rhs).at(expr.CALL)}", expr.AND, 0)
        case fx.Either(lhs, rhs):
            return _Text(f"{of(lhs).at(expr.CALL)} | {of(rhs).at(expr.CALL)}", expr.OR, 0)
        case fx.Select(cond, then, orelse):
            a, b = of(then), of(orelse)
            text = f"{of(cond).at(expr.COMPARE)} ? {a.at(expr.OR)} : {b.at(expr.OR)}"
            return _Text(text, expr.TERNARY, max(a.size, b.size))
        case _:
            assert_never(e)


def _constant(e: fx.Const) -> _Text:
    """Return an integer, with the real number that it encodes in a comment."""
    text = literal(e.integer)
    if e.real:
        text += f" /* {number_text(e.real)} in {e.bits} */"
    level = expr.UNARY if text.startswith("-") else expr.CALL
    return _Text(text, level, _size((e.integer, e.integer)))


def _binary(symbol: str, level: int, a: _Text, b: _Text, size: int) -> _Text:
    """Return an operator; if only its result has 64 bits, its first operand is widened."""
    size = max(size, a.size, b.size)
    widen = size == 64 and a.size == b.size == 32
    left = a.wide(level) if widen else a.at(level)
    return _Text(f"{left} {symbol} {b.at(level + 1)}", level, size)


def _round(value: _Text, values: Span, places: int, rounding: Rounding) -> _Text:
    if rounding is Rounding.TRUNCATE:
        size = value.size if places < 32 else 64  # C shifts 32 bits by less than 32 places
        return _Text(f"fixed_truncate_{size}({value.at(0)}, {places})", expr.CALL, size)
    half = 1 << (places - 1)  # the sum before the shift must fit too
    size = max(value.size, _size((values[0], values[1] + half)))
    name = {Rounding.HALF_UP: "half_up", Rounding.CONVERGENT: "convergent"}[rounding]
    return _Text(f"fixed_{name}_{size}({value.at(0)}, {places})", expr.CALL, size)


BLOCK = 256
"""Neurons of a block."""
REALS = ("float", "double")
"""Types of real sequences."""
WORDS = ("struct_size", "struct_version", "time_steps", "neurons", "threads")
"""First arguments of every run."""


@dataclass(frozen=True, slots=True)
class ModelField:
    """An argument of a run after `WORDS`.

    Attributes:
        name: Name in C.
        kind: "number" (address of sequences or states), "coefficient" (three words) or "stride".
        written: True if the run writes there.
        note: Comment.
    """

    name: str
    kind: str
    written: bool = False
    note: str = ""

    def declaration(self, name: str, number: str) -> str:
        """Return the field of a struct of the model `name`, for a type of numbers."""
        kind = {
            "number": f"{'' if self.written else 'const '}{number} *",
            "coefficient": f"{name}_model_coefficient ",
            "stride": "int64_t ",
        }[self.kind]
        note = f" /* {self.note} */" if self.note else ""
        return f"{kind}{self.name};{note}"


def run_fields(kernel: fx.Kernel) -> tuple[ModelField, ...]:
    """Return the arguments of a run after `WORDS`, in order."""
    inputs, states = kernel.input_names(Role.INPUT), kernel.input_names(Role.STATE)
    fields: list[ModelField] = []
    for k, x in enumerate(inputs):
        fields += [ModelField(f"{x}_seq", "number"), ModelField(f"{x}_stride", "stride")]
        if k:
            fields += [ModelField(name, "stride", note=note) for name, note in sharing_fields(x)]
    note = "1, or 0 if all neurons begin with one number"
    for s in states:
        fields.append(ModelField(f"{s}_init", "number", note="(N)"))
        fields.append(ModelField(f"{s}_init_stride", "stride", note=note))
    fields += [ModelField(c, "coefficient") for c in kernel.input_names(Role.PARAM)]
    for o in kernel.result_names(Role.OUTPUT):
        fields += [ModelField(f"{o}_seq", "number", True), ModelField(f"{o}_stride", "stride")]
    for s in states:
        fields += [
            ModelField(f"{s}_seq", "number", True, "before each step, or NULL"),
            ModelField(f"{s}_stride", "stride"),
            ModelField(f"{s}_final", "number", True, "after the last step, (N), or NULL"),
        ]
    for x in inputs:
        note = f"{x} rounded to its format, contiguous (T, N), or NULL"
        fields.append(ModelField(f"{x}_rounded_seq", "number", True, note))
    return tuple(fields)


class FixedC:
    """The integer C model."""

    def emit(self, model: FixedModel) -> Source:
        """Return step, run, interface and values.

        Raises:
            UnsupportedError: Two names collide in the generated code, or C or C++ reserves one.
        """
        where, kernel = f"c: {model.name}", model.program.kernel
        require_distinct(where, [*WORDS, *(f.name for f in run_fields(kernel))])
        require_no_collision(where, scopes_of(kernel, model.name), c_meaning)
        values = {f"{model.name}_model_coefficients.h": _coefficients(model)}
        return Source(_code(model) | values, f"{model.name}_model.cpp")


def scopes_of(kernel: fx.Kernel, name: str) -> list[Scope]:
    """Return the scopes of the templates in which a name of the kernel can equal another word."""
    names = {
        "upper": (name.upper(),),
        "input": kernel.input_names(Role.INPUT),
        "output": kernel.result_names(Role.OUTPUT),
        "coefficient": kernel.input_names(Role.PARAM),
        "variable": kernel.names,
    }
    functions = " ".join(f"fixed_{f} FIXED_{f.upper()}" for f in FUNCTIONS)
    own = f"ALWAYS_INLINE FIXED_POINT_FUNCTION kBlockNeurons int32_t int64_t {name}_model_result"
    return [
        scope(names, f"{own} {functions}", variable="{}", upper="{}_MODEL_H {}_MODEL_STEP_H"),
        scope(names, "", coefficient="k_{}", input="{}_row", output="{}_row"),
    ]


def _code(model: FixedModel) -> dict[str, str]:
    """Return the files that do not depend on values."""
    name = f"{model.name}_model"
    run = {f"{name}.h": "integer_c/model.h.j2", f"{name}.cpp": "integer_c/model.cpp.j2"}
    step = render("integer_c/step.h.j2", _step_view(model))
    return {f"{name}_step.h": step} | render_files(run, _model_view(model))


def _formats(kernel: fx.Kernel) -> tuple[str, ...]:
    """Return the format of every port; ports of one role and format share a line."""
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


def _step_view(model: FixedModel) -> dict[str, object]:
    kernel, name = model.program.kernel, model.name
    taken = ", ".join(f"int32_t {p.var.name}" for p in kernel.inputs)
    step = step_view(kernel)
    return dict(
        **step,
        family=model.family,
        name=name,
        functions=called(step["lines"]),
        guard=f"{name.upper()}_MODEL_STEP_H",
        equations=model.equations,
        formats=_formats(kernel),
        signature=wrapped_signature(
            f"FIXED_POINT_FUNCTION {name}_model_result {name}_model_step({taken}) {{", "int32_t"
        ),
    )


def _model_view(model: FixedModel) -> dict[str, object]:
    kernel, name = model.program.kernel, model.name
    coefficients = kernel.input_names(Role.PARAM)

    def declared(number: str) -> tuple[str, ...]:
        fields = (f.declaration(name, number) for f in run_fields(kernel))
        return (f"int64_t {', '.join(WORDS)};", *fields)

    ports = kernel.input_vars(Role.STATE, Role.INPUT) + kernel.result_vars(Role.OUTPUT)
    formats = [(v, v.type if isinstance(v.type, Bits) else Bits(2, 0)) for v in ports]
    return dict(
        family=model.family,
        name=name,
        guard=f"{name.upper()}_MODEL_H",
        prefix=f"{name.upper()}_MODEL",
        abi=ABI,
        equations=model.equations,
        formats=_formats(kernel),
        block=BLOCK,
        states=kernel.input_names(Role.STATE),
        inputs=kernel.input_names(Role.INPUT),
        further=kernel.input_names(Role.INPUT)[1:],
        outputs=kernel.result_names(Role.OUTPUT),
        coefficients=coefficients,
        integer_fields=declared("int32_t"),
        reals=tuple((kind, declared(kind)) for kind in REALS),
        format_constants=tuple(
            f"constexpr Format k_{v.name} = {{{bits.width}, {bits.frac}}};" for v, bits in formats
        ),
        step_arguments=wrapped([_argument(p) for p in kernel.inputs], ", ", 16),
        block_flag="<kRows>" if coefficients else "",
        has_rows=wrapped([f"a.{c}.rows > 1" for c in coefficients], " || ", 8),
        **_checks(kernel),
    )


def _checks(kernel: fx.Kernel) -> dict[str, str]:
    """Return conditions on the arguments of a run: dimensions that fit, pointers that are null."""
    inputs, states = kernel.input_names(Role.INPUT), kernel.input_names(Role.STATE)
    coefficients = kernel.input_names(Role.PARAM)
    fits = ["a->time_steps >= 0", "a->neurons >= 0"]
    fits += [f"a->{c}.rows > 0 && a->{c}.inner > 0" for c in coefficients]
    fits += [f"(a->{x}_count == 0 || (a->{x}_count > 0 && a->{x}_inner > 0))" for x in inputs[1:]]
    sequences = [f"!a->{q}_seq" for q in (*inputs, *kernel.result_names(Role.OUTPUT))]
    lacks = [f"!a->{c}.values" for c in coefficients]
    lacks += [f"(a->neurons && !a->{s}_init)" for s in states]
    lacks.append(f"(a->time_steps && a->neurons && ({' || '.join(sequences)}))")
    return {"fits": wrapped(fits, " && ", 8), "lacks": wrapped(lacks, " || ", 8)}


def _argument(port: fx.Port) -> str:
    name = port.var.name
    match port.role:
        case Role.STATE:
            return f"{name}_now[i]"
        case Role.INPUT:
            return f"{name}_row[i]"
        case _:
            return f"kRows ? lanes.{name}[i] : {name}_one"


@dataclass(frozen=True, slots=True)
class CArray:
    """A static array of C: constant if it has lines of numbers, else memory."""

    name: str
    type: str
    size: int
    note: str = ""
    lines: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes of the array."""
        return self.size * (int(self.type[3:-2]) // 8)


def _coefficients(model: FixedModel) -> str:
    starts = tuple(
        f"static const int32_t {model.name}_{s.name}_init = {s.init};"
        f"  // {_shown(float(s.bits.value(s.init)))} in {s.bits}"
        for s in model.states
    )
    view = dict(
        family=model.family,
        name=model.name,
        guard=f"{model.name.upper()}_MODEL_COEFFICIENTS_H",
        tables=tuple(_table(f"{model.name}_{c.name}", c) for c in model.coefficients),
        starts=starts,
    )
    return render("integer_c/coefficients.h.j2", view)


def _table(name: str, c: Coefficient) -> CArray:
    many = len(c.integers) > 1
    rows = tuple(
        f"{k},  // {f'[{n}] ' if many else ''}{_shown(r)}"
        for n, (k, r) in enumerate(zip(c.integers, c.reals, strict=True))
    )
    meaning = f"{c.bits}, {c.formula}" if c.formula else str(c.bits)
    return CArray(name, "int32_t", len(c.integers), meaning, rows)


def _shown(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
