"""Experiment files: each table fills its fields, and a mistake is one line."""

from __future__ import annotations

from inspect import getdoc
from pathlib import Path
from typing import Any

import pytest

from lnm_codegen.errors import ModelError
from lnm_codegen.train import TrainConfig
from lnm_codegen.train.runs.config import OPTIONS, TABLES, neuron_of, read_toml
from tests.refusals import refused

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
    neuron = neuron_of(config)
    assert neuron.surrogates[0][1].name.startswith("sigmoid")


@pytest.mark.parametrize(
    ("text", "place", "problem", "accepted"),
    [
        ("lr = 1", "", "no table 'lr'", "neuron, network, data, train"),
        ("train = 1", "", "train is 1", "a table"),
        ("[train", "", "not TOML: ", ""),
        ("[train]\nepoch = 3", ": train", "no key 'epoch'", "epochs"),
        ("[train]\nepochs = 0", ": train", "epochs is 0", "an integer >= 1"),
        ("[train]\nepochs = 1.5", "", "epochs is 1.5", "an integer"),
        ("[train]\ncompile = 1", "", "compile is 1", "true or false"),
        ("[train]\nlr = false", "", "lr is False", "a number"),
        ("[data]\nlimit = 'a'", "", "limit is 'a'", 'an integer or "none"'),
        ("[network]\nname = 3", "", "network is 3", "text"),
    ],
)  # fmt: skip
def test_mistakes(text: str, place: str, problem: str, accepted: str, tmp_path: Path) -> None:
    path = tmp_path / "exp.toml"
    path.write_text(text)
    with refused(ModelError, f"{path}{place}", problem, accepted):
        read_toml(path)


def test_an_unknown_surrogate_is_refused() -> None:
    config = TrainConfig(arguments={"surrogate": {"kind": "step"}})
    with refused(ModelError, "train", "no surrogate 'step'", "atan, "):
        neuron_of(config)
    config = TrainConfig(arguments={"surrogate": {"kind": "atan", "width": 3}})
    with refused(ModelError, "train", "'width'", "alpha"):
        neuron_of(config)


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


@pytest.mark.parametrize(
    ("fields", "problem", "accepted"),
    [
        ({"data_dir": 3}, "data_dir is 3", "a path, or None"),
        ({"neurons_from": ["run"]}, "neurons_from is ['run']", "a path, or None"),
        ({"neurons_order": 1}, "neurons_order is 1", "a tuple of integers, or None"),
    ],
)
def test_fields_without_a_range_have_their_type(
    fields: dict[str, Any], problem: str, accepted: str
) -> None:
    """They once were accepted and failed later, with a traceback."""
    with refused(ModelError, "train", problem, accepted):
        TrainConfig(**fields)
    assert TrainConfig(data_dir="here").as_json()["data_dir"] == "here"  # type: ignore[arg-type]
