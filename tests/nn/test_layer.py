"""`NeuronLayer`: parameters, results, gradients, layouts, backends and refused arguments."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

import lnm_codegen as lnm
from lnm_codegen.nn import dispatch, select
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.load import c as load
from tests.cases import CASES
from tests.refusals import refused

BACKENDS = ["torch", pytest.param("c", marks=pytest.mark.needs_cc)]
both = pytest.mark.parametrize("backend", BACKENDS)
slow_in_c = pytest.mark.parametrize(
    "backend", ["torch", pytest.param("c", marks=[pytest.mark.needs_cc, pytest.mark.slow])]
)
needs_cc = pytest.mark.needs_cc
MIXED = CASES["lnm-4"]  # theta per channel, v_threshold per neuron, both learned


def lif(**arguments: Any) -> lnm.Neuron:
    return lnm.get("lif", **arguments)


def sequence(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=dtype) * 2.5 - 0.5


def equal(a: Any, b: Any) -> None:
    """Assert the same bits, through tuples and dicts."""
    if isinstance(a, tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            equal(x, y)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        equal(tuple(a.values()), tuple(b.values()))
    else:
        assert torch.equal(a, b)


# ---- parameters ----


@pytest.mark.parametrize(
    ("per", "theta", "threshold"),
    [
        ("layer", (5,), ()),
        ("channel", (3, 5), (3,)),
        ("neuron", (3, 2, 4, 5), (3, 2, 4)),
        ({"theta": "neuron"}, (3, 2, 4, 5), ()),
        ({"theta": "channel", "v_threshold": "neuron"}, (3, 5), (3, 2, 4)),
    ],
)
def test_shapes_of_parameters(per, theta, threshold):
    """() or (size,), (C,) or (C, size), shape or (*shape, size)."""
    neuron = lnm.get("lnm", degree=4, learn_threshold=True, per=per)
    layer = NeuronLayer(neuron, channels=3, shape=(3, 2, 4))
    assert {n: tuple(p.shape) for n, p in layer.named_parameters()} == {
        "theta": theta, "v_threshold": threshold,
    }  # fmt: skip
    assert layer.theta.reshape(-1, 5).tolist() == [[0.0, 0.5, 0.0, 0.0, 0.0]] * (
        layer.theta.numel() // 5
    )


def test_channels_may_come_from_the_shape():
    """`shape` alone says C too."""
    assert NeuronLayer(lif(learn_tau=True, per="channel"), shape=(3, 4)).tau.shape == (3,)


def test_parameters_and_buffers():
    """Learnable ones are parameters, the others buffers, by the name of the model."""
    layer = NeuronLayer(lif(learn_tau=True))
    assert [n for n, _ in layer.named_parameters()] == ["tau"]
    assert [n for n, _ in layer.named_buffers()] == ["v_threshold"]
    assert isinstance(layer.tau, nn.Parameter)
    assert layer.tau.item() == 2.0
    assert layer.tau.dtype == torch.float32
    assert NeuronLayer(lif(), dtype=torch.float64).tau.dtype == torch.float64
    layer = NeuronLayer(lif())
    assert not list(layer.parameters())
    assert set(layer.state_dict()) == {"tau", "v_threshold"}


def test_init_by_a_function():
    """It receives the generator and the shape, and its numbers become the parameter."""

    def ramp(generator: torch.Generator, shape: tuple[int, ...]) -> torch.Tensor:
        assert isinstance(generator, torch.Generator)
        return torch.arange(float(np.prod(shape))).reshape(shape)

    neuron = lnm.get("lnm", degree=2, theta=ramp, per="channel")
    assert NeuronLayer(neuron, channels=2).theta.tolist() == [[0, 1, 2], [3, 4, 5]]


@both
def test_state_dict_round_trip(backend):
    """What one layer saved another loads, and computes the same."""
    first, second = (NeuronLayer(MIXED(), shape=(3, 4), backend=backend) for _ in range(2))
    with torch.no_grad():
        for p in first.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    x = sequence(6, 2, 3, 4)
    assert not torch.equal(first.theta, second.theta)
    second.load_state_dict(first.state_dict())
    equal(first(x, return_state=True), second(x, return_state=True))


@both
@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(backend, how):
    """A copy after a call has its own parameters, no state, and the same results."""
    layer = NeuronLayer(MIXED(), shape=(3, 4), backend=backend, step_mode="s")
    x = sequence(2, 3, 4)
    before = layer(x)
    other = how(nn.Sequential(layer))[0]
    assert other.theta is not layer.theta
    equal(other(x), before)
    with torch.no_grad():
        other.theta.fill_(0.25)
    assert layer.theta[0, 1].item() == 0.5


@slow_in_c
def test_conversion(backend):
    """.to(float64) converts parameters; the input's type alone decides what is computed in."""
    layer = NeuronLayer(lif(learn_tau=True), backend=backend)
    x = sequence(6, 2, 3)
    expected = layer(x.double())
    assert expected.dtype == torch.float64
    layer(x.double()).sum().backward()
    assert layer.tau.grad.dtype == torch.float32
    layer.to(torch.float64)
    assert layer.tau.dtype == layer.v_threshold.dtype == torch.float64
    equal(layer(x.double()), expected)
    assert layer(x).dtype == torch.float32


def test_repr():
    """One line in a printed network."""
    assert repr(NeuronLayer(lif(), backend="torch")) == (
        "NeuronLayer(lif, degree=1, per='layer', reset='hard', surrogate='atan(alpha=2)',"
        " backend='torch', step_mode='m')"
    )
    own = lif(surrogate=lnm.surrogate.from_slope(lambda z: 1 / (1 + z * z)))
    assert "surrogate='custom', detach_reset=True" in repr(NeuronLayer(own, detach_reset=True))
    two = NeuronLayer(lnm.get("tc_lif"))
    assert repr(two).count("surrogate=") == 1


@pytest.mark.parametrize(
    ("per", "known", "lazy"),
    [("channel", "channels=3", "channels='lazy'"), ("neuron", "shape=(3, 2)", "shape='lazy'")],
)
def test_repr_of_lazy_sizes(per, known, lazy):
    """Unknown until the first input."""
    layer = NeuronLayer(lif(learn_tau=True, per=per), backend="torch")
    assert f"per='{per}', {lazy}, reset" in repr(layer)
    layer(torch.zeros(1, 1, 3, 2))
    assert f"per='{per}', {known}, reset" in repr(layer)


# ---- what it returns ----


@both
@pytest.mark.parametrize("case", ["lif", "lnm-4", "dendrite", "gate"])
def test_single_steps_equal_a_sequence(case, backend):
    """Single-step, output by output and in the last state: bit-exact."""
    neuron = CASES[case]()
    options = {"channels": 3, "shape": (3, 4), "backend": backend}
    multi, single = (NeuronLayer(neuron, step_mode=m, **options) for m in "ms")
    xs = [sequence(19, 2, 3, 4, seed=k) for k in range(len(neuron.inputs))]
    out, final = multi(*xs, return_state=True)
    outs = out if isinstance(out, tuple) else (out,)
    for t in range(19):
        step, state = single(*(x[t] for x in xs), return_state=True)
        steps = step if isinstance(step, tuple) else (step,)
        equal(tuple(o[t] for o in outs), steps)
    equal(final, state)


@both
def test_reset_and_given_states(backend):
    """Single-step keeps its state until reset(); a state that is given goes first."""
    layer = NeuronLayer(lif(), backend=backend, step_mode="s")
    x = torch.full((2, 3), 0.9)
    first = layer(x, return_state=True)[1]["v"]
    second = layer(x, return_state=True)[1]["v"]
    assert (second > first).all()
    layer.reset()
    equal(layer(x, return_state=True)[1]["v"], first)
    equal(layer(x, state={"v": 0.0}, return_state=True)[1]["v"], first)
    equal(layer(x, return_state=True)[1]["v"], second)


@both
def test_multi_step_starts_anew(backend):
    """Each call from the initial states; `state` carries on where the last call ended."""
    layer, x = NeuronLayer(lif(), backend=backend), sequence(8, 2, 3)
    out, final = layer(x, return_state=True)
    equal(layer(x), out)
    head, middle = layer(x[:3], return_state=True)
    tail, end = layer(x[3:], state=middle, return_state=True)
    equal(torch.cat([head, tail]), out)
    equal(end, final)


@both
def test_orders_of_results(backend):
    """out, (out, state), (out, recorded), (out, state, recorded)."""
    x = sequence(5, 2, 3)
    plain, recording = (NeuronLayer(lif(), backend=backend, record=r) for r in ((), ("v",)))
    out = plain(x)
    assert isinstance(out, torch.Tensor)
    got, state = plain(x, return_state=True)
    equal(got, out)
    assert list(state) == ["v"]
    got, recorded = recording(x)
    equal(got, out)
    assert list(recorded) == ["v"]
    got, state_too, recorded_too = recording(x, return_state=True)
    equal((got, state_too, recorded_too), (out, state, recorded))
    h = recorded["v"]
    assert h.shape == x.shape
    equal((h >= 1).float(), out)


@both
def test_several_outputs_and_inputs(backend):
    """A tuple, in the order of the model; inputs in the order of declaration."""
    layer = NeuronLayer(CASES["dendrite"](), channels=3, shape=(3, 4), backend=backend)
    xs = [sequence(5, 2, 3, 4, seed=k) for k in (0, 1)]
    graded, count, potential = layer(*xs)
    assert graded.shape == count.shape == potential.shape == (5, 2, 3, 4)
    assert set(count.unique().tolist()) <= {0.0, 1.0, 2.0}
    assert potential.min() >= -1
    assert not torch.equal(layer(*reversed(xs))[0], graded)
    with_names, recorded = NeuronLayer(
        CASES["dendrite"](), channels=3, shape=(3, 4), backend=backend, record=("v", "u")
    )(*xs)
    equal(with_names, (graded, count, potential))
    assert list(recorded) == ["v", "u"]


@both
def test_the_gradient_of_recorded_potentials(backend):
    """A loss may use them."""
    layer = NeuronLayer(lif(), backend=backend, record="v")
    x = sequence(3, 1, 2).requires_grad_()
    layer(x)[1]["v"][0].sum().backward()
    assert x.grad[0].tolist() == [[0.5, 0.5]]
    assert x.grad[1:].abs().sum() == 0


@both
def test_any_number_of_axes(backend):
    """(T, N), (T, N, C), (T, N, C, H, W): the same neurons side by side."""
    layer, x = NeuronLayer(lif(), backend=backend), sequence(7, 24)
    out = layer(x)
    for shape in ((7, 2, 12), (7, 1, 4, 6), (7, 2, 3, 2, 2)):
        equal(layer(x.reshape(shape)), out.reshape(shape))


# ---- layouts ----


def gradients(layer: nn.Module, x: torch.Tensor, grad: torch.Tensor, **more: Any) -> Any:
    out = layer(x, **more)
    return (out.detach(), *torch.autograd.grad(out, [x, *layer.parameters()], grad))


@needs_cc
def test_an_expanded_input_is_read_in_place():
    """Time stride 0 (direct encoding): no copy, the same results, and a gradient of the frame."""
    from lnm_codegen.nn.layout import layout_of

    layer = NeuronLayer(lif(learn_tau=True), backend="c")
    frame = sequence(2, 3).requires_grad_()
    x = frame.expand(20, 2, 3)
    assert x.stride(0) == 0
    layout = layout_of(x, indexed=False)
    assert layout is not None
    assert layout.sequence(x) is x
    grad = sequence(20, 2, 3, seed=1)
    out, grad_x, grad_tau = gradients(layer, x, grad)
    whole = x.detach().clone().requires_grad_()
    equal((out, grad_x, grad_tau), gradients(layer, whole, grad))
    (layer(frame.expand(20, 2, 3)) * grad).sum().backward()
    torch.testing.assert_close(frame.grad, grad_x.sum(0))


@needs_cc
@pytest.mark.parametrize(
    "place",
    [
        lambda t: t.transpose(1, 2).contiguous().transpose(1, 2),  # as channels_last lies
        lambda t: t.flip(0).contiguous().flip(0),
        lambda t: torch.stack([t, t + 1], 1)[:, 0],  # every other step of a longer one
        lambda t: torch.stack([t, t + 1], -1)[..., 0],  # every other number
        lambda t: torch.cat([t, t], 0)[: t.shape[0]],
        lambda t: torch.cat([torch.zeros(1), t.reshape(-1)])[1:].reshape(t.shape),  # odd address
    ],
    ids=["channels_last", "flipped", "steps", "numbers", "part", "address"],
)
@pytest.mark.parametrize("where", ["x", "grad_out", "both"])
def test_layouts(place, where):
    """Inputs and gradients in any layout give what contiguous ones give."""
    layer = NeuronLayer(CASES["lif-learned"](), channels=3, backend="c")
    x, grad = sequence(9, 2, 3, 5), sequence(9, 2, 3, 5, seed=1)
    expected = gradients(layer, x.clone().requires_grad_(), grad)
    x = place(x) if where != "grad_out" else x
    grad = place(grad) if where != "x" else grad
    equal(gradients(layer, x.requires_grad_(), grad), expected)


@both
def test_an_expanded_grad_out(backend):
    """The gradient of a sum over everything is expanded from one number."""
    layer = NeuronLayer(lif(), backend=backend)
    x, y = (sequence(9, 2, 3).requires_grad_() for _ in range(2))
    layer(x).sum().backward()
    (layer(y) * torch.ones(9, 2, 3)).sum().backward()
    equal(x.grad, y.grad)


RAMP = torch.arange(4 * 6 * 8).reshape(4, 6, 8) / 100.0
STATES = {
    "number": 0.5,
    "scalar": torch.tensor(0.5),
    "last axis": RAMP[0, 0, :4],
    "two axes": RAMP[0, :3, :4],
    "first axis": RAMP[:2, :1, :1],
    "every other number": RAMP[:2, :3, ::2],
    "part of a row": RAMP[:2, :3, :4],
    "part of a sample": RAMP[:2, :3, 2:6],
    "expanded": RAMP[0, :3, :4].expand(2, 3, 4),
    "transposed": RAMP[:, :3, :2].permute(2, 1, 0),
    "NumPy": RAMP[:2, :3, :4].numpy(),
}


@both
@pytest.mark.parametrize("which", STATES)
def test_initial_states_in_any_shape_and_layout(which, backend):
    """Numbers, tensors that broadcast, strided ones: a row read beyond its end was a bug once."""
    value = STATES[which]
    layer, x = NeuronLayer(lif(), backend=backend), sequence(4, 2, 3, 4)
    whole = torch.broadcast_to(torch.as_tensor(value, dtype=x.dtype), (2, 3, 4)).contiguous()
    equal(
        layer(x, state={"v": value}, return_state=True),
        layer(x, state={"v": whole}, return_state=True),
    )


@needs_cc
def test_a_strided_initial_state_and_its_gradient():
    """The state is a view with gaps: its values are read right, and its gradient comes back."""
    layer, x = NeuronLayer(lif(v_reset=None), backend="c"), sequence(4, 3, 5)
    wide = sequence(3, 10, seed=3)
    view = wide[:, :5].detach().requires_grad_()
    assert not view.is_contiguous()
    dense = wide[:, :5].clone().requires_grad_()
    for v in (view, dense):
        out, final = layer(x, state={"v": v}, return_state=True)
        (out.sum() + final["v"].sum()).backward()
    equal(view.grad, dense.grad)
    shared = torch.tensor(0.25, requires_grad=True)
    layer(x, state={"v": shared}).sum().backward()
    assert shared.grad.shape == ()


# ---- gradients ----


@both
@pytest.mark.parametrize("wanted", ["inputs", "params", "states", "final states only", "none"])
def test_gradients_of_some_only(wanted, backend):
    """Gradients that are not wanted stay None, and do not change the others."""
    neuron, x = MIXED(), sequence(18, 2, 3)
    full, some = (NeuronLayer(neuron, shape=(3,), backend=backend) for _ in range(2))
    x_full, v_full = x.clone().requires_grad_(), torch.zeros(2, 3, requires_grad=True)
    x_some = x.clone().requires_grad_(wanted == "inputs")
    v_some = torch.zeros(2, 3, requires_grad=wanted == "states")
    some.requires_grad_(wanted in ("params", "final states only"))

    def loss(layer: NeuronLayer, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out, final = layer(x, state={"v": v}, return_state=True)
        total = (final["v"] ** 2).sum()
        return total if wanted == "final states only" else total + (out * x.detach()).sum()

    loss(full, x_full, v_full).backward()
    total = loss(some, x_some, v_some)
    if wanted == "none":
        assert not total.requires_grad
        return
    total.backward()
    pairs = {
        "inputs": [(x_some, x_full)],
        "states": [(v_some, v_full)],
    }.get(wanted, list(zip(some.parameters(), full.parameters(), strict=True)))
    for mine, theirs in pairs:
        equal(mine.grad, theirs.grad)
    others = [t for t in (x_some, v_some, *some.parameters()) if all(t is not p for p, _ in pairs)]
    assert all(t.grad is None for t in others)


@both
def test_one_frozen_parameter(backend):
    """requires_grad_(False) on one of them: None there, the other as before."""
    neuron, x = lnm.get("lnm", degree=2, learn_threshold=True), sequence(5, 2, 3)
    full, frozen = (NeuronLayer(neuron, backend=backend) for _ in range(2))
    frozen.theta.requires_grad_(False)
    for layer in (full, frozen):
        layer(x).sum().backward()
    assert frozen.theta.grad is None
    equal(frozen.v_threshold.grad, full.v_threshold.grad)


@both
def test_outputs_that_the_loss_leaves_out(backend):
    """No gradient for an output, or for a final state, counts as zero."""
    layer = NeuronLayer(CASES["dendrite"](), channels=3, shape=(3, 4), backend=backend)
    xs = [sequence(5, 2, 3, 4, seed=k).requires_grad_() for k in (0, 1)]
    ys = [x.detach().clone().requires_grad_() for x in xs]
    layer(*xs, return_state=True)[0][1].sum().backward()
    graded, count, potential = layer(*ys)
    (count.sum() + (0 * graded + 0 * potential).sum()).backward()
    for x, y in zip(xs, ys, strict=True):
        equal(x.grad, y.grad)


@both
def test_without_gradients(backend):
    """no_grad, inference_mode and eval give the same numbers and no graph."""
    layer, x = NeuronLayer(lnm.get("lnm"), backend=backend), sequence(40, 2, 3)
    out = layer(x)
    assert out.requires_grad
    with torch.no_grad():
        silent = layer(x)
    with torch.inference_mode():
        inferred = layer(x)
        equal(layer(x.clone()), out)
    layer.eval()
    for other in (silent, inferred, layer(x)):
        equal(other, out)
    assert not silent.requires_grad
    assert not inferred.requires_grad


@needs_cc
def test_double_backward_is_refused():
    """The message names the torch backend, which supports it."""
    x = sequence(3, 2, 2).requires_grad_()
    loss = NeuronLayer(lif(), backend="c")(x).sum()
    with refused(
        lnm.UnsupportedError, "NeuronLayer", "double backward", remedy="Use backend='torch'"
    ):
        torch.autograd.grad(loss, x, create_graph=True)


@needs_cc
@pytest.mark.parametrize("name", ["NeuronLayer", "NormNeuron", "integers"])
def test_batched_gradients_are_refused(name):
    """They ended in an error of PyTorch's internals."""
    options = {"arithmetic": lnm.Fixed(16, 12)} if name == "integers" else {}
    layer = lnm.nn.NormNeuron(lif(), 2) if name == "NormNeuron" else NeuronLayer(lif(), **options)
    layer.backend = "c"
    x, where = sequence(3, 2, 2).requires_grad_(), type(layer).__name__
    problem, remedy = "no batched gradients", "Use backend='torch'"
    with refused(lnm.UnsupportedError, where, problem, "", remedy):
        torch.autograd.functional.jacobian(layer, x, vectorize=True)
    out = layer(x)
    with refused(lnm.UnsupportedError, where, problem, "", remedy):
        torch.autograd.grad(out, x, torch.ones(5, *out.shape), is_grads_batched=True)


def test_double_backward_of_the_torch_backend():
    """Its gradient has a gradient."""
    x = sequence(3, 2, 2).requires_grad_()
    loss = NeuronLayer(lif(), backend="torch")(x).sum()
    (grad,) = torch.autograd.grad(loss, x, create_graph=True)
    (second,) = torch.autograd.grad(grad.sum(), x)
    assert second.abs().sum() > 0


@both
def test_two_backward_passes(backend):
    """retain_graph: the kernels leave what they read as it was."""
    layer = NeuronLayer(lnm.get("lnm"), backend=backend)
    x = sequence(20, 2, 3).requires_grad_()
    loss = layer(x).sum()
    first = torch.autograd.grad(loss, [x, layer.theta], retain_graph=True)
    equal(first, torch.autograd.grad(loss, [x, layer.theta]))


@needs_cc
def test_an_input_changed_in_place_is_noticed():
    """The backward recomputes a chunk from x, so PyTorch refuses a changed x."""
    layer = NeuronLayer(lnm.get("lnm"), backend="c")
    x = sequence(3, 2, 2)
    out = layer(x)
    x.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


# ---- backends ----


def no_compiler() -> load.Compiler:
    raise lnm.ToolError("c", "no C++ compiler found (g++)", remedy="Install g++.")


def test_auto_without_a_compiler_warns_once(monkeypatch, tmp_path):
    """Eager PyTorch runs, with one warning, where the cache has no kernel either."""
    monkeypatch.setenv("LNM_CACHE", str(tmp_path))
    monkeypatch.setattr(select, "compiler", no_compiler)
    monkeypatch.setattr("lnm_codegen.nn.load.warn._WARNED", set())
    layer, x = NeuronLayer(lif()), sequence(3, 2, 2)
    expected = NeuronLayer(lif(), backend="torch")(x)
    with pytest.warns(RuntimeWarning) as caught:
        equal(layer(x), expected)
    assert [str(w.message) for w in caught] == [
        "c: no C++ compiler found (g++). Install g++. Eager PyTorch runs instead."
    ]
    assert caught[0].filename == __file__  # the user's line
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        equal(layer(x), expected)
        equal(NeuronLayer(lif())(x), expected)


def test_a_named_backend_is_never_switched(monkeypatch):
    """backend='c' without a compiler is an error; 'torch' does not look for one."""
    monkeypatch.setattr(select, "compiler", no_compiler)
    monkeypatch.setattr(load, "compiler", no_compiler)
    v, drive, x = lnm.state("v"), lnm.input("x"), sequence(3, 2, 2)
    neuron = lnm.Neuron({v: v / 37 + drive}, v - 1, name="compiled_nowhere")
    NeuronLayer(neuron, backend="torch")(x)
    with refused(lnm.ToolError, "c", "no C++ compiler found (g++)", remedy="Install g++."):
        NeuronLayer(neuron, backend="c")(x)


@needs_cc
def test_auto_runs_c_on_the_cpu(monkeypatch):
    """With a compiler, `auto` is `c`."""

    def never(*_: Any) -> None:
        raise AssertionError("eager PyTorch ran")

    monkeypatch.setattr(dispatch, "run_eager", never)
    x = sequence(3, 2, 2)
    equal(NeuronLayer(lif())(x), NeuronLayer(lif(), backend="c")(x))


def test_c_refuses_other_devices():
    """A tensor that is not on the CPU; `meta` stands for a GPU."""
    layer = NeuronLayer(lif(), backend="c")
    problem = "backend 'c' runs on the CPU; the input is on meta"
    with refused(lnm.ToolError, "lif", problem, remedy="Use backend='torch', or move the input."):
        layer(torch.empty(3, 2, 2, device="meta"))


# ---- kept states and records ----


@both
@pytest.mark.parametrize("case", ["lif", "dendrite"])
def test_two_halves_of_a_sequence_with_carried_states(case, backend):
    """carry_state continues where the last call ended; otherwise each call begins anew."""
    neuron = CASES[case]()
    layer = NeuronLayer(neuron, backend=backend, shape=(3,), carry_state=True)
    inputs = [sequence(6, 2, 3, seed=k) for k in range(len(neuron.inputs))]
    whole, final = NeuronLayer(neuron, backend=backend, shape=(3,))(*inputs, return_state=True)
    halves = [layer(*(x[:2] for x in inputs)), layer(*(x[2:] for x in inputs))]
    several = isinstance(whole, tuple)
    pairs = zip(*halves, strict=True) if several else [halves]
    joined = tuple(torch.cat(pair) for pair in pairs)
    equal(joined, whole if several else (whole,))
    equal(layer.state, final)
    layer.reset()
    equal(layer(*inputs), whole)


@both
@pytest.mark.parametrize("mode", ["s", "m"])
def test_states_are_attributes(mode, backend):
    """`layer.state`, and each state by its name; nothing before the first call."""
    layer = NeuronLayer(lif(), backend=backend, step_mode=mode, carry_state=True)
    assert layer.state == {}
    assert not hasattr(layer, "v")
    layer(sequence(4, 2, 3)[0] if mode == "s" else sequence(4, 2, 3))
    assert layer.state["v"] is layer.v
    assert layer.v.shape == (2, 3)
    layer.reset()
    assert layer.state == {}
    assert not hasattr(layer, "v")


@both
def test_detach_cuts_the_graph(backend):
    """Truncated backpropagation: a second backward does not reach the first call."""
    layer = NeuronLayer(lif(learn_tau=True), backend=backend, carry_state=True)
    x, y = sequence(3, 2, 4).requires_grad_(), sequence(3, 2, 4, seed=1)
    layer(x).sum().backward()
    before, x.grad = layer.state, None
    layer.detach()
    layer(y).sum().backward()
    assert x.grad is None
    assert before["v"].requires_grad


@pytest.mark.needs_cc
@pytest.mark.parametrize("norm", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_forgotten_reset_is_named(norm):
    """A second backward through the first call; reset, detach or a retained graph avoid it."""
    neuron = lif(learn_tau=True)
    if norm:
        layer = lnm.nn.NormNeuron(neuron, 4, backend="c", carry_state=True)
    else:
        layer = NeuronLayer(neuron, backend="c", carry_state=True)
    x = sequence(3, 2, 4)
    layer(x).sum().backward()
    with refused(
        lnm.UnsupportedError, type(layer).__name__, "a second time", remedy="call reset()"
    ):
        layer(x).sum().backward()
    for avoid in (layer.reset, layer.detach):
        avoid()
        layer(x).sum().backward()
    layer.reset()
    layer(x).sum().backward(retain_graph=True)
    layer(x).sum().backward()


@pytest.mark.needs_cc
def test_other_errors_of_saved_tensors_stay():
    """A tensor that was changed in place is PyTorch's own error."""
    layer = NeuronLayer(lif(learn_tau=True), backend="c")
    x = sequence(3, 2, 4)
    out = layer(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_reset_of_a_model():
    """Every layer of a model; other modules are left alone, and anything else is refused."""
    layers = [NeuronLayer(lif(), backend="torch", step_mode="s") for _ in range(2)]
    model = nn.Sequential(layers[0], nn.Linear(3, 3), nn.Sequential(layers[1]))
    first = model(sequence(2, 3))
    lnm.nn.reset(model)
    assert not any(layer.state for layer in layers)
    equal(model(sequence(2, 3)), first)
    with refused(lnm.ModelError, "reset", "model is 3", "a torch.nn.Module"):
        lnm.nn.reset(3)


@both
def test_records_beside_a_sequential(backend):
    """With return_recorded=False the output alone is returned; the records are an attribute."""
    layer = NeuronLayer(lif(), backend=backend, record=("v", "stats"), return_recorded=False)
    model, x = nn.Sequential(nn.Identity(), layer, nn.Identity()), sequence(4, 2, 3)
    assert layer.recorded == {}
    out = model(x)
    expected, values = NeuronLayer(lif(), backend=backend, record=("v", "stats"))(x)
    equal(out, expected)
    equal(layer.recorded["v"], values["v"])
    assert layer.recorded["stats"] == values["stats"]
    layer.reset()
    assert layer.recorded == {}


@both
def test_records_of_a_layer_that_was_made_without(backend):
    """`record` and `backend` may be set later; a wrong value leaves the layer as it was."""
    layer, x = NeuronLayer(lif(), backend=backend), sequence(4, 2, 3)
    plain = layer(x)
    layer.record = "v"
    out, values = layer(x)
    equal(out, plain)
    assert layer.record == ("v",)
    assert values["v"].shape == x.shape
    with refused(lnm.ModelError, "NeuronLayer", "no record 'w'"):
        layer.record = ("w",)
    assert layer.record == ("v",)
    layer.record, layer.backend = (), "torch"
    equal(layer(x), plain)


@slow_in_c
@pytest.mark.parametrize("how", [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_have_no_states(how, backend):
    """Neither states nor records, whatever their graph."""
    layer = NeuronLayer(lif(learn_tau=True), backend=backend, carry_state=True, record=("v",))
    layer(sequence(3, 2, 4))
    copied = how(layer)
    assert copied.state == copied.recorded == {}
    assert layer.state
    layer.reset()
    equal(copied(sequence(3, 2, 4)), layer(sequence(3, 2, 4)))


def test_activation_checkpointing_with_kept_states():
    """The recomputation would begin with the final states: refused, and exact with `state=`."""
    from torch.utils.checkpoint import checkpoint

    layer, x = NeuronLayer(lif(), backend="torch", carry_state=True), sequence(4, 2, 3)
    layer(x)
    out = checkpoint(layer, x.requires_grad_(), use_reentrant=False)
    problem = "a layer that keeps its states is called in a backward"
    with refused(lnm.UnsupportedError, "lif", problem, remedy="Give state= and return_state=True."):
        out.sum().backward()


@both
def test_kept_states_that_cannot_be_read_again(backend):
    """Of an ended transform, or of inference mode: one line, and reset() helps."""
    layer, x = NeuronLayer(lif(), backend=backend, carry_state=True), sequence(4, 2, 3)
    with torch.inference_mode():
        layer(x)
    with refused(lnm.UnsupportedError, "lif", "torch.inference_mode", remedy="Call reset()."):
        layer(x)
    layer.reset()
    layer(x)
    if backend == "torch":
        layer.reset()
        torch.func.vmap(lambda y: layer(y))(torch.stack([x, x]))
        with refused(lnm.UnsupportedError, "lif", "a transform", remedy="Call reset()."):
            layer(x)


@both
def test_kept_states_of_another_type_and_batch(backend):
    """A batch of one is not broadcast to the next batch, whatever the types."""
    layer = NeuronLayer(lif(), backend=backend, carry_state=True)
    layer(sequence(4, 1, 3))
    with refused(lnm.ShapeError, "lif", "state 'v' has shape (1, 3)", remedy="Call reset()"):
        layer(sequence(4, 5, 3, dtype=torch.float64))


@both
def test_a_sequence_of_no_steps_shares_nothing(backend):
    """The final states are not the initial ones that later calls begin with."""
    layer = NeuronLayer(lif(), backend=backend, carry_state=True)
    expected = layer(sequence(4, 2, 3))
    layer.reset()
    layer(sequence(0, 2, 3))
    layer.state["v"].add_(100.0)
    layer.reset()
    equal(layer(sequence(4, 2, 3)), expected)


@needs_cc
def test_wrappers_of_other_tensors_are_refused():
    """A tensor that has no memory of its own."""
    from torch.testing._internal.two_tensor import TwoTensor

    layer, x = NeuronLayer(lif(), backend="c"), sequence(4, 2, 3)
    with refused(lnm.UnsupportedError, "lif", "cannot read a TwoTensor", remedy="backend='torch'"):
        layer(TwoTensor(x, x))


@needs_cc
def test_the_negative_bit_of_a_parameter():
    """A lazy negation, as of the imaginary part of a conjugate."""
    layer, x = NeuronLayer(lif(), backend="c"), sequence(4, 2, 3)
    negated = torch.complex(torch.tensor(0.0), torch.tensor(5.0)).conj().imag
    assert negated.is_neg()
    given = {"v_threshold": negated, "tau": torch.tensor(2.0)}
    out = torch.func.functional_call(layer, given, (x,))
    equal(out, torch.func.functional_call(layer, given | {"v_threshold": torch.tensor(-5.0)}, (x,)))
    assert out.sum() > 0


class Positive(nn.Module):
    """Parametrization."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.abs()


@both
def test_a_parametrized_layer(backend):
    """`parametrize` moves the parameter; calls, gradients and deep copies go on."""
    layer = NeuronLayer(lnm.get("lnm", degree=2), backend=backend, carry_state=True)
    nn.utils.parametrize.register_parametrization(layer, "theta", Positive())
    with torch.no_grad():
        layer.parametrizations.theta.original.copy_(torch.tensor([0.1, -0.5, -0.25]))
    x = sequence(4, 2, 3)
    layer(x).sum().backward()
    assert layer.parametrizations.theta.original.grad.abs().sum() > 0
    copied = copy.deepcopy(layer)
    layer.reset()
    equal(copied(x), layer(x))
    plain = NeuronLayer(lnm.get("lnm", degree=2, theta=[0.1, 0.5, 0.25]), backend=backend)
    equal(plain(x), copied(x) if copied.reset() is None else None)


def as_parameter(layer: NeuronLayer) -> torch.Tensor:
    del layer.v_threshold
    layer.v_threshold = nn.Parameter(torch.tensor(0.5))
    return layer.v_threshold


def parametrized(layer: NeuronLayer) -> torch.Tensor:
    layer.v_threshold.requires_grad_()
    nn.utils.parametrize.register_parametrization(layer, "v_threshold", Positive())
    return layer.parametrizations.v_threshold.original


TRAINED = [as_parameter, parametrized, lambda layer: layer.v_threshold.requires_grad_()]


@needs_cc
@pytest.mark.parametrize("trained", TRAINED)
@pytest.mark.parametrize("options", [{}, {"arithmetic": lnm.Fixed(16, 12)}])
def test_a_trained_constant(trained, options):
    """The kernels have no gradient for it: refused. It once stayed None, or 0 when compiled."""
    x, layer = sequence(4, 2, 3), NeuronLayer(lif(), backend="c", **options)
    constant = trained(layer)
    problem = "constant 'v_threshold' requires a gradient, which no kernel computes"
    remedy = "Make it learnable in the definition, or use backend='torch' or no_grad()."
    with refused(lnm.UnsupportedError, "lif", problem, remedy=remedy):
        layer(x)
    with torch.no_grad():
        layer(x)
    layer.backend = "torch"
    layer(x).sum().backward()
    assert constant.grad.abs() > 0


@needs_cc
def test_a_trained_constant_that_is_a_start():
    """PyTorch computes its gradient, since no step reads it."""
    v, x, start = lnm.state("v", init=lnm.param("start", learnable=False)), lnm.input("x"), None
    neuron, found = lnm.Neuron(charge={v: v / 2 + x}, fire=v - 1, reset=lnm.soft_reset(v, 1)), []
    for backend in ("c", "torch"):
        layer = NeuronLayer(neuron, backend=backend)
        start = layer.start.requires_grad_()
        layer(sequence(4, 2, 3)).sum().backward()
        found.append(start.grad)
    torch.testing.assert_close(*found)
    assert start.grad.abs() > 0


# ---- refusals ----

x_ = torch.zeros(4, 2, 3)
CHANNEL = lnm.get("lif", learn_tau=True, per="channel")
NEURON = lnm.get("lif", learn_tau=True, per="neuron")
CLASH = lnm.Neuron(fire=lnm.input("x") - lnm.param("training", init=1.0), name="clash")
WRONG = lnm.get("lnm", degree=2, theta=lambda generator, shape: torch.zeros(2))


def build(neuron: Any, **options: Any) -> NeuronLayer:
    return NeuronLayer(neuron, **({"backend": "torch"} | options))


def called(neuron: Any, *inputs: Any, options: Any = (), **arguments: Any) -> Any:
    return build(neuron, **dict(options))(*inputs, **arguments)


DENDRITE = CASES["dendrite"]()
PER_CHANNEL, PER_NEURON = {"channels": 5}, {"shape": (3, 7)}
OPTIONS = [
    ("lif", {}, "neuron is 'lif'", "an lnm.Neuron, such as lnm.get('lif')", ""),
    (lif(), {"backend": "cc"}, "no backend 'cc'", "auto, c, triton, cuda, torch", "'c'?"),
    (lif(), {"step_mode": "multi"}, "step_mode is 'multi'", "'m', 's'", ""),
    (lif(), {"inplace": "no"}, "inplace is 'no'", "True, False", ""),
    (lif(), {"dtype": torch.int8}, "dtype is torch.int8", "None, torch.float32", ""),
    (lif(), {"channels": 0}, "channels is 0", "an integer >= 1", ""),
    (lif(), {"shape": "3"}, "shape is '3'", "integers, such as (C, H, W)", ""),
    (lif(), {"shape": (3, True)}, "a size of shape is True", "an integer >= 1", ""),
    (lif(), {"shape": (3, 4), "channels": 2}, "shape (3, 4) does not begin with channels 2", "",
     "Give one of the two, or the same number."),
    (lif(), {"record": 3}, "record is 3", "names, such as ('v',)", ""),
    (lif(), {"record": ("h",)}, "no record 'h'", "v, stats", ""),
    (lif(), {"record": ("stat",)}, "no record 'stat'", "v, stats", "Did you mean 'stats'?"),
    (lif(), {"record": "stats", "interval": (1.0, 1.0)}, "interval is (1.0, 1.0)",
     "(low, high) with low < high", ""),
    (CLASH, {}, "parameter 'training' has the name of an attribute of the layer", "",
     "Rename it in the model."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("neuron", "options", "problem", "accepted", "remedy"), OPTIONS, ids=lambda v: ""
)
def test_refused_options(neuron, options, problem, accepted, remedy):
    """Place, problem, accepted values and remedy of each wrong argument of a layer."""
    with refused(lnm.ModelError, "NeuronLayer", problem, accepted, remedy):
        build(neuron, **options)


def test_refused_initial_values():
    """A function for initial values that returns another shape."""
    with refused(lnm.ShapeError, "NeuronLayer", "init of 'theta' returned shape (2,)", "(3,)"):
        build(WRONG)


SINGLE = {"step_mode": "s"}
INPUTS = [
    (lambda: called(lif(), x_, x_), "lif", "the call has 2 inputs", "x", ""),
    (lambda: called(lif(), [1.0]), "lif", "input 'x' is of type list", "a tensor",
     "Use torch.tensor(x)."),
    (lambda: called(lif(), [x_, x_]), "lif", "input 'x' is of type list", "a tensor",
     "Use torch.stack(x)."),
    (lambda: called(lif(), x_.numpy()), "lif", "input 'x' is of type ndarray", "a tensor",
     "Use torch.from_numpy(x)."),
    (lambda: called(lif(), x_ + 1j), "lif", "input 'x' is torch.complex64", "float32, float64",
     "Use x.real, x.imag or x.abs()."),
    (lambda: called(lif(), torch.zeros(8)), "lif", "input 'x' has shape (8,)", "(T, N, *)", ""),
    (lambda: called(lif(), torch.zeros(()), options=SINGLE), "lif", "input 'x' has shape ()",
     "(N, *)", ""),
    (lambda: called(lif(), x_.long()), "lif", "input 'x' is torch.int64",
     "float32, float64, bfloat16, float16", "Use x.float()."),
    (lambda: called(DENDRITE, x_, x_[:2], options={"shape": (3,)}), "dendrite",
     "input 'drive' has shape (2, 2, 3)", "(4,), or a shape that broadcasts to (4, 2, 3)",
     "Give an axis of length 1 where the input repeats."),
    (lambda: called(DENDRITE, x_, x_[:, :, :2], options={"shape": (3,)}), "dendrite",
     "input 'drive' has shape (4, 2, 2)", "(4,), or a shape that broadcasts to (4, 2, 3)",
     "Give an axis of length 1 where the input repeats."),
    (lambda: called(DENDRITE, x_, x_[None], options={"shape": (3,)}), "dendrite",
     "input 'drive' has shape (1, 4, 2, 3)", "a shape that broadcasts to (4, 2, 3)",
     "Give an axis of length 1 where the input repeats."),
    (lambda: called(DENDRITE, x_[0], x_[:, 0, 0], options={"shape": (3,), **SINGLE}), "dendrite",
     "input 'drive' has shape (4,)", "a shape that broadcasts to (2, 3)",
     "Give an axis of length 1 where the input repeats."),
    (lambda: called(DENDRITE, x_, x_.double(), options={"shape": (3,)}), "dendrite",
     "input 'drive' is torch.float64", "torch.float32, as the first input",
     "Use drive.to(torch.float32)."),
    (lambda: called(DENDRITE, x_, x_ + 1j, options={"shape": (3,)}), "dendrite",
     "input 'drive' is torch.complex64", "torch.float32, as the first input", ""),
    (lambda: called(DENDRITE, x_, x_.to("meta"), options={"shape": (3,)}), "dendrite",
     "input 'drive' is on meta", "cpu, as the first input", ""),
    (lambda: called(CHANNEL, x_, options=PER_CHANNEL), "lif",
     "x_seq has shape (4, 2, 3), 3 channels (axis 2 of (T, N, C, *))",
     "(5,), the size of parameter 'tau' per channel", ""),
    (lambda: called(NEURON, x_, options=PER_NEURON), "lif",
     "x_seq has shape (4, 2, 3), neurons (3,) in a sample (T, N, *)",
     "(3, 7), the size of parameter 'tau' per neuron", ""),
    (lambda: called(CHANNEL, torch.zeros(4, 3), options=PER_CHANNEL), "lif",
     "x_seq has shape (4, 3), no channels (axis 2 of (T, N, C, *))", "(5,)", ""),
    (lambda: called(lif(), x_, state=[0.0]), "lif", "state is a list",
     "a dict with names among v", ""),
    (lambda: called(lif(), x_, state={"h": 0.0}), "lif", "no state 'h'", "v", ""),
    (lambda: called(lnm.get("cuba_lif"), x_, state={"curent": 0.0}), "cuba_lif",
     "no state 'curent'", "current, v", "Did you mean 'current'?"),
    (lambda: called(lif(), x_, state={"v": "rest"}), "lif", "state 'v' is 'rest'",
     "a number or a tensor", ""),
    (lambda: called(lif(), x_, state={"v": torch.zeros(2, 3, dtype=torch.complex64)}), "lif",
     "state 'v' is torch.complex64", "a number or a tensor, real and not bool", ""),
    (lambda: called(lif(), x_, state={"v": x_[0] > 0}), "lif", "state 'v' is torch.bool",
     "a number or a tensor, real and not bool", ""),
    (lambda: called(lif(), x_, state={"v": np.ones(3, complex)}), "lif", "state 'v' is array(",
     "a number or a tensor, real and not bool", ""),
    (lambda: called(lif(), x_, state={"v": True}), "lif", "state 'v' is True",
     "a number or a tensor, real and not bool", ""),
    (lambda: called(lif(), x_, state={"v": torch.zeros(5)}), "lif", "state 'v' has shape (5,)",
     "(2, 3)", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "where", "problem", "accepted", "remedy"), INPUTS, ids=lambda v: ""
)
def test_refused_calls(call, where, problem, accepted, remedy):
    """Place, problem, accepted values and remedy of each wrong argument of a call."""
    with refused(lnm.ShapeError, where, problem, accepted, remedy):
        call()


@both
def test_a_new_batch_size_without_reset(backend):
    """Single-step: the states of another batch size are refused until reset()."""
    for before in (2, 1):
        layer = NeuronLayer(lif(), backend=backend, step_mode="s")
        layer(torch.zeros(before, 3))
        problem = f"state 'v' has shape ({before}, 3)"
        with refused(lnm.ShapeError, "lif", problem, "(4, 3)", "Call reset()"):
            layer(torch.zeros(4, 3))
        layer.reset()
        assert layer(torch.zeros(4, 3)).shape == (4, 3)


@both
def test_a_refused_call_changes_nothing(backend):
    """The state survives a call that fails."""
    layer = NeuronLayer(lif(), backend=backend, step_mode="s")
    x = torch.full((2, 3), 0.5)
    layer(x)
    with pytest.raises(lnm.ShapeError):
        layer(torch.zeros(4, 3))
    again = layer(x, return_state=True)[1]["v"]
    assert again.tolist() == torch.full((2, 3), 0.375).tolist()


# ---- counts ----


@both
@pytest.mark.parametrize("shape", [(5, 2, 3), (33, 3, 37, 13), (0, 2, 3), (4, 0, 3)])
def test_counts(shape, backend):
    """Spikes, and charged values outside an interval, counted as the recorded ones are."""
    layer = NeuronLayer(lif(), backend=backend, record=("v", "stats"), interval=(-0.25, 0.75))
    x = sequence(*shape)
    out, recorded = layer(x)
    h, stats = recorded["v"], recorded["stats"]
    assert stats == {
        "spike": float(out.sum()),
        "outside": float(((h < -0.25) | (h > 0.75)).sum()),
    }


@needs_cc
def test_counts_beyond_float32():
    """An odd number of spikes above 2**24, in one tile of neurons, is counted exactly."""
    layer = NeuronLayer(lif(), backend="c", record=("stats",))
    x = torch.full((1, 1, 1024), 10.0)
    x[0, 0, 5] = 1.5  # spikes at every second step
    with torch.no_grad():
        _, recorded = layer(x.expand(16401, 1, 1024))
    assert recorded["stats"]["spike"] == 1023 * 16401 + 8200


@both
def test_counts_of_nan(backend):
    """A NaN is outside every interval and no spike."""
    layer = NeuronLayer(lif(), backend=backend, record=("stats",))
    x = torch.zeros(2, 1, 3)
    x[0, 0, 1] = torch.nan
    assert layer(x)[1]["stats"] == {"spike": 0.0, "outside": 2.0}


# ---- in place, and transforms ----


@needs_cc
@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)]
)
def test_in_place(dtype):
    """Without gradients the output overwrites x; with them, or where x has gaps, it does not."""
    plain, layer = (
        NeuronLayer(lnm.get("lnm", degree=2), backend="c", inplace=i) for i in (False, True)
    )
    x = sequence(20, 3, 700).to(dtype)
    with torch.no_grad():
        expected, own = plain(x, return_state=True), x.clone()
        version = own._version
        out, state = layer(own, return_state=True)
        assert out is own
        assert own._version > version
        assert torch.equal(out, expected[0])
        assert torch.equal(state["v"], expected[1]["v"])
        for kept in (x[:1].expand(20, 3, 700), torch.stack([x, x], -1)[..., 0]):
            before = kept.clone()
            assert layer(kept).data_ptr() != kept.data_ptr()
            assert torch.equal(kept, before)
    own = x.clone()
    assert layer(own).data_ptr() != own.data_ptr()  # theta wants a gradient
    assert torch.equal(own, x)


@needs_cc
@pytest.mark.parametrize(
    "transformed",
    [
        lambda f, x: torch.func.vmap(f)(x[None]),
        lambda f, x: torch.func.grad(lambda t: f(t).sum())(x),
        lambda f, x: torch.func.jvp(f, (x,), (x,)),
    ],
    ids=["vmap", "grad", "jvp"],
)
def test_transforms_of_torch_func_are_refused(transformed):
    """One line, not a traceback from inside PyTorch."""
    problem = "the generated kernels of backend 'c' have no torch.func transforms (vmap, grad, jvp)"
    with refused(lnm.UnsupportedError, "lif", problem, remedy="Use backend='torch'."):
        transformed(NeuronLayer(lif(), backend="c"), sequence(4, 2, 3))


INTEGERS = {"arithmetic": lnm.Fixed(16, 12)}


@pytest.mark.parametrize(
    ("options", "reader", "remedy"),
    [
        pytest.param(
            {"backend": "c"}, "kernels of backend 'c'", "Use backend='torch'.", marks=needs_cc
        ),
        ({"backend": "torch"} | INTEGERS, "the integer models", "Leave arithmetic out."),
        pytest.param(
            {"backend": "c"} | INTEGERS, "the integer models", "Leave arithmetic out.",
            marks=needs_cc,
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("which", ["input", "state", "parameter"])
def test_dual_numbers_are_refused(options, reader, remedy, which):
    """Forward mode once failed with PyTorch's own message; without tangents a call runs."""
    layer, x = NeuronLayer(lif(), **options), sequence(4, 2, 3)
    expected = layer(x)
    with forward_ad.dual_level():
        equal(layer(x), expected)
        v, tau = torch.zeros(2, 3), torch.tensor(2.0)
        if which == "input":
            x = forward_ad.make_dual(x, x)
        elif which == "state":
            v = forward_ad.make_dual(v, v)
        else:
            tau = forward_ad.make_dual(tau, tau)
        given = {"tau": tau, "v_threshold": torch.tensor(1.0)}
        problem = f"{reader} have no forward-mode derivatives"
        with refused(lnm.UnsupportedError, "lif", problem, remedy=remedy):
            torch.func.functional_call(layer, given, (x,), {"state": {"v": v}})


@needs_cc
def test_tensors_without_plain_memory_are_refused():
    """A fake tensor once ended the process. A sparse one is refused by every backend."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    layer = NeuronLayer(lif(), backend="c")
    with FakeTensorMode(allow_non_fake_inputs=True):
        fake = torch.rand(4, 3)
    what = "a FakeTensor of layout torch.strided"
    with refused(lnm.UnsupportedError, "lif", f"cannot read {what}", remedy="'torch'"):
        layer(fake)
    for backend in ("c", "torch"):
        remedy = "Use x.to_dense()."
        with refused(lnm.ShapeError, "lif", "layout torch.sparse_coo", "strided", remedy):
            NeuronLayer(lif(), backend=backend)(torch.zeros(4, 3).to_sparse())


@both
def test_evaluated_in_inference_mode_then_trained(backend):
    """Initial states made in inference mode once could not be saved for any later backward."""
    layer, x = NeuronLayer(lnm.get("lnm", degree=2), backend=backend), sequence(4, 3)
    with torch.inference_mode():
        expected = layer(x)
    out = layer(x)
    out.sum().backward()
    assert torch.equal(out, expected)


@both
def test_inplace_leaves_two_inputs_alone(backend):
    """Inputs may share memory, so that writing over one would change the other."""
    v, x, y = lnm.state("v"), lnm.input("x"), lnm.input("y")
    neuron = lnm.Neuron(charge={v: v / 2 + x + y}, fire=v - 1, reset=lnm.hard_reset(v))
    plain, layer = (NeuronLayer(neuron, backend=backend, inplace=i) for i in (False, True))
    a = sequence(6, 300)
    with torch.no_grad():
        expected = plain(a[1:], a[:-1])
        assert torch.equal(layer(a[1:], a[:-1]), expected)


@pytest.mark.slow
@both
def test_autocast_takes_inputs_of_two_types(backend):
    """They take the wider type, as in an addition; without autocast a type is refused."""
    layer, x = NeuronLayer(DENDRITE, backend=backend), sequence(4, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        got = layer(x.bfloat16(), x)
        assert layer(x.bfloat16(), x.bfloat16())[0].dtype is torch.bfloat16
        with refused(lnm.ShapeError, "dendrite", "input 'drive' is torch.int64"):
            layer(x, x.long())
    equal(got, layer(x.bfloat16().float(), x))


WRONG_LATER = [
    ("step_mode", "q", "step_mode is 'q'", "'m', 's'"),
    ("backend", "nope", "no backend 'nope'", "auto, c"),
    ("record", ("w",), "no record 'w'", "v, stats"),
    ("carry_state", "no", "carry_state is 'no'", "True, False"),
    ("return_recorded", 1, "return_recorded is 1", "True, False"),
    ("inplace", None, "inplace is None", "True, False"),
    ("interval", (2.0, 1.0), "interval is (2.0, 1.0)", "(low, high) with low < high"),
    ("arithmetic", 16, "arithmetic is 16", "lnm.Fixed(16, 12)"),
]


@pytest.mark.parametrize(("name", "value", "problem", "accepted"), WRONG_LATER)
def test_options_are_validated_when_set(name, value, problem, accepted):
    """As in the constructor; a wrong value leaves the layer as it was."""
    layer, x = NeuronLayer(lif(), backend="torch", record=("v",)), sequence(4, 2, 3)
    before, out = getattr(layer, name), layer(x)
    with refused(lnm.ModelError, "NeuronLayer", problem, accepted):
        setattr(layer, name, value)
    assert getattr(layer, name) == before
    equal(layer(x), out)


def test_an_interval_set_later():
    """It counts, and is the one that `register` reads."""
    layer, x = NeuronLayer(lif(), backend="torch", record=("stats",)), sequence(5, 2, 3)
    assert layer.interval == (-1e30, 1e30)
    assert layer(x)[1]["stats"]["outside"] == 0
    layer.interval = (-0.25, 0.75)
    given = NeuronLayer(lif(), backend="torch", record=("stats",), interval=(-0.25, 0.75))
    assert layer(x)[1]["stats"] == given(x)[1]["stats"]
    assert layer(x)[1]["stats"]["outside"] > 0


@slow_in_c
def test_arithmetic_set_later(backend):
    """The layer computes in integers, and in floating point again."""
    layer, x = NeuronLayer(lif(tau=3.3), backend=backend), sequence(9, 2, 3)
    integers = NeuronLayer(lif(tau=3.3), backend=backend, arithmetic=lnm.Fixed(6, 3))
    expected = layer(x, return_state=True), integers(x, return_state=True)
    assert not torch.equal(expected[0][1]["v"], expected[1][1]["v"])
    layer.arithmetic = lnm.Fixed(6, 3)
    assert "arithmetic=Q3.3" in repr(layer)
    equal(layer(x, return_state=True), expected[1])
    layer.arithmetic = None
    equal(layer(x, return_state=True), expected[0])


def test_the_neuron_cannot_be_replaced():
    """Its parameters are those of the layer."""
    neuron = lif()
    layer, remedy = NeuronLayer(neuron, backend="torch"), "Make another layer."
    with refused(lnm.ModelError, "NeuronLayer", "neuron cannot be replaced", remedy=remedy):
        layer.neuron = lif(tau=4.0)
    assert layer.neuron is neuron
    with refused(lnm.ModelError, "NeuronLayer", "detach_reset cannot be replaced", remedy=remedy):
        layer.detach_reset = True
    assert not hasattr(layer, "detach_reset")


@pytest.mark.parametrize("backend", [pytest.param("c", marks=pytest.mark.needs_cc), "torch"])
def test_a_change_of_final_states_reaches_no_initial_state(backend: Any) -> None:
    """Also of states that keep their values, or exchange them."""
    v, x = lnm.state("v"), lnm.input("x")
    a, b, c = lnm.state("a", init=0.25), lnm.state("b", init=0.5), lnm.state("c", init=0.75)
    charge = {v: v / 2 + x + a + b + c, a: b, b: a, c: c}
    layer = NeuronLayer(lnm.Neuron(charge, v - 9, name="keeps"), backend=backend)
    given = torch.full((1, 1), 0.75)
    x_seq = torch.ones(3, 1, 1)
    _, first = layer(x_seq, state={"c": given}, return_state=True)
    expected = {name: value.clone() for name, value in first.items()}
    for value in first.values():
        value.add_(1)
    assert given.item() == 0.75
    _, second = layer(x_seq, return_state=True)
    assert second == expected
