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
from lnm_codegen.ir.nodes import Role
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.load import c as loading
from tests.cases import CASES, Arguments, arguments, layer_of
from tests.refusals import refused

Q4_12 = lnm.Fixed(16, 12)
SHAPE = (7, 3, 4, 5)
FIXED = tuple(name for name in CASES if name != "dendrite")
BACKENDS = [pytest.param("c", marks=pytest.mark.needs_cc), "torch"]
SLOW_IN_C = [pytest.param("c", marks=[pytest.mark.needs_cc, pytest.mark.slow]), "torch"]
MIXED = lnm.FixedSpec(Q4_12, {"v": lnm.Fixed(18, 13), "x": lnm.Fixed(10, 6)})


def clamped(v_reset: float | None = 0.0) -> lnm.Neuron:
    return lnm.get(
        "lnm", degree=2, v_min=-2.0, v_reset=v_reset, learn_threshold=True, per="channel"
    )


def layer_for(neuron: lnm.Neuron, a: Arguments, spec: Any, backend: str, dtype=torch.float64):
    """Return a layer in integers that holds the parameters of `a`."""
    plain = layer_of(neuron, a, "torch", dtype)
    shape = a.x_seq[0].shape[2:]
    layer = NeuronLayer(neuron, shape=shape, arithmetic=spec, backend=backend, dtype=dtype)
    layer.load_state_dict(plain.state_dict())
    return layer


def agrees(case: str, spec: Any, backend: str, dtype: torch.dtype) -> None:
    neuron = CASES[case]()
    rng = np.random.default_rng(5)
    a = arguments(neuron, rng, SHAPE)
    for x in a.x_seq:  # some lie outside every format
        x.reshape(-1)[rng.integers(0, x.size, 20)] = rng.choice([99.0, -99.0, np.inf, np.nan], 20)
    expected = lnm.interpret_fixed(neuron, *a.x_seq, spec=spec, state=a.state, **a.params)
    layer = layer_for(neuron, a, spec, backend, dtype)
    state = {n: torch.as_tensor(v, dtype=dtype) for n, v in a.state.items()}
    out, final = layer(
        *(torch.as_tensor(x, dtype=dtype) for x in a.x_seq), state=state, return_state=True
    )
    outs = out if isinstance(out, tuple) else (out,)
    for name, got in zip(expected.outputs, outs, strict=True):
        assert got.dtype is dtype
        assert (got.detach().double().numpy() == expected.value(name)).all(), name
    for name, got in final.items():
        assert (got.detach().double().numpy() == expected.value(name)).all(), name


@pytest.mark.parametrize(
    ("case", "backend"),
    [
        pytest.param("lnm-4", "c", marks=pytest.mark.needs_cc),
        pytest.param("lnm-matrix", "c", marks=[pytest.mark.needs_cc, pytest.mark.slow]),
        ("lnm-4", "torch"),
        ("lnm-matrix", "torch"),
    ],
)
def test_the_integers_of_the_interpreter(case, backend):
    """Outputs and final states, bit for bit, for parameters of every granularity."""
    agrees(case, Q4_12, backend, torch.float32)


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
    out = [layer(step).numpy() for step in torch.as_tensor(x).double()]
    assert (np.stack(out) == expected.out).all()
    assert (layer.state["v"].numpy() == expected.value("v")).all()
    whole = NeuronLayer(neuron, arithmetic=spec, backend="torch")
    assert (whole(torch.as_tensor(x)).numpy() == expected.out).all()  # no state leaves
    narrow = NeuronLayer(neuron, arithmetic=lnm.Fixed(25, 21), backend="torch")
    _, final = narrow(torch.as_tensor(x), return_state=True)
    expected = lnm.interpret_fixed(neuron, x, spec=lnm.Fixed(25, 21))
    assert (final["v"].double().numpy() == expected.value("v")).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_outputs_that_a_type_of_16_bits_does_not_hold(dtype: torch.dtype) -> None:
    """Potentials of `li` were rounded to bfloat16. Spikes of any kind are exact."""
    x = torch.as_tensor(np.random.default_rng(1).normal(size=(6, 1, 4))).to(dtype)
    neuron, name = lnm.get("li", tau=2.0), str(dtype).removeprefix("torch.")
    problem, remedy = f"out has a number that {name} does not hold", "Use an input of float32"
    with refused(lnm.ModelError, "li", problem, f"{name} for spikes", remedy):
        NeuronLayer(neuron, arithmetic=Q4_12, backend="torch")(x)
    narrow = lnm.FixedSpec(Q4_12, {"out": lnm.Fixed(8, 4)})
    for neuron_, spec in (
        (neuron, narrow),
        (lnm.get("lif", tau=2.0, v_threshold=0.3), Q4_12),
        (lnm.get("ternary"), Q4_12),
        (lnm.get("i_lif"), Q4_12),
    ):
        out = NeuronLayer(neuron_, arithmetic=spec, backend="torch")(x)
        assert out.dtype is dtype
        expected = lnm.interpret_fixed(neuron_, x.float().numpy(), spec=spec).out
        np.testing.assert_array_equal(out.double().numpy(), expected)


def test_a_layer_in_integers_under_autocast() -> None:
    """Spikes follow the linear layer's bfloat16; potentials of a readout are refused."""
    x = torch.ones(3, 2, 4)
    spiking = NeuronLayer(lnm.get("lif", v_threshold=0.1), arithmetic=Q4_12, backend="torch")
    readout = NeuronLayer(lnm.get("li", tau=3.0), arithmetic=Q4_12, backend="torch")
    torch.manual_seed(0)
    linear = nn.Linear(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert spiking(linear(x)).dtype is torch.bfloat16
        with refused(lnm.ModelError, "li", "out has a number that bfloat16 does not hold"):
            readout(linear(x))
        assert readout(linear(x).float()).dtype is torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", FIXED)
def test_every_family(case, backend):
    """Every family, in one format and in formats that differ."""
    agrees(case, lnm.Fixed(20, 14, "convergent"), backend, torch.float64)
    names = {p.var.name for p in lnm.quantize(CASES[case](), Q4_12).kernel.inputs}
    if {"v", "x"} <= names:
        agrees(case, MIXED, backend, torch.float64)


def representable(neuron: lnm.Neuron, a: Arguments, bits: int) -> Arguments:
    """Return arguments whose numbers have few bits behind the point."""
    unit = 2.0**-bits

    def cut(x: Any) -> np.ndarray:
        return np.round(np.asarray(x) / unit) * unit

    return Arguments(
        tuple(cut(x) for x in a.x_seq),
        {n: cut(v) for n, v in a.state.items()},
        {n: cut(v) for n, v in a.params.items()},
        a.grad_out,
        a.grad_state,
    )


def gradients(layer: nn.Module, a: Arguments, dtype=torch.float64) -> dict[str, np.ndarray]:
    xs = [torch.tensor(x, dtype=dtype, requires_grad=True) for x in a.x_seq]
    state = {n: torch.tensor(v, dtype=dtype, requires_grad=True) for n, v in a.state.items()}
    out, final = layer(*xs, state=state, return_state=True)
    outs = out if isinstance(out, tuple) else (out,)
    ends = [*outs, *(final[n] for n in state)]
    seeds = [torch.tensor(g, dtype=dtype) for g in (*a.grad_out, *a.grad_state.values())]
    pairs = [(e, g) for e, g in zip(ends, seeds, strict=True) if e.requires_grad]
    torch.autograd.backward([e for e, _ in pairs], [g for _, g in pairs])
    leaves = {f"x{k}": x for k, x in enumerate(xs)} | state | dict(layer.named_parameters())
    return {n: v.grad.numpy() for n, v in leaves.items() if v.grad is not None}


@pytest.mark.slow
@pytest.mark.needs_cc
@pytest.mark.parametrize("case", FIXED)
def test_both_backends_have_one_gradient(case):
    """The kernel with chunks of one step, and autograd through the torch module."""
    neuron = CASES[case]()
    a = arguments(neuron, np.random.default_rng(6), SHAPE)
    spec = lnm.Fixed(20, 15)
    found = gradients(layer_for(neuron, a, spec, "c"), a)
    expected = gradients(layer_for(neuron, a, spec, "torch"), a)
    assert set(found) == set(expected)
    for name, grad in expected.items():
        np.testing.assert_allclose(found[name], grad, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("v_reset", [0.0, pytest.param(None, marks=pytest.mark.slow)])
def test_gradients_where_nothing_is_rounded(v_reset, backend):
    """Numbers of few bits, a step or two: the integers are exact, and so are the gradients."""
    neuron = clamped(v_reset)
    a = representable(neuron, arguments(neuron, np.random.default_rng(7), (2, 2, 3, 4)), 3)
    spec = lnm.Fixed(30, 20)
    plain = layer_of(neuron, a, "torch", torch.float64)
    layer = layer_for(neuron, a, spec, backend)
    x = torch.tensor(a.x_seq[0])
    state = {"v": torch.tensor(a.state["v"])}
    assert (layer(x, state=state) == plain(x, state=state)).all()
    assert layer(x, state=state).sum() > 0
    found, expected = gradients(layer, a), gradients(plain, a)
    assert set(found) == set(expected)
    for name, grad in expected.items():
        np.testing.assert_allclose(found[name], grad, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("backend", SLOW_IN_C)
def test_the_gradient_is_that_of_each_step_at_its_state(backend):
    """One step after another from the states that the integers visited, by hand."""
    neuron = clamped()
    a = arguments(neuron, np.random.default_rng(8), (6, 2, 3, 2))
    spec = lnm.Fixed(12, 8)  # coarse: the float layer goes another way
    layer = layer_for(neuron, a, spec, backend)
    found = gradients(layer, a)
    ran = lnm.interpret_fixed(neuron, a.x_seq[0], spec=spec, state=a.state, **a.params)
    seen = np.floor(a.x_seq[0] * 256 + 0.5) / 256
    grad_v = a.grad_state["v"]
    grad_theta = np.zeros((3, 3))
    for t in reversed(range(6)):
        step = lnm.interpret(
            neuron, seen[t : t + 1], state={"v": ran.trajectory["v"][t] / 256}, **a.params,
            grad_out=a.grad_out[0][t : t + 1], grad_state={"v": grad_v},
        )  # fmt: skip
        np.testing.assert_allclose(found["x0"][t], step.grads["x"][0], rtol=1e-9, atol=1e-12)
        grad_v = step.grads["v"]
        grad_theta += step.grads["theta"]
    np.testing.assert_allclose(found["v"], grad_v, rtol=1e-9)
    np.testing.assert_allclose(found["theta"], grad_theta, rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_gradient_where_a_number_was_clipped(backend):
    """x and the initial state: within half a unit of the format's ends, or not; NaN is not."""
    neuron = lnm.get("li", decay_input=False)
    layer = NeuronLayer(neuron, arithmetic=lnm.Fixed(8, 4), backend=backend, dtype=torch.float64)
    ends = [7.9375, 7.96875 - 1e-9, 7.96875, 9.0, -8.0, -8.03125, -8.0313, -np.inf, np.nan, 0.0]
    x = torch.tensor([ends], dtype=torch.float64, requires_grad=True)
    v = torch.tensor([3.0] * 9 + [99.0], dtype=torch.float64, requires_grad=True)
    layer(x, state={"v": v}).sum().backward()
    assert x.grad.tolist() == [[1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0]]
    assert v.grad.tolist() == [0.5] * 9 + [0.0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(0, 2, 3), (3, 0, 3), (1, 1, 1)])
def test_small_calls(shape, backend):
    """No step, no sample, one of each; forward and backward."""
    layer = NeuronLayer(lnm.get("lnm", degree=2), arithmetic=Q4_12, backend=backend)
    x = torch.ones(shape, requires_grad=True)
    state = {"v": torch.full(shape[1:], 0.5, requires_grad=True)}
    out, final = layer(x, state=state, return_state=True)
    (out.sum() + final["v"].sum()).backward()
    assert out.shape == x.grad.shape == shape
    if shape[0] == 0:
        assert (final["v"] == 0.5).all()
        assert (state["v"].grad == 1).all()
    grad = layer.theta.grad
    assert grad is None if shape[0] == 0 and backend == "torch" else torch.isfinite(grad).all()


def test_a_pickle_of_an_earlier_version():
    """Version 0.2.0 saved an `Arithmetic` without `is_auto`."""
    layer = NeuronLayer(lnm.get("lif"), arithmetic=Q4_12, backend="torch")
    arithmetic = layer._dispatch.arithmetic
    vars(arithmetic).pop("is_auto")
    assert not arithmetic.is_auto
    assert layer(torch.rand(4, 2, 3)).shape == (4, 2, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_step_mode_and_record(backend):
    """Step by step is the sequence; the charged potential is that of the integers."""
    neuron = lnm.get("lnm", degree=3, v_reset=None)
    spec = lnm.FixedSpec(Q4_12, {"h": lnm.Fixed(14, 9)})
    options = {"arithmetic": spec, "backend": backend, "record": ("v",)}
    layer = NeuronLayer(neuron, **options)
    x = torch.randn(6, 2, 3)
    with torch.no_grad():
        out, recorded = layer(x)
        layer.step_mode = "s"
        steps = [layer(row) for row in x]
    assert (torch.stack([o for o, _ in steps]) == out).all()
    assert (torch.stack([r["v"] for _, r in steps]) == recorded["v"]).all()
    kernel = lnm.quantize(neuron, spec).kernel
    assert (recorded["v"] * 512 == (recorded["v"] * 512).round()).all()
    assert not (recorded["v"] * 256 == (recorded["v"] * 256).round()).all()
    plain = lnm.interpret_fixed(neuron, x.numpy(), spec=spec)
    assert (out.numpy() == plain.out).all()
    assert [v.name for v in kernel.result_vars(Role.OUTPUT)] == ["spike"]


@pytest.mark.needs_cc
def test_layouts_and_types():
    """Channels last with parameters per neuron; time stride 0; 16-bit sequences."""
    neuron = CASES["lnm-4"]()
    a = arguments(neuron, np.random.default_rng(9), (5, 2, 3, 4, 5))
    layer = layer_for(neuron, a, Q4_12, "c", torch.float32)
    x = torch.tensor(a.x_seq[0], dtype=torch.float32)
    expected = lnm.interpret_fixed(neuron, x.numpy(), spec=Q4_12, **a.params).out
    last = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (5, 2))
    assert not last.is_contiguous()
    assert (layer(last).detach().numpy() == expected).all()
    same = x[:1].expand(5, -1, -1, -1, -1)
    expected = lnm.interpret_fixed(neuron, same.numpy(), spec=Q4_12, **a.params).out
    assert (layer(same).detach().numpy() == expected).all()
    half = x.bfloat16()
    expected = lnm.interpret_fixed(neuron, half.float().numpy(), spec=Q4_12, **a.params).out
    out = layer(half)
    assert out.dtype is torch.bfloat16
    assert (out.detach().float().numpy() == expected).all()


@pytest.mark.parametrize(
    "backend", ["torch", pytest.param("c", marks=[pytest.mark.needs_cc, pytest.mark.slow])]
)
def test_fine_tuning_lowers_the_loss(backend):
    """A network whose neurons are learned in the arithmetic of the chip."""
    torch.manual_seed(0)
    neuron, spec = clamped(), lnm.Fixed(12, 8)
    layer = NeuronLayer(neuron, channels=8, arithmetic=spec, backend=backend)
    net = nn.Sequential(nn.Linear(6, 8), layer)
    x = torch.rand(5, 32, 6)
    wanted = torch.linspace(0.1, 0.8, 8)  # a rate for each channel
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    losses = []
    for _ in range(40):
        loss = (net(x).mean(dim=(0, 1)) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.3 * np.mean(losses[:5]), losses
    net.eval()
    with torch.no_grad():
        spikes = net(x)
    given = {n: p.detach().numpy() for n, p in layer.named_parameters()}
    current = net[0](x).detach().numpy()
    expected = lnm.interpret_fixed(neuron, current, spec=spec, **given)
    assert (spikes.numpy() == expected.out).all()


@pytest.mark.needs_cc
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("trains", [False, True])
def test_under_compile(trains):
    """`torch.compile` breaks its graph at the layer and gives the same; fullgraph=True refuses."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    layer = NeuronLayer(lnm.get("lnm", degree=2), arithmetic=Q4_12, backend="c")
    net = nn.Sequential(nn.Linear(3, 4), layer, nn.Linear(4, 2))
    x = torch.randn(5, 2, 3, requires_grad=trains)
    compiled = torch.compile(net, backend="aot_eager")
    with torch.set_grad_enabled(trains):
        assert (compiled(x) == net(x)).all()
    if trains:
        (got,) = torch.autograd.grad(compiled(x).square().sum(), x)
        (expected,) = torch.autograd.grad(net(x).square().sum(), x)
        torch.testing.assert_close(got, expected)
    torch._dynamo.reset()
    whole = torch.compile(net, backend="aot_eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported), torch.set_grad_enabled(trains):
        whole(x)


@pytest.mark.needs_cc
def test_copies_and_files():
    """A layer in integers is pickled, copied, saved and printed as any other."""
    layer = NeuronLayer(lnm.get("lnm", degree=2), arithmetic=Q4_12)
    x = torch.randn(4, 2, 3)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for other in (copy.deepcopy(layer), torch.load(file, weights_only=False)):
        assert (other(x) == layer(x)).all()
    assert str(layer).endswith("step_mode='m', arithmetic=Q4.12)")
    assert layer.arithmetic == Q4_12


def test_without_a_compiler(monkeypatch, tmp_path):
    """`auto` says that it runs another model, once, and computes the same."""
    monkeypatch.setenv("LNM_CACHE", str(tmp_path))
    layer = NeuronLayer(lnm.get("lif", tau=6.25), arithmetic=Q4_12)
    loading.compiler.cache_clear()
    monkeypatch.setenv("CXX", "no-such-compiler")
    try:
        monkeypatch.setattr("lnm_codegen.nn.load.warn._WARNED", set())
        x = torch.randn(4, 2, 3)
        with pytest.warns(RuntimeWarning, match=r"^c: no C\+\+ compiler found"):
            out = layer(x)
        assert (out.numpy() == lnm.interpret_fixed(layer.neuron, x.numpy(), spec=Q4_12).out).all()
        with refused(lnm.ToolError, "c", "no C++ compiler found"):
            NeuronLayer(layer.neuron, arithmetic=Q4_12, backend="c")(x)
    finally:
        loading.compiler.cache_clear()


def made(**options: Any) -> Any:
    return NeuronLayer(lnm.get("lnm", degree=2), **({"arithmetic": Q4_12} | options))


def too_large(layer: Any) -> Any:
    with torch.no_grad():
        layer.theta[1] = 9.25
    return layer(torch.ones(2, 1, 3))


VMAP = torch.func.vmap(lambda x: made(backend="torch")(x))
REFUSED = [
    (lambda: made(arithmetic=(16, 12)), lnm.ModelError, "NeuronLayer", "arithmetic is (16, 12)",
     "lnm.Fixed(16, 12), an lnm.FixedSpec, or None for floating point", ""),
    (lambda: made(backend="triton"), lnm.ModelError, "NeuronLayer",
     "backend is 'triton', which has no integer arithmetic", "'auto', 'c', 'torch'", ""),
    (lambda: made(record=("stats",)), lnm.ModelError, "NeuronLayer", "record has 'stats'",
     "names of states", "Leave it out"),
    (lambda: made(arithmetic=lnm.Fixed(32, 12)), lnm.UnsupportedError, None, "65 bits", "", ""),
    (lambda: too_large(made(backend="torch")), lnm.ModelError, None, "9.25", "", ""),
    (lambda: made().explain(torch.ones(2, 1, 3)), lnm.UnsupportedError, "lnm",
     "this layer computes in integers", "", "Use a layer without arithmetic."),
    (lambda: VMAP(torch.ones(2, 2, 1, 3)), lnm.UnsupportedError, "lnm",
     "the integer models have no torch.func transforms", "", "Leave arithmetic out."),
    (lambda: made()(torch.ones(2, 1, 3, device="meta")), lnm.ToolError, "lnm",
     "integer arithmetic runs on the CPU; the input is on meta", "", "or leave arithmetic out."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "kind", "where", "problem", "accepted", "remedy"), REFUSED, ids=lambda v: ""
)
def test_refusals(call, kind, where, problem, accepted, remedy):
    """Place, problem, accepted values and remedy."""
    with refused(kind, where, problem, accepted, remedy):
        call()


@pytest.mark.needs_cc
def test_double_backward_is_refused():
    """As for the floating-point kernels."""
    layer = made(backend="c")
    x = torch.ones(2, 1, 3, requires_grad=True)
    with refused(lnm.UnsupportedError, "NeuronLayer", "double backward"):
        torch.autograd.grad(layer(x).sum(), x, create_graph=True)


@pytest.mark.needs_cuda
def test_a_gpu_is_refused():
    """One line for a CUDA tensor."""
    with refused(lnm.ToolError, "lnm", "integer arithmetic runs on the CPU"):
        made().cuda()(torch.ones(2, 1, 3, device="cuda"))
