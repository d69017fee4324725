"""Powers whose exponent is no integer: values and gradients, also at a base of 0."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.compiler.build import build

v, x = lnm.state("v"), lnm.input("x")
p = lnm.param("p", init=1.37)
X = (0.0, 1.25, -0.5, 0.75, 0.0, 2.0)


def run(charge: Any, exponent: float | None, backend: str) -> tuple[torch.Tensor, ...]:
    """Return the states of v <- v/2 + charge over X, and the gradients of their sum."""
    neuron = lnm.Neuron(charge={v: v / 2 + charge}, output=v)
    layer = lnm.nn.NeuronLayer(neuron, backend=backend).double()
    if exponent is not None:
        torch.nn.init.constant_(layer.p, exponent)
    x_seq = torch.tensor(X, dtype=torch.float64).reshape(-1, 1, 1).requires_grad_()
    out = layer(x_seq)
    out.sum().backward()
    grad_p = torch.zeros(()) if exponent is None else layer.p.grad
    return out.detach().flatten(), x_seq.grad.flatten(), grad_p


def reference(function: Any, exponent: float | None) -> tuple[torch.Tensor, ...]:
    """Do the same with PyTorch's own functions."""
    x_seq = torch.tensor(X, dtype=torch.float64, requires_grad=True)
    e = torch.tensor(0.0 if exponent is None else exponent, dtype=torch.float64, requires_grad=True)
    out, state = [], torch.zeros((), dtype=torch.float64)
    for value in x_seq.unbind():
        state = state / 2 + function(value, e)
        out.append(state)
    torch.stack(out).sum().backward()
    grad_p = torch.zeros(()) if e.grad is None else e.grad
    return torch.stack(out).detach(), x_seq.grad, grad_p


def positive(a: torch.Tensor) -> torch.Tensor:
    return a.clamp(min=0)


@pytest.mark.parametrize("backend", ["c", "torch"])
@pytest.mark.parametrize(
    ("charge", "function", "exponents"),
    [
        (lnm.max(x, 0) ** 1.5, lambda a, _: positive(a) ** 1.5, [None]),
        (lnm.max(x, 0) ** 2.5, lambda a, _: positive(a) ** 2.5, [None]),
        (lnm.abs(x) ** 1.37, lambda a, _: a.abs() ** 1.37, [None]),
        ((1 + x**2) ** 0.3, lambda a, _: (1 + a * a) ** 0.3, [None]),
        (lnm.max(x, 0) ** p, lambda a, e: positive(a) ** e, [1.37, 1.0, 2.0, 0.0]),
        ((1 + x**2) ** -p, lambda a, e: (1 + a * a) ** -e, [1.37, 0.0]),
        (x * 2**p, lambda a, e: a * 2**e, [1.37, -0.5]),
        (
            lnm.max(x, 0) ** p / (1 + lnm.max(x, 0) ** p),
            lambda a, e: positive(a) ** e / (1 + positive(a) ** e),
            [1.37, 1.0, 3.0],
        ),
    ],
    ids=["1.5", "2.5", "1.37", "positive", "learned", "inverse", "number", "hill"],
)
def test_powers_have_the_gradient_of_pytorch(charge, function, exponents, backend):
    """X has zeros, where a root or a logarithm alone has the slope 0/0."""
    for exponent in exponents:
        found, expected = run(charge, exponent, backend), reference(function, exponent)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b.to(a), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["c", "torch"])
def test_slopes_below_an_exponent_of_1(backend):
    """At 0 the slope of a constant exponent is infinite, that of a learned one is 1."""
    _, slopes, _ = run(lnm.max(x, 0) ** 0.3, None, backend)
    assert [math.isinf(s) for s in slopes.tolist()] == [a == 0 for a in X]
    _, slopes, grad_p = run(lnm.max(x, 0) ** p, 0.4, backend)
    follow = [2 - 0.5 ** (len(X) - 1 - t) for t in range(len(X))]  # of the later states
    assert slopes[0].item() == pytest.approx(follow[0])
    assert slopes[4].item() == pytest.approx(follow[4])
    assert math.isfinite(grad_p)


@pytest.mark.parametrize("backend", ["c", "torch"])
def test_a_base_below_0_is_nan(backend):
    """A learned exponent is no integer for long, so no whole number is an exception."""
    for charge, exponent in ((x**1.5, None), (x**p, 2.0)):
        values, _, _ = run(charge, exponent, backend)
        assert values[:2].isfinite().all()
        assert values[2:].isnan().all()


def test_no_selection_where_the_base_is_positive():
    text = str(build(lnm.Neuron(charge={v: lnm.exp(v) + (1 + x**2) ** 0.3}, output=v)))
    assert "select" not in text
