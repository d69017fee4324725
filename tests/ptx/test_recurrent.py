"""Kernels of recurrent layers, executed from their PTX, beside a loop over steps in C.

Weights are multiples of 2^-16, whose sums are exact in float32, so outputs and states have its
bits. Where matrix products are less precise than "highest", the three terms of a weight are too.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

import lnm_codegen as lnm
from lnm_codegen.nn import Delay, RecurrentLayer
from lnm_codegen.nn.feedback import operator_of
from tests.layers import needs_cc
from tests.ptx.machine import Machine
from tests.ptx.matrix import TARGETS
from tests.ptx.triton_launch import compiled
from tests.recurrent import DENDRITE, IZHIKEVICH, LIF, TWO, compared, drawn, exact

pytestmark = [needs_cc, pytest.mark.timeout(900)]
slow = pytest.mark.slow
CLIPPED = lnm.get("lnm", degree=3, v_min=-2.0, v_max=3.0)
FORMS: dict[str, dict[str, Any]] = {
    "full": {}, "diagonal": {"recurrent": "diagonal"}, "blocks": {"blocks": 2},
    "masked": {"autapses": False}, "late": {"delay": 3}, "weighted": {"inputs": 3},
}  # fmt: skip


@pytest.fixture(params=["highest", "high"])
def precision(request: pytest.FixtureRequest) -> Any:
    """Set PyTorch's precision of matrix products."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision(before)


def layer_of(neuron: lnm.Neuron, size: int, inputs: int | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    return exact(RecurrentLayer(neuron, size, inputs, backend="triton", **options), 1 << 16)


QUICK = [(LIF, "full", 20, (18, 3)), (TWO, "late", 33, (4, 17)), (CLIPPED, "blocks", 36, (3, 2))]
ALL = [
    (neuron, form, size, shape)
    for neuron in (LIF, TWO, CLIPPED, IZHIKEVICH)
    for form in FORMS
    for size, shape in ((20, (18, 3)), (64, (33, 17)), (150, (3, 2)))
]


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("neuron", "form", "size", "shape"), [*QUICK, *(pytest.param(*c, marks=slow) for c in ALL)]
)
def test_it_is_a_loop_over_steps(
    neuron: lnm.Neuron, form: str, size: int, shape: tuple[int, int], target: str, ends: bool,
    precision: str,
) -> None:  # fmt: skip
    """Bits of outputs and states; gradients of inputs, states, weights, delays, parameters."""
    layer = layer_of(neuron, size, **FORMS[form])
    lengths = torch.arange(shape[1]) % shape[0] + 1 if ends else None
    with compiled(Machine(), target):
        compared(layer, *shape, lengths)


@pytest.mark.parametrize(
    ("feedback", "into"),
    [
        pytest.param(name, z.name, marks=() if k == 0 else slow)
        for k, (name, _) in enumerate(DENDRITE.output)
        for z in DENDRITE.inputs[1:]
    ],
)
def test_several_inputs_and_outputs(feedback: str, into: str) -> None:
    """U may read any output, and feed another input than the first."""
    layer = layer_of(DENDRITE, 5, 3, feedback=feedback, into=into)
    with compiled(Machine()):
        compared(layer, 9, 3, close=1e-5)  # graded sums are rounded


@pytest.mark.parametrize("form", ["full", pytest.param("diagonal", marks=slow)])
def test_learned_delays(form: str, precision: str) -> None:
    """Each neuron has a delay of its own, between two steps."""
    layer = layer_of(LIF, 20, delay=Delay(20, 3, least=1), **FORMS[form])
    with compiled(Machine()):
        compared(layer, 18, 3, torch.tensor([18, 1, 17]))


@slow
@pytest.mark.parametrize("form", ["full", "blocks", "diagonal"])
@pytest.mark.parametrize("neuron", [LIF, TWO, CLIPPED])
def test_any_order_of_warps(neuron: lnm.Neuron, form: str, precision: str) -> None:
    """The bits of lockstep, sums included, whatever the order of blocks and warps."""
    layer, found = layer_of(neuron, 34, delay=2, **FORMS[form]), []
    x, _, state = drawn(layer, 18, 17)
    x.requires_grad_()
    for machine in (Machine(), Machine("warps", seed=1), Machine("warps", seed=2)):
        with compiled(machine):
            out = layer(x, state=state)
            found.append((out, *torch.autograd.grad(out.square().sum(), [x, *layer.parameters()])))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float64, pytest.param(torch.bfloat16, marks=slow)])
def test_types(dtype: torch.dtype) -> None:
    """float64 as C; 16 bits as the loop over steps of Triton, whose arithmetic is float32."""
    if dtype is torch.float64:
        with compiled(Machine()):
            compared(layer_of(TWO, 20, dtype=dtype), 18, 3, dtype=dtype)
        return
    layer = layer_of(LIF, 20)
    x, _, state = drawn(layer, 18, 3, dtype)
    x.requires_grad_()
    found = []
    for most in (512, 0):  # the kernel, and the loop
        with pytest.MonkeyPatch.context() as patch, compiled(Machine()):
            patch.setattr("lnm_codegen.nn.feedback.WIDEST", most)
            out = layer(x, state=state)
            found.append((out, *torch.autograd.grad(out.sum(), [x, layer.recurrent])))
    (out, *grads), (wanted, *expected) = found
    assert torch.equal(out, wanted)
    assert out.dtype is dtype
    for a, b in zip(grads, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.01)


@pytest.mark.parametrize("limit", [0.01, pytest.param(10.0, marks=slow)])
def test_a_limit_of_carried_gradients(limit: float) -> None:
    """As in C."""
    layer, found = layer_of(CLIPPED, 20), []
    x, _, state = drawn(layer, 18, 3)
    for backend in ("c", "triton"):
        other = RecurrentLayer(CLIPPED, 20, carry_limit=limit, backend=backend)
        other.load_state_dict(layer.state_dict())
        leaf = x.clone().requires_grad_()
        with compiled(Machine()):
            out = other(leaf, state=state)
            weights = torch.linspace(-1, 1, out.numel()).view(out.shape)
            found.append(torch.autograd.grad((out * weights).sum(), [leaf, other.recurrent]))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_what_a_call_runs() -> None:
    """A kernel, up to a number of neurons that U connects; it counts the spikes."""
    with compiled(Machine()):
        layer = layer_of(LIF, 6, 3, record=("stats",), return_recorded=False)
        out = layer(torch.rand(4, 2, 3), lengths=torch.tensor([4, 1]))
        assert layer.recorded["stats"]["spike"] == out.sum()
        assert "one kernel in each direction" in str(layer.explain(torch.rand(4, 2, 3)))
        wide = RecurrentLayer(LIF, 513, backend="triton").explain(torch.rand(4, 2, 513))
        assert wide.feedback.endswith("U connects 513 neurons, and the kernel at most 512")
        blocks = RecurrentLayer(LIF, 1024, blocks=2, backend="triton")
        assert "one kernel" in blocks.explain(torch.rand(4, 2, 1024)).feedback


@pytest.mark.parametrize("form", ["full", pytest.param("diagonal", marks=slow)])
@pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
def test_nothing(shape: tuple[int, int], form: str) -> None:
    """Without steps, states stay; without samples, gradients of parameters are 0."""
    layer = layer_of(TWO, 5, **FORMS[form])
    state = {name: torch.rand(shape[1], 5) for name in ("v", "w")}
    with compiled(Machine()):
        out, final = layer(torch.rand(*shape, 5), state=state, return_state=True)
        grads = torch.autograd.grad(out.sum() + final["v"].sum(), list(layer.parameters()))
    assert out.shape == (*shape, 5)
    assert torch.equal(final["v"], state["v"])
    assert not any(g.any() for g in grads)


@pytest.mark.parametrize("form", ["full", "diagonal"])
def test_types_under_compile(form: str) -> None:
    """A traced backward in 16 bits knows the types of its results, which differ."""
    layer = layer_of(LIF, 5, **FORMS[form])
    x = torch.rand(3, 2, 5).bfloat16()
    name = operator_of(LIF, "triton", layer.fed, layer.into, x.dtype)
    tensors = [x, layer.recurrent.detach(), torch.rand(2, 5), *(torch.ones(1) for _ in LIF.params)]
    call = [None, None, None, 1, None]
    with compiled(Machine()):
        spikes, final, kept, saved, _ = getattr(torch.ops.lnm, name)(*tensors, *call, True)
        given = [kept, *tensors[1:], *call, spikes, saved, torch.ones_like(spikes), final]
        needed = [False, False, *[True] * 3, *[False] * len(LIF.params)]
        operator = getattr(torch.ops.lnm, f"{name}_backward").default
        torch.library.opcheck(operator, (*given, needed), test_utils="test_faketensor")


def test_the_other_setting_of_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch refuses to name the precision once its newer interface has set one."""

    def refuse() -> str:
        raise RuntimeError("checking the matmul precision without a specific backend name")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", refuse)
    with compiled(Machine()):
        compared(layer_of(LIF, 5), 4, 3)


@slow
def test_compiled() -> None:
    """Under `torch.compile` the kernels are an operator, with the same results."""
    layer = layer_of(LIF, 20, 3)
    x = drawn(layer, 5, 3)[0].requires_grad_()
    with compiled(Machine()):
        found = []
        for run in (layer, torch.compile(layer, backend="aot_eager", fullgraph=True)):
            out = run(x)
            found.append((out, *torch.autograd.grad(out.sum(), [x, *layer.parameters()])))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("other", ["v_before", pytest.param("v_later", marks=slow)])
@pytest.mark.parametrize("given", ["samples", pytest.param("spike_parts", marks=slow)])
def test_names(other: str, given: str) -> None:
    """States and parameters may have names that the kernels use, or end in one."""
    v, w, x = lnm.state("v"), lnm.state(other), lnm.input("x")
    leak = lnm.param(given, init=0.5)
    neuron = lnm.Neuron(
        charge={v: leak * v + x - w / 4, w: w / 2 + v / 4}, fire=v - 1,
        surrogate=lnm.surrogate.atan(), name="named",
    )  # fmt: skip
    with compiled(Machine()):
        compared(layer_of(neuron, 5), 6, 3, torch.tensor([6, 1, 4]))
