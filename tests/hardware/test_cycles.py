"""Cycles of a network's sample."""

from __future__ import annotations

from pathlib import Path

from lnm_codegen.files import write_whole
from lnm_codegen.hardware.folder import read_circuit
from lnm_codegen.hardware.verify.network import sample_cycles
from lnm_codegen.ir.network.exchange import network_files
from tests.backends.network_verilog.runs import cycles_of, random_circuit, simulated
from tests.backends.verilog.runs import needs_iverilog


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
