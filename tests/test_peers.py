"""The interpreter against SpikingJelly, snnTorch and Norse, all in float64.

Spikes must be equal unless a potential lies within rounding of its threshold, which random inputs
avoid. SpikingJelly fires at >=, as we do; snnTorch and Norse fire at >.
"""

from __future__ import annotations

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.language.functions import as_expr

pytestmark = pytest.mark.peers

torch = pytest.importorskip("torch")

SHAPE = (12, 3, 5)


@pytest.fixture
def sj():
    """SpikingJelly's neuron, surrogate and functional modules."""
    reason = "spikingjelly is not installed"
    pytest.importorskip("spikingjelly", reason=reason)
    from spikingjelly.activation_based import functional, neuron, surrogate

    class Modules:
        pass

    Modules.neuron, Modules.surrogate, Modules.functional = neuron, surrogate, functional
    return Modules


def draw(scale: float = 1.0, shift: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    return scale * rng.normal(shift, 1.0, SHAPE), rng.normal(size=SHAPE)


def run_jelly(sj, node, x: np.ndarray, grad: np.ndarray):
    """Return spikes, the gradient of x, and the final potential, step by step in float64."""
    node = node.double()
    sj.functional.reset_net(node)
    leaf = torch.tensor(x, requires_grad=True)
    out = torch.stack([node(step) for step in leaf])
    out.backward(torch.tensor(grad))
    return out.detach().numpy(), leaf.grad.numpy(), node.v.detach().numpy()


def agree(sj, node, neuron: lnm.Neuron, x: np.ndarray, grad: np.ndarray, **params) -> lnm.Neuron:
    spikes, grad_x, v = run_jelly(sj, node, x, grad)
    result = lnm.interpret(neuron, x, grad_out=grad, **params)
    np.testing.assert_array_equal(result.out, spikes)
    assert 0.02 < spikes.mean() < 0.98
    np.testing.assert_allclose(result.states["v"], v, rtol=1e-10, atol=1e-10)
    scale = np.abs(grad_x).max()
    assert scale > 0
    np.testing.assert_allclose(result.grads["x"], grad_x, rtol=1e-8, atol=1e-9 * scale)
    return result


# name of ours -> SpikingJelly's, both at an alpha of their own
SURROGATES = {
    "atan": ("ATan", 2.0),
    "sigmoid": ("Sigmoid", 4.0),
    "rectangle": ("Rect", 1.0),
    "triangle": ("PiecewiseQuadratic", 1.0),
    "erf": ("Erf", 2.0),
    "soft_sign": ("SoftSign", 2.0),
    "piecewise_exponential": ("PiecewiseExp", 1.0),
}


def pair(sj, name: str, alpha: float | None = None):
    theirs, default = SURROGATES[name]
    a = default if alpha is None else alpha
    ours = lnm.surrogate.SURROGATES[name](alpha=a)
    return ours, getattr(sj.surrogate, theirs)(alpha=a)


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("v_reset", [0.0, -0.2, None])
class TestModels:
    """Each model at hard and soft reset, with the reset's spike differentiated and detached."""

    def test_if(self, sj, v_reset, detach_reset):
        """IFNode."""
        ours, theirs = pair(sj, "atan")
        node = sj.neuron.IFNode(1.0, v_reset, theirs, detach_reset)
        neuron = lnm.get("if", v_reset=v_reset, surrogate=ours).with_detach_reset(detach_reset)
        agree(sj, node, neuron, *draw(0.6))

    @pytest.mark.parametrize("decay_input", [True, False])
    def test_lif(self, sj, v_reset, detach_reset, decay_input):
        """LIFNode, whose leak goes to v_reset (0 under soft reset)."""
        ours, theirs = pair(sj, "atan")
        node = sj.neuron.LIFNode(1.7, decay_input, 0.8, v_reset, theirs, detach_reset)
        neuron = lnm.get(
            "lif", tau=1.7, decay_input=decay_input, v_threshold=0.8, v_reset=v_reset,
            surrogate=ours,
        ).with_detach_reset(detach_reset)  # fmt: skip
        agree(sj, node, neuron, *draw(1.5))

    @pytest.mark.parametrize("decay_input", [True, False])
    def test_plif(self, sj, v_reset, detach_reset, decay_input):
        """ParametricLIFNode, and the gradient of its w."""
        ours, theirs = pair(sj, "atan")
        node = sj.neuron.ParametricLIFNode(1.6, decay_input, 0.9, v_reset, theirs, detach_reset)
        neuron = lnm.get(
            "plif", tau=1.6, decay_input=decay_input, v_threshold=0.9, v_reset=v_reset,
            surrogate=ours,
        ).with_detach_reset(detach_reset)  # fmt: skip
        x, grad = draw(1.5)
        start = float(node.w.detach())  # float32 in SpikingJelly's constructor
        result = agree(sj, node, neuron, x, grad, w=start)
        assert start == pytest.approx(neuron.params[0].init, rel=1e-6)
        np.testing.assert_allclose(result.grads["w"], node.w.grad.numpy(), rtol=1e-8)

    def test_qif(self, sj, v_reset, detach_reset):
        """QIFNode."""
        ours, theirs = pair(sj, "atan")
        node = sj.neuron.QIFNode(
            2.0, 0.8, 1.0, 1.0, 0.05, v_reset, theirs, detach_reset=detach_reset
        )
        neuron = lnm.get("qif", v_rest=0.05, v_reset=v_reset, surrogate=ours).with_detach_reset(
            detach_reset
        )
        agree(sj, node, neuron, *draw(1.0, 0.8))

    def test_izhikevich(self, sj, v_reset, detach_reset):
        """IzhikevichNode, which under detach_reset detaches the spike in v alone.

        Its recovery variable w keeps the gradient of b * spike, ours detaches it, so b is 0 there.
        """
        ours, theirs = pair(sj, "atan")
        b = 0.0 if detach_reset else 0.3
        node = sj.neuron.IzhikevichNode(
            2.0, 0.8, 1.0, 1.0, v_reset, 0.05, 0.0, 3.0, 0.2, b, theirs, detach_reset
        )
        neuron = lnm.get(
            "izhikevich", tau=2.0, v_c=0.8, a0=1.0, v_threshold=1.0, v_rest=0.05, v_reset=v_reset,
            tau_w=3.0, a=0.2, b=b, surrogate=ours,
        ).with_detach_reset(detach_reset)  # fmt: skip
        agree(sj, node, neuron, *draw(1.5, 0.8))

    def test_cuba_lif(self, sj, v_reset, detach_reset):
        """CUBALIFNode, whose constructor takes no detach_reset: it is an attribute."""
        ours, theirs = pair(sj, "atan")
        node = sj.neuron.CUBALIFNode(0.5, 0.75, 0.5, v_reset, theirs)
        node.detach_reset = detach_reset
        neuron = lnm.get("cuba_lif", v_reset=v_reset, surrogate=ours).with_detach_reset(
            detach_reset
        )
        agree(sj, node, neuron, *draw(0.4, 0.3))


@pytest.mark.parametrize("alpha", [None, 1.5])
@pytest.mark.parametrize("name", SURROGATES)
def test_surrogates(sj, name, alpha):
    """Each surrogate that SpikingJelly has too, at its default width and another."""
    ours, theirs = pair(sj, name, alpha)
    node = sj.neuron.LIFNode(2.0, True, 1.0, None, theirs)
    neuron = lnm.get("lif", v_reset=None, surrogate=ours)
    agree(sj, node, neuron, *draw(2.5))


@pytest.mark.parametrize(
    "name",
    ["if", "lif", "plif", "qif", "cuba_lif", "izhikevich"],
)
def test_defaults_are_those_of_spikingjelly(sj, name):
    """A family without arguments equals the node without arguments, except for the surrogate."""
    node_class = {
        "if": "IFNode", "lif": "LIFNode", "plif": "ParametricLIFNode", "qif": "QIFNode",
        "cuba_lif": "CUBALIFNode", "izhikevich": "IzhikevichNode",
    }[name]  # fmt: skip
    ours, theirs = pair(sj, "atan")
    node = getattr(sj.neuron, node_class)(surrogate_function=theirs)
    x, grad = draw(1.5, 0.6)
    spikes, grad_x, _ = run_jelly(sj, node, x, grad)
    result = lnm.interpret(lnm.get(name, surrogate=ours), x, grad_out=grad)
    np.testing.assert_array_equal(result.out, spikes)
    np.testing.assert_allclose(result.grads["x"], grad_x, rtol=1e-5, atol=1e-6)


def test_fires_at_the_threshold_like_spikingjelly(sj):
    """H(0) = 1 in both."""
    x = np.array([[1.0, np.nextafter(1.0, 0)]])
    spikes, _, _ = run_jelly(sj, sj.neuron.IFNode(), x, np.ones_like(x))
    np.testing.assert_array_equal(spikes, [[1.0, 0.0]])
    np.testing.assert_array_equal(lnm.interpret(lnm.get("if"), x).out, spikes)


def test_li_is_the_non_spiking_lif_of_spikingjelly(sj):
    """NonSpikingLIFNode charges as `li` does; its own output is decoded from all of them."""
    x, grad = draw()
    node = sj.neuron.NonSpikingLIFNode(tau=2.5)
    leaf = torch.tensor(x, requires_grad=True)
    node.v = torch.zeros(SHAPE[1:], dtype=torch.float64)
    potentials = []
    for step in leaf:
        node.neuronal_charge(step)
        potentials.append(node.v)
    out = torch.stack(potentials)
    out.backward(torch.tensor(grad))
    result = lnm.interpret(lnm.get("li", tau=2.5), x, grad_out=grad)
    np.testing.assert_allclose(result.out, out.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(result.grads["x"], leaf.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mechanism", ["subtract", "zero"])
def test_leaky_of_snntorch(mechanism):
    """snnTorch's Leaky resets one step late, through a detached spike, and fires at >.

    A state set by reset alone remembers the spike; detach_reset makes it a constant. The slope is
    fast_sigmoid, which SpikingJelly has at no width but 1. Spikes are float32 there.
    """
    snn = pytest.importorskip("snntorch", reason="snntorch is not installed")
    v, s_prev, x = lnm.state("v"), lnm.state("s_prev"), lnm.input("x")
    beta = lnm.param("beta", init=0.8)
    late = {"subtract": beta * v + x - s_prev, "zero": beta * (1 - s_prev) * v + x}
    neuron = lnm.Neuron(
        charge={v: late[mechanism]},
        fire=v - 1,
        reset={s_prev: lnm.spike},
        surrogate=lnm.surrogate.fast_sigmoid(alpha=5.0),
        detach_reset=True,
    )
    node = snn.Leaky(
        0.8, spike_grad=snn.surrogate.fast_sigmoid(slope=5), reset_mechanism=mechanism,
        learn_beta=True,
    ).double()  # fmt: skip
    values, grad = draw(0.7)
    leaf = torch.tensor(values, requires_grad=True)
    mem, out = torch.zeros(SHAPE[1:], dtype=torch.float64), []
    for step in leaf:
        spike, mem = node(step, mem)
        out.append(spike)
    spikes = torch.stack(out)
    spikes.backward(torch.tensor(grad))
    held = float(node.beta.detach())  # 0.8 in float32
    result = lnm.interpret(neuron, values, grad_out=grad, beta=held)
    np.testing.assert_array_equal(result.out, spikes.detach().numpy())
    assert 0.02 < result.out.mean() < 0.98
    np.testing.assert_allclose(result.grads["x"], leaf.grad.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result.grads["beta"], node.beta.grad.item(), rtol=1e-4)


def norse(module: str):
    pytest.importorskip("norse", reason="norse is not installed")
    return pytest.importorskip(f"norse.torch.functional.{module}")


def double(**values: float):
    return {n: torch.tensor(x, dtype=torch.float64) for n, x in values.items()}


def test_lif_of_norse():
    """Norse's LIF has a synaptic current that decays after it is used, and fires at >.

    Its SuperSpike slope takes an alpha and ignores it (1.1.0): it is 1 / (1 + |z|)**2.
    """
    module = norse("lif")
    v, i, x = lnm.state("v"), lnm.state("i"), lnm.input("x")
    new = i + x
    neuron = lnm.Neuron(
        charge={v: v + 0.1 * (0.05 - v + new), i: new - 0.2 * new},
        fire=v - 0.2,
        reset=lnm.hard_reset(v, -0.1),
        surrogate=lnm.surrogate.fast_sigmoid(alpha=1.0),
    )
    p = module.LIFParameters(
        **double(tau_syn_inv=200, tau_mem_inv=100, v_leak=0.05, v_th=0.2, v_reset=-0.1, alpha=20),
        method="super",
    )
    values, grad = draw(1.0, 0.3)
    leaf = torch.tensor(values, requires_grad=True)
    zero = torch.zeros(SHAPE[1:], dtype=torch.float64)
    state, out = module.LIFFeedForwardState(v=zero, i=zero), []
    for step in leaf:
        spike, state = module.lif_feed_forward_step(step, state, p, dt=0.001)
        out.append(spike)
    spikes = torch.stack(out)
    spikes.backward(torch.tensor(grad))
    result = lnm.interpret(neuron, values, grad_out=grad)
    np.testing.assert_array_equal(result.out, spikes.detach().numpy())
    assert 0.02 < result.out.mean() < 0.98
    np.testing.assert_allclose(result.states["v"], state.v.detach().numpy(), atol=1e-9)
    np.testing.assert_allclose(result.states["i"], state.i.detach().numpy(), atol=1e-9)
    np.testing.assert_allclose(result.grads["x"], leaf.grad.numpy(), rtol=1e-7, atol=1e-9)


def test_izhikevich_of_norse():
    """Norse's Izhikevich neuron with the constants of the paper; it fires at >.

    Its u reads the old v, so that both charges see the states of the last step, as ours do. The
    slope is that of alpha = 1, as above.
    """
    module = norse("izhikevich")
    v, u, x = lnm.state("v"), lnm.state("u"), lnm.input("x")
    h = as_expr(0.25)
    neuron = lnm.Neuron(
        charge={v: v + h * (0.04 * v**2 + 5 * v + 140 - u + x), u: u + h * 0.02 * (0.2 * v - u)},
        fire=v - 30,
        reset={**lnm.hard_reset(v, -65.0), u: u + 6 * lnm.spike},
        surrogate=lnm.surrogate.fast_sigmoid(alpha=1.0),
    )
    numbers = double(
        a=0.02, b=0.2, c=-65, d=6, sq=0.04, mn=5, bias=140, v_th=30, tau_inv=250, alpha=0.5
    )
    p = module.IzhikevichParameters(**numbers, method="super")
    rng = np.random.default_rng(8)
    shape = (120, 2, 3)
    values, grad = rng.uniform(5, 25, shape), rng.normal(size=shape)
    leaf = torch.tensor(values, requires_grad=True)
    start = {n: torch.full(shape[1:], x, dtype=torch.float64) for n, x in (("v", -65), ("u", -13))}
    state, out = module.IzhikevichState(**start), []
    for step in leaf:
        spike, state = module.izhikevich_feed_forward_step(step, state, p, dt=0.001)
        out.append(spike)
    spikes = torch.stack(out)
    spikes.backward(torch.tensor(grad))
    given = {"state": {"v": -65.0, "u": -13.0}, "grad_out": grad}
    result = lnm.interpret(neuron, values, **given)
    np.testing.assert_array_equal(result.out, spikes.detach().numpy())
    assert result.out.sum() > 10
    scale = np.abs(leaf.grad.numpy()).max()
    np.testing.assert_allclose(result.grads["x"], leaf.grad.numpy(), rtol=1e-5, atol=1e-7 * scale)
