"""Batch statistics, a neuron over a sequence and their gradients, as kernels of one call.

The backward kernel of the neuron writes scale*e to the gradient of c, e being the gradient of its
normalised input, and sums e and e*(c - mean) for each channel. A second pass corrects the gradient
in place. Gradients of weight and bias are those of this process, as in SyncBatchNorm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from lnm_codegen.backends.plan import Plan
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.errors import ShapeError, UnsupportedError
from lnm_codegen.ir.declarations import Param
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.normalisation import channel_sums, input_correction
from lnm_codegen.nn.arguments import TYPES, is_plain
from lnm_codegen.nn.function import (
    Arguments,
    Kernels,
    Results,
    backward_arguments,
    forward_arguments,
    time_stride,
)
from lnm_codegen.nn.layout import Layout
from lnm_codegen.nn.norm.deferred import NormModule
from lnm_codegen.nn.select import kernels_of

# Numbers per channel of a normalisation in float64: moments, coefficients, sums of gradients.
#
#     scale = gamma/sqrt(var + eps)        shift = beta - scale*(mu - mean)
#
# `mean` is mu in the type of the arithmetic. The rounding of mu thus cancels.
#
# Each formula is written once, for PyTorch tensors and for NumPy arrays. On the CPU, the kernels'
# callers use NumPy: an operation on a few numbers takes it a fraction of PyTorch's time.


Array: TypeAlias = NDArray[Any]
Numbers = TypeVar("Numbers", Tensor, Array)

_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


class Coefficients(NamedTuple, Generic[Numbers]):
    """Parameters of the prologue of a kernel, (C,) each, in the type of the arithmetic."""

    mean: Numbers
    scale: Numbers
    shift: Numbers


class Gradients(NamedTuple, Generic[Numbers]):
    """Sums over the elements of a channel, (C,) each, in float64."""

    of_scale: Numbers  # sum of e*(c - mu), e the gradient of x
    of_shift: Numbers  # sum of e


def numbers(*tensors: Tensor) -> Sequence[Any]:
    """Return detached values in float64: NumPy arrays on the CPU, else tensors."""
    if tensors[0].is_cpu:
        return [array_of(t).astype(np.float64, copy=False) for t in tensors]
    return [t.detach().double() for t in tensors]


def array_of(tensor: Tensor) -> Array:
    """Return the values of a tensor on the CPU, in its memory."""
    return (tensor.detach() if tensor.requires_grad else tensor).numpy()


def as_tensors(*values: Tensor | Array) -> list[Tensor]:
    """Return the results of formulas as tensors."""
    return [v if isinstance(v, Tensor) else torch.from_numpy(v) for v in values]


def rounded(value: Numbers, dtype: torch.dtype) -> Numbers:
    """Return numbers in float32 or float64."""
    if isinstance(value, Tensor):
        return value.to(dtype)
    return value.astype(_NUMPY[dtype], copy=False)


def moments_of(count: int, first: Numbers, second: Numbers, pivot: Numbers) -> Numbers:
    """Return mean, biased variance and count from the sums of d and d**2, d = c - pivot."""
    shift = first / max(count, 1)
    var = second / max(count, 1) - shift * shift
    shape = (3, len(shift))
    found: Any = np.empty(shape) if not isinstance(first, Tensor) else first.new_empty(shape)
    found[0] = pivot + shift
    found[1] = var * (var > 0)  # NaN stays
    found[2] = count
    return found  # type: ignore[no-any-return]


def coefficients(
    eps: float, real: torch.dtype, moments: Numbers, weight: Numbers, bias: Numbers
) -> Coefficients[Numbers]:
    """Return the parameters of the prologue; those of tensors are differentiable."""
    mean = rounded(moments[0], real)
    scale = weight * inverse_deviation(moments, eps)
    shift = bias - scale * (moments[0] - mean)
    return Coefficients(mean, rounded(scale, real), rounded(shift, real))


def inverse_deviation(moments: Numbers, eps: float) -> Numbers:
    """Return 1/sqrt(var + eps)."""
    if isinstance(moments, Tensor):
        return (moments[1] + eps).rsqrt()
    found: Array = 1 / np.sqrt(moments[1] + eps)
    return found


def centred_sums(
    moments: Numbers, mean: Numbers, scale: Numbers, shift: Numbers
) -> Gradients[Numbers]:
    """Return both sums from the kernel's gradients of scale and shift, which read `mean`."""
    return Gradients(scale - (moments[0] - mean) * shift, shift)


def correction(
    moments: Numbers,
    used: Coefficients[Numbers],
    eps: float,
    sums: Gradients[Numbers],
    real: torch.dtype,
) -> tuple[Numbers, Numbers]:
    """Return offset and slope of what passes through the statistics; see `input_correction`.

    offset + slope*(c - mean) = scale*(sum(e)/M + (c - mu)*sum(e*(c - mu))/(M*(var + eps)))
    """
    count = moments[2]
    factor = used.scale / (count + (count == 0))
    slope = factor * sums.of_scale / (moments[1] + eps)
    offset = factor * sums.of_shift - slope * (moments[0] - used.mean)
    return rounded(offset, real), rounded(slope, real)


# Passes over a sequence (T, N, C, *) for the statistics of each channel.
#
# `moments` are (3, C) numbers in float64: mean, biased variance and count M, over T, N and *.


_SAMPLES = 2
"""Numbers of each axis, evenly spaced, from which the pivot is computed."""


def elements(c: Tensor) -> int:
    """Return M, the number of elements of a channel."""
    return prod(c.shape[:2]) * prod(c.shape[3:])


def has_values(where: str, c: Tensor, group: str | None) -> bool:
    """Report whether a channel of a batch has values, or raise ShapeError if it has one."""
    count = elements(c)
    if count == 1 and group is None:
        problem = f"training on shape {tuple(c.shape)}, one value in a channel"
        remedy = "Use a larger batch, or call eval()."
        raise ShapeError(where, problem, "at least 2 values in a channel", remedy)
    return count > 0 or group is not None


def batch_moments(sums: Kernels, layout: Layout, c: Tensor, group: str | None) -> Tensor:
    """Return the moments of a sequence in the layout of a call, over all processes of a group.

    `sums` are the kernels of `channel_sums`. They sum d and d**2, d = c - pivot, in the fixed tree
    of the reductions of parameter gradients. The pivot is a mean of a few numbers, so that d has
    the size of the spread of c.
    """
    pivot = _pivot(c, sums.real)
    first, second = torch.empty_like(pivot), torch.empty_like(pivot)
    sequence = (c, time_stride(c, layout))
    # As `Kernels.run_backward`, in less time. The pass reads neither linear, quadratic nor grad_y.
    shared = (*sequence, pivot, pivot, pivot)
    sums.backward(
        layout.sizes, backward_arguments(shared, None, sequence, (), (None, first, second))
    )
    own = as_tensors(moments_of(elements(c), *numbers(first, second, pivot)))[0]
    return own if group is None else _combined(own, group)


def track(norm: NormModule, moments: Tensor, count: int | None) -> None:
    """Update running statistics from the moments of a batch; see `batch_moments`.

    `count` is the number M of elements of a channel, greater than 0. None reads it from the
    moments, and changes nothing where it is 0.

    Raises:
        UnsupportedError: A transform of `torch.func` would change statistics outside of it.
    """
    if not torch.compiler.is_compiling() and is_functorch_wrapped_tensor(moments):
        if not is_functorch_wrapped_tensor(norm.running_mean):
            problem = "in training, a transform of torch.func would change the running statistics"
            raise UnsupportedError("NormNeuron", problem, remedy="Call eval().")
    if count is not None and norm.momentum is not None and _is_array(norm.running_mean):
        _track_arrays(norm, moments, norm.momentum, max(count, 2))
        return
    mean, var, total = moments.detach().unbind()
    some = 1 if count is not None else total[0] > 0
    elements = total.clamp(min=2) if count is None else max(count, 2)
    norm.num_batches_tracked.add_(some)
    rate = norm.momentum
    batches = norm.num_batches_tracked.clamp(min=1).double()
    weight = some / batches if rate is None else some * torch.full_like(batches, rate)
    unbiased = var * (elements / (elements - 1))
    for running, new in ((norm.running_mean, mean), (norm.running_var, unbiased)):
        old = running.double()
        running.copy_(old + weight * (new - old))


def _is_array(running: Tensor) -> bool:
    """Report whether NumPy can change running statistics, in less time than PyTorch."""
    if torch.compiler.is_compiling() or not running.is_cpu:
        return False
    return running.dtype in (torch.float32, torch.float64) and is_plain(running)


@np.errstate(all="ignore")  # NaN and infinity pass, as in PyTorch
def _track_arrays(norm: NormModule, moments: Tensor, weight: float, elements: int) -> None:
    mean, var, _ = moments.detach().numpy()
    unbiased = var * (elements / (elements - 1))
    for running, new in ((norm.running_mean, mean), (norm.running_var, unbiased)):
        values = running.numpy()
        values += weight * (new - values)
        torch.autograd.graph.increment_version(running)
    norm.num_batches_tracked.add_(1)


def _pivot(c: Tensor, real: torch.dtype) -> Tensor:
    if c.numel() == 0:
        return torch.zeros(c.shape[2], dtype=real, device=c.device)
    few, axes, count = _sample(c.shape)
    if c.dtype is real and c.is_cpu:
        mean = np.add.reduce(array_of(c)[few], axes) / count
        return as_tensors(mean)[0]
    return c[few].to(real).mean(axes)


@lru_cache(maxsize=1024)
def _sample(shape: torch.Size) -> tuple[tuple[slice, ...], tuple[int, ...], int]:
    """Return the index of a few numbers of each channel, the axes other than C, and their count."""
    axes = tuple(axis for axis in range(len(shape)) if axis != 2)
    steps = [-(-size // _SAMPLES) for size in shape]
    few = tuple(slice(None, None, None if k == 2 else step) for k, step in enumerate(steps))
    return few, axes, prod(len(range(0, shape[k], steps[k])) for k in axes)


def world_name() -> str | None:
    """Return the name of the group of all processes, or None if there is one process.

    A compiled graph keeps the name. It is compiled again where the process groups are others, since
    `torch.compile` guards their table.
    """
    if not dist.is_available():
        return None
    groups = len(dist.distributed_c10d._world.pg_names)
    return _name_among(groups) if groups else None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _name_among(_groups: int) -> str | None:
    world = dist.group.WORLD
    return None if world is None or world.size() == 1 else world.group_name


def process_group(name: str) -> dist.ProcessGroup:
    """Return the process group of a name."""
    return dist.distributed_c10d._resolve_process_group(name)  # type: ignore[attr-defined, arg-type]


def _combined(own: Tensor, group: str) -> Tensor:
    """Return the moments of all processes, in the order of their ranks."""
    processes = process_group(group)
    parts = [torch.empty_like(own) for _ in range(processes.size())]
    dist.all_gather(parts, own, group=processes)
    mean, var, count = torch.stack(parts, dim=1)
    total = count.sum(0)
    weight = count / total.clamp(min=1)
    whole = (weight * mean).sum(0)
    spread = (weight * (var + (mean - whole) ** 2)).sum(0)
    return torch.stack((whole, spread, total))


class _Kept(NamedTuple):
    """Numbers of a forward that its backward reads too."""

    found: Sequence[Any]  # moments, weight and bias in float64
    used: Coefficients[Any]
    constants: Sequence[Tensor]  # `used` as tensors


def batch_model(model: Plan) -> Plan:
    """Return a normalised model with weight and bias in place of mean, scale and shift."""
    own = (Param("weight", init=1.0, per="channel"), Param("bias", per="channel"))
    return replace(model, params=(*model.params[:-3], *own))


class NormKernels(Kernels):
    """Kernels of a normalised neuron, with both passes that batch statistics need.

    The parameters end with weight and bias, where those of the kernels end with mean, scale and
    shift. `run` also returns the moments.

    Args:
        model: The normalised model.
        neuron: Its kernels.
        sums: Kernels of `channel_sums`.
        correction: Kernels of `input_correction`.
        eps: Summand of the variance.
        group: Name of the processes whose statistics are combined, or None.
    """

    where = "NormNeuron"
    extra = ("moments",)
    options = "float eps, str? group, "

    def __init__(
        self,
        model: Plan,
        neuron: Kernels,
        sums: Kernels,
        correction: Kernels,
        eps: float,
        group: str | None,
    ) -> None:
        super().__init__(batch_model(model), neuron.counts)
        self._neuron, self._sums, self._correction = neuron, sums, correction
        self._eps, self._group = eps, group

    def saved_size(self, time_steps: int, neurons: int) -> int:
        """Return the number of elements in the saved states."""
        return self._neuron.saved_size(time_steps, neurons)

    def forward(self, sizes: Sequence[int], arguments: Arguments) -> None:
        """Run the forward kernel of the neuron."""
        self._neuron.forward(sizes, arguments)

    def backward(self, sizes: Sequence[int], arguments: Arguments) -> None:
        """Run the backward kernel of the neuron."""
        self._neuron.backward(sizes, arguments)

    @np.errstate(all="ignore")  # NaN and infinity pass, as in PyTorch
    def run(
        self,
        layout: Layout,
        tensors: Sequence[Tensor],
        returns_states: bool,
        saves_states: bool,
        into: Tensor | None = None,
    ) -> Results:
        """Compute the statistics and run the forward kernel."""
        *own, weight, bias = tensors
        moments = batch_moments(self._sums, layout, own[0], self._group)
        kept = self._numbers_of(moments, weight, bias)
        given = [*own, *kept.constants]
        results = self._neuron.run(layout, given, returns_states, saves_states, into)
        return Results(*results[:4], (moments,), kept)  # quicker than _replace

    def _numbers_of(self, moments: Tensor, weight: Tensor, bias: Tensor) -> _Kept:
        found = numbers(moments, weight, bias)
        used = coefficients(self._eps, self.real, *found)
        return _Kept(found, used, as_tensors(*used))

    @np.errstate(all="ignore")
    def run_backward(
        self,
        layout: Layout,
        tensors: Sequence[Tensor],
        saved: Tensor | None,
        grads: Sequence[Tensor | None],
        needed: Sequence[bool],
        into: Tensor | None = None,
        kept: _Kept | None = None,
    ) -> list[Tensor | None]:
        """Run the backward kernel, and correct the gradient of the input in place."""
        c, *own, weight, bias, moments = tensors
        c, real = layout.sequence(c), self.real
        found, used, constants = kept or self._numbers_of(moments, weight, bias)
        sums_needed = needed[0] or needed[-2] or needed[-1]
        wanted = (*needed[:-2], False, sums_needed, sums_needed)
        given = [c, *own, *constants]
        *results, _, scale, shift = self._neuron.run_backward(
            layout, given, saved, grads, wanted, into
        )
        if scale is None or shift is None:
            return [*results, None, None]
        sums = centred_sums(found[0], used.mean, *numbers(scale, shift))
        if (grad := results[0]) is not None:
            whole = sums if self._group is None else _summed(sums, self._group)
            parts = as_tensors(*correction(found[0], used, self._eps, whole, real))
            self._correct(layout, grad, c, (constants[0], *parts))
        of_weight = sums.of_scale * inverse_deviation(found[0], self._eps)
        ends = as_tensors(rounded(of_weight, real), rounded(sums.of_shift, real))
        results += [g if need else None for g, need in zip(ends, needed[-2:], strict=True)]
        return results

    def _correct(
        self, layout: Layout, grad: Tensor, c: Tensor, constants: Sequence[Tensor]
    ) -> None:
        """Subtract what passes through the statistics; `constants`: mean, offset, slope."""
        shared = (
            grad, time_stride(grad, layout), c, time_stride(c, layout), *layout.sharing(c),
            *constants,
        )  # fmt: skip
        self._correction.forward(layout.sizes, forward_arguments(shared, (grad,), (), (), None))

    def empty_extra(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Allocate the moments."""
        return (tensors[0].new_empty((3, tensors[-1].shape[0]), dtype=torch.float64),)


def _summed(sums: Gradients[Any], group: str) -> Gradients[Any]:
    """Return the sums over the elements of all processes."""
    both = torch.stack(as_tensors(*sums))
    dist.all_reduce(both, group=process_group(group))
    return Gradients(*numbers(*both.unbind()))


def passes_of(backend: str, dtype: torch.dtype, is_auto: bool = False) -> tuple[Kernels, Kernels]:
    """Return the kernels of both passes for a type of sequences; see `kernels_of`."""
    neurons = channel_sums(), input_correction()
    return tuple(kernels_of(n, backend, dtype, is_auto) for n in neurons)  # type: ignore[return-value]


def batch_kernels_of(
    neuron: Neuron,
    backend: str,
    dtype: torch.dtype,
    eps: float,
    group: str | None,
    is_auto: bool = False,
) -> NormKernels:
    """Return the kernels of a normalised neuron with the statistics of the batch."""
    own = kernels_of(neuron, backend, dtype, is_auto)
    model = plan_of(neuron, dtype=TYPES[dtype])
    return NormKernels(model, own, *passes_of(backend, dtype, is_auto), eps, group)
