"""`lnm.interpret`: what a neuron computes on a sequence, and its gradients, in NumPy.

The reference of every backend: it runs the Program's own kernels step by step, elementwise, and
sums parameter gradients in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lnm_codegen.compiler.arguments import (
    extent_of,
    final_gradients,
    inputs_of,
    kind_of,
    parameters_of,
    seeds_of,
    start_of,
)
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.ir.declarations import Param
from lnm_codegen.ir.granularity import Extent, prepared_granularity
from lnm_codegen.ir.interpret import Array, run
from lnm_codegen.ir.nodes import Program, Role
from lnm_codegen.language.family import require_neuron
from lnm_codegen.language.neuron import Neuron


@dataclass(frozen=True)
class Result:
    """What `interpret` returns.

    Attributes:
        outputs: Output name -> array (T, N, *).
        states: State name -> its value after the last step, (N, *).
        counts: Count name -> its sum over steps and neurons.
        trajectory: State name -> its value before each step, (T, N, *).
        grads: Name of an input (T, N, *), a parameter (its own shape) or a state (the gradient of
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
    dtype: str = "float64",
    scheme: str = "horner",
    **params: Any,
) -> Result:
    """Run a neuron over a sequence.

    Args:
        neuron: The definition.
        x_seq: One array (T, N, *) per input, in the order of declaration.
        state: Initial values by state name; the declared `init` otherwise.
        grad_out: Gradient of the loss with respect to the output (a tuple for several); with it
            the result has `grads`.
        grad_state: Gradient with respect to final states, by name.
        dtype: "float64" or "float32", in which every operation is rounded.
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
    prepared = run(program.prepare, raw, kind)
    lanes = _Lanes(program, neuron.params, extent)
    table = {name: lanes.spread(name, value) for name, value in prepared.items()}
    start = start_of(neuron, state, shape[1:], kind)
    outputs, trajectory, final, counts = _forward(program, inputs, table, start, shape, kind)
    grads: dict[str, Array] = {}
    if grad_out is not None or grad_state is not None:
        seeds = seeds_of(neuron, program, grad_out, shape, kind)
        last = final_gradients(neuron, grad_state, shape[1:], kind)
        grads, sums = _backward(program, lanes, inputs, table, trajectory, seeds, last, kind)
        grads |= _parameter_gradients(program, neuron.params, raw, sums, shape, kind)
    named = zip((name for name, _ in neuron.output), outputs.values(), strict=True)
    return Result(dict(named), final, trajectory, grads, counts)


class _Lanes:
    """Spreads prepared parameters over neurons, and sums terms over what shares a value."""

    def __init__(self, program: Program, params: tuple[Param, ...], extent: Extent) -> None:
        self._per = prepared_granularity(program, params)
        self._extent = extent

    def spread(self, name: str, value: Array) -> Array:
        e = self._extent
        return np.asarray(np.broadcast_to(value, (e.batch, e.channels, e.inner))).reshape(-1)

    def collect(self, name: str, terms: Array) -> Array:
        """Sum terms (N,) in float64 to (1, 1), (C, 1) or (C, I)."""
        e = self._extent
        lanes = terms.astype(np.float64).reshape(e.batch, e.channels, e.inner)
        axes = {"layer": (0, 1, 2), "channel": (0, 2), "neuron": (0,)}[self._per[name]]
        return np.asarray(lanes.sum(axis=axes, keepdims=True)[0])


def _forward(
    program: Program,
    inputs: dict[str, Array],
    table: dict[str, Array],
    start: dict[str, Array],
    shape: tuple[int, ...],
    kind: np.dtype[Any],
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array], dict[str, float]]:
    kernel = program.forward
    counts = {n: 0.0 for n in kernel.result_names(Role.COUNT)}
    outputs = {n: np.zeros(shape, kind) for n in kernel.result_names(Role.OUTPUT)}
    trajectory = {n: np.zeros(shape, kind) for n in start}
    now = {n: v.reshape(-1) for n, v in start.items()}
    lane = (int(np.prod(shape[1:], dtype=int)),)
    for t in range(shape[0]):
        for name, value in now.items():
            trajectory[name][t] = value.reshape(shape[1:])
        step = {n: a[t].reshape(-1) for n, a in inputs.items()}
        results = run(kernel, {**table, **now, **step}, kind)
        for name in outputs:
            outputs[name][t] = np.broadcast_to(results[name], lane).reshape(shape[1:])
        for name in counts:
            counts[name] += float(np.broadcast_to(results[name], lane).sum(dtype=np.float64))
        now = {n: np.broadcast_to(results[f"{n}_next"], v.shape) for n, v in now.items()}
    final = {n: np.array(v).reshape(shape[1:]) for n, v in now.items()}
    return outputs, trajectory, final, counts


def _backward(
    program: Program,
    lanes: _Lanes,
    inputs: dict[str, Array],
    table: dict[str, Array],
    trajectory: dict[str, Array],
    seeds: dict[str, Array],
    last: dict[str, Array],
    kind: np.dtype[Any],
) -> tuple[dict[str, Array], dict[str, Array]]:
    kernel = program.backward
    shape = next(iter(inputs.values())).shape
    grads = {n: np.zeros(shape, kind) for n in inputs}
    lane = np.zeros(int(np.prod(shape[1:], dtype=int)), kind)
    terms = [n.removeprefix("grad_") for n in kernel.result_names(Role.PARAM)]
    totals = {n: lane.copy() for n in terms}
    carried = {n: g.reshape(-1) for n, g in last.items()}
    for t in reversed(range(shape[0])):
        values = {n: a[t].reshape(-1) for n, a in (*inputs.items(), *trajectory.items())}
        values |= {f"grad_{n}": g[t].reshape(-1) for n, g in seeds.items()}
        values |= {f"grad_{n}_next": g for n, g in carried.items()}
        results = run(kernel, {**table, **values}, kind)
        for name in grads:
            grads[name][t] = np.broadcast_to(results[f"grad_{name}"], lane.shape).reshape(shape[1:])
        with np.errstate(all="ignore"):
            for name in terms:
                totals[name] = totals[name] + results[f"grad_{name}"]
        carried = {n: np.broadcast_to(results[f"grad_{n}"], lane.shape) for n in carried}
    grads |= {n: np.array(g).reshape(shape[1:]) for n, g in carried.items()}
    return grads, {n: lanes.collect(n, total) for n, total in totals.items()}


def _parameter_gradients(
    program: Program,
    params: tuple[Param, ...],
    raw: dict[str, Array],
    sums: dict[str, Array],
    shape: tuple[int, ...],
    kind: np.dtype[Any],
) -> dict[str, Array]:
    """Run the adjoint of `prepare` on the finest grid (C, I) and sum over what shares a value.

    The adjoint is linear in the sums, so that a coarser sum enters in one row of its group alone.
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
            terms = np.broadcast_to(terms, grid)
            axes = tuple(k for k in range(2) if raw[name].shape[k] == 1)
            parts.append(terms.sum(axis=axes))
        rows = {"layer": (), "channel": shape[2:3], "neuron": shape[2:]}[decl.per]
        stacked = np.stack(parts, axis=-1).reshape(*rows, len(parts)).astype(kind)
        grads[decl.name] = stacked[..., 0] if decl.size is None else stacked
    return grads
