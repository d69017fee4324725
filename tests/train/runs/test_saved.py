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
from lnm_codegen.train import Dataset, load_run, run
from lnm_codegen.train.engine import evaluate
from lnm_codegen.train.runs.runner import RunResult
from tests.refusals import refused
from tests.train.small import FAMILY, ROWS, SMALL

REMEDY = "Train again with lnm train, or name another run."


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> tuple[Path, RunResult]:
    folder = tmp_path_factory.mktemp("trained") / "run"
    return folder, run(replace(SMALL, epochs=1), folder, data=digits)


@pytest.fixture
def folder(trained: tuple[Path, RunResult], tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def change(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "config": {**content["config"], **fields}}))


def unloadable(folder: Path, data: Dataset, where: object, *parts: str) -> None:
    with refused(ModelError, where, *parts):
        load_run(folder, data)


def test_a_run_comes_back_whole(trained: tuple[Path, RunResult]) -> None:
    folder, result = trained
    back = load_run(folder)
    assert back.config == replace(SMALL, epochs=1)
    assert not back.network.training
    want = result.network.state_dict()
    assert all(torch.equal(want[n], t) for n, t in back.network.state_dict().items())
    found, (epoch,) = evaluate(back.network, back.data, back.data.test), result.epochs
    assert (found.accuracy, found.rates) == (epoch.test_accuracy, epoch.rates)


def test_arguments_come_back_as_they_were(tmp_path: Path, rows: Dataset) -> None:
    """A surrogate is no part of what the network computes, and its text is not read."""
    arguments = {"degree": 1, "theta": (0.0, 0.5), "per": {"theta": "channel"}}
    given = {**arguments, "surrogate": sigmoid(3.0)}
    run(replace(ROWS, family="lnm", arguments=given), tmp_path, data=rows)
    back = load_run(tmp_path, rows)
    assert back.config.arguments == arguments
    assert back.network.neurons[0].theta.shape == (3, 2)


def test_folders_without_a_run(folder: Path, digits: Dataset, tmp_path: Path) -> None:
    remedy, path = "Name the folder that lnm train wrote.", folder / "config.json"
    (tmp_path / "file").touch()
    for name, problem in (("none", "no such folder"), ("file", "not a folder")):
        unloadable(tmp_path / name, digits, f"run: {tmp_path}/{name}", problem, "", remedy)
    problem = f"{tmp_path} holds no run: no config.json in it"
    unloadable(tmp_path, digits, "run", problem, "", REMEDY)
    for content, problem in (
        (path.read_bytes()[:50], "not JSON"),
        (b"\xff{}", "not UTF-8"),
        (b"[" * 9**6, "not JSON"),
        (b"[]", "no table 'config' in it"),
    ):
        path.write_bytes(content)
        unloadable(folder, digits, f"run: {path}", problem, "", REMEDY)


def test_a_config_that_does_not_fit(folder: Path, digits: Dataset) -> None:
    """A place of None is that of the network or the family."""
    where, path = f"run: {folder}/config.json", folder / "config.json"
    whole = path.read_text()
    cases: list[tuple[dict[str, Any], str | None, str, str]] = [
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
        ({"network_arguments": {"channels": [2, 10**12]}}, ": train",
         "the network 'conv' cannot be built: ", ""),
        ({"family": "lmn"}, None, "no built-in family", ""),
        ({"family": "lif"}, None, "'degree'", ""),
    ]  # fmt: skip
    # A call in a config is executed if it is of a family alone.
    mark, builtin = folder / "mark", "a builtin_function_or_method, which a run folder"
    for family, arguments, problem in (
        ("os:system", {"command": f"touch {mark}"}, builtin),
        ("os:abort", {}, builtin),
        ("os:getcwd", {}, builtin),
        ("site:main", {}, "a function, which a run folder"),
    ):
        fields = {"family": family, "arguments": arguments, "v_min": None}
        cases.append((fields, f": {family}", problem, "a family or an lnm.Neuron"))
    for fields, place, *parts in cases:
        path.write_text(whole)
        change(folder, **fields)
        with refused(ModelError, None if place is None else where + place, *parts) as caught:
            load_run(folder, digits)
        assert caught.value.where.startswith(where)
    assert not mark.exists()


def test_families_in_files(folder: Path, digits: Dataset, rows: Dataset, tmp_path: Path) -> None:
    """A relative one is found where training ran; no option of a command takes the path."""
    for family in ("own.toml", "own.py:own"):
        change(folder, family=family, arguments={})
        where = f"run: {folder / 'config.json'}: {family.partition(':')[0]}"
        unloadable(folder, digits, where, "no such file", "", "the folder in which lnm train ran")
    source, out = tmp_path / "mine.py", tmp_path / "own"
    source.write_text(FAMILY)
    run(replace(ROWS, family=f"{source}:mine", arguments={"leak": 0.25}), out, data=rows)
    assert load_run(out, rows).network.neurons[0].neuron.name == "mine"
    source.unlink()
    (out / "neuron.toml").unlink()  # as in a run of an earlier version
    where = f"run: {out}/config.json: {source}"
    unloadable(out, rows, where, "no such file", "", "Put the file back")


def test_weights_that_do_not_fit(folder: Path, digits: Dataset) -> None:
    path = folder / "model.safetensors"
    whole, tensors = path.read_bytes(), load_file(path)
    for damaged in (whole[:-8], whole[:20], b"", pickle.dumps({"a": 1})):
        path.write_bytes(damaged)
        unloadable(folder, digits, f"run: {path}", "not a complete safetensors file: ", "", REMEDY)
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
        unloadable(folder, digits, f"run: {path}", problem, accepted, REMEDY)
    path.unlink()
    problem = f"{folder} holds no complete epoch: no model.safetensors in it"
    unloadable(folder, digits, "run", problem, "", REMEDY)


def test_a_function_is_refused_before_training(tmp_path: Path, rows: Dataset) -> None:
    """`load_run` refuses such a run: its config.json could name any callable."""
    file, out = tmp_path / "plain.py", tmp_path / "run"
    text = "import lnm_codegen as lnm\n\n{}def mine(a=0.5):\n    return lnm.get('lif', tau=1 / a)\n"
    for k, arguments in enumerate(({}, {"a": 0.25})):
        file, out = tmp_path / f"plain{k}.py", tmp_path / str(k)
        file.write_text(text.format(""))
        config = replace(ROWS, family=f"{file}:mine", arguments=arguments)
        problem = "a function, which a run folder cannot record"
        with refused(ModelError, config.family, problem, "", "Write @lnm.family above it."):
            run(config, out, data=rows)
        assert not out.exists()
        run(config, data=rows)  # it writes no folder
        file.write_text(text.format("@lnm.family\n"))
        run(config, out, data=rows)
        assert load_run(out, data=rows).config == config
