"""Plan of one time step for a single multiplier: multiply-adds, exact products, logic.

A rounded sum of products is a chain of multiply-adds. In a circuit with such a chain, a saturated
sum without products is a multiply-add by 1: it shares the adder and the clamp.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeAlias

from lnm_codegen.backends.verilog.pipeline import (
    Rounded,
    fits,
    is_added,
    is_arithmetic,
    multiplied,
    replaced,
    rounded_parts,
)
from lnm_codegen.backends.verilog.expr import Printer
from lnm_codegen.backends.verilog.design import CircuitDesign
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import Span, SumOp, span
from lnm_codegen.ir.names import Names
from lnm_codegen.ir.types import Bits


@dataclass(frozen=True, slots=True)
class Factors:
    """A product that a sum adds, or subtracts if `subtracted`."""

    lhs: fx.Expr
    rhs: fx.Expr
    subtracted: bool


@dataclass(frozen=True, slots=True)
class MultiplyAdd:
    """`let` = saturate(round(the sum of `products` and `rest`)).

    Attributes:
        let: The Let that it computes.
        products: One or more; each uses the multiplier once.
        rest: Further addend without a carry chain, or None.
        parts: The rounding and the clamp.
        fits: True if the clamp never acts.
    """

    let: fx.Let
    products: tuple[Factors, ...]
    rest: fx.Expr | None
    parts: Rounded
    fits: bool


@dataclass(frozen=True, slots=True)
class Exact:
    """`var` = a product that is not rounded."""

    var: fx.Var
    lhs: fx.Expr
    rhs: fx.Expr


@dataclass(frozen=True, slots=True)
class Logic:
    """A Let without a multiplier."""

    let: fx.Let


Task: TypeAlias = MultiplyAdd | Exact | Logic


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """Tasks in the order of their dependencies.

    Attributes:
        tasks: The tasks.
        spans: Interval of integers of each number, temporaries included.
        names: Source of names that the kernel, its ports and the tasks do not use.
    """

    tasks: tuple[Task, ...]
    spans: dict[str, Span]
    names: Names


def plan(design: CircuitDesign) -> TaskPlan:
    """Return the tasks of a design."""
    planner = _Planner(design)
    for let in design.kernel.body:
        planner.add(let)
    return TaskPlan(tuple(planner.tasks), planner.spans, planner.names)


class _Planner:
    def __init__(self, design: CircuitDesign) -> None:
        self.spans, self.names = dict(design.spans), design.names()
        self.tasks: list[Task] = []
        self._printer = Printer({}, design.constants, design.rtl.shift_add, self.spans)
        self._let = design.kernel.body[0]
        self._chains: Counter[Rounded] = Counter()
        self._widest = 0
        for let in design.kernel.body:
            products, parts = multiplied(let.value, self._printer), rounded_parts(let.value)
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
            self.tasks.append(Logic(replace(let, value=replaced(let.value, table))))
        elif not self._multiply_by_one(parts):
            self.tasks.append(Logic(let))

    def _multiply_by_one(self, parts: Rounded) -> bool:
        """Make a saturated sum a multiply-add by 1 or -1; report whether a chain allows it."""
        if not self._chains or parts.places or not parts.width:
            return False
        shared = max(self._chains, key=lambda s: (s.width == parts.width, self._chains[s]))
        places = shared.places
        addends = _addends(parts.exact) if isinstance(parts.exact, fx.Sum) else ()
        found = [
            (var, added)
            for var in addends
            if addends.count(var) == 1
            and (added := is_added(var, parts.exact)) is not None
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
        """Return a product, added instead of subtracted if a constant factor can be negated."""
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
        addend, value = rest and self._hoisted(rest), self._let.value
        task = MultiplyAdd(self._let, products, addend, parts, fits(value, self.spans))
        self.tasks.append(task)

    def _hoisted(self, e: fx.Expr) -> fx.Expr:
        """Return an operand without a carry chain: each part with one becomes a task."""
        if not is_arithmetic(e):
            return e
        if isinstance(e, fx.Shift | fx.Select):
            return fx.map_children(e, self._hoisted)
        var = self._temporary("operand", e)
        self.tasks.append(Logic(fx.Let(var, e, self._let.phase)))
        return var

    def _temporary(self, word: str, e: fx.Expr) -> fx.Var:
        name = self.names.fresh(f"{self._let.target.name}_{word}")
        if isinstance(fx.type_of(e), Bits):
            self.spans[name] = span(e, self.spans)
        return fx.Var(name, fx.type_of(e))

    def _remaining(self, e: fx.Expr, taken: tuple[fx.Expr, ...]) -> fx.Expr | None:
        """Return the sum `e` without the terms in `taken`, or None if no term remains."""
        if e in taken:
            return None
        if not isinstance(e, fx.Sum):
            return e
        lhs, rhs = self._remaining(e.lhs, taken), self._remaining(e.rhs, taken)
        if lhs is None:
            return rhs if rhs is None or e.op is SumOp.ADD else self._negated(rhs)
        return lhs if rhs is None else replace(e, lhs=lhs, rhs=rhs)

    def _negated(self, e: fx.Expr) -> fx.Expr:
        """Return -e. Constants are negated directly; other terms get a Negate."""
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
    """Report whether a value is a sum, rounded or saturated, with each of its products once."""
    below = [node for node in fx.walk(parts.exact) if node in products]
    return (
        (parts.places > 0 or parts.width is not None)
        and len(below) == len(products)
        and all(is_added(p, parts.exact) is not None for p in products)
    )


def _addends(e: fx.Expr) -> tuple[fx.Var, ...]:
    """Return the variables that a sum adds or subtracts."""
    if isinstance(e, fx.Sum):
        return (*_addends(e.lhs), *_addends(e.rhs))
    return (e,) if isinstance(e, fx.Var) else ()


def _shifted(e: fx.Expr, places: int) -> fx.Expr:
    if isinstance(e, fx.Const):
        bits = Bits(e.bits.width + places, e.bits.frac + places)
        return fx.Const(e.integer << places, bits, e.real)
    return fx.Shift(e, places) if places else e
