"""Printer of expressions: one precedence table, and only the parentheses that it requires.

A `Dialect` prints numbers, selects, fused multiply-adds, calls and spikes in one language. C, CUDA
and Python share the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, assert_never

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import BinaryOp, Call, Const, Detach, Expr, Phase, Select, Spike, UnaryOp

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
