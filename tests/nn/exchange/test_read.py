"""`from_nir`: nodes, nested graphs, cycles, files, and wrong graphs, each in one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import lnm_codegen as lnm
from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from tests.nn.exchange.graphs import chain, eager, euler, float64, nir
from tests.refusals import refused


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
    nodes = {
        "input": nir.Input({"input": np.array([3])}),
        "back": nir.Affine(weight, bias),
        "lif": node,
        "output": nir.Output({"output": np.array([3])}),
    }
    edges = [("input", "lif"), ("lif", "back"), ("back", "lif"), ("lif", "output")]
    x = sequence(3)
    spikes, v, feedback = [], torch.zeros(2, 3), torch.zeros(2, 3)
    for now in x:
        v = v + (now + feedback - v) / 2
        spikes.append((v > 0.2).double())
        v = torch.where(spikes[-1] > 0, 0.0, v)
        feedback = spikes[-1] @ torch.tensor(weight.T) + torch.tensor(bias)
    network = read(nir.NIRGraph(nodes, edges, type_check=False))
    assert torch.equal(network(x), torch.stack(spikes))
    assert network(x[:0]).shape == (0, 2, 3)


def test_a_nested_graph_and_sums():
    """A nested graph is one node; several edges to a node are summed."""
    inner = chain(nir.Linear(array(3, 3)), shape=(3,), last=(3,))
    nodes = {"input": nir.Input({"input": np.array([3])}), "a.b": inner, "if": lif(3)}
    nodes["output"] = nir.Output({"output": np.array([3])})
    edges = [("input", "a.b"), ("input", "if"), ("a.b", "if"), ("if", "output")]
    x = sequence(3)
    found = read(nir.NIRGraph(nodes, edges, type_check=False))(x).detach()
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


def test_a_call_with_other_features_is_refused():
    network = read(chain(lif(3), shape=(3,)))
    with refused(ShapeError, "NirNetwork", "(5, 2, 4)", "(T, N, 3)"):
        network(sequence(4))


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
    ends = [("input", "a"), ("a", "output")]
    for own, remedy in ((shape, "ignore_dims=[0]"), ((7, *shape), "")):
        nodes = {"input": nir.Input(np.array(own)), "a": node, "output": nir.Output(None)}
        with refused(ShapeError, "from_nir: node 'a'", f"shape {own}", remedy=remedy) as caught:
            lnm.nn.from_nir(nir.NIRGraph(nodes, ends, type_check=False))
        assert bool(caught.value.remedy) == bool(remedy)
    nodes["input"] = nir.Input(np.array(shape[1:]))
    lnm.nn.from_nir(nir.NIRGraph(nodes, ends, type_check=False))


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


def test_a_call_without_a_tensor_and_an_endless_delay():
    network = lnm.nn.from_nir(chain(lif(3), shape=(3,), last=(3,)))
    for x in (None, np.zeros((1, 1, 3))):
        with refused(ShapeError, "NirNetwork", f"type {type(x).__name__}", "a tensor (T, N, 3)"):
            network(x)
    graph = chain(nir.Delay(np.full(3, 1e9)), shape=(3,), last=(3,))
    with refused(
        UnsupportedError, "from_nir: node 'n0'", "delay is 1e+12 steps", "at most 1000000"
    ):
        lnm.nn.from_nir(graph, dt=1e-3)
