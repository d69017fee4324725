"""Expressions and kernels of real numbers. Every node is frozen.

    expr    = Const | Var | Unary | Binary | Power | Compare | Select | Fma | Call | Spike | Detach
    Program = prepare, prepare_backward, forward, backward: Kernel

`ir/kernel.py` has Let, Port and Kernel. A Var of type BOOL bound to a Spike (or to a Detach of
one) is a spike: a Select on it has the derivative of spike*then + (1 - spike)*orelse. `Power` holds
integer powers between `build` and `horner | estrin`. Afterwards only slopes, which are no operands,
have any.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from functools import partial
from typing import TypeAlias

from lnm_codegen.ir import kernel
from lnm_codegen.ir.kernel import Node, Variable, preformatted
from lnm_codegen.ir.kernel import Phase as Phase
from lnm_codegen.ir.kernel import Role as Role
from lnm_codegen.ir.kernel import children as children
from lnm_codegen.ir.kernel import map_children as map_children
from lnm_codegen.ir.kernel import variables as variables
from lnm_codegen.ir.kernel import walk as walk
from lnm_codegen.ir.types import BOOL, REAL, Type


class UnaryOp(Enum):
    """Operators of one operand."""

    NEG = "-"
    NOT = "not"


class BinaryOp(Enum):
    """Operators of two operands."""

    ADD = "+"
    SUB = "-"
    MUL = "*"
    DIV = "/"
    AND = "and"
    OR = "or"


class CompareOp(Enum):
    """Comparisons; every one except NE is false if an operand is NaN."""

    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    EQ = "=="
    NE = "!="


class Fn(Enum):
    """Functions of one argument."""

    EXP = "exp"
    LOG = "log"
    SQRT = "sqrt"
    TANH = "tanh"
    SIGMOID = "sigmoid"
    SIN = "sin"
    COS = "cos"


class _Node(Node["Expr", "Var"]):
    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Const(_Node):
    """An exact rational, or a real constant to 40 digits with its symbolic `name`."""

    value: Fraction
    name: str = ""


@dataclass(frozen=True, slots=True)
class Var(_Node, Variable):
    """A named value."""

    name: str
    type: Type = REAL


@dataclass(frozen=True, slots=True)
class Unary(_Node):
    """`op arg`."""

    op: UnaryOp
    arg: Expr


@dataclass(frozen=True, slots=True)
class Binary(_Node):
    """`lhs op rhs`."""

    op: BinaryOp
    lhs: Expr
    rhs: Expr


@dataclass(frozen=True, slots=True)
class Power(_Node):
    """`base ** exponent` with an integer exponent >= 2."""

    base: Expr
    exponent: int


@dataclass(frozen=True, slots=True)
class Compare(_Node):
    """`lhs op rhs`, a BOOL."""

    op: CompareOp
    lhs: Expr
    rhs: Expr


@dataclass(frozen=True, slots=True)
class Select(_Node):
    """`then` if `cond` holds, else `orelse`."""

    cond: Expr
    then: Expr
    orelse: Expr


@dataclass(frozen=True, slots=True)
class Fma(_Node):
    """`a*b + c`, rounded once."""

    a: Expr
    b: Expr
    c: Expr


@dataclass(frozen=True, slots=True)
class Call(_Node):
    """A function of one argument."""

    fn: Fn
    arg: Expr


@dataclass(frozen=True, slots=True)
class Spike(_Node):
    """A BOOL, `arg >= 0`, whose derivative is `slope`, an expression of `arg` alone.

    The slope is not an operand, because the step does not compute it.
    """

    arg: Expr
    slope: Slope


@dataclass(frozen=True, slots=True)
class Detach(_Node):
    """`arg`, with derivative zero."""

    arg: Expr


Expr: TypeAlias = (
    Const | Var | Unary | Binary | Power | Compare | Select | Fma | Call | Spike | Detach
)
Slope: TypeAlias = Expr
Let: TypeAlias = kernel.Let[Expr, Var]
Port: TypeAlias = kernel.Port[Var]


@dataclass(frozen=True)
class Kernel(kernel.Kernel[Expr, Var]):
    """One step of one neuron in real numbers."""

    def __str__(self) -> str:
        return self.text(f"kernel {self.name}", lambda var: var.name, expr_text)


@dataclass(frozen=True, slots=True)
class Program:
    """The four kernels of a neuron.

    Attributes:
        name: The neuron's name.
        prepare: Declared parameter elements -> prepared parameters; runs once per call.
        prepare_backward: Adjoint of `prepare`, on the summed gradients (`sum_<name>`).
        forward: States of t-1, inputs of t, prepared parameters -> outputs and states of t,
            and counts, which are summed over time steps and neurons.
        backward: The same and the gradients of outputs and states of t -> gradients of the states
            of t-1, of the inputs, and one term per prepared parameter.
    """

    name: str
    prepare: Kernel
    prepare_backward: Kernel
    forward: Kernel
    backward: Kernel

    def _repr_html_(self) -> str:
        return preformatted(str(self))

    def __str__(self) -> str:
        kernels = (self.prepare, self.forward, self.backward, self.prepare_backward)
        return "\n\n".join(str(k) for k in kernels)


ZERO, ONE = Const(Fraction(0)), Const(Fraction(1))


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


def is_atom(e: Expr) -> bool:
    """Report whether `e` is printed as one word."""
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


add, sub = partial(Binary, BinaryOp.ADD), partial(Binary, BinaryOp.SUB)
mul, div = partial(Binary, BinaryOp.MUL), partial(Binary, BinaryOp.DIV)
"""The sum, difference, product and quotient of two expressions."""


def signed_sum(total: Expr | None, term: Expr, negative: bool) -> Expr:
    """Return total + term, or total - term if `negative`; a total of None is absent."""
    if total is None:
        return neg(term) if negative else term
    return sub(total, term) if negative else add(total, term)


def neg(a: Expr) -> Expr:
    """Return -a, without a double negation."""
    match a:
        case Unary(UnaryOp.NEG, arg):
            return arg
        case Const(value, name):
            return Const(-value, f"-({name})" if name else "")
        case _:
            return Unary(UnaryOp.NEG, a)


_LOOSEST, _OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _UNARY, _POWER, _ATOM = range(10)
_LEVEL = {"or": _OR, "and": _AND, "+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT}


def number_text(value: Fraction, name: str = "") -> str:
    """Return a constant as its name, a whole number, an exact short decimal or a ratio."""
    if name:
        return name
    if value.denominator == 1:
        return str(value.numerator)
    decimal = repr(float(value))
    return decimal if Fraction(decimal) == value else f"{value.numerator}/{value.denominator}"


def expr_text(e: Expr, parent: int = _LOOSEST) -> str:
    """Return `e` with the fewest parentheses."""
    text, level = _parts(e)
    return f"({text})" if level < parent else text


def _parts(e: Expr) -> tuple[str, int]:
    match e:
        case Const(value, name):
            text = number_text(value, name)
            bare = text.replace(".", "").replace("_", "").isalnum()
            return text, _ATOM if bare else _SUM
        case Var(name, _):
            return name, _ATOM
        case Unary(UnaryOp.NOT, arg):
            return f"not {expr_text(arg, _NOT)}", _NOT
        case Unary(_, arg):
            return f"-{expr_text(arg, _UNARY)}", _UNARY
        case Binary(op, lhs, rhs):
            level = _LEVEL[op.value]
            left, right = expr_text(lhs, level), expr_text(rhs, level + 1)
            return f"{left} {op.value} {right}", level
        case Power(base, exponent):
            return f"{expr_text(base, _ATOM)}**{exponent}", _POWER
        case Compare(compare, lhs, rhs):
            left, right = expr_text(lhs, _SUM), expr_text(rhs, _SUM)
            return f"{left} {compare.value} {right}", _COMPARE
        case Call(fn, arg):
            return f"{fn.value}({expr_text(arg)})", _ATOM
        case Spike(arg, slope):
            return f"spike({expr_text(arg)}; slope {expr_text(slope)})", _ATOM
        case Select() | Fma() | Detach():
            name = type(e).__name__.lower()
            return f"{name}({', '.join(expr_text(c) for c in children(e))})", _ATOM


def spikes_of(kernel: Kernel) -> dict[Var, Spike | None]:
    """Return the spike variables: each with its Spike, or None if it is detached."""
    found: dict[Var, Spike | None] = {}
    for let in kernel.body:
        if isinstance(let.value, Spike):
            found[let.target] = let.value
        elif isinstance(let.value, Detach) and let.value.arg in found:
            found[let.target] = None
    return found
