"""Counts of the unstable rows of a network, at the end of a training run."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.cli import run as command
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train import TrainConfig, load_run, run
from lnm_codegen.train.stability.layers import Unstable, count_unstable, unstable_text

TWO = """
name = "two"
inputs = ["x"]
fire = "v - 1"
[states.v]
[states.w]
[params.a]
init = {init}
per = "channel"
[charge]
v = "a*v + x"
w = "v"
[reset]
v = "where(spike, 0, v)"
"""
SMALL = TrainConfig(
    network="feedforward",
    network_arguments={"hidden": (4,)},
    epochs=1,
    batch=16,
    limit=64,
    backend="torch",
    threads=1,
)


def of(init: float, tmp_path: Path) -> Path:
    path = tmp_path / "two.toml"
    path.write_text(TWO.format(init=init))
    return path


def test_rows_are_counted_by_class(tmp_path: Path) -> None:
    """From -0.5, a = 1.2 falls for ever; a = -1.5 rises to the threshold, and is reset to 0."""
    layer = NeuronLayer(lnm.load(of(0.5, tmp_path)), channels=3)
    with torch.no_grad():
        layer.a.copy_(torch.tensor([0.5, 1.2, -1.5]))
    counts = count_unstable(layer)
    assert counts == Unstable(rows=3, diverging=1, reset=1)
    assert unstable_text([counts]) == (
        "1 of 3 rows is diverging and 1 unstable but reset, in free runs without input"
    )
    assert unstable_text([Unstable(3, 0, 2)]) == unstable_text([]) == ""
    assert count_unstable(NeuronLayer(lnm.get("plif"))) == Unstable()


def test_rows_of_four_states_are_counted() -> None:
    names = "vwpq"
    states = [lnm.state(n) for n in names]
    rates = [lnm.param(f"rate_{n}", init=0.1, per="channel") for n in names]
    x = lnm.input("x")
    charge = {s: s - r * (s - 0.1 * states[0]) for s, r in zip(states, rates, strict=True)}
    charge[states[0]] += x
    neuron = lnm.Neuron(charge=charge, fire=states[0] - 1, reset=lnm.hard_reset(states[0], 0.0))
    layer = NeuronLayer(neuron, channels=128)
    with torch.no_grad():
        layer.rate_w[:76] = -0.2
    assert count_unstable(layer) == Unstable(rows=128, diverging=76)


@pytest.mark.parametrize(
    ("init", "diverging"), [(1.2, 4), pytest.param(0.5, 0, marks=pytest.mark.slow)]
)
def test_a_run_ends_with_the_diverging_rows(
    init: float, diverging: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They stand in the last row of metrics.csv and, if there are any, in a line."""
    out = tmp_path / "out"
    options = ["--network", "feedforward", "--net", "hidden=4", "--limit", "64", "--epochs", "2"]
    options += ["--backend", "torch", "--train", "lr_neuron=1e-6", "--out", str(out)]
    assert command(["train", "--family", str(of(init, tmp_path)), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = [line for line in lines if "diverging" in line]
    text = f"4 of 4 rows are diverging, in free runs without input; see lnm analyze {out}"
    assert found == ([text] if diverging else [])
    with (out / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["diverging_1"] for row in rows] == ["", str(diverging)]
    assert load_run(out).config.epochs == 2
    assert command(["train", "--resume", "--out", str(out)]) == 0  # the epochs of the checkpoint
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "diverging" in line] == found


def test_a_layer_of_one_state_has_no_column(tmp_path: Path) -> None:
    result = run(replace(SMALL, family="plif"), tmp_path / "out")
    assert result.epochs[-1].unstable == (Unstable(),)
    assert "diverging" not in (tmp_path / "out" / "metrics.csv").read_text()
