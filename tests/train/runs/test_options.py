"""Options of a run: each has its documented effect."""

from __future__ import annotations

import io
import json
import math
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor

import lnm_codegen as lnm
from lnm_codegen.errors import DivergedError, ModelError, ToolError, UnsupportedError
from lnm_codegen.language.surrogate import sigmoid
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.chain import IGNORED
from lnm_codegen.train import Dataset, TrainConfig, load_run, run
from lnm_codegen.train import fastest as module
from lnm_codegen.train.data import from_arrays
from lnm_codegen.train.data.dataset import memory_split
from lnm_codegen.train.engine import HIGH, counting, fit
from lnm_codegen.train.losses import mean_logit, per_step
from lnm_codegen.train.runs.folder import RunFolder
from lnm_codegen.train.runs.origin import network_of
from lnm_codegen.train.stability.projection import potential_interval
from lnm_codegen.train.trainer import Trainer, clipped, optimizer_of, schedule_of
from tests.refusals import refused
from tests.train.small import ROWS, SMALL, kept, stopped

LNM = replace(ROWS, family="lnm", arguments={"degree": 2}, limit=48, epochs=2)
TET: dict[str, Any] = {"loss": "tet"}
NO_STATISTICS = "the last of the batches of 47 has one sample of one time step"


def losses(config: TrainConfig, data: Dataset | None) -> list[float]:
    return [e.loss for e in run(config, data=data).epochs]


def trainer_of(config: TrainConfig, data: Dataset) -> Trainer:
    return Trainer(config, network_of(config, data), data)


def test_rates_over_time(digits: Dataset) -> None:
    """Warm-up rises by equal steps; the cosine ends at 0; both groups keep their ratio."""

    def rates(config: TrainConfig, per_epoch: int) -> list[list[float]]:
        optimizer = optimizer_of(config, network_of(config, digits))
        schedule, seen = schedule_of(config, optimizer, per_epoch), []
        for _ in range(per_epoch * config.epochs + 1):
            seen.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            schedule.step()
        return seen

    seen = rates(replace(SMALL, epochs=4, warmup=1, lr=1.0, lr_neuron=0.1), 5)
    assert [lr for lr, _ in seen[:5]] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert seen[10][0] == pytest.approx((1 + math.cos(math.pi * 5 / 15)) / 2)
    assert seen[-1][0] == pytest.approx(0.0)
    assert all(b == pytest.approx(0.1 * a) for a, b in seen)
    assert (
        rates(replace(SMALL, schedule="constant", lr=0.5, lr_neuron=0.25), 3) == [[0.5, 0.25]] * 7
    )


def test_clipping() -> None:
    """Each group has its own norm; one that is not finite changes nothing."""
    a, b = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    b.grad = torch.tensor([0.3, 0.4])
    for gradient in ([3.0, 4.0], [3e30, 4e30]):  # squares overflow
        a.grad = torch.tensor(gradient)
        assert clipped([[a], [b], []], 1.0)
        assert torch.allclose(a.grad, torch.tensor([0.6, 0.8]), atol=1e-5)
        assert torch.equal(b.grad, torch.tensor([0.3, 0.4]))
    a.grad, b.grad = torch.tensor([3.0, math.nan]), torch.tensor([3.0, 4.0])
    assert not clipped([[a], [b]], 1.0)
    assert torch.equal(b.grad, torch.tensor([3.0, 4.0]))


def test_rates_decay_and_the_average_act_on_their_parameters(rows: Dataset) -> None:
    """lr_neuron = 0 freezes theta to the bit; weight decay never touches it."""

    def changed(**fields: Any) -> set[str]:
        config = replace(LNM, **fields)
        after, before = run(config, data=rows).network, network_of(config, rows)
        pairs = zip(after.named_parameters(), before.parameters(), strict=True)
        return {name for (name, now), old in pairs if not torch.equal(now, old)}

    assert not {n for n in changed(lr_neuron=0.0, weight_decay=1.0) if "theta" in n}
    assert changed(lr=0.0, lr_neuron=0.1, weight_decay=1.0) == {"layers.0.neuron.theta"}


def test_moving_average(rows: Dataset) -> None:
    """The loss is that of the weights; a short run forgets the first weights and statistics."""
    start = network_of(LNM, rows).readout.linear.weight
    plain, slow = (run(replace(LNM, ema=ema, epochs=9), data=rows) for ema in (0.0, 0.999))
    assert plain.epochs[-1].loss == slow.epochs[-1].loss
    far = [(r.network.readout.linear.weight - start).norm() for r in (plain, slow)]
    assert 0.7 * far[0] < far[1] < 0.99 * far[0]

    frozen = replace(
        LNM, network_arguments={"norm": "batch"}, epochs=60, lr=0.0, lr_neuron=0.0, ema=0.999
    )
    trainer = trainer_of(frozen, rows)
    list(fit(frozen, trainer.network, rows, trainer=trainer))
    values = dict(trainer.network.named_buffers())
    averages = {n: b for n, b in trainer.averaged.named_buffers() if "running" in n}
    assert len(averages) == 4
    for name, average in averages.items():
        torch.testing.assert_close(average, values[name], rtol=0.05, atol=0.01)


@pytest.mark.parametrize(
    "fields",
    [
        {**TET, "tet_weight": 0.1, "optimizer": "sgd", "lr": 0.1, "validation": 10},
        {"precision": "bfloat16", "optimizer": "adamw", "weight_decay": 0.1, "deterministic": True,
         "label_smoothing": 0.1, "schedule": "constant"},
    ],
)  # fmt: skip
def test_options_train(fields: dict[str, Any], digits: Dataset) -> None:
    config = replace(SMALL, epochs=12, **fields)
    found = losses(config, None if "validation" in fields else digits)
    assert found[-1] < 0.97 * found[0]


def test_every_option_changes_the_run(rows: Dataset) -> None:
    """An option that is ignored trains as well as one that acts."""
    changes = (
        {}, TET, {**TET, "tet_weight": 0.1}, {"label_smoothing": 0.1}, {"precision": "bfloat16"},
        {"optimizer": "sgd"}, {"weight_decay": 0.5}, {"optimizer": "adamw", "weight_decay": 0.5},
        {"schedule": "constant"},
    )  # fmt: skip
    assert len({tuple(losses(replace(LNM, **fields), rows)) for fields in changes}) == len(changes)


def test_the_loss_of_a_step_is_that_of_the_logits(rows: Dataset) -> None:
    for tet, weight, smoothing in ((1, 0.05, 0.0), (1, 0.5, 0.0), (0, 0.5, 0.5), (1, 0.5, 0.5)):
        fields: dict[str, Any] = {"tet_weight": weight, "label_smoothing": smoothing}
        config = replace(LNM, **fields, **(TET if tet else {}))
        trainer = trainer_of(config, rows)
        x, labels = next(rows.batches(rows.train, 16))
        logits = trainer.network.train()(x)
        expected = mean_logit(logits, labels, smoothing=smoothing)
        if tet:
            each = per_step(logits, labels, smoothing=smoothing)
            expected = (1 - weight) * each + weight * (logits - 1).square().mean()
        assert trainer.step(x, labels)[0] == pytest.approx(expected.item(), rel=1e-5)


def test_determinism_holds_within_the_run(rows: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step has the algorithms of the config, and the process its own ones after the run."""
    seen: list[bool] = []
    step = Trainer.step

    def seeing(*batch: Any) -> Any:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return step(*batch)

    monkeypatch.setattr(Trainer, "step", seeing)
    for deterministic in (True, False):
        seen.clear()
        run(replace(LNM, deterministic=deterministic), data=rows)
        assert seen == [deterministic] * 4
        assert not torch.are_deterministic_algorithms_enabled()


def test_testing_is_left_out(rows: Dataset) -> None:
    epochs = run(replace(LNM, epochs=5, evaluate_every=2), data=rows).epochs
    assert [e.test_accuracy is None for e in epochs] == [True, False, True, False, False]
    epochs = run(replace(LNM, epochs=3, evaluate_every=0), data=rows).epochs
    assert [len(e.rates) for e in epochs] == [0, 0, 1]


@pytest.mark.parametrize(
    "backend", ["torch", pytest.param("c", marks=[pytest.mark.needs_cc, pytest.mark.slow])]
)
def test_counts_outside_the_interval(backend: str, digits: Dataset) -> None:
    """Against a count on the charged potentials themselves."""
    network = network_of(replace(SMALL, backend=backend), digits).eval()
    x, _ = next(digits.batches(digits.test, 32))
    seen: list[float] = []

    def keep(layer: Any, inputs: Any, out: Any) -> None:
        v, total = torch.zeros_like(inputs[0][0]), 0
        for now in inputs[0]:
            h = (-0.5 + 0.9 * v - v * v + now).clamp(min=-2.0)
            total += int((h <= -2.0).sum())
            v = torch.where(h >= 1.0, torch.zeros_like(h), h)
        seen.append(total)

    with torch.no_grad():
        for layer in network.neurons:
            layer.theta.copy_(torch.tensor([-0.5, 0.9, -1.0]))
            layer.register_forward_hook(keep)
        with counting(network.neurons, [-2.0] * 2) as counts:
            network(x)
    assert [c.outside for c in counts] == pytest.approx(seen, abs=2)
    assert min(seen) > 100


V, X = lnm.state("v"), lnm.input("x")
INPUT = NeuronLayer(lnm.Neuron(charge={V: X}, fire=V - 1), backend="torch")


@settings(max_examples=20)
@given(st.lists(st.floats(width=32) | st.floats(-3, 3, width=32), min_size=1, max_size=8))
def test_without_a_clamp_only_diverged_potentials_count(values: list[float]) -> None:
    x_seq = torch.tensor(values).reshape(1, 1, -1)
    for clamp, least in ((None, -HIGH), (-2.0, -2.0)):
        with torch.no_grad(), counting((INPUT,), [clamp]) as counts:
            INPUT(x_seq)
        assert counts[0].outside == int((~((x_seq > least) & (x_seq <= HIGH))).sum())


def test_a_run_without_a_clamp_has_nothing_outside(rows: Dataset) -> None:
    """Potentials in mV lie far below -2; two states swing below it."""
    found = [
        any(run(replace(LNM, family=name, arguments=given), data=rows).epochs[-1].outside)
        for name, given in (
            ("lif", {"v_reset": -65.0, "v_threshold": -50.0}),
            ("lnm", {"states": 2, "degree": 1, "radius": 0.99, "angle": 0.7}),
            ("lnm", {"degree": 1, "theta": (-3.0, 0.5)}),
        )
    ]
    assert found == [False, False, True]


def test_spikes_are_counted() -> None:
    """Of either sign. A potential is no spike; a graded spike is one."""
    x_seq = torch.tensor([0.5, 0.0, 2.0, 3.0, -2.0]).reshape(1, 1, 5)
    for neuron, fired in (
        (lnm.Neuron(charge={V: X}, fire=V - 1, output={"out": V}), 0),
        (lnm.Neuron(charge={V: X}, fire=V - 1, output={"out": lnm.spike * V}), 2),
        (lnm.get("ternary"), 4),
    ):
        layer = NeuronLayer(neuron, backend="torch")
        with torch.no_grad(), counting((layer,), [None]) as counts:
            layer(x_seq)
        assert (counts[0].fired, counts[0].seen) == (fired, 5)


def test_the_penalty_begins_at_the_clamp(digits: Dataset) -> None:
    """`--set v_min=-20` once clamped at -20 and penalised slopes from -2."""
    theta, found = (0.05, 0.6, -0.1, 0.15), []
    for arguments, v_min in (({}, -20.0), ({"v_min": -20.0}, TrainConfig.v_min)):
        given = {"theta": theta, **arguments}
        trainer = trainer_of(replace(SMALL, arguments=given, v_min=v_min, penalty=1.0), digits)
        assert trainer.intervals == [(-20.0, 1.0)] * 2
        found.append(trainer.penalty().item())
    steepest = 0.6 + 0.2 * 20 + 0.45 * 20**2  # at -20
    assert found == pytest.approx([2 * (steepest - TrainConfig.penalty_slope) ** 2] * 2)


def neuron_between(start: float, threshold: float, clamp: float | None = None) -> lnm.Neuron:
    """Return a leaky neuron in the unit of its potentials."""
    v, x = lnm.state("v", init=start), lnm.input("x")
    h = start + (v - start) / 2 + x
    charge = {v: h if clamp is None else lnm.max(h, clamp)}
    return lnm.Neuron(charge=charge, fire=v - threshold, reset=lnm.hard_reset(v, start))


def test_the_interval_of_a_layer() -> None:
    for neuron, given_, interval in (
        (neuron_between(0.0, 1.0), None, (-2.0, 1.0)),
        (neuron_between(0.0, 0.5), None, (-2.0, 0.5)),
        (neuron_between(0.0, 1.0), -7.0, (-7.0, 1.0)),
        (neuron_between(0.0, 1.0, -3.0), -7.0, (-3.0, 1.0)),
        (neuron_between(-65.0, -50.0), None, (-95.0, -50.0)),
        (neuron_between(-65.0, 30.0), None, (-255.0, 30.0)),
        (neuron_between(-65.0, -50.0, -80.0), None, (-80.0, -50.0)),
        (neuron_between(0.0, -50.0), None, (-2.0, -50.0)),
        (lnm.get("lif", v_reset=-65.0, v_threshold=-50.0), None, (-95.0, -50.0)),
        (lnm.get("lnm", states=2, v_min=-4.0), None, (-4.0, 1.0)),
    ):
        layer = NeuronLayer(neuron, channels=1, shape=(1,), backend="torch")
        assert potential_interval(layer, given_) == pytest.approx(interval)


CELL = """
name = "cell"
inputs = ["x"]
fire = "v - v_threshold"
[states.v]
init = {start}
[params.v_threshold]
init = -50.0
learnable = false
[charge]
v = "{h}"
[reset]
v = "where(spike, -65, v)"
"""


def test_a_penalty_in_millivolts(tmp_path: Path, rows: Dataset) -> None:
    """It trains. A neuron that begins above its threshold is refused, and its remedies work."""
    file, out = tmp_path / "cell.toml", tmp_path / "run"
    config = replace(ROWS, family=str(file), penalty=1.0)
    file.write_text(CELL.format(start=0, h="v + (x - 65 - v)/2"))
    with refused(
        ModelError, "train",
        "penalty and project act on potentials from -2 to the threshold -50 of layer 1",
        remedy="an initial potential below its threshold, or its charge a lower clamp below -50.",
    ):  # fmt: skip
        run(config, out, data=rows)
    assert not out.exists()
    for start, h in ((-65, "v + (x - 65 - v)/2"), (0, "max(v + (x - 65 - v)/2, -80)")):
        file.write_text(CELL.format(start=start, h=h))
        assert math.isfinite(losses(config, rows)[0])


CUBIC = replace(LNM, arguments={"degree": 3}, network_arguments={"hidden": (3, 3)}, epochs=1)


@pytest.fixture(scope="module")
def cubic(tmp_path_factory: pytest.TempPathFactory, rows: Dataset) -> Path:
    folder = tmp_path_factory.mktemp("cubic") / "run"
    run(CUBIC, folder, data=rows)
    return folder


def test_neurons_of_another_run(cubic: Path, rows: Dataset, tmp_path: Path) -> None:
    """Swapped between layers, and frozen. Initial values and surrogates may differ.

    A run whose surrogate is recorded gives its neurons too.
    """
    surrogate, recorded = {"degree": 3, "surrogate": sigmoid(3.0)}, tmp_path / "recorded"
    run(replace(CUBIC, arguments=surrogate), recorded, data=rows)
    for folder in (cubic, recorded):
        learned = [layer.theta for layer in load_run(folder, rows).network.neurons]
        assert not torch.equal(*learned)
        for changes in (
            {"seed": 1, "neurons_order": (1, 0)},
            {"arguments": {"degree": 3, "decay": 0.3}},
            {"arguments": {"degree": 3, "surrogate": "sigmoid"}},
            {"arguments": surrogate},
        ):
            config = replace(CUBIC, neurons_from=folder, lr_neuron=0.0, **changes)
            found = run(config, data=rows).network.neurons
            for k, source in enumerate(config.neurons_order or (0, 1)):
                assert torch.equal(found[k].theta, learned[source])


def test_neurons_that_do_not_fit(
    cubic: Path, rows: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters of another definition have the same name and shape, and another meaning."""
    where, config = "train: neurons_from", replace(CUBIC, neurons_from=cubic)
    other, same = "the run has another neuron than this lnm", "Name a run of the same neuron and"
    nothing, keeps = (
        "lif has no learnable parameter to take",
        "lr_neuron = 0 keeps those of the run",
    )
    history = f"{where}: {tmp_path}/none/history.safetensors"
    several = "2 numbers, one for each layer"
    changes: list[tuple[dict[str, Any], str | None, str, str, str]] = [
        ({"neurons_order": (1,)}, "train", "neurons_order is (1,)", several, ""),
        ({"arguments": {"degree": 4}}, None, "layer 0 takes theta of shape (5,); layer 0 of the run"
         " has (4", "", ""),
        ({"neurons_from": tmp_path / "none"}, history, "", "", "Name a folder that lnm train"),
        ({"family": "lif", "arguments": {}}, where, nothing, "", keeps),
        ({"family": "lif", "arguments": {"tau": 3.0, "v_reset": None}}, where, nothing, "", keeps),
    ]  # fmt: skip
    for more in ({"basis": "chebyshev"}, {"form": "B"}, {"v_reset": None}, {"v_max": 2.0}):
        given = {"arguments": {"degree": 3, **more}}
        changes.append((given, f"{where}: {cubic}/config.json", other, "", same))
    folder = Path(shutil.copytree(cubic, tmp_path / "run"))
    for fields, *parts in changes:
        with refused(ModelError, *parts):
            run(replace(config, **fields), data=rows)
    path, config = folder / "config.json", replace(CUBIC, neurons_from=folder)
    whole, at = path.read_text(), f"{where}: run: {folder}/config.json"
    for text, place, problem in (
        (whole[:-20], at, "not JSON"),
        (whole.replace('"epochs"', '"rounds"'), at, "no field 'rounds'"),
        (whole.replace('"family": "lnm"', '"family": "lmn"'), f"{at}: 'lmn'", "no built-in family"),
        ("{}", at, "no table 'config' in it"),
    ):
        path.write_text(text)
        with refused(ModelError, place, problem):
            run(config, data=rows)
    path.unlink()
    with refused(
        ModelError, f"{where}: run", "no config.json in it", "",
        "Train again with lnm train, or name another run.",
    ):  # fmt: skip
        run(config, data=rows)
    monkeypatch.setattr("lnm_codegen.train.runs.saved.LARGEST_IN_HISTORY", 2)
    run(CUBIC, tmp_path / "few", data=rows)  # the message once blamed another neuron
    with refused(
        ModelError, f"{where}: {tmp_path}/few/history.safetensors",
        "layer 0 takes theta with 4 numbers, and a history omits parameters of more than 2", "",
        "Learn per channel or per layer",
    ):  # fmt: skip
        run(replace(CUBIC, neurons_from=tmp_path / "few"), data=rows)


def test_neurons_of_an_edited_definition_are_refused(tmp_path: Path, rows: Dataset) -> None:
    """Both runs name the same file, and their parameters have the same shape."""
    file, folder = tmp_path / "own.toml", tmp_path / "run"
    text = lnm.get("lnm", degree=1).to_toml()
    file.write_text(text)
    config = replace(ROWS, family=str(file))
    run(config, folder, data=rows)
    run(replace(config, neurons_from=folder), data=rows)
    changed = text.replace("v_threshold", "2*v_threshold", 1)
    assert changed != text
    file.write_text(changed)
    where = f"train: neurons_from: run: {folder}/config.json: {file}"
    with refused(ModelError, where, "its definition has changed since the run"):
        run(replace(config, neurons_from=folder), data=rows)


def test_a_run_resumes_without_the_run_it_started_from(
    cubic: Path, tmp_path: Path, rows: Dataset
) -> None:
    """The checkpoint has the parameters learned since."""
    first = Path(shutil.copytree(cubic, tmp_path / "first"))
    config = replace(CUBIC, neurons_from=first, epochs=2)
    whole = losses(config, rows)
    with stopped(RunFolder, "save_metrics", 1):
        run(config, tmp_path / "cut", data=rows)
    shutil.rmtree(first)
    found = run(config, tmp_path / "cut", resume=True, data=rows)
    assert [e.loss for e in found.epochs] == whole


@pytest.mark.slow
@pytest.mark.needs_cc
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_under_torch_compile(digits: Dataset) -> None:
    """The compiled network trains to nearly the same loss."""
    config = replace(SMALL, backend="c", epochs=3)
    plain, compiled = (losses(replace(config, compile=c), digits)[-1] for c in (False, True))
    assert compiled == pytest.approx(plain, rel=0.02)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_two_compiled_networks(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second once trained with the kernels of the first."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    for surrogate in ("atan", "straight_through"):
        config = replace(SMALL, arguments={"degree": 2, "surrogate": surrogate})
        found = []
        for is_compiled in (False, True):
            trainer = trainer_of(replace(config, compile=is_compiled), digits)
            trainer.step(*next(digits.batches(digits.train, 8)))
            found.append([p.grad for p in trainer.network.parameters()])
        for plain, compiled in zip(*found, strict=True):
            torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-6)


def test_events_for_tensorboard(
    tmp_path: Path, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`force` once deleted the run before the import failed."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    config = replace(ROWS, tensorboard=True)
    run(config, tmp_path, data=rows)
    assert list((tmp_path / "events").iterdir())
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    parts = ("train", "tensorboard is not installed", "", "Run pip install")
    with kept(tmp_path, *parts, kind=ToolError):
        run(config, tmp_path, force=True, data=rows)


@pytest.mark.filterwarnings("error", r"ignore:train. limit=\d+ leaves")
def test_float16_trains_and_stops_at_nan(rows: Dataset) -> None:
    """The scaler may skip a step whose gradient overflows, but not every step."""
    config = replace(LNM, precision="float16", epochs=14, lr=0.03, ema=0.5)
    found = losses(config, rows)
    assert found[-1] < 0.97 * found[0]
    network = network_of(config, rows)
    with torch.no_grad():
        network.layers[0].linear.weight[0] = math.nan
    with pytest.raises(DivergedError, match=r"^train: the gradient of .* is not finite at step 21"):
        list(fit(config, network, rows))


def test_the_fastest_of_what_is_asked_for(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Least time of the steps that count; random numbers and the network stay, a resume keeps it.

    A candidate that diverges is left out.
    """
    seconds = {
        ("float32", "contiguous"): [1.0, 5.0, 6.0],
        ("float32", "channels_last"): [9.0, 3.0, 4.0],
        ("bfloat16", "contiguous"): [9.0, 4.0, 2.0],
        ("bfloat16", "channels_last"): [0.1, math.inf, 7.0],
    }
    left = {key: list(values) for key, values in seconds.items()}

    def taken(trainer: Trainer, x: Tensor, labels: Tensor) -> float:
        key = trainer.config.precision, trainer.config.memory_format
        weight = trainer.network.blocks[0].conv.weight
        assert weight.is_contiguous(
            memory_format=getattr(torch, key[1] + "_format" * (key[1] != "channels_last"))
        )
        trainer.step(x, labels)
        return left[key].pop(0)

    monkeypatch.setattr(module, "_seconds", taken)
    config = replace(SMALL, precision="auto", memory_format="auto", backend="c", ema=0.5)
    shown = Console(width=200, file=io.StringIO())
    result = run(config, tmp_path, data=digits, console=shown)
    assert "fastest: bfloat16, contiguous (a step of" in shown.file.getvalue()
    chosen = replace(config, precision="bfloat16", memory_format="contiguous")
    assert (result.config.precision, result.config.memory_format) == ("bfloat16", "contiguous")
    expected = run(chosen, data=digits)
    assert [e.loss for e in result.epochs] == [e.loss for e in expected.epochs]
    kept = json.loads((tmp_path / "config.json").read_text())
    assert kept["origin"]["step_ms"] == {
        "float32, contiguous": 5e3, "float32, channels_last": 3e3, "bfloat16, contiguous": 2e3,
        "bfloat16, channels_last": 7e3,
    }  # fmt: skip
    assert not any(left.values())
    again = run(config, tmp_path, data=digits, resume=True)
    assert again.config.precision == "bfloat16"
    left.update(
        {
            ("float16", word): [2.0, 2.0, t]
            for word, t in (("contiguous", 1), ("channels_last", 0.5))
        }
    )
    (epoch, *_) = fit(replace(config, precision="float16"), network_of(config, digits), digits)
    assert math.isfinite(epoch.loss)
    with refused(ModelError, "train", "holds a run whose precision is 'bfloat16', not 'float32'"):
        run(replace(config, precision="float32"), tmp_path, data=digits, resume=True)


def test_networks_that_are_not_sized_yet(digits: Dataset) -> None:
    """Lazy parameters have their sizes before the copies; weights of 5 axes have one format."""
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.LazyLinear(4), torch.nn.Unflatten(0, (1, -1)),
        NeuronLayer(lnm.get("lif", per="channel"), backend="torch"),
        torch.nn.Flatten(0, 1), torch.nn.Linear(4, 10),
    )  # fmt: skip
    network.register_parameter("more", torch.nn.Parameter(torch.zeros(1, 1, 1, 1, 1)))
    config = TrainConfig(precision="auto", memory_format="auto", epochs=1, batch=16, limit=48)
    found = run(config, data=digits, network=network).config
    assert found.precision in ("float32", "bfloat16")
    assert found.memory_format in ("contiguous", "channels_last")


def test_memory_formats_train_alike(digits: Dataset) -> None:
    """Channels last sums in another order; a checkpoint holds the weights all the same."""
    losses_of = [
        losses(replace(SMALL, memory_format=word, backend="c"), digits)
        for word in ("contiguous", "channels_last")
    ]
    assert losses_of[0] == pytest.approx(losses_of[1], rel=1e-3)


def test_a_step_that_diverged_changes_nothing(digits: Dataset) -> None:
    """One sample with a NaN: batch norm would keep it for good.

    The softmax of logits that are too far apart has an infinite loss and a finite gradient.
    """
    x, labels = next(digits.batches(digits.train, 8))

    def left(trainer: Trainer, x: Tensor, message: str) -> None:
        before = {k: v.clone() for k, v in trainer.network.state_dict().items()}
        assert any("running_mean" in k for k in before)
        with pytest.raises(DivergedError, match=message):
            trainer.step(x, labels)
        after = trainer.network.state_dict()
        assert all(torch.equal(v, before[k]) for k, v in after.items())

    trainer = trainer_of(SMALL, digits)
    trainer.step(x, labels)
    broken = x.clone()
    broken[0] = math.nan
    left(trainer, broken, r"not finite: correct the data\.$")
    trainer = trainer_of(SMALL, digits)
    with torch.no_grad():
        trainer.network.readout.bias.fill_(-3e38)
        trainer.network.readout.bias[0] = 3e38
    left(trainer, x, r"^train: the loss is not finite at step 1, epoch 1;")


def test_a_batch_without_labels_has_no_loss() -> None:
    """Its mean over labelled steps would be 0/0."""
    labels = torch.tensor([[IGNORED] * 3, [IGNORED] * 3, [0, IGNORED, 1], [1, 1, 0]])
    split = memory_split(torch.rand(4, 3, 2), labels)
    steps = Dataset("mine", split, split, 2, "sequence", (3, 2), per_step=True)
    trainer = trainer_of(replace(LNM, batch=2), steps)
    weight = trainer.network.readout.linear.weight
    before, x, own = weight.clone(), split.images.transpose(0, 1), labels.t()
    assert trainer.step(x[:, :2], own[:, :2]) == (0.0, 0, 0)
    assert torch.equal(weight, before)
    loss, _, predictions = trainer.step(x[:, 2:], own[:, 2:])
    assert loss > 0
    assert predictions == 5


@pytest.mark.parametrize("fields", [{}, {"label_smoothing": 0.2}, {**TET, "tet_weight": 0.0}])
def test_the_loss_of_an_epoch_is_the_mean_over_predictions(fields: dict[str, Any]) -> None:
    """It was a mean over samples: a batch without a label entered as 0, and lowered it."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (20, 5), generator=draw)
    labels[torch.rand(20, 5, generator=draw) < 0.7] = IGNORED
    labels[:5] = IGNORED
    x = torch.randn(20, 5, 3, generator=draw)
    mine = from_arrays(x, labels, x, labels, scale="raw")
    config = replace(ROWS, lr=0.0, lr_neuron=0.0, limit=None, **fields)
    whole, *parts = (losses(replace(config, batch=batch), mine)[0] for batch in (20, 7, 1))
    assert parts == [pytest.approx(whole, rel=1e-5)] * 2


def test_a_run_that_must_fail_leaves_no_folder(tmp_path: Path, digits: Dataset) -> None:
    """The error comes before the folder, so the corrected run finds the folder free.

    One time step of one sample has no statistics, also where poolings leave one pixel.
    """
    out, again = tmp_path / "run", "Choose another batch, two or more"
    batch_norm = {"hidden": (8,), "norm": "batch"}
    transformer = {"width": 8, "depth": 1, "halvings": 4, "time_steps": 1}
    alone = ("train", NO_STATISTICS, "", again)
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"project": 5.0},
         refused(ModelError, "project", "for |x| <= 5 even the leak", "a smaller x_max")),
        ({"family": "lif", "project": 0.5},
         refused(UnsupportedError, "lif", "no charge f(v) + x", "lnm of any form")),
        ({"device": "meta"}, refused(ModelError, "train", "device is 'meta'", "cpu, cuda, cuda:1")),
        ({"device": "tpu"}, refused(ModelError, "train", "device is 'tpu'", "cpu, cuda, cuda:1")),
    ]  # fmt: skip
    for network in ("recurrent", "feedforward"):
        config = replace(SMALL, network=network, batch=47, epochs=1, arguments={})
        options = {**batch_norm, "fused": False} if network == "feedforward" else batch_norm
        run(replace(config, network_arguments=options), data=digits)  # once an error of PyTorch
        for fused in (False, True):
            one = {**batch_norm, "time_steps": 1, "fused": fused}
            fields = {"network": network, "network_arguments": one}
            cases.append((fields, refused(ModelError, *alone)))
        run(replace(config, network_arguments=one, batch=46), data=digits)
    for fields, refusal in cases:
        with refusal:
            run(replace(SMALL, batch=47, epochs=1, arguments={}, **fields), out, data=digits)
        assert not out.exists()
    run(replace(SMALL, epochs=1), str(out), data=digits)
    config = replace(SMALL, network="transformer", network_arguments=transformer, batch=47)
    with refused(ModelError, *alone):
        run(config, data=digits)
