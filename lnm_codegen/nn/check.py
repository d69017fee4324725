"""Comparison of every backend with the interpreter: outputs, states and gradients of a sequence."""

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
from lnm_codegen.errors import ModelError, ToolError, UnsupportedError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import Array
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.bits import compiling_folder
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.load.c import CompileError
from lnm_codegen.nn.parameters import values_of
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
        except CompileError:
            return ""  # no obstacle: our source does not build, a failure of the backend
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


# Random cases for the comparison of backends: parameters, states and inputs of a sequence.
#
# Spikes are discontinuous: where z, or a comparison, is within rounding of a tie, two correct
# backends may differ at all later steps. A neuron within `MARGIN` of a tie at any step, one that
# diverges, or one that amplifies rounding is therefore drawn again. After `ROUNDS` draws it is left
# out of the comparison.
#
# Inputs are drawn in [-1, 2] times a scale at which the neuron spikes (`compiler/stimulus.py`).


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
