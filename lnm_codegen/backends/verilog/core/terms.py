"""Analysis of one Let for hardware: products, the sum around them, and the rounding of the sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from lnm_codegen.backends.verilog.expr import Printer, literal
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import Span, SumOp, always_fits
from lnm_codegen.ir.operators import CompareOp
from lnm_codegen.ir.types import Rounding


@dataclass(frozen=True, slots=True)
class Rounded:
    """`value` = saturate(round(exact, places), width).

    Attributes:
        exact: The sum before rounding.
        places: Bits that rounding drops; 0 for none.
        rounding: The rounding mode.
        width: Width of the result; None where nothing saturates.
    """

    exact: fx.Expr
    places: int
    rounding: Rounding
    width: int | None

    @property
    def half(self) -> int:
        """Constant that makes dropping bits a rounding: half of the last bit kept, or 0."""
        drops_alone = self.places == 0 or self.rounding is Rounding.TRUNCATE
        return 0 if drops_alone else 1 << (self.places - 1)


def rounded_parts(e: fx.Expr) -> Rounded:
    """Split a value into its exact sum, the rounding and the clamp."""
    match e:
        case fx.Saturate(fx.Round(exact, places, rounding), width):
            return Rounded(exact, places, rounding, width)
        case fx.Saturate(exact, width):
            return Rounded(exact, 0, Rounding.TRUNCATE, width)
        case fx.Round(exact, places, rounding):
            return Rounded(exact, places, rounding, None)
        case _:
            return Rounded(e, 0, Rounding.TRUNCATE, None)


def fits(value: fx.Expr, spans: Mapping[str, Span]) -> bool:
    """Report whether no clamp of `value` ever acts."""
    return not isinstance(value, fx.Saturate) or always_fits(value, spans)


def multiplied(e: fx.Expr, printer: Printer) -> tuple[fx.Product, ...]:
    """Return the products of `e` that need a multiplier, in order, each once."""
    found = (node for node in fx.walk(e) if isinstance(node, fx.Product))
    return tuple(dict.fromkeys(p for p in found if printer.shift_add_of(p) is None))


def is_added(term: fx.Expr, e: fx.Expr) -> bool | None:
    """Return True where the sum `e` adds `term`, False where it subtracts it, otherwise None.

    The terms of a sum are `e` itself, or the operands of its additions and subtractions.
    """
    if e == term:
        return True
    if isinstance(e, fx.Sum):
        left = is_added(term, e.lhs)
        if left is not None:
            return left
        right = is_added(term, e.rhs)
        return right if right is None or e.op is SumOp.ADD else not right
    return None


def without(product: fx.Product, e: fx.Expr) -> fx.Expr | None:
    """Return the sum `e` without the first occurrence of a product, None where nothing is left."""
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
    """Report whether `e` has a carry chain: a sum, or a comparison that needs more than a sign."""
    for node in fx.walk(e):
        if isinstance(node, fx.Sum | fx.Negate | fx.Product):
            return True
        if isinstance(node, fx.Compare):
            zero = isinstance(node.rhs, fx.Const) and node.rhs.integer == 0
            if not zero or node.op not in (CompareOp.GE, CompareOp.LT):
                return True
    return False


def replaced(e: fx.Expr, table: dict[fx.Expr, fx.Expr]) -> fx.Expr:
    """Return `e` with the expressions of a table replaced by their values."""
    return table.get(e) or fx.map_children(e, lambda c: replaced(c, table))


def zeroed(e: fx.Expr, products: tuple[fx.Product, ...]) -> fx.Expr:
    """Return `e` with zeros for its products."""
    return replaced(e, {p: fx.Const(0, fx.bits_of(p), Fraction(0)) for p in products})


def biased_width(e: fx.Expr, parts: Rounded) -> int:
    """Return a width that holds the number of `biased`."""
    in_zeros = isinstance(e, fx.Shift) and e.places >= parts.places
    return fx.bits_of(e).width + (parts.half > 0 and not in_zeros)


def biased(e: fx.Expr, parts: Rounded, printer: Printer, width: int, stem: str) -> str:
    """Return `e` plus the rounding constant, at a width."""
    half = parts.half
    if not half:
        return printer.at(e, width, stem)
    if isinstance(e, fx.Const):
        return literal(e.integer + half, width)
    if isinstance(e, fx.Shift) and e.places >= parts.places:  # its zeros hold the constant
        return printer.extended(printer.raised(e, half, stem), width, stem)
    return f"{printer.at(e, width, stem)} + {literal(half, width)}"


def kept(printer: Printer, total: str, width: int, parts: Rounded, stem: str) -> str:
    """Return the bits of a biased sum that rounding keeps."""
    places = parts.places
    if not places:
        return total
    if parts.rounding is Rounding.CONVERGENT:
        even = f"{total}[{places}] & (|{total}[{places - 1}:0])"
        return f"{{{total}[{width - 1}:{places + 1}], {even}}}"
    printer.wire(f"{stem}_unused", None, f"&{{1'b0, {total}[{places - 1}:0]}}")
    return f"{total}[{width - 1}:{places}]"
