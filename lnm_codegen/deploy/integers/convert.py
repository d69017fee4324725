"""Conversion of a trained chain to a network in integers, and its formats by default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from lnm_codegen.analysis.charge import emits_spikes
from lnm_codegen.analysis.interval import Interval, integer_bits, interval_of
from lnm_codegen.compiler.fixed import (
    fixed_neuron,
    integers,
    interpret_fixed,
    neuron_stage,
    program_of,
)
from lnm_codegen.compiler.interpret import interpret
from lnm_codegen.compiler.lost import Lost, keeping_formats, lost_error
from lnm_codegen.deploy.integers.real import (
    RealNeurons,
    RealStage,
    RealWeights,
    ScaleName,
    WeightFormat,
    integer_readout,
    integer_weights,
    real_stages,
)
from lnm_codegen.deploy.network import LayerTrace, float64, layer_parameters, trace_layers
from lnm_codegen.deploy.ranges import constants_of, recorded_ranges
from lnm_codegen.errors import ModelError, ShapeError
from lnm_codegen.hardware.notes import rounded_note, zero_note
from lnm_codegen.ir.kernel import Role
from lnm_codegen.ir.network.interpret import interpret_network
from lnm_codegen.ir.network.nodes import (
    SPIKES,
    AddStage,
    AnyStage,
    BranchStage,
    IntegerNetwork,
    Integers,
    NeuronStage,
    Shape,
    WeightStage,
    operands,
    sources_of,
    values_of_bits,
)
from lnm_codegen.ir.network.verify import require_network
from lnm_codegen.ir.types import MOST_BITS, Bits, Fixed, FixedSpec
from lnm_codegen.nn.chain import Chain, scores_over

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
        readout: Format of the sums that are the scores; by default that of their exact values.
    """

    input: Bits | None
    weights: Mapping[str, WeightFormat]
    neurons: Mapping[str, FixedSpec]
    readout: Bits | None = None


def formats_of(network: IntegerNetwork) -> NetworkFormats:
    """Return the formats of a network in integers, for other numbers of the same network."""
    weights, neurons, last = dict[str, WeightFormat](), dict[str, FixedSpec](), None
    for stage in network.stages:
        if isinstance(stage, WeightStage):
            per: ScaleName = "channel" if len(stage.shift) > 1 else "layer"
            has_multiplier = any(k != 1 for k in stage.multipliers)
            weights[stage.name] = WeightFormat(stage.bits, per, has_multiplier)
            last = stage.output
        elif isinstance(stage, NeuronStage):
            neurons[stage.name] = stage.program.spec
    own = network.input
    form = None if own.are_spikes else Bits(own.width, own.frac)
    return NetworkFormats(form, weights, neurons, last)


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
        return replace(formats, neurons=_kept(real.neurons, holding, traces))
    labels = scores_over(real.chain.over, logits).argmax(-1).cpu().numpy()
    best, most, lost = formats, (-1, 0.0), None
    compared: dict[tuple[str, FixedSpec], Differing] = {}
    for limit in range(max(whole.values()), 1, -1):
        capped = {n: FixedSpec(_holding(n, min(b, limit), width)) for n, b in whole.items()}
        try:
            integer_network(real, replace(formats, neurons=capped))
        except ModelError:  # a parameter does not fit
            break
        own = capped
        try:
            require_layers(real.neurons, capped, traces)
        except ModelError as error:
            lost = lost or error
            try:
                own = _kept(real.neurons, capped, traces)
            except ModelError:
                continue
        for stage in real.neurons:
            key = stage.name, own[stage.name]
            if key not in compared:
                compared[key] = differing(stage, key[1], traces[stage.name].x_seq)
        layers = [compared[item] for item in own.items()]
        if own is not capped and any(layer.are_many for layer in layers):
            continue  # its coefficients are kept, and too few fraction bits remain
        candidate = replace(formats, neurons=own)
        network = integer_network(real, candidate)
        found = interpret_network(network, integer_samples(network, samples.cpu().numpy()))
        different = sum(layer.share + layer.sums for layer in layers)
        rank = int((found.labels == labels).sum()), -different
        if rank > most:
            best, most = candidate, rank
    if most[0] < 0 and lost is not None:
        bound = "Bound the states by smaller limits, with lnm.clip in the charge"
        remedy = f"{bound}, or scale the samples down."
        raise ModelError(lost.where, lost.problem, remedy=remedy)
    return best


def _kept(
    neurons: Iterable[RealNeurons],
    specs: Mapping[str, FixedSpec],
    traces: Mapping[str, LayerTrace],
) -> dict[str, FixedSpec]:
    """Return the specs with formats that keep coefficients; see `keeping`."""
    return {s.name: keeping(s, specs[s.name], traces[s.name].x_seq) for s in neurons}


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
    remedy = "Scale its input and its thresholds down. `lnm deploy` also takes a wider --format."
    _holding(f"{stage.name}, {x}", bits[x], width, remedy)
    whole = min(width, max(1, *bits.values()))
    while whole < width:
        form = Bits(width, min(width - whole, fraction))
        if all(form.holds(form.nearest(value)) for value in constants):
            break
        whole += 1
    return whole


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
    first = SPIKES if formats.input is None else values_of_bits(formats.input)
    shapes, spans, stages = [real.input_shape], [first], list[AnyStage]()
    for k, stage in enumerate(real.stages):
        made: AnyStage
        after = _neurons_after(real.stages, k)
        shape, values = operands(k, stage, shapes)[0], operands(k, stage, spans)[0]
        is_direct = after is not None and after is (*real.stages[k + 1 :], None)[0]
        output = None
        if after is not None:
            output = formats.neurons[after.name][after.layer.neuron.inputs[0].name].bits
        if isinstance(stage, RealWeights):
            form = formats.weights[stage.name]
            if output is None:
                own = formats.readout if stage is real.weights[-1] else None
                made = integer_readout(stage, form, values, own)
            else:  # a sum that is added to may be larger than its neurons' input
                wide = Bits(min(output.width + 1, 32), output.frac)
                made = integer_weights(stage, form, values, output if is_direct else wide)
        elif isinstance(stage, AddStage):
            made = replace(stage, output=output if is_direct else None)
        elif isinstance(stage, RealNeurons):
            neuron, parameters = stage.layer.neuron, layer_parameters(stage.layer)
            spec = formats.neurons[stage.name]
            made = neuron_stage(stage.name, neuron, spec, shape, parameters)
        else:
            made = stage
        shapes.append(made.output_shape(*operands(k, made, shapes)))
        spans.append(made.output_values(*operands(k, made, spans)))
        stages.append(made)
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


def _neurons_after(stages: Sequence[RealStage], k: int) -> RealNeurons | None:
    """Return the neurons that read stage k, itself or what is added to it; None without."""
    readers = [n for n in range(k + 1, len(stages)) if k in sources_of(n, stages[n])]
    for n in readers:
        stage = stages[n]
        if isinstance(stage, RealNeurons):
            return stage
        found = _neurons_after(stages, n) if isinstance(stage, AddStage | BranchStage) else None
        if found is not None:
            return found
    return None


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


# Layers of neurons in fixed point: numbers that round to 0 or 1, outputs that differ from float.
#
# A network of integers may predict the same classes as in float although its neurons do not have
# the same spikes. So formats are compared on the inputs that reached each layer.


MOST_OUTPUTS = 1 << 20
"""Most outputs of a layer that are compared, in whole samples."""
NOTED = 0.1
"""Outputs that differ, per output that is not 0 in float, above which a layer is noted."""


def require_layers(
    neurons: Iterable[RealNeurons],
    specs: Mapping[str, FixedSpec],
    traces: Mapping[str, LayerTrace],
) -> None:
    """Raise ModelError where a number that neurons need rounds to 0, on recorded inputs."""
    for stage in neurons:
        lost, difference = _needed(stage, specs[stage.name], traces[stage.name].x_seq)
        if lost:
            raise lost_error(f"formats: {stage.name}", lost, difference)


def keeping(stage: RealNeurons, spec: FixedSpec, x_seq: Tensor) -> FixedSpec:
    """Return a spec in which coefficients that neurons need have formats that keep them.

    Raises:
        ModelError: A constant that the neurons need rounds to 0.
    """
    names = {*program_of(stage.layer.neuron, spec).kernel.input_names(Role.PARAM)}
    lost, _ = _needed(stage, spec, x_seq)
    if not lost:
        return spec
    formats = keeping_formats([one for one in lost if one.name in names])
    kept = FixedSpec(spec.default, {n: Fixed(b.width, b.frac) for n, b in formats.items()})
    others, difference = _needed(stage, kept, x_seq)
    if others:
        error = lost_error(f"formats: {stage.name}", others, difference)
        remedy = "Make each constant an lnm.param(..., learnable=False), which gets its own format."
        raise ModelError(error.where, error.problem, remedy=remedy)
    return kept


def _needed(stage: RealNeurons, spec: FixedSpec, x_seq: Tensor) -> tuple[list[Lost], float]:
    """Return the numbers that neurons need and that round to 0, on recorded inputs."""
    neuron, values = stage.layer.neuron, layer_parameters(stage.layer)
    own = fixed_neuron(neuron, program_of(neuron, spec), values, x_seq.shape[2:])
    return own.needed({neuron.inputs[0].name: float64(x_seq.flatten(2))})


@dataclass(frozen=True, slots=True)
class Differing:
    """Outputs of a layer that differ by half a spike or more from float; of numbers, by 1/10.

    Attributes:
        outputs: Outputs that were compared.
        differing: Those that differ.
        active: Those that are not 0 in float.
        sums: Mean difference of the sums over time, divided by the time steps.
        are_spikes: The outputs are spikes.
    """

    outputs: int
    differing: int
    active: int
    sums: float
    are_spikes: bool

    @property
    def share(self) -> float:
        """Share of the outputs that differ."""
        return self.differing / self.outputs

    @property
    def are_many(self) -> bool:
        """Whether so many differ that the layer is noted."""
        return self.differing > NOTED * max(self.active, 1)

    def __str__(self) -> str:
        """Return a sentence without a full stop."""
        noun, what = ("spike", "a spike") if self.are_spikes else ("output", "one that is not 0")
        return (
            f"a{'n' * (noun == 'output')} {noun} differs in {100 * self.share:.3g} % of the steps,"
            f" and {100 * self.active / self.outputs:.3g} % have {what} in float"
        )


def differing(stage: RealNeurons, spec: FixedSpec, x_seq: Tensor) -> Differing:
    """Compare a layer with float on the first samples of its recorded inputs."""
    neuron = stage.layer.neuron
    values: dict[str, Any] = layer_parameters(stage.layer)
    count = max(1, MOST_OUTPUTS // max(x_seq[:, :1].numel(), 1))
    x = float64(x_seq[:, :count])
    exact = interpret(neuron, x, **values).out
    found = interpret_fixed(neuron, x, spec=spec, **values).out
    are_spikes = emits_spikes(neuron)
    with np.errstate(invalid="ignore"):
        limit = 0.5 if are_spikes else NOTED * float(np.nanmax(np.abs(exact), initial=0.0))
        differs = ~(np.abs(exact - found) < limit) & (exact != found)
    sums = float(np.mean(np.abs((exact - found).sum(0)))) / len(exact)
    counts = int(differs.sum()), int(np.count_nonzero(exact))
    return Differing(exact.size, *counts, sums, are_spikes)


def differing_notes(
    neurons: Iterable[RealNeurons], network: IntegerNetwork, traces: Mapping[str, LayerTrace]
) -> list[str]:
    """Return `layer: sentence` for each layer in which many outputs differ from float."""
    programs = {s.name: s.program for s in network.stages if isinstance(s, NeuronStage)}
    found = []
    for stage in neurons:
        own = differing(stage, programs[stage.name].spec, traces[stage.name].x_seq)
        if own.are_many:
            found.append(f"{stage.name}: {own}")
    return found


def zero_notes(network: IntegerNetwork, neurons: Iterable[RealNeurons]) -> list[str]:
    """Return `layer: sentence` for each layer of neurons that has such numbers."""
    layers = iter(neurons)
    found: list[str] = []
    for stage, shape in zip(network.stages, network.shapes()[:-1], strict=True):
        if not isinstance(stage, NeuronStage):
            continue
        layer = next(layers).layer
        own = fixed_neuron(layer.neuron, stage.program, layer_parameters(layer), shape)
        reals = {n: a.ravel().tolist() for n, a in own.reals.items()}
        integers = {
            n: np.repeat(a, len(reals[n]) // len(a)).tolist() for n, a in stage.coefficients
        }
        for note in (zero_note(integers), rounded_note(stage.program, integers, reals)):
            found += [f"{stage.name}: {note}"] if note is not None else []
    return found
