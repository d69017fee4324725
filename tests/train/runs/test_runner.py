"""Runs: a complete folder, numbers that follow from the config, an end at divergence."""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

import lnm_codegen as lnm
from lnm_codegen import __version__
from lnm_codegen.errors import DivergedError, ModelError
from lnm_codegen.nn import pack_spikes
from lnm_codegen.train import Epoch, TrainConfig, from_arrays, run, trainer
from lnm_codegen.train.figure import run_figure
from lnm_codegen.train.runs.config import DEFINITION, neuron_of
from lnm_codegen.train.runs.folder import FILES
from lnm_codegen.train.runs.origin import network_of
from tests.refusals import refused
from tests.train.data.idx_files import write_fashion

SMALL = TrainConfig(
    network_arguments={"channels": (4, 4)}, epochs=1, batch=16, limit=64, backend="torch", threads=1
)


def metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_run_folder_is_complete(ema: float, tmp_path: Path) -> None:
    """The history ends with what is saved, with a moving average too."""
    out = tmp_path / "runs" / "first"
    arguments = {"degree": 2, "per": "channel"}
    config = replace(SMALL, arguments=arguments, penalty=1.0, epochs=2, ema=ema)
    result = run(config, out)
    assert sorted(p.name for p in out.iterdir()) == sorted({*FILES} - {DEFINITION})
    written = json.loads((out / "config.json").read_text())
    assert written["config"]["arguments"] == {"degree": 2, "per": "channel"}
    assert written["versions"]["lnm_codegen"] == __version__
    assert written["versions"]["torch"] == torch.__version__
    rows = metrics(out)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["loss"]) == result.epochs[1].loss
    assert float(rows[1]["firing_rate_2"]) == result.epochs[1].rates[1]
    assert 0 < result.epochs[1].rates[0] < 1
    history = load_file(out / "history.safetensors")
    assert {k: tuple(v.shape) for k, v in history.items()} == {
        "0.theta": (3, 4, 3), "1.theta": (3, 4, 3)
    }  # fmt: skip
    assert torch.equal(history["1.theta"][-1], result.network.neurons[1].theta)
    assert torch.equal(history["1.theta"][0], torch.tensor([0, 0.5, 0]).expand(4, 3))
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    fresh = network_of(config, data=_data(config))
    fresh.load_state_dict(load_file(out / "model.safetensors"))
    assert torch.equal(fresh.neurons[0].theta, result.network.neurons[0].theta)


def _data(config: TrainConfig) -> Any:
    from lnm_codegen.train import load

    return load(config.data, config.data_dir, config.limit)


@pytest.mark.slow
@pytest.mark.needs_cc
def test_same_seed_same_numbers(tmp_path: Path) -> None:
    """With the C kernels, to the last bit; another seed gives others."""
    config = replace(SMALL, arguments={"degree": 3}, backend="c")
    folders = [tmp_path / str(k) for k in range(3)]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        run(replace(config, seed=seed), folder)
    first, second, other = ([{**r, "seconds": ""} for r in metrics(f)] for f in folders)
    assert first == second != other
    weights = [(f / "model.safetensors").read_bytes() for f in folders]
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.slow
@pytest.mark.needs_cc
def test_spikes_as_bits_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pack_spikes` runs every training step in the context, and leaves losses as they are."""
    entered: list[int] = []

    @contextmanager
    def counting() -> Iterator[None]:
        entered.append(1)
        with pack_spikes():
            yield

    monkeypatch.setattr(trainer, "pack_spikes", counting)
    config = replace(SMALL, backend="c")
    plain = run(config)
    assert not entered
    packed = run(replace(config, pack_spikes=True))
    assert len(entered) == 4
    assert [e.loss for e in packed.epochs] == [e.loss for e in plain.epochs]


def test_a_run_leaves_the_global_seed_and_threads_alone() -> None:
    torch.manual_seed(5)
    want = torch.rand(3)
    threads = torch.get_num_threads()
    torch.manual_seed(5)
    run(SMALL)
    assert torch.equal(torch.rand(3), want)
    assert torch.get_num_threads() == threads


def test_it_learns() -> None:
    """Four channels learn most of 64 images in 30 epochs; chance is one in ten."""
    result = run(replace(SMALL, arguments={"degree": 2}, epochs=30))
    losses = [e.loss for e in result.epochs]
    assert losses[-1] < losses[9] < losses[0]
    assert result.epochs[-1].train_accuracy > 0.6


def test_progress_in_a_terminal_and_in_a_pipe() -> None:
    """The bar is drawn before the number of steps is known; a pipe has the lines alone."""
    shown = {}
    for terminal in (True, False):
        text = io.StringIO()
        run(SMALL, console=Console(file=text, force_terminal=terminal, width=100), title="one ")
        shown[terminal] = text.getvalue()
    assert "4/4" in shown[True]
    assert "one epoch 1/1  loss " in shown[True]
    assert shown[False].count("\n") == 1
    assert shown[False].startswith("one epoch 1/1  loss ")


def test_a_title_is_text_and_not_markup() -> None:
    for terminal in (True, False):
        text = io.StringIO()
        run(SMALL, console=Console(file=text, force_terminal=terminal, width=100), title="[/a][b] ")
        assert "[/a][b] epoch 1/1  loss " in text.getvalue()


def test_idx_data(tmp_path: Path) -> None:
    folder = write_fashion(tmp_path)
    config = replace(SMALL, family="lif", data="fashion-mnist", data_dir=folder)
    assert len(run(config, tmp_path / "out").epochs) == 1
    assert json.loads((tmp_path / "out/config.json").read_text())["config"]["data_dir"] == str(
        folder
    )


def test_a_taken_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with refused(ModelError, "train", f"{tmp_path} is not empty", remedy="resume the run in it"):
        run(SMALL, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_force_keeps_files_that_are_not_of_a_run(tmp_path: Path) -> None:
    """Also those beside the events of an earlier run; an empty folder of events is deleted."""
    events = tmp_path / "events"
    events.mkdir()
    mine, old = events / "mine.csv", events / "events.out.tfevents.1"
    for file in (mine, old):
        file.write_text("x")
    run(SMALL, tmp_path, force=True)
    assert mine.exists()
    assert not old.exists()
    mine.rename(old)
    run(SMALL, tmp_path, force=True)
    assert not events.exists()


def test_force_replaces_the_run_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    (tmp_path / "metrics.csv").write_text("old")
    run(SMALL, tmp_path, force=True)
    assert (tmp_path / "mine.txt").read_text() == "x"
    assert len(metrics(tmp_path)) == 1


@pytest.mark.parametrize(
    ("wrong", "where", "problem"),
    [
        (
            {"augment": True, "data": "digits-rows", "network": "feedforward"},
            "data: digits-rows",
            "the set has no augmentation",
        ),
        (
            {"penalty": 1.0, "v_min": None, "arguments": {"v_threshold": -3.0}},
            "train",
            "potentials from -2 to the threshold -3 of layer 1",
        ),
        (
            {"network_arguments": {"channels": (2**40,)}},
            "train",
            "the network 'conv' cannot be built",
        ),
    ],
)
def test_what_cannot_run_replaces_nothing(
    wrong: dict[str, Any], where: str, problem: str, tmp_path: Path
) -> None:
    """What would fail after the first sample, too, is refused while the run that is there is."""
    run(SMALL, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    clean = {"network_arguments": {}} if "network" in wrong else {}
    with refused(ModelError, where, problem):
        run(replace(SMALL, **clean, **wrong), tmp_path, force=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with refused(ModelError, "train", f"{path} is not a folder", remedy="--out"):
        run(SMALL, path, force=True)
    with refused(ModelError, "train", f"{path}/below: Not a directory", remedy="--out"):
        run(SMALL, path / "below")


def test_bad_config_leaves_no_folder(tmp_path: Path) -> None:
    with refused(ModelError, "lif", "no argument 'degree'", "tau, decay_input"):
        run(replace(SMALL, family="lif", arguments={"degree": 3}), tmp_path / "out")
    with refused(ModelError, "conv", "9 blocks each halve an image of 8x8", "at most 3 channels"):
        run(replace(SMALL, network_arguments={"channels": (4,) * 9}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_divergence_names_the_layer(tmp_path: Path) -> None:
    """A cubic with soft reset and no clamp overflows; the spikes alone would not show it."""
    arguments = {"degree": 3, "v_reset": None, "theta": [0.0, 2.0, 1.0, 9.0]}
    network = {"channels": (4, 4), "time_steps": 8}
    config = replace(SMALL, arguments=arguments, v_min=None, network_arguments=network)
    problem = "the gradient of blocks.1.neuron.theta is not finite at step 1, epoch 1"
    other = replace(config, arguments={**arguments, "v_min": None}, v_min=-2.0)  # --set v_min=none
    for same in (config, other):
        with refused(DivergedError, "train", problem, remedy="Lower lr_neuron, or give v_min"):
            run(same, tmp_path, force=True)


@pytest.mark.parametrize("fields", [{"v_min": -5.0}, {"arguments": {"v_min": -5.0}}])
def test_the_figure_begins_at_the_clamp(
    fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once began at -2 with `--set v_min=-5`. The working folder, ".", has its name there."""
    curves, names = [], []

    def drawn(*arguments: Any) -> Any:
        figure = run_figure(*arguments)
        curves.append(figure.axes[0].lines[0].get_xdata()[0])
        names.append(arguments[0])
        return figure

    monkeypatch.setattr("lnm_codegen.train.runs.runner.run_figure", drawn)
    monkeypatch.chdir(tmp_path)
    run(replace(SMALL, **fields), ".")
    assert (curves, names) == ([-5.0], [tmp_path.name])


@pytest.mark.parametrize(
    ("parametrisation", "remedy"),
    [
        ("free", "Lower lr_neuron, or give project, such as 1.0."),
        ("pole", "Lower lr_neuron or lr."),
    ],
)
def test_divergence_of_two_states(tmp_path: Path, parametrisation: str, remedy: str) -> None:
    """A free matrix is kept stable by `project`; a clamp of v alone would not do it."""
    arguments = {"states": 2, "degree": 2, "parametrisation": parametrisation}
    arguments |= {"theta_w": [9e9] * (5 if parametrisation == "free" else 3)}
    network = {"channels": (4, 4), "time_steps": 8}
    config = replace(SMALL, arguments=arguments, v_min=None, network_arguments=network)
    with refused(DivergedError, "train", "is not finite", remedy=remedy):
        run(config, tmp_path)


def test_divergence_keeps_the_last_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverging(*_: Any) -> Iterator[Epoch]:
        yield Epoch(1, 1.0, 0.5, 0.5, (0.1, 0.1), (0.0, 0.0), 0.1)
        raise ModelError("train", "gone", remedy="Lower lr.")

    monkeypatch.setattr("lnm_codegen.train.runs.runner.fit", diverging)
    saved = tmp_path / "out" / "model.safetensors"
    with refused(ModelError, "train", "gone", remedy=f"Lower lr. Epoch 1 is saved in {saved}."):
        run(SMALL, tmp_path / "out")
    assert saved.exists()
    assert len(metrics(tmp_path / "out")) == 1


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("epochs", 0, "an integer >= 1"),
        ("batch", True, "an integer >= 1"),
        ("limit", 0, "an integer >= 1"),
        ("validation", -1, "an integer >= 0"),
        ("threads", 0, "an integer from 1 to 1024"),
        ("threads", 1025, "an integer from 1 to 1024"),
        ("lr", float("nan"), "a number >= 0"),
        ("v_min", float("nan"), "a finite number or None"),
        ("clip", 0.0, "a number > 0"),
        ("clip", True, "a number > 0"),
        ("clip", float("nan"), "a number > 0"),
        ("loss", "mse", "'mean', 'tet'"),
        ("ema", 1.0, "a number >= 0 and < 1"),
        ("project", 0, "a number > 0 or None"),
        ("warmup", 10, "below epochs, 10"),
        ("seed", -1, "an integer from 0 to"),
        ("seed", 2**63, "an integer from 0 to"),
        ("network", 3, "text"),
        ("data", None, "text"),
        ("arguments", ["lif"], "a dict of options by name"),
        ("compile", "no", "True, False"),
    ],
)
def test_config_is_checked(name: str, value: Any, accepted: str) -> None:
    with refused(ModelError, "train", f"{name} is {value!r}", accepted):
        TrainConfig(**{name: value})


@pytest.mark.parametrize(
    ("where", "accepted", "field", "words"),
    [
        ("feedforward", "hidden, norm", "network_arguments",
         ("per_step", "classes", "kind", "backend", "name", "neuron", "sample", "self", "task")),
        ("data: digits-rows", "split, scale", "data_arguments", ("name", "folder", "limit")),
        ("lif", "tau, decay_input", "arguments", ("self", "args")),
    ],
)  # fmt: skip
def test_a_word_of_our_own_is_no_option(
    where: str, accepted: str, field: str, words: tuple[str, ...]
) -> None:
    """A name of a parameter of `build`, `load` or a family's call was an internal TypeError."""
    config = TrainConfig(family="lif", network="feedforward", data="digits-rows", epochs=1)
    kind = "argument" if where == "lif" else "option"
    for word in words:
        with refused(ModelError, where, f"no {kind} {word!r}", accepted):
            run(replace(config, **{field: {word: 1}}))


def test_tet_takes_no_reduction_but_the_mean(tmp_path: Path) -> None:
    """The logits of each step are not reduced, so `over` changed nothing, also in the test."""
    options = {"hidden": (3,), "over": "last"}
    config = replace(
        SMALL, network="feedforward", network_arguments=options, data="digits-rows", loss="tet"
    )
    remedy = "Set over to mean, or loss to mean."
    with refused(ModelError, "train", "over is 'last'", "'mean', with the loss tet", remedy):
        run(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    run(replace(config, network_arguments={**options, "over": "mean"}))


def test_family_of_a_config_is_a_text() -> None:
    accepted = "the name of a built-in family, a .toml file, or file.py:function, as text"
    problem, remedy = "family is a Neuron, not a text", "Write neuron.to_toml() to a .toml file"
    with refused(ModelError, "train", problem, accepted, remedy):
        TrainConfig(family=lnm.get("lif"))  # type: ignore[arg-type]
    with refused(ModelError, "train", "family is a int, not a text", accepted):
        TrainConfig(family=3)  # type: ignore[arg-type]


def test_config_takes_the_ends_of_each_range() -> None:
    TrainConfig(clip=float("inf"), ema=0.0, seed=2**63 - 1, threads=1024, warmup=9, validation=0)
    TrainConfig(limit=None, v_min=None, project=None, lr=0, evaluate_every=0)


def test_clamp_goes_to_the_families_that_take_it() -> None:
    assert "-2" in str(neuron_of(SMALL).charge)
    assert "-2" not in str(neuron_of(replace(SMALL, v_min=None)).charge)
    assert "-3" in str(neuron_of(replace(SMALL, arguments={"v_min": -3.0})).charge)
    two = {"states": 2, "degree": 1}
    assert "-2" not in str(neuron_of(replace(SMALL, arguments=two)).charge)
    assert "-3" in str(neuron_of(replace(SMALL, arguments={**two, "v_min": -3.0})).charge)
    neuron_of(replace(SMALL, family="lif"))


def test_a_neuron_must_have_one_output(tmp_path: Path) -> None:
    path = tmp_path / "two.py"
    path.write_text(
        "import lnm_codegen as lnm\n"
        "def two():\n"
        "    v, x = lnm.state('v'), lnm.input('x')\n"
        "    return lnm.Neuron({v: v + x}, v - 1, output={'spike': lnm.spike, 'v_out': v},"
        " name='two')\n"
    )
    with refused(ModelError, "train", "two has 1 inputs and 2 outputs", "one of each"):
        run(replace(SMALL, family=f"{path}:two"))


def test_a_limit_that_leaves_out_classes_is_reported() -> None:
    """Samples sorted by class trained on a few classes in silence."""
    labels = torch.arange(30) // 2
    x = torch.rand(30, 4, 3)
    data = from_arrays(x, labels, x, labels, name="sorted")
    config = TrainConfig(
        family="lif", network="feedforward", network_arguments={"hidden": (2,)}, epochs=1,
        batch=8, backend="torch", threads=1, limit=8,
    )  # fmt: skip
    absent = "no training sample of sorted with the label 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, ..."
    with pytest.warns(RuntimeWarning, match=f"train: limit=8 leaves {absent}. Raise the limit"):
        run(config, data=data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(replace(config, limit=29), data=data)
        run(replace(config, limit=1000), data=replace(data, classes=50))  # a limit without effect
