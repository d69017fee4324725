"""States that a layer keeps from call to call, and that a user sets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer
from tests.refusals import refused

both = pytest.mark.parametrize("backend", ["torch", pytest.param("c", marks=pytest.mark.needs_cc)])
KEEPING = [{"step_mode": "s"}, {"carry_state": True}]
keeping = pytest.mark.parametrize("options", KEEPING)


def lif(**options: Any) -> NeuronLayer:
    return NeuronLayer(lnm.get("lif", v_reset=None), **options)


def run(layer: NeuronLayer, x: Tensor, **given: Any) -> tuple[Tensor, Tensor]:
    """Return the output and the final potential of (T, N, *), or of its first step."""
    out, state = layer(x if layer.step_mode == "m" else x[0], return_state=True, **given)
    return out, state["v"]


def assert_equal(got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@both
@keeping
@pytest.mark.parametrize("called", [True, False])
@pytest.mark.parametrize("value", [0.7, 2, torch.tensor(0.7), "tensor", "array", "parameter"])
def test_a_state_that_is_set(value: Any, called: bool, options: Any, backend: str) -> None:
    """The next call begins with it, as with `state=`. It was once ignored."""
    layer, x = lif(backend=backend, **options), 2 * torch.rand(4, 2, 3)
    tensor = torch.rand(2, 3)
    value = {"tensor": tensor, "array": tensor.numpy(), "parameter": nn.Parameter(tensor)}.get(
        value if isinstance(value, str) else "", value
    )
    expected = run(lif(backend=backend, **options), x, state={"v": value})
    if called:
        run(layer, x)
    layer.v = value
    assert torch.equal(layer.v.float(), torch.as_tensor(value).float())
    assert not list(layer.parameters())
    assert_equal(run(layer, x), expected)
    layer.state = {"v": value}
    assert_equal(run(layer, x), expected)
    layer.reset()
    assert_equal(run(layer, x), run(lif(backend=backend, **options), x))


@settings(max_examples=40)
@given(st.floats(-1e3, 1e3), st.sampled_from(KEEPING))
def test_any_number(number: float, options: Any) -> None:
    """Set and given, a number is rounded once, also in float64."""
    x = torch.rand(4, 2, 3, dtype=torch.float64)
    layer, other = (lif(backend="torch", **options) for _ in range(2))
    layer.v = number
    assert_equal(run(layer, x), run(other, x, state={"v": number}))


def test_the_dict_of_states_is_a_copy() -> None:
    """Its items do not change the layer, so that every change is validated."""
    layer, x = lif(backend="torch", carry_state=True), torch.rand(4, 2, 3)
    layer(x)
    layer.state["v"] = None
    layer.state["w"] = 1.0
    assert isinstance(layer.v, torch.Tensor)
    assert list(layer.state) == ["v"]


def test_a_number_set_in_inference_mode() -> None:
    """Later calls train with it."""
    layer, x = lif(backend="torch", carry_state=True), torch.rand(4, 2, 3, requires_grad=True)
    with torch.inference_mode():
        layer.v = 0.5
    layer(x).sum().backward()
    assert x.grad is not None


def test_one_of_two_states() -> None:
    """The other one stays, or begins with its initial value."""
    layer, x = NeuronLayer(lnm.get("cuba_lif"), backend="torch", carry_state=True), torch.rand(4, 3)
    layer.v = 0.5
    got = layer(x, return_state=True)[1]
    layer.reset()
    expected = layer(x, state={"v": 0.5}, return_state=True)[1]
    assert all(torch.equal(got[name], expected[name]) for name in ("current", "v"))
    layer.v = 0.25
    assert torch.equal(layer.current, expected["current"])
    layer.state = {"v": 0.25}
    assert list(layer.state) == ["v"]


@keeping
def test_one_of_two_states_of_a_call(options: Any) -> None:
    """The other one begins with its declared value, not with the kept one."""
    layer, x = NeuronLayer(lnm.get("cuba_lif"), backend="torch", **options), torch.rand(4, 3)
    for own in ({"v": 0.5}, {}):
        layer(x)
        assert layer.current.any()
        got = layer(x, state=own, return_state=True)
        expected = layer(x, state={"v": 0.0, "current": 0.0} | own, return_state=True)
        assert torch.equal(got[0], expected[0])
        assert all(torch.equal(got[1][name], expected[1][name]) for name in layer.state)


def test_the_gradient_of_a_state_that_is_set() -> None:
    """A number or a tensor with a graph, until `detach`."""
    for value in (torch.tensor(0.5, requires_grad=True), torch.rand(2, 3, requires_grad=True)):
        layer = lif(backend="torch", carry_state=True)
        layer.v = value
        run(layer, torch.rand(4, 2, 3))[1].sum().backward()
        assert value.grad is not None
        assert value.grad.abs().sum() > 0
        value.grad = None
        layer.v = value
        layer.detach()
        assert not run(layer, torch.rand(4, 2, 3))[1].requires_grad


WRONG = [
    ("rest", "state 'v' is 'rest'"),
    (None, "state 'v' is None"),
    (True, "state 'v' is True"),
    (1j, "state 'v' is 1j"),
    (torch.zeros(2, 3, dtype=torch.bool), "state 'v' is torch.bool"),
    (torch.zeros(2, 3, dtype=torch.complex64), "state 'v' is torch.complex64"),
]


@keeping
@pytest.mark.parametrize(("value", "problem"), WRONG)
def test_refused_values(value: Any, problem: str, options: Any) -> None:
    """As those of `state=`; the kept state remains."""
    layer, x = lif(backend="torch", **options), torch.rand(4, 2, 3)
    _, kept = run(layer, x)
    with refused(lnm.ShapeError, "lif", problem, "a number or a tensor, real and not bool"):
        layer.v = value
    with refused(lnm.ShapeError, "lif", "no state 'u'", "v"):
        layer.state = {"u": 1.0}
    assert layer.v is kept


@keeping
def test_a_shape_that_does_not_fit(options: Any) -> None:
    """The next call says so."""
    layer, x = lif(backend="torch", **options), torch.rand(4, 2, 3)
    layer.v = torch.zeros(5, 3)
    with refused(lnm.ShapeError, "lif", "state 'v' has shape (5, 3)", "(2, 3)", "Call reset()"):
        run(layer, x)


def test_a_layer_that_keeps_no_states() -> None:
    """A state that the next call would ignore is refused; an empty one is not."""
    layer = lif(backend="torch")
    remedy = "Give state= to the call, or set carry_state=True."
    with refused(lnm.ModelError, "lif", "state 'v' is set, but the layer keeps no", remedy=remedy):
        layer.v = torch.zeros(2, 3)
    with refused(lnm.ModelError, "lif", "state 'v' is set, but the layer keeps no", remedy=remedy):
        layer.state = {"v": 0.5}
    layer.state = {}
    assert not hasattr(layer, "v")


def test_a_mode_without_kept_states_discards_them() -> None:
    """Once `layer.state` had the states of another mode."""
    layer, x = lif(backend="torch", step_mode="s"), torch.rand(4, 2, 3)
    run(layer, x)
    layer.step_mode = "m"
    assert layer.state == {}
    assert not hasattr(layer, "v")
    layer.carry_state = True
    _, kept = run(layer, x)
    layer.step_mode = "s"
    assert layer.v is kept
    layer.carry_state = False
    assert layer.v is kept
    layer.step_mode = "m"
    assert layer.state == {}


@keeping
@pytest.mark.parametrize("is_burnt_in", [True, False])
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_checkpoint_before_a_reset(use_reentrant: bool, is_burnt_in: bool, options: Any) -> None:
    """Its recomputation is refused, and leaves no states. It once began with the initial ones."""
    layer, x = lif(backend="torch", **options), torch.rand(2, 3, requires_grad=True)
    if is_burnt_in:
        layer(x.detach()[None] if layer.step_mode == "m" else x.detach())
    given = x[None] if layer.step_mode == "m" else x
    out = checkpoint(layer, given, use_reentrant=use_reentrant)
    lnm.nn.reset(layer)
    problem = "a layer that keeps its states is called in a backward"
    with refused(lnm.UnsupportedError, "lif", problem, remedy="Give state= and return_state=True."):
        out.sum().backward()
    assert layer.state == {}


@both
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_checkpoint_of_a_call_with_given_states(use_reentrant: bool, backend: str) -> None:
    """Its gradient is exact, and its recomputation keeps no states."""
    layer, x = lif(backend=backend, carry_state=True), 2 * torch.rand(4, 2, 3)
    found = []

    def call(given: Tensor) -> Tensor:
        return layer(given, state={"v": 0.5})

    for is_checkpoint in (True, False):
        given = x.clone().requires_grad_()
        whole = checkpoint(call, given, use_reentrant=use_reentrant) if is_checkpoint else None
        out = call(given) if whole is None else whole
        layer.reset()
        out.sum().backward()
        assert layer.state == {}
        found.append(given.grad)
    assert torch.equal(*found)


@both
def test_a_checkpoint_keeps_the_records_of_the_call(backend: str) -> None:
    """Its recomputation once replaced the records of the last call."""
    layer = lif(backend=backend, record=("v", "stats"), return_recorded=False)

    def call(given: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        out, state = layer(given, state={"v": v}, return_state=True)
        return (out * state["v"]).exp(), state["v"]

    x, v = 2 * torch.rand(4, 2, 3), torch.zeros(2, 3)
    outs = []
    for part in x.requires_grad_().split(2):
        out, v = checkpoint(call, part, v, use_reentrant=False)
        outs.append(out)
    recorded = layer.recorded
    torch.cat(outs).sum().backward()
    assert layer.recorded is recorded


@keeping
def test_a_replica_of_data_parallel(options: Any) -> None:
    """The states that it would keep are lost, so it takes `state=` alone."""
    layer, x = lif(backend="torch", **options), torch.rand(4, 2, 3)
    replica = layer._replicate_for_data_parallel()
    remedy = "Use DistributedDataParallel, or give state= and return_state=True."
    with refused(lnm.UnsupportedError, "lif", "a replica of torch.nn.DataParallel", remedy=remedy):
        run(replica, x)
    assert_equal(run(replica, x, state={"v": 0.5}), run(layer, x, state={"v": 0.5}))


@pytest.mark.parametrize(
    "name",
    ["backend", *(pytest.param(n, marks=pytest.mark.slow) for n in ("training", "recorded"))],
)
def test_a_state_with_the_name_of_an_attribute(name: str) -> None:
    """The attribute is set, not the state."""
    state = lnm.state(name)
    neuron = lnm.Neuron(charge={state: state / 2 + lnm.input("x")}, fire=state - 1, name="clash")
    layer = NeuronLayer(neuron, backend="torch", carry_state=True)
    layer.eval()
    layer.record, layer.backend = (), "auto"
    layer(torch.ones(2, 1, 3))
    assert (layer.training, layer.recorded, layer.backend) == (False, {}, "auto")
    assert torch.equal(layer.state[name], torch.full((1, 3), 1.5))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@both
def test_a_compiled_layer_with_states_that_are_set(backend: str) -> None:
    """The graph reads and writes them."""
    layer, x = lif(backend=backend, carry_state=True), 2 * torch.rand(4, 2, 3)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    results = []
    for call in (compiled, layer):
        layer.reset()
        layer.v = torch.full((2, 3), 0.7)
        results.append(torch.cat([call(x), call(x), layer.v[None]]))
    assert torch.equal(*results)
