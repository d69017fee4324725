"""Forward hooks for the time of a context."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lnm_codegen.nn.hooks import hooked


def test_hooks_are_called_within_the_context_only() -> None:
    """They are removed at its end, and if the network or the iteration over hooks fails."""
    network, x, seen = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), torch.ones(4, 2), []

    def hook(module: nn.Module, inputs: Any, *rest: Any) -> None:
        seen.append((module, inputs[0].shape, *rest[:-1], rest[-1].shape))

    with hooked((m, hook) for m in network):
        network(x)
    network(x)
    with hooked([(network[0], hook)], with_kwargs=True):
        network(x)
    first, second = (network[0], (4, 2), (4, 3)), (network[1], (4, 3), (4, 1))
    assert seen == [first, second, (*first[:2], {}, first[2])]
    with pytest.raises(RuntimeError), hooked([(network[0], hook)]):
        network(torch.ones(4, 5))
    with pytest.raises(AttributeError), hooked([(network[0], hook), (None, hook)]):  # type: ignore[list-item]
        pass
    assert not network[0]._forward_hooks
