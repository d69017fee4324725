"""Energy: counts against hand counts, plain loops and SpikingJelly; prices against figures."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import lnm_codegen as lnm
from lnm_codegen.errors import ModelError
from lnm_codegen.insight.analysis import analyze
from lnm_codegen.insight.energy.cost import (
    FP32,
    INT8,
    LEMAIRE,
    NeuronOperations,
    Neurons,
    Synapses,
    access,
    neuron_operations,
)
from lnm_codegen.insight.energy.report import EnergyReport, energy, overhead
from lnm_codegen.insight.energy.resnet19 import resnet19, resnet19_overhead
from lnm_codegen.insight.energy.table import as_csv, energy_rows
from lnm_codegen.insight.record import record
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train import TrainConfig, load, run
from lnm_codegen.train.models import build
from tests.refusals import refused

LIF = lnm.get("lif", decay_input=False)


class Tiny(nn.Module):
    """Linear 2 -> 2 on an image, neurons over T = 3, linear 2 -> 1 of the mean over time."""

    def __init__(self, neuron: Any = LIF) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
        self.neuron = NeuronLayer(neuron, backend="torch")
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 0.7]]))

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.neuron(self.first(x).expand(3, len(x), 2))
        out: Tensor = self.second(spikes.mean(0))
        return out


def tiny(**options: Any) -> EnergyReport:
    """One sample: neuron 1 is given 1.8 and always fires; neuron 2 is at .7, 1.05 (fires), .7."""
    sample = torch.tensor([[0.9, 1.0]])
    return energy(Tiny(), [(sample, torch.zeros(1))], **options)


def layer(report: EnergyReport, name: str) -> Any:
    return next(found for found in report.layers if found.name == name)


def test_an_output_that_is_a_potential_counts_no_spikes() -> None:
    """As in training: neuron 2 has a potential of 0.7, which is not 0 and is no spike."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: x}, fire=v - 1, output={"out": v})
    network, samples = Tiny(neuron), [(torch.tensor([[0.9, 1.0]]), torch.zeros(1))]
    found = layer(energy(network, samples), "neuron")
    assert (found.spikes, found.fires) == (0, False)
    activity = record(
        network, [network.neuron], [(x, torch.zeros(1, dtype=torch.long)) for x, _ in samples]
    )
    assert activity.layers[0] is not None
    assert not activity.layers[0].fired.any()


def test_hand_count() -> None:
    """2*2 MAC of the image, shown 3 times but multiplied once; 4 spikes reach one output each."""
    report = tiny()
    assert [found.name for found in report.layers] == ["first", "neuron", "second"]
    spikes = 3 + 1
    assert (report.mac, report.ac, report.spikes, report.steps) == (4, spikes, spikes, 3)
    updates = 2 * 3
    assert layer(report, "neuron").updates == updates
    assert report.total(FP32).total == pytest.approx(4 * 4.6 + spikes * 0.9 + updates * 4.6)
    assert report.total(INT8).total == pytest.approx(4 * 0.23 + spikes * 0.03 + updates * 0.23)
    assert tiny(encoder="every step").mac == 12
    found = report.as_dict()
    assert found["layers"][1]["state_reads"] == updates
    assert found["pj"]["fp32"]["total"] == report.total().total
    assert found["neuron_updates_pj"]["fp32"]["total"] == pytest.approx(updates * 4.6)


def test_prices_with_memory() -> None:
    """LEMAIRE by hand: INT32 operations, a word's price by the size of the memory it lies in."""
    assert [access(size) for size in (0, 8192, 32768, 1 << 20, 1 << 30)] == [0, 10, 20, 100, 100]
    assert access(20480) == pytest.approx(15)
    queue = access(4000)
    synapses = Synapses("c", True, False, 100, 7, 4000, 63, 160, 4, 90, 9)
    cost = EnergyReport((synapses,), 1).cost(synapses, LEMAIRE)
    assert cost.arithmetic == pytest.approx(63 * 0.1)
    # No neuron layer, so T is 1 and all 160 outputs are potentials.
    moved = 7 * queue + 63 * (access(90 * 4) + 2 * access(160 * 4))
    assert cost.memory == pytest.approx(moved)
    assert cost.addressing == pytest.approx(7 * 2 * 3.2 + 63 * 0.1)
    neurons = Neurons("n", "lnm", 10, 4, 6, NeuronOperations(3, 4, 1), 2, 5)
    cost = EnergyReport((neurons,), 1).cost(neurons, LEMAIRE)
    assert cost.arithmetic == pytest.approx(40 * (3 * 3.1 + 4 * 0.1) + 6 * 0.1)
    assert cost.memory == pytest.approx(2 * 20 * 4 * access(80) + 5 * 4 * access(20) + 6 * queue)


def reached_by_hand(conv: nn.Conv2d, x: Tensor) -> int:
    """Follow every spike to every output by the definition of a convolution."""
    height, width = conv(x).shape[2:]
    (sh, sw), (ph, pw), (dh, dw) = conv.stride, conv.padding, conv.dilation
    inside = 0
    for row, column in itertools.product(range(height), range(width)):
        for i, j in itertools.product(range(conv.kernel_size[0]), range(conv.kernel_size[1])):
            h, w = row * sh - ph + i * dh, column * sw - pw + j * dw
            if 0 <= h < x.shape[2] and 0 <= w < x.shape[3]:
                inside += int(x[:, :, h, w].sum())
    return inside * (conv.out_channels // conv.groups)


@settings(max_examples=25, deadline=None)
@given(
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
def test_fan_out_is_exact_at_borders(
    kernel: int, stride: int, padding: int, dilation: int, groups: int, seed: int
) -> None:
    """AC are the outputs that spikes reach; with numbers, the MACs that meet no padding."""
    conv = nn.Conv2d(2, 4, kernel, stride, padding, dilation, groups, bias=False)
    draw = torch.Generator().manual_seed(seed)
    x = (torch.rand(2, 2, 6, 7, generator=draw) < 0.4).float()
    report = energy(conv, [(x, torch.zeros(2))])
    assert report.ac * 2 == reached_by_hand(conv, x)
    assert report.mac == 0
    numbers = energy(conv, [(x + 0.3, torch.zeros(2))])
    assert numbers.mac * 2 == reached_by_hand(conv, torch.ones_like(x))
    assert numbers.ac == 0
    dense = energy(conv, [(x + 0.3, torch.zeros(2))], fan_out="mean").mac
    assert dense == conv(x)[0].numel() * kernel * kernel * 2 // groups
    mean = energy(conv, [(x, torch.zeros(2))], fan_out="mean").ac
    assert mean == pytest.approx(dense * float(x.mean()))


@pytest.mark.peers
def test_against_spikingjelly() -> None:
    """SynOpCounter counts the same synaptic operations; Lemaire's traffic is that of its spikes."""
    counter = pytest.importorskip("spikingjelly.activation_based.op_counter")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1, bias=False), nn.Flatten())
    x = (torch.rand(4, 3, 9, 9) < 0.3).float()
    seen = counter.SynOpCounter()
    with torch.no_grad(), counter.DispatchCounterMode([seen]):
        network(x)
    assert energy(network, [(x, torch.zeros(4))]).ac * 4 == seen.get_total()
    linear = nn.Linear(30, 7, bias=False)
    x = (torch.rand(1, 30) < 0.3).float()
    theirs = counter.estimate_lemaire_energy(linear, x)
    ours = energy(linear, [(x, torch.zeros(1))]).total(LEMAIRE)
    assert ours.arithmetic == pytest.approx(theirs.breakdown_pj["ops_pj"])
    assert ours.addressing == pytest.approx(theirs.breakdown_pj["addressing_pj"])
    assert ours.memory == pytest.approx(theirs.breakdown_pj["memory_pj"])


def test_operations_come_from_the_ir() -> None:
    """Degree d: d products and d + 1 sums, d without theta_0; h = lambda*v + x: one each."""
    assert neuron_operations(LIF) == NeuronOperations(1, 1, 0)
    for degree in (1, 2, 3, 4):
        free = neuron_operations(lnm.get("lnm", degree=degree, v_min=-2.0))
        assert (free.mul, free.add, free.reset_add) == (degree, degree + 1, 0)
        folded = neuron_operations(lnm.get("lnm", degree=degree, learn_theta_0=False, v_reset=None))
        assert (folded.mul, folded.add, folded.reset_add) == (degree, degree, 1)
    assert neuron_operations(lnm.get("lif", decay_input=True)).mul == 2
    for parametrisation in ("free", "pole"):
        two = lnm.get("lnm", states=2, degree=1, parametrisation=parametrisation)
        assert neuron_operations(two) == NeuronOperations(4, 3, 1)
    # w' = p*v + r*w, and beta at a spike; q' = gamma*q, and 1 at a spike.
    assert neuron_operations(lnm.get("adlif")) == NeuronOperations(2 + 2, 2 + 1, 1)
    assert neuron_operations(lnm.get("brf")) == NeuronOperations(6 + 1, 5, 1)
    v, x = lnm.state("v", init=0.0), lnm.input("x")
    bare = lnm.Neuron(charge={v: lnm.exp(v) / (1 + x)}, fire=v - 1, reset=lnm.hard_reset(v, 0.0))
    assert neuron_operations(bare).unpriced == (("division", 1), ("exp", 1))


@pytest.mark.parametrize(
    ("degree", "percent"), [(1, (0, 0, 0)), (2, (3.1, 2.1, 1.6)), (3, (6.1, 4.2, 3.1))]
)
def test_resnet19_has_the_derived_overhead(degree: int, percent: tuple[float, ...]) -> None:
    """At mean rates .10, .15, .20, T = 4, theta_0 folded: what was derived from layer sizes."""
    found = [resnet19_overhead(rate, degree) for rate in (0.10, 0.15, 0.20)]
    assert [f.rates for f in found] == [0, 0, 0]
    assert [f.total for f in found] == pytest.approx(list(percent), abs=0.06)


def test_resnet19_has_its_sizes() -> None:
    """1,442,048 neurons, 26.5 uJ of LIF; 3.5 MMAC of the image, 2.28 GMAC of spikes."""
    report = resnet19(LIF, 0.1)
    assert sum(n.neurons for n in report.neurons) == 1_442_048
    assert report.mac == 3 * 9 * 128 * 1024
    assert sum(s.dense / s.frames for s in report.synapses if s.spiking) == pytest.approx(
        2.28e9, rel=2e-3
    )
    assert report.updates().total == pytest.approx(26.5e6, rel=2e-3)
    assert report.driven().total == pytest.approx(838e6, rel=2e-3)
    assert resnet19(LIF, 0.1).ac == pytest.approx(resnet19(LIF, [0.1] * 18).ac)
    with pytest.raises(ModelError) as caught:
        resnet19(LIF, (0.1, 0.2))
    assert str(caught.value) == (
        "resnet19: rates is (0.1, 0.2). Accepted: one number >= 0, or 18 of them."
    )


def test_overhead_is_split_whole() -> None:
    """The part of the updates does not depend on rates; spikes make the rest of the total."""
    lnm3 = lnm.get("lnm", degree=3)
    base, more = resnet19(LIF, 0.10), resnet19(lnm3, 0.12)
    found, same = overhead(more, base), overhead(resnet19(lnm3, 0.10), base)
    assert found.neuron == pytest.approx(same.neuron)
    assert same.rates == 0
    whole = more.total().total / base.total().total
    assert found.total == pytest.approx(100 * (whole - 1))
    with pytest.raises(ModelError):
        overhead(base, EnergyReport((), 1))


def test_spikes_that_were_averaged_count() -> None:
    """A mean of spikes over a pooling window is its spikes; what is no such mean is multiplied."""
    network = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 3, bias=False))
    x = (torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    assert energy(network, [(x, torch.zeros(1))]).ac == 3 * float(x.sum())
    assert energy(network[2], [(torch.full((1, 4), 0.25), torch.zeros(1))]).mac == 12


class Always(nn.Module):
    """Neurons that fire at each of 4 steps, and an average before the weights."""

    def __init__(self, average: Any, weights: nn.Module) -> None:
        super().__init__()
        self.neuron = NeuronLayer(lnm.get("if"), backend="torch")
        self.average, self.weights = average, weights

    def forward(self, x: Tensor) -> Tensor:
        return self.weights(self.average(self.neuron(x.expand(4, *x.shape))))


@pytest.mark.parametrize(
    "average",
    [
        lambda s: s.mean(0),
        lambda s: s.sum(0) / len(s),
        lambda s: torch.stack(list(s)).mean(dim=0),
        lambda s: s.unsqueeze(2).flatten(0, 1).reshape(4, 1, 6).mean(0),
    ],
)
def test_a_mean_of_neurons_that_always_fire_keeps_its_steps(average: Any) -> None:
    """24 spikes reach 3 outputs each. The means are 1, which was counted as one spike."""
    network = Always(average, nn.Linear(6, 3, bias=False))
    assert energy(network, [(torch.full((1, 6), 2.0), torch.zeros(1))]).ac == 72


def into(function: Any, *args: Any) -> Tensor:
    """Return the result of a function that writes into another tensor."""
    out: Tensor = function(*args, out=torch.empty(0))
    return out


def filled(mean: Tensor, spikes: Tensor) -> Tensor:
    """Return both side by side, written one after the other."""
    out = torch.zeros(2, *mean.shape)
    out[0], out[1] = mean, spikes
    return out


def written(spikes: Tensor, more: Tensor) -> Tensor:
    """Return a mean and spikes side by side, each written into a view."""
    out = torch.zeros(2, *more.shape)
    torch.mean(spikes, 0, out=out[0])
    out[1].copy_(more)
    return out


class Joined(nn.Module):
    """Two layers of neurons of 4 channels, and weights of what `join` makes of their spikes."""

    def __init__(self, join: Any, weights: nn.Module) -> None:
        super().__init__()
        self.first, self.second = (NeuronLayer(lnm.get("if"), backend="torch") for _ in range(2))
        self.join, self.weights = join, weights
        self.spikes: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.spikes[:] = self.first(x), self.second(x * 2)
        return self.weights(self.join(*self.spikes))


@pytest.mark.parametrize(
    ("join", "spikes"),
    [
        (lambda a, b: torch.cat([a.mean(0), a[-1]], -1), lambda a, b: (a, a[-1])),
        (lambda a, b: torch.cat((a[0], b.mean(0), b[2]), dim=1), lambda a, b: (a[0], b, b[2])),
        (lambda a, b: torch.stack([a.mean(0), b[2]]).flip(0), lambda a, b: (a, b[2])),
        (lambda a, b: torch.stack([a.mean(0), b[2]], 1).flatten(0, 1), lambda a, b: (a, b[2])),
        (lambda a, b: torch.cat([a.mean(0), b[2]], -1).T[4:].T, lambda a, b: (b[2],)),
        (lambda a, b: torch.cat([a.mean(0), b[2]], -1).split(4, -1)[0], lambda a, b: (a,)),
        (lambda a, b: torch.cat([a[:2].mean(0), a.mean(0)], -1) / 2, lambda a, b: (a[:2], a)),
        (lambda a, b: a.mean(0) + a[-1], lambda a, b: (a, a[-1])),
        (lambda a, b: a[-1] + b[:3].mean(0) + b.mean(0), lambda a, b: (a[-1], b[:3], b)),
        (lambda a, b: torch.stack([a[:2].mean(0), b[0]]).mean(-1), lambda a, b: (a[:2], b[0])),
        (lambda a, b: torch.stack([a[:2].mean(0), b[0]]).mean(0), None),
        (lambda a, b: torch.cat([a.mean(0), b.sum(0) * 0.2], -1), lambda a, b: (a, b)),
        (lambda a, b: torch.cat([a.mean(0), b.sum(0) / 5.0], -1), lambda a, b: (a, b)),
        (lambda a, b: a.mean(0) + b.sum(0) * 0.2, lambda a, b: (a, b)),
        (lambda a, b: torch.cat([a.mean(0), b[0]], -1) * torch.cat([b[1], b[2]], -1), None),
        (lambda a, b: a.mean(0) + torch.full_like(b[0], 0.03), None),
        (lambda a, b: torch.maximum(a.mean(0), b[0]), None),
        (lambda a, b: a.mean(0).mul(0.3) + b[0], None),
        (lambda a, b: a.mean(0) * b[0], lambda a, b: (a * b[0],)),
        (lambda a, b: torch.mean(a, 0, out=torch.empty(0)).add_(a[-1]), lambda a, b: (a, a[-1])),
        (lambda a, b: a[-1].clone().add_(b.mean(0)), lambda a, b: (a[-1], b)),
        (lambda a, b: into(torch.add, a.mean(0), b[2]), lambda a, b: (a, b[2])),
        (lambda a, b: torch.add(c := a.mean(0), b[2], out=c), lambda a, b: (a, b[2])),
        (lambda a, b: into(torch.div, torch.sum(a, 0), 5), lambda a, b: (a,)),
        (lambda a, b: torch.div(a.sum(0), other=5) + b[0], lambda a, b: (a, b[0])),
        (lambda a, b: a.sum(0).div_(5).add_(b[0]), lambda a, b: (a, b[0])),
        (lambda a, b: torch.cat([a.mean(0), b[2]], -1).t_().t(), lambda a, b: (a, b[2])),
        (lambda a, b: into(torch.cat, [a.mean(0), b[2]]), lambda a, b: (a, b[2])),
        (lambda a, b: a.mean(0).copy_(b[0]), lambda a, b: (b[0],)),
        (lambda a, b: b[0].clone().copy_(a.mean(0)) + b[1], lambda a, b: (a, b[1])),
        (lambda a, b: torch.add(b[0], 0.03, out=a.mean(0)), None),
        (lambda a, b: torch.add(torch.ones(6, 4), 0.03, out=a.mean(0)), None),
        (lambda a, b: filled(a.mean(0), b[2]), lambda a, b: (a, b[2])),
        (lambda a, b: written(a, b[2]), lambda a, b: (a, b[2])),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:lnm.nn.reset")  # `Joined` keeps its spikes for the test
@pytest.mark.parametrize("seed", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2))])
def test_spikes_beside_an_average_count_once(join: Any, spikes: Any, seed: int) -> None:
    """Each spike that is joined with an average of q was counted q times. None: numbers."""
    x = 2 * torch.rand(5, 6, 4, generator=torch.Generator().manual_seed(seed))
    network = Joined(join, nn.LazyLinear(2))
    network(x)
    report = energy(network, [(x, torch.zeros(6))])
    if spikes is None:
        assert (report.ac, report.mac > 0) == (0, True)
    else:
        counted = sum(float(part.sum()) for part in spikes(*network.spikes))
        assert (report.ac * 6, report.mac) == (pytest.approx(2 * counted), 0)


@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(3)])
@pytest.mark.parametrize("rate", [0.4, 1.0])
def test_a_pooling_beside_spikes_counts_its_own_windows(pool: nn.Module, rate: float) -> None:
    """Each spike of the other branch was counted as often as a window has places."""
    draw = torch.Generator().manual_seed(3)

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.conv = pool, nn.Conv2d(5, 2, 3, padding=1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            pooled = self.pool(x)
            return self.conv(torch.cat([pooled, x[:, :2, :3, :3]], 1))

    x = (torch.rand(2, 3, 6, 6, generator=draw) < rate).float()
    sums = nn.functional.avg_pool2d(x, 2, divisor_override=1)
    expected = reached_by_hand(
        nn.Conv2d(5, 2, 3, padding=1), torch.cat([sums, x[:, :2, :3, :3]], 1)
    )
    assert energy(Branches(), [(x, torch.zeros(2))]).ac * 2 == pytest.approx(expected)


def test_a_compiled_network_is_counted_as_it_is() -> None:
    """Its own code would bypass what follows averages."""
    plain = Always(lambda s: s.mean(0), nn.Linear(6, 3, bias=False))
    network = torch.compile(plain, backend="eager")
    assert energy(network, [(torch.full((1, 6), 2.0), torch.zeros(1))]).ac == 72


@pytest.mark.parametrize("size", [7, 8, 15])
@pytest.mark.parametrize("rate", [0.4, 1.0])
@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, 2, 1),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.AvgPool2d(3, 2, ceil_mode=True),
        nn.AvgPool2d(2, divisor_override=3),
        nn.AdaptiveAvgPool2d((3, 2)),
    ],
)
def test_a_pooling_counts_the_spikes_of_its_windows(
    size: int, rate: float, pool: nn.Module
) -> None:
    """Each spike counts in each window that holds it, where the size is no multiple too."""
    x = (torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(2)) < rate).double()
    y = x.clone().requires_grad_()
    conv = nn.Conv2d(3, 2, 3, padding=1, bias=False).double()
    # The derivative of a window by its values is 1/area.
    windows = pool(y)
    areas = torch.stack([1 / torch.autograd.grad(windows[0, 0, i, j], y, retain_graph=True)[0]
                         [0, 0].max() for i in range(windows.shape[2])
                         for j in range(windows.shape[3])]).reshape(windows.shape[2:])  # fmt: skip
    spikes = (windows * areas).detach().round()
    assert energy(nn.Sequential(pool, conv), [(x, torch.zeros(2))]).ac * 2 == reached_by_hand(
        conv, spikes
    )
    flat = nn.Sequential(pool, nn.Flatten(), nn.Linear(spikes[0].numel(), 5, bias=False).double())
    assert energy(flat, [(x, torch.zeros(2))]).ac * 2 == pytest.approx(5 * float(spikes.sum()))


def test_divided_numbers_are_no_spikes() -> None:
    """Pixels over 255 are numbers; spikes over an integer stay spikes."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.first(x / 255)

    pixels = torch.randint(1, 255, (1, 4)).float()
    assert energy(Scaled(), [(pixels, torch.zeros(1))]).mac == 8


@pytest.mark.parametrize("feedback", ["layer", "down"])
def test_recurrent_weights_are_counted_step_by_step(feedback: str) -> None:
    """Every spike but the last step's crosses the feedback; the readout's neurons never fire."""
    torch.manual_seed(0)
    sample = (9, 3)
    network = build("recurrent", LIF, sample, 4, kind="sequence", backend="torch", hidden=(6, 5),
                    feedback=feedback, gain=3.0)  # fmt: skip
    spikes: dict[int, Tensor] = {}
    for k, one in enumerate(network.neurons):
        one.register_forward_hook(lambda _m, _i, out, k=k: spikes.__setitem__(k, out))
    report = energy(network, [(2 * torch.rand(9, 2, 3), torch.zeros(2))])
    fired = [float(spikes[k].sum()) / 2 for k in (0, 1)]
    heard = [float(spikes[k][:-1].sum()) / 2 for k in (0, 1)]
    assert min(fired) > 0
    assert layer(report, "layers.0.linear").spiking is False
    assert report.mac == 9 * 3 * 6
    assert layer(report, "layers.1.linear").reached == pytest.approx(fired[0] * 5)
    back = heard[0] * 6 if feedback == "layer" else heard[1] * 6
    assert layer(report, "recurrent.0").reached == pytest.approx(back)
    assert layer(report, "readout.linear").reached == pytest.approx(fired[1] * 4)
    assert report.spikes == pytest.approx(sum(fired))
    assert {n.steps for n in report.neurons} == {9}
    assert [n.fires for n in report.neurons] == [True, True, False]
    assert report.rate == pytest.approx(sum(fired) / (9 * 11))


@pytest.mark.parametrize("form", ["full", "diagonal", "blocks", "mask"])
def test_weights_of_a_layer_are_counted(form: str) -> None:
    """W and U of a recurrent layer, as linear layers beside neurons; a spike reaches its own."""
    torch.manual_seed(1)
    x = torch.randint(0, 2, (9, 3, 4)).float()
    options: dict[str, Any] = {
        "full": {}, "diagonal": {"recurrent": "diagonal"}, "blocks": {"blocks": 3},
        "mask": {"recurrent": torch.rand(6, 6) < 0.4},
    }[form]  # fmt: skip
    inner = lnm.nn.RecurrentLayer(lnm.get("lif"), 6, 4, backend="torch", **options)
    with torch.no_grad():
        inner.weight.abs_()
    spikes = inner(x).detach()
    before = torch.cat([torch.zeros(1, 3, 6), spikes[:-1]])
    reached = {
        "full": torch.full((6,), 6), "diagonal": torch.ones(6), "blocks": torch.full((6,), 2),
        "mask": inner.mask.sum(0) if inner.mask is not None else None,
    }[form]  # fmt: skip
    report = energy(nn.Sequential(inner), [(x, torch.zeros(3, dtype=torch.long))])
    weight, recurrent, neurons = report.layers
    assert isinstance(weight, Synapses)
    assert isinstance(recurrent, Synapses)
    assert (weight.name, recurrent.name, neurons.name) == ("0.weight", "0.recurrent", "0")
    assert (weight.encoder, recurrent.encoder) == (True, False)
    assert weight.reached == pytest.approx(float(x.sum()) * 6 / 3)
    assert recurrent.reached == pytest.approx(float((before * reached).sum()) / 3)
    assert recurrent.dense == 9 * int(reached.sum())
    assert recurrent.weights == int(reached.sum())
    assert spikes.any()


def test_single_steps_are_counted_as_one_sequence() -> None:
    """A layer that is called step by step has as many steps as calls."""

    class Stepped(Tiny):
        def forward(self, x: Tensor) -> Tensor:
            self.neuron.step_mode = "s"
            self.neuron.reset()
            outs = [self.neuron(self.first(x)) for _ in range(3)]
            return self.second(torch.stack(outs).mean(0))

    sample = [(torch.tensor([[0.9, 1.0]]), torch.zeros(1))]
    stepped, whole = energy(Stepped(), sample), tiny()
    assert layer(stepped, "neuron") == layer(whole, "neuron")
    assert stepped.ac == whole.ac
    assert stepped.mac == 3 * whole.mac  # it does run three times


@pytest.mark.parametrize("mode", ["s", "m"])
def test_states_do_not_pass_from_batch_to_batch(mode: str) -> None:
    """Every batch is a new inference, as for `analyze`; a shorter one was a ShapeError."""
    lif = NeuronLayer(lnm.get("lif", tau=4.0), backend="torch", step_mode=mode)
    lif.carry_state = mode == "m"
    network = nn.Sequential(lif, nn.Linear(4, 3))
    x = torch.rand(*(6, 6, 4)[mode == "s" :], generator=torch.Generator().manual_seed(0)) * 6
    batch, shorter = (x, torch.zeros(6)), (x.narrow(int(mode == "m"), 0, 2), torch.zeros(2))
    once, alone = energy(network, [batch]), energy(network, [shorter])
    assert once.spikes > 0
    assert energy(network, [batch] * 3).as_dict() == once.as_dict() | {"samples": 18}
    mixed = energy(network, [batch, shorter, batch])
    assert mixed.spikes * 14 == pytest.approx(once.spikes * 12 + alone.spikes * 2)
    assert analyze(network, [(x, torch.zeros(6, dtype=torch.long))]).energy == once


def test_a_limit_cuts_samples_and_no_steps() -> None:
    """x of (T, N, *) was cut along T."""
    network = nn.Sequential(nn.Linear(4, 8), NeuronLayer(LIF, backend="torch"), nn.Linear(8, 2))
    x, labels = torch.randn(6, 4, 4) * 3, torch.zeros(4)
    found = energy(network, [(x, labels)], limit=2)
    assert (found.samples, found.steps, found.mac) == (2, 6, 6 * 4 * 8)
    assert found == energy(network, [(x[:, :2], labels[:2])])
    both = energy(network, [(x, labels), (x, labels)], limit=6)
    assert both == energy(network, [(x, labels), (x[:, :2], labels[:2])])
    assert energy(network[0], [(torch.rand(5, 4), torch.zeros(5))], limit=3).mac == 4 * 8
    assert energy(network, [(x[:4], labels)], limit=4).samples == 4  # nothing to cut
    for wrong in (x[:4], x[:, :3]):
        with refused(
            ModelError, "energy", f"limit cuts x of shape {tuple(wrong.shape)}, and labels are of"
            " 4 samples", "samples along one of the first two axes", "Leave out limit"
        ):  # fmt: skip
            energy(network, [(wrong, labels)], limit=2)


def test_mistakes_are_one_line() -> None:
    with refused(ModelError, "energy", "fan_out is 'most'", "'exact', 'mean'"):
        tiny(fan_out="most")
    with refused(ModelError, "energy", "encoder is 'twice'", "'as run', 'every step'"):
        tiny(encoder="twice")
    with refused(ModelError, "energy", "no samples"):
        energy(Tiny(), [])
    padded = nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")
    with refused(ModelError, "energy", "padding_mode is 'reflect'", "'zeros'"):
        energy(padded, [(torch.rand(1, 1, 4, 4), torch.zeros(1))])


def test_the_network_is_left_as_it_was() -> None:
    network = Tiny().train()
    energy(network, [(torch.tensor([[0.9, 1.0]]), torch.zeros(1))], limit=1)
    assert network.training
    assert not any(m._forward_hooks for m in network.modules())


def test_a_table_of_runs(tmp_path: Path) -> None:
    """A row for the baseline, whose overhead is 0, and one for each run, with the same columns."""
    data = load("digits", limit=12)
    base = TrainConfig(
        family="lif", arguments={"decay_input": False}, epochs=1,
        network_arguments={"channels": (2,), "time_steps": 2}, limit=12, backend="torch", threads=1,
    )  # fmt: skip
    lnm2 = replace(base, family="lnm", arguments={"degree": 2})
    two = replace(base, family="lnm", arguments={"degree": 1, "states": 2})
    for name, config in (("lif", base), ("lnm2", lnm2), ("two", two)):
        run(config, tmp_path / name, data=data)
    rows = energy_rows([tmp_path / "lnm2", tmp_path / "two"], tmp_path / "lif", limit=10)
    assert [row["samples"] for row in rows] == [10, 10, 10]
    assert rows[0]["overhead_fp32"] == rows[0]["resnet19"] == 0
    assert rows[0]["resnet19_folded"] == ""
    found = rows[1]
    assert found["neuron_mul"] == 2 * rows[0]["neuron_mul"]
    assert found["overhead_fp32"] == pytest.approx(
        100 * (found["pj_fp32"] / rows[0]["pj_fp32"] - 1)
    )
    assert found["resnet19_folded"] == resnet19_overhead(found["rate"], 2).total
    assert rows[2]["resnet19_folded"] == ""  # a figure of one state
    lines = as_csv(rows).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("run,family,data,network,seed,samples,steps,rate,mac,ac,spikes,")
    assert all(line.count(",") == lines[0].count(",") for line in lines)


def test_an_encoder_at_every_step_costs_every_step() -> None:
    """Operations, memory and addressing alike, numbers or spikes, by either fan-out."""
    sizes = {"kind": "image", "backend": "torch", "channels": (2,)}
    network = build("conv", lnm.get("lif"), (1, 8, 8), 10, **sizes)
    for x in (torch.rand(2, 1, 8, 8), (torch.rand(2, 1, 8, 8) > 0.5).float()):
        for fan_out in ("exact", "mean"):
            once = energy(network, [(x, torch.zeros(2))], fan_out=fan_out)
            every = replace(once, encoder="every step")
            first = next(s for s in once.synapses if s.encoder)
            a, b = once.cost(first, LEMAIRE), every.cost(first, LEMAIRE)
            for part in ("arithmetic", "memory", "addressing"):
                assert getattr(b, part) == pytest.approx(4 * getattr(a, part)), part


def test_an_encoder_of_tokens_that_runs_once_costs_every_step() -> None:
    """9 tokens are no 9 time steps. With a time axis, or call by call, it ran at every step."""

    class Tokens(nn.Module):
        def __init__(self, mode: str) -> None:
            super().__init__()
            self.emb, self.mode = nn.Linear(12, 5, bias=False), mode
            self.neuron = NeuronLayer(LIF, backend="torch")

        def forward(self, x: Tensor) -> Tensor:
            x_seq = x.expand(4, *x.shape)
            if self.mode == "once":
                return self.neuron(self.emb(x).expand(4, *x.shape[:2], 5))
            if self.mode == "calls":
                return self.neuron(torch.stack([self.emb(step) for step in x_seq]))
            return self.neuron(self.emb(x_seq))

    samples = [(torch.rand(2, 9, 12), torch.zeros(2))]
    assert energy(Tokens("once"), samples).mac == 540
    for mode in ("once", "calls", "sequence"):
        assert energy(Tokens(mode), samples, encoder="every step").mac == 2160
    assert energy(Tokens("sequence"), samples).mac == 2160
