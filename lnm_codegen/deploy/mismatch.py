"""Quantization mismatch: a network in fixed point against itself in float, on the same images.

Outputs are compared in three ways, over all neurons, time steps and images:

one step        Both steps begin from the state and the input of the fixed-point layer. One is the
                fixed-point step, the other the float64 step with unrounded parameters.
free running    Both run from the initial states over the input sequence of the float network. An
                output that differs once makes later states differ.
in the network  Each layer of the whole fixed-point network against that layer of the float network.
                Their inputs differ too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from lnm_codegen.analysis.charge import emits_spikes
from lnm_codegen.compiler.fixed import integers
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.deploy.network import (
    fixed_layer,
    in_fixed_point,
    layer_like,
    neuron_layers,
    trace_layers,
)
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.fixed.quantize import node_names
from lnm_codegen.ir.types import Bits, Fixed, FixedSpec, spec_of
from lnm_codegen.nn.call import start_states
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.parameters import values_of


@dataclass(frozen=True, slots=True)
class LayerCounts:
    """Counts of one layer over images, neurons and time steps; they add."""

    steps: int = 0  # of single neurons
    one_step: int = 0  # outputs that differ from the same state and input
    free_running: int = 0  # outputs that differ from the same input sequence
    in_network: int = 0  # outputs that differ between the whole networks
    fired: int | None = 0  # outputs in float that are not 0; None of outputs that are no spikes
    fired_fixed: int | None = 0  # the same in the fixed-point network
    saturated: int = 0  # inputs outside the format of x

    def __add__(self, other: LayerCounts) -> LayerCounts:
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        sums: list[Any] = [None if None in pair else sum(pair) for pair in pairs]
        return LayerCounts(*sums)

    def share(self, word: str) -> float:
        """Return a count divided by the steps."""
        return float(getattr(self, word)) / self.steps if self.steps else 0.0

    def rate(self, word: str) -> float | None:
        """Return the share of `fired` or `fired_fixed`, or None without spikes."""
        return None if getattr(self, word) is None else self.share(word)


@dataclass(frozen=True)
class QuantizationMismatch:
    """A network in float and in fixed point on the same images."""

    images: int
    predictions: int  # of all images: one each, or one for each labelled time step
    correct: int  # correct predictions in float
    correct_fixed: int  # correct predictions in fixed point
    layers: dict[str, LayerCounts]  # path of a neuron layer -> its counts

    @property
    def accuracy(self) -> float:
        """Share of correct predictions in float."""
        return self.correct / self.predictions

    @property
    def accuracy_fixed(self) -> float:
        """Share of correct predictions in fixed point."""
        return self.correct_fixed / self.predictions

    @property
    def one_step_mismatch(self) -> float:
        """Share of all steps whose output differs from the same state."""
        return sum(self.layers.values(), LayerCounts()).share("one_step")

    @property
    def free_running_mismatch(self) -> float:
        """Share of all steps whose output differs from the same input sequence."""
        return sum(self.layers.values(), LayerCounts()).share("free_running")


def measure_mismatch(
    network: nn.Module,
    specs: Mapping[str, FixedSpec],
    batches: Iterable[tuple[Tensor, Tensor]],
    count_correct: Callable[[Tensor, Tensor], tuple[int, int]],
) -> QuantizationMismatch:
    """Run a network in eval mode in float and in fixed point, and count differing outputs.

    It maps images to logits, (N, classes) or (T, N, classes). Batches are images, and labels (N,)
    or (T, N). `count_correct` of logits and labels returns the number of correct predictions and of
    all, as that of `lnm.train.losses` does.

    Raises:
        ModelError: A parameter does not fit its format, or there are no images.
        UnsupportedError: A neuron has no fixed-point form.
    """
    # float64 holds every number of a format, and sums of a layer before the rounding of its input.
    fixed = in_fixed_point(copy.deepcopy(network).double(), specs).double()
    pairs = {name: _Pair(layer, specs[name]) for name, layer in neuron_layers(network).items()}
    counts = dict.fromkeys(pairs, LayerCounts())
    images = predictions = correct = correct_fixed = 0
    for batch, labels in batches:
        logits, traces = trace_layers(network, batch)
        wide = batch.double() if batch.is_floating_point() else batch
        logits_fixed, traces_fixed = trace_layers(fixed, wide)
        right, count = count_correct(logits, labels)
        images += labels.shape[-1]
        predictions += count
        correct += right
        correct_fixed += count_correct(logits_fixed, labels)[0]
        for name, pair in pairs.items():
            out, out_fixed = traces[name].out, traces_fixed[name].out
            counts[name] += pair.counted(traces[name].x_seq) + LayerCounts(
                in_network=_differing(out, out_fixed),
                fired=pair.fired(out),
                fired_fixed=pair.fired(out_fixed),
            )
    if not predictions:
        raise ModelError("measure_mismatch", "no images", remedy="Give one or more.")
    return QuantizationMismatch(images, predictions, correct, correct_fixed, counts)


def quantized(values: Tensor, bits: Bits) -> Tensor:
    """Return numbers rounded to the nearest of a format (ties up) and saturated, in float64."""
    return torch.as_tensor(integers(values.cpu().numpy(), bits) / 2.0**bits.frac)


def _differing(a: Tensor, b: Tensor) -> int:
    """Return the number of outputs that differ by half a spike or more, or are NaN."""
    return int((~((a.double() - b.double()).abs() < 0.5)).sum())


class _Pair:
    """A layer in float64 and in fixed point."""

    def __init__(self, layer: NeuronLayer, spec: FixedSpec) -> None:
        neuron = layer.neuron
        self._spiking = emits_spikes(neuron)
        self._real = layer_like(layer, backend="torch", dtype=torch.float64)
        self._fixed = fixed_layer(layer, spec, dtype=torch.float64)
        self._input = spec[neuron.inputs[0].name].bits
        self._bits = {s.name: spec[s.name].bits for s in neuron.states}

    def counted(self, x_seq: Tensor) -> LayerCounts:
        """Return the counts of a batch, without those of the whole networks."""
        x = x_seq.double()
        low, high = (float(end) for end in self._input.interval)
        half = 2.0 ** -(self._input.frac + 1)
        with torch.no_grad():
            steps = list(self._steps(quantized(x, self._input)))
            outs = torch.cat([out for _, out in steps])
            one_step = _differing(torch.cat([expected for expected, _ in steps]), outs)
            free = _differing(self._real(x), outs)
        outside = int(((x < low - half) | (x >= high + half)).sum())
        return LayerCounts(steps=x.numel(), one_step=one_step, free_running=free, saturated=outside)

    def fired(self, out: Tensor) -> int | None:
        """Return the number of spikes, or None of an output that is a potential."""
        return int(out.count_nonzero()) if self._spiking else None

    def _steps(self, x_seq: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the float and fixed-point outputs of each step from the fixed-point states."""
        params = list(values_of(self._real).values())
        start = start_states(self._real.neuron, x_seq, {}, params, previous={})
        pairs = zip(self._bits.items(), start, strict=True)
        state = {n: quantized(v, bits).expand(x_seq.shape[1:]) for (n, bits), v in pairs}
        for t in range(len(x_seq)):
            x = x_seq[t : t + 1]
            expected = self._real(x, state=state)
            out, state = self._fixed(x, state=state, return_state=True)
            yield expected, out


def specs_for(network: nn.Module, spec: Fixed | FixedSpec) -> dict[str, FixedSpec]:
    """Return the same formats for every neuron layer, by its path.

    The spec of a layer omits the nodes that only other layers have.

    Raises:
        ModelError: No layer has a node of this name.
    """
    whole = spec_of(spec, "network")
    layers = neuron_layers(network)
    if not whole.nodes:
        return dict.fromkeys(layers, whole)
    nodes = {path: node_names(lower(own.neuron)) for path, own in layers.items()}
    every = list(dict.fromkeys(name for names in nodes.values() for name in names))
    for name, _ in whole.nodes:
        if name not in every:
            problem = f"the spec has a format for {name!r}, which no layer of neurons has"
            raise ModelError("network", problem, every, "Name one of these.")
    return {
        path: FixedSpec(whole.default, tuple((n, f) for n, f in whole.nodes if n in names))
        for path, names in nodes.items()
    }
