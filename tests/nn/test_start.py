"""Initial states that are parameters: a layer learns them, in every mode and granularity."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lnm_codegen as lnm
from lnm_codegen.backends import BACKENDS
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.parameters import broadcastable, values_of
from tests.refusals import refused
from tests.strategies import PERS

SHAPE = (5, 2, 3, 4)
Q4_12 = lnm.Fixed(16, 12)
ALL = [pytest.param("c", marks=pytest.mark.needs_cc), "torch"]
SLOW_IN_C = [pytest.param("c", marks=[pytest.mark.needs_cc, pytest.mark.slow]), "torch"]


def adaptive(per: str = "layer", init: Any = 0.25, learnable: bool = True) -> lnm.Neuron:
    """Two states with learned initial values; the potential returns to its own after a spike."""
    rest = lnm.param("rest", init=init, per=per, learnable=learnable)
    start, tau = lnm.param("w_start", init=-0.125), lnm.param("tau", init=2.0)
    v, w, x = lnm.state("v", init=rest), lnm.state("w", init=start), lnm.input("x")
    return lnm.Neuron(
        charge={v: v + (x - v) / tau - w / 4, w: w * 0.75 + v / 8},
        fire=v - 1,
        reset=lnm.hard_reset(v, rest),
        name="adaptive",
    )


def simple(per: str = "layer", init: Any = 0.25) -> lnm.Neuron:
    """One polynomial state, for circuits."""
    v, x = lnm.state("v", init=lnm.param("v_init", init=init, per=per)), lnm.input("x")
    return lnm.Neuron(charge={v: v / 2 + x}, fire=v - 1, reset=lnm.soft_reset(v, 1), name="simple")


def layer_of(neuron: lnm.Neuron, backend: str, **options: Any) -> NeuronLayer:
    """Return a float64 layer whose parameters differ from value to value."""
    options = {"dtype": torch.float64} | options
    layer = NeuronLayer(neuron, shape=SHAPE[2:], backend=backend, **options)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in values_of(layer).values():
            value += 0.2 * torch.rand(value.shape, generator=rng, dtype=value.dtype)
    return layer


def arrays(count: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.uniform(-1, 2, SHAPE) for _ in range(count)]


def gradients(layer: NeuronLayer, x: np.ndarray, g: np.ndarray, **options: Any) -> Any:
    """Return the output, and the gradients of x and of the parameters."""
    given = torch.tensor(x, requires_grad=True)
    out = layer(given, **options)
    out = out[0] if isinstance(out, tuple) else out
    learned = dict(layer.named_parameters())
    found = torch.autograd.grad(
        (out * torch.tensor(g)).sum(), [given, *learned.values()], allow_unused=True
    )
    return out.detach(), dict(zip(("x", *learned), found, strict=True))


def numbers(layer: NeuronLayer) -> dict[str, np.ndarray]:
    return {n: value.detach().numpy() for n, value in values_of(layer).items()}


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize(
    "per", [pytest.param(p, marks=() if p == "channel" else pytest.mark.slow) for p in PERS]
)
def test_gradients_are_those_of_the_interpreter(per: str, backend: str) -> None:
    """Of each parameter, also where the step reads it too; the output is bit-exact."""
    x, g = arrays()
    for neuron in (adaptive(per), simple(per))[: 1 if backend == "c" else 2]:
        layer = layer_of(neuron, backend)
        expected = lnm.interpret(neuron, x, grad_out=g, **numbers(layer))
        out, found = gradients(layer, x, g)
        np.testing.assert_array_equal(out.numpy(), expected.out)
        assert set(found) == set(expected.grads) - {s.name for s in neuron.states}
        for name, grad in found.items():
            np.testing.assert_allclose(
                grad.numpy(), expected.grads[name], rtol=1e-10, atol=1e-12, err_msg=name
            )


@pytest.mark.parametrize("backend", SLOW_IN_C)
def test_a_given_state_takes_its_place(backend: str) -> None:
    """The parameter then has no gradient; a state that is not given still begins with its own."""
    layer, (x, g) = layer_of(adaptive(), backend), arrays()
    v = torch.zeros(SHAPE[1:], dtype=torch.float64)
    _, found = gradients(layer, x, g, state={"w": 0.0})
    assert found["w_start"] is None
    assert found["rest"] is not None
    simple_layer = layer_of(simple(), backend)
    assert gradients(simple_layer, x, g, state={"v": v})[1]["v_init"] is None


@pytest.mark.parametrize("backend", ALL)
def test_step_by_step(backend: str) -> None:
    """Single steps after a reset begin with the parameters, and carry their gradients."""
    x, g = arrays()
    whole = layer_of(adaptive("channel"), backend)
    steps = layer_of(adaptive("channel"), backend, step_mode="s")
    out, expected = gradients(whole, x, g)
    for _ in range(2):
        outs = torch.stack([steps(torch.tensor(row)) for row in x])
        assert torch.equal(outs.detach(), out)
        learned = dict(steps.named_parameters())
        found = torch.autograd.grad((outs * torch.tensor(g)).sum(), list(learned.values()))
        for name, grad in zip(learned, found, strict=True):
            torch.testing.assert_close(grad, expected[name], rtol=1e-10, atol=1e-12)
        steps.reset()


@pytest.mark.parametrize("backend", SLOW_IN_C)
def test_a_step_of_the_optimiser_is_seen(backend: str) -> None:
    """Nothing caches the initial state; a copy, a pickle and a state_dict have the new one."""
    layer, (x, _) = layer_of(simple("channel"), backend), arrays()
    first = layer(torch.tensor(x))
    with torch.no_grad():
        layer.v_init += 1.5
    moved = layer(torch.tensor(x))
    assert not torch.equal(first, moved)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    lazy = NeuronLayer(simple("channel"), backend=backend, dtype=torch.float64)
    lazy.load_state_dict(torch.load(file))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), lazy):
        assert torch.equal(twin(torch.tensor(x)), moved)
    assert list(layer.state_dict()) == ["v_init"]
    layer.reset_parameters()
    assert layer.v_init.tolist() == [0.25] * 3


@pytest.mark.parametrize("backend", SLOW_IN_C)
def test_constants_and_draws(backend: str) -> None:
    """A buffer begins a state too; a function draws the parameter once, for the layer."""
    (x, g) = arrays()
    fixed = layer_of(adaptive(learnable=False), backend)
    assert list(dict(fixed.named_parameters())) == ["w_start", "tau"]
    assert set(gradients(fixed, x, g)[1]) == {"x", "w_start", "tau"}
    drawn = NeuronLayer(
        simple("channel", lambda generator, shape: torch.rand(shape, generator=generator)),
        backend=backend,
    )
    once, again = drawn(torch.tensor(x)), drawn(torch.tensor(x))
    assert drawn.v_init.unique().numel() == 3
    assert torch.equal(once, again)
    with refused(lnm.ModelError, "simple", "parameter 'v_init' is initialised by a function"):
        lnm.interpret(drawn.neuron, x)


@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("backend", SLOW_IN_C)
def test_other_types_and_memory_layouts(backend: str, dtype: torch.dtype) -> None:
    """The gradient has the type of the parameter; channels last, without a gradient of x."""
    layer, (x, _) = layer_of(adaptive("neuron"), backend, dtype=torch.float32), arrays()
    given = torch.tensor(x, dtype=dtype)
    out = layer(given)
    strided = layer(given.transpose(2, 3).contiguous().transpose(2, 3))
    assert torch.equal(out, strided)
    (grad,) = torch.autograd.grad(out.float().sum(), [layer.rest])
    assert (grad.dtype, grad.shape) == (torch.float32, SHAPE[2:])
    with torch.no_grad():
        assert torch.equal(layer(given), out)


@pytest.mark.needs_cc
def test_compiled_and_in_torch_func() -> None:
    """One graph without a break; gradients for each sample, in PyTorch's operators."""
    layer, (x, g) = layer_of(adaptive("channel"), "c"), arrays()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    out, expected = gradients(layer, x, g)
    again, found = gradients(compiled, x, g)
    assert torch.equal(again, out)
    for name, grad in expected.items():
        torch.testing.assert_close(found[name if name == "x" else f"_orig_mod.{name}"], grad)
    eager = layer_of(adaptive("channel"), "torch")
    params = {n: p.detach() for n, p in eager.named_parameters()}

    def loss(params: dict[str, Tensor], x: Tensor, g: Tensor) -> Tensor:
        return (torch.func.functional_call(eager, params, (x[:, None],)) * g[:, None]).sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 1, 1))
    samples = each(params, torch.tensor(x), torch.tensor(g))
    for name, grad in samples.items():
        torch.testing.assert_close(grad.sum(0), expected[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", SLOW_IN_C)
@pytest.mark.parametrize("per", PERS)
def test_integers_begin_with_it(per: str, backend: str) -> None:
    """Rounded to the state's format; the gradient passes straight through."""
    neuron, (x, g) = simple(per), arrays()
    layer = layer_of(neuron, backend, arithmetic=Q4_12)
    out, found = gradients(layer, x, g)
    values = numbers(layer)
    expected = lnm.interpret_fixed(neuron, x, spec=Q4_12, **values)
    np.testing.assert_array_equal(out.numpy(), expected.out)
    begin = torch.tensor(expected.trajectory["v"][0] / 4096)
    start = broadcastable(neuron.params[0], layer.v_init.detach(), 2).expand(SHAPE[1:])
    assert (begin - start).abs().max() <= 2**-13
    assert found["v_init"].shape == layer.v_init.shape
    assert found["v_init"].abs().max() > 0


@pytest.mark.parametrize("target", BACKENDS)
def test_generated_code_takes_initial_states(target: str) -> None:
    """Only its heading names `v_init`: the code is that of a number in its place."""
    v, x = lnm.state("v", init=0.25), lnm.input("x")
    plain = lnm.Neuron(charge={v: v / 2 + x}, fire=v - 1, reset=lnm.soft_reset(v, 1), name="simple")
    said = (
        "State v begins with the parameter v_init, one value: v_init has its value for each neuron."
        " The gradient of v_init is grad_v_init, summed over the neurons of a value. "
    )
    learned, given = (
        {name: " ".join(text.replace("\n * ", "\n").split()) for name, text in emitted.items()}
        for emitted in (lnm.emit(neuron, target).files for neuron in (simple(), plain))
    )
    has_heading = target in ("c", "cuda", "triton")
    assert any(said in text for text in learned.values()) == has_heading
    assert {name: text.replace(said, "") for name, text in learned.items()} == given


def test_a_circuit_begins_with_the_learned_value() -> None:
    """Of a parameter per channel too, if its values round to one; several are refused."""
    v, x = lnm.state("v", init=0.5), lnm.input("x")
    plain = lnm.Neuron(charge={v: v / 2 + x}, fire=v - 1, reset=lnm.soft_reset(v, 1), name="simple")
    expected = lnm.emit(plain, "verilog", spec=Q4_12, rtl=lnm.Rtl(forms=("comb",))).files

    def files(neuron: lnm.Neuron, value: Any) -> Any:
        rtl = lnm.Rtl(forms=("comb",))
        return lnm.emit(neuron, "verilog", spec=Q4_12, rtl=rtl, values={"v_init": value}).files

    assert files(simple("channel"), [0.5, 0.50001]) == expected
    problem = "the initial value of state 'v' has 2 values, and a circuit begins with one"
    with refused(lnm.UnsupportedError, "simple", problem, remedy="per='layer'"):
        files(simple("channel"), [0.5, 0.25])
    with refused(lnm.UnsupportedError, "simple", "v_init per neuron has no circuit"):
        files(simple("neuron"), [0.5])
    with refused(lnm.ModelError, "simple", "the initial value of state 'v' is 9"):
        files(simple(), 9.0)


@pytest.mark.parametrize("backend", ["c", "cuda", "triton"])
def test_a_start_that_a_step_reads_needs_a_name_of_its_own(backend: str) -> None:
    """Kernels call the initial state of v `v_init`; the layer and `interpret` have both values."""
    start = lnm.param("v_init", init=0.25)
    v, x = lnm.state("v", init=start), lnm.input("x")
    neuron = lnm.Neuron({v: v / 2 + x}, v - 1, lnm.hard_reset(v, start), name="mine")
    with refused(lnm.UnsupportedError, None, "v_init", remedy="Rename"):
        lnm.emit(neuron, backend)
