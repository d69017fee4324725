"""Two states: spectral radius, projection and penalty of free matrices, and their certificates."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize

import lnm_codegen as lnm
from lnm_codegen.analysis import Invariant, invariant
from lnm_codegen.analysis.linear.affine import linear_part
from lnm_codegen.errors import InternalError, ModelError, UnsupportedError
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train.stability import layers as matrix
from lnm_codegen.train.stability.layers import (
    _eigenvalue_penalty,
    slope_penalty,
    spectral_radius,
    state_matrix,
)
from lnm_codegen.train.stability.projection import certificate, project, require_projectable
from tests.refusals import assert_refused, refused
from tests.two_states import Matrix, matrices, matrix_neuron, rotation


def layer_of(
    rows: list[Any], reset: str = "soft", dtype: torch.dtype = torch.float32, **arguments: Any
) -> NeuronLayer:
    """Return a layer with a free matrix (A0, A1, A2, A3) per channel."""
    neuron = matrix_neuron((0.5, 0.0, 0.0, 0.5), reset, per="channel")
    layer = NeuronLayer(neuron, channels=len(rows), backend="torch", dtype=dtype, **arguments)
    values = torch.tensor(rows, dtype=dtype)
    with torch.no_grad():
        layer.theta_v.copy_(values[:, :2])
        layer.theta_w.copy_(values[:, 2:])
    return layer


def matrices_of(layer: NeuronLayer) -> np.ndarray:
    """Return the matrices (R, 2, 2) of any layer of two states, in float64."""
    part = linear_part(layer.neuron)
    assert part is not None
    return state_matrix(layer, part).detach().T.reshape(-1, 2, 2).numpy()


def radii(matrix: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.abs(np.linalg.eigvals(matrix)).max(-1)
    return found


@settings(max_examples=40)
@given(st.lists(st.tuples(*[st.floats(-3, 3, width=32)] * 4), min_size=1, max_size=20))
def test_the_radius_is_that_of_the_eigenvalues(rows: list[Matrix]) -> None:
    """Closed form against LAPACK; a double eigenvalue moves by the root of the rounding."""
    found = spectral_radius(torch.tensor(rows, dtype=torch.float64).T)
    expected = radii(np.array(rows, np.float64).reshape(-1, 2, 2))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-7, atol=2e-7)


@settings(max_examples=20)
@given(
    st.lists(matrices(2.0), min_size=1, max_size=8),
    st.sampled_from([0.5, 0.9, 0.999, 1 - 2**-12]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_a_matrix_outside_is_scaled_to_the_radius_and_one_inside_stays(
    rows: list[Matrix], r_max: float, dtype: torch.dtype
) -> None:
    """The radius is at most r_max, the frequency is kept, and a second projection moves nothing."""
    layer = layer_of(rows, dtype=dtype)
    before = matrices_of(layer)
    inside = spectral_radius(torch.as_tensor(before).reshape(-1, 4).T).numpy() <= r_max
    assert project(layer, 1.0, r_max=r_max) == int((~inside).sum())
    after = matrices_of(layer)
    assert (radii(after) <= r_max * (1 + 1e-7)).all()
    assert (radii(after[~inside]) >= r_max * (1 - 1e-5)).all()
    np.testing.assert_array_equal(after[inside], before[inside])
    assert project(layer, 1.0, r_max=r_max) == 0
    np.testing.assert_array_equal(matrices_of(layer), after)
    rounding = 8 * torch.finfo(dtype).eps
    for a, b in zip(before[~inside], after[~inside], strict=True):
        scale = np.abs(b).max() / np.abs(a).max()
        np.testing.assert_allclose(b, scale * a, rtol=rounding, atol=rounding * np.abs(a).max())


def test_per_layer_per_neuron_and_mixed() -> None:
    """Shared numbers are scaled by the least factor of all sets that share them.

    Parameters stay leaves with their gradients, and modules that share them see the values.
    """
    for per, rows in (("layer", 1), ("neuron", 6)):
        layer = NeuronLayer(matrix_neuron((1.5, 0, 0, 0.5), per=per), shape=(2, 3), backend="torch")
        layer(torch.ones(5, 1, 2, 3)).sum().backward()
        held, grad = layer.theta_v, layer.theta_v.grad
        assert project(layer, 1.0) == rows
        assert layer.theta_v is held
        assert held.grad is grad
        assert held.requires_grad
        assert held.is_leaf
        assert project(layer.requires_grad_(False), 1.0) == 0
    mixed = matrix_neuron((1.5, 0, 0, 0.5)).with_per({"theta_v": "channel"})
    layer = NeuronLayer(mixed, channels=2, backend="torch").requires_grad_(False)
    layer.theta_v[1, 0] = 0.5
    assert project(layer, 1.0, r_max=0.75) == 2
    np.testing.assert_allclose(matrices_of(layer)[:, 0, 0], [0.75, 0.25], rtol=1e-6)
    np.testing.assert_allclose(matrices_of(layer)[:, 1, 1], [0.25, 0.25], rtol=1e-6)


def of(neuron: lnm.Neuron) -> NeuronLayer:
    return NeuronLayer(neuron, backend="torch")


def bent(constant: bool = False) -> lnm.Neuron:
    """Return a quadratic neuron of two states, with or without learned constants."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    a = lnm.param("theta_v", size=3, init=(1.5, 0.0, 0.25))
    b = lnm.param("theta_w", size=2, init=(0.0, 0.5))
    rest = lnm.param("theta_0", init=0.125) if constant else 0.0
    h = a[0] * v + a[1] * w + a[2] * v * w + rest + x
    return lnm.Neuron(charge={v: h, w: b[0] * v + b[1] * w}, fire=v - 1, name="bent")


def test_other_neurons_of_two_states() -> None:
    """Of a polynomial the linear part alone is projected; `cuba_lif` is linear in its decays."""
    layer = of(bent())
    require_projectable(layer, 1.0, -2.0)
    assert project(layer, 1.0, r_max=0.75) == 1
    assert layer.theta_v.tolist() == pytest.approx([0.75, 0.0, 0.25])
    assert layer.theta_w.tolist() == pytest.approx([0.0, 0.25])
    for constant in (False, True):
        part = linear_part(bent(constant))
        assert part is not None
        assert part.decides is not constant
    layer = of(lnm.get("cuba_lif", learnable=True)).requires_grad_(False)
    layer.current_decay.fill_(1.25)
    layer.voltage_decay.fill_(0.5)
    assert project(layer, 1.0, r_max=0.75) == 1
    assert layer.current_decay.item() == pytest.approx(0.75)
    assert layer.voltage_decay.item() == pytest.approx(0.3)


class Shifted(nn.Module):
    """A parametrization with a parameter of its own, as of LoRA."""

    def __init__(self) -> None:
        super().__init__()
        self.d = nn.Parameter(torch.zeros(2, 2))

    def forward(self, t: Tensor) -> Tensor:
        return t + self.d


def test_a_matrix_that_cannot_be_projected_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a NaN, or computed: the loop over factors was endless, and one row alone was scaled."""
    layer = layer_of([rotation(0.9, 1), rotation(2.0, 1), rotation(2.0, 1)])
    with torch.no_grad():
        layer.theta_w[1, 0] = float("nan")
    before = layer.theta_v.detach().clone()
    problem = "the matrix of theta_v and theta_w of free is not finite in parameter set 1"
    with refused(ModelError, "project", problem, "", "Resume from the last training checkpoint."):
        project(layer, 1.0)
    assert torch.equal(layer.theta_v, before)
    layer = layer_of([rotation(1.2, 1), rotation(0.9, 1)])
    matrices = matrices_of(layer)
    problem = "'theta_v' of free is computed, as by torch.nn.utils.parametrize"
    for name in ("theta_v", "theta_w"):
        parametrize.register_parametrization(layer, name, Shifted())
        for call in (project, lambda layer, x: require_projectable(layer, x, -2.0)):
            with refused(ModelError, "project", problem, "own", "Remove the parametrization"):
                call(layer, 1.0)
        assert np.array_equal(matrices_of(layer), matrices)
    monkeypatch.setattr(matrix, "_write", lambda *_: None)
    with refused(InternalError, "project", "no factor brings a matrix of free to 0.95"):
        project(layer_of([rotation(1.2, 1)]), 1.0, r_max=0.95)


def pole() -> lnm.Neuron:
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    r, phi = lnm.sigmoid(lnm.param("rho", init=3.0)), lnm.param("phi", init=0.8)
    c, s = r * lnm.cos(phi), r * lnm.sin(phi)
    charge = {v: c * v - s * w + x, w: s * v + c * w}
    return lnm.Neuron(charge, fire=v - 1, reset=lnm.soft_reset(v, 1.0), name="pole")


def gained() -> lnm.Neuron:
    """Return a matrix whose first element is the gain of the input too."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    th = lnm.param("th", size=4, init=(1.2, -0.3, 0.3, 1.1))
    charge = {v: th[0] * (v + x) + th[1] * w, w: th[2] * v + th[3] * w}
    return lnm.Neuron(charge=charge, fire=v - 1, name="gained")


UNSUPPORTED = """
pole
    project(of(pole()), 1.0) >> not linear in learnable parameters
        >> 'pole' is stable without a projection
izhikevich >> 'free'
    project(of(get("izhikevich", learnable=True)), 1.0) >> not linear
gained >> 'free'
    project(of(gained()), 1.0, r_max=0.5) >> that occur only there
alif >> 'free'
    require_projectable(of(get("alif", form="lsnn")), 1.0, -2.0) >> not linear
"""
REFUSED = """
project
    project(of(matrix_neuron((1, 0, 0, 1))), 1.0, r_max=1.0) >> r_max is 1 >> a number > 0 and < 1
slope
    slope_penalty(of(matrix_neuron((1, 0, 0, 1))), allowed=0.0) >> allowed is 0 >> a number > 0
"""


def test_refusals() -> None:
    assert_refused(UNSUPPORTED, {**globals(), "get": lnm.get}, UnsupportedError)
    assert_refused(REFUSED, globals())


@settings(max_examples=20)
@given(st.lists(matrices(2.0), min_size=1, max_size=6), st.sampled_from([0.75, 1.0, 1.05]))
def test_the_penalty_is_0_inside_and_only_there(rows: list[Matrix], allowed: float) -> None:
    layer = layer_of(rows, dtype=torch.float64)
    found, radius = float(slope_penalty(layer, allowed=allowed).detach()), radii(matrices_of(layer))
    if (radius < allowed - 1e-6).all():
        assert found == 0.0
    if (radius > allowed + 1e-3).any():
        assert found > 0.0


@settings(max_examples=20)
@given(st.lists(matrices(2.0), min_size=1, max_size=3), st.sampled_from([0.75, 1.0]))
def test_gradients_are_those_of_finite_differences(rows: list[Matrix], allowed: float) -> None:
    """Of pairs that are not double: there the gradient has two sides."""
    separate = [a for a in rows if abs(((a[0] - a[3]) / 2) ** 2 + a[1] * a[2]) > 1e-4]
    layer = layer_of([*separate, (0.5, 1.0, 0.0, 0.5), (1.5, 0.5, -0.5, 1.2)], dtype=torch.float64)
    slope_penalty(layer, allowed=allowed).backward()
    for p in (layer.theta_v, layer.theta_w):
        for k in range(p.numel()):
            flat, step = p.data.view(-1), 1e-6
            kept, found = float(flat[k]), []
            for moved in (kept + step, kept - step):
                flat[k] = moved
                found.append(float(slope_penalty(layer, allowed=allowed).detach()))
            flat[k] = kept
            expected = (found[0] - found[1]) / (2 * step)
            assert float(p.grad.view(-1)[k]) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_gradients_at_double_and_opposite_eigenvalues() -> None:
    """The part along the diagonal is 2 * 2 * (1.5 - 1) / 2 for either pole of a double one.

    At eigenvalues of 1.2 and -1.2 the gradient once jumped from 1.23 to 2.99.
    """

    def gradients(row: Matrix) -> tuple[Tensor, Tensor]:
        layer = layer_of([row], dtype=torch.float64)
        slope_penalty(layer, allowed=1.0).backward()
        return layer.theta_v.grad[0], layer.theta_w.grad[0]

    for a, b, c, d in ((1.5, 1.0, 0.0, 1.5), (1.5, 0.0, 0.0, 1.5), (-1.5, 0.0, 1.0, -1.5)):
        of_v, of_w = gradients((a, b, c, d))
        assert [float(of_v[0]), float(of_w[1])] == pytest.approx([math.copysign(1.0, a)] * 2)
        near, _ = gradients((a, b, c + 1e-14, d))
        torch.testing.assert_close(near, of_v, rtol=1e-6, atol=1e-6)
    found = [float(gradients((1.2 + k, 0.0, 0.0, -1.2 + k))[0][0]) for k in (-1e-9, 1e-9)]
    assert found == pytest.approx([0.4, 0.4], abs=1e-6)


poles = st.floats(0.0, 2.0).flatmap(lambda r: st.sampled_from([r, -r]))


@settings(max_examples=20)
@given(poles, poles, st.floats(1.0, 1.5), st.sampled_from([0.75, 1.0]))
def test_the_penalty_never_falls_where_a_pole_moves_outwards(
    s: float, a: float, factor: float, allowed: float
) -> None:
    """Of real poles, in a triangular matrix, and of a pair, a rotation scaled."""
    rows = [
        (s, 0.3, 0.0, a),
        (s, 0.3, 0.0, factor * a),
        rotation(abs(s), a),
        rotation(abs(s) * factor, a),
    ]
    found = [_penalty_of(row, allowed) for row in rows]
    assert found[1] >= found[0] - 1e-12
    assert found[3] >= found[2] - 1e-12
    assert found[0] == pytest.approx(sum(max(abs(p) - allowed, 0) ** 2 for p in (s, a)), abs=1e-9)
    assert found[2] == pytest.approx(2 * max(abs(s) - allowed, 0) ** 2, abs=1e-9)


def _penalty_of(row: Matrix, allowed: float) -> float:
    return float(_eigenvalue_penalty(torch.tensor(row, dtype=torch.float64).reshape(4, 1), allowed))


def test_a_pole_outside_does_not_drive_another_outwards() -> None:
    """A slow adaptation once drove the leak of `alif` from 4 steps to a longer one."""
    layer = of(lnm.get("alif", form="lsnn", tau_m=4.0))
    slope_penalty(layer, allowed=0.9).backward()
    assert float(layer.tau_m.grad) == 0.0
    assert float(layer.tau_adp.grad) > 0.0


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_a_projected_layer_has_a_certificate(reset: str) -> None:
    """Every row, and runs of the layer itself stay in it."""
    layer = layer_of([rotation(1.3, 0.8), (1.5, 0.2, 0.1, 0.9), rotation(0.5, 0.3)], reset)
    project(layer, 1.0, r_max=0.9)
    found = certificate(layer, 1.0)
    assert found.holds
    assert (found.rows, found.certified, found.reason) == (3, 3, "")
    x = torch.randint(0, 2, (400, 64, 3), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    with torch.no_grad():
        state = layer(x, return_state=True)[1]
    for name, (low, high) in found.states.items():
        assert low - 1e-5 <= float(state[name].min()) <= float(state[name].max()) <= high + 1e-5
    assert "the states stay: v in [" in str(found)
    assert json.loads(json.dumps(found.as_json()))["text"] == str(found)


def test_a_matrix_outside_the_circle_is_named_with_inputs_that_drive_it_out() -> None:
    layer = layer_of([rotation(0.9, 0.8), rotation(1.1, 0.8)])
    found = certificate(layer, 1.0)
    assert (found.rows, found.certified, found.worst) == (2, 1, 1)
    x = np.array(found.inputs["x"]).reshape(-1, 1)
    values = {n: getattr(layer, n)[1].tolist() for n in ("theta_v", "theta_w")}
    result = lnm.interpret(matrix_neuron((0, 0, 0, 0)), x, **values)
    assert max(abs(float(s[0])) for s in result.states.values()) > 100


def test_ends_are_the_nearest_floats_outside() -> None:
    """An end that is a float is itself: an exact 0 once was 4.94066e-324."""
    layer = of(lnm.get("lnm", states=2, degree=1, theta_v=(0.5, 0.1), theta_w=(0, 1.1)))
    found = certificate(layer, 1.0)
    assert str(found) == "lnm_states2: for |x| <= 1 the states stay: v in [-2, 1], w in [0, 0]"
    assert certificate(of(lnm.get("alif")), 1.0).states["b"][0] == 0.0
    layer = layer_of([rotation(0.9, 0.8)], dtype=torch.float64)
    exact = invariant(
        layer.neuron.with_per(dict.fromkeys(("theta_v", "theta_w"), "layer")), {"x": (-1.0, 1.0)},
        values={n: getattr(layer, n)[0].tolist() for n in ("theta_v", "theta_w")},
    )  # fmt: skip
    assert isinstance(exact, Invariant)
    for name, (low, high) in certificate(layer, 1.0).states.items():
        inside = exact.states[name]
        assert low <= inside.low < np.nextafter(low, np.inf)
        assert np.nextafter(high, -np.inf) < inside.high <= high
