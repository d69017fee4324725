"""`lnm bench-network` on tiny networks: rows and sentences; no time is asserted."""

from __future__ import annotations

import csv
import json
import math
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import lnm_codegen as lnm
import lnm_codegen.nn
from lnm_codegen.bench import steps
from lnm_codegen.bench.measure import Timing
from lnm_codegen.bench.steps import DESIGNS, StepCase, StepReport, contenders, measure_steps
from lnm_codegen.bench.subjects import Resetting
from lnm_codegen.cli import run as command
from lnm_codegen.errors import ModelError
from lnm_codegen.nn import NeuronLayer
from tests.refusals import refused

pytestmark = pytest.mark.needs_cc
LIF = lnm.get("lif", tau=2.0)
NO_FUSE = "lif fused: this version has no lnm.nn.fuse."
NO_BITS = "lif layer, bits: this version has no lnm.nn.pack_spikes."


@pytest.fixture
def plain(monkeypatch):
    """A version without `lnm.nn.fuse` and `lnm.nn.pack_spikes`."""
    for name in ("fuse", "pack_spikes"):
        monkeypatch.delattr(lnm_codegen.nn, name, raising=False)


def small(name, **options):
    return StepCase(name, LIF, batch=2, size=16, peers=False, rounds=1, **options)


def lined_up(steps, neuron=LIF, peers=False, compile=False):
    case = StepCase("feedforward", neuron, peers=peers, compile=compile)
    return contenders(case, DESIGNS["feedforward"], steps, 4)


@pytest.mark.parametrize("peers", [False, pytest.param(True, marks=pytest.mark.peers)])
def test_precision_and_memory_format(monkeypatch, peers):
    """Of every subject: convolutions give bfloat16 in channels last, neurons keep both."""
    seen = []

    def hook(module, inputs, out):
        seen.append((type(module).__name__, out.dtype, out.stride(-3)))

    def watched(*arguments):
        found = contenders(*arguments)
        for one in found.contenders:
            for module in one.net.modules():
                if isinstance(module, nn.Conv2d | NeuronLayer | Resetting):
                    module.register_forward_hook(hook)
        return found

    monkeypatch.setattr(steps, "contenders", watched)
    case = StepCase(
        "vgg11", LIF, (2,), batch=2, size=32, peers=peers, compile=False, rounds=1,
        precision="bfloat16", memory_format="channels_last", options={"width": 4},
    )  # fmt: skip
    report = measure_steps(case)
    assert {(r.precision, r.memory_format) for r in report.rows} == {("bfloat16", "channels_last")}
    assert {name for name, *_ in seen} == {"Conv2d", "NeuronLayer", "NormNeuron"} | (
        {"Resetting"} if peers else set()
    )
    assert {(dtype, stride) for _, dtype, stride in seen} == {(torch.bfloat16, 1)}


def test_rows(plain):
    """A row for each T, with shares between 0 and 1, and a sentence for what is left out."""
    report = measure_steps(small("feedforward", steps=(2, 3)))
    assert [(r.steps, r.what) for r in report.rows] == [(2, "lif layer"), (3, "lif layer")]
    assert report.left_out == (NO_FUSE, NO_BITS)
    for row in report.rows:
        assert 0 <= row.share <= 1
        assert row.limit is None or math.isclose(row.limit, 1 / (1 - row.share))
        assert row.ms <= row.median_ms
        assert row.faster == report.rows[row.steps - 2].faster == 1
        # Two layers of 128: their currents, and the spikes that the second one receives.
        kept = row.steps * 2 * 4 * (3 * 128)
        assert kept <= row.kept_bytes <= row.peak_bytes
    assert len(report.load) == 2


def test_designs():
    """Every network has a shape for its default sizes, and one T or more."""
    for name in ("resnet18", "sew_resnet18", "vgg11", "conv", "feedforward"):
        design = DESIGNS[name]
        for length in design.steps:
            sample = design.sample(length, design.size)
            assert sample[0] == (3 if design.kind == "image" else length)
        assert (design.options.get("shortcut") == "sew") == (name == "sew_resnet18")


def test_fused_and_packed_networks_are_found_by_name(monkeypatch):
    """`fuse` changes a copy of the network; `pack_spikes` is a context around its forward."""

    class Other(nn.Identity):
        pass

    def fuse(net: nn.Module) -> str:
        net.get_submodule("readout").add_module("other", Other())
        return "report"

    entered = []

    @contextmanager
    def pack_spikes():
        entered.append(True)
        yield

    monkeypatch.setattr(lnm_codegen.nn, "fuse", fuse, raising=False)
    monkeypatch.setattr(lnm_codegen.nn, "pack_spikes", pack_spikes, raising=False)
    found = lined_up(2)
    layer, fused, bits = found.contenders
    names = [c.name for c in found.contenders]
    assert names == ["lif layer", "lif fused", "lif fused, bits"]
    assert not found.left_out
    has_other = [any(isinstance(m, Other) for m in c.net.modules()) for c in (layer, fused, bits)]
    assert has_other == [False, True, True]
    data, labels = torch.randn(2, 3, 4), torch.zeros(3, dtype=torch.long)
    steps.step_of(layer, data, labels)()
    assert not entered
    steps.step_of(bits, data, labels)()
    assert entered

    monkeypatch.setattr(lnm_codegen.nn, "fuse", lambda net: "nothing")
    found = lined_up(2)
    assert [c.name for c in found.contenders] == ["lif layer", "lif layer, bits"]
    assert found.left_out == ("lif fused: lnm.nn.fuse finds nothing to fuse in this network.",)


@pytest.mark.peers
def test_peers(plain):
    """SpikingJelly's network has the same weights; its LIF fires as ours, so the loss is equal."""
    found = lined_up(3, peers=True)
    peer, ours = found.contenders
    assert peer.name == "SpikingJelly LIFNode"
    assert not any(isinstance(m, NeuronLayer) for m in peer.net.modules())
    for net in (peer.net, ours.net):
        linear = [m for m in net.modules() if isinstance(m, nn.Linear)]
        for module in linear:
            nn.init.normal_(module.weight, generator=torch.Generator().manual_seed(0))
        assert len(linear) == 3
    data, labels = 2 * torch.randn(3, 5, 4), torch.zeros(5, dtype=torch.long)
    fired = []
    for layer in ours.net.neurons:
        layer.register_forward_hook(lambda m, i, out: fired.append(bool(out.any())))
    ours.net(data)
    assert fired == [True, True]
    theirs, own = (steps.halves_of(c, data, labels) for c in (peer, ours))
    assert torch.equal(theirs.forward(), own.forward())
    report = measure_steps(StepCase("feedforward", LIF, (3,), 2, 4, rounds=1, compile=False))
    assert [r.what for r in report.rows] == ["SpikingJelly LIFNode", "lif layer"]
    assert report.rows[0].kept_bytes > report.rows[1].kept_bytes
    long = lined_up(784, peers=True, compile=True)
    assert [c.name for c in long.contenders] == ["SpikingJelly LIFNode", "lif layer"]
    assert "torch.compile unrolls the loop over time" in long.left_out[0]


def test_a_share_is_at_most_one():
    """Also where another load made the neurons alone slower than the step."""
    for neurons, share in ((1.0, 0.25), (4.0, 1.0), (9.0, 1.0)):
        alone, step = (Timing(*[low] * 5) for low in (neurons, 4.0))
        assert steps.share_of(alone, step) == share


def test_neurons_alone_calls_every_layer_once():
    """On the inputs of a step, with gradients, which leave the parameters' gradients alone."""
    neuron = lnm.get("lnm", degree=2)
    found = lined_up(2, neuron)
    net, data = found.contenders[0].net, torch.randn(2, 3, 4)
    run = steps.neurons_alone(found.contenders[0], data)
    called = []
    for layer in net.neurons:
        layer.register_forward_hook(lambda m, i, o: called.append((m, i[0].requires_grad)))
    run()
    assert called == [(layer, True) for layer in net.neurons]
    assert all(p.grad is None for p in net.parameters())


def test_unknown_network():
    with refused(ModelError, "bench", "'resnet'", "resnet18", "Did you mean"):
        measure_steps(small("resnet"))


@pytest.mark.parametrize(
    ("line", "name", "found"),
    [
        ("bench-network conv", "conv", "lif"),
        ("bench-network conv plif --steps 2", "conv", "plif"),
        ("bench --network conv", "conv", "lif"),
        ("bench plif --steps=2 --network=conv", "conv", "plif"),
    ],
)
def test_the_case_of_a_command(line, name, found, monkeypatch, capsys):
    """The spelling of 0.2 is that of `bench`, with a note on standard error."""
    cases, empty = [], StepReport((), (), (0.0, 0.0))
    monkeypatch.setattr(steps, "measure_steps", lambda case: cases.append(case) or empty)
    assert command([*line.split(), "--rounds", "3", "--no-peers", "--json"]) == 0
    (case,) = cases
    assert (case.name, case.neuron.name, case.rounds, case.peers) == (name, found, 3, False)
    assert case.steps == ((2,) if "steps" in line else None)
    note = "note: since 0.3 this is lnm bench-network; see lnm bench-network --help.\n"
    assert capsys.readouterr().err == note * ("--network" in line)


@pytest.mark.slow
def test_command(tmp_path, capfd):
    """JSON on standard output and network.csv in the folder."""
    few = "bench-network feedforward --steps 2 --batch 2 --size 4 --rounds 1 --no-peers --json"
    assert command([*few.split(), "--out", str(tmp_path)]) == 0
    rows = json.loads(capfd.readouterr().out)["rows"]
    assert rows[0]["what"] == "lif layer"
    assert 0 <= rows[0]["share"] <= 1
    with (tmp_path / "network.csv").open(newline="") as file:
        assert [r["what"] for r in csv.DictReader(file)] == [r["what"] for r in rows]


def test_wrong_options_are_one_line(capsys):
    for line, message in (
        ("bench-network resnet", "network 'resnet'"),
        ("bench-network", "lnm bench-network: Missing argument"),
        ("bench-network conv --neurons 2,3", "No such option: --neurons"),
        ("bench-network conv --dtype float64", "No such option: --dtype"),
        ("bench-network conv --steps 0", "steps is '0'"),
        ("bench --batch 3", "No such option: --batch"),
        ("bench --size 3", "No such option: --size"),
        ("bench-network vgg11 --size 8", "poolings of an image"),
    ):
        assert command(line.split()) == 2
        found = capsys.readouterr().err
        assert message in found
        assert found.count("\n") == 1
