"""Subjects of a benchmark: the layer on every backend, hand-written loops, other libraries.

A subject is a function x_seq -> spikes with its learned parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lnm_codegen.bench.measure import Workload
from lnm_codegen.errors import LnmError
from lnm_codegen.families import FAMILIES
from lnm_codegen.language.neuron import Neuron, equations
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.select import FUSED

THETA = (0.05, 0.6, -0.10, 0.15)


@dataclass(frozen=True, slots=True)
class Subject:
    """An implementation of a neuron layer.

    Attributes:
        name: Name in the table.
        run: x_seq -> spikes.
        parameters: Learned parameters, whose gradients a backward computes.
        backend: Backend of our own layers; else empty.
    """

    name: str
    run: Callable[[Tensor], Tensor]
    parameters: Sequence[Tensor] = ()
    backend: str = ""

    def workload(self, x: Tensor, grad: Tensor) -> Workload:
        """Return forward and backward with a fixed gradient; each run first drops gradients."""

        def forward() -> Tensor:
            for tensor in (x, *self.parameters):
                tensor.grad = None
            return self.run(x)

        def backward(out: Tensor) -> None:
            out.backward(grad)  # type: ignore[no-untyped-call]

        return Workload(forward, backward)


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
    """Return the layer on eager PyTorch."""
    layer = NeuronLayer(neuron, channels=shape[2], shape=shape[2:], backend="torch").to(device)
    return Subject(f"{neuron.name} eager PyTorch", layer, list(layer.parameters()))


def hand_loop(neuron: Neuron, device: str) -> Subject | None:
    """Return a hand-written loop, or None if this module defines no loop for the neuron.

    There are loops for `lnm` of any degree and its theta, and for `lif`, with default arguments.
    """
    start = next((p.init for p in neuron.params if p.name == "theta"), None)
    if isinstance(start, tuple) and _equal(neuron, FAMILIES["lnm"](degree=len(start) - 1)):
        theta = torch.tensor(start, device=device, requires_grad=True)
        return Subject("lnm hand loop", lambda x: lnm_loop(x, theta.to(x.dtype)), [theta])
    if _equal(neuron, FAMILIES["lif"]()):
        return Subject("lif hand loop", lif_loop)
    return None


def _equal(neuron: Neuron, other: Neuron) -> bool:
    """Report whether two neurons differ at most in theta and in granularity."""

    def compared(one: Neuron) -> tuple[object, ...]:
        numbers = [(p.name, p.learnable, p.name == "theta" or p.init) for p in one.params]
        return one.name, equations(one), numbers, one.surrogates, one.detach_reset

    return compared(neuron) == compared(other)


def compiled(subject: Subject) -> Subject:
    """Return a subject under `torch.compile`, with one graph for each shape."""
    run = torch.compile(subject.run, dynamic=False)
    return Subject(f"{subject.name}, torch.compile", run, subject.parameters)


def peers(device: str, compiles: bool = False) -> Iterator[Subject]:
    """Yield LIF (tau = 2, hard reset, atan) and a learnable cubic of the installed libraries.

    With `compiles`, also yield each LIF under `torch.compile`.
    """
    yield from _spikingjelly(device, compiles)
    yield from _snntorch(compiles)


class Resetting(nn.Module):
    """SpikingJelly node whose state is reset before each call, as in our layers."""

    def __init__(self, node: nn.Module, compiles: bool = False) -> None:
        super().__init__()
        self.node = node
        self._call = torch.compile(node, dynamic=False) if compiles else node
        if compiles:  # one graph for each shape; beyond the limit, calls would run eagerly
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)

    def forward(self, x_seq: Tensor) -> Any:
        """Run the node from its initial state."""
        self.reset()
        return self._call(x_seq)

    def reset(self) -> None:
        """Return the node to its initial state."""
        from spikingjelly.activation_based import functional

        functional.reset_net(self.node)


def spikingjelly_lif() -> nn.Module | None:
    """Return SpikingJelly's LIF node (tau = 2, atan), or None without SpikingJelly."""
    try:
        from spikingjelly.activation_based import neuron, surrogate
    except ImportError:
        return None
    fire = surrogate.ATan(alpha=2.0)
    node: nn.Module = neuron.LIFNode(tau=2.0, surrogate_function=fire, step_mode="m")
    return node


def _spikingjelly(device: str, compiles: bool) -> Iterator[Subject]:
    for compiled_too in (False, True) if compiles else (False,):
        node = spikingjelly_lif()
        if node is None:
            return
        name = "SpikingJelly LIFNode, torch.compile" if compiled_too else "SpikingJelly LIFNode"
        yield Subject(name, Resetting(node.to(device), compiled_too))
    if device == "cpu":
        return  # FlexSN is a Python loop there
    yield flexible_cubic(device)


def flexible_cubic(device: str) -> Subject:
    """Return SpikingJelly's FlexSN with a learnable cubic, hard reset to 0."""
    from spikingjelly.activation_based import neuron

    thetas = tuple(nn.Parameter(torch.tensor(t, device=device)) for t in THETA)
    node = neuron.FlexSN(_cubic, num_states=1, static_inputs=thetas).to(device)
    return Subject("SpikingJelly FlexSN cubic", Resetting(node), thetas)


def _cubic(x: Tensor, v: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Any:
    """Return spike and potential of a step; FlexSN refuses a function that captures a module."""
    from spikingjelly.activation_based import surrogate

    h = ((d * v + c) * v + b) * v + a + x
    spike = surrogate.ATan(alpha=2.0)(h - 1.0)
    return spike, h * (1 - spike)


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


class Atan(torch.autograd.Function):
    """Step function H(z), with the slope of atan(alpha=2)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        """Return 1 where z >= 0, else 0."""
        ctx.save_for_backward(z)
        return (z >= 0).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the gradient times the slope."""
        (z,) = ctx.saved_tensors
        return grad / (1 + (math.pi * z) ** 2)


def lnm_loop(x_seq: Tensor, theta: Tensor, v_threshold: float = 1.0) -> Tensor:
    """Return the spikes of an LNM layer of any degree with a hard reset to 0."""
    v = torch.zeros_like(x_seq[0])
    spikes = []
    for x in x_seq.unbind(0):
        f = theta[-1]
        for k in range(len(theta) - 2, -1, -1):
            f = f * v + theta[k]
        h = f + x
        spike: Any = Atan.apply(h - v_threshold)  # type: ignore[no-untyped-call]
        v = h * (1 - spike)
        spikes.append(spike)
    return torch.stack(spikes)


def lif_loop(x_seq: Tensor, tau: float = 2.0, v_threshold: float = 1.0) -> Tensor:
    """Return the spikes of a LIF layer with a decayed input and a hard reset to 0."""
    v = torch.zeros_like(x_seq[0])
    spikes = []
    for x in x_seq.unbind(0):
        h = v + (x - v) / tau
        spike: Any = Atan.apply(h - v_threshold)  # type: ignore[no-untyped-call]
        v = h * (1 - spike)
        spikes.append(spike)
    return torch.stack(spikes)
