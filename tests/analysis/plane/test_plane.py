"""Certificates of two states: polygons, escapes, shortest drives, and 2 x 2 matrices."""

from __future__ import annotations

from fractions import Fraction as Q

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.analysis import Escape, Interval, Invariant, Undecided, invariant
from lnm_codegen.analysis.box import BoxStep
from lnm_codegen.analysis.invariant import LONGEST, STEPS
from lnm_codegen.analysis.plane import (
    Mode,
    PlaneStep,
    box_shrinking,
    diverges,
    in_floats,
    is_invariant_polygon,
    is_stable,
    radius_of,
    shortest,
    shrinking,
)
from lnm_codegen.analysis.polygon import hull_of
from tests.strategies import examples
from tests.two_states import RESETS, Matrix, driven, matrices, matrix_neuron, rotation, stepped


def plane_of(neuron: lnm.Neuron, x_max: float) -> PlaneStep[Q]:
    plane = BoxStep(neuron, {"x": (-x_max, x_max)}, None).plane
    assert isinstance(plane, PlaneStep)
    return plane


def leaves(found: Invariant, states: np.ndarray) -> bool:
    """Report whether a run leaves the polygon, by its edges, or the box."""
    corners = np.array([[float(v), float(w)] for v, w in found.polygon])
    for k, name in enumerate(("v", "w")):
        inside = found.states[name]
        size = 1e-9 * (1 + float(inside.magnitude))
        if not (float(inside.low) - size <= states[..., k].min()):
            return True
        if not (states[..., k].max() <= float(inside.high) + size):
            return True
    if not found.polygon:
        return False
    edges = np.roll(corners, -1, 0) - corners
    normals = np.stack([edges[:, 1], -edges[:, 0]], 1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    over = (states.reshape(-1, 2) @ normals.T).max(0) - (corners * normals).sum(1)
    return bool(over.max() > 1e-9 * (1 + np.abs(corners).max()))


@pytest.mark.slow
@examples(25)
@given(
    matrices(0.97),
    st.sampled_from(RESETS),
    st.sampled_from([0.0, 0.25, -0.5]),
    st.sampled_from([0.25, 1.0, 4.0]),
)
def test_a_certified_polygon_is_not_left(
    theta: Matrix, reset: str, v_reset: float, x_max: float
) -> None:
    """Bang-bang, greedy and random inputs in an independent NumPy step; escapes leave."""
    neuron = matrix_neuron(theta, reset, v_reset)
    found = invariant(neuron, {"x": (-x_max, x_max)})
    if isinstance(found, Escape):
        check_escape(neuron, found, x_max)
        return
    if "hard" not in reset:
        assert isinstance(found, Invariant), found
    if isinstance(found, Invariant):
        states, _ = driven(theta, reset, x_max, v_reset=v_reset)
        assert not leaves(found, states)
        assert all(found.states[n].holds(found.reached[n]) for n in found.states)


def check_escape(neuron: lnm.Neuron, found: Escape, x_max: float) -> None:
    sequence = np.array(found.inputs["x"]).reshape(-1, 1)
    assert np.abs(sequence).max() <= x_max
    last = lnm.interpret(neuron, sequence).states[found.state][0]
    assert last == found.value
    assert not abs(last) <= found.bound


@examples(12)
@given(st.floats(1.02, 1.5), st.floats(0.1, 3.0), st.sampled_from(["soft", "both soft", "none"]))
def test_a_matrix_outside_the_circle_has_an_escape(radius: float, angle: float, reset: str) -> None:
    """A soft reset moves v by a bounded amount, so it cannot hold an unstable pole pair."""
    neuron = matrix_neuron(rotation(radius, angle), reset)
    found = invariant(neuron, {"x": (-1, 1)})
    assert isinstance(found, Escape)
    check_escape(neuron, found, 1.0)
    assert found.diverges
    assert str(found).endswith("steps, and grows without bound from there for any input")
    check_divergence(rotation(radius, angle), reset, found)


@examples(8)
@given(
    st.floats(1.02, 1.5), st.floats(-0.9, 0.9), st.floats(-1, 1), st.booleans(),
    st.sampled_from(RESETS),
)  # fmt: skip
def test_a_real_eigenvalue_outside_the_circle(
    large: float, small: float, shear: float, negative: bool, reset: str
) -> None:
    """Also under a hard reset, where v runs away below the threshold."""
    theta = (-large if negative else large, shear, 0.0, small)
    neuron = matrix_neuron(theta, reset)
    found = invariant(neuron, {"x": (-1, 1)})
    if not negative:
        assert isinstance(found, Escape)
        assert found.diverges
    if isinstance(found, Escape):
        check_escape(neuron, found, 1.0)
        check_divergence(theta, reset, found)
    elif isinstance(found, Invariant):
        assert not leaves(found, driven(theta, reset, 1.0)[0])


def check_divergence(theta: Matrix, reset: str, found: Escape) -> None:
    """After an escape that is proven to diverge, no bang-bang or random input brings it back."""
    if not found.diverges:
        return
    start = lnm.interpret(matrix_neuron(theta, reset), np.array(found.inputs["x"])[:, None]).states
    a, rng = np.array(theta).reshape(2, 2), np.random.default_rng(0)
    v, w = np.full(64, start["v"][0]), np.full(64, start["w"][0])
    step, sizes = stepped(theta, reset), [np.hypot(v, w)]
    for _ in range(400):
        back = -np.sign(a[0, 0] * v + a[0, 1] * w)
        x = np.where(rng.random(64) < np.linspace(0, 1, 64), back, rng.uniform(-1, 1, 64))
        v, w = step(v, w, x)
        sizes.append(np.hypot(v, w))
    assert (sizes[-1] > 10 * sizes[0]).all()


@pytest.mark.parametrize(
    ("radius", "angle"),
    [
        (0.95, 0.05),
        (0.99, 0.8),
        *(pytest.param(*pole, marks=pytest.mark.slow) for pole in ((0.5, 0.8), (0.9, 1.5))),
    ],
)
@pytest.mark.parametrize("reset", RESETS)
def test_the_box_is_near_to_what_inputs_reach(radius: float, angle: float, reset: str) -> None:
    """Without a reset the largest |v| is X*sum |r**k cos(k*phi)|; the box has 10 % more at most."""
    theta = rotation(radius, angle)
    found = invariant(matrix_neuron(theta, reset), {"x": (-1, 1)})
    assert isinstance(found, Invariant)
    states, _ = driven(theta, reset, 1.0, steps=1200)
    assert not leaves(found, states)
    if reset == "none":
        k = np.arange(5000)
        for name, wave in (("v", np.cos(k * angle)), ("w", np.sin(k * angle))):
            largest = float(np.abs(radius**k * wave).sum())
            assert largest <= found.states[name].magnitude <= 1.1 * largest
    if reset in ("hard", "both"):
        assert found.states["v"].high <= 1


def test_a_rotation_has_a_polygon_where_it_has_no_box() -> None:
    """|A| has radius 1.27 here, so no box is invariant; the polygon is, and one step shrinks it."""
    neuron = matrix_neuron(rotation(0.9, 0.8))
    found = invariant(neuron, {"x": (-1, 1)})
    assert isinstance(found, Invariant)
    assert len(found.polygon) > 8
    plane, zero = plane_of(neuron, 1.0), (Q(0), Q(0))
    assert is_invariant_polygon(plane, found.polygon, zero)
    assert not is_invariant_polygon(plane_of(neuron, 1.001), found.polygon, zero)
    box = [(v, w) for v in ends(found.states["v"]) for w in ends(found.states["w"])]
    assert not is_invariant_polygon(plane, hull_of(box), zero)
    assert not is_invariant_polygon(plane, found.polygon, (Q(100), Q(0)))


def ends(i: Interval) -> tuple[Q, Q]:
    return i.low, i.high


@examples(12)
@given(matrices(1.2), st.sampled_from(RESETS), st.integers(0, 2**31))
def test_the_image_of_a_polygon_holds_every_step_from_it(
    theta: Matrix, reset: str, seed: int
) -> None:
    """Random states in a random polygon, random inputs: `interpret` lands in the exact image."""
    rng = np.random.default_rng(seed)
    neuron = matrix_neuron(theta, reset)
    corners = hull_of((Q(float(a)), Q(float(b))) for a, b in rng.normal(0, 2, (5, 2)))
    image = hull_of(plane_of(neuron, 1.0).image(corners))
    shares = rng.dirichlet(np.ones(len(corners)), 200)
    v, w = (shares @ np.array(corners, float)).T
    x = rng.uniform(-1, 1, (1, 200))
    after = lnm.interpret(neuron, x, state={"v": v, "w": w}).states
    edges = np.array(image, float)
    for a, b in zip(edges, np.roll(edges, -1, 0), strict=True):
        turn = (b[0] - a[0]) * (after["w"] - a[1]) - (b[1] - a[1]) * (after["v"] - a[0])
        assert turn.min() > -1e-9


def test_clamps_hold_a_matrix_outside_the_circle() -> None:
    """Two clamps bound v, and a stable w follows: proven, though the radius is 1.2."""
    neuron = matrix_neuron((1.2, 0.0, 0.5, 0.5), low=-2.0, high=3.0)
    found = invariant(neuron, {"x": (-1, 1)})
    assert isinstance(found, Invariant)
    assert (float(found.states["v"].low), float(found.states["v"].high)) == (-2, 2)
    assert found.states["w"].magnitude <= 2.01


@pytest.mark.parametrize("clamped", [False, True])
def test_a_polynomial_of_two_states_needs_clamps(clamped: bool) -> None:
    """A quadratic term: unknown, and the reason names it; clamps of both states prove a box."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    h, c = 0.9 * v - 0.4 * w + 2**-20 * v * w + x, 0.4 * v + 0.9 * w
    if clamped:
        h, c = lnm.clip(h, -4, 2), lnm.clip(c, -3, 3)
    neuron = lnm.Neuron(charge={v: h, w: c}, fire=v - 1, reset=lnm.soft_reset(v, 1), name="bent")
    found = invariant(neuron, {"x": (-1, 1)})
    if clamped:
        assert isinstance(found, Invariant)
        assert found.polygon == ()
        assert Interval(Q(-4), Q(1)).holds(found.states["v"])
    else:
        assert isinstance(found, Undecided)
        assert "its step is not affine in pieces" in found.reason


def test_a_box_is_found_where_the_edges_of_a_fan_fail() -> None:
    """A slow leak that reads another state: both ends are exact, X/(1 - 0.95) and the threshold."""
    found = invariant(matrix_neuron((0.95, 0.5, 0.0, 0.9), "hard"), {"x": (-1, 1)})
    assert isinstance(found, Invariant)
    assert float(found.states["v"].low) == pytest.approx(-20, abs=1e-4)
    assert float(found.states["v"].high) == 1.0
    assert float(found.states["w"].magnitude) < 1e-6


@pytest.mark.parametrize("angle", [0.05, 0.8, 2.5])
def test_what_is_reached_is_nearly_all_without_a_reset(angle: float) -> None:
    found = invariant(matrix_neuron(rotation(0.9, angle), "none"), {"x": (-1, 1)})
    assert isinstance(found, Invariant)
    for name in ("v", "w"):
        assert found.reached[name].width >= Q(95, 100) * found.states[name].width


def test_a_pole_near_the_circle_is_unknown_and_says_so() -> None:
    found = invariant(matrix_neuron(rotation(1 - 2**-24, 0.8)), {"x": (-0.001, 0.001)})
    assert isinstance(found, Undecided)
    assert "no invariant polygon is found at spectral radius 1" in found.reason


@pytest.mark.parametrize("family", ["cuba_lif", "alif"])
def test_families_of_two_states(family: str) -> None:
    """Synaptic current and adaptation are such steps; soft and hard resets."""
    arguments = {"alif": {"form": "lsnn"}, "cuba_lif": {"v_reset": None}}[family]
    neuron = lnm.get(family, **arguments)
    found = invariant(neuron, {"x": (-1, 1)})
    assert isinstance(found, Invariant)
    x = np.random.default_rng(0).choice([-1.0, 1.0], (500, 64))
    x[:, :2] = (-1, 1)
    seen = lnm.interpret(neuron, x).trajectory
    for name, inside in found.states.items():
        assert float(inside.low) - 1e-9 <= seen[name].min()
        assert seen[name].max() <= float(inside.high) + 1e-9


@pytest.mark.parametrize("width", [0, 1])
def test_states_that_the_step_sets_to_constants(width: int) -> None:
    """No state and no input of any width matters to the step; it once had too short a basis."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: x}, fire=v - 1, reset={v: 0.0, w: 0.5})
    found = invariant(neuron, {"x": (-width, width)})
    assert isinstance(found, Invariant)
    assert found.states == {"v": Interval(Q(0), Q(0), True), "w": Interval(Q(0), Q(1, 2), True)}


def least_steps(theta: Matrix, x_max: float, bound: float, most: int) -> int:
    """Return the least n with X * sum |A**k e_1| > bound for a state, or most + 1."""
    a, column, total = np.array(theta).reshape(2, 2), np.array([1.0, 0.0]), np.zeros(2)
    for k in range(1, most + 1):
        total += x_max * np.abs(column)
        if total.max() > bound:
            return k
        column = a @ column
    return most + 1


@examples(25)
@given(matrices(1.3), st.sampled_from([0.0625, 1.0]))
def test_no_shorter_sequence_passes_the_bound(theta: Matrix, x_max: float) -> None:
    """Without a reset the largest state after n steps is X times a sum of absolute values."""
    plane = BoxStep(matrix_neuron(theta, "none"), {"x": (-x_max, x_max)}, None).plane
    assert plane is not None
    found = shortest(in_floats(plane), (0.0, 0.0), 50.0, 400)
    expected = least_steps(theta, x_max, 50.0, 400)
    assert len(found) == (expected if expected <= 400 else 0)
    if found:
        assert max(map(abs, found[-1][1])) > 50


@pytest.mark.parametrize(
    ("radius", "x_max", "reset"),
    [
        (1.001, 0.001, "none"),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in ((1.0, 0.05, "soft"), (1.0, 0.05, "none"), (1.001, 0.001, "soft"))
        ),
    ],
)
def test_small_inputs_in_resonance_drive_a_pole_pair_out(
    radius: float, x_max: float, reset: str
) -> None:
    """Longer than any other sequence. On the circle nothing diverges: inputs can bring it back."""
    theta = rotation(radius, 0.3)
    neuron = matrix_neuron(theta, reset)
    inputs, values = {"x": (-x_max, x_max)}, {"v_threshold": 1e6}
    found = invariant(neuron, inputs, values=values)
    assert isinstance(found, Escape)
    assert STEPS < found.steps == least_steps(theta, x_max, 100.0, LONGEST)
    sequence = np.array(found.inputs["x"])
    assert np.abs(sequence).max() <= x_max
    last = lnm.interpret(neuron, sequence.reshape(-1, 1), **values).states[found.state][0]
    assert last == found.value
    assert abs(last) > 100
    assert found.diverges == (radius > 1 and reset == "none")


def test_resets_that_act_are_no_escape() -> None:
    """A hard reset at 1 holds the same rotation, in a proven polygon."""
    neuron = matrix_neuron(rotation(1.0, 0.3), "both")
    plane = BoxStep(neuron, {"x": (-0.05, 0.05)}, None).plane
    assert plane is not None
    assert shortest(in_floats(plane), (0.0, 0.0), 100.0, LONGEST) == []
    assert isinstance(invariant(neuron, {"x": (-0.05, 0.05)}), Invariant)


EXACT = [
    ((1, 0), (0, 0)),
    ((0, -1), (1, 0)),
    ((-1, 5), (0, 1)),
    ((1, 1), (0, 1)),
    ((2, -1), (1, 0)),
]


def rows(theta: Matrix) -> tuple[tuple[float, float], tuple[float, float]]:
    return (theta[0], theta[1]), (theta[2], theta[3])


def rational(theta: Matrix) -> tuple[tuple[Q, Q], tuple[Q, Q]]:
    a, b, c, d = map(Q, theta)
    return (a, b), (c, d)


@examples(60)
@given(matrices(1.5))
def test_jurys_conditions_are_those_of_the_eigenvalues(theta: Matrix) -> None:
    found = np.abs(np.linalg.eigvals(np.array(rows(theta)))).max()
    assert radius_of(rows(theta)) == pytest.approx(found, rel=1e-6, abs=1e-6)
    for limit in (0.5, 1.0, 1.25):
        if abs(found - limit) > 1e-6:
            assert is_stable(rational(theta), Q(limit)) == (found < limit)


@pytest.mark.parametrize("matrix", EXACT)
def test_a_radius_of_exactly_1_is_not_stable(matrix: tuple[tuple[int, int], ...]) -> None:
    """No tolerance: 1, a pair on the circle, -1 and 1, and double eigenvalues."""
    theta = tuple(float(e) for row in matrix for e in row)
    assert len(theta) == 4
    assert not is_stable(rational(theta))
    assert is_stable(rational(tuple(e * (1 - 2**-40) for e in theta)))  # type: ignore[arg-type]


@examples(40)
@given(matrices(0.99))
def test_distances_shrink(theta: Matrix) -> None:
    """|W*A*s| < |W*s|, in the plane for every matrix, by the largest entry where |A| allows it."""
    w = shrinking(rows(theta))
    a = np.array(rows(theta))
    assert np.linalg.norm(w @ a @ np.linalg.inv(w), 2) < 1
    assert np.linalg.det(w) > 0
    w = box_shrinking(rows(theta))
    if np.abs(np.linalg.eigvals(np.abs(a))).max() < 0.999:
        assert np.abs(w @ a @ np.linalg.inv(w)).sum(1).max() < 1
        assert w.min() >= 0


def step_of(theta: Matrix) -> PlaneStep[Q]:
    """Return s' = A*s + (x, 0) for |x| <= 1."""
    zero, one = Q(0), Q(1)
    mode: Mode[Q] = Mode(((one, zero), (zero, one)), (zero, zero), ())
    return PlaneStep(rational(theta), (((-one, zero), (one, zero)),), (mode,))


@pytest.mark.parametrize(
    ("theta", "far"),
    [((1.25, 0.0, 0.0, 0.5), 4), ((-1.25, 0.0, 0.0, 0.5), 4), (rotation(1.25, 1.0), 4),
     ((1.25, 1.0, 0.0, -0.75), 16), ((1.5, 0.0, 0.0, 1.25), 4)],
)  # fmt: skip
def test_divergence_is_proven_far_out_and_not_near(theta: Matrix, far: int) -> None:
    """An input can hold a state of 1/(radius - 1) at most."""
    step = step_of(theta)
    for s in ((Q(2 * far), Q(0)), (Q(-4 * far), Q(1))):
        assert diverges(step, s)
    for s in ((Q(0), Q(0)), (Q(1, 2), Q(0)), (Q(0), Q(1, 2))):
        assert not diverges(step, s)


@pytest.mark.parametrize(
    "theta", [(1.0, 0, 0, 0.5), (0.9, 0, 0, 0.5), rotation(0.99, 1), (0, 0, 0, 0)]
)
def test_no_divergence_inside_the_circle_or_on_it(theta: Matrix) -> None:
    assert not diverges(step_of(theta), (Q(10**6), Q(10**6)))


def test_a_state_off_the_growing_direction_is_not_proven() -> None:
    """On the axis of the stable eigenvalue the state fades, however far it is."""
    assert not diverges(step_of((1.25, 0.0, 0.0, 0.5)), (Q(0), Q(10**9)))
