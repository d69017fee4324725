"""Layers of snnTorch against their conversions: spikes, states and gradients, step by step."""

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
from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from tests.nn.convert.peers import (
    Run,
    T,
    assert_same,
    converted,
    draw,
    finished,
    pair,
    refusal,
    spikes,
)
from tests.refusals import refused

snn: Any = pytest.importorskip("snntorch")
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

RTOL = 1e-5
STEPS = list(enumerate(torch.rand(3, 5, 3)))
DECAYS = {
    "Leaky": {"beta": 0.8},
    "Synaptic": {"alpha": 0.7, "beta": 0.8},
    "Lapicque": {"R": 2.0, "C": 1.5},
    "Alpha": {"alpha": 0.9, "beta": 0.6},
}


def run(layer: Any, x: Tensor) -> Run:
    """Return a run step by step, with all states of a call, passed on or kept."""
    x = x.clone().requires_grad_()
    layer.reset_mem()
    outs, seen = [], []
    states: tuple[Any, ...] = ()
    for step in x:
        result = layer(step, *states)
        result = result if isinstance(result, tuple) else (result,)
        outs.append(result[0].double())
        seen.append(torch.stack(result[1:]) if result[1:] else step)
        states = () if layer.init_hidden else result[1:]
    return finished(layer, x, torch.stack(outs), (torch.stack(seen),))


@st.composite
def layers(draws: st.DrawFn) -> nn.Module:
    """Return a layer of any class and options, of numbers or tensors."""
    from snntorch import surrogate

    name = draws(st.sampled_from(sorted(DECAYS)))
    options: dict[str, Any] = dict(DECAYS[name])
    threshold: Any = draws(st.sampled_from([1.0, 0.7, -0.3]))
    if name == "Alpha":
        options["learn_beta"] = draws(st.booleans())
    elif name != "Lapicque":
        options["learn_beta"] = draws(st.booleans())
        options["reset_delay"] = draws(st.booleans())
        beta = draws(st.sampled_from(["number", "neuron", "one", "over"]))
        if beta != "number":
            values = {"neuron": torch.linspace(0.5, 0.9, 4), "one": torch.tensor([0.6])}
            options["beta"] = values.get(beta, torch.tensor(1.2))
    if name == "Synaptic":
        options["learn_alpha"] = draws(st.booleans())
    if name == "Leaky":
        options["graded_spikes_factor"] = draws(st.sampled_from([1.0, 2.5]))
        options["learn_graded_spikes_factor"] = draws(st.booleans())
    made = getattr(surrogate, draws(st.sampled_from(["atan", "fast_sigmoid", "sigmoid"])))
    return getattr(snn, name)(  # type: ignore[no-any-return]
        threshold=threshold,
        learn_threshold=draws(st.booleans()),
        reset_mechanism=draws(st.sampled_from(["subtract", "zero", "none"])),
        spike_grad=made(),
        init_hidden=draws(st.booleans()),
        output=draws(st.booleans()),
        **options,
    )


def assert_converts(layer: Any, seed: int) -> Run:
    peer, new = pair(layer)
    expected = run(peer, draw(seed))
    assert_same(run(new, draw(seed)), expected, RTOL)
    (line,) = lnm.nn.conversion_report(new).layers
    assert line.status == "exact"
    return expected


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(layers(), st.integers(0, 10**6))
def test_every_class_and_option(layer: Any, seed: int) -> None:
    assert_converts(layer, seed)


FEW: list[tuple[str, dict[str, Any]]] = [
    ("Leaky", {"learn_beta": True, "learn_threshold": True}),
    ("Leaky", {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}),
    ("Leaky", {"reset_mechanism": "none", "beta": torch.linspace(0.4, 0.9, 4), "learn_beta": True}),
    ("Synaptic", {"learn_alpha": True, "learn_beta": True, "reset_mechanism": "zero"}),
    ("Lapicque", {"init_hidden": True, "output": True}),
    ("Lapicque", {"R": False, "C": False, "beta": 0.8, "reset_mechanism": "zero"}),
    ("Alpha", {"learn_beta": True, "learn_threshold": True}),
    ("Alpha", {"reset_mechanism": "subtract", "init_hidden": True, "output": True}),
]


@pytest.mark.parametrize(("name", "options"), FEW)
def test_spikes_states_and_gradients(name: str, options: dict[str, Any]) -> None:
    found = assert_converts(getattr(snn, name)(**DECAYS[name] | options), seed=1)
    assert spikes(found)


ORDER = ("subtract", "zero", "none")
CHANGES = [
    pytest.param(first, later, loads, marks=() if is_quick else pytest.mark.slow)
    for k, first in enumerate(ORDER)
    for j, later in enumerate(ORDER)
    for loads in (True, False)
    for is_quick in [j == (k + 1) % 3 and loads == bool(k % 2)]
]
RESETS = [
    (name, {"reset_delay": delay} if name in ("Leaky", "Synaptic") else {})
    for name in sorted(DECAYS)
    for delay in ((True, False) if name in ("Leaky", "Synaptic") else (True,))
]


@pytest.mark.parametrize(("first", "later", "loads"), CHANGES)
@pytest.mark.parametrize(("name", "options"), RESETS)
def test_a_reset_that_is_changed_later(
    name: str, options: dict[str, Any], first: str, later: str, loads: bool
) -> None:
    """snnTorch keeps the old reset in the charge. A converted layer had the new one."""
    kind, own = getattr(snn, name), DECAYS[name] | options
    layer = kind(**own, reset_mechanism=first)
    if loads:
        layer.load_state_dict(kind(**own, reset_mechanism=later).state_dict())
    else:
        layer.reset_mechanism = later
    assert_converts(layer, seed=1)


def test_a_charge_of_the_users_is_refused() -> None:
    """Of a function, and of a shallow copy, which runs the charge of the original."""
    replaced, copied = snn.Leaky(beta=0.5), copy.copy(snn.Leaky(beta=0.5))
    replaced.state_function = lambda x: x
    for layer in (replaced, copied):
        assert refusal(layer).startswith("state_function is not the layer's own. ")


def test_a_potential_equal_to_the_threshold_does_not_spike() -> None:
    """snnTorch fires at >, and resets at > one step later."""
    peer, new = pair(snn.Leaky(beta=0.5))
    x = torch.tensor([[1.0, 1.0 + 2**-52, 0.5], [0.5, 0.0, 0.75], [0.5, 0.5, 0.0]]).double()
    x[0, 1] = 1.0 + 2.0**-52
    expected = run(peer, x.reshape(3, 1, 3))
    assert expected.out[0].tolist() == [[0.0, 1.0, 0.0]]
    assert_same(run(new, x.reshape(3, 1, 3)), expected, RTOL)


BROADCAST = [
    ((3, 1, 1), (3, 2, 2)),  # per channel
    ((1, 4, 4), (1, 4, 4)),
    ((1, 4, 4), (4, 4)),
    ((1, 4, 4), (2, 4, 4)),
    ((4,), (3, 4)),
    ((1, 4), (4,)),
]


@pytest.mark.parametrize(("shape", "sample"), BROADCAST)
def test_a_value_that_broadcasts_to_a_sample(
    shape: tuple[int, ...], sample: tuple[int, ...]
) -> None:
    """The parameter has its own shape, before and after the first call."""
    beta = torch.linspace(0.3, 0.9, 16)[: torch.Size(shape).numel()].reshape(shape)
    threshold = 1.0 if shape == (3, 1, 1) else 0.3 + beta.squeeze(0)
    peer, new = pair(snn.Leaky(beta=beta, learn_beta=True, threshold=threshold))
    saved = peer.state_dict()
    for batch in (2, 3):
        x = draw(4, (T, batch, *sample))
        assert_same(run(new, x), run(peer, x), RTOL)
        assert new.beta.shape == (shape if shape != (3, 1, 1) else (3,))
        new.load_state_dict(saved)
    if shape != (3, 1, 1):
        with refused(ShapeError, "leaky", "neurons (5,) in a sample", "per neuron"):
            new(draw(4, (2, 5)))


def test_state_of_another_shape_begins_anew() -> None:
    """As in snnTorch, whose `init_leaky` returns a state without elements."""
    layer = snn.Leaky(beta=0.5)
    new = converted(copy.deepcopy(layer))
    assert layer.init_leaky().shape == new.init_leaky().shape == (0,)
    x = torch.rand(3, 4)
    _, mem = new(x, new.init_leaky())
    torch.testing.assert_close(mem, layer(x)[1])
    torch.testing.assert_close(new(x[:2])[1], layer(x[:2])[1])
    torch.testing.assert_close(new(x[:2], mem=mem[:2])[1], layer(x[:2], mem=mem[:2])[1])


def test_an_old_checkpoint_loads_and_fixed_options_are_compared() -> None:
    net = nn.Sequential(nn.Linear(3, 4), snn.Leaky(beta=0.5, learn_beta=True, init_hidden=True))
    saved = net.state_dict()
    new = lnm.nn.convert(copy.deepcopy(net))
    assert set(new.state_dict()) == set(saved)
    assert not any(new.load_state_dict(saved | {"1.beta": torch.tensor([0.25])}))
    assert float(new[1].beta) == 0.25
    net.load_state_dict(new.state_dict())  # and back
    with pytest.raises(RuntimeError, match=r"1\.reset_mechanism_val is 1, here 0"):
        new.load_state_dict(saved | {"1.reset_mechanism_val": torch.tensor(1)})
    without = {k: v for k, v in saved.items() if "graded" not in k and "reset" not in k}
    assert not any(new.load_state_dict(without))


@pytest.mark.parametrize(
    ("name", "learned"),
    [("Synaptic", ("alpha", "beta", "threshold")),
     ("Leaky", ("beta", "graded_spikes_factor", "threshold"))],
)  # fmt: skip
def test_parameters_keep_their_order(name: str, learned: tuple[str, ...]) -> None:
    """A state_dict of an optimiser has no names."""
    layer = getattr(snn, name)(**DECAYS[name], **{f"learn_{word}": True for word in learned})
    names = [n for n, _ in layer.named_parameters()]
    assert len(names) == 3
    assert [n for n, _ in lnm.nn.convert(layer).named_parameters()] == names


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_shared_parameter_stays_shared(shape: tuple[int, ...]) -> None:
    net = nn.Sequential(*(snn.Leaky(beta=0.5, learn_beta=True, init_hidden=True) for _ in "ab"))
    net[0].beta = net[1].beta = nn.Parameter(torch.full(shape, 0.9))
    old = copy.deepcopy(net)
    converted(net)
    assert net[0].beta is net[1].beta
    for one in (net, old):
        one(torch.ones(2, 3)).sum().backward()
    assert len(list(net.parameters())) == 1
    torch.testing.assert_close(net[0].beta.grad, old[0].beta.grad.reshape(()))


def test_a_hidden_state_is_reset_by_ours_and_the_layer_leaves_their_list() -> None:
    net = nn.Sequential(nn.Linear(3, 4), snn.Leaky(beta=0.9, init_hidden=True))
    old = net[1]
    converted(net)
    assert all(one is not old for one in snn.SpikingNeuron.instances)
    x = torch.ones(2, 3)
    first = net(x)
    net[1].detach()
    net(x)
    assert net[1].mem.shape == (2, 4)
    lnm.nn.reset(net)
    assert torch.equal(net(x), first)


def test_a_conversion_warns_of_the_reset_that_does_nothing(monkeypatch: Any) -> None:
    monkeypatch.setattr("lnm_codegen.nn.load.warn._WARNED", set())
    with pytest.warns(RuntimeWarning, match=r"snntorch\.utils\.reset .* Use lnm\.nn\.reset"):
        lnm.nn.convert(snn.Leaky(beta=0.9, init_hidden=True))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"inhibition": True}, "inhibition"),
        ({"state_quant": lambda x: x}, "state_quant"),
        ({"beta": torch.rand(2, 3, 1)}, "beta (2, 3, 1)"),
        ({"beta": torch.rand(4), "threshold": torch.rand(5)}, "threshold (5,)"),
        ({"beta": float("nan")}, "beta is not finite"),
    ],
)
def test_options_without_an_equal_are_refused(options: dict[str, Any], problem: str) -> None:
    assert problem in refusal(snn.Leaky(**{"beta": 0.5} | options))


def test_lapicque_with_a_learned_beta_is_refused() -> None:
    """Its second backward fails in snnTorch itself: C keeps the graph of beta."""
    layer = snn.Lapicque(beta=torch.tensor(0.8), learn_beta=True)
    layer(torch.ones(1, 2))[1].sum().backward()
    layer.reset_mem()
    with pytest.raises(RuntimeError, match="second time"):
        layer(torch.ones(1, 2))[1].sum().backward()
    assert "single backward" in refusal(layer)


def test_calls_with_other_states_are_refused() -> None:
    hidden = converted(snn.Leaky(beta=0.5, init_hidden=True))
    x = torch.ones(2, 3)
    with refused(ModelError, "leaky", "init_hidden is True", remedy="layer(x)"):
        hidden(x, torch.zeros(2, 3))
    open_ = converted(snn.Leaky(beta=0.5))
    with refused(ModelError, "leaky", "syn", "mem"):
        open_(x, syn=x)
    with refused(ModelError, "leaky", "states 2", "mem"):
        open_(x, x, x)


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize("first", [0, 1])
def test_a_checkpoint_of_kept_states_is_refused(first: int, is_reset: bool) -> None:
    """Its recomputation began with the final states, and the gradient was wrong in silence."""
    net = converted(nn.Sequential(nn.Linear(3, 4), snn.Leaky(0.9, init_hidden=True)))
    outs = [net(x) if k < first else checkpoint(net, x, use_reentrant=False) for k, x in STEPS]
    if is_reset:
        lnm.nn.reset(net)
    problem, remedy = "a layer that keeps its states is called in a backward", "init_hidden=False"
    with refused(UnsupportedError, "leaky", problem, remedy=remedy):
        torch.stack(outs).sum().backward()


@pytest.mark.parametrize("delay", [True, False])
def test_a_checkpoint_of_a_call_with_states(delay: bool) -> None:
    """It is exact, unless the layer also keeps the spike of the step before (reset_delay=False)."""
    net = converted(snn.Leaky(beta=0.9, reset_delay=delay))
    found = []
    for is_checkpoint in (False, True):
        net.reset_mem()
        mem, total, given = torch.zeros(2, 3), torch.zeros(()), torch.ones(2, 3).requires_grad_()
        for _ in range(3):
            step = (given, mem)
            out, mem = checkpoint(net, *step, use_reentrant=False) if is_checkpoint else net(*step)
            total = total + (out * mem).sum()
        if is_checkpoint and not delay:
            with refused(UnsupportedError, "leaky", "activation checkpointing"):
                total.backward()
            return
        total.backward()
        found.append(given.grad)
    torch.testing.assert_close(*found)


def test_states_kept_from_inference_mode_are_refused() -> None:
    layer = converted(snn.Leaky(beta=0.9, init_hidden=True))
    x = torch.ones(2, 3)
    with torch.inference_mode():
        layer(x)
    with refused(UnsupportedError, "leaky", "torch.inference_mode", remedy="Call reset()."):
        layer(x.requires_grad_())
    layer.reset()
    layer(x)


@pytest.mark.parametrize("called", [False, True])
def test_another_neuron_per_channel_loads_its_own_state_dict(called: bool) -> None:
    """Also where its parameters, or those of the state_dict, have no shape yet."""

    def made() -> Any:
        leaky = snn.Leaky(beta=0.9, init_hidden=True)
        return converted(nn.Sequential(leaky), lnm.get("lnm", degree=1, per="channel"))

    model, other = made(), made()
    x = torch.randn(2, 3)
    if called:
        model(x)
    other.load_state_dict(model.state_dict())
    lnm.nn.reset(model)
    assert torch.equal(other(x), model(x))
