"""The step on one multiplier: which product when, and the registers and choices that it takes.

A multiply-add is a step of three cycles: the product, the sum, the clamp. The result stands in
`acc`, where the next step of Horner's scheme reads it; `factor` holds the other operand. A result
that is read later goes to a register of its own while the next step multiplies. Logic between the
steps costs no cycles, unless one chain of carries hangs on another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import inf

from lnm_codegen.backends.verilog.core.terms import is_arithmetic
from lnm_codegen.backends.verilog.expr import Printer, Signal, literal, saturated, width_of
from lnm_codegen.backends.verilog.parts import Design
from lnm_codegen.backends.verilog.sequence import sums as sequence_sums
from lnm_codegen.backends.verilog.sequence.plan import (
    Exact,
    Factors,
    Logic,
    MultiplyAdd,
    Task,
    plan,
)
from lnm_codegen.backends.verilog.sequence.values import ACCEPT, Value, Values
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.bounds import always_fits
from lnm_codegen.ir.fixed.text import expr_text
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.types import Bits

PHASES = ("multiplying", "adding", "clamping")
OURS = {
    *PHASES, "idle", "pending", "step", "last", "start", "done", "acc", "factor", "product",
    "product_unused", "sum", "sum_unused", "total", "addend", "factor_a", "factor_b", "clamped",
    "multiplier", "subtracting", "wide", "above", "below", "even",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operand:
    """A factor: a signal, and its integer where that is a constant without a name."""

    signal: Signal
    integer: int | None

    def at(self, width: int, printer: Printer, stem: str) -> str:
        """Return it at a larger width."""
        if self.integer is not None:
            return literal(self.integer, width)
        return printer.extended(self.signal, width, stem)


@dataclass(frozen=True, slots=True)
class Step:
    """A use of the multiplier.

    Attributes:
        a: A factor; None for `acc`.
        b: The other; None for `factor`.
        addend: What the product is added to; None where it is taken as it is.
        subtracted: Whether it is taken away instead.
        shape: How the sum becomes a result; None where another product comes to it.
    """

    a: Operand | None
    b: Operand | None
    addend: str | None
    subtracted: bool
    shape: sequence_sums.Shape | None


@dataclass(frozen=True, slots=True)
class Load:
    """`factor` takes a value at the end of a cycle; a `constant` can be a set or a reset."""

    cycle: int
    operand: Operand
    constant: bool


@dataclass(slots=True)
class Sequence:
    """The schedule of a design.

    Attributes:
        steps: What the multiplier does, by number of the step.
        count: Steps, those in which the multiplier rests among them.
        loads: What `factor` takes.
        first: What `acc` takes with the inputs; None where that does not matter.
        comments: What each step computes.
        results: Identifiers of outputs and next states, behind the last step.
    """

    design: Design
    steps: dict[int, Step] = field(default_factory=dict)
    count: int = 1
    loads: list[Load] = field(default_factory=list)
    first: str | None = None
    comments: list[str] = field(default_factory=list)
    results: tuple[str, ...] = ()

    sums: sequence_sums.Sums | None = None
    values: Values = field(init=False)
    _in_factor: fx.Expr | None = None
    _feeds: bool = False
    _accs: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Lay out the whole step."""
        design = self.design
        planned = plan(design)
        self.sums = sequence_sums.sums_of(planned)
        shapes = range(len(self.sums.fits) if self.sums else 0)
        ours = {f"{w}_{k}" for w in ("above", "below", "even", "clamped") for k in shapes}
        self.values = Values(design, planned.spans, OURS | ours)
        self._feeds = _acc_feeds(planned.tasks)
        for task in planned.tasks:
            if isinstance(task, Logic):
                self._logic(task.let)
            elif isinstance(task, Exact):
                self._exact(task)
            else:
                self._multiply_add(task)
        names = [v.name for v in (*design.outputs, *design.next_states)]
        ready = [self.values.table[n].ready for n in names if n in self.values.table]
        self.count = max([1, len(self.steps) and max(self.steps) + 1, *(-(-r // 3) for r in ready)])
        self.results = tuple(self.values.at(n, 3 * self.count) for n in names)

    @property
    def interval(self) -> int:
        """Cycles from one input to the next."""
        return 3 * self.count + 1

    @property
    def latency(self) -> int:
        """Cycles from an input to its result."""
        return 3 * self.count + 2

    def _logic(self, let: fx.Let) -> None:
        """A value behind what it reads: a wire, in a later cycle where chains of carries meet."""
        values, value = self.values, let.value
        if isinstance(value, fx.Saturate) and is_arithmetic(value.arg):
            clamps = fx.bits_of(value.arg).width > value.width
            if clamps and not always_fits(value, values.spans):
                self._clamped(let, value)
                return
        names = values.reads(value)
        known = [values.table[n] for n in names if n in values.table]
        cycle, costs = max((v.ready for v in known), default=0), is_arithmetic(value)
        depth = max((v.depth for v in known if v.ready == cycle), default=0) + costs
        if depth > 1:
            cycle, depth = cycle + 1, int(costs)
        name, width = let.target.name, width_of(let.target)
        printer = values.printer(value, cycle)
        if width is None:
            text = printer.condition(value, name)
        else:
            text = printer.definition(value, width, name)
        until = min((values.until(n, values.at(n, cycle)) for n in names), default=inf)
        values.table[name] = Value(cycle, until, depth, width, values.wire(name, width, text))

    def _clamped(self, let: fx.Let, value: fx.Saturate) -> None:
        """A sum in a register, then the clamp in another."""
        values, name = self.values, let.target.name
        cycle, inner = values.registered([value]), fx.bits_of(value.arg).width
        total, result = values.fresh(f"{name}_sum"), values.fresh(name)
        text = values.printer(value.arg, cycle).number(value.arg, name).text
        values.capture(cycle, total, inner, text)
        values.capture(cycle + 1, result, value.width, saturated(total, inner, value.width))
        values.table[name] = Value(cycle + 2, inf, 0, value.width, result)

    def _exact(self, task: Exact) -> None:
        """A product, which goes to a register of its own."""
        values, name = self.values, task.var.name
        step = self._free_step([task.lhs, task.rhs], None)
        self._use(step, Factors(task.lhs, task.rhs, False), None, None)
        self.comments.append(f"{step}: {name} = {expr_text(fx.Product(task.lhs, task.rhs))}")
        register, width = values.fresh(name), fx.bits_of(task.var).width
        values.capture(3 * step + 1, register, width, f"product[{width - 1}:0]")
        values.table[name] = Value(3 * step + 2, inf, 0, width, register)

    def _multiply_add(self, task: MultiplyAdd) -> None:
        assert self.sums is not None
        values, name = self.values, task.let.target.name
        factors = [e for p in task.products for e in (p.lhs, p.rhs)]
        first = self._free_step(factors, task.rest)
        final = first + len(task.products) - 1
        shape = sequence_sums.shape_of(task)
        for step, product in enumerate(task.products, first):
            if step == first:
                printer = values.printer(task.rest or _NOTHING, 3 * step + 1)
                addend = sequence_sums.addend(task, self.sums, printer)
            else:
                addend = "sum"
            self._use(step, product, addend, shape if step == final else None)
        steps = str(first) if first == final else f"{first} to {final}"
        self.comments.append(f"{steps}: {name} = {expr_text(task.let.value)}")
        ready = 3 * (final + 1)
        acc = self._acc(shape.width)
        values.table[name] = Value(ready, ready + 2, 0, shape.width, acc, is_acc=True)

    def _free_step(self, factors: list[fx.Expr], rest: fx.Expr | None) -> int:
        """Return the next step of the multiplier by which registers have what it reads."""
        free = max(self.steps) + 1 if self.steps else 0
        ready = self.values.registered(factors)
        added = self.values.registered([rest]) - 1 if rest is not None else 0
        return max(free, -(-ready // 3), -(-added // 3))

    def _acc(self, width: int) -> str:
        """Return the identifier of the last result at its own width."""
        assert self.sums is not None
        if width == self.sums.acc_width:
            return "acc"
        if width not in self._accs:
            self._accs[width] = self.values.wire(f"acc_{width}", width, f"acc[{width - 1}:0]")
        return self._accs[width]

    def _use(
        self, step: int, product: Factors, addend: str | None, shape: sequence_sums.Shape | None
    ) -> None:
        """Let the multiplier have its factors, and say what becomes of the product."""
        a, b = product.lhs, product.rhs
        changes = self._is_acc(b, step) or (self._is_fixed(b) and not self._is_acc(a, step))
        if changes:
            a, b = b, a
        self.steps[step] = Step(
            self._factor_a(a, step), self._factor_b(b, step), addend, product.subtracted, shape
        )

    def _is_acc(self, e: fx.Expr, step: int) -> bool:
        """Say whether a factor is the result of the step before."""
        value = self.values.table.get(e.name) if isinstance(e, fx.Var) else None
        return value is not None and value.ready == 3 * step and value.is_acc

    def _is_fixed(self, e: fx.Expr) -> bool:
        """Say whether a factor is a constant, or a coefficient on a port."""
        coefficients = {v.name for v in self.design.kernel.input_vars(Role.PARAM)}
        return isinstance(e, fx.Const) or (isinstance(e, fx.Var) and e.name in coefficients)

    def _factor_a(self, e: fx.Expr, step: int) -> Operand | None:
        if self._is_acc(e, step) and self._full(e):
            return None
        if step == 0 and self._feeds and self._full(e) and self._on_ports(e):
            self.first = self.values.printer(e, ACCEPT).number(e, "first").text
            return None
        return self._operand(e, 3 * step, f"step_{step}")

    def _operand(self, e: fx.Expr, cycle: int, stem: str) -> Operand:
        signal = self.values.printer(e, cycle).number(e, stem)
        return Operand(signal, e.integer if isinstance(e, fx.Const) else None)

    def _full(self, e: fx.Expr) -> bool:
        return self.sums is not None and fx.bits_of(e).width == self.sums.acc_width

    def _on_ports(self, e: fx.Expr) -> bool:
        """Say whether a factor is there with the inputs: one of them, or a constant."""
        return isinstance(e, fx.Const) or (
            isinstance(e, fx.Var) and (e.name in self.values.ports or not self.values.reads(e))
        )

    def _factor_b(self, e: fx.Expr, step: int) -> Operand | None:
        """Return None where `factor` has the operand, which it takes a cycle before the step."""
        if e == self._in_factor:
            return None
        cycle, values = 3 * step - 1, self.values
        there = self._on_ports(e) if step == 0 else values.registered([e]) <= cycle
        if not there:
            return self._operand(e, 3 * step, f"step_{step}")
        operand = self._operand(e, cycle, "factor")
        self.loads.append(Load(cycle, operand, not values.reads(e)))
        self._in_factor = e
        return None


_NOTHING = fx.Const(0, Bits(1, 0), Fraction(0))


def _acc_feeds(tasks: tuple[Task, ...]) -> bool:
    """Say whether some multiply-add reads the result of the one before as a factor."""
    before: fx.Var | None = None
    for task in tasks:
        if isinstance(task, MultiplyAdd):
            if before in (task.products[0].lhs, task.products[0].rhs):
                return True
            before = task.let.target
    return False
