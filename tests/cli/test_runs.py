"""`lnm arrays` and `lnm report`: from a run folder to arrays and their resources."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

import lnm_codegen as lnm
from lnm_codegen.cli import run as command
from lnm_codegen.cli.runs import specs_of
from lnm_codegen.compiler.formats import load_spec
from lnm_codegen.deploy.mismatch import measure_mismatch, specs_for
from lnm_codegen.hardware import tools
from lnm_codegen.hardware.folder import read_circuit
from lnm_codegen.hardware.tools import missing
from lnm_codegen.hardware.verify.verilog import simulate
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train import Run, TrainConfig, load, load_run, run
from lnm_codegen.train.losses import count_correct
from tests.cli.conftest import SMALL, Call, files_below
from tests.refusals import assert_line


@pytest.fixture(scope="module")
def emitted(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `lnm arrays` writes of lnm3."""
    folder = tmp_path_factory.mktemp("arrays")
    assert command(["arrays", str(runs / "lnm3"), "--out", str(folder)]) == 0
    return folder


def require_passing(folder: Path) -> None:
    """Run the testbench of each array."""
    if missing("iverilog") is None:
        for one in sorted((folder / "verilog").glob("blocks_*")):
            circuit = read_circuit(one, "test")
            found = simulate(circuit, circuit.forms["array"])
            assert found.status == "passed", found.detail


def test_arrays_of_a_run(runs: Path, emitted: Path) -> None:
    """Formats, coefficients and normalisation of each layer, and a testbench that passes."""
    place = emitted / "verilog"
    folders = ["blocks_0_neuron", "blocks_1_neuron"]
    assert sorted(p.name for p in place.iterdir()) == ["README.md", *folders, "network.json"]
    content = json.loads((place / "network.json").read_text())
    network = load_run(runs / "lnm3").network
    for layer, block, name in zip(content["layers"], network.blocks, folders, strict=True):
        manifest = json.loads((place / name / "manifest.json").read_text())
        assert layer["folder"] == manifest["name"] == name
        assert layer["neurons"] == manifest["neurons"]
        assert manifest["format"] == "Q4.12"
        theta = [c["rounded_from"][0] for c in manifest["coefficients"][:4]]
        np.testing.assert_allclose(theta, block.neuron.theta.detach())
        scale = block.norm.weight / (block.norm.running_var + block.norm.eps).sqrt()
        np.testing.assert_allclose(layer["normalisation"]["scale"], scale.detach(), rtol=1e-5)
        offset = block.norm.bias - block.norm.running_mean * scale
        np.testing.assert_allclose(layer["normalisation"]["offset"], offset.detach(), atol=1e-5)
    assert [layer["neurons"] for layer in content["layers"]] == [2 * 64, 3 * 16]
    text = (place / "README.md").read_text()
    assert "| blocks.1.neuron | `blocks_1_neuron/` | 48 | 1 | Q4.12 | " in text
    assert "* x: Q4.12, -8 to 7.99976.\n* Normalisation `blocks.0.norm`: scale " in text
    assert "* Initial states: v = 0.\n* Golden vectors: 4 images of 2 ticks.\n" in text
    require_passing(emitted)


def test_the_old_spelling(
    runs: Path, emitted: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what its verb is now, and writes the same bytes.

    So does a run as the working folder, whose name is in the README.
    """
    monkeypatch.chdir(runs / "lnm3")
    words = ["emit", "--run", ".", "--backend", "verilog", "--out", tmp_path / "old"]
    status, out, err = call(*words)
    files = {name: data for name, data in files_below(tmp_path / "old").items() if data}
    assert status == 0
    assert err.startswith("note: since 0.3 this is lnm arrays; ")
    assert out.splitlines()[0] == f"{len(files)} files written to {tmp_path}/old"
    assert files == {name: data for name, data in files_below(emitted).items() if data}
    status, _, err = call(*words[:4], "c", *words[5:])
    assert status == 2
    assert_line(err.splitlines()[-1], "lnm arrays: No such option: --backend", "--help")


def test_coefficients_per_channel(runs: Path, tmp_path: Path, call: Call) -> None:
    """Least formats, and coefficients in a memory."""
    given = ("--format", "auto", "--out", tmp_path)
    assert call("arrays", runs / "per", *given)[0] == 0
    manifest = json.loads((tmp_path / "verilog/blocks_1_neuron/manifest.json").read_text())
    assert manifest["coefficients_on"] == "memory"
    assert len(manifest["coefficients"][0]["integers"]) == 3
    require_passing(tmp_path)


def test_formats_that_quantize_wrote(runs: Path, tmp_path: Path, call: Call) -> None:
    """A folder has a spec for each layer; one file serves all of them."""
    words = tmp_path / "words"
    assert call("quantize", runs / "lif", "--mismatch", "0.05", "--out", words)[0] == 0
    for name in ("blocks.0.neuron", "blocks.1.neuron"):
        assert (words / f"{name}.toml").is_file()
    assert call("arrays", runs / "lif", "--format", words, "--out", tmp_path / "each")[0] == 0
    place = tmp_path / "each/verilog"
    manifest = json.loads((place / "blocks_1_neuron/manifest.json").read_text())
    spec = load_spec(words / "blocks.1.neuron.toml")
    assert {n: f.split()[0] for n, f in manifest["formats"].items()} == {
        name: str(fixed) for name, fixed in spec.nodes
    }
    trained = load_run(runs / "lif")
    one = words / "blocks.0.neuron.toml"
    assert [*specs_of(trained, str(one)).values()] == [load_spec(one)] * 2
    one.unlink()
    assert call("arrays", runs / "lif", "--format", words, "--out", tmp_path / "none")[0] == 2
    assert not (tmp_path / "none").exists()


def test_auto_notes_a_layer_without_a_spike(capsys: pytest.CaptureFixture[str]) -> None:
    """Its formats are those of an error: a circuit that never spikes would have no mismatch."""
    data = SimpleNamespace(train=None, batches=lambda *_: iter([(torch.ones(4, 2, 3), None)]))
    network = nn.Sequential(NeuronLayer(lnm.get("lif", v_threshold=100.0)))
    specs_of(cast(Run, SimpleNamespace(network=network, data=data)), "auto")
    wanted = "note: 0: no spike on the training images of the search, so that its target is another"
    assert capsys.readouterr().err.startswith(f"{wanted}: error of a state after a step <= 0.00")


def test_mistakes(runs: Path, tmp_path: Path, refuses: Callable[[str], None]) -> None:
    (tmp_path / "runs").symlink_to(runs)
    refuses("""
arrays --out out
    runs/none >> run: runs/none: >> no such folder >> lnm train
    runs/neuron >> lnm: theta per neuron has no circuit >> per='layer' or per='channel'
    runs/lnm3 --format fine >> --format >> 'fine': not a format >> Q4.12; auto; >> lnm quantize
    runs/lnm3 --format 8.7 >> blocks.0.neuron: lnm.charge, h: the constant -2 >> more integer bits
    runs/lnm3 lif >> lnm arrays: Got unexpected extra argument(s) (lif) >> --help
report runs/lnm3
    --baseline runs/lif --target asic >> report: --target >> 'asic' >> 'ecp5', 'ice40', 'xilinx'
    --baseline runs/few >> report: limit is 32 in runs/lnm3 and 16 in runs/few >> runs that differ
""")


def test_report(runs: Path, call: Call) -> None:
    """Its numbers are those of `measure_mismatch` on the test set; none is power or energy."""
    pair = (runs / "lnm3", "--baseline", runs / "lif", "--no-synth", "--format", "12.8")
    status, text, _ = call("report", *pair, "--json")
    found = json.loads(text)
    assert status == 0
    assert "--no-synth" in found["note"]
    back: Run = load_run(runs / "lnm3")
    specs = specs_for(back.network, lnm.Fixed(12, 8))
    wanted = measure_mismatch(
        back.network, specs, back.data.batches(back.data.test, 128), count_correct
    )
    lnm_run, lif = found["run"], found["baseline"]
    assert (lnm_run["neuron"], lif["neuron"]) == ("lnm", "lif")
    assert lnm_run["images"] == lif["images"] == 32
    assert lnm_run["accuracy"] == wanted.accuracy
    assert lnm_run["accuracy_fixed"] == wanted.accuracy_fixed
    assert lnm_run["agreement_one_step"] == 1 - wanted.one_step_mismatch
    layer, counts = lnm_run["layers"]["blocks.0.neuron"], wanted.layers["blocks.0.neuron"]
    assert layer["mismatch_one_step"] == counts.share("one_step")
    assert layer["mismatch_free_running"] == counts.share("free_running")
    assert layer["firing_rate"] == counts.share("fired") > 0
    assert layer["state_bits"] == 12
    assert layer["state_memory_bits"] == 12 * 2 * 64
    assert layer["coefficient_bits"] == 5 * 12
    assert layer["operations_per_step"]["fused"] == 3
    assert layer["cycles_per_image"] > 2 * 2 * 64
    assert layer["resources"] is None
    assert "energy" not in text
    assert "power" not in text
    status, text, _ = call("report", *pair)
    lines = text.splitlines()
    assert status == 0
    assert lines[:3] == ["lnm against lif, 32 test samples", "", "Networks"]
    assert lines[3].split() == [str(runs / "lnm3"), str(runs / "lif")]
    assert "Layer 2: blocks.1.neuron, 48 neurons" in lines
    assert any(line.startswith("outputs equal: one step from the same state") for line in lines)
    assert "--no-synth" in lines[-1]


def test_the_report_of_a_run_with_validation_is_on_the_test_set(tmp_path: Path, call: Call) -> None:
    """The test split of such a run is part of its training samples."""
    run(replace(SMALL, family="lif", arguments={}, validation=10), tmp_path / "lif")
    pair = (tmp_path / "lif", "--baseline", tmp_path / "lif")
    found = json.loads(call("report", *pair, "--no-synth", "--json")[1])
    back = load_run(tmp_path / "lif")
    tested = load("digits", limit=32)
    specs = specs_for(back.network, lnm.Fixed(16, 12))
    wanted = measure_mismatch(back.network, specs, tested.batches(tested.test, 128), count_correct)
    assert len(back.data.test) == 10
    assert found["run"]["images"] == found["baseline"]["images"] == 32
    assert found["run"]["accuracy"] == wanted.accuracy


def test_missing_tools_are_named(runs: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "find", lambda word: None)
    status, out, _ = call("report", runs / "lif", "--baseline", runs / "lif")  # one folder for both
    assert status == 0
    assert out.splitlines()[-1] == (
        "resources and Fmax: not measured: yosys, nextpnr-ecp5 not found on PATH. To install:"
        " apt-get install yosys; apt-get install nextpnr-ecp5"
    )


@pytest.mark.slow
@pytest.mark.skipif(missing("yosys", "nextpnr-ecp5") is not None, reason="no yosys, nextpnr")
def test_report_measures(runs: Path, call: Call) -> None:
    _, out, _ = call("report", runs / "lnm3", "--baseline", runs / "lif", "--seeds", "1", "--json")
    found = json.loads(out)
    assert found["note"] is None
    for key in ("run", "baseline"):
        for layer in found[key]["layers"].values():
            cost = layer["resources"]
            assert cost["DSP"] == layer["multipliers"] <= 3  # the degree
            assert cost["LUT"] > 0
            assert cost["fmax_mhz"] > 50


@pytest.mark.slow
@pytest.mark.needs_cc
def test_sixteen_bits_are_enough_for_the_demos_network() -> None:
    """The figure of the default format, on a shorter run: 99.9 % of spikes, half a point."""
    for config in (
        TrainConfig(arguments={"degree": 3}, epochs=3),
        TrainConfig(family="lif", epochs=3),
    ):
        data = load("digits")
        network = run(config, data=data).network.eval()
        specs = specs_for(network, lnm.Fixed(16, 12))
        found = measure_mismatch(network, specs, data.batches(data.test, 128), count_correct)
        assert found.accuracy > 0.9
        assert found.one_step_mismatch <= 0.001
        assert found.free_running_mismatch <= 0.001
        assert abs(found.accuracy_fixed - found.accuracy) <= 0.005
