"""Adder and clamp that all multiply-adds of the `_seq` form share.

    _sum <- _product + addend            the addend includes the rounding constant
    _acc <- saturate(_sum without its last bits)

Bits below the last bit of every addend bypass the adder; bits that no rounding reads are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lnm_codegen.backends.verilog.expr import Printer, literal
from lnm_codegen.backends.verilog.sequence.plan import Factors, MultiplyAdd, TaskPlan
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import Span, span
from lnm_codegen.ir.types import Rounding


@dataclass(frozen=True, slots=True)
class Shape:
    """Rounding and clamp of a sum: dropped bits, width of the result, rounding mode."""

    places: int
    width: int
    rounding: Rounding


@dataclass(frozen=True, slots=True)
class Sums:
    """Widths of the shared adder.

    Attributes:
        width: Bits of a sum before rounding.
        zeros: Last bits that are zeros in every addend.
        dropped: Last bits of the sum that no rounding reads, at most `zeros`.
        acc_width: Width of the widest result.
        fits: Shape -> True if its clamp never acts.
    """

    width: int
    zeros: int
    dropped: int
    acc_width: int
    fits: dict[Shape, bool]


def sums_of(plan: TaskPlan) -> Sums | None:
    """Return the shared adder of a plan, None for a plan without multiply-adds."""
    tasks = [t for t in plan.tasks if isinstance(t, MultiplyAdd)]
    if not tasks:
        return None
    fits: dict[Shape, bool] = {}
    for task in tasks:
        shape = shape_of(task)
        fits[shape] = fits.get(shape, True) and task.fits
    exact = any(len(t.products) > 1 or t.products[0].subtracted for t in tasks)
    sticky = any(shape.rounding is Rounding.CONVERGENT for shape in fits)
    zeros = 0 if exact else min(_zeros(t) for t in tasks)
    width = max(
        *(_bits(s) for t in tasks for s in _spans(t, plan.spans)),
        *(shape.places + shape.width for shape in fits),
        *(fx.bits_of(t.rest).width for t in tasks if t.rest is not None),
    )
    widest = max(shape.width for shape in fits)
    return Sums(width, zeros, 0 if sticky else zeros, widest, fits)


def shape_of(task: MultiplyAdd) -> Shape:
    """Return the rounding and the clamp of a task."""
    return Shape(task.parts.places, fx.bits_of(task.let.value).width, task.parts.rounding)


def _zeros(task: MultiplyAdd) -> int:
    """Return the number of zeros at the end of the addend, at most the bits that are dropped."""
    places = task.parts.places
    half = places - 1 if task.parts.half else places
    match task.rest:
        case None | fx.Const(0, _, _):
            return half
        case fx.Const(integer, _, _):
            return min(half, (integer & -integer).bit_length() - 1)
        case fx.Shift(_, zeros):
            return min(half, zeros)
        case _:
            return 0


def _spans(task: MultiplyAdd, spans: dict[str, Span]) -> list[Span]:
    """Return the interval of the sum after each product of a task."""
    low = high = task.parts.half
    if task.rest is not None:
        least, greatest = span(task.rest, spans)
        low, high = low + least, high + greatest
    found = []
    for product in task.products:
        low, high = _added(product, (low, high), spans)
        found.append((low, high))
    return found


def _added(product: Factors, before: Span, spans: dict[str, Span]) -> Span:
    low, high = span(fx.Product(product.lhs, product.rhs), spans)
    return (
        (before[0] - high, before[1] - low)
        if product.subtracted
        else (before[0] + low, before[1] + high)
    )


def _bits(found: Span) -> int:
    return max(k.bit_length() if k >= 0 else (-k - 1).bit_length() for k in found) + 1


def addend(task: MultiplyAdd, sums: Sums, printer: Printer) -> str:
    """Return the addend of the first product, without its last `sums.zeros` bits."""
    width, stem = sums.width - sums.zeros, task.let.target.name
    half, rest = task.parts.half >> sums.zeros, task.rest
    match rest:
        case None:
            return literal(half, width)
        case fx.Const(integer, _, _):
            return literal((integer >> sums.zeros) + half, width)
        case fx.Shift(arg, places):
            rest = replace(rest, places=places - sums.zeros) if places > sums.zeros else arg
    if not half:
        return printer.at(rest, width, stem)
    if isinstance(rest, fx.Shift) and half >> rest.places == 0:
        return printer.extended(printer.raised(rest, half, stem), width, stem)
    return f"{printer.at(rest, width, stem)} + {literal(half, width)}"


def clamp_lines(sums: Sums, shape: Shape, tail: str) -> tuple[tuple[str, ...], str, str]:
    """Return (wires, condition, value) of a clamp; names of the wires end in `tail`.

    The result is the least number under the condition, otherwise the value. The condition is empty
    where the clamp never acts.
    """
    width, low = shape.width, shape.places - sums.dropped
    top = sums.width - sums.dropped - 1
    end = low + width - 1  # bit of the sum that is the sign of the result
    lines: list[str] = []
    kept = f"_sum[{end - 1}:{low}]"
    if shape.rounding is Rounding.CONVERGENT and shape.places:
        lines.append(f"wire _even{tail} = _sum[{low}] && |_sum[{low - 1}:0];  // 0 at a tie")
        kept = f"{{_sum[{end - 1}:{low + 1}], _even{tail}}}" if width > 2 else f"_even{tail}"
    if sums.fits[shape] or top == end:
        return tuple(lines), "", f"{{_sum[{end}], {kept}}}"
    lines += [
        f"wire _above{tail} = !_sum[{top}] && |_sum[{top - 1}:{end}];",
        f"wire _below{tail} = _sum[{top}] && !(&_sum[{top - 1}:{end}]);",
    ]
    most = f"{{{width - 1}{{_above{tail}}}}}"
    return tuple(lines), f"_below{tail}", f"{{_sum[{top}], {kept} | {most}}}"


def unread(sums: Sums) -> str:
    """Return the bits of the sum that no rounding or clamp reads, or all bits; empty for none.

    With several shapes, other steps may read them.
    """
    top = sums.width - sums.dropped
    low = min(s.places for s in sums.fits) - sums.dropped
    if any(s.rounding is Rounding.CONVERGENT and s.places for s in sums.fits):
        low = 0
    if any(fits and s.places + s.width < sums.width for s, fits in sums.fits.items()):
        return f"_sum[{top - 1}:0]"
    return "" if low == 0 else "_sum[0]" if low == 1 else f"_sum[{low - 1}:0]"


def least(width: int) -> str:
    """Return the least number of a width."""
    return f"{{1'b1, {width - 1}'d0}}"
