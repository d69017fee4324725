"""Layers on a GPU: `triton` and `cuda` against the interpreter, and against each other."""

from __future__ import annotations

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.bench.measure import Workload, kept_bytes
from lnm_codegen.nn import NeuronLayer, RecurrentLayer, pack_spikes
from lnm_codegen.nn import check as compare
from lnm_codegen.nn.select import missing
from lnm_codegen.train.models import Task
from lnm_codegen.train.models.convolutional import conv_net
from tests.cases import CASES, ZOO
from tests.recurrent import LIF, TWO, drawn, exact

pytestmark = pytest.mark.needs_cuda


@pytest.fixture(autouse=True)
def _free_memory():
    """Return the memory of each test to the GPU, which several processes may share."""
    yield
    torch.cuda.empty_cache()


backends = pytest.mark.parametrize("backend", ["triton", "cuda"])


@pytest.mark.parametrize("case", CASES | ZOO)
def test_agrees(case):
    """Outputs, states and gradients of both backends, float32 and float64."""
    found = compare.compare_backends((CASES | ZOO)[case]())
    assert found.agrees, found
    ran = {run.backend for run in found.runs}
    assert ran >= {b for b in ("triton", "cuda") if missing(b) is None}


def gradients(layer, x, grad):
    out = layer(x)
    return out.detach(), *torch.autograd.grad(out, [x, *layer.parameters()], grad)


def case_of(backend):
    """Return a layer, an input, a gradient of the output, and the results."""
    layer = NeuronLayer(lnm.get("lnm", degree=2), backend=backend).cuda()
    x, grad = (torch.randn(8, 4, 1000, device="cuda") for _ in range(2))
    return layer, x, grad, gradients(layer, x.clone().requires_grad_(), grad)


@backends
@pytest.mark.needs_cc
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


@pytest.mark.needs_cc
@pytest.mark.parametrize("precision", ["highest", "high"])
@pytest.mark.parametrize("form", [{}, {"blocks": 2}, {"recurrent": "diagonal"}, {"delay": 3}])
@pytest.mark.parametrize("neuron", [LIF, TWO])
def test_recurrent_layer(neuron, form, precision):
    """One launch for all steps: outputs as in C, and gradients; weights have exact sums."""
    torch.manual_seed(0)
    here = exact(RecurrentLayer(neuron, 150, 3, backend="c", **form))
    there = RecurrentLayer(neuron, 150, 3, backend="triton", **form).cuda()
    there.load_state_dict(here.state_dict())
    x, lengths = drawn(here, 40, 50)[0], torch.arange(50) % 40 + 1
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        results = []
        for layer in (here, there):
            leaf = x.to(layer.recurrent.device).requires_grad_()
            out = layer(leaf, lengths=lengths.to(leaf.device))
            found = torch.autograd.grad(out.square().sum(), [leaf, *layer.parameters()])
            results.append([value.cpu() for value in (out.detach(), *found)])
    finally:
        torch.set_float32_matmul_precision(before)
    (wanted, *expected), (out, *grads) = results
    assert torch.equal(out, wanted)
    for a, b in zip(grads, expected, strict=True):
        assert (a - b).abs().max() <= 1e-4 * max(float(b.abs().max()), 1)


@backends
def test_channels_last(backend):
    """A parameter of each granularity, where neurons of a channel lie apart, against PyTorch."""
    torch.manual_seed(0)
    v, x = lnm.state("v"), lnm.input("x")
    a, b = lnm.param("a", init=0.5), lnm.param("b", init=0.3, per="channel")
    c = lnm.param("c", init=0.2, per="neuron")
    charge, reset = {v: a * v + b * x + a * b * c}, {v: v - lnm.spike}
    neuron = lnm.Neuron(name="mixed", charge=charge, fire=v - 1, reset=reset)
    like = {"device": "cuda", "dtype": torch.float64}
    x = torch.randn(40, 3, 5, 7, 17, **like).movedim(-1, 2)
    grad = torch.randn(x.shape, **like)
    found = []
    for name in (backend, "torch"):
        layer = NeuronLayer(neuron, shape=x.shape[2:], backend=name, **like)
        found.append(gradients(layer, x.clone().requires_grad_(), grad))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.mem_get_info()[1] < 40 << 30,
    reason="needs a GPU of 40 GiB",
)
@backends
def test_offsets_beyond_two_to_the_31(backend):
    """The last neurons of the last step lie beyond 2^31 numbers, forward and backward."""
    layer = NeuronLayer(lnm.get("lif"), backend=backend).cuda()
    x = torch.zeros(5, 1, (1 << 29) + 1024, dtype=torch.bfloat16, device="cuda")
    x[..., -64:] = torch.linspace(0.5, 3, 64, device="cuda")
    few = x[..., -65:].clone().requires_grad_()  # the last of those that get 0, too
    expected = layer(few)
    expected.sum().backward()
    x.requires_grad_()
    out = layer(x)
    out.backward(torch.ones_like(out))
    assert torch.equal(out[..., -64:], expected[..., -64:])
    assert not out[..., :-64].any()
    assert torch.equal(x.grad[..., -65:], few.grad)
    for step, same in zip(x.grad[..., :-64], few.grad[..., 0], strict=True):
        assert step.amin() == step.amax() == same


@backends
def test_on_a_stream(backend):
    """Launches wait for what comes before them on PyTorch's current stream, in the backward too."""
    layer, x, grad, expected = case_of(backend)
    late, late_grad = torch.zeros_like(x), torch.zeros_like(grad)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(1 << 28)  # cycles, a tenth of a second: elsewhere zeros would be read
        late.copy_(x)
        out = layer(late.requires_grad_())
        torch.cuda._sleep(1 << 28)
        late_grad.copy_(grad)
        found = torch.autograd.grad(out, [late, *layer.parameters()], late_grad)
    stream.synchronize()
    for mine, theirs in zip((out, *found), expected, strict=True):
        assert torch.equal(mine, theirs)


@backends
def test_initial_states_on_another_stream(backend):
    """A stream that does not wait for the first call reads initial states that are complete."""
    neuron = lnm.get("lif").with_init(v=0.5)
    x = torch.zeros(1, 1000, device="cuda")
    expected = NeuronLayer(neuron, backend=backend).cuda()(x)  # also loads the kernels
    layer = NeuronLayer(neuron, backend=backend).cuda()
    first, second = torch.cuda.Stream(), torch.cuda.Stream()
    with torch.cuda.stream(first):
        other = torch.full((128,), 2.0, device="cuda")  # whose memory the initial states get
        del other
        torch.cuda.synchronize()
        torch.cuda._sleep(1 << 28)
        layer(x)
    with torch.cuda.stream(second):
        found = layer(x)
    torch.cuda.synchronize()
    assert torch.equal(found, expected)


@backends
def test_in_a_cuda_graph(backend):
    """A forward and its backward, captured once, run again on other numbers."""
    layer, x, grad, expected = case_of(backend)
    still = torch.zeros_like(x, requires_grad=True)
    stream = torch.cuda.Stream()  # what a capture must find warm, as PyTorch asks
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        gradients(layer, still, grad)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = gradients(layer, still, grad)
    with torch.no_grad():
        still.copy_(x)
    graph.replay()
    torch.cuda.synchronize()
    for mine, theirs in zip(captured, expected, strict=True):
        assert torch.equal(mine, theirs)


@backends
def test_a_long_sum(backend):
    """2^28 float32 terms against their float64 sum, relative to the sum of their magnitudes."""
    v, x, gain = lnm.state("v"), lnm.input("x"), lnm.param("gain", init=0.7)
    neuron = lnm.Neuron(charge={v: gain * x}, output=v, name="scaled")
    layer = NeuronLayer(neuron, backend=backend).cuda()
    x_seq = torch.randn(256, 1 << 20, device="cuda", requires_grad=True)
    grad = torch.randn(256, 1 << 20, device="cuda")
    layer(x_seq).backward(grad)
    terms = x_seq.detach().mul_(grad)
    exact = sum(float(t.double().sum()) for t in terms)
    magnitudes = sum(float(t.double().abs().sum()) for t in terms)
    assert abs(float(layer.gain.grad) - exact) <= 1e-6 * magnitudes


@backends
def test_memory_far_out(backend):
    """4096 steps keep at most 1/16 of every state, beyond inputs and outputs."""
    layer = NeuronLayer(lnm.get("lnm", degree=3), backend=backend).cuda()
    x = torch.randn(4096, 1 << 16, device="cuda", requires_grad=True)
    layer(x[:32]).sum().backward()  # what is loaded once
    x.grad = None
    before = torch.cuda.memory_allocated()
    out = layer(x)
    kept = torch.cuda.memory_allocated() - before - 4 * out.numel()
    assert kept <= 4 * x.numel() / 16


@backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_spikes_as_bits(backend, dtype):
    """A fused network has the same gradients with `pack_spikes`, from less saved memory."""
    torch.manual_seed(0)
    task = Task((4, 1, 32, 32), 4, "sequence")
    net = conv_net(lnm.get("lif"), task, backend=backend).cuda()
    x = torch.randn(4, 8, 1, 32, 32, device="cuda")

    def forward():
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype is torch.bfloat16):
            return net(x).square().sum()

    def packed():
        with pack_spikes():
            return forward()

    exact = {"benchmark": False, "deterministic": True, "allow_tf32": False}
    with torch.backends.cudnn.flags(enabled=True, **exact):
        plain, bits = (torch.autograd.grad(run(), [*net.parameters()]) for run in (forward, packed))
        memory = [kept_bytes(Workload(run), "cuda") for run in (forward, packed)]
    torch.testing.assert_close(bits, plain)
    assert memory[1] < 0.9 * memory[0]


@backends
def test_compiled(backend):
    """No graph break."""
    layer, x, grad, expected = case_of(backend)
    got = gradients(torch.compile(layer, fullgraph=True), x.clone().requires_grad_(), grad)
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs)
