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
from tests.nn.convert.peers import Own
from tests.refusals import assert_refused

jelly: Any = pytest.importorskip("spikingjelly.activation_based.surrogate", exc_type=ImportError)
snn: Any = pytest.importorskip("snntorch.surrogate")
threshold: Any = pytest.importorskip("norse.torch.functional.threshold")
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


OPTIONS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "jelly": [
        *[(name, {}) for name in slopes.JELLY if name != "MultiLevelSpikeCount"],
        ("ATan", {"alpha": 3.0}), ("Sigmoid", {"alpha": 1.5}), ("Rect", {"alpha": 2.0}),
        ("PiecewiseQuadratic", {"alpha": 0.5}), ("PiecewiseExp", {"alpha": 3.0}),
        ("SoftSign", {"alpha": 0.5}), ("SuperSpike", {"alpha": 10.0}), ("Erf", {"alpha": 0.7}),
        ("NonzeroSignLogAbs", {"alpha": 4.0}), ("PiecewiseLeakyReLU", {"w": 0.5, "c": 0.1}),
        ("SquarewaveFourierSeries", {"n": 5, "T_period": 6.0}),
        ("S2NN", {"alpha": 2.0, "beta": 0.4}), ("QPseudoSpike", {"alpha": 2.5}),
        ("LeakyKReLU", {"leak": 0.2, "k": 0.7}), ("FakeNumericalGradient", {"alpha": 1.5}),
        ("LogTailedReLU", {"alpha": 0.3}),
    ],
    "snn": [
        *[(name, {}) for name in slopes.SNN],
        ("atan", {"alpha": 5.0}), ("fast_sigmoid", {"slope": 2.0}), ("sigmoid", {"slope": 3.0}),
        ("triangular", {"threshold": 0.3}), ("spike_rate_escape", {"beta": 2.0, "slope": 0.5}),
        ("SFS", {"slope": 3.0, "B": 0.4}),
    ],
    "norse": [(name, {"alpha": a}) for name in slopes.NORSE for a in (100.0, 0.4)],
}  # fmt: skip


@pytest.mark.parametrize(
    ("library", "name", "options"), [(lib, *case) for lib in OPTIONS for case in OPTIONS[lib]]
)
def test_spikes_and_slopes_are_the_librarys(
    library: str, name: str, options: dict[str, Any]
) -> None:
    if library == "norse":
        slope = slopes.norse_slope("cell", name, torch.tensor(options["alpha"]))
        function = lambda z: threshold.threshold(z, name, options["alpha"])  # noqa: E731
    elif library == "snn":
        made = getattr(snn, name)(**options)
        slope, function = slopes.snn_slope("node", made), lambda z: made(z).double()
    else:
        function = getattr(jelly, name)(**options)
        slope = slopes.jelly_slope("node", function)
    assert slope.strict == (library != "jelly")
    assert not slope.reason
    (spikes, grad), (own, own_grad) = theirs(function), ours(slope)
    assert torch.equal(own, spikes)
    torch.testing.assert_close(own_grad, grad, rtol=1e-5, atol=1e-7)


def test_every_surrogate_of_the_libraries_is_mapped_or_refused() -> None:
    """A class or a function that a new version adds is in no table: this test then names it."""
    base = jelly.SurrogateFunctionBase
    classes = [v for v in vars(jelly).values() if isinstance(v, type) and issubclass(v, base)]
    names = {kind.__name__ for kind in classes if kind is not base}
    assert names == set(slopes.JELLY) | {"PoissonPass", "MultiLevelSpikeCount"}
    made = {n for n, v in vars(snn).items() if callable(v) and not isinstance(v, type)}
    assert made == set(slopes.SNN) | {"SSO", "LSO", "custom_surrogate"}
    problem = "other values than 0 and 1"
    assert_refused(
        """
node
    slopes.jelly_slope("node", jelly.PoissonPass()) >> surrogate
    slopes.jelly_slope("node", jelly.MultiLevelSpikeCount(4)) >> surrogate
    slopes.jelly_slope("node", jelly.ATan(spiking=False)) >> spiking=False
    slopes.snn_slope("node", snn.SSO()) >> surrogate SSO
    slopes.snn_slope("node", snn.LSO()) >> surrogate LSO
    slopes.slope_of("node", lambda z: z.sigmoid()) >> PROBLEM
    slopes.slope_of("node", lambda z: (z < 0).to(z)) >> PROBLEM
    slopes.slope_of("node", drawn) >> PROBLEM
    slopes.slope_of("node", lambda z: z.missing) >> raised AttributeError
cell
    slopes.norse_slope("cell", "logistic", 1.0) >> 'logistic' >> super
""",
        {
            "slopes": slopes, "jelly": jelly, "snn": snn, "PROBLEM": problem,
            "drawn": lambda z: torch.bernoulli(torch.full_like(z, 0.5)),
        },
        UnsupportedError,
    )  # fmt: skip


def test_a_function_of_the_user_is_replaced_by_atan() -> None:
    """Its spike at 0 is kept, and the reason names it."""
    slope = slopes.snn_slope("node", Own.apply)
    assert not slope.strict
    assert "surrogate Own is in no table" in slope.reason
    assert slope.surrogate == lnm.surrogate.atan()
    assert slopes.jelly_slope("node", lambda z: (z > 0).to(z)).strict


def test_no_library_is_imported() -> None:
    """The modules of the conversion name the libraries in strings alone."""
    for path in Path(slopes.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            roots = {name.partition(".")[0] for name in names}
            assert not roots & {"spikingjelly", "snntorch", "norse", "importlib"}, path
