"""Layers on a GPU: `triton` and `cuda` against the interpreter, and against each other."""

from __future__ import annotations

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer, agree
from lnm_codegen.nn.choice import missing
from tests.cases import CASES

pytestmark = pytest.mark.needs_cuda

backends = pytest.mark.parametrize("backend", ["triton", "cuda"])


@pytest.mark.parametrize("case", CASES)
def test_agrees(case):
    """Outputs, states and gradients of both backends, float32 and float64."""
    found = agree.compare(CASES[case]())
    assert found.agrees, found
    ran = {run.backend for run in found.runs}
    assert ran >= {b for b in ("triton", "cuda") if missing(b) is None}


def gradients(layer, x, grad):
    out = layer(x)
    return out.detach(), *torch.autograd.grad(out, [x, *layer.parameters()], grad)


@backends
@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
@pytest.mark.parametrize("steps", [1, 16, 40, 300, 5000])
def test_bits_are_the_same_from_run_to_run(backend, per, steps):
    """And those of the C kernels for what is no sum, on any number of steps."""
    torch.manual_seed(0)
    neuron = lnm.get("lnm", degree=3, per=per, theta=(0.05, 0.6, -0.1, 0.05), v_min=-2.0)
    shape = (steps, 3, 16, 70)
    here = NeuronLayer(neuron, channels=16, shape=shape[2:], backend="c")
    there = NeuronLayer(neuron, channels=16, shape=shape[2:], backend=backend).cuda()
    x, grad = torch.randn(shape), torch.randn(shape)
    expected = gradients(here, x.clone().requires_grad_(), grad)
    first = gradients(there, x.cuda().requires_grad_(), grad.cuda())
    again = gradients(there, x.cuda().requires_grad_(), grad.cuda())
    for mine, theirs in zip(first, again, strict=True):
        assert torch.equal(mine, theirs)
    if backend == "cuda":
        assert torch.equal(first[0].cpu(), expected[0])
        assert torch.equal(first[1].cpu(), expected[1])
    torch.testing.assert_close(first[2].cpu(), expected[2], rtol=1e-4, atol=1e-3)


@backends
def test_offsets_beyond_two_to_the_31(backend):
    """The last neurons of the last step lie beyond 2^31 numbers."""
    neurons = (1 << 29) + 1024
    layer = NeuronLayer(lnm.get("lif"), backend=backend).cuda()
    x = torch.zeros(5, 1, neurons, dtype=torch.bfloat16, device="cuda")
    x[:, :, -64:] = 3
    with torch.no_grad():
        out = layer(x)
    assert float(out[:, :, -64:].sum()) == 5 * 64
    assert float(out[:, :, :-64].float().sum()) == 0


@backends
def test_in_a_cuda_graph_and_on_a_stream(backend):
    """Launches go to PyTorch's current stream and may be captured."""
    layer = NeuronLayer(lnm.get("lnm", degree=2), backend=backend).cuda()
    x = torch.randn(8, 4, 1000, device="cuda")
    with torch.no_grad():
        expected = layer(x)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            got = layer(x)
        stream.synchronize()
        assert torch.equal(got, expected)
        graph, still = torch.cuda.CUDAGraph(), torch.zeros_like(x)
        with torch.cuda.graph(graph):
            captured = layer(still)
        still.copy_(x)
        graph.replay()
        torch.cuda.synchronize()
    assert torch.equal(captured, expected)


@backends
def test_compiled(backend):
    """No graph break."""
    layer = NeuronLayer(lnm.get("lnm", degree=2), backend=backend).cuda()
    x, grad = torch.randn(8, 4, 1000, device="cuda"), torch.randn(8, 4, 1000, device="cuda")
    compiled = torch.compile(layer, fullgraph=True)
    got = gradients(compiled, x.clone().requires_grad_(), grad)
    for mine, theirs in zip(got, gradients(layer, x.clone().requires_grad_(), grad), strict=True):
        torch.testing.assert_close(mine, theirs)
