"""`lnm.interpret`: a neuron on a sequence, and its gradients, in NumPy.

It is the reference of every backend. It runs the kernels of the program step by step, elementwise,
and sums parameter gradients in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from lnm_codegen.compiler.arguments import (
    extent_of,
    input_shape,
    inputs_of,
    kind_of,
    output_gradients,
    parameters_of,
    start_of,
    state_gradients,
)
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.ir import kernel as generic
from lnm_codegen.ir.declarations import Extent, Granularity, Param, State, prepared_granularity
from lnm_codegen.ir.interpret import Array, run
from lnm_codegen.ir.nodes import Kernel, Program, Role
from lnm_codegen.ir.types import Bits
from lnm_codegen.language.family import require_neuron
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.options import RealName, SchemeName

Arrays = dict[str, Array]
_SHARED: dict[Granularity, tuple[int, ...]] = {
    "layer": (0, 1, 2), "channel": (0, 2), "neuron": (0,)
}  # fmt: skip
"""Granularity -> the axes (batch, channels, inner) over which neurons share a value."""


@dataclass(frozen=True)
class Result:
    """Result of `interpret`.

    Attributes:
        outputs: Output name -> array (T, N, *).
        states: State name -> its value after the last step, (N, *).
        counts: Count name -> its sum over steps and neurons.
        trajectory: State name -> its value before each step, (T, N, *).
        grads: Name of an input, a parameter (both of their own shape) or a state (the gradient of
            its initial value, (N, *)) -> gradient; empty without `grad_out`.
    """

    outputs: dict[str, Array]
    states: dict[str, Array]
    trajectory: dict[str, Array] = field(repr=False)
    grads: dict[str, Array]
    counts: dict[str, float]

    @property
    def out(self) -> Array:
        """The first output."""
        return next(iter(self.outputs.values()))


@np.errstate(all="ignore")  # an overflow is visible in the result
def interpret(
    neuron: Neuron,
    *x_seq: Any,
    state: Mapping[str, Any] | None = None,
    grad_out: Any = None,
    grad_state: Mapping[str, Any] | None = None,
    dtype: RealName = "float64",
    scheme: SchemeName = "horner",
    **params: Any,
) -> Result:
    """Run a neuron over a sequence.

    Args:
        neuron: The definition.
        x_seq: One array per input, in the order of declaration. The first is (T, N, *). Others may
            have any shape that broadcasts to it, or (T,), one number for each step. A
            vector is an error where both T and the last axis have its length.
        state: Initial values by state name; the declared `init`, or the parameter that is the
            initial value, otherwise.
        grad_out: Gradient of the loss with respect to the output (a tuple for several); with it
            the result has `grads`.
        grad_state: Gradient with respect to final states, by name.
        dtype: "float64" or "float32", to which every operation is rounded.
        scheme: "horner" or "estrin".
        **params: Parameters by name, `theta=...`; shape () or (size,) per layer, (C,) or
            (C, size) per channel (axis 2 of x_seq), the neuron's shape (and size) per neuron. The
            declared `init` otherwise.

    Raises:
        ModelError: No neuron, or a name that the neuron does not have.
        ShapeError: Arrays that are not of real numbers, or do not fit together.
    """
    require_neuron("interpret", neuron)
    program = lower(neuron, scheme)
    kind = kind_of(dtype)
    inputs = inputs_of(neuron, x_seq, kind)
    shape = next(iter(inputs.values())).shape
    extent = extent_of(neuron.params, shape)
    raw = parameters_of(neuron, params, extent, kind)
    table = broadcast_to_neurons(run(program.prepare, raw, kind), extent)
    start = start_of(neuron, state, shape[1:], kind, raw, extent)
    outputs, trajectory, final, counts = run_steps(program.forward, inputs, table, start, kind)
    grads: Arrays = {}
    if grad_out is not None or grad_state is not None:
        seeds = output_gradients(neuron, tuple(outputs), grad_out, shape, kind)
        last = state_gradients(neuron, grad_state, shape[1:], kind)
        sequences = inputs | trajectory
        grads, terms = _backward(program.backward, sequences, table, seeds, last, kind)
        grads |= {n: _summed(grads[n], np.shape(x)) for n, x in zip(inputs, x_seq, strict=True)}
        sums = _shared_sums(terms, prepared_granularity(program, neuron.params), extent)
        grads |= _parameter_gradients(program, neuron.params, raw, sums, shape, kind)
        _add_start_gradients(neuron, state or {}, grads, extent)
    named = zip((name for name, _ in neuron.output), outputs.values(), strict=True)
    return Result(dict(named), final, trajectory, grads, counts)


def _add_start_gradients(
    neuron: Neuron, given: Mapping[str, Any], grads: Arrays, extent: Extent
) -> None:
    """Add the gradients of initial states to those of the parameters that are their values."""
    params = {p.name: p for p in neuron.params}
    for symbol in neuron.states:
        word = cast("State", symbol.decl).param
        if word and symbol.name not in given:
            grad = grads[symbol.name].astype(np.float64).reshape(extent.shape)
            total = grad.sum(axis=_SHARED[params[word].per]).reshape(grads[word].shape)
            grads[word] = (grads[word] + total).astype(grads[word].dtype)


def run_steps(
    kernel: generic.Kernel[Any, Any], inputs: Arrays, table: Arrays, start: Arrays, kind: Any = None
) -> tuple[Arrays, Arrays, Arrays, dict[str, float]]:
    """Run a kernel, in real numbers of a type or in integers, over a sequence of inputs (T, N, *).

    `table` has the prepared parameters of each neuron of a step, `start` the initial states (N, *).
    Return outputs and previous states (T, N, *), final states (N, *), and counts.
    """
    shape = next(iter(inputs.values())).shape
    lanes = (int(np.prod(shape[1:], dtype=int)),)
    outputs = {}
    for var in kernel.result_vars(Role.OUTPUT):
        dtype = kind or (np.int64 if isinstance(var.type, Bits) else np.bool_)
        outputs[var.name] = np.zeros(shape, dtype)
    trajectory = {n: np.zeros(shape, v.dtype) for n, v in start.items()}
    counts = dict.fromkeys(kernel.result_names(Role.COUNT), 0.0)
    now: Arrays = {n: v.reshape(-1) for n, v in start.items()}
    for t in range(shape[0]):
        given = {**table, **now, **{n: x[t].reshape(-1) for n, x in inputs.items()}}
        results = run(kernel, given, kind)
        results = {n: np.broadcast_to(value, lanes) for n, value in results.items()}
        for name in now:
            trajectory[name][t] = now[name].reshape(shape[1:])
        for name in outputs:
            outputs[name][t] = results[name].reshape(shape[1:])
        for name in counts:
            counts[name] += float(results[name].sum(dtype=np.float64))
        now = {n: results[f"{n}_next"] for n in now}
    final = {n: np.array(v).reshape(shape[1:]) for n, v in now.items()}
    return outputs, trajectory, final, counts


def broadcast_to_neurons(values: Mapping[str, Array], extent: Extent) -> Arrays:
    """Return parameters (1, 1), (C, 1) or (C, I) with a value for each neuron of a step."""
    return {n: np.array(np.broadcast_to(v, extent.shape)).reshape(-1) for n, v in values.items()}


def _backward(
    kernel: Kernel, sequences: Arrays, table: Arrays, seeds: Arrays, last: Arrays, kind: Any
) -> tuple[Arrays, Arrays]:
    """Return the gradients of inputs and initial states, and the terms of the parameters' (N,)."""
    shape = next(iter(sequences.values())).shape
    grads = {n: np.zeros(shape, kind) for n in kernel.input_names(Role.INPUT)}
    lanes = np.zeros(int(np.prod(shape[1:], dtype=int)), kind)
    totals = dict.fromkeys(
        (n.removeprefix("grad_") for n in kernel.result_names(Role.PARAM)), lanes
    )
    carried = {n: g.reshape(-1) for n, g in last.items()}
    for t in reversed(range(shape[0])):
        values = {n: a[t].reshape(-1) for n, a in sequences.items()}
        values |= {f"grad_{n}": g[t].reshape(-1) for n, g in seeds.items()}
        values |= {f"grad_{n}_next": g for n, g in carried.items()}
        results = run(kernel, {**table, **values}, kind)
        for name in grads:
            value = np.broadcast_to(results[f"grad_{name}"], lanes.shape)
            grads[name][t] = value.reshape(shape[1:])
        totals = {n: total + results[f"grad_{n}"] for n, total in totals.items()}
        carried = {n: np.broadcast_to(results[f"grad_{n}"], lanes.shape) for n in carried}
    grads |= {n: np.array(g).reshape(shape[1:]) for n, g in carried.items()}
    return grads, totals


def _summed(grad: Array, own: tuple[int, ...]) -> Array:
    """Sum the gradient of an input of shape `own`, in float64, along the axes where it repeats."""
    padded = input_shape(own, grad.shape)
    assert padded is not None
    axes = tuple(k for k, n in enumerate(padded) if n != grad.shape[k])
    total = grad.sum(axis=axes, dtype=np.float64).astype(grad.dtype) if axes else grad
    return total.reshape(own)


def _shared_sums(terms: Arrays, per: Mapping[str, Granularity], extent: Extent) -> Arrays:
    """Sum terms (N,) in float64 to (1, 1), (C, 1) or (C, I)."""
    return {
        n: term.astype(np.float64).reshape(extent.shape).sum(axis=_SHARED[per[n]], keepdims=True)[0]
        for n, term in terms.items()
    }


def _parameter_gradients(
    program: Program,
    params: tuple[Param, ...],
    raw: Arrays,
    sums: Arrays,
    shape: tuple[int, ...],
    kind: np.dtype[Any],
) -> Arrays:
    """Run the adjoint of `prepare` on the finest grid (C, I) and sum over those that share a value.

    The adjoint is linear in the sums: a coarser sum enters at one element of its group.
    """
    adjoint = program.prepare_backward
    grid = np.broadcast_shapes((1, 1), *(a.shape for a in (*raw.values(), *sums.values())))
    values = dict(raw)
    for name, total in sums.items():
        values[f"sum_{name}"] = np.zeros(grid, kind)
        values[f"sum_{name}"][: total.shape[0], : total.shape[1]] = total
    results = run(adjoint, {p.var.name: values[p.var.name] for p in adjoint.inputs}, kind)
    grads = {}
    for decl in params:
        parts = []
        for name in decl.element_names:
            terms = np.asarray(results.get(f"grad_{name}", 0.0), np.float64)
            axes = tuple(k for k in range(2) if raw[name].shape[k] == 1)
            parts.append(np.broadcast_to(terms, grid).sum(axis=axes))
        axes = {"layer": (), "channel": shape[2:3], "neuron": shape[2:]}[decl.per]
        stacked = np.stack(parts, axis=-1).reshape(*axes, len(parts)).astype(kind)
        grads[decl.name] = stacked[..., 0] if decl.size is None else stacked
    return grads
