"""The nodes of the IR, all of them frozen.

    expr    = Const | Var | Unary | Binary | Power | Compare | Select | Fma | Call | Spike | Detach
    Let     = target: Var, value: expr, phase
    Port    = var: Var, role
    Kernel  = name, inputs: Port*, body: Let*, results: Port*
    Program = prepare, prepare_backward, forward, backward: Kernel

A Var of type BOOL bound to a Spike (or to a Detach of one) is a spike: a Select on it has the
derivative of spike*then + (1 - spike)*orelse. `Power` holds integer powers between `build` and
`horner | estrin`, which leave none. Operators, functions, phases and roles are enums of
`operators.py`, and handed on here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeAlias, assert_never

from lnm_codegen.ir.operators import BinaryOp as BinaryOp
from lnm_codegen.ir.operators import CompareOp as CompareOp
from lnm_codegen.ir.operators import Fn as Fn
from lnm_codegen.ir.operators import Phase as Phase
from lnm_codegen.ir.operators import Role as Role
from lnm_codegen.ir.operators import UnaryOp as UnaryOp
from lnm_codegen.ir.types import BOOL, REAL, Type


@dataclass(frozen=True, slots=True)
class Const:
    """An exact rational, or a real constant to 40 digits with its symbolic `name`."""

    value: Fraction
    name: str = ""


@dataclass(frozen=True, slots=True)
class Var:
    """A named value."""

    name: str
    type: Type = REAL


@dataclass(frozen=True, slots=True)
class Unary:
    """`op arg`."""

    op: UnaryOp
    arg: Expr


@dataclass(frozen=True, slots=True)
class Binary:
    """`lhs op rhs`."""

    op: BinaryOp
    lhs: Expr
    rhs: Expr


@dataclass(frozen=True, slots=True)
class Power:
    """`base ** exponent` with an integer exponent >= 2."""

    base: Expr
    exponent: int


@dataclass(frozen=True, slots=True)
class Compare:
    """`lhs op rhs`, a BOOL."""

    op: CompareOp
    lhs: Expr
    rhs: Expr


@dataclass(frozen=True, slots=True)
class Select:
    """`then` where `cond` holds, else `orelse`."""

    cond: Expr
    then: Expr
    orelse: Expr


@dataclass(frozen=True, slots=True)
class Fma:
    """`a*b + c`, rounded once."""

    a: Expr
    b: Expr
    c: Expr


@dataclass(frozen=True, slots=True)
class Call:
    """A function of one argument."""

    fn: Fn
    arg: Expr


@dataclass(frozen=True, slots=True)
class Spike:
    """A BOOL, `arg >= 0`, whose derivative is `slope`, an expression of `arg` alone."""

    arg: Expr
    slope: Expr


@dataclass(frozen=True, slots=True)
class Detach:
    """`arg`, with derivative zero."""

    arg: Expr


Expr: TypeAlias = (
    Const | Var | Unary | Binary | Power | Compare | Select | Fma | Call | Spike | Detach
)


@dataclass(frozen=True, slots=True)
class Let:
    """`target = value`."""

    target: Var
    value: Expr
    phase: Phase


@dataclass(frozen=True, slots=True)
class Port:
    """A value that enters or leaves a kernel."""

    var: Var
    role: Role


@dataclass(frozen=True, slots=True)
class Kernel:
    """One step of one neuron: `inputs` enter, `body` runs, the vars of `results` leave."""

    name: str
    inputs: tuple[Port, ...]
    body: tuple[Let, ...]
    results: tuple[Port, ...]

    def __str__(self) -> str:
        from lnm_codegen.ir.text import kernel_text

        return kernel_text(self)

    def input_names(self, *roles: Role) -> tuple[str, ...]:
        """Return the names of the inputs of these roles, in order."""
        return tuple(p.var.name for p in self.inputs if p.role in roles)

    def result_names(self, *roles: Role) -> tuple[str, ...]:
        """Return the names of the results of these roles, in order."""
        return tuple(p.var.name for p in self.results if p.role in roles)


@dataclass(frozen=True, slots=True)
class Program:
    """What a backend receives.

    Attributes:
        name: The neuron's name.
        prepare: Declared parameter elements -> prepared parameters; run once per call.
        prepare_backward: The adjoint of `prepare`, on the summed gradients (`sum_<name>`).
        forward: states of t-1, inputs of t, prepared parameters -> outputs and states of t.
        backward: the same and the gradients of outputs and states of t -> gradients of the
            states of t-1, of the inputs, and one term per prepared parameter.
    """

    name: str
    prepare: Kernel
    prepare_backward: Kernel
    forward: Kernel
    backward: Kernel

    def __str__(self) -> str:
        kernels = (self.prepare, self.forward, self.backward, self.prepare_backward)
        return "\n\n".join(str(k) for k in kernels)


ZERO, ONE = Const(Fraction(0)), Const(Fraction(1))


def children(e: Expr) -> tuple[Expr, ...]:
    """Return the operands of `e`. The slope of a Spike is not one: it is no work of the step."""
    match e:
        case Const() | Var():
            return ()
        case Unary(_, arg) | Call(_, arg) | Detach(arg) | Spike(arg, _) | Power(arg, _):
            return (arg,)
        case Binary(_, lhs, rhs) | Compare(_, lhs, rhs):
            return (lhs, rhs)
        case Select(cond, then, orelse):
            return (cond, then, orelse)
        case Fma(a, b, c):
            return (a, b, c)
        case _:
            assert_never(e)


def map_children(e: Expr, f: Callable[[Expr], Expr]) -> Expr:
    """Return `e` with `f` applied to every operand; `e` itself if nothing changes."""
    new: Expr
    match e:
        case Const() | Var():
            return e
        case Unary() | Call() | Detach():
            new = replace(e, arg=f(e.arg))
        case Spike(arg, slope):
            new = Spike(f(arg), slope)
        case Power(base, exponent):
            new = Power(f(base), exponent)
        case Binary(op, lhs, rhs):
            new = Binary(op, f(lhs), f(rhs))
        case Compare(op, lhs, rhs):
            new = Compare(op, f(lhs), f(rhs))
        case Select(cond, then, orelse):
            new = Select(f(cond), f(then), f(orelse))
        case Fma(a, b, c):
            new = Fma(f(a), f(b), f(c))
        case _:
            assert_never(e)
    return e if new == e else new


def type_of(e: Expr) -> Type:
    """Return the type of the value of `e`."""
    match e:
        case Var(_, type_):
            return type_
        case Compare() | Spike():
            return BOOL
        case Unary(op, _):
            return BOOL if op is UnaryOp.NOT else REAL
        case Binary(op, _, _):
            return BOOL if op in (BinaryOp.AND, BinaryOp.OR) else REAL
        case Detach(arg):
            return type_of(arg)
        case _:
            return REAL


def walk(e: Expr) -> Iterator[Expr]:
    """Yield `e` and everything below it, parents first."""
    yield e
    for child in children(e):
        yield from walk(child)


def variables(e: Expr) -> frozenset[Var]:
    """Return the Vars that `e` reads."""
    return frozenset(node for node in walk(e) if isinstance(node, Var))


def is_atom(e: Expr) -> bool:
    """Say whether `e` is printed as one word."""
    return isinstance(e, Const | Var)


def substitute(e: Expr, table: dict[Var, Expr]) -> Expr:
    """Return `e` with Vars replaced."""
    if isinstance(e, Var):
        return table.get(e, e)
    if isinstance(e, Spike):
        return Spike(substitute(e.arg, table), substitute(e.slope, table))
    return map_children(e, lambda c: substitute(c, table)) if table else e


def const(value: int | Fraction) -> Const:
    """Return the constant of that value."""
    return Const(Fraction(value))


def add(a: Expr, b: Expr) -> Expr:
    """Return a + b."""
    return Binary(BinaryOp.ADD, a, b)


def sub(a: Expr, b: Expr) -> Expr:
    """Return a - b."""
    return Binary(BinaryOp.SUB, a, b)


def mul(a: Expr, b: Expr) -> Expr:
    """Return a * b."""
    return Binary(BinaryOp.MUL, a, b)


def div(a: Expr, b: Expr) -> Expr:
    """Return a / b."""
    return Binary(BinaryOp.DIV, a, b)


def neg(a: Expr) -> Expr:
    """Return -a, without a double negation."""
    match a:
        case Unary(UnaryOp.NEG, arg):
            return arg
        case Const(value, name):
            return Const(-value, f"-({name})" if name else "")
        case _:
            return Unary(UnaryOp.NEG, a)
