"""Projection and certificates of layers: proven bounds hold, and nothing moves without need."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

import lnm_codegen as lnm
from lnm_codegen.analysis import keeps_potential
from lnm_codegen.analysis.polynomial_charge import polynomial_charge
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train.stability.projection import certificate, project
from tests.refusals import assert_refused, refused

ROOT = Path(__file__).parents[3]
CUBIC = (0.05, 0.6, -0.10, 0.15)
BASES = ("monomial", "chebyshev", "legendre")


def layer_of(theta: Any, dtype: torch.dtype = torch.float32, **arguments: Any) -> NeuronLayer:
    """Return a layer whose rows have these coefficients in its basis."""
    values = torch.as_tensor(theta, dtype=dtype)
    size = values.shape[-1] - (1 if arguments.get("learn_theta_0", True) else 0)
    neuron = lnm.get("lnm", degree=size, per="channel", **arguments)
    layer = NeuronLayer(neuron, channels=len(values), backend="torch", dtype=dtype)
    with torch.no_grad():
        layer.theta.copy_(values)
    return layer


def are_inside(layer: NeuronLayer, x_max: float, v_min: float = -2.0) -> list[bool]:
    """Say for each row, by the exact test, whether it is in the set."""
    charge = polynomial_charge(layer.neuron)
    soft = charge.v_reset is None
    return [
        keeps_potential(
            charge.coefficients(row), x_max, v_min, 1.0, soft=soft, inside=charge.inside
        )
        for row in layer.theta.detach().tolist()
    ]


@settings(max_examples=6)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 5),
    st.sampled_from(["A", "B", "C"]),
    st.sampled_from(BASES),
    st.sampled_from([0.0, None]),
    st.sampled_from([0.1, 0.5, 0.9]),
    st.sampled_from([torch.float32, torch.float64]),
    st.booleans(),
)
def test_what_is_outside_is_brought_back_and_what_is_inside_stays(
    seed: int,
    degree: int,
    form: str,
    basis: str,
    v_reset: float | None,
    x_max: float,
    dtype: torch.dtype,
    whole: bool,
) -> None:
    """After a projection the exact test holds of the stored numbers; a second moves nothing."""
    size = degree + 1 if whole else degree
    theta = np.random.default_rng(seed).normal(0, 0.4, (6, size))
    arguments: dict[str, Any] = {"form": form, "basis": basis, "v_reset": v_reset}
    if not whole:
        arguments["learn_theta_0"] = False
    layer = layer_of(theta, dtype, **arguments)
    if form == "B" and x_max > 0.6:
        x_max = 0.6  # the leak keeps |x| <= 2/3 there
    before, inside = layer.theta.detach().clone(), are_inside(layer, x_max)
    assert project(layer, x_max) == inside.count(False)
    assert are_inside(layer, x_max) == [True] * 6
    after = layer.theta.detach().clone()
    assert torch.equal(after[inside], before[inside])
    assert project(layer, x_max) == 0
    assert torch.equal(layer.theta, after)


def test_a_row_is_shrunk_towards_the_leak_and_no_farther_than_it_must() -> None:
    """theta - leak keeps its direction; a step of 1 in 100 back towards theta is outside again."""
    for basis in BASES:
        arguments: dict[str, Any] = {"basis": basis, "v_min": -2.0}
        steep = CUBIC if basis == "monomial" else (-0.2, 0.9, -0.3, 0.6)
        layer = layer_of([steep], torch.float64, **arguments).requires_grad_(False)
        leak = torch.tensor([layer.neuron.params[0].init], dtype=torch.float64)
        start = layer.theta.clone()
        assert project(layer, 0.5) == 1
        share = ((layer.theta - leak) / (start - leak))[(start - leak).abs() > 1e-12]
        assert float(share.max() - share.min()) < 1e-12
        assert 0 < share[0] < 1
        layer.theta += 0.01 * (layer.theta - leak)
        assert are_inside(layer, 0.5) == [False]


def test_a_row_at_the_very_edge_is_not_moved() -> None:
    """f(v) = v/2 with X = 1 touches -2 at v = -2: the quick test cannot say, the exact one can.

    f(v) = a*v stays in [-2, 1] if X <= (1 - a)*2, and not beyond.
    """
    layer = layer_of([(0.0, 0.5, 0.0, 0.0), (0.0, 0.5, 0.0, 2**-20)], v_min=-2.0)
    assert are_inside(layer, 1.0) == [True, False]
    assert project(layer, 1.0) == 1
    assert layer.theta.tolist() == [[0.0, 0.5, 0.0, 0.0]] * 2
    for slope, x_max in ((0.9, 0.2), (0.55, 0.9), (0.0, 2.0)):
        layer = layer_of([(0.0, slope)], torch.float64)
        assert are_inside(layer, x_max * (1 - 1e-12)) == [True]
        assert are_inside(layer, x_max * (1 + 1e-12)) == [False]


def test_projection_stops_a_network_from_losing_neurons() -> None:
    """For |x| <= X no potential leaves [-2, 1] in 300 steps; without it the cubic is lost."""
    x = torch.rand(300, 1, 1, 50, generator=torch.Generator().manual_seed(1)) * 2 - 1.2
    x = x.clamp(-0.5, 0.5)
    x[:, :, :, 0] = -0.5
    layer = layer_of([(0.05, 0.9, -0.10, 0.35)]).requires_grad_(False)
    assert not torch.isfinite(layer(x, return_state=True)[1]["v"]).all()
    assert project(layer, 0.5) == 1
    v = layer(x, return_state=True)[1]["v"]
    assert -2 <= float(v.min()) <= float(v.max()) <= 1


def lnm_layer(**arguments: Any) -> NeuronLayer:
    return NeuronLayer(lnm.get("lnm", degree=2, **arguments), backend="torch")


def family_layer(name: str, **arguments: Any) -> NeuronLayer:
    return NeuronLayer(lnm.get(name, **arguments), backend="torch")


def of_theta(charge: Callable[[Any, Any], Any], size: int) -> NeuronLayer:
    """Return a layer whose charge is a polynomial of v with coefficients in `size` learned t."""
    v, x, t = lnm.state("v"), lnm.input("x"), lnm.param("t", size=size, init=(0.25,) * size)
    v_threshold = lnm.param("v_threshold", init=1.0, learnable=False)
    neuron = lnm.Neuron(
        charge={v: charge(t, v) + x}, fire=v - v_threshold, reset=lnm.hard_reset(v, 0.0),
        name="own",
    )  # fmt: skip
    return NeuronLayer(neuron, backend="torch")


REFUSALS = """
project
    project(lnm_layer(), 1.5) >> for |x| <= 1.5 even the leak f(v) = 0.5*v leaves [-2, 1]
        >> a smaller x_max, such as 0.9
    project(lnm_layer(), -1) >> x_max is -1 >> a number >= 0
    project(lnm_layer(), 0.5, decay=float("nan")) >> decay is nan >> a finite number
    project(lnm_layer(v_reset=-3.0), 0.5) >> lnm resets to -3
        >> a value in [v_min, v_threshold], [-2, 1]
certificate
    certificate(lnm_layer(), float("nan")) >> x_max is nan >> a number >= 0
"""
UNSUPPORTED = """
lnm
    project(lnm_layer(learn_threshold=True), 0.5) >> v_threshold is learned
        >> one fixed threshold; theta can scale instead
lif
    project(family_layer("lif"), 0.5) >> f(v) + x >> lnm
plif
    project(family_layer("plif", decay_input=False), 0.5) >> one learn >> lnm
izhikevich
    project(family_layer("izhikevich"), 0.5) >> state >> lnm
own
    project(of_theta(lambda t, v: t[0] + t[1] * v**2, 2), 0.5) >> no t gives the leak f(v) = 0.5*v
        >> whose constant and linear coefficients are learned
    project(of_theta(lambda t, v: t[0], 1), 0.5) >> no t gives the leak >> learned
"""


def test_refusals() -> None:
    assert_refused(REFUSALS, globals())
    assert_refused(UNSUPPORTED, globals(), UnsupportedError)


def test_a_leak_of_several_thetas_is_one_of_them() -> None:
    """(t_0 + t_1)*v = v/2 for many t; the element without a value once ended in an error."""
    layer = of_theta(lambda t, v: (t[0] + t[1]) * v + t[2] * v**2, 3)
    charge = polynomial_charge(layer.neuron)
    leak = charge.theta_of((Fraction(0), Fraction(1, 2), Fraction(0)))
    assert leak == (Fraction(1, 2), 0, 0)
    with torch.no_grad():
        layer.t[2] = -3.0
    assert project(layer, 0.5) == 1
    assert project(layer, 0.5) == 0


def test_a_theta_that_cannot_be_projected() -> None:
    """With a NaN nothing is changed; a computed one stayed, and its rows were counted as moved."""
    layer = layer_of([CUBIC, CUBIC, CUBIC]).requires_grad_(False)
    layer.theta[1, 2] = float("nan")
    before = layer.theta.nan_to_num(7.0)
    problem = "theta of lnm is not finite in parameter set 1: [0.05"
    with refused(ModelError, "project", problem, "", "Resume from the last training checkpoint."):
        project(layer, 0.5)
    assert torch.equal(layer.theta.nan_to_num(7.0), before)
    layer = layer_of([CUBIC, CUBIC])
    parametrize.register_parametrization(layer, "theta", nn.Identity())
    with refused(ModelError, "project", "'theta' of lnm is computed", "own parameters"):
        project(layer, 0.5)


def test_a_projected_layer_has_a_certificate() -> None:
    """The interval lies in [v_min, V], holds the start, and is closed under a step, per channel."""
    layer = layer_of([CUBIC, (0.0, 0.5, 0.0, 0.0)], v_min=-2.0)
    project(layer, 0.5)
    found = certificate(layer, 0.5)
    assert found.holds
    assert (found.rows, found.certified, found.reason) == (2, 2, "")
    low, high = found.states["v"]
    assert -2 <= low < 0 < high <= 1 + 1e-6
    assert str(found).startswith("lnm: for |x| <= 0.5 the states stay: v in [-1.3")
    assert str(found).endswith("(set 0 is the widest)")
    assert json.loads(json.dumps(found.as_json()))["states"]["v"] == [low, high]


def test_a_row_that_runs_away_is_named_with_inputs_that_drive_it_out() -> None:
    """The sequence is run: its values lie in [-X, X] and the state passes the bound."""
    layer = layer_of([(0.0, 0.5, 0.0, 0.0), CUBIC])
    found = certificate(layer, 1.5)
    assert not found.holds
    assert (found.rows, found.certified, found.worst) == (2, 1, 1)
    text = "lnm: for |x| <= 1.5 1 of 2 parameter sets stay; set 1: v is driven past"
    assert str(found).startswith(text)
    x = np.array(found.inputs["x"]).reshape(-1, 1)
    assert np.abs(x).max() <= 1.5
    result = lnm.interpret(lnm.get("lnm", degree=3), x, theta=layer.theta[1].tolist())
    assert not abs(result.states["v"][0]) <= 100


def test_certificates_of_other_families() -> None:
    """A certificate or an input that breaks it, for every state; `if` only integrates."""
    for family in ("lif", "plif", "glif", "cuba_lif", "if"):
        layer = family_layer(family)
        found = certificate(layer, 0.5)
        if family == "if":
            assert not found.holds
            assert set(found.inputs) == {"x"}
        else:
            assert set(found.states) == {s.name for s in layer.neuron.states}
        assert json.loads(json.dumps(found.as_json()))["text"] == str(found)


def test_coefficients_of_each_basis_are_exact() -> None:
    """T_2 and P_2 of t = (2v + 1)/3 on [-2, 1], in rationals."""
    t = (Fraction(1, 3), Fraction(2, 3))
    square = (t[0] ** 2, 2 * t[0] * t[1], t[1] ** 2)
    for basis, (a, b) in (("chebyshev", (2, -1)), ("legendre", (Fraction(3, 2), -Fraction(1, 2)))):
        charge = polynomial_charge(lnm.get("lnm", degree=2, basis=basis))
        want = tuple(a * s + (b if k == 0 else 0) for k, s in enumerate(square))
        assert charge.rows == ((1, 0, 0), (*t, 0), want)
        assert charge.theta_of((Fraction(0), Fraction(1, 2), Fraction(0))) == (
            Fraction(-1, 4), Fraction(3, 4), 0,
        )  # fmt: skip


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The Python of docs/stability.md, which asserts what it tells."""
    text = (ROOT / "docs" / "stability.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    exec(compile(code, "stability.md", "exec"), {"__name__": "page"})
    assert capsys.readouterr().out.startswith("lnm: for |x| <= 0.9 the states stay: v in [-1.")


@pytest.mark.needs_cc
@pytest.mark.slow
def test_the_example_shows_what_the_page_tells(capsys: pytest.CaptureFixture[str]) -> None:
    """On 4,000 neurons: some 29 % are lost, none with a clamp; the page's condition numbers."""
    example = runpy.run_path(str(ROOT / "examples" / "stability.py"))
    example["main"](["--neurons", "4000"])
    lines = capsys.readouterr().out.splitlines()
    lost = {line[:20].strip(): line[20:].split(" %") for line in lines}
    assert [float(s) for s in lost["as it is"][:3]] == pytest.approx([1.0, 7.3, 29.0], rel=0.3)
    assert [float(s) for s in lost["clamp at -2"][:3]] == [0.0] * 3
    page = (ROOT / "docs/evidence/stability.md").read_text(encoding="utf-8")
    for basis in ("monomial", "chebyshev", "legendre"):
        numbers = [f"{example['condition'](basis, d):.2f}" for d in (2, 3, 4)]
        name = basis if basis == "monomial" else basis.capitalize()
        assert f"| {name} | {' | '.join(numbers)} |" in page


def test_a_certificate_holds_the_learned_initial_value() -> None:
    """Of each parameter set: the interval reaches from the least to the greatest."""
    v, x = lnm.state("v", init=lnm.param("start", per="channel")), lnm.input("x")
    neuron = lnm.Neuron(charge={v: v / 2 + x}, fire=v - 9, reset=lnm.hard_reset(v))
    layer = NeuronLayer(neuron, channels=3, backend="torch")
    with torch.no_grad():
        layer.start.copy_(torch.tensor([-2.0, 0.0, 3.0]))
    found = certificate(layer, 0.25)
    assert found.holds
    assert found.states["v"] == pytest.approx((-2.0, 3.0))
