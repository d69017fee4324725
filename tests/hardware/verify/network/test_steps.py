"""Verification steps of a network's folder, and faults that they notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from lnm_codegen.backends.network_verilog.backend import sample_file
from lnm_codegen.cli import run as command
from lnm_codegen.hardware.folder import Circuit, read_circuit
from lnm_codegen.hardware.verify.network.model import DRAWN, rows_of, samples_of
from lnm_codegen.hardware.verify.network.steps import run_network_steps
from lnm_codegen.hardware.verify.network.verilator import verilator
from lnm_codegen.ir.network.exchange import network_files, read_network
from tests.backends.network_verilog.runs import random_circuit
from tests.refusals import assert_line


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
def test_verilator_runs_as_many_samples_as_asked(circuit: Circuit) -> None:
    """64 random samples, and the first ones of the folder or all of them."""
    network = read_network(circuit.folder)
    kept = len(rows_of(network, samples_of(circuit, network)))
    (check,) = verilator(circuit, count=1).checks
    assert (check.status, check.count) == ("passed", 1 + DRAWN)
    (step,) = run_network_steps(circuit, ("verilator",), every=True)
    assert (step.checks[0].status, step.checks[0].count) == ("passed", kept)


def test_all_is_for_a_network(circuit: Circuit, capsys: pytest.CaptureFixture[str]) -> None:
    array = circuit.folder / "arrays" / circuit.manifest["arrays"][0]
    assert command(["verify", str(array), "--all"]) == 2
    assert_line(capsys.readouterr().err, "verify: --all", "is not a network", "Omit --all")


@pytest.mark.slow
def test_wrong_weights_fail(circuit: Circuit, tmp_path: Path) -> None:
    """A changed memory differs from network.json, and from the C network in Verilator."""
    other = circuit.copied(tmp_path / "copy")
    path = next((other.folder / "rtl").glob("*_weights.hex"))
    lines = path.read_text().split()
    path.write_text("".join(f"{(1 << 4 * len(line)) - 1 - int(line, 16):x}\n" for line in lines))
    assert status(other, "model", "verilator") == {"model": "failed", "verilator": "failed"}
