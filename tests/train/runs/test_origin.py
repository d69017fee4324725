"""Origin of a run: a neuron or samples that have changed since are refused in one line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.errors import ModelError
from lnm_codegen.train import Dataset, TrainConfig, load, load_run, run
from lnm_codegen.train.data.dataset import memory_split
from tests.refusals import refused

CONFIG = TrainConfig(
    family="lif", network="feedforward", network_arguments={"hidden": (3,)}, data="digits-rows",
    epochs=1, batch=16, limit=32, backend="torch", threads=1,
)  # fmt: skip
CHANGED = "its definition has changed since the run began"
PYTHON = """
import lnm_codegen as lnm

@lnm.family
def mine(leak=0.5, surrogate=None):
    v, x = lnm.state("v"), lnm.input("x")
    return lnm.Neuron({v: leak * v + x}, v - 1, surrogate=surrogate)
"""


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load("digits-rows", limit=32)


@pytest.fixture(scope="module")
def other(data: Dataset) -> Dataset:
    """The same inputs with other labels."""
    return replace(data, train=memory_split(data.train.images, 9 - data.train.labels))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, other: Dataset) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    run(CONFIG, folder, data=other)
    return folder


def require_refused(config: TrainConfig, out: Path, data: Dataset) -> None:
    """Loading and resuming refuse the family; the folder keeps its files."""
    before = {path: path.read_bytes() for path in out.iterdir()}
    with refused(ModelError, f"run: {out}/config.json: {config.family}", CHANGED, "", "Restore it"):
        load_run(out, data)
    with refused(ModelError, config.family, CHANGED, "", "Restore it"):
        run(config, out, data=data, resume=True)
    assert before == {path: path.read_bytes() for path in out.iterdir()}


def test_an_edited_definition_in_a_file(tmp_path: Path, data: Dataset) -> None:
    """Parameters keep names and shapes, so the weights fit; numbers were those of two neurons."""
    file, out, text = tmp_path / "my.toml", tmp_path / "run", lnm.get("lif").to_toml()
    file.write_text(text)
    config = replace(CONFIG, family=str(file))
    run(config, out, data=data)
    file.write_text(text.replace("v + (x - v)/tau", "0.1*v + x/tau/2"))
    require_refused(config, out, data)
    file.write_text('surrogate = "sigmoid"\n' + text)
    require_refused(config, out, data)
    file.write_text("# restored\n" + text.replace("v + (x - v)/tau", "v + (x-v) / tau"))
    load_run(out, data)


def test_an_edited_python_family(tmp_path: Path, data: Dataset) -> None:
    """A surrogate in the config is not read again, and does not count."""
    file, out = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(PYTHON)
    arguments = {"leak": 0.25, "surrogate": lnm.surrogate.sigmoid(3.0)}
    config = replace(CONFIG, family=f"{file}:mine", arguments=arguments)
    run(config, out, data=data)
    load_run(out, data)
    file.write_text(PYTHON.replace("leak * v + x", "leak * v + 2 * x"))
    require_refused(config, out, data)


def test_own_samples_are_demanded(trained: Path, data: Dataset, other: Dataset) -> None:
    """The config names the samples of a data set, which the run has not seen."""
    out, remedy = trained, "data= of load_run, or of run to resume it"
    where = "data: digits-rows"
    with refused(ModelError, f"run: {out}/config.json: {where}", "other labels", "", remedy):
        load_run(out)
    for given in (None, data):
        with refused(ModelError, where, "the run has other labels", "", remedy):
            run(CONFIG, out, data=given, resume=True)
    assert load_run(out, other).data.train is other.train
    problem = "holds a run whose data is 'digits-rows', not 'mine'"
    with refused(ModelError, "train", problem):
        run(CONFIG, out, data=replace(other, name="mine"), resume=True)
    run(CONFIG, out, data=other, resume=True)


def test_a_run_without_an_origin_is_not_compared(
    trained: Path, tmp_path: Path, data: Dataset
) -> None:
    """Versions before 0.2 wrote none."""
    path = Path(shutil.copytree(trained, tmp_path / "old")) / "config.json"
    content = json.loads(path.read_text())
    assert content.pop("origin")["neuron"] is None
    path.write_text(json.dumps(content))
    assert len(load_run(path.parent).data.train) == len(data.train)
    run(CONFIG, path.parent, data=data, resume=True)


def test_options_of_the_samples_are_recorded(tmp_path: Path) -> None:
    """The config lost scale="standard", so a loaded network saw inputs of another scale."""
    data = load("digits-rows", limit=40, scale="standard", split="writers")
    run(replace(CONFIG, limit=None), tmp_path, data=data)
    loaded = load_run(tmp_path)
    assert loaded.config.data_arguments == {"scale": "standard", "split": "writers"}
    assert loaded.config.limit == 40
    run(loaded.config, tmp_path, resume=True)
    (x, _), (want, _) = (next(d.batches(d.train, 40)) for d in (loaded.data, data))
    assert torch.equal(x, want)
    with refused(ModelError, "train", "holds a run whose data_arguments is"):
        run(CONFIG, tmp_path, data=load("digits-rows", limit=40), resume=True)


@pytest.mark.parametrize("case", ["other inputs", "another mean or deviation"])
def test_other_inputs_with_the_same_labels(
    case: str, trained: Path, other: Dataset, tmp_path: Path
) -> None:
    """Neither sizes nor labels show them. Differences in last bits are no others."""
    x = other.train.images
    change = {
        "other inputs": {"train": memory_split(x.flip(1), other.train.labels)},
        "another mean or deviation": {"scale": (torch.tensor(8.0), torch.tensor(16.0))},
    }
    changed = replace(other, **change[case])
    with refused(ModelError, "data: digits-rows", f"the run has {case}", "", "of load_run"):
        run(CONFIG, trained, data=changed, resume=True)
    near = replace(other, train=memory_split(x * (1 + 1e-6), other.train.labels))
    run(CONFIG, trained, data=near, resume=True)
    path = Path(shutil.copytree(trained, tmp_path / "run")) / "config.json"
    content = json.loads(path.read_text())
    content["origin"]["data"] |= {"inputs": "few", "mean": "none"}
    path.write_text(json.dumps(content))
    with refused(ModelError, None, "is '", "numbers", "Restore config.json"):
        run(CONFIG, path.parent, data=other, resume=True)
    for word in ("inputs", "mean", "deviation"):
        content["origin"]["data"].pop(word)
    path.write_text(json.dumps(content))
    run(CONFIG, path.parent, data=changed, resume=True)
