"""The wrapper for a system bus: its testbench passes, and fails for each fault put into it."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from lnm_codegen.backends.network_verilog.backend import NetworkCircuit, emit_circuit
from tests.backends.network_verilog.runs import random_circuit, simulated, sources
from tests.backends.verilog.runs import needs_iverilog, needs_verilator
from tests.networks import lively_seed

slow = pytest.mark.slow
SEEDS = [*range(4), *(pytest.param(k, marks=slow) for k in range(4, 40))]


@cache
def wrapped(seed: int, loadable: bool) -> NetworkCircuit:
    """Return the circuit of a random network with its wrapper."""
    network, samples, _ = random_circuit(seed)
    lanes = int(np.random.default_rng(seed).integers(1, 5))
    return emit_circuit(network, samples, lanes, loadable, has_axi=True)


@needs_iverilog
@pytest.mark.parametrize("seed", SEEDS)
def test_streams_and_registers(seed: int, tmp_path: Path) -> None:
    """Scores equal NumPy; packets of wrong length, stalls, numbers outside the range, rows."""
    wrapped(lively_seed(seed, as_circuit=True), seed % 3 != 0).source.write(tmp_path)
    found = simulated(tmp_path, form="axi")
    assert "PASS net_axi" in found, found


FAULTS = {
    "an input is not limited below": ("given < ", "0 && given < "),
    "an input is not limited above": ("given > ", "0 && given > "),
    "a short packet is not filled": ("s_axis_tlast) filling <= 1'b1", "s_axis_tlast) filling <= 0"),
    "a long packet is not dropped": ("!s_axis_tlast) dropping <= 1'b1", "!s_axis_tlast) ;"),
    "the rest of a packet after a reset": ("aresetn && inside_packet", "1'b0"),
    "no length error": ("length_error <= 1'b1", "length_error <= 1'b0"),
    "hold is not kept": ("hold <= s_axi_wdata[1]", "hold <= 1'b0"),
    "reset is ignored": ("wire rst = !aresetn || clears", "wire rst = !aresetn"),
    "strobes are ignored": ("s_axi_wstrb == 4'b1111", "1'b1"),
    "unknown registers are accepted": ("is_whole && is_known ?", "is_whole ?"),
    "rows are accepted at any time": ("can_load   = hold && idle", "can_load   = 1'b1"),
    "the address does not count": ("else if (to_row && can_load) address", "else if (0) address"),
    "rows are not written": ("to_row && can_load;", "1'b0;"),
    "scores are not extended": ("{m_score[", "{1'b0 && m_score["),
    "a row beyond the memory is accepted": ("address < depth", "1'b1"),
    "a dropped packet is not reported": ("{29'd0, dropping,", "{29'd0, 1'b0,"),
    "a reset drops a score": ("if (free) m_valid <=", "if (free || rst) m_valid <="),
    "a reset does not end the scores": ("ends <= begun", "ends <= 1'b0"),
    "the memory reads as 0": ("8'h08: s_axi_rdata <= ", "8'h08: s_axi_rdata <= 0 & "),
}


@needs_iverilog
@pytest.mark.parametrize("word", FAULTS)
def test_a_fault_is_detected(word: str, tmp_path: Path) -> None:
    """In the first random network whose wrapper has the text."""
    old, new = FAULTS[word]
    circuits = (wrapped(lively_seed(k, as_circuit=True), loadable=True) for k in range(1, 20))
    circuit = next(c for c in circuits if old in c.source.files["rtl/net_axi.v"])
    circuit.source.write(tmp_path)
    path = tmp_path / "rtl/net_axi.v"
    path.write_text(path.read_text().replace(old, new, 1))
    found = simulated(tmp_path, form="axi", allow_warnings=True)
    assert "FAIL net_axi" in found, found


@needs_verilator
@pytest.mark.parametrize("loadable", [False, True])
def test_lint(loadable: bool, tmp_path: Path) -> None:
    for seed in range(3):
        folder = tmp_path / str(seed)
        wrapped(lively_seed(seed, as_circuit=True), loadable).source.write(folder)
        command = ["verilator", "--lint-only", "-Wall", "--language", "1364-2005"]
        command += ["--top-module", "net_axi", *sources(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert not done.stderr, done.stderr
