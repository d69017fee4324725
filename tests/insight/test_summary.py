"""The five lines of a summary, and the interval of an accuracy."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnm_codegen.insight import RunAnalysis, analyze_run
from lnm_codegen.insight.tables import QUANTILE, accuracy_interval, summary, wilson
from lnm_codegen.train import TrainConfig, load, load_run, run


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_the_ends_of_an_interval_solve_its_equation(count: int, share: float) -> None:
    """At an end q, the share is QUANTILE standard deviations of q away: Wilson's definition."""
    correct = round(share * count)
    p = correct / count
    low, high = wilson(correct, count)
    assert 0 <= low <= p <= high <= 1
    for q in (low, high):
        if 0 < q < 1:
            reach = QUANTILE * math.sqrt(q * (1 - q) / count)
            assert abs(p - q) == pytest.approx(reach, rel=1e-5, abs=1e-9)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> RunAnalysis:
    path = tmp_path_factory.mktemp("summary") / "run"
    config = TrainConfig(
        arguments={"degree": 1, "per": "channel"}, network="feedforward",
        network_arguments={"hidden": (4,)}, epochs=1, batch=16, limit=32, backend="torch",
        threads=1,
    )  # fmt: skip
    run(config, path, data=load("digits", limit=32))
    return analyze_run(load_run(path), limit=8)


def test_a_summary_has_five_lines(found: RunAnalysis) -> None:
    lines = dict(summary(found))
    assert list(lines) == ["Trained", "Accuracy", "Learned", "Stability", "Spikes and energy"]
    assert lines["Trained"] == f"{found.network}, 1 neuron layer, 1 epoch, seed 0"
    assert lines["Learned"] == found.diversity
    assert "of 8 test samples, 95 % interval" in lines["Accuracy"]


def test_what_is_not_known_is_not_claimed(found: RunAnalysis) -> None:
    """Several predictions per sample have no interval; a run without history has no epochs."""
    assert accuracy_interval(replace(found, predictions=80)) is None
    assert "80 predictions" in dict(summary(replace(found, predictions=80)))["Accuracy"]
    old = dict(summary(replace(found, epochs=None)))
    assert "1 epoch configured" in old["Trained"]
    cut = replace(found, config=found.config | {"epochs": 3})
    assert "1 of 3 epochs" in dict(summary(cut))["Trained"]
    layer = replace(found.layers[0], name="one", certificate="no proof")
    text = dict(summary(replace(found, layers=(layer,))))["Stability"]
    assert "proven for 0 of 1 layer; not for one." in text
    five = tuple(replace(layer, name=f"layer {k}") for k in range(5))
    text = dict(summary(replace(found, layers=five)))["Stability"]
    assert "not for layer 0, layer 1, layer 2 and 2 more." in text
