"""`pack_spikes` under `torch.compile`: gradients, bytes kept, and tensors that are not spikes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import lnm_codegen as lnm
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn import NormNeuron, pack_spikes
from tests.nn.bits.test_saved import (
    Counter,
    Net,
    assert_same,
    bytes_kept,
    gradients,
    lif,
    over_frames,
)
from tests.refusals import refused

SLOW = pytest.mark.slow
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


def compiled(body: Any, backend: str = "aot_eager", **options: Any) -> Any:
    """Return a function or a module as one graph."""
    torch._dynamo.reset()
    return torch.compile(body, backend=backend, fullgraph=True, **options)


def linear_net(**options: Any) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), lif(**options), nn.Linear(16, 3))


def conv_net(dtype: torch.dtype = torch.float32) -> Callable[[Tensor], Tensor]:
    """Return a block and a convolution of its spikes."""
    torch.manual_seed(0)
    block = NormNeuron(lnm.get("lif"), 4, backend="c")
    conv = nn.Conv2d(4, 4, 3, padding=1, dtype=dtype)
    return lambda c: over_frames(conv, block(c))


@pytest.mark.needs_cc
@pytest.mark.parametrize(
    "place", ["around", pytest.param("inside", marks=SLOW), pytest.param("hooks", marks=SLOW)]
)
def test_gradients_are_bit_exact(place: str) -> None:
    """A context around the compiled network, one inside, and hooks of the network keep bits."""
    net, x = Net("c"), torch.randn(4, 3, 3, 6, 6) + 0.8
    expected = gradients(net, x)

    def inside(given: Tensor) -> Tensor:
        with pack_spikes():
            out: Tensor = net(given)
        return out

    packed = pack_spikes(copy.deepcopy(net))
    run = compiled({"around": net, "inside": inside, "hooks": packed}[place])
    context: Any = pack_spikes() if place == "around" else nullcontext()
    counter = Counter()
    found = gradients(packed if place == "hooks" else net, x, counter.count(), context, run=run)
    assert len(counter.of(torch.uint8)) == 3
    assert_same(found, expected)


@pytest.mark.needs_cc
@pytest.mark.parametrize(
    ("dtype", "is_last"),
    [
        (torch.float32, False),
        pytest.param(torch.float32, True, marks=SLOW),
        pytest.param(torch.bfloat16, True, marks=SLOW),
    ],
)
def test_bytes_kept_behind_a_block(dtype: torch.dtype, is_last: bool) -> None:
    """An element-step keeps the input of the block and the spikes: 8 bytes, or 4.125 with bits."""
    body, size = conv_net(dtype), dtype.itemsize
    c = torch.randn(4, 2, 4, 16, 16).to(dtype)
    if is_last:
        c = c.transpose(2, 4).contiguous().transpose(2, 4)
    c.requires_grad_()
    assert bytes_kept(compiled(body), c, nullcontext()) == 2 * size
    assert bytes_kept(compiled(body), c, pack_spikes()) == size + 0.125


@pytest.mark.needs_cc
def test_bytes_kept_behind_a_linear_layer() -> None:
    """The context decides at each call: the graph with bits serves no call outside."""
    net, x = linear_net(backend="c"), torch.randn(8, 64, 8)
    run, counters = compiled(net), [Counter(), Counter()]
    found = gradients(net, x, counters[0].count(), pack_spikes(), run=run)
    assert_same(found, gradients(net, x, counters[1].count(), run=run))
    assert_same(found, gradients(net, x))
    spikes = 8 * 64 * 16
    assert counters[1].bytes() - counters[0].bytes() == 4 * spikes - spikes // 8


@pytest.mark.needs_cc
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own
def test_inductor() -> None:
    """Compiled code keeps the bits too, for every T of a graph with dynamic sizes."""
    net = Net("c")
    net(torch.zeros(1, 1, 3, 6, 6))
    run = compiled(net, "inductor", dynamic=True)
    for steps in (4, 5):
        x, counter = torch.randn(steps, 3, 3, 6, 6) + 0.8, Counter()
        found = gradients(net, x, counter.count(), pack_spikes(), run=run)
        assert len(counter.of(torch.uint8)) == 3
        for one, other in zip(found, gradients(net, x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.needs_cc
@pytest.mark.slow
def test_other_tensors_are_kept_whole() -> None:
    """Changed spikes and ternary outputs are no bits, and their gradients are right."""
    net, x = linear_net(backend="c"), torch.randn(4, 5, 8) * 3

    def changed(given: Tensor) -> Tensor:
        spikes = net[1](net[0](given))
        spikes.mul_(0.5)
        out: Tensor = net[2](spikes)
        return out

    ternary = nn.Sequential(nn.Linear(8, 16), lnm.nn.NeuronLayer(lnm.get("ternary"), backend="c"))
    ternary.append(nn.Linear(16, 3))
    for body, module in ((changed, net), (ternary, ternary)):
        counter = Counter()
        found = gradients(module, x, counter.count(), pack_spikes(), run=compiled(body))
        assert not counter.of(torch.uint8)
        assert_same(found, gradients(module, x, run=body))


def test_the_operator_refuses_other_numbers() -> None:
    """Bits of a number that is neither 0 nor 1 would be a wrong gradient."""
    problem = "an output of a layer, of shape (3,), is neither 0 nor 1"
    remedy = "Call the layer outside of the context."
    with refused(UnsupportedError, "pack_spikes", problem, "spikes", remedy):
        torch.ops.lnm.pack_spikes(torch.tensor([0.0, 1.0, 0.5]))


@pytest.mark.parametrize("shape", [(0, 4), (3, 5), (2, 512)])
def test_operators(shape: tuple[int, ...]) -> None:
    """The operators agree with their shapes, and give back the spikes in their layout."""
    for spikes in ((torch.rand(shape) > 0.5).double(), (torch.rand(shape[::-1]) > 0.5).float().T):
        taken = (torch.ops.lnm.pack_spikes(spikes), spikes.shape, spikes.stride(), spikes.dtype)
        found = torch.ops.lnm.unpack_spikes(*taken)
        assert torch.equal(found, spikes)
        assert found.stride() == spikes.stride()
        checks = ("test_schema", "test_faketensor")
        torch.library.opcheck(torch.ops.lnm.pack_spikes.default, (spikes,), test_utils=checks)
        torch.library.opcheck(torch.ops.lnm.unpack_spikes.default, taken, test_utils=checks)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["autocast", "checkpoint", "steps", "torch.func"])
def test_other_modes(case: str) -> None:
    """Autocast, activation checkpointing, single-step mode and `torch.func` train as before."""
    net, x = linear_net(step_mode="s" if case == "steps" else "m"), torch.randn(4, 5, 8) * 3
    context: Any = torch.autocast("cpu", torch.bfloat16) if case == "autocast" else nullcontext()

    def body(given: Tensor) -> Tensor:
        if case == "steps":
            lnm.nn.reset(net)
            return torch.stack([net(x) for x in given])
        if case == "checkpoint":
            out: Tensor = net[2](checkpoint(net[:2], given, use_reentrant=False))
            return out
        if case == "torch.func":
            return torch.func.grad(lambda x: net(x).square().sum())(given)
        out = net(given)
        return out

    if case == "torch.func":
        with pack_spikes():
            pass
        run = compiled(pack_spikes()(body))
        assert torch.equal(run(x), body(x))
        return
    counter = Counter()
    found = gradients(net, x, counter.count(), context, pack_spikes(), run=compiled(body))
    kept = {"autocast": 1, "checkpoint": 0, "steps": 4}[case]
    assert len(counter.of(torch.uint8)) == kept
    assert_same(found, gradients(net, x, context, run=body))


@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
@pytest.mark.needs_cc
@pytest.mark.parametrize("strict", [False, pytest.param(True, marks=SLOW)])
def test_programs_of_evaluation(strict: bool) -> None:
    """An exported program, and a graph without gradients, have no bits."""
    net, x, graphs = pack_spikes(linear_net(backend="c")), torch.randn(4, 5, 8), []
    with pack_spikes():
        program = torch.export.export(net, (x,), strict=strict)
    assert "pack_spikes" not in str(program.graph)

    def keep(module: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.append(str(module.graph))
        return module

    run = compiled(net, keep)
    with torch.no_grad():
        run(x)
    run(x)
    assert ["pack_spikes" in graph for graph in graphs] == [False, True]
