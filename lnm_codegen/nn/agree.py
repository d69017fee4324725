"""Every backend against the interpreter: outputs, final states and gradients of one sequence.

Spikes are discontinuous: where z, or a comparison, comes within rounding of a tie, two correct
backends may part, and go different ways from there on. So a neuron that comes within `MARGIN` of
a tie at any step, or that leaves +-`BOUND`, is drawn again; everything else must agree. One that
still does after `ROUNDS` draws is left out, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from lnm_codegen.compiler.interpret import Result, interpret
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ModelError, ToolError, UnsupportedError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import Array, run
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.choice import BACKENDS, interpreting, missing
from lnm_codegen.nn.layer import NeuronLayer

SHAPE = (37, 3, 5, 71)
"""(T, N, C, *): more than two chunks of steps, more than a tile of neurons, nothing even."""

MARGIN, BOUND, ROUNDS = 1e-3, 100.0, 20
LIMITS = {"float32": 1e-4, "float64": 1e-11}
"""Largest difference that is rounding, relative to the largest value where that exceeds 1: ten
times what the built-in families show. A wrong term shows 1e-3 and more."""

_DEVICES = {"triton": "cuda", "cuda": "cuda"}


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
        failed: Backend -> what went wrong where nothing is lacking.
        left_out: How many of `neurons` came near a tie, or ran away, however they were drawn.
        neurons: Neurons in a time step.
        spikes: Share of spikes over all neurons and steps, by name.
    """

    runs: tuple[Run, ...]
    unavailable: dict[str, str]
    failed: dict[str, str]
    left_out: int
    neurons: int
    spikes: dict[str, float]

    @property
    def agrees(self) -> bool:
        """Whether every run agrees, none failed, and there was one."""
        return bool(self.runs) and not self.failed and all(r.agrees for r in self.runs)


@dataclass
class _Case:
    """A sequence in float32 numbers, which both types hold exactly; gradients of the loss."""

    inputs: list[Array]
    state: dict[str, Array]
    params: dict[str, Array]
    grad_out: list[Array]
    grad_state: dict[str, Array]

    def interpret(self, neuron: Neuron, dtype: str) -> Result:
        given: dict[str, Any] = {**self.params, "state": self.state, "dtype": dtype}
        given |= {"grad_out": tuple(self.grad_out), "grad_state": self.grad_state}
        return interpret(neuron, *self.inputs, **given)


def compare(neuron: Neuron, seed: int = 0) -> Agreement:
    """Run a neuron with every backend and both types, and compare with `interpret`.

    Raises:
        ModelError: Every neuron that was drawn runs away or sits on a tie.
    """
    case, left_out = _draw(neuron, np.random.default_rng(seed))
    if left_out.all():
        raise ModelError(
            "check",
            f"{neuron.name} runs away, or meets a tie, whatever input is drawn",
            remedy="Give other parameters.",
        )
    runs: list[Run] = []
    unavailable: dict[str, str] = {}
    expected = {dtype: _expected(neuron, case, dtype) for dtype in LIMITS}
    failed: dict[str, str] = {}
    for backend in (b for b in BACKENDS if b != "auto"):
        lack = _lack(backend)
        if lack is not None:
            unavailable[backend] = lack
            continue
        try:
            for dtype in LIMITS:
                got = _run_layer(neuron, case, backend, dtype)
                apart = {n: _difference(got[n], e, left_out) for n, e in expected[dtype].items()}
                runs.append(Run(backend, dtype, apart))
        except UnsupportedError as error:
            unavailable[backend] = str(error)
        except ToolError as error:  # nothing is lacking, and yet our source did not build or run
            failed[backend] = str(error)
    fired = _fired(neuron, case, ~left_out)
    sizes = (int(left_out.sum()), left_out.size)
    return Agreement(tuple(runs), unavailable, failed, *sizes, fired)


def _lack(backend: str) -> str | None:
    """Return why a backend does not run on this machine, or None."""
    if backend in _DEVICES and not torch.cuda.is_available() and not interpreting():
        return "needs a GPU, and PyTorch finds none."
    return missing(backend)


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
    """Say which neurons (N, C, *) come near a tie or run away."""
    values, margins = _probe(neuron, case)
    unfit = np.zeros(SHAPE[1:], bool)
    for value in values.values():
        unfit |= (~(np.abs(value) <= BOUND)).any(axis=0)
    for margin in margins.values():
        # A difference of exactly 0, such as v >= 0 after a reset to 0, has met no rounding.
        unfit |= ((margin != 0) & (np.abs(margin) < MARGIN)).any(axis=0)
    return unfit


def _fired(neuron: Neuron, case: _Case, kept: Array) -> dict[str, float]:
    """Return the share of spikes, by the name of the spike."""
    values, _ = _probe(neuron, case)
    lets = lower(neuron).forward.body
    names = [let.target.name for let in lets if isinstance(let.value, ir.Spike)]
    spikes = {n.removeprefix("fired").removeprefix("_") or "spike": values[n] for n in names}
    return {n: float(v[:, kept].mean()) for n, v in spikes.items()}


def _probe(neuron: Neuron, case: _Case) -> tuple[dict[str, Array], dict[str, Array]]:
    """Evaluate every step at once, in float64, from the states that the interpreter went through.

    Returns:
        Every value of the forward kernel, and how far each comparison is from a tie; (T, N, C, *).
    """
    program = lower(neuron)
    kernel = program.forward
    margins: list[ir.Let] = []
    for let in kernel.body:
        nodes = list(ir.walk(let.value))
        if isinstance(let.value, ir.Spike):
            nodes += ir.walk(let.value.slope)  # a slope may jump too, as a rectangle does
        for node in nodes:
            if isinstance(node, ir.Compare | ir.Spike):
                apart = node.arg if isinstance(node, ir.Spike) else ir.sub(node.lhs, node.rhs)
                margins.append(ir.Let(ir.Var(f"margin.{len(margins)}"), apart, let.phase))
    body = (*kernel.body, *margins)
    probe = replace(
        kernel, body=body, results=tuple(ir.Port(let.target, ir.Role.OUTPUT) for let in body)
    )
    raw: dict[str, Array] = {}
    for p in neuron.params:
        rows = {"layer": (1, 1), "channel": (SHAPE[2], 1), "neuron": SHAPE[2:]}[p.per]
        elements = case.params[p.name].reshape(*rows, len(p.element_names))
        raw |= {name: elements[..., k] for k, name in enumerate(p.element_names)}
    read = {p.var.name: raw[p.var.name] for p in program.prepare.inputs}
    inputs = {s.name: x for s, x in zip(neuron.inputs, case.inputs, strict=True)}
    states = case.interpret(neuron, "float64").trajectory
    found = run(probe, {**run(program.prepare, read), **inputs, **states})
    found = {n: np.broadcast_to(v, SHAPE) for n, v in found.items()}
    near = {n: v for n, v in found.items() if n.startswith("margin.")}
    return {n: v for n, v in found.items() if n not in near}, near


def _expected(neuron: Neuron, case: _Case, dtype: str) -> dict[str, Array]:
    result = case.interpret(neuron, dtype)
    learned = {p.name for p in neuron.params if p.learnable}
    fixed = {p.name for p in neuron.params} - learned
    finals = {f"final {n}": v for n, v in result.states.items()}
    grads = {f"grad {n}": v for n, v in result.grads.items() if n not in fixed}
    # By position: the program calls an output otherwise where a state has its name.
    outputs = zip((n for n, _ in neuron.output), result.outputs.values(), strict=True)
    return {**dict(outputs), **finals, **grads}


def _run_layer(neuron: Neuron, case: _Case, backend: str, dtype: str) -> dict[str, Array]:
    kind = getattr(torch, dtype)
    device = _DEVICES.get(backend, "cpu") if torch.cuda.is_available() else "cpu"

    def tensor(value: Array, learned: bool = False) -> torch.Tensor:
        return torch.tensor(value, dtype=kind, device=device, requires_grad=learned)

    layer = NeuronLayer(neuron, channels=SHAPE[2], shape=SHAPE[2:], backend=backend, dtype=kind).to(
        device
    )
    with torch.no_grad():
        for name, value in case.params.items():
            getattr(layer, name).copy_(tensor(value))
    inputs = [tensor(x, True) for x in case.inputs]
    state = {n: tensor(v, True) for n, v in case.state.items()}
    out, final = layer(*inputs, state=state, return_state=True)
    outputs = out if isinstance(out, tuple) else (out,)
    seeds = [tensor(g) for g in (*case.grad_out, *case.grad_state.values())]
    ends = [*outputs, *(final[n] for n in case.grad_state)]
    moved = [(e, g) for e, g in zip(ends, seeds, strict=True) if e.requires_grad]
    torch.autograd.backward([e for e, _ in moved], [g for _, g in moved])
    found = {n: o for (n, _), o in zip(neuron.output, outputs, strict=True)}
    found |= {f"final {n}": v for n, v in final.items()}
    leaves = {s.name: x for s, x in zip(neuron.inputs, inputs, strict=True)} | state
    leaves |= {p.name: getattr(layer, p.name) for p in neuron.params if p.learnable}
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
