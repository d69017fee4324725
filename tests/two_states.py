"""Neurons of two states with a free matrix, written by hand, and their steps in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

import lnm_codegen as lnm

RESETS = ("soft", "hard", "both", "both soft", "none")
Matrix = tuple[float, float, float, float]


def matrix_neuron(
    theta: Matrix, reset: str = "soft", v_reset: float = 0.0, per: Any = "layer", **clamps: float
) -> lnm.Neuron:
    """Return v <- A0*v + A1*w + x, w <- A2*v + A3*w with one of `RESETS`; clamps low, high of v."""
    v, w, x = lnm.state("v", init=v_reset), lnm.state("w"), lnm.input("x")
    theta_v = lnm.param("theta_v", size=2, init=theta[:2])
    theta_w = lnm.param("theta_w", size=2, init=theta[2:])
    threshold = lnm.param("v_threshold", init=1.0, learnable=False)
    h = theta_v[0] * v + theta_v[1] * w + x
    if clamps:
        h = lnm.clip(h, clamps["low"], clamps["high"])
    resets: dict[str, dict[Any, Any]] = {
        "soft": lnm.soft_reset(v, threshold),
        "hard": lnm.hard_reset(v, v_reset),
        "both": lnm.hard_reset(v, v_reset) | lnm.hard_reset(w, 0.0),
        "both soft": lnm.soft_reset(v, threshold) | lnm.soft_reset(w, threshold),
        "none": {},
    }
    neuron = lnm.Neuron(
        charge={v: h, w: theta_w[0] * v + theta_w[1] * w},
        fire=v - threshold,
        reset=resets[reset],
        name="free",
    )
    return neuron.with_per({"theta_v": per, "theta_w": per})


def rotation(radius: float, angle: float) -> Matrix:
    """Return the matrix of a pole pair."""
    c, s = radius * math.cos(angle), radius * math.sin(angle)
    return (c, -s, s, c)


def stepped(theta: Matrix, reset: str, v_reset: float = 0.0) -> Callable[..., Any]:
    """Return the step of (N,) states v and w under inputs x, in NumPy."""

    def step(v: Any, w: Any, x: Any) -> tuple[Any, Any]:
        h, c = theta[0] * v + theta[1] * w + x, theta[2] * v + theta[3] * w
        spike = h >= 1
        if "soft" in reset:
            return h - spike, c - spike if "both" in reset else c
        if reset == "none":
            return h, c
        return np.where(spike, v_reset, h), np.where(spike, 0.0, c) if reset == "both" else c

    return step


def matrices(largest: float) -> st.SearchStrategy[Matrix]:
    """Draw matrices of every kind of eigenvalues, of a spectral radius up to `largest`."""
    radius, angle = st.floats(0, largest), st.floats(0, math.pi)
    pairs = st.builds(rotation, radius, angle)
    triangles = st.builds(
        lambda a, d, b, up: (a, b, 0.0, d) if up else (a, 0.0, b, d),
        st.floats(-largest, largest), st.floats(-largest, largest), st.floats(-2, 2), st.booleans(),
    )  # fmt: skip
    return st.one_of(pairs, st.builds(_sheared, pairs, st.floats(-3, 3)), triangles)


def _sheared(theta: Matrix, k: float) -> Matrix:
    """Return S*A/S with S = [[1, k], [0, 1]]: the same eigenvalues."""
    a, b, c, d = theta
    return (a + k * c, b + k * d - k * (a + k * c), c, d - k * c)


def driven(
    theta: Matrix, reset: str, x_max: float, steps: int = 300, v_reset: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return all states (steps + 1, N, 2) and inputs (steps, N) of runs meant to go far.

    In lane k the input is the end that pushes the state along a direction which turns backwards
    with the matrix (bang-bang, best without resets); in others it pushes outward (greedy), or is
    random.
    """
    a = np.array(theta).reshape(2, 2)
    rng, lanes = np.random.default_rng(0), 24
    angles = np.arange(lanes) * 2 * np.pi / lanes
    goal = np.stack([np.cos(angles), np.sin(angles)], 1)
    plan = np.empty((steps, lanes))
    for k in range(steps - 1, -1, -1):
        plan[k] = np.where(goal[:, 0] >= 0, x_max, -x_max)
        goal = goal @ a
        goal /= np.maximum(np.abs(goal).max(1, keepdims=True), 1e-30)
    step = stepped(theta, reset, v_reset)
    v, w = np.full(3 * lanes, v_reset), np.zeros(3 * lanes)
    states, inputs = [np.stack([v, w], 1)], []
    for k in range(steps):
        h = a[0] @ np.stack([v, w])
        outward = np.where(h >= 0, x_max, -x_max)[lanes : 2 * lanes]
        flipped = np.where(rng.random(lanes) < 0.1, -outward, outward)
        x = np.concatenate([plan[k], flipped, rng.choice([-x_max, x_max], lanes)])
        v, w = step(v, w, x)
        states.append(np.stack([v, w], 1))
        inputs.append(x)
    return np.array(states), np.array(inputs)
