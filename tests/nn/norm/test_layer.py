"""`NormNeuron` against BatchNorm2d, an addition and a `NeuronLayer`."""

from __future__ import annotations

import copy
import importlib
import pickle
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad
from torch.nn.parameter import is_lazy

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer, NormNeuron
from lnm_codegen.nn.norm.layer import with_passes
from lnm_codegen.nn.select import DEVICES
from tests.refusals import refused

pytestmark = pytest.mark.needs_cc

LIF = lnm.get("lif")
LEARNED = lnm.get("lnm", degree=2, theta=(0.1, 0.5, -0.1), per="channel", v_min=-1.0)
NEURONS = {"lif": LIF, "lnm": LEARNED, "izhikevich": lnm.get("izhikevich", a=0.1, b=0.25)}
QUICK = (("lif", True, "c"), ("lnm", True, "torch"), ("izhikevich", False, "torch"))
"""The last has an argument `bias`, as the normalisation has."""


class Composition(nn.Module):
    """BatchNorm2d over T and N, an addition, and a layer of neurons in eager PyTorch."""

    def __init__(self, neuron: lnm.Neuron, channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, dtype=dtype)
        options = {"channels": channels, "dtype": dtype, "backend": "torch"}
        self.layer = NeuronLayer(neuron, record=("v",), **options)

    def forward(self, c: torch.Tensor, *shortcut: torch.Tensor) -> Any:
        flat = c.flatten(0, 1)
        axes = flat.shape[2:]
        image = flat.reshape(*flat.shape[:2], 1, -1) if len(axes) != 2 else flat
        x = self.norm(image).reshape(c.shape)
        return self.layer(sum(shortcut, x))


def pair(
    neuron: lnm.Neuron, channels: int, dtype: torch.dtype = torch.float64, **options: Any
) -> tuple[NormNeuron, Composition]:
    """Return a block and the composition, with equal parameters."""
    block = NormNeuron(neuron, channels, dtype=dtype, **options)
    whole = Composition(neuron, channels, dtype)
    with torch.no_grad():
        block.weight.copy_(torch.linspace(0.5, 2, channels))
        block.bias.copy_(torch.linspace(-0.5, 1, channels))
    whole.norm.load_state_dict(block.state_dict(), strict=False)
    whole.layer.load_state_dict(block.state_dict(), strict=False)
    return block, whole


def draw(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) + 1


def gradients(
    module: Any, inputs: list[torch.Tensor], weight: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the output, and the gradients of inputs, weight and bias of the normalisation."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = module(*leaves)
    out = out[0] if isinstance(out, tuple) else out
    norm = module if isinstance(module, NormNeuron) else module.norm
    own = [p for p in (module if norm is module else module.layer).parameters()]
    own = [p for p in own if p is not norm.weight and p is not norm.bias]
    leaves += [norm.weight, norm.bias, *own]
    return out.detach(), list(torch.autograd.grad((out * weight).sum(), leaves))


def is_settled(whole: Composition, inputs: list[torch.Tensor], distance: float) -> bool:
    """Report whether every potential is further than `distance` from the threshold."""
    with torch.no_grad():
        _, recorded = copy.deepcopy(whole)(*inputs)
    h = recorded["v"] - whole.layer.v_threshold.reshape(-1, *[1] * (inputs[0].dim() - 3))
    return bool((h.abs() > distance).all()) if h.numel() else True


LAYOUTS = {
    "contiguous": lambda t: t,
    "channels last": lambda t: t.movedim(2, -1).contiguous().movedim(-1, 2),
    "sample turned": lambda t: t.transpose(2, -1).contiguous().transpose(2, -1),
    "batch last": lambda t: t.movedim(1, -1).contiguous().movedim(-1, 1),
    "gaps": lambda t: torch.stack((t, t), -1)[..., 0],
}


@pytest.mark.parametrize(
    ("name", "shortcut", "backend"),
    [
        pytest.param(*case, marks=[pytest.mark.slow] * (case not in QUICK))
        for case in product(NEURONS, (True, False), ("c", "torch"))
    ],
)
def test_training_is_the_composition(name: str, shortcut: bool, backend: str) -> None:
    """Equal spikes, running statistics and gradients in float64, also of the neuron."""
    block, whole = pair(NEURONS[name], 5, backend=backend, shortcut=shortcut)
    for seed in range(3):
        inputs = [draw(4, 3, 5, 6, 7, seed=k) for k in (seed, seed + 10)][: 1 + shortcut]
        weight = draw(4, 3, 5, 6, 7, seed=20)
        got, expected = gradients(block, inputs, weight), gradients(whole, inputs, weight)
        assert torch.equal(got[0], expected[0])
        assert 0 < got[0].mean() < 1
        for mine, theirs in zip(got[1], expected[1], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(block.running_mean, whole.norm.running_mean, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(block.running_var, whole.norm.running_var, rtol=1e-6, atol=1e-8)
    assert block.num_batches_tracked == whole.norm.num_batches_tracked == 3


@pytest.mark.parametrize("backend", ["c", "torch"])
def test_evaluation_is_the_composition(backend: str) -> None:
    """With running statistics, which stay as they are; gradients pass to weight and bias."""
    block, whole = pair(LIF, 5, backend=backend, shortcut=True)
    inputs, weight = [draw(4, 3, 5, 6, 7), draw(4, 3, 5, 6, 7, seed=1)], draw(4, 3, 5, 6, 7, seed=2)
    block(*inputs), whole(*inputs)
    before = {k: v.clone() for k, v in block.state_dict().items()}
    got = gradients(block.eval(), inputs, weight)
    expected = gradients(whole.eval(), inputs, weight)
    assert torch.equal(got[0], expected[0])
    for mine, theirs in zip(got[1], expected[1], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)
    assert all(torch.equal(v, before[k]) for k, v in block.state_dict().items())


@pytest.mark.slow
@settings(max_examples=3)
@given(
    shape=st.tuples(*(st.integers(1, most) for most in (4, 4, 5, 9, 9))),
    wide=st.booleans(),
    layouts=st.tuples(*[st.sampled_from(sorted(LAYOUTS))] * 2),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    shortcut=st.booleans(),
    name=st.sampled_from(["lif", "lnm"]),
)  # fmt: skip
def test_any_shape_layout_and_type(
    shape: tuple[int, ...],
    wide: bool,
    layouts: tuple[str, ...],
    dtype: torch.dtype,
    shortcut: bool,
    name: str,
) -> None:
    """The kernels agree with plain PyTorch on the same numbers; gradients have the input's type."""
    shape = (*shape[:3], 16, 16) if wide else shape  # 16*16: a block shares its parameters
    assume(shape[0] * shape[1] * shape[3] * shape[4] > 1)
    real = torch.float64 if dtype is torch.float64 else torch.float32
    block, whole = pair(NEURONS[name], shape[2], real, backend="c", shortcut=shortcut)
    same = copy.deepcopy(block)
    same.backend = "torch"
    inputs = [LAYOUTS[way](draw(*shape, dtype=dtype, seed=k)) for k, way in enumerate(layouts)]
    inputs = inputs[: 1 + shortcut]
    if dtype in (torch.float32, torch.float64):
        assume(is_settled(whole, inputs, 1e-4 if real is torch.float32 else 1e-10))
    else:
        assume(is_settled(whole, [x.float() for x in inputs], 1e-4))
    weight = draw(*shape, dtype=dtype, seed=9)
    got, expected = gradients(block, inputs, weight), gradients(same, inputs, weight)
    assert got[0].dtype is dtype
    assert torch.equal(got[0], expected[0])
    for mine, theirs in zip(got[1], expected[1], strict=True):
        size = theirs.abs().max().item() if theirs.numel() else 0
        terms = 1 if mine.shape == shape else weight.numel() / shape[2]  # of a random sum
        rounding = 4 * torch.finfo(mine.dtype).eps if mine.dtype.itemsize == 2 else 0
        tolerance = (1024 * torch.finfo(real).eps + rounding) * max(size, terms**0.5, 1)
        torch.testing.assert_close(mine, theirs, rtol=0, atol=tolerance)
    torch.testing.assert_close(block.running_mean, same.running_mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(block.running_var, same.running_var, rtol=1e-5, atol=1e-5)


def settled(whole: Composition, c: torch.Tensor, distance: float) -> torch.Tensor:
    """Return c, changed where a potential is within `distance` of the threshold."""
    c = c.clone()
    for _ in range(100):
        with torch.no_grad():
            _, recorded = copy.deepcopy(whole)(c)
        near = (recorded["v"] - whole.layer.v_threshold).abs() <= distance
        if not near.any():
            return c
        c[near] += 10 * distance
    raise AssertionError("no input far from the threshold")


@pytest.mark.parametrize("backend", ["c", "torch"])
def test_gradients_agree_where_spikes_do(backend: str) -> None:
    """In float32, away from the threshold: every spike, and gradients to 2e-5 of the largest.

    So the larger differences of other inputs are those of the spikes below.
    """
    block, whole = pair(LIF, 16, torch.float32, backend=backend)
    c = settled(whole, draw(4, 8, 16, 16, 16, dtype=torch.float32), 1e-4)
    weight = draw(*c.shape, dtype=torch.float32, seed=1)
    got, expected = gradients(block, [c], weight), gradients(whole, [c], weight)
    assert torch.equal(got[0], expected[0])
    assert 0.05 < got[0].mean() < 0.95
    for mine, theirs in zip(got[1], expected[1], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-5 * theirs.abs().max().item())


def test_a_spike_at_the_threshold_changes_its_gradient() -> None:
    """In float64, the composition alone: a change of 1e-12 moves one spike, and one gradient.

    The gradient of that neuron changes by more than 0.01, and others by less than 0.001.
    """
    _, whole = pair(LIF, 3)
    c, weight = draw(4, 8, 3, 8, 8), draw(4, 8, 3, 8, 8, seed=1)
    where = (0, 2, 1, 3, 4)

    def at(value: float) -> torch.Tensor:
        changed = c.clone()
        changed[where] = value
        return changed

    low, high = -20.0, 20.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        with torch.no_grad():
            out, _ = copy.deepcopy(whole)(at(middle))
        low, high = (low, middle) if out[where] else (middle, high)
    below, above = (gradients(copy.deepcopy(whole), [at(v)], weight) for v in (low, high))
    assert (below[0] != above[0]).sum() <= 4
    assert below[0][where] != above[0][where]
    change = (below[1][0] - above[1][0]).abs()
    assert change[:, where[1], where[2], where[3], where[4]].max() > 0.01
    change[:, where[1], where[2], where[3], where[4]] = 0
    assert change.max() < 0.001


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["batch", "affine"])
@pytest.mark.parametrize("training", [True, False])
def test_gradcheck(norm: Any, training: bool) -> None:
    """Finite differences in float64, for a neuron without spikes."""
    block = NormNeuron(lnm.get("li"), 2, norm, shortcut=True, backend="c", dtype=torch.float64)
    block.train(training)

    def run(c: torch.Tensor, r: torch.Tensor, weight: Any, bias: Any) -> torch.Tensor:
        values = {"weight": weight, "bias": bias}
        return torch.func.functional_call(copy.deepcopy(block), values, (c, r))

    leaves = [draw(3, 2, 2, 3), draw(3, 2, 2, 3, seed=1), draw(2, seed=2), draw(2, seed=3)]
    assert torch.autograd.gradcheck(run, [x.requires_grad_() for x in leaves])


def test_the_result_does_not_depend_on_threads() -> None:
    """Spikes, gradients and statistics are bit-exact for any number of threads."""
    inputs = [draw(4, 16, 8, 16, 16, dtype=torch.float32, seed=k) for k in (0, 1)]
    found, before = [], torch.get_num_threads()
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        block, _ = pair(LIF, 8, torch.float32, backend="c", shortcut=True)
        out, grads = gradients(block, inputs, inputs[1])
        found.append([out, *grads, block.running_mean, block.running_var])
    torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


@pytest.mark.parametrize("backend", ["c", "torch"])
def test_empty_batches_and_single_values(backend: str) -> None:
    """T = 0 or N = 0 changes no statistic; one value in a channel is refused in training alone."""
    block = NormNeuron(LIF, 3, backend=backend)
    for shape in ((0, 2, 3, 4), (2, 0, 3, 4), (2, 2, 3, 0)):
        c = torch.rand(shape, requires_grad=True)
        out = block(c)
        assert out.shape == shape
        out.sum().backward()
        assert c.grad is not None
    assert block.num_batches_tracked == 0
    assert torch.equal(block.running_mean, torch.zeros(3))
    with refused(lnm.ShapeError, "lif", "one value in a channel", "at least 2", "eval()"):
        block(torch.rand(1, 1, 3))
    assert block.eval()(torch.rand(1, 1, 3)).shape == (1, 1, 3)


@pytest.mark.parametrize("backend", ["c", "torch"])
def test_a_channel_of_zero_variance(backend: str) -> None:
    """Its normalised value is 0, so the neuron receives the bias; every gradient is finite."""
    block = NormNeuron(lnm.get("li"), 2, backend=backend)
    c = draw(4, 2, 2, 5, 5, dtype=torch.float32)
    c[:, :, 1] = 3.7
    with torch.no_grad():
        block.bias.fill_(0.25)
    out, grads = gradients(block, [c], draw(4, 2, 2, 5, 5, dtype=torch.float32, seed=1))
    expected = NeuronLayer(lnm.get("li"), backend="torch")(torch.full_like(c[:, :, 1], 0.25))
    torch.testing.assert_close(out[:, :, 1], expected, rtol=1e-3, atol=1e-3)
    assert all(torch.isfinite(g).all() for g in grads)


def test_the_state_dict_is_that_of_batch_norm() -> None:
    """Unprefixed keys; a block loads the state_dict of a BatchNorm2d, and gives it back."""
    norm = nn.BatchNorm2d(3)
    norm(draw(8, 3, 4, 4, dtype=torch.float32))
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
    block = NormNeuron(LIF, 3)
    assert block.load_state_dict(norm.state_dict()) == ([], [])
    for key, value in norm.state_dict().items():
        assert torch.equal(block.state_dict()[key], value)
    learned = NormNeuron(LEARNED, 3)
    keys = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    assert set(learned.state_dict()) == keys | {p.name for p in LEARNED.params}
    missing, unexpected = learned.load_state_dict(norm.state_dict(), strict=False)
    assert missing == ["theta"]
    assert unexpected == []


def test_initial_values() -> None:
    """tdBN's weight begins at alpha*v_threshold, and "affine" has no statistics."""
    neuron = lnm.get("lif", v_threshold=0.5)
    assert torch.equal(NormNeuron(neuron, 3, "tdbn", alpha=2.0).weight, torch.ones(3))
    assert torch.equal(NormNeuron(neuron, 3, "tdbn").weight, torch.full((3,), 0.5))
    affine = NormNeuron(neuron, 3, "affine", backend="c")
    assert "running_mean" not in affine.state_dict()
    x = draw(4, 2, 3, 5, dtype=torch.float32)
    assert torch.equal(affine(x), NeuronLayer(neuron, backend="c")(x))
    with torch.no_grad():
        affine.weight.fill_(3)
    affine.reset_parameters()
    assert torch.equal(affine.weight, torch.ones(3))


@pytest.mark.slow
def test_momentum_none_is_the_mean_over_batches() -> None:
    """As in BatchNorm2d, in float64."""
    block = NormNeuron(LIF, 3, momentum=None, backend="c", dtype=torch.float64)
    norm = nn.BatchNorm2d(3, momentum=None, dtype=torch.float64)
    for seed in range(3):
        c = draw(2, 4, 3, 5, 5, seed=seed)
        block(c), norm(c.flatten(0, 1))
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(block.running_mean, norm.running_mean, **close)
    torch.testing.assert_close(block.running_var, norm.running_var, **close)


def test_transforms_of_torch_func() -> None:
    """In training, a transform may change running statistics only where it receives them."""
    block, c = NormNeuron(LIF, 3, backend="torch"), draw(4, 2, 3, dtype=torch.float32)
    params, buffers = dict(block.named_parameters()), dict(block.named_buffers())

    def loss(params: Any, buffers: Any) -> torch.Tensor:
        return functional_call(block, {**params, **buffers}, (c,)).square().sum()

    with refused(lnm.UnsupportedError, "NormNeuron", "running statistics", "", "eval"):
        grad(loss)(params, {})
    assert block.num_batches_tracked == 0
    assert not block.running_mean.any()
    found = grad(loss)(params, {k: v.clone() for k, v in buffers.items()})
    block(c).square().sum().backward()
    torch.testing.assert_close(found["weight"], block.weight.grad)
    evaluated = grad(loss)(dict(block.eval().named_parameters()), {})
    assert evaluated["weight"].any()


@pytest.mark.slow
def test_states_and_records() -> None:
    """Single-step mode keeps its states, and records are those of the neuron."""
    block = NormNeuron(LIF, 3, backend="c", step_mode="s", record=("v", "stats")).eval()
    layer = NeuronLayer(LIF, backend="c", step_mode="s", record=("v", "stats"))
    for seed in range(3):
        c = draw(2, 3, 5, dtype=torch.float32, seed=seed)
        got, seen = block(c)
        expected, theirs = layer(c * (1 + 1e-5) ** -0.5)
        assert torch.equal(got, expected)
        torch.testing.assert_close(seen["v"], theirs["v"])
        assert seen["stats"] == theirs["stats"]
    assert set(block.state) == {"v"}
    for other in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        assert other.state == {}
        assert other(c)[0].shape == c.shape
    lnm.nn.reset(block)
    assert block.state == {}


@pytest.mark.slow
def test_further_inputs_follow_the_shortcut() -> None:
    """A neuron of two inputs: c, r and then its second input, which may broadcast."""
    v, x, gain = lnm.state("v"), lnm.input("x"), lnm.input("gain")
    two = lnm.Neuron(
        charge={v: v * gain / 2 + x}, fire=v - 1, reset=lnm.soft_reset(v, 1), name="two"
    )
    c, r, g = draw(4, 2, 3, 5), draw(4, 2, 3, 5, seed=1), torch.rand(4, dtype=torch.float64)
    outs = [
        NormNeuron(two, 3, shortcut=True, backend=b, dtype=torch.float64)(c, r, g)
        for b in ("c", "torch")
    ]
    assert torch.equal(*outs)


def test_a_device_without_autocast() -> None:
    """Such as "meta", on which shapes of a network are found."""
    layer = NormNeuron(LIF, channels=3, device="meta")
    assert layer(torch.empty(4, 2, 3, device="meta")).shape == (4, 2, 3)


@pytest.mark.slow
def test_autocast_takes_inputs_of_two_types() -> None:
    """Under autocast the inputs take the wider type, as an addition does."""
    block = NormNeuron(LIF, 3, shortcut=True, backend="c")
    c, r = draw(4, 2, 3, 5, dtype=torch.bfloat16), draw(4, 2, 3, 5, dtype=torch.float32)
    with refused(lnm.ShapeError, "lif", "input 'r' is torch.float32"):
        block(c, r)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert block(c, r).dtype is torch.float32
        assert block(c, r.bfloat16()).dtype is torch.bfloat16
    assert block.running_var.dtype is torch.float32


@pytest.mark.parametrize("training", [True, False])
def test_a_trained_constant(training: bool) -> None:
    """The kernels have no gradient for it, and say so."""
    block = NormNeuron(LIF, 3, backend="c").train(training)
    block.v_threshold.requires_grad_()
    with refused(lnm.UnsupportedError, "lif", "constant 'v_threshold' requires a gradient"):
        block(torch.rand(4, 2, 3))


def test_explanation() -> None:
    """36 bytes an element-step in training, in float32, and 20 in evaluation; in 16 bits half."""
    block, x = NormNeuron(LIF, 3, backend="c"), torch.empty(4, 2, 3, 5, requires_grad=True)
    found = block.explain(x)
    assert found.bytes_moved == (12, 24)
    assert found.schedule is not None
    assert (found.schedule.forward_launches, found.schedule.backward_launches) == (2, 2)
    assert block.explain(x.bfloat16()).bytes_moved == (6, 12)
    assert block.eval().explain(x).bytes_moved == (8, 12)


def test_explanation_of_a_further_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend on the CPU sums the statistics in one launch, under any name."""
    monkeypatch.setitem(DEVICES, "rust", DEVICES["c"])
    layer = lnm.nn.NeuronLayer(LIF, backend="c")
    found = replace(layer.explain(torch.empty(4, 2, 3)), backend="rust")
    schedule = with_passes(found, needs_gradient=True).schedule
    assert schedule is not None
    assert schedule.forward_launches == 2


def test_refusals() -> None:
    """Arguments and inputs outside the documented ranges."""
    with refused(lnm.ModelError, "NormNeuron", "norm is 'layer'", "tdbn"):
        NormNeuron(LIF, 3, "layer")  # type: ignore[arg-type]
    for options in ({"eps": 0}, {"momentum": 2}, {"alpha": -1}, {"shortcut": 1}, {"channels": 0}):
        with refused(lnm.ModelError, "NormNeuron", next(iter(options))):
            NormNeuron(LIF, **({"channels": 3} | options))
    with refused(lnm.ModelError, "NormNeuron", "'inplace'"):
        NormNeuron(LIF, 3, inplace=True)
    with refused(lnm.ModelError, "NormNeuron", "v_threshold", "", "norm='batch'"):
        NormNeuron(lnm.get("li"), 3, "tdbn")
    for options in ({}, {"shape": (3, 2)}):  # lazy, or of known shape
        with refused(lnm.ModelError, "NormNeuron", "a v_threshold per neuron", "per layer"):
            NormNeuron(LIF.with_per({"v_threshold": "neuron"}), 3, "tdbn", **options)
    v, x, w = lnm.state("v"), lnm.input("x"), lnm.param("weight", init=1.0)
    named = lnm.Neuron(charge={v: v * w + x}, fire=v - 1, reset=lnm.hard_reset(v), name="named")
    with refused(lnm.ModelError, "NormNeuron", "'weight'", "", "Rename"):
        NormNeuron(named, 3)
    bias = lnm.state("bias")
    named = lnm.Neuron(charge={bias: bias / 2 + x}, fire=bias - 1, reset=lnm.hard_reset(bias))
    with refused(lnm.ModelError, "NormNeuron", "'bias'", "", "Rename"):
        NormNeuron(named, 3)
    with refused(lnm.UnsupportedError, "NormNeuron", "integer"):
        NormNeuron(LIF, 3).arithmetic = lnm.Fixed(16, 12)
    block = NormNeuron(LIF, 3)
    for shape in ((4, 2), (4, 2, 5, 3)):
        with refused(lnm.ShapeError, "lif", f"shape {shape}", "(T, N, 3, *)"):
            block(torch.rand(shape))
    with refused(lnm.ShapeError, "lif", "2 inputs"):
        block(torch.rand(4, 2, 3), torch.rand(4, 2, 3))
    with refused(lnm.UnsupportedError, "NormNeuron", "double backward"):
        c = torch.rand(4, 2, 3, requires_grad=True)
        torch.autograd.grad(block(c).sum(), c, create_graph=True)


def test_a_refused_batch_fixes_no_size() -> None:
    """One value in a channel has no variance."""
    block = NormNeuron(lnm.get("plif", per="neuron"), 4, backend="torch")
    with refused(lnm.ShapeError, "plif", "one value in a channel"):
        block(torch.rand(1, 1, 4))
    assert is_lazy(block.w)
    block(torch.rand(2, 1, 4, 3))


@pytest.mark.parametrize("backend", ["c", "torch"])
def test_replaced_parameters_of_another_size(backend: str) -> None:
    """A weight of one or of five numbers for three channels is refused, in both modes."""
    for name in ("weight", "bias", "running_mean", "running_var"):
        for size in (1, 5):
            block = NormNeuron(LIF, 3, backend=backend)
            kind = nn.Parameter if name in ("weight", "bias") else torch.clone
            setattr(block, name, kind(torch.ones(size)))
            for mode in (True, False):
                with refused(lnm.ShapeError, "lif", f"{name!r} of the normalisation is ({size},)"):
                    block.train(mode)(torch.rand(4, 2, 3))


def test_errors_name_the_neuron_and_the_inputs_of_the_block() -> None:
    """One name of the layer, and c and r, in every error of a call."""
    c = draw(4, 2, 3, 5, dtype=torch.float32)
    block, alone = NormNeuron(LIF, 3, shortcut=True), NormNeuron(LIF, 3)
    with refused(lnm.ShapeError, "lif", "the call has 1 input", "c, r", "Give r too."):
        block(c)
    with refused(lnm.ShapeError, "lif", "the call has 3 inputs", "c, r") as caught:
        block(c, c, c)
    assert caught.value.remedy == ""
    with refused(lnm.ShapeError, "lif", "the call has 2 inputs", "c"):
        alone(c, c)
    with refused(lnm.ShapeError, "lif", "input 'r' is torch.float64"):
        block(c, c.double())
    with refused(lnm.ShapeError, "lif", "input 'c' has shape (4, 2, 2, 5)"):
        block(c[:, :, :2], c[:, :, :2])
    with refused(lnm.ShapeError, "lif", "has the layout torch.sparse_coo", remedy="to_dense"):
        alone.eval()(c.to_sparse())
    assert copy.deepcopy(alone)._dispatch.name == "lif"


@pytest.mark.slow
def test_a_package_of_the_block_is_its_evaluation(tmp_path: Any, monkeypatch: Any) -> None:
    """docs/reference/fusion.md: the neuron to emit, and the values that the package loads."""
    block, c, r = NormNeuron(LIF, 3, shortcut=True), *draw(2, 4, 2, 3, 5, dtype=torch.float32)
    with torch.no_grad():
        block.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        block.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    block(c, r)
    page = (Path(__file__).parents[3] / "docs/reference/fusion.md").read_text(encoding="utf-8")
    code = page.split("norm = block.normalisation")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "lif_norm")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = {"block": block, "lnm": lnm, "norm": block.normalisation}
    exec(code, names)
    package = importlib.import_module("lif_norm_c")
    layer = package.LifNorm(channels=3)
    layer.load_state_dict(names["values"])
    expected = block.eval()(c, r)
    assert 0.1 < expected.mean() < 0.9
    assert torch.equal(layer(c, r), expected)
