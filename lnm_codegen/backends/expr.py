"""Expressions to text: one precedence table, as few parentheses as it allows.

A `Dialect` says how one language writes numbers, selects, fused multiply-adds, calls and spikes;
everything else is common to C, CUDA and Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, assert_never

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import BinaryOp, Call, Const, Detach, Expr, Select, Spike, UnaryOp

LOOSEST, TERNARY, OR, AND, COMPARE, SUM, PRODUCT, UNARY, CALL = range(9)

_LEVELS = {
    BinaryOp.OR: OR,
    BinaryOp.AND: AND,
    BinaryOp.ADD: SUM,
    BinaryOp.SUB: SUM,
    BinaryOp.MUL: PRODUCT,
    BinaryOp.DIV: PRODUCT,
}


class Dialect(Protocol):
    """How a language writes what languages write differently. Each returns (text, level)."""

    @property
    def symbols(self) -> Mapping[BinaryOp | UnaryOp, str]:
        """Return the operators."""
        ...

    def number(self, c: Const) -> str:
        """Return a literal, rounded once, that reads back as the same number."""
        ...

    def select(self, e: Select) -> tuple[str, int]:
        """Return `then` where `cond` else `orelse`."""
        ...

    def fma(self, e: ir.Fma) -> tuple[str, int]:
        """Return a*b + c."""
        ...

    def call(self, e: Call) -> tuple[str, int]:
        """Return a function applied to its argument."""
        ...

    def spike(self, e: Spike) -> tuple[str, int]:
        """Return whether, or how, a spike is fired."""
        ...

    def detach(self, e: Detach) -> tuple[str, int]:
        """Return the operand without its derivative."""
        ...


def text(e: Expr, dialect: Dialect, parent: int = LOOSEST) -> str:
    """Return `e` as the dialect writes it, in parentheses where `parent` binds tighter."""
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
            return f"{dialect.symbols[op]}{text(arg, dialect, CALL)}", UNARY
        case ir.Binary(binary, lhs, rhs):
            level = _LEVELS[binary]
            left, right = text(lhs, dialect, level), text(rhs, dialect, level + 1)
            if level in (OR, AND):  # their place among comparisons differs between languages
                left, right = text(lhs, dialect, CALL), text(rhs, dialect, CALL)
            return f"{left} {dialect.symbols[binary]} {right}", level
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
