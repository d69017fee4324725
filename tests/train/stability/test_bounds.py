"""Bounds of learned parameters, from the clamps that read them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import lnm_codegen as lnm
from lnm_codegen.analysis.charge import parameter_bounds
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train import clamp_parameters, run
from tests.refusals import refused
from tests.train.small import ROWS

INF = math.inf


def neuron_with(factor: Any, **start: Any) -> lnm.Neuron:
    """Return a neuron of one learned parameter, w; `factor` gives its role in the charge."""
    w = lnm.param("w", init=0.5, per="channel")
    v, x = lnm.state("v", **{k: w for k in start}), lnm.input("x")
    return lnm.Neuron(charge={v: factor(w) * v + x}, fire=v - 1, reset=lnm.hard_reset(v, 0.0))


CLAMPS: dict[str, tuple[Any, dict[str, tuple[float, float]]]] = {
    "clip": (lambda w: lnm.clip(w, 0, 1), {"w": (0, 1)}),
    "max": (lambda w: lnm.max(w, 0.25), {"w": (0.25, INF)}),
    "max, the other way": (lambda w: lnm.max(0.25, w), {}),
    "min": (lambda w: lnm.min(w, 3), {"w": (-INF, 3)}),
    "both": (lambda w: lnm.min(lnm.max(w, 0), 1), {"w": (0, 1)}),
    "where": (lambda w: lnm.where(w > 2, 2, w), {"w": (-INF, 2)}),
    "where <": (lambda w: lnm.where(w < 2, w, 2), {}),
    "where <=": (lambda w: lnm.where(w <= 2, w, 2), {"w": (-INF, 2)}),
    "nested": (lambda w: lnm.max(lnm.max(w, 0), 1), {"w": (1, INF)}),
    "two clamps": (lambda w: lnm.clip(w, 0, 1) + lnm.clip(w, -1, 0.5), {"w": (-1, 1)}),
    "inside": (lambda w: lnm.exp(-1 / lnm.max(w, 1)), {"w": (1, INF)}),
    "also alone": (lambda w: lnm.clip(w, 0, 1) + w, {}),
    "another value": (lambda w: lnm.where(w > 2, 0, w), {}),
    "scaled": (lambda w: lnm.clip(2 * w, 0, 1), {}),
    "without": (lambda w: w, {}),
}  # fmt: skip


def test_bounds_are_those_of_the_clamps() -> None:
    """An initial value has no clamp."""
    for case, (factor, expected) in CLAMPS.items():
        assert parameter_bounds(neuron_with(factor)) == expected, case
    assert parameter_bounds(neuron_with(CLAMPS["clip"][0], init=True)) == {}
    assert parameter_bounds(lnm.get("adlif", tau_v=4.0)) == {
        "tau_v": (1, INF), "tau_w": (1, INF), "a": (0, 1), "b": (0, 2),
    }  # fmt: skip
    assert parameter_bounds(lnm.get("adlif", learnable=False)) == {}
    assert parameter_bounds(lnm.get("alif")) == {"tau_m": (1, INF), "tau_adp": (1, INF)}
    assert parameter_bounds(lnm.get("lnm", degree=3)) == {}


def test_a_bound_has_a_gradient_and_the_same_output() -> None:
    """Outside the gradient is 0. Most values of a and b once left their range, for good."""
    layer = NeuronLayer(lnm.get("adlif", per="channel", q=4.0), channels=4, backend="torch")
    with torch.no_grad():
        layer.a.copy_(torch.tensor([-0.5, 0.5, 1.5, 0.5]))
        layer.b.copy_(torch.tensor([-0.5, 2.5, 1.0, 1.0]))
        layer.tau_v.copy_(torch.tensor([10.0, 10.0, 10.0, -2.0]))
    torch.manual_seed(0)
    x = 3 * torch.rand(30, 8, 4) + 1
    before = layer(x)
    before.sum().backward()
    outside = [layer.a.grad[0], layer.a.grad[2], *layer.b.grad[:2], layer.tau_v.grad[3]]
    assert not any(outside)
    layer.zero_grad()
    clamp_parameters(nn.Sequential(layer))
    assert layer.a.tolist() == [0.0, 0.5, 1.0, 0.5]
    assert layer.b.tolist() == [0.0, 2.0, 1.0, 1.0]
    assert layer.tau_v.tolist() == [10.0, 10.0, 10.0, 1.0]
    after = layer(x)
    after.sum().backward()
    assert torch.equal(after, before)
    assert layer.a.grad.all()
    assert layer.b.grad.all()
    assert layer.tau_v.grad.all()


@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
def test_elements_of_a_vector_have_their_own_bounds(per: Any) -> None:
    """They once stayed outside, without a gradient; the third element is read without a clamp."""
    w = lnm.param("w", size=3, init=(0.5, 0.5, 0.5), per=per)
    v, x = lnm.state("v"), lnm.input("x")
    h = lnm.clip(w[0], 0, 1) * v + lnm.max(w[1], 0.25) * x + w[2]
    neuron = lnm.Neuron(charge={v: h}, fire=v - 1, reset=lnm.hard_reset(v, 0.0))
    assert parameter_bounds(neuron) == {"w_0": (0, 1), "w_1": (0.25, INF)}
    layer = NeuronLayer(neuron, channels=2, shape=(2, 2), backend="torch")
    with torch.no_grad():
        layer.w.copy_(torch.tensor([1.5, -0.5, 7.0]).expand_as(layer.w))
    clamp_parameters(layer)
    assert torch.equal(layer.w, torch.tensor([1.0, 0.25, 7.0]).expand_as(layer.w))
    layer(torch.ones(2, 1, 2, 2)).sum().backward()
    assert layer.w.grad[..., 1].any()


def test_a_frozen_parameter_stays() -> None:
    layer = NeuronLayer(lnm.get("adlif"), backend="torch")
    layer.a.requires_grad_(False).fill_(2.0)
    clamp_parameters(layer)
    assert layer.a == 2
    with refused(lnm.ModelError, "clamp_parameters", "module is 3"):
        clamp_parameters(3)  # type: ignore[arg-type]


def test_training_keeps_parameters_in_their_bounds() -> None:
    adlif = {"family": "adlif", "arguments": {"per": "channel"}, "lr_neuron": 1.0}
    config = replace(ROWS, network_arguments={"hidden": (8,)}, limit=64, batch=8, **adlif)
    (layer,) = run(config).network.neurons
    for name, (low, high) in parameter_bounds(layer.neuron).items():
        value = getattr(layer, name)
        assert (value >= low).all()
        assert (value <= high).all()
    assert any((layer.a == end).any() for end in (0, 1))
