"""Layers with backend "triton", in Triton's interpreter, in another process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import lnm_codegen as lnm
from tests.layers import slow
from tests.refusals import refused

pytest.importorskip("triton", reason="Triton is not installed")

CODE = """
import sys, torch, lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer, NormNeuron
from tests.layers import assert_close, gradients

full = sys.argv[1] == "full"
torch.manual_seed(0)

def compare(make, inputs, close=1e-5):
    found = []
    for backend in ("triton", "c" if full else "torch"):
        layer = make(backend)
        found.append([*gradients(lambda *x: layer(*x), inputs, layer.parameters()),
                      *layer.buffers()])
    assert_close(*found, close)

for per in ("layer", "channel", "neuron") if full else ("channel",):
    neuron = lnm.get("lnm", degree=2, per=per)
    def make(backend):
        layer = NeuronLayer(neuron, channels=3, shape=(3, 5), backend=backend)
        def run(x, v):
            out, final = layer(x, state={"v": v}, return_state=True)
            return out, final["v"]
        run.parameters, run.buffers = layer.parameters, layer.buffers
        return run
    for shape in ((20, 2, 3, 5), (0, 2, 3, 5), (1, 0, 3, 5)):
        compare(make, [torch.randn(shape), torch.rand(shape[1:])])
    compare(make, [torch.randn(6, 2, 5, 3).transpose(2, 3), torch.zeros(2, 3, 5)])
v, x, gain = lnm.state("v"), lnm.input("x"), lnm.input("gain")
two = lnm.Neuron(charge={v: v * gain / 2 + x}, fire=v - 1, reset=lnm.soft_reset(v, 1), name="two")
layer, x = NeuronLayer(two, backend="triton"), torch.randn(20, 2, 3, 8)
for own in ((20,), (20, 1, 3, 1), (1, 2, 1, 8), (8,), x.shape) if full else ((20, 1, 3, 1),):
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
    expected = NeuronLayer(lnm.get("lif"), backend="torch")(x)
    assert expected.any()
    assert layer(x) is x and torch.equal(x, expected)
    layer = NeuronLayer(lnm.get("lif"), backend="triton", record=("stats",))
    out, seen = layer(4 * torch.randn(4, 2, 9))
    assert seen["stats"]["spike"] == float(out.sum()) > 0

neuron = lnm.get("lnm", degree=2, theta=(0.1, 0.5, -0.1), per="channel", v_min=-1.0)
for dtype, close in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)) if full else ():
    for shortcut in (False, True):
        for shape in ((5, 2, 3, 4, 5), (20, 2, 3, 2, 8), (0, 2, 3, 4), (4, 3, 2, 33)):
            inputs = [(torch.randn(shape) * 2 + 100).to(dtype), torch.randn(shape).to(dtype)]
            compare(lambda b: NormNeuron(neuron, shape[2], shortcut=shortcut, backend=b),
                    inputs[: 1 + shortcut], close)
"""


@pytest.mark.needs_cc
@pytest.mark.parametrize("extent", ["short", slow("full")])
def test_layers_run_triton(extent: str) -> None:
    """Outputs, states and gradients of another backend; layouts; in place; counts; blocks."""
    command = [sys.executable, "-c", CODE, extent]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_cpu_tensor_is_refused_otherwise() -> None:
    """Not interpreting, the backend names the device."""
    layer = lnm.nn.NeuronLayer(lnm.get("lif"), backend="triton")
    problem = "backend 'triton' runs on a GPU; the input is on cpu"
    with refused(lnm.ToolError, "lif", problem, remedy="Use backend='torch', or move the input."):
        layer(torch.zeros(3, 2))
