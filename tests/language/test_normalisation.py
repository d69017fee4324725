"""Normalised neurons: names, meaning, and the neurons of the two passes."""

from __future__ import annotations

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.ir.declarations import Prologue
from lnm_codegen.language.normalisation import channel_sums, input_correction
from tests.cases import CASES


@pytest.mark.parametrize(("case", "shortcut"), [("lif", False), ("dendrite", True)])
def test_meaning(case: str, shortcut: bool) -> None:
    """The neuron with scale*(c - mean) + shift (+ r) in place of its first input."""
    neuron, rng = CASES[case](), np.random.default_rng(0)
    block = lnm.normalised(neuron, shortcut)
    shape = (5, 2, 3, 4)
    c, r, *more = (rng.uniform(-2, 2, shape) for _ in range(1 + len(neuron.inputs)))
    values = {n: rng.uniform(0.25, 1, (3, 1)) for n in ("x_mean", "x_scale", "x_shift")}
    mean, scale, shift = values.values()
    x = scale * (c - mean) + shift + (r if shortcut else 0)
    own = {n: v.reshape(3) for n, v in values.items()}
    inputs = (c, r, *more) if shortcut else (c, *more)
    got = lnm.interpret(block, *inputs, grad_out=1.0, **own)
    expected = lnm.interpret(neuron, x, *more, grad_out=1.0)
    for found, wanted in ((got.outputs, expected.outputs), (got.states, expected.states)):
        for name, value in wanted.items():
            assert value.any()
            np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-9)
    e, axes = expected.grads[neuron.inputs[0].name], (0, 1, 3)
    gradients = {
        "x_raw": scale * e, "x_shift": e.sum(axes), "x_scale": (e * (c - mean)).sum(axes),
    } | ({"x_shortcut": e} if shortcut else {})  # fmt: skip
    for name, value in gradients.items():
        np.testing.assert_allclose(got.grads[name], value, rtol=1e-9, atol=1e-9)


def test_names() -> None:
    """Taken names get a number; the last three parameters are those of the prologue."""
    v, x, taken = lnm.state("v"), lnm.input("x"), lnm.param("x_mean", init=1.0)
    neuron = lnm.Neuron(charge={v: v * taken + x}, fire=v - 1, name="own")
    block = lnm.normalised(neuron)
    assert block.name == "own_norm"
    assert block.prologue == Prologue("x_raw", "x_mean_2", "x_scale", "x_shift")
    assert [p.name for p in block.params] == ["x_mean", "x_mean_2", "x_scale", "x_shift"]
    assert [p.learnable for p in block.params] == [True, False, True, True]
    assert neuron.prologue is None
    assert lnm.normalised(neuron) is block


def test_the_difference_comes_first() -> None:
    """No pass expands scale*(c - mean), so that no digits are lost where the mean is large."""
    assert "x_centred = x_raw - x_mean" in str(lnm.lower(lnm.normalised(lnm.get("lif"))).forward)
    assert "d = c - pivot" in str(lnm.lower(channel_sums()).forward)
    assert "d = c - mean" in str(lnm.lower(input_correction()).forward)
