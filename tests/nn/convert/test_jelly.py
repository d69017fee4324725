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
from tests.nn.convert.peers import (
    SHAPE,
    Run,
    T,
    assert_same,
    converted,
    draw,
    finished,
    pair,
    refusal,
    spikes,
)  # fmt: skip
from tests.refusals import refused

neuron: Any = pytest.importorskip("spikingjelly.activation_based.neuron", exc_type=ImportError)
surrogates: Any = pytest.importorskip("spikingjelly.activation_based.surrogate")
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

NAMES: dict[str, dict[str, Any]] = {
    "IFNode": {}, "LIFNode": {"tau": 1.7, "decay_input": False}, "QIFNode": {"v_c": 0.7, "a0": 0.9},
    "ParametricLIFNode": {"init_tau": 3.0}, "EIFNode": {"delta_T": 0.7, "theta_rh": 0.9},
    "KLIFNode": {"tau": 3.0}, "CUBALIFNode": {"v_decay": 0.6},
    "IzhikevichNode": {"a": 0.3, "b": 0.2, "w_rest": 0.1, "tau_w": 3.0},
}  # fmt: skip
STATES = ("w", "c", "current", "u", "m")


@st.composite
def nodes(draws: st.DrawFn) -> nn.Module:
    """Return a layer of any class and options."""
    name = draws(st.sampled_from(sorted(NAMES)))
    options = dict(NAMES[name])
    v_reset = draws(st.sampled_from([None, 0.0, -0.2]))
    if v_reset is not None and name in ("QIFNode", "EIFNode"):
        v_reset = -0.2  # they require v_rest >= v_reset
    if name in ("LIFNode", "ParametricLIFNode", "KLIFNode"):
        options["decay_input"] = draws(st.booleans())
    if name == "KLIFNode":
        options["scale_reset"] = draws(st.booleans())
    kind = draws(st.sampled_from(["ATan", "Sigmoid", "Rect", "PiecewiseQuadratic", "SuperSpike"]))
    node = getattr(neuron, name)(
        v_threshold=draws(st.sampled_from([1.0, 0.6])),
        v_reset=v_reset,
        surrogate_function=getattr(surrogates, kind)(),
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
            voltages.append(getattr(node, "v_seq", None))
        else:
            outs += [node(step).unsqueeze(0) for step in part]
            voltages = [getattr(node, "v_seq", None)]
    values = (getattr(node, name, None) for name in STATES)
    states = [v for v in values if isinstance(v, Tensor) and not isinstance(v, nn.Parameter)]
    states += [torch.cat(voltages)] if voltages[0] is not None else []
    return finished(node, x, torch.cat(outs), (node.v, *states))


def assert_converts(node: Any, seed: int, calls: int) -> Run:
    """A layer and its conversion have the same run; states pass from call to call."""
    peer, layer = pair(node)
    x = draw(seed, scale=1.5)
    expected = run(peer, x, calls)
    if bool(expected.grad_x.isfinite().all()):  # EIF and QIF can diverge
        assert_same(run(layer, x, calls), expected)
        (line,) = lnm.nn.conversion_report(layer).layers
        assert line.status == "exact"
        assert line.converted
    return expected


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(nodes(), st.integers(0, 10**6), st.sampled_from([1, 2]))
def test_every_class_and_option(node: Any, seed: int, calls: int) -> None:
    assert_converts(node, seed, calls)


def counts(most: int, **options: Any) -> Any:
    return surrogates.MultiLevelSpikeCount(most, **options)


FEW: list[tuple[str, dict[str, Any]]] = [
    ("IFNode", {"v_reset": None, "store_v_seq": True, "detach_reset": True}),
    ("LIFNode", {"v_reset": -0.2, "detach_reset": True, **NAMES["LIFNode"]}),
    ("ParametricLIFNode", {"decay_input": False, "v_threshold": 0.6, "init_tau": 3.0}),
    ("KLIFNode", {"scale_reset": True, "v_reset": None, "store_v_seq": True, "tau": 3.0}),
    ("CUBALIFNode", NAMES["CUBALIFNode"]),
    ("IzhikevichNode", {"v_reset": None, "detach_reset": True, **NAMES["IzhikevichNode"]}),
    ("QIFNode", NAMES["QIFNode"]), ("EIFNode", NAMES["EIFNode"]),
    # Layers whose neuron is a family, or is made of one.
    ("SimpleIFNode", {"v_reset": -0.2}),
    ("SimpleLIFNode", {"tau": 2.5, "decay_input": False, "v_reset": 0.1, "detach_reset": True}),
    ("TernaryIFNode", {"store_v_seq": True}),
    (
        "TernaryLIFNode",
        {"tau": 1.5, "v_reset": 0.2, "v_threshold": 0.6, "surrogate_function": surrogates.ATan()},
    ),
    (
        "TernaryLIFNode",
        {"decay_input": False, "v_reset": None, "detach_reset": True, "store_v_seq": True},
    ),
    ("ComplementaryLIFNode", {"tau": 1.5}),
    ("RAFNode", {"v_threshold": 0.5, "store_v_seq": True}),
    ("RAFNode", {"v_reset": -0.3, "dt": 0.5, "v_threshold": 0.4}),
    ("ILIFNode", {"store_v_seq": True}),
    (
        "ILIFNode",
        {
            "tau": 2.0, "v_threshold": 0.5, "detach_reset": True,
            "surrogate_function": counts(3, grad_window=(-0.5, 2.5)),
        },
    ),
]  # fmt: skip
CASES = [
    pytest.param(*case, mode, marks=() if (mode == "m") == (k % 3 > 0) else pytest.mark.slow)
    for k, case in enumerate(FEW)
    for mode in "sm"
]


@pytest.mark.parametrize(("name", "options", "step_mode"), CASES)
def test_spikes_states_and_gradients(name: str, options: dict[str, Any], step_mode: str) -> None:
    node = getattr(neuron, name)(**options)
    node.step_mode = step_mode
    assert spikes(assert_converts(node, seed=1, calls=2))


def test_counts_at_a_half_are_rounded_to_even() -> None:
    """Also where the gradient's window ends, and for potentials that decay to almost 0."""
    x = torch.tensor([0.5, 1.5, 2.5, 3.5, 4.5, 0.0, 4.0, -1e-9, 1e-9]).double()
    x = torch.stack([x, -x / 2, x]).unsqueeze(1)
    peer, layer = pair(neuron.ILIFNode(tau=2.0, step_mode="m"))
    expected = run(peer, x)
    assert expected.out[0, 0].tolist() == [0, 2, 2, 4, 4, 0, 4, 0, 0]
    assert_same(run(layer, x), expected)


@pytest.mark.parametrize("name", ["IFNode", "LIFNode", "KLIFNode"])
def test_ties_and_zeros(name: str) -> None:
    """A potential equal to the threshold spikes; silent neurons have the library's gradient."""
    options = {} if name == "IFNode" else {"decay_input": False}
    node = getattr(neuron, name)(
        surrogate_function=surrogates.Rect(), step_mode="m", v_threshold=0.5, **options
    )
    x = torch.tensor([0.5, 0.0, 0.25, -0.5]).double().repeat(4, 1).reshape(4, 1, 4)
    peer, layer = pair(node)
    expected = run(peer, x)
    assert expected.out[0].tolist() == [[1.0, 0.0, 0.0, 0.0]]
    assert_same(run(layer, x), expected)


@pytest.mark.parametrize("decode", ["max-mem", "max-abs-mem", "mean-mem", "last_mem", None])
@pytest.mark.parametrize("name", ["NonSpikingLIFNode", "NonSpikingIFNode"])
def test_readouts(name: str, decode: str | None) -> None:
    """They return one step, or a list of all, and begin each call anew."""

    def outputs(node: Any) -> Run:
        x = (draw(2) - 0.5).requires_grad_()
        found = [node(part) for part in x.chunk(2)]
        assert isinstance(found[0], list) == (decode is None)
        steps = [torch.stack(out) if isinstance(out, list) else out for out in found]
        return finished(node, x, torch.stack(steps), ())

    peer, layer = pair(getattr(neuron, name)(decode=decode))
    assert_same(outputs(layer), outputs(peer))


@pytest.mark.parametrize("inplane", [None, 4])
def test_gated_lif(inplane: int | None) -> None:
    """Its conductances of the time steps stay the same parameter; a call begins without a spike."""
    torch.manual_seed(0)
    node = neuron.GatedLIFNode(T=3, inplane=inplane, init_tau=0.4)
    peer, layer = pair(node)
    assert [n for n, _ in layer.named_parameters()] == [n for n, _ in node.named_parameters()]
    layer.load_state_dict(peer.state_dict())

    def outputs(gated: Any) -> Run:
        x = draw(3, (6, 3, 4, 2, 2), scale=1.5).requires_grad_()
        return finished(gated, x, torch.cat([gated(part) for part in x.chunk(2)]), (gated.v,))

    expected = outputs(peer)
    assert spikes(expected)
    assert_same(outputs(layer), expected)
    with refused(ShapeError, "glif", "x_seq is (2, 3, 4, 2, 2)", "(T, N, C, H, W) with T = 3"):
        layer(draw(3, (2, 3, 4, 2, 2)))


def test_reset_net_and_detach_net_reach_converted_layers() -> None:
    """Also where `reset_net` has stored its list of modules before the conversion."""
    from spikingjelly.activation_based import functional

    net = nn.Sequential(nn.Linear(4, 4), neuron.LIFNode(step_mode="m"))
    before = net[1]
    functional.reset_net(net)
    converted(net)
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
    """The recomputation of a checkpoint appends no step."""
    node = neuron.LIFNode(store_v_seq=True)
    layer = converted(copy.deepcopy(node))
    x = draw(3).float()
    for step in x:
        node(step)
        layer(step)
    torch.testing.assert_close(layer.v_seq, node.v_seq)
    assert layer.v_seq.shape == x.shape
    out, state = layer(x[0], return_state=True)
    assert out.shape == state["v"].shape == SHAPE
    layer.detach()
    assert not layer.v_seq.requires_grad
    layer.reset()
    assert layer.v_seq is None
    given = torch.ones(SHAPE).requires_grad_()
    out = checkpoint(lambda y: layer(y, state={"v": 0.5}).exp(), given, use_reentrant=False)
    out.sum().backward()
    assert layer.v_seq.shape == (1, *SHAPE)


def test_the_learned_parameter_stays_the_same_object() -> None:
    """So an optimiser that exists trains the converted model; old checkpoints load."""
    net = nn.Sequential(nn.Linear(4, 4), neuron.ParametricLIFNode(), neuron.KLIFNode())
    saved = copy.deepcopy(net.state_dict())
    nn.init.constant_(net[0].bias, 3.0)
    w = net[1].w
    optimiser = torch.optim.SGD(net.parameters(), lr=1.0)
    converted(net)
    assert net[1].w is w
    assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.w", "2.k"]
    net(torch.ones(2, 4)).sum().backward()
    optimiser.step()
    assert not torch.equal(w, saved["1.w"])
    assert not any(net.load_state_dict(saved))
    assert torch.equal(w, saved["1.w"])


class Strict(nn.Module):
    """A surrogate that fires at >."""

    def forward(self, z: Tensor) -> Tensor:
        return (z > 0).to(z)


CHANGES = [
    (lambda n: setattr(n, "v_threshold", torch.ones(3)), "v_threshold is a tensor of shape"),
    (lambda n: setattr(n, "v_threshold", nn.Parameter(torch.tensor(1.0))), "a gradient"),
    (lambda n: setattr(n, "_neuron_precision", ("fp16",) * 3), "precision"),
    (lambda n: n.set_reset_value("v", 0.5), "reset value of v is 0.5"),
    (lambda n: n.set_reset_value("v", torch.zeros(3)), "reset value of v is tensor"),
    (lambda n: setattr(n, "tau", float("nan")), "tau is nan"),
    (lambda n: setattr(n, "surrogate_function", Strict()), "at > 0"),
]


@pytest.mark.parametrize(("change", "problem"), CHANGES)
def test_options_without_an_equal_are_refused(change: Any, problem: str) -> None:
    node = neuron.LIFNode()
    change(node)
    assert problem in refusal(node)


def test_a_value_out_of_our_range_is_refused() -> None:
    """SpikingJelly does not restrict tau_w; the other layers of the model are converted."""
    net = nn.Sequential(neuron.IzhikevichNode(tau_w=0.5), neuron.LIFNode())
    lnm.nn.convert(net)
    first, second = lnm.nn.conversion_report(net).layers
    found = (first.status, first.reason, second.status)
    assert found == ("refused", "tau_w is 0.5 (accepted: a number > 1)", "exact")


def test_the_layout_of_version_0_0_0_0_14() -> None:
    """There `neuron` is one module. A class is known by its module and its name."""
    old = type("LIFNode", (neuron.LIFNode,), {"__module__": "spikingjelly.activation_based.neuron"})
    layer = lnm.nn.convert(old(tau=3.0))
    assert isinstance(layer, NeuronLayer)
    assert float(layer.tau) == 3.0
