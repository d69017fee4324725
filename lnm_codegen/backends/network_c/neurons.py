"""Functions of the generated C for neurons: a step of one neuron, and the neurons of a stage."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace

from lnm_codegen.backends.c.words import c_meaning
from lnm_codegen.backends.integer_c.expr import FUNCTIONS, c_sizes, lines
from lnm_codegen.backends.names import variable_name, with_names
from lnm_codegen.backends.network_c.layers import StageCode
from lnm_codegen.backends.network_c.tables import (
    constants,
    integer_type,
    literal,
    memory,
)
from lnm_codegen.backends.render import render
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import Span
from lnm_codegen.ir.network.nodes import Integers, NeuronStage, Shape, ValueSpan, size_of
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.types import Bits

_TAKEN = frozenset("int8_t int16_t int32_t int64_t result INT64_C FIXED_POINT_FUNCTION".split())
"""Types, the local variable and macros of every network."""
_FIXED = {f"fixed_{name}" for name in FUNCTIONS}
_TAKEN |= _FIXED | {name.upper() for name in _FIXED}
_MACROS = ("TIME_STEPS", "INPUTS", "CLASSES", "SAMPLES", "H", "TABLES_H", "VECTORS_H")
"""Macros of a network, after its name in capitals."""


@dataclass(frozen=True, slots=True)
class _Held:
    """Numbers of a coefficient or initial numbers of a state, and their name in the network."""

    origin: str
    integers: Integers
    table: str  # name of the constant array, if there are several numbers
    state: str = ""  # name of the array in memory

    def number(self, neurons: int) -> str:
        """Return the number of neuron n, in channel c."""
        if len(self.integers) == 1:
            return literal(int(self.integers[0]))
        return f"{self.table}[{'n' if len(self.integers) == neurons else 'c'}]"


def neuron_code(
    network: str, k: int, stage: NeuronStage, shape: Shape, values: ValueSpan
) -> StageCode:
    """Return the code of a stage of neurons in the network of this name.

    A coefficient with one value is a constant of the step, so that the compiler and the bounds of
    its intermediates know it.
    """
    macros = {f"{network.upper()}_{word}" for word in _MACROS}
    whole, names = _legal(stage.program.kernel, _TAKEN | macros | {f"result_{k}"})
    coefficients = {
        names[n]: _Held(n, a, f"coefficient_{k}_{i}") for i, (n, a) in enumerate(stage.coefficients)
    }
    states = {
        names[n]: _Held(n, a, f"start_{k}_{i}", f"state_{k}_{i}")
        for i, (n, a) in enumerate(stage.initial)
    }
    known = {names[n]: span for n, span in stage.known.items()}
    kernel = _with_constants(whole, {n: int(h.integers[0]) for n, h in coefficients.items()
                                     if len(h.integers) == 1})  # fmt: skip
    neurons, held = size_of(shape), (*coefficients.values(), *states.values())

    def argument(name: str) -> str:
        if name in states:
            return f"{states[name].state}[n]"
        return coefficients[name].number(neurons) if name in coefficients else "x[n]"

    view = dict(
        k=k,
        note=f"{stage.name}: {stage.program.name}, {neurons} neurons",
        step=_step(k, kernel, known),
        input_type=integer_type((values.low, values.high)),
        output_type=integer_type((stage.values.low, stage.values.high)),
        neurons=neurons,
        channels=shape[0],
        inner=neurons // shape[0],
        per_channel=any(len(h.integers) not in (1, neurons) for h in held),
        arguments=", ".join(argument(v.name) for v in kernel.input_vars(*Role)),
        updates=tuple(
            f"{h.state}[n] = ({integer_type(_span(kernel, n))})result.{n}_next;"
            for n, h in states.items()
        ),
        output=kernel.result_names(Role.OUTPUT)[0],
        starts=tuple(f"{h.state}[n] = {h.number(neurons)};" for h in states.values()),
    )
    tables = tuple(
        constants(h.table, h.integers, f"{h.origin} of {stage.name}")
        for h in held
        if len(h.integers) > 1
    )
    arrays = tuple(
        memory(h.state, _span(kernel, n), neurons, f"{h.origin} of {stage.name}")
        for n, h in states.items()
    )
    output = memory(f"y_{k}", (stage.values.low, stage.values.high), neurons, stage.name)
    return StageCode(render("network_c/neurons.c.j2", view), tables, arrays, output)


def _with_constants(kernel: fx.Kernel, single: dict[str, int]) -> fx.Kernel:
    """Return the step with numbers in place of the names of inputs."""

    def value(e: fx.Expr) -> fx.Expr:
        if isinstance(e, fx.Var) and e.name in single and isinstance(e.type, Bits):
            return fx.Const(single[e.name], e.type, e.type.value(single[e.name]))
        return fx.map_children(e, value)

    inputs = tuple(p for p in kernel.inputs if p.var.name not in single)
    return replace(kernel.map_values(value), inputs=inputs)


def _legal(kernel: fx.Kernel, taken: Set[str]) -> tuple[fx.Kernel, dict[str, str]]:
    """Return the kernel with names that neither C nor the code takes, and old name -> new name."""
    own = {p.var.name for p in kernel.inputs} | {let.target.name for let in kernel.body}

    def legal(name: str) -> str:
        new = name
        while new in taken or c_meaning(new) or (new != name and new in own):
            new += "_"
        return new

    twin = with_names(kernel, lambda name: variable_name(name, legal))
    return twin, {name: variable_name(name, legal) for name in own}


def _span(kernel: fx.Kernel, name: str) -> Span:
    bits = next(v.type for v in kernel.input_vars(*Role) if v.name == name)
    assert isinstance(bits, Bits), "a state is a number"
    return bits.low, bits.high


def _step(k: int, kernel: fx.Kernel, known: dict[str, Span]) -> str:
    """Return the function of one step of one neuron."""
    sizes, given = c_sizes(kernel, known), kernel.result_names(*Role)
    fields = tuple(f"{'int32_t' if sizes[n] else 'int'} {n};" for n in given)
    view = dict(
        k=k,
        formats=tuple(f"{v.name} {v.type}" for v in kernel.input_vars(*Role)),
        fields=fields,
        arguments=", ".join(f"int32_t {v.name}" for v in kernel.input_vars(*Role)),
        lines=lines(kernel, known),
        results=tuple((n, f"(int32_t){n}" if sizes[n] == 64 else n) for n in given),
    )
    return render("network_c/step.c.j2", view)
