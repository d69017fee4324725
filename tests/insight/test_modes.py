"""Layers with several states: poles, classes, their movement in training, and figures."""

from __future__ import annotations

import html
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

import lnm_codegen as lnm
from lnm_codegen.analysis.canvas import new_figure
from lnm_codegen.analysis.linear.modes import RESET
from lnm_codegen.analysis.report import RESPONSE_STEPS
from lnm_codegen.cli import run as command
from lnm_codegen.insight import analyze_run
from lnm_codegen.insight.analysis import RunAnalysis
from lnm_codegen.insight.figures import draw_typical_response, grid_figure, panel_figure, panels
from lnm_codegen.insight.layer import PROVEN_ROWS, LayerAnalysis, _examined, movement, typical_row
from lnm_codegen.insight.page import run_page
from lnm_codegen.insight.tables import (
    as_dict,
    certificate_line,
    classes_note,
    dynamics_table,
    rows_note,
    spreads,
    typical_lines,
)
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.parameters import parameter_sets
from lnm_codegen.train import TrainConfig, load, load_run, run
from lnm_codegen.train.figure import curves_figure
from lnm_codegen.train.stability.layers import layer_modes
from tests.analysis.linear.matrices import free

FAMILY = """
import lnm_codegen as lnm

@lnm.family
def free(per: str = "channel") -> lnm.Neuron:
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    m = lnm.param("A", 4, init=(0.5, -0.6, 0.6, 0.5), per=per)
    charge = {v: m[0] * v + m[1] * w + x, w: m[2] * v + m[3] * w}
    return lnm.Neuron(charge=charge, fire=v - 1, reset=lnm.soft_reset(v, 1.0))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("modes")
    (base / "free.py").write_text(FAMILY)
    config = TrainConfig(
        family=f"{base}/free.py:free", epochs=2, batch=16, limit=16, backend="torch", threads=1,
        network_arguments={"channels": (3, 4), "time_steps": 2}, lr_neuron=0.1,
    )  # fmt: skip
    run(config, base / "run", data=load("digits", limit=16))
    return base / "run"


@pytest.fixture(scope="module")
def found(folder: Path) -> RunAnalysis:
    return analyze_run(load_run(folder), limit=8)


@pytest.fixture(scope="module")
def page(found: RunAnalysis) -> str:
    return run_page(found)


def test_a_row_has_its_own_poles(found: RunAnalysis) -> None:
    for layer in found.layers:
        a = layer.layer.A.detach().double().numpy()
        expected = np.linalg.eigvals(a.reshape(-1, 2, 2))
        assert layer.modes is not None
        assert np.sort(layer.modes.eigenvalues, -1) == pytest.approx(np.sort(expected, -1))
        assert sum(layer.classes.values()) == len(layer.rows) == len(a)
        assert layer.labels == layer.modes.labels
    assert found.diversity.split()[0] in ("One", "2", "3", "4")


def test_training_moved_them(found: RunAnalysis) -> None:
    """The first epoch has the initial matrix; the last one the learned matrix."""
    layer = found.layers[0]
    assert layer.movement is not None
    assert layer.movement.epochs == (0, 1, 2)
    first = layer.movement.eigenvalues[0]
    assert first == pytest.approx(np.broadcast_to([0.5 + 0.6j, 0.5 - 0.6j], first.shape), abs=1e-6)
    assert layer.modes is not None
    assert layer.movement.eigenvalues[-1] == pytest.approx(layer.modes.eigenvalues)
    assert layer.movement.labels[-1] == layer.modes.labels
    counts = layer.movement.classes
    assert counts["oscillator"][0] == 3
    assert [sum(column) for column in zip(*counts.values(), strict=True)] == [3, 3, 3]


def test_learned_numbers_have_quartiles_and_signs() -> None:
    """Values 0 to 4 less 1.5: two of five are negative; the quartiles are 1 apart."""
    layer = NeuronLayer(free().with_per("channel"), channels=5)
    with torch.no_grad():
        layer.A.copy_(torch.arange(5.0)[:, None].expand(5, 4) - torch.tensor([1.5, 0, 0, 9]))
    found = spreads(layer)
    assert list(found) == ["A_0", "A_1", "A_2", "A_3"]
    assert found["A_0"].quartiles == (-1.5, -0.5, 0.5, 1.5, 2.5)
    assert (found["A_0"].mean, found["A_0"].deviation) == (0.5, pytest.approx(2.5**0.5))
    assert [found[name].signs for name in found] == ["2 of 5", "-", "-", "-"]
    assert spreads(NeuronLayer(free(), channels=5)) == {}  # one row


def test_json_and_page_have_the_poles(found: RunAnalysis, page: str) -> None:
    data = as_dict(found)["layers"][0]
    row = data["dynamics"][0]
    assert row["place"] == "channel 0"
    assert row["class"] == found.layers[0].labels[0]
    assert row["at"] == {"v": 0, "w": 0}
    assert len(row["eigenvalues"]) == 2
    assert data["movement"]["epochs"] == [0, 1, 2]
    assert as_dict(found)["thresholds"]["slow_pole"] == 0.1
    json.dumps(data)
    text = page
    assert "eigenvalues" in text
    for word in ('aria-label="Eigenvalues in the complex plane with the unit circle, of 3 rows: ',
                 "those off the real axis"):  # fmt: skip
        assert word in text
    for word in ("No fixed points", "figure of a charge", "LIF, h", "Charged potential after"):
        assert word not in text


def test_the_typical_row_has_responses(found: RunAnalysis, page: str) -> None:
    """Text and JSON: A**t B of that row, and the sums of it, as `lnm analyze FAMILY` has them."""
    layer = found.layers[1]
    assert layer.modes is not None
    assert layer.typical == typical_row(layer.modes)
    data = as_dict(found)["layers"][1]["typical"]
    assert (data["row"], data["place"]) == (layer.typical, f"channel {layer.typical}")
    a = layer.layer.A.detach().double().numpy()[layer.typical].reshape(2, 2)
    state, total = np.array([1.0, 0.0]), np.zeros(2)
    for t in range(RESPONSE_STEPS):
        total = total + state
        for k, name in enumerate(("v", "w")):
            assert data["impulse_response"][name][t] == pytest.approx(state[k], abs=1e-9)
            assert data["step_response"][name][t] == pytest.approx(total[k], abs=1e-9)
        state = a @ state
    first, second = typical_lines(layer)
    row = f"linear step of the typical row, channel {layer.typical} ({layer.labels[layer.typical]})"
    assert first.startswith(f"{row}: v after an impulse of 1: 1, {round(a[0, 0], 3):g}, ")
    assert second.startswith(f"{row}: v after a step of 1: 1, {round(1 + a[0, 0], 3):g}, ")
    assert html.escape(first) in page


def test_the_page_says_which_rows_it_shows(found: RunAnalysis) -> None:
    layer = NeuronLayer(free().with_per("channel"), channels=400)
    rows = parameter_sets(layer)
    selected = rows.evenly_spaced_indices(128)
    modes = layer_modes(layer, rows, selected)
    other = replace(found.layers[0], layer=layer, rows=rows, selected=selected, modes=modes)
    assert rows_note(other) == (
        "128 of 400 rows are analysed, evenly spaced. The table lists the first 16 of 128 rows:"
        f" channel 0 to channel {selected[15]}. A panel draws the curves of 64 rows, evenly spaced."
    )
    assert len(dynamics_table(other).rows) == 16
    assert rows_note(found.layers[0]) == ""


def test_states_of_two_scales_are_in_one_legend() -> None:
    """A second y axis holds the smaller state; the legend of the panel names it."""
    layer = NeuronLayer(free().with_per("channel"), channels=1)
    with torch.no_grad():
        layer.A[0] = torch.tensor([0.5, 0.0, 0.001, 0.5])
    rows = parameter_sets(layer)
    modes = layer_modes(layer, rows, [0])
    found = LayerAnalysis(
        "one", layer, rows, [0], None, torch.empty(0), torch.empty(0, 1), "", modes, None, "",
        None, 0.0, None,
    )  # fmt: skip
    axis = new_figure("test", 4, 3).subplots()
    draw_typical_response(axis, found, impulse=True)
    axis.get_figure().draw_without_rendering()
    legend = axis.get_legend()
    assert legend is not None
    assert legend.get_window_extent().y1 < axis.get_window_extent().y0  # covers no trace
    assert len(axis.get_figure().axes) == 2
    assert _legend_words(axis) == {"v", "w"}


def test_a_class_of_free_runs_is_explained(found: RunAnalysis) -> None:
    """Inputs may drive out what is unstable but reset."""
    assert classes_note(found) == ""
    assert found.layers[0].modes is not None
    labels = ("oscillator", RESET, "oscillator")
    layer = replace(found.layers[0], modes=replace(found.layers[0].modes, labels=labels))
    text = run_page(replace(found, layers=(layer,)))
    assert f"<p>{html.escape(classes_note(replace(found, layers=(layer,))))}</p>" in text
    assert "runs without input from states near the point" in text


def test_figures_have_poles_plane_and_classes(found: RunAnalysis) -> None:
    layer = found.layers[0]
    drawn = [panel_figure(panel) for panel in panels(layer)]
    titles, axes = [title for title, _ in drawn], [figure.axes[0] for _, figure in drawn]
    assert titles[0] == "poles"
    assert titles[1].startswith("phase plane of channel ")
    assert titles[-2:] == ["classes in training", "A in training"]
    k = layer.typical
    assert k is not None
    name = f"channel {k}, {layer.labels[k]}"
    assert titles[2:4] == [
        f"impulse response of {name}, x = 0.7 once", f"step response of {name}, x = 0.7"
    ]  # fmt: skip
    impulse, constant = (
        next(x for x in axis.lines if x.get_label() == "v").get_ydata() for axis in axes[2:4]
    )
    a = layer.layer.A.detach().double().numpy()[k].reshape(2, 2)
    assert impulse[1:3] == pytest.approx(0.7 * np.array([1, a[0, 0]]))
    assert constant[1] == pytest.approx(0.7)
    _assert_beside_the_disc(axes[0])
    _assert_readable_ticks(axes[0])
    for axis, words in (
        (axes[0], {"path in training", "before training"}),
        (axes[1], {"trajectory", "start"}),
        (axes[2], {"v", "w"}),
    ):
        assert words <= {text.get_text() for text in _legend_of(axis).get_texts()}
    grid = grid_figure(found)
    assert [axis.get_title().partition(" of ")[0] for axis in grid.axes[2:6]] == [
        "impulse response", "impulse response", "step response", "step response",
    ]  # fmt: skip
    _assert_readable_ticks(grid.axes[0])
    assert grid.get_suptitle() == f"{found.folder.name}: {found.network}"
    assert grid.axes[0].get_xlabel() == "real part of the eigenvalue"
    before = next(x for x in grid.axes[0].lines if x.get_label() == "before training")
    assert before.get_xdata() == pytest.approx(np.full(6, 0.5))
    counts = {
        x.get_label(): list(x.get_ydata()) for x in axes[titles.index("classes in training")].lines
    }
    assert layer.movement is not None
    assert counts == layer.movement.classes


def _assert_beside_the_disc(axis: Axes) -> None:
    """No part of the legend lies over the axes."""
    figure = axis.get_figure()
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    legend = _legend_of(axis)
    assert not legend.get_window_extent().overlaps(axis.get_window_extent())


def _legend_of(axis: Axes) -> Legend:
    """Return the legend of axes, or else of their figure."""
    figure = axis.get_figure()
    assert isinstance(figure, Figure)
    legend = axis.get_legend() or figure.legends[0]
    assert isinstance(legend, Legend)
    return legend


def _legend_words(axis: Axes) -> set[str]:
    legend = axis.get_legend()
    assert legend is not None
    return {text.get_text() for text in legend.get_texts()}


def _assert_readable_ticks(axis: Axes) -> None:
    """The texts of neighbouring ticks do not touch."""
    figure = axis.get_figure()
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    low, high = axis.get_xlim()
    boxes = [t.get_window_extent() for t in axis.get_xticklabels()
             if low <= t.get_position()[0] <= high]  # fmt: skip
    assert len(boxes) >= 3
    assert all(a.x1 + 2 < b.x0 for a, b in itertools.pairwise(boxes))


def test_the_figure_of_a_run_has_its_legend_beside_the_disc(folder: Path) -> None:
    for axis in curves_figure({"run": load_run(folder).network}).axes:
        _assert_beside_the_disc(axis)
        _assert_readable_ticks(axis)


@pytest.mark.slow
def test_the_text_has_classes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.parent)
    assert command(["analyze", "run", "--samples", "4"]) == 0
    out = capsys.readouterr().out
    assert "no classes" not in out
    assert "of behaviour in 2 layers" in out
    assert out.count("linear step of the typical row, channel") == 4


def test_without_history_nothing_moved(folder: Path, tmp_path: Path) -> None:
    layer = analyze_run(replace(load_run(folder), folder=tmp_path), limit=2).layers[0]
    assert layer.movement is None
    assert layer.modes is not None
    assert all("training" not in panel_figure(panel)[0] for panel in panels(layer))


def test_a_parameter_per_layer_serves_every_row() -> None:
    """The history of a coarser parameter is repeated to the rows of the finest."""
    neuron = free()
    layer = NeuronLayer(neuron, channels=2)
    history = {"A": torch.tensor([[[0.5, 0, 0, 0.25]], [[0.5, -0.6, 0.6, 0.5]]]).double()}
    moved = movement(layer, [0], history)
    assert moved is not None
    assert moved.labels == (("real poles",), ("oscillator",))
    assert moved.classes == {"real poles": [1, 0], "oscillator": [0, 1]}
    assert movement(layer, [0], {}) is None
    assert movement(layer, [0], None) is None


def test_the_typical_row_is_in_the_middle_of_the_largest_class() -> None:
    layer = NeuronLayer(free().with_per("channel"), channels=5)
    radii = (0.2, 0.5, 0.55, 0.8)
    with torch.no_grad():
        for row, r in enumerate(radii):
            layer.A[row] = torch.tensor([0.0, -r, r, 0.0])
        layer.A[4] = torch.tensor([0.5, 0.0, 0.0, 0.2])
    rows = parameter_sets(layer)
    assert typical_row(layer_modes(layer, rows, range(5))) in (1, 2)
    assert typical_row(layer_modes(layer, rows, [4, 0, 1, 3])) == 2


def test_the_typical_row_has_the_median_pole_of_the_states_that_the_input_reaches() -> None:
    """w decays slowest, and no input reaches it."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    a = lnm.param("a", init=0.5, per="channel")
    b = lnm.param("b", init=0.9, per="channel")
    neuron = lnm.Neuron(charge={v: a * v + w + x, w: b * w}, fire=v - 1, name="two")
    layer = NeuronLayer(neuron, channels=3)
    with torch.no_grad():
        layer.a.copy_(torch.tensor([0.1, 0.4, 0.8]))
        layer.b.copy_(torch.tensor([0.84, 0.89, 0.82]))
    modes = layer_modes(layer, parameter_sets(layer), range(3))
    assert modes.first == pytest.approx([0.1, 0.4, 0.8])
    assert modes.labels == ("real poles",) * 3
    assert typical_row(modes) == 1


def test_a_certificate_of_several_states_examines_some_rows(found: RunAnalysis) -> None:
    """A proof of two states takes long; the line says how many rows it covers."""
    layer = found.layers[0]
    assert _examined(layer.layer, list(range(100))) == [
        round(99 * k / (PROVEN_ROWS - 1)) for k in range(PROVEN_ROWS)
    ]
    assert _examined(layer.layer, [3, 4]) == [3, 4]
    one = NeuronLayer(lnm.get("lnm", per="channel"), channels=100)
    assert _examined(one, list(range(100))) == list(range(100))
    assert not isinstance(layer.certificate, str)
    states = {"v": (-1.0, 1.0)}
    known = replace(layer.certificate, rows=2, certified=2, states=states, x_max=1.0)
    line = certificate_line(replace(layer, certificate=known))
    assert line == f"2 of {len(layer.rows)} rows: v in [-1, 1] for |x| <= 1"
