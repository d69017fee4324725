"""Recording of the activity of neuron layers while a network runs.

A forward hook runs a copy of the layer on the same inputs. The copy also returns the potential
after the charge, and every state after the reset. Only counts and extremes of a batch are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lnm_codegen.analysis.charge import emits_spikes, potential_of
from lnm_codegen.ir.kernel import Names
from lnm_codegen.nn.call import Received
from lnm_codegen.nn.hooks import watching
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.parameters import ParameterSets, needed_sizes, parameter_sets, values_of
from lnm_codegen.nn.states import reset
from lnm_codegen.train.losses import count_correct

EAGER = 1 << 18
"""Largest number of neurons of a copy that runs eagerly; compilation would take longer."""


@dataclass(frozen=True)
class Activity:
    """Activity of a neuron layer over all samples.

    Attributes:
        shape: Shape of one sample's neurons.
        steps: Number of time steps T.
        input: Least and greatest input.
        charged: Histogram of the potentials after the charge.
        visited: Least and greatest potential after the reset in each row, (R, 2).
        states: The same of every state, by name.
        fired: Spikes of each neuron per step and sample, of shape `shape`; 0 if the output reads no
            spike.
    """

    shape: tuple[int, ...]
    steps: int
    input: tuple[float, float]
    charged: Histogram
    visited: Tensor
    states: dict[str, Tensor]
    fired: Tensor


class _Recorder:
    """Records what one layer received."""

    def __init__(self, layer: NeuronLayer) -> None:
        potential = potential_of(layer.neuron)
        taken = {s.name for s in layer.neuron.symbols} | {n for n, _ in layer.neuron.output}
        names, after = Names(taken), dict(layer.neuron.reset)
        more = {names.fresh("charged"): potential}
        more |= {names.fresh("after"): after.get(s, s) for s in layer.neuron.states}
        self._neuron = layer.neuron.with_outputs(**more)
        self._outputs, self._spiking = len(layer.neuron.output), emits_spikes(layer.neuron)
        self._rows = parameter_sets(layer)
        self._potential, self._states = potential.name, [s.name for s in layer.neuron.states]
        self._copy: NeuronLayer | None = None
        self._input = (float("inf"), float("-inf"))
        self._charged = Histogram()
        self._low = torch.full((len(self._states), len(self._rows)), float("inf"))
        self._high = -self._low
        self._fired: Tensor | None = None
        self._updates, self.steps, self._most = 0, 0, 0

    def __call__(self, layer: NeuronLayer, received: Received) -> None:
        """Record a call of the layer."""
        x = received.inputs[0]
        if self._copy is None:
            shape, neurons = tuple(x.shape[2:]), x[:1].numel()
            backend = "torch" if neurons <= EAGER else layer.backend
            sizes = needed_sizes(self._neuron, shape)
            self._copy = NeuronLayer(self._neuron, **sizes, backend=backend)
        named = {"state": received.state, "lengths": received.lengths}
        results = functional_call(self._copy, values_of(layer), received.inputs, named)
        self._input = (min(self._input[0], float(x.min())), max(self._input[1], float(x.max())))
        self._add(received.outputs[0], *results[self._outputs :])

    def _add(self, spikes: Tensor, charged: Tensor, *after: Tensor) -> None:
        self._charged.add(charged)
        apart = torch.stack([by_row(state, self._rows).cpu() for state in after])
        self._low = torch.minimum(self._low, apart.amin(2).float())
        self._high = torch.maximum(self._high, apart.amax(2).float())
        fired = (spikes != 0).sum((0, 1)).cpu() * self._spiking
        self._fired = fired if self._fired is None else self._fired + fired
        self._updates += spikes.shape[0] * spikes.shape[1]
        self.steps += spikes.shape[0]
        self._most = max(self._most, self.steps)

    def begin(self) -> None:
        """Start a call of the network."""
        self.steps = 0

    def result(self) -> Activity | None:
        """Return the activity, or None if the layer did not run."""
        if self._fired is None:
            return None
        ends = torch.stack([self._low, self._high], 2)
        states = dict(zip(self._states, ends, strict=True))
        return Activity(
            shape=tuple(self._fired.shape),
            steps=self._most,
            input=self._input,
            charged=self._charged,
            visited=states[self._potential],
            states=states,
            fired=self._fired.double() / self._updates,
        )


def by_row(values: Tensor, rows: ParameterSets) -> Tensor:
    """Return values (T, N, *) as (R, K): the values of each row."""
    if not rows.shape:
        return values.reshape(1, -1)
    if len(rows.shape) == 1 and values.dim() > 2:
        return values.movedim(2, 0).reshape(rows.shape[0], -1)
    return values.flatten(2).movedim(2, 0).reshape(len(rows), -1)


@dataclass(frozen=True)
class RunRecord:
    """Results of a network on samples.

    Attributes:
        layers: Activity of each layer; None for one without state or one that did not run.
        samples: Number of samples.
        correct: Number of correct predictions, counted as in training.
        predictions: Number of predictions: one per sample, or one per labelled step. 0 where the
            targets are no classes.
    """

    layers: tuple[Activity | None, ...]
    samples: int
    correct: int
    predictions: int


def record(
    network: nn.Module,
    layers: Iterable[NeuronLayer],
    batches: Iterable[tuple[Tensor, Tensor]],
    has_accuracy: bool = True,
) -> RunRecord:
    """Run a network without gradients and record its neuron layers.

    States that its layers keep are reset before each batch.

    Args:
        network: A network in eval mode. It calls its layers on sequences or step by step.
        layers: Neuron layers of the network.
        batches: Inputs and labels (N,) or (T, N).
        has_accuracy: The labels are classes, of which correct predictions are counted.
    """
    layers = tuple(layers)
    hooks = [_Recorder(layer) if layer.neuron.states else None for layer in layers]
    samples, right, count = 0, 0, 0
    running = [(one, hook) for one, hook in zip(layers, hooks, strict=True) if hook is not None]
    with torch.no_grad(), watching(running):
        for x, labels in batches:
            reset(network)
            for _, hook in running:
                hook.begin()
            outputs = network(x)
            correct, total = count_correct(outputs, labels) if has_accuracy else (0, 0)
            right, count = right + correct, count + total
            samples += labels.shape[-1]
    found = tuple(None if hook is None else hook.result() for hook in hooks)
    return RunRecord(found, samples, right, count)


# Histogram of a stream of numbers with an unknown range.


BINS = 256
_FIRST, _LAST = 2.0**-4, 2.0**20


class Histogram:
    """Counts in `BINS` equal bins over [-width, width), which doubles if a number lies outside.

    Doubling adds neighbouring bins in pairs, so counts stay exact.

    Attributes:
        counts: Count of each bin, (BINS,) int64.
        width: Half of the interval.
        lost: Number of values that are not finite, or 2**20 or more in magnitude.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.int64)
        self.width = _FIRST
        self.lost = 0

    def add(self, values: Tensor) -> None:
        """Count the numbers of a tensor."""
        flat = values.detach().flatten().to(torch.float32).cpu()
        kept = flat[flat.abs() < _LAST]  # false for a NaN
        self.lost += flat.numel() - kept.numel()
        if not kept.numel():
            return
        farthest = float(kept.abs().max())
        while farthest >= self.width:
            self._double()
        scaled = kept * (BINS / (2 * self.width))  # exact: a power of 2
        place = scaled.floor().long() + BINS // 2
        self.counts += torch.bincount(place, minlength=BINS)

    def _double(self) -> None:
        pairs = self.counts.reshape(-1, 2).sum(1)
        quarter = BINS // 4
        self.counts = torch.cat([pairs.new_zeros(quarter), pairs, pairs.new_zeros(quarter)])
        self.width *= 2

    @property
    def edges(self) -> list[float]:
        """Edges of the bins, BINS + 1 of them."""
        return [-self.width + 2 * self.width * k / BINS for k in range(BINS + 1)]

    def trimmed(self) -> tuple[list[float], list[int]]:
        """Return the edges and counts from the first to the last bin that is not empty."""
        held = self.counts.nonzero().flatten().tolist()
        if not held:
            return [], []
        low, high = held[0], held[-1] + 1
        return self.edges[low : high + 1], self.counts[low:high].tolist()
