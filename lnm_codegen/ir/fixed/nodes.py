"""The nodes of the fixed-point IR, all of them frozen: what `quantize` makes.

    expr    = Const | Var | Negate | Sum | Product | Shift | Round | Saturate
            | Compare | Not | Both | Either | Select
    Let     = target: Var, value: expr, phase
    Kernel  = name, inputs: Port*, body: Let*, results: Port*
    Program = name, spec, prepare, kernel

Every number is an integer of known `Bits`; no node rounds, shifts or saturates but those that say
so, so that a printer of C or Verilog, and the interpreter, decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from typing import TypeAlias, assert_never

from lnm_codegen.ir import nodes as real
from lnm_codegen.ir.fixed.spec import FixedSpec
from lnm_codegen.ir.operators import CompareOp, Phase, Role
from lnm_codegen.ir.types import BOOL, Bits, Rounding, Type


@dataclass(frozen=True, slots=True)
class Const:
    """The integer nearest, ties up, to the exact `real` value."""

    integer: int
    bits: Bits
    real: Fraction


@dataclass(frozen=True, slots=True)
class Var:
    """A named number, or a named condition."""

    name: str
    type: Bits | Type


@dataclass(frozen=True, slots=True)
class Negate:
    """-arg, exact: one bit more."""

    arg: Expr


class SumOp(Enum):
    """Addition and subtraction."""

    ADD = "+"
    SUB = "-"


@dataclass(frozen=True, slots=True)
class Sum:
    """`lhs op rhs`, exact, of two numbers with the point at one place: one bit more."""

    op: SumOp
    lhs: Expr
    rhs: Expr


@dataclass(frozen=True, slots=True)
class Product:
    """lhs * rhs, exact: the widths add, and so do the fractions."""

    lhs: Expr
    rhs: Expr


@dataclass(frozen=True, slots=True)
class Shift:
    """`arg` with `places` zeros behind it, so that its point meets another's."""

    arg: Expr
    places: int


@dataclass(frozen=True, slots=True)
class Round:
    """`arg` without its last `places` bits: one bit wider than what is left, but for TRUNCATE."""

    arg: Expr
    places: int
    rounding: Rounding


@dataclass(frozen=True, slots=True)
class Saturate:
    """`arg` brought to `width` bits: what does not fit becomes the nearest number that does."""

    arg: Expr
    width: int


@dataclass(frozen=True, slots=True)
class Compare:
    """`lhs op rhs`, a condition, of two numbers with the point at one place."""

    op: CompareOp
    lhs: Expr
    rhs: Expr


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a condition."""

    arg: Expr


@dataclass(frozen=True, slots=True)
class Both:
    """Two conditions hold."""

    lhs: Expr
    rhs: Expr


@dataclass(frozen=True, slots=True)
class Either:
    """One of two conditions holds, or both."""

    lhs: Expr
    rhs: Expr


@dataclass(frozen=True, slots=True)
class Select:
    """`then` where `cond` holds, else `orelse`: two numbers with the point at one place."""

    cond: Expr
    then: Expr
    orelse: Expr


Expr: TypeAlias = (
    Const
    | Var
    | Negate
    | Sum
    | Product
    | Shift
    | Round
    | Saturate
    | Compare
    | Not
    | Both
    | Either
    | Select
)


@dataclass(frozen=True, slots=True)
class Let:
    """`target = value`."""

    target: Var
    value: Expr
    phase: Phase


@dataclass(frozen=True, slots=True)
class Port:
    """A number or condition that enters or leaves the kernel."""

    var: Var
    role: Role


@dataclass(frozen=True, slots=True)
class Kernel:
    """One step of one neuron in integers; `<state>_next` has the bits of `<state>`."""

    name: str
    inputs: tuple[Port, ...]
    body: tuple[Let, ...]
    results: tuple[Port, ...]

    def __str__(self) -> str:
        from lnm_codegen.ir.fixed.text import kernel_text

        return kernel_text(self)

    def input_vars(self, *roles: Role) -> tuple[Var, ...]:
        """Return the inputs of these roles, in order."""
        return tuple(p.var for p in self.inputs if p.role in roles)

    def result_vars(self, *roles: Role) -> tuple[Var, ...]:
        """Return the results of these roles, in order."""
        return tuple(p.var for p in self.results if p.role in roles)


@dataclass(frozen=True, slots=True)
class Program:
    """A neuron in fixed point.

    Attributes:
        name: The neuron's name.
        spec: The formats that were asked for.
        prepare: Declared parameter elements -> prepared parameters, in real numbers; each of those
            that `kernel` takes is then rounded once, to the bits of its port.
        kernel: states of t-1, inputs of t, prepared parameters -> outputs and states of t.
    """

    name: str
    spec: FixedSpec
    prepare: real.Kernel
    kernel: Kernel

    def __str__(self) -> str:
        return f"{self.prepare}\n\n{self.kernel}"


def children(e: Expr) -> tuple[Expr, ...]:
    """Return the operands of `e`."""
    match e:
        case Const() | Var():
            return ()
        case Negate(arg) | Not(arg) | Shift(arg, _) | Round(arg, _, _) | Saturate(arg, _):
            return (arg,)
        case Product(lhs, rhs) | Both(lhs, rhs) | Either(lhs, rhs):
            return (lhs, rhs)
        case Sum(_, lhs, rhs) | Compare(_, lhs, rhs):
            return (lhs, rhs)
        case Select(cond, then, orelse):
            return (cond, then, orelse)
        case _:
            assert_never(e)


def map_children(e: Expr, f: Callable[[Expr], Expr]) -> Expr:
    """Return `e` with `f` applied to every operand."""
    match e:
        case Const() | Var():
            return e
        case Negate() | Not() | Shift() | Round() | Saturate():
            return replace(e, arg=f(e.arg))
        case Product() | Both() | Either() | Sum() | Compare():
            return replace(e, lhs=f(e.lhs), rhs=f(e.rhs))
        case Select(cond, then, orelse):
            return Select(f(cond), f(then), f(orelse))
        case _:
            assert_never(e)


def walk(e: Expr) -> Iterator[Expr]:
    """Yield `e` and everything below it, parents first."""
    yield e
    for child in children(e):
        yield from walk(child)


def variables(e: Expr) -> frozenset[Var]:
    """Return the Vars that `e` reads."""
    return frozenset(node for node in walk(e) if isinstance(node, Var))


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
    """Return the bits of a number: wide enough for every value that its operands may have."""
    match e:
        case Const(_, bits, _):
            return bits
        case Var(_, Bits() as bits):
            return bits
        case Negate(arg):
            inner = bits_of(arg)
            return Bits(inner.width + 1, inner.frac)
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
            raise TypeError(f"{type(e).__name__} is no number")
