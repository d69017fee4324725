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
    init_of,
    spike_names,
    spiking_scale,
    step_values,
    unit_of,
)
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import Array
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import Declared
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
        for state, value in zip(neuron.states, case.state.values(), strict=True):
            value[out] = _centre(state) + uniform(-0.5, 0.5, (int(out.sum()),))
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
    start = {s.name: _centre(s) + rng.uniform(-0.5, 0.5, shape[1:]) for s in neuron.states}
    return spiking_scale(neuron, *inputs, values=params, state=start, least_kept=0.5).scale


def _centre(state: Declared) -> float:
    """Return the middle of the initial values drawn: the declared one where it is large, or 0."""
    init = init_of(state)
    return init if abs(init) > 0.5 else 0.0


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
    ordinary = case.scale == 1 and unit_of(case.neuron) == 1
    return unfit if ordinary else unfit | _ill_conditioned(case, unfit)


def _ill_conditioned(case: DrawnCase, unfit: Array) -> Array:
    """Return the neurons (N, C, *) where rounding to float32 alone takes a tenth of the limit.

    Large inputs and potentials may amplify rounding, as a spike of an ion-channel model does.
    Inputs and states one unit in the last place away give a second sample of rounding errors.
    """
    ill = np.zeros(SHAPE[1:], bool)
    inputs = [np.nextafter(x, np.float32(np.inf)) for x in case.inputs]
    state = {n: np.nextafter(v, np.float32(np.inf)) for n, v in case.state.items()}
    singles = [expected(c, "float32") for c in (case, replace(case, inputs=inputs, state=state))]
    for name, value in ({} if unfit.all() else expected(case, "float64")).items():
        if value.shape[-ill.ndim :] == ill.shape:
            bound = LIMITS["float32"] / 10 * max(1.0, np.abs(value[..., ~unfit]).max())
            for single in singles:
                with np.errstate(invalid="ignore"):
                    apart = np.abs(single[name] - value)
                ill |= ~(apart <= bound).reshape(-1, *ill.shape).all(axis=0)
    return ill


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
