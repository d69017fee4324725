"""`lnm train`: options reach the config, and a mistake is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lnm_codegen.cli import run

SMALL = ["--limit", "32", "--epochs", "1", "--channels", "4", "--backend", "torch"]
VALUE = "a number, true, false, none, a word or path, or several of them with commas"


def test_train_writes_a_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    options = ["--degree", "2", "--form", "B", "--per", "channel", "--set", "decay=0.25"]
    options += ["--set", "surrogate=sigmoid(alpha=3)", "--data-set", "validation=8"]
    assert run(["train", *SMALL, *options, "--seed", "3", "--v-min", "-1", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "train: loading PyTorch and the data"
    assert lines[1].startswith("epoch 1/1  loss ")
    assert lines[2].startswith("layer 1: theta = (")
    assert lines[3] == f"written to {out}"
    config = json.loads((out / "config.json").read_text())["config"]
    assert config["arguments"].pop("surrogate") == {"kind": "sigmoid", "alpha": 3}
    assert config["arguments"] == {"form": "B", "per": "channel", "degree": 2, "decay": 0.25}
    assert (config["seed"], config["v_min"], config["validation"]) == (3, -1.0, 8)
    assert config["network_arguments"] == {"channels": [4]}
    assert run(["train", *SMALL, "--out", str(out)]) == 2
    assert capsys.readouterr().err == (
        f"error: train: {out} is not empty. Choose another folder with --out, go on with the run"
        " in it with --resume, or replace it with --force.\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--v-min", "low"], "--v-min 'low': not a number. Accepted: a number, or none."),
        (["--channels", "a"], "--channels 'a': not a list of numbers. Accepted: such as 16,32."),
        *(
            (
                ["--family", "cuba_lif", "--v-min", v_min],
                "cuba_lif: got an unexpected keyword argument 'v_min'. Accepted: current_decay,"
                " voltage_decay, v_threshold, v_reset, learnable, per, surrogate.",
            )
            for v_min in ("3",)
        ),
        (
            ["--set", "v_min=-1", "--v-min", "-2"],
            "--v-min -2: --set gives v_min too. Give it once.",
        ),
        (["--net", "hidden"], "--net 'hidden': not KEY=VALUE. Give, say, --net time_steps=8."),
        (["--train", "loss=a;b"], f"--train loss=a;b: the value is 'a;b'. Accepted: {VALUE}."),
        (
            ["--data-set", "x"],
            "--data-set 'x': not KEY=VALUE. Give, say, --data-set time_steps=10.",
        ),
        (
            ["--limit", "5", "--data-set", "limit=6"],
            "--data-set limit: given by an option of its own too. Give it once.",
        ),
        (
            ["--data-set", "validation=x"],
            "'validation' is 'x', of the wrong type. Accepted: an integer.",
        ),
        (
            ["--epochs", "1", "--train", "epochs=2"],
            "--train epochs: given by an option of its own too. Give it once.",
        ),
        (
            ["--train", "neurons_order=1,0"],
            "train: neurons_order is (1, 0). Accepted: none where neurons_from is none.",
        ),
        (["--v-min", "2"], "lnm: v_min is 2.0. Accepted: a number < v_threshold, 1.0, or None."),
        (["--threads", "20000"], "train: threads is 20000. Accepted: an integer from 1 to 1024."),
        (
            ["--train", "project=5"],
            "project: for |x| <= 5 even the leak f(v) = 0.5*v leaves [-2, 1]. Accepted: a smaller"
            " x_max, such as 0.9, or a lower v_min.",
        ),
        (["--epochs", "0"], "train: epochs is 0. Accepted: an integer >= 1."),
        (
            ["--data", "mnist"],
            "data: mnist: the set is read from a folder of yours. Name it with --data-dir;"
            " docs/data.md lists its layouts.",
        ),
    ],
)
def test_mistakes(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(["train", *options, "--out", str(out)]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not out.exists()
