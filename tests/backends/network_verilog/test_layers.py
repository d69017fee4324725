"""Layers and poolings as parts of a circuit: windows of a convolution, what repeats, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.backends.network_verilog.layers import Axis, Layer, Pooling, parts_of
from lnm_codegen.backends.network_verilog.modules import memory_files
from lnm_codegen.compiler.fixed import neuron_stage
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.network.nodes import (
    SPIKES,
    FlattenStage,
    IntegerNetwork,
    PoolStage,
    WeightStage,
    size_of,
)
from lnm_codegen.ir.network.verify import require_network
from lnm_codegen.ir.types import Bits
from tests.hexadecimal import words_of
from tests.networks import random_weights
from tests.refusals import refused


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3))
def test_an_axis_reaches_the_windows_with_the_input(
    inputs: int, kernel: int, stride: int, padding: int
) -> None:
    """By the definition of a convolution: output o reads inputs from o * stride - padding on."""
    outputs = (inputs + 2 * padding - kernel) // stride + 1
    if outputs < 1:
        return
    axis = Axis(inputs, outputs, kernel, stride, padding)
    for place in range(inputs):
        reads = [
            o for o in range(outputs) if 0 <= place - (o * stride - padding) < kernel
        ]  # fmt: skip
        assert list(axis.reached(place)) == reads
        for k, o in enumerate(reads):
            own = kernel - 1 - (axis.flipped(place) + k * stride)
            assert own == place - (o * stride - padding)


def convolution(rng: np.random.Generator, outputs: int = 5) -> WeightStage:
    return replace(random_weights(rng, "c", (2, 4, 4), SPIKES, Bits(12, 4), outputs), stride=1)


def network(*stages: object, repeated: bool = False) -> IntegerNetwork:
    return require_network(IntegerNetwork("net", 3, repeated, (2, 4, 4), SPIKES, stages, "mean"))


def test_rows_of_a_convolution_have_a_lane_for_each_output() -> None:
    """Row (channel, group, place of the flipped kernel) has the weights of `lanes` outputs."""
    stage = convolution(np.random.default_rng(1))
    layer = parts_of(network(stage, FlattenStage()), lanes=2)[0]
    assert isinstance(layer, Layer)
    rows = [int(word, 16) for word in words_of(memory_files(layer)["rtl/net_c_weights.hex"])]
    _, channels, height, width = stage.weight.shape
    mask = (1 << stage.bits) - 1
    assert len(rows) == channels * 3 * height * width == layer.depth
    for k, row in enumerate(rows):
        c, g, place = np.unravel_index(k, (channels, 3, height * width))
        for p in range(2):
            o = 2 * g + p
            flat = stage.weight[o, c].ravel()[::-1] if o < 5 else np.zeros(height * width, int)
            assert (row >> (p * stage.bits)) & mask == int(flat[place]) & mask


def test_the_last_constant_layer_repeats_its_sums() -> None:
    """A pooling after it runs in every time step, what is ahead of it once."""
    rng = np.random.default_rng(2)
    first = convolution(rng, 2)
    shape = first.output_shape((2, 4, 4))
    second = random_weights(
        rng, "d", shape, network(first, FlattenStage()).values()[1], Bits(12, 4)
    )
    stages = (first, second, PoolStage("max", 1), FlattenStage())
    one, two, pool = parts_of(network(*stages, repeated=True))
    assert isinstance(one, Layer)
    assert isinstance(two, Layer)
    assert isinstance(pool, Pooling)
    assert (one.steps, one.constant) == (1, False)
    assert (two.steps, two.constant) == (3, True)
    assert pool.steps == 3


def test_neurons_without_weights_are_refused() -> None:
    """Nothing repeats the inputs of neurons, and neurons have no frame of their own."""
    rng = np.random.default_rng(3)
    neuron = lnm.get("lif", v_threshold=0.5)
    spec = lnm.Fixed(12, 0)
    pool = PoolStage("max", 2)
    shape = (2, 2, 2)
    neurons = neuron_stage("n", neuron, spec, shape)
    weights = random_weights(rng, "r", (size_of(shape),), SPIKES, Bits(12, 4), 3)
    stages = (pool, neurons, FlattenStage(), weights)
    with refused(UnsupportedError, "network net: n", "neurons that receives a repeated sample"):
        parts_of(network(*stages, repeated=True))
    assert len(parts_of(network(*stages))) == 2
    with refused(UnsupportedError, "network net", "no layer of weights"):
        parts_of(network(pool, FlattenStage()))
