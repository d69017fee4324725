"""Arguments of plots: numbers of NumPy are accepted, anything else is refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import lnm_codegen as lnm
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import Draw
from lnm_codegen.nn import NeuronLayer
from tests.analysis.linear.matrices import free
from tests.refusals import refused

FUNCTIONS = ("step_response", "impulse_response", "fi_curve", "charge", "phase_plane", "poles")


@pytest.fixture
def ax() -> Axes:
    return Figure().subplots()


def drawn(ax: Axes) -> list[np.ndarray]:
    return [np.asarray(line.get_xydata()) for line in ax.lines]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("given", [Figure(), "a", Figure().subplots(1, 2), 1])
def test_only_one_axes_is_accepted(name, given):
    with refused(ModelError, f"plot.{name}", "ax is ", "one Axes, or None for a new figure"):
        getattr(lnm.plot, name)(free(), ax=given)


def test_the_remedies_for_a_function_as_initial_value_work(ax):
    """No plot takes w=...; with_init and a number with a draw give the plot a value."""
    v, x = lnm.state("v"), lnm.input("x")

    def leaky(w):
        return lnm.Neuron(charge={v: lnm.sigmoid(w) * v + x}, fire=v - 1, name="leaky")

    def sample(generator, axes):
        return (torch.rand(axes, generator=generator),)

    by_function = leaky(lnm.param("w", init=lambda g, axes: sample(g, axes)[0], per="channel"))
    remedies = "call neuron.with_init(w=...). Better, give lnm.param a number as init and"
    with refused(ModelError, "leaky", "parameter 'w' is initialised by a function", "", remedies):
        lnm.plot.step_response(by_function, ax=ax)
    lnm.plot.step_response(by_function.with_init(w=0.5), ax=ax)
    drawn = leaky(lnm.param("w", init=0.5, per="channel", draw=Draw(sample)))
    lnm.plot.step_response(drawn, ax=ax)
    assert NeuronLayer(drawn, channels=3).w.unique().numel() == 3


@pytest.mark.parametrize(
    ("name", "plain", "given"),
    [
        ("step_response", {"x": 1.5, "steps": 9}, {"x": np.float32(1.5), "steps": np.int64(9)}),
        ("impulse_response", {"x": 1.0}, {"x": np.array(1.0)}),
        ("fi_curve", {"x": (0, 2), "steps": 9}, {"x": np.array([0, 2]), "steps": np.int16(9)}),
        ("fi_curve", {"x": (0, 2)}, {"x": (np.float32(0), np.float64(2))}),
        ("charge", {"x": 1.0, "span": (-1, 1)}, {"x": np.int8(1), "span": np.array([-1.0, 1])}),
        (
            "phase_plane",
            {"x": 0.5, "starts": ((0.5, 0.25),), "span": ((-1, 1), (-2, 2)), "steps": 7},
            {"x": np.float16(0.5), "starts": np.array([[0.5, 0.25]], np.float32),
             "span": np.array([[-1, 1], [-2, 2]]), "steps": np.uint8(7)},
        ),
    ],
)  # fmt: skip
def test_numbers_of_numpy_count_as_numbers(name, plain, given):
    draw = getattr(lnm.plot, name)
    expected, found = (draw(free(), **a, ax=Figure().subplots()) for a in (plain, given))
    assert len(drawn(found)) == len(drawn(expected)) > 0
    for one, other in zip(drawn(found), drawn(expected), strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.get_title() == expected.get_title()
    assert found.get_xlim() == expected.get_xlim()


def test_a_row_is_a_number_of_numpy_too(ax):
    layer = NeuronLayer(free().with_per("channel"), channels=2, backend="torch")
    assert lnm.plot.poles(layer, row=np.int64(1), ax=ax).lines


@pytest.mark.parametrize("span", [(0, 1), ((0, 1),), "ab", ((0, 1), (1, 0)), ((0, 1), 2), 3, ()])
def test_a_span_is_two_intervals(span):
    """The message shows the whole span, not a part of it."""
    with refused(
        ModelError, "plot.phase_plane", f"span is {span!r}", "((low, high), (low, high)) with low <"
    ):
        lnm.plot.phase_plane(free(), span=span)


@pytest.mark.parametrize("starts", ["ab", [1.0], [(1, 2), (3,)], [(1, "a")], [], [(0, np.nan)], 1])
def test_starts_are_pairs(starts):
    with refused(ModelError, "plot.phase_plane", f"starts is {starts!r}", "((v, w), ...)"):
        lnm.plot.phase_plane(free(), starts=starts)


@pytest.mark.parametrize("x", [np.float32(np.nan), np.array([1.0, 2.0]), np.bool_(True), "1", True])
def test_an_input_is_one_finite_number(x):
    for name in ("step_response", "impulse_response", "charge", "phase_plane"):
        with refused(ModelError, f"plot.{name}", "x is ", "a finite number"):
            getattr(lnm.plot, name)(free(), x=x)
