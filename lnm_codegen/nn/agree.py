"""Every backend against the interpreter: outputs, final states and gradients of one sequence.

Spikes are discontinuous: where z, or a comparison, comes within rounding of a tie, two correct
backends may part, and go different ways from there on. So a neuron that comes within `MARGIN` of
a tie at any step, or that leaves +-`BOUND`, is drawn again; everything else must agree. One that
still does after `ROUNDS` draws is left out, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from lnm_codegen.compiler import lower
from lnm_codegen.errors import ModelError, ToolError, UnsupportedError
from lnm_codegen.interpreter import Result, interpret
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import Array, run
from lnm_codegen.neuron import Neuron
from lnm_codegen.nn.layer import BACKENDS, NeuronLayer

SHAPE = (37, 3, 5, 71)
"""(T, N, C, *): more steps than two chunks and more neurons than a tile, none a whole number."""

MARGIN, BOUND, ROUNDS = 1e-3, 100.0, 20
LIMITS = {"float32": 2e-5, "float64": 1e-12}
"""Largest difference that is rounding, relative to the largest value where that exceeds 1."""

_DEVICE = {"triton": "cuda", "cuda": "cuda"}


@dataclass(frozen=True)
class Run:
    """One backend and type: quantity ("spike", "final v", "grad theta") -> difference."""

    backend: str
    dtype: str
    differences: dict[str, float]

    @property
    def limit(self) -> float:
        """The largest difference that is rounding."""
        return LIMITS[self.dtype]

    @property
    def agrees(self) -> bool:
        """Whether every difference is within the limit; a NaN is not."""
        return all(d <= self.limit for d in self.differences.values())


@dataclass(frozen=True)
class Agreement:
    """What `compare` found.

    Attributes:
        runs: One for each backend that ran and each type.
        unavailable: Backend -> why it does not run here.
        left_out: How many of `neurons` came near a tie, or ran away, however they were drawn.
        neurons: Neurons in a time step.
        spikes: Share of spikes over all neurons and steps, by name.
    """

    runs: tuple[Run, ...]
    unavailable: dict[str, str]
    left_out: int
    neurons: int
    spikes: dict[str, float]

    @property
    def agrees(self) -> bool:
        """Whether every run agrees."""
        return all(r.agrees for r in self.runs)


@dataclass
class _Case:
    """A sequence in float32 numbers, which both types hold exactly; gradients of the loss."""

    inputs: list[Array]
    state: dict[str, Array]
    params: dict[str, Array]
    grad_out: list[Array]
    grad_state: dict[str, Array]

    def interpret(self, neuron: Neuron, dtype: str) -> Result:
        return interpret(
            neuron,
            *self.inputs,
            state=self.state,
            grad_out=tuple(self.grad_out),
            grad_state=self.grad_state,
            dtype=dtype,
            **self.params,
        )


def compare(neuron: Neuron, seed: int = 0) -> Agreement:
    """Run a neuron with every backend and both types, and compare with `interpret`.

    Raises:
        ModelError: Every neuron that was drawn runs away or sits on a tie.
    """
    rng = np.random.default_rng(seed)
    case, left_out = _draw(neuron, rng)
    if left_out.all():
        raise ModelError(
            f"check: {neuron.name} runs away, or meets a tie, for every input that was drawn. Give"
            " other parameters."
        )
    kept = ~left_out
    runs: list[Run] = []
    unavailable: dict[str, str] = {}
    for dtype in LIMITS:
        expected = _table(case.interpret(neuron, dtype), neuron)
        for backend in BACKENDS:
            if backend == "auto" or backend in unavailable:
                continue
            try:
                got = _run_layer(neuron, case, backend, dtype)
            except (ToolError, UnsupportedError) as error:
                unavailable[backend] = str(error)
                continue
            found = {n: _difference(got[n], expected[n], kept) for n in got}
            runs.append(Run(backend, dtype, found))
    order = [b for b in BACKENDS if b != "auto"]
    runs.sort(key=lambda r: order.index(r.backend))
    z = _fire_values(neuron, case)
    shares = {n: float((v >= 0)[:, kept].mean()) for n, v in z.items()}
    return Agreement(tuple(runs), unavailable, int(left_out.sum()), left_out.size, shares)


def cuda_device() -> str | None:
    """Return the name of the CUDA device, if there is one that PyTorch can use."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _draw(neuron: Neuron, rng: np.random.Generator) -> tuple[_Case, Array]:
    """Return a case, and which neurons (N, C, *) are left out of the comparison."""

    def uniform(low: float, high: float, shape: tuple[int, ...]) -> Array:
        return rng.uniform(low, high, shape).astype(np.float32)

    lanes = SHAPE[1:]
    layer = NeuronLayer(neuron, channels=SHAPE[2], shape=SHAPE[2:])
    params = {}
    for p in neuron.params:
        value = getattr(layer, p.name).detach().numpy()
        nudge = uniform(-0.05, 0.05, value.shape)
        params[p.name] = (value + nudge * np.where(value == 0, 1, value)).astype(np.float32)
    case = _Case(
        inputs=[np.zeros(SHAPE, np.float32) for _ in neuron.inputs],
        state={s.name: np.zeros(lanes, np.float32) for s in neuron.states},
        params=params,
        grad_out=[uniform(-1, 1, SHAPE) for _ in neuron.output],
        grad_state={s.name: uniform(-1, 1, lanes) for s in neuron.states},
    )
    out = np.ones(lanes, bool)
    for _ in range(ROUNDS):
        for x in case.inputs:
            x[:, out] = uniform(-1.0, 2.0, (SHAPE[0], int(out.sum())))
        for value in case.state.values():
            value[out] = uniform(-0.5, 0.5, (int(out.sum()),))
        out = _unfit(neuron, case)
        if not out.any():
            break
    for array in (*case.inputs, *case.grad_out):
        array[:, out] = 0
    for array in (*case.state.values(), *case.grad_state.values()):
        array[out] = 0
    return case, out


def _unfit(neuron: Neuron, case: _Case) -> Array:
    """Say which neurons meet a tie or run away."""
    states = {s.name for s in neuron.states}
    unfit = np.zeros(SHAPE[1:], bool)
    for name, value in _probe(neuron, case).items():
        with np.errstate(invalid="ignore"):
            wild = ~(np.abs(value) <= BOUND)
        unfit |= (wild if name in states else wild & False).any(axis=0)
        if name not in states:
            unfit |= (np.abs(value) < MARGIN).any(axis=0)
    return unfit


def _fire_values(neuron: Neuron, case: _Case) -> dict[str, Array]:
    return {n: v for n, v in _probe(neuron, case).items() if n in neuron.spikes}


def _probe(neuron: Neuron, case: _Case) -> dict[str, Array]:
    """Return, in float64 and for every step, each charged state, each z and the two sides'

    difference of each comparison.
    """
    raise NotImplementedError


def _table(result: Result, neuron: Neuron) -> dict[str, Array]:
    return {}


def _run_layer(neuron: Neuron, case: _Case, backend: str, dtype: str) -> dict[str, Array]:
    return {}


def _difference(got: Array, expected: Array, kept: Array) -> float:
    return 0.0


_ = (Mapping, Any, replace, lower, ir, run)
