"""`Delay`: a learned delay of each channel, in fractions of a time step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, relu

from lnm_codegen.errors import ShapeError
from lnm_codegen.nn.arguments import default_dtype
from lnm_codegen.validation import require_bool, require_integer, require_number

_WHERE = "Delay"


class Delay(nn.Module):
    """A delay d of each channel, learned, between two whole numbers of time steps.

        y[t] = (1 - f) x[t - k] + f x[t - k - 1]        k = floor(d), f = d - k

    The gradient of d is the sum over t of grad y[t] (x[t - k - 1] - x[t - k]): it sees one step
    further, no more. With a `width` w > 1 it sees w steps: the taps at whole delays i are then
    max(0, 1 - |i - d|/w), divided by their sum. Begin with a large width and decrease it to 1
    during training, `delay.width = ...` (as the Gaussians of Hammouamri et al., ICLR 2024).

    Args:
        size: C, the number of channels.
        largest: Largest delay, an integer >= 1. A value beyond it, or below `least`, counts as it.
        least: Smallest delay.
        init: Initial delay; by default uniform from `least` to `largest`.
        width: Half the width of the triangle of taps, in time steps, >= 1.
        learnable: The delays are parameters; else a buffer.
        device: Device of the delays.
        dtype: Type of the delays.

    Attributes:
        delay: d, (C,).

    Shape:
        (T, N, C, *) -> (T, N, C, *). x before the start is 0, or the given state.

    Raises:
        ModelError: An argument is outside these ranges.

    Example:
        >>> import torch, lnm_codegen as lnm
        >>> delay = lnm.nn.Delay(1, largest=3, init=1.5)
        >>> delay(torch.tensor([1.0, 0, 0, 0]).reshape(4, 1, 1)).flatten().tolist()
        [0.0, 0.5, 0.5, 0.0]
    """

    delay: Tensor

    def __init__(
        self,
        size: int,
        largest: int,
        *,
        least: int = 0,
        init: float | None = None,
        width: float = 1.0,
        learnable: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.size = require_integer(_WHERE, "size", size)
        self.largest = require_integer(_WHERE, "largest", largest)
        self.least = require_integer(_WHERE, "least", least, low=0)
        require_integer(_WHERE, "largest", largest, low=max(1, self.least))
        self._init = require_number(
            _WHERE, "init", init, low=self.least, high=self.largest, optional=True
        )
        self.width = width
        value = torch.empty(self.size, device=device, dtype=dtype or default_dtype())
        if require_bool(_WHERE, "learnable", learnable):
            self.delay = nn.Parameter(value)
        else:
            self.register_buffer("delay", value)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set the delays to their initial values; draw the random ones anew."""
        if self._init is None:
            self.delay.uniform_(self.least, self.largest)
        else:
            self.delay.fill_(self._init)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; `width` is validated."""
        if name == "width":
            value = require_number(_WHERE, "width", value, low=1)
        super().__setattr__(name, value)

    def taps(self) -> Tensor:
        """Return the factors of x[t], x[t-1], ..., x[t-largest], (largest + 1, C)."""
        inside = self.delay.clamp(self.least, self.largest)
        d = self.delay + (inside - self.delay).detach()  # beyond the range, gradients pass too
        at = torch.arange(self.largest + 1, device=d.device, dtype=d.dtype)[:, None]
        if self.width == 1:
            k = d.detach().floor().clamp(max=self.largest - 1)
            f = d - k
            linear = torch.where(at == k, 1 - f, torch.where(at == k + 1, f, 0))
            return linear + 0 * d  # NaN where the delay is no number
        taps = relu(1 - (at - d).abs() / self.width) * (at >= self.least)
        found: Tensor = taps / taps.sum(0)
        return found

    def forward(
        self, x_seq: Tensor, state: Tensor | None = None, return_state: bool = False
    ) -> Any:
        """Delay a sequence.

        Args:
            x_seq: (T, N, C, *).
            state: The inputs before it, (largest, N, C, *), oldest first; by default 0.
            return_state: Return the last `largest` inputs too.
        """
        expected = f"a floating-point tensor (T, N, {self.size}, *)"
        if not isinstance(x_seq, Tensor):
            raise ShapeError(_WHERE, f"x_seq is of type {type(x_seq).__name__}", expected)
        if x_seq.dim() < 3 or x_seq.shape[2] != self.size or not x_seq.is_floating_point():
            problem = f"x_seq is {x_seq.dtype} of shape {tuple(x_seq.shape)}"
            raise ShapeError(_WHERE, problem, expected)
        shape = (self.largest, *x_seq.shape[1:])
        if state is None:
            state = x_seq.new_zeros(shape)
        elif not isinstance(state, Tensor) or state.shape != shape:
            found = (
                f"has shape {tuple(state.shape)}" if isinstance(state, Tensor) else "is no tensor"
            )
            raise ShapeError(_WHERE, f"state {found}", f"a tensor {shape}")
        if not len(x_seq):
            return (x_seq, state) if return_state else x_seq
        whole = torch.cat([state, x_seq])
        rows = whole.movedim((0, 2), (-1, -2))  # (N, *, C, T)
        weight = self.taps().flip(0).t()[:, None].to(x_seq.dtype)
        y = conv1d(rows.reshape(-1, *rows.shape[-2:]), weight, groups=self.size)
        y = y.reshape(*rows.shape[:-1], len(x_seq)).movedim((-1, -2), (0, 2))
        return (y, whole[len(x_seq) :]) if return_state else y

    def extra_repr(self) -> str:
        """Describe the module in `print(network)`."""
        return f"{self.size}, largest={self.largest}, least={self.least}, width={self.width}"
