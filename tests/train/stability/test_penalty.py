"""Slope penalty: its value against a dense grid, its gradient against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.analysis.charge import lower_clamp
from lnm_codegen.analysis.linear.affine import linear_part
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train.stability.layers import charge_curve, largest_slope, slope_penalty
from tests.cases import fitzhugh
from tests.refusals import assert_refused, refused

LEARNED = {
    "lif": {"learn_tau": True}, "plif": {}, "glif": {}, "alif": {}, "qif": {"learnable": True},
    "izhikevich": {"learnable": True}, "cuba_lif": {"learnable": True}, "if": {},
    "li": {"learn_tau": True}, "ternary": {},
}  # fmt: skip
CASES: dict[str, Callable[[], lnm.Neuron]] = {
    **{f: lambda f=f, a=a: lnm.get(f, **a) for f, a in LEARNED.items()},
    "lnm-1": lambda: lnm.get("lnm", degree=1),
    "lnm-3": lambda: lnm.get("lnm", degree=3, per="channel", v_min=-2.0),
    "lnm-4": lambda: lnm.get("lnm", degree=4, per="neuron"),
    "lnm-8": lambda: lnm.get("lnm", degree=8),
    "lnm-B": lambda: lnm.get("lnm", degree=3, form="B", per="channel"),
    "lnm-C": lambda: lnm.get("lnm", degree=3, form="C", learn_theta_0=False, per="neuron"),
    "sine": lambda: sine(),
    "gate": lambda: gate(),
    "sub-steps": lambda: fitzhugh(2, dt=Fraction(1, 2)),
}


def sine(bent: bool = False) -> lnm.Neuron:
    """Return a sine of a frequency per layer and a gain per neuron: no polynomial, two sizes."""
    v, x = lnm.state("v"), lnm.input("x")
    w, gain = lnm.param("w", init=1.5), lnm.param("gain", size=2, init=(0.8, 0.3), per="neuron")
    wave, line = gain[0] * lnm.sin(w * v), gain[1] * v
    h = (lnm.where(v > 0, wave, line) if bent else wave + line) + x
    return lnm.Neuron(charge={v: lnm.clip(h, -3, 3)}, fire=v - 1, name="sine")


def gate() -> lnm.Neuron:
    """Return a slope that a second state sets, whose initial value is learned per channel."""
    start = lnm.param("start", init=1.5, per="channel")
    v, w, x = lnm.state("v"), lnm.state("w", init=start), lnm.input("x")
    return lnm.Neuron(charge={v: v * w + x, w: w / 2}, fire=v - 1, name="gate")


def layer_of(case: str, seed: int = 0, spread: float = 0.4) -> NeuronLayer:
    """Return the layer, every learned number moved by a random amount."""
    layer = NeuronLayer(
        CASES[case](), channels=3, shape=(3, 2), backend="torch", dtype=torch.float64
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(spread * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return layer


def unclamped(case: str, layer: NeuronLayer) -> NeuronLayer:
    """Return the layer without its clamp, for references that take chords of the curve."""
    if case != "lnm-3":
        return layer  # nothing reaches the clamp of the sine
    free = NeuronLayer(
        lnm.get("lnm", degree=3, per="channel"), channels=3, backend="torch", dtype=torch.float64
    )
    free.load_state_dict(layer.state_dict())
    return free


def dense(case: str, layer: NeuronLayer) -> torch.Tensor:
    """Return max |f'| over [-2, 1] by central differences at 3001 points, (R,)."""
    z, step = torch.linspace(-2, 1, 3001, dtype=torch.float64), 1e-6
    free = unclamped(case, layer)
    with torch.no_grad():
        slopes = (charge_curve(free, z + step) - charge_curve(free, z - step)) / (2 * step)
    return slopes.abs().amax(0)


ALLOWED = 0.05
"""A slope that every case exceeds; with 1.05 the penalty of half of them is 0."""
FEW = ("lif", "izhikevich", "lnm-3", "lnm-8", "sine", "gate")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in FEW else pytest.mark.slow) for c in CASES]
)
def test_the_largest_slope_is_that_of_a_dense_grid(case: str) -> None:
    """Of every family, form and granularity; the clamp of lnm-3 is ignored."""
    layer = layer_of(case)
    want = dense(case, layer)
    torch.testing.assert_close(largest_slope(layer).abs(), want, rtol=1e-5, atol=1e-5)
    part = linear_part(layer.neuron)
    if part is not None and part.decides:
        return  # two states have a radius in place of the slope
    for allowed in (1.05, ALLOWED):
        excess = torch.relu(want - allowed).square().mean()
        found = slope_penalty(layer, allowed=allowed)
        torch.testing.assert_close(found, excess, rtol=1e-4, atol=1e-4)


def test_a_slope_that_jumps_is_found_at_a_point_of_the_grid() -> None:
    """Two branches that both move are no clamp: sin(w*v) above 0, a line below."""
    layer = NeuronLayer(sine(bent=True), shape=(3, 2), backend="torch")
    assert largest_slope(layer).tolist() == pytest.approx([1.2] * 6, rel=2e-2)


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in FEW else pytest.mark.slow) for c in CASES]
)
def test_gradients_are_those_of_finite_differences(case: str) -> None:
    """Of every learned number that the slope reads, whatever its granularity."""
    layer = layer_of(case)
    for p in layer.parameters():
        p.grad = None
    penalty = slope_penalty(layer, allowed=ALLOWED)
    assert penalty > 0
    if penalty.requires_grad:
        penalty.backward()
    for name, p in layer.named_parameters():
        for k in range(p.numel()):
            flat, step = p.data.view(-1), 1e-6
            kept, ends = float(flat[k]), []
            for moved in (kept + step, kept - step):
                flat[k] = moved
                ends.append(float(slope_penalty(layer, allowed=ALLOWED).detach()))
            flat[k] = kept
            want = (ends[0] - ends[1]) / (2 * step)
            found = 0.0 if p.grad is None else float(p.grad.view(-1)[k])
            assert found == pytest.approx(want, rel=2e-3, abs=1e-5), (name, k)


@settings(max_examples=20)
@given(
    st.integers(1, 8),
    st.lists(st.floats(-2, 2, width=32), min_size=9, max_size=9),
    st.floats(-3, -0.5),
    st.floats(0.25, 2),
)
def test_any_polynomial_on_any_interval(
    degree: int, theta: list[float], low: float, high: float
) -> None:
    """Exact to degree 3; beyond, 97 points and their parabolas miss less than 1 in 1000."""
    neuron = lnm.get("lnm", degree=degree, theta=theta[: degree + 1])
    layer = NeuronLayer(neuron, backend="torch", dtype=torch.float64)
    found = float(largest_slope(layer, low, high).abs())
    z = torch.linspace(low, high, 4001, dtype=torch.float64)
    slopes = sum(k * t * z ** (k - 1) for k, t in enumerate(theta[: degree + 1]) if k)
    want = float(torch.as_tensor(slopes).abs().max())
    tolerance = 1e-6 if degree <= 3 else 1e-3
    assert found == pytest.approx(want, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("degree", [7, *(pytest.param(k, marks=pytest.mark.slow) for k in (6, 8))])
def test_the_largest_slope_of_a_thousand_rows(degree: int) -> None:
    """Chebyshev coefficients from N(0, 1): many peaks of nearly equal height."""
    neuron = lnm.get("lnm", degree=degree, basis="chebyshev", per="channel")
    layer = NeuronLayer(neuron, channels=1000, backend="torch", dtype=torch.float64)
    generator = torch.Generator().manual_seed(degree)
    with torch.no_grad():
        layer.theta.normal_(generator=generator)
    theta, z = layer.theta.detach().numpy(), np.linspace(-1, 1, 4001)
    slopes = (np.polynomial.Chebyshev(row, [-2, 1]).deriv()(1.5 * z - 0.5) for row in theta)
    want = np.array([np.abs(s).max() for s in slopes])
    np.testing.assert_allclose(largest_slope(layer).abs().numpy(), want, rtol=1e-3)


def test_the_penalty_is_0_up_to_slope_1_05() -> None:
    layer = NeuronLayer(lnm.get("lnm", degree=2, theta=(0.0, 1.0, 0.0)), backend="torch")
    assert slope_penalty(layer).item() == 0.0
    with torch.no_grad():
        layer.theta[1] = -1.55
    penalty = slope_penalty(layer)
    penalty.backward()
    assert penalty.item() == pytest.approx(0.25, abs=1e-4)
    assert layer.theta.grad.tolist() == pytest.approx([0.0, -1.0, 4.0], abs=1e-3)
    assert slope_penalty(layer, allowed=1.55).item() == 0.0
    assert slope_penalty(layer, allowed=1.0).item() == pytest.approx(0.55**2, abs=1e-4)


REFUSALS = """
slope
    slope_penalty(LNM, allowed=-1.0) >> allowed is
    slope_penalty(LNM, allowed=float("nan")) >> allowed is
    slope_penalty(LNM, 1.0, -2.0) >> the interval is (1.0, -2.0) >> low < high
    slope_penalty(LNM, float("nan"), 1.0) >> the interval is (nan, 1.0) >> low < high
    slope_penalty(LNM, -float("inf"), 1.0) >> the interval is (-inf, 1.0) >> low < high
"""


def test_ends_of_the_penalty() -> None:
    """A charge that forgets has slope 0; NaN in theta gives NaN, which stops a run."""
    v, x = lnm.state("v"), lnm.input("x")
    layer: Any = NeuronLayer(lnm.Neuron(charge={v: x}, fire=v - 1, reset={}), backend="torch")
    assert float(slope_penalty(layer)) == 0.0
    layer = NeuronLayer(lnm.get("lnm", degree=3), backend="torch")
    assert_refused(REFUSALS, {"slope_penalty": slope_penalty, "LNM": layer})
    with torch.no_grad():
        layer.theta[2] = float("nan")
    assert slope_penalty(layer).isnan()
    layer = NeuronLayer(lnm.Neuron(fire=x - 1.0, name="threshold"), backend="torch")
    with refused(UnsupportedError, "threshold", "no state"):
        slope_penalty(layer)


def test_the_lower_clamp_of_a_charge() -> None:
    v, x = lnm.state("v"), lnm.input("x")
    h = v / 2 + x
    for charge, clamp in (
        (h, None),
        (lnm.where(h < -3, -3, h), -3.0),
        (lnm.where(h <= -3, -3, h), -3.0),
        (lnm.where(h > -3, h, -3), -3.0),
        (lnm.max(h, -3), -3.0),
        (lnm.max(-0.1, h), -0.1),
        (lnm.clip(h, -3, 2), -3.0),
        (lnm.max(lnm.min(h, 2), -3), -3.0),
        (lnm.min(lnm.max(h, -3), 2), -3.0),
        (lnm.min(h, 2), None),
        (lnm.where(h < -3, -4, h), None),
        (lnm.where(h < -3, h, -3), None),
    ):
        assert lower_clamp(lnm.Neuron(charge={v: charge}, fire=v - 1)) == clamp
