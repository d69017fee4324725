"""Expressions and kernels of integers, which `quantize` makes. Every node is frozen.

    expr    = Const | Var | Negate | Sum | Product | Shift | Round | Saturate
            | Compare | Not | Both | Either | Select
    Program = name, spec, prepare, kernel

`ir/kernel.py` has Let, Port and Kernel. Every number is an integer of known `Bits`. Only Round,
Shift and Saturate round, shift and saturate, so the interpreter and the printers make no numeric
decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import TypeAlias, assert_never

from lnm_codegen.errors import InternalError
from lnm_codegen.ir import kernel
from lnm_codegen.ir import nodes as real
from lnm_codegen.ir.kernel import Node, Role, Variable, preformatted
from lnm_codegen.ir.kernel import children as children
from lnm_codegen.ir.kernel import map_children as map_children
from lnm_codegen.ir.kernel import variables as variables
from lnm_codegen.ir.kernel import walk as walk
from lnm_codegen.ir.nodes import CompareOp
from lnm_codegen.ir.types import BOOL, Bits, FixedSpec, Rounding, Type


class _Node(Node["Expr", "Var"]):
    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Const(_Node):
    """The integer nearest to the exact value `real`, ties up."""

    integer: int
    bits: Bits
    real: Fraction


@dataclass(frozen=True, slots=True)
class Var(_Node, Variable):
    """A named number, or a named condition."""

    name: str
    type: Bits | Type


@dataclass(frozen=True, slots=True)
class Negate(_Node):
    """`-arg`, exact: one bit wider."""

    arg: Expr


class SumOp(Enum):
    """Addition and subtraction."""

    ADD = "+"
    SUB = "-"


@dataclass(frozen=True, slots=True)
class Sum(_Node):
    """`lhs op rhs`, exact: one bit wider. Both operands have the same number of fraction bits."""

    op: SumOp
    lhs: Expr
    rhs: Expr


@dataclass(frozen=True, slots=True)
class Product(_Node):
    """`lhs * rhs`, exact: the widths add, and so do the fraction bits."""

    lhs: Expr
    rhs: Expr


@dataclass(frozen=True, slots=True)
class Shift(_Node):
    """`arg` with `places` more fraction bits, all 0."""

    arg: Expr
    places: int


@dataclass(frozen=True, slots=True)
class Round(_Node):
    """`arg` without its last `places` bits. Every mode but TRUNCATE adds a bit for the carry."""

    arg: Expr
    places: int
    rounding: Rounding


@dataclass(frozen=True, slots=True)
class Saturate(_Node):
    """`arg` clamped to the range of `width` bits."""

    arg: Expr
    width: int


@dataclass(frozen=True, slots=True)
class Compare(_Node):
    """`lhs op rhs`, a condition. Both operands have the same number of fraction bits."""

    op: CompareOp
    lhs: Expr
    rhs: Expr


@dataclass(frozen=True, slots=True)
class Not(_Node):
    """Negation of a condition."""

    arg: Expr


@dataclass(frozen=True, slots=True)
class Both(_Node):
    """Conjunction of two conditions."""

    lhs: Expr
    rhs: Expr


@dataclass(frozen=True, slots=True)
class Either(_Node):
    """Disjunction of two conditions."""

    lhs: Expr
    rhs: Expr


@dataclass(frozen=True, slots=True)
class Select(_Node):
    """`then` if `cond` holds, else `orelse`. Both have the same number of fraction bits."""

    cond: Expr
    then: Expr
    orelse: Expr


Expr: TypeAlias = (
    Const | Var | Negate | Sum | Product | Shift | Round | Saturate
    | Compare | Not | Both | Either | Select
)  # fmt: skip
Let: TypeAlias = kernel.Let[Expr, Var]
Port: TypeAlias = kernel.Port[Var]


@dataclass(frozen=True)
class Kernel(kernel.Kernel[Expr, Var]):
    """One step of one neuron in integers; `<state>_next` has the bits of `<state>`."""

    def bits(self, name: str) -> Bits:
        """Return the format of an input."""
        return bits_of(next(p.var for p in self.inputs if p.var.name == name))

    def __str__(self) -> str:
        return self.text(f"kernel {self.name}, fixed point", _var_text, expr_text)


@dataclass(frozen=True, slots=True)
class Program:
    """A neuron in fixed point.

    Attributes:
        name: The neuron's name.
        spec: The formats of the nodes.
        prepare: Declared parameter elements -> prepared parameters, in real numbers. Each parameter
            of `kernel` is then rounded once, to the bits of its port.
        kernel: States of t-1, inputs of t, prepared parameters -> outputs and states of t.
    """

    name: str
    spec: FixedSpec
    prepare: real.Kernel
    kernel: Kernel

    def _repr_html_(self) -> str:
        return preformatted(str(self))

    def __str__(self) -> str:
        return f"{self.prepare}\n\n{self.kernel}"


def zero(bits: Bits) -> Const:
    """Return the constant 0 of a format."""
    return Const(0, bits, Fraction(0))


def type_of(e: Expr) -> Bits | Type:
    """Return the bits of a number, or BOOL."""
    match e:
        case Var(_, type_):
            return type_
        case Compare() | Not() | Both() | Either():
            return BOOL
        case _:
            return bits_of(e)


def bits_of(e: Expr) -> Bits:
    """Return the bits of a number, wide enough for all values of its operands."""
    match e:
        case Const(_, bits, _):
            return bits
        case Var(_, Bits() as bits):
            return bits
        case Negate(arg):
            return Bits(bits_of(arg).width + 1, bits_of(arg).frac)
        case Sum(_, lhs, rhs):
            a, b = bits_of(lhs), bits_of(rhs)
            return Bits(max(a.width, b.width) + 1, a.frac)
        case Product(lhs, rhs):
            a, b = bits_of(lhs), bits_of(rhs)
            return Bits(a.width + b.width, a.frac + b.frac)
        case Shift(arg, places):
            inner = bits_of(arg)
            return Bits(inner.width + places, inner.frac + places)
        case Round(arg, places, rounding):
            inner = bits_of(arg)
            grows = rounding is not Rounding.TRUNCATE
            return Bits(max(inner.width - places, 1) + grows, inner.frac - places)
        case Saturate(arg, width):
            return Bits(width, bits_of(arg).frac)
        case Select(_, then, orelse):
            a, b = bits_of(then), bits_of(orelse)
            return Bits(max(a.width, b.width), a.frac)
        case _:
            raise InternalError("bits_of", f"{type(e).__name__} is not a number")


def _var_text(var: Var) -> str:
    return f"{var.name}:{var.type}" if isinstance(var.type, Bits) else var.name


def expr_text(e: Expr) -> str:
    """Return an expression, with parentheses around each operator of two operands."""
    operands = [expr_text(child) for child in children(e)]
    match e:
        case Const(integer, bits, _):
            return f"{integer}:{bits}"
        case Var(name, _):
            return name
        case Negate():
            return f"-{operands[0]}"
        case Sum(op, _, _) | Compare(op, _, _):
            return f"({operands[0]} {op.value} {operands[1]})"
        case Product():
            return f"({' * '.join(operands)})"
        case Shift(_, places):
            return f"({operands[0]} << {places})"
        case Round(_, places, rounding):
            return f"{rounding.value}({operands[0]}, {places})"
        case Saturate(_, width):
            return f"saturate({operands[0]}, {width})"
        case Not():
            return f"not {operands[0]}"
        case Both():
            return f"({' and '.join(operands)})"
        case Either():
            return f"({' or '.join(operands)})"
        case Select():
            return f"select({', '.join(operands)})"
        case _:
            assert_never(e)


# Interval analysis of fixed-point kernels: the integers that each node can have.


Span: TypeAlias = tuple[int, int]
"""The least and the greatest integer."""


def spans(kernel: Kernel, known: Mapping[str, int | Span]) -> dict[str, Span]:
    """Return the span of every number of a kernel by name.

    An input may be any integer of its bits, or the `known` constant or span of its name.
    """
    env: dict[str, Span] = {}
    for var in kernel.input_vars(*Role):
        if isinstance(var.type, Bits):
            value = known.get(var.name, (var.type.low, var.type.high))
            env[var.name] = value if isinstance(value, tuple) else (value, value)
    for let in kernel.body:
        if isinstance(let.target.type, Bits):
            env[let.target.name] = span(let.value, env)
    return env


def span(e: Expr, env: Mapping[str, Span]) -> Span:
    """Return the span of a number from those of the names that it reads."""
    match e:
        case Const(integer, _, _):
            return integer, integer
        case Var(name, _):
            return env[name]
        case Negate(arg):
            low, high = span(arg, env)
            return -high, -low
        case Sum(op, lhs, rhs):
            a, b = span(lhs, env), span(rhs, env)
            return (a[0] + b[0], a[1] + b[1]) if op is SumOp.ADD else (a[0] - b[1], a[1] - b[0])
        case Product(lhs, rhs):
            a, b = span(lhs, env), span(rhs, env)
            corners = [x * y for x in a for y in b]
            return (0 if lhs == rhs and a[0] <= 0 <= a[1] else min(corners)), max(corners)
        case Shift(arg, places):
            low, high = span(arg, env)
            return low << places, high << places
        case Round(arg, places, rounding):
            low, high = span(arg, env)
            half = 0 if rounding is Rounding.TRUNCATE else 1 << (places - 1)
            return low >> places, (high + half) >> places
        case Saturate(arg, width):
            low, high = span(arg, env)
            bits = Bits(width, 0)
            return min(max(low, bits.low), bits.high), max(min(high, bits.high), bits.low)
        case Select(_, then, orelse):
            a, b = span(then, env), span(orelse, env)
            return min(a[0], b[0]), max(a[1], b[1])
        case Compare() | Not() | Both() | Either():
            raise InternalError("spans", f"{type(e).__name__} is not a number")
        case _:
            assert_never(e)


def always_fits(e: Saturate, env: Mapping[str, Span]) -> bool:
    """Report whether a Saturate never changes its operand."""
    low, high = span(e.arg, env)
    bits = Bits(e.width, 0)
    return bits.low <= low and high <= bits.high
