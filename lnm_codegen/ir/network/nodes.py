"""Description of a network in integers: stages from the input to the readout. Everything is frozen.

    IntegerNetwork = name, time_steps, repeated, input_shape, input, stages, over
    stage          = WeightStage | PoolStage | FlattenStage | NeuronStage | AddStage | BranchStage

A stage reads the stage before. An `AddStage` also reads an earlier one, a `BranchStage` only that.

A sample is T time steps of integers in the order of (C, H, W), or (F,). Every integer has a span
[low, high] and a number of fraction bits, its `ValueSpan`. A spike is 1, without fraction bits. The
stages decide every shift, rounding and saturation; C and Verilog decide none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import Span, spans
from lnm_codegen.ir.kernel import Role
from lnm_codegen.ir.types import Bits

Integers: TypeAlias = NDArray[Any]
"""An array of a signed integer type."""
Shape: TypeAlias = tuple[int, ...]
"""(C, H, W) or (F,): the values of one time step of one sample."""

WeightKind = Literal["linear", "conv"]
PoolKind = Literal["sum", "max"]
OverTime = Literal["mean", "last", "max", "step"]
REDUCED: tuple[OverTime, ...] = ("mean", "last", "max")
"""Reductions over time."""
OVER: tuple[OverTime, ...] = (*REDUCED, "step")
"""The scores of a sample: reduced over time, or those of every step."""


@dataclass(frozen=True, eq=False)
class WeightStage:
    """Weighted sums of a linear layer or a convolution, with a bias.

        acc = bias[o] + sum_i weight[o, i] * a[i]                        exact
        y   = saturate(half_up(multiplier[o] * acc / 2**shift[o]))       to `output`

    A recurrent layer has a delay. The spikes of the next neurons, `delay` steps before, follow the
    inputs in a; a spike there is 2**(frac of the inputs), and 0 in the first steps.

    A negative shift multiplies by 2**-shift. The real value of an integer weight w is
    w * multiplier[o] / 2**(shift[o] + frac of y - frac of a); the multiplier is 1 for weights times
    a power of two.

    Attributes:
        name: Name of the layer in the trained network.
        kind: "linear" or "conv".
        weight: (outputs, inputs), with a delay (outputs, inputs + outputs), or (C', C, KH, KW).
        bits: Width of a weight, 2 to 16.
        bias: Integers of the accumulator, (outputs,) or (C',).
        multiplier: (1,) or (outputs,); of at most 15 bits.
        shift: (1,) or (outputs,), -31 to 62.
        accumulator: Width of acc, proven to hold every partial sum.
        output: Format of y.
        stride: Of a convolution, in pixels.
        padding: Zeros of a convolution on each side.
        delay: Steps after which the outputs of the next neurons return; 0 without feedback.
    """

    name: str
    kind: WeightKind
    weight: Integers = field(repr=False)
    bits: int
    bias: Integers = field(repr=False)
    multiplier: Integers = field(repr=False)
    shift: Integers = field(repr=False)
    accumulator: int
    output: Bits
    stride: int = 1
    padding: int = 0
    delay: int = 0

    @property
    def channels(self) -> int:
        """Number of outputs, or of output channels."""
        return int(self.weight.shape[0])

    @property
    def fed(self) -> int:
        """Number of inputs that are spikes of the next neurons."""
        return self.channels if self.delay else 0

    def factors(self, inputs: ValueSpan) -> ValueSpan:
        """Return the values that weights multiply: inputs, and spikes of the next neurons."""
        spike = 1 << inputs.frac
        return replace(inputs, high=max(inputs.high, spike)) if self.delay else inputs

    def _parts(self, inputs: ValueSpan) -> list[tuple[Integers, ValueSpan]]:
        """Return weights (outputs, some inputs) in int64, and the values of these inputs."""
        rows = self.weight.reshape(self.channels, -1).astype(np.int64)
        own = rows.shape[1] - self.fed
        spike = ValueSpan(0, 1 << inputs.frac, inputs.frac)
        return [(rows[:, :own], inputs), (rows[:, own:], spike)]

    def bound(self, inputs: ValueSpan) -> int:
        """Return the largest magnitude of an accumulator: max_o |bias| + sum |w| * max |a|.

        Every partial sum, in any order of the addends, stays within it.
        """
        found = [abs(int(bias)) for bias in self.bias]  # Python's integers do not overflow
        for rows, values in self._parts(inputs):
            sums = np.abs(rows).sum(1).tolist()
            found = [a + int(s) * values.magnitude for a, s in zip(found, sums, strict=True)]
        return max(found)

    def fitted(self, inputs: ValueSpan) -> WeightStage:
        """Return the stage with the least accumulator that holds every partial sum."""
        bound = self.bound(inputs)
        return replace(self, accumulator=max(2, width_of((-bound, bound))))

    def scaled_spans(self, inputs: ValueSpan) -> list[Span]:
        """Return the span of multiplier * acc of each output channel."""
        found = [(int(bias), int(bias)) for bias in self.bias]
        for rows, values in self._parts(inputs):
            ups, downs = rows.clip(min=0).sum(1).tolist(), rows.clip(max=0).sum(1).tolist()
            least, most = min(values.low, 0), max(values.high, 0)  # a padded input is 0
            found = [
                (low + up * least + down * most, high + up * most + down * least)
                for (low, high), up, down in zip(found, ups, downs, strict=True)
            ]
        return [(k * low, k * high) for (low, high), k in zip(found, self.multipliers, strict=True)]

    @property
    def multipliers(self) -> list[int]:
        """The multiplier of each output channel."""
        return [int(k) for k in np.broadcast_to(self.multiplier, self.channels)]

    @property
    def shifts(self) -> list[int]:
        """The shift of each output channel."""
        return [int(k) for k in np.broadcast_to(self.shift, self.channels)]

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of the outputs."""
        return shape_of_sums(self.weight.shape, shape, self.stride, self.padding)

    def output_values(self, inputs: ValueSpan) -> ValueSpan:
        """Return the values of the outputs: all of the format."""
        return values_of_bits(self.output)


def shape_of_sums(weight: Shape, shape: Shape, stride: int, padding: int) -> Shape:
    """Return the shape of the outputs of weights of a shape, for inputs of a shape."""
    sizes = zip(shape[1:], weight[2:], strict=True)
    return (weight[0], *((n + 2 * padding - k) // stride + 1 for n, k in sizes))


@dataclass(frozen=True, slots=True)
class PoolStage:
    """Sums or maxima of windows of `size` x `size`, which do not overlap; a rest is left out.

    An average is a sum whose divisor is part of the next weights.
    """

    kind: PoolKind
    size: int

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of the outputs."""
        return (shape[0], shape[1] // self.size, shape[2] // self.size)

    def output_values(self, inputs: ValueSpan) -> ValueSpan:
        """Return the values of the outputs."""
        if self.kind == "max":
            return inputs
        count = self.size * self.size
        return ValueSpan(count * inputs.low, count * inputs.high, inputs.frac)


@dataclass(frozen=True, slots=True)
class FlattenStage:
    """(C, H, W) as (C*H*W,), in the same order."""

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of the outputs."""
        return (size_of(shape),)

    def output_values(self, inputs: ValueSpan) -> ValueSpan:
        """Return the values of the outputs."""
        return inputs


@dataclass(frozen=True, slots=True)
class AddStage:
    """Sums of the output a of the stage before and the output b of an earlier one, elementwise.

        acc = a * 2**(frac - frac of a) + b * 2**(frac - frac of b)      exact
        y   = saturate(half_up(acc / 2**(frac - frac of output)))        to `output`

    frac is the largest one of a, b and output. Without an output format, y is acc.

    Attributes:
        other: Index of the stage of b; -1 is the input of the network.
        output: Format of y, or None.
    """

    other: int
    output: Bits | None = None

    def output_shape(self, shape: Shape, other: Shape) -> Shape:
        """Return the shape of the outputs."""
        return shape

    def exact(self, inputs: ValueSpan, other: ValueSpan) -> ValueSpan:
        """Return the values of acc."""
        left, right = self.places(inputs, other)
        low = (inputs.low << left) + (other.low << right)
        return ValueSpan(low, (inputs.high << left) + (other.high << right), inputs.frac + left)

    def held(self, inputs: ValueSpan, other: ValueSpan) -> Span:
        """Return a span of acc, its addends, their factors, and acc with half of a rounding."""
        exact, output, places = self.exact(inputs, other), self.output, self.places(inputs, other)
        half = 0 if output is None else (1 << (exact.frac - output.frac)) >> 1
        pairs = list(zip((inputs, other), places, strict=True))
        lows = [span.low << left for span, left in pairs]
        highs = [max(span.high, 1) << left for span, left in pairs]
        return min(exact.low, *lows), max(exact.high + half, *highs)

    def places(self, inputs: ValueSpan, other: ValueSpan) -> tuple[int, int]:
        """Return the shifts to the left of a and of b."""
        frac = max(inputs.frac, other.frac, 0 if self.output is None else self.output.frac)
        return frac - inputs.frac, frac - other.frac

    def output_values(self, inputs: ValueSpan, other: ValueSpan) -> ValueSpan:
        """Return the values of the outputs."""
        return self.exact(inputs, other) if self.output is None else values_of_bits(self.output)


@dataclass(frozen=True, slots=True)
class BranchStage:
    """The output of an earlier stage again, for the stages that follow.

    Attributes:
        origin: Index of that stage; -1 is the input of the network.
    """

    origin: int

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of the outputs."""
        return shape

    def output_values(self, inputs: ValueSpan) -> ValueSpan:
        """Return the values of the outputs."""
        return inputs


@dataclass(frozen=True, eq=False)
class NeuronStage:
    """Neurons with states: one step of `program` for each value of a time step.

    Neuron n of shape (C, *) reads number 0, n // inner or n of a coefficient or an initial state
    that has 1, C or all numbers; inner is the number of neurons of a channel.

    Attributes:
        name: Name of the layer in the trained network.
        program: One step of one neuron, with one input and one output.
        coefficients: Prepared parameter -> integers (1,), (C,) or (neurons,).
        initial: State -> integers (1,), (C,) or (neurons,).
    """

    name: str
    program: fx.Program = field(repr=False)
    coefficients: tuple[tuple[str, Integers], ...] = field(repr=False)
    initial: tuple[tuple[str, Integers], ...] = field(repr=False)

    @property
    def input(self) -> fx.Var:
        """The input of the step."""
        (var,) = self.program.kernel.input_vars(Role.INPUT)
        return var

    @property
    def output(self) -> fx.Var:
        """The output of the step: a condition (a spike) or a number."""
        (var,) = self.program.kernel.result_vars(Role.OUTPUT)
        return var

    @property
    def known(self) -> dict[str, Span]:
        """Coefficient -> the span of its integers."""
        return {name: (int(k.min()), int(k.max())) for name, k in self.coefficients}

    @property
    def values(self) -> ValueSpan:
        """The values of the output."""
        if not isinstance(self.output.type, Bits):
            return SPIKES
        kernel = self.program.kernel
        low, high = spans(kernel, self.known)[self.output.name]
        return ValueSpan(low, high, self.output.type.frac)

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of the outputs."""
        return shape

    def output_values(self, inputs: ValueSpan) -> ValueSpan:
        """Return `values`."""
        return self.values


AnyStage: TypeAlias = WeightStage | PoolStage | FlattenStage | NeuronStage | AddStage | BranchStage
T = TypeVar("T")


def sources_of(k: int, stage: Any) -> tuple[int, ...]:
    """Return the indices of the stages that stage k reads; -1 is the input of the network."""
    match stage:
        case AddStage(other):
            return k - 1, other
        case BranchStage(origin):
            return (origin,)
    return (k - 1,)


def operands(k: int, stage: Any, found: Sequence[T]) -> list[T]:
    """Return what is known of the stages that stage k reads: `found` begins with the input."""
    return [found[source + 1] for source in sources_of(k, stage)]


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """A network in integers: from one sample to the scores of its classes.

    The scores are the outputs of the last stage summed over time ("mean"; the division does not
    change the largest), of the last step ("last"), their maxima over time ("max"), or those of
    every step ("step"). The label, of the sample or of each step, is the class of the largest
    score, the lowest one of equal scores.

    Attributes:
        name: A C identifier.
        time_steps: T.
        repeated: The sample is one step, repeated T times.
        input_shape: (C, H, W) or (F,) of one step.
        input: Its values: `SPIKES`, all integers of a format, or another span.
        stages: First to last.
        over: Reduction over time, one of `REDUCED`, or "step".
    """

    name: str
    time_steps: int
    repeated: bool
    input_shape: Shape
    input: ValueSpan
    stages: tuple[AnyStage, ...]
    over: OverTime

    def shapes(self) -> tuple[Shape, ...]:
        """Return the shape of the input, then of the output of each stage."""
        found = [self.input_shape]
        for k, stage in enumerate(self.stages):
            found.append(stage.output_shape(*operands(k, stage, found)))
        return tuple(found)

    def values(self) -> tuple[ValueSpan, ...]:
        """Return the values of the input, then of the output of each stage."""
        found = [self.input]
        for k, stage in enumerate(self.stages):
            found.append(stage.output_values(*operands(k, stage, found)))
        return tuple(found)

    @property
    def sample_size(self) -> int:
        """Number of inputs of a sample: those of all time steps, or of the repeated one."""
        return (1 if self.repeated else self.time_steps) * size_of(self.input_shape)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return size_of(self.shapes()[-1])

    @property
    def labels(self) -> int:
        """Labels of a sample: one, or one for each step."""
        return self.time_steps if self.over == "step" else 1

    @property
    def score_count(self) -> int:
        """Number of scores of a sample: of each class, for each label."""
        return self.labels * self.classes

    @property
    def scores(self) -> ValueSpan:
        """The values of the scores."""
        last = self.values()[-1]
        if self.over != "mean":
            return last
        return ValueSpan(self.time_steps * last.low, self.time_steps * last.high, last.frac)

    @property
    def constant_stages(self) -> int:
        """Number of stages whose output is the same in every time step of a sample."""
        if not self.repeated:
            return 0
        changes = [
            isinstance(stage, NeuronStage) or (isinstance(stage, WeightStage) and stage.delay > 0)
            for stage in self.stages
        ]
        return changes.index(True) if True in changes else len(changes)

    def neurons_after(self, k: int) -> NeuronStage:
        """Return the neurons that follow stage k, a recurrent one."""
        after = self.stages[k + 1]
        assert isinstance(after, NeuronStage), "a valid network"
        return after


def size_of(shape: Sequence[int]) -> int:
    """Return the number of values of a shape."""
    return math.prod(int(n) for n in shape)  # of any size: a file may hold anything


# Spans of the integers between two stages of a network.


@dataclass(frozen=True, slots=True)
class ValueSpan:
    """Integers from `low` to `high`; the integer k encodes k / 2**frac."""

    low: int
    high: int
    frac: int = 0

    @property
    def magnitude(self) -> int:
        """The largest absolute integer."""
        return max(abs(self.low), abs(self.high))

    @property
    def are_spikes(self) -> bool:
        """Whether 0 and 1 are the only integers."""
        return (self.low, self.high, self.frac) == (0, 1, 0)

    @property
    def width(self) -> int:
        """Least number of bits of two's complement."""
        return width_of((self.low, self.high))


SPIKES = ValueSpan(0, 1)


def width_of(span: Span) -> int:
    """Return the least number of bits of two's complement that holds every integer of a span."""
    return max((-1 - span[0]).bit_length() if span[0] < 0 else 0, max(span[1], 0).bit_length()) + 1


def values_of_bits(bits: Bits) -> ValueSpan:
    """Return all integers of a format."""
    return ValueSpan(bits.low, bits.high, bits.frac)


# Sentences about the samples and the scores of a network, for the README files of its folders.


def order_text(network: IntegerNetwork) -> str:
    """Return the order of the integers of a sample."""
    shape, size = network.input_shape, size_of(network.input_shape)
    if len(shape) == 3:
        _, height, width = shape
        inside = (
            f"A time step has the shape (C, H, W) = ({', '.join(map(str, shape))}); element"
            f" (c, h, w) is its number (c * {height} + h) * {width} + w."
        )
    else:
        inside = f"A time step has {size} elements, element 0 first."
    steps = network.time_steps
    if network.repeated:
        return f"{inside} A sample is one time step; the network repeats it {steps} times."
    return (
        f"{inside} The {steps} time steps follow one another, the first step first:"
        f" element i of step t is number t * {size} + i of a sample."
    )


def score_text(network: IntegerNetwork) -> str:
    """Return the meaning of a score."""
    steps = network.time_steps
    source = _outputs(network)
    over = {
        "mean": f"the sum over the {steps} time steps of {source}; its mean is the sum / {steps}",
        "last": f"{source}, in the last of {steps} time steps",
        "max": f"the maximum over the {steps} time steps of {source}",
        "step": f"{source}, in each of {steps} time steps, the first step first",
    }[network.over]
    label = "the class of the largest score, the lowest class of equal scores"
    if network.over == "step":
        return f"The score of class k is {over}. The label of a step is {label}."
    return f"The score of class k is {over}. The label is {label}."


def conversion_text(network: IntegerNetwork) -> str:
    """Return the integer of a real input."""
    if network.input.are_spikes:
        return "An input is a spike; other numbers are not accepted."
    return f"The integer of a real input a is {integer_text(network, 'a')}."


def integer_text(network: IntegerNetwork, real: str) -> str:
    """Return the formula of the integer k of a real input with the name `real`."""
    span = network.input
    if span.are_spikes:
        return f"k = {real}"
    return f"k = floor({real} * 2^{span.frac} + 1/2), saturated to {span.low} to {span.high}"


def _outputs(network: IntegerNetwork) -> str:
    """Return the output k of the last stage with a name, in words."""
    stage = next(s for s in reversed(network.stages) if not isinstance(s, FlattenStage))
    match stage:
        case AddStage():
            return "sum k of the last addition"
        case WeightStage():
            return f"output k of the layer `{stage.name}`"
        case NeuronStage():
            what = "spike" if stage.values.are_spikes else f"output `{stage.output.name}`"
            return f"the {what} of neuron k of `{stage.name}`"
        case _:
            return "value k of the last pooling"
