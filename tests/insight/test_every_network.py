"""Analysis, page and energy of each built-in network, on the backends c and torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lnm_codegen.insight import RunAnalysis, analyze_run
from lnm_codegen.insight.page import run_page
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train import MODELS, TrainConfig, from_arrays, load_run, run

WIDTHS: dict[str, dict[str, Any]] = {
    "conv": {"channels": (3, 4)},
    "feedforward": {"hidden": (6, 5), "norm": "batch"},
    "recurrent": {"hidden": (6, 5), "feedback": "down", "carry_limit": 10.0},
    "resnet19": {"width": 4},
    "transformer": {"width": 8, "depth": 1, "expansion": 2},
}
"""Options that keep the networks small; the others take a width alone."""
CASES = [(name, WIDTHS.get(name, {"width": 2})) for name in MODELS] + [("recurrent", {"hidden": 6})]


@pytest.mark.slow
@pytest.mark.needs_cc
@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_network_is_analysed(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    """The counts of both backends agree, with the same weights and the same samples."""
    draw = torch.Generator().manual_seed(0)
    images, labels = torch.rand(8, 2, 32, 32, generator=draw), torch.arange(8) % 2
    data = from_arrays(images, labels, images, labels, name="drawn", kind="image")
    config = TrainConfig(
        family="lif", arguments={"decay_input": False}, network=name, epochs=1, batch=4,
        network_arguments={**options, "time_steps": 2}, backend="c", threads=1,
    )  # fmt: skip
    run(config, tmp_path / "run", data=data)
    trained = load_run(tmp_path / "run", data=data)
    found: dict[str, RunAnalysis] = {}
    for backend in ("c", "torch"):
        for layer in trained.network.modules():
            if isinstance(layer, NeuronLayer):
                layer.backend = backend
        found[backend] = analyze_run(trained)
    assert "Energy" in run_page(found["c"])
    here, there = (found[backend].energy for backend in ("c", "torch"))
    assert [one.name for one in here.layers] == [one.name for one in there.layers]
    assert here.mac == there.mac > 0
    assert (here.ac, here.spikes) == pytest.approx((there.ac, there.spikes), rel=0.02)
    assert {one.spiking for one in here.synapses} == {one.spiking for one in there.synapses}
