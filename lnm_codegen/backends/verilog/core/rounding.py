"""Rounding in the pipeline: a constant joins the sum, then bits are dropped."""

from __future__ import annotations

from lnm_codegen.backends.verilog.core.terms import Rounded
from lnm_codegen.backends.verilog.expr import Printer, literal
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.types import Rounding


def biased_width(e: fx.Expr, parts: Rounded) -> int:
    """Return a width that holds what `biased` returns."""
    takes_none = parts.places == 0 or parts.rounding is Rounding.TRUNCATE
    in_zeros = isinstance(e, fx.Shift) and e.places >= parts.places
    return fx.bits_of(e).width + (not takes_none and not in_zeros)


def biased(e: fx.Expr, parts: Rounded, printer: Printer, width: int, stem: str) -> str:
    """Return `e` with the constant that makes dropping bits a rounding, at a width."""
    if parts.places == 0 or parts.rounding is Rounding.TRUNCATE:
        return printer.at(e, width, stem)
    half = 1 << (parts.places - 1)
    if isinstance(e, fx.Const):
        return literal(e.integer + half, width)
    if isinstance(e, fx.Shift) and e.places >= parts.places:  # the zeros behind it take the bit
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
