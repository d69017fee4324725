"""What the modules of one neuron share: its names, its ports, its constants."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from lnm_codegen.backends.integer_c.model import Coefficient, FixedModel
from lnm_codegen.backends.verilog.expr import Printer, literal, width_of
from lnm_codegen.backends.verilog.rtl import Rtl
from lnm_codegen.backends.verilog.words import TAKEN
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.bounds import Span, spans
from lnm_codegen.ir.fixed.direct import direct
from lnm_codegen.ir.fixed.zeros import without_zeros
from lnm_codegen.ir.operators import Role

_OURS = {"clk", "rst", "ce", "clear", "valid", "step", "unused"}


@dataclass(frozen=True)
class Design:
    """A neuron as its circuit is made of it."""

    model: FixedModel

    @property
    def rtl(self) -> Rtl:
        """How it is to look."""
        return self.model.rtl

    @property
    def name(self) -> str:
        """Prefix of every module."""
        return self.model.name

    @cached_property
    def kernel(self) -> fx.Kernel:
        """The step in integers."""
        return direct(without_zeros(self.model.program.kernel, self.constants))

    @property
    def on_ports(self) -> bool:
        """Whether coefficients are inputs of the modules, and not constants of their source."""
        return self.rtl.coefficients != "constant"

    @cached_property
    def constants(self) -> dict[str, int]:
        """The integers of the coefficients that are constants of the source, by name."""
        if self.on_ports:
            return {}
        return {c.name: c.integers[0] for c in self.model.coefficients}

    @cached_property
    def spans(self) -> dict[str, Span]:
        """What integers each number of the kernel can have."""
        return spans(self.kernel, self.constants)

    @property
    def states(self) -> tuple[fx.Var, ...]:
        """The states before the step."""
        return self.kernel.input_vars(Role.STATE)

    @property
    def inputs(self) -> tuple[fx.Var, ...]:
        """The inputs of the step."""
        return self.kernel.input_vars(Role.INPUT)

    @property
    def coefficients(self) -> tuple[fx.Var, ...]:
        """The coefficients that are ports; none where they are constants."""
        return self.kernel.input_vars(Role.PARAM) if self.on_ports else ()

    @property
    def outputs(self) -> tuple[fx.Var, ...]:
        """What leaves the layer."""
        return self.kernel.result_vars(Role.OUTPUT)

    @property
    def next_states(self) -> tuple[fx.Var, ...]:
        """The states after the step, in the order of `states`."""
        found = {v.name: v for v in self.kernel.result_vars(Role.STATE)}
        return tuple(found[f"{v.name}_next"] for v in self.states)

    def unread(self, prefix: str) -> tuple[str, ...]:
        """Return a line that reads the inputs of the step which nothing else reads, if any."""
        read = {v.name for let in self.kernel.body for v in fx.variables(let.value)}
        read |= {p.var.name for p in self.kernel.results}
        names = [f"{prefix}{v.name}" for v in (*self.states, *self.inputs) if v.name not in read]
        names += [f"in_{v.name}" for v in self.coefficients if v.name not in read]
        return (f"wire unused = &{{1'b0, {', '.join(names)}}};",) if names else ()

    def printer(self, names: dict[str, str], taken: set[str]) -> Printer:
        """Return a printer; `names` says what Vars are called, constants have theirs already."""
        constants = {c: localparam(c) for c in self.constants}
        return Printer(
            constants | names,
            self.constants,
            self.rtl.shift_add,
            self.spans,
            taken,
            whole=self.whole,
        )

    @cached_property
    def whole(self) -> frozenset[str]:
        """The numbers that a result, or more than comparisons, reads."""
        names = {p.var.name for p in self.kernel.results}
        for let in self.kernel.body:
            for node in (e for e in fx.walk(let.value) if not isinstance(e, fx.Compare)):
                names |= {c.name for c in fx.children(node) if isinstance(c, fx.Var)}
            if isinstance(let.value, fx.Var):
                names.add(let.value.name)
        return frozenset(names)

    @property
    def head(self) -> tuple[str, ...]:
        """What a file says of the neuron."""
        return self.model.equations

    def localparams(self, lines: tuple[str, ...]) -> tuple[str, ...]:
        """Return the constants that `lines` read, each with its real value and format.

        One that shifts and additions stand for is a comment.
        """
        words = {word for line in lines for word in re.findall(r"\w+", line)}
        if self.on_ports:
            return ()
        return tuple(
            constant_declared(c)
            if localparam(c.name) in words
            else f"// {localparam(c.name)}: {_meaning(c)}"
            for c in self.model.coefficients
        )


def localparam(name: str) -> str:
    """Return what a constant coefficient is called in the source."""
    return name.upper()


def constant_declared(c: Coefficient) -> str:
    """Return the declaration of a constant coefficient, with what it stands for."""
    value = literal(c.integers[0], c.bits.width)
    name = localparam(c.name)
    return f"localparam signed [{c.bits.width - 1}:0] {name} = {value};  // {_meaning(c)}"


def _meaning(c: Coefficient) -> str:
    exact = float(c.bits.value(c.integers[0]))
    source = "" if exact == c.reals[0] else f" for {c.reals[0]!r}"
    return f"{exact!r}{source}, {c.bits}"


def check_names(design: Design) -> None:
    """Refuse names that would meet those of the modules.

    Raises:
        UnsupportedError: A state or coefficient called `clk` or `logic`, two names that differ by
            case alone.
    """
    kernel = design.kernel
    names = {p.var.name for p in (*kernel.inputs, *kernel.results)}
    names |= {let.target.name for let in kernel.body}
    ours = set(_OURS)
    ours |= {f"in_{n}" for n in ("valid", "ready")} | {f"out_{n}" for n in ("valid", "ready")}
    ours |= {f"in_{v.name}" for v in kernel.input_vars(*Role)}
    ours |= {f"out_{v.name}" for v in (*design.outputs, *design.states)}
    ours |= {f"{v.name}_now" for v in design.outputs}
    for name in sorted(names):
        if name in TAKEN:
            raise UnsupportedError(
                f"verilog: {design.name}",
                f"{name!r} is a word of Verilog, of SystemVerilog or of Verilator",
                remedy="Rename the state, input or parameter.",
            )
        twin = localparam(name) in names and localparam(name) != name and name in design.constants
        if name in ours or twin or name.startswith(("s_axis_", "m_axis_")):
            raise UnsupportedError(
                f"verilog: {design.name}",
                (
                    "the circuit has a signal of its own called "
                    f"{(localparam(name) if twin else name)!r}"
                ),
                remedy="Rename the state, input or parameter.",
            )


def port(direction: str, name: str, width: int | None, kind: str = "wire") -> str:
    """Return a port; `width` is None for a condition."""
    shape = "" if width is None else f" signed [{width - 1}:0]"
    return f"{direction} {kind}{shape} {name}"


def ports(direction: str, variables: tuple[fx.Var, ...], prefix: str = "") -> tuple[str, ...]:
    """Return a port for each variable."""
    return tuple(port(direction, f"{prefix}{v.name}", width_of(v)) for v in variables)


def separated(items: tuple[str, ...]) -> tuple[str, ...]:
    """Return lines with a comma behind all but the last."""
    return (*(f"{line}," for line in items[:-1]), *items[-1:])


def connected(pairs: tuple[tuple[str, str], ...]) -> str:
    """Return the connections of an instance."""
    return ", ".join(f".{name}({signal})" for name, signal in pairs)
