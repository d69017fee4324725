"""Counts in the neuron layers of a running network: spikes, and potentials outside an interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from lnm_codegen.analysis.charge import emits_spikes
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.hooks import hooked
from lnm_codegen.nn.norm.layer import neuron_inputs
from lnm_codegen.nn.parameters import needed_sizes, values_of

HIGH = 1e30
"""A potential of greater magnitude has diverged."""


@dataclass(slots=True)
class Counts:
    """Sums over neurons and steps of one layer.

    Attributes:
        fired: Outputs other than 0: spikes, of either sign. 0 for a layer whose output reads no
            spike, such as a potential.
        outside: Charged potentials at or below the clamp, diverged, or NaN.
        seen: Neurons times time steps.
    """

    fired: float = 0.0
    outside: float = 0.0
    seen: int = 0


@contextmanager
def counting(
    layers: Sequence[NeuronLayer], clamps: Sequence[float | None]
) -> Iterator[list[Counts]]:
    """Count in each of `layers` while the context is open.

    The kernels of a second layer with the same parameters and input count the potentials, so a
    pass runs each neuron layer twice.

    Args:
        layers: Layers of a network that runs in eval mode without gradients.
        clamps: Lower clamp of each layer, which holds potentials; None counts only those that
            diverged.
    """
    counts = [Counts() for _ in layers]
    hooks = [
        (layer, _Counter(one, clamp))
        for layer, one, clamp in zip(layers, counts, clamps, strict=True)
    ]
    with ExitStack() as stack:
        stack.enter_context(hooked(hooks, with_kwargs=True))
        for layer, hook in hooks:
            stack.callback(layer.register_forward_pre_hook(hook.before).remove)
        yield counts


class _Counter:
    """The forward hook of one layer."""

    def __init__(self, counts: Counts, clamp: float | None) -> None:
        self._counts = counts
        self._twin: NeuronLayer | None = None
        self._before: dict[str, Tensor] = {}
        low = -HIGH if clamp is None else clamp
        self._interval = (float(torch.nextafter(torch.tensor(low), torch.tensor(HIGH))), HIGH)

    def before(self, layer: NeuronLayer, _: Any) -> None:
        """Note the states with which a call begins."""
        self._before = layer.state

    def __call__(self, layer: NeuronLayer, inputs: Any, named: dict[str, Any], out: Any) -> None:
        spikes: Tensor = out[0] if isinstance(out, tuple) else out
        if emits_spikes(layer.neuron):
            self._counts.fired += float((spikes != 0).sum())
        self._counts.seen += spikes.numel()
        if not layer.neuron.states:
            return
        inputs = neuron_inputs(layer, inputs)
        if self._twin is None:
            skipped = 2 if layer.step_mode == "m" else 1
            shape = tuple(inputs[0].shape[skipped:])
            self._twin = NeuronLayer(
                layer.neuron, **needed_sizes(layer.neuron, shape), backend=layer.backend,
                step_mode=layer.step_mode, record=("stats",), interval=self._interval,
            )  # fmt: skip
        if layer.step_mode == "s" or layer.carry_state:
            named = {"state": self._before, **named}
        *_, recorded = functional_call(self._twin, values_of(layer), inputs, named)
        self._counts.outside += recorded["stats"]["outside"]
