"""Structure of a graph: order of calls, cycles, delays, and wrong edges."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnm_codegen.errors import ModelError
from lnm_codegen.nn.exchange.graph import wiring_of
from tests.refusals import refused


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


@pytest.mark.parametrize(
    ("edges", "problem", "remedy"),
    [
        ([("in", "a"), ("a", "uot")], "names 'uot', which is no node", "Did you mean 'out'?"),
        ([("in", "a"), ("in", "a"), ("a", "out")], "occurs 2 times", ""),
        ([("in", "a")], "no path to node 'out'", "Add its outgoing edge"),
        ([("a", "out")], "no path to node 'out'", "outgoing"),
        ([("in", "a"), ("a", "out"), ("out", "a")], "'out' has outgoing edges", ""),
        ([("in", "a"), ("a", "in"), ("a", "out")], "'in' has incoming edges", ""),
    ],
)
def test_wrong_edges_are_one_line(edges, problem, remedy):
    with refused(ModelError, "graph", problem, remedy=remedy):
        wired(["a"], edges)
