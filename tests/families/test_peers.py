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


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("v_reset", [0.0, -0.2, None])
class TestSpikingJelly:
    """Hard and soft resets, with the spike in them differentiated and detached."""

    @pytest.mark.parametrize("scale_reset", [False, True])
    @pytest.mark.parametrize("decay_input", [False, True])
    def test_klif(
        self, v_reset: Any, detach_reset: bool, decay_input: bool, scale_reset: bool
    ) -> None:
        """KLIFNode, and the gradient of its k."""
        node = jelly(
            "KLIFNode", scale_reset=scale_reset, tau=1.7, decay_input=decay_input,
            v_threshold=0.8, v_reset=v_reset, detach_reset=detach_reset,
        )  # fmt: skip
        with torch.no_grad():
            node.k.fill_(1.25)
        neuron = lnm.get(
            "klif", k=1.25, scale_reset=scale_reset, tau=1.7, decay_input=decay_input,
            v_threshold=0.8, v_reset=v_reset,
        ).with_detach_reset(detach_reset)  # fmt: skip
        agree(neuron, *draw(1.5), **with_node(node, {"v": "v"}), leaves={"k": node.k})

    def test_eif(self, v_reset: Any, detach_reset: bool) -> None:
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


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("max_count", [1, 4, 7])
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
class TestSnnTorch:
    """Each reset, one step late and in the step of the spike; learnable decays and threshold."""

    def test_leaky(self, reset: str, reset_delay: bool) -> None:
        """Leaky."""
        layer = snn(
            "Leaky", beta=0.8, threshold=0.75, reset_mechanism=reset, reset_delay=reset_delay,
            learn_beta=True, learn_threshold=True,
        )  # fmt: skip
        neuron = lnm.get(
            "leaky", beta=0.8, v_threshold=0.75, reset=reset, reset_delay=reset_delay,
            learn_beta=True, learn_threshold=True,
        )  # fmt: skip
        zero = torch.zeros(SHAPE[1:], dtype=torch.float64)
        agree(
            neuron, *draw(0.7, 0.1), layer, lambda v: {"v": v}, zero,
            {"beta": layer.beta, "v_threshold": layer.threshold}, IN_FLOAT32,
        )  # fmt: skip

    def test_synaptic(self, reset: str, reset_delay: bool) -> None:
        """Synaptic."""
        layer = snn(
            "Synaptic", alpha=0.6, beta=0.7, threshold=0.75, reset_mechanism=reset,
            reset_delay=reset_delay, learn_alpha=True, learn_beta=True, learn_threshold=True,
        )  # fmt: skip
        neuron = lnm.get(
            "synaptic", alpha=0.6, beta=0.7, v_threshold=0.75, reset=reset,
            reset_delay=reset_delay, learn_alpha=True, learn_beta=True, learn_threshold=True,
        )  # fmt: skip

        def step(x: Tensor, state: Any) -> Any:
            spikes, *state = layer(x, *state)
            return spikes, state

        zero = torch.zeros(SHAPE[1:], dtype=torch.float64)
        agree(
            neuron, *draw(0.5, 0.0), step, lambda s: {"i": s[0], "v": s[1]}, [zero, zero],
            {"alpha": layer.alpha, "beta": layer.beta, "v_threshold": layer.threshold},
            IN_FLOAT32,
        )  # fmt: skip


@pytest.mark.parametrize("circuit", [{"beta": 0.75}, {"r": 2.0, "c": 3.0}, {"r": 0.5, "beta": 0.5}])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_lapicque_is_that_of_snntorch(reset: str, circuit: dict[str, float]) -> None:
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
