"""Neurons of NIR: their equations, granularity, and steps that are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.nn.exchange.neurons import neuron_layer
from tests.nn.exchange.graphs import EULER, euler, fields, float64, nir
from tests.refusals import refused


def layer_of(node, shape, dt=1.0):
    with float64():
        return neuron_layer("node", node, shape, dt, "torch")


@pytest.mark.parametrize("kind", sorted(EULER))
@settings(max_examples=2)
@given(
    seed=st.integers(0, 2**32),
    dt=st.sampled_from([1.0, 1e-4, 0.37]),
    shape=st.sampled_from([(3,), (2, 2, 2)]),
)
def test_a_layer_has_the_equations_of_its_node(kind, seed, dt, shape):
    """Random fields for each neuron, and random steps; potentials agree to rounding."""
    rng = np.random.default_rng(seed)
    node = getattr(nir, kind)(**fields(kind, rng, shape, dt))
    x = rng.normal(0.3, 1, (12, 2, *shape))
    with torch.no_grad():
        found = layer_of(node, shape, dt)(torch.tensor(x)).numpy()
    assert np.allclose(found, euler(node, x, dt), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_potential_equal_to_the_threshold_does_not_spike(dtype):
    """NIR compares with >. The next number above the threshold spikes."""
    node = nir.IF(r=np.ones(3), v_threshold=np.ones(3), v_reset=np.zeros(3))
    one = torch.ones((), dtype=dtype)
    up, down = (torch.nextafter(one, torch.tensor(k, dtype=dtype)) for k in (2.0, 0.0))
    x = torch.stack([down, one, up])[None, None]
    assert neuron_layer("node", node, (3,), 1.0, "torch")(x).tolist() == [[[0, 0, 1]]]


def test_fields_take_the_coarsest_granularity():
    """All are learnable."""
    channels = np.broadcast_to(np.array([2.0, 3.0])[:, None, None], (2, 2, 2))
    node = nir.LIF(
        tau=channels,
        r=np.ones((2, 2, 2)),
        v_leak=np.zeros((2, 2, 2)),
        v_threshold=np.arange(1.0, 9).reshape(2, 2, 2),
        v_reset=np.zeros((2, 2, 2)),
    )
    layer = layer_of(node, (2, 2, 2))
    shapes = {name: tuple(value.shape) for name, value in layer.named_parameters()}
    assert shapes == {
        "tau": (2,), "r": (), "v_leak": (), "v_threshold": (2, 2, 2), "v_reset": ()
    }  # fmt: skip
    layer(torch.ones(3, 1, 2, 2, 2, dtype=torch.float64)).sum().backward()
    assert all(value.grad is not None for value in layer.parameters())


def lif(tau, shape=(2,)):
    return nir.LIF(np.full(shape, tau), *(np.ones(shape) for _ in range(3)))


def test_an_unstable_step_is_refused():
    """dt = 2*tau is the bound of forward Euler."""
    with refused(UnsupportedError, "node", "dt = 1 is unstable", "dt < 1", "in the unit"):
        layer_of(lif(0.5), (2,))
    layer_of(lif(0.51), (2,))


def test_wrong_fields_are_one_line():
    with refused(ModelError, "node", "tau is 0", "time constants > 0"):
        layer_of(lif(0.0), (2,))
    with refused(ModelError, "node", "tau is not finite", "finite"):
        layer_of(lif(np.nan), (2,))
    for tau, kind in ((1 + 1j, "complex128"), (True, "bool"), ("a", "<U1")):
        with refused(ModelError, "node", f"tau has the type {kind}", "real numbers"):
            layer_of(lif(tau), (2,))
    with refused(ShapeError, "node", "tau has shape (2,), the input (3,)", "(3,), or one number"):
        layer_of(lif(2.0), (3,))
    assert layer_of(lif(2.0, (1,)), (3,)).tau.shape == ()
