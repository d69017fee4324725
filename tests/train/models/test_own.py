"""Networks of the user: trained, saved, resumed, loaded, analysed, emitted; and what is refused."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import lnm_codegen as lnm
from lnm_codegen.cli import run as command
from lnm_codegen.errors import ModelError, ShapeError
from lnm_codegen.insight import analyze_run
from lnm_codegen.insight.page import run_page
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train import TrainConfig, from_arrays, load_run, neurons_of, run
from lnm_codegen.train.runs.config import OWN
from lnm_codegen.train.runs.folder import RunFolder
from tests.cases import CASES, ZOO
from tests.refusals import assert_refused, refused
from tests.train.small import stopped

T, N, F, C = 6, 24, 3, 2
FILE = """
import torch
from torch import nn
import lnm_codegen as lnm


class Chain(nn.Sequential):
    def __init__(self, neuron, sample, classes, backend, hidden=5):
        super().__init__(
            nn.Linear(sample[-1], hidden),
            lnm.nn.NeuronLayer(neuron, channels=hidden, backend=backend),
            nn.Linear(hidden, classes),
            lnm.nn.NeuronLayer(lnm.get("li"), backend=backend),
        )


class Dendritic(nn.Module):
    def __init__(self, hidden=5):
        super().__init__()
        v, d, soma, dendrite = lnm.state("v"), lnm.state("d"), lnm.input("soma"), lnm.input("x")
        tau = lnm.param("tau", init=3.0, learnable=True)
        neuron = lnm.Neuron(
            charge={d: d + (dendrite - d) / tau, v: (v + soma + d) / 2},
            fire=v - 0.3, reset=lnm.hard_reset(v, 0.0),
        )
        self.soma, self.dendrite = nn.LazyLinear(hidden), nn.LazyLinear(hidden)
        self.neurons = lnm.nn.NeuronLayer(neuron, backend="torch")
        self.readout = nn.LazyLinear(2)

    def forward(self, x):
        return self.readout(self.neurons(self.soma(x), self.dendrite(x)))


def function(sample):
    return 3


def broken(classes):
    raise KeyError("no such thing")
"""


def data(kind: str = "sequence", per_step: bool = False, seed: int = 0) -> Any:
    draw = torch.Generator().manual_seed(seed)
    shape = (N, T, F) if kind == "sequence" else (N, 1, 2, F)
    x = torch.rand(shape, generator=draw) * 2
    y = torch.randint(0, C, (N, T) if per_step else (N,), generator=draw)
    y.flatten()[:C] = torch.arange(C)
    named: Any = {"kind": kind, "name": "drawn"}
    return from_arrays(x, y, x[:10], y[:10], **named)


CONFIG = TrainConfig(epochs=2, batch=8, backend="torch", threads=1)


class Net(nn.Module):
    """Linear, neurons, linear, over a sequence or step by step."""

    def __init__(self, steps: bool = False, neuron: Any = None, out: int = C, **options: Any):
        super().__init__()
        torch.manual_seed(3)
        self.steps = steps
        self.first, self.second = nn.Linear(F, 5), nn.Linear(5, out)
        mode: Any = "s" if steps else "m"
        neuron = lnm.get("lif", v_threshold=0.3) if neuron is None else neuron
        self.layer = NeuronLayer(neuron, step_mode=mode, backend="torch", **options)

    def forward(self, x: Tensor) -> Tensor:
        current = self.first(x)
        spikes = torch.stack(list(map(self.layer, current))) if self.steps else self.layer(current)
        out: Tensor = self.second(spikes)
        return out


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize("name", ["Chain", "Dendritic"])
def test_a_network_of_a_file(name: str, file: Path, tmp_path: Path) -> None:
    """Resumed after a kill it has the weights of an uninterrupted run, and it is analysed."""
    config = replace(CONFIG, network=f"mine.py:{name}", network_arguments={"hidden": 4})
    config = replace(config, family="lif") if name == "Chain" else config
    samples = data()
    whole = run(config, tmp_path / "whole", data=samples)
    with stopped(RunFolder, "save_metrics", 1):
        run(config, tmp_path / "parts", data=samples)
    parts = run(config, tmp_path / "parts", data=samples, resume=True)
    assert [e.loss for e in parts.epochs] == [e.loss for e in whole.epochs]
    files = [load_file(tmp_path / n / "model.safetensors") for n in ("whole", "parts")]
    assert all(torch.equal(files[0][k], files[1][k]) for k in files[0])
    assert len(whole.epochs[-1].rates) == len(neurons_of(whole.network)) == 1 + (name == "Chain")
    loaded = load_run(tmp_path / "whole", data=samples)
    assert loaded.config.family == ("lif" if name == "Chain" else OWN)
    assert all(torch.equal(files[0][k], v) for k, v in loaded.network.state_dict().items())
    if name == "Chain":
        return
    found = analyze_run(loaded)
    assert found.accuracy == whole.epochs[-1].test_accuracy
    assert found.energy.mac > 0
    assert name in run_page(found)


def test_a_module_given_in_python(tmp_path: Path) -> None:
    """It is trained in place. Loading and resuming ask for it, and refuse another."""
    samples, network = data(), Net()
    result = run(CONFIG, tmp_path / "run", data=samples, network=network)
    assert result.network is network
    assert result.config.network == "Net"
    loaded = load_run(tmp_path / "run", data=samples, network=Net())
    assert torch.equal(loaded.network.first.weight, network.first.weight)
    with refused(ModelError, problem="of your own, a Net", remedy="network= of load_run"):
        load_run(tmp_path / "run", data=samples)
    with refused(ModelError, problem="of your own, a Net", remedy="network= of load_run"):
        run(replace(CONFIG, network="Net"), tmp_path / "run", data=samples, resume=True)
    resumed = run(CONFIG, tmp_path / "run", data=samples, network=Net(), resume=True)
    assert resumed.epochs == result.epochs
    other = Net(neuron=lnm.get("lif", v_threshold=0.3, tau=4.0))
    for again in (
        lambda: load_run(tmp_path / "run", data=samples, network=other),
        lambda: run(CONFIG, tmp_path / "run", data=samples, network=other, resume=True),
    ):
        with refused(ModelError, problem="the neuron of 'layer' has changed"):
            again()
    with refused(ModelError, problem="network is 3"):
        wrong: Any = 3
        run(CONFIG, data=samples, network=wrong)


def test_a_network_given_again_is_named() -> None:
    """It would go on from the weights of the run before, which a loop over seeds does not want."""
    samples, network = data(), Net()
    run(CONFIG, data=samples, network=network)
    run(CONFIG, data=samples, network=Net())
    with pytest.warns(UserWarning, match="an earlier run has trained this Net"):
        run(CONFIG, data=samples, network=network)


def test_changed_source_is_named(file: Path, tmp_path: Path) -> None:
    """Resuming and loading go on with a warning, for the change may be harmless."""
    config = replace(CONFIG, network=f"{file}:Dendritic")
    run(config, tmp_path / "run", data=data())
    text = file.read_text()
    file.write_text(text.replace("def forward(self, x):", "def forward(self, x):  # the same"))
    load_run(tmp_path / "run", data=data())
    file.write_text(text.replace("self.readout(", "self.readout(2 * "))
    with pytest.warns(UserWarning, match="the source of Dendritic has changed since the run"):
        load_run(tmp_path / "run", data=data())
    with pytest.warns(UserWarning, match="the source of Dendritic has changed since the run"):
        run(config, tmp_path / "run", data=data(), resume=True)


def test_other_modules_without_parameters_are_named(tmp_path: Path) -> None:
    """They fit the weights, and the outputs are others."""
    file, out = tmp_path / "net.py", tmp_path / "run"
    linear = "nn.Linear(sample[-1], hidden)"
    text = FILE.replace(linear, f"nn.Dropout(0.0), {linear}")
    file.write_text(text)
    run(replace(CONFIG, network=f"{file}:Chain"), out, data=data())
    for was, now, said in (
        ("nn.Dropout(0.0)", "nn.Softmax(-1)", "'0' is Softmax.*, and in the run Dropout"),
        ("=hidden, backend", "=hidden, arithmetic=lnm.Fixed(8, 4), backend", "'2' is .*Q4.4"),
    ):
        assert was in text
        file.write_text(text.replace(was, now))
        with pytest.warns(UserWarning, match=said):
            load_run(out, data=data())


@pytest.mark.parametrize("options", [{"steps": True}, {"carry_state": True}])
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    "more", [{}, {"ema": 0.9}, pytest.param({"compile": True}, marks=pytest.mark.slow)]
)
def test_states_do_not_pass_from_batch_to_batch(
    options: dict[str, Any], more: dict[str, Any], tmp_path: Path
) -> None:
    """Layers that keep their states are trained and tested as those that begin anew."""
    config, samples = replace(CONFIG, **{"epochs": 1, **more}), data()
    plain = run(replace(config, compile=False), data=samples, network=Net())
    kept = run(config, data=samples, network=Net(**options))
    for a, b in zip(plain.epochs, kept.epochs, strict=True):
        assert (a.loss, *a.rates) == pytest.approx((b.loss, *b.rates), rel=1e-5)
        assert (a.test_accuracy, a.outside) == (b.test_accuracy, b.outside)


def test_options_apply_to_a_network_of_the_user(tmp_path: Path) -> None:
    """`project` moves theta of this layer too."""
    every: tuple[dict[str, Any], ...] = (
        {"penalty": 1.0}, {"project": 1.0}, {"pack_spikes": True}, {"precision": "bfloat16"},
        {"ema": 0.9, "loss": "tet"}, {"optimizer": "sgd", "validation": 4, "label_smoothing": 0.1},
    )  # fmt: skip
    neuron = lnm.get("lnm", degree=3, v_min=-2.0)
    for k, options in enumerate(every):
        network = Net(neuron=neuron)
        with torch.no_grad():
            network.layer.theta[1] = 2.0
        run(replace(CONFIG, **options), tmp_path / str(k), data=data(), network=network)
        assert bool(network.layer.theta[1].abs() < 1) is ("project" in options)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CASES, *ZOO])
def test_any_neuron_is_trained(name: str, tmp_path: Path) -> None:
    """Those with several inputs and outputs too: dendrites, masks, gates."""

    class Several(Net):
        def __init__(self) -> None:
            neuron = {**CASES, **ZOO}[name]()
            super().__init__(neuron=neuron, channels=5, shape=(5,))
            self.more = nn.ModuleList(nn.Linear(F, 5) for _ in neuron.inputs[1:])

        def forward(self, x: Tensor) -> Tensor:
            out = self.layer(self.first(x), *(one(x) for one in self.more))
            logits: Tensor = self.second(out[0] if isinstance(out, tuple) else out)
            return logits

    run(CONFIG, tmp_path / "run", data=data(), network=Several())
    loaded = load_run(tmp_path / "run", data=data(), network=Several())
    assert "Energy" in run_page(analyze_run(loaded))


def test_images_and_labels_per_step() -> None:
    """A network for images makes its own time steps."""

    class Image(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x[:, 0, 0].expand(3, len(x), F)).mean(0)

    assert len(run(CONFIG, data=data("image"), network=Image()).epochs) == 2
    assert run(CONFIG, data=data(per_step=True), network=Net()).epochs[-1].test_accuracy is not None
    with refused(ShapeError, problem="it returns (2, 2)", accepted="(6, 2, 2)") as caught:

        class Mean(Net):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x).mean(0)

        run(CONFIG, data=data(per_step=True), network=Mean())
    assert "(N, classes)" not in str(caught.value)


class Leaking(Net):
    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        out = out + getattr(self, "last", torch.zeros(()))
        self.last = out.detach().mean()
        return out


class Foreign(Net):
    def __init__(self) -> None:
        super().__init__()
        jelly = pytest.importorskip("spikingjelly.activation_based.neuron")
        self.foreign = jelly.LIFNode()


class Failing(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.first(x[..., :2])


class Two(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


NETWORKS = """
*
    nn.Linear(F, C) >> Linear has no neuron layer
    Foreign() >> 'foreign' is a LIFNode of another library
    Failing() >> at test_own.py
    Leaking() >> two runs on the same samples differ
    Net().requires_grad_(False) >> no parameter with requires_grad
"""
OUTPUTS = """
*
    Net(out=3) >> it returns (6, 2, 3) for a batch (6, 2, 3)
    nn.Sequential(Net(), nn.Softmax(-1), Two()) >> it returns a tuple
"""
REFERENCES = """
*
    "mine.py:Chain", width=3 >> no argument 'width'
    "mine.py:function" >> it returns a int
    "mine.py:broken" >> KeyError
    "mine.py:nn" >> a module
    "mine.py:Nix" >> no 'Nix' in it
    "torch.nn:Linear" >> imported there
"""


@pytest.mark.filterwarnings("ignore:lnm.nn.reset")
def test_other_networks_are_refused(file: Path, tmp_path: Path) -> None:
    """In a line, before a file is written."""
    out = tmp_path / "run"

    def given(text: str) -> None:
        run(CONFIG, out, data=data(), network=eval(text, globals()))

    def named(text: str) -> None:
        name, options = eval(f"(lambda name, **given: (name, given))({text})")
        run(replace(CONFIG, network=name, network_arguments=options), out, data=data())

    assert_refused(NETWORKS, {}, run=given)
    assert_refused(OUTPUTS, {}, ShapeError, given)
    assert_refused(REFERENCES, {}, run=named)
    assert not (out / "config.json").exists()


def test_a_family_that_no_network_takes_is_refused(file: Path) -> None:
    """Else two neurons would be compared that are the same."""
    config = replace(CONFIG, network="mine.py:Dendritic", family="lif", arguments={"tau": 3.0})
    with refused(ModelError, problem="the network takes no neuron, and the run names 'lif'"):
        run(config, data=data())
    with refused(ModelError, problem="the network takes no neuron"):
        run(replace(CONFIG, family="lif"), data=data(), network=Net())
    with refused(ModelError, problem="neurons of its own"):
        run(replace(CONFIG, neurons_from=Path("x")), data=data(), network=Net())


@pytest.mark.needs_cc
def test_a_chain_on_the_command_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained, resumed, analysed, quantised, emitted; a network that is no chain is refused."""
    words = "--data digits-rows --limit 40 --epochs 1 --net hidden=6 --train backend=torch"
    for name, family in (("Chain", "--family lif"), ("Dendritic", "")):
        text = textwrap.dedent(FILE).replace("LazyLinear(2)", "LazyLinear(10)")
        file.write_text(text)
        line = f"train --network mine.py:{name} {family} {words} --out {name}"
        assert command(line.split()) == 0, capsys.readouterr().err
        assert command(f"train --resume --out {name}".split()) == 0
    assert command("deploy Chain --backend c --out mcu".split()) == 0
    assert command("quantize Chain --samples 20 --lost 100 --out formats".split()) == 0
    assert "digits_rows_lif_and_li" in (Path("mcu") / "README.md").read_text()
    capsys.readouterr()
    assert command("deploy Dendritic --backend c --out no".split()) == 2
    assert "a Dendritic" in capsys.readouterr().err
    assert not Path("no").exists()
    file.unlink()
    assert command("analyze Chain".split()) == 2
    assert "Run the command there" in capsys.readouterr().err
