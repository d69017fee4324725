"""`NeuronModule`: lazy parameters, initial values, state_dicts."""

from __future__ import annotations

import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

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
from tests.refusals import refused

PER = {
    "channel": {"theta": (5, 4), "v_threshold": ()},
    "neuron": {"theta": (5, 7, 4), "v_threshold": ()},
    "mixed": {"theta": (5, 4), "v_threshold": (5, 7)},
}
"""Granularity -> shapes of the parameters for x of shape (T, N, 5, 7)."""

granularity = pytest.mark.parametrize("per", PER)


def lnm_layer(per: Any, **options: Any) -> NeuronLayer:
    words = {"theta": "channel", "v_threshold": "neuron"} if per == "mixed" else per
    neuron = lnm.get("lnm", degree=3, per=words, learn_threshold=per == "mixed")
    return NeuronLayer(neuron, **({"backend": "torch"} | options))


@granularity
def test_the_first_input_gives_the_shapes(per):
    """As if channels and shape had been given; an optimiser made before the call trains them."""
    layer, given = lnm_layer(per), lnm_layer(per, shape=(5, 7))
    assert isinstance(layer.theta, UninitializedParameter)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    x = torch.rand(3, 2, 5, 7)
    assert torch.equal(layer(x), given(x))
    assert {n: tuple(getattr(layer, n).shape) for n in PER[per]} == PER[per]
    before = layer.theta.detach().clone()
    layer(x).sum().backward()
    optimiser.step()
    assert not torch.equal(layer.theta, before)


@granularity
@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_stay_lazy(per, how):
    """Until their own first input."""
    layer = how(lnm_layer(per))
    assert is_lazy(layer.theta)
    layer(torch.rand(3, 2, 5, 7))
    assert not is_lazy(how(layer).theta)


@granularity
def test_a_state_dict_gives_the_shapes(per):
    """Saved before or after the first input, loaded into lazy layers and others."""
    source, x = lnm_layer(per, shape=(5, 7)), torch.rand(3, 2, 5, 7)
    with torch.no_grad():
        source.theta.add_(0.1)
    loaded = lnm_layer(per)
    loaded.load_state_dict(source.state_dict())
    assert torch.equal(loaded(x), source(x))
    lazy, file = lnm_layer(per), io.BytesIO()
    torch.save(lazy.state_dict(), file)
    file.seek(0)
    loaded = lnm_layer(per)
    loaded.load_state_dict(torch.load(file, weights_only=False))
    assert is_lazy(loaded.theta)
    loaded(x)


def test_a_lazy_layer_in_another_type():
    """`double()` and `dtype=` before the first input."""
    for layer in (lnm_layer("channel").double(), lnm_layer("channel", dtype=torch.float64)):
        layer(torch.rand(3, 2, 5))
        assert layer.theta.dtype == torch.float64


def test_no_axis_for_the_channels():
    """A sequence (T, N) gives no size; the layer stays lazy."""
    layer = lnm_layer("channel")
    with refused(lnm.ShapeError, "lnm", "no channels (axis 2 of (T, N, C, *))"):
        layer(torch.rand(3, 2))
    assert is_lazy(layer.theta)
    layer(torch.rand(3, 2, 5))


def test_the_first_input_in_inference_mode():
    """The parameters can be trained afterwards."""
    layer, x = lnm_layer("channel"), torch.rand(3, 2, 5)
    with torch.inference_mode():
        layer(x)
    layer(x).sum().backward()
    assert layer.theta.grad is not None


def test_a_refused_first_call_leaves_a_layer_lazy():
    """A wrong state, or a value of another shape to load, fixes no size."""
    layer, x = lnm_layer("channel"), torch.rand(3, 2, 5)
    with refused(lnm.ShapeError, "lnm", "no state 'q'"):
        layer(x, state={"q": 1.0})
    with refused(lnm.ShapeError, "lnm", "state 'v' has shape (9,)"):
        layer(x, state={"v": torch.zeros(9)})
    for wrong in (torch.zeros(4), torch.zeros(8, 3), torch.zeros(2, 8, 4)):
        with pytest.raises(RuntimeError, match="theta"):
            layer.load_state_dict({"theta": wrong})
    assert is_lazy(layer.theta)
    layer(x)


@pytest.mark.parametrize("method", ["__call__", "explain"])
@pytest.mark.parametrize(
    ("channels", "shape", "problem"),
    [(4, (3, 2, 5, 6), "5 channels (axis 2"), (None, (3, 2), "no channels (axis 2")],
)
def test_a_refused_input_fixes_no_size(method, channels, shape, problem):
    """It fixed the sizes of the other lazy parameters, and the next input was refused."""
    neuron = lnm.get("glif", per={"w_tau": "neuron", "w_alpha": "channel"})
    layer = NeuronLayer(neuron, channels=channels, backend="torch")
    accepted = "(4,)" if channels else "(C,), the size of parameter 'w_alpha' per channel"
    with refused(lnm.ShapeError, "glif", problem, accepted):
        getattr(layer, method)(torch.rand(shape))
    assert is_lazy(layer.w_tau)
    layer(torch.rand(3, 2, 4, 6))
    assert (layer.w_tau.shape, layer.w_alpha.shape) == ((4, 6), (4,))


def test_neurons_of_one_number_are_not_channels():
    """A sample without axes gives a parameter per neuron the shape ()."""
    layer = lnm_layer("neuron")
    layer(torch.rand(3, 2))
    with refused(lnm.ShapeError, "lnm", "neurons (5,)", "(), the size of parameter 'theta'"):
        layer(torch.rand(3, 2, 5))


def test_a_first_input_on_another_device_fixes_no_size():
    layer = lnm_layer("channel")
    with refused(lnm.ShapeError, "lnm", "parameter 'theta' is on cpu", "meta, the device of"):
        layer(torch.rand(3, 2, 9, device="meta"))
    assert is_lazy(layer.theta)
    layer(torch.rand(3, 2, 5))


@pytest.mark.needs_cc
@pytest.mark.parametrize("where", ["input", "state"])
def test_a_first_input_that_kernels_cannot_read_fixes_no_size(where):
    """A tensor with a forward-mode tangent, as the input or as an initial state."""
    layer, x = lnm_layer("channel", backend="c"), torch.rand(3, 2, 5)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(torch.rand(3, 2, 9), torch.ones(3, 2, 9))
        call = (dual, None) if where == "input" else (torch.rand(3, 2, 9), {"v": dual[0]})
        with refused(lnm.UnsupportedError, "lnm", "no forward-mode derivatives"):
            layer(call[0], state=call[1])
    assert is_lazy(layer.theta)
    layer(x)


def test_explain_of_integers_fixes_no_size():
    layer = lnm_layer("channel", arithmetic=lnm.Fixed(16, 12))
    with refused(lnm.UnsupportedError, "lnm", "explain describes floating-point kernels"):
        layer.explain(torch.rand(3, 2, 9))
    assert is_lazy(layer.theta)


@pytest.mark.parametrize("name", ["grad", "vmap", "jvp"])
@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_the_first_input_in_a_transform_is_refused(backend, name):
    """It once left half-made parameters, with which a later call ended the process."""
    layer, x = lnm_layer("channel", backend=backend), torch.rand(3, 2, 5)
    transforms = {
        "grad": lambda: torch.func.grad(lambda y: layer(y).sum())(x),
        "vmap": lambda: torch.func.vmap(layer)(x[None]),
        "jvp": lambda: torch.func.jvp(layer, (x,), (x,)),
    }
    with refused(lnm.UnsupportedError, "lnm", "a transform of torch.func", remedy="once first"):
        transforms[name]()
    assert is_lazy(layer.theta)
    layer.backend = "torch"
    layer(x)
    transforms[name]()


def test_first_calls_in_several_threads():
    """Each thread computes the same; the parameters are made once."""
    x = torch.rand(3, 2, 5)
    expected = lnm_layer("channel", channels=5)(x)
    for _ in range(20):
        layer = lnm_layer("channel")
        with ThreadPoolExecutor(8) as pool:
            assert all(torch.equal(out, expected) for out in pool.map(layer, [x] * 8))


@pytest.mark.needs_cc
def test_another_thread_may_fix_the_sizes_first(monkeypatch):
    """A call was then accepted with parameters of another size, which C read beyond their end."""
    layer = NeuronLayer(lnm.get("plif", per="channel"), backend="c")
    materialise = layer._materialise

    def late(axes):
        materialise([(5,)] * len(axes))
        materialise(axes)

    monkeypatch.setattr(layer, "_materialise", late)
    with refused(lnm.ShapeError, problem="9 channels", accepted="(5,)"):
        layer(torch.rand(3, 2, 9))
    assert layer(torch.rand(3, 2, 5)).shape == (3, 2, 5)


def test_a_lazy_layer_single_step():
    """Axis 1 has the channels."""
    layer = lnm_layer("channel", step_mode="s")
    layer(torch.rand(2, 5))
    assert layer.theta.shape == (5, 4)


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
    lazy = lnm_layer("channel")
    lazy.reset_parameters()
    assert is_lazy(lazy.theta)


def test_a_parameter_that_is_computed_is_not_reset():
    """The number went into a temporary value, and no error said so."""
    layer = lnm_layer("channel", channels=5)
    layer.v_threshold.fill_(7.0)
    parametrize.register_parametrization(layer, "theta", nn.Identity())
    problem = "'theta' of lnm is computed, as by torch.nn.utils.parametrize, so it cannot be set"
    with refused(ModelError, "reset_parameters", problem, remedy="Remove the parametrization"):
        layer.reset_parameters()
    assert float(layer.v_threshold) == 7.0
    pruned = prune.identity(lnm_layer("layer"), "theta")
    with refused(ModelError, "reset_parameters", "'theta' of lnm is computed"):
        pruned.reset_parameters()


def test_a_state_dict_without_constants():
    """One without constants loads; one without theta, or without a trained constant, does not."""
    model = nn.Sequential(nn.Linear(3, 5), lnm_layer("channel", channels=5))
    saved = model.state_dict()
    assert "1.v_threshold" in saved
    del saved["1.v_threshold"]
    model[1].v_threshold.fill_(0.5)
    model.load_state_dict(saved)
    assert float(model[1].v_threshold) == 0.5
    model[1].v_threshold.requires_grad_()
    with pytest.raises(RuntimeError, match="v_threshold"):
        model.load_state_dict(saved)
    del model[1].v_threshold
    model[1].v_threshold = nn.Parameter(torch.tensor(0.5))
    with pytest.raises(RuntimeError, match="v_threshold"):
        model.load_state_dict(saved)
    saved["1.v_threshold"] = torch.tensor(0.25)
    model.load_state_dict(saved)
    del saved["1.theta"]
    with pytest.raises(RuntimeError, match="theta"):
        model.load_state_dict(saved)


@pytest.mark.parametrize("device", ["cpu", "meta", torch.device("meta")])
def test_the_device_of_the_parameters(device):
    """Given, or PyTorch's default device; lazy parameters too."""
    layer = lnm_layer("channel", channels=5, device=device)
    assert {p.device for p in (layer.theta, layer.v_threshold)} == {torch.device(device)}
    with torch.device(device):
        layer = lnm_layer("channel", channels=5)
    assert layer.theta.device == layer.v_threshold.device == torch.device(device)
    lazy = lnm_layer("channel", device=device)
    assert lazy.theta.data.device == torch.device(device)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_the_type_of_the_parameters(default):
    """PyTorch's default type, if the arithmetic has it; lazy parameters and a block too."""
    real, before = {torch.float64: torch.float64}.get(default, torch.float32), torch.float32
    torch.set_default_dtype(default)
    try:
        layers = [lnm_layer("channel", channels=5), lnm_layer("channel")]
        block = NormNeuron(lnm.get("lif"), 5)
        given = lnm_layer("channel", channels=5, dtype=before)
    finally:
        torch.set_default_dtype(before)
    layers[1](torch.rand(3, 2, 5))
    for layer in layers:
        assert layer.theta.dtype is layer.v_threshold.dtype is real
    assert block.weight.dtype is block.running_var.dtype is block.v_threshold.dtype is real
    assert given.theta.dtype is given.v_threshold.dtype is before


@pytest.mark.parametrize("name", ["training", "state", "recorded", "carry_state", "detach"])
def test_names_of_attributes_are_refused(name):
    """A parameter that would hide an attribute of the layer."""
    neuron = lnm.Neuron(fire=lnm.input("x") - lnm.param(name, init=1.0), name="clash")
    with refused(lnm.ModelError, "NeuronLayer", f"parameter {name!r} has the name of an attribute"):
        NeuronLayer(neuron)


def pair(sample: Any, per: Any = "channel") -> lnm.Neuron:
    """A neuron with a scalar `a` and a vector `b`, the two parts of one draw."""
    v, x = lnm.state("v"), lnm.input("x")
    a = lnm.param("a", init=0.5, per=per, draw=Draw(sample, 0))
    b = lnm.param("b", size=2, init=(0.5, 1.0), per=per, draw=Draw(sample, 1))
    return lnm.Neuron(charge={v: a * v + b[0] * x + b[1]}, fire=v - 1, name="pair")


def multiples(generator: Any, axes: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a, and b = (2*a, 3*a)."""
    a = torch.rand(axes, generator=generator)
    return a, torch.stack((2 * a, 3 * a), dim=-1)


@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
def test_a_joint_draw(per):
    """Parameters of one draw fit each other: at once, lazy, loaded, and after a reset."""

    def fits(layer: NeuronLayer) -> bool:
        factors = torch.tensor([2.0, 3.0])
        return torch.equal(layer.b, factors * layer.a.unsqueeze(-1)) and bool(layer.a.all())

    x = torch.rand(3, 2, 5, 7)
    torch.manual_seed(1)
    given = NeuronLayer(pair(multiples, per), shape=(5, 7), backend="torch")
    assert fits(given)
    torch.manual_seed(1)
    lazy = NeuronLayer(pair(multiples, per), backend="torch")
    lazy(x)
    assert fits(lazy)
    assert torch.equal(lazy.a, given.a)
    lazy.reset_parameters()
    assert fits(lazy)
    assert not torch.equal(lazy.a, given.a)
    loaded = NeuronLayer(pair(multiples, per), backend="torch")
    loaded.load_state_dict(given.state_dict())
    assert torch.equal(loaded.b, given.b)
    found = lnm.interpret(pair(multiples, per), torch.ones(1, 2, 5).numpy())
    assert (found.states["v"] == 1.5).all()  # without a layer `init` counts


def test_equal_parts_are_drawn_apart():
    """A part of a draw serves one parameter."""
    v, x, draw = lnm.state("v"), lnm.input("x"), Draw(multiples, 0)
    a, b = lnm.param("a", draw=draw), lnm.param("b", draw=draw)
    layer = NeuronLayer(lnm.Neuron(charge={v: a * v + b * x}, fire=v - 1), backend="torch")
    assert not torch.equal(layer.a, layer.b)


def test_a_draw_of_another_shape_is_refused():
    """The layer stays lazy, and works once the function is corrected."""
    shapes = [(1,)]
    neuron = pair(lambda generator, axes: multiples(generator, shapes[-1] or axes))
    layer = NeuronLayer(neuron, backend="torch")
    with refused(lnm.ShapeError, "NeuronLayer", "init of 'a' returned shape (1,)", "(5,)"):
        layer(torch.rand(3, 2, 5))
    assert is_lazy(layer.a)
    shapes.append(())
    layer(torch.rand(3, 2, 5))
    assert torch.equal(layer.b[:, 1], 3 * layer.a)


def test_a_joint_draw_has_one_granularity():
    """Otherwise no set of `b` would fit those of `a`."""
    with refused(
        lnm.ModelError,
        "NeuronLayer",
        "'a' per layer and 'b' per channel are initialised by one random draw",
        "one granularity for both",
        "Change per",
    ):
        NeuronLayer(pair(multiples).with_per({"a": "layer"}))
