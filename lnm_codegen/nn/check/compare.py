"""Comparison of every backend with the interpreter: outputs, states and gradients of a sequence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lnm_codegen.errors import ModelError, ToolError, UnsupportedError
from lnm_codegen.ir.interpret import Array
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.check.draw import (
    LIMITS,
    SHAPE,
    DrawnCase,
    contributions,
    draw_case,
    expected,
    interval_of,
    spike_rates,
)
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.load.bits import compiling_folder
from lnm_codegen.nn.select import BACKENDS, device_type, interpreting, missing
from lnm_codegen.options import BackendName
from lnm_codegen.validation import require_number


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
    left_out: int  # neurons near a tie, divergent or ill-conditioned in every draw
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


def compare_backends(neuron: Neuron, scale: float | None = None) -> BackendComparison:
    """Run a neuron with every backend and both types, and compare with `interpret`.

    Args:
        neuron: The definition.
        scale: Inputs are drawn in [-1, 2] times this number, > 0; by default 1, or the power of 2
            at which the neuron spikes if it does not at 1.

    Raises:
        ModelError: In every draw, all neurons diverge, sit on a tie or amplify rounding; or more
            than half of them do at a scale other than 1; or an invalid scale.
    """
    require_number("check", "scale", scale, above=0, high=1e9, optional=True)
    case, left_out = draw_case(neuron, np.random.default_rng(0), scale)
    searched = scale is None and case.scale != 1
    if left_out.all() or (searched and left_out.mean() > 0.5):
        raise ModelError(
            "check",
            f"{neuron.name} diverges, is within rounding of a tie, or amplifies rounding, for"
            f" most inputs drawn in {interval_of(case.scale)}",
            remedy="Use other parameters, or another --scale.",
        )
    runs: list[BackendRun] = []
    unavailable: dict[str, str] = {}
    failed: dict[str, str] = {}
    tables, sizes = {dtype: expected(case, dtype) for dtype in LIMITS}, contributions(case)
    for backend in (b for b in BACKENDS if b != "auto"):
        if obstacle := _obstacle(backend):
            unavailable[backend] = obstacle
            continue
        try:
            for dtype, table in tables.items():
                found = _run_layer(case, backend, dtype)
                apart = {
                    n: _difference(found[n], e, left_out, sizes.get(n)) for n, e in table.items()
                }
                runs.append(BackendRun(backend, dtype, apart))
        except UnsupportedError as error:
            unavailable[backend] = str(error)
        except ToolError as error:  # no tool is missing: our source does not build or run
            failed[backend] = str(error)
    fired = spike_rates(case, ~left_out)
    counts = (int(left_out.sum()), left_out.size)
    return BackendComparison(tuple(runs), unavailable, failed, *counts, fired, case.scale)


def _obstacle(backend: str) -> str:
    """Return why a backend cannot run on this machine; empty if it can."""
    if device_type(backend) == "cuda" and not torch.cuda.is_available() and not interpreting():
        return "needs a GPU, and PyTorch finds none."
    error = missing(backend)
    if backend == "c" and error is None:
        try:
            compiling_folder()
        except ToolError as found:
            error = found
    return f"{error.problem}. {error.remedy}" if error else ""


def cuda_device() -> str | None:
    """Return the name of the CUDA device that PyTorch uses, or None."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _run_layer(case: DrawnCase, backend: BackendName, dtype: str) -> dict[str, Array]:
    neuron, kind = case.neuron, getattr(torch, dtype)
    device = device_type(backend) if torch.cuda.is_available() else "cpu"

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


def _difference(got: Array, expected: Array, left_out: Array, size: float | None = None) -> float:
    """Return the largest difference, relative to `size` where that exceeds 1.

    By default `size` is the largest value.
    """
    if got.shape != expected.shape:
        return float("inf")
    if got.shape[-left_out.ndim :] == left_out.shape:
        got, expected = got[..., ~left_out], expected[..., ~left_out]
    with np.errstate(invalid="ignore"):
        apart = np.abs(np.subtract(got, expected, dtype=np.float64)).max(initial=0)
        largest = np.abs(expected).max(initial=0) if size is None else size
        return float(apart / max(1.0, largest))
