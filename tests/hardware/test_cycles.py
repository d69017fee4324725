"""Cycles of a network's sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lnm_codegen.backends.network_verilog.backend import emit_circuit
from lnm_codegen.files import write_whole
from lnm_codegen.hardware.folder import read_circuit
from lnm_codegen.hardware.verify.network import sample_cycles
from lnm_codegen.ir.network.exchange import network_files
from tests.backends.network_verilog.runs import cycles_of, random_circuit, simulated
from tests.backends.verilog.runs import needs_iverilog
from tests.networks import Draw, lively_seed, random_network, random_samples, residual_network


@needs_iverilog
def test_cycles_are_those_of_the_testbench(tmp_path: Path) -> None:
    """They lie below the bound in the manifest."""
    network, _, made = random_circuit(7)
    made.source.write(tmp_path)
    for path, data in network_files(network).items():
        write_whole(tmp_path / path, data)
    circuit = read_circuit(tmp_path, "synth")
    found = sample_cycles(circuit)
    assert found == cycles_of(simulated(tmp_path))[1]
    assert found <= circuit.forms["network"].latency == made.most_cycles
    assert circuit.forms["network"].interval == made.interval <= made.most_cycles


@needs_iverilog
@pytest.mark.parametrize(
    ("seed", "drawn", "per_cycle"),
    [
        (7, random_network, 1),
        (12, random_network, 1),
        (15, random_network, 1),
        (3, random_network, 4),
        *(
            pytest.param(k, residual_network, 1 + 3 * (k % 2), marks=[pytest.mark.slow] * (k > 2))
            for k in range(9)
        ),
    ],
)
def test_samples_follow_each_other_within_the_interval(
    seed: int, drawn: Draw, per_cycle: int, tmp_path: Path
) -> None:
    """Of samples in which every input is an event, those behind the first."""
    rng = np.random.default_rng(lively_seed(seed, drawn, as_circuit=True))
    network = drawn(rng, as_circuit=True)
    x = random_samples(rng, network, 12)
    whole = np.where(x == 0, network.input.high, x)
    made = emit_circuit(network, whole, per_cycle=per_cycle)
    made.source.write(tmp_path)
    first, each = cycles_of(simulated(tmp_path))
    assert first <= made.most_cycles
    assert 12 * each - first <= 11 * made.interval + 12
