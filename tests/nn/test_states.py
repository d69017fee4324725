"""`lnm.nn.reset` on models that keep states in modules of several libraries, or of the user."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lnm_codegen as lnm
from tests.refusals import refused


@contextmanager
def silent() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


class Readout(nn.Module):
    """A readout of a user, whose state nothing but its own code knows."""

    def __init__(self) -> None:
        super().__init__()
        self.mem: Tensor | None = None
        self.scale = torch.ones(3)

    def forward(self, x: Tensor) -> Tensor:
        self.mem = x if self.mem is None else 0.9 * self.mem + x
        return self.mem * self.scale


class WithReset(Readout):
    def reset(self) -> None:
        self.mem = None


class WithArgument(Readout):
    def reset(self, batch: int) -> None:
        self.mem = torch.zeros(batch, 3)


class Buffered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mem", torch.zeros(3), persistent=False)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0)  # a statistic, which a state_dict has
        self.mem = 0.9 * self.mem + x
        return self.mem


class Metric(nn.Module):
    """As those of torchmetrics, which count over many batches."""

    def __init__(self) -> None:
        super().__init__()
        self.count = torch.zeros(())

    def update(self) -> None:
        self.count = self.count + 1

    def compute(self) -> Tensor:
        return self.count

    def reset(self) -> None:
        self.count = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        self.update()
        return x


class Gate(nn.Module):
    """A submodule has the name "reset"."""

    def __init__(self) -> None:
        super().__init__()
        self.reset = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.reset(x)
        return out


class Held(nn.Module):
    """States in a list, a dict and a deque, which no method assigns; `fixed` is a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.past: list[Tensor] = []
        self.last: dict[str, Tensor] = {}
        self.few: deque[Tensor] = deque(maxlen=2)
        self.fixed, self.names = [torch.ones(3)], ["mem"]

    def forward(self, x: Tensor) -> Tensor:
        out = x + sum(self.past) + self.fixed[0] + self.last.get(self.names[0], x)
        self.past.append(x)
        self.few.appendleft(x)
        for name in self.names:
            self.last[name] = x
        return out


def test_modules_of_a_user_are_reset_by_their_own_method() -> None:
    layer = lnm.nn.NeuronLayer(lnm.get("lif"), step_mode="s", backend="torch")
    model = nn.Sequential(WithReset(), Gate(), Metric(), nn.BatchNorm1d(3).eval(), layer)
    x = torch.rand(2, 3)
    first = model(x)
    model(x)
    with silent():
        lnm.nn.reset(model)
    assert not layer.state
    assert torch.equal(model(x), first)
    assert float(model[2].count) == 3
    with refused(lnm.ModelError, "reset", "model is 3", "a torch.nn.Module"):
        lnm.nn.reset(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("grad", [True, False])
def test_states_that_cannot_be_reset_are_named(grad: bool) -> None:
    """At each call, until the module has a method; constants and statistics are no states.

    A state in a list or a dict leaked in silence.
    """
    model = nn.Sequential(Readout(), Buffered(), nn.Sequential(WithArgument()), Held())
    with silent():
        lnm.nn.reset(nn.Sequential(Readout(), Held(), nn.Linear(3, 3)))  # no call, so no state
    with torch.set_grad_enabled(grad):
        model(torch.rand(2, 3))
    text = (
        r"^lnm.nn.reset: 4 modules may keep a state that was not reset: 0 \(Readout: mem\), "
        r"1 \(Buffered: mem\), 2.0 \(WithArgument: reset\(...\)\), "
        r"3 \(Held: few, last, past\)\. Give"
    )
    for _ in range(2):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            lnm.nn.reset(model)
        assert len(seen) == 1
        assert seen[0].filename == __file__
        with pytest.warns(RuntimeWarning, match=text):
            lnm.nn.reset(model)


def _spikingjelly() -> dict[str, nn.Module]:
    neuron, layer = (
        pytest.importorskip(f"spikingjelly.activation_based.{name}", exc_type=ImportError)
        for name in ("neuron", "layer")
    )
    return {
        "filter": nn.Sequential(layer.SynapseFilter(tau=10.0), neuron.LIFNode()),
        "linear": layer.LinearRecurrentContainer(neuron.LIFNode(v_threshold=0.1), 3, 3),
        "elementwise": layer.ElementWiseRecurrentContainer(neuron.LIFNode(), torch.add),
        "refused": neuron.OTTTLIFNode().eval(),
    }


def _snntorch() -> dict[str, nn.Module]:
    snn = pytest.importorskip("snntorch")
    return {
        "alpha": snn.Alpha(alpha=0.9, beta=0.8, init_hidden=True),
        "recurrent": snn.RLeaky(beta=0.9, all_to_all=False, init_hidden=True),
        "lstm": snn.SLSTM(3, 3, init_hidden=True, output=True),
        "both": nn.Sequential(
            snn.Leaky(beta=0.9, init_hidden=True),
            snn.RSynaptic(alpha=0.9, beta=0.9, all_to_all=False, init_hidden=True),
        ),
        "states": snn.Leaky(beta=0.9, inhibition=True),
    }


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [_spikingjelly, _snntorch])
def test_no_state_leaks_from_call_to_call(make: Any) -> None:
    """A synapse filter of SpikingJelly leaked 1.27; refused layers of snnTorch kept `mem`."""

    def run(net: nn.Module) -> Tensor:
        outs = [net(step) for step in x]
        return torch.stack([out[-1] if isinstance(out, tuple) else out for out in outs])

    torch.manual_seed(0)
    x = torch.rand(6, 2, 3) * 1.5
    for name, made in make().items():
        model = lnm.nn.convert(nn.Sequential(made))
        net = nn.Sequential(*model) if name != "states" else model[0]
        first, kept = run(net), run(net)
        assert not torch.equal(first, kept), name
        lnm.nn.reset(net)
        assert torch.equal(run(net), first), name


def test_a_compiled_function_resets():
    """Dynamo once failed in the search for states of other libraries."""
    net = nn.Sequential(nn.Linear(2, 2), lnm.nn.NeuronLayer(lnm.get("lif")))

    def body(x: Tensor) -> Tensor:
        lnm.nn.reset(net)
        return net(x)

    x = torch.ones(3, 1, 2)
    with torch.no_grad():
        assert torch.equal(torch.compile(body, backend="eager")(x), body(x))
