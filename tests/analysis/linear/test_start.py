"""Initial values with which a neuron spikes like a linear one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.analysis.linear.affine import matched_start
from lnm_codegen.language.text.expression import parse

X = np.random.default_rng(3).normal(0.4, 1.5, (30, 4, 5))

TARGETS = {
    "if": lnm.get("if"),
    "lif": lnm.get("lif", tau=3.0, v_threshold=0.7),
    "lif, sum": lnm.get("lif", tau=3.0, decay_input=False, v_reset=0.0),
    "lif, soft": lnm.get("lif", tau=2.5, v_reset=None),
    "plif": lnm.get("plif", tau=5.0, v_reset=None),
}
FORMS: list[dict[str, Any]] = [
    {"degree": 3},
    {"degree": 2, "form": "B", "v_min": -50.0},
    {"degree": 2, "form": "C", "basis": "chebyshev"},
    {"degree": 3, "basis": "legendre", "per": "channel", "learn_threshold": True},
    {"states": 2, "degree": 2},
    {"states": 2, "degree": 1, "learn_theta_0": True},
]


PAIRS = [(name, arguments) for arguments in FORMS for name in TARGETS]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [p if k % 6 == 0 else pytest.param(*p, marks=pytest.mark.slow) for k, p in enumerate(PAIRS)],
)
def test_the_spikes_are_those_of_the_target(name: str, arguments: dict[str, Any]) -> None:
    target = TARGETS[name]
    neuron = lnm.get("lnm", v_reset=None if "soft" in name or name == "plif" else 0.0, **arguments)
    start = matched_start(neuron, target)
    assert start is not None
    expected = lnm.interpret(target, X).out
    out = lnm.interpret(neuron.with_init(**start), X).out
    assert 0.02 < expected.mean() < 0.95
    assert (out != expected).mean() < 0.002  # ties alone


def test_a_target_in_floats_that_begins_elsewhere() -> None:
    """A term of 1e-38 makes the threshold real-valued; the potential and the reset are q = 3."""
    v, x = lnm.state("v", init=0.4), lnm.input("x")
    target = lnm.Neuron(
        {v: v + (x - v) / 3}, v - 0.7 - 2.0**-126, lnm.hard_reset(v, -0.1), name="floats"
    )
    neuron = lnm.get("lnm", v_reset=-0.3)
    start = matched_start(neuron, target)
    assert start is not None
    assert start["v"] == pytest.approx(1.2)
    expected = lnm.interpret(target, X).out
    assert 0.02 < expected.mean() < 0.95
    assert (lnm.interpret(neuron.with_init(**start), X).out != expected).mean() < 0.002


ADDING = lnm.get("lif", tau=3.0, decay_input=False, v_threshold=0.5)


def polynomial(fire: str) -> lnm.Neuron:
    """Return a neuron with a free charge that fires where this expression is >= 0."""
    v, x, p = lnm.state("v"), lnm.input("x"), lnm.param("p", init=0.5)
    theta = lnm.param("theta", size=2)
    z = parse(fire, {"v": v, "x": x, "p": p}, "fire")
    charge = lnm.poly(v, theta) + x
    return lnm.Neuron({v: charge}, z, lnm.hard_reset(v), output={"s": lnm.spike, "p": p})


def test_a_threshold_that_is_a_number_or_a_multiple() -> None:
    """z = 2*v - 1 is 0 at the target's threshold, and so is v - 1/2."""
    for fire in ("v - 0.5", "2*v - 1", "v - p"):
        start = matched_start(polynomial(fire), ADDING)
        assert start is not None
        assert start["theta"] == pytest.approx((0, 2 / 3))


@pytest.mark.parametrize(
    ("neuron", "target"),
    [
        (lnm.get("lnm"), lnm.get("qif")),  # not linear
        (lnm.get("lnm"), lnm.get("cuba_lif")),  # two states
        (lnm.get("lnm", v_reset=None), lnm.get("lif")),  # another reset
        (lnm.get("lnm"), lnm.get("lif", v_reset=-0.3)),
        (lnm.get("lnm", v_reset=-0.3), lnm.get("lif", v_reset=-0.3)),  # it must be tau * v_reset
        (lnm.get("lnm", learn_theta_0=False), lnm.get("lif", v_rest=0.3)),  # a constant
        (lnm.get("lnm", states=2, parametrisation="pole"), lnm.get("lif", v_reset=None)),
        (lnm.get("rf"), lnm.get("lif")),
        (lnm.get("lnm"), lnm.get("li")),  # never spikes
        *((polynomial(fire), ADDING) for fire in ("v - 1", "2*v - 1.4", "v - p**2", "x - 1")),
    ],
)
def test_none_where_there_are_no_such_values(neuron: lnm.Neuron, target: lnm.Neuron) -> None:
    assert matched_start(neuron, target) is None
