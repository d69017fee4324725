"""`NormNeuron`: normalisation, an optional shortcut and a neuron as one `torch.nn.Module`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parameter import is_lazy

from lnm_codegen.backends.plan import BYTES
from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.normalisation import normalised
from lnm_codegen.nn.arguments import (
    REAL,
    default_dtype,
    is_autocast,
    layout_remedy,
    recording,
)
from lnm_codegen.nn.call import States, typed_call
from lnm_codegen.nn.dispatch import Dispatch
from lnm_codegen.nn.explain import Explanation
from lnm_codegen.nn.function import LayerResults
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.norm.deferred import DeferredNorm, NormModule, reset_statistics
from lnm_codegen.nn.norm.function import (
    Coefficients,
    coefficients,
    elements,
    has_values,
    passes_of,
    process_group,
    track,
    world_name,
)
from lnm_codegen.nn.select import device_type
from lnm_codegen.options import BackendName
from lnm_codegen.validation import (
    counted,
    require_bool,
    require_integer,
    require_number,
    require_one_of,
)

NormName: TypeAlias = Literal["batch", "tdbn", "affine"]
"""NormModule of a block."""

_WHERE = "NormNeuron"
_OWN = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
"""Keys of a BatchNorm2d."""


class NormNeuron(NeuronLayer):
    """Batch normalisation, an optional shortcut and a layer of neurons in one kernel.

        x = a*c + b (+ r)        a = weight/sqrt(var + eps)        b = bias - a*mean

    c is the input (T, N, C, *), r the shortcut of the same shape, and x the input of the neuron.
    In training, mean and biased variance are those of the call, for each channel over T, N and *.
    In evaluation they are the running statistics. Gradients are those of the composition of
    `torch.nn.BatchNorm2d`, an addition and a `NeuronLayer`.

    The forward reads c twice and r once. What is saved for the backward is c and r, not x. The
    state_dict has the keys of `torch.nn.BatchNorm2d` beside those of the neuron, so that it loads
    the state_dict of such a layer (`strict=False`, if the neuron has parameters that learn). A
    layer that `lnm.nn.fuse` made has only those of the neuron; see `normalisation`.

    Under `torch.distributed`, the statistics are those of all processes, as in
    `torch.nn.SyncBatchNorm`, unless `sync=False`.

    Args:
        neuron: The model. Its first input is x; further inputs follow c and r in a call.
        channels: C.
        norm: "batch"; "tdbn", the same with a weight that begins at alpha*v_threshold; or "affine",
            x = weight*c + bias (+ r) without statistics.
        shortcut: Read r, the second input of a call.
        eps: Summand of the variance, > 0.
        momentum: Weight of a new batch in the running statistics, 0 to 1; None for their mean over
            all batches.
        alpha: Factor of "tdbn", > 0.
        sync: Combine the statistics of all processes.
        options: Arguments of `NeuronLayer`, except for `channels`, `arithmetic` and `inplace`.

    Shape:
        c (T, N, C, *), r the same -> (T, N, C, *). In single-step mode T is absent.

    Raises:
        ModelError: An argument is outside these ranges, or the neuron has states or parameters
            named like parameters of the normalisation.
        ShapeError: In training, a channel has one value. Others as for `NeuronLayer`.

    Example:
        >>> import torch, lnm_codegen as lnm
        >>> block = lnm.nn.NormNeuron(lnm.get("lif"), 3, shortcut=True, backend="torch")
        >>> block(torch.rand(4, 2, 3, 5, 5), torch.rand(4, 2, 3, 5, 5)).shape
        torch.Size([4, 2, 3, 5, 5])
    """

    _dispatch: NormDispatch
    _deferred: tuple[DeferredNorm, ...] = ()  # in a tuple, so that it is no submodule
    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        neuron: Neuron,
        channels: int,
        norm: NormName = "batch",
        shortcut: bool = False,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        *,
        alpha: float = 1.0,
        sync: bool = True,
        **options: Any,
    ) -> None:
        self.channels = require_integer(_WHERE, "channels", channels)
        self.norm: NormName = require_one_of(_WHERE, "norm", norm, get_args(NormName))
        self.shortcut = require_bool(_WHERE, "shortcut", shortcut)
        self.eps = require_number(_WHERE, "eps", eps, above=0)
        self.momentum: float | None = require_number(
            _WHERE, "momentum", momentum, low=0, high=1, optional=True
        )
        self._alpha = require_number(_WHERE, "alpha", alpha, above=0)
        self.sync = require_bool(_WHERE, "sync", sync)
        for word in ("arithmetic", "inplace"):
            if options.get(word):
                raise ModelError(_WHERE, f"it takes no argument {word!r}", remedy="Leave it out.")
        super().__init__(neuron, channels=channels, **options)
        if options.get("shape") is None:
            self._sizes = None  # the layer looks at the channels itself
        self._register(device=options.get("device"), dtype=options.get("dtype") or default_dtype())

    def _register(self, **like: Any) -> None:
        """Add weight, bias and the running statistics."""
        self.weight = nn.Parameter(torch.empty(self.channels, **like))
        self.bias = nn.Parameter(torch.empty(self.channels, **like))
        if self.norm != "affine":
            self.register_buffer("running_mean", torch.zeros(self.channels, **like))
            self.register_buffer("running_var", torch.ones(self.channels, **like))
            count = torch.tensor(0, dtype=torch.long, device=like["device"])
            self.register_buffer("num_batches_tracked", count)
        self._reset_normalisation()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set every parameter, constant and running statistic to its initial value."""
        super().reset_parameters()
        if "weight" in self._parameters and not self._deferred:
            self._reset_normalisation()

    def _reset_normalisation(self) -> None:
        start: Any = 1.0 if self.norm != "tdbn" else self._alpha * threshold_of(self)
        with torch.no_grad():
            self.weight.copy_(torch.as_tensor(start))
            self.bias.zero_()
        self.reset_running_stats()

    def reset_running_stats(self) -> None:
        """Set the running statistics to mean 0 and variance 1, as `BatchNorm2d` does."""
        if self.norm != "affine":
            reset_statistics(self.normalisation)

    def defer(self, norm: DeferredNorm, channels: int, *, shortcut: bool, sync: bool) -> None:
        """Become the layer that computes `norm`; `fuse` calls this on a former `NeuronLayer`."""
        self.channels, self.norm, self.shortcut, self.sync = channels, "batch", shortcut, sync
        self._deferred = (norm,)
        self._set_up(self.backend, self._record, self._interval, None)

    @property
    def normalisation(self) -> NormModule:
        """The module that has weight, bias and running statistics.

        It is the layer itself; in a layer that `lnm.nn.fuse` made, the batch normalisation before.
        """
        return self._deferred[0] if self._deferred else self

    def normalised_inputs(self, *inputs: Tensor, tracks: bool = False) -> tuple[Tensor, ...]:
        """Return a*c + b, in the type of the arithmetic, then the other inputs."""
        is_apart = self._adds_apart(*inputs)
        c, *more = self._inputs(*(inputs[:1] * len(inputs) if is_apart else inputs))
        x = self._normalised(c, tracks=tracks)
        x, *more = (x, *more) if self.step_mode == "m" else (x[0], *(one[0] for one in more))
        return (x, *(inputs[1:] if is_apart else more))

    def _received_by_neuron(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        c, *more = inputs
        x = self._normalised(c, tracks=False)
        return (x + more.pop(0), *more) if self.shortcut else (x, *more)

    def _normalised(self, c: Tensor, *, tracks: bool) -> Tensor:
        """Return a*c + b in eager PyTorch, in the type of the arithmetic."""
        norm, group = self.normalisation, self._group()
        weight, bias = weights_as(self.neuron.name, norm, self.channels, c)
        if not (self._uses_batch() and has_values(self.neuron.name, c, group)):
            return normalised_by(c, self._coefficients(weight, bias, REAL[c.dtype]))
        x, moments = batch_normalised(c, weight, bias, norm.eps, group)
        if tracks:
            track(norm, moments, elements(c) if group is None else None)
        return x

    def _dispatch_of(
        self, names: tuple[str, ...], backend: BackendName, interval: Any, arithmetic: Any
    ) -> Dispatch:
        if arithmetic is not None:
            problem = "a normalised neuron has no integer arithmetic"
            raise UnsupportedError(_WHERE, problem, remedy="Use BatchNorm and a NeuronLayer.")
        taken = set() if self._deferred else _OWN
        named = {p.name for p in self.neuron.params} | {s.name for s in self.neuron.states}
        for name in named & taken:
            problem = f"the neuron has a state or parameter {name!r}, as the normalisation does"
            raise ModelError(_WHERE, problem, remedy="Rename it in the model.")
        outputs = tuple(name for name, _ in self.neuron.output)
        reference = recording(self.neuron, names, interval)
        self._reference = Dispatch(reference, backend, None, outputs=outputs)
        block = recording(normalised(self.neuron, self.shortcut), names, interval)
        names = ("c", *(["r"] if self.shortcut else []), *(s.name for s in self.neuron.inputs[1:]))
        return NormDispatch(block, backend, None, self.neuron.name, names, outputs)

    @typed_call
    def forward(self, x_seq: Tensor, *more_inputs: Tensor, **options: Any) -> Any:
        """Run the layer; see `NeuronLayer`. One that `fuse` made adds any r, as PyTorch does."""
        if not self._adds_apart(x_seq, *more_inputs):
            return super().forward(x_seq, *more_inputs, **options)
        x, r, *more = self.normalised_inputs(x_seq, *more_inputs, tracks=True)
        return run_alone(self, self._reference, (x.to(x_seq.dtype) + r, *more), options)

    def _adds_apart(self, *inputs: Tensor) -> bool:
        """Report whether PyTorch adds r, since the kernel cannot."""
        return bool(self._deferred) and self.shortcut and not adds_in_kernel(*inputs)

    def _inputs(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the inputs of a call as sequences of one type, with C channels."""
        if self._deferred and self.shortcut:
            tensors = as_summand(tensors)
        inputs = super()._inputs(*tensors)
        shape = tuple(inputs[0].shape)
        if len(shape) < 3 or shape[2] != self.channels:
            expected = f"(T, N, {self.channels}, *)"
            if self.step_mode == "s":
                shape, expected = shape[1:], f"(N, {self.channels}, *)"
            remedy = layout_remedy(
                (self.channels,), False, shape, 2 if self.step_mode == "m" else 1
            )
            raise ShapeError(self.neuron.name, f"input 'c' has shape {shape}", expected, remedy)
        return inputs

    def _require_first(self, backend: str, inputs: tuple[Tensor, ...], given: States) -> None:
        super()._require_first(backend, inputs, given)
        if self._uses_batch():
            has_values(self.neuron.name, inputs[0], self._group())

    def _run(
        self,
        backend: str,
        inputs: tuple[Tensor, ...],
        given: States,
        params: list[Tensor],
        returns_states: bool,
    ) -> LayerResults:
        """Return the results of a call; `given` are initial states."""
        c, group = inputs[0], self._group()
        norm, start = self.normalisation, self._reference.start(c, given, self._state, params)
        call = (inputs, start, params, returns_states)
        uses_batch = self._uses_batch() and has_values(self.neuron.name, c, group)
        if uses_batch:
            backend = self._dispatch.batch_backend_of(backend, c.dtype)
        if backend == "torch":
            return self._run_reference(self._normalised(c, tracks=True), *call)
        weight, bias = weights_as(self.neuron.name, norm, self.channels, c)
        if not uses_batch:
            params = [*params, *self._coefficients(weight, bias, REAL[c.dtype])]
            return self._dispatch.run(backend, inputs, start, params, returns_states)
        results = self._dispatch.run(backend, *call, norm=(weight, bias), options=(norm.eps, group))
        track(norm, results[-1][0], elements(c) if group is None else None)
        return results

    def _run_padded(self, *_: Any) -> LayerResults:
        problem = "a normalised neuron takes no lengths: its statistics would count the padding"
        raise UnsupportedError(self.neuron.name, problem, remedy="Use BatchNorm and a NeuronLayer.")

    def _run_reference(
        self,
        x: Tensor,
        inputs: tuple[Tensor, ...],
        start: Sequence[Tensor],
        params: list[Tensor],
        returns_states: bool,
    ) -> LayerResults:
        """Run the neuron as it is, in eager PyTorch, on its normalised input without shortcut."""
        more = [other.to(x.dtype) for other in inputs[1:]]
        if self.shortcut:
            x = x + more.pop(0)
        outputs, final, counts, extra = self._reference.run(
            "torch", (x, *more), start, params, returns_states
        )
        return tuple(out.to(inputs[0].dtype) for out in outputs), final, counts, extra

    def _coefficients(
        self, weight: Tensor, bias: Tensor, real: torch.dtype
    ) -> Coefficients[Tensor]:
        """Return mean, scale and shift of an evaluation."""
        if self.norm == "affine":
            return Coefficients(torch.zeros_like(weight.detach()), weight, bias)
        norm = self.normalisation
        running = torch.stack((norm.running_mean, norm.running_var)).double()
        return coefficients(norm.eps, real, running, weight.double(), bias.double())

    def _group(self) -> str | None:
        """Return the name of the processes whose statistics are combined, if there are several."""
        return world_name() if self.sync and self._uses_batch() else None

    def explain(self, x_seq: Tensor, *more_inputs: Tensor) -> Explanation:
        """Return the explanation of `forward`, in training with both passes; see `NeuronLayer`."""
        found = super().explain(x_seq, *more_inputs)
        return with_passes(found, x_seq.requires_grad) if self._uses_batch() else found

    def _uses_batch(self) -> bool:
        """Report whether calls use the statistics of the batch."""
        return self.norm != "affine" and self.normalisation.training

    def extra_repr(self) -> str:
        """Describe the layer in `print(network)`."""
        own = f"channels={self.channels}, norm={self.norm!r}, shortcut={self.shortcut}"
        if not self._deferred:
            own += f", eps={self.eps}, momentum={self.momentum}"
        return f"{super().extra_repr()}, {own}"


# Weight and bias of a normalisation: validation, and the initial value of a "tdbn" weight.


def threshold_of(layer: NeuronLayer) -> Tensor:
    """Return the threshold of a layer or of each channel, or raise ModelError."""
    threshold, found = getattr(layer, "v_threshold", None), "no v_threshold"
    if isinstance(threshold, Tensor):
        if not is_lazy(threshold) and threshold.dim() <= 1:
            return threshold.detach()
        found = "a v_threshold per neuron"
    problem = f"norm is 'tdbn', and {layer.neuron.name} has {found}"
    accepted = "a neuron with a parameter v_threshold per layer or channel"
    raise ModelError("NormNeuron", problem, accepted, "Use norm='batch', and set weight.")


def weights_as(where: str, norm: NormModule, channels: int, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight and bias in the type of the arithmetic on c.

    Raises:
        ShapeError: They or the running statistics are not (C,) on the device of c.
    """
    weight, bias, buffers = norm.weight, norm.bias, norm._buffers
    statistics = buffers.get("running_mean"), buffers.get("running_var")
    size, device, real = (channels,), c.device, REAL[c.dtype]
    for k, value in enumerate((weight, bias, *statistics)):
        if value is not None and (value.shape != size or value.device != device):
            name = ("weight", "bias", "running_mean", "running_var")[k]
            problem = f"{name!r} of the normalisation is {tuple(value.shape)} on {value.device}"
            raise ShapeError(where, problem, f"{size} on {device}, the device of c")
    return weight.to(real), bias.to(real)


# Shortcuts of a layer: their types, those that its kernel adds, and calls with any other.


def as_summand(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return inputs whose r, if it has one axis, follows the last axis of c, as in an addition."""
    if len(inputs) > 1 and isinstance(inputs[1], Tensor) and inputs[1].dim() == 1:
        return inputs[0], inputs[1][None], *inputs[2:]
    return inputs


def adds_in_kernel(c: Any, *more: Any) -> bool:
    """Report whether c + r has the shape and the type of c, or c is refused anyway."""
    if not (isinstance(c, Tensor) and more):
        return True
    r = more[0]
    if not isinstance(r, Tensor) or r.device != c.device or r.dim() > c.dim():
        return False
    pairs = zip(reversed(r.shape), reversed(c.shape), strict=False)
    is_widened = is_autocast(c) and r.is_floating_point()
    return (r.dtype is c.dtype or is_widened) and all(a == b or a == 1 for a, b in pairs)


def run_alone(
    layer: NeuronLayer, own: Dispatch, inputs: tuple[Tensor, ...], options: Mapping[str, Any]
) -> Any:
    """Return the results of a layer whose calls `own` runs; states and records stay in `layer`."""
    alone = NeuronLayer.__new__(NeuronLayer)
    vars(alone).update({**vars(layer), "_dispatch": own})
    results: Any = alone.forward(*inputs, **options)
    vars(layer).update({**vars(alone), "_dispatch": layer._dispatch})
    return results


# Inputs of the neuron in a call of a layer, normalised or not.


def neuron_inputs(layer: NeuronLayer, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the inputs of the neuron in a call of a layer on `inputs`.

    For a `NormNeuron`: x, in the type of the arithmetic, then the inputs after c and r.
    """
    if not isinstance(layer, NormNeuron):
        return inputs
    x, *more = layer.normalised_inputs(*inputs)
    if layer.shortcut:
        x = x + more.pop(0)
    return (x, *more)


def with_shortcut(neuron: NeuronLayer, c: Tensor, r: Tensor) -> Tensor:
    """Return neuron(c, r) if the layer adds its shortcut itself, else neuron(c + r)."""
    if isinstance(neuron, NormNeuron) and neuron.shortcut:
        return neuron(c, r)
    return neuron(c + r)


# Explanation of a call that normalises with the statistics of the batch.


def with_passes(found: Explanation, needs_gradient: bool) -> Explanation:
    """Return the explanation of a neuron's kernels with both passes of its prologue.

    `needs_gradient`: The input requires a gradient, which the second pass corrects.
    """
    if found.schedule is None:
        return found
    sums, size = 1 if device_type(found.backend) == "cpu" else 2, BYTES[found.dtype]
    schedule = replace(
        found.schedule,
        forward_launches=found.schedule.forward_launches + sums,
        backward_launches=found.schedule.backward_launches + 1,
    )
    forward, backward = found.bytes_moved
    moved = (forward + size, backward + 3 * size * needs_gradient)
    return replace(found, schedule=schedule, bytes_moved=moved)


# Normalisation in plain PyTorch: the reference of the kernels.


def normalised_by(c: Tensor, used: Coefficients[Tensor]) -> Tensor:
    """Return scale*(c - mean) + shift, in the type of the arithmetic."""
    mean, scale, shift = (_by_channel(value, c) for value in used)
    return (c.to(REAL[c.dtype]) - mean) * scale + shift


def batch_normalised(
    c: Tensor, weight: Tensor, bias: Tensor, eps: float, group: str | None
) -> tuple[Tensor, Tensor]:
    """Return c with the statistics of the batch, in the type of the arithmetic, and its moments."""
    axes = tuple(axis for axis in range(c.dim()) if axis != 2)
    numbers = c.to(REAL[c.dtype])
    count = numbers.new_full((1,), c.numel() // max(c.shape[2], 1))
    if group is None:
        var, mean = torch.var_mean(numbers, axes, correction=0)
    else:
        count = _summed(count, group)
        mean = _summed(numbers.sum(axes), group) / count
        var = _summed(((numbers - _by_channel(mean, c)) ** 2).sum(axes), group) / count
    used = Coefficients(mean, weight * (var + eps).rsqrt(), bias)
    moments = torch.stack((mean, var, count.expand_as(mean))).detach().double()
    return normalised_by(c, used), moments


def _by_channel(value: Tensor, c: Tensor) -> Tensor:
    """Return (C,) in a shape that broadcasts to (T, N, C, *)."""
    return value.reshape(-1, *[1] * (c.dim() - 3))


def _summed(value: Tensor, group: str) -> Tensor:
    """Return the sum over all processes; its gradient is summed too."""
    total: Tensor = all_reduce(value, group=process_group(group))  # type: ignore[no-untyped-call]
    return total


# Dispatch of calls that normalise with the statistics of the batch.


@dataclass(eq=False)
class NormDispatch(Dispatch):
    """Runner of one normalised neuron. `run` takes the coefficients as its last parameters."""

    def inputs_of(self, tensors: tuple[Tensor, ...], step_mode: str) -> tuple[Tensor, ...]:
        """Return the inputs of a call, validated."""
        count, names = len(tensors), self.input_names
        if count != len(names):
            lacking = ", ".join(names[count:])
            remedy = f"Give {lacking} too. With shortcut=True, r is the shortcut."
            problem = f"the call has {counted(count, 'input')}"
            raise ShapeError(self.name, problem, names, remedy if lacking else "")
        return super().inputs_of(tensors, step_mode)

    def batch_backend_of(self, backend: str, dtype: torch.dtype) -> str:
        """Return the backend of a call with the statistics of the batch; see `Dispatch.on`."""
        if torch.compiler.is_compiling():
            return self._constant(self._key, "batch_on", backend, dtype)  # type: ignore[no-any-return]
        return self.batch_on(backend, dtype)

    def batch_on(self, backend: str, dtype: torch.dtype) -> str:
        """Return the same outside of a trace."""
        load = partial(passes_of, backend, dtype, self.backend == "auto")
        return self.loadable(("batch", backend, dtype), backend, load)
