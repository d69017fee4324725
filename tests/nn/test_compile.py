"""Layers under `torch.compile` and `torch.export`, and their operators, on C kernels."""

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
from lnm_codegen.nn.hooks import watching
from lnm_codegen.nn.operators import batch_operator_of, operator_of
from tests.cases import CASES
from tests.layers import assert_close, assert_equal, gradients, sequence, slow
from tests.refusals import refused

# PyTorch instantiates a Function while it traces one.
pytestmark = [
    pytest.mark.needs_cc,
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]

SHAPE = (5, 2, 3, 4)
LIF = lnm.get("lif")
V, X = lnm.state("v"), lnm.input("x")


def network(case: str) -> nn.Module:
    """Return a neuron layer between two others."""
    torch.manual_seed(0)
    layer = NeuronLayer(CASES[case](), shape=SHAPE[2:], backend="c")
    return nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 2))


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("case", "kind", "dynamic"),
    [
        ("lnm-3", "eager", True),
        *(slow(c, "aot_eager", d) for c in ("gate", "lif-learned", "lnm-4") for d in (True, False)),
    ],
)
def test_compiled_whole(case: str, kind: str, dynamic: bool) -> None:
    """No graph break (fullgraph=True says so), and the values of eager mode.

    With dynamic shapes a new T or batch compiles nothing anew: one graph serves up to a chunk of
    steps, whose saved states are empty, and one serves beyond.
    """
    net, counter = network(case), CompileCounterWithBackend(kind)
    compiled = torch.compile(net, backend=counter, fullgraph=True, dynamic=dynamic)
    counts = []
    for steps, batch in ((5, 2), (16, 3), (40, 7), (300, 2)):
        x = sequence(steps, batch, *SHAPE[2:])
        found, expected = (gradients(run, [x], net.parameters()) for run in (compiled, net))
        assert_close(found, expected, 1e-5)
        counts.append(counter.frame_count)
    assert not dynamic or counts[0] == counts[1] <= counts[2] == counts[3]
    if kind != "eager":
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), net(x))


def decaying(decay: float, name: str | None = None) -> lnm.Neuron:
    """Return a neuron without parameters: layers of two of them have the same structure."""
    return lnm.Neuron({V: decay * V + X}, V - 1, lnm.soft_reset(V, 1), name=name)


@pytest.mark.parametrize("backend", ["c", slow("torch")])
def test_two_neurons_in_one_graph(backend: Any) -> None:
    """Each layer has its own neuron, also where a second model has them in the other order.

    The graph of another layer of the same structure once ran. Strides are those of eager mode.
    """
    x = (2 * sequence(6, 3, 3) + 1).transpose(1, 2)
    one, other = (NeuronLayer(decaying(d), backend=backend) for d in (0.5, 0.9))
    middle = nn.Linear(3, 3, bias=False)
    nn.init.eye_(middle.weight)
    for net in (nn.Sequential(one, middle, other), nn.Sequential(other, middle, one)):
        compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
        found, expected = (gradients(run, [x], net.parameters()) for run in (compiled, net))
        assert_equal(found, expected)
        assert found[0].stride() == expected[0].stride()


PAIRS: dict[str, tuple[tuple[lnm.Neuron, dict[str, Any]], ...]] = {
    "charge": ((decaying(0.5), {}), (decaying(0.9), {})),
    "name": ((decaying(0.5, "one"), {}), (decaying(0.5, "other"), {})),
    "surrogate": tuple(
        (lnm.get("lif", surrogate=s), {})
        for s in (lnm.surrogate.atan(), lnm.surrogate.straight_through())
    ),
    "detach_reset": ((LIF, {}), (LIF, {"detach_reset": True})),
}
"""Neurons and options of two layers whose classes, tensors and shapes are the same."""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["c", "torch"])
@pytest.mark.parametrize("kind", [NeuronLayer, NormNeuron])
@pytest.mark.parametrize("case", PAIRS)
def test_another_neuron_has_its_own_graph(case: str, kind: Any, backend: Any) -> None:
    """A second layer of the same structure once ran the graph of the first."""
    x, results = 3 * sequence(6, 8, 3), []
    for neuron, options in PAIRS[case]:
        layer = kind(neuron, channels=3, backend=backend, **options)
        same = copy.deepcopy(layer)
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        found = gradients(compiled, [x], layer.parameters())
        expected = gradients(same, [x], same.parameters())
        assert_close(found, expected, 1e-6)
        assert torch.equal(torch.export.export(same.eval(), (x,)).module()(x), same(x))
        results.append(torch.cat([value.flatten() for value in expected]))
    assert torch.allclose(*results) == (case == "name")


def test_equal_neurons_share_a_graph() -> None:
    """Layers of equal neurons compile once: built twice, copied, pickled, with other constants."""
    counter = CompileCounterWithBackend("eager")
    layer, x = NeuronLayer(LIF, backend="c"), sequence(6, 2, 3)
    layers = [layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    layers += [NeuronLayer(lnm.get("lif", tau=tau), backend="c") for tau in (2.0, 3.0)]
    with watching([(layers[-1], lambda *_: None)]):
        layers[-1](x)
    for one in layers:
        compiled = torch.compile(one, backend=counter, fullgraph=True)
        assert torch.equal(compiled(x), one(x))
    assert counter.frame_count == 1


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["c", "torch"])
def test_one_function_of_many_layers(backend: Any) -> None:
    """The function is compiled for each neuron, and runs eagerly beyond PyTorch's limit of 8."""
    x = sequence(6, 2, 3)

    @torch.compile(backend="aot_eager")
    def run(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(layer.named_parameters()), (x,))

    with torch._dynamo.config.patch(recompile_limit=2):
        for decay in (0.5, 0.9, 0.2, 0.7):
            layer = NeuronLayer(decaying(decay), backend=backend)
            assert torch.equal(run(layer, x), layer(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_with_inductor() -> None:
    """The default backend of `torch.compile`."""
    net, x = network("lnm-3"), sequence(*SHAPE)
    compiled = torch.compile(net, fullgraph=True)
    found, expected = (gradients(run, [x], net.parameters()) for run in (compiled, net))
    assert_close(found, expected, 1e-5)


def test_export() -> None:
    """The operator stands in the exported graph as one node."""
    net, x = network("lif-learned"), sequence(*SHAPE)
    exported = torch.export.export(net, (x,))
    names = [str(n.target) for n in exported.graph.nodes if n.op == "call_function"]
    assert sum(n.startswith("lnm.lif_c_") for n in names) == 1
    assert torch.equal(exported.module()(x), net(x))


# ---- operators ----


def operands(case: str, batch: bool) -> tuple[Any, list[torch.Tensor]]:
    """Return an operator, and tensors for it that require gradients."""
    neuron, layer = CASES[case](), NeuronLayer(CASES[case](), shape=SHAPE[2:], backend="c")
    tensors = [sequence(*SHAPE, seed=k) for k in range(len(neuron.inputs) + batch)]
    tensors += [sequence(*SHAPE[1:], seed=k) for k in range(len(neuron.states))]
    tensors = [t.requires_grad_() for t in tensors] + [
        getattr(layer, p.name) for p in neuron.params
    ]
    operator = operator_of(neuron, "c")
    if batch:
        operator = batch_operator_of(lnm.normalised(neuron, True), "c")
        tensors += [torch.full((3,), k, requires_grad=True) for k in (1.0, 0.0)]
    return getattr(torch.ops.lnm, operator.name).default, tensors


@pytest.mark.parametrize(
    ("case", "batch", "keeps"),
    [
        ("dendrite", False, True),
        ("gate", False, False),
        ("lif", True, True),
        slow("lif", True, False),
        *(slow(c, False, k) for c in ("lnm-3", "lif-learned", "gate", "dendrite") for k in (0, 1)),
    ],
)
def test_operators(case: str, batch: bool, keeps: bool) -> None:
    """Schema, autograd registration, shapes of fake tensors; a double backward was 0 once."""
    operator, tensors = operands(case, batch)
    options = ((1e-5, None) if batch else ()) + (bool(keeps), True)
    checked = torch.library.opcheck(operator, (*tensors, *options))
    assert set(checked.values()) == {"SUCCESS"}
    loss = operator(*tensors, *options)[0].square().sum()
    (grad,) = torch.autograd.grad(loss, tensors[0], create_graph=True)
    where, remedy = "NormNeuron" if batch else "NeuronLayer", "Use backend='torch'"
    with refused(lnm.UnsupportedError, where, "double backward", "", remedy):
        torch.autograd.grad(grad.sum(), tensors[0])


def test_a_parameter_in_channels_last() -> None:
    """Its gradient has the strides that the graph expects, and is dense.

    `layer.to(memory_format=torch.channels_last)` gives a vector per neuron this layout.
    """
    neuron, shape = CASES["dendrite"](), (6, 2, 3, 4, 5)
    layer = NeuronLayer(neuron, shape=shape[2:], backend="c").to(memory_format=torch.channels_last)
    params = [getattr(layer, p.name).detach() for p in neuron.params]
    assert not params[-1].is_contiguous()
    name = operator_of(neuron, "c").name
    taken = (*(sequence(*shape, seed=k) for k in (0, 1)), *[torch.zeros(1)] * 3, *params)
    *_, saved, _ = getattr(torch.ops.lnm, name)(*taken, False, True)
    adjoint = getattr(torch.ops.lnm, f"{name}_backward").default
    grads = [*(sequence(*shape, seed=k) for k in range(3)), *[None] * 3]
    needed = [k not in (2, 3, 4) for k in range(len(taken))]
    arguments = (*taken, saved, *grads, needed)
    torch.library.opcheck(adjoint, arguments, test_utils=("test_schema", "test_faketensor"))
