"""Charge curves against the neuron's own equation at x = 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.parameters import parameter_sets
from lnm_codegen.train import certificate, charge_curve, curves_figure, project, slope_penalty
from lnm_codegen.train.figure import run_figure
from lnm_codegen.train.models.convolutional import ConvNet
from lnm_codegen.train.runs.saved import learned_parameters
from lnm_codegen.train.stability.layers import learned_text
from tests.refusals import refused

Z = torch.linspace(-2, 1, 7)
THETA = torch.tensor([0.1, 0.5, -0.25])
F = THETA[0] + THETA[1] * Z + THETA[2] * Z**2


def layer_of(family: str, **arguments: Any) -> NeuronLayer:
    return NeuronLayer(lnm.get(family, **arguments), channels=2, shape=(2, 3), backend="torch")


@pytest.mark.parametrize(("form", "curve"), [("A", F), ("B", F), ("C", Z + F)])
def test_curve_of_each_form(form: str, curve: torch.Tensor) -> None:
    layer = layer_of("lnm", degree=2, form=form, theta=THETA.tolist())
    assert torch.allclose(charge_curve(layer, Z), curve.unsqueeze(1), atol=1e-6)


def test_lif_is_the_line_of_its_decay() -> None:
    layer = layer_of("lif", tau=2.0, decay_input=False)
    assert torch.allclose(charge_curve(layer, Z), 0.5 * Z.unsqueeze(1))


@pytest.mark.parametrize(("per", "axes"), [("channel", (2,)), ("neuron", (2, 3))])
def test_a_curve_per_parameter_set(per: str, axes: tuple[int, ...]) -> None:
    layer = layer_of("lnm", degree=1, per=per)
    with torch.no_grad():
        layer.theta[..., 1] = torch.rand(axes)
    want = Z.unsqueeze(1) * layer.theta[..., 1].flatten()
    assert torch.allclose(charge_curve(layer, Z), want)


@pytest.mark.parametrize("start", [0.25, -0.5])
def test_a_second_state_stays_at_its_start(start: float) -> None:
    v, u, x = lnm.state("v"), lnm.state("u", init=start), lnm.input("x")
    neuron = lnm.Neuron(charge={v: v / 2 + v**2 / 4 - u + x, u: u / 2 + v}, fire=v - 1)
    curve = charge_curve(NeuronLayer(neuron, backend="torch"), Z)
    assert torch.allclose(curve, (Z / 2 + Z**2 / 4 - start).unsqueeze(1))


def test_a_neuron_without_state_has_no_curve() -> None:
    x = lnm.input("x")
    layer = NeuronLayer(lnm.Neuron(fire=x - 1.0, name="threshold"), backend="torch")
    with refused(UnsupportedError, "threshold", "no state"):
        charge_curve(layer, Z)


@pytest.mark.parametrize("z", [torch.arange(3), torch.zeros(2, 3), torch.zeros(()), [0.0, 1.0]])
def test_potentials_that_are_refused(z: Any) -> None:
    """Integers once made integers of the parameters, and a curve that was 0 everywhere."""
    with refused(ShapeError, "charge_curve", "z is ", "a tensor (P,) of floating point"):
        charge_curve(layer_of("lnm"), z)


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


def test_the_potential_is_the_state_named_v() -> None:
    """cuba_lif declares its current first: the curve is that of v, 0.75*v."""
    curve = charge_curve(layer_of("cuba_lif"), Z)
    assert torch.allclose(curve, 0.75 * Z.unsqueeze(1))


def test_a_clamp_is_part_of_the_curve_and_a_gradient_goes_through() -> None:
    """v_min = -1 cuts 2*z off below z = -1/2; d curve/d theta_1 is z above, 0 below."""
    layer = layer_of("lnm", degree=1, theta=[0.0, 2.0], v_min=-1.0)
    curve = charge_curve(layer, Z)
    assert torch.allclose(curve, (2 * Z).clamp(min=-1).unsqueeze(1))
    curve.sum().backward()
    assert float(layer.theta.grad[1]) == pytest.approx(float(Z[2 * Z >= -1].sum()))


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


def test_a_figure_of_several_states_shows_poles() -> None:
    network = ConvNet(lnm.get("cuba_lif"), 10, (1, 8, 8), (2,))
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


def test_a_run_draws_six_parameters_at_most_and_none_that_is_not_learned() -> None:
    network = ConvNet(lnm.get("glif"), 10, (1, 8, 8), (2,))
    figure = run_figure("run", network, learned_history(network))
    assert len(figure.axes) == 1 + 6
    fixed = ConvNet(lnm.get("lif"), 10, (1, 8, 8), (2,))
    assert len(run_figure("run", fixed, learned_history(fixed)).axes) == 1


def learned_history(network: ConvNet) -> dict[str, torch.Tensor]:
    found = learned_parameters(network)
    return {name: torch.stack([value, value]) for name, value in found.items()}
