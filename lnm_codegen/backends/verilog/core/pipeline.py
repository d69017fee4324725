"""Pipeline of one time step: the cycle in which each value is ready, and its Verilog lines.

A product of two values that change takes one cycle in `_mul`, the sum around it a second, the clamp
a third. A sum without products takes two. Conditions and selections are logic, with at most one
carry chain a cycle. A value that is read in a later cycle passes through `_delay`; coefficients on
ports move with their neuron. The pipeline stores no state: a neuron's next step begins when its
last one has left.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

from lnm_codegen.backends.verilog.core.terms import (
    Rounded,
    biased,
    biased_width,
    fits,
    is_added,
    is_arithmetic,
    kept,
    multiplied,
    replaced,
    rounded_parts,
    without,
    zeroed,
)
from lnm_codegen.backends.verilog.expr import Printer, declared, width_of
from lnm_codegen.backends.verilog.parts import CircuitDesign, connected
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.names import Names
from lnm_codegen.ir.types import Rounding


@dataclass(slots=True)
class _Value:
    """A value: its first cycle, the carry chains since the last register, identifiers by cycle."""

    cycle: int
    depth: int
    width: int | None
    names: dict[int, str]

    @property
    def registered(self) -> int:
        """The first cycle in which a register has the value."""
        return self.cycle + (self.depth > 0)


@dataclass(slots=True)
class Pipeline:
    """Pipeline of a design, built Let by Let.

    Attributes:
        latency: Cycles from the inputs to the results.
        multipliers: Instances of `_mul`, those inside `_step` included.
        lines: Declarations and instances.
        uses: Instantiated modules, without their prefix.
    """

    design: CircuitDesign
    latency: int = 0
    multipliers: int = 0
    lines: list[str] = field(default_factory=list)
    uses: set[str] = field(default_factory=set)
    _values: dict[str, _Value] = field(default_factory=dict)
    _taken: Names = field(init=False)

    def __post_init__(self) -> None:
        """Schedule the whole step."""
        design = self.design
        self._taken = design.names()
        for name, var in design.outer_inputs:
            self._values[var.name] = _Value(0, 0, width_of(var), {0: name})
        for let in design.kernel.body:
            self._let(let)
        results = [v.name for _, v in design.inner_results if v.name in self._values]
        self.latency = max([1, *(self._values[name].registered for name in results)])

    def results(self) -> tuple[str, ...]:
        """Return the identifiers of outputs and next states in the last cycle."""
        return tuple(self._at(v.name, self.latency) for _, v in self.design.inner_results)

    def _let(self, let: fx.Let) -> None:
        self.lines += ["", f"// {let.target.name}"]
        parts = rounded_parts(let.value)
        products = multiplied(let.value, self._printer({}))
        is_sum = isinstance(parts.exact, fx.Sum | fx.Negate | fx.Product)
        if products:
            self._multiplied(let, parts, products)
        elif parts.places or (is_sum and parts.width is not None):
            cycle = self._ready(self._reads(parts.exact))
            self._define_clamped(let, parts, parts.exact, cycle)
        else:
            self._logic(let)

    def _printer(self, names: dict[str, str]) -> Printer:
        return self.design.printer(names, self._taken)

    def _reads(self, e: fx.Expr) -> list[str]:
        return sorted(v.name for v in fx.variables(e) if v.name in self._values)

    def _ready(self, names: list[str]) -> int:
        return max((self._values[n].registered for n in names), default=0)

    def _printer_at(self, e: fx.Expr, cycle: int) -> Printer:
        """Return a printer with the identifiers that the variables of `e` have in a cycle."""
        return self._printer({n: self._at(n, cycle) for n in self._reads(e)})

    def _at(self, name: str, cycle: int) -> str:
        """Return the identifier of a value in a cycle; a later cycle takes a delay."""
        if name not in self._values:
            return self.design.constant_names[name]
        value = self._values[name]
        if cycle not in value.names:
            last = max(c for c in value.names if c < cycle)
            delayed = self._taken.fresh(f"{name}_at{cycle}")
            self.lines.append(f"{declared('wire', delayed, value.width)};")
            parameters = {"WIDTH": value.width or 1, "CYCLES": cycle - last}
            wires = (("d", value.names[last]), ("q", delayed))
            self._instance("delay", parameters, f"{delayed}_delay", wires)
            value.names[cycle] = delayed
        return value.names[cycle]

    def _instance(
        self, module: str, parameters: dict[str, int], name: str, pairs: tuple[tuple[str, str], ...]
    ) -> None:
        self.uses.add(module)
        given = connected((key, str(value)) for key, value in parameters.items())
        wires = connected((("clk", "clk"), ("ce", "ce"), *pairs))
        self.lines += [
            f"{self.design.name}_{module} #({given})",
            f"    {self._taken.fresh(name)} ({wires});",
        ]

    def _define(self, var: fx.Var, cycle: int, depth: int, text: str | None) -> None:
        """Define a wire that has the name of its Let."""
        end = ";" if text is None else f" = {text};"
        self.lines.append(declared("wire", var.name, width_of(var)) + end)
        self._values[var.name] = _Value(cycle, depth, width_of(var), {cycle: var.name})

    def _logic(self, let: fx.Let) -> None:
        """Define a value that is ready in the cycle of its operands."""
        names = self._reads(let.value)
        cycle = max((self._values[n].cycle for n in names), default=0)
        costs = is_arithmetic(let.value)
        depth = max((self._depth(n, cycle) for n in names), default=0) + costs
        if depth > 1:
            cycle, depth = cycle + 1, int(costs)
        printer = self._printer_at(let.value, cycle)
        self._define_last(let, printer, cycle, depth)

    def _depth(self, name: str, cycle: int) -> int:
        value = self._values[name]
        return value.depth if value.cycle == cycle else 0

    def _define_last(self, let: fx.Let, printer: Printer, cycle: int, depth: int) -> None:
        text = printer.bound(let)
        self.lines += printer.lines
        self._define(let.target, cycle, depth, text)

    def _define_clamped(self, let: fx.Let, parts: Rounded, exact: fx.Expr, cycle: int) -> None:
        """Define a value by a sum in one register and its clamp in the next."""
        stem, bits = let.target.name, fx.bits_of(let.value)
        printer = self._printer_at(exact, cycle)
        sum_width = max(biased_width(exact, parts), bits.width + parts.places)
        text = biased(exact, parts, printer, sum_width, stem)
        total = printer.wire(f"{stem}_sum", sum_width, text).text
        bits_kept = kept(printer, total, sum_width, parts, stem)
        self.lines += printer.lines
        self._define(let.target, cycle + 2, 0, None)
        parameters = {
            "IN_WIDTH": sum_width - parts.places, "WIDTH": bits.width,
            "FITS": int(fits(let.value, self.design.spans)),
        }  # fmt: skip
        self._instance("clamp", parameters, f"{stem}_clamp", (("d", bits_kept), ("q", stem)))

    def _multiplied(self, let: fx.Let, parts: Rounded, products: tuple[fx.Product, ...]) -> None:
        """Define a value by `_mul`; `_step` has the last product of a rounded sum."""
        factors = {n for p in products for n in self._reads(p)}
        others = [n for n in self._reads(zeroed(let.value, products)) if n not in factors]
        cycle = max(self._ready(sorted(factors)), self._ready(others) - 1, 0)
        last = products[-1]
        stepped = parts.places > 0 and is_added(last, parts.exact) is not None
        table: dict[fx.Expr, fx.Expr] = {}
        for product in products[:-1] if stepped else products:
            table[product] = self._product(product, cycle, let.target.name)
        if stepped:
            rest = without(last, parts.exact)
            self._step(let, parts, last, rest and replaced(rest, table), cycle)
            return
        value = replaced(let.value, table)
        left = rounded_parts(value)
        if left.width is not None or left.places:
            self._define_clamped(let, left, left.exact, cycle + 1)
        else:
            printer = self._printer_at(value, cycle + 1)
            self._define_last(replace(let, value=value), printer, cycle + 1, 1)

    def _factors(self, product: fx.Product, cycle: int, stem: str) -> tuple[str, str]:
        printer = self._printer_at(product, cycle)
        a, b = (printer.named(e, stem).text for e in (product.lhs, product.rhs))
        self.lines += printer.lines
        return a, b

    def _product(self, product: fx.Product, cycle: int, stem: str) -> fx.Var:
        a, b = self._factors(product, cycle, stem)
        var = fx.Var(self._taken.fresh(f"{stem}_product"), fx.bits_of(product))
        self._define(var, cycle + 1, 0, None)
        self.multipliers += 1
        wires = (("a", a), ("b", b), ("p", var.name))
        self._instance("mul", _factor_widths(product), f"{var.name}_mul", wires)
        return var

    def _step(
        self, let: fx.Let, parts: Rounded, last: fx.Product, rest: fx.Expr | None, cycle: int
    ) -> None:
        stem, bits = let.target.name, fx.bits_of(let.value)
        a, b = self._factors(last, cycle, stem)
        rest = rest or fx.Const(0, fx.bits_of(last), Fraction(0))
        widest = max(biased_width(rest, parts), fx.bits_of(last).width)
        width = max(widest + 1, bits.width + parts.places)
        printer = self._printer_at(rest, cycle + 1)
        addend = biased(rest, parts, printer, width, stem)
        self.lines += printer.lines
        self._define(let.target, cycle + 3, 0, None)
        self.multipliers += 1
        self.uses |= {"mul", "clamp"}
        parameters = {
            **_factor_widths(last), "SUM_WIDTH": width, "PLACES": parts.places,
            "WIDTH": bits.width, "FITS": int(fits(let.value, self.design.spans)),
            "SUBTRACT": int(is_added(last, parts.exact) is False),
            "CONVERGENT": int(parts.rounding is Rounding.CONVERGENT),
        }  # fmt: skip
        wires = (("a", a), ("b", b), ("addend", addend), ("q", stem))
        self._instance("step", parameters, f"{stem}_step", wires)


def _factor_widths(product: fx.Product) -> dict[str, int]:
    a, b = (fx.bits_of(e).width for e in (product.lhs, product.rhs))
    return {"A_WIDTH": a, "B_WIDTH": b}
