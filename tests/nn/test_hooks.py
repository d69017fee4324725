"""Forward hooks for the time of a context."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lnm_codegen.nn.hooks import hooked


def test_hooks_are_called_within_the_context_only() -> None:
    """They are removed at its end, and if the network or the iteration over hooks fails."""
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    seen: list[Any] = []

    def hook(module: nn.Module, inputs: Any, out: Any) -> None:
        seen.append((module, inputs[0].shape, out.shape))

    x = torch.ones(4, 2)
    with hooked((m, hook) for m in network):
        network(x)
    network(x)
    assert seen == [(network[0], (4, 2), (4, 3)), (network[1], (4, 3), (4, 1))]
    with pytest.raises(RuntimeError), hooked([(network[0], hook)]):
        network(torch.ones(4, 5))
    with pytest.raises(AttributeError), hooked([(network[0], hook), (None, hook)]):  # type: ignore[list-item]
        pass
    assert not network[0]._forward_hooks


def test_hooks_with_keyword_arguments() -> None:
    module, seen = nn.Identity(), []
    with hooked(
        [(module, lambda _, inputs, named, out: seen.append((inputs, named)))], with_kwargs=True
    ):
        module(1)
    assert seen == [((1,), {})]
