"""Conversion of trained networks to integers: against the network in float."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import lnm_codegen as lnm
from lnm_codegen.deploy.integers.convert import (
    NEURON_BITS,
    default_formats,
    default_network,
    integer_network,
    integer_samples,
    real_network,
    whole_bits,
)
from lnm_codegen.deploy.integers.real import (
    RealWeights,
    WeightFormat,
    integer_readout,
    integer_weights,
    real_stages,
    weight_scales,
)
from lnm_codegen.deploy.integers.search import IntegerAccuracy, integer_accuracy
from lnm_codegen.deploy.network import trace_layers
from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.ir.network.interpret import interpret_network, sample_rows
from lnm_codegen.ir.network.nodes import (
    SPIKES,
    FlattenStage,
    NeuronStage,
    PoolStage,
    ValueSpan,
    WeightStage,
)
from lnm_codegen.ir.types import Bits, FixedSpec
from lnm_codegen.nn.chain import Chain
from lnm_codegen.nn.norm.deferred import DeferredNorm
from tests.deploy.integers.runs import built, chained, images, layer, real
from tests.refusals import assert_refused, refused

WIDE = WeightFormat(16, "channel", multiplier=True)


def scores(network, formats, x):
    """Return the scores in float and in integers as real numbers, and the two labels."""
    made = integer_network(network, formats)
    found = interpret_network(made, integer_samples(made, x.numpy()))
    with torch.no_grad():
        expected = network.network(x).numpy()
    count = made.time_steps if made.over == "mean" else 1
    return expected, found.scores / 2.0**made.scores.frac / count


@pytest.mark.parametrize(
    ("over", "pool"),
    [("mean", nn.AvgPool2d(2)), ("last", nn.MaxPool2d(2)), ("max", nn.AvgPool2d(2)),
     ("mean", nn.AvgPool2d(3))],
)  # fmt: skip
def test_wide_formats_are_the_network(over: str, pool: nn.Module) -> None:
    """With wide formats the scores are those in float: folded norms, averages and biases too.

    The average of 9 values divides the next weights by 9.
    """
    own = chained(over, pool)
    if pool.kernel_size == 3:
        torch.manual_seed(0)
        own.down = nn.Conv2d(4, 5, 2)
        with torch.no_grad():
            own.down.weight *= 8
    network, x = real(own), images()
    formats = default_formats(network, x, WIDE, width=24, input_width=20)
    expected, found = scores(network, formats, x)
    assert np.mean(np.abs(expected - found) < 2e-3) > 0.95
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize(
    ("name", "kind", "sample", "options"),
    [
        ("feedforward", "sequence", (6, 3), {"hidden": (7, 5)}),
        ("feedforward", "image", (1, 3, 3), {"hidden": (8,), "norm": "batch", "readout": "linear"}),
        ("feedforward", "image", (1, 3, 3), {"hidden": (8,), "norm": "batch", "fused": False}),
        ("feedforward", "sequence", (6, 2, 2, 2), {"hidden": (8,), "over": "last"}),
        ("recurrent", "sequence", (6, 3), {"hidden": (7, 5), "per_step": True}),
        ("recurrent", "sequence", (6, 3), {"hidden": (9,), "norm": "batch", "over": "last"}),
        ("recurrent", "image", (1, 3, 3), {"hidden": (8, 8), "readout": "linear"}),
        ("conv", "image", (2, 6, 6), {"channels": (3, 4), "time_steps": 3}),
        ("conv", "sequence", (4, 2, 6, 6), {"channels": (3,), "fused": False}),
        ("resnet20", "image", (2, 8, 8), {"width": 2, "time_steps": 3}),
        ("resnet20", "image", (2, 8, 8), {"width": 2, "time_steps": 3, "fused": False}),
        ("resnet20", "image", (2, 8, 8), {"width": 2, "time_steps": 3, "shortcut": "ms"}),
        ("resnet20", "image", (2, 8, 8), {"width": 2, "time_steps": 3, "shortcut": "sew"}),
        ("resnet20", "sequence", (3, 2, 8, 8), {"width": 2, "shortcut": "sew", "fused": False}),
        *(pytest.param(*given, marks=pytest.mark.slow) for given in (
            ("vggsnn", "image", (1, 16, 16), {"width": 1, "time_steps": 2}),
            ("resnet19", "image", (2, 8, 8), {"width": 4, "time_steps": 2}),
            ("resnet18", "image", (2, 8, 8), {"width": 2, "shortcut": "ms", "fused": False}),
        )),
    ],
)  # fmt: skip
def test_networks_of_the_package(name: str, kind: str, sample: tuple, options: dict) -> None:
    network = built(name, kind, sample, **options)
    if name == "vggsnn" or name.startswith("resnet"):  # no spike reached the readout
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | DeferredNorm):
                nn.init.constant_(module.weight, 3.0 if name == "vggsnn" else 2.0)
    lead = (12,) if kind == "image" else (sample[0], 12)
    own = sample if kind == "image" else sample[1:]
    x = torch.randn(*lead, *own, generator=torch.Generator().manual_seed(3))
    whole = real_network("net", network, network.chain(), sample)
    expected, found = scores(whole, default_formats(whole, x, WIDE, 24, 20), x)
    assert np.mean(np.abs(expected - found) < 2e-3) > 0.9
    assert np.ptp(expected, axis=0).max() > 0.1  # scores differ from sample to sample


def test_networks_without_a_form_in_integers() -> None:
    with refused(UnsupportedError, None, "it is no chain of layers", "feedforward, recurrent"):
        built("transformer", "image", (1, 32, 32)).chain()
    gated = built("resnet20", "image", (1, 8, 8), width=2, shortcut="sew", connect="iand")
    with refused(UnsupportedError, "network: ResNet", "connect='iand'", "connect='add'"):
        gated.chain()
    down = built("recurrent", "sequence", (4, 3), hidden=(4, 4), feedback="down")
    with refused(UnsupportedError, "network: recurrent", "feedback='down'", "feedback='layer'"):
        down.chain()
    network = built("feedforward", "sequence", (6, 3), hidden=(4,), norm="layer")
    with refused(UnsupportedError, "network: layers.0.norm", "LayerNorm", "batch normalisations"):
        real_network("net", network, network.chain(), (6, 3))


def test_inputs_of_a_chain_without_a_form_in_integers() -> None:
    """A normalisation that others would miss, an addition of averages, a path that is not ahead."""
    own, conv = chained(), nn.Conv2d(2, 4, 3, padding=1)
    modules = [("conv", own.conv), ("norm", own.norm), ("first", own.first), ("pool", own.pool)]

    def stages(*more: tuple[str, nn.Module, tuple[str, ...]]) -> object:
        inputs = {path: read for path, _, read in more if read}
        chain = Chain((*modules, *((p, m) for p, m, _ in more)), 3, "mean", inputs=inputs)
        return real_stages(chain, (2, 6, 6))

    with refused(ModelError, "network: again", "it reads 'conv'", "the normalisation"):
        stages(("again", conv, ("conv",)))
    with refused(ModelError, "network: again", "it reads 'nowhere'"):
        stages(("again", conv, ("nowhere",)))
    with refused(UnsupportedError, "network: sum", "an average pooling before an addition"):
        stages(("sum", nn.Identity(), ("pool", "pool")))
    with refused(UnsupportedError, "network: sum", "an addition of shapes (2, 6, 6) and (4, 6, 6)"):
        stages(("sum", nn.Identity(), ("first", "")))
    with refused(UnsupportedError, "network: other", "a normalisation of a sum"):
        stages(("other", own.norm, ("first", "first")))
    bare, more = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4).eval()
    with refused(UnsupportedError, "network: late", "is read elsewhere"):
        stages(("bare", bare, ("first",)), ("sum", nn.Identity(), ("bare", "first")),
               ("late", more, ("bare",)))  # fmt: skip


def converted(module: nn.Module) -> object:
    network = chained()
    network.conv = module.eval()
    return real(network)


def test_refused_modules() -> None:
    assert_refused(
        """
network: conv
    converted(Conv2d(2, 4, 3, padding=1, groups=2)) >> a convolution
    converted(Conv2d(2, 4, 3, padding=1, dilation=2)) >> a convolution
    converted(Conv2d(2, 4, 3, padding="same")) >> a convolution
    converted(ConvTranspose2d(2, 4, 3)) >> ConvTranspose2d
    converted(AvgPool2d(2, 1)) >> a pooling
    converted(AvgPool2d(2, ceil_mode=True)) >> with ceil_mode=True
    converted(AvgPool2d(2, divisor_override=3)) >> with divisor_override=3
    converted(BatchNorm2d(2)) >> a normalisation without weights before
    converted(layer(lnm.get("lif"), 2, 6, 6)) >> neurons without weights before
""",
        {**vars(nn), **globals()},
        UnsupportedError,
    )


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("form", [("layer", False), ("channel", False), ("channel", True)])
def test_weights_are_the_nearest_integers(bits: int, form: tuple) -> None:
    """Real weights are within half a scale of integers times it, unless they are clipped."""
    rng = np.random.default_rng(bits)
    weight = rng.normal(0, 0.3, (6, 20)) * np.exp(rng.normal(0, 1, (6, 1)))
    given = RealWeights("w", "linear", weight, rng.normal(0, 1, 6))
    inputs, output = ValueSpan(-128, 127, 5), Bits(16, 12)
    stage = integer_weights(given, WeightFormat(bits, *form), inputs, output)
    scale = weight_scales(stage, inputs)[:, None]
    limit = 1 << (bits - 1)
    assert stage.weight.min() >= -limit
    assert stage.weight.max() < limit
    inside = (stage.weight > -limit) & (stage.weight < limit - 1)
    error = np.abs(stage.weight * scale - weight) / scale
    assert error[inside].max() <= 0.5 + 1e-9
    shared = 1 if form[0] == "layer" else 6
    assert len(np.unique(scale)) <= shared
    assert bool((stage.multiplier == 1).all()) is not form[1]
    bias = stage.bias * scale[:, 0] * 2.0**-inputs.frac
    np.testing.assert_allclose(bias, given.bias, rtol=1e-4, atol=scale.max() * 2.0**-inputs.frac)


def test_a_readout_has_one_scale_and_no_rounding() -> None:
    given = RealWeights("r", "linear", np.array([[0.5, -0.25], [3.0, 0.1]]), np.array([0.1, 0.0]))
    stage = integer_readout(given, WeightFormat(8), SPIKES)
    assert stage.shift.tolist() == [0]
    assert stage.output.frac == 5
    assert stage.weight.tolist() == [[16, -8], [96, 3]]
    assert stage.bias.tolist() == [3, 0]
    large = replace(given, weight=given.weight * 1000)
    stage = integer_readout(large, WeightFormat(8), SPIKES)
    assert stage.output.frac == 0
    assert stage.shift.tolist() == [-5]
    wide = integer_readout(given, WeightFormat(16), ValueSpan(-(1 << 20), 1 << 20, 12))
    assert stage.output.width <= wide.output.width <= 32
    assert wide.shifts[0] > 0


def test_a_channel_without_weights() -> None:
    given = RealWeights("w", "linear", np.zeros((2, 3)), np.array([0.0, 100.0]))
    stage = integer_weights(given, WeightFormat(4), SPIKES, Bits(16, 4))
    assert not stage.weight.any()
    assert int(stage.bias[0]) == 0
    assert stage.bias[1] * weight_scales(stage, SPIKES)[1] == pytest.approx(100, rel=1e-6)


def test_default_formats_hold_the_samples() -> None:
    network, x = real(chained()), images()
    formats = default_formats(network, x)
    assert formats.input is not None
    assert formats.input.width == 12
    low, high = formats.input.interval
    assert low <= float(x.min()) <= float(x.max()) <= high
    assert formats.neurons["first"].default.width == 16
    with refused(ModelError, "formats: input", "integer bits", "a width of"):
        default_formats(network, x * 1000, input_width=8)
    made = integer_network(network, formats)
    kinds = [type(s) for s in made.stages]
    assert kinds.count(WeightStage) == 3
    assert kinds.count(PoolStage) == kinds.count(FlattenStage) == 1


@pytest.mark.parametrize("limit", [8.0, 7.9999, 100.0])
def test_default_formats_hold_the_constants(limit: float) -> None:
    """A clamp beyond all values once ended in the advice to give more integer bits."""
    network = chained()
    theta = (0.02, 0.85, 0.11, -0.06)
    neuron = lnm.get("lnm", degree=3, theta=theta, v_min=-limit, v_max=limit)
    network.first = layer(neuron, 4, 6, 6).eval()
    found = default_formats(real(network), images())
    integer_network(real(network), found)
    low, high = found.neurons["first"].default.bits.interval
    assert low <= -limit < limit <= high < 2 * limit + 1


def test_a_clamp_that_leaves_no_fraction_bits_is_refused() -> None:
    """Its format is Q15.1, in which the neuron has no polynomial; it was a note."""
    network = chained()
    theta = (0.02, 0.85, 0.11, -0.06)
    neuron = lnm.get("lnm", degree=3, theta=theta, v_min=-12_000, v_max=12_000)
    network.first = layer(neuron, 4, 6, 6).eval()
    problem = "theta_2 = 0.11, theta_3 = 0.06 round to 0 in Q15.1, and the neuron needs them"
    with refused(ModelError, "formats: first", problem, "", "smaller limits, with lnm.clip"):
        default_formats(real(network), images())


@pytest.mark.parametrize(("gain", "whole"), [(1e4, 16), (2e4, 17)])
def test_large_inputs_are_held_or_refused(gain: float, whole: int) -> None:
    """Ranges ended at 8192, so that larger inputs saturated in silence."""
    network, x = chained(), images()
    with torch.no_grad():
        network.norm.weight *= gain
        network.norm.bias *= gain
    large = real(network)
    _, traces = trace_layers(network, x)
    stage, x_seq = large.neurons[0], traces["first"].x_seq
    assert 2.0 ** (whole - 2) < float(x_seq.abs().max()) < 2.0 ** (whole - 1)
    assert whole_bits(stage, x_seq, 24) >= whole
    if whole > NEURON_BITS:
        accepted, remedy = "a width of 17 or more", "--format"
        with refused(ModelError, "formats: first, x", "need 17 integer bits", accepted, remedy):
            default_network(large, x, WIDE)
    given = {s.name: FixedSpec(lnm.Fixed(28, 8)) for s in large.neurons}
    made = default_network(large, x, WIDE, given)
    assert {s.program.spec for s in made.stages if isinstance(s, NeuronStage)} == {*given.values()}


def test_constants_need_the_bits_of_given_formats_alone() -> None:
    """A threshold of 12,000 was refused in a range that given formats do not use."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: 0.5 * v + x}, fire=v - 12_000, name="big")
    network = chained()
    network.first = layer(neuron, 4, 6, 6).eval()
    given = {s.name: FixedSpec(lnm.Fixed(28, 8)) for s in real(network).neurons}
    default_network(real(network), images(), WIDE, given)
    beyond = lnm.Neuron(charge={v: 0.5 * v + x}, fire=v - 2.0**30, name="big")
    network.first = layer(beyond, 4, 6, 6).eval()
    where = "first: big.fire, z"
    with refused(ModelError, where, "does not fit", "", "Give more integer bits."):
        default_network(real(network), images(), WIDE)


def test_spikes_are_found() -> None:
    network, x = real(chained()), (images() > 0).float()
    formats = default_formats(network, x)
    assert formats.input is None
    made = integer_network(network, formats)
    assert made.input == SPIKES
    assert integer_samples(made, x.numpy()).max() == 1
    x[0, 0, 0, 0] = 0.4  # was rounded to 0 without a word
    with refused(ShapeError, made.name, "a sample holds 0.4", "spikes, 0 or 1"):
        integer_samples(made, x.numpy())


def test_a_parameter_that_does_not_fit() -> None:
    network = real(chained())
    formats = default_formats(network, images())
    neurons = formats.neurons | {"second": FixedSpec(lnm.Fixed(8, 7))}
    where, problem = "second: lnm.charge, h", "the constant -2 does not fit Q1.7"
    with refused(ModelError, where, problem, "-1 to 0.992188", "Give more integer bits."):
        integer_network(network, replace(formats, neurons=neurons))


def test_accuracy() -> None:
    """Both are counted on the same samples."""
    network, x = real(chained()), images()
    made = integer_network(network, default_formats(network, x))
    with torch.no_grad():
        labels = network.network(x).argmax(1)
    found = integer_accuracy(network.network, made, [(x[:20], labels[:20]), (x[20:], labels[20:])])
    assert found.samples == found.correct == 32
    own = interpret_network(made, integer_samples(made, x.numpy())).labels
    assert found.correct_integers == int((own == labels.numpy()).sum())
    assert found.lost == pytest.approx(100 * (1 - found.correct_integers / 32))
    assert found.broken == 32 - found.correct_integers
    assert "points lost on 32 samples" in str(found)
    assert "2.50 points gained on 40 samples" in str(IntegerAccuracy(40, 30, 31, 0))
    assert [IntegerAccuracy(180, 0, 0, 0).most_broken(p) for p in (0, 0.5, 0.6, 5, 200)] == [
        0, 0, 1, 9, 180,
    ]  # fmt: skip
    with refused(ModelError, "accuracy", "no samples"):
        integer_accuracy(network.network, made, [])


def test_rows_of_sequences() -> None:
    """A sample's time steps follow each other."""
    network = built("feedforward", "sequence", (2, 3), hidden=(4,))
    x = torch.arange(12.0).reshape(2, 2, 3) / 16
    whole = real_network("net", network, network.chain(), (2, 3))
    made = integer_network(whole, default_formats(whole, x))
    rows = sample_rows(made, integer_samples(made, x.numpy()))
    unit = 2.0**-made.input.frac
    np.testing.assert_array_equal(rows[0] * unit, np.array([0, 1, 2, 6, 7, 8]) / 16)


def test_potentials_that_run_away_leave_fraction_bits() -> None:
    """Integer bits that hold potentials of thousands would leave a threshold of 1 no precision."""
    network = chained()
    escaping = layer(lnm.get("lnm", states=2, degree=1), 4, 6, 6)
    network.first = escaping.eval()
    with torch.no_grad():
        escaping.theta_v[..., 0] = 3.0
    network.time_steps = 8
    whole = real(network)
    formats = default_formats(whole, images())
    _, traces = trace_layers(network, images())
    needed = whole_bits(whole.neurons[0], traces["first"].x_seq)
    assert needed > 8
    assert formats.neurons["first"].default.frac > 16 - needed
    holding = formats.neurons | {"first": FixedSpec(lnm.Fixed(16, 16 - needed))}
    expected, found = scores(whole, formats, images())
    _, coarse = scores(whole, replace(formats, neurons=holding), images())
    labels = expected.argmax(1)
    assert np.mean(found.argmax(1) == labels) > np.mean(coarse.argmax(1) == labels)


def test_weights_on_inputs_with_a_long_fraction() -> None:
    """The scale of a readout had at most 46 fraction bits less than its inputs, so they were 0."""
    values = np.random.default_rng(0).normal(0, 1, (3, 5))
    given = RealWeights("w", "linear", values, np.zeros(3))
    small = ValueSpan(-2048, 2047, 55)
    stage = integer_readout(given, WeightFormat(8), small)
    assert stage.output.frac == 55 + 5
    expected = integer_readout(given, WeightFormat(8), ValueSpan(-2048, 2047, 8))
    np.testing.assert_array_equal(stage.weight, expected.weight)
