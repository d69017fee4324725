"""Origin of a run: changed neurons or samples are refused, and neuron.toml hands the neuron on."""

from __future__ import annotations

import json
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
from lnm_codegen.train.data.dataset import memory_split
from lnm_codegen.train.models import Network
from lnm_codegen.train.runs.config import DEFINITION, definition_text
from tests.refusals import refused
from tests.train.small import FAMILY, ROWS, kept

CHANGED = "its definition has changed since the run began"
SWING = replace(ROWS, family="swing.toml")


@pytest.fixture(scope="module")
def other(rows: Dataset) -> Dataset:
    """The same inputs with other labels."""
    return replace(rows, train=memory_split(rows.train.images, 9 - rows.train.labels))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, other: Dataset) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    run(ROWS, folder, data=other)
    return folder


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder beside the current one, of a reader of the run."""
    (tmp_path / "here").mkdir()
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "away"


def scores(network: Network, data: Dataset) -> torch.Tensor:
    with torch.no_grad():
        return network.eval()(next(data.batches(data.test, 32))[0])


def require_refused(config: TrainConfig, out: Path, data: Dataset, file: object = None) -> None:
    """Loading and resuming refuse the family; the folder keeps its files."""
    named = config.family if file is None else file
    with kept(out, f"run: {out}/config.json: {named}", CHANGED, "", "Restore it"):
        load_run(out, data)
    with kept(out, named, CHANGED, "", "Restore it"):
        run(config, out, data=data, resume=True)


def test_an_edited_definition(tmp_path: Path, rows: Dataset) -> None:
    """Parameters keep names and shapes, so the weights fit; numbers were those of two neurons.

    A surrogate in the config is not read again, and does not count.
    """
    toml, out, text = tmp_path / "my.toml", tmp_path / "toml", lnm.get("lif").to_toml()
    toml.write_text(text)
    config = replace(ROWS, family=str(toml))
    run(config, out, data=rows)
    same = "# restored\n" + text.replace("v + (x - v)/tau", "v + (x-v) / tau")
    for changed in (
        text.replace("v + (x - v)/tau", "0.1*v + x/tau/2"),
        'surrogate = "sigmoid"\n' + text,
    ):
        toml.write_text(changed)
        require_refused(config, out, rows)
    toml.write_text(same)
    load_run(out, rows)
    file, out = tmp_path / "mine.py", tmp_path / "py"
    file.write_text(FAMILY)
    arguments = {"leak": 0.25, "surrogate": lnm.surrogate.sigmoid(3.0)}
    config = replace(ROWS, family=f"{file}:mine", arguments=arguments)
    run(config, out, data=rows)
    load_run(out, rows)
    file.write_text(FAMILY.replace("leak * v + x", "leak * v + 2 * x"))
    require_refused(config, out, rows)


def test_own_samples_are_demanded(trained: Path, rows: Dataset, other: Dataset) -> None:
    """The config names the samples of a data set, which the run has not seen."""
    parts = ("other labels", "", "data= of load_run, or of run to resume it")
    with refused(ModelError, f"run: {trained}/config.json: data: digits-rows", *parts):
        load_run(trained)
    for given in (None, rows):
        with refused(ModelError, "data: digits-rows", *parts):
            run(ROWS, trained, data=given, resume=True)
    assert load_run(trained, other).data.train is other.train
    with refused(ModelError, "train", "holds a run whose data is 'digits-rows', not 'mine'"):
        run(ROWS, trained, data=replace(other, name="mine"), resume=True)
    run(ROWS, trained, data=other, resume=True)


def test_options_of_the_samples_are_recorded(tmp_path: Path) -> None:
    """The config lost scale="standard", so a loaded network saw inputs of another scale."""
    data = load("digits-rows", limit=40, scale="standard", split="writers")
    run(replace(ROWS, limit=None), tmp_path, data=data)
    loaded = load_run(tmp_path)
    assert loaded.config.data_arguments == {"scale": "standard", "split": "writers"}
    assert loaded.config.limit == 40
    run(loaded.config, tmp_path, resume=True)
    (x, _), (want, _) = (next(d.batches(d.train, 40)) for d in (loaded.data, data))
    assert torch.equal(x, want)
    with refused(ModelError, "train", "holds a run whose data_arguments is"):
        run(ROWS, tmp_path, data=load("digits-rows", limit=40), resume=True)


def test_other_inputs_with_the_same_labels(trained: Path, other: Dataset, tmp_path: Path) -> None:
    """Neither sizes nor labels show them. Differences in last bits are no others.

    A run of an earlier version has no record of inputs; versions before 0.2 wrote no origin.
    """
    x, labels = other.train.images, other.train.labels
    far = replace(other, scale=(torch.tensor(8.0), torch.tensor(16.0)))
    changed = replace(other, train=memory_split(x.flip(1), labels))
    for data, problem in ((changed, "inputs"), (far, "mean or deviation")):
        problem = f"the run has {'other' if data is changed else 'another'} {problem}"
        with refused(ModelError, "data: digits-rows", problem, "", "of load_run"):
            run(ROWS, trained, data=data, resume=True)
    near = replace(other, train=memory_split(x * (1 + 1e-6), labels))
    run(ROWS, trained, data=near, resume=True)
    path = Path(shutil.copytree(trained, tmp_path / "run")) / "config.json"
    content = json.loads(path.read_text())
    recorded = content["origin"]["data"]
    whole = dict(recorded)
    recorded |= {"inputs": "few", "mean": "none"}
    path.write_text(json.dumps(content))
    with refused(ModelError, None, "is '", "numbers", "Restore config.json"):
        run(ROWS, path.parent, data=other, resume=True)
    for word in ("inputs", "mean", "deviation"):
        assert word in whole
        recorded.pop(word)
    path.write_text(json.dumps(content))
    for data in (changed, far):
        run(ROWS, path.parent, data=data, resume=True)
    assert content.pop("origin")["neuron"] is None
    path.write_text(json.dumps(content))
    assert len(load_run(path.parent).data.train) == len(labels)
    run(ROWS, path.parent, data=replace(other, train=memory_split(x, 9 - labels)), resume=True)


def test_a_run_of_a_toml_file_is_handed_on(
    away: Path, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remedy was to run the command where training ran, which another machine has not."""
    Path("swing.toml").write_text("# mine\n" + lnm.get("rf").to_toml())
    result = run(SWING, "sw", data=rows)
    assert lnm.load(Path("sw", DEFINITION)).to_toml() == lnm.load("swing.toml").to_toml()
    shutil.move("sw", away)
    monkeypatch.chdir(away)
    found = load_run("sw")
    assert found.config == SWING
    assert torch.equal(scores(found.network, rows), scores(result.network, rows))
    assert command(["train", "--resume", "--out", "sw"]) == 0
    Path("swing.toml").write_text(lnm.get("lif").to_toml())
    with refused(ModelError, "run: sw/config.json: swing.toml", "its definition has changed"):
        load_run("sw")


@pytest.mark.parametrize("place", ["mine.py", "own_neurons"])
def test_a_python_family_is_handed_on(
    place: str, away: Path, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arguments of the family are part of neuron.toml."""
    Path(place).with_suffix(".py").write_text(FAMILY)
    arguments = {"leak": 0.25, "surrogate": lnm.surrogate.sigmoid(3.0)}
    config = replace(ROWS, family=f"{place}:mine", arguments=arguments)
    result = run(config, away / "run", data=rows)
    monkeypatch.chdir(away)
    sys.modules.pop(place, None)
    found = load_run("run", rows)
    assert torch.equal(scores(found.network, rows), scores(result.network, rows))
    again = run(config, "run", data=rows, resume=True)
    assert again.network.neurons[0].neuron.surrogates == result.network.neurons[0].neuron.surrogates


def test_a_changed_neuron_toml_is_refused(away: Path, rows: Dataset) -> None:
    Path("swing.toml").write_text(lnm.get("lif").to_toml())
    run(SWING, "run", data=rows)
    Path("swing.toml").unlink()
    own = Path("run", DEFINITION)
    own.write_text(own.read_text().replace("v + (x - v)/tau", "v + x/tau"))
    require_refused(SWING, Path("run"), rows, own)
    run(replace(SWING, family="lif"), "run", data=rows, force=True)
    assert not own.exists()


def test_neurons_without_a_text_have_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    neuron = lnm.get("lif")
    assert definition_text(SWING, neuron) == neuron.to_toml()
    assert definition_text(replace(SWING, family="lif"), neuron) is None
    assert definition_text(SWING, lnm.normalised(neuron)) is None
    monkeypatch.setattr("lnm_codegen.train.runs.config.MAX_BYTES", 10)
    assert definition_text(SWING, neuron) is None
