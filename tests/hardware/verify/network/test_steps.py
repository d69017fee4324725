"""Verification steps of a network's folder, and faults that they notice."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lnm_codegen.backends.network_verilog.backend import sample_file
from lnm_codegen.cli import run as command
from lnm_codegen.errors import ModelError
from lnm_codegen.files import write_whole
from lnm_codegen.hardware.folder import Circuit, read_circuit
from lnm_codegen.hardware.tools import missing
from lnm_codegen.hardware.verify import network as synthesis
from lnm_codegen.hardware.verify import verilog
from lnm_codegen.hardware.verify.network import DRAWN, run_network_steps, samples_of, verilator
from lnm_codegen.ir.network.exchange import network_files, read_network
from lnm_codegen.ir.network.interpret import sample_rows
from lnm_codegen.ir.network.nodes import ValueSpan
from tests.backends.network_verilog.runs import random_circuit
from tests.hardware.verify.test_steps import ALL
from tests.hexadecimal import words_of
from tests.networks import lively_seed
from tests.refusals import assert_line


@pytest.fixture(scope="module")
def circuit(tmp_path_factory: pytest.TempPathFactory) -> Circuit:
    """The folder of a small network."""
    folder = tmp_path_factory.mktemp("net")
    network, samples, made = random_circuit(lively_seed(1, as_circuit=True))
    made.source.write(folder)
    for path, data in (network_files(network) | sample_file(samples)).items():
        write_whole(folder / path, data)
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


def edited(key: str, value: object, file: str = "manifest.json") -> Callable[[Path], None]:
    """Return an edit of a folder: another value of a key, or none of it."""

    def edit(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        content |= {key: value}
        if value is None:
            del content[key]
        (folder / file).write_text(json.dumps(content))

    return edit


def without(file: str) -> Callable[[Path], None]:
    """Return the removal of a file of a folder."""
    return lambda folder: (folder / file).unlink()


TAMPERED = {
    "version": (edited("manifest", 99), "manifest is 99"),
    "kind": (edited("kind", None), "kind is None"),
    "name": (edited("name", "other"), "forms.network.top"),
    "lanes": (edited("lanes", 64), "lanes is 64"),
    "load port": (edited("load_port", "yes"), "load_port is 'yes'"),
    "layers": (edited("layers", []), "layers is []"),
    "sample": (edited("sample", {"inputs": 1, "scores": 1}), "sample is"),
    "arrays": (edited("arrays", []), "arrays is []"),
    "paths": (edited("arrays", ["../x"]), "arrays[0] is '../x'"),
    "streams": (edited("streams", {}), "streams.s_axis_tdata is None"),
    "forms": (edited("forms", {}), "forms is {}"),
    "network version": (edited("version", 2, "network.json"), "version is 2"),
    "network name": (edited("name", "other", "network.json"), "name is"),
    "network steps": (edited("time_steps", 0, "network.json"), "time_steps is 0"),
    "no network": (without("network.json"), "No such file"),
    "no weights": (without("network.npz"), "No such file"),
    "damaged": (lambda folder: (folder / "network.json").write_text("{"), "not JSON"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_a_changed_folder_is_refused(case: str, circuit: Circuit, tmp_path: Path) -> None:
    """One line names the file and the value; nothing is written."""
    edit, problem = TAMPERED[case]
    folder = circuit.copied(tmp_path / "copy").folder
    edit(folder)
    with pytest.raises(ModelError) as caught:
        read_circuit(folder, "verify")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder / "report.json").exists()


@pytest.mark.parametrize(("low", "high"), [(3, 9), (-9, -3), (-4, 5)])
def test_random_samples_are_inputs_of_the_network(
    low: int, high: int, circuit: Circuit, tmp_path: Path
) -> None:
    """An input without 0 has its number nearest to 0 in place of 0, which NumPy refused."""
    network = read_network(circuit.folder)
    bare = replace(circuit, folder=tmp_path)  # without samples of the folder
    drawn = samples_of(bare, replace(network, input=ValueSpan(low, high)))
    assert (drawn.min(), drawn.max()) == (low, high)
    assert (drawn == min(max(0, low), high)).mean() > 0.3


@pytest.mark.parametrize(("inputs", "expected"), [(15, "passed"), (16, "failed")])
def test_few_rows_of_weights_may_be_in_logic(
    inputs: int, expected: str, circuit: Circuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30,720 bits in 60 rows were expected in a block RAM, which the source asks for from 64 on."""
    width = 30720 // (4 * inputs)  # four rows an input
    layer = {"lanes": 8, "weight_bits": width // 8, "weight_memory_bits": 30720}
    monkeypatch.setattr(verilog, "synthesise", lambda *_: ({"LUT4": 10}, 0.1))
    monkeypatch.setattr(synthesis, "missing", lambda *_: None)
    made = synthesis.synthesis(replace(circuit, manifest=circuit.manifest | {"layers": [layer]}))
    assert [check.status for check in made.checks] == [expected]


def test_damaged_samples_and_memories(circuit: Circuit, tmp_path: Path) -> None:
    other = circuit.copied(tmp_path / "copy")
    next((other.folder / "rtl").glob("*_weights.hex")).write_bytes(b"\xff\xfe")
    assert status(other, "model") == {"model": "failed"}
    for data in (b"", b"no archive"):
        (other.folder / "tb/samples.npz").write_bytes(data)
        with pytest.raises(ModelError, match=r"samples\.npz: not samples"):
            status(other, "model")
    np.savez(other.folder / "tb/samples.npz", x=np.zeros((2, 3, 4)))
    with pytest.raises(ModelError, match="samples are float64"):
        status(other, "model")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(missing(*ALL) is not None, reason=str(missing(*ALL)))
def test_every_step_passes(circuit: Circuit) -> None:
    """A step whose tools are absent is skipped, which is no pass."""
    names = ("lint", "icarus", "cocotb", "verilator", "formal", "synthesis", "mutation")
    found = list(run_network_steps(circuit, names))
    assert {step.name: step.status for step in found} == dict.fromkeys(names, "passed"), found


@pytest.mark.slow
def test_verilator_runs_as_many_samples_as_asked(circuit: Circuit) -> None:
    """64 random samples, and the first ones of the folder or all of them."""
    network = read_network(circuit.folder)
    kept = len(sample_rows(network, samples_of(circuit, network)))
    (check,) = verilator(circuit, count=1).checks
    assert (check.status, check.count) == ("passed", 1 + DRAWN)
    (step,) = run_network_steps(circuit, ("verilator",), every=True)
    assert (step.checks[0].status, step.checks[0].count) == ("passed", kept)


def test_all_is_for_a_network(circuit: Circuit, capsys: pytest.CaptureFixture[str]) -> None:
    array = circuit.folder / "arrays" / circuit.manifest["arrays"][0]
    assert command(["verify", str(array), "--all"]) == 2
    assert_line(capsys.readouterr().err, "verify: --all", "is not a network", "Omit --all")
    for steps in (("--quick",), ("--only", "model,lint")):
        assert command(["verify", str(circuit.folder), "--all", *steps]) == 2
        assert_line(capsys.readouterr().err, "verify: --all", "verilator", "Omit --all")


@pytest.mark.slow
def test_wrong_weights_fail(circuit: Circuit, tmp_path: Path) -> None:
    """A changed memory differs from network.json, and from the C network in Verilator."""
    other = circuit.copied(tmp_path / "copy")
    path = next((other.folder / "rtl").glob("*_weights.hex"))
    lines = words_of(path.read_text())
    path.write_text("".join(f"{(1 << 4 * len(line)) - 1 - int(line, 16):x}\n" for line in lines))
    assert status(other, "model", "verilator") == {"model": "failed", "verilator": "failed"}
