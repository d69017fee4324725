"""Assignments to attributes of a layer, `layer.tau = 4.0`, and the named tuple of its outputs."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lnm_codegen as lnm
from tests.cases import CASES
from tests.layers import assert_equal, needs_cc, sequence
from tests.refusals import assert_refused

ROOT = Path(__file__).parents[2]

# PyTorch instantiates a Function while it traces one.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")

CUBIC = lnm.get("lnm", degree=2, per="channel")
V, X = lnm.state("v"), lnm.input("x")
GAIN = lnm.param("a", per="channel", learnable=False)
LAZY = lnm.Neuron(charge={V: V / 2 + GAIN * X}, fire=V - 1)


def lif(**options):
    return lnm.nn.NeuronLayer(lnm.get("lif", learn_tau=True), backend="torch", **options)


def cubic(**options):
    return lnm.nn.NeuronLayer(CUBIC, backend="torch", **options)


def test_a_number_sets_a_parameter_or_a_constant_in_place():
    """The parameter stays the same object, which an optimiser has; the next call reads it."""
    expected, x = lnm.nn.NeuronLayer(lnm.get("lif", tau=4.0), backend="torch"), sequence(6, 2, 3)
    for value in (4, 4.0, np.float32(4), np.array([[4.0]]), torch.tensor(4.0), [4.0]):
        layer = lif()
        tau, threshold = layer.tau, layer.v_threshold
        layer.tau = value
        assert layer.tau is tau
        assert tau.requires_grad
        assert torch.equal(layer(x), expected(x))
        layer.v_threshold = 0.5
        assert layer.v_threshold is threshold
        assert (threshold.item(), layer.state_dict()["tau"]) == (0.5, 4)
        layer.reset_parameters()
        assert layer.tau.item() == 2
    for value in (0.7, [0.7], np.array(0.7)):  # not rounded to float32 on its way
        layer = lif(dtype=torch.float64)
        layer.tau = layer.v_threshold = value
        assert layer.tau.item() == layer.v_threshold.item() == 0.7
    layer, values = cubic(channels=2), [[0.0, 0.5, 0.25], [0.0, 0.125, 1.0]]
    theta = layer.theta
    for value in (values, np.array(values), torch.tensor(values, dtype=torch.float64)):
        layer.theta = 0.0
        assert not theta.any()
        layer.theta = value
        assert layer.theta is theta
        assert theta.tolist() == values


@needs_cc
def test_pytorch_s_own_assignments_stay():
    """A Parameter and None replace, a tensor replaces a constant, and a graph is not cut."""
    layer, other, constant = lif(), nn.Parameter(torch.tensor(3.0)), torch.tensor(0.5)
    layer.tau = other
    assert layer.tau is other
    layer.v_threshold = constant
    assert layer.v_threshold is constant
    with pytest.raises(TypeError, match="cannot assign"):
        layer.tau = other * 2
    layer.anything = 1.5
    assert layer.anything == 1.5
    assert "anything" not in layer.state_dict()
    layer = lif(step_mode="s")
    layer.v = 0.25  # a state
    assert layer.v.item() == 0.25
    layer = lnm.nn.NeuronLayer(CASES["lif-learned"](), channels=2, backend="c")
    out = layer(sequence(3, 2, 2))
    layer.tau = 3.0  # autograd sees the change in place
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


NUMBERS = """
lif.tau >> a number, finite
    set_(lif(), tau=float('nan')) >> it is
    set_(lif(), tau=float('inf')) >> it is
    set_(lif(), tau=torch.tensor(float('nan'))) >> it is
lnm.theta >> a number, or numbers of shape (2, 3)
    set_(cubic(channels=2), theta='0.5') >> it is
    set_(cubic(channels=2), theta=True) >> it is
    set_(cubic(channels=2), theta=1j) >> it is
    set_(cubic(channels=2), theta=object()) >> it is
    set_(cubic(channels=2), theta=[[1.0], [2.0, 3.0]]) >> it is
lnm.theta
    set_(cubic(), theta=0.5) >> is lazy >> >> Call the layer once first
neuron.a
    set_(lnm.nn.NeuronLayer(LAZY), a=torch.ones(3)) >> is lazy
NeuronLayer
    set_(lif(), v_reset=-1.0) >> v_reset of lif is no par >> >> v_reset=...
lif
    set_(COMPUTED, tau=2.0) >> 'tau' of lif is computed >> >> parametrization
"""
SHAPES = """
lnm.theta >> a number, or numbers of shape (2, 3)
    set_(cubic(channels=2), theta=[1.0, 2.0, 3.0]) >> numbers of shape
    set_(cubic(channels=2), theta=torch.zeros(3, 2)) >> numbers of shape
    set_(cubic(channels=2), theta=np.zeros(6)) >> numbers of shape
"""


def set_(layer, **given):
    ((name, value),) = given.items()
    has, before = hasattr(layer, name), str(layer.state_dict())
    try:
        setattr(layer, name, value)
    finally:  # a refused value changes nothing
        assert hasattr(layer, name) == has
        assert str(layer.state_dict()) == before


def test_what_cannot_be_set_is_an_error():
    """No numbers, an argument without a parameter, a lazy parameter, and a computed one."""
    computed = lif()
    nn.utils.parametrize.register_parametrization(computed, "tau", nn.Softplus())
    assert_refused(NUMBERS, globals() | {"COMPUTED": computed})
    assert_refused(SHAPES, globals(), lnm.ShapeError)


# ---- named outputs ----


TWO = lnm.Neuron(
    charge={V: V / 2 + X},
    fire=V - 1,
    reset=lnm.soft_reset(V, 1),
    output={"spike": lnm.spike, "count": V},  # a tuple has a method of this name
    name="two",
)
INPUT = sequence(4, 2, 3)


def stacked(layer):
    layer.step_mode = "s"
    steps = [layer(x) for x in INPUT]
    return type(steps[0])(*map(torch.stack, zip(*steps, strict=True)))


def saved(value, program=torch):
    file = io.BytesIO()
    program.save(value, file)
    file.seek(0)
    return program.load(file)


def test_several_outputs_are_a_named_tuple():
    """The names are those of the definition; it is still a tuple.

    A program of `torch.export`, which PyTorch alone loads, returns a plain tuple.
    """
    plain = lnm.nn.NeuronLayer(TWO, backend="torch")
    block = lnm.nn.NormNeuron(TWO, 3, backend="torch")
    trained = INPUT.clone().requires_grad_()
    for name, found in {
        "call": plain(INPUT),
        "states": plain(INPUT, return_state=True)[0],
        "records": lnm.nn.NeuronLayer(TWO, backend="torch", record=("v",))(INPUT)[0],
        "single": stacked(copy.deepcopy(plain)),
        "pickled": pickle.loads(pickle.dumps(plain(INPUT))),
        "copied": copy.deepcopy(plain(INPUT)),
        "saved": saved(plain(INPUT)),
        "pickled layer": pickle.loads(pickle.dumps(plain))(INPUT),
        "copied layer": copy.deepcopy(plain)(INPUT),
        "compiled": torch.compile(plain, backend="eager", fullgraph=True)(INPUT),
        "checkpoint": torch.utils.checkpoint.checkpoint(plain, trained, use_reentrant=False),
        "vmap": torch.func.vmap(plain, in_dims=2, out_dims=2)(INPUT),
    }.items():
        assert isinstance(found, tuple), name
        assert found._fields == ("spike", "count"), name
        assert found.spike is found[0]
        assert found.count is found[1]
        assert_equal(tuple(found), tuple(plain(INPUT)))
    assert block(INPUT)._fields == block.eval()(INPUT)._fields == ("spike", "count")
    assert block._reference.outputs == ("spike", "count")
    program = saved(torch.export.export(plain, (INPUT,)), torch.export).module()(INPUT)
    assert type(program) is tuple
    assert_equal(program, tuple(plain(INPUT)))


@pytest.mark.slow
def test_another_process_reads_the_outputs(tmp_path):
    """It has built no layer of this neuron."""
    path = tmp_path / "out.pkl"
    path.write_bytes(pickle.dumps(lnm.nn.NeuronLayer(TWO, backend="torch")(INPUT)))
    code = f"import pickle; print(pickle.load(open({str(path)!r}, 'rb'))._fields)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "('spike', 'count')\n"
