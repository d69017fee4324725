"""Neuron layers of a network: traces, copies, recorded ranges, least formats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lnm_codegen as lnm
from lnm_codegen.deploy.mismatch import measure_mismatch, specs_for
from lnm_codegen.deploy.network import (
    in_fixed_point,
    layer_like,
    layer_parameters,
    neuron_layers,
    trace_layers,
)
from lnm_codegen.deploy.ranges import least_formats, recorded_ranges
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.hardware.wordlength.search import PrecisionTarget
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train.losses import count_correct
from lnm_codegen.train.models import build
from tests.refusals import refused


class Small(nn.Module):
    """Images (N, 2, 4, 4), shown three times -> (N, 3): what each channel fires."""

    def __init__(self, neuron: lnm.Neuron, times: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.neuron = NeuronLayer(neuron, channels=3, shape=(3, 4, 4), backend="torch")
        self.times = times

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.conv(images))
        for _ in range(self.times):
            out: Tensor = self.neuron(x.expand(3, *x.shape))
        return out.mean((0, 3, 4))


def small(neuron: lnm.Neuron, times: int = 1) -> Small:
    torch.manual_seed(1)
    network = Small(neuron, times)
    with torch.no_grad():
        network.norm.running_mean += torch.tensor([0.1, -0.2, 0.3])
        network.norm.running_var *= torch.tensor([0.5, 1.0, 2.0])
        network.norm.weight *= 3.0
    return network.eval()


def images(count: int = 8) -> Tensor:
    return torch.randn(count, 2, 4, 4, generator=torch.Generator().manual_seed(2))


def test_the_trace_of_a_layer() -> None:
    """The normalisation is found by its output, and folded into a scale and an offset."""
    network = small(lnm.get("lif"))
    out, seen = trace_layers(network, images())
    layer = seen["neuron"]
    assert out.shape == (8, 3)
    assert layer.x_seq.shape == layer.out.shape == (3, 8, 3, 4, 4)
    assert layer.neurons == 48
    assert layer.norm is not None
    assert layer.norm.name == "norm"
    current = network.conv(images()).detach().double().numpy()
    scale, offset = (a[:, None, None] for a in (layer.norm.scale, layer.norm.offset))
    np.testing.assert_allclose(scale * current + offset, layer.x_seq[0].numpy(), atol=1e-6)
    assert not network.neuron._forward_hooks


def test_fused_layers_are_traced_as_separate_ones() -> None:
    """Inputs, folded normalisations and counts of a fused network are those of the other form."""
    networks = []
    for fused in (True, False):
        torch.manual_seed(1)
        options = {"channels": (3, 4), "fused": fused, "backend": "torch"}
        made = build("conv", lnm.get("lif"), (2, 8, 8), 3, kind="image", **options)
        with torch.no_grad():
            for block in made.blocks:  # type: ignore[union-attr]
                block.norm.weight *= 3.0
        made(torch.randn(8, 2, 8, 8))
        networks.append(made.eval())
    networks[1].load_state_dict(networks[0].state_dict())
    shown = torch.randn(4, 2, 8, 8)
    (_, found), (_, expected) = (trace_layers(network, shown) for network in networks)
    assert list(found) == list(expected) == ["blocks.0.neuron", "blocks.1.neuron"]
    for name, trace in found.items():
        other = expected[name]
        torch.testing.assert_close(trace.x_seq, other.x_seq, rtol=1e-5, atol=1e-5)
        assert trace.norm is not None
        assert other.norm is not None
        assert trace.norm.name == other.norm.name
        np.testing.assert_allclose(trace.norm.scale, other.norm.scale)
        np.testing.assert_allclose(trace.norm.offset, other.norm.offset)
    network = networks[0]
    counts = measure_mismatch(
        network,
        specs_for(network, lnm.Fixed(24, 16)),
        [(shown, torch.zeros(4, dtype=torch.int64))],
        count_correct,
    )
    assert counts.free_running_mismatch < 0.01
    assert all(0.01 < c.share("fired") < 1 for c in counts.layers.values())
    assert counts.layers["blocks.1.neuron"].share("in_network") < 0.02


def test_a_constant_that_does_not_fit_names_its_layer() -> None:
    network, where = small(lnm.get("lnm", degree=2, v_min=-9.0)), "neuron: lnm.charge, h"
    with refused(ModelError, where, "the constant -9 does not fit Q4.12"):
        in_fixed_point(network, lnm.Fixed(16, 12))


def test_a_layer_that_runs_twice_is_refused() -> None:
    with refused(UnsupportedError, "network", "neuron ran 2 times in one call", "one run"):
        trace_layers(small(lnm.get("lif"), times=2), images())


def test_no_neurons() -> None:
    with refused(ModelError, "network", "no NeuronLayer", "a network with one or more"):
        neuron_layers(nn.Linear(1, 1))


@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
def test_like_keeps_the_parameters(per: str) -> None:
    network = small(lnm.get("lnm", degree=2, per=per))
    with torch.no_grad():
        network.neuron.theta.uniform_(-0.3, 0.3)
    double = layer_like(network.neuron, backend="torch", dtype=torch.float64)
    assert double.theta.dtype is torch.float64
    assert torch.equal(double.theta.float(), network.neuron.theta)
    x = torch.randn(2, 5, 3, 4, 4)
    assert torch.allclose(double(x.double()).float(), network.neuron(x))


def test_ranges_are_those_of_the_data() -> None:
    """Recorded by step and node; against the layer's own potentials in float64."""
    network = small(lnm.get("lnm", degree=2, per="channel", v_min=-2.0))
    with torch.no_grad():
        network.neuron.theta.copy_(torch.tensor([[0.1, 0.5, -0.2], [0, 0.9, 0], [0, 0.1, 0.3]]))
    x_seq = trace_layers(network, images())[1]["neuron"].x_seq
    found = recorded_ranges(network.neuron, x_seq)
    values = layer_parameters(network.neuron)
    result = lnm.interpret(network.neuron.neuron, x_seq.double().numpy(), **values)
    v = result.trajectory["v"]
    near = pytest.approx
    assert (found["x"].low, found["x"].high) == near(
        (float(x_seq.min()), float(x_seq.max())), abs=1e-4
    )
    assert (found["v"].low, found["v"].high) == near((v.min(), v.max()), abs=1e-3)
    assert (found["theta_1"].low, found["theta_1"].high) == near((0.1, 0.9), abs=1e-4)
    assert found["v_next"].low >= -2.0


def test_least_formats_hold_the_data_and_reach_the_target() -> None:
    """No recorded value saturates, and the share of differing spikes is within the target."""
    network = small(lnm.get("lnm", degree=2, v_min=-2.0, theta=(0.1, 0.8, 0.1)))
    specs = least_formats(network, images(64), PrecisionTarget(mismatch=0.01))
    coarse = least_formats(network, images(64), PrecisionTarget(mismatch=0.2))
    x_seq = trace_layers(network, images(64))[1]["neuron"].x_seq
    ranges = recorded_ranges(network.neuron, x_seq)
    for name, fixed in specs["neuron"].nodes:
        low, high = fixed.bits.interval
        assert low <= ranges[name].low
        assert ranges[name].high <= high + 1 / (1 << fixed.frac)
    found = measure_mismatch(network, specs, [(images(64), torch.zeros(64))], count_correct)
    assert found.layers["neuron"].share("free_running") < 0.01
    assert found.layers["neuron"].saturated == 0
    widths = [sum(f.width for _, f in s["neuron"].nodes) for s in (coarse, specs)]
    assert widths[0] < widths[1]


def test_least_formats_hold_large_values() -> None:
    """Ranges ended at 8192. What no format of 32 bits holds is refused with its layer."""
    network = small(lnm.get("lif", tau=2.0, v_threshold=8000.0))
    with torch.no_grad():
        network.norm.weight *= 1e4
    x_seq = trace_layers(network, images())[1]["neuron"].x_seq
    high = float(x_seq.max())
    assert high > 8192
    assert recorded_ranges(network.neuron, x_seq)["x"].high == pytest.approx(high)
    target = PrecisionTarget(mismatch=0.2)
    spec = least_formats(network, images(), target)["neuron"]
    assert float(spec["x"].bits.interval[1]) + 2.0 ** -spec["x"].frac >= high
    with torch.no_grad():
        network.norm.weight *= 1e9
    with refused(ModelError, "neuron: lif", "no format of at most 32 bits"):
        least_formats(network, images(), target)


def test_a_silent_layer_has_fraction_bits() -> None:
    """A layer that never fires has an error as its target, and is named."""
    network, named = small(lnm.get("lif", tau=50.0, v_threshold=100.0)), {}
    spec = least_formats(network, images(), on_silent=named.__setitem__)["neuron"]
    (target,) = named.values()
    assert list(named) == ["neuron"]
    assert target.mismatch is None
    assert spec["inv_tau"].frac >= 6
    assert spec["v"].frac >= 5


def test_a_readout_has_fraction_bits() -> None:
    """A layer without a spike has an error as its target: every format has a mismatch of 0."""
    network = small(lnm.get("li", tau=2.0))
    x = images()
    _, traces = trace_layers(network, x)
    spec = least_formats(network, x)["neuron"]
    assert spec["v"].frac >= 5
    exact = lnm.interpret(lnm.get("li", tau=2.0), traces["neuron"].x_seq.numpy()).out
    fixed = lnm.interpret_fixed(
        lnm.get("li", tau=2.0), traces["neuron"].x_seq.numpy(), spec=spec
    ).out
    assert np.abs(exact - fixed).max() < 3 * 2.0**-8 * np.abs(exact).max()
