"""Encoders against closed forms, NumPy loops and snnTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lnm_codegen.errors import ShapeError
from lnm_codegen.train.data.encoders import direct, latency, level_crossing, rate
from tests.refusals import assert_refused, refused


def test_rate_has_the_probability_it_says() -> None:
    """Over 4,000 steps the mean is within five standard deviations of x, and 0 and 1 are exact."""
    x = torch.tensor([-0.5, 0.0, 0.1, 0.5, 0.93, 1.0, 2.0])
    steps = 4000
    spikes = rate(x, steps, torch.Generator().manual_seed(0))
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    p = x.clamp(0, 1)
    assert bool(((spikes.mean(0) - p).abs() <= 5 * (p * (1 - p) / steps).sqrt()).all())
    again = rate(x, steps, torch.Generator().manual_seed(0))
    assert torch.equal(again, spikes)
    for dtype in (torch.float16, torch.bfloat16):  # 16 bits are 0 far more often than 1 in 1,000
        x = torch.full((1000,), 0.001, dtype=dtype)
        spikes, share = rate(x, 2000, torch.Generator().manual_seed(0)), float(x[0])
        assert spikes.dtype is dtype
        assert abs(float(spikes.double().mean()) - share) <= 5 * (share / 2e6) ** 0.5


def test_latency_is_when_an_integrator_fires() -> None:
    """The step is the first at which tau dv/dt = x - v, solved exactly, is at the threshold."""
    tau, threshold, steps = 5.0, 0.2, 40
    x = torch.linspace(0.201, 1.5, 300)
    step = latency(x, steps, tau, threshold).argmax(0)
    exact = [min(tau * math.log(v / (v - threshold)), steps - 1) for v in x.tolist()]
    assert np.abs(step.numpy() - exact).max() <= 0.5 + 1e-4
    v = x * (1 - torch.exp(-torch.tensor(exact) / tau))
    late = torch.tensor(exact) < steps - 1
    assert torch.allclose(v[late], torch.tensor(threshold))
    below = latency(torch.tensor([[0.0, 0.01, -1.0, 0.02]]), 6)  # it never fires
    assert below.sum(0).tolist() == [[0.0, 0.0, 0.0, 1.0]]


@pytest.mark.peers
@pytest.mark.parametrize(("tau", "threshold", "steps"), [(5.0, 0.01, 80), (1.0, 0.2, 20)])
def test_latency_is_snntorchs_bit_for_bit(tau: float, threshold: float, steps: int) -> None:
    spikegen = pytest.importorskip("snntorch.spikegen")
    x = torch.rand((4, 500), generator=torch.Generator().manual_seed(0))
    x = x[(x - threshold).abs() > 1e-3]
    theirs = spikegen.latency(x, num_steps=steps, tau=tau, threshold=threshold, clip=True)
    assert torch.equal(latency(x, steps, tau, threshold), theirs)


def crossings(x: list[float], delta: float) -> tuple[list[int], list[int]]:
    """Count levels one after the other: OFF and ON at each step."""
    off, on, level = [], [], 0
    for value in x:
        moved = (value - x[0]) / delta
        down = up = 0
        while moved - level >= 1:
            level, up = level + 1, up + 1
        while moved - level <= -1:
            level, down = level - 1, down + 1
        off.append(down)
        on.append(up)
    return off, on


@given(
    x=st.lists(st.integers(-64, 64), min_size=1, max_size=20),
    delta=st.sampled_from([0.25, 1.0, 2.5]),
)
def test_level_crossing_is_a_counter_of_levels(x: list[int], delta: float) -> None:
    """And x[0] + delta (ON - OFF), summed, stays within delta of x."""
    values = [v / 8 for v in x]
    x_seq = torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)
    counts = level_crossing(x_seq, delta)
    assert counts.shape == (len(x), 1, 2, 1)
    off, on = crossings(values, delta)
    assert counts[:, 0, 0, 0].tolist() == off
    assert counts[:, 0, 1, 0].tolist() == on
    rebuilt = x_seq[0] + delta * (counts[:, :, 1] - counts[:, :, 0]).cumsum(0)
    assert bool(((rebuilt - x_seq).abs() < delta).all())


@pytest.mark.peers
def test_a_slow_drift_crosses_levels_but_not_snntorchs_delta() -> None:
    """The difference between sending on delta and comparing with the sample before."""
    spikegen = pytest.importorskip("snntorch.spikegen")
    drift = torch.linspace(0, 1, 101).view(-1, 1)
    assert float(level_crossing(drift, 0.1)[:, :, 1].sum()) in (9, 10)
    assert float(spikegen.delta(drift, threshold=0.1).sum()) == 0


REFUSALS = """
direct >> an integer >= 1
    direct(torch.ones(1), 0) >> time_steps is 0
    direct(torch.ones(1), 2.5) >> time_steps is 2.5
rate
    rate(torch.ones(1, dtype=torch.uint8), 2) >> x of torch.uint8 >> floating point, 0 to 1
        >> Divide bytes by 255.
latency
    latency(torch.ones(1), 3, tau=0) >> tau is 0.0 >> a number > 0
    latency(torch.tensor([math.inf]), 3) >> not finite >> finite numbers
level_crossing
    level_crossing(torch.ones(2, 1), math.nan) >> delta is nan >> a number > 0
"""


def test_arguments_of_every_form() -> None:
    """Scalars of NumPy and tensors are numbers; bytes do not wrap around modulo 256.

    `direct` repeats without a copy, and the results are on the device of the input.
    """
    assert_refused(REFUSALS, globals())
    with refused(ShapeError, "level_crossing", "x_seq has shape (3,)", "(T, N, *), T >= 1"):
        level_crossing(torch.ones(3), 1.0)
    x_seq = torch.tensor([[0.0], [1.0]])
    assert torch.equal(level_crossing(x_seq, torch.tensor(0.25)), level_crossing(x_seq, 0.25))
    x = torch.rand(2, 3)
    repeated = direct(x, np.int64(4))
    assert (repeated.shape, repeated.stride()[0]) == ((4, 2, 3), 0)
    assert all(torch.equal(step, x) for step in repeated)
    counts = level_crossing(torch.tensor([[10], [0], [10]], dtype=torch.uint8), 5)
    assert counts.dtype == torch.float32
    assert counts.squeeze().tolist() == [[0, 0], [2, 0], [0, 2]]  # OFF, ON
    currents = torch.tensor([0, 10, 255], dtype=torch.uint8)
    assert torch.equal(latency(currents, 5), latency(currents.float(), 5))
    x = torch.rand(2, 8, 8, device="meta")
    assert {out.device.type for out in (direct(x, 4), rate(x, 4), level_crossing(x, 0.5))} == {
        "meta"
    }
