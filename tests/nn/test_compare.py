"""Comparison of backends behind `lnm check`: draws, neurons left out, differences found."""

from __future__ import annotations

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.nn import compare


@pytest.fixture(autouse=True)
def _eager_alone(monkeypatch):
    """Run only the backend that needs no compiler: these tests do not depend on it."""
    monkeypatch.setattr(compare, "BACKENDS", ("auto", "torch"))


def clipped(per="layer"):
    """A neuron whose reset to 0 meets `v >= 0`, an exact tie, at every spike."""
    v, w, x, drive = lnm.state("v"), lnm.state("w"), lnm.input("x"), lnm.input("drive")
    gain = lnm.param("gain", init=0.5, per=per)
    return lnm.Neuron(
        charge={v: lnm.max(v, 0) * gain + x, w: w / 2 + drive},
        fire=v - 0.7,
        reset=lnm.hard_reset(v, 0.0),
        output={"spike": lnm.spike, "w": w},
        surrogate=lnm.surrogate.rectangle(),
    )


@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
def test_agrees(per):
    """Several inputs, states and outputs; every granularity; an exact tie is no reason to skip."""
    found = compare.compare_backends(clipped(per))
    assert found.agrees
    assert (found.left_out, found.neurons) == (0, int(np.prod(compare.SHAPE[1:])))
    assert [r.dtype for r in found.runs] == ["float32", "float64"]
    assert list(found.runs[0].differences) == [
        "spike", "w", "final v", "final w", "grad x", "grad drive", "grad v", "grad w",
        "grad gain",
    ]  # fmt: skip


def test_what_runs_away_is_left_out():
    """Some neurons of this one diverge from most of their inputs; the others are compared."""
    v, x = lnm.state("v"), lnm.input("x")
    b = lnm.param("b", init=lambda generator, shape: _half_wild(shape), per="neuron")
    found = compare.compare_backends(lnm.Neuron(charge={v: b * v + x}, output=v))
    assert found.agrees
    assert found.left_out == found.neurons // compare.SHAPE[3]
    assert found.spikes == {}


def _half_wild(shape):
    """2 for the first neuron of each channel, 0.5 for the others."""
    import torch

    values = torch.full(shape, 0.5)
    values[:, 0] = 2.0
    return values


@pytest.mark.parametrize("name", ["spike", "final v", "grad x", "grad theta"])
@pytest.mark.parametrize("wrong", [1.001, np.nan])
def test_finds(monkeypatch, name, wrong):
    """A quantity that is off by 1e-3, or not finite, in one neuron."""
    plain = compare._run_layer

    def spoilt(*arguments):
        found = plain(*arguments)
        value = found[name].reshape(-1)
        value[np.argmax(np.abs(value))] *= wrong
        return found | {name: value.reshape(found[name].shape)}

    monkeypatch.setattr(compare, "_run_layer", spoilt)
    found = compare.compare_backends(lnm.get("lnm", degree=2))
    assert not found.agrees
    for run in found.runs:
        assert not run.differences[name] <= run.limit
        others = [d for n, d in run.differences.items() if n != name]
        assert max(others) <= run.limit
