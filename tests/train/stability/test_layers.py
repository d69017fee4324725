"""Charge curves, bounds of parameters, and counts of unstable rows of layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lnm_codegen as lnm
from lnm_codegen.analysis.charge import parameter_bounds
from lnm_codegen.cli import run as command
from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.parameters import parameter_sets
from lnm_codegen.train import (
    certificate,
    charge_curve,
    clamp_parameters,
    curves_figure,
    load_run,
    project,
    run,
    slope_penalty,
)
from lnm_codegen.train.figure import run_figure
from lnm_codegen.train.models.convolutional import ConvNet
from lnm_codegen.train.runs.saved import learned_parameters
from lnm_codegen.train.stability.layers import Unstable, count_unstable, learned_text, unstable_text
from tests.refusals import refused
from tests.train.small import ROWS, metrics

Z = torch.linspace(-2, 1, 7)
THETA = torch.tensor([0.1, 0.5, -0.25])
F = THETA[0] + THETA[1] * Z + THETA[2] * Z**2


def layer_of(family: str, **arguments: Any) -> NeuronLayer:
    return NeuronLayer(lnm.get(family, **arguments), channels=2, shape=(2, 3), backend="torch")


def test_curves() -> None:
    """Of each form and granularity, a line, v where another state is first, and a clamp."""
    for form, curve in (("A", F), ("B", F), ("C", Z + F)):
        layer = layer_of("lnm", degree=2, form=form, theta=THETA.tolist())
        assert torch.allclose(charge_curve(layer, Z), curve.unsqueeze(1), atol=1e-6)
    lif = layer_of("lif", tau=2.0, decay_input=False)
    assert torch.allclose(charge_curve(lif, Z), 0.5 * Z.unsqueeze(1))
    assert torch.allclose(charge_curve(layer_of("cuba_lif"), Z), 0.75 * Z.unsqueeze(1))
    for per, axes in (("channel", (2,)), ("neuron", (2, 3))):
        layer = layer_of("lnm", degree=1, per=per)
        with torch.no_grad():
            layer.theta[..., 1] = torch.rand(axes)
        want = Z.unsqueeze(1) * layer.theta[..., 1].flatten()
        assert torch.allclose(charge_curve(layer, Z), want)
    for start in (0.25, -0.5):  # a second state stays there
        v, u, x = lnm.state("v"), lnm.state("u", init=start), lnm.input("x")
        neuron = lnm.Neuron(charge={v: v / 2 + v**2 / 4 - u + x, u: u / 2 + v}, fire=v - 1)
        curve = charge_curve(NeuronLayer(neuron, backend="torch"), Z)
        assert torch.allclose(curve, (Z / 2 + Z**2 / 4 - start).unsqueeze(1))
    layer = layer_of("lnm", degree=1, theta=[0.0, 2.0], v_min=-1.0)  # 2*z is -1 at z = -1/2
    curve = charge_curve(layer, Z)
    assert torch.allclose(curve, (2 * Z).clamp(min=-1).unsqueeze(1))
    curve.sum().backward()
    assert float(layer.theta.grad[1]) == pytest.approx(float(Z[2 * Z >= -1].sum()))


def test_potentials_and_neurons_that_are_refused() -> None:
    """Integers once made integers of the parameters, and a curve that was 0 everywhere."""
    given: tuple[Any, ...] = (torch.arange(3), torch.zeros(2, 3), torch.zeros(()), [0.0, 1.0])
    for z in given:
        with refused(ShapeError, "charge_curve", "z is ", "a tensor (P,) of floating point"):
            charge_curve(layer_of("lnm"), z)
    x = lnm.input("x")
    layer = NeuronLayer(lnm.Neuron(fire=x - 1.0, name="threshold"), backend="torch")
    with refused(UnsupportedError, "threshold", "no state"):
        charge_curve(layer, Z)


def test_a_layer_without_values_is_refused() -> None:
    layer = NeuronLayer(lnm.get("lnm", degree=2, per="channel"), backend="torch")
    uses: tuple[Callable[[], object], ...] = (
        lambda: charge_curve(layer, Z), lambda: certificate(layer, 0.5),
        lambda: slope_penalty(layer), lambda: project(layer, 0.5), lambda: parameter_sets(layer),
    )  # fmt: skip
    for use in uses:
        with refused(ModelError, "lnm", "'theta' of the layer is lazy", remedy="Give channels="):
            use()
    layer(torch.zeros(1, 1, 3))
    for use in uses:
        use()


def test_learned_text() -> None:
    assert learned_text(layer_of("lif")) == "nothing to learn"
    layer = layer_of("lnm", degree=1, per="channel")
    with torch.no_grad():
        layer.theta[0, 1] = 1.5
    assert learned_text(layer) == "theta = (0 ± 0, 1 ± 0.71)"
    assert learned_text(layer_of("plif", tau=4.0)) == "w = -1.1"


def test_figure_has_a_row_per_network_and_a_column_per_layer() -> None:
    network = {
        name: ConvNet(lnm.get("lnm", degree=2), 10, (1, 8, 8), channels)
        for name, channels in (("one", (2,)), ("two", (2, 3)))
    }
    axes = curves_figure(network).axes
    assert [a.get_title() for a in axes] == [
        "one, layer 1\ntheta = (0, 0.5, 0)",
        "",
        "two, layer 1\ntheta = (0, 0.5, 0)",
        "two, layer 2\ntheta = (0, 0.5, 0)",
    ]


def test_a_figure_follows_the_scale_of_the_neuron() -> None:
    """In mV the curve spans rest to threshold; the default v_min of -2 is not its lower end."""
    neuron = lnm.get("lif", v_reset=-65.0, v_threshold=-50.0)
    axis = curves_figure({"run": ConvNet(neuron, 10, (1, 8, 8), (2,))}, -2.0).axes[0]
    assert axis.get_xlim() == (-95, -50)
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["diagonal, h = v", "this layer", "threshold"]
    network = ConvNet(lnm.get("cuba_lif"), 10, (1, 8, 8), (2,))  # several states show poles
    axis = curves_figure({"run": network}).axes[0]
    assert axis.get_xlabel() == "real part of the eigenvalue"
    assert "real poles" in [text.get_text() for text in axis.get_legend().get_texts()]


def test_a_run_shows_the_history_of_any_learned_parameter() -> None:
    """brf learns omega and b_offset; the line is the median, the band 10 to 90 % of the rows."""
    network = ConvNet(lnm.get("brf", per="channel"), 10, (1, 8, 8), (11, 2))
    history = {
        f"{k}.{name}": torch.arange(3.0)[:, None] + torch.linspace(0, 1, value.numel())
        for k, layer in enumerate(network.neurons)
        for name, value in layer.named_parameters()
    }
    figure = run_figure("run", network, history)
    curves, below = figure.axes[:2], figure.axes[2:]
    assert [a.get_title().partition("\n")[0] for a in curves] == ["run, layer 1", "run, layer 2"]
    assert [a.get_ylabel() for a in below] == ["omega", "omega", "b_offset", "b_offset"]
    (line,), (band,) = below[0].lines, below[0].collections
    assert list(line.get_ydata()) == pytest.approx([0.5, 1.5, 2.5])
    ends = band.get_paths()[0].get_extents()
    assert (ends.y0, ends.y1) == pytest.approx((0.1, 2.9))
    del history["1.b_offset"]  # a layer may lack a parameter
    below = run_figure("run", network, history).axes[2:]
    assert [axis.axison for axis in below] == [True, True, True, False]


def test_a_run_draws_six_parameters_at_most_and_none_that_is_not_learned() -> None:
    network = ConvNet(lnm.get("glif"), 10, (1, 8, 8), (2,))
    figure = run_figure("run", network, learned_history(network))
    assert len(figure.axes) == 1 + 6
    fixed = ConvNet(lnm.get("lif"), 10, (1, 8, 8), (2,))
    assert len(run_figure("run", fixed, learned_history(fixed)).axes) == 1


def learned_history(network: ConvNet) -> dict[str, torch.Tensor]:
    found = learned_parameters(network)
    return {name: torch.stack([value, value]) for name, value in found.items()}


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


TWO = """
name = "two"
inputs = ["x"]
fire = "v - 1"
[states.v]
[states.w]
[params.a]
init = {init}
per = "channel"
[charge]
v = "a*v + x"
w = "v"
[reset]
v = "where(spike, 0, v)"
"""


def of(init: float, tmp_path: Path) -> Path:
    path = tmp_path / "two.toml"
    path.write_text(TWO.format(init=init))
    return path


def test_rows_are_counted_by_class(tmp_path: Path) -> None:
    """From -0.5, a = 1.2 falls for ever; a = -1.5 rises to the threshold, and is reset to 0."""
    layer = NeuronLayer(lnm.load(of(0.5, tmp_path)), channels=3)
    with torch.no_grad():
        layer.a.copy_(torch.tensor([0.5, 1.2, -1.5]))
    counts = count_unstable(layer)
    assert counts == Unstable(rows=3, diverging=1, reset=1)
    assert unstable_text([counts]) == (
        "1 of 3 rows is diverging and 1 unstable but reset, in free runs without input"
    )
    assert unstable_text([Unstable(3, 0, 2)]) == unstable_text([]) == ""
    assert count_unstable(NeuronLayer(lnm.get("plif"))) == Unstable()


def test_rows_of_four_states_are_counted() -> None:
    names = "vwpq"
    states = [lnm.state(n) for n in names]
    rates = [lnm.param(f"rate_{n}", init=0.1, per="channel") for n in names]
    x = lnm.input("x")
    charge = {s: s - r * (s - 0.1 * states[0]) for s, r in zip(states, rates, strict=True)}
    charge[states[0]] += x
    neuron = lnm.Neuron(charge=charge, fire=states[0] - 1, reset=lnm.hard_reset(states[0], 0.0))
    layer = NeuronLayer(neuron, channels=128)
    with torch.no_grad():
        layer.rate_w[:76] = -0.2
    assert count_unstable(layer) == Unstable(rows=128, diverging=76)


@pytest.mark.parametrize(
    ("init", "diverging"), [(1.2, 4), pytest.param(0.5, 0, marks=pytest.mark.slow)]
)
def test_a_run_ends_with_the_diverging_rows(
    init: float, diverging: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They stand in the last row of metrics.csv and, if there are any, in a line."""
    out = tmp_path / "out"
    options = ["--network", "feedforward", "--net", "hidden=4", "--limit", "64", "--epochs", "2"]
    options += ["--backend", "torch", "--train", "lr_neuron=1e-6", "--out", str(out)]
    assert command(["train", "--family", str(of(init, tmp_path)), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = [line for line in lines if "diverging" in line]
    text = f"4 of 4 rows are diverging, in free runs without input; see lnm analyze {out}"
    assert found == ([text] if diverging else [])
    assert [row["diverging_1"] for row in metrics(out)] == ["", str(diverging)]
    assert load_run(out).config.epochs == 2
    assert command(["train", "--resume", "--out", str(out)]) == 0  # the epochs of the checkpoint
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "diverging" in line] == found
    result = run(replace(ROWS, family="plif"), tmp_path / "one")  # a layer of one state
    assert result.epochs[-1].unstable == (Unstable(),)
    assert "diverging" not in (tmp_path / "one" / "metrics.csv").read_text()
