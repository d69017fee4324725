"""A sequence as one operator Scan, whose body is the step of a neuron.

Constants, initial states and the kernel `prepare` precede the Scan; its body reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lnm_codegen.backends.base import Model
from lnm_codegen.backends.names import require_distinct
from lnm_codegen.backends.onnx.expr import CODES, TYPES, Nodes
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.declarations import Param
from lnm_codegen.ir.names import Names
from lnm_codegen.ir.nodes import Kernel, Role
from lnm_codegen.ir.passes.simplify import keep_results

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


def ports_of(model: Model) -> Ports:
    """Return the ports of a model, or raise UnsupportedError if two have one name."""
    ports = Ports(
        inputs=tuple(f"{x}_seq" for x in model.inputs),
        states=tuple(f"{s.name}_init" for s in model.states),
        params=tuple(p.name for p in model.params),
        outputs=tuple(f"{o}_seq" for o in model.outputs),
        finals=tuple(f"{s.name}_final" for s in model.states),
        counts=tuple(f"{c}_sum" for c in model.program.forward.result_names(Role.COUNT)),
    )
    require_distinct(f"onnx: {model.name}", [*ports.taken, *ports.given])
    return ports


def scan_view(model: Model, ports: Ports, axes: int, shares_inputs: bool) -> dict[str, object]:
    """Return the view of the template `onnx/scan.j2`.

    Args:
        model: The model.
        ports: Its ports.
        axes: Axes of a step, (N, *).
        shares_inputs: Further inputs have axes of length 1 where they repeat.
    """
    return _Scan(model, ports, axes, shares_inputs).view()


class _Scan:
    """Printer of one sequence. Every name in it differs from all others."""

    def __init__(self, model: Model, ports: Ports, axes: int, shares_inputs: bool) -> None:
        self._model, self._ports, self._axes = model, ports, axes
        self._shares = shares_inputs and len(model.inputs) > 1
        self._names = Names((*ports.taken, *ports.given, model.name))
        self._shape, self._repeat = (self._names.fresh(n) for n in ("_shape", "_repeat"))
        self._nodes = Nodes(model.real, self._names)

    def view(self) -> dict[str, object]:
        """Return lines and names of the template."""
        model, nodes, forward = self._model, self._nodes, self._model.program.forward
        counts = forward.result_names(Role.COUNT)
        pairs = zip(model.states, self._ports.states, strict=True)
        start = [nodes.node("Expand", p, self._shape, wanted=f"_{s.name}") for s, p in pairs]
        start += [nodes.constant(f"{TYPES[SUM]} {{0.0}}") for _ in counts]
        sequences = [self._ports.inputs[0], *map(self._sequence, self._ports.inputs[1:])]
        start_lines = nodes.take_lines()
        self._prepare()
        prepare_lines = nodes.take_lines()
        states = [self._names.fresh(s.name) for s in model.states]
        totals = [self._names.fresh(f"{c}_total") for c in counts]
        inputs = [self._names.fresh(x) for x in model.inputs]
        self._enter(states, inputs)
        nodes.body(forward)
        results = self._results(forward, totals)
        io = TYPES[model.dtype]
        types = [TYPES[model.real]] * len(states) + [TYPES[SUM]] * len(totals)
        enter = zip([*types, *[io] * len(inputs)], [*states, *totals, *inputs], strict=True)
        leave = zip([*types, *[io] * len(model.outputs)], results, strict=True)
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
        taken = set(self._model.program.forward.input_names(Role.PARAM))
        prepare = keep_results(self._model.program.prepare, taken)
        read = {v.name for v in prepare.reads} | {*prepare.result_names(Role.PARAM)}
        for param in self._model.params:
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
        for state, name in zip(self._model.states, states, strict=True):
            self._nodes.values[state.name] = name
        for x, name in zip(self._model.inputs, inputs, strict=True):
            self._nodes.values[x] = self._cast(name, self._model.dtype != self._model.real, "real")

    def _cast(self, name: str, changes: bool, target: str) -> str:
        if not changes:
            return name
        code = CODES[self._model.real if target == "real" else self._model.dtype]
        return self._nodes.node("Cast", name, attributes=f"to = {code}")

    def _results(self, forward: Kernel, totals: list[str]) -> list[str]:
        """Print the results of the body: states, sums of counts, outputs."""
        whole = _whole(forward, self._model.inputs[0])
        nodes, narrow = self._nodes, self._model.dtype != self._model.real
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
