"""Large sizes: offsets beyond 2^31, long sums. All slow."""

from __future__ import annotations

import os

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer

GIB = 1 << 30
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs_cc,
    pytest.mark.skipif(MEMORY < 12 * GIB, reason="needs 12 GiB of memory"),
]


def test_offsets_beyond_two_to_the_31() -> None:
    """The last neurons of the last step lie beyond 2^31 numbers, forward, in 16 bits."""
    neurons = (1 << 29) + 128
    layer = NeuronLayer(lnm.get("lif"), backend="c")
    frame = torch.zeros(1, 1, neurons, dtype=torch.bfloat16)
    frame[..., -64:] = 3
    with torch.no_grad():
        out = layer(frame.expand(5, 1, neurons))
    assert float(out[..., -64:].sum()) == 5 * 64
    assert not out[..., :-64].any()


def test_a_long_sum() -> None:
    """2^27 float32 terms against their float64 sum, relative to the sum of their magnitudes."""
    v, x, gain = lnm.state("v"), lnm.input("x"), lnm.param("gain", init=0.7)
    layer = NeuronLayer(lnm.Neuron(charge={v: gain * x}, output=v), backend="c")
    torch.manual_seed(0)
    x_seq, grad = torch.randn(128, 1 << 20, requires_grad=True), torch.randn(128, 1 << 20)
    layer(x_seq).backward(grad)
    exact = magnitudes = 0.0
    for term in (a.detach() * b for a, b in zip(x_seq, grad, strict=True)):
        exact += float(term.double().sum())
        magnitudes += float(term.double().abs().sum())
    assert abs(float(layer.gain.grad) - exact) <= 1e-6 * magnitudes
