"""`to_nir` of models converted from SpikingJelly, snnTorch and Norse, which loop over time."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lnm_codegen as lnm
from tests.nn.convert.peers import converted, eager
from tests.refusals import refused

pytest.importorskip("nir")
snn: Any = pytest.importorskip("snntorch")
norse: Any = pytest.importorskip("norse.torch")
jelly: Any = pytest.importorskip("spikingjelly.activation_based.neuron", exc_type=ImportError)
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

T, N, WIDTH, HIDDEN, OUT = 12, 3, 6, 16, 5
DT = 1e-3


def sample(scale: float = 4.0) -> Tensor:
    return scale * torch.rand(T, N, WIDTH, generator=torch.Generator().manual_seed(0))


def snntorch(**options: Any) -> Any:
    return snn.Leaky(**({"beta": 0.9, "reset_mechanism": "zero"} | options))


def written(net: Any, x: Tensor, **options: Any) -> Any:
    """Convert a model and return its graph."""
    return lnm.nn.to_nir(converted(net), x, dt=DT, **options)


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


def in_sequence(kind: Any, first: nn.Module, last: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = kind(nn.Linear(WIDTH, HIDDEN), first, nn.Linear(HIDDEN, OUT), last)
    return made


def norse_net(first: str, last: str) -> nn.Module:
    return in_sequence(norse.SequentialState, *(getattr(norse, k)() for k in (first, last)))


def hidden_net() -> nn.Module:
    layers = snntorch(init_hidden=True), snntorch(init_hidden=True, output=True)
    return in_sequence(nn.Sequential, *layers)


slow = pytest.mark.slow
NETS: list[Any] = [
    pytest.param(Loop, "LIF LIF", id="snntorch loop"),
    pytest.param(hidden_net, "LIF LIF", id="snntorch single-step"),
    pytest.param(
        lambda: in_sequence(nn.Sequential, jelly.LIFNode(), jelly.IFNode()),
        "LIF IF",
        id="spikingjelly single-step",
        marks=slow,
    ),
    pytest.param(lambda: norse_net("LIFCell", "LIFCell"), "CubaLIF CubaLIF", marks=slow),
    pytest.param(lambda: norse_net("LIFBoxCell", "LIBoxCell"), "LIF LI", id="norse cells"),
    pytest.param(lambda: norse_net("LIF", "LI"), "CubaLIF CubaLI", id="norse sequences"),
    pytest.param(lambda: norse_net("IAFCell", "LICell"), "IF CubaLI", marks=slow),
]


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


@pytest.mark.parametrize(("make", "kinds"), NETS)
def test_the_graph_computes_what_the_library_does(make: Any, kinds: str) -> None:
    """With and without our metadata."""
    with torch.no_grad():
        net = make()
        is_norse = hasattr(net, "stateful_layers")
        is_whole = make is Loop or (is_norse and "Cell" not in str(net))
        x = sample(30.0 if is_norse else 4.0)
        expected = outputs(copy.deepcopy(net), x, not is_whole)
        assert 0.01 < float(expected.ne(0).double().mean())
        graph = written(net, x)
        nodes = [type(node).__name__ for node in graph.nodes.values()]
        assert [kind for kind in nodes if kind[0] in "CIL" and kind != "Input"] == kinds.split()
        for _ in range(2):
            again = eager(lnm.nn.from_nir(graph, dt=DT))
            torch.testing.assert_close(again(x), expected, rtol=1e-4, atol=1e-4)
            for node in graph.nodes.values():
                node.metadata = {}


def test_an_image_at_each_step_and_a_shortcut() -> None:
    for made, x in ((Image(), sample()[0]), (Convolution(), torch.rand(4, 2, 1, 4, 4) * 6)):
        graph = written(made, x)
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
        graph = written(net, x)
        assert torch.equal(eager(lnm.nn.from_nir(graph, dt=DT))(x), expected)


def test_a_soft_reset_is_refused_and_approximated() -> None:
    net, words = Loop(reset_mechanism="subtract"), "the charge of mem resets it a step late"
    with refused(lnm.UnsupportedError, "to_nir: lif1: leaky", words, "with reset_mechanism='zero'",
                 remedy="Give approximate=True"):  # fmt: skip
        written(net, sample())
    graph = written(net, sample(), approximate=True)
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


class Anew(nn.Module):
    """Calls of a Norse cell without a state, which begin anew; a node of a graph goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = norse.LIFCell()

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.cell(step)[0] for step in x])


def reducing() -> nn.Module:
    last = jelly.NonSpikingLIFNode(decode="max-mem")
    return nn.Sequential(jelly.LIFNode(step_mode="m"), last)


REFUSED: list[tuple[Any, str, str]] = [
    ("reset", "to_nir: lif1", "its states were set or reset between two time steps"),
    ("reversed", "to_nir: fc1", "time step 11 is not as the first one"),
    ("alternating", "to_nir: lif2", "time step 1 is not as the first one"),
    ("feedback", "to_nir: add", "a sum with a value that is not of the sample"),
    ("potential", "to_nir", "it is a state of lif1, not an output"),
    ("count", "to_nir: add", "a sum with a value that is not of the sample"),
    (Anew, "to_nir: cell", "its states are not those of its last call"),
    (reducing, "to_nir: 1", "it reduces its potentials over time"),
]


@pytest.mark.parametrize(("kind", "where", "problem"), REFUSED)
def test_loops_that_no_graph_has_are_refused(kind: Any, where: str, problem: str) -> None:
    net = Changed() if isinstance(kind, str) else kind()
    net.kind = kind
    with refused(lnm.UnsupportedError, where, problem):
        written(net, sample())


@pytest.mark.parametrize("where", ["to_nir", "to_nir: 0"])
def test_a_model_that_is_not_converted_is_said_to_be_so(where: str) -> None:
    """SpikingJelly's was refused for the operation full_like in its forward."""
    node = jelly.LIFNode(step_mode="m")
    words = ("a LIFNode of spikingjelly", "NeuronLayer", "lnm.nn.convert(model)")
    with refused(lnm.UnsupportedError, where, *words):
        lnm.nn.to_nir(nn.Sequential(node) if "0" in where else node, sample())
