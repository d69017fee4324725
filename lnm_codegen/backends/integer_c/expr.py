"""Printer of fixed-point kernels in C. Each value has 32 bits if its range fits, else 64.

A shift to the left is a multiplication, which C defines for negative numbers too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import assert_never

from lnm_codegen.backends import expr
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import Span, SumOp, span, spans
from lnm_codegen.ir.nodes import number_text
from lnm_codegen.ir.types import BOOL, Bits, Rounding

_INT32 = (-(1 << 31), (1 << 31) - 1)

NOTHING: Mapping[str, Span] = MappingProxyType({})
"""No known spans: an input may be any integer of its bits."""

_WORDS = ("truncate", "half_up", "convergent", "saturate")
FUNCTIONS = tuple(f"{word}_{size}" for word in _WORDS for size in (32, 64))
"""Functions of `integer_c/functions.h.j2`, which have the prefix `fixed_`."""

Sizes = Mapping[str, int]
"""Name of a Let or a port -> the bits of its C variable, 32 or 64, or 0 for a condition."""


def called(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the `FUNCTIONS` that some statements call."""
    whole = "\n".join(texts)
    return tuple(name for name in FUNCTIONS if f"fixed_{name}(" in whole)


def c_sizes(kernel: fx.Kernel, known: Mapping[str, Span] = NOTHING) -> dict[str, int]:
    """Return the size of the C variable of every name; `known` are spans of inputs by name."""
    found = spans(kernel, known)
    names = [p.var for p in kernel.inputs] + [let.target for let in kernel.body]
    return {v.name: 0 if v.type is BOOL else _size(found[v.name]) for v in names}


def c_type(size: int) -> str:
    """Return the type of a C variable of a size."""
    return f"int{size}_t" if size else "int"


def lines(kernel: fx.Kernel, known: Mapping[str, Span] = NOTHING) -> tuple[str, ...]:
    """Return the body as C statements, each with the format of its number.

    Parameters that the body does not read come first, as `(void)name;`.
    """
    sizes, found = c_sizes(kernel, known), spans(kernel, known)

    def statement(let: fx.Let) -> list[str]:
        name = let.target.name
        value = _written(let.value, found, sizes)
        text = value.at(expr.LOOSEST)
        if value.size > sizes[name]:
            text = f"({c_type(sizes[name])}){value.at(expr.CALL)}"
        note = f"  // {let.target.type}" if isinstance(let.target.type, Bits) else ""
        wrapped = textwrap.wrap(
            f"const {c_type(sizes[name])} {name} = {text};",
            108 - len(note),
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        return [*wrapped[:-1], f"{wrapped[-1]}{note}"]

    read = {e.name for let in kernel.body for e in fx.walk(let.value) if isinstance(e, fx.Var)}
    read |= {p.var.name for p in kernel.results}
    unread = (f"(void){p.var.name};" for p in kernel.inputs if p.var.name not in read)
    return (*unread, *expr.statements(kernel.phases(), "//", statement))


@dataclass(frozen=True, slots=True)
class _Text:
    """A printed expression, its level of precedence, and the size of its type."""

    text: str
    level: int
    size: int

    def at(self, level: int) -> str:
        """Return the text, in parentheses where an operator of `level` requires them."""
        return f"({self.text})" if self.level < level else self.text

    def wide(self, level: int) -> str:
        """Return the text as a number of 64 bits."""
        return self.at(level) if self.size == 64 else f"(int64_t){self.at(expr.CALL)}"


def _size(values: Span) -> int:
    return 32 if _INT32[0] <= values[0] and values[1] <= _INT32[1] else 64


def _written(e: fx.Expr, found: Mapping[str, Span], sizes: Sizes) -> _Text:
    def of(child: fx.Expr) -> _Text:
        return _written(child, found, sizes)

    match e:
        case fx.Const():
            return _constant(e)
        case fx.Var(name, _):
            return _Text(name, expr.CALL, sizes[name])
        case fx.Negate(arg):
            value, size = of(arg), _size(span(e, found))
            text = value.wide(expr.CALL) if size == 64 else value.at(expr.CALL)
            return _Text(f"-{text}", expr.UNARY, max(size, value.size))
        case fx.Sum(op, lhs, rhs):
            symbol = "+" if op is SumOp.ADD else "-"
            return _binary(symbol, expr.SUM, of(lhs), of(rhs), _size(span(e, found)))
        case fx.Product(lhs, rhs):
            return _binary("*", expr.PRODUCT, of(lhs), of(rhs), _size(span(e, found)))
        case fx.Shift(arg, places):
            one = "1" if places < 31 else "INT64_C(1)"
            power = _Text(f"({one} << {places})", expr.CALL, 32)
            return _binary("*", expr.PRODUCT, of(arg), power, _size(span(e, found)))
        case fx.Round(arg, places, rounding):
            return _round(of(arg), span(arg, found), places, rounding)
        case fx.Saturate(arg, width):
            value = of(arg)
            assert width <= 32, "quantize saturates to the width of a Fixed"
            return _Text(f"fixed_saturate_{value.size}({value.at(0)}, {width})", expr.CALL, 32)
        case fx.Compare(compare, lhs, rhs):
            a, b = of(lhs), of(rhs)
            return _Text(f"{a.at(expr.SUM)} {compare.value} {b.at(expr.SUM)}", expr.COMPARE, 0)
        case fx.Not(arg):
            return _Text(f"!{of(arg).at(expr.CALL)}", expr.UNARY, 0)
        case fx.Both(lhs, rhs):
            return _Text(f"{of(lhs).at(expr.CALL)} & {of(rhs).at(expr.CALL)}", expr.AND, 0)
        case fx.Either(lhs, rhs):
            return _Text(f"{of(lhs).at(expr.CALL)} | {of(rhs).at(expr.CALL)}", expr.OR, 0)
        case fx.Select(cond, then, orelse):
            a, b = of(then), of(orelse)
            text = f"{of(cond).at(expr.OR)} ? {a.at(expr.OR)} : {b.at(expr.OR)}"
            return _Text(text, expr.TERNARY, max(a.size, b.size))
        case _:
            assert_never(e)


def _constant(e: fx.Const) -> _Text:
    """Return an integer, with the real number that it encodes in a comment."""
    size = _size((e.integer, e.integer))
    text = f"INT64_C({e.integer})" if size == 64 else str(e.integer)
    if e.integer == _INT32[0]:
        text = "(-2147483647 - 1)"  # 2147483648 is not an int
    if e.real:
        text += f" /* {number_text(e.real)} in {e.bits} */"
    return _Text(text, expr.UNARY if text.startswith("-") else expr.CALL, size)


def _binary(symbol: str, level: int, a: _Text, b: _Text, size: int) -> _Text:
    """Return an operator; if only its result has 64 bits, its first operand is widened."""
    size = max(size, a.size, b.size)
    widen = size == 64 and a.size == b.size == 32
    left = a.wide(level) if widen else a.at(level)
    return _Text(f"{left} {symbol} {b.at(level + 1)}", level, size)


def _round(value: _Text, values: Span, places: int, rounding: Rounding) -> _Text:
    if rounding is Rounding.TRUNCATE:
        size = value.size if places < 32 else 64  # C shifts 32 bits by less than 32 places
        return _Text(f"fixed_truncate_{size}({value.at(0)}, {places})", expr.CALL, size)
    half = 1 << (places - 1)  # the sum before the shift must fit too
    size = max(value.size, _size((values[0], values[1] + half)))
    name = {Rounding.HALF_UP: "half_up", Rounding.CONVERGENT: "convergent"}[rounding]
    return _Text(f"fixed_{name}_{size}({value.at(0)}, {places})", expr.CALL, size)
