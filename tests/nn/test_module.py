"""`NeuronModule`: sizes and lazy parameters, initial values, state_dicts."""

from __future__ import annotations

import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.parameter import UninitializedParameter, is_lazy
from torch.nn.utils import parametrize, prune

import lnm_codegen as lnm
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import Draw
from lnm_codegen.nn import NeuronLayer, NormNeuron
from tests.cases import CASES
from tests.layers import assert_equal, needs_cc
from tests.refusals import assert_refused, refused

MIXED = {"theta": "channel", "v_threshold": "neuron"}


def lnm_layer(per="channel", **options):
    neuron = lnm.get("lnm", degree=3, per=per, learn_threshold=True)
    return NeuronLayer(neuron, **({"backend": "torch"} | options))


@pytest.mark.parametrize(
    ("per", "theta", "threshold"),
    [
        ("layer", (4,), ()),
        ("channel", (5, 4), (5,)),
        ("neuron", (5, 7, 4), (5, 7)),
        ({"theta": "neuron"}, (5, 7, 4), ()),
        (MIXED, (5, 4), (5, 7)),
    ],
)
def test_the_first_input_gives_the_shapes(per, theta, threshold):
    """As if `shape` had been given; an optimiser made before the call trains them.

    Copies stay lazy until their own first input, and a state_dict gives the shapes too.
    """
    given, x = lnm_layer(per, shape=(5, 7)), torch.rand(3, 2, 5, 7)
    shapes = {"theta": theta, "v_threshold": threshold}
    assert {n: tuple(p.shape) for n, p in given.named_parameters()} == shapes
    assert given.theta.reshape(-1, 4).unique(dim=0).tolist() == [[0.0, 0.5, 0.0, 0.0]]
    given.theta.data.add_(0.1)
    loaded = lnm_layer(per)
    loaded.load_state_dict(given.state_dict())
    assert torch.equal(loaded(x), given(x))
    given.reset_parameters()
    for how in (copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), lambda m: m, reloaded):
        layer = how(lnm_layer(per))
        assert isinstance(layer.theta, UninitializedParameter) == (per != "layer")
        optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
        assert torch.equal(layer(x), given(x))
        assert not is_lazy(how(layer).theta)
        assert {n: tuple(p.shape) for n, p in layer.named_parameters()} == shapes
        layer(x).sum().backward()
        optimiser.step()
        assert not torch.equal(layer.theta, given.theta)


def reloaded(layer):
    """Return a layer that loads the state_dict of another, from a file."""
    other, file = copy.deepcopy(layer), io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=False))
    return other


def test_types_and_modes_of_the_first_input():
    """double(), dtype=, inference mode, single steps, and a sample of one neuron."""
    x = torch.rand(3, 2, 5)
    for layer in (lnm_layer().double(), lnm_layer(dtype=torch.float64)):
        layer(x)
        assert layer.theta.dtype == torch.float64
    layer = lnm_layer()
    with torch.inference_mode():
        layer(x)
    layer(x).sum().backward()
    assert layer.theta.grad is not None
    layer = lnm_layer(step_mode="s")
    layer(x[0])
    assert layer.theta.shape == (5, 4)
    layer = lnm_layer("neuron")
    layer(torch.rand(3, 2))
    with refused(lnm.ShapeError, "lnm", "neurons (5,)", "(), the size of parameter 'theta'"):
        layer(x)


SHAPES = """
lnm
    layer(X[:, :, 0, 0]) >> no channels (axis 2 of (T, N, C, *))
    layer(X, state={'q': 1.0}) >> no state 'q'
    layer(X, state={'v': torch.zeros(9)}) >> state 'v' has shape (9,)
    layer(X.to('meta')) >> parameter 'theta' is on cpu >> meta, the device of
glif
    known(torch.rand(3, 2, 5, 6)) >> 5 channels (axis 2 >> (4,)
    known.explain(torch.rand(3, 2, 5, 6)) >> 5 channels (axis 2 >> (4,)
    mixed(torch.rand(3, 2)) >> no channels (axis 2 >> (C,), the size of parameter 'w_alpha' per
      channel
    mixed.explain(torch.rand(3, 2)) >> no channels (axis 2 >> (C,), the size of parameter
      'w_alpha' per channel
"""
TRANSFORM = "a transform of torch.func is the first to call the layer, which is lazy"
UNSUPPORTED = """
lnm >> >> Call the layer once first.
    torch.func.grad(lambda y: layer(y).sum())(X) >> TRANSFORM
    torch.func.vmap(layer)(X[None]) >> TRANSFORM
    torch.func.jvp(layer, (X,), (X,)) >> TRANSFORM
    torch.func.grad(lambda y: auto(y).sum())(X) >> TRANSFORM
    torch.func.vmap(auto)(X[None]) >> TRANSFORM
    torch.func.jvp(auto, (X,), (X,)) >> TRANSFORM
lnm
    compiled(DUAL) >> no forward-mode derivatives
    compiled(X, state={'v': DUAL[0]}) >> no forward-mode derivatives
    integers.explain(X) >> explain describes floating-point kernels
"""


def lazy_names(layer):
    return [name for name, p in layer.named_parameters() if is_lazy(p)]


@needs_cc
def test_a_refused_first_call_fixes_no_size():
    """It once did, or left half-made parameters, with which a later call ended the process."""
    glif = lnm.get("glif", per={"w_tau": "neuron", "w_alpha": "channel"})
    names = globals() | {"X": torch.rand(3, 2, 4, 6)}

    def run(call):
        layers = {
            "layer": lnm_layer(),
            "auto": NeuronLayer(CASES["lnm-4"]()),
            "compiled": NeuronLayer(CASES["lnm-4"](), backend="c"),
            "integers": lnm_layer(arithmetic=lnm.Fixed(16, 12)),
            "known": NeuronLayer(glif, channels=4, backend="torch"),
            "mixed": NeuronLayer(glif, backend="torch"),
        }
        before = list(map(lazy_names, layers.values()))
        assert all(before)
        with forward_ad.dual_level() if "DUAL" in call else nullcontext():
            dual = forward_ad.make_dual(names["X"], names["X"]) if "DUAL" in call else None
            try:
                eval(call, names | layers | {"DUAL": dual})
            finally:
                assert list(map(lazy_names, layers.values())) == before
        for layer in layers.values():
            layer.backend = "torch"
            layer(names["X"])
        eval(call, names | layers) if "func" in call else None

    assert_refused(SHAPES, names, lnm.ShapeError, run)
    assert_refused(UNSUPPORTED, names, lnm.UnsupportedError, run)
    layer = lnm_layer()
    for wrong in (torch.zeros(4), torch.zeros(8, 3), torch.zeros(2, 8, 4)):
        with pytest.raises(RuntimeError, match="theta"):
            layer.load_state_dict({"theta": wrong, "v_threshold": torch.zeros(8)}, strict=False)
    assert is_lazy(layer.theta)


def test_first_calls_in_several_threads():
    """Each thread computes the same; the parameters are made once."""
    x = torch.rand(3, 2, 5)
    expected = lnm_layer(channels=5)(x)
    for _ in range(8):
        layer = lnm_layer()
        with ThreadPoolExecutor(8) as pool:
            assert all(torch.equal(out, expected) for out in pool.map(layer, [x] * 8))


def test_another_thread_may_fix_the_sizes_first(monkeypatch):
    """A call was then accepted with parameters of another size, which C read beyond their end."""
    layer = lnm_layer()
    materialise = layer._materialise

    def late(axes):
        materialise([(5,)] * len(axes))
        materialise(axes)

    monkeypatch.setattr(layer, "_materialise", late)
    with refused(lnm.ShapeError, problem="9 channels", accepted="(5,)"):
        layer(torch.rand(3, 2, 9))
    assert layer(torch.rand(3, 2, 5)).shape == (3, 2, 5)


def test_reset_parameters():
    """Initial values return, random ones are drawn anew, a frozen or lazy one stays so."""
    neuron = lnm.get("lnm", degree=2, theta=lambda g, shape: torch.rand(shape, generator=g))
    layer = NeuronLayer(neuron, backend="torch")
    torch.manual_seed(3)
    layer.reset_parameters()
    first = layer.theta.detach().clone()
    layer.v_threshold.fill_(7.0)
    layer.reset_parameters()
    assert not torch.equal(layer.theta, first)
    assert float(layer.v_threshold) == 1.0
    torch.manual_seed(3)
    layer.reset_parameters()
    assert torch.equal(layer.theta, first)
    assert layer.theta.requires_grad
    lazy = lnm_layer()
    lazy.reset_parameters()
    assert is_lazy(lazy.theta)


def test_a_parameter_that_is_computed_is_not_reset():
    """The number went into a temporary value, and no error said so."""
    layer = lnm_layer(channels=5)
    layer.v_threshold = 7.0
    parametrize.register_parametrization(layer, "theta", nn.Identity())
    problem = "'theta' of lnm is computed, as by torch.nn.utils.parametrize, so it cannot be set"
    with refused(ModelError, "reset_parameters", problem, remedy="Remove the parametrization"):
        layer.reset_parameters()
    assert (layer.v_threshold == 7).all()
    pruned = prune.identity(lnm_layer("layer"), "theta")
    with refused(ModelError, "reset_parameters", "'theta' of lnm is computed"):
        pruned.reset_parameters()


def test_a_state_dict_without_constants():
    """One without constants loads; one without theta, or without a trained constant, does not."""
    layer = NeuronLayer(lnm.get("lnm", degree=3), backend="torch")
    model = nn.Sequential(nn.Linear(3, 5), layer)
    whole, kept = model.state_dict(), torch.tensor(0.5)
    saved = {key: value for key, value in whole.items() if key != "1.v_threshold"}
    assert len(saved) == len(whole) - 1
    layer.v_threshold.copy_(kept)
    model.load_state_dict(saved)
    assert layer.v_threshold == kept
    layer.v_threshold.requires_grad_()
    with pytest.raises(RuntimeError, match="v_threshold"):
        model.load_state_dict(saved)
    del layer.v_threshold
    layer.v_threshold = nn.Parameter(kept)
    with pytest.raises(RuntimeError, match="v_threshold"):
        model.load_state_dict(saved)
    model.load_state_dict(whole)
    del whole["1.theta"]
    with pytest.raises(RuntimeError, match="theta"):
        model.load_state_dict(whole)


def test_the_device_of_the_parameters():
    """Given, or PyTorch's default device; lazy parameters too."""
    for device in ("cpu", "meta", torch.device("meta")):
        layers = [lnm_layer(channels=5, device=device), lnm_layer(device=device)]
        with torch.device(device):
            layers.append(lnm_layer(channels=5))
        for layer in layers:
            assert {p.data.device for p in layer.parameters()} == {torch.device(device)}


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_the_type_of_the_parameters(default):
    """PyTorch's default type, if the arithmetic has it; lazy parameters and a block too."""
    real = torch.float64 if default is torch.float64 else torch.float32
    torch.set_default_dtype(default)
    try:
        layers = [lnm_layer(channels=5), lnm_layer(), NormNeuron(lnm.get("lif"), 5)]
        given = lnm_layer(channels=5, dtype=torch.float32)
    finally:
        torch.set_default_dtype(torch.float32)
    layers[1](torch.rand(3, 2, 5))
    for layer in layers:
        tensors = [*layer.parameters(), *layer.buffers()]
        assert {t.dtype for t in tensors if t.is_floating_point()} == {real}
    assert given.theta.dtype is torch.float32


def test_names_of_attributes_are_refused():
    """A parameter that would hide an attribute of the layer."""
    for name in ("training", "state", "recorded", "carry_state", "detach"):
        neuron = lnm.Neuron(fire=lnm.input("x") - lnm.param(name, init=1.0), name="clash")
        problem = f"parameter {name!r} has the name of an attribute"
        with refused(lnm.ModelError, "NeuronLayer", problem):
            NeuronLayer(neuron)


# ---- joint draws ----


def pair(sample, per="channel"):
    """A neuron with a scalar `a` and a vector `b`, the two parts of one draw."""
    v, x = lnm.state("v"), lnm.input("x")
    a = lnm.param("a", init=0.5, per=per, draw=Draw(sample, 0))
    b = lnm.param("b", size=2, init=(0.5, 1.0), per=per, draw=Draw(sample, 1))
    return lnm.Neuron(charge={v: a * v + b[0] * x + b[1]}, fire=v - 1, name="pair")


def multiples(generator, axes):
    """Draw a, and b = (2*a, 3*a)."""
    a = torch.rand(axes, generator=generator)
    return a, torch.stack((2 * a, 3 * a), dim=-1)


@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
def test_a_joint_draw(per):
    """Parameters of one draw fit each other: at once, lazy, loaded, and after a reset."""

    def fits(layer):
        factors = torch.tensor([2.0, 3.0])
        return torch.equal(layer.b, factors * layer.a.unsqueeze(-1)) and bool(layer.a.all())

    x = torch.rand(3, 2, 5, 7)
    torch.manual_seed(1)
    given = NeuronLayer(pair(multiples, per), shape=(5, 7), backend="torch")
    torch.manual_seed(1)
    lazy = NeuronLayer(pair(multiples, per), backend="torch")
    lazy(x)
    assert fits(given)
    assert fits(lazy)
    assert_equal(lazy.a, given.a)
    lazy.reset_parameters()
    assert fits(lazy)
    assert not torch.equal(lazy.a, given.a)
    loaded = NeuronLayer(pair(multiples, per), backend="torch")
    loaded.load_state_dict(given.state_dict())
    assert_equal(loaded.b, given.b)
    found = lnm.interpret(pair(multiples, per), torch.ones(1, 2, 5).numpy())
    assert (found.states["v"] == 1.5).all()  # without a layer `init` counts


def test_wrong_draws():
    """Equal parts are drawn apart; the granularity is one; the layer stays lazy until corrected."""
    v, x, draw = lnm.state("v"), lnm.input("x"), Draw(multiples, 0)
    a, b = lnm.param("a", draw=draw), lnm.param("b", draw=draw)
    layer = NeuronLayer(lnm.Neuron(charge={v: a * v + b * x}, fire=v - 1), backend="torch")
    assert not torch.equal(layer.a, layer.b)
    problem = "'a' per layer and 'b' per channel are initialised by one random draw"
    one = "one granularity for both"
    with refused(lnm.ModelError, "NeuronLayer", problem, one, "Change per"):
        NeuronLayer(pair(multiples).with_per({"a": "layer"}))
    shapes = [(1,)]
    neuron = pair(lambda generator, axes: multiples(generator, shapes[-1] or axes))
    layer = NeuronLayer(neuron, backend="torch")
    with refused(lnm.ShapeError, "NeuronLayer", "init of 'a' returned shape (1,)", "(5,)"):
        layer(torch.rand(3, 2, 5))
    assert is_lazy(layer.a)
    shapes.append(())
    layer(torch.rand(3, 2, 5))
    assert torch.equal(layer.b[:, 1], 3 * layer.a)
