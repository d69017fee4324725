"""`NeuronLayer` under `torch.compile`, `torch.export` and other PyTorch tools, on C kernels."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer, NormNeuron
from lnm_codegen.nn.operators import operator_of
from tests.cases import CASES
from tests.refusals import refused

pytestmark = pytest.mark.needs_cc

SHAPE = (5, 2, 3, 4)
LIF = lnm.get("lif")


def network(case: str, **options: Any) -> nn.Module:
    """Return a neuron layer between two others."""
    torch.manual_seed(0)
    layer = NeuronLayer(CASES[case](), shape=SHAPE[2:], backend="c", **options)
    return nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 2))


def gradients(run: Any, net: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    given = x.clone().requires_grad_()
    out = run(given)
    found = torch.autograd.grad((out * out).sum(), [given, *net.parameters()])
    return out.detach(), *found


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "case",
    ["lnm-3", "gate", *(pytest.param(c, marks=pytest.mark.slow) for c in ("lif-learned", "lnm-4"))],
)
@pytest.mark.parametrize("dynamic", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_compiled_whole(case: str, dynamic: bool) -> None:
    """No graph break (fullgraph=True says so), and the values of eager mode."""
    net = network(case)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for steps, batch in ((5, 2), (7, 2), (7, 3)):
        x = torch.randn(steps, batch, *SHAPE[2:])
        got, expected = gradients(compiled, net, x), gradients(net, net, x)
        for mine, theirs in zip(got, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), net(x))


@pytest.mark.parametrize("shape", [(5, 2, 3), (5, 2, 3, 4)])
def test_a_neuron_without_parameters(shape: tuple[int, ...]) -> None:
    """The operator's backward has the gradients of inputs and initial states alone."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: v * 0.5 + x}, fire=v - 1, reset=lnm.hard_reset(v), name="bare")
    layer = NeuronLayer(neuron, backend="c")
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    given = torch.randn(shape)
    for y in (given, given.transpose(1, 2)):
        for mine, theirs in zip(
            gradients(compiled, layer, y), gradients(layer, layer, y), strict=True
        ):
            assert torch.equal(mine, theirs)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_with_inductor() -> None:
    """The default backend of `torch.compile`."""
    net, x = network("lnm-3"), torch.randn(SHAPE)
    compiled = torch.compile(net, fullgraph=True)
    for mine, theirs in zip(gradients(compiled, net, x), gradients(net, net, x), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_one_graph_serves_every_length() -> None:
    """With dynamic shapes a new T or batch compiles nothing anew: one graph up to a chunk of steps,
    whose saved states are empty, and one beyond.
    """
    net = network("lnm-3")
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(net, backend=counter, fullgraph=True, dynamic=True)
    counts = []
    for steps, batch in ((5, 2), (6, 3), (16, 4), (40, 7), (100, 9), (1000, 2)):
        compiled(torch.randn(steps, batch, *SHAPE[2:])).sum().backward()
        counts.append(counter.frame_count)
    within, beyond = counts[:3], counts[3:]
    assert len(set(within)) == len(set(beyond)) == 1


@pytest.mark.slow
def test_states_and_records_in_a_graph() -> None:
    """`state`, `return_state`, `record` of potentials and of counts."""
    layer = NeuronLayer(CASES["lnm-3"](), backend="c", record=("v", "stats"))
    x, start = torch.randn(SHAPE), {"v": 0.3 * torch.randn(SHAPE[1:])}

    def run(x: torch.Tensor) -> Any:
        return layer(x, state=start, return_state=True)

    out, state, seen = torch.compile(run, backend="aot_eager", fullgraph=True)(x)
    expected = run(x)
    assert torch.equal(out, expected[0])
    assert torch.equal(state["v"], expected[1]["v"])
    assert torch.equal(seen["v"], expected[2]["v"])
    assert {n: float(c) for n, c in seen["stats"].items()} == expected[2]["stats"]


def test_a_layout_in_a_graph() -> None:
    """Channels last: the strides that the graph expects are those that come."""
    layer = NeuronLayer(lnm.get("lnm", degree=2, per="neuron"), shape=(3, 4, 5), backend="c")
    x = torch.randn(6, 2, 4, 5, 3).permute(0, 1, 4, 2, 3)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    got, expected = gradients(compiled, layer, x), gradients(layer, layer, x)
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert compiled(x).stride() == x.stride()


def test_a_parameter_in_channels_last() -> None:
    """Its gradient has the strides that the graph expects, and is dense.

    `layer.to(memory_format=torch.channels_last)` gives a vector per neuron this layout.
    """
    neuron = lnm.get("lnm", degree=2, per="neuron")
    layer = NeuronLayer(neuron, shape=(3, 4, 5), backend="c").to(memory_format=torch.channels_last)
    theta, v_threshold = (getattr(layer, p.name).detach() for p in neuron.params)
    assert not theta.is_contiguous()
    x = torch.randn(6, 2, 3, 4, 5)
    name = operator_of(neuron, "c").name
    taken = (x, torch.zeros(1), theta, v_threshold)
    *_, saved, _ = getattr(torch.ops.lnm, name)(*taken, False, True)
    adjoint = getattr(torch.ops.lnm, f"{name}_backward").default
    arguments = (*taken, saved, torch.randn(x.shape), None, [True, False, True, False])
    torch.library.opcheck(adjoint, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("case", ["lnm-3", "lif-learned", "dendrite", "gate"])
@pytest.mark.parametrize("keeps", [True, False])
def test_opcheck(case: str, keeps: bool) -> None:
    """Schema, autograd registration, fake tensors, dynamic shapes."""
    torch.manual_seed(0)
    neuron = CASES[case]()
    layer = NeuronLayer(neuron, shape=SHAPE[2:], backend="c")
    inputs = [torch.randn(SHAPE, requires_grad=True) for _ in neuron.inputs]
    states = [torch.rand(SHAPE[1:], requires_grad=True) for _ in neuron.states]
    params = [getattr(layer, p.name) for p in neuron.params]
    operator = getattr(torch.ops.lnm, operator_of(neuron, "c").name).default
    torch.library.opcheck(operator, (*inputs, *states, *params, keeps, True))


def test_export() -> None:
    """The operator stands in the exported graph as one node."""
    net, x = network("lif-learned"), torch.randn(SHAPE)
    exported = torch.export.export(net, (x,))
    names = [str(n.target) for n in exported.graph.nodes if n.op == "call_function"]
    assert sum(n.startswith("lnm.lif_c_") for n in names) == 1
    assert torch.equal(exported.module()(x), net(x))


def test_double_backward_is_refused() -> None:
    """The second derivative was 0, with a warning of PyTorch."""
    for layer in (NeuronLayer(LIF, backend="c"), NormNeuron(LIF, 3, backend="c")):
        x = torch.randn(4, 2, 3, requires_grad=True)
        loss = torch.compile(layer, backend="eager")(x).square().sum()
        (grad,) = torch.autograd.grad(loss, x, create_graph=True)
        remedy = "Use backend='torch'"
        with refused(lnm.UnsupportedError, type(layer).__name__, "double backward", "", remedy):
            torch.autograd.grad(grad.sum(), x)


def test_one_operator_for_equal_neurons() -> None:
    """The name depends only on the content, not on the object."""
    name = operator_of(lnm.get("lnm", degree=2), "c").name
    assert operator_of(lnm.get("lnm", degree=2), "c").name == name
    assert operator_of(lnm.get("lnm", degree=3), "c").name != name


def test_a_trained_constant() -> None:
    """Its gradient was once 0."""
    layer = NeuronLayer(CASES["lif"](), backend="c")
    layer.v_threshold.requires_grad_()
    compiled = torch.compile(layer, backend="aot_eager")
    with refused(lnm.UnsupportedError, "lif", "constant 'v_threshold' requires a gradient"):
        compiled(torch.rand(SHAPE))


@pytest.mark.slow
def test_under_autocast() -> None:
    """The layer takes what the layer before gives; gradients of parameters stay float32."""
    net, x = network("lnm-3"), torch.randn(SHAPE)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = net[0](x)
        out = net[1](hidden)
        loss = net(x).float().square().sum()
    loss.backward()
    assert (hidden.dtype, out.dtype) == (torch.bfloat16, torch.bfloat16)
    assert net[1].theta.grad.dtype == torch.float32
    assert net[1].theta.grad.abs().sum() > 0


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing(use_reentrant: bool) -> None:
    """`torch.utils.checkpoint` reruns the kernels and finds the same gradients."""
    from torch.utils.checkpoint import checkpoint

    net, x = network("lif-learned"), torch.randn(SHAPE)

    def run(x: torch.Tensor) -> Any:
        return checkpoint(net, x, use_reentrant=use_reentrant)

    if use_reentrant:
        found = []
        for forward in (run, net):
            net.zero_grad()
            forward(x.clone().requires_grad_()).square().sum().backward()
            found.append([p.grad.clone() for p in net.parameters()])
        got, expected = found
    else:
        got, expected = gradients(run, net, x), gradients(net, net, x)
    for mine, theirs in zip(got, expected, strict=True):
        assert torch.equal(mine, theirs)


_GROUPS: list[Any] = []
"""Groups that stay: the end of one waits for its thread, which may wait for Python's lock."""


def test_distributed_data_parallel(tmp_path: Any) -> None:
    """One process of gloo: hooks on the parameters of the neuron fire."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    store = f"file://{tmp_path}/store"
    dist.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    _GROUPS.append(dist.group.WORLD)
    try:
        net, x = network("lnm-3"), torch.randn(SHAPE)
        parallel = DistributedDataParallel(copy.deepcopy(net))
        parallel(x).square().sum().backward()
        net(x).square().sum().backward()
        for mine, theirs in zip(parallel.parameters(), net.parameters(), strict=True):
            assert torch.equal(mine.grad, theirs.grad)
    finally:
        dist.destroy_process_group()


V, X = lnm.state("v"), lnm.input("x")


def decaying(decay: float, name: str | None = None) -> lnm.Neuron:
    """Return a neuron without parameters: layers of two of them have the same structure."""
    return lnm.Neuron({V: decay * V + X}, V - 1, lnm.soft_reset(V, 1), name=name)


def with_surrogate(surrogate: lnm.surrogate.Surrogate) -> lnm.Neuron:
    return lnm.get("lif", surrogate=surrogate)


PAIRS: dict[str, tuple[tuple[lnm.Neuron, dict[str, Any]], ...]] = {
    "charge": ((decaying(0.5), {}), (decaying(0.9), {})),
    "name": ((decaying(0.5, "one"), {}), (decaying(0.5, "other"), {})),
    "surrogate": tuple(
        (with_surrogate(s), {}) for s in (lnm.surrogate.atan(), lnm.surrogate.straight_through())
    ),
    "detach_reset": ((LIF, {}), (LIF, {"detach_reset": True})),
}
"""Neurons and options of two layers whose classes, tensors and shapes are the same."""


def drive(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) + 0.1


def assert_equal(found: Any, expected: Any) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("backend", ["c", "torch"])
@pytest.mark.parametrize(
    ("kind", "case"),
    [
        (NeuronLayer, "charge"),
        (NeuronLayer, "surrogate"),
        (NormNeuron, "surrogate"),
        *(
            pytest.param(kind, case, marks=pytest.mark.slow)
            for kind, case in (
                (NeuronLayer, "name"),
                (NeuronLayer, "detach_reset"),
                (NormNeuron, "charge"),
                (NormNeuron, "detach_reset"),
            )
        ),
    ],
)
def test_another_neuron_has_its_own_graph(case: str, kind: Any, backend: Any) -> None:
    """A second layer of the same structure once ran the graph of the first."""
    x, results = 3 * drive(6, 8, 3), []
    for neuron, options in PAIRS[case]:
        layer = kind(neuron, channels=3, backend=backend, **options)
        same = copy.deepcopy(layer)
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        got = gradients(lambda x, run=compiled: run(x) - 0.5, layer, x)
        expected = gradients(lambda x, run=same: run(x) - 0.5, same, x)
        for mine, theirs in zip(got, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)
        results.append(torch.cat([value.flatten() for value in expected]))
    assert torch.allclose(*results) == (case == "name")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("backend", ["c", "torch"])
def test_two_neurons_in_one_graph(backend: Any) -> None:
    """Each layer has its own neuron, also where a second model has them in the other order."""
    x = 2 * drive(6, 2, 3)
    one, other = (NeuronLayer(decaying(d), backend=backend) for d in (0.5, 0.9))
    middle = nn.Linear(3, 3, bias=False)
    nn.init.eye_(middle.weight)
    for net in (nn.Sequential(one, middle, other), nn.Sequential(other, middle, one)):
        compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
        assert_equal(gradients(compiled, net, x), gradients(net, net, x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("backend", ["c", "torch"])
def test_one_function_of_many_layers(backend: Any) -> None:
    """The function is compiled for each neuron, and runs eagerly beyond PyTorch's limit of 8."""
    x = drive(6, 2, 3)

    @torch.compile(backend="aot_eager")
    def run(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(layer.named_parameters()), (x,))

    with torch._dynamo.config.patch(recompile_limit=2):
        for decay in (0.5, 0.9, 0.2, 0.7):
            layer = NeuronLayer(decaying(decay), backend=backend)
            assert torch.equal(run(layer, x), layer(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("backend", ["c", "torch"])
def test_exports_of_two_neurons(backend: Any) -> None:
    x = drive(6, 2, 3)
    for decay in (0.5, 0.9):
        layer = NeuronLayer(decaying(decay), backend=backend)
        assert torch.equal(torch.export.export(layer, (x,)).module()(x), layer(x))


def test_equal_neurons_share_a_graph() -> None:
    """Layers of equal neurons compile once: built twice, copied, pickled, with other constants."""
    counter = CompileCounterWithBackend("aot_eager")
    layer, x = NeuronLayer(lnm.get("lif"), backend="c"), drive(6, 2, 3)
    layers = [layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    layers += [NeuronLayer(lnm.get("lif", tau=tau), backend="c") for tau in (2.0, 3.0)]
    for one in layers:
        compiled = torch.compile(one, backend=counter, fullgraph=True)
        assert torch.equal(compiled(x), one(x))
    assert counter.frame_count == 1


OPTIONS: dict[str, tuple[Any, ...]] = {
    "arithmetic": (lnm.Fixed(8, 6), lnm.Fixed(8, 2), None),
    "backend": ("torch", "c"),
    "step_mode": ("s", "m"),
    "carry_state": (True, False),
    "record": (("v",), ("v", "stats"), ("stats", "v"), ()),
    "interval": ((-1.0, 0.1), (-1.0, 0.5)),
    "return_recorded": (False, True),
    "inplace": (True, False),
}
"""Option of a layer -> values that are set one after another."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("backend", ["c", "torch"])
def test_an_option_set_after_a_compiled_call(option: str, backend: Any) -> None:
    """A new interval was once without effect."""
    given = {"record": ("stats",)} if option in ("interval", "return_recorded") else {}
    layer = NeuronLayer(LIF, backend=backend, **given)
    compiled = torch.compile(layer, backend="eager")
    compiled(drive(6, 2, 3))
    for value in OPTIONS[option]:
        setattr(layer, option, value)
        fresh = NeuronLayer(LIF, **{"backend": backend, **given, option: value})
        layer.reset()
        for k in range(2):
            x = (k + 1) * drive(6, 2, 3)[0 if layer.step_mode == "s" else slice(None)]
            with torch.no_grad():
                found, expected = compiled(x.clone()), fresh(x.clone())
            assert_same(
                (found, layer.recorded, layer.state), (expected, fresh.recorded, fresh.state)
            )


def assert_same(found: Any, expected: Any) -> None:
    """Counts are tensors in a graph, and numbers elsewhere."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        found, expected = tuple(found.values()), tuple(expected.values())
    if isinstance(expected, tuple):
        assert isinstance(found, tuple)
        for mine, theirs in zip(found, expected, strict=True):
            assert_same(mine, theirs)
    elif isinstance(expected, float):
        assert float(found) == expected
    else:
        assert torch.equal(found, expected)
