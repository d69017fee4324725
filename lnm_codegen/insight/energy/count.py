"""Operation counts of an inference, from hooks while the network runs.

Hooks read the inputs of every convolution and linear layer, and the outputs of every neuron layer.
So any network is counted as it runs, a recurrent one step by step. A matrix product outside these
modules is not counted.

The inputs of a synaptic layer are

* spikes, if every value is an integer, or an integer over q after averaging. `averages` tracks q;
  an average that it does not know is tried with the number of steps. A value n/q stands for n
  spikes. Each spike adds its weight to every output that it reaches: an AC.
* numbers otherwise. Each is multiplied with every weight that applies to it: a MAC.

The fan-out of a convolution is exact: near a border a spike reaches fewer outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lnm_codegen.analysis.charge import emits_spikes
from lnm_codegen.errors import ModelError
from lnm_codegen.insight.energy.averages import Averages, Divisor, spikes_in
from lnm_codegen.insight.energy.layers import Layer, Neurons, Synapses, neuron_operations
from lnm_codegen.insight.energy.reach import (
    CONVOLUTIONS,
    frames_in,
    products_in,
    reached,
    steps_in,
    taps_of,
)
from lnm_codegen.nn import NeuronLayer, reset
from lnm_codegen.nn.hooks import hooked
from lnm_codegen.nn.parameters import values_of


def counted(
    network: nn.Module, batches: Iterable[tuple[Tensor, int]]
) -> tuple[tuple[Layer, ...], int]:
    """Run a network without gradients; return its layers in order of execution, and the samples.

    States that its layers keep are reset before each batch.

    Args:
        network: A network in eval mode.
        batches: Inputs, and the number of samples in them.

    Raises:
        ModelError: No samples.
    """
    counter, samples = _Counter(), 0
    network = getattr(network, "_orig_mod", network)  # compiled code would hide its averages
    with torch.no_grad(), hooked(_hooks(network, counter)):
        for x, number in batches:
            reset(network)
            with counter.inference(number):
                network(x)
            samples += number
    if not samples:
        raise ModelError("energy", "no samples to run", remedy="Give at least one.")
    return counter.layers(samples), samples


@dataclass
class _Synapse:
    """Sums over the calls of a synaptic layer; `calls` are the frames of one inference."""

    module: nn.Module
    encoder: bool
    spiking: bool = True
    inputs: int = 0
    events: float = 0.0
    reached: float = 0.0
    everything: float = 0.0
    dense: int = 0
    outputs: int = 0
    frames: int = 0
    steps: int = 0
    calls: list[tuple[int, ...]] = field(default_factory=list)

    def end(self, samples: int, steps: int) -> None:
        """End an inference of some samples and T steps: add the steps of its calls."""
        self.steps += sum(steps_in(frames, samples, steps) for frames in self.calls) * samples
        self.calls = []

    def add(self, x: Tensor, out: Tensor, divisors: Sequence[Divisor]) -> None:
        """Add a call; the first divisor that fits is q."""
        self.inputs += x.numel()
        self.outputs += out.numel()
        self.calls.append(frames_in(self.module, x))
        self.frames += math.prod(self.calls[-1])
        self.dense += out.numel() * taps_of(self.module)
        self.everything += products_in(self.module, x)
        spikes = spikes_in(x, divisors)
        self.spiking &= spikes is not None
        if spikes is not None:
            self.events += float(spikes.sum(dtype=torch.float64))
            self.reached += reached(self.module, spikes)

    def result(self, name: str, samples: int) -> Synapses:
        weight = self.module.weight
        assert isinstance(weight, Tensor)
        return Synapses(
            name=name,
            spiking=self.spiking,
            encoder=self.encoder,
            inputs=self.inputs / samples,
            events=self.events / samples if self.spiking else 0.0,
            dense=self.dense / samples,
            reached=(self.reached if self.spiking else self.everything) / samples,
            outputs=self.outputs / samples,
            frames=self.frames / samples,
            steps=self.steps / samples,
            weights=weight.numel(),
            filters=weight[:, 0].numel() if isinstance(self.module, CONVOLUTIONS) else 0,
        )


@dataclass
class _Neuron:
    """Sums over the calls of a neuron layer."""

    layer: NeuronLayer
    updates: int = 0
    spikes: float = 0.0
    steps: int = 0

    def result(self, name: str, samples: int) -> Neurons:
        neuron, steps = self.layer.neuron, self.steps
        return Neurons(
            name=name,
            neuron=neuron.name,
            neurons=self.updates / samples / steps,
            steps=steps,
            spikes=self.spikes / samples,
            operations=neuron_operations(neuron),
            states=len(neuron.states),
            parameters=sum(v.numel() for v in values_of(self.layer).values()),
            fires=emits_spikes(neuron),
        )


@dataclass
class _Counter:
    """Counts of all hooks."""

    found: dict[str, _Synapse | _Neuron] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.averages = Averages(lambda: self.time_steps)

    @contextmanager
    def inference(self, samples: int) -> Iterator[None]:
        """Count a call of the network."""
        self.steps, self.averages = {}, Averages(lambda: self.time_steps)
        with self.averages:
            yield
        for sums in self.found.values():
            if isinstance(sums, _Synapse):
                sums.end(samples, self.time_steps)

    @property
    def time_steps(self) -> int:
        """Number of time steps until now."""
        return max(self.steps.values(), default=1)

    def synapse(self, name: str, module: nn.Module, x: Tensor, out: Tensor) -> None:
        """Add a call of a convolution or linear layer."""
        known = self.found.setdefault(name, _Synapse(module, encoder=not self.steps))
        assert isinstance(known, _Synapse)
        q = self.averages.of(x)
        known.add(x, out, [q * times for times in sorted({1, self.time_steps})])
        self.averages.begin(out, spiking=False)

    def neuron(self, name: str, layer: NeuronLayer, out: Any) -> None:
        """Add a call of a neuron layer."""
        known = self.found.setdefault(name, _Neuron(layer))
        assert isinstance(known, _Neuron)
        spikes = _first(out)
        known.updates += spikes.numel()
        if emits_spikes(layer.neuron):
            known.spikes += float((spikes != 0).sum())
        steps = len(spikes) if layer.step_mode == "m" else 1
        self.steps[name] = self.steps.get(name, 0) + steps
        known.steps = max(known.steps, self.steps[name])
        self.averages.begin(spikes, spiking=True)

    def layers(self, samples: int) -> tuple[Layer, ...]:
        """Return the layers in the order of their first calls."""
        return tuple(sums.result(name, samples) for name, sums in self.found.items())


def _first(out: Any) -> Tensor:
    """Return the first output of a neuron layer."""
    while isinstance(out, tuple):
        out = out[0]
    assert isinstance(out, Tensor)
    return out


def _hooks(network: nn.Module, counter: _Counter) -> list[tuple[nn.Module, Callable[..., None]]]:
    """Return the hooks that pass every call to a counter."""

    def after(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], out: Any) -> None:
            if isinstance(module, NeuronLayer):
                counter.neuron(name, module, out)
            else:
                counter.synapse(name, module, inputs[0], out)

        return hook

    kinds = (NeuronLayer, nn.Linear, *CONVOLUTIONS)
    return [(m, after(n)) for n, m in network.named_modules() if isinstance(m, kinds)]
