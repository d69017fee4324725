"""Ranges of every node of a step on real data, and the least formats that follow from them.

The states are those of the layer in float64, from its initial states over the sequences that
reached it. From these the nodes of each step are computed in a format that is wide enough to be
none, Q14.14, so that a recorded value is within a few 2**-14 of the exact one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from torch import Tensor, nn

from lnm_codegen.analysis.arithmetic.interval import Interval
from lnm_codegen.compiler.arguments import extent_of
from lnm_codegen.compiler.arguments import parameters_of as elements_of
from lnm_codegen.compiler.fixed import integers, prepared_integers, quantize
from lnm_codegen.compiler.interpret import interpret
from lnm_codegen.deploy.network import neuron_layers, parameters_of, see
from lnm_codegen.hardware.wordlength.sample import sample_of
from lnm_codegen.hardware.wordlength.wordlength import Target, choose
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.interpret import Array, trace
from lnm_codegen.ir.fixed.spec import FixedSpec
from lnm_codegen.ir.granularity import Extent
from lnm_codegen.ir.types import Bits, Fixed
from lnm_codegen.nn import NeuronLayer

QUANTILES = (0.001, 0.01, 0.5, 0.99, 0.999)
TARGET = Target(mismatch=1e-3)
"""What formats of least width have to reach by default."""

_WIDE = Fixed(28, 14)
_KEPT = 1 << 16  # values of a node and a step that quantiles are taken of


@dataclass(frozen=True, slots=True)
class Recorded:
    """What values a node had.

    Attributes:
        low: The least.
        high: The greatest.
        quantiles: (share, value): so large a share of the values is at most that.
    """

    low: float
    high: float
    quantiles: tuple[tuple[float, float], ...]

    @property
    def interval(self) -> Interval:
        """[low, high]."""
        return Interval(Fraction(self.low), Fraction(self.high))


def recorded(layer: NeuronLayer, x_seq: Tensor) -> dict[str, Recorded]:
    """Return the range of every node of a layer's step on a sequence that reached it.

    The nodes are x, the states before and after the step, the coefficients and what lies between,
    by the names that `lnm.FixedSpec` has for them.

    Args:
        layer: Its neuron and its parameters.
        x_seq: (T, N, *).

    Raises:
        ModelError: A parameter or constant beyond +-8192; a state that only a function initialises.
        UnsupportedError: A neuron without a fixed-point form.
    """
    neuron = layer.neuron
    program = quantize(neuron, _WIDE)
    x = x_seq.detach().double().cpu().numpy()
    values: dict[str, Any] = parameters_of(layer)
    extent = extent_of(neuron.params, x.shape)
    elements = elements_of(neuron, values, extent, np.dtype(np.float64))
    held = {n: _spread(a, extent) for n, a in prepared_integers(program, elements).items()}
    trajectory = interpret(neuron, x, **values).trajectory
    found = _Ranges(program.kernel)
    for t in range(len(x)):
        now = {neuron.inputs[0].name: x[t], **{n: a[t] for n, a in trajectory.items()}}
        step = {n: integers(a, _WIDE.bits).reshape(-1) for n, a in now.items()}
        found.add(trace(program.kernel, held | step))
    return found.result()


def _spread(value: Array, extent: Extent) -> Array:
    shape = (extent.batch, extent.channels, extent.inner)
    return np.asarray(np.broadcast_to(value, shape)).reshape(-1)


class _Ranges:
    def __init__(self, kernel: fx.Kernel) -> None:
        variables = [p.var for p in kernel.inputs] + [let.target for let in kernel.body]
        self._scales = {v.name: 2.0**v.type.frac for v in variables if isinstance(v.type, Bits)}
        self._ends: dict[str, list[float]] = {name: [] for name in self._scales}
        self._kept: dict[str, list[Array]] = {name: [] for name in self._scales}

    def add(self, values: Mapping[str, Array]) -> None:
        """Take in the nodes of one step."""
        for name, scale in self._scales.items():
            flat = np.ravel(values[name]) / scale
            self._ends[name] += [float(flat.min()), float(flat.max())]
            self._kept[name].append(flat[:: -(-flat.size // _KEPT)])

    def result(self) -> dict[str, Recorded]:
        """Return what was seen."""
        return {n: Recorded(min(e), max(e), self._quantiles(n)) for n, e in self._ends.items()}

    def _quantiles(self, name: str) -> tuple[tuple[float, float], ...]:
        found = np.quantile(np.concatenate(self._kept[name]), QUANTILES)
        return tuple((q, float(v)) for q, v in zip(QUANTILES, found, strict=True))


def least_formats(
    network: nn.Module, images: Tensor, target: Target = TARGET
) -> dict[str, FixedSpec]:
    """Return formats of least total width for each neuron layer, by its path.

    Integer bits follow from the ranges that its nodes have on the images, so that nothing in them
    saturates; fraction bits are searched until the layer reaches the target on runs among them.

    Args:
        network: In eval mode.
        images: (N, C, H, W), best of those it was trained on.
        target: An error, or a share of spikes that differ.

    Raises:
        ModelError: No format reaches the target; and as for `recorded`.
        UnsupportedError: A neuron without a fixed-point form.
    """
    _, seen = see(network, images)
    specs = {}
    for path, layer in neuron_layers(network).items():
        x_seq = seen[path].x_seq
        ranges = {name: r.interval for name, r in recorded(layer, x_seq).items()}
        x = x_seq.double().cpu().numpy()
        sample = sample_of(layer.neuron, x, values=parameters_of(layer))
        specs[path] = choose(layer.neuron, sample, target, ranges).spec
    return specs
