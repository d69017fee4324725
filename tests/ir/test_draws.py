"""Public random initial values: the draws of the built-in families, by name."""

from __future__ import annotations

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.errors import ModelError
from tests.refusals import refused


def test_uniform_is_the_draw_of_a_range() -> None:
    """It equals the draw of a family's range, so that text definitions can write it."""
    v, x = lnm.state("v"), lnm.input("x")
    w = lnm.param("w", init=0.5, per="channel", draw=lnm.uniform(-1, 3))
    neuron = lnm.Neuron(charge={v: v / 2 + w * x}, fire=v - 1)
    drawn = lnm.nn.NeuronLayer(neuron, channels=1000, backend="torch").w
    assert -1 <= drawn.min() < -0.9
    assert 2.9 < drawn.max() <= 3
    assert 'draw = {kind = "uniform", low = -1.0, high = 3.0}' in neuron.to_toml()
    rf = lnm.get("rf", omega=(5.0, 10.0))
    assert next(p.draw for p in rf.params if p.name == "omega") == lnm.uniform(5, 10)


@pytest.mark.parametrize("kind", ["free", "pole"])
def test_two_states_are_drawn_by_public_names(kind: str) -> None:
    """Both parameters of `lnm` with two states, from one joint draw."""
    neuron = lnm.get(
        "lnm", states=2, degree=1, parametrisation=kind, radius=(0.2, 0.4), angle=(0.1, 0.3)
    )
    found = tuple(p.draw for p in neuron.params if p.draw is not None)
    if kind == "pole":
        assert found == lnm.pole_pair((0.2, 0.4), (0.1, 0.3))
    else:
        assert found == lnm.pole_matrix(2, 0, [0.2, 0.4], (0.1, 0.3))


def test_leak_is_the_initial_theta_of_a_spread_decay() -> None:
    """One decay for each set, in the coefficient of v."""
    neuron = lnm.get("lnm", degree=2, decay=0.5, decay_spread=1.0)
    init = next(p.init for p in neuron.params if p.name == "theta")
    assert init == lnm.leak(init.mean, init.spread, init.shift, init.ends)
    theta = lnm.leak(0, 1)(torch.default_generator, (100, 4))
    assert theta[:, [0, 2, 3]].abs().max() == 0
    assert theta[:, 1].unique().numel() == 100
    assert ((theta[:, 1] > 0) & (theta[:, 1] < 1)).all()


PAIR = "two finite numbers, the smaller one first"
REFUSED = [
    *((lambda e=ends: lnm.uniform(*e), "uniform", "(low, high) is", PAIR)
      for ends in ((1, 0), (0, float("inf")), ("a", 1), (True, 2), (float("nan"), 1))),
    (lambda: lnm.pole_pair(radius=(0.5, 1.0)), "pole_pair", "radius", "numbers between 0 and 1"),
    (lambda: lnm.pole_pair(angle=1), "pole_pair", "angle is 1", PAIR),
    (lambda: lnm.pole_matrix(3, radius=(-0.5, 0.5)), "pole_matrix", "radius", ">= 0"),
    (lambda: lnm.pole_matrix(3, 2), "pole_matrix", "first of draw is 2", "0 to size - 2"),
    (lambda: lnm.pole_matrix(1), "pole_matrix", "size is 1"),
    (lambda: lnm.leak(0, 0), "leak", "spread is 0"),
    (lambda: lnm.leak(0, 1, ends="ab"), "leak", "ends is 'ab'"),
    (lambda: lnm.param("w", draw=(0, 1)), "parameter 'w'", "draw is", "lnm.uniform(low, high)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "parts"), [(call, parts) for call, *parts in REFUSED])
def test_refusals(call, parts) -> None:
    """Each names its function and its argument."""
    with refused(ModelError, *parts):
        call()
