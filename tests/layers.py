"""Layers under test: backends, inputs, and comparisons of results and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

needs_cc = pytest.mark.needs_cc
both = pytest.mark.parametrize("backend", ["torch", pytest.param("c", marks=needs_cc)])
slow_in_c = pytest.mark.parametrize(
    "backend", ["torch", pytest.param("c", marks=[needs_cc, pytest.mark.slow])]
)


def slow(*values: Any, **options: Any) -> Any:
    """Return values of `parametrize` whose test is slow."""
    return pytest.param(*values, marks=pytest.mark.slow, **options)


def sequence(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Return numbers in [-0.5, 2], of which a layer makes some spikes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=dtype) * 2.5 - 0.5


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def assert_equal(found: Any, expected: Any) -> None:
    """Expect the same bits, through tuples, lists and dicts; a count may be a tensor of a graph."""
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        found, expected = tuple(found.values()), tuple(expected.values())
    if isinstance(expected, tuple | list):
        assert len(found) == len(expected)
        for mine, theirs in zip(found, expected, strict=True):
            assert_equal(mine, theirs)
    elif isinstance(expected, Tensor):
        assert found.dtype is expected.dtype
        assert torch.equal(found, expected)
    else:
        assert float(found) == expected


def assert_close(found: Iterable[Tensor], expected: Iterable[Tensor], close: float) -> None:
    """Expect tensors that differ by at most `close`, absolutely or relatively."""
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=close, atol=close)


def gradients(
    run: Callable[..., Any],
    inputs: Iterable[Tensor],
    params: Iterable[Tensor] = (),
    weights: Iterable[Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """Return the outputs of a call, then the gradients of its inputs and of parameters.

    The loss is the sum of squares, or that of outputs times `weights`. A gradient that autograd
    does not find is 0.
    """
    leaves = [x.detach().requires_grad_() for x in inputs]
    outs = as_tuple(run(*leaves))
    losses = [(o * o).sum() for o in outs]
    if weights is not None:
        losses = [(o * w).sum() for o, w in zip(outs, weights, strict=True)]
    grads = torch.autograd.grad(sum(losses), [*leaves, *params], materialize_grads=True)
    return (*(o.detach() for o in outs), *grads)
