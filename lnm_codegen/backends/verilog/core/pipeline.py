"""The step as a pipeline: in which cycle each value is there, and the lines that make it so.

A product of two values that change takes a cycle in `_mul`, the sum it stands in another, the clamp
a third; a sum without products takes two. Conditions and choices are logic behind what they read,
with one chain of carries a cycle at most. What is read later than it is there passes through
`_delay`; coefficients on ports travel with the neuron they came with. There is no state here: a
neuron's next step begins when its last has left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from lnm_codegen.backends.verilog.core.rounding import biased, biased_width, kept
from lnm_codegen.backends.verilog.core.terms import (
    Rounded,
    emptied,
    is_added,
    is_arithmetic,
    multiplied,
    replaced,
    rounded_parts,
    without,
)
from lnm_codegen.backends.verilog.expr import Printer, declared, width_of
from lnm_codegen.backends.verilog.parts import Design, connected
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.bounds import always_fits
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.types import Bits, Rounding


@dataclass(slots=True)
class _Value:
    """When a value is there, and by which names: cycle -> identifier."""

    cycle: int
    depth: int  # chains of carries since the last register
    width: int | None
    names: dict[int, str]

    @property
    def registered(self) -> int:
        """The first cycle in which it comes from a register."""
        return self.cycle + (self.depth > 0)


@dataclass(slots=True)
class Pipeline:
    """The pipeline of a design, built Let by Let.

    Attributes:
        latency: Cycles from the inputs to the results.
        multipliers: Instances of `_mul`, those inside `_step` among them.
        lines: Declarations and instances.
        uses: The modules that are instantiated, without their prefix.
    """

    design: Design
    latency: int = 0
    multipliers: int = 0
    lines: list[str] = field(default_factory=list)
    uses: set[str] = field(default_factory=set)
    _values: dict[str, _Value] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Lay out the whole step."""
        design = self.design
        for var in (*design.states, *design.inputs, *design.coefficients):
            self._enter(var)
        self._taken |= {p.var.name for p in (*design.kernel.inputs, *design.kernel.results)}
        self._taken |= {let.target.name for let in design.kernel.body}
        self._taken |= {
            "unused",
            "valid",
            *(f"in_{v.name}" for v in design.kernel.input_vars(*Role)),
        }
        for let in design.kernel.body:
            self._let(let)
        ends = [self._values[v.name].registered for v in self._results if v.name in self._values]
        self.latency = max([1, *ends])

    @property
    def _results(self) -> tuple[fx.Var, ...]:
        return (*self.design.outputs, *self.design.next_states)

    def results(self) -> tuple[str, ...]:
        """Return the identifiers of outputs and next states, in the cycle of the latency."""
        return tuple(self._at(v.name, self.latency) for v in self._results)

    def _enter(self, var: fx.Var) -> None:
        self._values[var.name] = _Value(0, 0, width_of(var), {0: f"in_{var.name}"})

    def _let(self, let: fx.Let) -> None:
        self.lines += ["", f"// {let.target.name}"]
        parts = rounded_parts(let.value)
        products = multiplied(let.value, self._printer({}))
        if products:
            self._multiplied(let, parts, products)
        elif parts.places or isinstance(parts.exact, fx.Sum | fx.Negate | fx.Product):
            if parts.width is not None or parts.places:
                self._summed(let, parts)
            else:
                self._logic(let)
        else:
            self._logic(let)

    def _printer(self, names: dict[str, str]) -> Printer:
        return self.design.printer(names, self._taken)

    def _reads(self, e: fx.Expr) -> list[str]:
        return sorted(v.name for v in fx.variables(e) if v.name in self._values)

    def _ready(self, names: list[str]) -> int:
        return max((self._values[n].registered for n in names), default=0)

    def _printer_at(self, e: fx.Expr, cycle: int) -> Printer:
        """Return a printer to which the Vars of `e` have their names in a cycle."""
        return self._printer({n: self._at(n, cycle) for n in self._reads(e)})

    def _at(self, name: str, cycle: int) -> str:
        """Return the identifier of a value in a cycle, through a delay where it must be."""
        if name not in self._values:
            return self.design.printer({}, set()).names[name]
        value = self._values[name]
        if cycle not in value.names:
            last = max(c for c in value.names if c < cycle)
            delayed = self._fresh(f"{name}_at{cycle}")
            width = value.width
            self.lines.append(f"{declared('wire', delayed, width)};")
            source = value.names[last]
            self._instance(
                "delay",
                f"#(.WIDTH({width or 1}), .CYCLES({cycle - last}))",
                f"{delayed}_delay",
                (("d", source), ("q", delayed)),
            )
            value.names[cycle] = delayed
        return value.names[cycle]

    def _fresh(self, name: str) -> str:
        wanted, k = name, 1
        while name in self._taken:
            k += 1
            name = f"{wanted}_{k}"
        self._taken.add(name)
        return name

    def _instance(
        self, module: str, parameters: str, name: str, pairs: tuple[tuple[str, str], ...]
    ) -> None:
        self.uses.add(module)
        wires = connected((("clk", "clk"), ("ce", "ce"), *pairs))
        self.lines += [
            f"{self.design.name}_{module} {parameters}",
            f"    {self._fresh(name)} ({wires});",
        ]

    def _define(self, var: fx.Var, cycle: int, depth: int, text: str | None) -> None:
        """Bind a Let: a wire of its name."""
        end = ";" if text is None else f" = {text};"
        self.lines.append(declared("wire", var.name, width_of(var)) + end)
        self._values[var.name] = _Value(cycle, depth, width_of(var), {cycle: var.name})

    def _logic(self, let: fx.Let) -> None:
        """A value that is there in the cycle of what it reads."""
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
        stem = let.target.name
        if isinstance(let.target.type, Bits):
            text = printer.definition(let.value, let.target.type.width, stem)
        else:
            text = printer.condition(let.value, stem)
        self.lines += printer.lines
        self._define(let.target, cycle, depth, text)

    def _summed(self, let: fx.Let, parts: Rounded) -> None:
        """A sum in a register, then the clamp in another."""
        cycle = self._ready(self._reads(parts.exact))
        self._define_clamped(let, parts, parts.exact, cycle)

    def _define_clamped(self, let: fx.Let, parts: Rounded, exact: fx.Expr, cycle: int) -> None:
        stem, bits = let.target.name, fx.bits_of(let.value)
        printer = self._printer_at(exact, cycle)
        sum_width = max(biased_width(exact, parts), bits.width + parts.places)
        text = biased(exact, parts, printer, sum_width, stem)
        total = printer.wire(f"{stem}_sum", sum_width, text).text
        bits_kept = kept(printer, total, sum_width, parts, stem)
        self.lines += printer.lines
        self._define(let.target, cycle + 2, 0, None)
        self._instance(
            "clamp",
            f"#(.IN_WIDTH({sum_width - parts.places}), .WIDTH({bits.width}),"
            f" .FITS({self._fits(let)}))",
            f"{stem}_clamp",
            (("d", bits_kept), ("q", stem)),
        )

    def _fits(self, let: fx.Let) -> int:
        """Return 1 where the clamp never acts."""
        value = let.value
        return int(not isinstance(value, fx.Saturate) or always_fits(value, self.design.spans))

    def _multiplied(self, let: fx.Let, parts: Rounded, products: tuple[fx.Product, ...]) -> None:
        """Products in `_mul`; the last of a rounded sum in `_step`, with the sum and the clamp."""
        factors = {n for p in products for n in self._reads(p)}
        others = [n for n in self._reads(emptied(let.value, products)) if n not in factors]
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
            self._define_last(
                fx.Let(let.target, value, let.phase),
                self._printer_at(value, cycle + 1),
                cycle + 1,
                1,
            )

    def _factors(self, product: fx.Product, cycle: int, stem: str) -> tuple[str, str]:
        printer = self._printer_at(product, cycle)
        a, b = (printer.named(e, stem).text for e in (product.lhs, product.rhs))
        self.lines += printer.lines
        return a, b

    def _product(self, product: fx.Product, cycle: int, stem: str) -> fx.Var:
        a, b = self._factors(product, cycle, stem)
        bits = fx.bits_of(product)
        var = fx.Var(self._fresh(f"{stem}_product"), bits)
        self._define(var, cycle + 1, 0, None)
        self._taken.add(var.name)
        self.multipliers += 1
        widths = [fx.bits_of(e).width for e in (product.lhs, product.rhs)]
        self._instance(
            "mul",
            f"#(.A_WIDTH({widths[0]}), .B_WIDTH({widths[1]}))",
            f"{var.name}_mul",
            (("a", a), ("b", b), ("p", var.name)),
        )
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
        a_width, b_width = (fx.bits_of(e).width for e in (last.lhs, last.rhs))
        subtracted = is_added(last, parts.exact) is False
        convergent = parts.rounding is Rounding.CONVERGENT
        parameters = {
            "A_WIDTH": a_width, "B_WIDTH": b_width, "SUM_WIDTH": width, "PLACES": parts.places,
            "WIDTH": bits.width, "FITS": self._fits(let), "SUBTRACT": int(subtracted),
            "CONVERGENT": int(convergent),
        }  # fmt: skip
        listed = ", ".join(f".{k}({v})" for k, v in parameters.items())
        pairs = (("a", a), ("b", b), ("addend", addend), ("q", stem))
        self._instance("step", f"#({listed})", f"{stem}_step", pairs)
