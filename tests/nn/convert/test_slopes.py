"""Slopes and ties of every surrogate in the tables, against the libraries on a grid."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lnm_codegen as lnm
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn.convert import slopes
from tests.refusals import refused

pytestmark = pytest.mark.peers

GRID = torch.cat(
    [
        torch.linspace(-3.3, 3.3, 241, dtype=torch.float64),
        torch.tensor([-1.0, -0.5, -0.25, -1e-20, 0.0, 1e-20, 0.25, 0.5, 1.0], dtype=torch.float64),
    ]
)
"""Values of z, with the edges of every window and 0."""


def theirs(function: Any) -> tuple[Tensor, Tensor]:
    """Return spikes and slopes of a library on the grid."""
    z = GRID.clone().requires_grad_()
    spikes = function(z)
    if not spikes.requires_grad:  # no gradient at all
        return spikes, torch.zeros_like(z)
    return spikes.detach(), torch.autograd.grad(spikes.sum(), z)[0]


def ours(slope: slopes.Slope) -> tuple[Tensor, Tensor]:
    """Return spikes and slopes of a neuron without states, whose input is z."""
    x = lnm.input("x")
    z: Any = lnm.bind(x - lnm.param("zero", init=0.0, learnable=False), "above")
    fire = z - slopes.TINY if slope.strict else z
    neuron = lnm.Neuron(fire=fire, surrogate=slope.surrogate, name="grid")
    layer = lnm.nn.NeuronLayer(neuron, backend="torch", dtype=torch.float64)
    seq = GRID.reshape(1, 1, -1).clone().requires_grad_()
    spikes = layer(seq)
    (grad,) = torch.autograd.grad(spikes.sum(), seq)
    return spikes.detach().flatten(), grad.flatten()


def assert_same(slope: slopes.Slope, function: Any) -> None:
    spikes, grad = theirs(function)
    own, own_grad = ours(slope)
    assert torch.equal(own, spikes)
    torch.testing.assert_close(own_grad, grad, rtol=1e-5, atol=1e-7)


JELLY: list[tuple[str, dict[str, Any]]] = [
    *[(name, {}) for name in slopes.JELLY if name != "MultiLevelSpikeCount"],
    ("ATan", {"alpha": 3.0}), ("Sigmoid", {"alpha": 1.5}), ("Rect", {"alpha": 2.0}),
    ("PiecewiseQuadratic", {"alpha": 0.5}), ("PiecewiseExp", {"alpha": 3.0}),
    ("SoftSign", {"alpha": 0.5}), ("SuperSpike", {"alpha": 10.0}), ("Erf", {"alpha": 0.7}),
    ("NonzeroSignLogAbs", {"alpha": 4.0}), ("PiecewiseLeakyReLU", {"w": 0.5, "c": 0.1}),
    ("SquarewaveFourierSeries", {"n": 5, "T_period": 6.0}), ("S2NN", {"alpha": 2.0, "beta": 0.4}),
    ("QPseudoSpike", {"alpha": 2.5}), ("LeakyKReLU", {"leak": 0.2, "k": 0.7}),
    ("FakeNumericalGradient", {"alpha": 1.5}), ("LogTailedReLU", {"alpha": 0.3}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments"), JELLY)
def test_spikingjelly(name: str, arguments: dict[str, Any]) -> None:
    surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate")
    function = getattr(surrogate, name)(**arguments)
    slope = slopes.jelly_slope("node", function)
    assert not slope.strict
    assert not slope.reason
    assert_same(slope, function)


SNN: list[tuple[str, dict[str, Any]]] = [
    *[(name, {}) for name in slopes.SNN],
    ("atan", {"alpha": 5.0}), ("fast_sigmoid", {"slope": 2.0}), ("sigmoid", {"slope": 3.0}),
    ("triangular", {"threshold": 0.3}), ("spike_rate_escape", {"beta": 2.0, "slope": 0.5}),
    ("SFS", {"slope": 3.0, "B": 0.4}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments"), SNN)
def test_snntorch(name: str, arguments: dict[str, Any]) -> None:
    surrogate = pytest.importorskip("snntorch.surrogate")
    function = getattr(surrogate, name)(**arguments)
    slope = slopes.snn_slope("node", function)
    assert slope.strict
    assert not slope.reason
    assert_same(slope, lambda z: function(z).double())


@pytest.mark.parametrize("alpha", [100.0, 0.4])
@pytest.mark.parametrize("method", list(slopes.NORSE))
def test_norse(method: str, alpha: float) -> None:
    threshold = pytest.importorskip("norse.torch.functional.threshold")
    slope = slopes.norse_slope("cell", method, torch.tensor(alpha))
    assert slope.strict
    assert_same(slope, lambda z: threshold.threshold(z, method, alpha))


def test_every_surrogate_of_the_libraries_is_mapped_or_refused() -> None:
    """A class or a function that a new version adds is in no table: this test then names it."""
    jelly = pytest.importorskip("spikingjelly.activation_based.surrogate")
    base = jelly.SurrogateFunctionBase
    classes = [v for v in vars(jelly).values() if isinstance(v, type) and issubclass(v, base)]
    names = {kind.__name__ for kind in classes if kind is not base}
    assert names == set(slopes.JELLY) | {"PoissonPass", "MultiLevelSpikeCount"}
    snn = pytest.importorskip("snntorch.surrogate")
    made = {n for n, v in vars(snn).items() if callable(v) and not isinstance(v, type)}
    assert made == set(slopes.SNN) | {"SSO", "LSO", "custom_surrogate"}


@pytest.mark.parametrize("name", ["PoissonPass", "MultiLevelSpikeCount"])
def test_spikingjelly_refuses(name: str) -> None:
    surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate")
    function = (
        surrogate.PoissonPass() if name == "PoissonPass" else surrogate.MultiLevelSpikeCount(4)
    )
    with refused(UnsupportedError, "node", "surrogate"):
        slopes.jelly_slope("node", function)


def test_the_primitive_is_refused() -> None:
    surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate")
    with refused(UnsupportedError, "node", "spiking=False"):
        slopes.jelly_slope("node", surrogate.ATan(spiking=False))


@pytest.mark.parametrize("name", ["SSO", "LSO"])
def test_snntorch_refuses_random_slopes(name: str) -> None:
    surrogate = pytest.importorskip("snntorch.surrogate")
    with refused(UnsupportedError, "node", name):
        slopes.snn_slope("node", getattr(surrogate, name)())


def test_norse_refuses_an_unknown_method() -> None:
    with refused(UnsupportedError, "cell", "'logistic'", "super"):
        slopes.norse_slope("cell", "logistic", 1.0)


class Own(torch.autograd.Function):
    """A spike of the user's, at >=, with slope 0.25."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return (z >= 0).to(z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 0.25 * grad


def test_a_function_of_the_user_is_replaced_by_atan() -> None:
    """Its spike at 0 is kept, and the reason names it."""
    slope = slopes.snn_slope("node", Own.apply)
    assert not slope.strict
    assert "surrogate Own is in no table" in slope.reason
    assert slope.surrogate == lnm.surrogate.atan()
    assert slopes.jelly_slope("node", lambda z: (z > 0).to(z)).strict


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda z: z.sigmoid(), "other values than 0 and 1"),
        (lambda z: (z < 0).to(z), "other values than 0 and 1"),
        (lambda z: torch.bernoulli(torch.full_like(z, 0.5)), "other values than 0 and 1"),
        (lambda z: z.missing, "raised AttributeError"),
    ],
)
def test_a_function_that_is_no_spike_is_refused(function: Any, problem: str) -> None:
    with refused(UnsupportedError, "node", problem):
        slopes.slope_of("node", function)


def test_no_library_is_imported() -> None:
    """The modules of the conversion name the libraries in strings alone."""
    for path in Path(slopes.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            roots = {name.partition(".")[0] for name in names}
            assert not roots & {"spikingjelly", "snntorch", "norse", "importlib"}, path
