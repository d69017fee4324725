"""Quantization mismatch: every count against one made by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lnm_codegen as lnm
from lnm_codegen.deploy.mismatch import (
    LayerCounts,
    _differing,
    measure_mismatch,
    quantized,
    specs_for,
)
from lnm_codegen.deploy.network import in_fixed_point, trace_layers
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir.types import Bits
from lnm_codegen.nn import NeuronLayer, NormNeuron
from lnm_codegen.train.losses import count_correct
from tests.deploy.test_network import images, small
from tests.refusals import refused

NEURON = lnm.get("lnm", degree=3, theta=(0.02, 0.85, 0.11, -0.06))
COARSE = lnm.Fixed(7, 4)


def test_counts_are_those_of_the_models() -> None:
    """In 7 bits much differs: each comparison is made again with the interpreters."""
    network = small(NEURON)
    labels = torch.arange(8) % 3
    found = measure_mismatch(
        network, specs_for(network, COARSE), [(images(), labels)], count_correct
    )
    logits, seen = trace_layers(network, images())
    layer, x_seq = found.layers["neuron"], seen["neuron"].x_seq.double().numpy()
    fixed = lnm.interpret_fixed(NEURON, x_seq, spec=COARSE)
    real = lnm.interpret(NEURON, x_seq)
    x = quantized(torch.from_numpy(x_seq), COARSE.bits).numpy()
    one_step = 0
    for t in range(3):
        step = lnm.interpret(NEURON, x[t : t + 1], state={"v": fixed.trajectory["v"][t] / 16.0})
        one_step += int((step.out[0] != fixed.out[t]).sum())
    fires = trace_layers(in_fixed_point(network, COARSE), images())
    assert layer == LayerCounts(
        steps=x_seq.size,
        one_step=one_step,
        free_running=int((real.out != fixed.out).sum()),
        in_network=int((seen["neuron"].out != fires[1]["neuron"].out).sum()),
        fired=int(seen["neuron"].out.sum()),
        fired_fixed=int(fixed.out.sum()),
        saturated=int((x_seq >= 4 - 1 / 32).sum() + (x_seq < -4 - 1 / 32).sum()),
    )
    assert layer.one_step > 0
    assert layer.saturated > 0
    assert 0 < layer.share("free_running") < 0.2
    assert found.one_step_mismatch == layer.one_step / layer.steps
    assert found.accuracy == float((logits.argmax(1) == labels).double().mean())
    assert found.accuracy_fixed == float((fires[0].argmax(1) == labels).double().mean())


def test_spikes_of_both_signs_do_not_cancel() -> None:
    network = small(lnm.get("ternary"))
    seen = trace_layers(network, images())[1]["neuron"].out
    specs, labels = specs_for(network, lnm.Fixed(24, 16)), torch.zeros(8, dtype=torch.int64)
    found = measure_mismatch(network, specs, [(images(), labels)], count_correct)
    positive, negative = int((seen == 1).sum()), int((seen == -1).sum())
    assert min(positive, negative) > 0
    assert found.layers["neuron"].fired == positive + negative


def test_batches_add_up() -> None:
    network = small(NEURON)
    pairs = [(image, torch.zeros(1, dtype=torch.int64)) for image in images().split(1)]
    several = measure_mismatch(network, specs_for(network, COARSE), pairs, count_correct)
    one = measure_mismatch(
        network, specs_for(network, COARSE), [(images(), torch.zeros(8, dtype=int))], count_correct
    )
    assert several == one
    assert several.images == 8


class _PerStep(nn.Module):
    """Logits (T, N, 3) of each of three steps."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small(NEURON)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.inner.norm(self.inner.conv(images))
        return self.inner.neuron(x.expand(3, *x.shape)).mean((3, 4))


def test_logits_of_each_step() -> None:
    """One label an image: the mean over time predicts. A label a step: each step does."""
    network, whole = _PerStep().eval(), small(NEURON)
    labels = torch.arange(8) % 3
    specs = specs_for(network, COARSE)
    found = measure_mismatch(network, specs, [(images(), labels)], count_correct)
    mean = measure_mismatch(whole, specs_for(whole, COARSE), [(images(), labels)], count_correct)
    assert (found.images, found.predictions) == (8, 8)
    assert (found.correct, found.correct_fixed) == (mean.correct, mean.correct_fixed)
    each = measure_mismatch(network, specs, [(images(), labels.expand(3, 8))], count_correct)
    assert (each.images, each.predictions) == (8, 24)
    right = network(images()).argmax(2) == labels
    assert each.accuracy == float(right.double().mean())


def test_wide_formats_agree_but_for_the_last_bits() -> None:
    network = small(NEURON)
    found = measure_mismatch(
        network,
        specs_for(network, lnm.Fixed(28, 20)),
        [(images(), torch.zeros(8, dtype=int))],
        count_correct,
    )
    assert found.one_step_mismatch == found.free_running_mismatch == 0.0


def test_potentials_that_float32_does_not_hold() -> None:
    """A readout of potentials in 28 bits was refused; the copy in fixed point is in float64."""
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Linear(4, 3), NormNeuron(NEURON, 3, backend="torch"), nn.Linear(3, 3),
        NeuronLayer(lnm.get("li", tau=2.0), backend="torch"),
    ).eval()  # fmt: skip
    x, labels = torch.randn(5, 8, 4), torch.zeros(8, dtype=torch.int64)
    wide = specs_for(network, lnm.Fixed(28, 14))
    found = measure_mismatch(network, wide, [(x, labels)], count_correct)
    assert found.free_running_mismatch == 0
    assert found.layers["1"].fired > 0
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_numbers_that_are_not_finite_differ() -> None:
    """NaN is equal to no number of a format; it once counted as equal to all of them."""
    real = torch.tensor([0.0, 1.0, float("nan"), float("inf"), float("-inf"), 0.4])
    assert _differing(real, torch.tensor([0.0, 0.0, 0.0, 7.9, -8.0, 0.0])) == 4


def test_rounding_to_a_format() -> None:
    values = torch.tensor([0.49, 0.5, -0.5, -0.51, 9.0, -9.0, torch.nan]) / 4
    want = [0, 1, 0, -1, 7, -8, 0]
    assert (quantized(values, Bits(4, 2)) * 4).tolist() == want


def test_a_spec_serves_layers_with_other_nodes() -> None:
    """A format of w, which only one layer has, was refused; a name of no layer still is."""
    layers = (NeuronLayer(lnm.get(name), backend="torch") for name in ("adlif", "li"))
    network, w = nn.Sequential(*layers), lnm.Fixed(20, 14)
    spec = lnm.FixedSpec(COARSE, {"w": w, "v": lnm.Fixed(12, 6)})
    specs = specs_for(network, spec)
    assert specs == {"0": spec, "1": lnm.FixedSpec(COARSE, {"v": lnm.Fixed(12, 6)})}
    in_fixed_point(network, specs)
    problem = "a format for 'h_9', which no layer of neurons has"
    with refused(ModelError, "network", problem, "w", "Name one of these."):
        specs_for(network, lnm.FixedSpec(COARSE, {"h_9": w}))


def test_refusals() -> None:
    network = small(NEURON)
    with refused(ModelError, "measure_mismatch", "no images"):
        measure_mismatch(network, specs_for(network, COARSE), [], count_correct)
    with refused(ModelError, "network", "no format for 'neuron'", remedy="for each neuron layer"):
        in_fixed_point(network, {"other": COARSE})
    v, x = lnm.state("v"), lnm.input("x")
    growing = lnm.Neuron({v: lnm.exp(v) + x}, v - 1, name="growing")
    with pytest.raises(UnsupportedError) as caught:
        in_fixed_point(small(growing), COARSE)
    assert "growing" in str(caught.value)


@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
def test_steps_begin_with_learned_initial_values(per: str) -> None:
    """In a wide format nothing differs from the layer, whose potential begins at the parameter."""
    v, x = lnm.state("v", init=lnm.param("start", per=per)), lnm.input("x")
    neuron = lnm.Neuron(charge={v: v / 2 + x}, fire=v - 1, reset=lnm.hard_reset(v), name="begun")
    network = small(neuron)
    with torch.no_grad():
        network.neuron.start += 1 + torch.rand(network.neuron.start.shape)
    labels = torch.arange(8) % 3
    wide = specs_for(network, lnm.Fixed(30, 22))
    (layer,) = measure_mismatch(network, wide, [(images(), labels)], count_correct).layers.values()
    assert (layer.one_step, layer.free_running, layer.in_network) == (0, 0, 0)
    assert layer.fired > 0


def test_a_recurrent_layer_is_traced_with_its_feedback() -> None:
    """Its neurons receive W x + b + U s; neurons in integers alone would lose it."""
    layer = lnm.nn.RecurrentLayer(lnm.get("lif"), 5, 3, backend="torch")
    network, x = nn.Sequential(layer), 3 * torch.randn(6, 2, 3)
    out, traces = trace_layers(network, x)
    before = torch.cat([torch.zeros(1, 2, 5), out[:-1]])
    expected = x @ layer.weight.T + layer.bias + before @ layer.recurrent.T
    assert out.any()
    torch.testing.assert_close(traces["0"].x_seq, expected.detach())
    with refused(lnm.UnsupportedError, "0", "a RecurrentLayer has no integers"):
        in_fixed_point(network, COARSE)
