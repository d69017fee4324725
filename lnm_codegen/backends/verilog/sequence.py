"""The `_seq` form: one time step on a single multiplier.

A rounded sum of products is a chain of multiply-adds. In a circuit with such a chain, a saturated
sum without products is a multiply-add by 1: it shares the adder and the clamp.

A multiply-add is a step of three cycles: the product, the sum, the clamp. `_acc` has its result,
which the next step of Horner's scheme reads; `_factor` has the other operand. A result that is
read later moves to its own register while the next step multiplies. Logic between the steps costs
no cycles, unless one carry chain follows another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import inf
from typing import TypeAlias

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.design import CircuitDesign
from lnm_codegen.backends.verilog.expr import (
    Printer,
    Signal,
    declared,
    literal,
    sign_extended,
    width_of,
)
from lnm_codegen.backends.verilog.module import (
    Module,
    ModulePort,
    controls,
    indented,
    port_lines,
    ports,
)
from lnm_codegen.backends.verilog.pipeline import (
    Rounded,
    fits,
    is_added,
    is_arithmetic,
    multiplied,
    replaced,
    rounded_parts,
)
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import Span, SumOp, always_fits, expr_text, span
from lnm_codegen.ir.kernel import Names, Role
from lnm_codegen.ir.types import Bits, Rounding


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


# Adder and clamp that all multiply-adds of the `_seq` form share.
#
#     _sum <- _product + addend            the addend includes the rounding constant
#     _acc <- saturate(_sum without its last bits)
#
# Bits below the last bit of every addend bypass the adder; bits that no rounding reads are dropped.


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


# Values of the `_seq` form: the cycles in which each is ready, and the registers that hold it.


ACCEPT = -1
"""The cycle in which the inputs are on the ports; cycle 0 is the first of step 0."""


@dataclass(slots=True)
class Value:
    """A value of the step.

    Attributes:
        ready: The first cycle in which `text` has the value.
        until: The last such cycle.
        depth: Carry chains between registers and `text`, 0 or 1.
        width: Bits; None for a condition.
        text: An identifier.
        kept: A register with the value from cycle `ready + 1` on; empty until it is needed.
        is_acc: True if `text` is the accumulator.
    """

    ready: int
    until: float
    depth: int
    width: int | None
    text: str
    kept: str = ""
    is_acc: bool = False

    @property
    def registered(self) -> int:
        """The first cycle in which a register has the value."""
        return self.ready + (self.depth > 0)


@dataclass(frozen=True, slots=True)
class Capture:
    """Assignment of `text` to `register` at the end of a cycle."""

    cycle: int
    register: str
    width: int | None
    text: str


@dataclass(slots=True)
class StepValues:
    """Values of one time step by name, and the registers that hold them."""

    design: CircuitDesign
    spans: dict[str, Span]
    names: Names
    table: dict[str, Value] = field(default_factory=dict)
    ports: dict[str, int | None] = field(default_factory=dict)
    read_ports: set[str] = field(default_factory=set)
    captures: list[Capture] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    read: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Enter the inputs."""
        self.ports |= {var.name: width_of(var) for _, var in self.design.outer_inputs}

    def reads(self, e: fx.Expr) -> list[str]:
        """Return the names of the values and ports that `e` reads."""
        names = sorted(v.name for v in fx.variables(e))
        return [n for n in names if n in self.ports or n in self.table]

    def registered(self, expressions: Iterable[fx.Expr]) -> int:
        """Return the first cycle in which registers have all values that are read."""
        names = {n for e in expressions for n in self.reads(e) if n not in self.ports}
        return max((self.table[n].registered for n in names), default=0)

    def at(self, name: str, cycle: int) -> str:
        """Return the identifier of a value in a cycle: a register where possible."""
        if name in self.ports and cycle == ACCEPT:
            self.read_ports.add(name)
            return f"in_{name}"
        if name not in self.table:
            self._latch(name)
        value = self.table[name]
        if value.ready == cycle or (not value.depth and value.ready <= cycle <= value.until):
            return value.text
        assert cycle > value.ready
        if not value.kept:
            value.kept = name if value.is_acc else self.names.fresh(f"{name}_kept")
            self.capture(value.ready, value.kept, value.width, value.text)
        return value.kept

    def until(self, name: str, text: str) -> float:
        """Return the last cycle in which an identifier from `at` has the value."""
        value = self.table[name]
        return value.until if text == value.text else inf

    def _latch(self, name: str) -> None:
        self.read_ports.add(name)
        self.capture(ACCEPT, name, self.ports[name], f"in_{name}")
        self.table[name] = Value(0, inf, 0, self.ports[name], name)

    def capture(self, cycle: int, register: str, width: int | None, text: str) -> None:
        """Assign a value to a register at the end of a cycle."""
        self.captures.append(Capture(cycle, register, width, text))

    def printer(self, e: fx.Expr, cycle: int) -> Printer:
        """Return a printer with the identifiers that the variables of `e` have in a cycle."""
        design = self.design
        names = design.constant_names | {n: self.at(n, cycle) for n in self.reads(e)}
        digits = design.rtl.shift_add
        return Printer(
            names, design.constants, digits, self.spans, self.names, self.lines, read=self.read
        )

    def wire(self, name: str, width: int | None, text: str) -> None:
        """Declare a wire."""
        self.lines.append(f"{declared('wire', name, width)} = {text};")


# Schedule of one time step on one multiplier: products by step, registers and selections.


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


# Step counter of the `_seq` form: conditions and selections by step and cycle.


PHASES = ("_multiplying", "_adding", "_clamping")
"""Registers of the three cycles of a step."""


@dataclass(frozen=True, slots=True)
class StepCounter:
    """Step counter for `count` steps; a single step needs none."""

    count: int

    @property
    def width(self) -> int:
        """Bits of the counter."""
        return max(1, (self.count - 1).bit_length())

    def number(self, step: int) -> str:
        """Return a step as a literal."""
        return f"{self.width}'d{step}"

    def is_step(self, step: int) -> str:
        """Return the condition that this is a step."""
        return f"_step == {self.number(step)}" if self.count > 1 else "1'b1"

    def when(self, cycle: int) -> str:
        """Return the condition of a cycle: for ACCEPT, that the circuit can accept inputs."""
        if cycle == ACCEPT:
            return "in_ready"
        phase = PHASES[cycle % 3]
        return f"{phase} && {self.is_step(cycle // 3)}" if self.count > 1 else phase

    def selected(self, name: str, width: int, texts: Mapping[int, str]) -> list[str]:
        """Declare a number selected by the step; the most frequent text is the default."""
        found = list(texts.values())
        kinds = list(dict.fromkeys(found))
        if len(kinds) == 1:
            return [f"{declared('wire', name, width)} = {kinds[0]};"]
        most = max(kinds, key=found.count)
        return [
            f"{declared('reg', name, width)};",
            "always @(*)",
            "    case (_step)",
            *(f"        {self.number(k)}: {name} = {t};" for k, t in texts.items() if t != most),
            f"        default: {name} = {most};",
            "    endcase",
        ]


def block(lines: list[str]) -> list[str]:
    """Return an empty line and then the lines; nothing for no lines."""
    return ["", *lines] if lines else []


# Multiplier, adder and clamp of the `_seq` form as Verilog lines.


def multiplier_lines(sequence: Sequence, counter: StepCounter) -> list[str]:
    """Return the factors and the multiplier."""
    values, steps = sequence.values, sequence.steps
    acc, factor = sequence.acc_width, sequence.factor_width
    a_width, b_width = factor_widths(sequence)
    lines: list[str] = []
    printer = Printer({}, {}, 0, {}, values.names, lines)

    def at(operand: Operand | None, own: str, own_width: int, width: int, stem: str) -> str:
        if operand is not None:
            return operand.at(width, printer, stem)
        return sign_extended(own, own_width, width)

    a = {k: at(s.a, "_acc", acc, a_width, f"_step_{k}") for k, s in steps.items()}
    b = {k: at(s.b, "_factor", factor, b_width, f"_step_{k}") for k, s in steps.items()}
    loads = [(x, x.operand.at(factor, printer, "_factor")) for x in sequence.loads]
    sums, width = sequence.sums, a_width + b_width
    is_partly_unused = sums is None or sums.dropped > 0 or sums.width < width
    return [
        *block(lines),
        *_factor_clock(loads, counter),
        "",
        *counter.selected("_factor_a", a_width, a),
        *counter.selected("_factor_b", b_width, b),
        f"{declared('wire', '_product', width)};",
        f"{sequence.design.name}_mul #(.A_WIDTH({a_width}), .B_WIDTH({b_width}))",
        "    _multiplier (.clk(clk), .ce(1'b1), .a(_factor_a), .b(_factor_b), .p(_product));",
        *(["wire _product_unused = &{1'b0, _product};"] if is_partly_unused else []),
    ]


def factor_widths(sequence: Sequence) -> tuple[int, int]:
    """Return the widths of the two inputs of the multiplier."""
    steps = sequence.steps.values()
    return (
        max(s.a.signal.width if s.a else sequence.acc_width for s in steps),
        max(s.b.signal.width if s.b else sequence.factor_width for s in steps),
    )


def _factor_clock(loads: list[tuple[Load, str]], counter: StepCounter) -> list[str]:
    """Return the assignments to `_factor`; constants first, as synchronous sets and resets."""
    if not loads:
        return []
    ordered = sorted(loads, key=lambda pair: (not pair[0].constant, -pair[0].cycle))
    lines = ["", "always @(posedge clk)"]
    for k, (load, text) in enumerate(ordered):
        word = "else if" if k else "if"
        lines.append(f"    {word} ({counter.when(load.cycle)}) _factor <= {text};")
    return lines


def adder_lines(sequence: Sequence, sums: Sums, counter: StepCounter) -> list[str]:
    """Return the adder, the clamp and the accumulator."""
    steps = {k: s for k, s in sequence.steps.items() if s.addend is not None}
    width = sums.width - sums.zeros
    negative = [k for k, s in steps.items() if s.subtracted]
    lines, total = [], "_wide + _addend"
    if len(negative) == len(steps):
        total = "_addend - _wide"
    elif negative:
        lines.append(f"wire _subtracting = {' || '.join(map(counter.is_step, negative))};")
        total = "_subtracting ? (_addend - _wide) : (_addend + _wide)"
    passed = sums.zeros > sums.dropped
    low = f"_product[{sums.zeros - 1}:{sums.dropped}]"
    return [
        "",
        f"{declared('reg', '_sum', sums.width - sums.dropped)};",
        *counter.selected("_addend", width, {k: s.addend or "" for k, s in steps.items()}),
        f"{declared('wire', '_wide', width)} = {_wide(sequence, sums)};",
        *lines,
        f"{declared('wire', '_total', width)} = {total};",
        "always @(posedge clk)",
        f"    if (_adding) _sum <= {f'{{_total, {low}}}' if passed else '_total'};",
        "",
        *_clamp(sequence, sums, counter),
    ]


def _wide(sequence: Sequence, sums: Sums) -> str:
    """Return the product at the adder's width, without the low bits that bypass the adder."""
    width = sum(factor_widths(sequence))
    if width >= sums.width:
        return f"_product[{sums.width - 1}:{sums.zeros}]"
    sign = f"{{{sums.width - width}{{_product[{width - 1}]}}}}"
    return f"{{{sign}, _product[{width - 1}:{sums.zeros}]}}"


def _clamp(sequence: Sequence, sums: Sums, counter: StepCounter) -> list[str]:
    first = [f"    if (in_ready) _acc <= {sequence.first};"] if sequence.first else []
    word = "else if" if first else "if"
    if len(sums.fits) == 1:
        (shape,) = sums.fits
        wires, below, value = clamp_lines(sums, shape, "")
        clamped = [f"    {word} (_clamping) _acc <= {value};"]
        if below:
            clamped = [
                f"    {word} (_clamping) begin",
                f"        if ({below}) _acc <= {least(shape.width)};",
                f"        else _acc <= {value};",
                "    end",
            ]
        return [*_unused_bits(sums), *wires, "always @(posedge clk)", *first, *clamped]
    lines: list[str] = []
    texts: dict[int, str] = {}
    for k, shape in enumerate(sums.fits):
        wires, below, value = clamp_lines(sums, shape, f"_{k}")
        text = f"{below} ? {least(shape.width)} : {value}" if below else value
        name = f"_clamped_{k}"
        lines += [*wires, f"{declared('wire', name, shape.width)} = {text};"]
        wide = sign_extended(name, shape.width, sums.acc_width)
        texts |= {step: wide for step, s in sequence.steps.items() if s.shape == shape}
    texts = dict(sorted(texts.items()))
    return [
        *_unused_bits(sums),
        *lines,
        *counter.selected("_clamped", sums.acc_width, texts),
        "always @(posedge clk)",
        *first,
        f"    {word} (_clamping) _acc <= _clamped;",
    ]


def _unused_bits(sums: Sums) -> list[str]:
    """Return a wire that reads the bits of the sum that no rounding or clamp reads."""
    bits = unread(sums)
    return [f"wire _sum_unused = &{{1'b0, {bits}}};"] if bits else []


# Module of the `_seq` form: a schedule as Verilog.


def seq_module(design: CircuitDesign, sequence: Sequence) -> Module:
    """Return the module of a schedule."""
    counter = StepCounter(sequence.count)
    lines = _lines(sequence, counter)
    results = zip(design.outer_results, sequence.results, strict=True)
    found = (
        *controls("input", "clk", "rst", "in_valid"),
        *controls("output", "in_ready"),
        *ports("input", design.outer_inputs),
        ModulePort("output", "out_valid", kind="reg"),
        *controls("input", "out_ready"),
        *ports("output", design.outer_results, "reg"),
    )
    view = {
        **design.view,
        "schedule": sequence.comments,
        "latency": sequence.latency,
        "interval": sequence.interval,
        "ports": port_lines(found),
        "localparams": design.localparams(sequence.values.read),
        "several": sequence.count > 1,
        "step_width": counter.width,
        "last": counter.is_step(sequence.count - 1),
        "lines": indented(lines),
        "results": [f"{name} <= {result};" for (name, _), result in results],
    }
    return Module(render("verilog/neuron.v.j2:seq", view), found)


def _lines(sequence: Sequence, counter: StepCounter) -> list[str]:
    """Return registers, logic, the multiplier, the adder, and the clock of the registers."""
    values = sequence.values
    registers = [f"{declared('reg', c.register, c.width)};" for c in values.captures]
    if sequence.sums:
        registers.append(f"{declared('reg', '_acc', sequence.acc_width)};")
    if sequence.loads:
        registers.append(f"{declared('reg', '_factor', sequence.factor_width)};")
    unread = [name for name in values.ports if name not in values.read_ports]
    sinks = [
        f"wire {values.names.fresh(f'{name}_unused')} = &{{1'b0, in_{name}}};" for name in unread
    ]
    multiplier = multiplier_lines(sequence, counter) if sequence.steps else []
    adder = adder_lines(sequence, sequence.sums, counter) if sequence.sums else []
    logic = [*sinks, *values.lines]
    return [*block(registers), *block(logic), *multiplier, *adder, *_clock(sequence, counter)]


def _clock(sequence: Sequence, counter: StepCounter) -> list[str]:
    """Return the assignments to registers, by cycle."""
    captures = sequence.values.captures
    if not captures:
        return []
    lines = ["", "always @(posedge clk) begin"]
    for cycle in sorted({c.cycle for c in captures}):
        assigned = [f"{c.register} <= {c.text};" for c in captures if c.cycle == cycle]
        condition = f"    if ({counter.when(cycle)})"
        if len(assigned) == 1:
            lines.append(f"{condition} {assigned[0]}")
        else:
            lines += [f"{condition} begin", *(f"        {a}" for a in assigned), "    end"]
    return [*lines, "end"]
