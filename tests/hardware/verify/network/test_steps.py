"""Verification steps of a network's folder, and faults that they notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from lnm_codegen.backends.network_verilog.backend import sample_file
from lnm_codegen.hardware.folder import Circuit, read_circuit
from lnm_codegen.hardware.verify.network.steps import run_network_steps
from lnm_codegen.ir.network.exchange import network_files
from tests.backends.network_verilog.runs import random_circuit
from tests.hexadecimal import words_of


@pytest.fixture(scope="module")
def circuit(tmp_path_factory: pytest.TempPathFactory) -> Circuit:
    """The folder of a small network."""
    folder = tmp_path_factory.mktemp("net")
    network, samples, made = random_circuit(1)
    made.source.write(folder)
    for path, data in (network_files(network) | sample_file(samples)).items():
        content = data.encode() if isinstance(data, str) else data
        (folder / path).write_bytes(content)
    return read_circuit(folder, "verify")


def status(circuit: Circuit, *names: str) -> dict[str, str]:
    return {step.name: step.status for step in run_network_steps(circuit, names)}


def test_the_quick_steps_pass(circuit: Circuit) -> None:
    """Checks of the arrays have the name of the array in front."""
    (step,) = run_network_steps(circuit, ("model",))
    assert step.status == "passed", step
    names = [check.name for check in step.checks]
    assert names[:2] == ["memories = network.json", "NumPy = C"]
    for array in circuit.manifest["arrays"]:
        assert f"{array}: NumPy = C" in names


@pytest.mark.slow
def test_every_step_passes(circuit: Circuit) -> None:
    names = ("lint", "icarus", "cocotb", "verilator", "formal", "synthesis")
    found = list(run_network_steps(circuit, names))
    assert not [check for step in found for check in step.checks if check.status == "failed"]


@pytest.mark.slow
def test_wrong_weights_fail(circuit: Circuit, tmp_path: Path) -> None:
    """A changed memory differs from network.json, and from the C network in Verilator."""
    other = circuit.copied(tmp_path / "copy")
    path = next((other.folder / "rtl").glob("*_weights.hex"))
    lines = words_of(path.read_text())
    path.write_text("".join(f"{(1 << 4 * len(line)) - 1 - int(line, 16):x}\n" for line in lines))
    assert status(other, "model", "verilator") == {"model": "failed", "verilator": "failed"}
