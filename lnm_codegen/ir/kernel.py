"""Kernels over one type of expression: named values, ports and a straight-line body.

    Let    = target: variable, value: expression, phase
    Port   = var: variable, role
    Kernel = name, inputs: Port*, body: Let*, results: Port*

The IR of real numbers (`ir/nodes.py`) and that of integers (`ir/fixed/nodes.py`) each have
expressions of their own. Both derive them from `Node`, so that traversals and passes are shared.
"""

from __future__ import annotations

import html
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from itertools import groupby
from operator import is_
from typing import Any, ClassVar, Generic, TypeVar, cast

E = TypeVar("E", bound="Node[Any, Any]")
V = TypeVar("V", bound="Variable")
K = TypeVar("K", bound="Kernel[Any, Any]")


class Phase(Enum):
    """Origin of a Let; printed as a comment."""

    PREPARE = "prepare"
    CHARGE = "charge"
    FIRE = "fire"
    RESET = "reset"
    OUTPUT = "output"
    ADJOINT = "adjoint"


class Role(Enum):
    """Meaning of a port."""

    STATE = "state"
    INPUT = "input"
    PARAM = "param"
    OUTPUT = "output"
    GRAD = "grad"
    COUNT = "count"  # summed over time steps and neurons; has no derivative


class Node(Generic[E, V]):
    """Base of the expressions of type E, whose variables have type V.

    The fields with the annotation `Expr` are the operands.
    """

    __slots__ = ()
    OPERANDS: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        kinds = inspect.get_annotations(cls)
        cls.OPERANDS = tuple(name for name, kind in kinds.items() if kind == "Expr")


class Variable:
    """Base of the expressions that read a value by its name."""

    __slots__ = ()
    name: str
    type: Any


def children(e: Node[E, V]) -> tuple[E, ...]:
    """Return the operands of an expression."""
    return tuple([getattr(e, name) for name in e.OPERANDS])  # quicker than a generator


def map_children(e: Node[E, V], f: Callable[[E], E]) -> E:
    """Return `e` with `f` applied to every operand; `e` itself if nothing changes."""
    old = children(e)
    new = tuple(map(f, old))
    if all(map(is_, new, old)):
        return cast("E", e)
    return cast("E", replace(cast("Any", e), **dict(zip(e.OPERANDS, new, strict=True))))


def walk(e: Node[E, V]) -> Iterator[E]:
    """Yield `e` and everything below it, parents first."""
    left = [cast("E", e)]
    while left:
        node = left.pop()
        yield node
        left += reversed(children(node))


def variables(e: Node[E, V]) -> frozenset[V]:
    """Return the variables that `e` reads."""
    return frozenset(cast("V", node) for node in walk(e) if isinstance(node, Variable))


@dataclass(frozen=True)
class Let(Generic[E, V]):
    """`target = value`."""

    target: V
    value: E
    phase: Phase


@dataclass(frozen=True)
class Port(Generic[V]):
    """A value that enters or leaves a kernel."""

    var: V
    role: Role


@dataclass(frozen=True)
class Kernel(Generic[E, V]):
    """One step of one neuron: `inputs` enter, `body` runs, the variables of `results` leave."""

    name: str
    inputs: tuple[Port[V], ...]
    body: tuple[Let[E, V], ...]
    results: tuple[Port[V], ...]

    def input_vars(self, *roles: Role) -> tuple[V, ...]:
        """Return the inputs of these roles, in order."""
        return tuple(p.var for p in self.inputs if p.role in roles)

    def result_vars(self, *roles: Role) -> tuple[V, ...]:
        """Return the results of these roles, in order."""
        return tuple(p.var for p in self.results if p.role in roles)

    def input_names(self, *roles: Role) -> tuple[str, ...]:
        """Return the names of the inputs of these roles, in order."""
        return tuple(v.name for v in self.input_vars(*roles))

    def result_names(self, *roles: Role) -> tuple[str, ...]:
        """Return the names of the results of these roles, in order."""
        return tuple(v.name for v in self.result_vars(*roles))

    @property
    def names(self) -> frozenset[str]:
        """The names of all ports and Lets."""
        ports = (p.var.name for p in (*self.inputs, *self.results))
        return frozenset(ports) | {let.target.name for let in self.body}

    @property
    def reads(self) -> frozenset[V]:
        """The variables that the body reads."""
        return frozenset[V]().union(*(variables(let.value) for let in self.body))

    def phases(self) -> Iterator[tuple[Phase, tuple[Let[E, V], ...]]]:
        """Yield each run of Lets of one phase, with the phase."""
        for phase, lets in groupby(self.body, key=lambda let: let.phase):
            yield phase, tuple(lets)

    def map_values(self: K, f: Callable[[Any], Any]) -> K:
        """Return the kernel with `f` applied to the value of every Let."""
        body = tuple(replace(let, value=f(let.value)) for let in self.body)
        return replace(self, body=body)

    def text(self, title: str, var: Callable[[V], str], expr: Callable[[E], str]) -> str:
        """Return the ports by role, the Lets by phase and the results, one a line.

        Args:
            title: First line.
            var: Text of a port, or of the target of a Let.
            expr: Text of a value.
        """
        lines = [title, *_ports_text("takes", self.inputs, var)]
        for phase, lets in self.phases():
            lines.append(f"  # {phase.value}")
            lines += [f"  {var(let.target)} = {expr(let.value)}" for let in lets]
        return "\n".join([*lines, *_ports_text("gives", self.results, var)])


def _ports_text(word: str, ports: tuple[Port[V], ...], var: Callable[[V], str]) -> Iterator[str]:
    for role in dict.fromkeys(p.role for p in ports):
        names = ", ".join(var(p.var) for p in ports if p.role is role)
        yield f"  {word} {role.value}: {names}"


class Names:
    """Source of fresh names, none of which is `taken`."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._numbers: dict[tuple[str, int], int] = {}  # none below is free

    def fresh(self, wanted: str) -> str:
        """Return `wanted`, or `wanted_2`, `wanted_3`, ... if it is taken, and take it."""
        if wanted in self._taken:
            return self.numbered(f"{wanted}_", 2)
        self._taken.add(wanted)
        return wanted

    def numbered(self, prefix: str, start: int = 0) -> str:
        """Return the first free name of prefix and number, from `start` on, and take it."""
        k = self._numbers.get((prefix, start), start)
        while f"{prefix}{k}" in self._taken:
            k += 1
        self._numbers[prefix, start] = k + 1
        self._taken.add(f"{prefix}{k}")
        return f"{prefix}{k}"

    def temporary(self) -> str:
        """Return the first free of `t0`, `t1`, ..., which `inline` may remove."""
        return self.numbered("t")


def names_of(*kernels: Kernel[Any, Any]) -> Names:
    """Return a source of names that the kernels do not use."""
    return Names(name for kernel in kernels for name in kernel.names)


def is_temporary(name: str) -> bool:
    """Report whether `Names.temporary` made a name, so that it may be inlined."""
    return name[:1] == "t" and name[1:].isdigit()


# Text of an object as HTML, for Jupyter's `_repr_html_`.


def preformatted(text: str) -> str:
    """Return `text` as HTML that keeps its lines and spaces."""
    return f"<pre>{html.escape(text)}</pre>"


def folded(title: str, text: str, *, is_open: bool = False) -> str:
    """Return `text` as HTML below a title; a click on the title shows or hides the text."""
    state = " open" if is_open else ""
    return f"<details{state}><summary>{html.escape(title)}</summary>{preformatted(text)}</details>"
