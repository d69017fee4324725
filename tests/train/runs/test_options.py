"""Options of a run: each has its documented effect."""

from __future__ import annotations

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

import lnm_codegen as lnm
from lnm_codegen.analysis.charge import lower_clamp
from lnm_codegen.errors import DivergedError, ModelError, ToolError, UnsupportedError
from lnm_codegen.language.surrogate import sigmoid
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train import Dataset, TrainConfig, load, load_run, run
from lnm_codegen.train.data import from_arrays
from lnm_codegen.train.data.dataset import memory_split
from lnm_codegen.train.engine import HIGH, counting, fit
from lnm_codegen.train.losses import IGNORED, mean_logit, per_step
from lnm_codegen.train.runs.config import clamp_of, neuron_of
from lnm_codegen.train.runs.folder import HISTORY, RunFolder
from lnm_codegen.train.runs.origin import network_of
from lnm_codegen.train.stability.projection import potential_interval as interval_of
from lnm_codegen.train.trainer import Trainer, clipped, optimizer_of, schedule_of
from tests.refusals import refused

SAVE_TENSORS, STEP = RunFolder.save_tensors, Trainer.step

SMALL = TrainConfig(
    arguments={"degree": 2}, network_arguments={"channels": (3, 3)}, epochs=2, batch=16, limit=48,
    backend="torch", threads=1,
)  # fmt: skip


def interrupted(folder: RunFolder, name: str, *_: object) -> None:
    """Replace `RunFolder.save_tensors`: interrupt at the last file of an epoch."""
    if name == HISTORY:
        raise KeyboardInterrupt
    SAVE_TENSORS(folder, name, *_)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load("digits", limit=48)


def test_rates_over_time(data: Dataset) -> None:
    """Warm-up rises by equal steps; the cosine ends at 0; both groups keep their ratio."""
    config = replace(SMALL, epochs=4, warmup=1, lr=1.0, lr_neuron=0.1)
    optimizer = optimizer_of(config, network_of(config, data))
    schedule, seen = schedule_of(config, optimizer, 5), []
    for _ in range(20):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert [lr for lr, _ in seen[:5]] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert seen[10][0] == pytest.approx((1 + math.cos(math.pi * 5 / 15)) / 2)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0)
    assert all(b == pytest.approx(0.1 * a) for a, b in seen)


def test_a_constant_schedule_keeps_the_rates(data: Dataset) -> None:
    config = replace(SMALL, schedule="constant", lr=0.5, lr_neuron=0.25)
    optimizer = optimizer_of(config, network_of(config, data))
    schedule = schedule_of(config, optimizer, 3)
    for _ in range(6):
        assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25]
        optimizer.step()
        schedule.step()


def test_clipping() -> None:
    """Each group has its own norm; one that is not finite changes nothing."""
    a, b = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    a.grad, b.grad = torch.tensor([3.0, 4.0]), torch.tensor([0.3, 0.4])
    assert clipped([[a], [b], []], 1.0)
    assert torch.allclose(a.grad, torch.tensor([0.6, 0.8]), atol=1e-5)
    assert torch.equal(b.grad, torch.tensor([0.3, 0.4]))
    a.grad = torch.tensor([3e30, 4e30])  # squares overflow
    assert clipped([[a], [b]], 1.0)
    assert torch.allclose(a.grad, torch.tensor([0.6, 0.8]), atol=1e-5)
    a.grad, b.grad = torch.tensor([3.0, math.nan]), torch.tensor([3.0, 4.0])
    assert not clipped([[a], [b]], 1.0)
    assert torch.equal(b.grad, torch.tensor([3.0, 4.0]))


def test_frozen_neurons_and_decayed_weights(data: Dataset) -> None:
    """lr_neuron = 0 freezes theta to the bit; weight decay never touches it."""
    config = replace(SMALL, lr_neuron=0.0, weight_decay=1.0)
    start = network_of(config, data)
    result = run(config, data=data)
    assert torch.equal(result.network.neurons[0].theta, start.neurons[0].theta)
    config = replace(SMALL, lr=0.0, lr_neuron=0.1, weight_decay=1.0)
    result = run(config, data=data)
    pairs = zip(result.network.named_parameters(), start.named_parameters(), strict=True)
    changed = {name for (name, after), (_, before) in pairs if not torch.equal(after, before)}
    assert changed == {"blocks.0.neuron.theta", "blocks.1.neuron.theta"}


def test_the_average_is_tested(data: Dataset) -> None:
    """A decay of nearly 1 keeps the weights near those after the first step."""
    plain, slow = (run(replace(SMALL, ema=ema), data=data) for ema in (0.0, 0.999))
    assert plain.epochs[0].loss == slow.epochs[0].loss
    start = network_of(SMALL, data).readout.weight
    far = [(r.network.readout.weight - start).norm() for r in (plain, slow)]
    assert far[1] < 0.4 * far[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"loss": "tet", "tet_weight": 0.1},
        {"precision": "bfloat16"},
        {"optimizer": "sgd", "lr": 0.1},
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"deterministic": True, "label_smoothing": 0.1, "schedule": "constant"},
        {"network": "feedforward", "network_arguments": {"hidden": (8,)}},
        {"validation": 10},
    ],
)
def test_options_train(fields: dict[str, Any], data: Dataset) -> None:
    config = replace(SMALL, epochs=12, **fields)
    epochs = run(config, data=None if "validation" in fields else data).epochs
    assert epochs[-1].loss < 0.97 * epochs[0].loss


TET: dict[str, Any] = {"loss": "tet"}
ADAMW: dict[str, Any] = {"optimizer": "adamw", "weight_decay": 0.5}


@pytest.mark.parametrize(
    ("before", "changed"),
    [
        ({}, TET),
        (TET, {"tet_weight": 0.1}),
        ({}, {"label_smoothing": 0.1}),
        ({}, {"precision": "bfloat16"}),
        ({}, {"optimizer": "sgd"}),
        ({"weight_decay": 0.5}, ADAMW),
        (ADAMW, {"weight_decay": 0.0}),
        ({}, {"schedule": "constant"}),
    ],
)
def test_an_option_changes_the_run(
    before: dict[str, Any], changed: dict[str, Any], data: Dataset
) -> None:
    """An option that is ignored trains as well as one that acts."""
    configs = (replace(SMALL, **fields) for fields in (before, before | changed))
    first, second = ([e.loss for e in run(config, data=data).epochs] for config in configs)
    assert first != second


@pytest.mark.parametrize(
    "fields",
    [TET, TET | {"tet_weight": 0.5}, {"label_smoothing": 0.5}, TET | {"label_smoothing": 0.5}],
)
def test_the_loss_of_a_step_is_that_of_the_logits(fields: dict[str, Any], data: Dataset) -> None:
    config = replace(SMALL, **fields)
    network = network_of(config, data).train()
    trainer = Trainer(config, network, data)
    x, labels = next(data.batches(data.train, 16))
    logits, smoothing = network(x), config.label_smoothing
    if config.loss == "tet":
        weight = config.tet_weight
        expected = (1 - weight) * per_step(logits, labels, smoothing=smoothing)
        expected = expected + weight * (logits - 1).square().mean()
    else:
        expected = mean_logit(logits, labels, smoothing=smoothing)
    assert trainer.step(x, labels)[0] == pytest.approx(expected.item(), rel=1e-5)


def test_determinism_holds_within_the_run(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step has the algorithms of the config, and the process its own ones after the run."""
    seen: list[bool] = []

    def step(trainer: Trainer, x: torch.Tensor, labels: torch.Tensor) -> Any:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return STEP(trainer, x, labels)

    monkeypatch.setattr(Trainer, "step", step)
    for deterministic in (True, False):
        seen.clear()
        run(replace(SMALL, deterministic=deterministic), data=data)
        assert seen == [deterministic] * 6
        assert not torch.are_deterministic_algorithms_enabled()


def test_testing_is_left_out(data: Dataset) -> None:
    epochs = run(replace(SMALL, epochs=5, evaluate_every=2), data=data).epochs
    assert [e.test_accuracy is None for e in epochs] == [True, False, True, False, False]
    epochs = run(replace(SMALL, epochs=3, evaluate_every=0), data=data).epochs
    assert [len(e.rates) for e in epochs] == [0, 0, 2]


@pytest.mark.parametrize(
    "backend", ["torch", pytest.param("c", marks=[pytest.mark.needs_cc, pytest.mark.slow])]
)
def test_counts_outside_the_interval(backend: str, data: Dataset) -> None:
    """Against a count on the charged potentials themselves."""
    network = network_of(replace(SMALL, backend=backend), data).eval()
    with torch.no_grad():
        for layer in network.neurons:
            layer.theta.copy_(torch.tensor([-0.5, 0.9, -1.0]))
    x, _ = next(data.batches(data.test, 32))
    seen: list[torch.Tensor] = []

    def keep(layer: Any, inputs: Any, out: Any) -> None:
        v, total = torch.zeros_like(inputs[0][0]), torch.zeros(())
        for now in inputs[0]:
            h = (-0.5 + 0.9 * v - v * v + now).clamp(min=-2.0)
            total = total + (h <= -2.0).sum()
            v = torch.where(h >= 1.0, torch.zeros_like(h), h)
        seen.append(total)

    handles = [layer.register_forward_hook(keep) for layer in network.neurons]
    with torch.no_grad(), counting(network.neurons, [-2.0] * len(network.neurons)) as counts:
        network(x)
    for handle in handles:
        handle.remove()
    assert [c.outside for c in counts] == pytest.approx([float(s) for s in seen], abs=2)
    assert min(c.outside for c in counts) > 100


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(width=32) | st.floats(-3, 3, width=32), min_size=1, max_size=8))
def test_without_a_clamp_only_diverged_potentials_count(values: list[float]) -> None:
    v, x = lnm.state("v"), lnm.input("x")
    layer = NeuronLayer(lnm.Neuron(charge={v: x}, fire=v - 1), backend="torch")
    x_seq = torch.tensor(values).reshape(1, 1, -1)
    for clamp, least in ((None, -HIGH), (-2.0, -2.0)):
        with torch.no_grad(), counting((layer,), [clamp]) as counts:
            layer(x_seq)
        inside = (x_seq > least) & (x_seq <= HIGH)
        assert counts[0].outside == int((~inside).sum())


@pytest.mark.parametrize(
    ("fields", "clamp"),
    [
        ({}, -2.0),
        ({"v_min": -1.0}, -1.0),
        ({"v_min": None}, None),
        ({"arguments": {"v_min": -3.0}}, -3.0),
        ({"arguments": {"states": 2, "degree": 1}}, None),
        ({"arguments": {"states": 2, "degree": 1, "v_min": -4.0}}, -4.0),
        ({"arguments": {"states": 2, "degree": 1}, "v_min": -5.0}, -5.0),
        ({"arguments": {"v_min": None}}, None),
        ({"family": "qif"}, -2.0),
        ({"family": "lif"}, None),
        ({"family": "neuron.toml"}, None),
    ],
)
def test_the_clamp_of_a_config(fields: dict[str, Any], clamp: float | None) -> None:
    """It is the clamp of the neuron, too: two states once had none with the field v_min."""
    config = TrainConfig(**fields)
    assert clamp_of(config) == clamp
    if config.family != "neuron.toml":
        assert lower_clamp(neuron_of(config)) == clamp


def test_the_penalty_begins_at_the_clamp(data: Dataset) -> None:
    """`--set v_min=-20` once clamped at -20 and penalised slopes from -2."""
    theta, found = (0.05, 0.6, -0.1, 0.15), []
    for arguments, v_min in (({}, -20.0), ({"v_min": -20.0}, TrainConfig.v_min)):
        config = replace(
            SMALL, arguments={"theta": theta, **arguments}, v_min=v_min, penalty=1.0,
            network_arguments={"channels": (3,)},
        )  # fmt: skip
        trainer = Trainer(config, network_of(config, data), data)
        assert trainer.intervals == [(-20.0, 1.0)]
        found.append(trainer.penalty().item())
    steepest = 0.6 + 0.2 * 20 + 0.45 * 20**2  # at -20
    assert found == pytest.approx([(steepest - TrainConfig.penalty_slope) ** 2] * 2)


def neuron_between(start: float, threshold: float, clamp: float | None = None) -> lnm.Neuron:
    """Return a leaky neuron in the unit of its potentials."""
    v, x = lnm.state("v", init=start), lnm.input("x")
    h = start + (v - start) / 2 + x
    return lnm.Neuron(
        charge={v: h if clamp is None else lnm.max(h, clamp)},
        fire=v - threshold,
        reset=lnm.hard_reset(v, start),
        name="leaky",
    )


@pytest.mark.parametrize(
    ("neuron", "given", "interval"),
    [
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
    ],
)
def test_the_interval_of_a_layer(
    neuron: lnm.Neuron, given: float | None, interval: tuple[float, float]
) -> None:
    layer = NeuronLayer(neuron, channels=1, shape=(1,), backend="torch")
    assert interval_of(layer, given) == pytest.approx(interval)


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


def test_a_penalty_in_millivolts(tmp_path: Path, data: Dataset) -> None:
    """It trains. A neuron that begins above its threshold is refused, and its remedies work."""
    config = replace(SMALL, family=str(tmp_path / "cell.toml"), arguments={}, penalty=1.0, epochs=1)

    def trained(start: float, h: str = "v + (x - 65 - v)/2") -> float:
        text = CELL.format(start=start, h=h)
        (tmp_path / "cell.toml").write_text(text)
        return run(config, tmp_path / f"{start} {h[:3]}", data=data).epochs[-1].loss

    with refused(
        ModelError, "train",
        "penalty and project act on potentials from -2 to the threshold -50 of layer 1",
        remedy="an initial potential below its threshold, or its charge a lower clamp below -50.",
    ):  # fmt: skip
        trained(0.0)
    assert not list(tmp_path.glob("0.0*"))
    assert math.isfinite(trained(-65.0))
    assert math.isfinite(trained(0.0, "max(v + (x - 65 - v)/2, -80)"))


def test_a_run_without_a_clamp_has_nothing_outside(data: Dataset) -> None:
    """Potentials in mV lie far below -2; two states swing below it."""
    lif = {"v_reset": -65.0, "v_threshold": -50.0}
    two = {"states": 2, "degree": 1, "radius": 0.99, "angle": 0.7}
    shares = [
        run(replace(SMALL, family=family, arguments=arguments), data=data).epochs[-1].outside
        for family, arguments in (
            ("lif", lif),
            ("lnm", two),
            ("lnm", {"degree": 1, "theta": (-3.0, 0.5)}),
        )
    ]
    assert [any(share) for share in shares] == [False, False, True]


def test_neurons_of_another_run(tmp_path: Path, data: Dataset) -> None:
    """Swapped between layers, and frozen there."""
    first = run(SMALL, tmp_path / "first", data=data)
    config = replace(
        SMALL, neurons_from=tmp_path / "first", neurons_order=(1, 0), lr_neuron=0.0, seed=1
    )
    second = run(config, data=data)
    for k in (0, 1):
        assert torch.equal(second.network.neurons[k].theta, first.network.neurons[1 - k].theta)
    with refused(ModelError, "train", "neurons_order is (1,)", "2 numbers, one for each layer"):
        run(replace(config, neurons_order=(1,)), data=data)
    with refused(
        ModelError, problem="layer 0 takes theta of shape (4,); layer 1 of the run has (3"
    ):
        run(replace(config, arguments={"degree": 3}), data=data)
    where = f"train: neurons_from: {tmp_path}/none/history.safetensors"
    with refused(ModelError, where, remedy="Name a folder that lnm train wrote."):
        run(replace(config, neurons_from=tmp_path / "none"), data=data)


CUBIC = replace(SMALL, arguments={"degree": 3}, epochs=1)
OTHER: dict[str, dict[str, Any]] = {
    "basis": {"degree": 3, "basis": "chebyshev"},
    "form": {"degree": 3, "form": "B"},
    "reset": {"degree": 3, "v_reset": None},
    "clamp": {"degree": 3, "v_max": 2.0},
}


@pytest.fixture(scope="module")
def cubic(tmp_path_factory: pytest.TempPathFactory, data: Dataset) -> Path:
    folder = tmp_path_factory.mktemp("cubic") / "run"
    run(CUBIC, folder, data=data)
    return folder


@pytest.mark.parametrize("case", OTHER)
def test_neurons_of_another_definition_are_refused(cubic: Path, data: Dataset, case: str) -> None:
    """Their parameters have the same name and shape, and were taken with another meaning."""
    where = f"train: neurons_from: {cubic}/config.json"
    config = replace(CUBIC, neurons_from=cubic, arguments=OTHER[case])
    with refused(
        ModelError, where, "the run has another neuron than this lnm",
        remedy="Name a run of the same neuron and sizes.",
    ):  # fmt: skip
        run(config, data=data)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"arguments": {"degree": 3, "decay": 0.3}},
        {"arguments": {"degree": 3, "surrogate": "sigmoid"}},
        {"arguments": {"degree": 3, "surrogate": sigmoid(3.0)}},
    ],
)
def test_neurons_of_the_same_definition_are_taken(
    cubic: Path, data: Dataset, changes: dict[str, Any]
) -> None:
    """Initial values, which are replaced, and surrogates may differ."""
    learned = load_run(cubic, data).network.neurons[1].theta
    found = run(replace(CUBIC, neurons_from=cubic, lr_neuron=0.0, **changes), data=data)
    assert torch.equal(found.network.neurons[1].theta, learned)


def test_a_run_with_the_record_of_a_surrogate_gives_its_neurons(
    tmp_path: Path, data: Dataset
) -> None:
    arguments = {"degree": 2, "surrogate": sigmoid(3.0)}
    first = run(replace(SMALL, arguments=arguments), tmp_path / "first", data=data)
    found = run(replace(SMALL, neurons_from=tmp_path / "first", lr_neuron=0.0), data=data)
    assert torch.equal(found.network.neurons[0].theta, first.network.neurons[0].theta)


@pytest.mark.parametrize("arguments", [{}, {"tau": 3.0, "v_reset": None}])
def test_neurons_that_learn_nothing_take_nothing(
    cubic: Path, data: Dataset, arguments: dict[str, Any]
) -> None:
    """The run once began without a message, and nothing was taken."""
    config = replace(SMALL, family="lif", arguments=arguments, neurons_from=cubic)
    with refused(
        ModelError, "train: neurons_from", "lif has no learnable parameter to take",
        remedy="Make its parameters learnable; lr_neuron = 0 keeps those of the run.",
    ):  # fmt: skip
        run(config, data=data)


def test_neurons_of_a_folder_without_a_readable_config(
    cubic: Path, data: Dataset, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(cubic, tmp_path / "run"))
    config, path = replace(CUBIC, neurons_from=folder), folder / "config.json"
    whole = path.read_text()
    remedy = "Train again with lnm train, or name another run."
    for text, place, problem in (
        (whole[:-20], "", "not JSON"),
        (whole.replace('"epochs"', '"rounds"'), "", "no field 'rounds'"),
        (whole.replace('"family": "lnm"', '"family": "lmn"'), ": 'lmn'", "no built-in family"),
        ("{}", "", "no table 'config' in it"),
    ):
        path.write_text(text)
        with refused(ModelError, f"train: neurons_from: run: {path}{place}", problem):
            run(config, data=data)
    path.unlink()
    with refused(ModelError, "train: neurons_from: run", "no config.json in it", remedy=remedy):
        run(config, data=data)


def test_neurons_of_an_edited_definition_are_refused(tmp_path: Path, data: Dataset) -> None:
    """Both runs name the same file, and their parameters have the same shape."""
    file, folder = tmp_path / "own.toml", tmp_path / "run"
    text = lnm.get("lnm", degree=1).to_toml()
    file.write_text(text)
    config = replace(SMALL, family=str(file), arguments={}, epochs=1)
    run(config, folder, data=data)
    run(replace(config, neurons_from=folder), data=data)
    changed = text.replace("v_threshold", "2*v_threshold", 1)
    assert changed != text
    file.write_text(changed)
    where = f"train: neurons_from: run: {folder}/config.json: {file}"
    with refused(ModelError, where, "its definition has changed since the run"):
        run(replace(config, neurons_from=folder), data=data)


def test_neurons_that_a_history_omits(
    tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message once blamed the run for another neuron or other sizes."""
    monkeypatch.setattr("lnm_codegen.train.runs.saved.LARGEST_IN_HISTORY", 2)
    run(SMALL, tmp_path / "first", data=data)
    with refused(
        ModelError, f"train: neurons_from: {tmp_path}/first/history.safetensors",
        "layer 0 takes theta with 3 numbers, and a history omits parameters of more than 2",
        remedy="Learn per channel or per layer",
    ):  # fmt: skip
        run(replace(SMALL, neurons_from=tmp_path / "first"), data=data)


def test_a_run_resumes_without_the_run_it_started_from(
    tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint has the parameters learned since."""
    run(SMALL, tmp_path / "first", data=data)
    config = replace(SMALL, neurons_from=tmp_path / "first", epochs=2)
    stopped, whole = tmp_path / "stopped", run(config, data=data)
    with monkeypatch.context() as context:
        context.setattr(RunFolder, "save_tensors", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(config, stopped, data=data)
    shutil.rmtree(tmp_path / "first")
    found = run(config, stopped, resume=True, data=data)
    assert [e.loss for e in found.epochs] == [e.loss for e in whole.epochs]


@pytest.mark.slow
@pytest.mark.needs_cc
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_under_torch_compile(data: Dataset) -> None:
    """The compiled network trains to nearly the same loss."""
    config = replace(SMALL, backend="c", epochs=3)
    plain, compiled = (run(replace(config, compile=c), data=data) for c in (False, True))
    assert compiled.epochs[-1].loss == pytest.approx(plain.epochs[-1].loss, rel=0.02)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_two_compiled_networks(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second once trained with the kernels of the first."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    for surrogate in ("atan", "straight_through"):
        given = {"degree": 2, "surrogate": surrogate}
        config, found = replace(SMALL, arguments=given, network_arguments={"channels": (3,)}), []
        for is_compiled in (False, True):
            network = network_of(config, data)
            trainer = Trainer(replace(config, compile=is_compiled), network, data)
            trainer.step(*next(data.batches(data.train, 8)))
            found.append([p.grad for p in network.parameters()])
        for plain, compiled in zip(*found, strict=True):
            torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-6)


def test_events_for_tensorboard(tmp_path: Path, data: Dataset) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    run(replace(SMALL, tensorboard=True), tmp_path / "run", data=data)
    assert list((tmp_path / "run" / "events").iterdir())


def test_events_without_tensorboard_keep_the_old_run(
    tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`force` once deleted the run before the import failed."""
    run(SMALL, tmp_path / "run", data=data)
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with refused(ToolError, "train", "tensorboard is not installed", remedy="Run pip install"):
        run(replace(SMALL, tensorboard=True), tmp_path / "run", force=True, data=data)
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before


@pytest.mark.filterwarnings("error")
def test_float16_trains_and_stops_at_nan(data: Dataset) -> None:
    """The scaler may skip a step whose gradient overflows, but not every step."""
    config = replace(SMALL, precision="float16", epochs=12, ema=0.5)
    epochs = run(config, data=data).epochs
    assert epochs[-1].loss < 0.97 * epochs[0].loss
    network = network_of(config, data)
    with torch.no_grad():
        network.blocks[1].conv.weight[0] = math.nan
    with pytest.raises(DivergedError, match=r"^train: the gradient of .* is not finite at step 21"):
        list(fit(config, network, data))


def test_an_unknown_device_is_refused(data: Dataset) -> None:
    for device in ("meta", "tpu"):
        with refused(ModelError, "train", f"device is {device!r}", "cpu, cuda, cuda:1"):
            run(replace(SMALL, device=device), data=data)


def test_a_step_that_diverged_leaves_the_statistics_of_normalisations(data: Dataset) -> None:
    """One sample with a NaN: batch norm would keep it for good."""
    network = network_of(SMALL, data)
    trainer = Trainer(SMALL, network, data)
    x, labels = next(data.batches(data.train, 8))
    trainer.step(x, labels)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    assert any("running_mean" in k for k in before)
    x[0] = math.nan
    with pytest.raises(DivergedError, match=r"not finite: correct the data\.$"):
        trainer.step(x, labels)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_a_loss_that_is_not_finite_stops_the_run(data: Dataset) -> None:
    """The softmax of logits that are too far apart has an infinite loss and a finite gradient."""
    network = network_of(SMALL, data)
    with torch.no_grad():
        network.readout.bias.fill_(-3e38)
        network.readout.bias[0] = 3e38
    trainer = Trainer(SMALL, network, data)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(DivergedError, match=r"^train: the loss is not finite at step 1, epoch 1;"):
        trainer.step(*next(data.batches(data.train, 8)))
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_a_batch_without_labels_has_no_loss() -> None:
    """Its mean over labelled steps would be 0/0."""
    labels = torch.tensor([[IGNORED] * 3, [IGNORED] * 3, [0, IGNORED, 1], [1, 1, 0]])
    split = memory_split(torch.rand(4, 3, 2), labels)
    steps = Dataset("mine", split, split, 2, "sequence", (3, 2), per_step=True)
    config = replace(SMALL, network="feedforward", network_arguments={"hidden": (4,)}, batch=2)
    network = network_of(config, steps)
    trainer = Trainer(config, network, steps)
    before = network.readout.linear.weight.clone()
    x, own = split.images.transpose(0, 1), labels.t()
    assert trainer.step(x[:, :2], own[:, :2]) == (0.0, 0, 0)
    assert torch.equal(network.readout.linear.weight, before)
    loss, _, predictions = trainer.step(x[:, 2:], own[:, 2:])
    assert loss > 0
    assert predictions == 5


@pytest.mark.parametrize("fields", [{}, {"label_smoothing": 0.2}, TET | {"tet_weight": 0.0}])
@pytest.mark.parametrize("seed", range(3))
def test_the_loss_of_an_epoch_is_the_mean_over_predictions(
    fields: dict[str, Any], seed: int
) -> None:
    """It was a mean over samples: a batch without a label entered as 0, and lowered it."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (40, 5), generator=draw)
    labels[torch.rand(40, 5, generator=draw) < 0.7] = IGNORED
    labels[:10] = IGNORED
    x = torch.randn(40, 5, 3, generator=draw)
    mine = from_arrays(x, labels, x, labels, scale="raw")
    config = TrainConfig(
        network="feedforward", network_arguments={"hidden": [6]}, backend="torch", family="lif",
        epochs=1, lr=0.0, lr_neuron=0.0, threads=1, **fields,
    )  # fmt: skip
    whole, *parts = (
        run(replace(config, batch=batch), data=mine).epochs[0].loss for batch in (40, 7, 1)
    )
    assert parts == [pytest.approx(whole, rel=1e-5)] * 2


def test_spikes_of_either_sign_are_counted(data: Dataset) -> None:
    config = replace(SMALL, family="ternary", arguments={})
    network = network_of(config, data)
    x, _ = next(data.batches(data.train, 8))
    fired = []
    for layer in network.neurons:
        layer.register_forward_hook(lambda *args: fired.append(float((args[2] != 0).sum())))
    with counting(network.neurons, [-2.0] * len(network.neurons)) as counts:
        network(x)
    assert [c.fired for c in counts] == fired
    assert all(fired)


def test_an_output_that_is_no_spike_has_no_rate() -> None:
    """A potential below the threshold is not 0, and is no spike; a graded spike is one."""
    v, x = lnm.state("v"), lnm.input("x")
    for output, rate in ((v, 0), (lnm.spike * v, 2)):
        neuron = lnm.Neuron(charge={v: x}, fire=v - 1, output={"out": output})
        layer = NeuronLayer(neuron, backend="torch")
        with torch.no_grad(), counting((layer,), [None]) as counts:
            layer(torch.tensor([0.5, 0.0, 2.0, 3.0, -2.0]).reshape(1, 1, 5))
        assert (counts[0].fired, counts[0].seen) == (rate, 5)


def test_a_run_that_must_fail_leaves_no_folder(tmp_path: Path, data: Dataset) -> None:
    """The error comes before the folder, so the corrected run finds the folder free."""
    lif = replace(SMALL, family="lif", arguments={}, project=0.5)
    steep = replace(SMALL, project=5.0)
    for config, refusal in (
        (steep, refused(ModelError, "project", "for |x| <= 5 even the leak", "a smaller x_max")),
        (lif, refused(UnsupportedError, "lif", "no charge f(v) + x", "lnm of any form")),
    ):
        with refusal:
            run(config, tmp_path / "run", data=data)
        assert not (tmp_path / "run").exists()
    run(SMALL, str(tmp_path / "run"), data=data)


DENSE = {"hidden": (8,), "norm": "batch", "fused": False}


@pytest.mark.parametrize(
    ("network", "options"),
    [("recurrent", {"hidden": (8,), "norm": "batch"}), ("feedforward", DENSE)],
)
def test_batch_norm_of_a_last_batch_of_one(
    network: str, options: dict[str, Any], tmp_path: Path, data: Dataset
) -> None:
    """33 images once ended in an error of PyTorch. One time step of one image has no statistics."""
    config = replace(
        SMALL, network=network, network_arguments=options, batch=47, epochs=1, arguments={}
    )  # fmt: skip
    run(config, tmp_path / "run", data=data)
    one = replace(config, network_arguments={**options, "time_steps": 1})
    problem = "the last of the batches of 47 has one sample of one time step"
    for fused in (False, True):
        options = {**one.network_arguments, "fused": fused}
        with refused(ModelError, "train", problem, remedy="Choose another batch, two or more"):
            run(replace(one, network_arguments=options), tmp_path / "one", data=data)
    assert not (tmp_path / "one").exists()
    run(replace(one, batch=46), data=data)


def test_batch_norm_of_one_pixel(data: Dataset) -> None:
    """Four poolings leave one token of an image, so a last batch of one has no statistics."""
    options = {"width": 8, "depth": 1, "halvings": 4, "time_steps": 1}
    config = replace(SMALL, network="transformer", network_arguments=options, batch=47, epochs=1)
    problem = "the last of the batches of 47 has one sample of one time step"
    with refused(ModelError, "train", problem, remedy="Choose another batch, two or more"):
        run(config, data=data)
