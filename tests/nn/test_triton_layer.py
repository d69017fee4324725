"""`NeuronLayer` with backend "triton", in Triton's interpreter, in another process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="Triton is not installed")
pytestmark = pytest.mark.needs_cc

CODE = """
import torch, lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer

def gradients(layer, x, state):
    given, start = x.clone().requires_grad_(), state.clone().requires_grad_()
    out, final = layer(given, state={"v": start}, return_state=True)
    found = torch.autograd.grad(out.sum() + final["v"].sum(), [given, start, *layer.parameters()])
    return out.detach(), final["v"].detach(), *found

torch.manual_seed(0)
for per in ("layer", "channel", "neuron"):
    neuron = lnm.get("lnm", degree=2, per=per)
    make = lambda backend: NeuronLayer(neuron, channels=3, shape=(3, 5), backend=backend)
    for shape in ((20, 2, 3, 5), (0, 2, 3, 5), (1, 0, 3, 5)):
        x, state = torch.randn(shape), torch.rand(shape[1:])
        pairs = zip(gradients(make("triton"), x, state), gradients(make("c"), x, state))
        for mine, theirs in pairs:
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
turned = torch.randn(6, 2, 5, 3).transpose(2, 3)
pairs = zip(*(gradients(make(b), turned, torch.rand(2, 3, 5) * 0) for b in ("triton", "c")))
for mine, theirs in pairs:
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
v, x, gain = lnm.state("v"), lnm.input("x"), lnm.input("gain")
two = lnm.Neuron(charge={v: v * gain / 2 + x}, fire=v - 1, reset=lnm.soft_reset(v, 1), name="two")
layer, x = NeuronLayer(two, backend="triton"), torch.randn(20, 2, 3, 8)
for own in ((20,), (20, 1, 3, 1), (1, 2, 1, 8), (8,), x.shape):
    given = torch.rand(own).requires_grad_()
    whole = given.reshape(20, 1, 1, 1) if own == (20,) else given
    found = []
    for g in (given, whole.expand(x.shape).contiguous()):
        out, final = layer(x, g, return_state=True)
        grad, = torch.autograd.grad((out * x).sum() + (final["v"] * x[0]).sum(), [given])
        found.append((out, final["v"], grad))
    assert all(map(torch.equal, *(pair[:2] for pair in found)))
    torch.testing.assert_close(found[0][2], found[1][2], rtol=1e-5, atol=1e-5)
with torch.no_grad():
    layer, x = NeuronLayer(lnm.get("lif"), backend="triton", inplace=True), 4 * torch.randn(4, 2, 9)
    expected = NeuronLayer(lnm.get("lif"), backend="c")(x)
    assert expected.any()
    assert layer(x) is x and torch.equal(x, expected)
    layer = NeuronLayer(lnm.get("lif"), backend="triton", record=("stats",))
    out, seen = layer(4 * torch.randn(4, 2, 9))
    assert seen["stats"]["spike"] == float(out.sum()) > 0
"""


def test_the_layer_runs_triton() -> None:
    """Outputs, states and gradients of the C kernels; layouts; in place; counts."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_cpu_tensor_is_refused_otherwise() -> None:
    """Not interpreting, the backend names the device."""
    import torch

    import lnm_codegen as lnm
    from tests.refusals import refused

    layer = lnm.nn.NeuronLayer(lnm.get("lif"), backend="triton")
    problem = "backend 'triton' runs on a GPU; the input is on cpu"
    with refused(lnm.ToolError, "lif", problem, remedy="Use backend='torch', or move the input."):
        layer(torch.zeros(3, 2))
