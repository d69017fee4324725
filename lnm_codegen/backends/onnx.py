"""ONNX backend: a model in the textual syntax of ONNX, with the time steps inside one Scan.

The file is for inference: ONNX has no gradients, so `backward` is not printed. `function` prints
the same Scan as a function of a domain, for a layer in the graph of a network (`nn/onnx.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, assert_never

import numpy as np

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.plan import Plan, require_distinct
from lnm_codegen.backends.render import render
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.declarations import Granularity, Param
from lnm_codegen.ir.interpret import rounded
from lnm_codegen.ir.kernel import Names
from lnm_codegen.ir.nodes import BinaryOp, CompareOp, Const, Expr, Fn, Kernel, Phase, Role, UnaryOp
from lnm_codegen.ir.passes.simplify import keep_results
from lnm_codegen.options import DtypeName, RealName

# Printer of ONNX: expressions as nodes, one line for each, in the textual syntax of ONNX.
#
# ONNX has no fused multiply-add. An `Fma` is a product and a sum, which are rounded separately.


TYPES: Final[dict[DtypeName, str]] = {
    "float32": "float", "float64": "double", "bfloat16": "bfloat16", "float16": "float16",
}  # fmt: skip
"""Type -> its name in ONNX."""

CODES: Final[dict[DtypeName, int]] = {
    "float32": 1, "float64": 11, "bfloat16": 16, "float16": 10,
}  # fmt: skip
"""Type -> its number in ONNX, as an attribute of Cast."""

_BINARY = {
    BinaryOp.ADD: "Add", BinaryOp.SUB: "Sub", BinaryOp.MUL: "Mul", BinaryOp.DIV: "Div",
    BinaryOp.AND: "And", BinaryOp.OR: "Or",
}  # fmt: skip
_COMPARE = {
    CompareOp.LT: "Less", CompareOp.LE: "LessOrEqual", CompareOp.GT: "Greater",
    CompareOp.GE: "GreaterOrEqual", CompareOp.EQ: "Equal",
}  # fmt: skip
_CALL = {
    Fn.EXP: "Exp", Fn.LOG: "Log", Fn.SQRT: "Sqrt", Fn.TANH: "Tanh", Fn.SIN: "Sin", Fn.COS: "Cos",
}  # fmt: skip


class Nodes:
    """Printer of nodes in one float type.

    Constants have lines of their own, which precede every graph that reads them.

    Attributes:
        constants: Literal -> name of its value.
        lines: Lines of nodes since the last `take_lines`.
        values: Variable of a kernel -> name of its value.
    """

    def __init__(self, real: RealName, names: Names) -> None:
        self._real, self._names = real, names
        self.constants: dict[str, str] = {}
        self.lines: list[str] = []
        self.values: dict[str, str] = {}

    def take_lines(self) -> tuple[str, ...]:
        """Return the lines so far, and begin anew."""
        lines, self.lines = tuple(self.lines), []
        return lines

    def is_new(self, name: str) -> bool:
        """Report whether a node since the last `take_lines` has this output."""
        return any(line.startswith(f"{name} = ") for line in self.lines)

    def constant(self, literal: str) -> str:
        """Return the name of a constant, such as "float {1.0}"."""
        if literal not in self.constants:
            self.constants[literal] = self._names.numbered("_c")
        return self.constants[literal]

    def node(self, operator: str, *inputs: str, attributes: str = "", wanted: str = "") -> str:
        """Print a node with one output, and return the name of the output."""
        name = self._names.fresh(wanted) if wanted else self._names.numbered("_")
        given = f" <{attributes}> " if attributes else ""
        self.lines.append(f"{name} = {operator}{given}({', '.join(inputs)})")
        return name

    def body(self, kernel: Kernel) -> None:
        """Print the Lets of a kernel, whose inputs are among `values`."""
        for phase, lets in kernel.phases():
            if phase is not Phase.PREPARE:
                self.lines.append(f"# {phase.value}")
            for let in lets:
                self.values[let.target.name] = self.value(let.value, let.target.name)

    def value(self, e: Expr, wanted: str = "") -> str:
        """Print the nodes of an expression, and return the name of its value.

        `wanted` is the name of the last node, if there is one.
        """

        def node(operator: str, *operands: Expr) -> str:
            return self.node(operator, *map(self.value, operands), wanted=wanted)

        match e:
            case Const():
                return self.number(e)
            case ir.Var(name, _):
                return self.values[name]
            case ir.Detach(arg):
                return self.value(arg, wanted)
            case ir.Unary(op, arg):
                return node("Not" if op is UnaryOp.NOT else "Neg", arg)
            case ir.Binary(binary, lhs, rhs):
                return node(_BINARY[binary], lhs, rhs)
            case ir.Power(base, exponent):
                return self._power(self.value(base), exponent, wanted)
            case ir.Compare(CompareOp.NE, lhs, rhs):
                return self.node(
                    "Not", self.value(ir.Compare(CompareOp.EQ, lhs, rhs)), wanted=wanted
                )
            case ir.Compare(compare, lhs, rhs):
                return node(_COMPARE[compare], lhs, rhs)
            case ir.Select(cond, then, orelse):
                return node("Where", cond, then, orelse)
            case ir.Fma(a, b, c):
                return node("Add", ir.mul(a, b), c)
            case ir.Call(Fn.SIGMOID, arg):  # Sigmoid of onnxruntime is not exact to a few ulp
                return node("Div", ir.ONE, ir.add(ir.ONE, ir.Call(Fn.EXP, ir.neg(arg))))
            case ir.Call(fn, arg):
                return node(_CALL[fn], arg)
            case ir.Spike(arg, _):
                return node("GreaterOrEqual", arg, ir.ZERO)
            case _:
                assert_never(e)

    def number(self, c: Const) -> str:
        """Return the name of a number, rounded once."""
        return self.constant(literal(rounded(c.value, self._real), self._real))

    def _power(self, base: str, exponent: int, wanted: str) -> str:
        value = base
        for _ in range(exponent - 2):
            value = self.node("Mul", value, base)
        return self.node("Mul", value, base, wanted=wanted)


def literal(value: float, dtype: RealName) -> str:
    """Return a number in the type as a tensor of shape (1,).

    onnxscript's optimiser drops a scalar within 1e-8 of 0 in a sum, or within 1e-5 of 1 in a
    product. It does not match a tensor with an axis.
    """
    return f"{TYPES[dtype]}[1] {{{value!s}}}"


# A sequence as one operator Scan, whose body is the step of a neuron.
#
# Constants, initial states and the kernel `prepare` precede the Scan; its body reads them.


SUM: Final = "float64"
"""Type of counts."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Names of the inputs and outputs of a graph, in order."""

    inputs: tuple[str, ...]
    states: tuple[str, ...]
    params: tuple[str, ...]
    outputs: tuple[str, ...]
    finals: tuple[str, ...]
    counts: tuple[str, ...]

    @property
    def taken(self) -> tuple[str, ...]:
        """The inputs of the graph."""
        return (*self.inputs, *self.states, *self.params)

    @property
    def given(self) -> tuple[str, ...]:
        """The outputs of the graph."""
        return (*self.outputs, *self.finals, *self.counts)


def ports_of(plan: Plan) -> Ports:
    """Return the ports of a model, or raise UnsupportedError if two have one name."""
    ports = Ports(
        inputs=tuple(f"{x}_seq" for x in plan.inputs),
        states=tuple(f"{s}_init" for s in plan.states),
        params=tuple(p.name for p in plan.params),
        outputs=tuple(f"{o}_seq" for o in plan.outputs),
        finals=tuple(f"{s}_final" for s in plan.states),
        counts=tuple(f"{c}_sum" for c in plan.counts),
    )
    require_distinct(f"onnx: {plan.name}", [*ports.taken, *ports.given])
    return ports


def scan_view(plan: Plan, ports: Ports, axes: int, shares_inputs: bool) -> dict[str, object]:
    """Return the view of the template `onnx/scan.j2`.

    Args:
        plan: The plan.
        ports: Its ports.
        axes: Axes of a step, (N, *).
        shares_inputs: Further inputs have axes of length 1 where they repeat.
    """
    return _Scan(plan, ports, axes, shares_inputs).view()


class _Scan:
    """Printer of one sequence. Every name in it differs from all others."""

    def __init__(self, plan: Plan, ports: Ports, axes: int, shares_inputs: bool) -> None:
        self._plan, self._ports, self._axes = plan, ports, axes
        self._shares = shares_inputs and len(plan.inputs) > 1
        self._names = Names((*ports.taken, *ports.given, plan.name))
        self._shape, self._repeat = (self._names.fresh(n) for n in ("_shape", "_repeat"))
        self._nodes = Nodes(plan.real, self._names)

    def view(self) -> dict[str, object]:
        """Return lines and names of the template."""
        plan, nodes, forward = self._plan, self._nodes, self._plan.forward
        counts = forward.result_names(Role.COUNT)
        pairs = zip(plan.states, self._ports.states, strict=True)
        start = [nodes.node("Expand", p, self._shape, wanted=f"_{s}") for s, p in pairs]
        start += [nodes.constant(f"{TYPES[SUM]} {{0.0}}") for _ in counts]
        sequences = [self._ports.inputs[0], *map(self._sequence, self._ports.inputs[1:])]
        start_lines = nodes.take_lines()
        self._prepare()
        prepare_lines = nodes.take_lines()
        states = [self._names.fresh(s) for s in plan.states]
        totals = [self._names.fresh(f"{c}_total") for c in counts]
        inputs = [self._names.fresh(x) for x in plan.inputs]
        self._enter(states, inputs)
        nodes.body(forward)
        results = self._results(forward, totals)
        io = TYPES[plan.dtype]
        types = [TYPES[plan.real]] * len(states) + [TYPES[SUM]] * len(totals)
        enter = zip([*types, *[io] * len(inputs)], [*states, *totals, *inputs], strict=True)
        leave = zip([*types, *[io] * len(plan.outputs)], results, strict=True)
        return dict(
            constants=tuple(f"{n} = Constant <value = {c}> ()" for c, n in nodes.constants.items()),
            shape=self._shape,
            repeat=self._repeat if self._shares else "",
            repeat_steps=self._names.fresh("_steps"),
            repeat_ones=self._names.fresh("_ones"),
            ones=", ".join(["1"] * self._axes),
            first=self._ports.inputs[0],
            start_lines=start_lines,
            prepare_lines=prepare_lines,
            given=", ".join((*self._ports.finals, *self._ports.counts, *self._ports.outputs)),
            scanned=len(inputs),
            body_takes=", ".join(f"{kind}[] {name}" for kind, name in enter),
            body_gives=", ".join(f"{kind}[] {name}" for kind, name in leave),
            step_lines=nodes.take_lines(),
            arguments=", ".join((*start, *sequences)),
        )

    def _sequence(self, name: str) -> str:
        """Return a further input with T steps."""
        return self._nodes.node("Expand", name, self._repeat) if self._shares else name

    def _prepare(self) -> None:
        """Print `prepare`, from parameters that broadcast against (N, *)."""
        taken = set(self._plan.forward.input_names(Role.PARAM))
        prepare = keep_results(self._plan.prepare, taken)
        read = {v.name for v in prepare.reads} | {*prepare.result_names(Role.PARAM)}
        for param in self._plan.params:
            for k, name in enumerate(param.element_names):
                if name in read:
                    self._nodes.values[name] = self._aligned(param, k)
        self._nodes.body(prepare)

    def _aligned(self, param: Param, element: int) -> str:
        """Return an element of a parameter with as many axes after its own as (N, *) has.

        One per layer has shape (1,), as constants have (`literal`).
        """
        value, is_one = param.name, param.per == "layer"
        if param.size is not None:
            index = self._nodes.constant(f"int64{'[1]' if is_one else ''} {{{element}}}")
            value = self._nodes.node("Gather", value, index, attributes="axis = -1")
        elif is_one:
            first = self._nodes.constant("int64[1] {0}")
            value = self._nodes.node("Unsqueeze", value, first)
        if param.per == "channel" and self._axes > 2:
            ones = ", ".join(str(k) for k in range(1, self._axes - 1))
            after = self._nodes.constant(f"int64[{self._axes - 2}] {{{ones}}}")
            value = self._nodes.node("Unsqueeze", value, after)
        return value

    def _enter(self, states: list[str], inputs: list[str]) -> None:
        """Bind states and inputs to the variables of the step, in the type of the arithmetic."""
        for state, name in zip(self._plan.states, states, strict=True):
            self._nodes.values[state] = name
        for x, name in zip(self._plan.inputs, inputs, strict=True):
            self._nodes.values[x] = self._cast(name, self._plan.dtype != self._plan.real, "real")

    def _cast(self, name: str, changes: bool, target: str) -> str:
        if not changes:
            return name
        code = CODES[self._plan.real if target == "real" else self._plan.dtype]
        return self._nodes.node("Cast", name, attributes=f"to = {code}")

    def _results(self, forward: Kernel, totals: list[str]) -> list[str]:
        """Print the results of the body: states, sums of counts, outputs."""
        whole = _whole(forward, self._plan.inputs[0])
        nodes, narrow = self._nodes, self._plan.dtype != self._plan.real
        found: list[str] = []

        def spread(name: str) -> str:
            value = nodes.values[name]
            return value if name in whole else nodes.node("Expand", value, self._shape)

        def add(name: str, value: str) -> None:
            """Add a value to the results; each is a node of the body, and none occurs twice."""
            if value in found or not nodes.is_new(value):
                value = nodes.node("Identity", value, wanted=name)
            found.append(value)

        for name in forward.result_names(Role.STATE):
            add(name, spread(name))
        for name, total in zip(forward.result_names(Role.COUNT), totals, strict=True):
            wide = nodes.node("Cast", spread(name), attributes=f"to = {CODES[SUM]}")
            added = nodes.node("ReduceSum", wide, attributes="keepdims = 0")
            found.append(nodes.node("Add", total, added))
        for name in forward.result_names(Role.OUTPUT):
            add(name, self._cast(spread(name), narrow, "io"))
        return found


def _whole(kernel: Kernel, first: str) -> frozenset[str]:
    """Return the names of values that have the shape of a step, (N, *).

    They read a state or the first input; parameters, and further inputs, may only broadcast.
    """
    found = {*kernel.input_names(Role.STATE), first}
    for let in kernel.body:
        if any(v.name in found for v in ir.variables(let.value)):
            found.add(let.target.name)
    return frozenset(found)


IR_VERSION: Final = 8
OPSET: Final = 18
"""Versions of the format of a model, and of its operators. PyTorch builds graphs in this opset."""

AXES: Final = ("N", "C", "I")
"""Axes of a step in a model by itself: batch, channels, and the axes after them as one."""

_OWN_AXES: Final[dict[Granularity, tuple[str, ...]]] = {
    "layer": (), "channel": ("C",), "neuron": ("C", "I"),
}  # fmt: skip


class Onnx:
    """The ONNX backend."""

    def emit(self, plan: Plan) -> Source:
        """Return one model of the operators of ONNX, as text.

        Raises:
            UnsupportedError: Two inputs or outputs of the graph have the same name.
        """
        ports = ports_of(plan)
        own = dict(
            family=plan.family,
            equations=plan.equations,
            notes=tuple(_notes(plan, ports)),
            ir_version=IR_VERSION,
            opset=OPSET,
            name=plan.name,
            takes=_listed(_takes(plan, ports)),
            gives=_listed(_gives(plan, ports)),
            defaults=_listed(_defaults(plan, ports)),
        )
        view = scan_view(plan, ports, len(AXES), shares_inputs=True)
        path = f"{plan.name}.onnxtxt"
        return Source({path: render("onnx/model.onnxtxt.j2", own | view)}, path)


def function(plan: Plan, name: str, domain: str, axes: int) -> str:
    """Return a function as text: inputs, initial states, parameters -> outputs, finals, counts.

    Args:
        plan: The plan.
        name: Name of the function.
        domain: Its domain.
        axes: Axes of a step, (N, *).
    """
    ports = ports_of(plan)
    own = dict(
        name=name,
        domain=domain,
        opset=OPSET,
        takes=", ".join(ports.taken),
        gives=", ".join(ports.given),
    )
    view = scan_view(plan, ports, axes, shares_inputs=False)
    return render("onnx/function.onnxtxt.j2", own | view)


def _takes(plan: Plan, ports: Ports) -> Iterator[str]:
    """Yield the inputs with their types. Axes that may have length 1 have names of their own."""
    io, real = TYPES[plan.dtype], TYPES[plan.real]
    first, *more = ports.inputs
    yield f"{_typed(io, ('T', *AXES))} {first}"
    for name in more:
        yield f"{_typed(io, (f'{name}_{axis}' for axis in ('T', *AXES)))} {name}"
    for name in ports.states:
        yield f"{_typed(real, (f'{name}_{axis}' for axis in AXES))} {name}"
    for p in plan.params:
        axes = [f"{p.name}_{axis}" for axis in _OWN_AXES[p.per]]
        yield f"{_typed(real, (*axes, *_size(p)))} {p.name}"


def _gives(plan: Plan, ports: Ports) -> Iterator[str]:
    """Yield the outputs with their types."""
    io, real = TYPES[plan.dtype], TYPES[plan.real]
    yield from (f"{_typed(io, ('T', *AXES))} {name}" for name in ports.outputs)
    yield from (f"{_typed(real, AXES)} {name}" for name in ports.finals)
    yield from (f"{TYPES[SUM]} {name}" for name in ports.counts)


def _defaults(plan: Plan, ports: Ports) -> Iterator[str]:
    """Yield the default values of the inputs that have one; they broadcast."""
    pairs = zip(ports.states, plan.declared_states, strict=True)
    inits = [(name, s.init, ["1"] * len(AXES)) for name, s in pairs]
    inits += [(p.name, p.init, [*("1" for _ in _OWN_AXES[p.per]), *_size(p)]) for p in plan.params]
    for name, init, axes in inits:
        if not callable(init):
            values = np.broadcast_to(np.asarray(init, plan.real), tuple(map(int, axes)))
            numbers = ", ".join(map(str, values.reshape(-1)))
            yield f"{_typed(TYPES[plan.real], axes)} {name} = {{{numbers}}}"


def _notes(plan: Plan, ports: Ports) -> Iterator[str]:
    """Yield the shapes of the inputs."""
    first, *more = ports.inputs
    yield f"{first}: (T, N, C, I)."
    if more:
        yield f"{', '.join(more)}: the same, with length 1 on axes along which the input repeats."
    if ports.states:
        yield f"{', '.join(ports.states)}: (N, C, I), or length 1 on any axis."
    for p in plan.params:
        shape = ", ".join((*_OWN_AXES[p.per], *_size(p)))
        if shape:
            yield f"{p.name}: ({shape}), one value per {p.per}; C and I may be 1."


def _size(p: Param) -> tuple[str, ...]:
    return () if p.size is None else (str(p.size),)


def _typed(kind: str, axes: Iterable[str]) -> str:
    """Return the type of a tensor."""
    listed = ", ".join(axes)
    return f"{kind}[{listed}]" if listed else kind


def _listed(lines: Iterator[str]) -> tuple[str, ...]:
    """Return lines with commas between them."""
    return tuple(",\n".join(lines).splitlines())
