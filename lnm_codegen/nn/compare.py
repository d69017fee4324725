"""Comparison of every backend with the interpreter: outputs, states and gradients of a sequence.

Spikes are discontinuous: where z, or a comparison, is within rounding of a tie, two correct
backends may differ at all later steps. A neuron within `MARGIN` of a tie at any step, or one that
diverges, is therefore drawn again. After `ROUNDS` draws it is left out of the comparison.

Inputs are drawn in [-1, 2] times a scale at which the neuron spikes (`compiler/stimulus.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
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
from lnm_codegen.errors import ModelError, ToolError, UnsupportedError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import Array
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import Declared
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.parameters import values_of
from lnm_codegen.nn.select import BACKENDS, DEVICES, interpreting, missing
from lnm_codegen.options import BackendName
from lnm_codegen.validation import require_number

SHAPE = (37, 3, 5, 71)
"""(T, N, C, *): over two chunks of steps and a tile of neurons, all sizes odd."""

LOW, HIGH = -1.0, 2.0
"""Interval of inputs, times the scale."""

MARGIN, ROUNDS = 1e-3, 20
LIMITS = {"float32": 1e-4, "float64": 1e-11}
"""Limits of rounding, relative to the largest value where that exceeds 1: ten times the largest
difference of the built-in families. A wrong term causes 1e-3 or more."""


@dataclass(frozen=True)
class BackendRun:
    """Differences of one backend and type from the interpreter."""

    backend: str
    dtype: str
    differences: dict[str, float]  # "spike", "final v", "grad theta" -> largest difference

    @property
    def limit(self) -> float:
        """Largest difference that rounding explains."""
        return LIMITS[self.dtype]

    @property
    def agrees(self) -> bool:
        """True if every difference is within the limit and none is NaN."""
        return all(d <= self.limit for d in self.differences.values())


@dataclass(frozen=True)
class BackendComparison:
    """Result of `compare_backends`."""

    runs: tuple[BackendRun, ...]  # one for each backend that ran and each type
    unavailable: dict[str, str]  # backend -> why it does not run here
    failed: dict[str, str]  # backend -> error where no tool is missing
    left_out: int  # neurons that came near a tie, or diverged, in every draw
    neurons: int  # in a time step
    spikes: dict[str, float]  # spike -> fraction of neurons and time steps
    scale: float  # of the inputs, which are in [LOW, HIGH] times it

    @property
    def constant_spikes(self) -> tuple[str, ...]:
        """The spikes that always or never occur: one branch of each is not compared."""
        return tuple(name for name, rate in self.spikes.items() if rate in (0, 1))

    @property
    def agrees(self) -> bool:
        """True if at least one backend ran, every run agrees, and none failed."""
        return bool(self.runs) and not self.failed and all(r.agrees for r in self.runs)


@dataclass
class _Case:
    """A sequence in float32 numbers, exact in both types, with gradients of the loss."""

    neuron: Neuron
    scale: float
    inputs: list[Array]
    state: dict[str, Array]
    params: dict[str, Array]
    grad_out: list[Array]
    grad_state: dict[str, Array]

    def interpret(self, dtype: str) -> Result:
        given: dict[str, Any] = {**self.params, "state": self.state, "dtype": dtype}
        given |= {"grad_out": tuple(self.grad_out), "grad_state": self.grad_state}
        return interpret(self.neuron, *self.inputs, **given)


def compare_backends(neuron: Neuron, scale: float | None = None) -> BackendComparison:
    """Run a neuron with every backend and both types, and compare with `interpret`.

    Args:
        neuron: The definition.
        scale: Inputs are drawn in [-1, 2] times this number, > 0; by default 1, or the power of 2
            at which the neuron spikes if it does not at 1.

    Raises:
        ModelError: In every draw, all neurons diverge or sit on a tie; or an invalid scale.
    """
    require_number("check", "scale", scale, above=0, high=1e9, optional=True)
    case, left_out = _draw(neuron, np.random.default_rng(0), scale)
    if left_out.all():
        raise ModelError(
            "check",
            f"{neuron.name} diverges, or is within rounding of a tie, for every input drawn"
            f" in {interval_of(case.scale)}",
            remedy="Use other parameters, or another --scale.",
        )
    runs: list[BackendRun] = []
    unavailable: dict[str, str] = {}
    failed: dict[str, str] = {}
    expected = {dtype: _expected(case, dtype) for dtype in LIMITS}
    for backend in (b for b in BACKENDS if b != "auto"):
        if obstacle := _obstacle(backend):
            unavailable[backend] = obstacle
            continue
        try:
            for dtype, table in expected.items():
                found = _run_layer(case, backend, dtype)
                apart = {n: _difference(found[n], e, left_out) for n, e in table.items()}
                runs.append(BackendRun(backend, dtype, apart))
        except UnsupportedError as error:
            unavailable[backend] = str(error)
        except ToolError as error:  # no tool is missing: our source does not build or run
            failed[backend] = str(error)
    fired = _fired(case, ~left_out)
    counts = (int(left_out.sum()), left_out.size)
    return BackendComparison(tuple(runs), unavailable, failed, *counts, fired, case.scale)


def _obstacle(backend: str) -> str:
    """Return why a backend cannot run on this machine; empty if it can."""
    if DEVICES.get(backend) == "cuda" and not torch.cuda.is_available() and not interpreting():
        return "needs a GPU, and PyTorch finds none."
    error = missing(backend)
    return f"{error.problem}. {error.remedy}" if error else ""


def cuda_device() -> str | None:
    """Return the name of the CUDA device that PyTorch uses, or None."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def interval_of(scale: float) -> str:
    """Return the interval of the inputs, "[-1, 2]" for scale 1."""
    return f"[{LOW * scale:g}, {HIGH * scale:g}]"


def _draw(
    neuron: Neuron, rng: np.random.Generator, scale: float | None = None
) -> tuple[_Case, Array]:
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
    case = _Case(
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


def _unfit(case: _Case) -> Array:
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
    return unfit


def _fired(case: _Case, kept: Array) -> dict[str, float]:
    """Return the fraction of each spike."""
    values, _ = _probe(case)
    return {n: float(values[let][:, kept].mean()) for let, n in spike_names(case.neuron).items()}


def _probe(case: _Case) -> tuple[dict[str, Array], dict[str, Array]]:
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


def _expected(case: _Case, dtype: str) -> dict[str, Array]:
    neuron, result = case.neuron, case.interpret(dtype)
    fixed = {p.name for p in neuron.params if not p.learnable}
    finals = {f"final {n}": v for n, v in result.states.items()}
    grads = {f"grad {n}": v for n, v in result.grads.items() if n not in fixed}
    # By position: the program renames an output that has the name of a state.
    outputs = zip((n for n, _ in neuron.output), result.outputs.values(), strict=True)
    return {**dict(outputs), **finals, **grads}


def _run_layer(case: _Case, backend: BackendName, dtype: str) -> dict[str, Array]:
    neuron, kind = case.neuron, getattr(torch, dtype)
    device = DEVICES.get(backend, "cpu") if torch.cuda.is_available() else "cpu"

    def tensor(value: Array, learned: bool = False) -> torch.Tensor:
        return torch.tensor(value, dtype=kind, device=device, requires_grad=learned)

    layer = NeuronLayer(neuron, shape=SHAPE[2:], backend=backend, dtype=kind).to(device)
    with torch.no_grad():
        for name, value in case.params.items():
            getattr(layer, name).copy_(tensor(value))
    inputs = [tensor(x, True) for x in case.inputs]
    state = {n: tensor(v, True) for n, v in case.state.items()}
    out, final = layer(*inputs, state=state, return_state=True)
    outputs = out if isinstance(out, tuple) else (out,)
    ends = [*outputs, *(final[n] for n in case.grad_state)]
    seeds = (*case.grad_out, *case.grad_state.values())
    moved = [(e, tensor(g)) for e, g in zip(ends, seeds, strict=True) if e.requires_grad]
    torch.autograd.backward([e for e, _ in moved], [g for _, g in moved])
    found = {n: o for (n, _), o in zip(neuron.output, outputs, strict=True)}
    found |= {f"final {n}": v for n, v in final.items()}
    leaves = {s.name: x for s, x in zip(neuron.inputs, inputs, strict=True)} | state
    leaves |= dict(layer.named_parameters())
    for name, leaf in leaves.items():
        found[f"grad {name}"] = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
    return {n: v.detach().cpu().numpy() for n, v in found.items()}


def _difference(got: Array, expected: Array, left_out: Array) -> float:
    """Return the largest difference, relative to the largest value where that exceeds 1."""
    if got.shape != expected.shape:
        return float("inf")
    if got.shape[-left_out.ndim :] == left_out.shape:
        got, expected = got[..., ~left_out], expected[..., ~left_out]
    with np.errstate(invalid="ignore"):
        apart = np.abs(np.subtract(got, expected, dtype=np.float64)).max(initial=0)
        return float(apart / max(1.0, np.abs(expected).max(initial=0)))
