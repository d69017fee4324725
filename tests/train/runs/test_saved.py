"""Loading of run folders: the network as it was, or an error of one line."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lnm_codegen.errors import ModelError
from lnm_codegen.language.surrogate import sigmoid
from lnm_codegen.train import Dataset, TrainConfig, load, load_run, run
from lnm_codegen.train.engine import evaluate
from lnm_codegen.train.runs.runner import RunResult
from tests.refusals import refused

SMALL = TrainConfig(
    arguments={"degree": 2}, network_arguments={"channels": (2, 3)}, epochs=1, batch=16, limit=48,
    backend="torch", threads=1,
)  # fmt: skip
REMEDY = "Train again with lnm train, or name another run."


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load("digits", limit=48)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: Dataset) -> tuple[Path, RunResult]:
    folder = tmp_path_factory.mktemp("trained") / "run"
    return folder, run(SMALL, folder, data=data)


@pytest.fixture
def folder(trained: tuple[Path, RunResult], tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def change(folder: Path, **fields: Any) -> None:
    content = json.loads((folder / "config.json").read_text())
    content["config"].update(fields)
    (folder / "config.json").write_text(json.dumps(content))


def unloadable(
    folder: Path, data: Dataset, where: str, problem: str, accepted: str = "", remedy: str = ""
) -> None:
    with refused(ModelError, where, problem, accepted, remedy):
        load_run(folder, data)


def test_a_run_comes_back_whole(trained: tuple[Path, RunResult]) -> None:
    folder, result = trained
    back = load_run(folder)
    assert back.config == SMALL
    assert not back.network.training
    want = result.network.state_dict()
    assert all(torch.equal(want[n], t) for n, t in back.network.state_dict().items())
    found = evaluate(back.network, back.data, back.data.test)
    assert (found.accuracy, found.rates) == (result.epochs[0].test_accuracy, result.epochs[0].rates)


def test_arguments_come_back_as_they_were(tmp_path: Path, data: Dataset) -> None:
    """A surrogate is no part of what the network computes, and its text is not read."""
    arguments = {"degree": 1, "theta": (0.0, 0.5), "per": {"theta": "channel"}}
    config = replace(SMALL, arguments={**arguments, "surrogate": sigmoid(3.0)})
    run(config, tmp_path / "run", data=data)
    back = load_run(tmp_path / "run", data)
    assert back.config.arguments == arguments
    assert back.network.neurons[1].theta.shape == (3, 2)


def test_no_folder(tmp_path: Path, data: Dataset) -> None:
    remedy = "Name the folder that lnm train wrote."
    (tmp_path / "file").touch()
    unloadable(tmp_path / "none", data, f"run: {tmp_path}/none", "no such folder", "", remedy)
    unloadable(tmp_path / "file", data, f"run: {tmp_path}/file", "not a folder", "", remedy)
    problem = f"{tmp_path} holds no run: no config.json in it"
    unloadable(tmp_path, data, "run", problem, remedy=REMEDY)


def test_damaged_json(folder: Path, data: Dataset) -> None:
    path = folder / "config.json"
    damaged = {path.read_bytes()[:50]: "not JSON", b"\xff{}": "not UTF-8", b"[" * 9**6: "not JSON"}
    for content, problem in damaged.items():
        path.write_bytes(content)
        unloadable(folder, data, f"run: {path}", problem, remedy=REMEDY)
    path.write_text("[]")
    unloadable(folder, data, f"run: {path}", "no table 'config' in it", remedy=REMEDY)


@pytest.mark.parametrize(
    ("fields", "place", "problem", "accepted"),
    [
        ({"famly": "lif"}, "", "no field 'famly'", "family, arguments, "),
        ({"network_arguments": "16"}, "", "network_arguments is '16'", "a table"),
        ({"neurons_order": [2, True]}, "", "neurons_order is [2, True]", "a list of integers"),
        ({"lr": "fast"}, "", "lr is 'fast'", "a number"),
        ({"epochs": True}, "", "epochs is True", "an integer"),
        ({"batch": 0}, ": train", "batch is 0", "an integer >= 1"),
        ({"backend": "fast"}, ": train", "backend is 'fast'", "'auto', 'c'"),
        ({"network": "vgg"}, None, "'vgg'", ""),
        ({"network_arguments": {"channels": [0]}}, None, "channels is (0,)", ""),
        ({"network_arguments": {"time_steps": 0}}, None, "time_steps is 0", ""),
        ({"family": "lmn"}, None, "no built-in family", ""),
        ({"family": "lif"}, None, "'degree'", ""),
    ],
)
def test_a_config_that_does_not_fit(
    folder: Path, data: Dataset, fields: Any, place: str | None, problem: str, accepted: str
) -> None:
    """A place of None is that of the network or the family."""
    change(folder, **fields)
    where = f"run: {folder}/config.json"
    with refused(ModelError, None if place is None else where + place, problem, accepted) as caught:
        load_run(folder, data)
    assert caught.value.where.startswith(where)


def test_a_recorded_call_is_made_of_families_alone(folder: Path, data: Dataset) -> None:
    """`os:system` with a command would be text that is executed; `os:abort` ended the process."""
    mark = folder / "mark"
    command = {"command": f"touch {mark}"}
    kind = "builtin_function_or_method"
    for family, arguments, of in (
        ("os:system", command, kind),
        ("os:abort", {}, kind),
        ("os:getcwd", {}, kind),
        ("site:main", {}, "function"),
    ):
        change(folder, family=family, arguments=arguments, v_min=None)
        where, problem = f"run: {folder}/config.json: {family}", f"a {of}, which a run folder"
        unloadable(folder, data, where, problem, "a family or an lnm.Neuron")
    assert not mark.exists()


def test_a_python_family_is_run(tmp_path: Path, data: Dataset) -> None:
    source = tmp_path / "mine.py"
    source.write_text(
        "import lnm_codegen as lnm\n"
        "@lnm.family\n"
        "def mine(leak=0.5):\n"
        "    v, x = lnm.state('v'), lnm.input('x')\n"
        "    return lnm.Neuron({v: leak * v + x}, v - 1)\n"
    )
    config = replace(SMALL, family=f"{source}:mine", arguments={"leak": 0.25})
    run(config, tmp_path / "run", data=data)
    assert load_run(tmp_path / "run", data).network.neurons[0].neuron.name == "mine"
    source.unlink()
    (tmp_path / "run" / "neuron.toml").unlink()  # as in a run of an earlier version
    where = f"run: {tmp_path}/run/config.json: {source}"
    unloadable(tmp_path / "run", data, where, "no such file", remedy="Put the file back")


def test_a_relative_family_is_found_where_training_ran(folder: Path, data: Dataset) -> None:
    """The remedy of a path says so; no option of a command takes the path."""
    for family in ("own.toml", "own.py:own"):
        change(folder, family=family, arguments={})
        where = f"run: {folder / 'config.json'}: {family.partition(':')[0]}"
        unloadable(folder, data, where, "no such file", remedy="the folder in which lnm train ran")


def test_weights_that_are_damaged(folder: Path, data: Dataset) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-8], whole[:20], b"", pickle.dumps({"a": 1})):
        path.write_bytes(damaged)
        unloadable(folder, data, f"run: {path}", "not a complete safetensors file: ", "", REMEDY)
    path.unlink()
    problem = f"{folder} holds no complete epoch: no model.safetensors in it"
    unloadable(folder, data, "run", problem, remedy=REMEDY)


def test_weights_of_another_network(folder: Path, data: Dataset) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    bias = tensors["readout.bias"]
    for name, value, problem, accepted in (
        ("readout.bias", None, "the file has no tensor 'readout.bias'", ""),
        ("extra", bias.clone(), "the network has no tensor 'extra'", ""),
        ("readout.bias", bias[:4].clone(), "is (4,) torch.float32", "(10,) torch.float32"),
        ("readout.bias", bias.double(), "is (10,) torch.float64", "(10,) torch.float32"),
        ("readout.bias", bias * torch.nan, "'readout.bias' is not finite", ""),
    ):
        changed = {**tensors, name: value}
        save_file({n: t for n, t in changed.items() if t is not None}, path)
        unloadable(folder, data, f"run: {path}", problem, accepted, REMEDY)
    save_file(tensors, path)
    change(folder, network_arguments={"channels": [2, 10**12]})
    problem = "the network 'conv' cannot be built: "
    unloadable(folder, data, f"run: {folder}/config.json: train", problem)


@pytest.mark.parametrize("arguments", [{}, {"a": 0.25}])
def test_a_function_is_refused_before_training(
    arguments: dict[str, float], tmp_path: Path, data: Dataset
) -> None:
    """`load_run` refuses such a run: its config.json could name any callable."""
    file, out = tmp_path / "plain.py", tmp_path / "run"
    text = (
        "import lnm_codegen as lnm\n\n\n{family}def mine(a=0.5):\n"
        "    return lnm.get('lif', tau=1 / a)\n"
    )
    file.write_text(text.format(family=""))
    config = replace(SMALL, family=f"{file}:mine", arguments=arguments)
    problem = "a function, which a run folder cannot record"
    with refused(ModelError, config.family, problem, remedy="Write @lnm.family above it."):
        run(config, out, data=data)
    assert not out.exists()
    run(config, data=data)  # it writes no folder
    file.write_text(text.format(family="@lnm.family\n"))
    run(config, out, data=data)
    assert load_run(out, data).config == config
