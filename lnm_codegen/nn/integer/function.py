"""Integer C model under autograd; `arithmetic.py` defines its gradient.

The model writes the state before each step where the float backward kernel, compiled for chunks of
one step, reads its saved states. That kernel then recomputes nothing, and takes the gradient of
each step at the state of the integer model. A training forward saves every state and the rounded
inputs, T * N elements each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from lnm_codegen.compiler.emit import model_of
from lnm_codegen.ir.interpret import Array
from lnm_codegen.nn.arguments import TYPES
from lnm_codegen.nn.function import needs_backward, run_backward, save_call, saved_call, time_stride
from lnm_codegen.nn.integer.arithmetic import Arithmetic, clipped
from lnm_codegen.nn.layout import Layout, arranged
from lnm_codegen.nn.load.c import CKernels, load_c
from lnm_codegen.nn.load.cache import anywhere
from lnm_codegen.nn.load.fixed import Argument, CoefficientArgument, FixedLibrary, load_fixed

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
        call, (*given, saved) = saved_call(ctx, grads)
        neuron, layout = call.arithmetic.neuron, call.layout
        inputs, states = len(neuron.inputs), len(neuron.states)
        own = inputs + states
        count = own + len(neuron.step_params)
        tensors, rounded = given[:count], given[count:]
        start = tensors[inputs:own]
        if layout.time_steps:
            start = list(saved[:states])
        results = run_backward(
            adjoint_of(call.arithmetic, tensors[0].dtype),
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
    model = model_of(arithmetic.neuron, dtype=TYPES[dtype])
    return anywhere(load_c, model, 1, _NEVER) if arithmetic.is_auto else load_c(model, 1, _NEVER)
