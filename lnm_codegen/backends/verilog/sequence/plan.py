"""The step as a list of tasks for one multiplier: what is multiplied, and what is logic.

A rounded sum of products is a chain of multiply-adds. A saturated sum without products is one too,
of the factor 1, where there is a multiplier at all: it then shares the adder and the clamp.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeAlias

from lnm_codegen.backends.verilog.core.terms import (
    Rounded,
    is_added,
    is_arithmetic,
    multiplied,
    rounded_parts,
)
from lnm_codegen.backends.verilog.expr import Printer
from lnm_codegen.backends.verilog.parts import Design
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.bounds import Span, always_fits, span
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.types import Bits


@dataclass(frozen=True, slots=True)
class Factors:
    """A product; `subtracted` from the sum it stands in, or added."""

    lhs: fx.Expr
    rhs: fx.Expr
    subtracted: bool


@dataclass(frozen=True, slots=True)
class MultiplyAdd:
    """`let` = saturate(round(the sum of `products` and `rest`)).

    Attributes:
        let: What is computed.
        products: One or more, each a step of its own.
        rest: What is added, logic without a chain of carries; None for nothing.
        parts: The rounding and the clamp.
        fits: Whether the clamp never acts.
    """

    let: fx.Let
    products: tuple[Factors, ...]
    rest: fx.Expr | None
    parts: Rounded
    fits: bool


@dataclass(frozen=True, slots=True)
class Exact:
    """`var` = a product that is needed as it is."""

    var: fx.Var
    lhs: fx.Expr
    rhs: fx.Expr


@dataclass(frozen=True, slots=True)
class Logic:
    """A Let that takes no multiplier."""

    let: fx.Let


Task: TypeAlias = MultiplyAdd | Exact | Logic


@dataclass(frozen=True, slots=True)
class Plan:
    """Tasks in an order in which each comes behind those it reads, and what integers they give."""

    tasks: tuple[Task, ...]
    spans: dict[str, Span]

    @property
    def products(self) -> tuple[Factors | Exact, ...]:
        """Return what takes the multiplier, in order."""
        found: list[Factors | Exact] = []
        for task in self.tasks:
            if isinstance(task, MultiplyAdd):
                found += task.products
            elif isinstance(task, Exact):
                found.append(task)
        return tuple(found)


def plan(design: Design) -> Plan:
    """Return the tasks of a design."""
    kernel, spans = design.kernel, dict(design.spans)
    planner = _Planner(
        Printer({}, design.constants, design.rtl.shift_add, spans),
        spans,
        {p.var.name for p in (*kernel.inputs, *kernel.results)},
        kernel.body,
    )
    for let in kernel.body:
        planner.add(let)
    return Plan(tuple(planner.tasks), spans)


class _Planner:
    def __init__(
        self, printer: Printer, spans: dict[str, Span], taken: set[str], body: tuple[fx.Let, ...]
    ) -> None:
        self._printer, self._spans = printer, spans
        self._taken = taken | {let.target.name for let in body}
        self.tasks: list[Task] = []
        self._let = body[0]
        self._chains: Counter[Rounded] = Counter()
        self._widest = 0
        for let in body:
            products, parts = multiplied(let.value, printer), rounded_parts(let.value)
            if products and _is_chain(parts, products):
                zero = fx.Const(0, Bits(1, 0), Fraction(0))
                self._chains[replace(parts, exact=zero, width=fx.bits_of(let.value).width)] += 1
                factors = [fx.bits_of(e).width for p in products for e in (p.lhs, p.rhs)]
                self._widest = max(self._widest, *factors)

    def add(self, let: fx.Let) -> None:
        self._let = let
        products = multiplied(let.value, self._printer)
        parts = rounded_parts(let.value)
        if products and _is_chain(parts, products):
            signed = tuple(self._factors(p, is_added(p, parts.exact) is False) for p in products)
            self._multiply_add(signed, self._remaining(parts.exact, products), parts)
        elif products:
            table: dict[fx.Expr, fx.Expr] = {}
            for product in products:
                factors = [self._hoisted(e) for e in (product.lhs, product.rhs)]
                var = self._temporary("product", product)
                table[product] = var
                self.tasks.append(Exact(var, *factors))
            self.tasks.append(Logic(replace(let, value=_replaced(let.value, table))))
        elif not self._by_one(parts):
            self.tasks.append(Logic(let))

    def _by_one(self, parts: Rounded) -> bool:
        """Make a saturated sum a multiply-add with the factor 1 or -1, if one fits; say whether."""
        if not self._chains or parts.places or not parts.width:
            return False
        shared = max(self._chains, key=lambda s: (s.width == parts.width, self._chains[s]))
        places = shared.places
        addends = _addends(parts.exact) if isinstance(parts.exact, fx.Sum) else ()
        found = [
            (var, added)
            for var in addends
            if addends.count(var) == 1
            and (added := _is_plus(var, parts.exact)) is not None
            and self._printer.constant_of(var) is None
            and places + 1 + added <= self._widest
        ]
        if not found:
            return False
        before = self.tasks[-1] if self.tasks else None
        last = before.let.target if isinstance(before, MultiplyAdd) else None
        var, added = max(found, key=lambda f: (f[0] == last, f[1]))
        integer = (1 if added else -1) << places
        one = fx.Const(integer, Bits(places + 1 + added, places), Fraction(1 if added else -1))
        rest = self._remaining(parts.exact, (var,))
        exact = rest and _shifted(rest, places)
        scaled = replace(shared, exact=_shifted(parts.exact, places), width=parts.width)
        self._multiply_add((Factors(var, one, False),), exact, scaled)
        return True

    def _factors(self, product: fx.Product, subtracted: bool) -> Factors:
        """Return a product; a constant factor takes the sign of one that is subtracted."""
        lhs, rhs = self._hoisted(product.lhs), self._hoisted(product.rhs)
        if subtracted:
            for factor, other in ((lhs, rhs), (rhs, lhs)):
                number = self._printer.constant_of(factor)
                if number is not None and fx.bits_of(factor).holds(-number):
                    bits = fx.bits_of(factor)
                    return Factors(fx.Const(-number, bits, bits.value(-number)), other, False)
        return Factors(lhs, rhs, subtracted)

    def _multiply_add(
        self, products: tuple[Factors, ...], rest: fx.Expr | None, parts: Rounded
    ) -> None:
        let = self._let
        fits = not isinstance(let.value, fx.Saturate) or always_fits(let.value, self._spans)
        task = MultiplyAdd(let, products, rest and self._hoisted(rest), parts, fits)
        self.tasks.append(task)

    def _hoisted(self, e: fx.Expr) -> fx.Expr:
        """Return an operand without a chain of carries: what has one becomes a task."""
        if not is_arithmetic(e):
            return e
        if isinstance(e, fx.Shift | fx.Select):
            return fx.map_children(e, self._hoisted)
        var = self._temporary("operand", e)
        self.tasks.append(Logic(fx.Let(var, e, self._let.phase)))
        return var

    def _temporary(self, word: str, e: fx.Expr) -> fx.Var:
        wanted, k = f"{self._let.target.name}_{word}", 1
        name = wanted
        while name in self._taken:
            k += 1
            name = f"{wanted}_{k}"
        self._taken.add(name)
        if isinstance(fx.type_of(e), Bits):
            self._spans[name] = span(e, self._spans)
        return fx.Var(name, fx.type_of(e))

    def _remaining(self, e: fx.Expr, taken: tuple[fx.Expr, ...]) -> fx.Expr | None:
        """Return the sum `e` less what is taken of it, None for nothing."""
        if e in taken:
            return None
        if not isinstance(e, fx.Sum):
            return e
        lhs, rhs = self._remaining(e.lhs, taken), self._remaining(e.rhs, taken)
        if lhs is None:
            return rhs if rhs is None or e.op is SumOp.ADD else self._negated(rhs)
        return lhs if rhs is None else replace(e, lhs=lhs, rhs=rhs)

    def _negated(self, e: fx.Expr) -> fx.Expr:
        """Return -e, with the sign as far down as it goes: at constants it costs nothing."""
        if isinstance(e, fx.Shift):
            return replace(e, arg=self._negated(e.arg))
        if isinstance(e, fx.Select):
            return replace(e, then=self._negated(e.then), orelse=self._negated(e.orelse))
        number = self._printer.constant_of(e)
        if number is None:
            return fx.Negate(e)
        bits = fx.bits_of(e)
        return fx.Const(-number, Bits(bits.width + 1, bits.frac), -bits.value(number))


def _is_chain(parts: Rounded, products: tuple[fx.Product, ...]) -> bool:
    """Say whether a value is a sum of its products, each once, that is brought to a format."""
    below = [node for node in fx.walk(parts.exact) if node in products]
    return (
        (parts.places > 0 or parts.width is not None)
        and len(below) == len(products)
        and all(is_added(p, parts.exact) is not None for p in products)
    )


def _addends(e: fx.Expr) -> tuple[fx.Var, ...]:
    """Return the numbers by name that a sum adds or subtracts."""
    if isinstance(e, fx.Sum):
        return (*_addends(e.lhs), *_addends(e.rhs))
    return (e,) if isinstance(e, fx.Var) else ()


def _is_plus(var: fx.Var, e: fx.Expr) -> bool | None:
    """Say whether a sum adds or subtracts a number; None where it stands elsewhere."""
    if not isinstance(e, fx.Sum):
        return True if e == var else None
    left, right = _is_plus(var, e.lhs), _is_plus(var, e.rhs)
    if left is not None or right is None:
        return left
    return right if e.op is SumOp.ADD else not right


def _shifted(e: fx.Expr, places: int) -> fx.Expr:
    if isinstance(e, fx.Const):
        bits = Bits(e.bits.width + places, e.bits.frac + places)
        return fx.Const(e.integer << places, bits, e.real)
    return fx.Shift(e, places) if places else e


def _replaced(e: fx.Expr, table: dict[fx.Expr, fx.Expr]) -> fx.Expr:
    return table.get(e) or fx.map_children(e, lambda c: _replaced(c, table))
