"""Random cases for the comparison of backends: parameters, states and inputs of a sequence.

Spikes are discontinuous: where z, or a comparison, is within rounding of a tie, two correct
backends may differ at all later steps. A neuron within `MARGIN` of a tie at any step, one that
diverges, or one that amplifies rounding is therefore drawn again. After `ROUNDS` draws it is left
out of the comparison.

Inputs are drawn in [-1, 2] times a scale at which the neuron spikes (`compiler/stimulus.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from lnm_codegen.compiler.interpret import Result, interpret
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.compiler.stimulus import (
    BOUND,
    bound_of,
    spike_names,
    spiking_scale,
    starts_of,
    step_values,
    unit_of,
)
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import Array
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.parameters import values_of

SHAPE = (37, 3, 5, 71)
"""(T, N, C, *): over two chunks of steps and a tile of neurons, all sizes odd."""

LOW, HIGH = -1.0, 2.0
"""Interval of inputs, times the scale."""

MARGIN, ROUNDS = 1e-3, 20
LIMITS = {"float32": 1e-4, "float64": 1e-11}
"""Limits of rounding, relative to the largest value where that exceeds 1: ten times the largest
difference of the built-in families. A wrong term causes 1e-3 or more."""


@dataclass
class DrawnCase:
    """A sequence in float32 numbers, exact in both types, with gradients of the loss."""

    neuron: Neuron
    scale: float
    inputs: list[Array]
    state: dict[str, Array]
    params: dict[str, Array]
    grad_out: list[Array]
    grad_state: dict[str, Array]

    def interpret(self, dtype: str) -> Result:
        """Run the interpreter in float32 or float64, with gradients."""
        given: dict[str, Any] = {**self.params, "state": self.state, "dtype": dtype}
        given |= {"grad_out": tuple(self.grad_out), "grad_state": self.grad_state}
        return interpret(self.neuron, *self.inputs, **given)


def interval_of(scale: float) -> str:
    """Return the interval of the inputs, "[-1, 2]" for scale 1."""
    return f"[{LOW * scale:g}, {HIGH * scale:g}]"


def draw_case(
    neuron: Neuron, rng: np.random.Generator, scale: float | None = None
) -> tuple[DrawnCase, Array]:
    """Return a case, and the neurons (N, C, *) that the comparison leaves out."""

    def uniform(low: float, high: float, shape: tuple[int, ...]) -> Array:
        return rng.uniform(low, high, shape).astype(np.float32)

    lanes = SHAPE[1:]
    with torch.random.fork_rng(devices=[]):  # some families draw their parameters
        torch.manual_seed(0)
        layer = NeuronLayer(neuron, shape=SHAPE[2:])
    params = {}
    for name, start in values_of(layer).items():
        value = start.detach().numpy()
        nudge = uniform(-0.05, 0.05, value.shape)
        params[name] = (value + nudge * np.where(value == 0, 1, value)).astype(np.float32)
    case = DrawnCase(
        neuron=neuron,
        scale=_scale(neuron, params) if scale is None else scale,
        inputs=[np.zeros(SHAPE, np.float32) for _ in neuron.inputs],
        state={s.name: np.zeros(lanes, np.float32) for s in neuron.states},
        params=params,
        grad_out=[uniform(-1, 1, SHAPE) for _ in neuron.output],
        grad_state={s.name: uniform(-1, 1, lanes) for s in neuron.states},
    )
    out = np.ones(lanes, bool)
    for _ in range(ROUNDS):
        for x in case.inputs:
            x[:, out] = case.scale * uniform(LOW, HIGH, (SHAPE[0], int(out.sum())))
        for name, (centre, width) in starts_of(neuron).items():
            case.state[name][out] = centre + width * uniform(-1, 1, (int(out.sum()),))
        out = _unfit(case)
        if not out.any():
            break
    for array in (*case.inputs, *case.grad_out):
        array[:, out] = 0
    for array in (*case.state.values(), *case.grad_state.values()):
        array[out] = 0
    return case, out


def _scale(neuron: Neuron, params: dict[str, Array]) -> float:
    """Return the scale of the inputs, by trial on one sample of each neuron."""
    rng, shape = np.random.default_rng(1), (SHAPE[0], 1, *SHAPE[2:])
    inputs = [rng.uniform(LOW, HIGH, shape) for _ in neuron.inputs]
    start = {n: c + w * rng.uniform(-1, 1, shape[1:]) for n, (c, w) in starts_of(neuron).items()}
    return spiking_scale(neuron, *inputs, values=params, state=start, least_kept=0.5).scale


def _unfit(case: DrawnCase) -> Array:
    """Return the neurons (N, C, *) that come near a tie or diverge."""
    values, margins = _probe(case)
    unfit = np.zeros(SHAPE[1:], bool)
    bound, ends = bound_of(case.neuron, case.scale), {f"{s.name}_next" for s in case.neuron.states}
    for name, value in values.items():  # a product of two states has the square of their unit
        largest = bound if name in ends else bound**2 / BOUND
        unfit |= (~(np.abs(value) <= largest)).any(axis=0)
    for margin in margins.values():
        # A difference of exactly 0, such as v >= 0 after a reset to 0, has no rounding error.
        near = np.abs(margin) < MARGIN * unit_of(case.neuron)
        unfit |= ((margin != 0) & near).any(axis=0)
    return unfit if _is_ordinary(case) else unfit | _ill_conditioned(case, unfit)


def _is_ordinary(case: DrawnCase) -> bool:
    """Report whether inputs and states are of the order of 1, which amplifies no rounding."""
    return case.scale == 1 and unit_of(case.neuron) == 1


def _ill_conditioned(case: DrawnCase, unfit: Array) -> Array:
    """Return the neurons (N, C, *) where rounding to float32 alone takes a tenth of the limit.

    Large inputs and potentials may amplify rounding, as a spike of an ion-channel model does.
    Inputs and states one unit in the last place away give a second sample of rounding errors. The
    gradient of a parameter counts where a neuron contributes to it.
    """
    ill = np.zeros(SHAPE[1:], bool)
    case = _per_neuron(case)
    inputs = [np.nextafter(x, np.float32(np.inf)) for x in case.inputs]
    state = {n: np.nextafter(v, np.float32(np.inf)) for n, v in case.state.items()}
    singles = [expected(c, "float32") for c in (case, replace(case, inputs=inputs, state=state))]
    for name, value in ({} if unfit.all() else expected(case, "float64")).items():
        lanes = value.shape[-ill.ndim :] == ill.shape
        largest = np.abs(value[..., ~unfit] if lanes else value[~unfit.all(axis=0)]).max()
        for single in singles:
            with np.errstate(invalid="ignore"):
                apart = np.abs(single[name] - value)
            exceeds = ~(apart <= LIMITS["float32"] / 10 * max(1.0, largest))
            if lanes:
                ill |= exceeds.reshape(-1, *ill.shape).any(axis=0)
            else:  # (C, *), or (C, *, size) for a vector
                ill |= exceeds.reshape(*ill.shape[1:], -1).any(axis=-1)
    return ill


def contributions(case: DrawnCase) -> dict[str, float]:
    """Return the sum of |contribution| of neurons to the gradient of each learnable parameter.

    The gradient of a parameter is a sum, of which rounding has the size of the terms, and the terms
    of a large neuron may cancel. Empty for a case whose inputs and states are of the order of 1.
    """
    found: dict[str, float] = {}
    table = {} if _is_ordinary(case) else expected(_per_neuron(case), "float64")
    for p in case.neuron.params:
        if p.learnable and table:
            kept = {"layer": 0, "channel": 1, "neuron": len(SHAPE) - 2}[p.per]
            terms = np.abs(table[f"grad {p.name}"])
            summed = terms.sum(axis=tuple(range(kept, len(SHAPE) - 2)))
            found[f"grad {p.name}"] = float(summed.max())
    return found


def _per_neuron(case: DrawnCase) -> DrawnCase:
    """Return the same case with every learnable parameter per neuron, (C, *) or (C, *, size)."""
    params = dict(case.params)
    for p in case.neuron.params:
        if p.learnable:
            value, axes = params[p.name], SHAPE[2:]
            tail = () if p.size is None else (p.size,)
            lead = value.shape[: value.ndim - len(tail)]
            value = value.reshape(*lead, *(1,) * (len(axes) - len(lead)), *tail)
            params[p.name] = np.broadcast_to(value, (*axes, *tail))
    return replace(case, neuron=case.neuron.with_per("neuron"), params=params)


def spike_rates(case: DrawnCase, kept: Array) -> dict[str, float]:
    """Return the fraction of each spike."""
    values, _ = _probe(case)
    return {n: float(values[let][:, kept].mean()) for let, n in spike_names(case.neuron).items()}


def _probe(case: DrawnCase) -> tuple[dict[str, Array], dict[str, Array]]:
    """Evaluate all steps at once, in float64, from the trajectory of the interpreter.

    Returns:
        The values of the forward kernel, and the distance of each comparison from a tie, each
        (T, N, C, *).
    """
    margins: list[ir.Let] = []
    for let in lower(case.neuron).forward.body:
        nodes = list(ir.walk(let.value))
        if isinstance(let.value, ir.Spike):
            nodes += ir.walk(let.value.slope)  # a rectangle has jumps too
        for node in nodes:
            if isinstance(node, ir.Compare | ir.Spike):
                apart = node.arg if isinstance(node, ir.Spike) else ir.sub(node.lhs, node.rhs)
                margins.append(ir.Let(ir.Var(f"margin.{len(margins)}"), apart, let.phase))
    found = step_values(case.neuron, case.inputs, case.params, case.state, margins)
    near = {n: v for n, v in found.items() if n.startswith("margin.")}
    return {n: v for n, v in found.items() if n not in near}, near


def expected(case: DrawnCase, dtype: str) -> dict[str, Array]:
    """Return outputs, final states and gradients of the interpreter, by name."""
    neuron, result = case.neuron, case.interpret(dtype)
    fixed = {p.name for p in neuron.params if not p.learnable}
    finals = {f"final {n}": v for n, v in result.states.items()}
    grads = {f"grad {n}": v for n, v in result.grads.items() if n not in fixed}
    # By position: the program renames an output that has the name of a state.
    outputs = zip((n for n, _ in neuron.output), result.outputs.values(), strict=True)
    return {**dict(outputs), **finals, **grads}
