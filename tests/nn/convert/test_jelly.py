"""Layers of SpikingJelly against their conversions: spikes, states and gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import lnm_codegen as lnm
from lnm_codegen.errors import ShapeError
from lnm_codegen.nn import NeuronLayer
from tests.nn.convert.peers import Run, assert_same, draw, eager, finished, pair, spikes
from tests.refusals import refused

neuron = pytest.importorskip("spikingjelly.activation_based.neuron", exc_type=ImportError)
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

T, SHAPE = 6, (3, 4)
V_RESETS: list[Any] = [None, 0.0, -0.2]
NAMES = {
    "IFNode": {}, "LIFNode": {"tau": 1.7, "decay_input": False}, "QIFNode": {"v_c": 0.7, "a0": 0.9},
    "ParametricLIFNode": {"init_tau": 3.0}, "EIFNode": {"delta_T": 0.7, "theta_rh": 0.9},
    "KLIFNode": {"tau": 3.0}, "CUBALIFNode": {"v_decay": 0.6},
    "IzhikevichNode": {"a": 0.3, "b": 0.2, "w_rest": 0.1, "tau_w": 3.0},
}  # fmt: skip
DECAYING = ("LIFNode", "ParametricLIFNode", "KLIFNode")


def surrogates() -> Any:
    from spikingjelly.activation_based import surrogate

    return surrogate


@st.composite
def nodes(draws: st.DrawFn) -> nn.Module:
    """Return a layer of any class and options."""
    name = draws(st.sampled_from(sorted(NAMES)))
    options: dict[str, Any] = dict(NAMES[name])
    v_reset = draws(st.sampled_from(V_RESETS))
    if v_reset is not None and name in ("QIFNode", "EIFNode"):
        v_reset = -0.2  # they require v_rest >= v_reset
    if name in DECAYING:
        options["decay_input"] = draws(st.booleans())
    if name == "KLIFNode":
        options["scale_reset"] = draws(st.booleans())
    kind = draws(st.sampled_from(["ATan", "Sigmoid", "Rect", "PiecewiseQuadratic", "SuperSpike"]))
    node = getattr(neuron, name)(
        v_threshold=draws(st.sampled_from([1.0, 0.6])),
        v_reset=v_reset,
        surrogate_function=getattr(surrogates(), kind)(),
        **options,
    )
    node.detach_reset = draws(st.booleans())
    node.step_mode = draws(st.sampled_from("sm"))
    node.store_v_seq = draws(st.booleans())
    if name == "KLIFNode":
        nn.init.constant_(node.k, draws(st.sampled_from([1.0, 0.8, 1.3])))
    return node


def run(node: Any, x: Tensor, calls: int = 1) -> Run:
    """Return a run over x in one or two calls, with v_seq where the layer stores it."""
    x = x.clone().requires_grad_()
    outs, voltages = [], []
    for part in x.chunk(calls):
        if node.step_mode == "m":
            outs.append(node(part))
            voltages += [node.v_seq] if getattr(node, "v_seq", None) is not None else []
        else:
            outs += [node(step).unsqueeze(0) for step in part]
    if node.step_mode == "s" and getattr(node, "v_seq", None) is not None:
        voltages = [node.v_seq]
    states = [node.v] + [
        getattr(node, n) for n in ("w", "c", "current", "u", "m") if _is_state(node, n)
    ]
    states += [torch.cat(voltages)] if voltages else []
    return finished(node, x, torch.cat(outs), tuple(states))


def _is_state(node: Any, name: str) -> bool:
    value = getattr(node, name, None)
    return isinstance(value, Tensor) and not isinstance(value, nn.Parameter)


def assert_converts(node: Any, seed: int, calls: int) -> None:
    """A layer and its conversion have the same run; states pass from call to call."""
    peer, layer = pair(node)
    assert isinstance(layer, NeuronLayer)
    x = draw(seed, (T, *SHAPE), scale=1.5)
    expected = run(peer, x, calls)
    if not bool(expected.grad_x.isfinite().all()):  # EIF and QIF can diverge
        return
    assert_same(run(layer, x, calls), expected)
    (line,) = lnm.nn.conversion_report(layer).layers
    assert line.status == "exact"
    assert line.converted


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(nodes(), st.integers(0, 10**6), st.sampled_from([1, 2]))
def test_every_class_and_option(node: Any, seed: int, calls: int) -> None:
    assert_converts(node, seed, calls)


FEW: list[tuple[str, dict[str, Any]]] = [
    ("IFNode", {"v_reset": None, "step_mode": "m", "store_v_seq": True, "detach_reset": True}),
    ("LIFNode", {"v_reset": -0.2, "step_mode": "m", "detach_reset": True}),
    ("ParametricLIFNode", {"decay_input": False, "step_mode": "s", "v_threshold": 0.6}),
    ("KLIFNode", {"scale_reset": True, "v_reset": None, "step_mode": "m", "store_v_seq": True}),
    ("CUBALIFNode", {}),
    ("IzhikevichNode", {"step_mode": "m", "v_reset": None, "detach_reset": True}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), FEW)
def test_spikes_states_and_gradients(name: str, options: dict[str, Any]) -> None:
    assert_converts(getattr(neuron, name)(**NAMES[name], **options), seed=1, calls=2)


def counts(most: int, **options: Any) -> Any:
    return surrogates().MultiLevelSpikeCount(most, **options)


FURTHER: dict[str, Any] = {
    "SimpleIFNode": lambda: neuron.SimpleIFNode(v_reset=-0.2),
    "SimpleLIFNode": lambda: neuron.SimpleLIFNode(2.5, False, v_reset=0.1, detach_reset=True),
    "TernaryIFNode": lambda: neuron.TernaryIFNode(store_v_seq=True),
    "TernaryLIFNode": lambda: neuron.TernaryLIFNode(
        tau=1.5, v_reset=0.2, v_threshold=0.6, surrogate_function=surrogates().ATan()
    ),
    "soft": lambda: neuron.TernaryLIFNode(
        decay_input=False, v_reset=None, detach_reset=True, store_v_seq=True
    ),
    "ComplementaryLIFNode": lambda: neuron.ComplementaryLIFNode(tau=1.5),
    "RAFNode": lambda: neuron.RAFNode(v_threshold=0.5, store_v_seq=True),
    "RAFNode to 0.3": lambda: neuron.RAFNode(v_reset=-0.3, dt=0.5, v_threshold=0.4),
    "ILIFNode": lambda: neuron.ILIFNode(store_v_seq=True),
    "window": lambda: neuron.ILIFNode(
        tau=2.0, v_threshold=0.5, surrogate_function=counts(3, grad_window=(-0.5, 2.5)),
        detach_reset=True,
    ),
}  # fmt: skip
"""Layers whose neuron is a family, or is made of one."""


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("name", FURTHER)
def test_further_classes(name: str, step_mode: str) -> None:
    node = FURTHER[name]()
    node.step_mode = step_mode
    assert spikes(run(copy.deepcopy(node).double(), draw(1, (T, *SHAPE), scale=1.5)))
    assert_converts(node, seed=1, calls=2)


def test_counts_at_a_half_are_rounded_to_even() -> None:
    """Also where the gradient's window ends, and for potentials that decay to almost 0."""
    node = neuron.ILIFNode(tau=2.0, step_mode="m")
    x = torch.tensor([0.5, 1.5, 2.5, 3.5, 4.5, 0.0, 4.0, -1e-9, 1e-9]).double()
    x = torch.stack([x, -x / 2, x]).unsqueeze(1)
    peer, layer = pair(node)
    expected = run(peer, x)
    assert expected.out[0, 0].tolist() == [0, 2, 2, 4, 4, 0, 4, 0, 0]
    assert_same(run(layer, x), expected)


@pytest.mark.parametrize("decode", ["max-mem", "max-abs-mem", "mean-mem", "last_mem", None])
@pytest.mark.parametrize("name", ["NonSpikingLIFNode", "NonSpikingIFNode"])
def test_readouts(name: str, decode: str | None) -> None:
    """They return one step, or a list of all, and begin each call anew."""
    peer, layer = pair(getattr(neuron, name)(decode=decode))
    assert isinstance(layer, NeuronLayer)
    x = draw(2, (T, *SHAPE)) - 0.5

    def outputs(node: Any) -> Run:
        own = x.clone().requires_grad_()
        found = [node(part) for part in own.chunk(2)]
        assert isinstance(found[0], list) == (decode is None)
        steps = [torch.stack(out) if isinstance(out, list) else out for out in found]
        return finished(node, own, torch.stack(steps), ())

    assert_same(outputs(layer), outputs(peer))


@pytest.mark.parametrize("inplane", [None, 4])
def test_gated_lif(inplane: int | None) -> None:
    """Its conductances of the time steps stay the same parameter; a call begins without a spike."""
    torch.manual_seed(0)
    node = neuron.GatedLIFNode(T=3, inplane=inplane, init_tau=0.4)
    names = [name for name, _ in node.named_parameters()]
    peer, layer = pair(node)
    assert isinstance(layer, NeuronLayer)
    assert [name for name, _ in layer.named_parameters()] == names
    layer.load_state_dict(peer.state_dict())
    x = draw(3, (6, 3, 4, 2, 2), scale=1.5)

    def outputs(gated: Any) -> Run:
        own = x.clone().requires_grad_()
        return finished(gated, own, torch.cat([gated(part) for part in own.chunk(2)]), (gated.v,))

    expected = outputs(peer)
    assert spikes(expected)
    assert_same(outputs(layer), expected)
    with refused(ShapeError, "glif", "x_seq is (2, 3, 4, 2, 2)", "(T, N, C, H, W) with T = 3"):
        layer(x[:2])


def test_a_given_neuron_in_place_of_a_readout_has_its_results() -> None:
    net = nn.Sequential(nn.Linear(3, 4), neuron.NonSpikingLIFNode(decode="last_mem"))
    net = eager(lnm.nn.convert(net, lnm.get("li", tau=3.0)))
    assert net(torch.rand(5, 2, 3)).shape == (2, 4)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_inputs_of_the_property_make_spikes(name: str) -> None:
    """Otherwise the property compares silent layers."""
    node = getattr(neuron, name)(**NAMES[name])
    node.step_mode = "m"
    assert spikes(run(node.double(), draw(0, (T, *SHAPE), scale=1.5)))


@pytest.mark.parametrize("name", ["IFNode", "LIFNode", "KLIFNode"])
def test_ties_and_zeros(name: str) -> None:
    """A potential equal to the threshold spikes; silent neurons have the library's gradient."""
    options = {} if name == "IFNode" else {"decay_input": False}
    node = getattr(neuron, name)(
        surrogate_function=surrogates().Rect(), step_mode="m", v_threshold=0.5, **options
    )
    x = torch.tensor([0.5, 0.0, 0.25, -0.5]).double().repeat(4, 1).reshape(4, 1, 4)
    peer, layer = pair(node)
    expected = run(peer, x)
    assert expected.out[0].tolist() == [[1.0, 0.0, 0.0, 0.0]]
    assert_same(run(layer, x), expected)


def test_reset_net_and_detach_net_reach_converted_layers() -> None:
    """Also where `reset_net` has stored its list of modules before the conversion."""
    from spikingjelly.activation_based import functional

    net = nn.Sequential(nn.Linear(4, 4), neuron.LIFNode(step_mode="m"))
    before = net[1]
    functional.reset_net(net)
    eager(lnm.nn.convert(net))
    x = torch.rand(T, 3, 4)
    first = net(x)
    assert not torch.equal(net(x), first) or net[1].v.ne(0).any()
    functional.detach_net(net)
    assert not net[1].v.requires_grad
    functional.reset_net(net)
    assert torch.equal(net(x), first)
    functional.set_step_mode(net, "s")
    assert net[1].step_mode == "s"
    assert before.v == 0.0


def test_v_seq_grows_step_by_step_and_is_reset() -> None:
    node = neuron.LIFNode(store_v_seq=True)
    layer: Any = eager(lnm.nn.convert(copy.deepcopy(node)))
    x = draw(3, (T, *SHAPE)).float()
    for step in x:
        node(step)
        layer(step)
    torch.testing.assert_close(layer.v_seq, node.v_seq)
    assert layer.v_seq.shape == (T, *SHAPE)
    out, state = layer(x[0], return_state=True)
    assert out.shape == state["v"].shape == SHAPE
    layer.detach()
    assert not layer.v_seq.requires_grad
    layer.reset()
    assert layer.v_seq is None


def test_a_checkpoint_appends_no_step_to_v_seq() -> None:
    layer: Any = eager(lnm.nn.convert(neuron.LIFNode(store_v_seq=True)))
    layer.step_mode, x = "s", torch.ones(SHAPE).requires_grad_()
    out = checkpoint(lambda y: layer(y, state={"v": 0.5}).exp(), x, use_reentrant=False)
    out.sum().backward()
    assert layer.v_seq.shape == (1, *SHAPE)


def test_a_value_out_of_our_range_is_refused() -> None:
    """SpikingJelly does not restrict tau_w; the other layers of the model are converted."""
    net = nn.Sequential(neuron.IzhikevichNode(tau_w=0.5), neuron.LIFNode())
    lnm.nn.convert(net)
    first, second = lnm.nn.conversion_report(net).layers
    assert first.status == "refused"
    assert first.reason == "tau_w is 0.5 (accepted: a number > 1)"
    assert second.status == "exact"


def test_the_learned_parameter_stays_the_same_object() -> None:
    """So an optimiser that exists trains the converted model; old checkpoints load."""
    net = nn.Sequential(nn.Linear(4, 4), neuron.ParametricLIFNode(), neuron.KLIFNode())
    saved = copy.deepcopy(net.state_dict())
    nn.init.constant_(net[0].bias, 3.0)
    w = net[1].w
    optimiser = torch.optim.SGD(net.parameters(), lr=1.0)
    eager(lnm.nn.convert(net))
    assert net[1].w is w
    assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.w", "2.k"]
    net(torch.ones(2, 4)).sum().backward()
    optimiser.step()
    assert not torch.equal(w, saved["1.w"])
    missing, unexpected = net.load_state_dict(saved)
    assert not missing
    assert not unexpected
    assert torch.equal(w, saved["1.w"])


class Strict(nn.Module):
    """A surrogate that fires at >."""

    def forward(self, z: Tensor) -> Tensor:
        return (z > 0).to(z)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda n: setattr(n, "v_threshold", torch.ones(3)), "v_threshold is a tensor of shape"),
        (lambda n: setattr(n, "v_threshold", nn.Parameter(torch.tensor(1.0))), "a gradient"),
        (lambda n: setattr(n, "_neuron_precision", ("fp16",) * 3), "precision"),
        (lambda n: n.set_reset_value("v", 0.5), "reset value of v is 0.5"),
        (lambda n: n.set_reset_value("v", torch.zeros(3)), "reset value of v is tensor"),
        (lambda n: setattr(n, "tau", float("nan")), "tau is nan"),
        (lambda n: setattr(n, "surrogate_function", Strict()), "at > 0"),
    ],
)
def test_options_without_an_equal_are_refused(change: Any, problem: str) -> None:
    node = neuron.LIFNode()
    change(node)
    assert lnm.nn.convert(node) is node
    (line,) = lnm.nn.conversion_report(node).layers
    assert line.status == "refused"
    assert problem in line.reason


def test_the_layout_of_version_0_0_0_0_14() -> None:
    """There `neuron` is one module. A class is known by its module and its name."""
    old = type("LIFNode", (neuron.LIFNode,), {"__module__": "spikingjelly.activation_based.neuron"})
    layer = lnm.nn.convert(old(tau=3.0))
    assert isinstance(layer, NeuronLayer)
    assert float(layer.tau) == 3.0
