"""Design of one circuit, which all its modules share: variables, ports, constants and names.

A user's name appears unchanged, or with the prefix `in_` or `out_`. In a module with such names, a
signal of the generator has the name of a public port or a leading `_`, which no user's name has.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from lnm_codegen.backends.c.expr import c_meaning
from lnm_codegen.backends.fixed import Coefficient, FixedModel, Rtl
from lnm_codegen.backends.verilog.expr import Printer, literal
from lnm_codegen.backends.verilog.module import Signals, named
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import Span, spans
from lnm_codegen.ir.kernel import Names, Role
from lnm_codegen.ir.passes.simplify import compare_sides, fold_zeros
from lnm_codegen.validation import shown

LONGEST_NAME = 128
"""Most characters of a module, a variable or a folder of an array."""
_CONTROLS = ("clk", "rst", "ce", "clear", "in_valid", "in_ready", "out_valid", "out_ready")
_STREAMS = ("s_axis_", "m_axis_")


@dataclass(frozen=True)
class CircuitDesign:
    """A neuron in fixed point, as its circuit is built from it."""

    model: FixedModel

    @property
    def rtl(self) -> Rtl:
        """Options of the circuit."""
        return self.model.rtl

    @property
    def name(self) -> str:
        """Prefix of every module."""
        return self.model.name

    @property
    def equations(self) -> tuple[str, ...]:
        """The definition, for the heads of files."""
        return self.model.equations

    @property
    def view(self) -> dict[str, object]:
        """What every template reads: the design, and the family for the head of a file."""
        return {"family": self.model.family, "design": self}

    @cached_property
    def kernel(self) -> fx.Kernel:
        """One time step in integers."""
        return compare_sides(fold_zeros(self.model.program.kernel, self.constants))

    @property
    def on_ports(self) -> bool:
        """True if coefficients are inputs of the modules, not constants in their source."""
        return self.rtl.coefficients != "constant"

    @cached_property
    def constants(self) -> dict[str, int]:
        """Coefficients that are constants in the source: name -> integer."""
        if self.on_ports:
            return {}
        return {c.name: c.integers[0] for c in self.model.coefficients}

    @cached_property
    def constant_names(self) -> dict[str, str]:
        """Identifiers of the constants, by coefficient: `_THETA_2` for `theta_2`."""
        names = Names()
        return {name: names.fresh(f"_{name.upper()}") for name in self.constants}

    @cached_property
    def spans(self) -> dict[str, Span]:
        """Interval of integers of each number in the kernel."""
        return spans(self.kernel, self.constants)

    @property
    def states(self) -> tuple[fx.Var, ...]:
        """States before the step."""
        return self.kernel.input_vars(Role.STATE)

    @property
    def inputs(self) -> tuple[fx.Var, ...]:
        """Inputs of the step."""
        return self.kernel.input_vars(Role.INPUT)

    @property
    def coefficients(self) -> tuple[fx.Var, ...]:
        """Coefficients that are ports; empty where they are constants."""
        return self.kernel.input_vars(Role.PARAM) if self.on_ports else ()

    @property
    def outputs(self) -> tuple[fx.Var, ...]:
        """Outputs of the step."""
        return self.kernel.result_vars(Role.OUTPUT)

    @property
    def next_states(self) -> tuple[fx.Var, ...]:
        """States after the step, in the order of `states`."""
        found = {v.name: v for v in self.kernel.result_vars(Role.STATE)}
        return tuple(found[f"{v.name}_next"] for v in self.states)

    @property
    def inner_inputs(self) -> Signals:
        """Inputs of the combinational step: states, inputs, coefficients on ports."""
        return named((*self.states, *self.inputs)) + named(self.coefficients, "in_")

    @property
    def inner_results(self) -> Signals:
        """Outputs of the combinational step: outputs, next states."""
        return named((*self.outputs, *self.next_states))

    @property
    def outer_inputs(self) -> Signals:
        """Inputs of `core` and `seq`: states, inputs, coefficients on ports, each with `in_`."""
        return named((*self.states, *self.inputs, *self.coefficients), "in_")

    @property
    def outer_results(self) -> Signals:
        """Outputs of `core` and `seq`: outputs and states with `out_`, these after the step."""
        states = zip(self.states, self.next_states, strict=True)
        after = tuple((f"out_{state.name}", later) for state, later in states)
        return named(self.outputs, "out_") + after

    def unread(self, prefix: str) -> tuple[str, ...]:
        """Return a line that reads each input of the step that nothing else reads, if any."""
        read = {v.name for v in self.kernel.reads} | {p.var.name for p in self.kernel.results}
        inputs = named((*self.states, *self.inputs), prefix) + named(self.coefficients, "in_")
        names = [name for name, v in inputs if v.name not in read]
        return (f"wire _unused = &{{1'b0, {', '.join(names)}}};",) if names else ()

    def names(self) -> Names:
        """Return a source of names that the kernel and its ports do not use."""
        names = self.kernel.names
        return Names([*names, *(f"{way}_{name}" for way in ("in", "out") for name in names)])

    def printer(
        self,
        names: dict[str, str] | None = None,
        taken: Names | None = None,
        read: set[str] | None = None,
    ) -> Printer:
        """Return a printer; `names` maps variables to identifiers, `read` collects variables."""
        return Printer(
            self.constant_names | (names or {}),
            self.constants,
            self.rtl.shift_add,
            self.spans,
            taken or Names(),
            whole=self.whole,
            read=set() if read is None else read,
        )

    @cached_property
    def whole(self) -> frozenset[str]:
        """Numbers of which something reads every bit: a result, or more than a comparison."""
        names = {p.var.name for p in self.kernel.results}
        for let in self.kernel.body:
            for node in (e for e in fx.walk(let.value) if not isinstance(e, fx.Compare)):
                names |= {c.name for c in fx.children(node) if isinstance(c, fx.Var)}
            if isinstance(let.value, fx.Var):
                names.add(let.value.name)
        return frozenset(names)

    def localparams(self, read: Collection[str]) -> tuple[str, ...]:
        """Return the constants of a module that reads some, each with its real value and format.

        A constant that shifts and additions replace is a comment.
        """
        names = self.constant_names
        return tuple(
            localparam(c, names[c.name]) if c.name in read else f"// {names[c.name]}: {_meaning(c)}"
            for c in self.model.coefficients
            if c.name in self.constants
        )


def localparam(c: Coefficient, name: str) -> str:
    """Return the declaration of a constant coefficient, with its meaning as a comment."""
    value = literal(c.integers[0], c.bits.width)
    return f"localparam signed [{c.bits.width - 1}:0] {name} = {value};  // {_meaning(c)}"


def _meaning(c: Coefficient) -> str:
    exact = float(c.bits.value(c.integers[0]))
    source = "" if exact == c.reals[0] else f" for {c.reals[0]!r}"
    formula = f"; {c.formula}" if c.formula else ""
    return f"{exact!r}{source}, {c.bits}{formula}"


def check_names(design: CircuitDesign) -> None:
    """Refuse the names of public ports, and words that Verilog or its tools reserve.

    Raises:
        UnsupportedError: A state, input or coefficient called `clk` or `logic`, for example, or a
            name that is too long.
    """
    modules = (f"{design.name}_{form}" for form in design.rtl.forms)
    for name in (*modules, *sorted(design.kernel.names, key=lambda name: (len(name), name))):
        require_length("verilog", name)
    public = {f"in_{name}" for name in design.kernel.input_names(*Role)}
    public |= {name for name, _ in design.outer_results}
    handshakes = ("valid", "ready") if "seq" in design.rtl.forms else ("valid",)
    for name in sorted(design.kernel.names):
        if meaning := verilog_meaning(name):
            problem = f"{name!r} is {meaning}"
        elif name in public or name in _CONTROLS or name.startswith(_STREAMS):
            problem = f"{name!r} is the name of a port of the circuit"
        elif name in handshakes:
            problem = f"the port of {name!r} is 'in_{name}', a handshake of the circuit"
        else:
            continue
        remedy = "Rename the state, input, parameter or bound value."
        raise UnsupportedError(f"verilog: {design.name}", problem, remedy=remedy)


def require_length(where: str, name: str) -> None:
    """Refuse a name of more than `LONGEST_NAME` characters, which no folder of Verilog may have."""
    if len(name) > LONGEST_NAME:
        problem = f"the name {shown(name)} has {len(name)} characters"
        raise UnsupportedError(where, problem, f"at most {LONGEST_NAME}", "Give a shorter name.")


# Words that have a meaning in Verilog or its tools, so that no name in a circuit may be one.
#
# VERILOG has the keywords of IEEE 1364-2005. SYSTEM_VERILOG has those that IEEE 1800-2017 adds:
# most tools read a `.v` file as SystemVerilog by default. STD has the classes of its package
# `std`. ICARUS has words of Verilog-AMS that Icarus reserves in every mode. Verilator makes each
# port a member of a C++ class. Keywords and macros of C++ are therefore refused too. VERILATOR
# has its other words: names of the C++ library and of SystemC, and the other members of the
# class.


VERILOG = frozenset(
    """always and assign automatic begin buf bufif0 bufif1 case casex casez cell cmos config
    deassign default defparam design disable edge else end endcase endconfig endfunction endgenerate
    endmodule endprimitive endspecify endtable endtask event for force forever fork function
    generate genvar highz0 highz1 if ifnone incdir include initial inout input instance integer join
    large liblist library localparam macromodule medium module nand negedge nmos nor
    noshowcancelled not notif0 notif1 or output parameter pmos posedge primitive pull0 pull1
    pulldown pullup pulsestyle_ondetect pulsestyle_onevent rcmos real realtime reg release repeat
    rnmos rpmos rtran rtranif0 rtranif1 scalared showcancelled signed small specify specparam
    strong0 strong1 supply0 supply1 table task time tran tranif0 tranif1 tri tri0 tri1 triand trior
    trireg unsigned use uwire vectored wait wand weak0 weak1 while wire wor xnor xor""".split()
)
SYSTEM_VERILOG = frozenset(
    """accept_on alias always_comb always_ff always_latch assert assume before bind bins binsof bit
    break byte chandle checker class clocking const constraint context continue cover covergroup
    coverpoint cross dist do endchecker endclass endclocking endgroup endinterface endpackage
    endprogram endproperty endsequence enum eventually expect export extends extern final
    first_match foreach forkjoin global iff ignore_bins illegal_bins implements implies import
    inside int interconnect interface intersect join_any join_none let local logic longint matches
    modport nettype new nexttime null package packed priority program property protected pure rand
    randc randcase randsequence ref reject_on restrict return s_always s_eventually s_nexttime
    s_until s_until_with sequence shortint shortreal soft solve static string strong struct super
    sync_accept_on sync_reject_on tagged this throughout timeprecision timeunit type typedef union
    unique unique0 until until_with untyped var virtual void wait_order weak wildcard with
    within""".split()
)
STD = frozenset({"mailbox", "process", "randomize", "semaphore", "std"})
ICARUS = frozenset({"bool", "wone", "wreal"})
VERILATOR = frozenset(
    """abort atomic_cancel atomic_commit atomic_noexcept bit_vector cdecl complex const_iterator
    const_reference deque far huge interrupt iterator list map multimap multiset near override
    pascal queue reference sc_clock sc_in sc_inout sc_out sc_signal sensitive sensitive_neg
    sensitive_pos set stack synchronized transaction_safe transaction_safe_dynamic type_info
    uint16_t uint32_t uint8_t vector
    atClone contextp eval eval_end_step eval_step eventsPending final hierName modelName name
    nextTimeSlot prepareClone rootp threads trace traceCapable vlSymsp""".split()
)


def verilog_meaning(word: str) -> str:
    """Return the meaning of a word: "a keyword of Verilog"; an empty string for none."""
    if word in VERILOG:
        return "a keyword of Verilog"
    if word in SYSTEM_VERILOG or word in STD:
        return f"a {'keyword' if word in SYSTEM_VERILOG else 'class'} of SystemVerilog"
    if word in ICARUS:
        return "a keyword of Icarus Verilog"
    if c_meaning(word):
        return f"{c_meaning(word)}, and Verilator translates circuits to C++"
    return "a word of Verilator" if word in VERILATOR else ""
