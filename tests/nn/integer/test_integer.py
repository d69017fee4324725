"""`NeuronLayer(arithmetic=...)`: integers of `interpret_fixed`, straight-through gradients."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.load import c as loading
from tests.cases import CASES, Arguments, arguments, layer_of
from tests.layers import as_tuple, both, needs_cc, slow, slow_in_c
from tests.refusals import assert_refused, refused

Q4_12 = lnm.Fixed(16, 12)
SHAPE = (7, 3, 4, 5)
FIXED = tuple(name for name in CASES if name != "dendrite")
MIXED = lnm.FixedSpec(Q4_12, {"v": lnm.Fixed(18, 13), "x": lnm.Fixed(10, 6)})
FLOAT, DOUBLE = torch.float32, torch.float64


def layer_for(neuron: lnm.Neuron, a: Arguments, spec: Any, backend: str, dtype=DOUBLE):
    """Return a layer in integers that holds the parameters of `a`."""
    plain, shape = layer_of(neuron, a, "torch", dtype), a.x_seq[0].shape[2:]
    layer = NeuronLayer(neuron, shape=shape, arithmetic=spec, backend=backend, dtype=dtype)
    layer.load_state_dict(plain.state_dict())
    return layer


def assert_numbers(found: torch.Tensor, expected: Any) -> None:
    assert (found.detach().double().numpy() == expected).all()


# ---- forward ----


@pytest.mark.parametrize(
    ("case", "spec", "dtype"),
    [
        ("lnm-4", Q4_12, FLOAT),
        slow("lnm-matrix", Q4_12, FLOAT),
        *(slow(case, lnm.Fixed(20, 14, "convergent"), DOUBLE) for case in FIXED),
        *(slow(case, MIXED, DOUBLE) for case in FIXED),
    ],
)
@both
def test_the_integers_of_the_interpreter(case, spec, dtype, backend):
    """Outputs and final states, bit for bit, for parameters of every granularity."""
    neuron, rng = CASES[case](), np.random.default_rng(5)
    if spec is MIXED and not {"v", "x"} <= {s.name for s in (*neuron.inputs, *neuron.states)}:
        pytest.skip("no v or x")
    a = arguments(neuron, rng, SHAPE)
    for x in a.x_seq:  # some lie outside every format
        x.reshape(-1)[rng.integers(0, x.size, 20)] = rng.choice([99.0, -99.0, np.inf, np.nan], 20)
    expected = lnm.interpret_fixed(neuron, *a.x_seq, spec=spec, state=a.state, **a.params)
    layer = layer_for(neuron, a, spec, backend, dtype)
    state = {n: torch.as_tensor(v, dtype=dtype) for n, v in a.state.items()}
    xs = [torch.as_tensor(x, dtype=dtype) for x in a.x_seq]
    out, final = layer(*xs, state=state, return_state=True)
    for name, found in (dict(zip(expected.outputs, as_tuple(out), strict=True)) | final).items():
        assert found.dtype is dtype
        assert_numbers(found, expected.value(name))


def test_a_state_that_float32_does_not_hold() -> None:
    """The state of 31 bits lost its last 6 as it left the call; step by step, spikes differed."""
    neuron, spec = lnm.get("lif", tau=4.0), lnm.Fixed(31, 27)
    x = np.random.default_rng(0).uniform(0, 2.2, (20, 1, 8)).astype(np.float32)
    expected = lnm.interpret_fixed(neuron, x, spec=spec)
    layer = NeuronLayer(neuron, arithmetic=spec, backend="torch", step_mode="s")
    remedy = "Use an input and a layer of float64, or a narrower format."
    problem = "v_next has 31 bits, which float32 does not hold"
    with refused(lnm.ModelError, "lif", problem, "at most 25 bits", remedy):
        layer(torch.as_tensor(x[0]))
    layer = layer.double()
    out = [layer(step) for step in torch.as_tensor(x).double()]
    assert_numbers(torch.stack(out), expected.out)
    assert_numbers(layer.state["v"], expected.value("v"))
    whole = NeuronLayer(neuron, arithmetic=spec, backend="torch")
    assert_numbers(whole(torch.as_tensor(x)), expected.out)  # no state leaves
    narrow = NeuronLayer(neuron, arithmetic=lnm.Fixed(25, 21), backend="torch")
    _, final = narrow(torch.as_tensor(x), return_state=True)
    expected = lnm.interpret_fixed(neuron, x, spec=lnm.Fixed(25, 21))
    assert_numbers(final["v"], expected.value("v"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_outputs_that_a_type_of_16_bits_does_not_hold(dtype: torch.dtype) -> None:
    """Potentials of `li` were rounded to bfloat16. Spikes of any kind are exact."""
    x = torch.as_tensor(np.random.default_rng(1).normal(size=(6, 1, 4))).to(dtype)
    neuron, name = lnm.get("li", tau=2.0), str(dtype).removeprefix("torch.")
    problem, remedy = f"out has a number that {name} does not hold", "Use an input of float32"
    with refused(lnm.ModelError, "li", problem, f"{name} for spikes", remedy):
        NeuronLayer(neuron, arithmetic=Q4_12, backend="torch")(x)
    with torch.autocast("cpu", dtype=dtype), refused(lnm.ModelError, "li", problem):
        current = nn.functional.linear(4 * x.float(), torch.eye(4))
        assert current.dtype is dtype
        NeuronLayer(neuron, arithmetic=Q4_12, backend="torch")(current)
    for other, spec in (
        (neuron, lnm.FixedSpec(Q4_12, {"out": lnm.Fixed(8, 4)})),
        (lnm.get("lif", tau=2.0, v_threshold=0.3), Q4_12),
        (lnm.get("ternary"), Q4_12),
        (lnm.get("i_lif"), Q4_12),
    ):
        out = NeuronLayer(other, arithmetic=spec, backend="torch")(x)
        assert out.dtype is dtype
        assert_numbers(out, lnm.interpret_fixed(other, x.float().numpy(), spec=spec).out)


@slow_in_c
def test_step_mode_and_record(backend):
    """Step by step is the sequence; the charged potential is that of the integers."""
    neuron = lnm.get("lnm", degree=3, v_reset=None)
    spec = lnm.FixedSpec(Q4_12, {"h": lnm.Fixed(14, 9)})
    layer = NeuronLayer(neuron, arithmetic=spec, backend=backend, record=("v",))
    x = torch.randn(6, 2, 3)
    with torch.no_grad():
        out, recorded = layer(x)
        layer.step_mode = "s"
        steps = [layer(row) for row in x]
    assert torch.equal(torch.stack([o for o, _ in steps]), out)
    assert torch.equal(torch.stack([r["v"] for _, r in steps]), recorded["v"])
    for unit, whole in ((512, True), (256, False)):
        assert (recorded["v"] * unit == (recorded["v"] * unit).round()).all() == whole
    assert_numbers(out, lnm.interpret_fixed(neuron, x.numpy(), spec=spec).out)


@needs_cc
def test_layouts_and_types():
    """Channels last with parameters per neuron; time stride 0; 16-bit sequences."""
    neuron = CASES["lnm-4"]()
    a = arguments(neuron, np.random.default_rng(9), (5, 2, 3, 4, 5))
    layer, x = layer_for(neuron, a, Q4_12, "c", FLOAT), torch.tensor(a.x_seq[0], dtype=FLOAT)
    last = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (5, 2))
    assert not last.is_contiguous()
    for given in (last, x[:1].expand(5, -1, -1, -1, -1), x.bfloat16()):
        out = layer(given)
        assert out.dtype is given.dtype
        numbers = given.float().numpy()
        assert_numbers(out, lnm.interpret_fixed(neuron, numbers, spec=Q4_12, **a.params).out)


# ---- gradients ----


def gradients(layer: nn.Module, a: Arguments, dtype: Any = DOUBLE) -> dict[str, np.ndarray]:
    xs = [torch.tensor(x, dtype=dtype, requires_grad=True) for x in a.x_seq]
    state = {n: torch.tensor(v, dtype=dtype, requires_grad=True) for n, v in a.state.items()}
    out, final = layer(*xs, state=state, return_state=True)
    ends = [*as_tuple(out), *(final[n] for n in state)]
    seeds = [torch.tensor(g, dtype=dtype) for g in (*a.grad_out, *a.grad_state.values())]
    pairs = [(e, g) for e, g in zip(ends, seeds, strict=True) if e.requires_grad]
    torch.autograd.backward([e for e, _ in pairs], [g for _, g in pairs])
    leaves = {f"x{k}": x for k, x in enumerate(xs)} | state | dict(layer.named_parameters())
    return {n: v.grad.numpy() for n, v in leaves.items() if v.grad is not None}


def assert_gradients(found: Any, expected: Any, close: float) -> None:
    assert set(found) == set(expected)
    for name, grad in expected.items():
        np.testing.assert_allclose(found[name], grad, rtol=close, atol=close, err_msg=name)


@pytest.mark.slow
@needs_cc
@pytest.mark.parametrize("case", FIXED)
def test_both_backends_have_one_gradient(case):
    """The kernel with chunks of one step, and autograd through the torch module."""
    neuron = CASES[case]()
    a, spec = arguments(neuron, np.random.default_rng(6), SHAPE), lnm.Fixed(20, 15)
    found, expected = (gradients(layer_for(neuron, a, spec, b), a) for b in ("c", "torch"))
    assert_gradients(found, expected, 1e-9)


@pytest.mark.parametrize(
    ("case", "backend"),
    [("lnm-4", "torch"), pytest.param("lif", "c", marks=needs_cc), slow("lnm-4", "c")],
)
def test_the_gradient_is_that_of_each_step_at_its_state(case, backend):
    """One step after another from the states that the integers visited, by hand."""
    neuron = CASES[case]()
    a = arguments(neuron, np.random.default_rng(8), (6, 2, 3, 2))
    spec = lnm.Fixed(12, 8)  # coarse: the float layer goes another way
    dtype, close = (DOUBLE, 1e-9) if case == "lnm-4" else (FLOAT, 1e-5)
    found = gradients(layer_for(neuron, a, spec, backend, dtype), a, dtype)
    ran = lnm.interpret_fixed(neuron, a.x_seq[0], spec=spec, state=a.state, **a.params)
    seen = np.floor(a.x_seq[0] * 256 + 0.5) / 256
    learned = [p.name for p in neuron.params if p.learnable]
    expected = {"v": a.grad_state["v"]} | dict.fromkeys(learned, 0.0)
    for t in reversed(range(6)):
        step = lnm.interpret(
            neuron, seen[t : t + 1], state={"v": ran.trajectory["v"][t] / 256}, **a.params,
            grad_out=a.grad_out[0][t : t + 1], grad_state={"v": expected["v"]},
        )  # fmt: skip
        np.testing.assert_allclose(found["x0"][t], step.grads["x"][0], rtol=close, atol=close)
        expected["v"] = step.grads["v"]
        for name in learned:
            expected[name] = expected[name] + step.grads[name]
    del found["x0"]
    assert_gradients(found, expected, close)


@slow_in_c
def test_no_gradient_where_a_number_was_clipped(backend):
    """x and the initial state: within half a unit of the format's ends, or not; NaN is not."""
    neuron = lnm.get("li", decay_input=False)
    layer = NeuronLayer(neuron, arithmetic=lnm.Fixed(8, 4), backend=backend, dtype=DOUBLE)
    ends = [7.9375, 7.96875 - 1e-9, 7.96875, 9.0, -8.0, -8.03125, -8.0313, -np.inf, np.nan, 0.0]
    x = torch.tensor([ends], dtype=DOUBLE, requires_grad=True)
    v = torch.tensor([3.0] * 9 + [99.0], dtype=DOUBLE, requires_grad=True)
    layer(x, state={"v": v}).sum().backward()
    assert x.grad.tolist() == [[1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0]]
    assert v.grad.tolist() == [0.5] * 9 + [0.0]


@both
@pytest.mark.parametrize("shape", [(0, 2, 3), (3, 0, 3), (1, 1, 1)])
def test_small_calls(shape, backend):
    """No step, no sample, one of each; forward and backward. A number outside has no gradient."""
    layer = NeuronLayer(lnm.get("lif"), arithmetic=Q4_12, backend=backend)
    x = torch.ones(shape, requires_grad=True)
    state = {"v": torch.full(shape[1:], 0.5, requires_grad=True)}
    out, final = layer(x, state=state, return_state=True)
    (out.sum() + final["v"].sum()).backward()
    assert out.shape == x.grad.shape == shape
    if shape[0] == 0:
        assert (final["v"] == 0.5).all()
        assert (state["v"].grad == 1).all()
    far = torch.full(shape, 99.0, requires_grad=True)
    layer(far).sum().backward()
    assert not far.grad.any()


# ---- tools and refusals ----


@needs_cc
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("trains", [slow(False), True])
def test_under_compile(trains):
    """`torch.compile` breaks its graph at the layer and gives the same; fullgraph=True refuses."""
    torch._dynamo.reset()
    layer = NeuronLayer(lnm.get("lif"), arithmetic=Q4_12, backend="c")
    net = nn.Sequential(nn.Linear(3, 4), layer, nn.Linear(4, 2))
    x = torch.randn(5, 2, 3, requires_grad=trains)
    compiled = torch.compile(net, backend="eager")
    with torch.set_grad_enabled(trains):
        assert torch.equal(compiled(x), net(x))
    if trains:
        (got,) = torch.autograd.grad(compiled(x).square().sum(), x)
        (expected,) = torch.autograd.grad(net(x).square().sum(), x)
        torch.testing.assert_close(got, expected)
    torch._dynamo.reset()
    whole = torch.compile(net, backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported), torch.set_grad_enabled(trains):
        whole(x)


@needs_cc
def test_copies_and_files():
    """A layer in integers is pickled, copied, saved and printed as any other."""
    layer, x, file = NeuronLayer(lnm.get("lif"), arithmetic=Q4_12), torch.randn(4, 2, 3), None
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for other in (copy.deepcopy(layer), torch.load(file, weights_only=False)):
        assert torch.equal(other(x), layer(x))
    assert str(layer).endswith("step_mode='m', arithmetic=Q4.12)")
    assert layer.arithmetic == Q4_12
    arithmetic = layer._dispatch.arithmetic
    vars(arithmetic).pop("is_auto")  # as in a pickle of version 0.2.0
    assert not arithmetic.is_auto
    assert layer(x).shape == x.shape


def test_without_a_compiler(monkeypatch, tmp_path):
    """`auto` says that it runs another model, once, and computes the same."""
    monkeypatch.setenv("LNM_CACHE", str(tmp_path))
    spec = lnm.Fixed(15, 11)  # of no other test: its library would be loaded already
    layer = NeuronLayer(lnm.get("lif", tau=6.25), arithmetic=spec)
    loading.compiler.cache_clear()
    monkeypatch.setenv("CXX", "no-such-compiler")
    try:
        x = torch.randn(4, 2, 3)
        with pytest.warns(RuntimeWarning, match=r"^c: no C\+\+ compiler found"):
            out = layer(x)
        assert_numbers(out, lnm.interpret_fixed(layer.neuron, x.numpy(), spec=spec).out)
        with refused(lnm.ToolError, "c", "no C++ compiler found"):
            NeuronLayer(layer.neuron, arithmetic=spec, backend="c")(x)
    finally:
        loading.compiler.cache_clear()


def made(**options: Any) -> Any:
    return NeuronLayer(lnm.get("lnm", degree=2), **({"arithmetic": Q4_12} | options))


def too_large() -> Any:
    layer = made(backend="torch")
    layer.theta.data[1] = 9.25
    return layer(X)


X = torch.ones(2, 1, 3)
MODEL = """
NeuronLayer
    made(arithmetic=(16, 12)) >> arithmetic is (16, 12) >> lnm.Fixed(16, 12), an lnm.FixedSpec, or
      None for floating point
    made(backend='triton') >> backend is 'triton', which has no integer arithmetic >>
      'auto', 'c', 'torch'
    made(record=('stats',)) >> record has 'stats' >> names of states >> Leave it out
lnm
    too_large() >> 9.25
"""
UNSUPPORTED = """
lnm
    made().explain(X) >> this layer computes in integers >> >> Use a layer without arithmetic.
    torch.func.vmap(made(backend='torch'))(X[None]) >> the integer models have no torch.func
      transforms >> >> Leave arithmetic out.
"""
TOOL = """
lnm
    made()(X.to('meta')) >> integer arithmetic runs on the CPU; the input is on meta >>
      >> or leave arithmetic out.
"""


def test_refusals():
    """Place, problem, accepted values and remedy."""
    assert_refused(MODEL, globals())
    assert_refused(UNSUPPORTED, globals(), lnm.UnsupportedError)
    assert_refused(TOOL, globals(), lnm.ToolError)
    with refused(lnm.UnsupportedError, problem="65 bits"):
        made(arithmetic=lnm.Fixed(32, 12))


@pytest.mark.needs_cuda
def test_a_gpu_is_refused():
    """One line for a CUDA tensor."""
    with refused(lnm.ToolError, "lnm", "integer arithmetic runs on the CPU"):
        made().cuda()(X.cuda())
