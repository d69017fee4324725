"""`from_nir`: wiring, neurons, nodes, cycles, files and our metadata; wrong ones in one line."""

from __future__ import annotations

import copy
import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import lnm_codegen as lnm
from lnm_codegen.errors import LnmError, ModelError, ShapeError, UnsupportedError
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.exchange.graph import wiring_of
from lnm_codegen.nn.exchange.neurons import neuron_layer
from tests.nn.exchange.graphs import EULER, chain, eager, euler, fields, float64, graph_of, nir
from tests.refusals import assert_refused, refused


def array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def read(graph, dt=1.0):
    with float64():
        return eager(lnm.nn.from_nir(graph, dt))


def sequence(*shape):
    return torch.tensor(array(5, 2, *shape, seed=7))


def lif(*shape, tau=2.0):
    ones = np.ones(shape)
    return nir.LIF(tau=tau * ones, r=ones, v_leak=0 * ones, v_threshold=0.2 * ones)


# ---- wiring ----


def wired(nodes, edges):
    return wiring_of("graph", ["in", *nodes, "out"], edges, "in", "out")


@given(st.permutations("abcdef"))
def test_a_chain_runs_in_the_order_of_its_edges(names):
    """Whatever the order of the nodes."""
    path = ["in", *sorted(names), "out"]
    found = wired(names, list(pairwise(path)))
    assert [g[0] for g in found.groups] == path
    assert not found.delayed


def test_a_node_waits_for_all_its_sources():
    edges = [("in", "a"), ("in", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("d", "out")]
    groups = [g[0] for g in wired("dcba", edges).groups]
    assert groups.index("d") > groups.index("c") > groups.index("a")


def test_an_edge_back_is_delayed_at_the_node_with_an_input():
    """The recurrent weights read the spikes of this step, the neurons the product of the last."""
    edges = [("in", "lif"), ("lif", "rec"), ("rec", "lif"), ("lif", "out")]
    for nodes in (["lif", "rec"], ["rec", "lif"]):
        found = wired(nodes, edges)
        assert found.groups == (("in",), ("lif", "rec"), ("out",))
        assert found.delayed == {("rec", "lif")}
        assert [found.is_cycle(g) for g in found.groups] == [False, True, False]


def test_a_node_may_read_itself():
    found = wired(["a"], [("in", "a"), ("a", "a"), ("a", "out")])
    assert found.delayed == {("a", "a")}
    assert found.is_cycle(("a",))


def test_wrong_edges_are_one_line():
    assert_refused(
        """
graph
    (("in", "a"), ("a", "uot")) >> names 'uot', which is no node >> >> Did you mean 'out'?
    (("in", "a"), ("in", "a"), ("a", "out")) >> occurs 2 times
    (("in", "a"),) >> no path to node 'out' >> >> Add its outgoing edge
    (("a", "out"),) >> no path to node 'out' >> >> outgoing
    (("in", "a"), ("a", "out"), ("out", "a")) >> 'out' has outgoing edges
    (("in", "a"), ("a", "in"), ("a", "out")) >> 'in' has incoming edges
""",
        {},
        run=lambda edges: wired(["a"], list(eval(edges))),
    )


# ---- neurons ----


def layer_of(node, shape, dt=1.0):
    with float64():
        return neuron_layer("node", node, shape, dt, "torch")


@pytest.mark.parametrize("kind", sorted(EULER))
@settings(max_examples=2)
@given(
    seed=st.integers(0, 2**32),
    dt=st.sampled_from([1.0, 1e-4, 0.37]),
    shape=st.sampled_from([(3,), (2, 2, 2)]),
)
def test_a_layer_has_the_equations_of_its_node(kind, seed, dt, shape):
    """Random fields for each neuron, and random steps; potentials agree to rounding."""
    rng = np.random.default_rng(seed)
    node = getattr(nir, kind)(**fields(kind, rng, shape, dt))
    x = rng.normal(0.3, 1, (12, 2, *shape))
    with torch.no_grad():
        found = layer_of(node, shape, dt)(torch.tensor(x)).numpy()
    assert np.allclose(found, euler(node, x, dt), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_potential_equal_to_the_threshold_does_not_spike(dtype):
    """NIR compares with >. The next number above the threshold spikes."""
    node = nir.IF(r=np.ones(3), v_threshold=np.ones(3), v_reset=np.zeros(3))
    one = torch.ones((), dtype=dtype)
    up, down = (torch.nextafter(one, torch.tensor(k, dtype=dtype)) for k in (2.0, 0.0))
    x = torch.stack([down, one, up])[None, None]
    assert neuron_layer("node", node, (3,), 1.0, "torch")(x).tolist() == [[[0, 0, 1]]]


def test_fields_take_the_coarsest_granularity():
    """All are learnable."""
    channels = np.broadcast_to(np.array([2.0, 3.0])[:, None, None], (2, 2, 2))
    node = nir.LIF(
        tau=channels,
        r=np.ones((2, 2, 2)),
        v_leak=np.zeros((2, 2, 2)),
        v_threshold=np.arange(1.0, 9).reshape(2, 2, 2),
        v_reset=np.zeros((2, 2, 2)),
    )
    layer = layer_of(node, (2, 2, 2))
    shapes = {name: tuple(value.shape) for name, value in layer.named_parameters()}
    assert shapes == {
        "tau": (2,), "r": (), "v_leak": (), "v_threshold": (2, 2, 2), "v_reset": ()
    }  # fmt: skip
    layer(torch.ones(3, 1, 2, 2, 2, dtype=torch.float64)).sum().backward()
    assert all(value.grad is not None for value in layer.parameters())


def test_wrong_fields_are_one_line():
    """dt = 2*tau is the bound of forward Euler."""

    def made(tau, shape=(2,), size=(2,)):
        node = nir.LIF(np.full(size, tau), *(np.ones(size) for _ in range(3)))
        return layer_of(node, shape)

    assert made(0.51).tau.shape == made(2.0, (3,), (1,)).tau.shape == ()
    names = {"made": made, "nan": np.nan}
    assert_refused(
        """
node
    made(0.0) >> tau is 0 >> time constants > 0
    made(nan) >> tau is not finite >> finite
    made(1 + 1j) >> tau has the type complex128 >> real numbers
    made(True) >> tau has the type bool >> real numbers
    made("a") >> tau has the type <U1 >> real numbers
""",
        names,
    )
    with refused(UnsupportedError, "node", "dt = 1 is unstable", "dt < 1", "in the unit"):
        made(0.5)
    with refused(ShapeError, "node", "tau has shape (2,), the input (3,)", "(3,), or one number"):
        made(2.0, (3,))


# ---- nodes and graphs ----


def framed(function):
    """Return a function of (T, N, *) that calls one of (N, *)."""
    return lambda x: function(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def delayed(x, steps=(0, 2, 1)):
    rows = [torch.cat((torch.zeros(k, 2), x[: 5 - k, :, j])) for j, k in enumerate(steps)]
    return torch.stack(rows, -1)


W, BIAS, SCALE = array(4, 3), array(4), array(3, 2)
POOL, LINEAR = nn.functional.avg_pool2d, nn.functional.linear
PAIR, NONE = np.array([2, 2]), np.array([0, 0])
NODES = {
    "affine": (nir.Affine(W, BIAS), (3,), lambda x: LINEAR(x, *map(torch.tensor, (W, BIAS)))),
    "linear": (nir.Linear(W), (3,), lambda x: LINEAR(x, torch.tensor(W))),
    "scale": (nir.Scale(SCALE), (3, 2), lambda x: x * torch.tensor(SCALE)),
    "sum": (
        nir.SumPool2d(PAIR, np.array([2, 1]), np.array([1, 0])),
        (2, 4, 5),
        framed(lambda x: POOL(x, 2, (2, 1), (1, 0)) * 4),
    ),
    "average": (nir.AvgPool2d(PAIR, PAIR, NONE), (2, 4, 5), framed(lambda x: POOL(x, 2))),
    "flatten": (nir.Flatten(np.array([2, 3, 4]), 1, 2), (2, 3, 4), lambda x: x.flatten(3)),
    "delay": (nir.Delay(np.array([0.0, 2.0, 1.0])), (3,), delayed),
}


@pytest.mark.parametrize("name", sorted(NODES))
def test_a_node_is_its_operation(name):
    node, shape, expected = NODES[name]
    x = sequence(*shape)
    assert torch.allclose(read(chain(node, shape=shape))(x), expected(x))


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1, "dilation": 2}, {"groups": 2}])
def test_a_convolution(options):
    given = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | options
    for kind, call, size, shape in (
        (nir.Conv1d, nn.functional.conv1d, 8, (4, 8)),
        (nir.Conv2d, nn.functional.conv2d, None, (4, 8, 7)),
    ):
        weight, bias = array(6, 4 // given["groups"], *([3] * len(shape[1:]))), array(6, seed=2)
        x, tensors = sequence(*shape), [*map(torch.tensor, (weight, bias))]
        found = read(chain(kind(size, weight, *given.values(), bias), shape=shape))(x)
        assert torch.allclose(found, framed(lambda x: call(x, *tensors, **given))(x))  # noqa: B023


def test_a_cycle_has_a_delay_of_one_step():
    """The neurons receive U s[t-1]; 0 at the first step, without the bias of U."""
    weight, bias, node = array(3, 3), array(3, seed=1), lif(3)
    edges = "input>lif lif>back back>lif lif>output"
    graph = graph_of({"back": nir.Affine(weight, bias), "lif": node}, edges, [3], [3])
    x = sequence(3)
    spikes, v, feedback = [], torch.zeros(2, 3), torch.zeros(2, 3)
    for now in x:
        v = v + (now + feedback - v) / 2
        spikes.append((v > 0.2).double())
        v = torch.where(spikes[-1] > 0, 0.0, v)
        feedback = spikes[-1] @ torch.tensor(weight.T) + torch.tensor(bias)
    network = read(graph)
    assert torch.equal(network(x), torch.stack(spikes))
    assert network(x[:0]).shape == (0, 2, 3)


def test_a_nested_graph_and_sums():
    """A nested graph is one node; several edges to a node are summed."""
    inner = chain(nir.Linear(array(3, 3)), shape=(3,), last=(3,))
    edges = "input>a.b input>if a.b>if if>output"
    x = sequence(3)
    found = read(graph_of({"a.b": inner, "if": lif(3)}, edges, [3], [3]))(x).detach()
    total = (x + x @ torch.tensor(array(3, 3).T)).numpy()
    assert np.array_equal(found.numpy(), euler(lif(3), total, 1.0))


def test_a_single_node_and_a_file(tmp_path):
    x = sequence(3)
    assert torch.equal(read(lif(3))(x), torch.tensor(euler(lif(3), x.numpy(), 1.0)))
    file = tmp_path / "graph.nir"
    nir.write(file, chain(nir.Affine(array(4, 3), array(4)), lif(4), shape=(3,), last=(4,)))
    for path in (file, str(file)):
        assert read(path)(x).shape == (5, 2, 4)


def test_reading_draws_no_random_numbers_and_keeps_the_default_type():
    before = torch.random.get_rng_state()
    network = lnm.nn.from_nir(chain(nir.Linear(array(4, 3)), lif(4), shape=(3,)))
    assert torch.equal(before, torch.random.get_rng_state())
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def edited(**changes):
    graph = chain(nir.Affine(array(4, 3), array(4)), lif(4), shape=(3,), last=(4,))
    nodes = dict(graph.nodes) | changes.get("nodes", {})
    edges = changes.get("edges", graph.edges)
    return nir.NIRGraph(nodes, edges, type_check=False)


class Custom(nir.LIF):
    """A node of a class that NIR does not have."""


ones = np.ones(4)
WRONG = [
    (edited(edges=[("input", "n0"), ("n1", "output")]), ModelError, "no path", ""),
    (edited(edges=[("input", "n0"), ("n0", "lif")]), ModelError, "names 'lif'", "'n0'"),
    (edited(nodes={"n1": lif(3)}), ShapeError, "(3,)", "(4,), or one number"),
    (edited(nodes={"n0": nir.Linear(array(4, 5))}), ShapeError, "shape (3,)", "(5,)"),
    (edited(nodes={"n1": Custom(ones, ones, ones, ones)}), UnsupportedError, "Custom", "CubaLIF"),
    (edited(nodes={"n1": nir.Delay(ones / 2)}), UnsupportedError, "0.5", "multiples of dt"),
    (edited(nodes={"input": nir.Input({"input": None})}), ModelError, "no shape", ""),
    (edited(nodes={"output": nir.Output({"output": np.array([9])})}), ShapeError, "(9,)", ""),
    (edited(nodes={"output": lif(4)}), ModelError, "0 nodes are Output", "one Output"),
    (edited(nodes={"n0": nir.Affine(array(4, 3), array(5))}), ShapeError, "bias", "(4,)"),
    (edited(nodes={"n0": nir.Affine(array(2, 4, 3), array(4))}), UnsupportedError, "(2, 4, 3)", ""),
    (7, ModelError, "graph is 7", "the path of a .nir file"),
]


@pytest.mark.parametrize(("graph", "kind", "problem", "accepted"), WRONG)
def test_a_wrong_graph_is_one_line(graph, kind, problem, accepted):
    with refused(kind, None, problem, accepted) as caught:
        lnm.nn.from_nir(graph)
    assert caught.value.where.startswith("from_nir")


@pytest.mark.parametrize("shape", [(2, 6), (1, 3, 5, 5)])
def test_a_batch_among_the_features_has_a_remedy(shape):
    """Norse's exporter counts the batch of its sample; without that axis, the graph is read."""
    weight = np.ones((2, *shape[1:2], *(1 for _ in shape[2:])))
    node = nir.Linear(weight)
    if len(shape) == 4:
        node = nir.Conv2d(None, weight, 1, 0, 1, 1, np.zeros(2))
    for own, remedy in ((shape, "ignore_dims=[0]"), ((7, *shape), "")):
        with refused(ShapeError, "from_nir: node 'a'", f"shape {own}", remedy=remedy) as caught:
            lnm.nn.from_nir(graph_of({"a": node}, "input>a a>output", own))
        assert bool(caught.value.remedy) == bool(remedy)
    lnm.nn.from_nir(graph_of({"a": node}, "input>a a>output", shape[1:]))


def test_a_wrong_file_is_one_line(tmp_path):
    text = tmp_path / "text.nir"
    with refused(ModelError, text, "No such file"):
        lnm.nn.from_nir(text)
    text.write_text("not HDF5")
    with refused(ModelError, text, "not a NIR file", remedy="nir.write"):
        lnm.nn.from_nir(text)
    other = tmp_path / "other.nir"
    nir.write(other, chain(lif(3), shape=(3,), last=(3,)))
    h5py = pytest.importorskip("h5py")
    with h5py.File(other, "a") as file:
        del file["node/nodes/n0/type"]
        file["node/nodes/n0/type"] = "Izhikevich"
    with refused(ModelError, other, "a node of class Izhikevich", "the nodes of NIR"):
        lnm.nn.from_nir(other)
    misfits = (
        ("n0/tau", np.ones(5), "node 'n0': the shapes or types of its fields do not fit"),
        ("n0/tau", np.ones((3, 2)), "node 'n0': the shapes or types of its fields do not fit"),
        (None, None, "the edges cannot be read"),
    )
    for place, value, problem in misfits:
        nir.write(other, chain(lif(3), shape=(3,), last=(3,)))
        with h5py.File(other, "a") as file:
            del file[f"node/nodes/{place}" if place else "node/edges"]
            if place:
                file[f"node/nodes/{place}"] = value
        with refused(ModelError, other, problem, "the nodes of NIR"):
            lnm.nn.from_nir(other)
    with refused(ModelError, "from_nir", "dt is 0", "> 0"):
        lnm.nn.from_nir(text, dt=0)


def linked(file, h5py):
    """Add nested groups to a file, each with two names: 2**30 nodes."""
    group = file["node/nodes/n0"]
    for _ in range(30):
        inner = group.create_group("a")
        group["b"] = inner
        group = inner


def outside(file, h5py):
    """Add data that are the bytes of another file."""
    bytes_of = [("/etc/hostname", 0, 4)]
    file["node/nodes/n0"].create_dataset("raw", (4,), "u1", external=bytes_of)


def added(link):
    """Return a function that adds a node."""
    return lambda file, h5py: file["node/nodes"].__setitem__("more", link(file, h5py))


HOSTILE = {
    "is another name of an object": linked,
    "/node/nodes/more is another name": added(lambda file, _: file["node"]),
    "/node/nodes/more is a link": added(lambda _, h5py: h5py.SoftLink("/node/nodes/n0")),
    "more is a link": added(lambda _, h5py: h5py.ExternalLink("other.nir", "/node")),
    "/node/nodes/n0/raw is data of another file": outside,
    "more than 20 groups and data": lambda *_: None,
}


@pytest.mark.parametrize("problem", HOSTILE)
def test_a_file_is_a_tree(tmp_path, monkeypatch, problem):
    """A file of ten groups with two names each took seconds, and one more doubled them."""
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "hostile.nir"
    nir.write(path, chain(lif(3), lif(3), shape=(3,), last=(3,)))
    if problem.startswith("more than"):
        monkeypatch.setattr("lnm_codegen.nn.exchange.graph._MOST_OBJECTS", 20)
    with h5py.File(path, "a") as file:
        HOSTILE[problem](file, h5py)
    with refused(ModelError, path, problem):
        lnm.nn.from_nir(path)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nir", None)
    with refused(lnm.ToolError, "from_nir", "nir is not installed", remedy="lnm_codegen[nir]"):
        lnm.nn.from_nir("graph.nir")
    model = nn.Sequential(nn.Linear(2, 2))
    with refused(lnm.ToolError, "to_nir", "nir is not installed", remedy="lnm_codegen[nir]"):
        lnm.nn.to_nir(model, torch.ones(2, 2, 2))


def test_wrong_calls_and_an_endless_delay():
    network = lnm.nn.from_nir(chain(lif(3), shape=(3,), last=(3,)))
    with refused(ShapeError, "NirNetwork", "(5, 2, 4)", "(T, N, 3)"):
        network(sequence(4))
    for x in (None, np.zeros((1, 1, 3))):
        with refused(ShapeError, "NirNetwork", f"type {type(x).__name__}", "a tensor (T, N, 3)"):
            network(x)
    graph = chain(nir.Delay(np.full(3, 1e9)), shape=(3,), last=(3,))
    with refused(
        UnsupportedError, "from_nir: node 'n0'", "delay is 1e+12 steps", "at most 1000000"
    ):
        lnm.nn.from_nir(graph, dt=1e-3)


# ---- our metadata ----


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)
    neuron = lnm.get("lnm", degree=3, per="channel", surrogate=lnm.surrogate.triangle(0.5))
    layer = NeuronLayer(neuron, channels=4, backend="torch", detach_reset=True)
    with torch.no_grad():
        layer.theta.normal_(0, 0.2)
    x = torch.randn(10, 2, 4)
    return lnm.nn.to_nir(nn.Sequential(layer), x, approximate=True)


def changed(graph, **changes):
    other = copy.deepcopy(graph)
    table = other.nodes["0"].metadata["lnm"]
    for key, value in changes.items():
        if value is None:
            del table[key]
        else:
            table[key] = value
    return other


def test_everything_of_the_neuron_comes_back(graph, tmp_path):
    """Parameters, their kind and granularity, surrogate and detach_reset."""
    nir.write(tmp_path / "a.nir", graph)
    layer = lnm.nn.from_nir(tmp_path / "a.nir").nodes["0"]
    written = graph.nodes["0"].metadata["lnm"]["params"]["theta"]
    assert layer.theta.shape == (4, 4)
    assert np.array_equal(layer.theta.detach().numpy(), written)
    assert layer.neuron.detach_reset
    assert layer.neuron.surrogates == (("spike", lnm.surrogate.triangle(0.5)),)
    assert [name for name, _ in layer.named_parameters()] == ["theta"]


def test_a_neuron_that_a_function_initialises_comes_back():
    """Its text has the mean of the values; without a text, surrogate and names were lost."""
    a = lnm.param(
        "a", size=2, per="channel", init=lambda _, size: torch.linspace(0.2, 0.9, 8).reshape(size)
    )
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(
        {v: a[0] * v + a[1] * x}, v - 1, reset=lnm.hard_reset(v, 0.0), name="drawn",
        surrogate=lnm.surrogate.erf(), detach_reset=True,
    )  # fmt: skip
    layer = NeuronLayer(neuron, channels=4, backend="torch")
    node = lnm.nn.to_nir(nn.Sequential(layer), torch.randn(10, 2, 4)).nodes["0"]
    made = lnm.nn.from_nir(node).nodes["node"]
    assert torch.equal(made.a, layer.a)
    assert made.neuron.detach_reset
    assert made.neuron.surrogates == (("spike", lnm.surrogate.erf()),)
    assert made.neuron.params[0].init == pytest.approx((0.5, 0.6))


WRONG_METADATA = [
    ({"format": 2}, "format is 2", "1"),
    ({"format": "1"}, "format is '1'", "1"),
    ({"fields": None}, "'fields' is missing", "'neuron'"),
    ({"fields": "0" * 64}, "have changed", ""),
    ({"fields": np.ones((2, 2))}, "have changed", ""),
    ({"extra": 1}, "unknown key 'extra'", "'neuron'"),
    ({"dt": 2.0}, "a step of dt = 2, not 1", "dt = 2"),
    ({"dt": "now"}, "dt is 'now'", "a number"),
    ({"neuron": np.ones(3)}, "neuron is array", "text"),
    ({"neuron": "import os"}, "", ""),
    ({"neuron": "#" * 65537}, "the text is too large", "65536 characters"),
    ({"params": {}}, "parameter 'theta' is missing", ""),
    ({"params": 3}, "params is 3", "a table"),
    ({"params": {"theta": np.ones(4), "v_threshold": 1.0}}, "has shape (4,)", "(4, 4)"),
    ({"params": {"theta": "x", "v_threshold": 1.0}}, "'theta' is 'x'", "numbers"),
    ({"params": {"theta": np.full((4, 4), np.nan), "v_threshold": 1.0}}, "'theta' is", "numbers"),
    ({"params": {"theta": np.ones((4, 4)), "v_threshold": 1.0, "w": 1}}, "no parameter 'w'", ""),
]


@pytest.mark.parametrize(("changes", "problem", "accepted"), WRONG_METADATA)
def test_wrong_metadata_are_one_line(graph, changes, problem, accepted):
    with refused(ModelError, None, problem, accepted) as caught:
        lnm.nn.from_nir(changed(graph, **changes))
    assert caught.value.where.startswith("from_nir: node '0': metadata")


@pytest.mark.parametrize(
    "charge",
    [
        '__import__("os").system("true")',
        "(lambda: 1)()",
        "v.__class__",
        "9**9**9**9",
        "open('/etc/passwd')",
        "exec('x = 1')",
        "v" + "+v" * 10000,
    ],
)
def test_text_is_never_run(graph, charge):
    """Only the grammar of definitions reads it."""
    head, _, _ = graph.nodes["0"].metadata["lnm"]["neuron"].partition("[charge]")
    hostile = f"{head}[charge]\nv = {json.dumps(charge)}\n"
    with pytest.raises(LnmError) as caught:
        lnm.nn.from_nir(changed(graph, neuron=hostile))
    assert "\n" not in str(caught.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.binary(max_size=9) | st.just(np.array(["a"])) | st.just(np.ones((2, 2))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=5,
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=30)
@given(key=st.sampled_from(["format", "neuron", "params", "dt", "fields"]), value=values)
def test_any_value_is_refused_in_one_line(graph, key, value):
    assume(isinstance(value, np.ndarray) or value != 1)  # a right value of format and dt
    other = copy.deepcopy(graph)
    other.nodes["0"].metadata["lnm"][key] = value
    with pytest.raises(LnmError) as caught:
        lnm.nn.from_nir(other)
    assert "\n" not in str(caught.value)


def test_a_changed_node_is_noticed(graph):
    """Another program may train a node, and keep metadata that it does not know."""
    other = copy.deepcopy(graph)
    other.nodes["0"].tau = other.nodes["0"].tau * 2
    with refused(ModelError, None, "have changed since", remedy="Remove 'lnm'"):
        lnm.nn.from_nir(other)
    del other.nodes["0"].metadata["lnm"]
    assert lnm.nn.from_nir(other).nodes["0"].neuron.name == "nir_lif"


def test_metadata_of_other_libraries_are_ignored(graph):
    other = copy.deepcopy(graph)
    other.nodes["0"].metadata = {"note": "trained elsewhere"}
    other.metadata["author"] = "somebody"
    assert eager(lnm.nn.from_nir(other))(torch.ones(2, 1, 4)).shape == (2, 1, 4)
    other.metadata["lnm"]["dtype"] = "object"
    with refused(ModelError, "from_nir: metadata", "dtype is 'object'", "'float32'"):
        lnm.nn.from_nir(other)
