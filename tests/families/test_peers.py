"""Families against SpikingJelly's, snnTorch's and Norse's neurons, in float64.

Inputs are random, so that no potential is equal to a threshold: snnTorch and Norse fire at >.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lnm_codegen as lnm

pytestmark = pytest.mark.peers

SHAPE = (24, 3, 5)


def draw(scale: float = 1.0, shift: float = 0.4, shape: tuple[int, ...] = SHAPE) -> Any:
    """Return inputs, and gradients of the outputs."""
    rng = np.random.default_rng(7)
    return scale * rng.normal(shift, 1.0, shape), rng.normal(size=shape)


def agree(
    neuron: lnm.Neuron,
    x: np.ndarray,
    grad: np.ndarray,
    step: Callable[[Tensor, Any], tuple[Tensor, Any]],
    states: Callable[[Any], dict[str, Tensor]],
    start: Any = None,
    leaves: dict[str, Tensor] | None = None,
    rtol: float = 1e-8,
    **given: Any,
) -> np.ndarray:
    """Assert equal outputs, close final states and gradients, and return the outputs.

    Args:
        neuron: Ours.
        x: Inputs (T, N, C).
        grad: Gradients of the outputs.
        step: (x of a step, state) -> (output, state), theirs.
        states: Their last state -> ours by name.
        start: Their first state.
        leaves: Our parameter -> theirs, whose gradients are compared.
        rtol: Tolerance of gradients, relative to the largest.
        **given: Parameters and states of ours.
    """
    leaf, state, out = torch.tensor(x, requires_grad=True), start, []
    for now in leaf:
        spikes, state = step(now, state)
        out.append(spikes)
    torch.stack(out).backward(torch.tensor(grad))
    expected = torch.stack(out).detach().numpy()
    result = lnm.interpret(neuron, x, grad_out=grad, **given)
    np.testing.assert_array_equal(result.out, expected)
    assert 0.02 < (expected > 0).mean() < 0.98
    for name, value in states(state).items():
        np.testing.assert_allclose(result.states[name], value.detach().numpy(), 1e-10, 1e-10, name)
    for name, other in {"x": leaf, **(leaves or {})}.items():
        theirs = other.grad.numpy()
        assert np.abs(theirs).max() > 0
        close = rtol * np.abs(theirs).max()
        np.testing.assert_allclose(result.grads[name], theirs, rtol, close, err_msg=name)
    return expected


def jelly(kind: str, *args: Any, **kwargs: Any) -> Any:
    """Return a node of SpikingJelly in float64, reset, with the slope of our default."""
    pytest.importorskip("spikingjelly", reason="spikingjelly is not installed")
    from spikingjelly.activation_based import functional, neuron, surrogate

    if not hasattr(neuron, kind):
        pytest.skip(f"this spikingjelly has no {kind}")
    if kind != "ILIFNode":
        kwargs["surrogate_function"] = surrogate.ATan(2.0)
    node = getattr(neuron, kind)(*args, **kwargs).double()
    functional.reset_net(node)
    return node


def with_node(node: Any, names: dict[str, str]) -> dict[str, Any]:
    """Return `step` and `states` of `agree` for a node; `names` has our state -> theirs."""
    return {
        "step": lambda x, _: (node(x), None),
        "states": lambda _: {ours: getattr(node, theirs) for ours, theirs in names.items()},
    }


@pytest.mark.parametrize(
    ("v_reset", "detach_reset", "decay_input", "scale_reset"),
    [
        (0.0, False, True, False),
        (-0.2, True, False, False),
        (-0.2, False, True, True),
        (None, True, True, True),
        (None, False, False, False),
    ],
)
def test_klif_is_that_of_spikingjelly(
    v_reset: Any, detach_reset: bool, decay_input: bool, scale_reset: bool
) -> None:
    """KLIFNode, and the gradient of its k."""
    given = {"scale_reset": scale_reset, "tau": 1.7, "decay_input": decay_input}
    given |= {"v_threshold": 0.8, "v_reset": v_reset}
    node = jelly("KLIFNode", **given, detach_reset=detach_reset)
    with torch.no_grad():
        node.k.fill_(1.25)
    neuron = lnm.get("klif", k=1.25, **given).with_detach_reset(detach_reset)
    agree(neuron, *draw(1.5), **with_node(node, {"v": "v"}), leaves={"k": node.k})


@pytest.mark.parametrize(("v_reset", "detach_reset"), [(0.0, False), (-0.2, True), (None, False)])
def test_eif_is_that_of_spikingjelly(v_reset: Any, detach_reset: bool) -> None:
    """EIFNode."""
    given = {"tau": 2.5, "delta_T": 0.7, "theta_rh": 0.75, "v_threshold": 0.9, "v_rest": 0.1}
    node = jelly("EIFNode", **given, v_reset=v_reset, detach_reset=detach_reset)
    neuron = lnm.get("eif", **given, v_reset=v_reset).with_detach_reset(detach_reset)
    agree(neuron, *draw(0.7, 0.3), **with_node(node, {"v": "v"}))


def test_clif_is_that_of_spikingjelly() -> None:
    """ComplementaryLIFNode: both potentials and the gradient through the spike in the reset."""
    node = jelly("ComplementaryLIFNode", tau=2.5, v_threshold=0.8)
    neuron = lnm.get("clif", tau=2.5, v_threshold=0.8)
    agree(neuron, *draw(), **with_node(node, {"v": "v", "m": "m"}))


@pytest.mark.parametrize(("max_count", "detach_reset"), [(1, False), (4, True), (7, False)])
def test_i_lif_is_that_of_spikingjelly(max_count: int, detach_reset: bool) -> None:
    """ILIFNode with its default surrogate, the straight-through slope in [0, max_count]."""
    pytest.importorskip("spikingjelly", reason="spikingjelly is not installed")
    from spikingjelly.activation_based import surrogate

    if not hasattr(surrogate, "MultiLevelSpikeCount"):
        pytest.skip("this spikingjelly has no MultiLevelSpikeCount")
    node = jelly(
        "ILIFNode", tau=1.6, v_threshold=0.5, detach_reset=detach_reset,
        surrogate_function=surrogate.MultiLevelSpikeCount(max_count),
    )  # fmt: skip
    neuron = lnm.get(
        "i_lif", tau=1.6, v_threshold=0.5, max_count=max_count, detach_reset=detach_reset
    )
    counts = agree(neuron, *draw(1.5), **with_node(node, {"v": "v"}))
    assert set(np.unique(counts)) == set(range(max_count + 1))


@pytest.mark.parametrize("name", ["klif", "eif", "clif", "i_lif"])
def test_defaults_are_those_of_spikingjelly(name: str) -> None:
    """A family without arguments has the spikes of the node without arguments."""
    kinds = {"klif": "KLIFNode", "eif": "EIFNode", "clif": "ComplementaryLIFNode"}
    node = jelly(kinds.get(name, "ILIFNode"))
    x, _ = draw(1.5)
    spikes = torch.stack([node(now) for now in torch.tensor(x)]).detach().numpy()
    np.testing.assert_array_equal(lnm.interpret(lnm.get(name), x).out, spikes)


IN_FLOAT32 = 1e-6
"""Tolerance of gradients of snnTorch, whose spikes are float32 in any type."""


def snn(kind: str, *args: Any, **kwargs: Any) -> Any:
    """Return a layer of snnTorch in float64, with its default slope, which is ours."""
    pytest.importorskip("snntorch", reason="snntorch is not installed")
    import snntorch

    layer = getattr(snntorch, kind)(*args, **kwargs).double()
    for word in ("alpha", "beta", "threshold"):  # float32 until now
        if word in kwargs and hasattr(layer, word):
            getattr(layer, word).data.fill_(kwargs[word])
    return layer


@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("name", ["leaky", "synaptic"])
def test_snntorch(name: str, reset: str, reset_delay: bool) -> None:
    """Each reset, one step late and in the step of the spike; learnable decays and threshold."""
    decays = {"leaky": {"beta": 0.8}, "synaptic": {"alpha": 0.6, "beta": 0.7}}[name]
    learn = dict.fromkeys([*(f"learn_{word}" for word in decays), "learn_threshold"], True)
    given = {**decays, **learn, "reset_delay": reset_delay}
    layer = snn(name.capitalize(), threshold=0.75, reset_mechanism=reset, **given)
    neuron = lnm.get(name, v_threshold=0.75, reset=reset, **given)

    def step(x: Tensor, state: Any) -> Any:
        spikes, *state = layer(x, *state)
        return spikes, state

    states = [s.name for s in neuron.states if s.name != "r"]
    leaves = {word: getattr(layer, word) for word in decays} | {"v_threshold": layer.threshold}
    agree(
        neuron, *draw(*((0.7, 0.1) if name == "leaky" else (0.5, 0.0))), step,
        lambda now: dict(zip(states, now, strict=True)),
        [torch.zeros(SHAPE[1:], dtype=torch.float64)] * len(states), leaves, IN_FLOAT32,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("circuit", "reset"),
    [
        ({"beta": 0.75}, "subtract"),
        ({"r": 2.0, "c": 3.0}, "zero"),
        ({"r": 0.5, "beta": 0.5}, "none"),
    ],
)
def test_lapicque_is_that_of_snntorch(circuit: dict[str, float], reset: str) -> None:
    """A circuit given by its resistance and capacitance, or by its decay."""
    theirs = {word.upper() if word in "rc" else word: value for word, value in circuit.items()}
    layer = snn("Lapicque", **theirs, time_step=0.5, threshold=0.25, reset_mechanism=reset)
    neuron = lnm.get("lapicque", **circuit, dt=0.5, v_threshold=0.25, reset=reset)
    if "beta" in circuit:  # float32 in snnTorch's constructor
        found = float(layer.C)
        capacitance = next(p.init for p in neuron.params if p.name == "c")
        assert found == pytest.approx(capacitance, rel=1e-6)
        layer.C.fill_(capacitance)
    zero = torch.zeros(SHAPE[1:], dtype=torch.float64)
    agree(neuron, *draw(1.0, 0.3), layer, lambda v: {"v": v}, zero, rtol=IN_FLOAT32)


@pytest.mark.parametrize("name", ["leaky", "synaptic", "lapicque"])
def test_a_delayed_reset_reads_the_potential_alone(name: str) -> None:
    """A first state above the threshold resets in the first step, as in snnTorch."""
    given = {"leaky": {}, "synaptic": {}, "lapicque": {"r": 1.0, "c": 5.0}}[name]
    neuron = lnm.get(name, **given)
    below, above = (
        lnm.interpret(neuron, np.zeros((1, 1)), state={"v": np.full(1, v)}).states["v"]
        for v in (0.999, 1.0)
    )
    assert below[0] > 0.7
    assert above[0] < 0


def norse(module: str) -> Any:
    """Return a module of Norse."""
    pytest.importorskip("norse", reason="norse is not installed")
    return pytest.importorskip(f"norse.torch.functional.{module}")


def double(**values: float) -> dict[str, Tensor]:
    return {n: torch.tensor(x, dtype=torch.float64) for n, x in values.items()}


SLOPE = lnm.surrogate.fast_sigmoid(alpha=1.0)
"""Norse's SuperSpike, which ignores its alpha (1.1.0)."""


@pytest.mark.parametrize("a", [0.0, 0.8])
def test_adex_is_that_of_norse(a: float) -> None:
    """LIFAdEx at time steps of 1 ms, with its synaptic current."""
    module = norse("lif_adex")
    p = module.LIFAdExParameters(
        **double(
            adaptation_current=a, adaptation_spike=0.3, delta_T=0.4, tau_ada_inv=50.0,
            tau_syn_inv=250.0, tau_mem_inv=200.0, v_leak=0.05, v_th=0.6, v_reset=-0.1,
        )
    )  # fmt: skip
    neuron = lnm.get(
        "adex", tau=5.0, tau_w=20.0, tau_syn=4.0, a=a, b=0.3, delta_T=0.4, v_threshold=0.6,
        v_rest=0.05, v_reset=-0.1, surrogate=SLOPE,
    )  # fmt: skip
    zero = torch.zeros(SHAPE[1:], dtype=torch.float64)
    agree(
        neuron, *draw(0.6, 0.3), lambda x, s: module.lif_adex_feed_forward_step(x, s, p),
        lambda s: {"v": s.v, "i": s.i, "w": s.a},
        module.LIFAdExFeedForwardState(v=zero, i=zero, a=zero),
        state={"v": zero.numpy()},
    )  # fmt: skip


def test_the_defaults_of_adex_are_those_of_norse() -> None:
    """LIFAdExParameters() at 1 ms."""
    p = norse("lif_adex").LIFAdExParameters()
    ours = {q.name: q.init for q in lnm.get("adex").params}
    assert ours == pytest.approx(
        {
            "tau": float(1000 / p.tau_mem_inv), "tau_w": float(1000 / p.tau_ada_inv),
            "a": float(p.adaptation_current), "b": float(p.adaptation_spike),
            "delta_T": float(p.delta_T), "theta_rh": float(p.v_th), "v_rest": float(p.v_leak),
            "v_threshold": float(p.v_th), "tau_syn": float(1000 / p.tau_syn_inv),
        },
        rel=1e-6,
    )  # fmt: skip


@pytest.mark.parametrize(
    "row", [(0.02, 0.2, -65.0, 6.0), (0.02, 0.2, -50.0, 2.0), (1, 0.2, -60, -21)]
)
def test_izhikevich_in_norse_s_form(row: tuple[float, ...]) -> None:
    """Tonic spiking, bursts, and a depolarising after-potential, from the same states."""
    module = norse("izhikevich")
    a, b, c, d = row
    p = module.IzhikevichParameters(
        **double(a=a, b=b, c=c, d=d, sq=0.04, mn=5, bias=140, v_th=30, tau_inv=250)
    )
    neuron = lnm.get("izhikevich", form="norse", a=a, b=b, c=c, d=d, surrogate=SLOPE)
    x, grad = draw(8.0, 2.5, (60, 2, 3))
    start = {
        n: torch.full(x.shape[1:], v, dtype=torch.float64) for n, v in (("v", -70), ("u", -70 * b))
    }
    agree(
        neuron, x, grad, lambda x, s: module.izhikevich_feed_forward_step(x, s, p),
        lambda s: {"v": s.v, "u": s.u}, module.IzhikevichState(**start), rtol=1e-6,
    )  # fmt: skip


@pytest.mark.parametrize("refractory", [0, 1, 5])
def test_refractory_lif_has_the_spikes_of_norse(refractory: int) -> None:
    """LIFRefrac with its synaptic current; Norse differentiates the counter, so spikes alone."""
    module, lif = norse("lif_refrac"), norse("lif")
    p = module.LIFRefracParameters(
        lif=lif.LIFParameters(
            **double(tau_syn_inv=250, tau_mem_inv=200, v_leak=0.05, v_th=0.3, v_reset=-0.1)
        ),
        rho_reset=torch.tensor(float(refractory), dtype=torch.float64),
    )
    neuron = lnm.get(
        "refractory_lif", tau=5.0, tau_syn=4.0, refractory=refractory, v_threshold=0.3,
        v_rest=0.05, v_reset=-0.1,
    )  # fmt: skip
    x, _ = draw(0.6, 0.2, (60, 3, 5))
    zero = torch.zeros(x.shape[1:], dtype=torch.float64)
    state, out = module.LIFRefracFeedForwardState(lif.LIFFeedForwardState(v=zero, i=zero), zero), []
    for now in torch.tensor(x):
        spikes, state = module.lif_refrac_feed_forward_step(now, state, p)
        out.append(spikes)
    result = lnm.interpret(neuron, x, state={"v": zero.numpy()})
    np.testing.assert_array_equal(result.out, torch.stack(out).numpy())
    assert result.out.sum() > 30
    for name, value in (("v", state.lif.v), ("i", state.lif.i), ("pause", state.rho)):
        np.testing.assert_allclose(result.states[name], value.numpy(), 1e-10, 1e-12, err_msg=name)


STEPS = (12, 2, 3, 2, 2)
THEIRS = {
    "w_alpha": "alpha", "w_beta": "beta", "w_gamma": "gamma", "w_tau": "tau",
    "w_v_threshold": "v_threshold", "w_leak": "linear_decay", "w_v_subreset": "v_subreset",
}  # fmt: skip
"""Our parameter of glif -> SpikingJelly's."""


@pytest.mark.parametrize(("channels", "per_step"), [(None, False), (3, True)])
def test_glif_is_that_of_spikingjelly(channels: int | None, per_step: bool) -> None:
    """Spikes, final potential, and gradients of x and of every parameter; g per step is an input.

    SpikingJelly has one g per step: one for all steps is all of them equal, their gradients summed.
    """
    node = jelly("GatedLIFNode", STEPS[0], channels)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in node.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.7)
        if not per_step:
            node.conduct.copy_(node.conduct[:1].expand_as(node.conduct))
    rng = np.random.default_rng(3)
    x, grad = rng.normal(0.6, 1.0, STEPS), rng.normal(size=STEPS)
    leaf = torch.tensor(x, requires_grad=True)
    spikes = node(leaf)
    spikes.backward(torch.tensor(grad))
    assert 0.05 < float(spikes.detach().mean()) < 0.95
    neuron = lnm.get("glif", per="channel" if channels else "layer", g_per_step=per_step)
    given: dict[str, Any] = {w: getattr(node, n).detach().numpy() for w, n in THEIRS.items()}
    w = node.conduct.detach().numpy()
    inputs = [x]
    if per_step:
        steps = (1 / (1 + np.exp(-w))).reshape(STEPS[0], 1, -1, 1, 1)
        inputs.append(np.broadcast_to(steps, STEPS).copy())
    else:
        given["w_g"] = w[0]
    result = lnm.interpret(neuron, *inputs, grad_out=grad, **given)
    np.testing.assert_array_equal(result.out, spikes.detach().numpy())
    np.testing.assert_allclose(result.states["v"], node.v.detach().numpy(), rtol=1e-10)
    ours = {word: result.grads[word] for word in ("x", *THEIRS)}
    theirs = {"x": leaf.grad} | {word: getattr(node, n).grad for word, n in THEIRS.items()}
    if per_step:
        slope = (inputs[1] * (1 - inputs[1])).mean((1, 3, 4))
        ours["g"], theirs["g"] = result.grads["g"].sum((1, 3, 4)) * slope, node.conduct.grad
    else:
        ours["w_g"], theirs["w_g"] = result.grads["w_g"], node.conduct.grad.sum(0)
    for word, value in theirs.items():
        np.testing.assert_allclose(ours[word], value.numpy(), 1e-8, 1e-10, err_msg=word)


def test_glif_begins_where_spikingjelly_does() -> None:
    """tau .25, threshold .5, g .5, leak threshold/(2T); gates at 1/2, their mean there."""
    node = jelly("GatedLIFNode", 6)
    ours = {p.name: p.init for p in lnm.get("glif", time_steps=6).params}
    for word, name in THEIRS.items():
        value = float(getattr(node, name).detach())
        near = 0.1 if name in ("alpha", "beta", "gamma") else 1e-6
        assert ours[word] == pytest.approx(value, abs=near), word
    assert ours["w_g"] == pytest.approx(float(node.conduct[0].detach()))


@pytest.mark.parametrize(
    ("detach_reset", "tau_syn"),
    [(True, 5.0), (True, None), pytest.param(False, 5.0, marks=pytest.mark.slow)],
)
def test_alif_of_lsnn_is_that_of_norse(detach_reset: bool, tau_syn: float | None) -> None:
    """With Norse's current, and without it: tau_syn of one step, which only delays x by a step.

    `lsnn_feed_forward_step` differentiates the spike in the reset, `lsnn_step` detaches it. Time
    constants are given as inverses: float64 here.
    """
    lsnn = norse("lsnn")
    inverse = {"tau_syn_inv": tau_syn or 1.0, "tau_mem_inv": 4.0, "tau_adapt_inv": 15.0}
    p = lsnn.LSNNParameters(
        **{word: 1 / value for word, value in double(**inverse).items()},
        **double(v_leak=0.0, v_th=0.3, v_reset=-0.1, beta=0.4),
    )
    x, grad = draw(1.5 if tau_syn is None else 0.5, 0.6, (20, 2, 3))
    zero, none = torch.zeros(x.shape[1:], dtype=torch.float64), torch.zeros(3, 3).double()
    later = iter([*torch.tensor(x)[1:], zero])

    def step(now: Tensor, state: Any) -> Any:
        z, v, i, b = state
        if tau_syn is None:
            i, now = now, next(later)
        if detach_reset:
            z, new = lsnn.lsnn_step(
                now, lsnn.LSNNState(z=z, v=v, i=i, b=b), torch.eye(3).double(), none, p, dt=1.0
            )
        else:
            old = lsnn.LSNNFeedForwardState(v=v, i=i, b=b)
            z, new = lsnn.lsnn_feed_forward_step(now, old, p, dt=1.0)
        return z, (z, new.v, new.i, new.b)

    neuron = lnm.get(
        "alif", form="lsnn", tau_m=4.0, tau_adp=15.0, v_threshold=0.3, beta=0.4, v_reset=-0.1,
        tau_syn=tau_syn, surrogate=SLOPE,
    ).with_detach_reset(detach_reset)  # fmt: skip
    agree(neuron, x, grad, step, lambda s: {"v": s[1], "b": s[3]}, (zero, zero, zero, zero + 0.3))
