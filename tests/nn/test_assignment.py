"""Assignments to attributes of a layer, `layer.tau = 4.0`, and the named tuple of its outputs."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lnm_codegen as lnm
from lnm_codegen.errors import ModelError, ShapeError
from tests.refusals import refused

ROOT = Path(__file__).parents[2]

# PyTorch instantiates a Function while it traces one.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")

CUBIC = lnm.get("lnm", degree=2, per="channel")


def lif(**options: Any) -> Any:
    return lnm.nn.NeuronLayer(lnm.get("lif", learn_tau=True), backend="torch", **options)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), torch.tensor(float("nan"))])
def test_a_number_that_is_not_finite_changes_nothing(value: Any) -> None:
    layer = lif()
    with refused(ModelError, "lif.tau", "it is", "finite", ""):
        layer.tau = value
    assert layer.tau.item() == 2.0


@pytest.mark.parametrize(
    "value", [4, 4.0, np.float32(4), np.array([[4.0]]), torch.tensor(4.0), [4.0]]
)
def test_a_number_sets_a_parameter_or_a_constant_in_place(value: Any) -> None:
    """The parameter stays the same object, which an optimiser has; the next call reads it."""
    layer, expected = lif(), lnm.nn.NeuronLayer(lnm.get("lif", tau=4.0), backend="torch")
    tau, threshold = layer.tau, layer.v_threshold
    layer.tau = value
    assert layer.tau is tau
    assert tau.requires_grad
    x = torch.rand(6, 2, 3) * 3
    assert torch.equal(layer(x), expected(x))
    layer.v_threshold = 0.5
    assert layer.v_threshold is threshold
    assert threshold.item() == 0.5
    assert layer.state_dict()["tau"] == 4
    layer.reset_parameters()
    assert layer.tau.item() == 2


def test_numbers_of_the_shape_set_a_parameter_and_no_others() -> None:
    """One number, or the whole shape; a refused value changes nothing."""
    layer = lnm.nn.NeuronLayer(CUBIC, channels=2, backend="torch")
    theta, values = layer.theta, [[0.0, 0.5, 0.25], [0.0, 0.125, 1.0]]
    for value in (values, np.array(values), torch.tensor(values, dtype=torch.float64)):
        theta.detach().zero_()
        layer.theta = value
        assert layer.theta is theta
        assert theta.tolist() == values
    accepted = "a number, or numbers of shape (2, 3)"
    for wrong in ([1.0, 2.0, 3.0], torch.zeros(3, 2), np.zeros(6)):
        with refused(ShapeError, "lnm.theta", "numbers of shape", accepted):
            layer.theta = wrong
    for wrong in ("0.5", True, 1j, object(), [[1.0], [2.0, 3.0]]):
        with refused(ModelError, "lnm.theta", "it is", accepted):
            layer.theta = wrong
    assert theta.tolist() == values
    layer.theta = 0.0
    assert not theta.any()


@pytest.mark.parametrize("value", [0.7, [0.7], np.array(0.7)])
def test_a_number_is_rounded_once(value: Any) -> None:
    """A layer in double precision has the number itself, not its nearest float32."""
    layer = lif(dtype=torch.float64)
    layer.tau = value
    layer.v_threshold = value
    assert layer.tau.item() == layer.v_threshold.item() == 0.7


def test_pytorch_s_own_assignments_stay() -> None:
    """A Parameter and None replace, a tensor replaces a constant, and a graph is not cut."""
    layer = lif()
    other = nn.Parameter(torch.tensor(3.0))
    layer.tau = other
    assert layer.tau is other
    constant = torch.tensor(0.5)
    layer.v_threshold = constant
    assert layer.v_threshold is constant
    with pytest.raises(TypeError, match="cannot assign"):
        layer.tau = other * 2
    layer.anything = 1.5
    assert layer.anything == 1.5
    assert "anything" not in layer.state_dict()


def test_what_cannot_be_set_is_an_error() -> None:
    """An argument of the family without a parameter, a lazy parameter, and a computed one."""
    layer = lif(step_mode="s")
    with refused(ModelError, "NeuronLayer", "v_reset of lif is no par", remedy="v_reset=..."):
        layer.v_reset = -1.0
    assert not hasattr(layer, "v_reset")
    layer.v = 0.25  # a state
    assert layer.v.item() == 0.25
    lazy = lnm.nn.NeuronLayer(CUBIC, backend="torch")
    with refused(ModelError, "lnm.theta", "is lazy", remedy="Call the layer once first"):
        lazy.theta = 0.5
    constant = lnm.param("a", per="channel", learnable=False)
    lazy = lnm.nn.NeuronLayer(lnm.Neuron(charge={V: V / 2 + constant * X}, fire=V - 1))
    with refused(ModelError, "neuron.a", "is lazy"):
        lazy.a = torch.ones(3)
    nn.utils.parametrize.register_parametrization(layer, "tau", nn.Softplus())
    with refused(ModelError, "lif", "'tau' of lif is computed", remedy="parametrization"):
        layer.tau = 2.0


@pytest.mark.needs_cc
def test_setting_between_forward_and_backward_is_noticed() -> None:
    """Autograd sees the change in place."""
    layer = lif()
    layer.backend = "c"
    out = layer(torch.rand(3, 2, 2))
    layer.tau = 3.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


V, X = lnm.state("v"), lnm.input("x")
TWO = lnm.Neuron(
    charge={V: V / 2 + X},
    fire=V - 1,
    reset=lnm.soft_reset(V, 1),
    output={"spike": lnm.spike, "count": V},  # a tuple has a method of this name
    name="two",
)
INPUT = torch.rand(4, 2, 3, generator=torch.Generator().manual_seed(0))


def _same(found: Any) -> None:
    expected = lnm.nn.NeuronLayer(TWO, backend="torch")(INPUT)
    assert isinstance(found, tuple)
    assert found._fields == ("spike", "count")
    assert found.spike is found[0]
    assert found.count is found[1]
    assert all(map(torch.equal, found, expected))


RUNS: dict[str, Callable[[Any], Any]] = {
    "call": lambda layer: layer(INPUT),
    "states": lambda layer: layer(INPUT, return_state=True)[0],
    "single": lambda layer: _stacked(layer),
    "pickled outputs": lambda layer: pickle.loads(pickle.dumps(layer(INPUT))),
    "copied outputs": lambda layer: copy.deepcopy(layer(INPUT)),
    "saved outputs": lambda layer: _saved(layer(INPUT)),
    "pickled layer": lambda layer: pickle.loads(pickle.dumps(layer))(INPUT),
    "copied layer": lambda layer: copy.deepcopy(layer)(INPUT),
    "compiled": lambda layer: torch.compile(layer, backend="eager", fullgraph=True)(INPUT),
    "checkpoint": lambda layer: torch.utils.checkpoint.checkpoint(
        layer, INPUT.clone().requires_grad_(), use_reentrant=False
    ),
}


def _stacked(layer: Any) -> Any:
    layer.step_mode = "s"
    steps = [layer(x) for x in INPUT]
    return type(steps[0])(*map(torch.stack, zip(*steps, strict=True)))


def _saved(out: Any) -> Any:
    file = io.BytesIO()
    torch.save(out, file)
    file.seek(0)
    return torch.load(file)


@pytest.mark.parametrize("what", RUNS)
def test_several_outputs_are_a_named_tuple(what: str) -> None:
    """The names are those of the definition; it is still a tuple."""
    _same(RUNS[what](lnm.nn.NeuronLayer(TWO, backend="torch")))


@pytest.mark.needs_cc
def test_named_outputs_of_compiled_kernels() -> None:
    """Also of a normalised neuron, in both modes, and beside records."""
    _same(lnm.nn.NeuronLayer(TWO, backend="c")(INPUT))
    out, recorded = lnm.nn.NeuronLayer(TWO, backend="c", record=("v",))(INPUT)
    _same(out)
    assert set(recorded) == {"v"}
    block = lnm.nn.NormNeuron(TWO, 3, backend="c")
    assert block(INPUT)._fields == block.eval()(INPUT)._fields == ("spike", "count")
    assert block._reference.outputs == ("spike", "count")


def test_transforms_and_programs() -> None:
    """vmap keeps the names. A program, which PyTorch alone loads, returns a plain tuple."""
    layer = lnm.nn.NeuronLayer(TWO, backend="torch")
    _same(torch.func.vmap(layer, in_dims=2, out_dims=2)(INPUT))
    program, file = torch.export.export(layer, (INPUT,)), io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    found = torch.export.load(file).module()(INPUT)
    assert type(found) is tuple
    assert all(map(torch.equal, found, layer(INPUT)))


def test_another_process_reads_the_outputs(tmp_path: Any) -> None:
    """It has built no layer of this neuron."""
    path = tmp_path / "out.pkl"
    path.write_bytes(pickle.dumps(lnm.nn.NeuronLayer(TWO, backend="torch")(INPUT)))
    code = f"import pickle; print(pickle.load(open({str(path)!r}, 'rb'))._fields)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stdout == "('spike', 'count')\n"
