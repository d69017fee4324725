"""When a value of the step can be read, and from which register: the memory of the `_seq` form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from lnm_codegen.backends.verilog.expr import Printer, declared, width_of
from lnm_codegen.backends.verilog.parts import Design, localparam
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.bounds import Span

ACCEPT = -1
"""The cycle in which the inputs are on the ports; cycle 0 is the first of step 0."""


@dataclass(slots=True)
class Value:
    """A value of the step.

    Attributes:
        ready: The first cycle in which `text` is it.
        until: The last such cycle.
        depth: Chains of carries between registers and `text`, 0 or 1.
        width: None for a condition.
        text: An identifier.
        kept: A register that has it from `ready + 1` on, once one is asked for.
        is_acc: Whether `text` is the accumulator.
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
        """The first cycle in which it comes from a register."""
        return self.ready + (self.depth > 0)


@dataclass(frozen=True, slots=True)
class Capture:
    """`register` takes `text` at the end of a cycle."""

    cycle: int
    register: str
    width: int | None
    text: str


@dataclass(slots=True)
class Values:
    """The values of one step by name, and the registers that hold them."""

    design: Design
    spans: dict[str, Span]
    taken: set[str]
    table: dict[str, Value] = field(default_factory=dict)
    ports: dict[str, int | None] = field(default_factory=dict)
    read_ports: set[str] = field(default_factory=set)
    captures: list[Capture] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Enter the inputs."""
        design = self.design
        for var in (*design.states, *design.inputs, *design.coefficients):
            self.ports[var.name] = width_of(var)

    def fresh(self, name: str) -> str:
        """Return an identifier that is not taken, and take it."""
        wanted, k = name, 1
        while name in self.taken:
            k += 1
            name = f"{wanted}_{k}"
        self.taken.add(name)
        return name

    def reads(self, e: fx.Expr) -> list[str]:
        """Return the names of what `e` reads, constants of the source not among them."""
        names = sorted(v.name for v in fx.variables(e))
        return [n for n in names if n in self.ports or n in self.table]

    def registered(self, expressions: Iterable[fx.Expr]) -> int:
        """Return the first cycle in which registers have all that is read."""
        names = {n for e in expressions for n in self.reads(e) if n not in self.ports}
        return max((self.table[n].registered for n in names), default=0)

    def at(self, name: str, cycle: int) -> str:
        """Return the identifier of a value in a cycle; a register, where it can be one."""
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
            value.kept = self.fresh(name if value.is_acc else f"{name}_kept")
            self.capture(value.ready, value.kept, value.width, value.text)
        return value.kept

    def until(self, name: str, text: str) -> float:
        """Return the last cycle in which an identifier that `at` gave has the value."""
        value = self.table[name]
        return value.until if text == value.text else inf

    def _latch(self, name: str) -> None:
        register, width = self.fresh(name), self.ports[name]
        self.read_ports.add(name)
        self.capture(ACCEPT, register, width, f"in_{name}")
        self.table[name] = Value(0, inf, 0, width, register)

    def capture(self, cycle: int, register: str, width: int | None, text: str) -> None:
        """Let a register take a value at the end of a cycle."""
        self.captures.append(Capture(cycle, register, width, text))

    def printer(self, e: fx.Expr, cycle: int) -> Printer:
        """Return a printer to which what `e` reads has its name in a cycle."""
        names = {n: self.at(n, cycle) for n in self.reads(e)}
        constants = self.design.constants
        upper = {c: localparam(c) for c in constants}
        return Printer(
            upper | names, constants, self.design.rtl.shift_add, self.spans, self.taken, self.lines
        )

    def wire(self, name: str, width: int | None, text: str) -> str:
        """Declare a wire; return its identifier."""
        wire = self.fresh(name)
        self.lines.append(f"{declared('wire', wire, width)} = {text};")
        return wire
