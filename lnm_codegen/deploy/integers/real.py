"""A chain of trained modules as real stages, and real weights as integers times a scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import floor, frexp, log2
from typing import Literal, TypeAlias

import numpy as np
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lnm_codegen.deploy.network import Normalisation, float64, folded
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir.fixed.nodes import Span
from lnm_codegen.ir.interpret import Array
from lnm_codegen.ir.network.nodes import (
    AddStage,
    BranchStage,
    FlattenStage,
    PoolStage,
    Shape,
    ValueSpan,
    WeightKind,
    WeightStage,
    operands,
    shape_of_sums,
    size_of,
    sources_of,
    width_of,
)
from lnm_codegen.ir.network.verify import MULTIPLIER_BITS, SHIFTS
from lnm_codegen.ir.types import MOST_BITS, Bits
from lnm_codegen.nn.chain import Chain
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.norm.deferred import DeferredNorm, NormModule
from lnm_codegen.nn.norm.layer import NormNeuron
from lnm_codegen.nn.recurrent import RecurrentLayer, matrix_of

ACCEPTED = (
    "linear layers, convolutions, batch normalisations after them, neurons, recurrent layers,"
    " poolings, flattens, additions of two of them"
)
ORDER = "a linear layer or convolution, its normalisation, its neurons, then a pooling"
"""The order of the modules of one layer."""


@dataclass(frozen=True, eq=False)
class RealWeights:
    """A linear layer or a convolution in float64, with what is folded into it.

    Attributes:
        name: Path in the network.
        kind: "linear" or "conv".
        weight: (outputs, inputs), or (C', C, KH, KW). With a delay U is on the right of W.
        bias: (outputs,).
        stride: Of a convolution.
        padding: Of a convolution.
        delay: Steps after which spikes of the next neurons return; 0 without feedback.
    """

    name: str
    kind: WeightKind
    weight: Array
    bias: Array
    stride: int = 1
    padding: int = 0
    delay: int = 0

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of the outputs."""
        return shape_of_sums(self.weight.shape, shape, self.stride, self.padding)

    def fed(self, matrix: Tensor, delay: int, bias: Tensor | None = None) -> RealWeights:
        """Return the layer with the weights of its feedback, and a bias that is added."""
        weight = np.concatenate([self.weight, _finite(self.name, "recurrent", float64(matrix))], 1)
        more = 0.0 if bias is None else _finite(self.name, "bias", float64(bias))
        return replace(self, weight=weight, bias=self.bias + more, delay=delay)


@dataclass(frozen=True, eq=False)
class RealNeurons:
    """A layer of neurons."""

    name: str
    layer: NeuronLayer


RealStage: TypeAlias = RealWeights | RealNeurons | PoolStage | FlattenStage | AddStage | BranchStage


def real_stages(chain: Chain, sample: Shape) -> tuple[Shape, tuple[RealStage, ...]]:
    """Return the shape of one step, (C, H, W) or (F,), and the stages of a chain in eval mode.

    An addition has no output format yet.

    Args:
        chain: Its modules are in eval mode.
        sample: Shape of the input of one step.

    Raises:
        ModelError: A weight, a bias or a statistic is not finite, or a module reads one that is not
            before it; the place names the module.
        UnsupportedError: A module, or an order of modules, that the description lacks; the place
            names the module.
    """
    built = _Stages(chain, sample)
    for name, module in chain.modules:
        built.add(name, module)
    if not any(isinstance(stage, RealWeights) for stage in built.stages):
        raise UnsupportedError("network", "no linear layer and no convolution", ACCEPTED)
    if built.divisor(len(built.stages) - 1) != 1:
        raise _refused(chain.modules[-1][0], "a pooling is the last layer")
    return built.shapes[0], tuple(built.stages)


class _Stages:
    """The stages of the modules of a chain so far, and the shapes from the input on."""

    def __init__(self, chain: Chain, sample: Shape) -> None:
        self.chain = chain
        self.stages: list[RealStage] = []
        self.shapes: list[Shape] = [sample]
        self._made = {"": -1}  # path -> the stage with its output; -1 is the input
        self._last = ""

    def add(self, name: str, module: nn.Module) -> None:
        """Add the stages of a module."""
        read = [self._read(name, path) for path in self.chain.inputs.get(name, (self._last,))]
        shortcut = isinstance(module, NormNeuron) and module.shortcut
        if shortcut and len(read) != 2:
            raise _refused(name, "a normalisation with a shortcut that is no input of the chain")
        if isinstance(module, NormNeuron | _BatchNorm) and len(read) != 1 + shortcut:
            raise _refused(name, "a normalisation of a sum")
        if isinstance(module, _BatchNorm) and not isinstance(module, DeferredNorm):
            self._fold(name, read[0], module)
        elif isinstance(module, NormNeuron):
            if module.norm == "affine":
                raise _refused(name, "a normalisation without statistics")
            self._fold(name, read[0], module.normalisation)
        at = self._sum(name, read)
        if not isinstance(module, DeferredNorm | nn.Identity | _BatchNorm):
            self._reach(at)
            self._append_module(name, module)
            at = len(self.stages) - 1
        self._made[name], self._last = at, name

    def divisor(self, k: int) -> int:
        """Return the number of values that the averages up to stage k divide by, since weights."""
        divisor = 1
        while k >= 0 and not isinstance(self.stages[k], RealWeights | RealNeurons | AddStage):
            stage = self.stages[k]
            if isinstance(stage, PoolStage) and stage.kind == "sum":
                divisor *= stage.size**2
            k = sources_of(k, stage)[0]
        return divisor

    def _read(self, name: str, path: str) -> int:
        if path in self._made:
            return self._made[path]
        accepted = "modules before it; of weights with a normalisation, the normalisation"
        raise ModelError(f"network: {name}", f"it reads {path!r}", accepted)

    def _append(self, stage: RealStage) -> int:
        before = operands(len(self.stages), stage, self.shapes)
        shape = before[0] if isinstance(stage, RealNeurons) else stage.output_shape(*before)
        self.stages.append(stage)
        self.shapes.append(shape)
        return len(self.stages) - 1

    def _reach(self, k: int) -> None:
        """Add a branch unless the next stage reads stage k."""
        if k != len(self.stages) - 1:
            self._append(BranchStage(k))

    def _sum(self, name: str, read: list[int]) -> int:
        """Return the stage with the sum of the outputs of others."""
        at = read[0]
        for other in read[1:]:
            if self.divisor(at) != 1 or self.divisor(other) != 1:
                raise _refused(name, "an average pooling before an addition")
            if at != len(self.stages) - 1:
                at, other = other, at
            where = f"network: {name}"
            if at == other:
                raise UnsupportedError(where, "both addends are the same", "two stages")
            if self.shapes[at + 1] != self.shapes[other + 1]:
                problem = (
                    f"an addition of shapes {self.shapes[at + 1]} and {self.shapes[other + 1]}"
                )
                remedy = "Give shortcut= of Residual."
                raise UnsupportedError(where, problem, "two equal shapes", remedy)
            self._reach(at)
            at = self._append(AddStage(other))
        return at

    def _fold(self, name: str, k: int, norm: _BatchNorm | NormModule) -> None:
        """Fold a normalisation into the weights of stage k, which nothing else may read."""
        last = self.stages[k] if k >= 0 else None
        if any(k in sources_of(n, stage) for n, stage in enumerate(self.stages)):
            raise _refused(name, "the input of a normalisation is read elsewhere")
        self.stages[k] = _normalised(name, last, _folded(name, norm))
        self._made = {path: at for path, at in self._made.items() if at != k}
        self._made[name] = k

    def _append_module(self, name: str, module: nn.Module) -> None:
        """Add the stages of a module that reads the last stage."""
        last = self.stages[-1] if self.stages else None
        divisor = self.divisor(len(self.stages) - 1)
        match module:
            case nn.Linear() | nn.Conv2d():
                made = _weights(name, module)
                self._require_axes(name, made)
                self._append(replace(made, weight=made.weight / divisor))
            case RecurrentLayer():
                self._append_recurrent(name, module, divisor)
                self._append(RealNeurons(name, module))
            case NeuronLayer():
                if not isinstance(last, AddStage):
                    _require_weights(name, "neurons", last)
                if name in self.chain.feedback:
                    own = _require_weights(name, "feedback", last)
                    self.stages[-1] = own.fed(self.chain.feedback[name].weight, 1)
                self._append(RealNeurons(name, module))
            case nn.MaxPool2d() | nn.AvgPool2d():
                self._append(_pool(name, module))
            case nn.AdaptiveAvgPool2d():
                self._append(_mean_of_pixels(name, module, self.shapes[-1]))
            case nn.Flatten():
                if not self.stages:
                    self.shapes = [(size_of(self.shapes[0]),)]
                elif len(self.shapes[-1]) > 1:
                    self._append(FlattenStage())
            case _:
                raise _refused(name, f"{type(module).__name__}")

    def _require_axes(self, name: str, made: RealWeights) -> None:
        shape, axes = self.shapes[-1], made.weight.ndim - 1
        if len(shape) != axes:
            accepted = "(C, H, W)" if axes == 3 else "(F,): add a flatten"
            problem = f"{made.kind} weights on values of shape {shape}"
            raise UnsupportedError(f"network: {name}", problem, accepted)

    def _append_recurrent(self, name: str, layer: RecurrentLayer, divisor: int) -> None:
        """Add the weights of a recurrent layer, or its U to those of the last stage."""
        place, accepted = f"network: {name}", "a delay of the layer, in whole steps"
        if layer.delays is not None:
            remedy = "Train on with delay=, an integer."
            raise UnsupportedError(place, "a Delay has no integers", accepted, remedy)
        neuron = layer.neuron
        if layer.fed not in neuron.spikes or len(neuron.inputs) != 1:
            problem = f"U reads {layer.fed!r}, and the neuron has {len(neuron.inputs)} input(s)"
            raise UnsupportedError(place, problem, "feedback of spikes, and one input")
        matrix = matrix_of(layer)
        if layer.weight is None:
            last = self.stages[-1] if self.stages else None
            own = _require_weights(name, "U of a recurrent layer", last)
            self.stages[-1] = own.fed(matrix, layer.delay, layer.bias)
            return
        weight = _finite(name, "weight", float64(layer.weight)) / divisor
        made = RealWeights(f"{name}.weights", "linear", weight, np.zeros(layer.size))
        self._append(made.fed(matrix, layer.delay, layer.bias))


def _refused(name: str, problem: str) -> UnsupportedError:
    return UnsupportedError(f"network: {name}", problem, ACCEPTED)


def _require_weights(name: str, subject: str, last: RealStage | None) -> RealWeights:
    """Return the stage before, or raise UnsupportedError unless it is a layer of weights."""
    if isinstance(last, RealWeights):
        return last
    place = f"network: {name}"
    match last:
        case PoolStage():
            raise UnsupportedError(place, f"a pooling between weights and {subject}", ORDER)
        case FlattenStage():
            raise UnsupportedError(place, f"a flatten between weights and {subject}", ORDER)
    raise UnsupportedError(place, f"{subject} without weights before", ORDER)


def _weights(name: str, module: nn.Linear | nn.Conv2d) -> RealWeights:
    weight = _finite(name, "weight", float64(module.weight))
    bias = np.zeros(len(weight)) if module.bias is None else float64(module.bias)
    _finite(name, "bias", bias)
    if isinstance(module, nn.Linear):
        return RealWeights(name, "linear", weight, bias)
    padding = module.padding
    plain = (
        not isinstance(padding, str)
        and len({*module.stride}) == len({*padding}) == 1
        and {*module.dilation} == {1}
        and module.groups == 1
        and module.padding_mode == "zeros"
    )
    if not plain:
        problem = f"a convolution {module}"
        accepted = "one group, no dilation, one stride, one padding with zeros"
        raise UnsupportedError(f"network: {name}", problem, accepted)
    return RealWeights(name, "conv", weight, bias, module.stride[0], int(padding[0]))


def _finite(name: str, word: str, numbers: Array) -> Array:
    """Return numbers of a module, or raise ModelError unless all are finite."""
    others = numbers[~np.isfinite(numbers)]
    if others.size:
        raise ModelError(f"network: {name}", f"{word} holds {others[0]:g}", "finite numbers")
    return numbers


def _normalised(name: str, last: RealStage | None, norm: Normalisation | None) -> RealWeights:
    last = _require_weights(name, "a normalisation", last)
    if norm is None:
        raise _refused(name, "a normalisation without running statistics")
    scale = norm.scale.reshape(-1, *(1,) * (last.weight.ndim - 1))
    return replace(last, weight=last.weight * scale, bias=last.bias * norm.scale + norm.offset)


def _folded(name: str, norm: _BatchNorm | NormModule) -> Normalisation | None:
    """Return scale and offset of a normalisation, or raise ModelError unless all are finite."""
    for word in ("weight", "bias", "running_mean", "running_var"):
        numbers = getattr(norm, word)
        if numbers is not None:
            _finite(name, word, float64(numbers))
    return folded(name, norm)


def _mean_of_pixels(name: str, module: nn.AdaptiveAvgPool2d, shape: Shape) -> PoolStage:
    """Return the mean over all pixels as one window."""
    if module.output_size not in (1, (1, 1)) or len(shape) != 3 or shape[1] != shape[2]:
        problem = f"a pooling {module} of values of shape {shape}"
        accepted = "AdaptiveAvgPool2d(1) of a square (C, H, H)"
        raise UnsupportedError(f"network: {name}", problem, accepted)
    return PoolStage("sum", shape[1])


def _pool(name: str, module: nn.MaxPool2d | nn.AvgPool2d) -> PoolStage:
    sizes = (module.kernel_size, module.stride)
    pairs = {n for size in sizes for n in (size if isinstance(size, tuple) else (size,))}
    padding = module.padding if isinstance(module.padding, tuple) else (module.padding,)
    hidden = ["ceil_mode=True"] if module.ceil_mode else []  # PyTorch prints some options alone
    if isinstance(module, nn.AvgPool2d) and module.divisor_override is not None:
        hidden.append(f"divisor_override={module.divisor_override}")
    dilation = module.dilation if isinstance(module, nn.MaxPool2d) else 1
    if hidden or len(pairs) > 1 or {*padding} != {0} or dilation not in (1, (1, 1)):
        problem, remedy = f"a pooling {module}", ""
        if hidden:
            words = " and ".join(hidden)
            problem, remedy = f"{problem} with {words}", f"Leave out {words}."
        accepted = "square windows that do not overlap, without padding"
        raise UnsupportedError(f"network: {name}", problem, accepted, remedy)
    return PoolStage("max" if isinstance(module, nn.MaxPool2d) else "sum", int(pairs.pop()))


# Real weights as integers times a scale: a power of two, or a multiplier and a shift.


ScaleName = Literal["layer", "channel"]
SCALES: tuple[ScaleName, ...] = ("layer", "channel")
MOST_BIAS = 1 << 30
"""Largest magnitude of a bias, so that most accumulators have 32 bits."""
_PLACES = (SHIFTS[0] + MULTIPLIER_BITS, SHIFTS[1] - MULTIPLIER_BITS)
"""Fraction bits that a sum may have more than its result; a multiplier changes the shift."""
_TRIED = 3
"""Powers of two that are tried for a scale, the smaller ones clip weights."""


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """Format of the weights of a layer.

    Attributes:
        bits: Width of a weight, 2 to 16.
        per: A scale for the "layer", or for each output "channel".
        multiplier: The scale is an integer times a power of two; otherwise a power of two.
    """

    bits: int = 8
    per: ScaleName = "channel"
    multiplier: bool = False


def integer_weights(
    real: RealWeights, form: WeightFormat, inputs: ValueSpan, output: Bits
) -> WeightStage:
    """Return weights that give sums in the format of the next neurons.

    The fraction bits of a power-of-two scale minimise the squared error of the weights.
    """
    ends = (output.frac + _PLACES[0], output.frac + _PLACES[1])
    return _stage(real, form, inputs, output, _scales(real, form, inputs.frac, ends))


def integer_readout(
    real: RealWeights, form: WeightFormat, inputs: ValueSpan, output: Bits | None = None
) -> WeightStage:
    """Return weights whose sums are the scores, with one power-of-two scale for the layer.

    The sums are not rounded, unless they have more than 32 bits, or another output is given.
    """
    form = replace(form, per="layer", multiplier=False)
    scales = _scales(real, form, inputs.frac, (_PLACES[0], MOST_BITS))
    if output is not None:
        return _stage(real, form, inputs, output, scales)
    places = max(0, round(inputs.frac - log2(scales[0])))
    wide = _stage(real, form, inputs, Bits(32, places), scales)
    bound = wide.bound(inputs)
    need = width_of((-bound, bound)) + max(-wide.shifts[0], 0)
    frac = max(places - max(need - 32, 0), 0)
    width = min(max(need, 2), 32)
    return _stage(real, form, inputs, Bits(width, frac), scales)


def weight_scales(stage: WeightStage, inputs: ValueSpan) -> Array:
    """Return the real value of a weight of 1 for each output channel."""
    places = stage.shift.astype(float) + stage.output.frac - inputs.frac
    return np.broadcast_to(stage.multiplier / 2.0**places, (stage.channels,))


def _scales(real: RealWeights, form: WeightFormat, frac: int, places: Span) -> Array:
    """Return the scale of each output channel.

    `places` are the least and the most fraction bits of a sum, whose inputs have `frac`.
    """
    rows = real.weight.reshape(len(real.weight), -1)
    groups = rows if form.per == "channel" else rows.reshape(1, -1)
    biases = np.abs(real.bias) if form.per == "channel" else np.abs(real.bias).max(keepdims=True)
    found = [_scale(g, b, form, frac, places) for g, b in zip(groups, biases, strict=True)]
    return np.broadcast_to(np.array(found), (len(rows),))


def _scale(weights: Array, bias: float, form: WeightFormat, frac: int, places: Span) -> float:
    """Return the scale of one group of weights."""
    most = (1 << (form.bits - 1)) - 1
    largest = float(np.abs(weights).max())
    least = bias / MOST_BIAS * 2.0**frac
    low, high = max(2.0 ** (frac - places[1]), least), 2.0 ** (frac - places[0])
    exact = min(max(largest / most if largest > 0 else 1.0, low), high)
    if form.multiplier:
        return exact
    powers = [2.0 ** (floor(log2(exact)) + 1 - k) for k in range(_TRIED)]
    fits = [p for p in powers if p >= low] or powers[:1]

    def error(scale: float) -> float:
        rounded = np.clip(np.floor(weights / scale + 0.5), -most - 1, most) * scale
        return float(np.square(rounded - weights).sum())

    return min(fits, key=error)


def _stage(
    real: RealWeights, form: WeightFormat, inputs: ValueSpan, output: Bits, scales: Array
) -> WeightStage:
    ratio = 2.0 ** (output.frac - inputs.frac)
    pairs = [_factor(s * ratio, form.multiplier) for s in scales]
    scales = np.array([m / 2.0**s / ratio for m, s in pairs])  # with the rounded multiplier
    if len({*pairs}) == 1:
        pairs = pairs[:1]
    factors, shifts = (np.array(column) for column in zip(*pairs, strict=True))
    limit = 1 << (form.bits - 1)
    column = scales.reshape(-1, *(1,) * (real.weight.ndim - 1))
    weight = np.clip(np.floor(real.weight / column + 0.5), -limit, limit - 1).astype(np.int64)
    bias = np.floor(real.bias / scales * 2.0**inputs.frac + 0.5).astype(np.int64)
    return WeightStage(
        name=real.name,
        kind=real.kind,
        weight=weight,
        bits=form.bits,
        bias=bias,
        multiplier=factors,
        shift=shifts,
        accumulator=2,
        output=output,
        stride=real.stride,
        padding=real.padding,
        delay=real.delay,
    ).fitted(inputs)


def _factor(ratio: float, multiplier: bool) -> tuple[int, int]:
    """Return (m, s) with m / 2**s equal to a ratio, or nearest to it with m of 15 bits."""
    mantissa, exponent = frexp(ratio)  # 0.5 <= mantissa < 1
    if not multiplier:
        return 1, 1 - exponent
    bits = MULTIPLIER_BITS - 1
    factor = min(round(mantissa * (1 << bits)), (1 << bits) - 1)
    return factor, bits - exponent
