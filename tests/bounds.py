"""Running error analysis over the IR, in float64: bounds of the rounding error of a result.

`bounded` runs a neuron as `lnm.interpret` does. With every value it computes a first-order bound of
its rounding error, in units of the machine epsilon of the backend's type. The tolerance of a test
follows from the kernel and the numbers, and is small if nothing cancels. Within a step each
operation adds its own rounding. From step to step the exact derivatives propagate errors, so that a
contracting neuron has a small bound over a long sequence. A comparison whose sides differ by less
than their rounding makes its lane *doubtful*: there a backend may select the other branch, or fire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

import lnm_codegen as lnm
from lnm_codegen.compiler.arguments import extent_of
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import COMPARE, rounded
from lnm_codegen.ir.nodes import BinaryOp, Fn, Kernel, Role, UnaryOp

ULP = 4
"""Error allowed to exp, log, tanh, sigmoid, sin and cos of a backend, in ulp."""


class Num(NamedTuple):
    """A value, the bound of its error in this step, and derivatives with respect to its inputs."""

    value: Any
    error: Any
    slopes: Mapping[str, Any] = {}


EXACT = np.float64(0)
_CALL = {
    Fn.EXP: (np.exp, lambda x, y: y),
    Fn.LOG: (np.log, lambda x, y: 1 / x),
    Fn.SQRT: (np.sqrt, lambda x, y: 0.5 / y),
    Fn.TANH: (np.tanh, lambda x, y: 1 - y * y),
    Fn.SIGMOID: (lambda x: 1 / (1 + np.exp(-x)), lambda x, y: y * (1 - y)),
    Fn.SIN: (np.sin, lambda x, y: np.cos(x)),
    Fn.COS: (np.cos, lambda x, y: np.sin(x)),
}


@dataclass
class Bounds:
    """Evaluator of kernels; `doubtful` has the lanes in which a comparison is undecided."""

    epsilon: float
    doubtful: Any = False
    incoming: dict[str, Any] = field(default_factory=dict)

    def run(
        self, kernel: Kernel, exact: Mapping[str, Num], carried: Mapping[str, Num] | None = None
    ) -> dict[str, Num]:
        """Return the results with total errors; `carried` have the errors of earlier steps."""
        carried = carried or {}
        self.incoming = {n: v.error for n, v in carried.items()}
        entering = {n: Num(v.value, EXACT, {n: np.ones_like(v.value)}) for n, v in carried.items()}
        # A prepared parameter keeps its error, as if it were made in every step.
        env = {p.var.name: {**exact, **entering}[p.var.name] for p in kernel.inputs}
        with np.errstate(all="ignore"):
            for let in kernel.body:
                env[let.target.name] = self.evaluate(let.value, env)
            return {p.var.name: self._whole(env[p.var.name]) for p in kernel.results}

    def _whole(self, a: Num) -> Num:
        came = (np.abs(slope) * self.incoming[n] for n, slope in a.slopes.items())
        return Num(a.value, sum(came, start=a.error))

    def _open(self, difference: Num) -> None:
        value, error, _ = self._whole(difference)
        self.doubtful = self.doubtful | (np.abs(value) <= 4 * self.epsilon * error)

    def evaluate(self, e: ir.Expr, env: Mapping[str, Num]) -> Num:
        match e:
            case ir.Const(value, _):
                value = rounded(value, np.float64)
                return Num(value, EXACT if float(np.float32(value)) == value else np.abs(value))
            case ir.Var(name, _):
                return env[name]
            case ir.Detach(arg):
                return self.evaluate(arg, env)
            case ir.Unary(UnaryOp.NOT, arg):
                return Num(np.logical_not(self.evaluate(arg, env).value), EXACT)
            case ir.Unary(_, arg):
                a = self.evaluate(arg, env)
                return Num(-a.value, a.error, _scaled(a, -1))
            case ir.Binary(op, lhs, rhs):
                return _binary(op, self.evaluate(lhs, env), self.evaluate(rhs, env))
            case ir.Fma(a, b, c):
                product = _binary(BinaryOp.MUL, self.evaluate(a, env), self.evaluate(b, env))
                return _binary(BinaryOp.ADD, product, self.evaluate(c, env))
            case ir.Compare(op, lhs, rhs):
                a, b = self.evaluate(lhs, env), self.evaluate(rhs, env)
                slopes = _sum(a.slopes, _scaled(b, -1))
                self._open(Num(a.value - b.value, a.error + b.error, slopes))
                return Num(COMPARE[op](a.value, b.value), EXACT)
            case ir.Spike(arg, _):
                z = self.evaluate(arg, env)
                self._open(z)
                return Num(z.value >= 0, EXACT)
            case ir.Select(cond, then, orelse):
                c = self.evaluate(cond, env).value
                a, b = self.evaluate(then, env), self.evaluate(orelse, env)
                slopes = {
                    n: np.where(c, a.slopes.get(n, 0.0), b.slopes.get(n, 0.0))
                    for n in {**a.slopes, **b.slopes}
                }
                return Num(np.where(c, a.value, b.value), np.where(c, a.error, b.error), slopes)
            case ir.Call(fn, arg):
                x = self.evaluate(arg, env)
                function, derivative = _CALL[fn]
                y = function(x.value)
                slope = derivative(x.value, y) * (-1 if fn is Fn.COS else 1)
                return Num(y, np.abs(slope) * x.error + ULP * np.abs(y), _scaled(x, slope))
        raise AssertionError(e)


def _scaled(a: Num, factor: Any) -> dict[str, Any]:
    return {n: slope * factor for n, slope in a.slopes.items()}


def _sum(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    return {n: a.get(n, 0.0) + b.get(n, 0.0) for n in {**a, **b}}


def _binary(op: BinaryOp, a: Num, b: Num) -> Num:
    match op:
        case BinaryOp.AND:
            return Num(np.logical_and(a.value, b.value), EXACT)
        case BinaryOp.OR:
            return Num(np.logical_or(a.value, b.value), EXACT)
        case BinaryOp.ADD:
            value, error = a.value + b.value, a.error + b.error
            slopes = _sum(a.slopes, b.slopes)
        case BinaryOp.SUB:
            value, error = a.value - b.value, a.error + b.error
            slopes = _sum(a.slopes, _scaled(b, -1))
        case BinaryOp.MUL:
            value = a.value * b.value
            error = np.abs(a.value) * b.error + np.abs(b.value) * a.error
            slopes = _sum(_scaled(a, b.value), _scaled(b, a.value))
        case BinaryOp.DIV:
            value = a.value / b.value
            error = (a.error + np.abs(value) * b.error) / np.abs(b.value)
            slopes = _sum(_scaled(a, 1 / b.value), _scaled(b, -value / b.value))
    return Num(value, error + np.abs(value), slopes)


@dataclass
class Reference:
    """Results by name, each a `Num`; `doubtful` (N, *) has the undecided lanes."""

    outputs: dict[str, Num]
    states: dict[str, Num]
    doubtful: Any
    grads: dict[str, Num] = field(default_factory=dict)


def bounded(
    neuron: lnm.Neuron,
    x_seq: tuple[Any, ...],
    state: Mapping[str, Any],
    params: Mapping[str, Any],
    grad_out: tuple[Any, ...],
    grad_state: Mapping[str, Any],
    epsilon: float,
) -> Reference:
    """Run forward and backward. Every array is exact in the type whose epsilon is given."""
    program = lnm.lower(neuron)
    shape = x_seq[0].shape
    e = extent_of(neuron.params, shape)
    steps, lanes = shape[0], (e.batch, e.channels, e.inner)
    bounds = Bounds(epsilon)
    raw = {}
    for p in neuron.params:
        rows = {"layer": (1, 1, 1), "channel": (1, e.channels, 1), "neuron": (1, *lanes[1:])}
        array = np.asarray(params[p.name], np.float64).reshape(*rows[p.per], p.size or 1)
        raw |= {n: Num(array[..., k], EXACT) for k, n in enumerate(p.element_names)}
    table = bounds.run(program.prepare, raw)
    inputs = {s.name: _lanes(x, (steps, *lanes)) for s, x in zip(neuron.inputs, x_seq, strict=True)}
    now = {s.name: _spread(Num(_lanes(state[s.name], lanes), EXACT), lanes) for s in neuron.states}

    forward, names = program.forward, program.forward.result_names(Role.OUTPUT)
    outputs: dict[str, list[Num]] = {n: [] for n in names}
    trajectory = []
    for t in range(steps):
        trajectory.append(now)
        step = {n: Num(x[t], EXACT) for n, x in inputs.items()}
        results = bounds.run(forward, {**table, **step}, now)
        for n in names:
            outputs[n].append(_spread(results[n], lanes))
        now = {n: _spread(results[f"{n}_next"], lanes) for n in now}

    def whole(steps_of: list[Num]) -> Num:
        if not steps_of:
            return Num(np.zeros(shape), np.zeros(shape))
        parts = zip(*(n[:2] for n in steps_of), strict=True)
        return Num(*(np.stack(part).reshape(shape) for part in parts))

    result = Reference(
        {n: whole(o) for n, o in outputs.items()},
        {n: Num(*(np.reshape(a, shape[1:]) for a in v[:2])) for n, v in now.items()},
        bounds.doubtful,
    )

    seeds = {n: _lanes(g, (steps, *lanes)) for n, g in zip(names, grad_out, strict=True)}
    carried = {n: _spread(Num(_lanes(grad_state[n], lanes), EXACT), lanes) for n in now}
    terms = [n.removeprefix("grad_") for n in program.backward.result_names(Role.PARAM)]
    grads: dict[str, list[Num]] = {n: [] for n in inputs}
    zero = np.zeros(lanes)
    totals = {n: [zero, zero, zero] for n in terms}  # sum, error, sum of magnitudes
    for t in reversed(range(steps)):
        values = {n: Num(x[t], EXACT) for n, x in inputs.items()} | table
        values |= {f"grad_{n}": Num(g[t], EXACT) for n, g in seeds.items()}
        later = {f"grad_{n}_next": g for n, g in carried.items()}
        results = bounds.run(program.backward, values, trajectory[t] | later)
        for n in inputs:
            grads[n].append(_spread(results[f"grad_{n}"], lanes))
        carried = {n: _spread(results[f"grad_{n}"], lanes) for n in carried}
        for n in terms:
            term = results[f"grad_{n}"]
            totals[n] = [
                totals[n][0] + term.value,
                totals[n][1] + term.error,
                totals[n][2] + np.abs(term.value),
            ]
    result.grads = {n: whole(g[::-1]) for n, g in grads.items()}
    result.grads |= {n: Num(*(np.reshape(a, shape[1:]) for a in v[:2])) for n, v in carried.items()}
    # In the type itself: over time, then 64 lanes of a tile and log2(16) more; float64 above.
    additions = steps + 72
    sums = {}
    for n, (total, error, size) in totals.items():
        axes = tuple(k for k in range(3) if k == 0 or np.ndim(table[n].value) == 0
                     or np.shape(table[n].value)[k] == 1)  # fmt: skip
        sums[n] = Num(
            total.sum(axis=axes, keepdims=True),
            (error + additions * size).sum(axis=axes, keepdims=True),
        )
    result.grads |= _parameters(neuron, program, bounds, raw, sums, shape)
    result.doubtful = np.broadcast_to(bounds.doubtful, lanes).reshape(shape[1:])
    return result


def _parameters(
    neuron: lnm.Neuron,
    program: ir.Program,
    bounds: Bounds,
    raw: dict[str, Num],
    sums: dict[str, Num],
    shape: tuple[int, ...],
) -> dict[str, Num]:
    shapes = [a.value.shape for a in (*raw.values(), *sums.values())]
    grid = np.broadcast_shapes((1, 1, 1), *shapes)
    values = dict(raw)
    for name, total in sums.items():
        parts = []
        for part in total[:2]:
            spread = np.zeros(grid)
            spread[tuple(slice(0, n) for n in part.shape)] = part
            parts.append(spread)
        values[f"sum_{name}"] = Num(*parts)
    results = bounds.run(program.prepare_backward, values)
    grads = {}
    for p in neuron.params:
        elements = []
        for name in p.element_names:
            got = results.get(f"grad_{name}", Num(0.0, 0.0))
            axes = tuple(k for k in range(3) if raw[name].value.shape[k] == 1)
            elements.append([np.broadcast_to(a, grid).sum(axis=axes) for a in got[:2]])
        rows = {"layer": (), "channel": shape[2:3], "neuron": shape[2:]}[p.per]
        stacked = [
            np.stack(part, axis=-1).reshape(*rows, len(elements))
            for part in zip(*elements, strict=True)
        ]
        grads[p.name] = Num(*(a[..., 0] if p.size is None else a for a in stacked))
    return grads


def _lanes(array: Any, shape: tuple[int, ...]) -> Any:
    return np.asarray(array, np.float64).reshape(shape)


def _spread(number: Num, lanes: tuple[int, ...]) -> Num:
    return Num(*(np.broadcast_to(np.asarray(a, np.float64), lanes) for a in number[:2]))
