"""`glif` and `alif` against SpikingJelly, Norse and NumPy loops, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.errors import ModelError
from tests.refusals import refused

SHAPE = (12, 2, 3, 2, 2)
GATED = {
    "alpha": 0.3, "beta": 0.6, "gamma": 0.45, "tau": 0.35, "v_threshold": 0.55, "leak": 0.1,
    "v_subreset": 0.4, "g": 0.7,
}  # fmt: skip
THEIRS = {
    "w_alpha": "alpha", "w_beta": "beta", "w_gamma": "gamma", "w_tau": "tau",
    "w_v_threshold": "v_threshold", "w_leak": "linear_decay", "w_v_subreset": "v_subreset",
}  # fmt: skip


def draw(shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.normal(0.6, 1.0, shape), rng.normal(size=shape)


def logit(p: Any) -> Any:
    return np.log(p / (1 - np.asarray(p)))


@pytest.fixture(params=[None, 3])
def jelly(request: pytest.FixtureRequest) -> Any:
    """SpikingJelly's node, per layer or per channel, every parameter drawn."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("spikingjelly", reason="spikingjelly is not installed")
    from spikingjelly.activation_based import neuron, surrogate

    node = neuron.GatedLIFNode(SHAPE[0], request.param, surrogate_function=surrogate.ATan(2.0))
    node = node.double()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in node.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.7)
    return node


def run_jelly(node: Any, x: np.ndarray, grad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import torch

    leaf = torch.tensor(x, requires_grad=True)
    out = node(leaf)
    out.backward(torch.tensor(grad))
    return out.detach().numpy(), leaf.grad.numpy()


@pytest.mark.peers
@pytest.mark.parametrize("per_step", [False, True])
def test_glif_is_that_of_spikingjelly(jelly: Any, per_step: bool) -> None:
    """Spikes, final potential, and gradients of x and of every parameter; g per step is an input.

    SpikingJelly has one g per step: one for all steps is all of them equal, their gradients summed.
    """
    import torch

    if not per_step:
        with torch.no_grad():
            jelly.conduct.copy_(jelly.conduct[:1].expand_as(jelly.conduct))
    x, grad = draw()
    spikes, grad_x = run_jelly(jelly, x, grad)
    assert 0.05 < spikes.mean() < 0.95
    per = "channel" if jelly.alpha.dim() else "layer"
    neuron = lnm.get("glif", per=per, g_per_step=per_step)
    given: dict[str, Any] = {w: getattr(jelly, n).detach().numpy() for w, n in THEIRS.items()}
    w = jelly.conduct.detach().numpy()
    inputs = [x]
    if per_step:
        steps = (1 / (1 + np.exp(-w))).reshape(SHAPE[0], 1, -1, 1, 1)
        inputs.append(np.broadcast_to(steps, SHAPE).copy())
    else:
        given["w_g"] = w[0]
    result = lnm.interpret(neuron, *inputs, grad_out=grad, **given)
    np.testing.assert_array_equal(result.out, spikes)
    np.testing.assert_allclose(result.states["v"], jelly.v.detach().numpy(), rtol=1e-10)
    close = {"rtol": 1e-8, "atol": 1e-10}
    np.testing.assert_allclose(result.grads["x"], grad_x, **close)
    for word, name in THEIRS.items():
        theirs = getattr(jelly, name).grad.numpy()
        np.testing.assert_allclose(result.grads[word], theirs, **close, err_msg=word)
    theirs = jelly.conduct.grad.numpy()
    if per_step:
        axes = (1, 2, 3, 4) if per == "layer" else (1, 3, 4)
        slope = (inputs[1] * (1 - inputs[1])).mean(axes)
        np.testing.assert_allclose(result.grads["g"].sum(axes) * slope, theirs, **close)
    else:
        np.testing.assert_allclose(result.grads["w_g"], theirs.sum(0), **close)


@pytest.mark.peers
def test_glif_begins_where_spikingjelly_does() -> None:
    """tau .25, threshold .5, g .5, leak threshold/(2T); gates at 1/2, their mean there."""
    pytest.importorskip("spikingjelly", reason="spikingjelly is not installed")
    from spikingjelly.activation_based import neuron

    node = neuron.GatedLIFNode(6)
    ours = {p.name: p.init for p in lnm.get("glif", time_steps=6).params}
    for word, name in THEIRS.items():
        value = float(getattr(node, name).detach())
        assert ours[word] == pytest.approx(value, abs=0.1 if name in GATES else 1e-6), word
    assert ours["w_g"] == pytest.approx(float(node.conduct[0].detach()))


GATES = ("alpha", "beta", "gamma")


def test_glif_with_its_gates_open_is_a_lif() -> None:
    """Gates at 1 - 1e-15 and g near 1: h = tau*v + x with a hard reset, one step late."""
    one = 1 - 1e-15
    neuron = lnm.get("glif", alpha=one, gamma=one, beta=1e-15, tau=0.5, v_threshold=0.999)
    x, _ = draw((20, 2, 5))
    lif = lnm.get("lif", tau=2.0, decay_input=False, v_threshold=0.999)
    np.testing.assert_array_equal(lnm.interpret(neuron, x).out, lnm.interpret(lif, x).out)


def test_every_glif_parameter_has_its_own_granularity() -> None:
    neuron = lnm.get("glif", per={"w_tau": "neuron", "w_g": "channel"})
    found = {p.name: p.per for p in neuron.params}
    assert (found["w_tau"], found["w_g"], found["w_alpha"]) == ("neuron", "channel", "layer")
    assert all(p.learnable for p in neuron.params)


@pytest.mark.parametrize(
    "row",
    [
        ({"alpha": 1.0}, "glif", "alpha is 1.0", "a number > 0 and < 1"),
        ({"v_threshold": "a"}, "glif", "v_threshold is 'a'", "a number > 0 and < 1"),
        ({"leak": True}, "glif", "leak is True", "a number > 0 and < 1"),
        ({"time_steps": 0}, "glif", "time_steps is 0", "an integer >= 1"),
        ({"g_per_step": 1}, "glif", "g_per_step is 1", "True, False"),
    ],
)
def test_mistakes_of_glif(row: tuple[Any, ...]) -> None:
    arguments, *parts = row
    with refused(ModelError, *parts):
        lnm.get("glif", **arguments)


def yin_loop(x: np.ndarray, tau_m: Any, tau_adp: Any, rest: float, beta: float) -> Any:
    """Yin et al.'s update (2021), with dt = R = 1: spikes and the final v and b."""
    alpha, rho = np.exp(-1 / np.asarray(tau_m)), np.exp(-1 / np.asarray(tau_adp))
    v = b = s = np.zeros(x.shape[1:])
    spikes = []
    for step in x:
        b = rho * b + (1 - rho) * s
        threshold = rest + beta * b
        v = alpha * v + (1 - alpha) * step - threshold * s
        s = (v >= threshold).astype(float)
        spikes.append(s)
    return np.stack(spikes), v, b


def test_alif_of_yin_is_the_numpy_loop() -> None:
    """Both time constants per channel."""
    x, _ = draw((40, 2, 3))
    given = {"tau_m": np.array([3.0, 8.0, 20.0]), "tau_adp": np.array([5.0, 30.0, 90.0])}
    neuron = lnm.get("alif", v_threshold=0.05, beta=1.5, per="channel")
    result = lnm.interpret(neuron, x, **given)
    spikes, v, b = yin_loop(x, **given, rest=0.05, beta=1.5)
    np.testing.assert_array_equal(result.out, spikes)
    assert 0.05 < spikes.mean() < 0.95
    np.testing.assert_allclose(result.states["v"], v, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(result.states["b"], b, rtol=1e-12, atol=1e-14)


class Atan:
    """A spike with the slope of atan(alpha=2), for autograd."""

    @staticmethod
    def apply(z: Any) -> Any:
        import torch

        soft = torch.atan(torch.pi * z) / torch.pi
        return (z >= 0).to(z.dtype) + (soft - soft.detach())


def test_gradients_of_alif_of_yin_are_those_of_autograd() -> None:
    """x and both time constants, through the spike in the reset and in the threshold."""
    torch = pytest.importorskip("torch")
    x, grad = draw((15, 2, 3))
    neuron = lnm.get("alif", tau_m=6.0, tau_adp=20.0, v_threshold=0.05)
    result = lnm.interpret(neuron, x, grad_out=grad)
    leaf = torch.tensor(x, requires_grad=True)
    tau_m, tau_adp = (torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in (6.0, 20.0))
    alpha, rho = torch.exp(-1 / tau_m), torch.exp(-1 / tau_adp)
    v = b = s = torch.zeros(x.shape[1:], dtype=torch.float64)
    out = []
    for step in leaf:
        b = rho * b + (1 - rho) * s
        v = alpha * v + (1 - alpha) * step - (0.05 + 1.8 * b) * s
        s = Atan.apply(v - 0.05 - 1.8 * b)
        out.append(s)
    spikes = torch.stack(out)
    spikes.backward(torch.tensor(grad))
    np.testing.assert_array_equal(result.out, spikes.detach().numpy())
    for name, value in (("x", leaf), ("tau_m", tau_m), ("tau_adp", tau_adp)):
        np.testing.assert_allclose(result.grads[name], value.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.peers
@pytest.mark.parametrize("detach_reset", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("tau_syn", [5.0, None])
def test_alif_of_lsnn_is_that_of_norse(detach_reset: bool, tau_syn: float | None) -> None:
    """With Norse's current, and without it: tau_syn of one step, which only delays x by a step.

    Norse fires at >, which random inputs cannot tell from >=; `lsnn_feed_forward_step`
    differentiates the spike in the reset, `lsnn_step` detaches it. Its slope is that of
    fast_sigmoid(alpha=1) whatever its alpha. Time constants are given as inverses: float64 here.
    """
    torch = pytest.importorskip("torch")
    pytest.importorskip("norse", reason="norse is not installed")
    from norse.torch.functional import lsnn

    def double(value: float) -> Any:
        return torch.tensor(value, dtype=torch.float64)

    p = lsnn.LSNNParameters(
        tau_syn_inv=1 / double(tau_syn or 1.0), tau_mem_inv=1 / double(4.0),
        tau_adapt_inv=1 / double(15.0), v_leak=double(0.0), v_th=double(0.3),
        v_reset=double(-0.1), beta=double(0.4),
    )  # fmt: skip
    x, grad = draw((20, 2, 3))
    x *= 1.5 if tau_syn is None else 0.5
    leaf = torch.tensor(x, requires_grad=True)
    zero = torch.zeros(x.shape[1:], dtype=torch.float64)
    v, i, b, s, out = zero, zero, zero + 0.3, zero, []
    none = torch.zeros(3, 3, dtype=torch.float64)
    for step in leaf if tau_syn else [*leaf, zero][1:]:
        if tau_syn is None:
            i = leaf[len(out)]
        if detach_reset:
            state = lsnn.LSNNState(z=s, v=v, i=i, b=b)
            eye = torch.eye(3, dtype=torch.float64)
            s, state = lsnn.lsnn_step(step, state, eye, none, p, dt=1.0)
        else:
            s, state = lsnn.lsnn_feed_forward_step(
                step, lsnn.LSNNFeedForwardState(v=v, i=i, b=b), p, dt=1.0
            )
        v, i, b = state.v, state.i, state.b
        out.append(s)
    spikes = torch.stack(out)
    spikes.backward(torch.tensor(grad))
    neuron = lnm.get(
        "alif", form="lsnn", tau_m=4.0, tau_adp=15.0, v_threshold=0.3, beta=0.4, v_reset=-0.1,
        tau_syn=tau_syn, surrogate=lnm.surrogate.fast_sigmoid(alpha=1.0),
    ).with_detach_reset(detach_reset)  # fmt: skip
    result = lnm.interpret(neuron, x, grad_out=grad)
    np.testing.assert_array_equal(result.out, spikes.detach().numpy())
    assert 0.05 < result.out.mean() < 0.95
    np.testing.assert_allclose(result.states["v"], v.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(result.states["b"], b.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(result.grads["x"], leaf.grad.numpy(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("form", ["yin", "lsnn"])
def test_an_alif_that_fires_fires_less(form: str) -> None:
    """Adaptation: of constant input, the second half of a sequence has fewer spikes."""
    neuron = lnm.get("alif", form=form, tau_m=3.0, tau_adp=60.0, v_threshold=0.2, beta=0.1)
    out = lnm.interpret(neuron, np.full((80, 1), 1.0)).out
    assert out[:40].sum() > out[40:].sum() > 0


def test_time_constants_may_be_drawn() -> None:
    """A function as tau_m: a value of its own per neuron, as Yin et al. begin."""
    torch = pytest.importorskip("torch")

    def normal(generator: Any, shape: tuple[int, ...]) -> Any:
        return torch.normal(20.0, 5.0, shape, generator=generator)

    neuron = lnm.get("alif", tau_m=normal, per={"tau_m": "neuron", "tau_adp": "channel"})
    layer = lnm.nn.NeuronLayer(neuron, shape=(2, 5), backend="torch")
    assert layer.tau_m.shape == (2, 5)
    assert layer.tau_adp.shape == (2,)
    assert layer.tau_m.std() > 1


ALIF = "a number as v_reset in form 'lsnn'; neither in form 'yin', whose reset is soft"


@pytest.mark.parametrize(
    "row",
    [
        ({"form": "bellec"}, "alif", "form is 'bellec'", "'yin', 'lsnn'"),
        ({"tau_m": 1.0}, "alif", "tau_m is 1.0", "a number > 1"),
        ({"tau_adp": None}, "alif", "tau_adp is None", "a number > 1"),
        ({"form": "lsnn", "tau_syn": 0}, "alif", "tau_syn is 0", "a number > 1 or None"),
        ({"beta": "a"}, "alif", "beta is 'a'", "a finite number"),
        ({"tau_syn": 5.0}, "alif", "form is 'yin', v_reset 0.0, tau_syn 5.0", ALIF),
        ({"v_reset": 0.5}, "alif", "form is 'yin', v_reset 0.5, tau_syn None", ALIF),
        (
            {"form": "lsnn", "v_reset": None},
            "alif",
            "form is 'lsnn', v_reset None, tau_syn None",
            ALIF,
        ),
        ({"learn_tau": 1}, "parameter 'tau_m'", "learnable is 1", "True, False"),
    ],
)
def test_mistakes_of_alif(row: tuple[Any, ...]) -> None:
    arguments, *parts = row
    with refused(ModelError, *parts):
        lnm.get("alif", **arguments)


def test_the_threshold_of_lsnn_begins_at_its_value_at_rest() -> None:
    """b began at the argument of the family when `with_init` gave another v_threshold."""
    x, grad = np.random.default_rng(0).normal(1, 2, (2, 12, 3))
    other = lnm.get("alif", form="lsnn").with_init(v_threshold=2.0)
    built = lnm.get("alif", form="lsnn", v_threshold=2.0)
    a, b = (lnm.interpret(neuron, x, grad_out=grad) for neuron in (other, built))
    np.testing.assert_array_equal(a.states["b"], b.states["b"])
    np.testing.assert_array_equal(a.grads["x"], b.grads["x"])
    given = lnm.interpret(lnm.get("alif", form="lsnn"), x, v_threshold=2.0)
    np.testing.assert_array_equal(given.states["b"], b.states["b"])


@pytest.mark.parametrize("form", ["yin", "lsnn"])
def test_a_time_constant_below_1_counts_as_1(form: str) -> None:
    """Training may take it through 0; nothing is infinite there, forward or backward."""
    layers = [lnm.nn.NeuronLayer(lnm.get("alif", form=form), backend="torch") for _ in range(3)]
    for layer, tau in zip(layers, (1.0, 0.0, -3.0), strict=True):
        with torch.no_grad():
            layer.get_parameter("tau_m").fill_(tau)
            layer.get_parameter("tau_adp").fill_(tau)
    x = torch.rand(12, 2, 3)
    outs = [layer(x) for layer in layers]
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])
    for out, layer in zip(outs, layers, strict=True):
        out.sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in layer.parameters())
