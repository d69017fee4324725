"""Caches of a layer's calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import grad, jvp, vmap

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer


def in_fake_mode(layer: NeuronLayer, x: torch.Tensor) -> Any:
    with FakeTensorMode(allow_non_fake_inputs=True):
        return layer(x)


FIRST_CALLS: dict[str, Callable[[NeuronLayer, torch.Tensor], Any]] = {
    "grad": lambda f, x: grad(lambda t: f(t).sum())(x),
    "vmap(grad)": lambda f, x: vmap(grad(lambda t: f(t).sum()))(x[None]),
    "vmap": lambda f, x: vmap(f)(x[None]),
    "jvp": lambda f, x: jvp(f, (x,), (x,)),
    "fake tensors": in_fake_mode,
}


@pytest.mark.parametrize("backend", ["torch", pytest.param("c", marks=pytest.mark.needs_cc)])
@pytest.mark.parametrize("first", FIRST_CALLS)
def test_calls_after_a_transform(backend: str, first: str) -> None:
    """A first call in a transform leaves nothing of it behind.

    The initial states of that call were once kept, also if the call was refused.
    """
    neuron, x = lnm.get("lif", learn_tau=True), 3 * torch.ones(4, 2, 3)
    layer = NeuronLayer(neuron, backend=backend)
    try:
        FIRST_CALLS[first](layer, x)
    except (lnm.UnsupportedError, NotImplementedError):
        assert backend == "c"
    layer(x).sum().backward()
    expected = NeuronLayer(neuron, backend=backend)(x)
    assert torch.equal(layer(x), expected)
    assert expected.sum() > 0
    assert layer.tau.grad is not None


def test_a_captured_call_leaves_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The initial states of a capture are filled at a replay of its CUDA graph, and only there."""
    layer, x = NeuronLayer(lnm.get("lif"), backend="torch"), torch.ones(2, 1, 3)
    with monkeypatch.context() as captured:
        captured.setattr(torch.cuda, "is_initialized", lambda: True)
        captured.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        layer(x)
    assert not layer._dispatch._starts
    layer(x)
    assert layer._dispatch._starts
