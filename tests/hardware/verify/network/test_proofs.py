"""Proofs of layers of other sizes than a power of two: their induction once did not hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.backends.network_verilog.backend import emit_circuit, sample_file
from lnm_codegen.compiler.fixed import neuron_stage
from lnm_codegen.files import write_whole
from lnm_codegen.hardware.folder import read_circuit
from lnm_codegen.hardware.tools import missing
from lnm_codegen.hardware.verify.verilog import formal
from lnm_codegen.ir.network.exchange import network_files
from lnm_codegen.ir.network.nodes import (
    SPIKES,
    AddStage,
    FlattenStage,
    IntegerNetwork,
    PoolStage,
    ValueSpan,
    values_of_bits,
)
from lnm_codegen.ir.network.verify import require_network
from lnm_codegen.ir.types import Bits
from tests.networks import random_samples, random_weights

TOOLS = ("sby", "yosys", "yosys-smtbmc", "boolector")
slow = pytest.mark.slow


@pytest.mark.skipif(missing(*TOOLS) is not None, reason=str(missing(*TOOLS)))
@pytest.mark.parametrize(
    ("outputs", "lanes", "delay", "repeated", "values"),
    [
        (22, 4, 1, False, values_of_bits(Bits(6, 2))),
        pytest.param(22, 4, 0, True, values_of_bits(Bits(6, 2)), marks=slow),
        pytest.param(36, 4, 1, False, SPIKES, marks=slow),
        pytest.param(5, 1, 3, False, SPIKES, marks=slow),
        pytest.param(30, 6, 2, False, values_of_bits(Bits(9, 3)), marks=slow),
        pytest.param(9, 1, 0, False, SPIKES, marks=slow),
        pytest.param(128, 4, 0, False, SPIKES, marks=slow),
        pytest.param(70, 1, 0, True, values_of_bits(Bits(6, 2)), marks=slow),
        pytest.param(2, 4, 0, False, SPIKES, marks=slow),
    ],
)
def test_the_proofs_hold(
    outputs: int, lanes: int, delay: int, repeated: bool, values: ValueSpan, tmp_path: Path
) -> None:
    rng, spec = np.random.default_rng(outputs), lnm.Fixed(12, 8)
    weights = random_weights(rng, "w", (3,), values, spec.bits, outputs, delay=delay)
    neurons = neuron_stage("n", lnm.get("lif"), spec, (outputs,))
    network = IntegerNetwork("net", 3, repeated, (3,), values, (weights, neurons), "mean")
    assert proven(network, lanes, rng, tmp_path) == 6 + 3 * (delay > 0)


def proven(
    network: IntegerNetwork, lanes: int, rng: np.random.Generator, folder: Path, per_cycle: int = 1
) -> int:
    """Return the number of proofs of a circuit that hold, with their controls; all must."""
    samples = random_samples(rng, require_network(network), 2)
    emit_circuit(network, samples, lanes, per_cycle=per_cycle).source.write(folder)
    for path, data in (network_files(network) | sample_file(samples)).items():
        write_whole(folder / path, data)
    step = formal(read_circuit(folder, "verify"))
    assert step.status == "passed", [c for c in step.checks if c.status != "passed"]
    return len(step.checks)


@pytest.mark.skipif(missing(*TOOLS) is not None, reason=str(missing(*TOOLS)))
@pytest.mark.parametrize(
    ("shape", "outputs", "kernel", "stride", "padding", "lanes", "pool", "values"),
    [
        ((2, 5, 6), 5, 3, 1, 1, 2, 2, SPIKES),
        pytest.param((1, 4, 4), 3, 2, 2, 0, 4, 2, values_of_bits(Bits(6, 2)), marks=slow),
        pytest.param((3, 7, 5), 4, 3, 2, 1, 1, 2, SPIKES, marks=slow),
        pytest.param((2, 6, 6), 6, 1, 1, 0, 3, 3, SPIKES, marks=slow),
        pytest.param((1, 3, 3), 1, 3, 1, 0, 1, 1, SPIKES, marks=slow),
        pytest.param((2, 6, 6), 3, 1, 3, 0, 2, 2, SPIKES, marks=slow),
        pytest.param((2, 16, 16), 16, 3, 1, 1, 8, 2, SPIKES, marks=slow),
    ],
)
def test_the_proofs_of_convolutions_hold(
    shape: tuple[int, ...], outputs: int, kernel: int, stride: int, padding: int, lanes: int,
    pool: int, values: ValueSpan, tmp_path: Path,
) -> None:  # fmt: skip
    """A stride beyond the kernel leaves inputs without a window; one output has one row."""
    rng, spec = np.random.default_rng(outputs), lnm.Fixed(12, 8)
    drawn = random_weights(rng, "w", shape, values, spec.bits, outputs)
    weight = rng.integers(-8, 8, (outputs, shape[0], kernel, kernel))
    weights = replace(drawn, weight=weight, bits=4, stride=stride, padding=padding).fitted(values)
    made = weights.output_shape(shape)
    neurons = neuron_stage("n", lnm.get("lif"), spec, made)
    stages = (weights, neurons, PoolStage("max", pool), FlattenStage())
    repeated = values is not SPIKES
    network = IntegerNetwork("net", 3, repeated, shape, values, stages, "mean")
    assert proven(network, lanes, rng, tmp_path) == 9


@pytest.mark.skipif(missing(*TOOLS) is not None, reason=str(missing(*TOOLS)))
@pytest.mark.parametrize(
    ("count", "after", "form", "values"),
    [
        (5, True, None, SPIKES),
        (3, False, Bits(12, 8), SPIKES),
        pytest.param(1, False, Bits(9, 3), values_of_bits(Bits(6, 4)), marks=slow),
        pytest.param(16, False, Bits(9, 9), values_of_bits(Bits(6, 4)), marks=slow),
        pytest.param(70, True, Bits(4, 1), SPIKES, marks=slow),
        pytest.param(7, True, None, values_of_bits(Bits(6, 2)), marks=slow),
    ],
)
def test_the_proofs_of_additions_hold(
    count: int, after: bool, form: Bits | None, values: ValueSpan, tmp_path: Path
) -> None:
    """Spikes and the input, behind neurons or before; sums that are rounded and saturate."""
    rng, spec = np.random.default_rng(count), lnm.Fixed(12, 8)
    first = random_weights(rng, "w", (count,), values, spec.bits, count)
    neurons = neuron_stage("n", lnm.get("lif"), spec, (count,))
    body = (first, neurons) if after else (first,)
    block = IntegerNetwork("net", 3, False, (count,), values, (*body, AddStage(-1, form)), "mean")
    last = random_weights(rng, "r", (count,), block.values()[-1], spec.bits, 2)
    network = replace(block, stages=(*block.stages, last))
    assert proven(network, 2, rng, tmp_path) == 15


@pytest.mark.skipif(missing(*TOOLS) is not None, reason=str(missing(*TOOLS)))
@pytest.mark.parametrize(
    ("shape", "channels", "per_cycle", "is_spike"),
    [
        ((3,), 6, 3, True),
        ((2, 3, 4), 2, 2, True),
        pytest.param((3,), 8, 4, False, marks=slow),
        pytest.param((3,), 9, 3, True, marks=slow),
        pytest.param((2, 4, 4), 6, 3, False, marks=slow),
        pytest.param((1, 3, 3), 16, 8, True, marks=slow),
    ],
)
def test_the_proofs_of_events_of_several_slices_hold(
    shape: tuple[int, ...], channels: int, per_cycle: int, is_spike: bool, tmp_path: Path
) -> None:
    """Spikes, or numbers of neurons with graded outputs."""
    rng, spec = np.random.default_rng(channels), lnm.Fixed(10, 6)
    neuron = lnm.get("lif") if is_spike else lnm.get("li", tau=2.0)
    first = random_weights(rng, "w", shape, SPIKES, spec.bits, channels, keeps_size=True)
    neurons = neuron_stage("n", neuron, spec, first.output_shape(shape))
    network = IntegerNetwork("net", 2, False, shape, SPIKES, (first, neurons), "mean")
    second = random_weights(rng, "v", network.shapes()[-1], neurons.values, spec.bits, 2)
    third = neuron_stage("m", lnm.get("lif"), spec, second.output_shape(network.shapes()[-1]))
    stages = (first, neurons, second, third, *((FlattenStage(),) if len(shape) > 1 else ()))
    network = replace(network, stages=stages)
    assert proven(network, 4, rng, tmp_path, per_cycle) == 3 * (2 + per_cycle + 1)
