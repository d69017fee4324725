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
from torch import nn
from torch.func import functional_call, grad
from torch.nn.parameter import is_lazy

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer, NormNeuron
from lnm_codegen.nn.norm.layer import with_passes
from lnm_codegen.nn.select import DEVICES
from tests.layers import assert_close, assert_equal, both, gradients, slow, slow_in_c
from tests.refusals import assert_refused, refused

# PyTorch instantiates a Function while it traces one.
pytestmark = [
    pytest.mark.needs_cc,
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]

LIF = lnm.get("lif")
LEARNED = lnm.get("lnm", degree=2, theta=(0.1, 0.5, -0.1), per="channel", v_min=-1.0)
NEURONS = {"lif": LIF, "lnm": LEARNED, "izhikevich": lnm.get("izhikevich", a=0.1, b=0.25)}
"""The last has an argument `bias`, as the normalisation has."""
FLOAT, DOUBLE = torch.float32, torch.float64


class Composition(nn.Module):
    """BatchNorm2d over T and N, an addition, and a layer of neurons in eager PyTorch."""

    def __init__(self, neuron: lnm.Neuron, channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, dtype=dtype)
        options = {"channels": channels, "dtype": dtype, "backend": "torch"}
        self.layer = NeuronLayer(neuron, record=("v",), return_recorded=False, **options)

    def forward(self, c: torch.Tensor, *shortcut: torch.Tensor) -> Any:
        flat = c.flatten(0, 1)
        axes = flat.shape[2:]
        image = flat.reshape(*flat.shape[:2], 1, -1) if len(axes) != 2 else flat
        return self.layer(sum(shortcut, self.norm(image).reshape(c.shape)))


def pair(
    neuron: lnm.Neuron, channels: int, dtype: torch.dtype = DOUBLE, **options: Any
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


def draw(*shape: int, dtype: torch.dtype = FLOAT, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(shape, generator=generator, dtype=DOUBLE).to(dtype) + 1


def trained(module: Any, inputs: list[torch.Tensor], weight: torch.Tensor) -> Any:
    """Return the output, and the gradients of inputs, of weight and bias and of the neuron."""
    norm = module.norm if isinstance(module, Composition) else module
    first = [norm.weight, norm.bias]
    own = [p for p in module.parameters() if not any(p is one for one in first)]
    return gradients(module, inputs, [*first, *own], [weight])


def settle(whole: Composition, inputs: list[torch.Tensor], distance: float = 1e-4) -> None:
    """Change inputs until no potential is within `distance` of the threshold."""
    threshold = whole.layer.v_threshold.reshape(-1, *[1] * (inputs[0].dim() - 3))
    for _ in range(100):
        run = copy.deepcopy(whole)
        with torch.no_grad():
            run(*(x.to(run.norm.weight.dtype) for x in inputs))
        near = (run.layer.recorded["v"] - threshold).abs() <= distance
        if not near.any():
            return
        inputs[0][near] += 0.1
    raise AssertionError("no input far from the threshold")


QUICK = (("lif", True, "c", FLOAT), ("lnm", True, "torch", DOUBLE),
         ("izhikevich", False, "torch", DOUBLE), ("lif", False, "torch", FLOAT))  # fmt: skip
CASES = [*product(NEURONS, (True, False), ("c", "torch"), (DOUBLE,))]
CASES += [*product(("lif",), (True, False), ("c", "torch"), (FLOAT,))]


@pytest.mark.parametrize(
    ("name", "shortcut", "backend", "dtype"),
    [*QUICK, *(slow(*case) for case in CASES if case not in QUICK)],
)
def test_the_block_is_the_composition(
    name: str, shortcut: bool, backend: str, dtype: torch.dtype
) -> None:
    """Equal spikes, running statistics and gradients, also of the neuron; then in evaluation.

    In float32 no potential is near the threshold, where rounding moves a spike.
    """
    block, whole = pair(NEURONS[name], 5, dtype, backend=backend, shortcut=shortcut)
    for seed in range(4):
        if seed == 3:
            before = {k: v.clone() for k, v in block.state_dict().items()}
            block.eval(), whole.eval()
        inputs = [draw(4, 3, 5, 6, 7, dtype=dtype, seed=k) for k in (seed, seed + 10)]
        inputs = inputs[: 1 + shortcut]
        if dtype is FLOAT:
            settle(whole, inputs)
        weight = draw(4, 3, 5, 6, 7, dtype=dtype, seed=20)
        found, expected = trained(block, inputs, weight), trained(whole, inputs, weight)
        assert torch.equal(found[0], expected[0])
        assert 0 < found[0].mean() < 1
        close = 2e-5 if dtype is FLOAT else 1e-10 if seed < 3 else 1e-6
        for mine, theirs in zip(found[1:], expected[1:], strict=True):
            size = max(1.0, float(theirs.abs().max()))
            torch.testing.assert_close(mine, theirs, rtol=close, atol=close * size)
    assert_equal(block.state_dict(), before)
    for key in ("running_mean", "running_var"):
        torch.testing.assert_close(before[key], whole.norm.state_dict()[key], rtol=1e-6, atol=1e-6)
    assert block.num_batches_tracked == whole.norm.num_batches_tracked == 3


LAYOUTS = {
    "contiguous": lambda t: t,
    "channels last": lambda t: t.movedim(2, -1).contiguous().movedim(-1, 2),
    "sample turned": lambda t: t.transpose(2, -1).contiguous().transpose(2, -1),
    "batch last": lambda t: t.movedim(1, -1).contiguous().movedim(-1, 1),
    "gaps": lambda t: torch.stack((t, t), -1)[..., 0],
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [DOUBLE, FLOAT, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["lif", "lnm"])
def test_any_layout_and_type(name: str, dtype: torch.dtype) -> None:
    """The kernels agree with plain PyTorch on the same numbers; gradients have the input's type."""
    real = DOUBLE if dtype is DOUBLE else FLOAT
    for k, (way, other) in enumerate(product(LAYOUTS.values(), LAYOUTS.values())):
        shape = ((4, 3, 5, 7, 9), (2, 3, 3, 16, 16))[k % 2]  # 16*16: a block shares its parameters
        block, whole = pair(NEURONS[name], shape[2], real, backend="c", shortcut=True)
        same = copy.deepcopy(block)
        same.backend = "torch"
        inputs = [way(draw(*shape, dtype=dtype)), other(draw(*shape, dtype=dtype, seed=1))]
        settle(whole, inputs)
        weight = draw(*shape, dtype=dtype, seed=9)
        found, expected = trained(block, inputs, weight), trained(same, inputs, weight)
        assert_equal(found[0], expected[0])
        for mine, theirs in zip(found[1:], expected[1:], strict=True):
            terms = 1 if mine.shape == shape else weight.numel() / shape[2]  # of a random sum
            rounding = 4 * torch.finfo(mine.dtype).eps if mine.dtype.itemsize == 2 else 0
            size = max(theirs.abs().max().item(), terms**0.5, 1)
            tolerance = (1024 * torch.finfo(real).eps + rounding) * size
            torch.testing.assert_close(mine, theirs, rtol=0, atol=tolerance)
        assert_close(block.buffers(), same.buffers(), 1e-5)


def test_the_result_does_not_depend_on_threads() -> None:
    """Spikes, gradients and statistics are bit-exact for any number of threads."""
    inputs = [draw(4, 16, 8, 16, 16, seed=k) for k in (0, 1)]
    found, before = [], torch.get_num_threads()
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        block, _ = pair(LIF, 8, FLOAT, backend="c", shortcut=True)
        found.append([*trained(block, inputs, inputs[1]), *block.buffers()])
    torch.set_num_threads(before)
    assert_equal(found, found[:1] * 4)


@both
def test_empty_batches_and_single_values(backend: str) -> None:
    """T = 0 or N = 0 changes no statistic; one value in a channel is refused in training alone."""
    block = NormNeuron(LIF, 3, shortcut=True, backend=backend)
    for shape in ((0, 2, 3, 4), (2, 0, 3, 4), (2, 2, 3, 0)):
        c = torch.rand(shape, requires_grad=True)
        out = block(c, c)
        assert out.shape == shape
        out.sum().backward()
        assert c.grad is not None
    assert block.num_batches_tracked == 0
    assert not block.running_mean.any()
    one = torch.rand(1, 1, 3)
    with refused(lnm.ShapeError, "lif", "one value in a channel", "at least 2", "eval()"):
        block(one, one)
    assert block.eval()(one, one).shape == (1, 1, 3)
    lazy = NormNeuron(lnm.get("plif", per="neuron"), 3, backend="torch")
    with refused(lnm.ShapeError, "plif", "one value in a channel"):
        lazy(one)
    assert is_lazy(lazy.w)  # a refused batch fixes no size
    lazy(torch.rand(2, 1, 3, 3))


@slow_in_c
def test_a_channel_of_zero_variance(backend: str) -> None:
    """Its normalised value is 0, so the neuron receives the bias; every gradient is finite."""
    block = NormNeuron(lnm.get("li"), 2, backend=backend)
    c = draw(4, 2, 2, 5, 5)
    c[:, :, 1] = 3.7
    block.bias.data.fill_(0.25)
    found = trained(block, [c], draw(4, 2, 2, 5, 5, seed=1))
    expected = NeuronLayer(lnm.get("li"), backend="torch")(torch.full_like(c[:, :, 1], 0.25))
    torch.testing.assert_close(found[0][:, :, 1], expected, rtol=1e-3, atol=1e-3)
    assert all(torch.isfinite(g).all() for g in found)


def test_the_state_dict_is_that_of_batch_norm() -> None:
    """Unprefixed keys; a block loads the state_dict of a BatchNorm2d, and gives it back."""
    norm = nn.BatchNorm2d(3)
    norm(draw(8, 3, 4, 4))
    norm.weight.data.uniform_(0.5, 2)
    block = NormNeuron(LIF, 3)
    assert block.load_state_dict(norm.state_dict()) == ([], [])
    for key, value in norm.state_dict().items():
        assert torch.equal(block.state_dict()[key], value)
    learned = NormNeuron(LEARNED, 3)
    keys = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    assert set(learned.state_dict()) == keys | {p.name for p in LEARNED.params}
    assert learned.load_state_dict(norm.state_dict(), strict=False) == (["theta"], [])


def test_initial_values() -> None:
    """tdBN's weight begins at alpha*v_threshold, and "affine" has no statistics."""
    neuron = lnm.get("lif", v_threshold=0.5)
    assert torch.equal(NormNeuron(neuron, 3, "tdbn", alpha=2.0).weight, torch.ones(3))
    assert torch.equal(NormNeuron(neuron, 3, "tdbn").weight, torch.full((3,), 0.5))
    affine = NormNeuron(neuron, 3, "affine", shortcut=True, backend="c")
    assert "running_mean" not in affine.state_dict()
    x = draw(4, 2, 3, 5)
    assert torch.equal(affine(x, x), NeuronLayer(neuron, backend="c")(x + x))
    affine.weight.data.fill_(3)
    affine.reset_parameters()
    assert torch.equal(affine.weight, torch.ones(3))


@pytest.mark.slow
def test_momentum_none_is_the_mean_over_batches() -> None:
    """As in BatchNorm2d, in float64."""
    block = NormNeuron(LIF, 3, momentum=None, backend="c", dtype=DOUBLE)
    norm = nn.BatchNorm2d(3, momentum=None, dtype=DOUBLE)
    for seed in range(3):
        c = draw(2, 4, 3, 5, 5, dtype=DOUBLE, seed=seed)
        block(c), norm(c.flatten(0, 1))
    mine, theirs = ((one.running_mean, one.running_var) for one in (block, norm))
    assert_close(mine, theirs, 1e-12)


def test_transforms_of_torch_func() -> None:
    """In training, a transform may change running statistics only where it receives them."""
    block, c = NormNeuron(LIF, 3, backend="torch"), draw(4, 2, 3)
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
    options = {"backend": "c", "step_mode": "s", "record": ("v", "stats")}
    block, layer = NormNeuron(LIF, 3, **options).eval(), NeuronLayer(LIF, **options)
    for seed in range(3):
        c = draw(2, 3, 5, seed=seed)
        out, seen = block(c)
        expected, theirs = layer(c * (1 + 1e-5) ** -0.5)
        assert torch.equal(out, expected)
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
    two = lnm.Neuron({v: v * gain / 2 + x}, v - 1, lnm.soft_reset(v, 1), name="two")
    c, r = (draw(4, 2, 3, 5, dtype=DOUBLE, seed=k) for k in (0, 1))
    blocks = [NormNeuron(two, 3, shortcut=True, backend=b, dtype=DOUBLE) for b in ("c", "torch")]
    gain_seq = torch.linspace(0.2, 1, 4, dtype=DOUBLE)
    assert_equal(*(block(c, r, gain_seq) for block in blocks))


def test_a_device_without_autocast() -> None:
    """Such as "meta", on which shapes of a network are found."""
    layer = NormNeuron(LIF, channels=3, device="meta")
    assert layer(torch.empty(4, 2, 3, device="meta")).shape == (4, 2, 3)


def test_explanation(monkeypatch: pytest.MonkeyPatch) -> None:
    """36 bytes an element-step in training, in float32, and 20 in evaluation; in 16 bits half."""
    block, x = NormNeuron(LIF, 3, backend="c"), torch.empty(4, 2, 3, 5, requires_grad=True)
    found = block.explain(x)
    assert found.bytes_moved == (12, 24)
    assert found.schedule is not None
    assert (found.schedule.forward_launches, found.schedule.backward_launches) == (2, 2)
    assert block.explain(x.bfloat16()).bytes_moved == (6, 12)
    assert block.eval().explain(x).bytes_moved == (8, 12)
    monkeypatch.setitem(DEVICES, "rust", DEVICES["c"])  # another backend on the CPU
    plain = replace(NeuronLayer(LIF, backend="c").explain(x), backend="rust")
    schedule = with_passes(plain, needs_gradient=True).schedule
    assert schedule is not None
    assert schedule.forward_launches == 2


MODEL = """
NormNeuron
    NormNeuron(LIF, 3, 'layer') >> norm is 'layer' >> tdbn
    NormNeuron(LIF, 3, eps=0) >> eps is 0
    NormNeuron(LIF, 3, momentum=2) >> momentum is 2
    NormNeuron(LIF, 3, alpha=-1) >> alpha is -1
    NormNeuron(LIF, 3, shortcut=1) >> shortcut is 1
    NormNeuron(LIF, 0) >> channels is 0
    NormNeuron(LIF, 3, inplace=True) >> 'inplace'
    NormNeuron(lnm.get('li'), 3, 'tdbn') >> v_threshold >> >> norm='batch'
    NormNeuron(SPREAD, 3, 'tdbn') >> a v_threshold per neuron >> per layer
    NormNeuron(SPREAD, 3, 'tdbn', shape=(3, 2)) >> a v_threshold per neuron >> per layer
    NormNeuron(WEIGHT, 3) >> 'weight' >> >> Rename
    NormNeuron(BIAS, 3) >> 'bias' >> >> Rename
"""
SHAPES = """
lif
    block(C, C) >> the call has 2 inputs >> c
    block(torch.rand(4, 2)) >> shape (4, 2) >> (T, N, 3, *)
    block(torch.rand(4, 2, 5, 3)) >> shape (4, 2, 5, 3) >> (T, N, 3, *)
    block.eval()(C.to_sparse()) >> has the layout torch.sparse_coo >> >> to_dense
    both(C) >> the call has 1 input >> c, r >> Give r too.
    both(C, C, C) >> the call has 3 inputs >> c, r
    both(C, C.double()) >> input 'r' is torch.float64
    both(C[:, :, :2], C[:, :, :2]) >> input 'c' has shape (4, 2, 2, 5)
"""
CONSTANT = "constant 'v_threshold' requires a gradient"
UNSUPPORTED = """
NormNeuron
    setattr(block, 'arithmetic', lnm.Fixed(16, 12)) >> integer
lif
    constant(C, C) >> CONSTANT
    constant.eval()(C, C) >> CONSTANT
"""


def test_refusals() -> None:
    """Arguments and inputs outside the documented ranges; c and r are the inputs of a call."""
    v, x, bias = lnm.state("v"), lnm.input("x"), lnm.state("bias")
    block, whole, constant = (NormNeuron(LIF, 3, shortcut=k > 0, backend="c") for k in range(3))
    constant.v_threshold.requires_grad_()
    names = globals() | {
        "block": block,
        "both": whole,
        "constant": constant,
        "C": draw(4, 2, 3, 5),
        "SPREAD": LIF.with_per({"v_threshold": "neuron"}),
        "WEIGHT": lnm.Neuron({v: v * lnm.param("weight", init=1.0) + x}, v - 1),
        "BIAS": lnm.Neuron({bias: bias / 2 + x}, bias - 1),
    }
    assert_refused(MODEL, names)
    assert_refused(SHAPES, names, lnm.ShapeError)
    assert_refused(UNSUPPORTED, names, lnm.UnsupportedError)
    with refused(lnm.ShapeError) as caught:
        whole(names["C"], names["C"], names["C"])
    assert caught.value.remedy == ""
    assert copy.deepcopy(block)._dispatch.name == "lif"


@both
def test_replaced_parameters_of_another_size(backend: str) -> None:
    """A weight of one or of five numbers for three channels is refused, in both modes."""
    c = torch.rand(4, 2, 3)
    for name, size, mode in product(
        ("weight", "bias", "running_mean", "running_var"), (1, 5), (True, False)
    ):
        block = NormNeuron(LIF, 3, shortcut=True, backend=backend).train(mode)
        kind = nn.Parameter if name in ("weight", "bias") else torch.clone
        setattr(block, name, kind(torch.ones(size)))
        with refused(lnm.ShapeError, "lif", f"{name!r} of the normalisation is ({size},)"):
            block(c, c)


@pytest.mark.slow
def test_a_package_of_the_block_is_its_evaluation(tmp_path: Any, monkeypatch: Any) -> None:
    """docs/reference/fusion.md: the neuron to emit, and the values that the package loads."""
    block, c, r = NormNeuron(LIF, 3, shortcut=True), *draw(2, 4, 2, 3, 5)
    block.weight.data.copy_(torch.tensor([0.5, 1.0, 2.0]))
    block.bias.data.copy_(torch.tensor([0.1, -0.2, 0.3]))
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


# ---- torch.compile and torch.export ----


QUICK_GRAPH = ("lif", "batch", 2, 2)  # in Dynamo alone


@pytest.mark.parametrize(
    ("name", "norm", "training", "dynamic"),
    [
        QUICK_GRAPH,
        *(slow(*c) for c in product(("lif", "per neuron"), ("batch", "affine"), (1, 0), (1, 0))),
    ],
)
def test_compiled_whole(name: str, norm: Any, training: Any, dynamic: Any) -> None:
    """No graph break, and the numbers of eager mode, running statistics included."""
    torch._dynamo.reset()
    options = {"shape": (3, 4, 5)} if name == "per neuron" else {}
    neuron = LIF if name == "lif" else lnm.get("lnm", degree=2, per="neuron")
    block = NormNeuron(neuron, 3, norm, shortcut=True, backend="c", **options).train(bool(training))
    same = copy.deepcopy(block)
    kind = "eager" if (name, norm, training, dynamic) == QUICK_GRAPH else "aot_eager"
    compiled = torch.compile(block, backend=kind, fullgraph=True, dynamic=bool(dynamic))
    for steps, batch in ((5, 2), (7, 3)):
        inputs = [draw(steps, batch, 3, 4, 5, seed=k) for k in range(2)]
        found = gradients(compiled, inputs, block.parameters(), inputs[:1])
        assert_close(found, gradients(same, inputs, same.parameters(), inputs[:1]), 1e-6)
        assert_close(block.buffers(), same.buffers(), 1e-6)
