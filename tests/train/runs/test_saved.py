"""A run folder read back: the network as it was, or one line that says what is wrong."""

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


def message(folder: Path, data: Dataset) -> str:
    with pytest.raises(ModelError) as caught:
        load_run(folder, data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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
    assert message(tmp_path / "none", data) == f"run: {tmp_path}/none: no such folder. {remedy}"
    assert message(tmp_path / "file", data) == f"run: {tmp_path}/file: not a folder. {remedy}"
    assert (
        message(tmp_path, data) == f"run: {tmp_path} holds no run: no config.json in it. {REMEDY}"
    )


def test_damaged_json(folder: Path, data: Dataset) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text()[:50])
    assert message(folder, data).startswith(f"run: {path}: not JSON: ")
    path.write_bytes(b"\xff\xfe{}")
    assert message(folder, data).startswith(f"run: {path}: not JSON: ")
    path.write_text("[" * 100_000)
    assert message(folder, data).startswith(f"run: {path}: not JSON: ")
    path.write_text("[]")
    assert message(folder, data) == f"run: {path}: no table 'config' in it. {REMEDY}"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"famly": "lif"}, "unknown key 'famly' in 'config'. Accepted: family, arguments, "),
        ({"network_arguments": "16"}, f"'network_arguments' is '16', of the wrong type. {REMEDY}"),
        (
            {"neurons_order": [2, True]},
            f"'neurons_order' is [2, True], of the wrong type. {REMEDY}",
        ),
        ({"lr": "fast"}, f"'lr' is 'fast', of the wrong type. {REMEDY}"),
        ({"epochs": True}, f"'epochs' is True, of the wrong type. {REMEDY}"),
        ({"batch": 0}, "train: batch is 0. Accepted: an integer >= 1."),
        ({"network": "vgg"}, "models: no network 'vgg'. Accepted: "),
        ({"network_arguments": {"channels": [0]}}, "conv: channels is (0,). Accepted: "),
        ({"network_arguments": {"time_steps": 0}}, "conv: time_steps is 0. Accepted: "),
        ({"backend": "fast"}, "train: backend is 'fast'. Accepted: auto, c, torch, triton, cuda."),
    ],
)
def test_config_that_is_none(folder: Path, data: Dataset, fields: Any, said: str) -> None:
    change(folder, **fields)
    assert message(folder, data).startswith(f"run: {folder}/config.json: {said}")


def test_unknown_family(folder: Path, data: Dataset) -> None:
    change(folder, family="lmn")
    where = f"run: {folder}/config.json: "
    assert message(folder, data).startswith(f"{where}'lmn': no built-in family. Built in: ")
    change(folder, family="lif")
    assert message(folder, data).startswith(
        f"{where}lif: got an unexpected keyword argument 'degree'."
    )


def test_a_recorded_call_is_made_of_families_alone(folder: Path, data: Dataset) -> None:
    """`os:system` with a command as its argument would be text that is executed."""
    mark = folder / "mark"
    change(folder, family="os:system", arguments={"command": f"touch {mark}"}, v_min=None)
    assert message(folder, data) == (
        f"run: {folder}/config.json: os:system: a builtin_function_or_method, and arguments are"
        " recorded for it. Accepted from a file: a family. Write @lnm.family above it."
    )
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
    assert message(tmp_path / "run", data) == (
        f"run: {tmp_path}/run/config.json: {source}: no such file. Give the path of a Python file."
    )


def test_weights_that_are_damaged(folder: Path, data: Dataset) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-8], whole[:20], b"", pickle.dumps({"a": 1})):
        path.write_bytes(damaged)
        assert message(folder, data).startswith(f"run: {path}: not a whole safetensors file: ")
    path.unlink()
    assert message(folder, data) == (
        f"run: {folder} holds no complete epoch: no model.safetensors in it. {REMEDY}"
    )


def test_weights_of_another_network(folder: Path, data: Dataset) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    fits = f"run: {path}: does not fit config.json"
    bias = tensors["readout.bias"]

    def said(**changed: torch.Tensor | None) -> str:
        names = {n.replace("__", "."): t for n, t in changed.items()}
        save_file({n: t for n, t in {**tensors, **names}.items() if t is not None}, path)
        return message(folder, data)

    assert said(readout__bias=None) == (f"{fits}: the file has no tensor 'readout.bias'. {REMEDY}")
    assert said(extra=bias.clone()) == f"{fits}: the network has no tensor 'extra'. {REMEDY}"
    assert said(readout__bias=bias[:4].clone()) == (
        f"{fits}: 'readout.bias' is (4,) torch.float32; expected (10,) torch.float32. {REMEDY}"
    )
    assert said(readout__bias=bias.double()) == (
        f"{fits}: 'readout.bias' is (10,) torch.float64; expected (10,) torch.float32. {REMEDY}"
    )
    assert said(readout__bias=bias * torch.nan) == (
        f"run: {path}: 'readout.bias' is not finite. {REMEDY}"
    )
    save_file(tensors, path)
    change(folder, network_arguments={"channels": [2, 10**12]})
    assert message(folder, data).startswith(
        f"run: {folder}/config.json: train: the network 'conv' cannot be made: "
    )
