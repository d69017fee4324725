"""Modules for the nodes of NIR that keep no potential: linear, convolution, pooling, delay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from torch.nn.utils import skip_init

from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.validation import shown

Shape: TypeAlias = tuple[int, ...]
BATCH = (
    "If the first axis is the batch, export again with a sample without it, or in nirtorch with "
    "ignore_dims=[0]."
)
"""Remedy for graphs of exporters that count the batch of their sample as a feature."""
_LONGEST = 1_000_000  # steps of a delay, each of which is kept
_WHOLE = 1e-6  # of a step: what counts as a whole number of steps


def require_shape(where: str, found: Shape, accepted: Shape) -> None:
    """Raise ShapeError unless an input has the accepted features."""
    if found != accepted:
        raise shape_error(where, found, str(accepted), has_batch=found[1:] == accepted)


def shape_error(where: str, found: Shape, accepted: str, has_batch: bool) -> ShapeError:
    """Return the error of an input; `has_batch`: without its first axis, it were accepted."""
    problem = f"the input has shape {found} without T and N"
    return ShapeError(where, problem, accepted, BATCH if has_batch else "")


def tensor_of(where: str, word: str, value: Any) -> Tensor:
    """Return a field of a node, finite numbers, as a tensor of PyTorch's default type."""
    return torch.tensor(array_of(where, word, value), dtype=torch.get_default_dtype())


def array_of(where: str, word: str, value: Any) -> NDArray[np.float64]:
    """Return a field of a node, finite real numbers, as float64, or raise ModelError."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        raise ModelError(where, f"{word} is {shown(value)}", "an array") from None
    if array.dtype.kind not in "iuf":
        raise ModelError(where, f"{word} has the type {array.dtype}", "real numbers")
    if not np.isfinite(array).all():
        raise ModelError(where, f"{word} is not finite", "finite numbers")
    return array.astype(np.float64)


def integers_of(where: str, word: str, value: Any, count: int) -> tuple[int, ...]:
    """Return `count` integers; a single one stands for all."""
    array = np.asarray(value)
    flat = array.reshape(-1)
    if array.dtype.kind not in "iu" or flat.size not in (1, count):
        accepted = "an integer" if count == 1 else f"an integer, or {count} of them"
        raise ModelError(where, f"{word} is {value!r}", accepted)
    return tuple(int(k) for k in (flat.tolist() * count)[:count])


def _linear(where: str, node: Any, shape: Shape, _: float) -> nn.Module:
    weight = tensor_of(where, "weight", node.weight)
    if weight.dim() != 2:
        problem = f"weight has shape {tuple(weight.shape)}"
        raise UnsupportedError(where, problem, "(outputs, inputs)")
    require_shape(where, shape, (weight.shape[1],))
    bias = tensor_of(where, "bias", node.bias) if hasattr(node, "bias") else None
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(where, f"bias has shape {tuple(bias.shape)}", f"({weight.shape[0]},)")
    rows, columns = weight.shape
    made = _made(nn.Linear, columns, rows, bias=bias is not None, dtype=weight.dtype)
    return _filled(made, weight, bias)


def _made(kind: type[nn.Module], *sizes: Any, **options: Any) -> nn.Module:
    """Return a module without values, which draws no random numbers."""
    made: nn.Module = skip_init(kind, *sizes, **options)  # type: ignore[no-untyped-call]
    return made


def _filled(module: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    with torch.no_grad():
        module.get_parameter("weight").copy_(weight)
        if bias is not None:
            module.get_parameter("bias").copy_(bias)
    return module


def _convolution(where: str, node: Any, shape: Shape, _: float) -> nn.Module:
    kind, axes = (nn.Conv1d, 1) if type(node).__name__ == "Conv1d" else (nn.Conv2d, 2)
    weight = tensor_of(where, "weight", node.weight)
    if weight.dim() != axes + 2:
        problem = f"weight has shape {tuple(weight.shape)}"
        raise ShapeError(where, problem, f"(C_out, C_in) and {axes} axes")
    (groups,) = integers_of(where, "groups", node.groups, 1)
    channels = weight.shape[1] * groups
    if len(shape) != axes + 1 or shape[0] != channels:
        has_batch = len(shape) == axes + 2 and shape[1] == channels
        raise shape_error(where, shape, f"({channels},) and {axes} axes", has_batch)
    if not isinstance(node.padding, str | bytes):
        padding: Any = integers_of(where, "padding", node.padding, axes)
    else:
        padding = node.padding if isinstance(node.padding, str) else node.padding.decode()
    bias = None if node.bias is None else tensor_of(where, "bias", node.bias)
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(where, f"bias has shape {tuple(bias.shape)}", f"({weight.shape[0]},)")
    made = _made(
        kind,
        channels,
        weight.shape[0],
        tuple(weight.shape[2:]),
        stride=integers_of(where, "stride", node.stride, axes),
        padding=padding,
        dilation=integers_of(where, "dilation", node.dilation, axes),
        groups=groups,
        bias=bias is not None,
        dtype=weight.dtype,
    )
    return _filled(made, weight, bias)


def _pooling(where: str, node: Any, shape: Shape, _: float) -> nn.Module:
    if len(shape) != 3:
        raise shape_error(where, shape, "(C, H, W)", has_batch=len(shape) == 4)
    words = ("kernel_size", "stride", "padding")
    kernel, stride, padding = (integers_of(where, w, getattr(node, w), 2) for w in words)
    if type(node).__name__ == "SumPool2d":
        return SumPool2d((*kernel,), (*stride,), (*padding,))  # type: ignore[arg-type]
    return nn.AvgPool2d(kernel, stride, padding)  # type: ignore[arg-type]


def _flatten(where: str, node: Any, shape: Shape, _: float) -> nn.Module:
    (start,) = integers_of(where, "start_dim", node.start_dim, 1)
    (end,) = integers_of(where, "end_dim", node.end_dim, 1)
    axes = len(shape)
    if not (-axes <= start < axes and -axes <= end < axes and start % axes <= end % axes):
        problem = f"start_dim is {start} and end_dim is {end}, of an input of shape {shape}"
        raise ShapeError(where, problem, f"axes from 0 to {axes - 1}, counted without T and N")
    return nn.Flatten(1 + start % axes, 1 + end % axes)


def _scale(where: str, node: Any, shape: Shape, _: float) -> nn.Module:
    return Scale(_broadcast(where, "scale", tensor_of(where, "scale", node.scale), shape))


def _broadcast(where: str, word: str, value: Tensor, shape: Shape) -> Tensor:
    """Return a field if it has one element or the shape of the input, or raise ShapeError."""
    if value.numel() == 1:
        return value.reshape(())
    if tuple(value.shape) != shape:
        problem = f"{word} has shape {tuple(value.shape)}, the input {shape} without T and N"
        raise ShapeError(where, problem, f"{shape}, or one number")
    return value


def _delay(where: str, node: Any, shape: Shape, dt: float) -> nn.Module:
    steps = tensor_of(where, "delay", node.delay).double() / dt
    whole = steps.round()
    if (whole > _LONGEST).any():
        raise UnsupportedError(where, f"delay is {whole.max():g} steps", f"at most {_LONGEST}")
    if (steps < 0).any() or ((steps - whole).abs() > _WHOLE * whole.clamp(min=1)).any():
        problem = f"delay is {shown_numbers(steps * dt)}"
        raise UnsupportedError(where, problem, f"whole multiples of dt, {dt:g}", "Change dt.")
    return StepDelay(_broadcast(where, "delay", whole.long(), shape).expand(shape).clone())


def shown_numbers(values: Tensor) -> str:
    """Return the smallest and the largest of some numbers."""
    low, high = float(values.min()), float(values.max())
    return f"{low:g}" if low == high else f"between {low:g} and {high:g}"


BUILDERS: dict[str, Callable[[str, Any, Shape, float], nn.Module]] = {
    "Affine": _linear,
    "Linear": _linear,
    "Scale": _scale,
    "Conv1d": _convolution,
    "Conv2d": _convolution,
    "SumPool2d": _pooling,
    "AvgPool2d": _pooling,
    "Flatten": _flatten,
    "Delay": _delay,
}
"""Class of a node -> function (where, node, features of the input, dt) that makes its module."""


def output_shape(where: str, module: nn.Module, shape: Shape) -> Shape:
    """Return the features of the output of a module without memory, for those of its input.

    Raises:
        ShapeError: The module takes no such input.
    """
    if isinstance(module, StepDelay | Scale):
        return shape
    like = next(module.parameters(), torch.zeros(()))
    try:
        with torch.no_grad():
            return tuple(module(like.new_zeros(1, *shape)).shape[1:])
    except (RuntimeError, ValueError) as error:
        problem = f"the input has shape {shape} without T and N: {str(error).splitlines()[0]}"
        raise ShapeError(where, problem.rstrip(".")) from None


# Modules of nodes that `torch.nn` lacks: scale, sum pooling and delay.


class Scale(nn.Module):
    """y = scale * x, element by element. `scale` broadcasts to the features of x, (N, *)."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product."""
        return x * self.scale


class SumPool2d(nn.Module):
    """Sum over windows of (N, C, H, W); arguments as for `nn.AvgPool2d`, each a pair."""

    def __init__(
        self, kernel_size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Return the sums."""
        return avg_pool2d(x, self.kernel_size, self.stride, self.padding, divisor_override=1)


class StepDelay(nn.Module):
    """y[t] = x[t - steps], element by element, and 0 at the first steps.

    `steps` are integers >= 0 of the shape of the features of x, (T, N, *).
    """

    steps: Tensor

    def __init__(self, steps: Tensor) -> None:
        super().__init__()
        self.register_buffer("steps", steps)
        self.most = int(steps.max()) if steps.numel() else 0

    def forward(self, x_seq: Tensor) -> Tensor:
        """Return the delayed sequence."""
        return self.run(x_seq, None)[0]

    def run(self, x_seq: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the delayed sequence, and the last `most` steps of x, the `before` of a next call.

        `before` are those of the previous call, (most, N, *); None is 0.
        """
        if before is None:
            before = x_seq.new_zeros(self.most, *x_seq.shape[1:])
        whole = torch.cat((before, x_seq))
        count = x_seq.shape[0]
        time = torch.arange(count, device=x_seq.device).reshape(-1, *(1,) * (x_seq.dim() - 1))
        return whole.gather(0, (time + self.most - self.steps).expand_as(x_seq)), whole[count:]
