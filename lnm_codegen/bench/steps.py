"""Benchmark of training steps of whole networks: time, memory, and the share of the neurons.

    share    neurons alone / step, at most 1
    limit    1 / (1 - share), Amdahl's limit: the speed-up of the step if neurons took no time

The neurons alone are the forward and backward of all neuron layers of a network, on the inputs that
they have in a step. For a fused network, they include the normalisation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lnm_codegen.bench.measure import (
    Timing,
    Workload,
    device_name,
    first_line,
    kept_bytes,
    peak_bytes,
    round_robin,
)
from lnm_codegen.bench.network import CLASSES, DESIGNS, Contender, Design, contenders
from lnm_codegen.bench.subjects import Resetting
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.hooks import hooked
from lnm_codegen.validation import require_known


@dataclass(frozen=True, slots=True)
class StepCase:
    """A network and its sizes; None stands for those of its design.

    Attributes:
        name: A key of `DESIGNS`.
        neuron: Neuron of our networks.
        steps: Sequence lengths T.
        batch: Samples in a step.
        size: Side of an image, or features of a sequence.
        device: "cpu" or "cuda".
        peers: Time SpikingJelly, if it is installed.
        compile: Time it under `torch.compile` too.
        rounds: Rounds of the round-robin.
    """

    name: str
    neuron: Neuron
    steps: tuple[int, ...] | None = None
    batch: int | None = None
    size: int | None = None
    device: str = "cpu"
    peers: bool = True
    compile: bool = True
    rounds: int = 5


@dataclass(frozen=True, slots=True)
class StepRow:
    """A line of the table: a network at one T.

    Attributes:
        what: Name of the subject.
        ms: Least time of a step: forward, loss, backward, optimizer.
        median_ms: Median time of a step.
        faster: Ratio of the least time of the first row to this one.
        device: "cpu", or the name of the GPU.
        kept_bytes: Memory that a forward leaves for the backward.
        peak_bytes: Largest rise of PyTorch's allocations in a step.
        neurons_ms: Least time of the neurons alone.
        share, limit: See above; the limit is None if the share is 1.
    """

    network: str
    steps: int
    batch: int
    size: int
    device: str
    threads: int
    what: str
    ms: float
    median_ms: float
    faster: float
    kept_bytes: int
    peak_bytes: int
    neurons_ms: float
    share: float
    limit: float | None


@dataclass(frozen=True, slots=True)
class StepReport:
    """Rows, a sentence for each subject that is left out, and the load before and after.

    The load is the system's mean number of runnable processes over one minute.
    """

    rows: tuple[StepRow, ...]
    left_out: tuple[str, ...]
    load: tuple[float, float]


def measure_steps(case: StepCase) -> StepReport:
    """Compare training steps of a network, at each T.

    Raises:
        ModelError: An unknown network, or a size that it does not have.
        ToolError: The kernels cannot be compiled.
    """
    design = DESIGNS[require_known("bench", "network", case.name, DESIGNS)]
    rows: list[StepRow] = []
    left_out: list[str] = []
    before = os.getloadavg()[0]
    for steps in case.steps or design.steps:
        found, without = _measure(case, design, steps)
        rows += found
        left_out += [note for note in without if note not in left_out]
    return StepReport(tuple(rows), tuple(left_out), (before, os.getloadavg()[0]))


def _measure(case: StepCase, design: Design, steps: int) -> tuple[list[StepRow], list[str]]:
    batch, size = case.batch or design.batch, case.size or design.size
    lined_up = contenders(design, case.neuron, steps, size, case.device, case.peers, case.compile)
    left_out = list(lined_up.left_out)
    sample = (batch, 3, size, size) if design.kind == "image" else (steps, batch, size)
    data = torch.randn(sample, device=case.device)
    labels = torch.randint(CLASSES, (batch,), device=case.device)
    ready: dict[str, Contender] = {}
    for contender in lined_up.contenders:
        try:
            step_of(contender, data, labels)()
        except Exception as error:  # of any kind: the code is not ours
            if not contender.name.startswith("SpikingJelly"):
                raise
            left_out.append(f"{contender.name}: {first_line(error)}")
        else:
            ready[contender.name] = contender
    whole = {n: step_of(c, data, labels) for n, c in ready.items()}
    alone = {n: neurons_alone(c.net, data) for n, c in ready.items()}
    # In one round-robin, so that both meet the same load of the machine.
    both = {**{("step", n): whole[n] for n in ready}, **{("alone", n): alone[n] for n in ready}}
    found = round_robin({k: Workload(call) for k, call in both.items()}, case.rounds, case.device)
    timings = {n: found["step", n] for n in ready}
    neurons = {n: found["alone", n] for n in ready}
    first = next(iter(timings.values())).low
    rows = []
    for name, contender in ready.items():
        share = share_of(neurons[name], timings[name])
        halves = halves_of(contender, data, labels)
        prepare = partial(forget, contender.net)
        rows.append(
            StepRow(
                network=case.name, steps=steps, batch=batch, size=size,
                device=device_name(case.device),
                threads=torch.get_num_threads(), what=name, ms=1e3 * timings[name].low,
                median_ms=1e3 * timings[name].median, faster=first / timings[name].low,
                kept_bytes=kept_bytes(halves, case.device, prepare),
                peak_bytes=peak_bytes(halves, case.device, prepare),
                neurons_ms=1e3 * neurons[name].low, share=share,
                limit=1 / (1 - share) if share < 1 else None,
            )
        )  # fmt: skip
    return rows, left_out


def share_of(neurons: Timing, step: Timing) -> float:
    """Return the share of a step that its neurons take, 0 to 1, from the least times."""
    return min(neurons.low / step.low, 1.0)


def halves_of(contender: Contender, data: Tensor, labels: Tensor) -> Workload:
    """Return forward with loss, and backward."""

    def forward() -> Tensor:
        with contender.around():
            return cross_entropy(contender.net(data), labels)

    return Workload(forward, lambda loss: loss.backward())


def step_of(contender: Contender, data: Tensor, labels: Tensor) -> Callable[[], None]:
    """Return a training step."""
    optimizer = torch.optim.SGD(contender.net.parameters(), lr=1e-4)
    halves = halves_of(contender, data, labels)

    def step() -> None:
        optimizer.zero_grad()
        halves.backward(halves.forward())  # type: ignore[misc]
        optimizer.step()

    return step


def forget(net: nn.Module) -> None:
    """Drop gradients, and the states of SpikingJelly's nodes, which outlive a step."""
    net.zero_grad()
    for module in net.modules():
        if isinstance(module, Resetting):
            module.reset()


def neurons_alone(net: nn.Module, data: Tensor) -> Callable[[], None]:
    """Return forward and backward of the neuron layers alone, on their inputs in a step."""
    calls: list[tuple[nn.Module, tuple[Tensor, ...]]] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], _: Any) -> None:
        calls.append((module, tuple(x.detach() for x in inputs)))

    layers = [m for m in net.modules() if isinstance(m, NeuronLayer | Resetting)]
    with hooked((layer, keep) for layer in layers):  # with gradients: no second compilation
        net(data)
    grads = [torch.randn(inputs[0].shape, device=data.device) for _, inputs in calls]

    def run() -> None:
        for (layer, inputs), grad in zip(calls, grads, strict=True):
            given: Sequence[Tensor] = [x.detach().requires_grad_() for x in inputs]
            wanted = [*given, *layer.parameters()]
            torch.autograd.grad(layer(*given), wanted, grad, allow_unused=True)

    return run


HEADER = (
    "T", "what", "step ms", "median ms", "x first", "kept MB", "peak MB", "neurons ms", "share",
    "Amdahl's limit",
)  # fmt: skip
LEGEND = """\
step ms: least time of a training step in a round-robin; x first: how many times as fast as the
first row. kept MB: memory that a forward leaves for its backward, parameters apart. neurons ms:
all neuron layers alone, forward and backward (with their normalisation, where that is fused);
share: of the step. Amdahl's limit: speed-up of the step if its neurons took no time."""
"""Explanation of `HEADER`."""


def table(rows: Sequence[StepRow]) -> list[tuple[str, ...]]:
    """Return the cells under `HEADER`."""
    return [
        (
            str(row.steps),
            row.what,
            f"{row.ms:.2f}",
            f"{row.median_ms:.2f}",
            f"{row.faster:.2f}",
            f"{row.kept_bytes / 1e6:.2f}",
            f"{row.peak_bytes / 1e6:.2f}",
            f"{row.neurons_ms:.2f}",
            f"{row.share:.3f}",
            "" if row.limit is None else f"{row.limit:.2f}",
        )
        for row in rows
    ]
