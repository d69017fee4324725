"""Operation counts of an inference, from hooks while the network runs.

Hooks read the inputs of every convolution and linear layer, and the outputs of every neuron layer.
So any network is counted as it runs, a recurrent one step by step. A matrix product outside these
modules is not counted.

The inputs of a synaptic layer are

* spikes, if every value is an integer, or an integer over q after averaging. `averages` tracks q;
  an average that it does not know is tried with the number of steps. A value n/q stands for n
  spikes. Each spike adds its weight to every output that it reaches: an AC.
* numbers otherwise. Each is multiplied with every weight that applies to it: a MAC.

The fan-out of a convolution is exact: near a border a spike reaches fewer outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial, reduce
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from lnm_codegen.analysis.charge import emits_spikes
from lnm_codegen.errors import ModelError
from lnm_codegen.insight.energy.cost import Layer, Neurons, Synapses, neuron_operations
from lnm_codegen.nn.call import Feed, Received, first_output
from lnm_codegen.nn.hooks import hooked, watching
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.parameters import values_of
from lnm_codegen.nn.states import reset


def counted(
    network: nn.Module, batches: Iterable[tuple[Tensor, int]]
) -> tuple[tuple[Layer, ...], int]:
    """Run a network without gradients; return its layers in order of execution, and the samples.

    States that its layers keep are reset before each batch.

    Args:
        network: A network in eval mode.
        batches: Inputs, and the number of samples in them.

    Raises:
        ModelError: No samples.
    """
    counter, samples = _Counter(), 0
    network = getattr(network, "_orig_mod", network)  # compiled code would hide its averages
    layers = {name: m for name, m in network.named_modules() if isinstance(m, NeuronLayer)}
    told = [(layer, partial(counter.neuron, name)) for name, layer in layers.items()]
    with torch.no_grad(), hooked(_hooks(network, counter)), watching(told):
        for x, number in batches:
            reset(network)
            with counter.inference(number):
                network(x)
            samples += number
    if not samples:
        raise ModelError("energy", "no samples to run", remedy="Give at least one.")
    return counter.layers(samples), samples


@dataclass
class _Synapse:
    """Sums over the calls of a synaptic layer; `calls` are the frames of one inference."""

    fan: _Fan
    encoder: bool
    spiking: bool = True
    inputs: int = 0
    events: float = 0.0
    reached: float = 0.0
    everything: float = 0.0
    dense: int = 0
    outputs: int = 0
    frames: int = 0
    steps: int = 0
    calls: list[tuple[int, ...]] = field(default_factory=list)

    def end(self, samples: int, steps: int) -> None:
        """End an inference of some samples and T steps: add the steps of its calls."""
        self.steps += sum(steps_in(frames, samples, steps) for frames in self.calls) * samples
        self.calls = []

    def add(self, x: Tensor, outputs: int, divisors: Sequence[Divisor]) -> None:
        """Add a call; the first divisor that fits is q."""
        self.inputs += x.numel()
        self.outputs += outputs
        self.calls.append(self.fan.frames(x))
        self.frames += math.prod(self.calls[-1])
        self.dense += self.fan.dense(x, outputs)
        self.everything += self.fan.products(x)
        spikes = spikes_in(x, divisors)
        self.spiking &= spikes is not None
        if spikes is not None:
            self.events += float(spikes.sum(dtype=torch.float64))
            self.reached += self.fan.reached(spikes)

    def result(self, name: str, samples: int) -> Synapses:
        return Synapses(
            name=name,
            spiking=self.spiking,
            encoder=self.encoder,
            inputs=self.inputs / samples,
            events=self.events / samples if self.spiking else 0.0,
            dense=self.dense / samples,
            reached=(self.reached if self.spiking else self.everything) / samples,
            outputs=self.outputs / samples,
            frames=self.frames / samples,
            steps=self.steps / samples,
            weights=self.fan.weights,
            filters=self.fan.filters,
        )


@dataclass
class _Neuron:
    """Sums over the calls of a neuron layer."""

    layer: NeuronLayer
    updates: int = 0
    spikes: float = 0.0
    steps: int = 0

    def result(self, name: str, samples: int) -> Neurons:
        neuron, steps = self.layer.neuron, self.steps
        return Neurons(
            name=name,
            neuron=neuron.name,
            neurons=self.updates / samples / steps,
            steps=steps,
            spikes=self.spikes / samples,
            operations=neuron_operations(neuron),
            states=len(neuron.states),
            parameters=sum(v.numel() for v in values_of(self.layer).values()),
            fires=emits_spikes(neuron),
        )


@dataclass
class _Counter:
    """Counts of all hooks."""

    found: dict[str, _Synapse | _Neuron] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.averages = Averages(lambda: self.time_steps)

    @contextmanager
    def inference(self, samples: int) -> Iterator[None]:
        """Count a call of the network."""
        self.steps, self.averages = {}, Averages(lambda: self.time_steps)
        with self.averages:
            yield
        for sums in self.found.values():
            if isinstance(sums, _Synapse):
                sums.end(samples, self.time_steps)

    @property
    def time_steps(self) -> int:
        """Number of time steps until now."""
        return max(self.steps.values(), default=1)

    def synapse(
        self, name: str, fan: _Fan, x: Tensor, outputs: int, feedback: bool = False
    ) -> None:
        """Add a call of a convolution or linear layer, or of a layer's own weights."""
        is_first = not self.steps and not feedback
        known = self.found.setdefault(name, _Synapse(fan, encoder=is_first))
        assert isinstance(known, _Synapse)
        q = self.averages.of(x)
        known.add(x, outputs, [q * times for times in sorted({1, self.time_steps})])

    def neuron(self, name: str, layer: NeuronLayer, received: Received) -> None:
        """Add a call of a neuron layer."""
        for word, feed in received.feeds.items():
            outputs, is_back = received.inputs[0].numel(), word == "recurrent"
            self.synapse(f"{name}.{word}", _MatrixFan(feed), feed.values, outputs, is_back)
        known = self.found.setdefault(name, _Neuron(layer))
        assert isinstance(known, _Neuron)
        spikes = received.outputs[0]
        known.updates += spikes.numel()
        if emits_spikes(layer.neuron):
            known.spikes += float((spikes != 0).sum())
        self.steps[name] = self.steps.get(name, 0) + len(spikes)
        known.steps = max(known.steps, self.steps[name])

    def layers(self, samples: int) -> tuple[Layer, ...]:
        """Return the layers in the order of their first calls."""
        return tuple(sums.result(name, samples) for name, sums in self.found.items())


def _hooks(network: nn.Module, counter: _Counter) -> list[tuple[nn.Module, Callable[..., None]]]:
    """Return the hooks that pass every call to a counter."""

    def after(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], out: Any) -> None:
            if isinstance(module, NeuronLayer):
                counter.averages.begin(first_output(out), spiking=True)
            else:
                counter.synapse(name, _ModuleFan(module), inputs[0], out.numel())
                counter.averages.begin(out, spiking=False)

        return hook

    kinds = (NeuronLayer, nn.Linear, *CONVOLUTIONS)
    return [(m, after(n)) for n, m in network.named_modules() if isinstance(m, kinds)]


# Divisors of averaged tensors, tracked while a network runs.
#
# A value n/q of a tensor with the divisor q is an average of n spikes. The divisor of a mean is the
# number of values in it, and that of a pooling the size of its window. Spikes divided by an integer
# have this integer. The divisors of successive averages multiply.
#
# Any other function keeps the divisor of its arguments. If their divisors differ,
#
# * a function that moves values, such as `cat`, moves the divisors with them;
# * a sum n/q + m/r has the divisor with which it stands for n + m spikes;
# * a product of tensors with one divisor each keeps the largest;
# * the result of another function has the divisor NaN, so that it counts as numbers.


Divisor: TypeAlias = "float | Tensor"
"""A number, or a tensor with the divisor of each value. NaN is the divisor of numbers."""

_JOINS = {"cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack"}
_MOVES = _JOINS | {
    "view", "reshape", "flatten", "unflatten", "view_as", "reshape_as", "ravel", "contiguous",
    "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "__get__",
    "squeeze", "unsqueeze", "expand", "expand_as", "broadcast_to", "repeat", "tile",
    "repeat_interleave", "flip", "roll", "__getitem__", "narrow", "select", "index_select",
    "gather", "take_along_dim", "split", "chunk", "tensor_split", "unbind", "clone", "detach",
    "to", "float", "double", "cpu", "cuda", "relu", "dropout",
}  # fmt: skip
"""Functions that move values and do not change them; `__get__` reads an attribute such as `T`."""
_SUMS = {"add", "sub", "subtract", "__rsub__", "rsub"}
_SCALINGS = {"mul", "multiply", "div", "true_divide"}
_PRODUCTS = _SCALINGS | {"matmul", "mm", "bmm", "einsum"}


_CLOSE = 1e-3
"""Tolerance of n: a mean over 10 steps is rounded."""


def spikes_in(x: Tensor, divisors: Sequence[Divisor]) -> Tensor | None:
    """Return the spikes of each value by the first divisor that fits; None: they are numbers."""
    for divisor in divisors:
        tolerance = 0.0 if isinstance(divisor, float) and divisor == 1 else _CLOSE
        scaled = x.abs() * divisor
        near = scaled.round()
        if bool(((scaled - near).abs() <= tolerance).all()):
            return near
    return None


class Averages(TorchFunctionMode):
    """Records the divisors of the tensors of a run; `time_steps` returns its T until then."""

    def __init__(self, time_steps: Callable[[], int]) -> None:
        super().__init__()
        self._found = WeakTensorKeyDictionary()
        self._time_steps = time_steps

    def of(self, x: Tensor) -> Divisor:
        """Return the divisor of a tensor, 1 without an average."""
        found: Divisor = self._found[x] if x in self._found else 1.0
        return found

    def begin(self, x: Tensor, *, spiking: bool) -> None:
        """Give a tensor the divisor 1: spikes of a neuron layer, or numbers of another layer."""
        if spiking:
            self._found[x] = 1.0
        elif x in self._found:
            del self._found[x]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function of PyTorch and record the divisors of its results."""
        kwargs, name = dict(kwargs or {}), _name(func)
        named = {word: value for word, value in kwargs.items() if word != "out"}
        if name == "__setitem__":
            self._assign(*args)
            return func(*args)
        written = list(_tensors([kwargs.get("out")] if "out" in kwargs else args[:1]))
        is_in_place = "out" in kwargs or name != getattr(func, "__name__", "")
        before = args
        if is_in_place and any(t in self._found for t in _tensors(args)):
            before = tuple(map(self._copy, args))  # `func` may overwrite its arguments
        out = func(*args, **kwargs)
        results = list(_tensors((out,)))
        if not results:
            return out
        sources = before[1:] if name == "copy" else before
        given = [t for t in _tensors((*sources, *named.values())) if t.is_floating_point()]
        is_tracked = any(t in self._found for t in given)
        own: Divisor = 1.0
        if isinstance(out, Tensor) and out.numel():
            own = _divisor(name, is_tracked, out, before, named)
        joined: Any = 1.0
        largest = float(own.max()) if isinstance(own, Tensor) else own
        if is_tracked or largest != 1:
            joined = self._joined(func, out, given, before, named)
        elif not is_in_place or not any(t in self._found for t in written):
            return out
        each = joined if isinstance(joined, tuple | list) else [joined] * len(results)
        for tensor, divisor in zip(results, each, strict=True):
            if tensor.is_floating_point():
                self._found[tensor] = divisor * own
                if is_in_place and tensor._base is not None:
                    self._write_view(tensor, tensor._base)
        return out

    def _copy(self, value: Any) -> Any:
        """Return a copy of the tensors of an argument, with their divisors."""
        if isinstance(value, tuple | list):
            return type(value)(self._copy(v) for v in value)
        if not isinstance(value, Tensor):
            return value
        copied = value.clone()
        if value in self._found:
            self._found[copied] = self._found[value]
        return copied

    def _assign(self, to: Tensor, index: Any, value: Any) -> None:
        """Record the divisors of `to[index] = value`, before it."""
        if not isinstance(value, Tensor) or not (to in self._found or value in self._found):
            return
        old, new = self._settled(to), self._settled(value)
        if isinstance(old, Tensor) or isinstance(new, Tensor) or old != new:
            whole = torch.zeros_like(to).add(old)
            whole[index] = torch.zeros_like(value).add(new)
            old = float(whole.flatten()[0]) if bool((whole == whole.flatten()[0]).all()) else whole
        self._found[to] = old

    def _write_view(self, view: Tensor, base: Tensor) -> None:
        """Record in a base the divisors of a view of it that a function has overwritten."""
        old, new = self.of(base), self.of(view)
        if isinstance(old, Tensor) or isinstance(new, Tensor) or old != new:
            whole = torch.zeros_like(base).add(old)
            if whole.stride() != base.stride():
                whole = whole.new_full((), math.nan).expand_as(base)
            else:
                offset = view.storage_offset() - base.storage_offset()
                whole.as_strided(view.shape, view.stride(), offset).copy_(
                    torch.zeros_like(view).add(new)
                )
            old = whole
        self._found[base] = old

    def _joined(
        self, func: Any, out: Any, given: list[Tensor], args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        """Return the divisor that the results of a function have from its arguments."""
        name = _name(func)
        takes_all = name in _JOINS or name in _SUMS
        parts = [t for t in given if takes_all or t in self._found]
        divisors = [self.of(t) for t in parts]
        if not divisors:
            return 1.0
        if not any(isinstance(d, Tensor) or d != divisors[0] for d in divisors):
            return divisors[0]
        divisors = [self._settled(t) for t in parts]
        if name in _SUMS and "alpha" not in kwargs:
            spikes: Any = sum(t.abs() * d for t, d in zip(given, divisors, strict=True))
            return torch.where(spikes == 0, 1.0, spikes / out.abs())
        if name in _MOVES or _is_average(name):
            return self._moved(func, args, kwargs)
        if name in _PRODUCTS and not any(isinstance(d, Tensor) for d in divisors):
            return float(torch.tensor(divisors).max())  # NaN if one is NaN
        return divisors[0] if name in _SCALINGS and len(divisors) == 1 else math.nan

    def _moved(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Return the divisors moved as the values are; NaN for an average of different ones."""

        def replaced(value: Any, power: int) -> Any:
            if isinstance(value, tuple | list):
                found = [replaced(v, power) for v in value]
                return found if isinstance(value, list) else tuple(found)
            if not isinstance(value, Tensor) or not value.is_floating_point():
                return value
            return torch.zeros_like(value).add(self._settled(value)) ** power

        def applied(power: int) -> Any:
            named = {word: replaced(value, power) for word, value in kwargs.items()}
            return func(*replaced(args, power), **named)

        moved = applied(1)
        if _is_average(_name(func)) and not torch.allclose(applied(2), moved**2):
            return math.nan
        return moved

    def _settled(self, x: Tensor) -> Divisor:
        """Return the divisor of a tensor, T for a mean over time that a network wrote as a sum."""
        divisor = self.of(x)
        if isinstance(divisor, Tensor) or divisor != 1 or spikes_in(x, [1.0]) is not None:
            return divisor
        steps = float(self._time_steps())
        return divisor if spikes_in(x, [steps]) is None else steps


def _name(func: Any) -> str:
    """Return the name of a function, that of the function out of place if it works in place."""
    name: str = getattr(func, "__name__", "")
    return name if name.endswith("__") else name.removesuffix("_")


def _is_average(name: str) -> bool:
    return name == "mean" or "avg_pool" in name


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from (v for v in value if isinstance(v, Tensor))


def _divisor(
    name: str, spiking: bool, out: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Divisor:
    """Return the divisor by which a function of this name multiplies that of its argument."""
    if name == "mean":
        return next(_tensors((*args, *kwargs.values()))).numel() / out.numel()
    if name in ("div", "true_divide") and spiking:
        by = kwargs.get("other", args[-1])
        return float(by) if isinstance(by, int) and by > 0 else 1.0
    if "avg_pool" not in name:
        return 1.0
    windows = _adaptive_windows if name.startswith("adaptive") else _windows
    found = windows(out, int(name[-2]), *args, **kwargs)
    return found.to(out).expand(out.shape) if isinstance(found, Tensor) else found


def _adaptive_windows(out: Tensor, axes: int, /, input: Tensor, *_: Any, **__: Any) -> Divisor:
    ends = zip(out.shape[-axes:], input.shape[-axes:], strict=True)
    return _areas([[-(-(k + 1) * n // m) - k * n // m for k in range(m)] for m, n in ends])


def _windows(
    out: Tensor, axes: int, /, input: Tensor, kernel_size: Any,
    stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False,  # noqa: ARG001 (the size of `out` has it)
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Divisor:  # fmt: skip
    """Return the numbers by which an average pooling divides the sums of its windows."""
    if divisor_override:
        return float(divisor_override)
    shapes = (out.shape[-axes:], input.shape[-axes:])
    options = (torch.broadcast_to(torch.tensor(o), (axes,)).tolist()
               for o in (kernel_size, stride or kernel_size, padding))  # fmt: skip
    lengths = []
    for m, n, size, by, pad in zip(*shapes, *options, strict=True):
        spans = [(k * by - pad, min(k * by - pad + size, n + pad)) for k in range(m)]
        if not count_include_pad:
            spans = [(max(low, 0), min(high, n)) for low, high in spans]
        lengths.append([high - low for low, high in spans])
    return _areas(lengths)


def _areas(lengths: Sequence[Sequence[int]]) -> Divisor:
    """Return the areas of windows from their lengths along each axis; a number if all are equal."""
    axes = [torch.tensor(along, dtype=torch.float64) for along in lengths]
    areas = reduce(lambda area, along: area.unsqueeze(-1) * along, axes)
    return float(areas.max()) if bool((areas == areas.max()).all()) else areas


# Fan-out of spikes in a convolution or linear layer, exact at borders, and in weights of a layer.
#
# An input value stands for n spikes if it is an integer n, or n/q after averaging.


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class _Fan(Protocol):
    """Connections of inputs to outputs.

    Attributes:
        weights: Number of weights.
        filters: Numbers of a filter of all input channels, of a convolution; else 0.
    """

    weights: int
    filters: int

    def frames(self, x: Tensor) -> tuple[int, ...]:
        """Return the axes of the input vectors or images, such as (T, N)."""

    def dense(self, x: Tensor, outputs: int) -> int:
        """Return the number of products, those with padding included."""

    def products(self, x: Tensor) -> float:
        """Return the number of products of values and weights, without padding."""

    def reached(self, spikes: Tensor) -> float:
        """Return the number of outputs that the spikes reach, with multiplicity."""


class _ModuleFan:
    """A convolution or a linear layer."""

    def __init__(self, module: nn.Module) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        self._module, self._taps, self.weights = module, weight[0].numel(), weight.numel()
        self.filters = weight[:, 0].numel() if isinstance(module, CONVOLUTIONS) else 0

    def frames(self, x: Tensor) -> tuple[int, ...]:
        if isinstance(self._module, nn.Linear):
            return tuple(x.shape[:-1])
        assert isinstance(self._module, CONVOLUTIONS)
        return tuple(x.shape[: x.dim() - len(self._module.kernel_size) - 1])

    def dense(self, x: Tensor, outputs: int) -> int:
        return outputs * self._taps

    def products(self, x: Tensor) -> float:
        if isinstance(self._module, nn.Linear):
            return float(x.numel()) * self._module.out_features
        taps, channels = _taps_of_image(self._module, x)
        return x.numel() // taps.numel() * float(taps.sum()) * channels

    def reached(self, spikes: Tensor) -> float:
        if isinstance(self._module, nn.Linear):
            return float(spikes.sum(dtype=torch.float64)) * self._module.out_features
        taps, channels = _taps_of_image(self._module, spikes)
        per_place = spikes.reshape(-1, *taps.shape).sum(0, dtype=torch.float64).cpu()
        return float((per_place * taps).sum()) * channels


class _MatrixFan:
    """Weights of a layer of neurons: W, or U of any form."""

    filters = 0

    def __init__(self, feed: Feed) -> None:
        self.weights, self._reached = feed.weights, feed.reached.double().cpu()

    def frames(self, x: Tensor) -> tuple[int, ...]:
        return tuple(x.shape[:-1])

    def dense(self, x: Tensor, outputs: int) -> int:
        return int(self.products(x))

    def products(self, x: Tensor) -> float:
        return math.prod(x.shape[:-1]) * float(self._reached.sum())

    def reached(self, spikes: Tensor) -> float:
        each = spikes.reshape(-1, spikes.shape[-1]).sum(0, dtype=torch.float64).cpu()
        return float((each * self._reached).sum())


def steps_in(frames: tuple[int, ...], samples: int, steps: int) -> int:
    """Return the number of time steps in `frames`: 1 for (N, *), T for (T, N, *) and (T*N, *)."""
    if frames[:1] == (samples,) and frames[:2] != (steps, samples):
        return 1
    return max(1, min(math.prod(frames) // samples, steps))


def _taps_of_image(module: nn.Module, x: Tensor) -> tuple[Tensor, int]:
    """Return the outputs per channel that each pixel reaches, and the number of channels."""
    assert isinstance(module, CONVOLUTIONS)
    image = tuple(x.shape[x.dim() - len(module.kernel_size) :])
    taps = _reach(
        image, tuple(module.kernel_size), tuple(module.stride), module.padding,
        tuple(module.dilation), module.padding_mode,
    )  # fmt: skip
    return taps, module.out_channels // module.groups


@cache
def _reach(
    image: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: str | tuple[int, ...],
    dilation: tuple[int, ...],
    mode: str,
) -> Tensor:
    """Return the number of outputs of one channel that each pixel reaches.

    It is the gradient of the sum of the outputs of a convolution with weights 1.
    """
    if mode != "zeros":
        raise ModelError("energy", f"padding_mode is {mode!r}", "'zeros'")
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[len(image) - 1]
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.zeros(1, 1, *image, dtype=torch.float64, requires_grad=True)
        weight = torch.ones(1, 1, *kernel, dtype=torch.float64)
        out = convolve(x, weight, None, stride, padding, dilation)
        (taps,) = torch.autograd.grad(out.sum(), x)
    return taps[0, 0]
