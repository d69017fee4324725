"""Runs: a complete folder, numbers that follow from the config, an end at divergence."""

from __future__ import annotations

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

from lnm_codegen import __version__
from lnm_codegen.errors import DivergedError, ModelError
from lnm_codegen.nn import pack_spikes
from lnm_codegen.train import Dataset, Epoch, from_arrays, run, trainer
from lnm_codegen.train.figure import run_figure
from lnm_codegen.train.runs.config import DEFINITION
from lnm_codegen.train.runs.folder import FILES
from lnm_codegen.train.runs.origin import network_of
from tests.refusals import refused
from tests.train.small import ROWS, SMALL, kept, metrics

ONE = replace(SMALL, epochs=1, limit=64)


def test_run_folder_is_complete(tmp_path: Path, digits: Dataset, drawn: None) -> None:
    """The history ends with what is saved, with a moving average too."""
    out, arguments = tmp_path / "runs" / "first", {"degree": 2, "per": "channel"}
    config = replace(SMALL, arguments=arguments, penalty=1.0, ema=0.9)
    result = run(config, out)
    assert sorted(p.name for p in out.iterdir()) == sorted({*FILES} - {DEFINITION})
    written = json.loads((out / "config.json").read_text())
    assert written["config"]["arguments"] == arguments
    assert written["versions"]["lnm_codegen"] == __version__
    assert written["versions"]["torch"] == torch.__version__
    rows, last = metrics(out), result.epochs[1]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["loss"]) == last.loss
    assert float(rows[1]["firing_rate_2"]) == last.rates[1]
    assert 0 < last.rates[0] < 1
    history = load_file(out / "history.safetensors")
    assert {k: tuple(v.shape) for k, v in history.items()} == {
        "0.theta": (3, 3, 3), "1.theta": (3, 3, 3)
    }  # fmt: skip
    assert torch.equal(history["1.theta"][-1], result.network.neurons[1].theta)
    assert torch.equal(history["1.theta"][0], torch.tensor([0, 0.5, 0]).expand(3, 3))
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    fresh = network_of(config, digits)
    fresh.load_state_dict(load_file(out / "model.safetensors"))
    assert torch.equal(fresh.neurons[0].theta, result.network.neurons[0].theta)


@pytest.mark.slow
@pytest.mark.needs_cc
def test_numbers_of_the_c_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One seed gives one run, to the last bit; spikes as bits change no loss."""
    config, entered = replace(ONE, backend="c"), []
    for k, seed in enumerate((1, 1, 2)):
        run(replace(config, seed=seed), tmp_path / str(k))
    first, second, other = ([{**r, "seconds": ""} for r in metrics(tmp_path / k)] for k in "012")
    assert first == second != other
    weights = [(tmp_path / k / "model.safetensors").read_bytes() for k in "012"]
    assert weights[0] == weights[1] != weights[2]

    @contextmanager
    def counting() -> Iterator[None]:
        entered.append(1)
        with pack_spikes():
            yield

    monkeypatch.setattr(trainer, "pack_spikes", counting)
    plain = run(config)
    assert not entered
    packed = run(replace(config, pack_spikes=True))
    assert len(entered) == 4
    assert [e.loss for e in packed.epochs] == [e.loss for e in plain.epochs]


def test_a_run_leaves_the_global_seed_and_threads_alone(rows: Dataset) -> None:
    torch.manual_seed(5)
    want, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(5)
    run(ROWS, data=rows)
    assert torch.equal(torch.rand(3), want)
    assert torch.get_num_threads() == threads


def test_it_learns() -> None:
    """Few channels learn most of 32 images in 30 epochs; chance is one in ten."""
    network = {"channels": (4, 4)}
    result = run(replace(ONE, network_arguments=network, limit=32, batch=8, epochs=30))
    losses = [e.loss for e in result.epochs]
    assert losses[-1] < losses[9] < losses[0]
    assert result.epochs[-1].train_accuracy > 0.6


def test_progress_in_a_terminal_and_in_a_pipe(rows: Dataset) -> None:
    """The bar is drawn before the number of steps is known; a pipe has the lines alone.

    A title is text and no markup.
    """
    for terminal in (True, False):
        text = io.StringIO()
        console = Console(file=text, force_terminal=terminal, width=100)
        run(ROWS, console=console, title="[/a][b] ", data=rows)
        shown = text.getvalue()
        assert "[/a][b] epoch 1/1  loss " in shown
        if terminal:
            assert "2/2" in shown
        else:
            assert shown.startswith("[/a][b] epoch 1/1  loss ")
            assert shown.count("\n") == 1


def test_folders_that_are_taken(tmp_path: Path, rows: Dataset) -> None:
    """`force` replaces a run and keeps every other file, also beside events of an earlier run."""
    out, path = tmp_path / "out", tmp_path / "file"
    events = out / "events"
    events.mkdir(parents=True)
    mine, old, own = events / "mine.csv", events / "events.out.tfevents.1", out / "mine.txt"
    for file in (mine, old, own, out / "metrics.csv", path):
        file.write_text("x")
    with kept(out, "train", f"{out} is not empty", "", "resume the run in it"):
        run(ROWS, out, data=rows)
    run(ROWS, out, force=True, data=rows)
    assert own.read_text() == "x"
    assert len(metrics(out)) == 1
    assert (mine.exists(), old.exists()) == (True, False)
    mine.rename(old)
    run(ROWS, out, force=True, data=rows)
    assert not events.exists()
    with refused(ModelError, "train", f"{path} is not a folder", remedy="--out"):
        run(ROWS, path, force=True)
    with refused(ModelError, "train", f"{path}/below: Not a directory", remedy="--out"):
        run(ROWS, path / "below")


def test_what_cannot_run_replaces_nothing(tmp_path: Path, digits: Dataset) -> None:
    """What would fail after the first sample, too, is refused while the run that is there is."""
    old, out, two = tmp_path / "old", tmp_path / "out", tmp_path / "two.py"
    run(ROWS, old)
    two.write_text(
        "import lnm_codegen as lnm\n@lnm.family\ndef two():\n"
        "    v, x = lnm.state('v'), lnm.input('x')\n"
        "    out = {'spike': lnm.spike, 'v_out': v}\n"
        "    return lnm.Neuron({v: v + x}, v - 1, output=out, name='two')\n"
    )
    over, mean = ({"hidden": (3,), "over": over} for over in ("last", "mean"))
    spiking: dict[str, Any] = {"v_min": None, "arguments": {"v_threshold": -3.0}}
    images = {"network": "conv", "data": "digits", "family": "lnm", "arguments": {}}

    def conv(*channels: int) -> dict[str, Any]:
        return {**images, "network_arguments": {"channels": channels}}

    cases: list[tuple[dict[str, Any], str, tuple[str, ...]]] = [
        ({"augment": True}, "data: digits-rows", ("the set has no augmentation",)),
        ({**conv(4), **spiking, "penalty": 1.0}, "train",
         ("potentials from -2 to the threshold -3 of layer 1",)),
        (conv(2**40), "train", ("the network 'conv' cannot be built",)),
        (conv(*(4,) * 9), "conv", ("9 blocks each halve an image of 8x8", "at most 3 channels")),
        ({"arguments": {"degree": 3}}, "lif", ("no argument 'degree'", "tau, decay_input")),
        ({"family": f"{two}:two"}, "train", ("two has 1 inputs and 2 outputs", "one of each")),
        # The logits of each step are not reduced, so `over` changed nothing, also in the test.
        ({"loss": "tet", "network_arguments": over}, "train",
         ("over is 'last'", "'mean', with the loss tet", "Set over to mean, or loss to mean.")),
    ]  # fmt: skip
    # A name of a parameter of `build`, `load` or a family's call was an internal TypeError.
    own = ("per_step", "classes", "kind", "backend", "name", "neuron", "sample", "self", "task")
    for where, accepted, field, words in (
        ("feedforward", "hidden, norm", "network_arguments", own),
        ("data: digits-rows", "split, scale", "data_arguments", ("name", "folder", "limit")),
        ("lif", "tau, decay_input", "arguments", ("self", "args")),
    ):
        kind = "argument" if where == "lif" else "option"
        cases += [({field: {w: 1}}, where, (f"no {kind} {w!r}", accepted)) for w in words]
    for fields, place, parts in cases:
        with kept(old, place, *parts):
            run(replace(ROWS, **fields), old, force=True)
        with refused(ModelError, place, *parts):
            run(replace(ROWS, **fields), out)
        assert not out.exists()
    run(replace(ROWS, loss="tet", network_arguments=mean))


def test_divergence_names_the_layer(tmp_path: Path, digits: Dataset) -> None:
    """A cubic with soft reset and no clamp overflows; the spikes alone would not show it.

    A free matrix of two states is kept stable by `project`; a clamp of v would not do it.
    """
    cubic = {"degree": 3, "v_reset": None, "theta": [0.0, 2.0, 1.0, 9.0]}
    clamp = "Lower lr_neuron, or give v_min"
    first = "the gradient of blocks.1.neuron.theta is not finite at step 1, epoch 1"
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"arguments": cubic, "v_min": None}, first, clamp),
        ({"arguments": {**cubic, "v_min": None}, "v_min": -2.0}, first, clamp),
    ]
    for form, size, remedy in (
        ("free", 5, "Lower lr_neuron, or give project, such as 1.0."),
        ("pole", 3, "Lower lr_neuron or lr."),
    ):
        two = {"states": 2, "degree": 2, "parametrisation": form, "theta_w": [9e9] * size}
        cases.append(({"arguments": two, "v_min": None}, "is not finite", remedy))
    config = replace(ONE, network_arguments={"channels": (4, 4), "time_steps": 8})
    for fields, problem, remedy in cases:
        with refused(DivergedError, "train", problem, remedy=remedy):
            run(replace(config, **fields), tmp_path, force=True, data=digits)


def test_divergence_keeps_the_last_epoch(
    tmp_path: Path, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(*_: Any) -> Iterator[Epoch]:
        yield Epoch(1, 1.0, 0.5, 0.5, (0.1,), (0.0,), 0.1)
        raise ModelError("train", "gone", remedy="Lower lr.")

    monkeypatch.setattr("lnm_codegen.train.runs.runner.fit", diverging)
    saved = tmp_path / "out" / "model.safetensors"
    with refused(ModelError, "train", "gone", remedy=f"Lower lr. Epoch 1 is saved in {saved}."):
        run(ROWS, tmp_path / "out", data=rows)
    assert saved.exists()
    assert len(metrics(tmp_path / "out")) == 1


def test_the_figure_begins_at_the_clamp(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once began at -2 with `--set v_min=-5`. The working folder, ".", has its name there."""
    curves, names = [], []

    def noted(*arguments: Any) -> Any:
        curves.append(run_figure(*arguments).axes[0].lines[0].get_xdata()[0])
        names.append(arguments[0])

    monkeypatch.setattr("lnm_codegen.train.runs.runner.run_figure", noted)
    monkeypatch.chdir(tmp_path)
    for fields in ({"v_min": -5.0}, {"arguments": {"v_min": -5.0}}):
        run(replace(ONE, **fields), ".", data=digits, force=True)
    assert (curves, names) == ([-5.0] * 2, [tmp_path.name] * 2)


def test_a_limit_that_leaves_out_classes_is_reported() -> None:
    """Samples sorted by class trained on a few classes in silence."""
    labels = torch.arange(30) // 2
    x = torch.rand(30, 4, 3)
    data, config = from_arrays(x, labels, x, labels, name="sorted"), replace(ROWS, batch=8)
    absent = "no training sample of sorted with the label 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, ..."
    with pytest.warns(RuntimeWarning, match=f"train: limit=8 leaves {absent}. Raise the limit"):
        run(replace(config, limit=8), data=data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(replace(config, limit=29), data=data)
        run(replace(config, limit=1000), data=replace(data, classes=50))  # a limit without effect
