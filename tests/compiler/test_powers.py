"""Powers whose exponent is no integer: values and gradients, also at a base of 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import lnm_codegen as lnm

X = (0.0, 1.25, -0.5, 0.75, 0.0, 2.0)
FOLLOW = [2 - 0.5 ** (len(X) - 1 - t) for t in range(len(X))]
"""Sum over the states of v <- v/2 + charge of their derivatives in the charge of each step."""


class Power(NamedTuple):
    """A charge of an input and a parameter, the same in PyTorch, and parameters to try."""

    charge: Callable[[Any, Any], Any]
    function: Callable[[Tensor, Tensor], Tensor]
    exponents: tuple[float, ...] = (1.0,)


def positive(a: Tensor) -> Tensor:
    return a.clamp(min=0)


POWERS = {
    "1.5": Power(lambda x, p: p * lnm.max(x, 0) ** 1.5, lambda a, p: p * positive(a) ** 1.5),
    "2.5": Power(lambda x, p: p * lnm.max(x, 0) ** 2.5, lambda a, p: p * positive(a) ** 2.5),
    "1.37": Power(lambda x, p: p * lnm.abs(x) ** 1.37, lambda a, p: p * a.abs() ** 1.37),
    "positive": Power(lambda x, p: p * (1 + x**2) ** 0.3, lambda a, p: p * (1 + a * a) ** 0.3),
    "learned": Power(
        lambda x, p: lnm.max(x, 0) ** p, lambda a, p: positive(a) ** p, (1.37, 1.0, 2.0, 0.0)
    ),
    "less 1": Power(
        lambda x, p: lnm.max(x, 0) ** (2 - p), lambda a, p: positive(a) ** (2 - p), (0.5, 1.0, -1.0)
    ),
    "inverse": Power(lambda x, p: (1 + x**2) ** -p, lambda a, p: (1 + a * a) ** -p, (1.37, 0.0)),
    "number": Power(lambda x, p: x * 2**p, lambda a, p: a * 2**p, (1.37, -0.5)),
    "hill": Power(
        lambda x, p: lnm.max(x, 0) ** p / (1 + lnm.max(x, 0) ** p),
        lambda a, p: positive(a) ** p / (1 + positive(a) ** p),
        (1.37, 1.0, 3.0),
    ),
}
OTHERS = {
    "root": lambda x, p: p * lnm.max(x, 0) ** 0.3,
    "minus": lambda x, p: p * lnm.abs(x) ** -1.5,
    "minus, learned": lambda x, p: lnm.abs(x) ** -p,
    "signed": lambda x, p: p * x**1.5,
    "signed, learned": lambda x, p: x**p,
}
"""Charges whose gradients at 0, or values below it, are not PyTorch's."""
CHARGES = {
    "torch": {name: power.charge for name, power in POWERS.items()} | OTHERS,
    "c": {"1.5": POWERS["1.5"].charge, "learned": POWERS["learned"].charge, **OTHERS},
}
"""Backend -> charges. Random neurons of other tests have powers in all backends."""
BACKENDS = (pytest.param("c", marks=pytest.mark.slow), "torch")
"""The kernel of all charges in C takes long to compile."""


@cache
def layer_of(backend: str) -> Any:
    """Return a neuron with a state, an input, a parameter and an output for each charge."""
    charges = CHARGES[backend]
    states = [lnm.state(f"v{k}") for k in range(len(charges))]
    charge = {
        v: v / 2 + function(lnm.input(f"x{k}"), lnm.param(f"p{k}", init=1.0))
        for k, (v, function) in enumerate(zip(states, charges.values(), strict=True))
    }
    neuron = lnm.Neuron(charge=charge, output={f"y{v.name}": v for v in states})
    return lnm.nn.NeuronLayer(neuron, backend=backend).double()


def run(name: str, exponent: float, backend: str) -> list[Tensor]:
    """Return the states of v <- v/2 + charge over X, and the gradients of their sum."""
    layer, names = layer_of(backend), [*CHARGES[backend]]
    place = names.index(name)
    p = getattr(layer, f"p{place}")
    torch.nn.init.constant_(p, exponent)
    x_seq = torch.tensor(X, dtype=torch.float64).reshape(-1, 1, 1).requires_grad_()
    others = torch.ones_like(x_seq).detach()
    out = layer(*(x_seq if k == place else others for k in range(len(names))))[place]
    grads = torch.autograd.grad(out.sum(), (x_seq, p))
    return [out.detach().flatten(), grads[0].flatten(), grads[1]]


def reference(function: Callable[[Tensor, Tensor], Tensor], exponent: float) -> list[Tensor]:
    """Do the same with PyTorch's own functions."""
    x_seq = torch.tensor(X, dtype=torch.float64, requires_grad=True)
    p = torch.tensor(exponent, dtype=torch.float64, requires_grad=True)
    states = [torch.zeros((), dtype=torch.float64)]
    for value in x_seq.unbind():
        states.append(states[-1] / 2 + function(value, p))
    out = torch.stack(states[1:])
    return [out.detach(), *torch.autograd.grad(out.sum(), (x_seq, p))]


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        pytest.param(name, b, marks=pytest.mark.slow if b == "c" else ())
        for b, names in CHARGES.items()
        for name in names
        if name in POWERS
    ],
)
def test_powers_have_the_gradient_of_pytorch(name: str, backend: str) -> None:
    """X has zeros, where a root or a logarithm alone has the slope 0/0."""
    for exponent in POWERS[name].exponents:
        found, expected = run(name, exponent, backend), reference(POWERS[name].function, exponent)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_slopes_below_an_exponent_of_1(backend: str) -> None:
    """At 0 the slope of a constant exponent is infinite, that of a learned one is 1."""
    _, slopes, _ = run("root", 1.0, backend)
    assert [math.isinf(s) for s in slopes.tolist()] == [a == 0 for a in X]
    _, slopes, grad_p = run("learned", 0.4, backend)
    assert slopes[0].item() == pytest.approx(FOLLOW[0])
    assert slopes[4].item() == pytest.approx(FOLLOW[4])
    assert math.isfinite(grad_p)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_base_below_0_is_nan(backend: str) -> None:
    """A learned exponent is no integer for long, so no whole number is an exception."""
    for name, exponent in (("signed", 1.0), ("signed, learned", 2.0)):
        values, _, _ = run(name, exponent, backend)
        assert values[:2].isfinite().all()
        assert values[2:].isnan().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_infinite_value_has_no_finite_slope(backend: str) -> None:
    """A negative exponent at a base of 0."""
    for name in ("minus", "minus, learned"):
        values, slopes, _ = run(name, 1.0 if name == "minus" else 1.5, backend)
        assert values[0].isinf()
        assert not slopes[0].isfinite()
        assert slopes[5].isfinite()


def test_a_base_that_underflows() -> None:
    """In float32 exp(-200) is 0; its powers have the gradient 0."""
    v, x, p = lnm.state("v"), lnm.input("x"), lnm.param("p", init=1.3)
    neuron = lnm.Neuron(charge={v: lnm.exp(x) ** p + lnm.sigmoid(x) ** 1.3}, output=v)
    layer = lnm.nn.NeuronLayer(neuron, backend="torch")
    x_seq = torch.full((1, 1, 1), -200.0, requires_grad=True)
    grads = torch.autograd.grad(layer(x_seq).sum(), (x_seq, layer.p))
    assert [g.item() for g in grads] == [0, 0]
