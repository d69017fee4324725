"""Printer of fixed-point expressions as Verilog: each operator is a wire of its exact width.

The text extends every operand to the width of the result. No width depends on the implicit rules of
the language, and linters give no warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lnm_codegen.backends.verilog.comparison import is_misread, unsigned
from lnm_codegen.errors import InternalError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import Span, SumOp, always_fits
from lnm_codegen.ir.names import Names
from lnm_codegen.ir.operators import CompareOp
from lnm_codegen.ir.types import Bits, Rounding


@dataclass(frozen=True, slots=True)
class Signal:
    """Text of a number (an identifier, a literal or a concatenation), and its width."""

    text: str
    width: int


def literal(integer: int, width: int) -> str:
    """Return a signed literal."""
    if integer < 0:
        low = -(1 << (width - 1))
        return f"{width}'sh{1 << (width - 1):x}" if integer == low else f"-{width}'sd{-integer}"
    return f"{width}'sd{integer}"


def declared(kind: str, name: str, width: int | None) -> str:
    """Return a declaration without its semicolon; `width` is None for a condition."""
    return f"{kind} {name}" if width is None else f"{kind} signed [{width - 1}:0] {name}"


def width_of(var: fx.Var) -> int | None:
    """Return the width of a number, None for a condition."""
    return var.type.width if isinstance(var.type, Bits) else None


def signed_digits(number: int) -> tuple[tuple[int, int], ...]:
    """Return (sign, place) of the canonical signed-digit form, highest place first.

    number = sum of sign * 2**place; no two places are adjacent. The form of 0 is empty.
    """
    digits, place = [], 0
    while number:
        if number & 1:
            sign = 2 - (number & 3)
            digits.append((sign, place))
            number -= sign
        number >>= 1
        place += 1
    return tuple(reversed(digits))


@dataclass(slots=True)
class Printer:
    """Writer of expressions as wires, which it appends to `lines`.

    Args:
        names: Variable -> identifier; a variable without an entry keeps its name.
        constants: Integers of the parameters that are constants in the source.
        most_digits: A product with a constant of at most this many signed digits becomes shifts
            and additions.
        spans: Intervals of the numbers; a clamp that never acts is omitted.
        taken: Identifiers of the module; new wires add theirs.
        lines: Declarations of the wires.
        whole: Numbers of which something reads every bit.
    """

    names: Mapping[str, str]
    constants: Mapping[str, int]
    most_digits: int
    spans: Mapping[str, Span]
    taken: Names = field(default_factory=Names)
    lines: list[str] = field(default_factory=list)
    whole: frozenset[str] = frozenset()

    def wire(self, name: str, width: int | None, text: str) -> Signal:
        """Declare a wire under a fresh name and return it."""
        name = self.taken.fresh(name)
        self.lines.append(f"{declared('wire', name, width)} = {text};")
        return Signal(name, width or 1)

    def extended(self, signal: Signal, width: int, stem: str) -> str:
        """Return a signal with its sign extended to a larger width."""
        if width == signal.width:
            return signal.text
        return sign_extended(self._identifier(signal, stem).text, signal.width, width)

    def at(self, e: fx.Expr, width: int, stem: str) -> str:
        """Return the text of a number at a width that holds it."""
        if isinstance(e, fx.Const):
            return literal(e.integer, width)
        return self.extended(self.number(e, stem), width, stem)

    def named(self, e: fx.Expr, stem: str) -> Signal:
        """Return a number as an identifier."""
        return self._identifier(self.number(e, stem), stem)

    def _identifier(self, signal: Signal, stem: str) -> Signal:
        if signal.text.isidentifier():
            return signal
        return self.wire(f"{stem}_operand", signal.width, signal.text)

    def condition(self, e: fx.Expr, stem: str) -> str:
        """Return a condition as an operand, in parentheses where it needs them."""
        match e:
            case fx.Var(name, _):
                return self.names.get(name, name)
            case fx.Not(arg):
                return f"!{self.condition(arg, stem)}"
            case fx.Both(lhs, rhs):
                return f"({self.condition(lhs, stem)} && {self.condition(rhs, stem)})"
            case fx.Either(lhs, rhs):
                return f"({self.condition(lhs, stem)} || {self.condition(rhs, stem)})"
            case fx.Compare(op, lhs, rhs):
                return f"({self._comparison(op, lhs, rhs, stem)})"
            case _:
                raise InternalError("verilog", f"{type(e).__name__} is not a condition")

    def _comparison(self, op: CompareOp, lhs: fx.Expr, rhs: fx.Expr, stem: str) -> str:
        limit = self.constant_of(rhs)
        if op is CompareOp.GE and limit is not None and limit > 0 and limit & (limit - 1) == 0:
            if limit <= fx.bits_of(lhs).high:
                return self._reaches(lhs, limit, stem)
        width = max(fx.bits_of(lhs).width, fx.bits_of(rhs).width)
        texts = [(e, self._signed(e, width, stem)) for e in (lhs, rhs)]
        misread = is_misread(op, {e: self.constant_of(e) for e in (lhs, rhs)})
        left, right = (unsigned(e, text, width) if misread else text for e, text in texts)
        return f"{left} {op.value} {right}"

    def _reaches(self, e: fx.Expr, limit: int, stem: str) -> str:
        """Return the condition that a number reaches a power of two, without a carry chain."""
        if isinstance(e, fx.Shift) and limit >> e.places:
            return self._reaches(e.arg, limit >> e.places, stem)
        signal, place = self.named(e, stem), limit.bit_length() - 1
        if place and not (isinstance(e, fx.Var) and signal.text == e.name in self.whole):
            self._sink(f"{stem}_unused", signal, place)
        return f"!{signal.text}[{signal.width - 1}] && |{signal.text}[{signal.width - 2}:{place}]"

    def _signed(self, e: fx.Expr, width: int, stem: str) -> str:
        """Return a number that Verilog compares as signed: a literal or an identifier."""
        text = self.at(e, width, stem)
        if isinstance(e, fx.Const) or text.isidentifier():
            return text
        return self.wire(f"{stem}_compared", width, text).text

    def number(self, e: fx.Expr, stem: str) -> Signal:
        """Return a number at its exact width; an operator becomes a wire."""
        width = fx.bits_of(e).width
        match e:
            case fx.Const(integer, _, _):
                return Signal(literal(integer, width), width)
            case fx.Var(name, _):
                return Signal(self.names.get(name, name), width)
            case fx.Shift(arg, places):
                return Signal(f"{{{self.number(arg, stem).text}, {places}'d0}}", width)
            case _:
                word, text = self._operator(e, width, stem)
                return self.wire(f"{stem}_{word}", width, text)

    def bound(self, let: fx.Let) -> str:
        """Return the right-hand side that defines the target of a Let."""
        name, width = let.target.name, width_of(let.target)
        if width is None:
            return self.condition(let.value, name)
        return self.definition(let.value, width, name)

    def definition(self, e: fx.Expr, width: int, stem: str) -> str:
        """Return the right-hand side that defines a name of a width."""
        if isinstance(e, fx.Const | fx.Var | fx.Shift) or fx.bits_of(e).width != width:
            return self.at(e, width, stem)
        return self._operator(e, width, stem)[1]

    def _operator(self, e: fx.Expr, width: int, stem: str) -> tuple[str, str]:
        """Return a word for the result of an operator, and the operator as text."""
        match e:
            case fx.Negate(arg):
                return "negated", f"-{self.at(arg, width, stem)}"
            case fx.Sum(op, lhs, rhs):
                return "sum", f"{self.at(lhs, width, stem)} {op.value} {self.at(rhs, width, stem)}"
            case fx.Product(lhs, rhs):
                return "product", self._product(lhs, rhs, width, stem)
            case fx.Round(arg, places, rounding):
                return "rounded", self._rounded(arg, places, rounding, stem)
            case fx.Saturate():
                return "clamped", self._saturated(e, stem)
            case fx.Select(cond, then, orelse):
                selector = self.condition(cond, stem)
                yes, no = self.at(then, width, stem), self.at(orelse, width, stem)
                return "selected", f"{selector} ? {yes} : {no}"
            case _:
                raise InternalError("verilog", f"{type(e).__name__} is not an operator on numbers")

    def constant_of(self, e: fx.Expr) -> int | None:
        """Return the integer of a constant, None for any other expression."""
        match e:
            case fx.Const(integer, _, _):
                return integer
            case fx.Var(name, _):
                return self.constants.get(name)
            case _:
                return None

    def shift_add_of(self, e: fx.Product) -> tuple[int, fx.Expr] | None:
        """Return (constant, other factor) of a product that shifts and additions compute."""
        for factor, other in ((e.lhs, e.rhs), (e.rhs, e.lhs)):
            number = self.constant_of(factor)
            if number is not None and len(signed_digits(number)) <= self.most_digits:
                return number, other
        return None

    def _product(self, lhs: fx.Expr, rhs: fx.Expr, width: int, stem: str) -> str:
        small = self.shift_add_of(fx.Product(lhs, rhs))
        if small is None:
            return f"{self.named(lhs, stem).text} * {self.named(rhs, stem).text}"
        number, other = small
        terms = []
        for sign, place in signed_digits(number):
            term = fx.Shift(other, place) if place else other
            terms.append(("+ " if sign > 0 else "- ") + self.at(term, width, stem))
        return " ".join(terms).removeprefix("+ ") if terms else literal(0, width)

    def _rounded(self, arg: fx.Expr, places: int, rounding: Rounding, stem: str) -> str:
        inner = fx.bits_of(arg).width
        if rounding is Rounding.TRUNCATE:
            exact = self.named(arg, stem)
            self._sink(f"{stem}_unused", exact, places)
            return f"{exact.text}[{inner - 1}:{places}]"
        biased = self._biased(arg, places, stem)
        name, top = biased.text, biased.width - 1
        grown = f"{name}[{top}], " if top < inner else ""  # the bit by which a Round is wider
        if rounding is Rounding.HALF_UP:
            self._sink(f"{stem}_unused", biased, places)
            kept = f"{name}[{top}:{places}]"
            return f"{{{grown}{kept}}}" if grown else kept
        even = f"{name}[{places}] & (|{name}[{places - 1}:0])"  # 0 at a tie
        high = f"{name}[{top}:{places + 1}], " if top > places else ""
        return f"{{{grown}{high}{even}}}"

    def _biased(self, arg: fx.Expr, places: int, stem: str) -> Signal:
        """Return `arg` plus half of the last bit that rounding keeps.

        The half replaces the zeros at the end of an addend, where it has some. This saves a carry
        chain and a bit.
        """
        width, half = fx.bits_of(arg).width, 1 << (places - 1)
        if isinstance(arg, fx.Sum) and arg.op is SumOp.ADD:
            for zeros, other in ((arg.rhs, arg.lhs), (arg.lhs, arg.rhs)):
                if isinstance(zeros, fx.Shift) and zeros.places >= places:
                    left, right = self.at(other, width, stem), self.raised(zeros, half, stem)
                    text = f"{left} + {self.extended(right, width, stem)}"
                    return self.wire(f"{stem}_biased", width, text)
        text = f"{self.at(arg, width + 1, stem)} + {literal(half, width + 1)}"
        return self.wire(f"{stem}_biased", width + 1, text)

    def raised(self, e: fx.Shift, amount: int, stem: str) -> Signal:
        """Return a Shift with an amount in place of its zeros."""
        text = f"{{{self.number(e.arg, stem).text}, {e.places}'d{amount}}}"
        return self.wire(f"{stem}_addend", fx.bits_of(e).width, text)

    def _sink(self, name: str, signal: Signal, places: int) -> None:
        """Read the bits that rounding drops, so that linters report none as unused."""
        self.wire(name, None, f"&{{1'b0, {signal.text}[{places - 1}:0]}}")

    def _saturated(self, e: fx.Saturate, stem: str) -> str:
        inner, width = fx.bits_of(e.arg).width, e.width
        if inner <= width:
            return self.at(e.arg, width, stem)
        exact = self.named(e.arg, stem)
        if not always_fits(e, self.spans):
            sign, rest = f"{exact.text}[{inner - 1}]", f"{exact.text}[{inner - 2}:{width - 1}]"
            above = self.wire(f"{stem}_above", None, f"!{sign} && |{rest}").text
            below = self.wire(f"{stem}_below", None, f"{sign} && !(&{rest})").text
            low, high = f"{{{width - 1}{{{below}}}}}", f"{{{width - 1}{{{above}}}}}"
            return f"{{{sign}, ({exact.text}[{width - 2}:0] | {high}) & ~{low}}}"
        self.wire(f"{stem}_unused", None, f"&{{1'b0, {exact.text}[{inner - 1}:{width}]}}")
        return f"{exact.text}[{width - 1}:0]"


def sign_extended(name: str, width: int, wider: int) -> str:
    """Return an identifier of `width` bits at a width that is larger or equal."""
    sign, more = f"{name}[{width - 1}]", wider - width
    if more == 0:
        return name
    return f"{{{sign}, {name}}}" if more == 1 else f"{{{{{more}{{{sign}}}}}, {name}}}"
