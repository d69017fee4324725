"""`lnm` with two states against a hand-written PyTorch loop, its initial values and refusals."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.families import FAMILIES
from lnm_codegen.families.lnm import monomials
from lnm_codegen.train.models import build
from tests.refusals import refused
from tests.strategies import two_state_arguments
from tests.transcription import Spike, check, drawn

ONE_STATE = {
    "degree": 3, "form": "A", "theta": None, "learn_theta_0": True, "v_threshold": 1.0,
    "learn_threshold": False, "v_reset": 0.0, "v_min": None, "v_max": None, "decay": 0.5,
    "decay_spread": 0.0, "basis": "monomial", "detach_reset": False, "per": "layer",
    "surrogate": None,
}  # fmt: skip
TWO_STATES = {
    "degree": 3, "parametrisation": "free", "reset": "v", "v_reset": None, "radius": (0.5, 0.95),
    "angle": (0.0, 1.5), "theta_v": None, "theta_w": None, "learn_theta_0": False,
    "v_threshold": 1.0, "learn_threshold": False, "v_min": None, "v_max": None, "w_min": None,
    "w_max": None, "detach_reset": False, "per": "layer", "surrogate": None,
}  # fmt: skip


def two(**arguments: Any) -> lnm.Neuron:
    return lnm.get("lnm", states=2, **arguments)


def clamp(value: Any, low: float | None, high: float | None) -> Any:
    if low is not None:
        value = torch.where(value < low, torch.tensor(low, dtype=torch.float64), value)
    if high is not None:
        value = torch.where(value > high, torch.tensor(high, dtype=torch.float64), value)
    return value


def step_of(arguments: dict[str, Any]) -> Any:
    """Return the equations of design section 9 as a step of a loop."""
    degree, pole = arguments["degree"], arguments["parametrisation"] == "pole"

    def row(v: Any, w: Any, theta: Any) -> Any:
        terms = [torch.ones_like(v)] if arguments["learn_theta_0"] else []
        for total in range(2 if pole else 1, degree + 1):
            for j in range(total + 1):
                terms.append(v ** (total - j) * w**j)
        return sum(t * m for t, m in zip(theta, terms, strict=True))

    def step(x: Any, state: Any, p: Any) -> Any:
        v, w = state["v"], state["w"]
        h, u = (row(v, w, p.get(name, ())) for name in ("theta_v", "theta_w"))
        if pole:
            r = 1 / (1 + torch.exp(-p["rho"]))
            h = h + r * (torch.cos(p["phi"]) * v - torch.sin(p["phi"]) * w)
            u = u + r * (torch.sin(p["phi"]) * v + torch.cos(p["phi"]) * w)
        h = clamp(h + x, arguments.get("v_min"), arguments.get("v_max"))
        u = clamp(u, arguments.get("w_min"), arguments.get("w_max"))
        spike = Spike.apply(h - p["v_threshold"])
        s = spike.detach() if arguments["detach_reset"] else spike
        reset = arguments["v_reset"]

        def after(value: Any) -> Any:
            if reset is None:
                return value - s * p["v_threshold"]
            return s * reset + (1 - s) * value

        return spike, {"v": after(h), "w": after(u) if arguments["reset"] == "both" else u}

    return step


@settings(max_examples=5, deadline=None)
@given(two_state_arguments(), st.sampled_from([(5, 2, 3, 2), (6, 1, 2, 3)]), st.integers(0, 2**32))
def test_it_is_the_loop(arguments: dict[str, Any], shape: tuple[int, ...], seed: int) -> None:
    """Any degree, parametrisation, reset, granularity and clamp: values and gradients."""
    neuron = two(**{k: v for k, v in arguments.items() if k != "states"})
    check(neuron, step_of(arguments), drawn(neuron, np.random.default_rng(seed), shape))


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(two_state_arguments(), st.integers(0, 2**32))
def test_schemes_agree(arguments: dict[str, Any], seed: int) -> None:
    """Horner's and Estrin's form are equal up to rounding."""
    neuron = lnm.get("lnm", **arguments)
    a = drawn(neuron, np.random.default_rng(seed), (3, 2, 2))
    horner, estrin = (a.interpret(neuron, scheme=scheme) for scheme in ("horner", "estrin"))
    np.testing.assert_array_equal(horner.out, estrin.out)
    for name, value in horner.grads.items():
        close = 1e-9 * max(1.0, float(np.abs(value).max()))
        np.testing.assert_allclose(estrin.grads[name], value, 1e-9, close, err_msg=name)


@pytest.mark.slow
def test_the_order_of_monomials() -> None:
    """1, v, w, v^2, v*w, w^2, v^3, v^2*w, v*w^2, w^3: (exponent of v, of w)."""
    order = (
        (0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (3, 0), (2, 1), (1, 2), (0, 3),
    )  # fmt: skip
    assert monomials(3) == order
    assert monomials(3, 2) == order[3:]
    state = {"v": np.full(1, 3.0), "w": np.full(1, 5.0)}
    for k, (i, j) in enumerate(order):
        theta = np.eye(10)[k]
        neuron = two(degree=3, learn_theta_0=True, v_threshold=1e6)
        given = {"theta_v": theta, "theta_w": 2 * theta, "state": state}
        found = lnm.interpret(neuron, np.zeros((1, 1)), **given).states
        assert (found["v"][0], found["w"][0]) == (3**i * 5**j, 2 * 3**i * 5**j)


def test_parameters() -> None:
    """Their names and sizes; they are learnable, the threshold is not."""
    for pole, degree, constant, size in (
        (False, 1, False, 2), (False, 3, False, 9), (False, 1, True, 3), (False, 5, False, 20),
        (True, 1, False, 0), (True, 1, True, 1), (True, 2, False, 3),
    ):  # fmt: skip
        kind: Any = "pole" if pole else "free"
        *learned, end = two(degree=degree, parametrisation=kind, learn_theta_0=constant).params
        names = (*(("rho", "phi") if pole else ()), *(("theta_v", "theta_w") if size else ()))
        assert [p.name for p in learned] == [*names]
        assert {p.size for p in learned if p.name.startswith("theta")} == (
            {size} if size else set()
        )
        assert all(p.size is None for p in learned if not p.name.startswith("theta"))
        assert all(p.learnable for p in learned)
        assert (end.name, end.learnable, end.init) == ("v_threshold", False, 1.0)


def test_one_state_is_as_it_was() -> None:
    """Its arguments come first, in order and with their defaults; states=1 is the default."""
    signature = inspect.signature(FAMILIES["lnm"])
    found = {name: p.default for name, p in signature.parameters.items()}
    assert list(found.items())[: len(ONE_STATE)] == list(ONE_STATE.items())
    kinds = {name: p.kind for name, p in signature.parameters.items()}
    assert {kinds[name] for name in ONE_STATE} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}
    assert found["states"] == 1
    by_place = FAMILIES["lnm"](2, "C", None, False)
    by_word = lnm.get("lnm", states=1, degree=2, form="C", learn_theta_0=False)
    assert (str(by_place), by_place.params) == (str(by_word), by_word.params)


def test_two_states_have_defaults_of_their_own() -> None:
    """Those of the design."""
    family = FAMILIES["lnm"]._families[2]
    assert {n: p.default for n, p in family.signature.parameters.items()} == TWO_STATES
    assert "With states=2:" in inspect.getdoc(FAMILIES["lnm"])
    neuron = two()
    assert "reset   v <- -spike*v_threshold + v" in str(neuron)
    assert [s.name for s in neuron.states] == ["v", "w"]


def test_arguments_of_the_other_number_of_states_are_refused() -> None:
    """Also with their default value."""
    for word in ONE_STATE.keys() - TWO_STATES.keys():
        with refused(
            lnm.ModelError, "lnm", f"{word} is given, which states=2 does not take",
            "degree, parametrisation, reset", f"Give states=1, or omit {word}.",
        ):  # fmt: skip
            two(**{word: ONE_STATE[word]})
    for word in TWO_STATES.keys() - ONE_STATE.keys():
        for more in ({}, {"states": 1}):
            with refused(
                lnm.ModelError, "lnm", f"{word} is given, which states=1 does not take",
                "degree, form, theta", f"Give states=2, or omit {word}.",
            ):  # fmt: skip
                lnm.get("lnm", **{word: TWO_STATES[word]}, **more)


def test_coefficients_have_their_number() -> None:
    """As many as monomials."""
    with refused(lnm.ModelError, "parameter 'theta_v'", "init is", "or 2 of them"):
        two(degree=1, theta_v=(1.0, 2.0, 3.0))
    neuron = two(degree=1, theta_v=np.array([0.5, -0.25]), theta_w=[0.25, 0.5])
    assert [p.init for p in neuron.params[:2]] == [(0.5, -0.25), (0.25, 0.5)]
    assert [p.draw for p in neuron.params[:2]] == [None, None]


@pytest.mark.parametrize(
    ("poles", "words"),
    [
        ({"radius": (0.5, 0.95)}, "radius"),
        ({"angle": 0.3}, "angle"),
        ({"radius": 0.9, "angle": (0.0, 1.5)}, "radius and angle"),
    ],
)
def test_poles_that_nothing_reads_are_refused(poles: dict[str, Any], words: str) -> None:
    """Both thetas are the whole linear part. One of them is not, and beside a pole none is."""
    linear = {"theta_v": (0.5, -0.25), "theta_w": (0.25, 0.5)}
    with refused(
        lnm.ModelError, "lnm",
        f"{words} given with theta_v and theta_w, which are the linear part",
        remedy=f"Omit {words}, or one of theta_v and theta_w.",
    ):  # fmt: skip
        two(degree=1, **linear, **poles)
    for word, value in linear.items():
        two(degree=1, **{word: value}, **poles)
    quadratic = {"theta_v": (0.1, 0.0, 0.0), "theta_w": (0.0, 0.0, 0.1)}
    two(degree=2, parametrisation="pole", **quadratic, **poles)


def test_different_neurons_have_different_names() -> None:
    """Files are named after the neuron: one state, a free matrix and a pole pair."""
    found = [two(degree=1), two(degree=1, parametrisation="pole"), lnm.get("lnm", degree=1)]
    assert [n.name for n in found] == ["lnm_states2", "lnm_states2_pole", "lnm"]
    assert len({file for n in found for file in lnm.emit(n, "torch").files}) == 3


def test_without_a_layer_the_middle_counts() -> None:
    """Of radius and of angle, in interpret and in emitted files alike."""
    learn_theta_0 = True
    r, phi = 0.725, 0.75
    c, s = r * math.cos(phi), r * math.sin(phi)
    first = (0.0,) * learn_theta_0
    free = two(degree=2, learn_theta_0=learn_theta_0)
    assert free.params[0].init == pytest.approx((*first, c, -s, 0, 0, 0))
    assert free.params[1].init == pytest.approx((*first, s, c, 0, 0, 0))
    pole = two(degree=2, parametrisation="pole", learn_theta_0=learn_theta_0)
    assert pole.params[0].init == pytest.approx(math.log(r / (1 - r)))
    assert pole.params[1].init == phi
    x = np.random.default_rng(0).normal(size=(20, 2, 3))
    a, b = (lnm.interpret(n, x) for n in (free, pole))
    np.testing.assert_array_equal(a.out, b.out)
    np.testing.assert_allclose(a.states["w"], b.states["w"], rtol=1e-12, atol=1e-13)
    assert f"{c:.6f}" in lnm.emit(two(degree=1), "c").files["example.c"]


def poles_of(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return modulus and angle of a layer, after a check that its matrix is a rotation."""
    if hasattr(layer, "rho"):
        return torch.sigmoid(layer.rho).detach().numpy(), layer.phi.detach().numpy()
    a, b = (getattr(layer, n).detach().numpy()[..., :2] for n in ("theta_v", "theta_w"))
    np.testing.assert_array_equal(a[..., 0], b[..., 1])
    np.testing.assert_array_equal(a[..., 1], -b[..., 0])
    return np.hypot(a[..., 0], b[..., 0]), np.arctan2(b[..., 0], a[..., 0])


@pytest.mark.parametrize(
    ("parametrisation", "per", "axes"),
    [("free", "layer", ()), ("free", "channel", (600,)), ("pole", "neuron", (30, 20))],
)
def test_a_layer_draws_poles(parametrisation: Any, per: Any, axes: tuple[int, ...]) -> None:
    """One uniform (r, phi) for each parameter set gives all its linear coefficients."""
    neuron = two(
        degree=2, parametrisation=parametrisation, radius=(0.8, 0.9), angle=(0.5, 1.0), per=per
    )
    sizes = {"channel": {"channels": 600}, "neuron": {"shape": (30, 20)}}.get(per, {})
    layer = lnm.nn.NeuronLayer(neuron, backend="torch", dtype=torch.float64, **sizes)
    r, phi = poles_of(layer)
    assert r.shape == phi.shape == axes
    assert ((r >= 0.8) & (r <= 0.9) & (phi >= 0.5) & (phi <= 1.0)).all()
    if axes:
        for value, low, high in ((r, 0.8, 0.9), (phi, 0.5, 1.0)):
            quarters, _ = np.histogram(value, bins=4, range=(low, high))
            assert quarters.min() > 100
        assert abs(np.corrcoef(r.reshape(-1), phi.reshape(-1))[0, 1]) < 0.15
    others = layer.theta_v[..., 2:] if parametrisation == "free" else layer.theta_v
    assert not others.any()


@pytest.mark.parametrize("parametrisation", ["free", "pole"])
def test_draws_repeat_with_the_generator(parametrisation: Any) -> None:
    """A seed gives the same layer; `reset_parameters` draws anew; copies stay as they are."""
    neuron = two(degree=1, parametrisation=parametrisation, per="channel")
    assert pickle.loads(pickle.dumps(neuron)) == neuron == copy.deepcopy(neuron)

    def layer() -> Any:
        torch.manual_seed(3)
        return lnm.nn.NeuronLayer(neuron, channels=8, backend="torch")

    first, second = layer(), layer()
    for one, other in itertools.pairwise((first, second, copy.deepcopy(first))):
        for name, value in one.named_parameters():
            assert torch.equal(value, getattr(other, name))
    before = poles_of(first)
    first.reset_parameters()
    after = poles_of(first)
    assert not np.isin(after[0], before[0]).any()
    torch.manual_seed(3)
    first.reset_parameters()
    np.testing.assert_array_equal(poles_of(first), before)


def test_one_end_may_be_a_number() -> None:
    """A number is not drawn; two of them need no generator."""
    layer = lnm.nn.NeuronLayer(
        two(degree=1, radius=0.9, per="channel"), channels=50, backend="torch", dtype=torch.float64
    )
    r, phi = poles_of(layer)
    np.testing.assert_allclose(r, 0.9, rtol=1e-12)
    assert len(np.unique(phi)) == 50
    fixed = two(degree=1, radius=0.9, angle=0.3)
    assert all(p.draw is None for p in fixed.params)
    assert fixed.params[0].init == pytest.approx((0.9 * math.cos(0.3), -0.9 * math.sin(0.3)))


def test_a_given_row_is_not_drawn() -> None:
    """theta_v as numbers or a function, while theta_w begins at its row of the rotation."""
    ones = lambda generator, shape: torch.ones(shape)  # noqa: E731
    for start, value in (((0.5, -0.125), (0.5, -0.125)), (ones, (1.0, 1.0))):
        neuron = two(degree=1, theta_v=start, per="channel")
        layer = lnm.nn.NeuronLayer(neuron, channels=3, backend="torch")
        assert torch.equal(layer.theta_v, torch.tensor(value).expand(3, 2))
        assert len(layer.theta_w.unique()) == 6


@pytest.mark.parametrize(
    ("network", "parametrisation"), [("feedforward", "free"), ("recurrent", "pole")]
)
def test_networks_draw_each_layer(network: str, parametrisation: Any) -> None:
    """Every layer of a network has poles of its own."""
    neuron = two(degree=1, parametrisation=parametrisation, per="channel")
    made = build(network, neuron, (10, 3), 4, kind="sequence", hidden=(16, 16), backend="torch")
    found = [poles_of(layer) for layer in made.modules() if isinstance(layer, lnm.nn.NeuronLayer)
             and layer.neuron.name.startswith("lnm")]  # fmt: skip
    assert [r.shape for r, _ in found] == [(16,), (16,)]
    assert len(np.unique([r for r, _ in found])) == 32


def test_a_layer_refuses_mixed_granularities_of_one_draw() -> None:
    """Other mixtures, and given values, are legal; so is a neuron without a layer."""
    mixed = two(degree=1, per={"theta_v": "channel", "theta_w": "layer"})
    assert lnm.interpret(mixed, np.zeros((1, 1, 2))).out.shape == (1, 1, 2)
    with refused(
        lnm.ModelError, "NeuronLayer",
        "'theta_v' per channel and 'theta_w' per layer are initialised by one random draw",
        "one granularity for both", "Change per, or give initial values that are not drawn.",
    ):  # fmt: skip
        lnm.nn.NeuronLayer(mixed, channels=2)
    lnm.nn.NeuronLayer(two(degree=1, radius=0.9, angle=0.3, per={"theta_v": "channel"}))
    lnm.nn.NeuronLayer(two(degree=1, learn_threshold=True, per={"v_threshold": "channel"}))
    pole = two(degree=2, parametrisation="pole", per={"theta_v": "channel", "theta_w": "neuron"})
    lnm.nn.NeuronLayer(pole)


def test_a_pole_pair_is_stable_for_any_values() -> None:
    """|(v, w)| never grows without input."""
    rng = np.random.default_rng(0)
    start = {n: rng.normal(size=(1, 500)) for n in ("v", "w")}
    neuron = two(degree=1, parametrisation="pole", v_threshold=1e9, per="channel")
    rho, phi = rng.uniform(-30, 30, 500), rng.uniform(-10, 10, 500)
    x = np.zeros((50, 1, 500))
    found = lnm.interpret(neuron, x, state=start, rho=rho, phi=phi).trajectory
    moduli = np.hypot(found["v"], found["w"])
    assert (np.diff(moduli, axis=0) <= 1e-12 * moduli[:-1]).all()


@pytest.mark.parametrize(
    ("reset", "v_reset", "starts"),
    [
        ("v", None, (0, 0)),
        ("both", None, (0, 0)),
        ("v", -0.5, (-0.5, 0)),
        ("both", 0.2, (0.2, 0.2)),
    ],
)
def test_resets(reset: Any, v_reset: float | None, starts: tuple[float, float]) -> None:
    """v alone or both states, soft by the threshold or hard; a hard reset is also the start."""
    neuron = two(degree=1, reset=reset, v_reset=v_reset, v_threshold=2.0)
    assert tuple(s.decl.init for s in neuron.states) == starts  # type: ignore[union-attr]
    state, eye = {"v": np.full(1, 5.0), "w": np.full(1, 7.0)}, np.eye(2)
    given = {"state": state, "theta_v": eye[0], "theta_w": eye[1]}
    found = lnm.interpret(neuron, np.zeros((1, 1)), **given).states
    v, w = (3.0, 5.0) if v_reset is None else (v_reset, v_reset)
    assert found == {"v": v, "w": w if reset == "both" else 7.0}
