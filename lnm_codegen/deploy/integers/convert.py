"""Conversion of a trained chain to a network in integers, and its formats by default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from torch import Tensor, nn

from lnm_codegen.analysis.interval import Interval, integer_bits, interval_of
from lnm_codegen.compiler.fixed import integers, neuron_stage
from lnm_codegen.deploy.integers.layers import differing, keeping, require_layers
from lnm_codegen.deploy.integers.real import RealNeurons, RealStage, RealWeights, real_stages
from lnm_codegen.deploy.integers.weights import WeightFormat, integer_readout, integer_weights
from lnm_codegen.deploy.network import layer_parameters, trace_layers
from lnm_codegen.deploy.ranges import constants_of, recorded_ranges
from lnm_codegen.errors import ModelError, ShapeError
from lnm_codegen.ir.network.interpret import interpret_network
from lnm_codegen.ir.network.nodes import (
    SPIKES,
    AnyStage,
    IntegerNetwork,
    Integers,
    Shape,
    output_shape,
    output_values,
    values_of_bits,
)
from lnm_codegen.ir.network.verify import require_network
from lnm_codegen.ir.types import MOST_BITS, Bits, Fixed, FixedSpec
from lnm_codegen.nn.chain import Chain

INPUT_BITS, NEURON_BITS = 12, 16
"""Default widths of the input and of the numbers of the neurons."""
FEW = 8
"""Fewer fraction bits make other integer bits worth a trial."""


@dataclass(frozen=True, eq=False)
class NetworkFormats:
    """Formats of a network.

    Attributes:
        input: Format of the input, whose fraction may be longer than its width; None for spikes.
        weights: Name of a layer of weights -> the format of its weights.
        neurons: Name of a layer of neurons -> the formats of its nodes.
    """

    input: Bits | None
    weights: Mapping[str, WeightFormat]
    neurons: Mapping[str, FixedSpec]


@dataclass(frozen=True, eq=False)
class RealNetwork:
    """A trained chain as real stages.

    Attributes:
        name: A C identifier.
        stages: First to last.
        input_shape: Of one step.
        time_steps: T.
        repeated: The sample is one step, repeated.
        chain: The modules.
        network: The module that contains them.
    """

    name: str
    stages: tuple[RealStage, ...]
    input_shape: Shape
    time_steps: int
    repeated: bool
    chain: Chain
    network: nn.Module

    @property
    def weights(self) -> tuple[RealWeights, ...]:
        """The layers of weights, in order."""
        return tuple(s for s in self.stages if isinstance(s, RealWeights))

    @property
    def neurons(self) -> tuple[RealNeurons, ...]:
        """The layers of neurons, in order."""
        return tuple(s for s in self.stages if isinstance(s, RealNeurons))


def real_network(name: str, network: nn.Module, chain: Chain, sample: Shape) -> RealNetwork:
    """Return a trained chain as real stages.

    Args:
        name: A C identifier.
        network: A module in eval mode that contains the chain.
        chain: The chain.
        sample: Shape of a sample: (C, H, W) if it is repeated, else (T, *features).

    Raises:
        ModelError: A weight, a bias or a statistic is not finite.
        UnsupportedError: A module that the description lacks.
    """
    repeated = chain.time_steps is not None
    steps = chain.time_steps or sample[0]
    shape, stages = real_stages(chain, sample if repeated else sample[1:])
    return RealNetwork(name, stages, shape, steps, repeated, chain, network)


def default_formats(
    real: RealNetwork,
    samples: Tensor,
    weights: WeightFormat | None = None,
    width: int = NEURON_BITS,
    input_width: int = INPUT_BITS,
) -> NetworkFormats:
    """Return formats of given widths, with the integer bits that some samples need.

    Every node of a layer of neurons has one format, except for coefficients that the neurons need
    and that would round to 0, which have their own. If the integer bits that hold every node leave
    fewer than `FEW` fraction bits in a layer, smaller ones, at which nodes saturate, are tried too.
    Those with the most predictions of the network in float are returned; of several, those with
    the fewest outputs of neurons that differ.

    Raises:
        ModelError: The input of the network or of a layer of neurons needs more integer bits than
            the width, or the former more than `MOST_BITS` fraction bits; numbers that the neurons
            need round to 0 in every format.
    """
    logits, traces = trace_layers(real.network, samples)
    whole = {s.name: whole_bits(s, traces[s.name].x_seq, width) for s in real.neurons}
    holding = {name: FixedSpec(_holding(name, bits, width)) for name, bits in whole.items()}
    forms = {stage.name: weights or WeightFormat() for stage in real.weights}
    formats = NetworkFormats(input_format(samples, input_width), forms, holding)
    if all(width - bits >= FEW for bits in whole.values()):
        kept = {s.name: keeping(s, holding[s.name], traces[s.name].x_seq) for s in real.neurons}
        return replace(formats, neurons=kept)
    labels = (logits.mean(0) if logits.dim() == 3 else logits).argmax(1).cpu().numpy()
    best, most, lost = formats, (-1, 0.0), None
    shares: dict[tuple[str, FixedSpec], float] = {}
    for limit in range(max(whole.values()), 1, -1):
        capped = {n: FixedSpec(_holding(n, min(b, limit), width)) for n, b in whole.items()}
        candidate = replace(formats, neurons=capped)
        try:
            network = integer_network(real, candidate)
        except ModelError:  # a parameter does not fit
            break
        try:
            require_layers(real.neurons, capped, traces)
        except ModelError as error:
            lost = lost or error
            continue
        found = interpret_network(network, integer_samples(network, samples.cpu().numpy()))
        for stage in real.neurons:
            key = stage.name, capped[stage.name]
            if key not in shares:
                own = differing(stage, capped[stage.name], traces[stage.name].x_seq)
                shares[key] = own.share + own.sums
        different = sum(shares[item] for item in capped.items())
        rank = int((found.labels == labels).sum()), -different
        if rank > most:
            best, most = candidate, rank
    if most[0] < 0 and lost is not None:
        bound = "Bound the states by smaller limits, with lnm.clip in the charge"
        remedy = f"{bound}, or scale the samples down."
        raise ModelError(lost.where, lost.problem, remedy=remedy)
    return best


def whole_bits(
    stage: RealNeurons, x_seq: Tensor, width: int = NEURON_BITS, fraction: int = MOST_BITS
) -> int:
    """Return the least integer bits, with the sign, that hold every node of neurons on inputs.

    In a format of `width` bits, of which at most `fraction` are below the point, they hold the
    constants too, which do not saturate. They are at most `width`: potentials that need more
    saturate.

    Raises:
        ModelError: The input needs more integer bits than the width; the place names the layer.
    """
    neuron = stage.layer.neuron
    try:
        ranges, constants = recorded_ranges(stage.layer, x_seq), constants_of(neuron)
    except ModelError as error:
        raise error.within(stage.name) from None
    bits = {name: integer_bits(span, 14) for name, span in ranges.items()}
    x = neuron.inputs[0].name
    remedy = "Scale its input and its thresholds down. `lnm emit` also takes a wider --format."
    _holding(f"{stage.name}, {x}", bits[x], width, remedy)
    whole = min(width, max(1, *bits.values()))
    while whole < width and not _fit(constants, Bits(width, min(width - whole, fraction))):
        whole += 1
    return whole


def _fit(values: Iterable[Fraction], bits: Bits) -> bool:
    return all(bits.holds(bits.nearest(value)) for value in values)


def input_format(samples: Tensor, width: int) -> Bits | None:
    """Return the format of a width that holds samples, or None if they are spikes.

    It has as many fraction bits as possible; for small samples, more than the width.

    Raises:
        ModelError: The samples need more integer bits than the width, or more than `MOST_BITS`
            fraction bits.
    """
    if bool(((samples == 0) | (samples == 1)).all()):
        return None
    ends = (float(samples.min()), float(samples.max()))
    interval = interval_of("input", "values", (min(ends[0], 0.0), max(ends[1], 0.0)))
    whole = integer_bits(interval, width)
    remedy = "Scale the samples down, and the weights of the first layer up."
    frac = _holding("input", whole, width, remedy).frac
    while whole == 1 and integer_bits(_doubled(interval), width) == 1:
        interval, frac = _doubled(interval), frac + 1
    if frac > MOST_BITS:
        problem = f"its values need {frac} fraction bits in a width of {width}"
        remedy = "Scale the samples up, and the weights of the first layer down."
        raise ModelError("formats: input", problem, f"at most {MOST_BITS}", remedy)
    return Bits(width, frac)


def _doubled(interval: Interval) -> Interval:
    return Interval(2 * interval.low, 2 * interval.high)


def _holding(name: str, whole: int, width: int, remedy: str = "") -> Fixed:
    if whole > width:
        problem = f"its values need {whole} integer bits"
        raise ModelError(f"formats: {name}", problem, f"a width of {whole} or more", remedy)
    return Fixed(width, width - whole)


def integer_network(real: RealNetwork, formats: NetworkFormats) -> IntegerNetwork:
    """Return the network in integers.

    Raises:
        ModelError: A number does not fit its format.
        UnsupportedError: A neuron has no fixed-point form.
    """
    values = SPIKES if formats.input is None else values_of_bits(formats.input)
    shape, stages = real.input_shape, list[AnyStage]()
    first = values
    for stage, after in zip(real.stages, (*real.stages[1:], None), strict=True):
        made: AnyStage
        if isinstance(stage, RealWeights):
            form = formats.weights[stage.name]
            if isinstance(after, RealNeurons):
                made = integer_weights(stage, form, values, _input_bits(after, formats))
            else:
                made = integer_readout(stage, form, values)
        elif isinstance(stage, RealNeurons):
            neuron, parameters = stage.layer.neuron, layer_parameters(stage.layer)
            spec = formats.neurons[stage.name]
            made = neuron_stage(stage.name, neuron, spec, shape, parameters)
        else:
            made = stage
        stages.append(made)
        shape, values = output_shape(made, shape), output_values(made, values)
    network = IntegerNetwork(
        name=real.name,
        time_steps=real.time_steps,
        repeated=real.repeated,
        input_shape=real.input_shape,
        input=first,
        stages=tuple(stages),
        over=real.chain.over,
    )
    return require_network(network)


def default_network(
    real: RealNetwork,
    samples: Tensor,
    weights: WeightFormat,
    neurons: Mapping[str, FixedSpec] | None = None,
) -> IntegerNetwork:
    """Return the network in integers in the default formats of some samples.

    `neurons` are other formats of the neurons: name of a layer -> the formats of its nodes.

    Raises:
        ModelError: A number does not fit its format.
        UnsupportedError: A neuron has no fixed-point form.
    """
    if neurons is None:
        return integer_network(real, default_formats(real, samples, weights))
    require_layers(real.neurons, neurons, trace_layers(real.network, samples)[1])
    forms = {stage.name: weights for stage in real.weights}
    formats = NetworkFormats(input_format(samples, INPUT_BITS), forms, neurons)
    return integer_network(real, formats)


def _input_bits(neurons: RealNeurons, formats: NetworkFormats) -> Bits:
    return formats.neurons[neurons.name][neurons.layer.neuron.inputs[0].name].bits


def integer_samples(network: IntegerNetwork, x: Any) -> Integers:
    """Return a batch of a data set as integers: (N, *), or (T, N, *); nearest, ties up, saturated.

    Raises:
        ShapeError: The input is spikes, and a number is neither 0 nor 1.
    """
    array = np.asarray(x)
    lead = 1 if network.repeated else 2
    array = array.reshape(*array.shape[:lead], *network.input_shape)
    if network.input == SPIKES:
        others = array[(array != 0) & (array != 1)]
        if others.size:
            raise ShapeError(network.name, f"a sample holds {others.flat[0]:g}", "spikes, 0 or 1")
        return array.astype(np.int64)
    return np.asarray(integers(array, Bits(network.input.width, network.input.frac)))
