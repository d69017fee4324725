"""Networks of one's own in integers: nn.Sequential, and modules with a chain."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lnm_codegen as lnm
from lnm_codegen.deploy import emit_network
from lnm_codegen.deploy.integers.convert import integer_samples
from lnm_codegen.deploy.integers.emit import NetworkTarget, with_unique_name
from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.hardware.folder import read_circuit
from lnm_codegen.ir.network.exchange import read_network
from lnm_codegen.ir.network.interpret import interpret_network, score_rows
from lnm_codegen.ir.network.nodes import WeightStage
from lnm_codegen.nn import NeuronLayer, NormNeuron, RecurrentLayer, Residual
from lnm_codegen.nn.chain import Chain
from tests.backends.verilog.runs import needs_iverilog
from tests.deploy.integers.runs import chained, images, layer
from tests.deploy.integers.test_emit import scores_of
from tests.refusals import assert_refused, refused

VERILOG = NetworkTarget("verilog")
LIF = lnm.get("lif", tau=2.0, v_threshold=0.3)


def x_seq(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def dense() -> nn.Sequential:
    torch.manual_seed(1)
    hidden = nn.Sequential(nn.Linear(6, 9), nn.Dropout(), NormNeuron(LIF, 9, backend="torch"))
    return nn.Sequential(nn.Flatten(2), hidden, nn.Linear(9, 3), layer(lnm.get("li", tau=2.0), 3))


def convolution() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Flatten(0, 1), nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Unflatten(0, (4, 12)),
        layer(LIF, 3, 4, 4), nn.Flatten(0, 1), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 3),
        nn.Unflatten(0, (-1, 12)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "over"), [(dense, "mean"), (convolution, "last"), (convolution, "max")]
)
def test_a_sequential_network(make: Callable[[], nn.Module], over: str, tmp_path: Path) -> None:
    """The folder's network has the scores of the module, and its example those of the network."""
    module, x = make(), x_seq(4, 12, 2, *((3,) if make is dense else (6, 6)))
    module.train()
    module(x)  # running statistics
    made = emit_network(module, x, over=over, weights=16, vectors=3)
    assert module.training, "the mode is restored"
    made.write(tmp_path)
    network = read_network(tmp_path)
    found = interpret_network(network, integer_samples(network, x.numpy()))
    np.testing.assert_array_equal(scores_of(made.files(), network), found.scores[:3])
    with torch.no_grad():
        out = module.eval()(x)
    expected = {"mean": out.sum(0), "last": out[-1], "max": out.amax(0)}[over].numpy()
    error = np.abs(found.scores / 2.0**network.scores.frac - expected)
    assert np.mean(error < 0.02) > 0.9
    assert np.ptp(expected, axis=0).max() > 0.2  # scores differ from sample to sample


def lif(*shape: int) -> NeuronLayer:
    return layer(LIF, *shape)


def residual(form: str) -> nn.Sequential:
    """Return a network with shortcuts around neurons, or of currents, or with its own weights."""
    torch.manual_seed(4)
    made = {
        "spikes": lambda: (
            nn.Linear(6, 8), lif(8), Residual(nn.Linear(8, 8), lif(8)),
            Residual(nn.Linear(8, 8), lif(8), nn.Linear(8, 8), lif(8)), nn.Linear(8, 3),
        ),
        "currents": lambda: (
            nn.Linear(6, 8), Residual(lif(8), nn.Linear(8, 8)), Residual(lif(8), nn.Linear(8, 8)),
            lif(8), nn.Linear(8, 3),
        ),
        "weights": lambda: (
            Residual(nn.Linear(6, 8), lif(8), nn.Linear(8, 5), shortcut=nn.Linear(6, 5)), lif(5),
            nn.Linear(5, 3),
        ),
        "nested": lambda: (
            Residual(Residual(nn.Linear(6, 6), lif(6)), nn.Linear(6, 6)), lif(6), nn.Linear(6, 3),
        ),
        "frames": lambda: (
            nn.Flatten(0, 1), nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4),
            nn.Unflatten(0, (4, -1)), lif(4, 3, 1),
            Residual(nn.Flatten(0, 1), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4),
                     nn.Unflatten(0, (4, -1)), lif(4, 3, 1)),
            nn.Flatten(2), nn.Linear(12, 3),
        ),
    }  # fmt: skip
    module = nn.Sequential(*made[form]())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter *= 2
    return module


@pytest.mark.parametrize("form", ["spikes", "currents", "weights", "nested", "frames"])
def test_shortcuts(form: str, tmp_path: Path) -> None:
    """The scores of the module in NumPy, and those of NumPy in C."""
    module, x = residual(form), x_seq(4, 12, *((2, 3, 1) if form == "frames" else (6,)))
    module.train()
    module(x)
    made = emit_network(module, x, weights=16, vectors=3)
    made.write(tmp_path)
    network = read_network(tmp_path)
    found = interpret_network(network, integer_samples(network, x.numpy()))
    np.testing.assert_array_equal(scores_of(made.files(), network), found.scores[:3])
    with torch.no_grad():
        expected = module.eval()(x).sum(0).numpy()
    error = np.abs(found.scores / 2.0**network.scores.frac - expected)
    assert np.mean(error < 0.02) > 0.9
    assert np.ptp(expected, axis=0).max() > 0.2
    assert min(found.spikes.values()) > 0


def test_shortcuts_that_do_not_fit() -> None:
    with refused(ShapeError, "Residual", "(4, 2, 5), the shortcut (4, 2, 6)", "", "shortcut="):
        Residual(nn.Linear(6, 5))(x_seq(4, 2, 6))
    with refused(ModelError, "Residual", "shortcut is 3", "a torch.nn.Module"):
        Residual(nn.Linear(6, 5), shortcut=3)
    with refused(ModelError, "Residual", "no modules", "one or more"):
        Residual()
    wide = nn.Sequential(
        nn.Linear(6, 5), lif(5), Residual(nn.Linear(5, 4), lif(4)), nn.Linear(4, 3)
    )
    parts = ("an addition of shapes (4,) and (5,)", "two equal shapes", "Give shortcut=")
    with refused(UnsupportedError, "network: 2", *parts):
        emit_network(wide, x_seq(4, 12, 6))
    same = nn.Sequential(nn.Linear(6, 5), Residual(nn.Dropout()), lif(5), nn.Linear(5, 3))
    with refused(UnsupportedError, "network: 1", "both addends are the same", "two stages"):
        emit_network(same, x_seq(4, 12, 6))
    frames = Residual(nn.Flatten(0, 1), nn.Conv2d(2, 2, 1))
    with refused(UnsupportedError, "emit_network: 0", "one of body and shortcut has outputs (T*N"):
        emit_network(nn.Sequential(frames, nn.Flatten(2), nn.Linear(9, 3)), x_seq(4, 2, 2, 3, 3))


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        (None, "inputs is None"),
        ({"second": ("nowhere",)}, "an input of 'second' is 'nowhere'"),
        ({"first": ("second",)}, "an input of 'first' is 'second'"),
        ({"nowhere": ("first",)}, "a path of inputs is 'nowhere'"),
    ],
)
def test_inputs_of_a_chain_that_are_none(inputs: Any, problem: str) -> None:
    network, own = chained(), chained().chain()
    network.chain = lambda: replace(own, inputs=inputs)  # type: ignore[method-assign]
    with refused(ModelError, "emit_network: chain()", problem):
        emit_network(network, images())


def recurrent(form: str, delay: int) -> nn.Sequential:
    """Return a layer with W and b, and one after a linear layer, with other connections."""
    torch.manual_seed(3)
    forms: dict[str, dict[str, Any]] = {
        "full": {},
        "mask": {"recurrent": torch.rand(8, 8) < 0.5},
        "diagonal": {"recurrent": "diagonal"},
        "blocks": {"blocks": 2},
    }
    first = RecurrentLayer(LIF, 9, inputs=6, delay=delay, backend="torch")
    second = RecurrentLayer(LIF, 8, bias=True, backend="torch", **forms[form])
    return nn.Sequential(first, nn.Linear(9, 8), second, nn.Linear(8, 3))


@pytest.mark.parametrize("over", ["step", "mean"])
@pytest.mark.parametrize(
    ("form", "delay"), [("full", 1), ("diagonal", 2), ("blocks", 3), ("mask", 1)]
)
def test_recurrent_layers(form: str, delay: int, over: str, tmp_path: Path) -> None:
    """The scores of the module, of each step or their mean, in NumPy and in C."""
    module, x = recurrent(form, delay), x_seq(9, 12, 6)
    made = emit_network(module, x, over=over, weights=16, vectors=3)
    made.write(tmp_path)
    network = read_network(tmp_path)
    delays = [s.delay for s in network.stages if isinstance(s, WeightStage)]
    assert delays == [delay, 1, 0]
    found = interpret_network(network, integer_samples(network, x.numpy()))
    rows = score_rows(network, found.scores)
    np.testing.assert_array_equal(scores_of(made.files(), network), rows[:3].reshape(-1, 3))
    with torch.no_grad():
        out = module(x)
    expected = (out if over == "step" else out.sum(0)).numpy()
    error = np.abs(found.scores / 2.0**network.scores.frac - expected)
    assert np.mean(error < 0.02) > 0.9
    assert np.ptp(expected, axis=0).max() > 0.2


def test_recurrent_layers_without_a_form_in_integers() -> None:
    x = x_seq(9, 12, 6)
    learned = RecurrentLayer(LIF, 9, inputs=6, delay=lnm.nn.Delay(9, 3, least=1), backend="torch")
    with refused(UnsupportedError, "network: 0", "a Delay has no integers", "in whole steps"):
        emit_network(nn.Sequential(learned, nn.Linear(9, 3)), x)
    lazy = RecurrentLayer(LIF, 9, inputs="lazy", backend="torch")
    with refused(ModelError, "emit_network", "'0.weight' has no shape yet", "", "Call the module"):
        emit_network(nn.Sequential(lazy, nn.Linear(9, 3)), x)
    with refused(UnsupportedError, "network: 0", "U of a recurrent layer without weights before"):
        emit_network(nn.Sequential(RecurrentLayer(LIF, 6, backend="torch"), nn.Linear(6, 3)), x)
    li = RecurrentLayer(lnm.get("li", tau=2.0), 6, feedback="out", backend="torch")
    with refused(UnsupportedError, "network: 1", "U reads 'out'", "feedback of spikes"):
        emit_network(nn.Sequential(nn.Linear(6, 6), li), x)


@pytest.mark.parametrize(
    ("feedback", "problem"),
    [
        (None, "feedback is None"),
        ({"nowhere": nn.Linear(5, 5, bias=False)}, "'nowhere'"),
        ({"second": nn.Linear(5, 5)}, "feedback of 'second'"),
        ({"second": torch.zeros(5, 5)}, "feedback of 'second'"),
    ],
)
def test_feedback_of_a_chain_that_is_none(feedback: Any, problem: str) -> None:
    module = chained()
    made = replace(module.chain(), feedback=feedback)
    module.chain = lambda: made  # type: ignore[method-assign]
    with refused(ModelError, "emit_network: chain()", problem):
        emit_network(module, images())


def test_a_module_with_a_chain(tmp_path: Path) -> None:
    """Such as the networks of lnm.train: a sample may be one step, repeated."""
    made = emit_network(chained(), images(), name="own")
    assert made.network.repeated
    assert made.network.input_shape == (2, 6, 6)
    assert tmp_path / "own.c" in made.write(tmp_path)
    with refused(ModelError, "emit_network", "over is 'last'", "chain() has it", "Omit it."):
        emit_network(chained(), images(), over="last")


@needs_iverilog
def test_two_networks_are_in_one_design(tmp_path: Path) -> None:
    """By default their modules have other names, and their cores other versions."""
    modules, files = ["module both;"], []
    for k in range(2):
        torch.manual_seed(k)
        net = of(nn.Linear(6, 5), layer(LIF, 5), nn.Linear(5, 2))
        made = emit_network(net, x_seq(2, 3, 6), "verilog", vectors=1)
        made.write(tmp_path / f"{k}")
        circuit = read_circuit(tmp_path / f"{k}", "verify")
        assert re.fullmatch(r"network_[0-9a-f]{8}", circuit.name)
        assert with_unique_name(replace(made.network, name="network"), VERILOG).name == circuit.name
        modules.append(f"    {circuit.name}_network dut_{k} (.clk(1'b0));")
        files += [str(tmp_path / f"{k}" / file) for file in circuit.forms["network"].files]
    assert len({Path(file).name for file in files}) == len(files)
    assert len({emit_network(net, x_seq(2, 3, 6), "verilog", lanes=n).network.name
                for n in (1, 2)}) == 2  # fmt: skip
    (tmp_path / "both.v").write_text("\n".join([*modules, "endmodule", ""]))
    command = ["iverilog", "-g2005", "-t", "null", "-s", "both", *files, tmp_path / "both.v"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_circuit_of_a_neuron_replaces_that_of_a_network(tmp_path: Path) -> None:
    """network.json, its arrays and the samples stayed, and no reader accepted the folder."""
    made = emit_network(of(nn.Linear(6, 2)), x_seq(2, 3, 6), "verilog", vectors=1, lanes=1)
    top = f"rtl/{made.network.name}_network.v"
    assert {top, "tb/samples.npz", "network.json"} <= made.files().keys()
    made.write(tmp_path)
    listed = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))["emitted"]
    assert listed == sorted(made.files())
    assert read_circuit(tmp_path, "verify").manifest["kind"] == "network"
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    source = lnm.emit(LIF, "verilog", spec=lnm.Fixed(12, 8), rtl=lnm.Rtl(("comb",)))
    source.write(tmp_path)
    left = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {*source.files, "notes.txt"}
    assert read_circuit(tmp_path, "verify").name == "lif"


def of(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(*modules, NeuronLayer(LIF, backend="torch"))


class Doubled(NeuronLayer):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def hooked() -> nn.Sequential:
    made = of(nn.Linear(6, 3))
    made[0].register_forward_hook(lambda module, args, out: 2 * out)
    return made


def changed() -> nn.Sequential:
    made = of(nn.Linear(6, 3))
    made[0].forward = lambda x: 3 * nn.functional.linear(x, made[0].weight)
    return made


def seq(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(*modules)


def made(module: object, **options: object) -> object:
    return emit_network(module, x_seq(4, 5, 6), **options)


def test_other_modules_are_refused() -> None:
    names = {**vars(nn), **globals()}
    assert_refused(
        """
emit_network
    made(Linear(6, 3)) >> the module is a Linear
    made(seq(Flatten(0, 1), Linear(6, 3))) >> the outputs are (T*N, *)
emit_network: 0
    made(of(BatchNorm1d(6))) >> BatchNorm1d(6, eps
    made(hooked()) >> the Linear has a forward hook
    made(changed()) >> a Linear has a forward of its own
emit_network: 1
    made(of(Linear(6, 3), ReLU())) >> ReLU() on (T, N,
    made(of(Linear(6, 3), Flatten())) >> Flatten(start
    made(seq(Linear(6, 3), Doubled(LIF, backend="torch"))) >> a Doubled has a forward of its own
    made(seq(Linear(6, 3), NeuronLayer(LIF, carry_state=True))) >> the layer keeps its states
emit_network: 2
    made(of(Flatten(0, 1), Linear(6, 3), Unflatten(0, (5, 4)))) >>
        Unflatten(dim=0, unflattened_size=(5, 4)) on (T*N, *)
    made(of(Linear(6, 3), Flatten(0, 1))) >> on (T*N, *)
network
    made(seq()) >> no linear layer and no convolution
    made(seq(Flatten(2))) >> no linear layer and no
network: 4 >> its
    emit_network(of(Flatten(0, 1), Conv2d(2, 3, 3), MaxPool2d(2), Unflatten(0, (-1, 5))),
        x_seq(4, 5, 2, 6, 6)) >> a pooling between weights and neurons
""",
        names,
        UnsupportedError,
    )
    assert_refused(
        """
emit_network
    made(of(Linear(5, 3))) >> the module does not run on samples (4,
    emit_network(dense(), x_seq(4, 12)) >> samples have shape (4, 12)
    emit_network(dense(), x_seq(4, 0, 6)) >> samples have shape (4, 0, 6)
    emit_network(dense(), x_seq(4, 12, 2, 3) > 0) >> samples are torch.bool
    emit_network(dense(), x_seq(4, 12, 2, 3).bfloat16()) >> samples are torch.bfloat16
    emit_network(dense(), x_seq(4, 12, 2, 3).double()) >> the module does not run on
""",
        names,
        ShapeError,
    )
    assert_refused(
        """
emit_network
    made("net") >> module is 'net'
    made(one(), backend="cuda") >> backend is 'cuda'
    made(one(), weights=17) >> weights is 17
    made(one(), vectors=13) >> vectors is 13
    made(one(), over="sum") >> over is 'sum'
    made(one(), lanes=2) >> lanes with backend c
    made(one(), load_port="no", backend="verilog") >> load_port is 'no'
""",
        names,
    )


def one() -> nn.Sequential:
    return of(nn.Linear(6, 3))


class Own(nn.Module):
    """A module with a chain."""

    def __init__(self, act: nn.Module, over: str = "mean", names: str = "fc act") -> None:
        super().__init__()
        torch.manual_seed(1)
        self.fc, self.act, self.over, self.names = nn.Linear(6, 3), act, over, names.split()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.fc(x)).mean(0)

    def chain(self) -> Chain:
        return Chain(tuple(zip(self.names, (self.fc, self.act), strict=True)), None, self.over)


class Squared(Own):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x**2)


def own(**options) -> Own:
    return Own(NeuronLayer(LIF, backend="torch", **options))


def own_with_hook() -> Own:
    made = own()
    made.fc.register_forward_hook(lambda module, args, out: 2 * out)
    return made


def test_chains_that_are_not_the_module_are_refused() -> None:
    """Integers of the chain were written, whatever the module computes."""
    assert made(own())
    assert_refused(
        """
emit_network: fc
    made(own_with_hook()) >> the Linear has a forward hook
emit_network: act
    made(Own(Doubled(LIF))) >> a Doubled has a forward of
    made(own(carry_state=True)) >> keeps its states
    made(own(arithmetic=lnm.Fixed(8, 4))) >> computes in integers
""",
        globals(),
        UnsupportedError,
    )
    assert_refused(
        """
emit_network: chain()
    made(Own(layer(LIF, 3), names="fc b")) >> 'b' is not the path of its NeuronLayer
    made(Own(layer(LIF, 3), "sum")) >> over is 'sum'
emit_network
    made(Own(layer(LIF, 3), "max")) >> chain() and the module differ
    made(Squared(layer(LIF, 3))) >> chain() and the module differ
""",
        globals(),
    )


def small(places: int, neuron: lnm.Neuron = LIF) -> tuple[nn.Sequential, torch.Tensor]:
    """Return a network and its samples, which are scaled by 2**-places, as are its weights."""
    torch.manual_seed(0)
    hidden = NeuronLayer(neuron, backend="torch")
    module = nn.Sequential(nn.Linear(6, 16), hidden, nn.Linear(16, 3, bias=False))
    with torch.no_grad():
        module[0].weight *= 2.0**places
    return module, x_seq(5, 64, 6) * 2.0**-places


@pytest.mark.parametrize(
    "places", [17, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3, 50))]
)
def test_small_samples_keep_their_integers(places: int, tmp_path: Path) -> None:
    """The fraction ended at 11 bits, so that samples of 1e-5 were all 0, without a word."""
    module, x = small(0)
    expected = emit_network(module, x).network
    found = interpret_network(expected, integer_samples(expected, x.numpy()))
    module, x = small(places)
    for backend in ("c", "verilog"):
        made = emit_network(module, x, backend)
        assert made.network.input.frac == expected.input.frac + places
        made.write(tmp_path / backend)
        network = read_network(tmp_path / backend)
        assert network.input == made.network.input
        own = interpret_network(network, integer_samples(network, x.numpy()))
        np.testing.assert_array_equal(own.scores, found.scores)


@pytest.mark.parametrize(
    ("places", "where", "problem", "remedy"),
    [
        (60, "input", "fraction bits in a width of 12", "Scale the samples up"),
        (-20, "input", "its values need 23 integer bits", "Scale the samples down"),
        (
            None,
            "1, x",
            "its values need 23 integer bits",
            "thresholds down. `lnm deploy` also",
        ),
    ],
)
def test_samples_beyond_every_format_are_refused(
    places: int | None, where: str, problem: str, remedy: str
) -> None:
    """Each remedy is one for a caller of emit_network, which takes no --format."""
    module, x = small(places or 0)
    with refused(ModelError, f"formats: {where}", problem, "", remedy):
        emit_network(module, x if places is not None else x * 2.0**20)


def test_numbers_that_round_to_0_have_a_note() -> None:
    """The command printed them alone."""
    assert emit_network(*small(0)).notes == ()
    note = "1: inv_tau rounds to 0 in this format; the decay of v rounds to 1"
    for backend in ("c", "verilog"):
        (found,) = emit_network(*small(0, lnm.get("lif", tau=1e6)), backend).notes
        assert found.startswith(note)


def with_number(path: str, value: float) -> nn.Sequential:
    """Return a module with one number of a parameter or a statistic replaced."""
    module = convolution()
    numbers = module.state_dict()[path]
    numbers.view(-1)[1] = value
    return module


def test_numbers_that_are_not_finite_are_refused() -> None:
    """They became the least integer, with a warning of NumPy; a sample needed 33 integer bits."""
    x = x_seq(4, 12, 2, 6, 6)
    paths = "1.weight 1.bias 2.weight 2.bias 2.running_mean 2.running_var 8.weight 8.bias".split()
    for value in (float("nan"), float("inf"), -float("inf")):
        for path in paths:
            place, _, word = path.partition(".")
            with refused(ModelError, f"network: {place}", f"{word} holds {value:g}", "finite num"):
                emit_network(with_number(path, value), x)
        x[1, 2, 0, 0, 0] = value
        with refused(ModelError, "emit_network", f"samples hold {value:g}", "finite numbers"):
            emit_network(convolution(), x)
        x[1, 2, 0, 0, 0] = 0


@pytest.mark.parametrize(
    ("change", "problem", "remedy"),
    [
        (
            nn.utils.parametrizations.weight_norm,
            "a parametrization of weight",
            "(module, 'weight')",
        ),
        (nn.utils.parametrizations.orthogonal, "a parametrization", "remove_parametrizations"),
        (nn.utils.weight_norm, "a forward hook", "torch.nn.utils.remove_weight_norm(module)"),
        (nn.utils.spectral_norm, "a forward hook", "torch.nn.utils.remove_spectral_norm(module)"),
        (
            lambda own: nn.utils.prune.l1_unstructured(own, "weight", 0.3),
            "a forward hook",
            "torch.nn.utils.prune.remove(module, 'weight')",
        ),
        (lambda own: own.register_forward_hook(print), "a forward hook", "handle.remove()"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_computed_weights_say_how_to_remove_them(change, problem: str, remedy: str) -> None:
    """The error showed the module, and a list of 300 characters."""
    own = nn.Linear(6, 8)
    change(own)
    module = nn.Sequential(own, NeuronLayer(lnm.get("lif")), nn.Linear(8, 3))
    with refused(UnsupportedError, "emit_network: 0", problem, "", remedy) as caught:
        emit_network(module, torch.rand(5, 20, 6))
    assert len(caught.value.accepted) < 100


def test_a_pruned_module_is_emitted_after_the_call_of_the_error() -> None:
    torch.manual_seed(0)
    own = nn.Linear(6, 8)
    nn.utils.prune.l1_unstructured(own, "weight", 0.5)
    module = nn.Sequential(own, NeuronLayer(lnm.get("lif", v_threshold=0.3)), nn.Linear(8, 3))
    nn.utils.prune.remove(own, "weight")
    made = emit_network(module, torch.rand(5, 20, 6) * 4)
    assert (made.network.stages[0].weight == 0).mean() >= 0.5


def test_a_frame_says_where_it_belongs() -> None:
    """A convolution on (T, N, *) is missing the flatten around it."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), NeuronLayer(lnm.get("lif")))
    remedy = "Put nn.Flatten(0, 1) before it, and nn.Unflatten(0, (T, N)) after it."
    with refused(UnsupportedError, "emit_network: 0", "on (T, N, *)", "NeuronLayer", remedy):
        emit_network(module, torch.rand(5, 2, 3, 8, 8))
