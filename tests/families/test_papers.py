"""Families against transcriptions of the equations of their papers, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import lnm_codegen as lnm
from tests.strategies import Arguments
from tests.transcription import Spike, check, drawn


def check_drawn(
    neuron: lnm.Neuron, step: Any, scale: float = 1.0, shift: float = 0.0, **state: np.ndarray
) -> np.ndarray:
    """Compare with a transcription on a draw in which the neuron spikes, and return the spikes."""
    a = drawn(neuron, np.random.default_rng(0), (24, 2, 3, 4))
    a.x_seq = (scale * a.x_seq[0] + shift,)
    a.state |= state
    out = check(neuron, step, a)
    assert 0.02 < (out > 0).mean() < 0.9
    return out


# Adaptive and resonating neurons

GIVEN = {"tau_v": 6.0, "tau_w": 20.0, "a": 0.4, "b": 0.9, "q": 12.0, "v_threshold": 0.3}


def adlif(detach: bool = False) -> Any:
    """Return the equations of SE-adLIF: the reset comes first, then w with the new potential.

    With `detach` the reset has no gradient; the jump of w keeps its own, as in the authors' code.
    """

    def step(x: Any, state: Any, p: Any) -> Any:
        alpha = (-1 / p["tau_v"].clamp(min=1)).exp()
        beta = (-1 / p["tau_w"].clamp(min=1)).exp()
        a, b = p["q"] * p["a"].clamp(0, 1), p["q"] * p["b"].clamp(0, 2)
        u = alpha * state["v"] + (1 - alpha) * (x - state["w"])
        z = Spike.apply(u - p["v_threshold"])
        kept = z.detach() if detach else z
        u = u * (1 - kept)
        return z, {"v": u, "w": beta * state["w"] + (1 - beta) * (a * u + b * z)}

    return step


@pytest.mark.parametrize(
    ("per", "detach"),
    [("layer", False), ("neuron", True), ({"a": "neuron", "tau_w": "channel"}, False)],
)
def test_adlif_is_that_of_its_paper(per: Any, detach: bool) -> None:
    """arXiv 2408.07517, gradients too: also of the spike in the reset of v, or detached there."""
    check_drawn(lnm.get("adlif", per=per, detach_reset=detach, **GIVEN), adlif(detach), 3.0, 1.0)


def test_a_detached_neuron_keeps_no_gradient_of_a_spike() -> None:
    """`detach_reset` of the family leaves that of the jump of w; the neuron's method takes both."""
    x = np.random.default_rng(1).normal(1.0, 2.0, (30, 2, 4))
    found = []
    for neuron in (lnm.get("adlif", detach_reset=True, **GIVEN), lnm.get("adlif", **GIVEN)):
        result = lnm.interpret(neuron.with_detach_reset(True), x, grad_out=1.0)
        assert result.out.any()
        found.append(result.grads)
    for name, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][name], err_msg=name)
    jump = lnm.interpret(lnm.get("adlif", detach_reset=True, **GIVEN), x, grad_out=1.0).grads
    assert not np.allclose(jump["x"], found[0]["x"])


def test_values_out_of_bounds_count_as_the_bound() -> None:
    """tau below 1, a outside [0, 1] and b outside [0, 2], and their gradients are 0."""
    neuron = lnm.get("adlif", per="channel", **GIVEN)
    a = drawn(neuron, np.random.default_rng(0), (12, 2, 3))
    a.params |= {
        "tau_v": np.array([0.5, 4.0, -3.0]), "tau_w": np.array([5.0, 0.1, 30.0]),
        "a": np.array([-0.1, 1.5, 0.5]), "b": np.array([2.5, -0.5, 1.0]),
    }  # fmt: skip
    check(neuron, adlif(), a)
    grads = a.interpret(neuron).grads
    for name, outside in (("tau_v", [0, 2]), ("tau_w", [1]), ("a", [0, 1]), ("b", [0, 1])):
        assert not grads[name][outside].any()


def test_the_defaults_are_those_of_the_authors() -> None:
    """Their configurations for SHD, SSC and ECG agree; without a layer the middle counts."""
    found = {p.name: p.init for p in lnm.get("adlif").params}
    assert found == {
        "tau_v": 15.0, "tau_w": 180.0, "a": 0.5, "b": 1.0, "q": 120.0, "v_threshold": 1.0,
    }  # fmt: skip
    layer = lnm.nn.NeuronLayer(lnm.get("adlif", per="channel"), channels=400, backend="torch")
    ends = {"tau_v": (5, 25), "tau_w": (60, 300), "a": (0, 1), "b": (0, 2)}
    for name, (low, high) in ends.items():
        value = getattr(layer, name)
        assert low <= value.min() < low + (high - low) / 10
        assert high - (high - low) / 10 < value.max() <= high


DT = 0.05


def rf(x: Any, state: Any, p: Any) -> Any:
    """Equations of the RF neuron, with its complex potential u + iv as two real numbers."""
    u, v, b, omega = state["v"], state["w"], -p["b_offset"].abs(), p["omega"].abs()
    u_new = u + b * u * DT - omega * v * DT + x * DT
    v_new = v + omega * u * DT + b * v * DT
    return Spike.apply(u_new - p["v_threshold"]), {"v": u_new, "w": v_new}


@pytest.mark.parametrize(("per", "sign"), [("layer", 1), ("channel", -1), ({"omega": "neuron"}, 1)])
def test_rf_is_that_of_its_paper(per: Any, sign: int) -> None:
    """arXiv 2402.14603; the sign of a parameter does not matter."""
    check_drawn(
        lnm.get("rf", omega=sign * 7.0, b_offset=sign * 0.5, dt=DT, v_threshold=0.4, per=per), rf
    )


def test_rf_is_a_point_of_lnm_with_two_states() -> None:
    """Below the threshold: theta_v = (1 - dt*b, -dt*omega), theta_w = (dt*omega, 1 - dt*b)."""
    turn, kept = DT * 6.0, 1 - DT * 0.5
    x = np.random.default_rng(0).normal(size=(30, 2, 5))
    own = lnm.get("rf", omega=6.0, b_offset=0.5, dt=DT, v_threshold=100.0)
    other = lnm.get(
        "lnm", states=2, degree=1, theta_v=(kept, -turn), theta_w=(turn, kept), v_threshold=100.0
    )
    a, b = lnm.interpret(own, x, grad_out=0.0), lnm.interpret(other, DT * x, grad_out=0.0)
    for name in ("v", "w"):
        np.testing.assert_allclose(a.states[name], b.states[name], rtol=1e-12, atol=1e-13)


def test_a_layer_draws_omega_and_b_offset() -> None:
    """Within their ranges; equal ranges are drawn apart. Without a layer the middle counts."""
    neuron = lnm.get("rf", omega=(2.0, 4.0), b_offset=(2.0, 4.0), per="channel")
    assert [p.init for p in neuron.params[:2]] == [3.0, 3.0]
    layer = lnm.nn.NeuronLayer(neuron, channels=500, backend="torch", dtype=torch.float64)
    for value in (layer.omega, layer.b_offset):
        assert 2.0 <= value.min() < 2.1
        assert 3.9 < value.max() <= 4.0
    assert not torch.equal(layer.omega, layer.b_offset)
    assert not any(p.learnable for p in lnm.get("rf", learnable=False).params)


def brf(detach: bool = False) -> Any:
    """Return the equations of the BRF neuron, with its potential u + iv as two real numbers."""

    def step(x: Any, state: Any, p: Any) -> Any:
        u, v, q, omega = state["v"], state["w"], state["q"], p["omega"].abs()
        boundary = (-1 + (1 - (DT * omega) ** 2).sqrt()) / DT
        b = boundary - p["b_offset"].abs() - q
        u_new = u + b * u * DT - omega * v * DT + x * DT
        v_new = v + omega * u * DT + b * v * DT
        z = Spike.apply(u_new - p["v_threshold"] - q)
        return z, {"v": u_new, "w": v_new, "q": p["gamma"] * q + (z.detach() if detach else z)}

    return step


@pytest.mark.parametrize(
    ("per", "detach"), [("layer", False), ("neuron", True), ({"b_offset": "channel"}, False)]
)
def test_brf_is_that_of_its_paper(per: Any, detach: bool) -> None:
    """arXiv 2402.14603, three states; the gradient of the spike in q too, or with that detached."""
    given = {"dt": DT, "v_threshold": 0.1, "per": per, "detach_reset": detach}
    q = np.abs(np.random.default_rng(1).normal(size=(2, 3, 4)))
    check_drawn(lnm.get("brf", omega=-7.0, b_offset=0.5, **given), brf(detach), 20.0, q=q)


def test_at_the_boundary_the_potential_keeps_its_modulus() -> None:
    """Without offset, input and spikes |v + iw| is constant; with an offset it falls."""
    start = {"v": np.array([0.6]), "w": np.array([-0.3]), "q": np.array([0.0])}
    for offset, change in ((0.0, 0.0), (0.5, -1.0)):
        neuron = lnm.get("brf", omega=8.0, b_offset=offset, v_threshold=10.0)
        result = lnm.interpret(neuron, np.zeros((500, 1)), state=start)
        moduli = np.hypot(result.trajectory["v"], result.trajectory["w"])
        assert np.sign(np.round(np.diff(moduli[:, 0]), 12)).tolist() == [change] * 499


@pytest.mark.parametrize("per", ["layer", "channel"])
def test_alif_is_that_of_yin(per: Any) -> None:
    """Yin et al. (2021) with dt = R = 1: gradients through the spike in reset and threshold too."""

    def step(x: Any, state: Any, p: Any) -> Any:
        alpha, rho = (torch.exp(-1 / p[word]) for word in ("tau_m", "tau_adp"))
        b = rho * state["b"] + (1 - rho) * state["s_prev"]
        threshold = p["v_threshold"] + p["beta"] * b
        v = alpha * state["v"] + (1 - alpha) * x - threshold * state["s_prev"]
        z = Spike.apply(v - threshold)
        return z, {"v": v, "b": b, "s_prev": z}

    neuron = lnm.get("alif", tau_m=6.0, tau_adp=20.0, v_threshold=0.05, beta=1.5, per=per)
    check_drawn(neuron, step, 2.0, 0.5)


@pytest.mark.parametrize("form", ["yin", "lsnn"])
def test_an_alif_that_fires_fires_less(form: str) -> None:
    """Adaptation: of constant input, the second half of a sequence has fewer spikes."""
    neuron = lnm.get("alif", form=form, tau_m=3.0, tau_adp=60.0, v_threshold=0.2, beta=0.1)
    out = lnm.interpret(neuron, np.full((80, 1), 1.0)).out
    assert out[:40].sum() > out[40:].sum() > 0


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
    neuron, x = lnm.get("alif", form=form), np.random.default_rng(0).random((12, 2, 3))
    found = [lnm.interpret(neuron, x, grad_out=1.0, tau_m=t, tau_adp=t) for t in (1.0, 0.0, -3.0)]
    for one in found:
        np.testing.assert_array_equal(one.out, found[0].out)
        assert all(np.isfinite(value).all() for value in one.grads.values())


def test_time_constants_may_be_drawn() -> None:
    """A function as tau_m: a value of its own per neuron, as Yin et al. begin."""

    def normal(generator: Any, shape: tuple[int, ...]) -> Any:
        return torch.normal(20.0, 5.0, shape, generator=generator)

    neuron = lnm.get("alif", tau_m=normal, per={"tau_m": "neuron", "tau_adp": "channel"})
    layer = lnm.nn.NeuronLayer(neuron, shape=(2, 5), backend="torch")
    assert layer.tau_m.shape == (2, 5)
    assert layer.tau_adp.shape == (2,)
    assert layer.tau_m.std() > 1


def test_glif_with_its_gates_open_is_a_lif() -> None:
    """Gates at 1 - 1e-15 and g near 1: h = tau*v + x with a hard reset, one step late."""
    one = 1 - 1e-15
    neuron = lnm.get("glif", alpha=one, gamma=one, beta=1e-15, tau=0.5, v_threshold=0.999)
    x = np.random.default_rng(3).normal(0.6, 1.0, (20, 2, 5))
    lif = lnm.get("lif", tau=2.0, decay_input=False, v_threshold=0.999)
    np.testing.assert_array_equal(lnm.interpret(neuron, x).out, lnm.interpret(lif, x).out)
    neuron = lnm.get("glif", per={"w_tau": "neuron", "w_g": "channel"})
    found = {p.name: p.per for p in neuron.params}
    assert (found["w_tau"], found["w_g"], found["w_alpha"]) == ("neuron", "channel", "layer")
    assert all(p.learnable for p in neuron.params)


# Compartments, refractory periods, counts


@pytest.mark.parametrize(
    ("v_reset", "per"), [(None, "layer"), (None, {"w_d": "neuron"}), (-0.1, "channel")]
)
def test_tc_lif_is_that_of_its_paper(v_reset: float | None, per: Any) -> None:
    """arXiv 2308.13250: u_d[t] = u_d - s(c1)*u_s + I, u_s[t] = u_s + s(c2)*u_d[t], then the reset.

    A hard reset leaves the dendrite, as in the authors' code.
    """

    def step(x: Any, state: Any, p: Any) -> Any:
        u_d = state["d"] - torch.sigmoid(p["w_d"]) * state["v"] + x
        u_s = state["v"] + torch.sigmoid(p["w_s"]) * u_d
        z = Spike.apply(u_s - p["v_threshold"])
        if v_reset is None:
            return z, {"d": u_d - z * p["gamma"], "v": u_s - z * p["v_threshold"]}
        return z, {"d": u_d, "v": (1 - z) * u_s + z * v_reset}

    neuron = lnm.get("tc_lif", beta_d=0.4, beta_s=0.6, v_reset=v_reset, per=per)
    assert [p.init for p in neuron.params[:2]] == pytest.approx([np.log(2 / 3), np.log(3 / 2)])
    check_drawn(neuron, step, 0.8, 0.2)


@pytest.mark.parametrize("tau_syn", [None, 4.0])
def test_refractory_lif_is_its_loop(tau_syn: float | None) -> None:
    """Held after a spike for three steps, in which neither z nor v has a gradient of the input."""

    def step(x: Any, state: Any, p: Any) -> Any:
        drive = x if tau_syn is None else state["i"] + x
        held = (state["pause"] > 0).double()
        charged = state["v"] + (p["v_rest"] - state["v"] + drive) / p["tau"]
        h = held * state["v"] + (1 - held) * charged
        z = Spike.apply(held * (-0.2 - p["v_threshold"]) + (1 - held) * (h - p["v_threshold"]))
        pause = torch.where(z > 0, 3.0, torch.clamp(state["pause"] - 1, min=0)).detach()
        after = {"v": (1 - z) * h + z * -0.2, "pause": pause + 0 * state["pause"]}
        return z, after if tau_syn is None else after | {"i": drive - drive / p["tau_syn"]}

    neuron = lnm.get(
        "refractory_lif", tau=3.0, refractory=3, tau_syn=tau_syn, v_threshold=0.4, v_rest=0.1,
        v_reset=-0.2, learn_tau=True, per="channel",
    )  # fmt: skip
    pause = np.random.default_rng(0).integers(0, 4, (2, 3, 4)).astype(float)
    spikes = check_drawn(neuron, step, 1.0, 0.6, pause=pause)
    assert spikes.mean() < 0.25
    assert (spikes[:-1] + spikes[1:]).max() == 1  # no spike follows another


def test_a_refractory_neuron_does_not_fire_from_a_given_state() -> None:
    """A potential above the threshold waits for the end of the pause."""
    state = {"v": np.full(1, 2.0), "pause": np.full(1, 2.0)}
    found = lnm.interpret(lnm.get("refractory_lif"), np.zeros((4, 1)), state=state)
    np.testing.assert_array_equal(found.out[:, 0], [0, 0, 1, 0])


def test_i_lif_counts() -> None:
    """round(clip(h / V, 0, D)); a half is rounded up.

    The slope is 1/V where 0 <= h <= D*V: where two spikes' slopes meet, one of them counts.
    """
    neuron = lnm.get("i_lif", v_threshold=0.5, max_count=3)
    x = np.array([[-1.0, 0.2, 0.25, 0.7, 1.0, 1.25, 9.0]])
    found = lnm.interpret(neuron, x)
    np.testing.assert_array_equal(found.out[0], [0, 0, 1, 1, 2, 3, 3])
    np.testing.assert_allclose(found.states["v"], x[0] - 0.5 * found.out[0])
    x = np.array([[-0.1, 0.0, 0.2, 0.25, 0.5, 0.75, 1.0, 1.5, 1.6]])
    found = lnm.interpret(neuron, x, grad_out=np.ones_like(x), grad_state={"v": 0.0})
    np.testing.assert_array_equal(found.grads["x"][0], [0, 2, 2, 2, 2, 2, 2, 2, 0])


# Models of biology


def fitzhugh(now: Any, x: Any, p: Any) -> Any:
    """Slopes of v and w (FitzHugh 1961), over the time constant of v."""
    v, w = now
    return v - v**3 / 3 - w + x, p["epsilon"] * (v + p["a"] - p["b"] * w)


@pytest.mark.parametrize(("crossing", "sub_steps"), [(False, 1), (True, 3)])
def test_fitzhugh_nagumo_is_euler_s_method(sub_steps: int, crossing: bool) -> None:
    """Spikes at the level or where v rises through it, states, and gradients of a, b, epsilon."""

    def step(x: Any, state: Any, p: Any) -> Any:
        now = (state["v"], state["w"])
        for _ in range(sub_steps):
            slopes = fitzhugh(now, x, p)
            now = tuple(s + 0.25 / sub_steps * d for s, d in zip(now, slopes, strict=True))
        z = now[0] - p["v_threshold"]
        if crossing:
            z = torch.minimum(z, p["v_threshold"] - state["v"])
        after = {"v": now[0], "w": now[1]}
        return Spike.apply(z), after | ({"last": state["v"]} if crossing else {})

    neuron = lnm.get(
        "fitzhugh_nagumo", sub_steps=sub_steps, crossing=crossing, v_threshold=0.5, learnable=True
    )
    check_drawn(neuron, step, 3.0, 0.5)


@pytest.mark.parametrize(("name", "level"), [("fitzhugh_nagumo", 1.5), ("hodgkin_huxley", 20.0)])
def test_a_start_above_the_threshold_is_no_crossing(name: str, level: float) -> None:
    """It gave a spike in the first step, because `last` began at the resting potential."""
    x, neuron = np.zeros((2, 1)), lnm.get(name)
    given = lnm.interpret(neuron, x, state={"v": np.full(1, level)})
    for found in (given, lnm.interpret(neuron.with_init(v=level), x)):
        assert not found.out.any()


def crossings(v: np.ndarray, level: float, times: np.ndarray) -> np.ndarray:
    """Return the times after which v rises through a level."""
    return times[1:][(v[1:] >= level) & (v[:-1] < level)]


@pytest.mark.slow
def test_fitzhugh_nagumo_spikes_when_its_ode_does() -> None:
    """Against solve_ivp, in 16 sub-steps: spikes within a unit of time."""
    p = {"a": 0.7, "b": 0.8, "epsilon": 0.08}
    times = np.arange(1, 501) * 0.25
    solved = solve_ivp(
        lambda _, y: fitzhugh(y, 0.5, p), (0, 125), (-1.2, -0.625), t_eval=times, rtol=1e-8
    )
    found = lnm.interpret(lnm.get("fitzhugh_nagumo", sub_steps=16), np.full((500, 1), 0.5))
    expected = crossings(solved.y[0], 1.0, times)
    assert len(expected) == 4
    np.testing.assert_allclose(times[found.out[:, 0] > 0], expected, atol=1)


def hodgkin(v: Any, lib: Any = np) -> Any:
    """Rates of m, h and n per ms, as Hodgkin and Huxley (1952) fit them, at a rest of -65 mV."""
    return (
        (0.1 * (v + 40) / (1 - lib.exp(-(v + 40) / 10)), 4 * lib.exp(-(v + 65) / 18)),
        (0.07 * lib.exp(-(v + 65) / 20), 1 / (1 + lib.exp(-(v + 35) / 10))),
        (0.01 * (v + 55) / (1 - lib.exp(-(v + 55) / 10)), 0.125 * lib.exp(-(v + 65) / 80)),
    )


def at_rest(rng: np.random.Generator, neuron: lnm.Neuron, shape: tuple[int, ...]) -> Arguments:
    """Draw states near the declared ones, and inputs at which the axon spikes."""
    a = drawn(neuron, rng, shape)
    size = {"v": 10.0, "last": 10.0}
    for s in neuron.states:
        width = size.get(s.name, 0.05)
        a.state[s.name] = s.decl.init + rng.uniform(-width, width, shape[1:])
    a.x_seq = (40 * a.x_seq[0] + 30,)
    return a


@pytest.mark.parametrize(
    ("crossing", "sub_steps"),
    [(True, 1), *(pytest.param(*row, marks=pytest.mark.slow) for row in ((False, 1), (True, 2)))],
)
def test_hodgkin_huxley_is_exponential_euler(sub_steps: int, crossing: bool) -> None:
    """Spikes, five states and gradients of conductances and reversal potentials, to 1e-9."""

    def step(x: Any, state: Any, p: Any) -> Any:
        v, gates = state["v"], [state[g] for g in "mhn"]
        dt = 0.2 / sub_steps
        for _ in range(sub_steps):
            m, h, n = gates
            sodium, potassium = p["g_na"] * m**3 * h, p["g_k"] * n**4
            total = sodium + potassium + p["g_l"]
            limit = (sodium * p["e_na"] + potassium * p["e_k"] + p["g_l"] * p["e_l"] + x) / total
            rates = hodgkin(v, torch)
            gates = [
                a / (a + b) + (y - a / (a + b)) * torch.exp(-dt * (a + b))
                for y, (a, b) in zip(gates, rates, strict=True)
            ]
            v = limit + (v - limit) * torch.exp(-dt * total / p["capacitance"])
        z = v - p["v_threshold"]
        if crossing:
            z = torch.minimum(z, p["v_threshold"] - state["v"])
        after = {"v": v, **dict(zip("mhn", gates, strict=True))}
        return Spike.apply(z), after | ({"last": state["v"]} if crossing else {})

    neuron = lnm.get(
        "hodgkin_huxley", dt=0.2, sub_steps=sub_steps, crossing=crossing, learnable=True,
        per="channel", surrogate=lnm.surrogate.atan(),
    )  # fmt: skip
    assert check(neuron, step, at_rest(np.random.default_rng(0), neuron, (30, 2, 3, 4))).any()


@pytest.mark.slow
@pytest.mark.parametrize("current", [0.0, 10.0, 30.0])
def test_hodgkin_huxley_is_its_ode(current: float) -> None:
    """Against solve_ivp, in steps of 0.01 ms: as many spikes, at times within 0.3 ms."""

    def slopes(_: float, y: np.ndarray) -> list[float]:
        v, m, h, n = y
        ions = 120 * m**3 * h * (v - 50) + 36 * n**4 * (v + 77) + 0.3 * (v + 54.4)
        rates = zip(hodgkin(v), (m, h, n), strict=True)
        return [current - ions, *(a * (1 - g) - b * g for (a, b), g in rates)]

    times = np.arange(1, 4001) * 0.01
    neuron = lnm.get("hodgkin_huxley", dt=0.01)
    start = [s.decl.init for s in neuron.states[:4]]
    solved = solve_ivp(slopes, (0, 40), start, t_eval=times, rtol=1e-9, atol=1e-9, max_step=0.1)
    found = lnm.interpret(neuron, np.full((4000, 1), current))
    expected = crossings(solved.y[0], 0.0, times)
    assert len(expected) == {0.0: 0, 10.0: 3, 30.0: 4}[current]
    np.testing.assert_allclose(times[found.out[:, 0] > 0], expected, atol=0.3)
    assert abs(found.trajectory["v"].max() - solved.y[0].max()) < 1


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_the_rates_of_hodgkin_huxley_are_finite_everywhere(dtype: str) -> None:
    """u/(1 - exp(-u)) is 0/0 at u = 0, in value and gradient; here it is its polynomial."""
    neuron = lnm.get("hodgkin_huxley", crossing=False)
    v = np.array([-55.0, -40.0, -40.000001, -50.0])
    state = {s.name: np.full(4, s.decl.init) for s in neuron.states}
    found, *near = (
        lnm.interpret(
            neuron, np.zeros((1, 4)), state=state | {"v": v + off}, dtype=dtype,
            grad_state={"m": np.ones(4), "n": np.ones(4)},
        )
        for off in (0, 1e-3, -1e-3)
    )  # fmt: skip
    for gate in "mn":
        mean = (near[0].states[gate] + near[1].states[gate]) / 2
        np.testing.assert_allclose(found.states[gate], mean, rtol=1e-6)
    mean = (near[0].grads["v"] + near[1].grads["v"]) / 2
    np.testing.assert_allclose(found.grads["v"], mean, rtol=1e-4)


def silif(x_seq: Any, p: Any) -> Any:
    """Return the spikes of SiLIF in the order of its authors: w first, then u without the spike."""
    dt = p["log_dt"].exp()
    alpha, beta = ((-p[f"log_rate_{s}"].exp() * dt).exp() for s in ("v", "w"))
    a, b = p["a"].clamp(0, 1), p["b"].clamp(0, 2)
    u, w, s = (torch.zeros_like(x_seq[0]) for _ in range(3))
    spikes = []
    for x in x_seq:
        w = beta * w + a * u + b * s
        u = alpha * (u - p["v_threshold"] * s) + (1 - alpha) * (x - w)
        s = Spike.apply(u - p["v_threshold"])
        spikes.append(s)
    return torch.stack(spikes)


def csilif(x_seq: Any, p: Any) -> Any:
    """Return the spikes of C-SiLIF, with its complex potential."""
    rate = torch.complex(-p["log_rate"].exp(), p["omega"])
    alpha = (rate * p["log_dt"].exp()).exp()
    u, s = torch.zeros_like(x_seq[0], dtype=torch.complex128), torch.zeros_like(x_seq[0])
    spikes = []
    for x in x_seq:
        u = alpha * (u - p["v_threshold"] / 2 * s) + p["b"] * x
        s = Spike.apply(2 * u.real - p["v_threshold"])
        spikes.append(s)
    return torch.stack(spikes)


@pytest.mark.parametrize(
    ("name", "loop", "given"),
    [("silif", silif, {"dt": 0.01, "rate_v": 60.0}), ("csilif", csilif, {"dt": 0.4})],
)
def test_state_space_neurons_are_those_of_their_paper(name: str, loop: Any, given: Any) -> None:
    """arXiv 2506.06374: spikes and gradients of a loop in the authors' order and numbers."""
    neuron = lnm.get(name, v_threshold=0.6, per="channel", **given)
    rng = np.random.default_rng(0)
    params = {
        p.name: np.asarray(p.init) * rng.uniform(0.9, 1.1, (5,) if p.per == "channel" else ())
        for p in neuron.params
    }
    x = rng.normal(0.5, 1.5, (40, 3, 5))
    leaves = {n: torch.tensor(v, requires_grad=True) for n, v in ({"x": x} | params).items()}
    spikes = loop(leaves["x"], leaves)
    seed = rng.normal(size=spikes.shape)
    found = lnm.interpret(neuron, x, grad_out=seed, **params)
    np.testing.assert_array_equal(found.out, spikes.detach().numpy())
    assert 0.02 < spikes.mean() < 0.6
    grads = torch.autograd.grad((spikes * torch.tensor(seed)).sum(), list(leaves.values()))
    for name, grad in zip(leaves, grads, strict=True):
        np.testing.assert_allclose(found.grads[name], grad, 1e-9, 1e-9, err_msg=name)


def test_state_space_neurons_begin_as_those_of_their_authors() -> None:
    """Logarithms are drawn uniformly between those of the ends."""
    real, complex_ = (
        lnm.nn.NeuronLayer(lnm.get(name, per="channel"), channels=400, backend="torch")
        for name in ("silif", "csilif")
    )
    for value, start in ((real.log_dt, np.log(0.004)), (complex_.log_rate, np.log(0.5)),
                         (complex_.omega, np.pi)):  # fmt: skip
        assert value.allclose(torch.tensor(start, dtype=torch.float32))
    for value, ends in ((real.log_rate_v, (10, 250)), (real.log_rate_w, (2.5, 10)),
                        (complex_.log_dt, (0.01, 0.5))):  # fmt: skip
        low, high = np.log(ends)
        assert low <= value.min() < low + (high - low) / 10
        assert high - (high - low) / 10 < value.max() <= high
