"""Integer arithmetic of a layer: the forward of a circuit, a straight-through backward.

Forward: x, states and parameters are rounded to the nearest numbers of their formats, ties up. The
integer model runs. Its integers are returned as real numbers.

Backward: the adjoint of the step in floating point, at the states of the integer model, the rounded
x and the unrounded parameters. Rounding passes the gradient unchanged. Where x or an initial state
was clipped to its format, its gradient is 0. A saturation inside the step passes its gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from lnm_codegen.compiler.arguments import extent_of, parameters_of
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.compiler.fixed import integers, prepared_integers, program_of, run_sequence
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ModelError, ToolError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.interpret import Array
from lnm_codegen.ir.types import Bits, Fixed, FixedSpec, spec_of
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import STATS, TYPES
from lnm_codegen.nn.eager import run_eager
from lnm_codegen.nn.function import needs_backward, save_call, saved_tensors, time_stride
from lnm_codegen.nn.layout import Layout, arranged
from lnm_codegen.nn.load.c import (
    Argument,
    CKernels,
    CoefficientArgument,
    FixedLibrary,
    load_c,
    load_fixed,
)
from lnm_codegen.nn.load.cache import anywhere
from lnm_codegen.validation import listed, wrong

INTEGER_BACKENDS: Final = ("auto", "c", "torch")
"""Backends that a layer with integer arithmetic accepts."""
FLOAT32_BITS: Final = 25
"""Widest integer that float32 holds: its significand of 24 bits, and the sign."""


@dataclass(frozen=True, eq=False)
class Arithmetic:
    """A neuron in fixed point. Each layer has its own, compared by identity.

    Attributes:
        neuron: The neuron with its records as outputs.
        program: Its step in integers.
        is_auto: The layer's backend is "auto".
    """

    neuron: Neuron
    program: fx.Program
    is_auto: bool = False  # also of a pickle of 0.2.0, which has no such entry

    def bits(self, name: str) -> Bits:
        """Return the format of an input or a state."""
        found = next(p.var.type for p in self.program.kernel.inputs if p.var.name == name)
        assert isinstance(found, Bits)
        return found

    def units(self) -> dict[str, float]:
        """Return output -> value of the integer 1."""
        outputs = self.program.kernel.result_vars(ir.Role.OUTPUT)
        return {v.name: 2.0**-v.type.frac if isinstance(v.type, Bits) else 1.0 for v in outputs}

    def parameters(self, values: Sequence[Tensor], shape: Sequence[int]) -> dict[str, Array]:
        """Return the prepared parameters, of an input (T, N, C, *), as (1, 1), (C, 1) or (C, I).

        Raises:
            ModelError: A parameter that does not fit its format.
        """
        params = self.neuron.step_params
        given = {p.name: v.detach().numpy() for p, v in zip(params, values, strict=True)}
        extent = extent_of(params, tuple(shape))
        raw = parameters_of(self.neuron, given, extent, np.dtype(np.float64), params)
        return prepared_integers(self.program, raw)


def arithmetic_of(
    neuron: Neuron, arithmetic: Any, backend: str, record: tuple[str, ...]
) -> Arithmetic | None:
    """Return the arithmetic of a layer; None for floating point.

    `neuron` has its records as outputs.

    Raises:
        ModelError: The value is not accepted, or the backend or a record has no integer arithmetic.
        UnsupportedError: The neuron has no fixed-point form.
    """
    if arithmetic is None:
        return None
    if not isinstance(arithmetic, Fixed | FixedSpec):
        accepted = "lnm.Fixed(16, 12), an lnm.FixedSpec, or None for floating point"
        raise wrong("NeuronLayer", "arithmetic", arithmetic, accepted)
    if backend not in INTEGER_BACKENDS:
        raise ModelError(
            "NeuronLayer",
            f"backend is {backend!r}, which has no integer arithmetic",
            listed(INTEGER_BACKENDS),
            "Change the backend, or leave arithmetic out.",
        )
    if STATS in record:
        raise ModelError(
            "NeuronLayer",
            f"record has {STATS!r}, which only floating-point kernels count",
            "names of states",
            "Leave it out, or count the outputs of the layer.",
        )
    spec = _with_recorded(neuron, record, spec_of(arithmetic, "NeuronLayer"))
    return Arithmetic(neuron, program_of(neuron, spec), backend == "auto")


def _with_recorded(neuron: Neuron, record: tuple[str, ...], spec: FixedSpec) -> FixedSpec:
    """Return the spec with formats of the records: those of the recorded states."""
    wanted = {f"{state}_recorded" for state in record}
    found: Mapping[str, Fixed] = {
        let.target.name: spec[let.value.name]
        for let in lower(neuron).forward.body
        if let.target.name in wanted and isinstance(let.value, ir.Var)
    }
    named = dict(spec.nodes)
    return FixedSpec(spec.default, {**found, **named})


def require_cpu(arithmetic: Arithmetic, x: Tensor) -> None:
    """Raise ToolError unless the input is on the CPU."""
    if x.device.type != "cpu":
        raise ToolError(
            arithmetic.neuron.name,
            f"integer arithmetic runs on the CPU; the input is on {x.device.type}",
            remedy="Move the layer and its input to the CPU, or leave arithmetic out.",
        )


def require_exact(arithmetic: Arithmetic, dtype: torch.dtype, returns_states: bool) -> None:
    """Raise ModelError unless the type of the arithmetic holds every number that leaves a call."""
    if dtype is not torch.float32:
        return
    roles = (ir.Role.OUTPUT, ir.Role.STATE) if returns_states else (ir.Role.OUTPUT,)
    for var in arithmetic.program.kernel.result_vars(*roles):
        if isinstance(var.type, Bits) and var.type.width > FLOAT32_BITS:
            raise ModelError(
                arithmetic.neuron.name,
                f"{var.name} has {var.type.width} bits, which float32 does not hold",
                f"at most {FLOAT32_BITS} bits",
                "Use an input and a layer of float64, or a narrower format.",
            )


def narrowed(
    arithmetic: Arithmetic, outputs: Sequence[Tensor], dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Return outputs in the type of the sequence; a type of 16 bits holds spikes and few others.

    Raises:
        ModelError: The type would round an output.
    """
    found = tuple(out.to(dtype) for out in outputs)
    names = arithmetic.program.kernel.result_names(ir.Role.OUTPUT)
    for name, out, narrow in zip(names, outputs, found, strict=True):
        if narrow is not out and not torch.equal(narrow.to(out.dtype), out):
            raise ModelError(
                arithmetic.neuron.name,
                f"{name} has a number that {TYPES[dtype]} does not hold",
                f"{TYPES[dtype]} for spikes, float32 or float64 for other outputs",
                f"Use an input of float32, or a narrower format of {name}.",
            )
    return found


def clipped(value: Tensor, bits: Bits) -> Tensor:
    """Return where a number, rounded, does not fit a format; NaN does not.

    Returns:
        Booleans of the shape of `value`, or a single False where all numbers fit.
    """
    unit = 2.0**-bits.frac
    low, high = (bits.low - 0.5) * unit, (bits.high + 0.5) * unit
    if value.numel():
        least, greatest = torch.aminmax(value)
        if least >= low and greatest < high:
            return value.new_zeros((), dtype=torch.bool)
    return torch.logical_not((value >= low) & (value < high))


# Integer C model under autograd; `Arithmetic` defines its gradient.
#
# The model writes the state before each step where the float backward kernel, compiled for chunks
# of one step, reads its saved states. That kernel then recomputes nothing, and takes the gradient
# of each step at the state of the integer model. A training forward saves every state and the
# rounded inputs, T * N elements each.


_NEVER = 1 << 40  # no sequence has this T: the backward finds every state saved


class FixedCall(NamedTuple):
    """Arguments of `FixedFused` other than tensors."""

    arithmetic: Arithmetic
    layout: Layout
    coefficients: dict[str, Argument]
    returns_states: bool
    saves_states: bool


def run_fixed_c(
    arithmetic: Arithmetic,
    inputs: Sequence[Tensor],
    start: Sequence[Tensor],
    params: Sequence[Tensor],
    returns_states: bool,
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Return the outputs (T, N, *) and the final states (N, *) by name, empty if not requested.

    Inputs are (T, N, *), float32 or float64, initial states (N, *) or (1,); parameters have the
    type of the inputs.

    Raises:
        ModelError: A parameter that does not fit its format.
    """
    neuron, like = arithmetic.neuron, inputs[0]
    table = arithmetic.parameters(params, like.shape)
    tensors: Sequence[Tensor] = (*inputs, *start, *params)
    saves_states = needs_backward(tensors)
    layout, tensors = arranged(neuron.step_params, tensors, len(inputs), len(start))
    coefficients: dict[str, Argument] = {n: _coefficient(v, layout) for n, v in table.items()}
    call = FixedCall(arithmetic, layout, coefficients, returns_states, saves_states)
    results = FixedFused.apply(call, *tensors)  # type: ignore[no-untyped-call]
    count = len(neuron.output)
    names = [s.name for s in neuron.states]
    return results[:count], dict(zip(names, results[count:], strict=True)) if returns_states else {}


def _coefficient(table: Array, layout: Layout) -> CoefficientArgument:
    """Return (1, 1), (C, 1) or (C, I) as an argument of the C model, in the order of memory."""
    if table.shape[1] > 1 and layout.order is not None:
        table = table.reshape(layout.shape[2:]).transpose(layout.order)
    inner = layout.inner if table.ndim == 2 and table.shape[1] == 1 else 1
    values = np.ascontiguousarray(table.reshape(-1), dtype=np.int32)
    return CoefficientArgument(torch.from_numpy(values), inner)


class FixedFused(torch.autograd.Function):
    """A sequence in integers, and the float adjoint at its states."""

    @staticmethod
    def forward(ctx: Any, call: FixedCall, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run the integer model."""
        kernel, layout = call.arithmetic.program.kernel, call.layout
        neuron = call.arithmetic.neuron
        inputs, states = len(neuron.inputs), len(neuron.states)
        like, count = tensors[0], layout.neurons
        arguments = dict(call.coefficients)
        rounded: list[Tensor] = []
        rows = max(layout.time_steps, 1) * states if call.saves_states else 0
        saved = layout.empty_rows(like, rows)
        for k, symbol in enumerate(neuron.inputs):
            name, x = symbol.name, tensors[k]
            arguments |= {f"{name}_seq": x, f"{name}_stride": time_stride(x, layout)}
            if k:
                inner, count_ = layout.sharing(x)
                arguments |= {f"{name}_inner": inner, f"{name}_count": count_}
            if call.saves_states:
                rounded.append(layout.empty_sequence(like))
                arguments[f"{name}_rounded_seq"] = rounded[-1]
        finals = []
        for k, symbol in enumerate(neuron.states):
            name, value = symbol.name, tensors[inputs + k]
            arguments |= {f"{name}_init": value, f"{name}_init_stride": int(value.numel() > 1)}
            if call.saves_states:
                arguments |= {f"{name}_seq": saved[k:], f"{name}_stride": states * count}
            if call.returns_states:
                finals.append(layout.empty_step(like.dtype, like.device))
                arguments[f"{name}_final"] = finals[-1]
        outputs = []
        for port in kernel.results[: len(neuron.output)]:
            outputs.append(layout.empty_sequence(like))
            arguments |= {f"{port.var.name}_seq": outputs[-1], f"{port.var.name}_stride": count}
        library_of(call.arithmetic).run(layout.time_steps, count, arguments, like.dtype)
        if call.saves_states:
            save_call(ctx, call, *tensors, *rounded, saved)
        return (*outputs, *finals)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the float backward kernel, one step a chunk."""
        call, (*given, saved) = ctx.call, saved_tensors(ctx, grads)
        neuron, layout = call.arithmetic.neuron, call.layout
        inputs, states = len(neuron.inputs), len(neuron.states)
        own = inputs + states
        count = own + len(neuron.step_params)
        tensors, rounded = given[:count], given[count:]
        start = tensors[inputs:own]
        if layout.time_steps:
            start = list(saved[:states])
        results = adjoint_of(call.arithmetic, tensors[0].dtype).run_backward(
            layout,
            [*rounded, *start, *tensors[own:]],
            saved[states:],
            grads,
            ctx.needs_input_grad[1:],
        )
        names = [s.name for s in (*neuron.inputs, *neuron.states)]
        for name, value, grad in zip(names, tensors[:own], results[:own], strict=True):
            if grad is not None:
                stopped = clipped(value, call.arithmetic.bits(name))
                if stopped.dim():
                    grad.masked_fill_(stopped, 0)
        return (None, *results)


_LIBRARIES: WeakKeyDictionary[Arithmetic, FixedLibrary] = WeakKeyDictionary()


def library_of(arithmetic: Arithmetic) -> FixedLibrary:
    """Return the integer model of a layer; a lookup by identity spares hashing its program."""
    if arithmetic not in _LIBRARIES:
        program = arithmetic.program
        found = anywhere(load_fixed, program) if arithmetic.is_auto else load_fixed(program)
        _LIBRARIES[arithmetic] = found
    return _LIBRARIES[arithmetic]


def adjoint_of(arithmetic: Arithmetic, dtype: torch.dtype) -> CKernels:
    """Return kernels whose backward reads the state before every step."""
    plan = plan_of(arithmetic.neuron, dtype=TYPES[dtype])
    return anywhere(load_c, plan, 1, _NEVER) if arithmetic.is_auto else load_c(plan, 1, _NEVER)


# Integer arithmetic without a compiler: the NumPy model, and autograd through the torch backend.
#
# `Arithmetic` defines the gradient. Each step of the generated PyTorch runs on the state of the
# integer model; the integers then replace its value, not its gradient.


class _Straight(torch.autograd.Function):
    """`value`, with the gradient of `through`, or none where `stopped`."""

    @staticmethod
    def forward(ctx: Any, through: Tensor, value: Tensor, stopped: Tensor | None) -> Tensor:
        ctx.save_for_backward(stopped)
        ctx.shape = through.shape
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (stopped,) = ctx.saved_tensors
        passed = grad if stopped is None else torch.where(stopped, torch.zeros_like(grad), grad)
        return passed.sum_to_size(ctx.shape), None, None


def _straight(through: Tensor, value: Any, stopped: Tensor | None = None) -> Tensor:
    value = torch.as_tensor(value).to(through.dtype)
    result: Tensor = _Straight.apply(through, value, stopped)  # type: ignore[no-untyped-call]
    return result


def run_fixed_eager(
    arithmetic: Arithmetic,
    inputs: Sequence[Tensor],
    start: Sequence[Tensor],
    params: Sequence[Tensor],
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Return the outputs (T, N, *) and the final states (N, *); see `run_fixed_c`."""
    neuron, program = arithmetic.neuron, arithmetic.program
    shape = tuple(inputs[0].shape)
    names = [s.name for s in neuron.inputs], [s.name for s in neuron.states]
    numbers = {n: x.detach().numpy() for n, x in zip(names[0], inputs, strict=True)}
    before = {n: v.detach().expand(shape[1:]).numpy() for n, v in zip(names[1], start, strict=True)}
    ran = run_sequence(
        program,
        {n: integers(x, arithmetic.bits(n)) for n, x in numbers.items()},
        arithmetic.parameters(params, shape),
        {n: integers(v, arithmetic.bits(n)) for n, v in before.items()},
        extent_of(neuron.step_params, shape),
    )
    units = {n: 2.0 ** -arithmetic.bits(n).frac for n in (*names[0], *names[1])}
    units |= arithmetic.units()

    def rounded(name: str, value: Tensor) -> Tensor:
        bits = arithmetic.bits(name)
        exact = integers(value.detach().numpy(), bits) * units[name]
        return _straight(value, exact, clipped(value.detach(), bits))

    seen = [rounded(n, x) for n, x in zip(names[0], inputs, strict=True)]
    states = [rounded(n, v.expand(shape[1:])) for n, v in zip(names[1], start, strict=True)]
    steps: list[list[Tensor]] = []
    for t in range(shape[0]):
        outputs, after, *_ = run_eager(
            neuron, tuple(x[t : t + 1] for x in seen), states, list(params)
        )
        exact = [array[t] * units[n] for n, array in ran.outputs.items()]
        steps.append([_straight(o[0], e) for o, e in zip(outputs, exact, strict=True)])
        last = t + 1 == shape[0]
        following = ran.states if last else {n: ran.trajectory[n][t + 1] for n in names[1]}
        states = [_straight(after[n], following[n] * units[n]) for n in names[1]]
    finals = dict(zip(names[1], states, strict=True))
    if not steps:
        return tuple(inputs[0].clone() for _ in neuron.output), finals
    return tuple(torch.stack(column) for column in zip(*steps, strict=True)), finals
