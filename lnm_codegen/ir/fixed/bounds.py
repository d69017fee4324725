"""Interval analysis of fixed-point kernels: the integers that each node can have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, assert_never

from lnm_codegen.errors import InternalError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.types import Bits, Rounding

Span: TypeAlias = tuple[int, int]
"""The least and the greatest integer."""


def spans(kernel: fx.Kernel, known: Mapping[str, int | Span]) -> dict[str, Span]:
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


def span(e: fx.Expr, env: Mapping[str, Span]) -> Span:
    """Return the span of a number from those of the names that it reads."""
    match e:
        case fx.Const(integer, _, _):
            return integer, integer
        case fx.Var(name, _):
            return env[name]
        case fx.Negate(arg):
            low, high = span(arg, env)
            return -high, -low
        case fx.Sum(op, lhs, rhs):
            a, b = span(lhs, env), span(rhs, env)
            return (a[0] + b[0], a[1] + b[1]) if op is SumOp.ADD else (a[0] - b[1], a[1] - b[0])
        case fx.Product(lhs, rhs):
            a, b = span(lhs, env), span(rhs, env)
            corners = [x * y for x in a for y in b]
            return (0 if lhs == rhs and a[0] <= 0 <= a[1] else min(corners)), max(corners)
        case fx.Shift(arg, places):
            low, high = span(arg, env)
            return low << places, high << places
        case fx.Round(arg, places, rounding):
            low, high = span(arg, env)
            half = 0 if rounding is Rounding.TRUNCATE else 1 << (places - 1)
            return low >> places, (high + half) >> places
        case fx.Saturate(arg, width):
            low, high = span(arg, env)
            bits = Bits(width, 0)
            return min(max(low, bits.low), bits.high), max(min(high, bits.high), bits.low)
        case fx.Select(_, then, orelse):
            a, b = span(then, env), span(orelse, env)
            return min(a[0], b[0]), max(a[1], b[1])
        case fx.Compare() | fx.Not() | fx.Both() | fx.Either():
            raise InternalError("spans", f"{type(e).__name__} is not a number")
        case _:
            assert_never(e)


def always_fits(e: fx.Saturate, env: Mapping[str, Span]) -> bool:
    """Report whether a Saturate never changes its operand."""
    low, high = span(e.arg, env)
    bits = Bits(e.width, 0)
    return bits.low <= low and high <= bits.high
