"""Families against transcriptions of their equations in float64, and the list of all families."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import lnm_codegen as lnm
from lnm_codegen import families
from lnm_codegen.families import FAMILIES
from tests.refusals import refused
from tests.strategies import Arguments
from tests.transcription import Spike, check, drawn

FOLDER = Path(families.__file__).parent


def families_of(file: Path) -> set[str]:
    """Return the names of functions with a decorator of families in a file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {
        node.name.rstrip("_")
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        for mark in node.decorator_list
        if ast.unparse(mark).startswith(("family", "lnm.family"))
    }


def test_every_family_is_listed() -> None:
    """Each file that defines a family is in FAMILIES, and nothing else is."""
    defined = {file.name: families_of(file) for file in FOLDER.glob("*.py")}
    assert set().union(*defined.values()) == set(FAMILIES)
    assert len(FAMILIES) >= 24
    assert defined["delayed_reset.py"] == {"leaky", "synaptic", "lapicque"}
    assert all(family.name == name for name, family in FAMILIES.items())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_cites_and_documents(name: str) -> None:
    """Equations and a source in the docstring; each argument is described, where any is."""
    text = FAMILIES[name].__doc__ or ""
    assert any(phase in text for phase in ("charge ", "output "))
    arguments = text.partition("Args:")[2]
    for word in FAMILIES[name].signature.parameters if arguments else ():
        assert f" {word}: " in arguments or word in ("states", "form"), word


def check_drawn(neuron: lnm.Neuron, step: Any, scale: float, shift: float) -> None:
    """Compare with a transcription on three draws in which the neuron spikes."""
    for seed in range(3):
        a = drawn(neuron, np.random.default_rng(seed), (24, 2, 3, 4))
        a.x_seq = (scale * a.x_seq[0] + shift,)
        out = check(neuron, step, a)
        assert 0.02 < (out > 0).mean() < 0.9


# Compartments and refractory periods


@pytest.mark.parametrize("per", ["layer", "channel", {"w_d": "neuron"}])
@pytest.mark.parametrize("v_reset", [None, -0.1])
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
    for seed in range(3):
        a = drawn(neuron, np.random.default_rng(seed), (24, 2, 3, 4))
        a.state["pause"] = np.random.default_rng(seed).integers(0, 4, (2, 3, 4)).astype(float)
        a.x_seq = (a.x_seq[0] + 0.6,)
        spikes = check(neuron, step, a)
        assert 0.02 < spikes.mean() < 0.25
        runs = spikes[:-1] + spikes[1:]
        assert runs.max() == 1  # no spike follows another


def test_a_refractory_neuron_does_not_fire_from_a_given_state() -> None:
    """A potential above the threshold waits for the end of the pause."""
    state = {"v": np.full(1, 2.0), "pause": np.full(1, 2.0)}
    found = lnm.interpret(lnm.get("refractory_lif"), np.zeros((4, 1)), state=state)
    np.testing.assert_array_equal(found.out[:, 0], [0, 0, 1, 0])


def test_i_lif_counts() -> None:
    """round(clip(h / V, 0, D)); a half is rounded up."""
    neuron = lnm.get("i_lif", v_threshold=0.5, max_count=3)
    x = np.array([[-1.0, 0.2, 0.25, 0.7, 1.0, 1.25, 9.0]])
    found = lnm.interpret(neuron, x)
    np.testing.assert_array_equal(found.out[0], [0, 0, 1, 1, 2, 3, 3])
    np.testing.assert_allclose(found.states["v"], x[0] - 0.5 * found.out[0])


def test_the_slope_of_a_count_is_1_over_the_threshold_also_at_whole_counts() -> None:
    """1/V where 0 <= h <= D*V: where two spikes' slopes meet, one of them counts."""
    neuron = lnm.get("i_lif", v_threshold=0.5, max_count=3)
    x = np.array([[-0.1, 0.0, 0.2, 0.25, 0.5, 0.75, 1.0, 1.5, 1.6]])
    found = lnm.interpret(neuron, x, grad_out=np.ones_like(x), grad_state={"v": 0.0})
    np.testing.assert_array_equal(found.grads["x"][0], [0, 2, 2, 2, 2, 2, 2, 2, 0])


# Models of biology


def fitzhugh(now: Any, x: Any, p: Any) -> Any:
    """Slopes of v and w (FitzHugh 1961), over the time constant of v."""
    v, w = now
    return v - v**3 / 3 - w + x, p["epsilon"] * (v + p["a"] - p["b"] * w)


@pytest.mark.parametrize("crossing", [False, True])
@pytest.mark.parametrize("sub_steps", [1, 3])
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


def test_fitzhugh_nagumo_spikes_when_its_ode_does() -> None:
    """Against solve_ivp, in 16 sub-steps: spikes within a unit of time."""
    p = {"a": 0.7, "b": 0.8, "epsilon": 0.08}
    times = np.arange(1, 501) * 0.25
    solved = solve_ivp(
        lambda _, y: fitzhugh(y, 0.5, p), (0, 125), (-1.2, -0.625), t_eval=times, rtol=1e-8
    )
    neuron = lnm.get("fitzhugh_nagumo", sub_steps=16)
    found = lnm.interpret(neuron, np.full((500, 1), 0.5))
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


@pytest.mark.parametrize("crossing", [False, True])
@pytest.mark.parametrize("sub_steps", [1, pytest.param(2, marks=pytest.mark.slow)])
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
@pytest.mark.parametrize(
    "v", [-55.0, -40.0, *(pytest.param(v, marks=pytest.mark.slow) for v in (-40.000001, -50.0))]
)
def test_the_rates_of_hodgkin_huxley_are_finite_everywhere(v: float, dtype: str) -> None:
    """u/(1 - exp(-u)) is 0/0 at u = 0, in value and gradient; here it is its polynomial."""
    neuron = lnm.get("hodgkin_huxley", crossing=False)
    state = {s.name: np.full(1, s.decl.init) for s in neuron.states} | {"v": np.full(1, v)}
    found, *near = (
        lnm.interpret(
            neuron, np.zeros((1, 1)), state=state | {"v": state["v"] + off}, dtype=dtype,
            grad_state={"m": np.ones(1), "n": np.ones(1)},
        )
        for off in (0, 1e-3, -1e-3)
    )  # fmt: skip
    for gate in "mn":
        mean = (near[0].states[gate] + near[1].states[gate]) / 2
        np.testing.assert_allclose(found.states[gate], mean, rtol=1e-6)
    mean = (near[0].grads["v"] + near[1].grads["v"]) / 2
    np.testing.assert_allclose(found.grads["v"], mean, rtol=1e-4)


@pytest.mark.parametrize(
    "row",
    [
        ("klif", {"k": 0}, "k is 0", "a number > 0"),
        ("eif", {"delta_T": 0}, "delta_T is 0", "a number > 0"),
        ("adex", {"tau_syn": 1}, "tau_syn is 1", "a number > 1 or None"),
        ("clif", {"tau": 1}, "tau is 1", "a number > 1"),
        ("lnm", {"learn_theta_0": "no"}, "learn_theta_0 is 'no'", "True, False"),
        ("i_lif", {"max_count": 17}, "max_count is 17", "an integer from 1 to 16"),
        ("tc_lif", {"beta_d": 1}, "beta_d is 1", "a number > 0 and < 1"),
        ("refractory_lif", {"v_reset": 1}, "v_reset is 1", "a number < v_threshold, 1.0"),
        ("refractory_lif", {"refractory": -1}, "refractory is -1", "an integer >= 0"),
        ("leaky", {"beta": 1.5}, "beta is 1.5", "a number >= 0 and <= 1"),
        ("leaky", {"reset": "hard"}, "reset is 'hard'", "subtract"),
        ("synaptic", {"reset_delay": 0}, "reset_delay is 0", "True, False"),
        ("lapicque", {"beta": 0.5, "c": 2.0}, "beta is 0.5 and c is 2.0", "one of them"),
        ("fitzhugh_nagumo", {"dt": 0}, "dt is 0", "a number > 0"),
        ("hodgkin_huxley", {"sub_steps": 0}, "sub_steps is 0", "an integer from 1 to 1000"),
        ("izhikevich", {"form": "sj"}, "form is 'sj'", "spikingjelly"),
        ("izhikevich", {"form": "norse", "c": 40}, "c is 40", "a number < 30"),
        ("izhikevich", {"c": -65.0}, "c is given, which form='spikingjelly'", "tau, v_c"),
    ],
)
def test_mistakes(row: tuple[Any, ...]) -> None:
    name, arguments, *parts = row
    with refused(lnm.ModelError, name, *parts):
        lnm.get(name, **arguments)
