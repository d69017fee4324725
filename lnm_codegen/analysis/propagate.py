"""Errors through a fixed-point kernel, node by node: the rules that `error.py` states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import assert_never

from lnm_codegen.analysis.arithmetic.interval import Interval, hull, meet, point
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.types import Bits, Rounding

_NONE = point(Fraction(0))


@dataclass(frozen=True)
class Propagated:
    """The exact range and the error of every number of a kernel, and of expressions of them.

    Attributes:
        ranges: Name -> exact range of the values that the errors are measured against.
        errors: Name -> computed - exact.
        rounding: Round nodes contribute; else constants do, which then differ from what they mean.
    """

    ranges: Mapping[str, Interval]
    errors: dict[str, Interval]
    rounding: bool

    def error(self, e: fx.Expr) -> Interval:
        """Return the error of a number, where every decision agrees and nothing saturates."""
        match e:
            case fx.Const(integer, bits, real):
                return _NONE if self.rounding else point(bits.value(integer) - real)
            case fx.Var(name, _):
                return self.errors[name]
            case fx.Negate(arg):
                return _NONE - self.error(arg)
            case fx.Sum(op, lhs, rhs):
                a, b = self.error(lhs), self.error(rhs)
                return a + b if op is SumOp.ADD else a - b
            case fx.Product(lhs, rhs):
                a, b = self.error(lhs), self.error(rhs)
                return a * self.range(rhs) + self.range(lhs) * b + a * b
            case fx.Shift(arg, _) | fx.Saturate(arg, _):
                return self.error(arg)
            case fx.Round(arg, places, rounding):
                if not self.rounding:
                    return self.error(arg)
                unit = Fraction(1, 1 << fx.bits_of(arg).frac)
                return self.error(arg) + rounding_error(places, rounding).scaled(unit)
            case fx.Select(_, then, orelse):
                return hull((self.error(then), self.error(orelse)))
            case fx.Compare() | fx.Not() | fx.Both() | fx.Either():
                raise TypeError(f"{type(e).__name__} is no number")
            case _:
                assert_never(e)

    def range(self, e: fx.Expr) -> Interval:
        """Return the exact range of a number, by interval arithmetic on the names it reads."""
        match e:
            case fx.Const(integer, bits, real):
                return point(bits.value(integer) if self.rounding else real)
            case fx.Var(name, _):
                return self.ranges[name]
            case fx.Negate(arg):
                return _NONE - self.range(arg)
            case fx.Sum(op, lhs, rhs):
                a, b = self.range(lhs), self.range(rhs)
                return a + b if op is SumOp.ADD else a - b
            case fx.Product(lhs, rhs):
                return self.range(lhs) * self.range(rhs)
            case fx.Shift(arg, _) | fx.Saturate(arg, _) | fx.Round(arg, _, _):
                return self.range(arg)
            case fx.Select(_, then, orelse):
                return hull((self.range(then), self.range(orelse)))
            case fx.Compare() | fx.Not() | fx.Both() | fx.Either():
                raise TypeError(f"{type(e).__name__} is no number")
            case _:
                assert_never(e)


def rounding_error(places: int, rounding: Rounding) -> Interval:
    """Return rounded - exact in units of the last place *before* `places` bits are dropped."""
    unit, half = 1 << places, 1 << (places - 1)
    match rounding:
        case Rounding.HALF_UP:
            return Interval(Fraction(1 - half), Fraction(half))
        case Rounding.TRUNCATE:
            return Interval(Fraction(1 - unit), Fraction(0))
        case Rounding.CONVERGENT:
            return Interval(Fraction(-half), Fraction(half))
        case _:
            assert_never(rounding)


def propagate(
    kernel: fx.Kernel,
    ranges: Mapping[str, Interval],
    inputs: Mapping[str, Interval],
    *,
    rounding: bool,
    known: Mapping[str, Interval] | None = None,
) -> Propagated:
    """Return the errors of every Let.

    Args:
        kernel: What `quantize` made.
        ranges: Name -> exact range.
        inputs: Input -> its error; none where it is not named.
        rounding: See `Propagated`.
        known: Let -> an interval that its error is known to lie in.
    """
    errors = {p.var.name: inputs.get(p.var.name, _NONE) for p in kernel.inputs}
    found = Propagated(ranges, errors, rounding)
    for let in kernel.body:
        name = let.target.name
        if isinstance(let.target.type, Bits):
            error = found.error(let.value)
            narrower = meet(error, known[name]) if known and name in known else None
            errors[name] = error if narrower is None else narrower
    return found
