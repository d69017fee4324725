"""Values of the `_seq` form: the cycles in which each is ready, and the registers that hold it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from lnm_codegen.backends.verilog.expr import Printer, declared, width_of
from lnm_codegen.backends.verilog.design import CircuitDesign
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import Span
from lnm_codegen.ir.names import Names

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
        return Printer(names, design.constants, digits, self.spans, self.names, self.lines)

    def wire(self, name: str, width: int | None, text: str) -> None:
        """Declare a wire."""
        self.lines.append(f"{declared('wire', name, width)} = {text};")
