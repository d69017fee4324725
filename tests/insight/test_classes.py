"""The class of a charge map: what each word means, at its thresholds and under scaling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.analysis import fixed_points
from lnm_codegen.insight import CLASSES, Point, Portrait, classify


def portrait(theta: Sequence[float], low: float = -2.0, high: float = 1.0) -> Portrait:
    """Return the portrait of f, its fixed points found by numpy."""
    f = np.polynomial.Polynomial(theta)
    z = np.linspace(low, high, 201)
    points = []
    difference = (f - np.polynomial.Polynomial([0, 1])).trim(1e-12)
    for root in difference.roots() if difference.degree() else ():
        if abs(root.imag) < 1e-9:
            slope = float(f.deriv()(root.real))
            size = abs(slope)
            kind = "neutral" if abs(size - 1) < 1e-9 else "stable" if size < 1 else "unstable"
            points.append(Point(float(root.real), slope, kind))
    return Portrait(z.tolist(), f(z).tolist(), tuple(points))


@pytest.mark.parametrize(
    ("theta", "label"),
    [
        ((0, 0.5), "leaky"),
        ((0.2, 0.5, -0.05, 0.02), "leaky"),
        ((0, 0), "leaky"),  # it forgets at once
        ((-3, 0.5), "leaky"),  # rest lies below all that was visited
        ((0, 1), "integrator"),
        ((0.02, 0.95), "integrator"),
        ((0, 0.5, 0.8), "quadratic-like"),  # stable at 0, unstable at .625
        ((0, 0.8, 0, 0.9), "quadratic-like"),  # unstable on both sides of a stable point
        ((0, 1.6, 0, -1.0), "bistable"),  # stable at +-.77 about an unstable 0
        ((0, 1.3), "self-exciting"),
        ((0.7, 0.5), "self-exciting"),  # its stable point, 1.4, is above threshold
        ((0, -0.5), "oscillating"),
        ((0.1, -1.6), "oscillating"),  # unstable, so that the swing grows
        ((0.12, 13 / 6, -5 / 3), "other"),  # stable at .8 with slope -.5, unstable near rest
    ],
)
def test_textbook_maps(theta: Sequence[float], label: str) -> None:
    assert classify(portrait(theta)) == label
    assert label in CLASSES


def test_a_clamp_holds_but_does_not_leak() -> None:
    """Slope 1.2 and a clamp at -2: what counts is on which side of the unstable point rest lies."""
    z = np.linspace(-2, 1, 201)

    def clamped(offset: float, *points: Point) -> Portrait:
        h = np.maximum(1.2 * z + offset, -2)
        return Portrait(z.tolist(), h.tolist(), (Point(-2.0, 0.0, "stable"), *points))

    assert classify(clamped(0.1, Point(-0.5, 1.2, "unstable"))) == "self-exciting"
    assert classify(clamped(-0.1, Point(0.5, 1.2, "unstable"))) == "quadratic-like"
    assert classify(clamped(-0.3)) == "other"  # it falls from everywhere
    z_drift = np.maximum(z - 0.2, -2)
    assert classify(Portrait(z.tolist(), z_drift.tolist(), (Point(-2.0, 0.0, "stable"),))) == (
        "integrator"
    )
    line = Portrait(z.tolist(), (0.5 * z).tolist(), (Point(0.0, 0.5, "stable"),))
    held = Portrait(line.z, line.h, (*line.points, Point(-2.0, 0.0, "stable")))
    assert classify(held) == classify(line) == "leaky"


@settings(deadline=None)
@given(slope=st.floats(-3, 3))
def test_a_line_is_named_by_its_slope(slope: float) -> None:
    """Degree 1 without offset: every slope has a class, and the limits are those of the module."""
    assume(min(abs(slope - edge) for edge in (-0.05, 0.9, 1, 1.1)) > 1e-6)
    expected = (
        "oscillating" if slope < -0.05 else "leaky" if slope < 0.9
        else "integrator" if slope <= 1.1 else "self-exciting"
    )  # fmt: skip
    assert classify(portrait((0, slope))) == expected


@settings(deadline=None, max_examples=60)
@given(
    theta=st.lists(st.floats(-2, 2).map(lambda t: round(t, 3)), min_size=2, max_size=4),
    scale=st.sampled_from([0.25, 4.0]),
)
def test_the_class_knows_no_units(theta: list[float], scale: float) -> None:
    """Measuring v in other units maps theta_i to theta_i * V**(1 - i), and keeps the class."""
    scaled = [t * scale ** (1 - i) for i, t in enumerate(theta)]
    here = portrait(theta)
    edges = [abs(abs(p.slope) - 1) for p in here.points] + [
        abs(p.slope + 0.05) for p in here.points
    ]
    ends = [min(abs(p.v - end) for end in (-2.0, 0.0, 1.0)) for p in here.points]
    assume(min([*edges, *(e for e in ends if e), 1.0]) > 1e-4)
    slopes = [abs(abs(s - 1) - 0.1) for s in here.slopes]
    assume(min([*slopes, *(abs(s + 0.05) for s in here.slopes)]) > 1e-6)
    assert classify(portrait(scaled, -2 * scale, scale)) == classify(here)


@settings(deadline=None, max_examples=15)
@given(theta=st.lists(st.floats(-1.5, 1.5).map(lambda t: round(t, 2)), min_size=4, max_size=4))
def test_exact_fixed_points_give_the_same_class(theta: list[float]) -> None:
    """`analysis.fixed_points` and numpy's roots agree on the points, and so does the class."""
    here = portrait(theta)
    assume(all(abs(abs(p.slope) - 1) > 1e-3 for p in here.points))
    found = fixed_points(lnm.get("lnm", degree=3), values={"theta": theta})
    assume(not found.everywhere)
    points = tuple(Point(float(p.v.low), float(p.slope.low), p.kind) for p in found.points)
    assert [p.v for p in points] == pytest.approx(sorted(p.v for p in here.points), abs=1e-6)
    assert classify(Portrait(here.z, here.h, points)) == classify(here)
