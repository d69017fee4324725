"""neuron.toml of a run folder: the run loads where the file or module of its neuron is missing."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.cli import run as command
from lnm_codegen.errors import ModelError
from lnm_codegen.train import Dataset, TrainConfig, load, load_run, run
from lnm_codegen.train.models import Network
from lnm_codegen.train.runs.config import DEFINITION, definition_text
from tests.refusals import refused
from tests.train.runs.test_origin import PYTHON

CONFIG = TrainConfig(
    family="swing.toml", network="feedforward", network_arguments={"hidden": (3,)},
    data="digits-rows", epochs=1, batch=16, limit=32, backend="torch", threads=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load("digits-rows", limit=32)


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder beside the current one, of a reader of the run."""
    (tmp_path / "here").mkdir()
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "away"


def scores(network: Network, data: Dataset) -> torch.Tensor:
    x, _ = next(data.batches(data.test, 32))
    with torch.no_grad():
        return network.eval()(x)


def test_a_run_of_a_toml_file_is_handed_on(
    away: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remedy was to run the command where training ran, which another machine has not."""
    Path("swing.toml").write_text("# mine\n" + lnm.get("rf").to_toml())
    result = run(CONFIG, "sw", data=data)
    assert lnm.load(Path("sw", DEFINITION)).to_toml() == lnm.load("swing.toml").to_toml()
    shutil.move("sw", away)
    monkeypatch.chdir(away)
    found = load_run("sw")
    assert found.config == CONFIG
    assert torch.equal(scores(found.network, data), scores(result.network, data))
    assert command(["train", "--resume", "--out", "sw"]) == 0
    Path("swing.toml").write_text(lnm.get("lif").to_toml())
    with refused(ModelError, "run: sw/config.json: swing.toml", "its definition has changed"):
        load_run("sw")


@pytest.mark.parametrize("place", ["mine.py", "own_neurons"])
def test_a_python_family_is_handed_on(
    place: str, away: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arguments of the family are part of neuron.toml."""
    Path(place).with_suffix(".py").write_text(PYTHON)
    arguments = {"leak": 0.25, "surrogate": lnm.surrogate.sigmoid(3.0)}
    config = replace(CONFIG, family=f"{place}:mine", arguments=arguments)
    result = run(config, away / "run", data=data)
    monkeypatch.chdir(away)
    sys.modules.pop(place, None)
    found = load_run("run", data)
    assert torch.equal(scores(found.network, data), scores(result.network, data))
    again = run(config, "run", data=data, resume=True)
    assert again.network.neurons[0].neuron.surrogates == result.network.neurons[0].neuron.surrogates


def test_a_changed_definition_is_refused(away: Path, data: Dataset) -> None:
    Path("swing.toml").write_text(lnm.get("lif").to_toml())
    run(CONFIG, "run", data=data)
    Path("swing.toml").unlink()
    own = Path("run", DEFINITION)
    own.write_text(own.read_text().replace("v + (x - v)/tau", "v + x/tau"))
    changed = "its definition has changed since the run began"
    with refused(ModelError, f"run: run/config.json: {own}", changed, "", "Restore it"):
        load_run("run", data)
    with refused(ModelError, str(own), changed, "", "Restore it"):
        run(CONFIG, "run", data=data, resume=True)
    run(replace(CONFIG, family="lif"), "run", data=data, force=True)
    assert not own.exists()


def test_neurons_without_a_text_have_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    neuron = lnm.get("lif")
    assert definition_text(CONFIG, neuron) == neuron.to_toml()
    assert definition_text(replace(CONFIG, family="lif"), neuron) is None
    assert definition_text(CONFIG, lnm.normalised(neuron)) is None
    monkeypatch.setattr("lnm_codegen.train.runs.config.MAX_BYTES", 10)
    assert definition_text(CONFIG, neuron) is None
