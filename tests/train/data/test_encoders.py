"""Encoders against closed forms, NumPy loops and snnTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lnm_codegen.errors import ModelError, ShapeError
from lnm_codegen.train.data.encoders import direct, latency, level_crossing, rate
from tests.refusals import refused


def test_direct_repeats_without_a_copy() -> None:
    x = torch.rand(2, 3)
    x_seq = direct(x, 4)
    assert (x_seq.shape, x_seq.stride()[0]) == ((4, 2, 3), 0)
    assert all(torch.equal(step, x) for step in x_seq)


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rate_has_the_probability_of_a_16_bit_number(dtype: torch.dtype) -> None:
    """Uniform numbers of 16 bits are 0 far more often than with probability 0.001."""
    x, steps = torch.full((1000,), 0.001, dtype=dtype), 2000
    spikes = rate(x, steps, torch.Generator().manual_seed(0))
    p = float(x[0])
    assert spikes.dtype is dtype
    assert abs(float(spikes.double().mean()) - p) <= 5 * (p / (steps * len(x))) ** 0.5


def test_encoders_run_on_the_device_of_their_input() -> None:
    x = torch.rand(2, 8, 8, device="meta")
    level = level_crossing(x, 0.5)
    found = direct(x, 4), rate(x, 4), level
    assert {out.device.type for out in found} == {"meta"}


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


def test_latency_below_the_threshold_never_fires() -> None:
    x = torch.tensor([[0.0, 0.01, -1.0, 0.02]])
    spikes = latency(x, 6)
    assert spikes.sum(0).tolist() == [[0.0, 0.0, 0.0, 1.0]]


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


REFUSED = {
    "steps": (lambda: direct(torch.ones(1), 0), "direct", "time_steps is 0", "an integer >= 1"),
    "half": (lambda: direct(torch.ones(1), 2.5), "direct", "time_steps is 2.5", "an integer >= 1"),
    "bytes": (
        lambda: rate(torch.ones(1, dtype=torch.uint8), 2),
        "rate", "x of torch.uint8", "floating point, 0 to 1", "Divide bytes by 255.",
    ),
    "tau": (lambda: latency(torch.ones(1), 3, tau=0), "latency", "tau is 0.0", "a number > 0"),
    "delta": (
        lambda: level_crossing(torch.ones(2, 1), math.nan),
        "level_crossing", "delta is nan", "a number > 0",
    ),
    "infinite": (
        lambda: latency(torch.tensor([math.inf]), 3), "latency", "not finite", "finite numbers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_out_of_range(case: str) -> None:
    call, *parts = REFUSED[case]
    with refused(ModelError, *parts):
        call()


def test_shapes_that_do_not_fit() -> None:
    with refused(ShapeError, "level_crossing", "x_seq has shape (3,)", "(T, N, *), T >= 1"):
        level_crossing(torch.ones(3), 1.0)


def test_scalars_of_numpy_and_tensors_are_numbers() -> None:
    x_seq = torch.tensor([[0.0], [1.0]])
    assert torch.equal(level_crossing(x_seq, torch.tensor(0.25)), level_crossing(x_seq, 0.25))
    assert direct(x_seq, np.int64(3)).shape == (3, 2, 1)


def test_bytes_do_not_wrap_around() -> None:
    """Pixel sets are of uint8, whose differences are taken modulo 256."""
    pixels = torch.tensor([[10], [0], [10]], dtype=torch.uint8)
    counts = level_crossing(pixels, 5)
    assert counts.dtype == torch.float32
    assert counts.squeeze().tolist() == [[0, 0], [2, 0], [0, 2]]  # OFF, ON
    currents = torch.tensor([0, 10, 255], dtype=torch.uint8)
    assert torch.equal(latency(currents, 5), latency(currents.float(), 5))
