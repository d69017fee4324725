"""`lnm train`: options fill the config, and a mistake is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import nn

from lnm_codegen.analysis.charge import lower_clamp
from lnm_codegen.cli import run
from lnm_codegen.train.runs.config import OPTIONS, TrainConfig, clamp_of, neuron_of
from lnm_codegen.train.runs.folder import RunFolder
from tests.cli.conftest import Call
from tests.refusals import assert_line

SMALL = ["--limit", "32", "--epochs", "1", "--channels", "4", "--backend", "torch"]


def test_train_writes_a_run_folder(tmp_path: Path, call: Call) -> None:
    out = tmp_path / "run"
    options = ["--degree", "2", "--form", "B", "--per", "channel", "--set", "decay=0.25"]
    options += ["--set", "surrogate=sigmoid(alpha=3)", "--data-set", "validation=8"]
    options += ["--seed", "3", "--v-min", "-1"]
    status, text, _ = call("train", *SMALL, *options, "--out", out)
    lines = text.splitlines()
    assert status == 0
    assert lines[0] == "train: loading PyTorch and the data"
    assert lines[1].startswith("epoch 1/1  loss ")
    assert lines[2].startswith("layer 1: theta = (")
    assert lines[3] == f"written to {out}"
    config = json.loads((out / "config.json").read_text())["config"]
    assert config["arguments"].pop("surrogate") == {"kind": "sigmoid", "alpha": 3}
    assert config["arguments"] == {"form": "B", "per": "channel", "degree": 2, "decay": 0.25}
    assert (config["seed"], config["v_min"], config["validation"]) == (3, -1.0, 8)
    assert config["network_arguments"] == {"channels": [4]}
    assert call("train", *SMALL, "--out", out) == (
        2,
        "",  # nothing was loaded
        f"error: train: {out} is not empty. Choose another folder with --out, resume the run in it"
        " with --resume, or replace it with --force.\n",
    )


def test_mistakes(refuses: Callable[[str], None]) -> None:
    refuses("""
train --out run
    --v-min low >> --v-min 'low' >> not a number >> or none
    --channels a >> train: channels is 'a' >> 16,32
    --family cuba_lif --v-min 3 >> cuba_lif >> 'v_min' >> voltage_decay
    --set v_min=-1 --v-min=-2 >> --v-min -2 >> Give it once.
    --net hidden >> --net 'hidden' >> --net time_steps=8
    --train "loss=a;b" >> --train loss >> 'a;b'
    --train los=tet >> --train >> no field 'los' >> Did you mean 'loss'?
    --train family=lif >> --train >> no field 'family' >> optimizer
    --data-set x >> --data-set 'x' >> --data-set time_steps=10
    --data-set validation=x >> train: validation is 'x' >> Accepted: an integer
    --train neurons_order=1,0 >> train: neurons_order is (1, 0) >> neurons_from is none
    --v-min 2 >> lnm: v_min is 2.0 >> v_threshold, 1.0
    --threads 20000 >> train: threads is 20000 >> from 1 to 1024
    --epochs 0 >> train: epochs is 0 >> Accepted: an integer >= 1.
    --epochs x >> lnm train: >> --epochs >> lnm train --help
    --resume --force >> --resume --force >> Give one.
    --network con >> models: no network 'con' >> Did you mean 'conv'?
    --family liff >> 'liff': no built-in family >> Did you mean 'lif'?
    --limit 5 --data-set limit=6 >> --data-set limit >> --limit is given too
    --epochs 1 --train epochs=2 >> --train epochs >> --epochs is given too
    --degree 3 --set degree=2 >> --set degree >> --degree is given too
    --per layer --set per=channel >> --set per >> --per is given too
    --form A --set form=none >> --set form >> --form is given too
    --channels 4 --net channels=8 >> --net channels >> --channels is given too
    -T 2 --net time_steps=3 >> --net time_steps >> --time-steps is given too
    --set surrogate=atan --set surrogate=sigmoid >> --set 'surrogate=sigmoid': >> twice
    --set surrogate=none --set surrogate=atan >> --set 'surrogate=atan': >> twice
""")


def test_a_mistake_that_the_data_show(call: Call, tmp_path: Path) -> None:
    status, _, err = call("train", "--train", "project=5", "--out", tmp_path / "run")
    assert status == 2
    assert_line(err, "project: for |x| <= 5 even the leak", "or a lower v_min")
    assert not (tmp_path / "run").exists()


def test_help_has_every_option(call: Call) -> None:
    """An option per field of the config with a placeholder."""
    words = " ".join(call("train", "--help")[1].split())
    for name, option in OPTIONS.items():
        if option.metavar:
            assert f"--{name.replace('_', '-')} {option.metavar} " in words
            assert option.help in words
    for name in ("config", "degree", "form", "per", "set", "net", "channels", "time-steps"):
        assert f"--{name} " in words
    for name in ("data-set", "train", "out", "force", "resume"):
        assert f"--{name} " in words


@pytest.mark.parametrize("name", ["a [/b] run", ":smile:[red]"])
def test_the_name_of_a_folder_is_no_markup(
    name: str, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Brackets and colons are printed as they are; a command has the name in quotes."""
    monkeypatch.chdir(tmp_path)
    result = SimpleNamespace(network=nn.Identity(), epochs=[SimpleNamespace(unstable=())])
    monkeypatch.setattr("lnm_codegen.train.stability.layers.unstable_text", lambda _: "unstable")
    monkeypatch.setattr("lnm_codegen.train.runs.runner.run", lambda *_, **__: result)
    status, out, _ = call("train", "--out", name)
    lines = [f"unstable; see lnm analyze '{name}'", f"written to {name}"]
    assert (status, out.splitlines()[1:]) == (0, lines)


def test_a_stopped_run_says_how_it_resumes(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where its folder holds it: not that of an earlier run, nor an empty one."""
    begun = False

    def stopped(config: TrainConfig, folder: Path, **_: object) -> None:
        if begun:
            RunFolder(folder).create(config, {})
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lnm_codegen.train.runs.runner.run", stopped)
    none = "stopped before a file was written\n"
    resume = "stopped. Resume with: lnm train --resume --out 'a run'\n"
    cases = ((False, (), none), (True, (), resume), (False, ("--force", "--epochs", "7"), none))
    for begins, more, line in cases:
        begun = begins
        status, _, err = call("train", "--out", "a run", *more)
        assert (status, err) == (130, line)


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """Return the configs of the runs, in place of training."""
    found: list[TrainConfig] = []
    monkeypatch.setattr("lnm_codegen.cli.train._run", lambda config, *_: found.append(config))
    return found


def test_another_family_ignores_the_arguments_of_the_file(
    tmp_path: Path, call: Call, configs: list[TrainConfig]
) -> None:
    file = tmp_path / "exp.toml"
    file.write_text('[neuron]\nfamily = "lnm"\ndegree = 2\n[network]\nchannels = [2]\n')
    status, _, err = call("train", "--config", file, "--family", "lif", "--out", tmp_path / "run")
    assert (status, err) == (0, "note: degree of lnm ignored: --family names another.\n")
    assert (configs[0].family, configs[0].arguments) == ("lif", {})
    assert configs[0].network_arguments == {"channels": (2,)}


@pytest.mark.parametrize(
    ("neuron", "options", "clamp"),
    [
        ("states = 2\nv_min = -3.0", [], -3.0),
        ("states = 2\nv_min = -3.0", ["--v-min", "none"], None),
        ("states = 2\nv_min = -3.0", ["--v-min", "-4"], -4.0),
        ("states = 2\nv_min = -3.0", ["--set", "v_min=-4"], -4.0),
        ("states = 2", ["--v-min", "-2"], -2.0),
        ("states = 1\nv_min = -20.0", ["--set", "states=2"], -20.0),
        ("states = 1\nv_min = -20.0", ["--set", "v_min=-4"], -4.0),
        ("states = 1\nv_min = -20.0", ["--set", "v_min=none"], None),
        ("states = 2\nv_min = -3.0", ["--set", "states=1"], -3.0),
        ("states = 1", [], -2.0),
        ("states = 1", ["--v-min", "none"], None),
    ],
)
def test_the_clamp_of_file_and_options(
    neuron: str, options: list[str], clamp: float | None, tmp_path: Path, configs: list[TrainConfig]
) -> None:
    file = tmp_path / "exp.toml"
    file.write_text(f"[neuron]\n{neuron}\n")
    assert run(["train", "--config", str(file), *options, "--out", str(tmp_path / "run")]) == 0
    assert clamp_of(configs[0]) == clamp
    assert lower_clamp(neuron_of(configs[0])) == clamp


def test_the_word_none(tmp_path: Path, call: Call) -> None:
    """It is None for every option, also where an option has a word "none"."""
    file = tmp_path / "exp.toml"
    file.write_text('[neuron]\nfamily = "leaky"\nreset = "none"\n[network]\nnorm = "none"\n')
    words = "train --network feedforward --data digits-rows --net hidden=8 --limit 30 --epochs 1"
    words += " --backend torch"
    for name, more in (
        ("options", "--family leaky --net norm=none --set reset=none"),
        ("file", f"--config {file}"),
    ):
        assert call(*words.split(), *more.split(), "--out", tmp_path / name)[0] == 0
    read = [(tmp_path / n / "model.safetensors").read_bytes() for n in ("options", "file")]
    assert read[0] == read[1]
