"""A Let as hardware sees it: products, what is added to them, how the sum is rounded."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from lnm_codegen.backends.verilog.expr import Printer
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.operators import CompareOp
from lnm_codegen.ir.types import Rounding


@dataclass(frozen=True, slots=True)
class Rounded:
    """`value` = saturate(round(exact, places), width).

    Attributes:
        exact: The sum before anything is dropped.
        places: Bits dropped; 0 for none.
        rounding: How.
        width: Of the result; None where nothing saturates.
    """

    exact: fx.Expr
    places: int
    rounding: Rounding
    width: int | None


def rounded_parts(e: fx.Expr) -> Rounded:
    """Split a value into what is exact, and what is dropped of it."""
    match e:
        case fx.Saturate(fx.Round(exact, places, rounding), width):
            return Rounded(exact, places, rounding, width)
        case fx.Saturate(exact, width):
            return Rounded(exact, 0, Rounding.TRUNCATE, width)
        case fx.Round(exact, places, rounding):
            return Rounded(exact, places, rounding, None)
        case _:
            return Rounded(e, 0, Rounding.TRUNCATE, None)


def multiplied(e: fx.Expr, printer: Printer) -> tuple[fx.Product, ...]:
    """Return the products of `e` that take a multiplier, in order."""
    found = (node for node in fx.walk(e) if isinstance(node, fx.Product))
    return tuple(dict.fromkeys(p for p in found if printer.shift_add_of(p) is None))


def is_added(product: fx.Product, e: fx.Expr) -> bool | None:
    """Say how a product stands in a sum: True added, False subtracted, None below other operators.

    A sum is e itself, or the operands of its additions and subtractions.
    """
    if e == product:
        return True
    if isinstance(e, fx.Sum):
        left = is_added(product, e.lhs)
        if left is not None:
            return left
        right = is_added(product, e.rhs)
        return right if right is None or e.op is SumOp.ADD else not right
    return None


def without(product: fx.Product, e: fx.Expr) -> fx.Expr | None:
    """Return the sum `e` less the product, which stands in it once; None where nothing is left."""
    if e == product:
        return None
    assert isinstance(e, fx.Sum)
    if is_added(product, e.lhs) is not None:
        rest = without(product, e.lhs)
        if rest is None:
            return e.rhs if e.op is SumOp.ADD else fx.Negate(e.rhs)
        return fx.Sum(e.op, rest, e.rhs)
    rest = without(product, e.rhs)
    return e.lhs if rest is None else fx.Sum(e.op, e.lhs, rest)


def is_arithmetic(e: fx.Expr) -> bool:
    """Say whether `e` has a chain of carries: a sum, or a comparison with more than a sign."""
    for node in fx.walk(e):
        if isinstance(node, fx.Sum | fx.Negate | fx.Product):
            return True
        if isinstance(node, fx.Compare):
            zero = isinstance(node.rhs, fx.Const) and node.rhs.integer == 0
            if not zero or node.op not in (CompareOp.GE, CompareOp.LT):
                return True
    return False


def replaced(e: fx.Expr, table: dict[fx.Expr, fx.Expr]) -> fx.Expr:
    """Return `e` with the table's expressions in place of others."""
    return table.get(e) or fx.map_children(e, lambda c: replaced(c, table))


def emptied(e: fx.Expr, products: tuple[fx.Product, ...]) -> fx.Expr:
    """Return `e` with zeros for its products."""
    return replaced(e, {p: fx.Const(0, fx.bits_of(p), Fraction(0)) for p in products})
