"""Recorded ranges of a step's nodes on real data, and the least formats that follow from them.

The states are those of the layer in float64, from its initial states over the sequences that
reached it. The nodes of each step are then computed from these states in Q14.14, a format wide
enough to be effectively exact: a recorded value is within a few 2**-14 of the exact one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from torch import Tensor, nn

from lnm_codegen.analysis.arithmetic.interval import Interval
from lnm_codegen.compiler.arguments import extent_of, parameters_of
from lnm_codegen.compiler.fixed import integers, prepared_integers, quantize
from lnm_codegen.compiler.interpret import broadcast_to_neurons, interpret
from lnm_codegen.deploy.network import layer_parameters, neuron_layers, trace_layers
from lnm_codegen.hardware.wordlength.sample import sample_of
from lnm_codegen.hardware.wordlength.search import FormatSearch, PrecisionTarget
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.interpret import Array, trace
from lnm_codegen.ir.types import Bits, Fixed, FixedSpec
from lnm_codegen.nn import NeuronLayer

QUANTILES = (0.001, 0.01, 0.5, 0.99, 0.999)
TARGET = PrecisionTarget(mismatch=1e-3)
"""Default target of `least_formats`."""

_WIDE = Fixed(28, 14)
_MOST_VALUES = 1 << 16  # of a node and a step, for the quantiles


@dataclass(frozen=True, slots=True)
class Recorded:
    """Values of a node on the data."""

    low: float
    high: float
    quantiles: tuple[tuple[float, float], ...]  # (share, value): that share is <= value

    @property
    def interval(self) -> Interval:
        """[low, high] in rational numbers."""
        return Interval(Fraction(self.low), Fraction(self.high))


def recorded(layer: NeuronLayer, x_seq: Tensor) -> dict[str, Recorded]:
    """Return the recorded values of every node of a layer's step on an input (T, N, *).

    The nodes are x, the states before and after the step, the coefficients and all intermediate
    values, under the names of `lnm.FixedSpec`.

    Raises:
        ModelError: A parameter or constant is beyond +-8192, or a function initialises a state.
        UnsupportedError: The neuron has no fixed-point form.
    """
    neuron = layer.neuron
    program = quantize(neuron, _WIDE)
    x = x_seq.detach().double().cpu().numpy()
    values: dict[str, Any] = layer_parameters(layer)
    extent = extent_of(neuron.params, x.shape)
    elements = parameters_of(neuron, values, extent, np.dtype(np.float64))
    held = broadcast_to_neurons(prepared_integers(program, elements), extent)
    trajectory = interpret(neuron, x, **values).trajectory
    found = _Ranges(program.kernel)
    for t in range(len(x)):
        now = {neuron.inputs[0].name: x[t], **{n: a[t] for n, a in trajectory.items()}}
        step = {n: integers(a, _WIDE.bits).reshape(-1) for n, a in now.items()}
        found.add(trace(program.kernel, held | step))
    return found.result()


class _Ranges:
    def __init__(self, kernel: fx.Kernel) -> None:
        variables = [p.var for p in kernel.inputs] + [let.target for let in kernel.body]
        self._scales = {v.name: 2.0**v.type.frac for v in variables if isinstance(v.type, Bits)}
        self._ends: dict[str, list[float]] = {name: [] for name in self._scales}
        self._sampled: dict[str, list[Array]] = {name: [] for name in self._scales}

    def add(self, values: Mapping[str, Array]) -> None:
        """Record the nodes of one step."""
        for name, scale in self._scales.items():
            flat = np.ravel(values[name]) / scale
            self._ends[name] += [float(flat.min()), float(flat.max())]
            self._sampled[name].append(flat[:: -(-flat.size // _MOST_VALUES)])

    def result(self) -> dict[str, Recorded]:
        return {n: Recorded(min(e), max(e), self._quantiles(n)) for n, e in self._ends.items()}

    def _quantiles(self, name: str) -> tuple[tuple[float, float], ...]:
        found = np.quantile(np.concatenate(self._sampled[name]), QUANTILES)
        return tuple((q, float(v)) for q, v in zip(QUANTILES, found, strict=True))


def least_formats(
    network: nn.Module, images: Tensor, target: PrecisionTarget = TARGET
) -> dict[str, FixedSpec]:
    """Return formats of least total width for each neuron layer, by its path.

    Integer bits follow from the ranges of the nodes on the images, preferably training images, so
    that nothing saturates on them. Fraction bits are searched until the layer reaches the target.

    Raises:
        ModelError: No format reaches the target; and as for `recorded`.
        UnsupportedError: A neuron has no fixed-point form.
    """
    _, traces = trace_layers(network, images)
    specs = {}
    for path, layer in neuron_layers(network).items():
        x_seq = traces[path].x_seq
        ranges = {name: r.interval for name, r in recorded(layer, x_seq).items()}
        x = x_seq.double().cpu().numpy()
        sample = sample_of(layer.neuron, x, values=layer_parameters(layer))
        specs[path] = FormatSearch(layer.neuron, sample, target, ranges).result().spec
    return specs
