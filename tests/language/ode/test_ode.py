"""`lnm.ode` as a whole: Brian2's runs, backends, refusals."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import lnm_codegen as lnm
from tests.language.ode.brian import CASES, EVERY, FILE, currents

RECORDED = json.loads(FILE.read_text(encoding="utf-8"))


def neuron_of(model: dict[str, Any], method: Any, dt: str) -> lnm.Neuron:
    """Return the neuron of a model of Brian2."""
    words = ("parameters", "threshold", "reset", "refractory", "init")
    return lnm.ode(model["text"], dt=dt, method=method, **{word: model[word] for word in words})


@pytest.mark.parametrize("case", CASES)
def test_trajectories_and_spikes_are_brians(case: str) -> None:
    """In float64 every spike has Brian2's step and every state its value, to 1e-9 of its range."""
    model, method, dt, steps = CASES[case]
    neuron = neuron_of(model, method, dt)
    result = lnm.interpret(neuron, currents(model["scale"], steps))
    recorded = RECORDED[case]
    spikes = [np.nonzero(result.out[:, i])[0].tolist() for i in range(3)]
    assert spikes == recorded["spikes"]
    assert sum(map(len, spikes)) > 5
    for name, values in recorded["states"].items():
        theirs = np.array(values).T
        ours = result.trajectory[name][::EVERY]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9 * np.ptp(theirs), err_msg=name)
