"""Single-cycle step and pipeline of one neuron, and their leaves.

A product of two values that change takes one cycle in `_mul`, the sum around it a second, the clamp
a third. A sum without products takes two. Conditions and selections are logic, with at most one
carry chain a cycle. A value that is read in a later cycle passes through `_delay`; coefficients on
ports move with their neuron. The pipeline stores no state: a neuron's next step begins when its
last one has left.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.design import CircuitDesign
from lnm_codegen.backends.verilog.expr import Printer, declared, literal, width_of
from lnm_codegen.backends.verilog.module import (
    Instance,
    Module,
    connected,
    controls,
    declarations,
    indented,
    named,
    port_lines,
    ports,
    same_names,
    separated,
)
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import Span, SumOp, always_fits
from lnm_codegen.ir.kernel import Names
from lnm_codegen.ir.nodes import CompareOp
from lnm_codegen.ir.types import Rounding


@dataclass(frozen=True, slots=True)
class Rounded:
    """`value` = saturate(round(exact, places), width).

    Attributes:
        exact: The sum before rounding.
        places: Bits that rounding drops; 0 for none.
        rounding: The rounding mode.
        width: Width of the result; None where nothing saturates.
    """

    exact: fx.Expr
    places: int
    rounding: Rounding
    width: int | None

    @property
    def half(self) -> int:
        """Constant that makes dropping bits a rounding: half of the last bit kept, or 0."""
        drops_alone = self.places == 0 or self.rounding is Rounding.TRUNCATE
        return 0 if drops_alone else 1 << (self.places - 1)


def rounded_parts(e: fx.Expr) -> Rounded:
    """Split a value into its exact sum, the rounding and the clamp."""
    match e:
        case fx.Saturate(fx.Round(exact, places, rounding), width):
            return Rounded(exact, places, rounding, width)
        case fx.Saturate(exact, width):
            return Rounded(exact, 0, Rounding.TRUNCATE, width)
        case fx.Round(exact, places, rounding):
            return Rounded(exact, places, rounding, None)
        case _:
            return Rounded(e, 0, Rounding.TRUNCATE, None)


def fits(value: fx.Expr, spans: Mapping[str, Span]) -> bool:
    """Report whether no clamp of `value` ever acts."""
    return not isinstance(value, fx.Saturate) or always_fits(value, spans)


def multiplied(e: fx.Expr, printer: Printer) -> tuple[fx.Product, ...]:
    """Return the products of `e` that need a multiplier, in order, each once."""
    found = (node for node in fx.walk(e) if isinstance(node, fx.Product))
    return tuple(dict.fromkeys(p for p in found if printer.shift_add_of(p) is None))


def is_added(term: fx.Expr, e: fx.Expr) -> bool | None:
    """Return True where the sum `e` adds `term`, False where it subtracts it, otherwise None.

    The terms of a sum are `e` itself, or the operands of its additions and subtractions.
    """
    if e == term:
        return True
    if isinstance(e, fx.Sum):
        left = is_added(term, e.lhs)
        if left is not None:
            return left
        right = is_added(term, e.rhs)
        return right if right is None or e.op is SumOp.ADD else not right
    return None


def without(product: fx.Product, e: fx.Expr) -> fx.Expr | None:
    """Return the sum `e` without the first occurrence of a product, None where nothing is left."""
    if e == product:
        return None
    assert isinstance(e, fx.Sum)
    if is_added(product, e.lhs) is not None:
        rest = without(product, e.lhs)
        if rest is None:
            return e.rhs if e.op is SumOp.ADD else fx.Negate(e.rhs)
        return fx.Sum(e.op, rest, e.rhs)
    rest = without(product, e.rhs)
    return e.lhs if rest is None else fx.Sum(e.op, e.lhs, rest)


def is_arithmetic(e: fx.Expr) -> bool:
    """Report whether `e` has a carry chain: a sum, or a comparison that needs more than a sign."""
    for node in fx.walk(e):
        if isinstance(node, fx.Sum | fx.Negate | fx.Product):
            return True
        if isinstance(node, fx.Compare):
            zero = isinstance(node.rhs, fx.Const) and node.rhs.integer == 0
            if not zero or node.op not in (CompareOp.GE, CompareOp.LT):
                return True
    return False


def replaced(e: fx.Expr, table: dict[fx.Expr, fx.Expr]) -> fx.Expr:
    """Return `e` with the expressions of a table replaced by their values."""
    return table.get(e) or fx.map_children(e, lambda c: replaced(c, table))


def zeroed(e: fx.Expr, products: tuple[fx.Product, ...]) -> fx.Expr:
    """Return `e` with zeros for its products."""
    return replaced(e, {p: fx.Const(0, fx.bits_of(p), Fraction(0)) for p in products})


def biased_width(e: fx.Expr, parts: Rounded) -> int:
    """Return a width that holds the number of `biased`."""
    in_zeros = isinstance(e, fx.Shift) and e.places >= parts.places
    return fx.bits_of(e).width + (parts.half > 0 and not in_zeros)


def biased(e: fx.Expr, parts: Rounded, printer: Printer, width: int, stem: str) -> str:
    """Return `e` plus the rounding constant, at a width."""
    half = parts.half
    if not half:
        return printer.at(e, width, stem)
    if isinstance(e, fx.Const):
        return literal(e.integer + half, width)
    if isinstance(e, fx.Shift) and e.places >= parts.places:  # its zeros hold the constant
        return printer.extended(printer.raised(e, half, stem), width, stem)
    return f"{printer.at(e, width, stem)} + {literal(half, width)}"


def kept(printer: Printer, total: str, width: int, parts: Rounded, stem: str) -> str:
    """Return the bits of a biased sum that rounding keeps."""
    places = parts.places
    if not places:
        return total
    if parts.rounding is Rounding.CONVERGENT:
        even = f"{total}[{places}] & (|{total}[{places - 1}:0])"
        return f"{{{total}[{width - 1}:{places + 1}], {even}}}"
    printer.wire(f"{stem}_unused", None, f"&{{1'b0, {total}[{places - 1}:0]}}")
    return f"{total}[{width - 1}:{places}]"


# Multiplier of Lattice ECP5: a leaf that instantiates it, and a model of it for simulators.


FACTOR_BITS, PRODUCT_BITS = 18, 36
MODEL = "sim/MULT18X18D.v"


def ecp5_leaf(design: CircuitDesign) -> str:
    """Return `_mul` around a MULT18X18D with its output register."""
    pins = [f".A{k}(wide_a[{k}])" for k in range(FACTOR_BITS)]
    pins += [f".B{k}(wide_b[{k}])" for k in range(FACTOR_BITS)]
    pins += [f".P{k}(product[{k}])" for k in range(PRODUCT_BITS)]
    connections = textwrap.wrap(", ".join(pins), 92)
    return render("verilog/leaves.v.j2:mul_ecp5", {**design.view, "connections": connections})


def ecp5_model(design: CircuitDesign) -> str:
    """Return a module that behaves as a MULT18X18D within `ecp5_leaf`."""
    a, b = ([f"{word}{k}" for k in range(FACTOR_BITS)] for word in "AB")
    inputs = [*a, *b, "SIGNEDA", "SIGNEDB", "SOURCEA", "SOURCEB"]
    inputs += [f"{word}{k}" for word in ("CLK", "CE", "RST") for k in range(4)]
    outputs = [f"P{k}" for k in range(PRODUCT_BITS)]
    vectors = [
        f"wire signed [17:0] a = {{{', '.join(reversed(a))}}};",
        f"wire signed [17:0] b = {{{', '.join(reversed(b))}}};",
        "reg signed [35:0] p;",
        *(f"assign P{k} = p[{k}];" for k in range(PRODUCT_BITS)),
    ]
    pins = [*(f"input  wire {n}" for n in inputs), *(f"output wire {n}" for n in outputs)]
    view = {
        **design.view,
        "ports": separated(pins),
        "vectors": vectors,
    }
    return render("verilog/leaves.v.j2:mult18x18d", view)


def simulation_files(design: CircuitDesign) -> tuple[str, ...]:
    """Return the files that simulators and linters read beside rtl/."""
    return (MODEL,) if design.rtl.multiplier == "ecp5" else ()


def check_factors(design: CircuitDesign) -> None:
    """Refuse factors that are too wide for the multiplier of ECP5, where the circuit uses it.

    Raises:
        UnsupportedError: A factor of more than 18 bits.
    """
    if design.rtl.multiplier != "ecp5":
        return
    printer = design.printer()
    for let in design.kernel.body:
        for product in multiplied(let.value, printer):
            width = max(fx.bits_of(e).width for e in (product.lhs, product.rhs))
            if width > FACTOR_BITS:
                raise UnsupportedError(
                    f"verilog: {design.name}",
                    f"a factor in {let.target.name} has {width} bits",
                    f"at most {FACTOR_BITS} for multiplier='ecp5'",
                    "Give narrower formats, or multiplier='generic' (--multiplier generic).",
                )


# Pipeline of one time step: the cycle in which each value is ready, and its Verilog lines.


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
        instances: Those of leaves.
        read: Coefficients and values that the lines read.
    """

    design: CircuitDesign
    latency: int = 0
    multipliers: int = 0
    lines: list[str] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
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

    @property
    def leaves(self) -> tuple[str, ...]:
        """Modules that the lines instantiate, and those inside `_step`."""
        found = {instance.module for instance in self.instances}
        return tuple(sorted(found | ({"mul", "clamp"} if "step" in found else set())))

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
        return self.design.printer(names, self._taken, self.read)

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
            self.read.add(name)
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
        instance = Instance(module, self._taken.fresh(name), parameters)
        self.instances.append(instance)
        given = connected((key, str(value)) for key, value in parameters.items())
        wires = connected((("clk", "clk"), ("ce", "ce"), *pairs))
        self.lines += [
            f"{self.design.name}_{module} #({given})",
            f"    {instance.name} ({wires});",
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


# Modules of one neuron: leaves, the combinational step, the single-cycle neuron, the core.


def leaf(design: CircuitDesign, word: str) -> Module:
    """Return a module that depends only on its parameters: mul, delay, clamp, step."""
    if word == "mul" and design.rtl.multiplier == "ecp5":
        return Module(ecp5_leaf(design))
    return Module(render(f"verilog/leaves.v.j2:{word}", design.view))


def next_module(design: CircuitDesign) -> Module:
    """Return the combinational step."""
    names = {v.name: f"in_{v.name}" for v in design.coefficients}
    printer = design.printer(names, design.names())
    results = {name for name, _ in design.inner_results}
    lines: list[str] = []
    for let in design.kernel.body:
        name = let.target.name
        printer.lines = []
        text = printer.bound(let)
        is_port = name in results
        target = f"assign {name}" if is_port else declared("wire", name, width_of(let.target))
        lines += ["", *printer.lines, f"{target} = {text};"]
    found = (*ports("input", design.inner_inputs), *ports("output", design.inner_results))
    view = {
        **design.view,
        "ports": port_lines(found),
        "localparams": design.localparams(printer.read),
        "lines": indented(lines),
        "unread": design.unread(""),
    }
    text = render("verilog/neuron.v.j2:next", view)
    return Module(text, found, products=tuple(printer.products))


def comb_module(design: CircuitDesign) -> Module:
    """Return the neuron that makes one step in each cycle."""
    start = {s.name: s.init for s in design.model.states}
    inputs = named(design.inputs) + named(design.coefficients, "in_")
    registers = named((*design.outputs, *design.states))
    outputs_next = tuple((f"{v.name}_next", v) for v in design.outputs)
    resets = {v.name: _zero(width_of(v)) for v in design.outputs}
    resets |= {v.name: literal(start[v.name], width_of(v) or 1) for v in design.states}
    connections = (
        *same_names(design.inner_inputs),
        *((v.name, name) for name, v in outputs_next),
        *same_names(named(design.next_states)),
    )
    found = (
        *controls("input", "clk", "rst", "ce"),
        *ports("input", inputs),
        *ports("output", registers, "reg"),
    )
    view = {
        **design.view,
        "ports": port_lines(found),
        "wires": declarations("wire", outputs_next + named(design.next_states)),
        "connections": connected(connections),
        "resets": [f"{name} <= {value};" for name, value in resets.items()],
        "updates": [f"{name} <= {name}_next;" for name, _ in registers],
    }
    return Module(render("verilog/neuron.v.j2:comb", view), found)


def _zero(width: int | None) -> str:
    return "1'b0" if width is None else literal(0, width)


def core_module(design: CircuitDesign, pipeline: Pipeline) -> Module:
    """Return the pipelined step."""
    latency = pipeline.latency
    several = latency > 1
    results = zip(design.outer_results, pipeline.results(), strict=True)
    found = (
        *controls("input", "clk", "rst", "ce", "in_valid"),
        *ports("input", design.outer_inputs),
        *controls("output", "out_valid"),
        *ports("output", design.outer_results),
    )
    view = {
        **design.view,
        "latency": latency,
        "ports": port_lines(found),
        "localparams": design.localparams(pipeline.read),
        "lines": indented(pipeline.lines),
        "valid_shape": f"[{latency - 1}:0] " if several else "",
        "valid_zero": f"{latency}'d0" if several else "1'b0",
        "valid_next": f"{{_valid[{latency - 2}:0], in_valid}}" if several else "in_valid",
        "valid_last": f"_valid[{latency - 1}]" if several else "_valid",
        "assigns": [f"assign {name} = {result};" for (name, _), result in results],
        "unread": design.unread("in_"),
    }
    text = render("verilog/neuron.v.j2:core", view)
    return Module(text, found, tuple(pipeline.instances), {"_valid": latency})
