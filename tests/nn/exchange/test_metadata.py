"""Our neuron in the metadata of a node: read back exactly, or refused in one line."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import lnm_codegen as lnm
from lnm_codegen.errors import LnmError, ModelError
from lnm_codegen.nn import NeuronLayer
from tests.nn.exchange.graphs import eager, nir
from tests.refusals import refused


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


WRONG = [
    ({"format": 2}, "format is 2", "1"),
    ({"format": "1"}, "format is '1'", "1"),
    ({"fields": None}, "'fields' is missing", "'neuron'"),
    ({"fields": "0" * 64}, "have changed", ""),
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


@pytest.mark.parametrize(("changes", "problem", "accepted"), WRONG)
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
