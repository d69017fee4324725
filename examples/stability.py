"""Divergence of a cubic neuron's potential to -inf, and four remedies.

    .venv/bin/python examples/stability.py

theta = (.05, .6, -.10, .15), hard reset, input N(.35, .6**2): the share of neurons lost by
T = 16, 64, 256, and whether theta still has a finite gradient. docs/evidence/stability.md has
the output.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import torch

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train import certificate, project, slope_penalty
from lnm_codegen.train.stability.layers import largest_slope

THETA = (0.05, 0.6, -0.10, 0.15)
MEAN, DEVIATION = 0.35, 0.6
V_MIN, V_THRESHOLD = -2.0, 1.0
TIMES = (16, 64, 256)


@dataclass(frozen=True)
class Outcome:
    """Result of one layer.

    Attributes:
        lost: Share of neurons whose potential is not finite after each of TIMES.
        trains: Whether every element of theta has a finite gradient after the last.
        rate: Spikes per time step of the other neurons.
    """

    lost: tuple[float, ...]
    trains: bool
    rate: float


def cubic(v_min: float | None = None) -> NeuronLayer:
    """Return a layer of the cubic neuron."""
    return NeuronLayer(lnm.get("lnm", degree=3, theta=THETA, v_min=v_min))


def projected(x_max: float) -> NeuronLayer:
    """Return the layer with projected theta: |x| <= x_max keeps v in [-2, 1]."""
    layer = cubic()
    project(layer, x_max)
    return layer


def penalised(v_min: float | None = None, steps: int = 300) -> NeuronLayer:
    """Return the layer after gradient descent on the slope penalty until it is 0."""
    layer = cubic(v_min)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        penalty = slope_penalty(layer, V_MIN, V_THRESHOLD)
        if not penalty:
            break
        penalty.backward()
        optimizer.step()
    return layer


def run(layer: NeuronLayer, neurons: int, seed: int = 0) -> Outcome:
    """Run a layer on random input and count the lost neurons."""
    generator = torch.Generator().manual_seed(seed)
    x_seq = MEAN + DEVIATION * torch.randn(TIMES[-1], 1, neurons, generator=generator)
    state, begin, lost, spikes = None, 0, [], []
    for end in TIMES:
        out, state = layer(x_seq[begin:end], state=state, return_state=True)
        lost.append(1 - float(torch.isfinite(state["v"]).float().mean()))
        spikes.append(out)
        begin = end
    fired = torch.cat(spikes)
    fired.sum().backward()
    finite = torch.isfinite(state["v"].detach())
    trains = bool(torch.isfinite(layer.theta.grad).all())
    return Outcome(tuple(lost), trains, float(fired.detach()[:, finite].mean()))


def condition(basis: str, degree: int) -> float:
    """Return the condition number of theta -> f, f on [-2, 1] under the root mean square."""
    nodes, weights = np.polynomial.legendre.leggauss(degree + 1)
    v = (V_MIN + V_THRESHOLD) / 2 + (V_THRESHOLD - V_MIN) / 2 * nodes
    columns = {
        "monomial": lambda: np.polynomial.polynomial.polyvander(v, degree),
        "chebyshev": lambda: np.polynomial.chebyshev.chebvander(nodes, degree),
        "legendre": lambda: np.polynomial.legendre.legvander(nodes, degree),
    }[basis]()
    return float(np.linalg.cond(np.sqrt(weights)[:, None] * columns))


def main(arguments: list[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--neurons", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=300, help="optimiser steps on the penalty")
    given = parser.parse_args(arguments)
    layers = {
        "as it is": cubic(),
        "clamp at -2": cubic(V_MIN),
        "projected, X = 0.5": projected(0.5),
        "projected, X = 0.9": projected(0.9),
        "penalty": penalised(steps=given.steps),
        "penalty and clamp": penalised(V_MIN, given.steps),
    }
    print(f"lost by T = {', '.join(map(str, TIMES))}; theta's gradient; spikes per step; theta")
    for name, layer in layers.items():
        theta = ", ".join(f"{t:.3f}" for t in layer.theta.tolist())
        steepest = float(largest_slope(layer, V_MIN, V_THRESHOLD))
        found = run(layer, given.neurons)
        lost = " ".join(f"{100 * share:6.2f} %" for share in found.lost)
        gradient = "finite" if found.trains else "NaN"
        print(
            f"{name:20} {lost}  {gradient:6}  {found.rate:.3f}  ({theta}), steepest {steepest:.2f}"
        )
        print(f"{'':20} {certificate(layer, 0.5)}")
    print("\ncondition number of theta -> f on [-2, 1]")
    for basis in ("monomial", "chebyshev", "legendre"):
        print(f"{basis:12}", *(f"degree {d}: {condition(basis, d):6.2f}  " for d in (2, 3, 4)))


if __name__ == "__main__":
    main()
