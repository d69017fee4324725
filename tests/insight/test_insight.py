"""What is seen and told of a trained network's layers, against plain loops."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from torch import Tensor, nn

import lnm_codegen as lnm
from lnm_codegen.analysis.linear.threshold import ThresholdGradient
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.insight import LayerAnalysis, RunAnalysis, analyze, analyze_run
from lnm_codegen.insight.analysis import samples_of
from lnm_codegen.insight.figures import _classes_text, draw_layer, grid_figure, panels
from lnm_codegen.insight.layer import RESPONSE_STEPS, RowDynamics, dynamics, probe, response
from lnm_codegen.insight.page import run_page
from lnm_codegen.insight.record import BINS, Activity, Histogram, by_row, record
from lnm_codegen.insight.tables import as_dict, certificate_line, layers_table
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.parameters import parameter_sets
from lnm_codegen.plot.axes import STATE_COLORS
from lnm_codegen.train import TrainConfig, load, load_run, run
from lnm_codegen.train.figure import draw_history
from lnm_codegen.train.models import build
from lnm_codegen.train.stability.projection import Certificate
from tests.refusals import refused

SMALL = TrainConfig(
    arguments={"degree": 2, "per": "channel"}, epochs=1, batch=16, limit=24, backend="torch",
    network_arguments={"channels": (3, 4), "time_steps": 2}, threads=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("insight") / "run"
    run(SMALL, path, data=load("digits", limit=24))
    return path


@pytest.fixture(scope="module")
def some(folder: Path) -> RunAnalysis:
    """The analysis on some samples and rows."""
    return analyze_run(load_run(folder), limit=16, rows=2)


@pytest.fixture(scope="module")
def found_lif(tmp_path_factory: pytest.TempPathFactory) -> RunAnalysis:
    """A run of one LIF layer."""
    path = tmp_path_factory.mktemp("lif") / "run"
    config = replace(
        SMALL, family="lif", arguments={}, network="feedforward", network_arguments={"hidden": (4,)}
    )
    run(config, path, data=load("digits", limit=24))
    return analyze_run(load_run(path), limit=4)


@settings(deadline=None, max_examples=30)
@given(
    parts=st.lists(
        st.lists(st.floats(-900, 900, width=32, allow_subnormal=False), min_size=1, max_size=20),
        min_size=1,
        max_size=5,
    )
)
def test_a_histogram_of_a_stream_is_that_of_the_whole(parts: list[list[float]]) -> None:
    """Doubling the interval keeps every count in the bin it belongs to."""
    found = Histogram()
    for part in parts:
        found.add(torch.tensor(part))
    values = torch.tensor([v for part in parts for v in part]).double()
    place = (values * BINS / (2 * found.width)).floor().long() + BINS // 2
    assert torch.equal(found.counts, torch.bincount(place, minlength=BINS))
    edges, counts = found.trimmed()
    assert sum(counts) == len(values)
    assert edges[0] <= float(values.min())
    assert float(values.max()) <= edges[-1]
    found.add(torch.tensor([float("nan"), float("inf")]))
    assert found.lost == 2
    assert int(found.counts.sum()) == len(values)


def seen_of(layer: NeuronLayer, x: Tensor) -> Activity:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x)
            return out.flatten(2).mean(0)

    (seen,) = record(One(), (layer,), [(x, torch.zeros(x.shape[1], dtype=torch.long))]).layers
    assert seen is not None
    return seen


@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
@pytest.mark.parametrize("v_reset", [0.0, None])
def test_what_is_seen_is_what_a_loop_sees(per: Any, v_reset: float | None) -> None:
    """Charged potentials, those after the reset by row, inputs, and each neuron's spikes."""
    torch.manual_seed(1)
    neuron = lnm.get("lnm", degree=2, per=per, v_reset=v_reset, v_min=-1.5)
    layer = NeuronLayer(neuron, channels=3, shape=(3, 2), backend="torch")
    with torch.no_grad():
        layer.theta += 0.2 * torch.randn(layer.theta.shape)
    x = torch.randn(7, 5, 3, 2)
    theta = parameter_sets(layer).values["theta"].reshape({"layer": (1, 1), "channel": (3, 1),
                                                    "neuron": (3, 2)}[per] + (3,))  # fmt: skip
    v, charged, after, fired = torch.zeros(5, 3, 2), [], [], torch.zeros(3, 2)
    for now in x:
        h = theta[..., 0] + theta[..., 1] * v + theta[..., 2] * v**2 + now
        h = torch.where(h < -1.5, -1.5, h)
        spike = (h >= 1).float()
        v = h - spike if v_reset is None else torch.where(spike > 0, 0.0, h)
        charged.append(h)
        after.append(v)
        fired += spike.sum(0)
    seen = seen_of(layer, x)
    assert seen.shape == (3, 2)
    assert seen.steps == 7
    assert seen.input == (float(x.min()), float(x.max()))
    assert torch.allclose(seen.fired.float(), fired / 35)
    states = torch.stack(after)
    ends = {"layer": (0, 1, 2, 3), "channel": (0, 1, 3), "neuron": (0, 1)}[per]
    assert torch.allclose(seen.visited[:, 0], states.amin(ends).flatten(), atol=1e-5)
    assert torch.allclose(seen.visited[:, 1], states.amax(ends).flatten(), atol=1e-5)
    edges, counts = seen.charged.trimmed()
    assert sum(counts) == x.numel()
    expected, _ = np.histogram(torch.stack(charged).numpy(), edges)
    assert abs(expected - np.array(counts)).sum() <= 4  # a value on an edge may fall either way


def test_rows_mix_granularities() -> None:
    """A parameter per layer and one per channel spread over one per neuron; a row is its own."""
    neuron = lnm.get("lnm", degree=1, per={"theta": "neuron", "v_threshold": "channel"},
                     learn_threshold=True)  # fmt: skip
    layer = NeuronLayer(neuron, shape=(2, 3))
    with torch.no_grad():
        layer.theta.copy_(torch.arange(12.0).reshape(2, 3, 2))
        layer.v_threshold.copy_(torch.tensor([5.0, 7.0]))
    rows = parameter_sets(layer)
    assert (len(rows), rows.per, rows.place(4)) == (6, "neuron", "neuron (1, 1)")
    assert rows.of(4) == {"theta": [8.0, 9.0], "v_threshold": 7.0}
    made = probe(neuron, rows, [4, 0])
    assert torch.equal(made.theta, torch.tensor([[8.0, 9.0], [0.0, 1.0]]))
    assert rows.evenly_spaced_indices(3) == [0, 2, 5]
    x = torch.arange(24.0).reshape(2, 2, 2, 3)
    assert torch.equal(by_row(x, rows)[4], x[:, :, 1, 1].flatten())
    assert parameter_sets(NeuronLayer(lnm.get("lif"))).place(0) == "layer"


def test_the_response_is_that_of_a_loop() -> None:
    """LIF, h = v/2 + x, hard reset: no spikes up to x = 1/2; at x >= 1 one at every step."""
    layer = NeuronLayer(lnm.get("lif", decay_input=False))
    found = response(layer, parameter_sets(layer), [0], (-1.0, 2.0))
    for x, rate in zip(found.currents.tolist(), found.rates[:, 0].tolist(), strict=True):
        v, fired = 0.0, 0
        for _ in range(RESPONSE_STEPS):
            v = v / 2 + x
            fired += v >= 1
            v = 0.0 if v >= 1 else v
        if min(abs(x - edge) for edge in (0.5, 1.0)) > 1e-2:
            assert rate == fired / RESPONSE_STEPS
        if x >= 1:
            assert rate == 1


def test_dynamics_of_rows_are_their_own() -> None:
    """Three channels, three classes; the interval begins at what was visited and ends at V."""
    neuron = lnm.get("lnm", degree=3, per="channel")
    layer = NeuronLayer(neuron, channels=3)
    with torch.no_grad():
        layer.theta.copy_(torch.tensor([[0, 0.5, 0.8, 0], [0, 0.5, 0, 0], [0, -0.5, 0, 0]]))
    visited = torch.tensor([[-0.5, 0.9], [-1.0, 0.5], [0.2, 0.6]])
    seen = Activity((3,), 1, (-1.0, 1.0), Histogram(), visited, {"v": visited}, torch.zeros(3))
    found = dynamics(layer, parameter_sets(layer), [0, 1, 2], seen)
    assert not isinstance(found, str)
    assert [row.label for row in found] == ["quadratic-like", "leaky", "oscillating"]
    assert [row.interval for row in found] == [(-0.5, 1.0), (-1.0, 1.0), (0.0, 1.0)]
    assert [round(p.v, 4) for p in found[0].points] == [0, 0.625]
    assert found[1].slopes == pytest.approx((0.5, 0.5))
    assert found[0].slopes == pytest.approx((-0.3, 2.1), abs=0.02)


def test_a_class_depends_on_the_threshold_not_on_its_spelling() -> None:
    """f crosses the diagonal at .625; a wider interval than [.., .5] holds this unstable point."""
    v, x, vth = lnm.state("v"), lnm.input("x"), lnm.param("vth", init=0.5, learnable=False)
    charge = {v: 0.5 * v + 0.8 * v**2 + x}
    visited = torch.tensor([[-0.5, 0.9]])
    seen = Activity((3,), 1, (-1.0, 1.0), Histogram(), visited, {"v": visited}, torch.zeros(3))
    for fire in (v - 0.5, v - vth, 2 * v - 1):
        layer = NeuronLayer(lnm.Neuron(charge=charge, fire=fire, reset=lnm.hard_reset(v, 0)))
        found = dynamics(layer, parameter_sets(layer), [0], seen)
        assert not isinstance(found, str)
        assert (found[0].interval, found[0].label) == ((-0.5, 0.5), "leaky")


def row_of(theta: tuple[float, ...], v_min: float | None, low: float) -> RowDynamics:
    """Return the dynamics of a layer of one row whose least visited potential is `low`."""
    layer = NeuronLayer(lnm.get("lnm", degree=3, theta=theta, v_min=v_min))
    visited = torch.tensor([[low, 0.9]])
    seen = Activity((3,), 1, (-1.0, 1.0), Histogram(), visited, {"v": visited}, torch.zeros(3))
    found = dynamics(layer, parameter_sets(layer), [0], seen)
    assert not isinstance(found, str)
    return found[0]


@pytest.mark.parametrize("v_min", [-2.0, -2.1, -1.2, -0.1])
def test_a_clamp_that_float32_rounds_is_the_end_of_the_interval(v_min: float) -> None:
    """float32(-2.1) lies above -2.1, float32(-1.2) below -1.2; the layer visits the rounded one."""
    found = row_of((-0.3, 1.6, 0.0, 0.0), v_min, v_min)
    assert found.label == "quadratic-like"
    assert found.interval == (v_min, 1.0)
    assert found.slopes == pytest.approx((1.6, 1.6))
    assert row_of((-0.3, 1.2, 0.0, 0.0), v_min, v_min).label == "other"  # it falls to the clamp


@pytest.mark.parametrize("low", [-1e5, -1e30, -float("inf"), float("nan")])
def test_a_neuron_that_diverged_has_a_class(low: float) -> None:
    """The interval is cut at -1e6; between samples that far apart, fixed points decide."""
    cut = low if low == -1e5 else -1e6
    stable = row_of((0.1, 0.2, 0.0, -0.9), None, low)
    assert (stable.label, stable.interval) == ("leaky", (cut, 1.0))
    assert all(math.isfinite(slope) for slope in stable.slopes)
    assert [p.kind for p in stable.points] == ["stable"]
    assert row_of((0.3, 1.0, 0.0, 0.9), None, low).label == "self-exciting"


def test_the_panel_of_a_neuron_that_diverged_is_drawn(found_lif: RunAnalysis) -> None:
    """The shaded interval ends where the curve ends."""
    (layer,) = found_lif.layers
    assert layer.activity is not None
    visited = torch.tensor([[-float("inf"), float("inf")]])
    axis = Figure().subplots()
    draw_layer(axis, replace(layer, activity=replace(layer.activity, visited=visited)))
    (shaded,) = (p for p in axis.patches if p.get_label() == "visited")
    assert np.isfinite(shaded.get_window_extent().get_points()).all()


def test_what_cannot_be_told_is_said() -> None:
    """Several states, no polynomial, a reset without a spike: a sentence in place of classes."""
    for neuron, said in (
        (lnm.get("izhikevich"), "2 states"),
        (_exponential(), "not a polynomial"),
        (_halved(), "the reset changes 'v' without a spike"),
    ):
        layer = NeuronLayer(neuron, backend="torch")
        seen = seen_of(layer, 0.1 * torch.rand(3, 2, 4))
        found = dynamics(layer, parameter_sets(layer), [0], seen)
        assert isinstance(found, str)
        assert said in found


def _halved() -> lnm.Neuron:
    """The charge alone is an integrator; the reset halves the potential at each step."""
    v, x = lnm.state("v"), lnm.input("x")
    return lnm.Neuron(charge={v: v + x}, fire=v - 1, reset={v: lnm.where(lnm.spike, 0, v / 2)})


def _exponential() -> lnm.Neuron:
    v, x = lnm.state("v", init=0.0), lnm.input("x")
    return lnm.Neuron(
        charge={v: 0.5 * v + 0.1 * lnm.exp(v) + x}, fire=v - 1, reset=lnm.hard_reset(v, 0.0)
    )


def test_a_run_is_analyzed_whole(folder: Path) -> None:
    found = analyze_run(load_run(folder))
    assert found.samples == 24
    metrics = (folder / "metrics.csv").read_text().splitlines()
    last = dict(zip(metrics[0].split(","), metrics[-1].split(","), strict=True))
    assert found.accuracy == pytest.approx(float(last["test_accuracy"]))
    assert [layer.name for layer in found.layers] == ["blocks.0.neuron", "blocks.1.neuron"]
    for k, layer in enumerate(found.layers):
        assert layer.activity is not None
        assert float(layer.activity.fired.mean()) == pytest.approx(
            float(last[f"firing_rate_{k + 1}"]), rel=1e-5
        )
        assert sum(layer.classes.values()) == len(layer.rows) == (3, 4)[k]
        assert layer.history is not None
        assert layer.history["theta"].shape == (2, len(layer.rows), 3)
        assert not isinstance(layer.certificate, str)
        assert layer.certificate.holds  # the clamp is on
        assert layer.certificate.x_max == max(abs(end) for end in layer.activity.input)
        rate = next(n for n in found.energy.neurons if n.name == layer.name).rate
        assert rate == pytest.approx(float(layer.activity.fired.mean()))
    words = found.diversity.split()
    assert words[0] in ("One", *map(str, range(2, 8)))
    assert "class" in found.diversity


def test_a_network_of_ones_own_is_analyzed_as_that_of_a_run(folder: Path) -> None:
    """From an iterator too; only history and settings are those of a run."""
    loaded = load_run(folder)
    expected = analyze_run(loaded, limit=12, rows=1)
    found = analyze(loaded.network, samples_of(loaded, 12), rows=1)
    assert (found.samples, found.correct, found.predictions) == (12, expected.correct, 12)
    assert found.diversity == expected.diversity
    assert found.energy == expected.energy
    for own, its in zip(found.layers, expected.layers, strict=True):
        assert own.history is own.movement is None
        assert (own.name, own.classes, own.certificate) == (its.name, its.classes, its.certificate)
        assert own.activity is not None
        assert its.activity is not None
        assert torch.equal(own.activity.visited, its.activity.visited)
        assert len(panels(own)) == len(panels(its)) - 1  # the last is the history


class Halves(nn.Module):
    """A network that calls a layer twice for a sequence, (T, N, 3) -> logits (N, 3)."""

    def __init__(self, carry_state: bool) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5).eval()
        neuron = lnm.get("lif", tau=20.0, decay_input=False)
        self.layer = NeuronLayer(neuron, carry_state=carry_state, backend="torch")

    def forward(self, x: Tensor) -> Tensor:
        parts = (self.layer(part) for part in self.drop(x).split(4))
        return torch.cat([*parts]).mean(0)


def test_a_layer_that_carries_its_state_is_analyzed_so() -> None:
    """Its copy began each call anew, and no batch changes the next; modes stay."""
    x, labels = torch.full((8, 2, 3), 0.2), torch.zeros(2, dtype=torch.long)
    module = Halves(carry_state=True).train()
    module.drop.eval()
    found = analyze(module, [(x, labels), (x[:, :1], labels[:1])])
    assert (found.samples, found.layers[0].name) == (3, "layer")
    whole = analyze(Halves(carry_state=False), [(x[:4], labels)]).layers[0].activity
    seen = found.layers[0].activity
    assert seen is not None
    assert whole is not None
    assert float(whole.visited.max()) < float(seen.visited.max()) < 1
    assert float(seen.fired.mean()) == 1 / 8  # at step 6 of 8, in each batch
    assert found.energy.rate == 1 / 8
    assert (module.training, module.drop.training) == (True, False)


def test_other_subjects_of_an_analysis_are_refused(folder: Path) -> None:
    """In a line that names the other function; a Sequential had no attribute `network`."""
    module, x = nn.Sequential(nn.Linear(3, 2)), torch.zeros(4, 2, 3)
    pair = (x, torch.zeros(2, dtype=torch.long))
    remedy = "Use insight.analyze(module, batches)"
    with refused(ModelError, "analyze_run", "run is Sequential(", "load_run", remedy):
        analyze_run(module)  # type: ignore[arg-type]
    with refused(ModelError, "analyze", "module is Run(", "torch.nn.Module", "analyze_run("):
        analyze(load_run(folder), [pair])  # type: ignore[arg-type]
    with refused(ModelError, "analyze", "no NeuronLayer", "one or more"):
        analyze(module, [pair])
    module.append(NeuronLayer(lnm.get("lif"), backend="torch"))
    for batches, problem in ((x, "batches is tensor("), (7, "batches is 7"), ([x], "a Tensor")):
        with refused(ModelError, "analyze", problem, "pairs (x, labels) of tensors"):
            analyze(module, batches)  # type: ignore[arg-type]
    with refused(ModelError, "energy", "no samples"):
        analyze(module, [])
    module[1].arithmetic = lnm.Fixed(16, 12)
    with refused(UnsupportedError, "analyze", "layer '1' computes in integers"):
        analyze(module, [pair])


def test_one_class_is_said_to_be_one(folder: Path) -> None:
    """The text says so where the layers are all alike."""
    loaded = load_run(folder)
    with torch.no_grad():
        for layer in loaded.network.neurons:
            layer.theta.copy_(torch.tensor([0.0, 0.5, 0.0]))
    found = analyze_run(loaded, limit=10)
    assert found.samples == 10
    assert found.diversity == "One class of behaviour in 2 layers (7 rows): leaky."
    with torch.no_grad():
        loaded.network.neurons[1].theta.copy_(torch.tensor([0.0, -0.5, 0.0]))
    assert analyze_run(loaded, limit=10).diversity == (
        "2 classes of behaviour in 2 layers (leaky 3, oscillating 4 of 7 rows); the most"
        " frequent class differs between layers: leaky, oscillating."
    )


def test_the_page_has_every_layer(some: RunAnalysis) -> None:
    """Tables, figures, the equations, the energies and a clamp are in it."""
    found = some
    text = run_page(found, ("beside <another>",))
    assert text.startswith("<!DOCTYPE html>")
    assert text.count("<table>") == text.count("</table>") == 3 + 2 * len(found.layers)
    assert text.count("<svg ") == sum(len(panels(layer)) for layer in found.layers) == 10
    for word in ("blocks.1.neuron", "theta_0", "neuron operations", "beside &lt;another&gt;",
                 "2 of 4 rows are analysed, evenly spaced.",
                 "<tr><td>v_min</td><td>-2.0</td></tr>"):  # fmt: skip
        assert word in text
    assert "The table lists" not in text
    first = 'aria-label="Charged potential after a step without input, of 2 rows: '
    for word in (first, "shows the charged potential after a step"):
        assert word in text
    assert "eigenvalues" not in text
    assert grid_figure(found).axes[0].get_title().startswith("1: blocks.0.neuron\n")


def test_a_run_of_old_says_what_it_lacks(folder: Path, tmp_path: Path) -> None:
    """Without history.safetensors the rest is reported; a damaged file is refused."""
    old = load_run(folder)
    away = replace(old, folder=tmp_path)
    found = analyze_run(away, limit=4)
    assert found.layers[0].history is None
    said = "unavailable: the run has no history.safetensors"
    assert as_dict(found)["layers"][0]["history"] == said
    assert f"The history of the parameters is {said}." in run_page(found)
    (tmp_path / "history.safetensors").write_bytes(b"\x00")
    with pytest.raises(ModelError) as caught:
        analyze_run(away, limit=4)
    assert str(caught.value).startswith(f"run: {tmp_path}/history.safetensors: not a complete")
    with pytest.raises(ModelError) as caught:
        analyze_run(old, limit=0)
    assert str(caught.value) == "analyze: limit is 0. Accepted: an integer >= 1."


@pytest.mark.parametrize("family", ["alif", "cuba_lif", "lnm"])
def test_recurrent_networks_are_watched_on_whole_sequences(family: str) -> None:
    """The loop over time shows each layer its whole current, and the twin repeats its spikes."""
    torch.manual_seed(0)
    network = build("recurrent", lnm.get(family), (9, 3), 4, kind="sequence", backend="torch",
                    hidden=(6, 5), gain=3.0)  # fmt: skip
    kept: list[Tensor] = []
    network.neurons[1].register_forward_hook(lambda _m, _i, out: kept.append(out))
    x = 2 * torch.rand(9, 2, 3)
    found = record(network.eval(), network.neurons, [(x, torch.zeros(2, dtype=torch.long))])
    seen = found.layers[1]
    assert seen is not None
    assert seen.steps == 9
    assert torch.allclose(seen.fired, kept[0].double().mean((0, 1)))
    assert sum(seen.charged.trimmed()[1]) == 9 * 2 * 5


def test_a_layer_whose_surrogate_is_too_narrow_says_so(some: RunAnalysis) -> None:
    """The largest factor of the rows; the page has the advice as a note."""
    found = some
    assert found.layers[0].threshold.gain == pytest.approx(1, abs=1e-4)
    assert found.layers[0].advice == ""
    wide = replace(found.layers[0], threshold=ThresholdGradient(15.0, -14.0, 1.0))
    assert as_dict(replace(found, layers=(wide,)))["layers"][0]["reset_gain"] == 15
    assert "each step multiplies gradients by -14, even" in run_page(replace(found, layers=(wide,)))


@pytest.mark.parametrize("per", ["layer", "neuron"])
def test_every_state_has_its_extent(per: Any) -> None:
    """Both states of adlif after the reset, row by row, against `interpret`; its w moves there."""
    torch.manual_seed(2)
    neuron = lnm.get("adlif", per=per, tau_v=3.0, tau_w=9.0, a=0.5, b=1.5)
    layer = NeuronLayer(neuron, channels=2, shape=(2,), backend="torch")
    x = 6 * torch.rand(9, 4, 2)
    seen = seen_of(layer, x)
    assert list(seen.states) == ["v", "w"]
    assert torch.equal(seen.visited, seen.states["v"])
    assert float(seen.fired.max()) > 0
    bare = lnm.get("adlif", tau_v=3.0, tau_w=9.0, a=0.5, b=1.5)
    state, found = None, []
    for now in x.double().numpy():
        state = lnm.interpret(bare, now[None], state=state).states
        found.append(state)
    for name, ends in seen.states.items():
        values = np.stack([one[name] for one in found])
        axes = (0, 1) if per == "neuron" else (0, 1, 2)
        expected = np.stack([np.min(values, axes).reshape(-1), np.max(values, axes).reshape(-1)], 1)
        assert ends.numpy() == pytest.approx(expected, abs=1e-4)


def test_one_layer_and_one_row_are_singular(found_lif: RunAnalysis) -> None:
    assert found_lif.diversity == "One class of behaviour in 1 layer (1 row): leaky."
    (line,) = layers_table(found_lif).rows
    low, high = as_dict(found_lif)["layers"][0]["seen"]["states"]["v"]
    assert line[5] == f"v in [{low:.3g}, {high:.3g}]"
    failed = Certificate("lif", 1.0, 1, 0, {}, 0, "it grows")
    layer = replace(found_lif.layers[0], certificate=failed)
    assert certificate_line(layer) == "proven for 0 of 1 row, |x| <= 1; it grows"


def test_the_settings_have_no_clamp_that_the_neuron_lacks(found_lif: RunAnalysis) -> None:
    """LIF has no clamp: no v_min in the settings, and null in JSON."""
    assert as_dict(found_lif)["config"]["v_min"] is None
    assert "v_min" not in run_page(found_lif)


def test_the_history_has_our_colours() -> None:
    """Nine elements: five colours, then the same five dashed; the band has the line's colour."""
    figure = Figure()
    axis = figure.subplots()
    draw_history(axis, "theta", torch.rand(3, 2, 9).double())
    colors = [line.get_color() for line in axis.lines]
    assert colors == [*STATE_COLORS, *STATE_COLORS[:4]]
    assert [line.get_linestyle() for line in axis.lines] == ["-"] * 5 + ["--"] * 4
    bands = [to_hex(band.get_facecolor()[0]) for band in axis.collections]
    assert [band.upper() for band in bands] == [color.upper() for color in colors]


def test_a_title_says_that_classes_are_left_out(found_lif: RunAnalysis) -> None:
    layer = found_lif.layers[0]
    assert isinstance(layer.dynamics, tuple)
    labels = ["leaky"] * 4 + ["bistable"] * 3 + ["integrator"] * 2
    rows = tuple(replace(layer.dynamics[0], label=label) for label in labels)
    shown = "leaky 4, bistable 3, integrator 2"
    assert _classes_text(replace(layer, dynamics=rows)) == shown
    more = (*rows, replace(rows[0], label="other"))
    assert _classes_text(replace(layer, dynamics=more)) == f"{shown}, ..."


def test_potentials_in_millivolts_are_not_compared_with_lif() -> None:
    """0.5*v is a LIF neuron with rest 0 alone."""
    for rest, threshold, drawn in ((0.0, 1.0, True), (-65.0, -50.0, False)):
        v, x = lnm.state("v", init=rest), lnm.input("x")
        neuron = lnm.Neuron(
            charge={v: v + (rest - v + x) / 20}, fire=v - threshold, reset=lnm.hard_reset(v, rest)
        )
        layer = NeuronLayer(neuron, backend="torch")
        activity = seen_of(layer, torch.rand(3, 2, 4))
        rows = parameter_sets(layer)
        z = torch.linspace(rest - 1, threshold, 5)
        found = LayerAnalysis(
            "one",
            layer,
            rows,
            [0],
            activity,
            z,
            z[:, None],
            "unknown",
            None,
            None,
            "",
            None,
            0.0,
            None,
        )
        axis = Figure().subplots()
        draw_layer(axis, found)
        assert any("LIF" in str(line.get_label()) for line in axis.lines) == drawn
