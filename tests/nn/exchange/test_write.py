"""`to_nir`: nodes that are exact, neurons that are refused or approximate, and models."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

import lnm_codegen as lnm
from lnm_codegen.errors import ShapeError, UnsupportedError
from lnm_codegen.nn import Delay, NeuronLayer, NormNeuron, RecurrentLayer
from tests.nn.exchange.graphs import eager, euler, graph_of, nir
from tests.refusals import assert_refused, refused

slow = pytest.mark.slow


def layer(neuron, *shape):
    return NeuronLayer(neuron, channels=shape[0] if shape else None, shape=shape, backend="torch")


def model_of(neuron, inputs=3, outputs=8):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(inputs, outputs), layer(neuron, outputs))
    with torch.no_grad():
        net[0].weight *= 4
    return net


def sequence(*shape, seed=0, steps=12):
    return torch.randn(steps, 3, *shape, generator=torch.Generator().manual_seed(seed))


def again(graph, dt=1.0):
    return eager(lnm.nn.from_nir(graph, dt))


EXACT = {
    "lif": (lambda: lnm.get("lif", tau=4.0), "LIF"),
    "resting": (lambda: lnm.get("lif", tau=4.0, v_reset=-0.2), "LIF"),
    "undecayed": (lambda: lnm.get("lif", tau=4.0, decay_input=False), "LIF"),
    "plif": (lambda: lnm.get("plif", tau=3.0, per="channel"), "LIF"),
    "if": (lambda: lnm.get("if"), "IF"),
    "li": (lambda: lnm.get("li", tau=4.0), "LI"),
    "cuba_lif": (lambda: lnm.get("cuba_lif"), "CubaLIF"),
    "lnm": (lambda: lnm.get("lnm", degree=1, per="neuron"), "LIF"),
}


@pytest.mark.parametrize("name", sorted(EXACT))
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=slow)])
def test_an_exact_node_has_the_outputs_of_its_layer(name, dtype):
    """Through the equations of NIR in NumPy; with our metadata, spikes and gradients are ours."""
    make, kind = EXACT[name]
    net, x = model_of(make()).to(dtype), sequence(3).to(dtype)
    graph = lnm.nn.to_nir(net, x, dt=1e-3)
    node = graph.nodes["1"]
    assert type(node).__name__ == kind
    assert node.metadata["lnm"]["exact"]
    assert graph.metadata["lnm"]["output_difference"] == 0
    ours, currents = net(x), net[0](x).detach().double().numpy()
    theirs = torch.tensor(euler(node, currents, 1e-3))
    assert torch.allclose(ours.detach().double(), theirs, rtol=1e-4, atol=1e-4)
    assert kind == "LI" or ours.mean() > 0.01, "spikes occur"
    network = again(graph, 1e-3)
    assert torch.equal(network(x), ours)
    assert {p.dtype for p in network.parameters()} == {dtype}
    grads = [torch.autograd.grad(m(x).square().sum(), m.parameters()) for m in (net, network)]
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@settings(max_examples=2)
@given(
    tau=st.floats(1.2, 40),
    dt=st.sampled_from([1.0, 1e-4, 0.3]),
    threshold=st.floats(0.1, 2),
    reset=st.floats(-1, 0),
    seed=st.integers(0, 1000),
)
@example(tau=2.0, dt=1.0, threshold=1.0, reset=-1e-310, seed=0)  # the text form refuses it
def test_random_neurons_are_written_exactly(tau, dt, threshold, reset, seed):
    """Without the metadata too, in float64."""
    neuron = lnm.get("lif", tau=tau, v_threshold=threshold, v_reset=reset)
    net = layer(neuron, 4).double()
    x = sequence(4, seed=seed).double() * 3
    node = lnm.nn.to_nir(nn.Sequential(net), x, dt=dt).nodes["0"]
    assert torch.equal(net(x), torch.tensor(euler(node, x.numpy(), dt)))
    assert np.allclose(node.tau, tau * dt)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tie_spikes_in_the_node_as_in_the_layer(dtype):
    """v >= 3 and v > the number below 3 are one condition: integers reach 3 exactly."""
    net = layer(lnm.get("if", v_threshold=3.0), 1).to(torch.tensor(np.zeros(1, dtype)).dtype)
    x = torch.tensor(np.random.default_rng(0).integers(0, 2, (50, 2, 1)).astype(dtype))
    node = lnm.nn.to_nir(nn.Sequential(net), x).nodes["0"]
    assert node.v_threshold.dtype == dtype
    assert node.v_threshold == np.nextafter(dtype(3), dtype(0))
    spikes = net(x).double()
    assert spikes.sum() > 10
    assert torch.equal(spikes, torch.tensor(euler(node, x.numpy(), 1.0)))
    node.v_threshold = np.array([3.0])
    assert not torch.equal(spikes, torch.tensor(euler(node, x.numpy(), 1.0)))


INEXACT = [
    (lnm.get("lif", v_reset=None), "the reset of v", "a hard reset"),
    (lnm.get("lnm", degree=3), "the charge of v", "an affine function"),
    pytest.param(lnm.get("lif", v_rest=0.3), "state v begins at 0", "0.3, its rest", marks=slow),
    pytest.param(lnm.get("qif"), "the charge of v", "an affine function", marks=slow),
    pytest.param(lnm.get("alif"), "3 states", "at most two states", marks=slow),
]


@pytest.mark.parametrize(("neuron", "problem", "accepted"), INEXACT)
def test_other_neurons_are_refused_or_approximate(neuron, problem, accepted, tmp_path):
    """The metadata have the difference on the sample, and the neuron, which is read back."""
    net, x = model_of(neuron), sequence(3)
    with refused(UnsupportedError, f"to_nir: 1: {neuron.name}", problem, accepted, "approximate"):
        lnm.nn.to_nir(net, x)
    graph = lnm.nn.to_nir(net, x, approximate=True)
    node = graph.nodes["1"]
    table = node.metadata["lnm"]
    ours = net(x).detach().double()
    theirs = torch.tensor(euler(node, net[0](x).detach().numpy(), 1.0))
    assert not table["exact"]
    assert table["spike_difference"] == pytest.approx(float((ours != theirs).double().mean()))
    assert table["spike_difference"] < 0.2
    assert table["discretisation"] == "forward Euler"
    assert problem in table["why"]
    if neuron.name == "lif" and problem == "the reset of v":
        assert np.allclose(node.tau, 2)  # the reset is the mean of v - v_threshold at spikes
        assert 0 < node.v_reset[0] < 1
    nir.write(tmp_path / "a.nir", graph)
    assert torch.equal(again(tmp_path / "a.nir")(x), net(x))


LINEAR = [
    ([0, 0, 0], [0.5, 0.9, -0.9], ""),
    ([0, 0, 0], [1, 1, 1], ""),
    ([0, 0, 0.25], [0.5, 0.5, 0.5], "state v begins at 0. Accepted: 0.5, its rest"),
    ([0, -0.3, 0.25], [0.5, 0.5, 0.5], "state v begins at 0. Accepted: -0.6, its"),
    ([0, 0, 0], [0.5, 1.1, 0.5], "v is multiplied by 1.1 in a step"),
    ([0, 0, 0], [0.5, -1, 0.5], "v is multiplied by -1 in a step"),
    ([0, 0, 0], [0.5, 1, 0.5], "some potentials have no leak"),
    ([0, 0.5, 0], [1, 1, 1], "the potential drifts without a leak"),
]


def test_a_linear_polynomial_is_exact_at_its_rest_alone():
    """A message has the first neuron that differs; it once had the first one of all."""
    net = layer(lnm.get("lnm", degree=1, per="neuron"), 3)
    for constant, slope, message in LINEAR:
        net.theta.data = torch.tensor([constant, slope], dtype=torch.float32).T
        with pytest.raises(UnsupportedError) if message else nullcontext() as caught:
            graph = lnm.nn.to_nir(nn.Sequential(net), sequence(3))
        if message:
            assert message in str(caught.value)
        else:
            assert graph.nodes["0"].metadata["lnm"]["exact"]


@pytest.mark.parametrize("approximate", [False, True])
@pytest.mark.parametrize("family", ["ternary", "i_lif"])
def test_outputs_that_are_no_spike_are_refused_always(family, approximate):
    """A neuron without a near primitive has no such remedy."""
    problem = f"the output of {family} is"
    with refused(UnsupportedError, "to_nir: 1", problem, "one spike") as caught:
        lnm.nn.to_nir(model_of(lnm.get(family)), sequence(3), approximate=approximate)
    assert not caught.value.remedy


@pytest.mark.parametrize(("kind", "groups"), [(nn.Conv1d, 2), (nn.Conv2d, 4)])
def test_a_convolution_with_groups(tmp_path, kind, groups) -> None:
    """`nir.read` takes C_in/groups for its channels, and refused the file."""
    torch.manual_seed(0)
    one, two = kind(4, 8, 3, groups=groups), kind(8, 8, 3, groups=groups, bias=False)
    net = nn.Sequential(nn.Flatten(0, 1), one, two, nn.Unflatten(0, (12, 3)))
    sample = sequence(4, *[7] * (one.weight.dim() - 2))
    nir.write(tmp_path / "net.nir", lnm.nn.to_nir(net, sample))
    found = nir.read(tmp_path / "net.nir")
    assert [n.weight.shape[:2] for n in (found.nodes["1"], found.nodes["2"])] == [(8, 4), (8, 8)]
    torch.testing.assert_close(again(found)(sample), net(sample))


class Convolutions(nn.Module):
    """Reshapes as users write them, batch normalisations, and a shortcut."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.spikes = layer(lnm.get("lif"), 4, 6, 6)
        self.pool, self.second = nn.AvgPool2d(2), nn.Conv2d(4, 4, 1, bias=False)
        self.sum = layer(lnm.get("if"), 4, 3, 3)
        self.drop, self.last = nn.Dropout(), nn.Linear(36, 5)

    def forward(self, x):
        steps, batch = x.shape[:2]
        frames = self.norm(self.first(x.flatten(0, 1)))
        pooled = self.pool(self.spikes(frames.unflatten(0, (steps, batch))).flatten(0, 1))
        total = (self.second(pooled) + pooled).view(steps, batch, 4, 3, 3)
        return self.last(self.drop(self.sum(total).flatten(2)))


def trained(net, x):
    with torch.no_grad():
        net.train()(x)
    return net


def test_a_model_with_reshapes_normalisation_and_a_shortcut(tmp_path):
    """The copy that runs is in eval mode; the model itself keeps its mode and its statistics."""
    x = 3 * sequence(2, 6, 6)
    net = trained(Convolutions(), x)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    graph = lnm.nn.to_nir(net, x)
    assert net.training
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())
    assert sorted(graph.nodes) == sorted(
        "input first spikes pool second sum flatten_0 last output".split()
    )
    assert ("pool", "sum") in graph.edges
    assert graph.nodes["first"].metadata["lnm"]["folded"] == "norm"
    nir.write(tmp_path / "c.nir", graph)
    net.eval()
    assert torch.allclose(again(tmp_path / "c.nir")(x), net(x), atol=1e-5)
    lnm.nn.fuse(net)
    fused = lnm.nn.to_nir(net, x)
    assert np.allclose(fused.nodes["first"].weight, graph.nodes["first"].weight, rtol=1e-6)


def test_a_norm_neuron_with_a_shortcut():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(2)
            self.one, self.two = nn.Linear(3, 4), nn.Linear(4, 4)
            self.mid = layer(lnm.get("if"), 4)
            self.block = NormNeuron(lnm.get("lif"), 4, shortcut=True, backend="torch")

        def forward(self, x):
            spikes = self.mid(self.one(x))
            return self.block(self.two(spikes), spikes)

    x = 3 * sequence(3)
    net = trained(Block(), x).eval()
    assert torch.equal(again(lnm.nn.to_nir(net, x))(x), net(x))


class Forward(nn.Module):
    """A model of one linear layer and any function."""

    def __init__(self, function, neuron="lif"):
        super().__init__()
        self.linear, self.spikes = nn.Linear(3, 3), layer(lnm.get(neuron), 3)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


class Masked(nn.Linear):
    """A linear layer with another forward."""

    def forward(self, x):
        return super().forward(x) * 2


def with_another_forward(kind, *given, **options):
    name = f"Shifted{kind.__name__}"
    return type(name, (kind,), {"forward": lambda self, x: x})(*given, **options)


def changed(module, x):
    out = module.linear(x)
    out[0] = 0
    return module.spikes(out)


OTHER = [
    (lambda m, x: m.spikes(torch.relu(m.linear(x))), "'relu' in the forward", "use a module"),
    (lambda m, x: m.spikes(m.linear(x)).mean(0), "'mean'", "outside the model"),
    (lambda m, x: m.spikes(m.linear(x) * 2), "'mul'", ""),
    (lambda m, x: torch.cat([m.spikes(m.linear(x)), x]), "'cat'", ""),
    (changed, "'__setitem__'", ""),
    (lambda m, x: m.spikes(m.linear(x.permute(1, 0, 2))), "'permute'", ""),
    (lambda m, x: m.spikes(m.linear(m.linear(x))), "runs more than once", ""),
    (lambda m, x: m.spikes(m.linear(x) + m.linear.weight.sum()), "'add'", ""),
    (lambda m, x: (m.spikes(m.linear(x)), x), "returns a tuple", ""),
    (lambda m, x: m.spikes(m.linear(torch.tensor(x.numpy()))), "does not come from", ""),
    (lambda m, x: m.spikes(m.linear(x)[torch.arange(12)]), "'__getitem__'", ""),
    (lambda m, x: m.spikes(m.linear(x), state={"v": 0.9}), "keyword argument 'state'", ""),
    (lambda m, x: m.spikes(m.linear(input=x)), "keyword argument 'input'", ""),
]
LIF = lnm.get("lif")
MODULES = [
    (nn.MaxPool1d(1), "a MaxPool1d has no node"),
    (nn.ReLU(), "a ReLU has no node"),
    (nn.LayerNorm(3), "a LayerNorm has no node"),
    (Masked(3, 3), "a Masked, a subclass of Linear"),
    (with_another_forward(nn.Identity), "a ShiftedIdentity, a subclass of Identity"),
    (
        with_another_forward(NeuronLayer, LIF, backend="torch"),
        "a ShiftedNeuronLayer, a subclass of NeuronLayer",
    ),
    (with_another_forward(nn.BatchNorm1d, 3), "a ShiftedBatchNorm1d, a subclass of BatchNorm1d"),
    (NeuronLayer(LIF, arithmetic=lnm.Fixed(16, 12), backend="torch"), "in integers"),
    (
        nn.Sequential(nn.Flatten(0, 1), nn.BatchNorm1d(3), nn.Unflatten(0, (12, 3))),
        "something else",
    ),
]
MODELS = [(Forward(function), *rest) for function, *rest in OTHER] + [
    (nn.Sequential(module, nn.Linear(3, 3)), problem, "") for module, problem in MODULES
]


@pytest.mark.parametrize(("model", "problem", "remedy"), MODELS)
def test_other_operations_and_modules_are_refused_by_name(model, problem, remedy):
    with refused(UnsupportedError, None, problem) as caught:
        lnm.nn.to_nir(model, sequence(3))
    assert remedy.lower() in str(caught.value).lower()
    assert caught.value.where.startswith("to_nir")


def shift(module, args, out):
    return out + 0.01


def test_a_hook_of_a_node_and_a_forward_on_the_object_are_refused():
    """It may change values by less than a comparison on the sample shows."""
    net, x = model_of(lnm.get("lif")), sequence(3)
    for place, module in (("to_nir: 0", net[0]), ("to_nir: 1", net[1])):
        handle = module.register_forward_hook(shift)
        with refused(UnsupportedError, place, "has a forward hook", remedy="Remove"):
            lnm.nn.to_nir(net, x)
        handle.remove()
    handle = torch.nn.modules.module.register_module_forward_hook(shift)
    with refused(UnsupportedError, "to_nir: 0", "has a forward hook"):
        lnm.nn.to_nir(net, x)
    handle.remove()
    graph = lnm.nn.to_nir(net, x)
    read = again(graph)
    next(m for m in read.modules() if isinstance(m, nn.Linear)).register_forward_pre_hook(print)
    with refused(UnsupportedError, None, "the Linear has a forward hook"):
        lnm.nn.to_nir(read, x)
    for place in (0, 1):
        net = model_of(lnm.get("lif"))
        plain = net[place].forward
        net[place].forward = lambda x, plain=plain: shift(None, None, plain(x))
        with refused(UnsupportedError, f"to_nir: {place}", "was replaced on the object"):
            lnm.nn.to_nir(net, x)


def test_hooks_between_nodes_are_followed():
    """Those of containers, before a node, and of this package."""
    net, x = model_of(lnm.get("lif")), sequence(3)
    lnm.nn.pack_spikes(net)
    lnm.nn.pack_spikes(net[1])
    graph = lnm.nn.to_nir(net, x)
    assert torch.equal(again(graph)(x), net(x))
    for register in (net.register_forward_hook, net[1].register_forward_pre_hook):
        handle = register(lambda module, args, *out: args[0] * 2)
        with refused(UnsupportedError, "to_nir", "'mul'"):
            lnm.nn.to_nir(net, x)
        handle.remove()


def test_a_normalisation_without_weights():
    x = 3 * sequence(2, 6, 6)
    net = Convolutions()
    net.norm = nn.BatchNorm2d(4, affine=False)
    trained(net, x).eval()
    torch.testing.assert_close(again(lnm.nn.to_nir(net, x))(x), net(x))


def test_a_normalisation_of_batch_as_channels_is_refused():
    """nn.BatchNorm1d on (T, N, C) is over N, also where N is C."""
    x, size = sequence(3), 3
    net = nn.Sequential(nn.Linear(3, size), nn.BatchNorm1d(size), layer(lnm.get("lif"), size))
    trained(net, x)
    with refused(UnsupportedError, "to_nir: 1", "normalises axis 1", "x.flatten(0, 1)"):
        lnm.nn.to_nir(net, x)
    net[0], net[2] = nn.Linear(3, 5), layer(lnm.get("lif"), 5)
    with refused(UnsupportedError, "to_nir: 1", "normalises axis 1"):
        lnm.nn.to_nir(net, x)


@pytest.mark.peers
def test_normalisations_of_spikingjelly():
    """Over channels in multi-step mode; a scale for each step has no node."""
    layers = pytest.importorskip("spikingjelly.activation_based.layer", exc_type=ImportError)
    x = sequence(3)
    norms = layers.BatchNorm1d(3, step_mode="m"), layers.ThresholdDependentBatchNorm1d(1.0, 0.5, 3)
    for norm in norms:
        net = trained(nn.Sequential(nn.Linear(3, 3), norm, layer(lnm.get("lif"), 3)), x).eval()
        assert torch.allclose(again(lnm.nn.to_nir(net, x))(x), net(x), atol=1e-5)
    net[1] = layers.BatchNorm1d(3, step_mode="s")
    with refused(UnsupportedError, "to_nir: 1", "normalises axis 1"):
        lnm.nn.to_nir(net, x)
    other = type("BatchNormOther1d", (nn.BatchNorm1d,), {"__module__": layers.__name__ + ".bn"})
    for norm in (layers.TemporalEffectiveBatchNorm1d(12, 3), other(3)):
        net[1] = norm
        with refused(UnsupportedError, "to_nir: 1", "may have another forward"):
            lnm.nn.to_nir(net, x)


def test_wrong_arguments_are_one_line():
    names = {"to_nir": lnm.nn.to_nir, "net": model_of(LIF), "x": sequence(3), "y": sequence(5)}
    names["ones"] = torch.ones
    assert_refused(
        """
to_nir
    to_nir(3, x) >> model is 3
    to_nir(net, x, dt=-1) >> dt is -1 >> > 0
    to_nir(net, x, approximate=1) >> approximate is 1
""",
        names,
    )
    assert_refused(
        """
to_nir
    to_nir(net, ones(4)) >> sample is (4,) >> (T, N, *)
    to_nir(net, y) >> the model refuses the sample: mat1 and mat2
""",
        names,
        ShapeError,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_of_16_bits_is_written_in_float32(dtype):
    """Layers whose sizes are not known yet get them in the copy."""
    lazy = NeuronLayer(lnm.get("plif", per="channel"), backend="torch")
    net = nn.Sequential(nn.Linear(3, 4, dtype=dtype), lazy)
    graph = lnm.nn.to_nir(net, sequence(3).to(dtype))
    assert graph.nodes["0"].weight.dtype == np.float32
    assert graph.nodes["1"].tau.shape == (4,)
    assert torch.nn.parameter.is_lazy(lazy.w)


def test_a_network_that_was_read_is_written_again():
    """Cycles, delays and nested graphs too; copies of the network keep working."""
    rng = np.random.default_rng(0)
    ones = np.ones(3)
    nodes = {
        "back": nir.Linear(rng.normal(size=(3, 3))),
        "late": nir.Delay(2 * ones),
        "lif": nir.CubaLIF(3 * ones, 4 * ones, 4 * ones, 0 * ones, 0.3 * ones, -0.1 * ones),
    }
    edges = "input>lif lif>late late>back back>lif lif>output"
    network = again(graph_of(nodes, edges, [3], [3]))
    x = sequence(3)
    spikes = network(x)
    assert 0.01 < spikes.mean() < 0.9
    graph = lnm.nn.to_nir(network, x)
    assert {">".join(edge) for edge in graph.edges} == {*edges.split()}
    assert np.allclose(graph.nodes["late"].delay, 2)
    assert graph.nodes["lif"].v_threshold[0] == np.float32(0.3), "> is kept"
    assert torch.equal(again(graph)(x), spikes)
    assert torch.equal(copy.deepcopy(network)(x), spikes)


def recurrent(neuron=None, inputs=3, **options):
    torch.manual_seed(2)
    made = RecurrentLayer(neuron or lnm.get("lif"), 5, inputs, backend="torch", **options)
    with torch.no_grad():
        for value in (made.weight, made.recurrent):
            if value is not None:
                value *= 3
    return made


def delays(*values):
    made = Delay(5, 4, least=1)
    with torch.no_grad():
        made.delay.copy_(torch.tensor(values))
    return made


RECURRENT = {
    "full": {}, "mask": {"autapses": False, "bias": False},
    "diagonal": {"recurrent": "diagonal", "delay": 3}, "blocks": {"blocks": 5},
    "bias": {"inputs": None, "bias": True}, "none": {"inputs": None},
    "learned": {"delay": (1.0, 2.0, 4.0, 3.0, 1.0)},
}  # fmt: skip


@pytest.mark.parametrize("name", RECURRENT)
def test_a_recurrent_layer_is_a_cycle(name):
    """Linear node, neurons, linear node back; other delays than one step are a node."""
    options = dict(RECURRENT[name])
    if isinstance(options.get("delay"), tuple):
        options["delay"] = delays(*options["delay"])
    model = nn.Sequential(nn.Linear(3, 5), recurrent(**({"inputs": 5} | options)), nn.Linear(5, 2))
    x = sequence(3)
    graph = lnm.nn.to_nir(model, x)
    edges = set(graph.edges)
    back = "1.delay" if "delay" in options else "1.recurrent"
    assert {("1.neuron", back), ("1.recurrent", "1.neuron"), ("1.neuron", "2")} <= edges
    assert ("1.weight" in graph.nodes) is (name != "none")
    torch.testing.assert_close(again(graph)(x), model(x))
    plain = copy.deepcopy(graph)
    del plain.nodes["1.neuron"].metadata["lnm"]
    torch.testing.assert_close(again(plain)(x), model(x))


def test_single_steps_of_a_recurrent_layer_are_written():
    """An approximate neuron is fitted to what the steps gave it."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = recurrent(lnm.get("lnm", degree=3), step_mode="s")

        def forward(self, x):
            return torch.stack([self.layer(step) for step in x])

    graph = lnm.nn.to_nir(Net(), sequence(3), approximate=True)
    assert {"layer.weight", "layer.neuron", "layer.recurrent"} <= set(graph.nodes)


def test_a_cycle_that_is_a_layer_runs_at_once():
    """With the outputs and the gradients of the loop over its nodes."""
    x = sequence(3).requires_grad_()
    network = again(lnm.nn.to_nir(recurrent(), x.detach()))
    found = []
    for is_layer in (True, False):
        network._is_layer = (lambda group, own=network._is_layer: own(group)) if is_layer else (
            lambda group: False
        )  # fmt: skip
        out = network(x)
        found.append((out, *torch.autograd.grad(out.sum(), [x, *network.parameters()])))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("delay", [1, 3])
def test_records_of_a_cycle(delay):
    """Of every step, as those of the layer that was written."""
    x, model = sequence(3), recurrent(delay=delay)
    network = again(lnm.nn.to_nir(nn.Sequential(model), x))
    (neurons,) = (m for m in network.modules() if isinstance(m, lnm.nn.NeuronLayer))
    model.record = neurons.record = ("v", "stats")
    expected, records = model(x)
    torch.testing.assert_close(network(x), expected)
    torch.testing.assert_close(neurons.recorded, records)


def test_a_delay_of_whole_steps():
    x = sequence(5, 2)
    model = nn.Sequential(delays(1.0, 2.0, 4.0, 3.0, 1.0), nn.Flatten(2))
    assert torch.equal(again(lnm.nn.to_nir(model, x))(x), model(x))


def test_recurrent_layers_that_no_graph_has():
    names = {
        "to": lambda model: lnm.nn.to_nir(model, sequence(5)), "delays": delays,
        "made": lambda **o: nn.Sequential(recurrent(inputs=None, **o)),
        "half": nn.Sequential(delays(1.5, 1, 1, 1, 1)),
    }  # fmt: skip
    assert_refused(
        """
to_nir: 0
    to(made(delay=delays(1.5, 1, 1, 1, 1))) >> its delays are fractions >> whole delays >> Round
    to(half) >> its delays are fractions >> whole delays >> Round
""",
        names,
        UnsupportedError,
    )


def test_a_recurrent_net_of_snntorch_is_written():
    """Step by step, after the conversion; its late reset is approximate, and comes back."""
    snn = pytest.importorskip("snntorch")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif = nn.Linear(3, 5), snn.RLeaky(0.8, linear_features=5)

        def forward(self, x):
            spk, mem = self.lif.init_rleaky()
            out = []
            for step in x:
                spk, mem = self.lif(self.fc(step), spk, mem)
                out.append(spk)
            return torch.stack(out)

    torch.manual_seed(0)
    net, x = Net(), 3 * sequence(3)
    expected = net(x)
    ours = eager(lnm.nn.convert(net))
    assert torch.equal(ours(x), expected)
    with pytest.raises(UnsupportedError, match=r"a step late.*approximate=True"):
        lnm.nn.to_nir(ours, x)
    graph = lnm.nn.to_nir(ours, x, approximate=True)
    assert 0 < graph.nodes["lif.neuron"].metadata["lnm"]["spike_difference"] < 0.5
    assert torch.equal(again(graph)(x), expected)
