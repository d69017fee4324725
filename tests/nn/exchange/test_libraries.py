"""`to_nir` of models converted from SpikingJelly, snnTorch and Norse, which loop over time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lnm_codegen as lnm
from tests.nn.convert.peers import eager
from tests.refusals import refused

pytest.importorskip("nir")
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

T, N, WIDTH, HIDDEN, OUT = 12, 3, 6, 16, 5
DT = 1e-3


def sample(scale: float = 4.0) -> Tensor:
    return scale * torch.rand(T, N, WIDTH, generator=torch.Generator().manual_seed(0))


def snntorch(**options: Any) -> Any:
    snn = pytest.importorskip("snntorch")
    return snn.Leaky(**({"beta": 0.9, "reset_mechanism": "zero"} | options))


class Loop(nn.Module):
    """A network of snnTorch as its tutorials write it, which also returns the potentials."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.lif1 = nn.Linear(WIDTH, HIDDEN), snntorch(learn_beta=True, **options)
        self.fc2, self.lif2 = nn.Linear(HIDDEN, OUT), snntorch(**options)

    def forward(self, x: Tensor) -> Any:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, potentials = [], []
        for t in range(x.shape[0]):
            spk1, mem1 = self.lif1(self.fc1(x[t]), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
            potentials.append(mem2)
        return torch.stack(spikes), torch.stack(potentials)


class Image(Loop):
    """The same image at each of 10 steps."""

    def forward(self, x: Tensor) -> Any:
        mem1, mem2, spikes = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        for _ in range(10):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
        return torch.stack(spikes)


class Convolution(nn.Module):
    """Hidden states, a flattening and a shortcut in each step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.lif1 = nn.Conv2d(1, 4, 3, padding=1), snntorch(init_hidden=True)
        self.fc, self.lif2 = nn.Linear(64, 64), snntorch(init_hidden=True)

    def forward(self, x: Tensor) -> Tensor:
        spikes = [self.lif1(self.conv(step)).flatten(1) for step in x]
        return torch.stack([self.lif2(self.fc(spike) + spike) for spike in spikes])


def _sequential(module: Any, kinds: str) -> nn.Module:
    torch.manual_seed(0)
    first, last = (getattr(module, kind) for kind in kinds.split())
    layers = nn.Linear(WIDTH, HIDDEN), first(), nn.Linear(HIDDEN, OUT), last()
    made: nn.Module = getattr(module, "SequentialState", nn.Sequential)(*layers)
    return made


def norse_net(kinds: str) -> nn.Module:
    return _sequential(pytest.importorskip("norse.torch"), kinds)


def jelly_net() -> nn.Module:
    name = "spikingjelly.activation_based.neuron"
    return _sequential(pytest.importorskip(name, exc_type=ImportError), "LIFNode IFNode")


def hidden_net() -> nn.Module:
    torch.manual_seed(0)
    options = {"init_hidden": True}
    return nn.Sequential(
        nn.Linear(WIDTH, HIDDEN), snntorch(**options), nn.Linear(HIDDEN, OUT),
        snntorch(**options, output=True),
    )  # fmt: skip


NETS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "snntorch loop": (Loop, "LIF LIF"),
    "snntorch single-step": (hidden_net, "LIF LIF"),
    "spikingjelly single-step": (jelly_net, "LIF IF"),
    "norse cells": (lambda: norse_net("LIFCell LIFCell"), "CubaLIF CubaLIF"),
    "norse box cells": (lambda: norse_net("LIFBoxCell LIBoxCell"), "LIF LI"),
    "norse sequences": (lambda: norse_net("LIF LI"), "CubaLIF CubaLI"),
    "norse IAF": (lambda: norse_net("IAFCell LICell"), "IF CubaLI"),
}


def outputs(net: nn.Module, x: Tensor, steps: bool) -> Tensor:
    """Return the outputs of a model of a library, called as a user does."""
    if not steps:
        out = net(x)
        return out[0] if isinstance(out, tuple) else out
    state, outs = None, []
    for step in x:
        result = net(step, state) if hasattr(net, "stateful_layers") else net(step)
        outs.append(result[0] if isinstance(result, tuple) else result)
        state = result[1] if isinstance(result, tuple) else None
    return torch.stack(outs)


@pytest.mark.parametrize("name", NETS)
def test_the_graph_computes_what_the_library_does(name: str) -> None:
    """With and without our metadata."""
    make, kinds = NETS[name]
    x = sample(30.0 if "norse" in name else 4.0)
    with torch.no_grad():
        net = make()
        peer = copy.deepcopy(net)
        expected = outputs(peer, x, "loop" not in name and "sequences" not in name)
        assert 0.01 < float(expected.ne(0).double().mean())
        graph = lnm.nn.to_nir(eager(lnm.nn.convert(net)), x, dt=DT)
        nodes = [type(node).__name__ for node in graph.nodes.values()]
        assert [kind for kind in nodes if kind[0] in "CIL" and kind != "Input"] == kinds.split()
        for metadata in (True, False):
            if not metadata:
                for node in graph.nodes.values():
                    node.metadata = {}
            again = lnm.nn.from_nir(graph, dt=DT)
            torch.testing.assert_close(eager(again)(x), expected, rtol=1e-4, atol=1e-4)


def test_an_image_at_each_step_and_a_shortcut() -> None:
    for made, x in ((Image(), sample()[0]), (Convolution(), torch.rand(4, 2, 1, 4, 4) * 6)):
        net = eager(lnm.nn.convert(made))
        graph = lnm.nn.to_nir(net, x, dt=DT)
        assert graph.metadata["lnm"]["output_difference"] == 0
    assert ("lif1", "flatten_0") in graph.edges
    assert {("flatten_0", "fc"), ("flatten_0", "lif2"), ("fc", "lif2")} <= set(graph.edges)


@pytest.mark.parametrize("shape", [(3, 4), (4, 4)])
def test_parameters_that_broadcast_to_a_sample(shape: tuple[int, ...]) -> None:
    """beta (4,) belongs to the last axis, also where the first one has 4 neurons."""
    net = nn.Sequential(snntorch(beta=torch.linspace(0.1, 0.9, 4), init_hidden=True))
    x = torch.rand(T, N, *shape)
    with torch.no_grad():
        expected = outputs(copy.deepcopy(net), x, steps=True)
        graph = lnm.nn.to_nir(eager(lnm.nn.convert(net)), x, dt=DT)
        assert torch.equal(eager(lnm.nn.from_nir(graph, dt=DT))(x), expected)


def test_a_soft_reset_is_refused_and_approximated() -> None:
    net = eager(lnm.nn.convert(Loop(reset_mechanism="subtract")))
    words = "the charge of mem resets it a step late"
    with refused(lnm.UnsupportedError, "to_nir: lif1: leaky", words, "with reset_mechanism='zero'",
                 remedy="Give approximate=True"):  # fmt: skip
        lnm.nn.to_nir(net, sample(), dt=DT)
    graph = lnm.nn.to_nir(net, sample(), dt=DT, approximate=True)
    assert graph.metadata["lnm"]["output_difference"] > 0


class Changed(Loop):
    """A loop that no graph has."""

    kind = ""

    def forward(self, x: Tensor) -> Any:
        out: Any = [self.run(x, k, step) for k, step in enumerate(x)]
        return sum(out) if self.kind == "count" else torch.stack(out)

    def run(self, x: Tensor, k: int, step: Tensor) -> Any:
        if self.kind == "reset" and k == 5:
            lnm.nn.reset(self)
        if self.kind == "reversed":
            step = x[T - 1 - k]
        spike, mem = self.lif1(self.fc1(step))
        if self.kind == "feedback":
            return spike + torch.zeros(N, HIDDEN)
        if self.kind == "alternating" and k % 2:
            return self.lif2(spike)[0]
        return mem if self.kind == "potential" else spike


@pytest.mark.parametrize(
    ("kind", "where", "problem"),
    [
        ("reset", "to_nir: lif1", "its states were set or reset between two time steps"),
        ("reversed", "to_nir: fc1", "time step 11 is not as the first one"),
        ("alternating", "to_nir: lif2", "time step 1 is not as the first one"),
        ("feedback", "to_nir: add", "a sum with a value that is not of the sample"),
        ("potential", "to_nir", "it is a state of lif1, not an output"),
        ("count", "to_nir: add", "a sum with a value that is not of the sample"),
    ],
)
def test_loops_that_no_graph_has_are_refused(kind: str, where: str, problem: str) -> None:
    net = Changed()
    net.kind = kind
    with refused(lnm.UnsupportedError, where, problem):
        lnm.nn.to_nir(eager(lnm.nn.convert(net)), sample(), dt=DT)


def test_cells_without_their_states_are_refused() -> None:
    """A call of a Norse cell without a state begins anew; a node of a graph goes on."""
    norse = pytest.importorskip("norse.torch")

    class Anew(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = norse.LIFCell()

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.cell(step)[0] for step in x])

    net = eager(lnm.nn.convert(Anew()))
    with refused(lnm.UnsupportedError, "to_nir: cell", "its states are not those of its last call"):
        lnm.nn.to_nir(net, sample(), dt=DT)


def test_a_readout_that_reduces_time_is_refused() -> None:
    name = "spikingjelly.activation_based.neuron"
    jelly = pytest.importorskip(name, exc_type=ImportError)
    net = nn.Sequential(jelly.LIFNode(step_mode="m"), jelly.NonSpikingLIFNode(decode="max-mem"))
    with refused(lnm.UnsupportedError, "to_nir: 1", "it reduces its potentials over time"):
        lnm.nn.to_nir(eager(lnm.nn.convert(net)), sample(), dt=DT)


@pytest.mark.parametrize("where", ["", "0"])
def test_a_model_that_is_not_converted_is_said_to_be_so(where: str) -> None:
    """SpikingJelly's was refused for the operation full_like in its forward."""
    node = pytest.importorskip("spikingjelly.activation_based.neuron", exc_type=ImportError)
    layer = node.LIFNode(step_mode="m")
    place = f"to_nir: {where}" if where else "to_nir"
    words = ("a LIFNode of spikingjelly", "NeuronLayer", "lnm.nn.convert(model)")
    with refused(lnm.UnsupportedError, place, *words):
        lnm.nn.to_nir(nn.Sequential(layer) if where else layer, sample())
