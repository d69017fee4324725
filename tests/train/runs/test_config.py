"""Configs: what each field accepts, the tables of an experiment file, and the clamp."""

from __future__ import annotations

import math
from inspect import getdoc
from pathlib import Path

import pytest

import lnm_codegen as lnm
from lnm_codegen.analysis.charge import lower_clamp
from lnm_codegen.train import TrainConfig
from lnm_codegen.train.runs.config import OPTIONS, TABLES, clamp_of, neuron_of, read_toml
from tests.refusals import assert_refused

WHOLE = """
[neuron]
family = "lnm"
degree = 2
per = "channel"
v_min = "none"
v_reset = "none"
surrogate = { kind = "sigmoid", alpha = 3 }
[network]
name = "feedforward"
hidden = [8, 8]
[data]
name = "mnist1d"
folder = "here"
validation = 100
seed = 3
[train]
epochs = 3
lr = 1
clip = inf
neurons_order = [1, 0]
neurons_from = "before"
"""
MISTAKES = """
exp.toml
    lr = 1 >> no table 'lr' >> neuron, network, data, train
    train = 1 >> train is 1 >> a table
    [train >> not TOML:
    train.epochs = 1.5 >> epochs is 1.5 >> an integer
    train.compile = 1 >> compile is 1 >> true or false
    train.lr = false >> lr is False >> a number
    data.limit = 'a' >> limit is 'a' >> an integer or "none"
    network.name = 3 >> network is 3 >> text
exp.toml: train
    train.epoch = 3 >> no key 'epoch' >> epochs
    train.epochs = 0 >> epochs is 0 >> an integer >= 1
"""
REFUSALS = """
train >> an integer >= 1
    TrainConfig(epochs=0) >> epochs is 0
    TrainConfig(batch=True) >> batch is True
    TrainConfig(limit=0) >> limit is 0
    TrainConfig(validation=-1) >> validation is -1 >> an integer >= 0
    TrainConfig(threads=0) >> threads is 0 >> an integer from 1 to 1024
    TrainConfig(threads=1025) >> threads is 1025 >> an integer from 1 to 1024
    TrainConfig(seed=-1) >> seed is -1 >> an integer from 0 to
    TrainConfig(seed=2**63) >> seed is 9223372036854775808 >> an integer from 0 to
    TrainConfig(warmup=10) >> warmup is 10 >> below epochs, 10
train >> a number > 0
    TrainConfig(lr=math.nan) >> lr is nan >> a number >= 0
    TrainConfig(v_min=math.nan) >> v_min is nan >> a finite number or None
    TrainConfig(clip=0.0) >> clip is 0.0
    TrainConfig(clip=True) >> clip is True
    TrainConfig(clip=math.nan) >> clip is nan
    TrainConfig(project=0) >> project is 0 >> a number > 0 or None
    TrainConfig(ema=1.0) >> ema is 1.0 >> a number >= 0 and < 1
train >> text
    TrainConfig(network=3) >> network is 3
    TrainConfig(data=None) >> data is None
    TrainConfig(arguments=["lif"]) >> arguments is ['lif'] >> a dict of options by name
    TrainConfig(compile="no") >> compile is 'no' >> True, False
    TrainConfig(loss="mse") >> loss is 'mse' >> 'mean', 'tet'
    TrainConfig(loss="means") >> loss is 'means' >> 'mean', 'tet' >> Did you mean 'mean'?
    TrainConfig(metric="f1") >> metric is 'f1' >> file.py:function
    TrainConfig(data_dir=3) >> data_dir is 3 >> a path, or None
    TrainConfig(neurons_from=["run"]) >> neurons_from is ['run'] >> a path, or None
    TrainConfig(neurons_order=1) >> neurons_order is 1 >> a tuple of integers, or None
train >> the name of a built-in family, a .toml file, or file.py:function, as text
    TrainConfig(family=3) >> family is a int, not a text
    TrainConfig(family=lnm.get("lif")) >> family is a Neuron, not a text
        >> the name of a built-in family, a .toml file, or file.py:function, as text
        >> Write neuron.to_toml() to a .toml file
train
    neuron_of(TrainConfig(arguments={"surrogate": {"kind": "step"}})) >> no surrogate 'step'
        >> atan, >>
    neuron_of(TrainConfig(arguments={"surrogate": {"kind": "atan", "width": 3}})) >> 'width'
        >> alpha
"""


def test_tables(tmp_path: Path) -> None:
    path = tmp_path / "exp.toml"
    path.write_text(WHOLE)
    config = read_toml(path)
    assert config == TrainConfig(
        arguments={
            "degree": 2, "per": "channel", "v_reset": None,
            "surrogate": {"kind": "sigmoid", "alpha": 3},
        },
        v_min=None, network="feedforward", network_arguments={"hidden": (8, 8)}, data="mnist1d",
        data_dir=Path("here"), validation=100, data_arguments={"seed": 3}, epochs=3, lr=1.0,
        clip=float("inf"), neurons_order=(1, 0), neurons_from=Path("before"),
    )  # fmt: skip
    assert neuron_of(config).surrogates[0][1].name.startswith("sigmoid")


def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def read(text: str) -> None:
        Path("exp.toml").write_text(text)
        read_toml(Path("exp.toml"))

    assert_refused(MISTAKES, {}, run=read)
    assert_refused(
        REFUSALS, {"TrainConfig": TrainConfig, "math": math, "lnm": lnm, "neuron_of": neuron_of}
    )


def test_ends_of_each_range_are_taken() -> None:
    TrainConfig(clip=math.inf, ema=0.0, seed=2**63 - 1, threads=1024, warmup=9, validation=0)
    TrainConfig(limit=None, v_min=None, project=None, lr=0, evaluate_every=0)
    assert TrainConfig(data_dir="here").as_json()["data_dir"] == "here"  # type: ignore[arg-type]


def test_every_option_is_declared_with_its_help() -> None:
    """docs/training.md points to the docstring; `--train` and `[train]` take the same keys."""
    for name, option in OPTIONS.items():
        assert option.help
        assert f"\n    {name}: " in str(getdoc(TrainConfig))
    assert list(TABLES) == ["neuron", "network", "data", "train"]
    assert TABLES["data"] == {
        "name": "data", "folder": "data_dir", "limit": "limit", "validation": "validation",
        "augment": "augment",
    }  # fmt: skip


def test_the_clamp_is_that_of_the_neuron() -> None:
    """Two states once had none with the field v_min."""
    two = {"states": 2, "degree": 1}
    for config, clamp in (
        (TrainConfig(), -2.0),
        (TrainConfig(v_min=-1.0), -1.0),
        (TrainConfig(v_min=None), None),
        (TrainConfig(arguments={"v_min": -3.0}), -3.0),
        (TrainConfig(arguments=two), None),
        (TrainConfig(arguments={**two, "v_min": -4.0}), -4.0),
        (TrainConfig(arguments=two, v_min=-5.0), -5.0),
        (TrainConfig(arguments={"v_min": None}), None),
        (TrainConfig(family="qif"), -2.0),
        (TrainConfig(family="lif"), None),
    ):
        assert clamp_of(config) == lower_clamp(neuron_of(config)) == clamp
    assert clamp_of(TrainConfig(family="neuron.toml")) is None
