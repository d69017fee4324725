"""Benchmark of training steps of whole networks: time, memory, and the share of the neurons.

    share    neurons alone / step, at most 1
    limit    1 / (1 - share), Amdahl's limit: the speed-up of the step if neurons took no time

The neurons alone are the forward and backward of all neuron layers of a network, on the inputs that
they have in a step. For a fused network, they include the normalisation.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import lnm_codegen.nn
from lnm_codegen.bench.measure import (
    Timing,
    Workload,
    device_name,
    first_line,
    kept_bytes,
    peak_bytes,
    round_robin,
)
from lnm_codegen.bench.subjects import Resetting, spikingjelly_lif
from lnm_codegen.errors import ModelError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.hooks import hooked
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.train.models import build, options_of
from lnm_codegen.train.models.base import Network
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
        precision: "float32", or "bfloat16" or "float16" by autocast, of every subject.
        memory_format: "contiguous" or "channels_last", of every subject.
        options: Further options of the network.
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
    precision: str = "float32"
    memory_format: str = "contiguous"
    options: Mapping[str, Any] = field(default_factory=dict)
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
    precision: str
    memory_format: str
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
    lined_up = contenders(case, design, steps, size)
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
    alone = {n: neurons_alone(c, data) for n, c in ready.items()}
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
                precision=case.precision, memory_format=case.memory_format,
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
            out = contender.net(data)
        return cross_entropy(out.float(), labels)

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


def neurons_alone(contender: Contender, data: Tensor) -> Callable[[], None]:
    """Return forward and backward of the neuron layers alone, on their inputs in a step."""
    calls: list[tuple[nn.Module, tuple[Tensor, ...], Tensor]] = []
    net = contender.net

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        calls.append((module, tuple(x.detach() for x in inputs), torch.randn_like(out)))

    layers = [m for m in net.modules() if isinstance(m, NeuronLayer | Resetting)]
    with hooked((layer, keep) for layer in layers), contender.around():
        net(data)  # with gradients: no second compilation

    def run() -> None:
        for layer, inputs, grad in calls:
            given: Sequence[Tensor] = [x.detach().requires_grad_() for x in inputs]
            wanted = [*given, *layer.parameters()]
            with contender.around():
                out = layer(*given)
            torch.autograd.grad(out, wanted, grad, allow_unused=True)

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


# Networks of the benchmark of training steps: ours, and the same with SpikingJelly's neurons.


CLASSES = 10
COMPILED_STEPS = 64
"""Greatest T at which a loop is compiled: `torch.compile` unrolls it, which then takes minutes."""


@dataclass(frozen=True, slots=True)
class Design:
    """A network of `train.models` and its default sizes.

    Attributes:
        model: Name in `train.models.MODELS`.
        steps: Sequence lengths T.
        batch: Samples in a step.
        size: Side of an image of three channels, or features of a sequence.
        kind: "image" or "sequence".
        options: Options of the model.
    """

    model: str
    steps: tuple[int, ...]
    batch: int
    size: int
    kind: str = "image"
    options: Mapping[str, Any] = field(default_factory=dict)

    def sample(self, steps: int, size: int) -> tuple[int, ...]:
        """Return the shape of one sample."""
        return (3, size, size) if self.kind == "image" else (steps, size)


DESIGNS = {
    "conv": Design("conv", (4,), 16, 28),
    "resnet18": Design("resnet18", (4,), 16, 32),
    "sew_resnet18": Design("resnet18", (4,), 16, 32, options={"shortcut": "sew"}),
    "vgg11": Design("vgg11", (4,), 16, 32),
    "feedforward": Design(
        "feedforward", (40, 784), 16, 64, kind="sequence", options={"readout": "linear"}
    ),
}
"""Networks by name."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A network to time.

    Attributes:
        name: Name in the table.
        net: The network, with weights that equal those of the others.
        around: Context of its forward.
    """

    name: str
    net: nn.Module
    around: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True, slots=True)
class Lineup:
    """Networks to compare, and a sentence for each one that is left out."""

    contenders: tuple[Contender, ...]
    left_out: tuple[str, ...]


def contenders(case: StepCase, design: Design, steps: int, size: int) -> Lineup:
    """Return SpikingJelly's networks, with LIF neurons, then ours with the neuron of the case.

    Ours are one with separate layers, one after `lnm.nn.fuse`, and one under `lnm.nn.pack_spikes`.

    Raises:
        ModelError: The network has no such sizes, or the neuron does not fit.
    """
    net, device = _built(case, design, steps, size), case.device
    found: list[Contender] = []
    left_out: list[str] = []
    peer = spikingjelly_lif() if case.peers else None
    if case.peers and peer is None:
        left_out.append("SpikingJelly: it is not installed.")
    if peer is not None:
        found.append(Contender("SpikingJelly LIFNode", with_node(net, Resetting(peer).to(device))))
        if case.compile and steps > COMPILED_STEPS:
            left_out.append(
                f"SpikingJelly, compiled, T = {steps}: torch.compile unrolls the loop over time,"
                f" which takes minutes from T = {COMPILED_STEPS + 1} on."
            )
        elif case.compile:
            node = Resetting(copy.deepcopy(peer), compiles=True).to(device)
            found.append(Contender("SpikingJelly LIFNode, torch.compile", with_node(net, node)))
    ours, others = _variants(net, case.neuron.name)
    as_asked = (replace(one, around=partial(_around, one.around, case)) for one in (*found, *ours))
    return Lineup(tuple(as_asked), (*left_out, *others))


@contextmanager
def _around(own: Callable[[], AbstractContextManager[object]], case: StepCase) -> Iterator[None]:
    """Enter the context of a contender, in the precision of the case."""
    is_cast = case.precision != "float32"
    kind = getattr(torch, case.precision) if is_cast else None
    with torch.autocast(torch.device(case.device).type, kind, enabled=is_cast), own():
        yield


def _built(case: StepCase, design: Design, steps: int, size: int) -> Network:
    """Return our network with separate layers."""
    options = {**design.options, **case.options}
    if "time_steps" in options:
        raise ModelError("bench", "time_steps is an option of the network", remedy="Give steps.")
    if design.kind == "image":
        options["time_steps"] = steps
    if "fused" in options_of(design.model):
        options["fused"] = False
    torch.manual_seed(0)
    net = build(
        design.model, case.neuron, design.sample(steps, size), CLASSES, kind=design.kind,
        backend="c" if case.device == "cpu" else "triton", **options,
    )  # fmt: skip
    if case.memory_format == "channels_last":
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net.to(case.device)


def with_node(net: Network, node: nn.Module) -> nn.Module:
    """Return a copy of a network whose neuron layers are all `node`, which learns nothing."""
    copied = copy.deepcopy(net)
    for module in list(copied.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, NeuronLayer):
                setattr(module, name, node)
    return copied


def _variants(net: Network, name: str) -> tuple[list[Contender], list[str]]:
    """Return our networks, and sentences for those that this version cannot make."""
    found, left_out, label = [Contender(f"{name} layer", net)], [], "layer"
    fuse: Callable[[nn.Module], object] | None = getattr(lnm_codegen.nn, "fuse", None)
    if fuse is None:
        left_out.append(f"{name} fused: this version has no lnm.nn.fuse.")
    else:
        fused = copy.deepcopy(net)
        fuse(fused)
        if [type(m) for m in fused.modules()] == [type(m) for m in net.modules()]:
            left_out.append(f"{name} fused: lnm.nn.fuse finds nothing to fuse in this network.")
        else:
            found.append(Contender(f"{name} fused", fused))
            net, label = fused, "fused"
    pack: Callable[[], AbstractContextManager[object]] | None
    pack = getattr(lnm_codegen.nn, "pack_spikes", None)
    if pack is None:
        left_out.append(f"{name} {label}, bits: this version has no lnm.nn.pack_spikes.")
    else:
        found.append(Contender(f"{name} {label}, bits", copy.deepcopy(net), pack))
    return found, left_out
