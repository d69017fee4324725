"""What is compared: the layer on every backend that runs here, hand-written loops, other libraries.

Each subject is a function x_seq -> spikes and the parameters that it learns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lnm_codegen.bench.loops import lif_loop, lnm_loop
from lnm_codegen.bench.measure import Call
from lnm_codegen.errors import LnmError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.choice import FUSED

THETA = (0.05, 0.6, -0.10, 0.15)


@dataclass(frozen=True, slots=True)
class Subject:
    """An implementation of a neuron layer.

    Attributes:
        name: As the table shows it.
        run: x_seq -> spikes.
        parameters: Learned, whose gradients a backward computes.
        backend: Of our own layers.
    """

    name: str
    run: Callable[[Tensor], Tensor]
    parameters: Sequence[Tensor] = ()
    backend: str = ""

    def call(self, x: Tensor, grad: Tensor) -> Call:
        """Return forward and backward with a fixed gradient; gradients are dropped before."""

        def forward() -> Tensor:
            for tensor in (x, *self.parameters):
                tensor.grad = None
            return self.run(x)

        def backward(out: Tensor) -> None:
            out.backward(grad)  # type: ignore[no-untyped-call]

        return Call(forward, backward)


def layers(neuron: Neuron, shape: tuple[int, ...], device: str) -> Iterator[Subject]:
    """Yield the layer on every fused backend that runs on the device."""
    for backend in FUSED:
        layer = NeuronLayer(neuron, channels=shape[2], shape=shape[2:], backend=backend).to(device)
        try:
            layer(torch.zeros(1, 1, *shape[2:], device=device))
        except LnmError:
            continue
        yield Subject(f"{neuron.name} {backend}", layer, list(layer.parameters()), backend)


def eager(neuron: Neuron, shape: tuple[int, ...], device: str) -> Subject:
    """Return the generated PyTorch module, run eagerly."""
    layer = NeuronLayer(neuron, channels=shape[2], shape=shape[2:], backend="torch").to(device)
    return Subject(f"{neuron.name} eager PyTorch", layer, list(layer.parameters()))


def hand_loop(neuron: Neuron, device: str) -> Subject | None:
    """Return what a user would write for the same neuron, where it is written here."""
    if neuron.name == "lnm":
        start = next(p.init for p in neuron.params if p.name == "theta")
        theta = torch.tensor(start, device=device, requires_grad=True)
        return Subject("lnm hand loop", lambda x: lnm_loop(x, theta.to(x.dtype)), [theta])
    if neuron.name == "lif":
        return Subject("lif hand loop", lif_loop)
    return None


def compiled(subject: Subject) -> Subject:
    """Return a subject under `torch.compile`, one graph for each shape as users have it."""
    run = torch.compile(subject.run, dynamic=False)
    return Subject(f"{subject.name}, torch.compile", run, subject.parameters)


def peers(device: str, compiles: bool = False) -> Iterator[Subject]:
    """Yield LIF (tau = 2, hard reset, atan) and a learnable cubic of the libraries installed.

    With `compiles`, also their LIF under `torch.compile`.
    """
    yield from _spikingjelly(device, compiles)
    yield from _snntorch(compiles)


def _spikingjelly(device: str, compiles: bool) -> Iterator[Subject]:
    try:
        from spikingjelly.activation_based import functional, neuron, surrogate
    except ImportError:
        return

    def stepwise(node: Any, compiles: bool = False) -> Callable[[Tensor], Tensor]:
        call = torch.compile(node, dynamic=False) if compiles else node

        def run(x: Tensor) -> Tensor:
            functional.reset_net(node)
            out: Tensor = call(x)
            return out

        return run

    def lif() -> Any:
        fire = surrogate.ATan(alpha=2.0)
        return neuron.LIFNode(tau=2.0, surrogate_function=fire, step_mode="m").to(device)

    yield Subject("SpikingJelly LIFNode", stepwise(lif()))
    if compiles:
        yield Subject("SpikingJelly LIFNode, torch.compile", stepwise(lif(), compiles))
    if device == "cpu":
        return  # FlexSN is a Python loop there
    fire = surrogate.ATan(alpha=2.0)
    thetas = [torch.nn.Parameter(torch.tensor(t, device=device)) for t in THETA]

    def core(x: Tensor, v: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Any:
        h = ((d * v + c) * v + b) * v + a + x
        spike = fire(h - 1.0)
        return spike, h * (1 - spike)

    node = neuron.FlexSN(core, num_states=1, static_inputs=tuple(thetas)).to(device)
    yield Subject("SpikingJelly FlexSN cubic", stepwise(node), thetas)


def _snntorch(compiles: bool) -> Iterator[Subject]:
    try:
        import snntorch
        from snntorch import surrogate
    except ImportError:
        return
    leaky = snntorch.Leaky(
        beta=0.5, spike_grad=surrogate.atan(alpha=2.0), reset_mechanism="zero", init_hidden=False
    )

    def run(x: Tensor) -> Tensor:
        mem, spikes = torch.zeros_like(x[0]), []
        for step in x.unbind(0):
            spike, mem = leaky(step, mem)
            spikes.append(spike)
        return torch.stack(spikes)

    loop = Subject("snnTorch Leaky loop", run)
    yield loop
    if compiles:
        yield compiled(loop)
