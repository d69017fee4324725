"""A module of Verilog as an object: its text, and what proofs and scripts need to know of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from lnm_codegen.backends.verilog.expr import declared, width_of
from lnm_codegen.ir.fixed import nodes as fx

Signals: TypeAlias = tuple[tuple[str, fx.Var], ...]
"""Signals of a module: each identifier with the variable that it carries."""


@dataclass(frozen=True, slots=True)
class ModulePort:
    """A port. `width` is None for a condition; the data of a stream have no sign."""

    direction: str
    name: str
    width: int | None = None
    kind: str = "wire"
    signed: bool = True

    @property
    def bits(self) -> int:
        """Number of its bits."""
        return self.width or 1

    @property
    def text(self) -> str:
        """Its declaration."""
        head = f"{self.direction:<6} {self.kind:<4}"
        if self.signed:
            return declared(head, self.name, self.width)
        return f"{head} [{self.bits - 1}:0] {self.name}"


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance: its module without the prefix of the circuit, its name, its parameters."""

    module: str
    name: str
    parameters: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Module:
    """A module of a circuit.

    Attributes:
        text: Its Verilog.
        ports: Its ports; empty for a leaf, which depends on its parameters alone.
        instances: The leaves that it instantiates.
        registers: Width of each register that a proof reads.
        products: Wires that are products.
    """

    text: str
    ports: tuple[ModulePort, ...] = ()
    instances: tuple[Instance, ...] = ()
    registers: Mapping[str, int] = field(default_factory=dict)
    products: tuple[str, ...] = ()


def named(variables: Iterable[fx.Var], prefix: str = "") -> Signals:
    """Return signals with the names of their variables and a prefix."""
    return tuple((f"{prefix}{v.name}", v) for v in variables)


def controls(direction: str, *names: str) -> tuple[ModulePort, ...]:
    """Return a port of one bit for each name."""
    return tuple(ModulePort(direction, name) for name in names)


def ports(direction: str, signals: Signals, kind: str = "wire") -> tuple[ModulePort, ...]:
    """Return a port for each signal."""
    return tuple(ModulePort(direction, name, width_of(v), kind) for name, v in signals)


def port_lines(found: Iterable[ModulePort]) -> tuple[str, ...]:
    """Return the declarations of ports, as the head of a module lists them."""
    return separated(port.text for port in found)


def declarations(kind: str, signals: Signals) -> tuple[str, ...]:
    """Return a declaration for each signal."""
    return tuple(f"{declared(kind, name, width_of(v))};" for name, v in signals)


def separated(items: Iterable[str]) -> tuple[str, ...]:
    """Return lines with a comma at the end of all but the last."""
    lines = tuple(items)
    return (*(f"{line}," for line in lines[:-1]), *lines[-1:])


def connected(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the connections of an instance: (port, signal) pairs."""
    return ", ".join(f".{name}({signal})" for name, signal in pairs)


def same_names(*signals: Signals) -> tuple[tuple[str, str], ...]:
    """Return pairs that connect each port to the signal of its own name."""
    return tuple((name, name) for group in signals for name, _ in group)


def indented(lines: Iterable[str]) -> tuple[str, ...]:
    """Return lines with four spaces before each that is not empty."""
    return tuple(f"    {line}" if line else "" for line in lines)
