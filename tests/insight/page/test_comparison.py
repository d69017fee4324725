"""Summary of two networks in fixed point."""

from __future__ import annotations

import json
from dataclasses import replace

import torch
from matplotlib.figure import Figure
from torch import nn

import lnm_codegen as lnm
from lnm_codegen.deploy.arrays import arrays_of, network_report
from lnm_codegen.deploy.mismatch import measure_mismatch, specs_for
from lnm_codegen.hardware.synth import DEVICES, Measured, Resources
from lnm_codegen.insight.comparison import FixedComparison, _panels, comparison_summary, layer_table
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train.losses import count_correct
from tests.deploy.test_network import images, small


def test_the_luts_of_a_layer_of_several_arrays_are_summed() -> None:
    """Three arrays of 100 LUT hold the layer; the sum counted one of them."""
    network = small(lnm.get("lif", tau=3.0))
    specs = specs_for(network, lnm.Fixed(16, 12))
    (array,) = arrays_of(network, specs, images())
    mismatch = measure_mismatch(
        network, specs, [(images(), images(8)[:, 0, 0, 0].long() % 3)], count_correct
    )
    measured = Measured(None, DEVICES["25k"], Resources(100, 0, 0, 0), {}, {1: 200.0}, 1.0)  # type: ignore[arg-type]
    made = network_report(network, mismatch, [replace(array, copies=3)], {"neuron": measured})
    found = FixedComparison(("a", "b"), (made, made), "digits", "16.12", "a chip", None)
    circuit = dict(comparison_summary(found))["Circuit"]
    assert circuit.startswith("300 against 300 LUT in all arrays, on a chip; "), circuit


class _Readout(nn.Module):
    """Layers of spikes, and a leaky integrator after them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        spikes, potential = lnm.get("lif", tau=3.0), lnm.get("li", tau=3.0)
        self.first = NeuronLayer(spikes, channels=4, shape=(4,), backend="torch")
        self.inner = nn.Linear(4, 3)
        self.last = NeuronLayer(potential, channels=3, shape=(3,), backend="torch")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.inner(self.first(x.transpose(0, 1))))
        return out.mean(0)


def test_a_potential_has_no_firing_rate() -> None:
    """That of a readout was the mean of its potential, such as -12 %, also in the summary."""
    network = _Readout().eval()
    specs = specs_for(network, lnm.Fixed(16, 10))
    x = 2 * torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0))
    batches = [(part, torch.zeros(3, dtype=torch.int64)) for part in x.split(3)]
    mismatch = measure_mismatch(network, specs, batches, count_correct)
    made = network_report(network, mismatch, arrays_of(network, specs, x), {})
    found = FixedComparison(("a", "b"), (made, made), "digits", "16.10", "a chip", "none")
    first, last = (layer.as_dict() for layer in made.layers.values())
    assert 0 < first["firing_rate"] < 1
    fired = mismatch.layers["first"].fired_fixed
    assert first["firing_rate_fixed"] == fired / (6 * 5 * 4)
    for word in ("firing_rate", "firing_rate_fixed"):
        assert last[word] is None
    assert (last["counts"]["fired"], last["counts"]["fired_fixed"]) == (None, None)
    assert json.loads(json.dumps(last))["firing_rate"] is None
    cells = {path: dict((r[0], r[1:]) for r in layer_table(found, path).rows) for path in specs}
    rate = f"{100 * first['firing_rate_fixed']:.2f} %"
    for word in ("firing rate in float", "firing rate in fixed point"):
        assert cells["last"][word] == ("-", "-")
        assert cells["first"][word][0].endswith(" %")
    assert cells["first"]["firing rate in fixed point"] == (rate, rate)
    spikes = dict(comparison_summary(found))["Spikes"]
    assert spikes == f"{rate} against {rate} of the steps, in fixed point"
    axis, seen = Figure().subplots(), {}
    for panel in _panels(found):
        axis.clear()
        panel.draw(axis)
        seen[axis.get_title()] = [len(bars) for bars in axis.containers]
    assert seen["firing rate in fixed point"] == [1, 1]
    assert seen["outputs that differ, free running"] == [2, 2]


def test_predictions_of_one_sample_have_no_interval() -> None:
    """One for each time step: they depend on each other, as in `lnm analyze`."""
    network = small(lnm.get("lif", tau=3.0))
    specs = specs_for(network, lnm.Fixed(16, 12))
    labels = images(8)[:, 0, 0, 0].long() % 3
    found = measure_mismatch(network, specs, [(images(), labels)], count_correct)
    texts = []
    for predictions in (found.images, 4 * found.images):
        own = replace(found, predictions=predictions)
        made = network_report(network, own, arrays_of(network, specs, images()), {})
        both = FixedComparison(("a", "b"), (made, made), "digits", "16.12", "a chip", "none")
        texts.append(dict(comparison_summary(both))["Accuracy in fixed point"])
    assert texts[0].count("(95 % interval ") == 2
    assert "interval" not in texts[1]
    assert texts[1].count(f"({4 * found.images} predictions; float ") == 2
