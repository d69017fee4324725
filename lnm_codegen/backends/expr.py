"""Printer of expressions: one precedence table, and only the parentheses that it requires.

A `Dialect` prints numbers, selects, fused multiply-adds, calls and spikes in one language. C, CUDA
and Python share the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from math import factorial
from typing import Any, ClassVar, assert_never

import numpy as np

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import (
    BinaryOp,
    Call,
    Const,
    Detach,
    Expr,
    Fn,
    Kernel,
    Phase,
    Select,
    Spike,
    UnaryOp,
)

LOOSEST, TERNARY, OR, AND, COMPARE, SUM, PRODUCT, UNARY, CALL = range(9)

_OPERATORS = {
    BinaryOp.OR: ("|", OR),
    BinaryOp.AND: ("&", AND),
    BinaryOp.ADD: ("+", SUM),
    BinaryOp.SUB: ("-", SUM),
    BinaryOp.MUL: ("*", PRODUCT),
    BinaryOp.DIV: ("/", PRODUCT),
}


class Dialect(ABC):
    """The constructs that languages write differently. Most return (text, level of precedence)."""

    __slots__ = ()
    NOT: ClassVar[str]
    """The operator of a negated condition."""

    @abstractmethod
    def number(self, c: Const) -> str:
        """Return a literal, rounded once, that reads back as the same number."""

    @abstractmethod
    def select(self, e: Select) -> tuple[str, int]:
        """Return `then` where `cond` else `orelse`."""

    @abstractmethod
    def fma(self, e: ir.Fma) -> tuple[str, int]:
        """Return a*b + c."""

    @abstractmethod
    def call(self, e: Call) -> tuple[str, int]:
        """Return a function applied to its argument."""

    @abstractmethod
    def spike(self, e: Spike) -> tuple[str, int]:
        """Return the condition of a spike."""

    def detach(self, e: Detach) -> tuple[str, int]:
        """Return the operand without its derivative."""
        return text(e.arg, self, CALL), CALL


def text(e: Expr, dialect: Dialect, parent: int = LOOSEST) -> str:
    """Return `e` in a dialect; `parent` is the least level that needs no parentheses."""
    written, level = _written(e, dialect)
    return f"({written})" if level < parent else written


def _written(e: Expr, dialect: Dialect) -> tuple[str, int]:
    match e:
        case Const():
            literal = dialect.number(e)
            return literal, UNARY if literal.startswith("-") else CALL
        case ir.Var(name, _):
            return name, CALL
        case ir.Unary(op, arg):
            symbol = dialect.NOT if op is UnaryOp.NOT else "-"
            return f"{symbol}{text(arg, dialect, CALL)}", UNARY
        case ir.Binary(binary, lhs, rhs):
            symbol, level = _OPERATORS[binary]
            left, right = text(lhs, dialect, level), text(rhs, dialect, level + 1)
            if level in (OR, AND):  # languages rank them differently among comparisons
                left, right = text(lhs, dialect, CALL), text(rhs, dialect, CALL)
            return f"{left} {symbol} {right}", level
        case ir.Power(base, exponent):
            factor = text(base, dialect, CALL)
            return " * ".join([factor] * exponent), PRODUCT
        case ir.Compare(compare, lhs, rhs):
            left, right = text(lhs, dialect, SUM), text(rhs, dialect, SUM)
            return f"{left} {compare.value} {right}", COMPARE
        case Select():
            return dialect.select(e)
        case ir.Fma():
            return dialect.fma(e)
        case Call():
            return dialect.call(e)
        case Spike():
            return dialect.spike(e)
        case Detach():
            return dialect.detach(e)
        case _:
            assert_never(e)


def statements(
    phases: Iterator[tuple[Phase, tuple[Any, ...]]],
    mark: str,
    lines_of: Callable[[Any], list[str]],
) -> tuple[str, ...]:
    """Return the lines of the phases, commented; PREPARE is already the name of its function."""
    lines: list[str] = []
    for phase, lets in phases:
        if phase is not Phase.PREPARE:
            lines.append(f"{mark} {phase.value}")
        for let in lets:
            lines += lines_of(let)
    return tuple(lines)


# Constants of the elementary functions exp, log, tanh and sigmoid.
#
# All targets that define these functions use the same formulas. Errors are a few units in the last
# place; infinities and NaN are those of libm.


FUNCTIONS = {
    Fn.EXP: "elementary_exp", Fn.LOG: "elementary_log", Fn.TANH: "elementary_tanh",
    Fn.SIGMOID: "elementary_sigmoid",
}  # fmt: skip
"""The functions, by their names in generated C; Triton has its own."""

LIBRARY = {Fn.SQRT: "sqrt", Fn.SIN: "sin", Fn.COS: "cos"}
"""The other functions of the IR, by their names in math.h and `triton.language`."""

LN2_LOW = {"float32": -1.9046543e-9, "float64": 2.3190468138462996e-17}
"""ln(2) minus its nearest value of the type."""


def elementary_view(
    kernels: Sequence[Kernel], dtype: str, number: Callable[[float], str]
) -> dict[str, object] | None:
    """Return the template view of the elementary functions, or None if no kernel calls one.

    Args:
        kernels: Kernels that are printed.
        dtype: "float32" or "float64".
        number: A float to a literal of the type.
    """
    values = [let.value for kernel in kernels for let in kernel.body]
    used = {node.fn for value in values for node in ir.walk(value) if isinstance(node, ir.Call)}
    if not used & set(FUNCTIONS):
        return None
    single = dtype == "float32"
    mantissa, exp_degree, terms = (23, 7, 5) if single else (52, 13, 11)
    return dict(
        exp=bool(used & {Fn.EXP, Fn.SIGMOID}),
        sigmoid=Fn.SIGMOID in used,
        expm1=Fn.TANH in used,
        log=Fn.LOG in used,
        bias=127 if single else 1023,
        mantissa=mantissa,
        rounding_constant=number(rounding_constant(dtype)),
        log2e=number(1.4426950408889634),
        minus_ln2_high=number(-ln2_high(dtype)),
        minus_ln2_low=number(-LN2_LOW[dtype]),
        exp_coefficients=tuple(number(1 / factorial(k)) for k in range(exp_degree, 1, -1)),
        exp_high=number(89.0 if single else 710.0),
        exp_low=number(-104.0 if single else -746.0),
        tanh_high=number(9.5 if single else 20.0),
        smallest_normal=number(float(np.finfo(dtype).tiny)),
        tiny_scale=number(2.0**mantissa),
        log_coefficients=tuple(number(1 / (2 * k + 1)) for k in range(terms, 0, -1)),
    )


def ln2_high(dtype: str) -> float:
    """Return the value of the type nearest to ln(2)."""
    return float(np.dtype(dtype).type(np.log(2)))


def rounding_constant(dtype: str) -> float:
    """Return the constant C for which (x + C) - C rounds x to an integer."""
    return 1.5 * 2.0 ** (23 if dtype == "float32" else 52)
