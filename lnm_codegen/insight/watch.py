"""What neuron layers do while a network runs: a stream of batches to a few numbers a layer.

A forward hook runs a twin of the layer on what the layer met, which puts out the potential after
the charge and after the reset too. Nothing of a batch is kept but counts and extremes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.insight.histogram import Histogram
from lnm_codegen.insight.rows import by_row
from lnm_codegen.ir.names import Names
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.parameters import parameter_sets
from lnm_codegen.train.losses import answers

EAGER = 1 << 18
"""Up to so many neurons in a step the twin runs eagerly: compiling it would take longer."""


@dataclass(frozen=True)
class Seen:
    """What a neuron layer met and did.

    Attributes:
        shape: Of one sample's neurons.
        steps: T.
        input: The least and the greatest input.
        charged: Potentials after the charge.
        visited: Least and greatest potential after the reset, of each row: (R, 2).
        fired: Spikes of each neuron, per step and sample: `shape`.
    """

    shape: tuple[int, ...]
    steps: int
    input: tuple[float, float]
    charged: Histogram
    visited: Tensor
    fired: Tensor


class _Watch:
    """The forward hook of one layer."""

    def __init__(self, layer: NeuronLayer) -> None:
        self._v = potential_of(layer.neuron)
        taken = {s.name for s in layer.neuron.symbols} | {n for n, _ in layer.neuron.output}
        names = Names(taken)
        more = {names.fresh("charged"): self._v}
        more[names.fresh("after")] = dict(layer.neuron.reset).get(self._v, self._v)
        self._neuron = layer.neuron.with_outputs(**more)
        self._outputs = len(layer.neuron.output)
        self._rows = parameter_sets(layer)
        self._twin: NeuronLayer | None = None
        self._input = (float("inf"), float("-inf"))
        self._charged = Histogram()
        self._low = torch.full((len(self._rows),), float("inf"))
        self._high = -self._low
        self._fired: Tensor | None = None
        self._seen, self.steps, self._most = 0, 0, 0

    def __call__(self, layer: NeuronLayer, inputs: Any, named: dict[str, Any], out: Any) -> None:
        """Take in a call."""
        single = layer.step_mode == "s"
        if self._twin is None:
            shape = tuple(inputs[0].shape[1 if single else 2 :])
            neurons = inputs[0].numel() // (1 if single else len(inputs[0]))
            backend = "torch" if neurons <= EAGER else layer.backend
            self._twin = NeuronLayer(
                self._neuron, channels=shape[0], shape=shape, backend=backend,
                step_mode=layer.step_mode,
            )  # fmt: skip
        held = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
        results = functional_call(self._twin, held, inputs, named)
        if named.get("return_state"):
            results = results[0]
        while isinstance(out, tuple):
            out = out[0]
        found: list[Tensor] = [out, *results[self._outputs :]]
        x = inputs[0]
        self._input = (min(self._input[0], float(x.min())), max(self._input[1], float(x.max())))
        self._take(*(r.unsqueeze(0) if single else r for r in found))

    def _take(self, spikes: Tensor, charged: Tensor, after: Tensor) -> None:
        self._charged.add(charged)
        apart = by_row(after, self._rows).cpu()
        self._low = torch.minimum(self._low, apart.amin(1).float())
        self._high = torch.maximum(self._high, apart.amax(1).float())
        fired = (spikes != 0).sum((0, 1)).cpu()
        self._fired = fired if self._fired is None else self._fired + fired
        self._seen += spikes.shape[0] * spikes.shape[1]
        self.steps += spikes.shape[0]
        self._most = max(self._most, self.steps)

    def begin(self) -> None:
        """Begin a call of the network."""
        self.steps = 0
        if self._twin is not None:
            self._twin.reset()

    def result(self) -> Seen | None:
        """Return what was seen; None where the layer did not run."""
        if self._fired is None:
            return None
        return Seen(
            shape=tuple(self._fired.shape),
            steps=self._most,
            input=self._input,
            charged=self._charged,
            visited=torch.stack([self._low, self._high], 1),
            fired=self._fired.double() / self._seen,
        )


@dataclass(frozen=True)
class Watched:
    """What came of a run over samples.

    Attributes:
        layers: One for each layer that was watched; None where it has no state, or did not run.
        samples: How many.
        accuracy: Share of the answers that were right, as in training.
    """

    layers: tuple[Seen | None, ...]
    samples: int
    accuracy: float


def watch(
    network: nn.Module, layers: Iterable[NeuronLayer], batches: Iterable[tuple[Tensor, Tensor]]
) -> Watched:
    """Run a network in eval mode, without gradients, and watch its neuron layers.

    Args:
        network: Any; its layers are called on whole sequences, or step by step.
        layers: Of the network.
        batches: Inputs and labels (N,) or (T, N).
    """
    watches = [_Watch(layer) if layer.neuron.states else None for layer in layers]
    samples, right, count = 0, 0, 0
    with torch.no_grad(), _hooked(layers, watches):
        for x, labels in batches:
            for one in watches:
                if one is not None:
                    one.begin()
            correct, asked = answers(network(x), labels)
            right, count = right + correct, count + asked
            samples += labels.shape[-1]
    found = tuple(None if one is None else one.result() for one in watches)
    return Watched(found, samples, right / max(count, 1))


@contextmanager
def _hooked(layers: Iterable[NeuronLayer], watches: list[_Watch | None]) -> Iterator[None]:
    pairs = zip(layers, watches, strict=True)
    handles = [
        layer.register_forward_hook(one, with_kwargs=True)
        for layer, one in pairs
        if one is not None
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
