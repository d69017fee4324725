"""`lnm arrays` and `lnm report`: from a run folder to arrays and their resources."""

from __future__ import annotations

import json
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
from tests.refusals import assert_line

SMALL = TrainConfig(
    arguments={"degree": 2}, network_arguments={"channels": (3, 4), "time_steps": 3}, epochs=1,
    batch=16, limit=128, backend="torch", threads=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small runs: lnm, lif, and per with theta per channel."""
    folder = tmp_path_factory.mktemp("runs")
    data = load("digits", limit=128)
    run(SMALL, folder / "lnm", data=data)
    run(replace(SMALL, family="lif", arguments={}), folder / "lif", data=data)
    run(replace(SMALL, arguments={"degree": 1, "per": "channel"}), folder / "per", data=data)
    run(replace(SMALL, arguments={"degree": 1, "per": "neuron"}), folder / "neuron", data=data)
    return folder


def emit(*words: str | Path) -> int:
    return command(["arrays", *map(str, words)])


def test_arrays_of_a_run(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert emit(runs / "lnm", "--out", tmp_path) == 0
    count = sum(p.is_file() for p in tmp_path.rglob("*"))
    assert capsys.readouterr().out.splitlines()[0] == f"{count} files written to {tmp_path}"
    place = tmp_path / "verilog"
    folders = ["blocks_0_neuron", "blocks_1_neuron"]
    assert sorted(p.name for p in place.iterdir()) == ["README.md", *folders, "network.json"]
    content = json.loads((place / "network.json").read_text())
    network = load_run(runs / "lnm").network
    for layer, block, name in zip(content["layers"], network.blocks, folders, strict=True):
        manifest = json.loads((place / name / "manifest.json").read_text())
        assert layer["folder"] == manifest["name"] == name
        assert layer["neurons"] == manifest["neurons"]
        assert manifest["format"] == "Q4.12"
        theta = [c["rounded_from"][0] for c in manifest["coefficients"][:3]]
        np.testing.assert_allclose(theta, block.neuron.theta.detach())
        scale = block.norm.weight / (block.norm.running_var + block.norm.eps).sqrt()
        np.testing.assert_allclose(layer["normalisation"]["scale"], scale.detach(), rtol=1e-5)
        offset = block.norm.bias - block.norm.running_mean * scale
        np.testing.assert_allclose(layer["normalisation"]["offset"], offset.detach(), atol=1e-5)
    assert [layer["neurons"] for layer in content["layers"]] == [3 * 64, 4 * 16]
    text = (place / "README.md").read_text()
    assert "| blocks.1.neuron | `blocks_1_neuron/` | 64 | 1 | Q4.12 | " in text
    assert "* x: Q4.12, -8 to 7.99976.\n* Normalisation `blocks.0.norm`: scale " in text
    assert "* Initial states: v = 0.\n* Golden vectors: 4 images of 3 ticks.\n" in text


def test_the_same_run_gives_the_same_bytes(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also as the working folder, whose name is in the README."""
    monkeypatch.chdir(runs / "per")
    for name, folder in (("first", runs / "per"), ("second", Path())):
        assert emit(folder, "--format", "auto", "--out", tmp_path / name) == 0
    first, second = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.*")}
        for name in ("first", "second")
    )
    assert first == second
    manifest = json.loads(first[Path("verilog/blocks_1_neuron/manifest.json")])
    assert manifest["coefficients_on"] == "memory"
    assert len(manifest["coefficients"][0]["integers"]) == 4


def test_the_old_spelling(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It writes the same folder, and says what its verb is now."""
    words = [
        "emit",
        "--run",
        str(runs / "lnm"),
        "--backend",
        "verilog",
        "--out",
        str(tmp_path / "old"),
    ]
    assert command(words) == 0
    assert capsys.readouterr().err.startswith("note: since 0.3 this is lnm arrays; ")
    assert emit(runs / "lnm", "--out", tmp_path / "new") == 0
    old, new = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.*")}
        for name in ("old", "new")
    )
    assert old == new
    assert command([*words[:4], "c", *words[5:]]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert_line(line, "lnm arrays: No such option: --backend", "--help")


@pytest.mark.skipif(missing("iverilog") is not None, reason="no iverilog")
@pytest.mark.parametrize(("word", "format_"), [("lnm", "auto"), ("per", "16.12")])
def test_testbenches_pass(runs: Path, tmp_path: Path, word: str, format_: str) -> None:
    assert emit(runs / word, "--format", format_, "--out", tmp_path) == 0
    for folder in sorted((tmp_path / "verilog").glob("blocks_*")):
        circuit = read_circuit(folder, "test")
        found = simulate(circuit, circuit.forms["array"])
        assert found.status == "passed", found.detail


def test_formats_that_quantize_wrote(runs: Path, tmp_path: Path) -> None:
    """A folder has a spec for each layer; one file serves all of them."""
    words = tmp_path / "words"
    assert command(["quantize", str(runs / "lnm"), "--mismatch", "0.01", "--out", str(words)]) == 0
    for name in ("blocks.0.neuron", "blocks.1.neuron"):
        assert (words / f"{name}.toml").is_file()
    assert emit(runs / "lnm", "--format", words, "--out", tmp_path / "each") == 0
    place = tmp_path / "each/verilog"
    manifest = json.loads((place / "blocks_1_neuron/manifest.json").read_text())
    spec = load_spec(words / "blocks.1.neuron.toml")
    assert {n: f.split()[0] for n, f in manifest["formats"].items()} == {
        name: str(fixed) for name, fixed in spec.nodes
    }
    one = words / "blocks.0.neuron.toml"
    assert emit(runs / "lnm", "--format", one, "--out", tmp_path / "one") == 0
    one.unlink()
    assert emit(runs / "lnm", "--format", words, "--out", tmp_path / "none") == 2
    assert not (tmp_path / "none").exists()


def test_auto_notes_a_layer_without_a_spike(capsys: pytest.CaptureFixture[str]) -> None:
    """Its formats are those of an error: a circuit that never spikes would have no mismatch."""
    data = SimpleNamespace(train=None, batches=lambda *_: iter([(torch.ones(4, 2, 3), None)]))
    network = nn.Sequential(NeuronLayer(lnm.get("lif", v_threshold=100.0)))
    specs_of(cast(Run, SimpleNamespace(network=network, data=data)), "auto")
    wanted = "note: 0: no spike on the training images of the search, so that its target is another"
    assert capsys.readouterr().err.startswith(f"{wanted}: error of a state after a step <= 0.00")


@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        ("none", (), ("run: {runs}/none: ", "no such folder", "lnm train")),
        ("neuron", (), ("lnm: theta per neuron has no circuit", "per='layer' or per='channel'")),
        (
            "lnm",
            ("--format", "fine"),
            ("--format", "'fine': not a format", "Q4.12; auto;", "lnm quantize"),
        ),
        (
            "lnm",
            ("--format", "8.7"),
            ("blocks.0.neuron: lnm.charge, h: the constant -2", "more integer bits"),
        ),
        ("lnm", ("--rounding", "truncate"), ("lnm arrays: No such option: --rounding", "--help")),
        ("lnm", ("--backend", "c"), ("lnm arrays: No such option: --backend", "--help")),
        ("lnm", ("lif",), ("lnm arrays: Got unexpected extra argument(s) (lif)", "--help")),
    ],
)
def test_mistakes_write_nothing(
    runs: Path,
    tmp_path: Path,
    name: str,
    options: tuple[str, ...],
    parts: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert emit(runs / name, "--out", tmp_path / "out", *options) == 2
    assert_line(capsys.readouterr().err, *(part.format(runs=runs) for part in parts))
    assert not (tmp_path / "out").exists()


def report(*words: str | Path) -> int:
    return command(["report", *map(str, words)])


def test_report_as_json(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its numbers are those of `measure_mismatch` on the test set; none is power or energy."""
    pair = (runs / "lnm", "--baseline", runs / "lif")
    assert report(*pair, "--no-synth", "--json", "--format", "12.8") == 0
    text = capsys.readouterr().out
    found = json.loads(text)
    assert "--no-synth" in found["note"]
    back: Run = load_run(runs / "lnm")
    specs = specs_for(back.network, lnm.Fixed(12, 8))
    wanted = measure_mismatch(
        back.network, specs, back.data.batches(back.data.test, 128), count_correct
    )
    lnm_run, lif = found["run"], found["baseline"]
    assert (lnm_run["neuron"], lif["neuron"]) == ("lnm", "lif")
    assert lnm_run["images"] == lif["images"] == 128
    assert lnm_run["accuracy"] == wanted.accuracy
    assert lnm_run["accuracy_fixed"] == wanted.accuracy_fixed
    assert lnm_run["agreement_one_step"] == 1 - wanted.one_step_mismatch
    layer, counts = lnm_run["layers"]["blocks.0.neuron"], wanted.layers["blocks.0.neuron"]
    assert layer["mismatch_one_step"] == counts.share("one_step")
    assert layer["mismatch_free_running"] == counts.share("free_running") > 0
    assert layer["firing_rate"] == counts.share("fired") > 0
    assert layer["state_bits"] == 12
    assert layer["state_memory_bits"] == 12 * 3 * 64
    assert layer["coefficient_bits"] == 4 * 12
    assert layer["operations_per_step"]["fused"] == 2
    assert layer["cycles_per_image"] > 3 * 3 * 64
    assert layer["resources"] is None
    assert "energy" not in text
    assert "power" not in text


def test_report_as_a_table(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = (runs / "per", "--baseline", runs / "lif")
    assert report(*pair, "--no-synth", "--format", "auto") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["lnm against lif, 128 test samples", "", "Networks"]
    assert lines[3].split() == [str(runs / "per"), str(runs / "lif")]
    assert "Layer 2: blocks.1.neuron, 64 neurons" in lines
    assert any(line.startswith("outputs equal: one step from the same state") for line in lines)
    assert "--no-synth" in lines[-1]


def test_the_report_of_a_run_with_validation_is_on_the_test_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The test split of such a run is part of its training samples."""
    held_out = replace(SMALL, limit=32, validation=10)
    run(held_out, tmp_path / "lnm")
    run(replace(held_out, family="lif", arguments={}), tmp_path / "lif")
    pair = (tmp_path / "lnm", "--baseline", tmp_path / "lif")
    assert report(*pair, "--no-synth", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    back = load_run(tmp_path / "lnm")
    tested = load("digits", limit=32)
    specs = specs_for(back.network, lnm.Fixed(16, 12))
    wanted = measure_mismatch(back.network, specs, tested.batches(tested.test, 128), count_correct)
    assert len(back.data.test) == 10
    assert found["run"]["images"] == found["baseline"]["images"] == 32
    assert found["run"]["accuracy"] == wanted.accuracy


def test_missing_tools_are_named(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "find", lambda word: None)
    assert report(runs / "lif", "--baseline", runs / "lif") == 0  # one folder for both
    assert capsys.readouterr().out.splitlines()[-1] == (
        "resources and Fmax: not measured: yosys, nextpnr-ecp5 not found on PATH. To install:"
        " apt-get install yosys; apt-get install nextpnr-ecp5"
    )


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--target", "asic"), ("report: --target", "'asic'", "'ecp5', 'ice40', 'xilinx'")),
        (("--seeds", "0"), ("report: --seeds is 0", "1 to 32")),
    ],
)
def test_mistakes_of_report(
    runs: Path, options: tuple[str, ...], parts: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(runs / "lnm", "--baseline", runs / "lif", *options) == 2
    assert_line(capsys.readouterr().err, *parts)


def test_runs_of_other_networks_are_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(
        replace(SMALL, family="lif", arguments={}, network_arguments={"channels": (4,)}, limit=48),
        tmp_path / "other",
    )
    assert report(runs / "lnm", "--baseline", tmp_path / "other") == 2
    problem = f"report: limit is 128 in {runs}/lnm and 48 in {tmp_path}/other"
    assert_line(capsys.readouterr().err, problem, "runs that differ ")


@pytest.mark.slow
@pytest.mark.skipif(missing("yosys", "nextpnr-ecp5") is not None, reason="no yosys, nextpnr")
def test_report_measures(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(runs / "lnm", "--baseline", runs / "lif", "--seeds", "1", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["note"] is None
    for key in ("run", "baseline"):
        for layer in found[key]["layers"].values():
            cost = layer["resources"]
            assert cost["DSP"] == layer["multipliers"] <= 2
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
