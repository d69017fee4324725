"""States that a layer keeps from call to call, and that a user sets; first calls in transforms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import grad, jvp, vmap
from torch.utils.checkpoint import checkpoint

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer
from tests.layers import assert_equal, both, sequence, slow
from tests.refusals import assert_refused, refused

KEEPING = [{"step_mode": "s"}, {"carry_state": True}]
keeping = pytest.mark.parametrize("options", KEEPING)


def lif(backend: str = "torch", **options: Any) -> NeuronLayer:
    return NeuronLayer(lnm.get("lif"), backend=backend, **options)  # type: ignore[arg-type]


def run(layer: NeuronLayer, x: Tensor, **given: Any) -> tuple[Tensor, Tensor]:
    """Return the output and the final potential of (T, N, *), or of its first step."""
    out, state = layer(x if layer.step_mode == "m" else x[0], return_state=True, **given)
    return out, state["v"]


@both
@keeping
def test_a_state_that_is_set(options: Any, backend: str) -> None:
    """The next call begins with it, as with `state=`. It was once ignored."""
    x, tensor, other = sequence(4, 2, 3), torch.rand(2, 3), lif(backend, **options)
    x = x.double() if backend == "torch" else x  # a number is rounded once
    values = (0.7, torch.tensor(0.7), tensor, tensor.numpy(), nn.Parameter(tensor), 2)
    for k, value in enumerate(values):
        layer = lif(backend, **options)
        expected = run(other, x, state={"v": value})
        if k % 2:  # after a call
            run(layer, x)
        layer.v = value
        assert torch.equal(layer.v.float(), torch.as_tensor(value).float())
        assert not list(layer.parameters())
        assert_equal(run(layer, x), expected)
        layer.state = {"v": value}
        assert_equal(run(layer, x), expected)
        layer.reset()
        other.reset()
        assert_equal(run(layer, x), run(other, x))


def test_the_dict_of_states_is_a_copy() -> None:
    """Its items do not change the layer, so that every change is validated."""
    layer, x = lif(carry_state=True), sequence(4, 2, 3)
    layer(x)
    layer.state["v"] = None
    layer.state["w"] = 1.0
    assert isinstance(layer.v, torch.Tensor)
    assert list(layer.state) == ["v"]
    with torch.inference_mode():
        layer.v = 0.5
    layer(x.requires_grad_()).sum().backward()  # later calls train with a number set in that mode
    assert x.grad is not None


@keeping
def test_one_of_two_states(options: Any) -> None:
    """Set, the other stays, or begins as declared; given to a call, the other begins as declared.

    Not with the kept one.
    """
    layer, x = NeuronLayer(lnm.get("cuba_lif"), backend="torch", **options), sequence(4, 3)
    layer.v = 0.5
    found = layer(x, return_state=True)
    assert_equal(found, layer(x, state={"v": 0.5}, return_state=True))
    layer.v = 0.25
    assert torch.equal(layer.current, found[1]["current"])
    layer.state = {"v": 0.25}
    assert list(layer.state) == ["v"]
    for own in ({"v": 0.5}, {}):
        layer(x)
        assert layer.current.any()
        expected = {"v": 0.0, "current": 0.0} | own
        found = layer(x, state=own, return_state=True)
        assert_equal(found, layer(x, state=expected, return_state=True))


def test_the_gradient_of_a_state_that_is_set() -> None:
    """A number or a tensor with a graph, until `detach`."""
    for value in (torch.tensor(0.5, requires_grad=True), torch.rand(2, 3, requires_grad=True)):
        layer, x = lif(carry_state=True), sequence(4, 2, 3) - 1
        layer.v = value
        run(layer, x)[1].sum().backward()
        assert value.grad is not None
        assert value.grad.abs().sum() > 0
        layer.v = value
        layer.detach()
        assert not run(layer, x)[1].requires_grad


WRONG = """
lif >> a number or a tensor, real and not bool
    setattr(layer, 'v', 'rest') >> state 'v' is 'rest'
    setattr(layer, 'v', None) >> state 'v' is None
    setattr(layer, 'v', True) >> state 'v' is True
    setattr(layer, 'v', 1j) >> state 'v' is 1j
    setattr(layer, 'v', torch.zeros(2, 3) > 0) >> state 'v' is torch.bool
    setattr(layer, 'v', torch.zeros(2, 3) + 1j) >> state 'v' is torch.complex64
    setattr(layer, 'state', {'u': 1.0}) >> no state 'u' >> v
"""


@keeping
def test_refused_values(options: Any) -> None:
    """As those of `state=`; the kept state remains. The next call sees a shape."""
    layer, x = lif(**options), sequence(4, 2, 3)
    _, kept = run(layer, x)
    assert_refused(WRONG, globals() | {"layer": layer}, lnm.ShapeError)
    assert layer.v is kept
    layer.v = torch.zeros(5, 3)
    with refused(lnm.ShapeError, "lif", "state 'v' has shape (5, 3)", "(2, 3)", "Call reset()"):
        run(layer, x)


def test_a_layer_that_keeps_no_states() -> None:
    """A state that the next call would ignore is refused; an empty one is not.

    A mode without kept states discards those of another mode.
    """
    layer, x = lif(), sequence(4, 2, 3)
    problem = "state 'v' is set, but the layer keeps no"
    for name, value in (("v", torch.zeros(2, 3)), ("state", {"v": 0.5})):
        remedy = "Give state= to the call, or set carry_state=True."
        with refused(lnm.ModelError, "lif", problem, remedy=remedy):
            setattr(layer, name, value)
    layer.state = {}
    assert not hasattr(layer, "v")
    layer.step_mode = "s"
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
def test_a_checkpoint_of_a_layer_that_keeps_states(
    use_reentrant: bool, is_burnt_in: bool, options: Any
) -> None:
    """Its recomputation is refused, and leaves no states. It once began with other ones."""
    layer, x = lif(**options), torch.rand(2, 3, requires_grad=True)
    given = x[None] if layer.step_mode == "m" else x
    if is_burnt_in:
        layer(given.detach())
    out = checkpoint(layer, given, use_reentrant=use_reentrant)
    lnm.nn.reset(layer)
    problem = "a layer that keeps its states is called in a backward"
    with refused(lnm.UnsupportedError, "lif", problem, remedy="Give state= and return_state=True."):
        out.sum().backward()
    assert layer.state == {}


@both
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_checkpoint_of_a_call_with_given_states(use_reentrant: bool, backend: str) -> None:
    """Its gradient is exact, and its recomputation keeps neither states nor records."""
    records = {"record": ("v", "stats"), "return_recorded": False, "interval": (-0.25, 0.75)}
    layer, x = lif(backend, carry_state=True, **records), sequence(4, 2, 3)
    found = []

    def call(given: Tensor) -> Tensor:
        return layer(given, state={"v": 0.5})

    for is_checkpoint in (True, False):
        given = x.clone().requires_grad_()
        whole = checkpoint(call, given, use_reentrant=use_reentrant) if is_checkpoint else None
        out = call(given) if whole is None else whole
        recorded = layer.recorded
        layer._state = {}
        out.exp().sum().backward()
        assert layer.state == {}
        assert layer.recorded is recorded
        found.append(given.grad)
    assert torch.equal(*found)


@keeping
def test_a_replica_of_data_parallel(options: Any) -> None:
    """The states that it would keep are lost, so it takes `state=` alone."""
    layer, x = lif(**options), sequence(4, 2, 3)
    replica = layer._replicate_for_data_parallel()
    remedy = "Use DistributedDataParallel, or give state= and return_state=True."
    with refused(lnm.UnsupportedError, "lif", "a replica of torch.nn.DataParallel", remedy=remedy):
        run(replica, x)
    assert_equal(run(replica, x, state={"v": 0.5}), run(layer, x, state={"v": 0.5}))


def test_a_state_with_the_name_of_an_attribute() -> None:
    """The attribute is set, not the state."""
    for name in ("backend", "training", "recorded"):
        state = lnm.state(name)
        neuron = lnm.Neuron({state: state / 2 + lnm.input("x")}, fire=state - 1, name="clash")
        layer = NeuronLayer(neuron, backend="torch", carry_state=True)
        layer.eval()
        layer.record, layer.backend = (), "torch"
        layer(torch.ones(2, 1, 3))
        assert (layer.training, layer.recorded, layer.backend) == (False, {}, "torch")
        assert torch.equal(layer.state[name], torch.full((1, 3), 1.5))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("backend", [pytest.param("c", marks=pytest.mark.needs_cc), slow("torch")])
def test_a_compiled_layer_with_states_that_are_set(backend: str) -> None:
    """The graph reads and writes them."""
    layer, x = lif(backend, carry_state=True), sequence(4, 2, 3)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    results = []
    for call in (compiled, layer):
        layer.reset()
        layer.v = torch.full((2, 3), 0.7)
        results.append(torch.cat([call(x), call(x), layer.v[None]]))
    assert torch.equal(*results)


# ---- first calls in a transform ----


def in_fake_mode(layer: NeuronLayer, x: Tensor) -> Any:
    with FakeTensorMode(allow_non_fake_inputs=True):
        return layer(x)


FIRST_CALLS: dict[str, Any] = {
    "grad": lambda f, x: grad(lambda t: f(t).sum())(x),
    "vmap(grad)": lambda f, x: vmap(grad(lambda t: f(t).sum()))(x[None]),
    "vmap": lambda f, x: vmap(f)(x[None]),
    "jvp": lambda f, x: jvp(f, (x,), (x,)),
    "fake tensors": in_fake_mode,
}


@both
@pytest.mark.parametrize("first", FIRST_CALLS)
def test_calls_after_a_transform(backend: Any, first: str) -> None:
    """A first call in a transform leaves nothing of it behind.

    The initial states of that call were once kept, also if the call was refused.
    """
    x = 2 * sequence(4, 2, 3).requires_grad_()
    layer = lif(backend)
    try:
        FIRST_CALLS[first](layer, x.detach())
    except (lnm.UnsupportedError, NotImplementedError):
        assert backend == "c"
    layer(x).sum().backward()
    expected = lif(backend)(x)
    assert torch.equal(layer(x), expected)
    assert expected.sum() > 0


def test_a_captured_call_leaves_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The initial states of a capture are filled at a replay of its CUDA graph, and only there."""
    layer, x = lif(), torch.ones(2, 1, 3)
    with monkeypatch.context() as captured:
        captured.setattr(torch.cuda, "is_initialized", lambda: True)
        captured.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        layer(x)
    assert not layer._dispatch._starts
    layer(x)
    assert layer._dispatch._starts
