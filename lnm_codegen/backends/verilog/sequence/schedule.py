"""Schedule of one time step on one multiplier: products by step, registers and selections.

A multiply-add is a step of three cycles: the product, the sum, the clamp. `_acc` has its result,
which the next step of Horner's scheme reads; `_factor` has the other operand. A result that is read
later moves to its own register while the next step multiplies. Logic between the steps costs no
cycles, unless one carry chain follows another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import inf

from lnm_codegen.backends.verilog.pipeline import is_arithmetic
from lnm_codegen.backends.verilog.expr import Printer, Signal, literal, width_of
from lnm_codegen.backends.verilog.design import CircuitDesign
from lnm_codegen.backends.verilog.sequence.plan import (
    Exact,
    Factors,
    Logic,
    MultiplyAdd,
    Task,
    plan,
)
from lnm_codegen.backends.verilog.sequence.sums import Shape, Sums, addend, shape_of, sums_of
from lnm_codegen.backends.verilog.sequence.values import ACCEPT, StepValues, Value
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import always_fits, expr_text
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.types import Bits


@dataclass(frozen=True, slots=True)
class Operand:
    """A factor: a signal, and its integer where it is a constant without a name."""

    signal: Signal
    integer: int | None

    def at(self, width: int, printer: Printer, stem: str) -> str:
        """Return the factor at a larger width."""
        if self.integer is not None:
            return literal(self.integer, width)
        return printer.extended(self.signal, width, stem)


@dataclass(frozen=True, slots=True)
class Step:
    """A use of the multiplier.

    Attributes:
        a: A factor; None for `_acc`.
        b: The other factor; None for `_factor`.
        addend: Number to which the adder adds the product; None for an exact product.
        subtracted: True if the adder subtracts the product.
        shape: Rounding and clamp of the sum; None where another product follows.
    """

    a: Operand | None
    b: Operand | None
    addend: str | None
    subtracted: bool
    shape: Shape | None


@dataclass(frozen=True, slots=True)
class Load:
    """Assignment to `_factor` at the end of a cycle; a `constant` needs only set and reset."""

    cycle: int
    operand: Operand
    constant: bool


@dataclass(slots=True)
class Sequence:
    """The schedule of a design.

    Attributes:
        steps: Number of the step -> use of the multiplier.
        count: Number of steps, those without a multiplication included.
        loads: Assignments to `_factor`.
        first: Value that `_acc` accepts with the inputs; None where it needs none.
        comments: Computation of each step, for a comment.
        results: Identifiers of outputs and next states after the last step.
        sums: The shared adder; None for a schedule without multiply-adds.
        values: Values by name, and their registers.
    """

    design: CircuitDesign
    steps: dict[int, Step] = field(default_factory=dict)
    count: int = 1
    loads: list[Load] = field(default_factory=list)
    first: str | None = None
    comments: list[str] = field(default_factory=list)
    results: tuple[str, ...] = ()
    sums: Sums | None = None
    values: StepValues = field(init=False)
    _in_factor: fx.Expr | None = None
    _feeds: bool = False
    _acc_widths: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Schedule the whole step."""
        planned = plan(self.design)
        self.sums = sums_of(planned)
        self.values = StepValues(self.design, planned.spans, planned.names)
        self._feeds = _acc_feeds(planned.tasks)
        for task in planned.tasks:
            if isinstance(task, Logic):
                self._logic(task.let)
            elif isinstance(task, Exact):
                self._exact(task)
            else:
                self._multiply_add(task)
        names = [v.name for _, v in self.design.inner_results]
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

    @property
    def acc_width(self) -> int:
        """Width of `_acc`, 0 without it."""
        return self.sums.acc_width if self.sums else 0

    @property
    def factor_width(self) -> int:
        """Width of `_factor`, 0 without it."""
        return max((load.operand.signal.width for load in self.loads), default=0)

    def _logic(self, let: fx.Let) -> None:
        """Define a wire; a second carry chain moves it to a later cycle."""
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
        text = values.printer(value, cycle).bound(let)
        until = min((values.until(n, values.at(n, cycle)) for n in names), default=inf)
        values.wire(name, width, text)
        values.table[name] = Value(cycle, until, depth, width, name)

    def _clamped(self, let: fx.Let, value: fx.Saturate) -> None:
        """Define a value by a sum in one register and its clamp in the next."""
        values, name = self.values, let.target.name
        cycle, inner = values.registered([value]), fx.bits_of(value.arg).width
        total = values.names.fresh(f"{name}_sum")
        text = values.printer(value.arg, cycle).number(value.arg, name).text
        values.capture(cycle, total, inner, text)
        values.capture(cycle + 1, name, value.width, _saturated_text(total, inner, value.width))
        values.table[name] = Value(cycle + 2, inf, 0, value.width, name)

    def _exact(self, task: Exact) -> None:
        """Define a product in its own register."""
        values, name = self.values, task.var.name
        step = self._free_step([task.lhs, task.rhs], None)
        self._use(step, Factors(task.lhs, task.rhs, False), None, None)
        self.comments.append(f"{step}: {name} = {expr_text(fx.Product(task.lhs, task.rhs))}")
        width = fx.bits_of(task.var).width
        values.capture(3 * step + 1, name, width, f"_product[{width - 1}:0]")
        values.table[name] = Value(3 * step + 2, inf, 0, width, name)

    def _multiply_add(self, task: MultiplyAdd) -> None:
        assert self.sums is not None
        values, name = self.values, task.let.target.name
        factors = [e for p in task.products for e in (p.lhs, p.rhs)]
        first = self._free_step(factors, task.rest)
        final = first + len(task.products) - 1
        shape = shape_of(task)
        for step, product in enumerate(task.products, first):
            added = "_sum"
            if step == first:
                printer = values.printer(task.rest or _NOTHING, 3 * step + 1)
                added = addend(task, self.sums, printer)
            self._use(step, product, added, shape if step == final else None)
        steps = str(first) if first == final else f"{first} to {final}"
        self.comments.append(f"{steps}: {name} = {expr_text(task.let.value)}")
        ready = 3 * (final + 1)
        acc = self._acc(shape.width)
        values.table[name] = Value(ready, ready + 2, 0, shape.width, acc, is_acc=True)

    def _free_step(self, factors: list[fx.Expr], rest: fx.Expr | None) -> int:
        """Return the next step of the multiplier by which registers have its operands."""
        free = max(self.steps) + 1 if self.steps else 0
        ready = self.values.registered(factors)
        added = self.values.registered([rest]) - 1 if rest is not None else 0
        return max(free, -(-ready // 3), -(-added // 3))

    def _acc(self, width: int) -> str:
        """Return the identifier of the last result at its own width."""
        if width == self.acc_width:
            return "_acc"
        name = f"_acc_{width}"
        if width not in self._acc_widths:
            self._acc_widths.add(width)
            self.values.wire(name, width, f"_acc[{width - 1}:0]")
        return name

    def _use(self, step: int, product: Factors, added: str | None, shape: Shape | None) -> None:
        """Assign a product to a step of the multiplier."""
        a, b = product.lhs, product.rhs
        if self._is_acc(b, step) or (self._is_fixed(b) and not self._is_acc(a, step)):
            a, b = b, a
        self.steps[step] = Step(
            self._factor_a(a, step), self._factor_b(b, step), added, product.subtracted, shape
        )

    def _is_acc(self, e: fx.Expr, step: int) -> bool:
        """Report whether a factor is the result of the step before."""
        value = self.values.table.get(e.name) if isinstance(e, fx.Var) else None
        return value is not None and value.ready == 3 * step and value.is_acc

    def _is_fixed(self, e: fx.Expr) -> bool:
        """Report whether a factor is a constant, or a coefficient on a port."""
        coefficients = {v.name for v in self.design.kernel.input_vars(Role.PARAM)}
        return isinstance(e, fx.Const) or (isinstance(e, fx.Var) and e.name in coefficients)

    def _factor_a(self, e: fx.Expr, step: int) -> Operand | None:
        if self._is_acc(e, step) and self._full(e):
            return None
        if step == 0 and self._feeds and self._full(e) and self._on_ports(e):
            self.first = self.values.printer(e, ACCEPT).number(e, "_first").text
            return None
        return self._operand(e, 3 * step, f"_step_{step}")

    def _operand(self, e: fx.Expr, cycle: int, stem: str) -> Operand:
        signal = self.values.printer(e, cycle).number(e, stem)
        return Operand(signal, e.integer if isinstance(e, fx.Const) else None)

    def _full(self, e: fx.Expr) -> bool:
        return fx.bits_of(e).width == self.acc_width

    def _on_ports(self, e: fx.Expr) -> bool:
        """Report whether a factor is an input or a constant."""
        return isinstance(e, fx.Const) or (
            isinstance(e, fx.Var) and (e.name in self.values.ports or not self.values.reads(e))
        )

    def _factor_b(self, e: fx.Expr, step: int) -> Operand | None:
        """Return None where `_factor` has the operand, assigned one cycle before the step."""
        if e == self._in_factor:
            return None
        cycle, values = 3 * step - 1, self.values
        ready = self._on_ports(e) if step == 0 else values.registered([e]) <= cycle
        if not ready:
            return self._operand(e, 3 * step, f"_step_{step}")
        operand = self._operand(e, cycle, "_factor")
        self.loads.append(Load(cycle, operand, not values.reads(e)))
        self._in_factor = e
        return None


_NOTHING = fx.Const(0, Bits(1, 0), Fraction(0))


def _acc_feeds(tasks: tuple[Task, ...]) -> bool:
    """Report whether some multiply-add reads the result of the one before as a factor."""
    before: fx.Var | None = None
    for task in tasks:
        if isinstance(task, MultiplyAdd):
            if before in (task.products[0].lhs, task.products[0].rhs):
                return True
            before = task.let.target
    return False


def _saturated_text(name: str, inner: int, width: int) -> str:
    """Return an identifier of `inner` bits, saturated to `width` bits."""
    top = f"{name}[{inner - 1}:{width - 1}]"
    limit = f"{{{name}[{inner - 1}], {{{width - 1}{{~{name}[{inner - 1}]}}}}}}"
    return f"(&{top} || ~|{top}) ? {name}[{width - 1}:0] : {limit}"
