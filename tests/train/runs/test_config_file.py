"""Experiment files: each table lands in its fields, and a mistake is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lnm_codegen.errors import ModelError
from lnm_codegen.train import TrainConfig
from lnm_codegen.train.runs.config import neuron_of
from lnm_codegen.train.runs.config_file import read_toml

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
    ("text", "said"),
    [
        ("lr = 1", "'lr' is no table that is read. Accepted: [neuron], [network], [data], "),
        ("[train", "not TOML: "),
        ("[train]\nepoch = 3", "train: unknown key 'epoch'. Accepted: "),
        ("[train]\nepochs = 0", "train: epochs is 0. Accepted: an integer >= 1."),
        ("[train]\nepochs = 1.5", "'epochs' is 1.5, of the wrong type. Accepted: an integer."),
        ("[train]\ncompile = 1", "'compile' is 1, of the wrong type. Accepted: true or false."),
        ("[data]\nlimit = 'a'", "'limit' is 'a', of the wrong type. Accepted: an integer or "),
        ("[network]\nname = 3", "'network' is 3, of the wrong type. Accepted: text."),
    ],
)  # fmt: skip
def test_mistakes(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "exp.toml"
    path.write_text(text)
    with pytest.raises(ModelError) as caught:
        read_toml(path)
    assert str(caught.value).startswith(f"{path}: {said}")


def test_a_surrogate_that_is_none() -> None:
    config = TrainConfig(arguments={"surrogate": {"kind": "step"}})
    with pytest.raises(ModelError, match=r"^train: surrogate kind is 'step'\. Accepted: atan, "):
        neuron_of(config)
    config = TrainConfig(arguments={"surrogate": {"kind": "atan", "width": 3}})
    with pytest.raises(ModelError, match=r"^train: surrogate atan: .*'width'"):
        neuron_of(config)
