"""Recorded ranges of a step's nodes on real data, and the least formats that follow from them.

The states are those of the layer in float64, from its initial states over the sequences that
reached it. The nodes of each step are then computed from these states in real numbers, without the
rounding and the saturation of a format.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from torch import Tensor, nn

from lnm_codegen.analysis.exact import exact
from lnm_codegen.analysis.interval import Interval
from lnm_codegen.compiler.arguments import extent_of, parameters_of
from lnm_codegen.compiler.fixed import integers, prepared_values, program_of
from lnm_codegen.compiler.interpret import broadcast_to_neurons, interpret
from lnm_codegen.deploy.network import (
    float64,
    layer_parameters,
    neuron_layers,
    trace_layers,
)
from lnm_codegen.errors import ModelError
from lnm_codegen.hardware.wordlength.sample import sample_of, sampled_rates
from lnm_codegen.hardware.wordlength.search import FormatSearch, PrecisionTarget
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.quantize import WIDE
from lnm_codegen.ir.interpret import trace
from lnm_codegen.ir.kernel import Role
from lnm_codegen.ir.types import REAL, Bits, FixedSpec
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.layer import NeuronLayer

TARGET = PrecisionTarget(mismatch=1e-3)
"""Default target of `least_formats`."""
SHARE = 2.0**-8
"""Error of the states of a layer without a spike, as a share of the largest magnitude."""

_GRID = Bits(47, 14)
"""Recorded values: larger ones, and infinite ones, are beyond every format of 32 bits."""


def recorded_ranges(layer: NeuronLayer, x_seq: Tensor) -> dict[str, Interval]:
    """Return the least and the greatest value of every node of a layer's step on (T, N, *).

    The nodes are x, the states before and after the step, the coefficients and all intermediate
    values, under the names of `lnm.FixedSpec`. Values are rounded to multiples of 2**-14. The limit
    of a value is +-2**32.

    Raises:
        ModelError: A constant is beyond +-2**29, or a function initialises a state.
        UnsupportedError: The neuron has no fixed-point form.
    """
    neuron = layer.neuron
    program = program_of(neuron, WIDE)
    kernel = exact(program.kernel)
    x = float64(x_seq)
    values: dict[str, Any] = layer_parameters(layer)
    extent = extent_of(neuron.params, x.shape)
    elements = parameters_of(neuron, values, extent, np.dtype(np.float64))
    held = broadcast_to_neurons(prepared_values(program, elements), extent)
    trajectory = interpret(neuron, x, **values).trajectory
    variables = [*kernel.input_vars(*Role), *(let.target for let in kernel.body)]
    ends: dict[str, list[int]] = {v.name: [] for v in variables if v.type is REAL}
    for t in range(len(x)):
        now = {neuron.inputs[0].name: x[t], **{n: a[t] for n, a in trajectory.items()}}
        nodes = trace(kernel, held | {n: a.reshape(-1) for n, a in now.items()})
        for name, own in ends.items():
            numbers = integers(nodes[name], _GRID)
            own += [int(np.min(numbers)), int(np.max(numbers))]
    return {
        name: Interval(_GRID.value(min(own)), _GRID.value(max(own))) for name, own in ends.items()
    }


def constants_of(neuron: Neuron) -> list[Fraction]:
    """Return the constants of a step that have the format of a node, such as those of a clamp.

    Raises:
        ModelError: A constant is beyond +-2**29.
        UnsupportedError: The neuron has no fixed-point form.
    """
    values = (e for let in program_of(neuron, WIDE).kernel.body for e in fx.walk(let.value))
    bits = WIDE.default.bits
    return [e.real for e in values if isinstance(e, fx.Const) and e.bits == bits]


def least_formats(
    network: nn.Module,
    images: Tensor,
    target: PrecisionTarget = TARGET,
    on_silent: Callable[[str, PrecisionTarget], object] = lambda path, own: None,
) -> dict[str, FixedSpec]:
    """Return formats of small total width for each neuron layer, by its path.

    Integer bits follow from the ranges of the nodes on the images, preferably training images, so
    that nothing saturates on them. Fraction bits are searched until the layer reaches the target,
    that of `target_of`. `on_silent` is called with the path and the target of a layer whose neurons
    can spike but do not.

    Raises:
        ModelError: No format reaches the target; and as for `recorded_ranges`.
        UnsupportedError: A neuron has no fixed-point form.
    """
    _, traces = trace_layers(network, images)
    specs = {}
    for path, layer in neuron_layers(network).items():
        x_seq = traces[path].x_seq
        ranges = recorded_ranges(layer, x_seq)
        sample = sample_of(layer.neuron, float64(x_seq), values=layer_parameters(layer))
        own = target_of(layer, x_seq, target)
        if layer.neuron.fire and own is not target:
            on_silent(path, own)
        try:
            specs[path] = FormatSearch(layer.neuron, sample, own, ranges).result().spec
        except ModelError as error:
            raise error.within(path) from None
    return specs


def target_of(layer: NeuronLayer, x_seq: Tensor, target: PrecisionTarget) -> PrecisionTarget:
    """Return the target of a layer: an error if no spike occurs on the inputs that could differ.

    Its error is `SHARE` of the largest state on the inputs. A circuit that never spikes would have
    a mismatch of 0.
    """
    if target.mismatch is None:
        return target
    sample = sample_of(layer.neuron, float64(x_seq), values=layer_parameters(layer))
    if any(sampled_rates(layer.neuron, sample).values()):
        return target
    ranges = recorded_ranges(layer, x_seq)
    largest = max(float(ranges[s.name].magnitude) for s in layer.neuron.states)
    return PrecisionTarget(error=SHARE * largest if largest else SHARE)
