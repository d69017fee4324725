"""`NeuronLayer`: results, gradients, copies, backends, records and refused arguments."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.testing._internal.two_tensor import TwoTensor

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer, NormNeuron, select
from lnm_codegen.nn.load import c as load
from tests.cases import CASES
from tests.layers import as_tuple, assert_equal, both, needs_cc, sequence, slow, slow_in_c
from tests.refusals import assert_refused, refused

# PyTorch instantiates a Function while it traces one.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")

LIF = lnm.get("lif")
LEARNED = CASES["lif-learned"]()  # tau per channel
MIXED = CASES["lnm-4"]()  # theta per channel, v_threshold per neuron, both learned
CUBIC = CASES["lnm-3"]()
DENDRITE = CASES["dendrite"]()  # two inputs, three states, three outputs
FIXED = {"arithmetic": lnm.Fixed(16, 12)}
RECORDS = {"record": ("v", "stats"), "interval": (-0.25, 0.75)}


# ---- parameters ----


def test_parameters_and_buffers():
    """Learnable ones are parameters, the others buffers, by the name of the model."""
    layer = NeuronLayer(lnm.get("lif", learn_tau=True))
    assert [n for n, _ in layer.named_parameters()] == ["tau"]
    assert [n for n, _ in layer.named_buffers()] == ["v_threshold"]
    assert isinstance(layer.tau, nn.Parameter)
    assert (layer.tau.item(), layer.tau.dtype) == (2.0, torch.float32)
    assert NeuronLayer(LIF, dtype=torch.float64).tau.dtype == torch.float64
    assert not list(NeuronLayer(LIF).parameters())
    assert set(NeuronLayer(LIF).state_dict()) == {"tau", "v_threshold"}


@slow_in_c
def test_conversion(backend):
    """.to(float64) converts parameters; the input's type alone decides what is computed in."""
    layer, x = NeuronLayer(LEARNED, channels=3, backend=backend), sequence(6, 2, 3)
    expected = layer(x.double())
    expected.sum().backward()
    assert layer.tau.grad.dtype == layer(x).dtype == torch.float32
    layer.to(torch.float64)
    assert layer.tau.dtype == layer.v_threshold.dtype == torch.float64
    assert_equal(layer(x.double()), expected)
    assert layer(x).dtype == torch.float32


@pytest.mark.parametrize(
    "how", [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m)), "state_dict"]
)
@pytest.mark.parametrize(
    ("backend", "record"), [pytest.param("c", (), marks=needs_cc), ("torch", ("v",))]
)
def test_copies(how, backend, record):
    """The same results from parameters of their own; neither states nor records."""
    options = {"shape": (3, 4), "backend": backend, "carry_state": True, "record": record}
    layer, x = NeuronLayer(MIXED, **options), sequence(6, 2, 3, 4)
    with torch.no_grad():
        layer.theta.add_(0.1 * sequence(3, 5, seed=1))
    layer(x)
    if how == "state_dict":
        copied = NeuronLayer(MIXED, **options)
        copied.load_state_dict(layer.state_dict())
    else:
        copied = how(nn.Sequential(layer))[0] if how is not copy.copy else how(layer)
    assert copied.state == copied.recorded == {}
    assert layer.state
    layer.reset()
    assert_equal(copied(x, return_state=True), layer(x, return_state=True))
    assert (copied.theta is layer.theta) == (how is copy.copy)
    if how is not copy.copy:
        copied.theta = 0.25
        assert not torch.equal(copied.theta, layer.theta)


def test_repr():
    """One line in a printed network; sizes that are not given are lazy until the first input."""
    make = partial(NeuronLayer, backend="torch")
    assert repr(make(LIF)) == (
        "NeuronLayer(lif, degree=1, per='layer', reset='hard', surrogate='atan(alpha=2)',"
        " backend='torch', step_mode='m')"
    )
    own = lnm.get("lif", surrogate=lnm.surrogate.from_slope(lambda z: 1 / (1 + z * z)))
    assert "surrogate='custom', detach_reset=True" in repr(make(own, detach_reset=True))
    assert repr(make(lnm.get("tc_lif"))).count("surrogate=") == 1
    for per, word, known in (("channel", "channels", "3"), ("neuron", "shape", "(3, 2)")):
        layer = make(lnm.get("lif", learn_tau=True, per=per))
        assert f"per='{per}', {word}='lazy', reset" in repr(layer)
        layer(torch.zeros(1, 1, 3, 2))
        assert f"per='{per}', {word}={known}, reset" in repr(layer)


class Positive(nn.Module):
    def forward(self, x):
        return x.abs()


@both
def test_a_parametrized_layer(backend):
    """`parametrize` moves the parameter; calls, gradients and deep copies go on."""
    layer = NeuronLayer(CUBIC, backend=backend, carry_state=True)
    nn.utils.parametrize.register_parametrization(layer, "theta", Positive())
    original, x = layer.parametrizations.theta.original, sequence(4, 2, 3)
    with torch.no_grad():
        original.copy_(torch.tensor([0.1, -0.5, -0.25, 0.1]))
    layer(x).sum().backward()
    assert original.grad.abs().sum() > 0
    plain = NeuronLayer(CUBIC, backend=backend)
    plain.theta = [0.1, 0.5, 0.25, 0.1]
    assert_equal(copy.deepcopy(layer)(x), plain(x))


# ---- what it returns ----


@both
@pytest.mark.parametrize("case", ["lif", "lnm-4", "dendrite", "gate"])
def test_calls_that_continue(case, backend):
    """Single steps, and parts with kept or given states, have the bits of one call."""
    neuron = CASES[case]()
    make = partial(NeuronLayer, neuron, channels=3, shape=(3, 4), backend=backend)
    inputs = [sequence(19, 2, 3, 4, seed=k) for k in range(len(neuron.inputs))]
    whole, end = make()(*inputs, return_state=True)
    names, several = [s.name for s in neuron.states], isinstance(whole, tuple)
    for options, lengths in (
        ({"step_mode": "s"}, [1] * 19),
        ({"carry_state": True}, [7, 12]),
        ({}, [7, 12]),
    ):
        layer = make(**options)
        for _ in range(2):
            assert layer.state == {}
            assert not any(hasattr(layer, name) for name in names)
            parts, state = [], None
            for xs in zip(*(x.split(lengths) for x in inputs), strict=True):
                xs = xs if layer.step_mode == "m" else [x[0] for x in xs]
                out, final = layer(*xs, state=state, return_state=True)
                assert isinstance(out, tuple) == several
                parts.append([o if layer.step_mode == "m" else o[None] for o in as_tuple(out)])
                state = None if options else final
                assert_equal(layer.state, final if options else {})
                assert all(layer.state[name] is getattr(layer, name) for name in layer.state)
            joined = tuple(map(torch.cat, zip(*parts, strict=True)))
            assert_equal(joined, as_tuple(whole))
            assert_equal(final, end)
            layer.reset()


@both
@pytest.mark.parametrize("shape", [(5, 2, 3), (33, 3, 37, 13), (0, 2, 3), (4, 0, 3)])
def test_records_and_counts(shape, backend):
    """out, (out, state), (out, recorded) or (out, state, recorded); counts are of the records."""
    plain, layer = NeuronLayer(LIF, backend=backend), NeuronLayer(LIF, backend=backend, **RECORDS)
    x = sequence(*shape)
    out, state = plain(x, return_state=True)
    assert_equal(plain(x), out)
    assert list(state) == ["v"]
    assert layer.recorded == {}
    got, recorded = layer(x)
    assert_equal(layer(x, return_state=True), (out, state, recorded))
    assert_equal(got, out)
    h, stats = recorded["v"], recorded["stats"]
    assert list(recorded) == ["v", "stats"]
    assert h.shape == x.shape
    assert_equal((h >= 1).float(), out)
    outside = ((h < -0.25) | (h > 0.75)).sum()
    assert stats == {"spike": float(out.sum()), "outside": float(outside)}
    layer.return_recorded = False
    assert_equal(nn.Sequential(nn.Identity(), layer, nn.Identity())(x), out)
    assert_equal(layer.recorded, recorded)
    layer.reset()
    assert layer.recorded == {}


@both
def test_records_of_nan_and_their_gradients(backend):
    """A NaN is outside every interval and no spike; a loss may use recorded potentials."""
    layer, x = NeuronLayer(LIF, backend=backend, **RECORDS), torch.zeros(3, 1, 2)
    x[0, 0, 1] = torch.nan
    assert layer(x)[1]["stats"] == {"spike": 0.0, "outside": 3.0}
    x = sequence(3, 1, 2).requires_grad_()
    layer(x)[1]["v"][0].sum().backward()
    assert x.grad.tolist() == [[[0.5, 0.5]], [[0.0, 0.0]], [[0.0, 0.0]]]


@pytest.mark.slow
@needs_cc
def test_counts_beyond_float32():
    """An odd number of spikes above 2**24, in one tile of neurons, is counted exactly."""
    layer = NeuronLayer(LIF, backend="c", record=("stats",))
    x = torch.full((1, 1, 1024), 10.0)
    x[0, 0, 5] = 1.5  # spikes at every second step
    with torch.no_grad():
        _, recorded = layer(x.expand(16401, 1, 1024))
    assert recorded["stats"]["spike"] == 1023 * 16401 + 8200


@both
def test_any_number_of_axes(backend):
    """(T, N), (T, N, C), (T, N, C, H, W): the same neurons side by side."""
    layer, x = NeuronLayer(LIF, backend=backend), sequence(7, 24)
    out = layer(x)
    for shape in ((7, 2, 12), (7, 1, 4, 6), (7, 2, 3, 2, 2)):
        assert_equal(layer(x.reshape(shape)), out.reshape(shape))


RAMP = torch.arange(4 * 6 * 8).reshape(4, 6, 8) / 100.0
STATES = (
    0.5, torch.tensor(0.5), RAMP[0, 0, :4], RAMP[0, :3, :4], RAMP[:2, :1, :1], RAMP[:2, :3, ::2],
    RAMP[:2, :3, :4], RAMP[:2, :3, 2:6], RAMP[0, :3, :4].expand(2, 3, 4),
    RAMP[:, :3, :2].permute(2, 1, 0), RAMP[:2, :3, :4].numpy(),
)  # fmt: skip


@both
def test_initial_states_in_any_shape_and_layout(backend):
    """Numbers, tensors that broadcast, strided ones: a row read beyond its end was a bug once."""
    layer, x = NeuronLayer(LIF, backend=backend), sequence(4, 2, 3, 4)
    for value in STATES:
        whole = torch.broadcast_to(torch.as_tensor(value), (2, 3, 4)).contiguous().requires_grad_()
        leaf = value.detach().requires_grad_() if isinstance(value, torch.Tensor) else value
        found = []
        for v in (leaf, whole):
            out, final = layer(x, state={"v": v}, return_state=True)
            (out.sum() + (x * final["v"]).sum()).backward() if out.requires_grad else None
            found.append((out.detach(), final["v"].detach()))
        assert_equal(*found)
        if leaf is not value:
            torch.testing.assert_close(leaf.grad, whole.grad.sum_to_size(leaf.shape))


@both
def test_a_sequence_of_no_steps_shares_nothing(backend):
    """The final states are not the initial ones, given or cached, that later calls begin with."""
    layer, given = NeuronLayer(LIF, backend=backend), torch.full((2, 3), 0.75)
    for state in ({"v": given}, None, None):
        _, final = layer(torch.zeros(0, 2, 3), state=state, return_state=True)
        assert (final["v"] == (0.75 if state else 0)).all()
        final["v"].add_(1)
    assert (given == 0.75).all()


# ---- gradients ----


@both
@pytest.mark.parametrize("case", ["lnm-4", "dendrite"])
def test_gradients_of_some_only(case, backend):
    """Those that are not wanted stay None and change no others; an end left out counts as 0."""
    neuron = CASES[case]()
    layer = NeuronLayer(neuron, channels=3, shape=(3, 4), backend=backend)
    data = {s.name: sequence(18, 2, 3, 4, seed=k) for k, s in enumerate(neuron.inputs)}
    starts = {s.name: sequence(2, 3, 4, seed=k + 5) for k, s in enumerate(neuron.states)}
    learned = dict(layer.named_parameters())
    every = (*data, *starts, *learned)

    def trained(wanted, ends, factor=1.0):
        leaves = {n: v.clone().requires_grad_(n in wanted) for n, v in (data | starts).items()}
        for name, p in learned.items():
            p.grad = None
            p.requires_grad_(name in wanted)
        state = {n: leaves[n] for n in starts}
        out, final = layer(*(leaves[n] for n in data), state=state, return_state=True)
        results = [*as_tuple(out), *final.values()]
        losses = [(results[k] * results[k].detach().cos()).sum() for k in ends]
        losses += [] if factor else [0 * e.sum() for e in results]
        total = sum(losses)
        if not wanted:
            assert not total.requires_grad
            return {}
        if total.requires_grad:
            total.backward()
        found = {n: leaf.grad for n, leaf in (leaves | learned).items()}
        assert all(found[n] is None for n in every if n not in wanted)
        return {n: torch.zeros(()) if found[n] is None else found[n] for n in wanted}

    count = len(neuron.output) + len(neuron.states)
    for ends in ([0], [len(neuron.output) - 1], [count - 1], range(count)):
        expected = trained(every, ends, 0.0)
        found = trained(every, ends)
        for name in every:
            assert_equal(*torch.broadcast_tensors(found[name], expected[name]))
        for name in every:
            for wanted in ([name], [n for n in every if n != name]):
                assert_equal(trained(wanted, ends), {n: found[n] for n in wanted})
    assert all(value.any() for value in found.values())
    trained([], range(count))


@both
def test_modes_without_gradients(backend):
    """no_grad, inference_mode and eval give the same numbers, and later calls train."""
    layer, x = NeuronLayer(CUBIC, backend=backend), sequence(40, 2, 3)
    with torch.inference_mode():
        inferred = layer(x)
    out = layer(x)
    with torch.no_grad():
        silent = layer(x)
    layer.eval()
    assert_equal([silent.detach(), inferred, layer(x)], [out] * 3)
    assert not silent.requires_grad
    assert not inferred.requires_grad
    given = x.requires_grad_()
    loss = layer(given).sum()  # the kernels leave what they read as it was
    first = torch.autograd.grad(loss, [given, layer.theta], retain_graph=True)
    assert_equal(first, torch.autograd.grad(loss, [given, layer.theta]))
    whole = torch.autograd.grad((layer(given) * torch.ones(40, 2, 3)).sum(), [given, layer.theta])
    assert_equal(first, whole)  # the gradient of a sum is expanded from one number


@needs_cc
def test_an_input_changed_in_place_is_noticed():
    """The backward recomputes a chunk from x, so PyTorch refuses a changed x."""
    layer, x = NeuronLayer(CUBIC, backend="c"), sequence(3, 2, 2)
    out = layer(x)
    x.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def twice(layer):
    x = sequence(3, 2, 2).requires_grad_()
    return torch.autograd.grad(layer(x).sum(), x, create_graph=True)


def jacobian(layer):
    return torch.autograd.functional.jacobian(layer, sequence(3, 2, 2), vectorize=True)


def batched(layer):
    x = sequence(3, 2, 2).requires_grad_()
    out = layer(x)
    return torch.autograd.grad(out, x, torch.ones(5, *out.shape), is_grads_batched=True)


def call(layer, x=None, v=0.0, tau=2.0):
    """Call a layer with one of its tensors replaced; forward_ad gives it a tangent."""
    given = {"tau": torch.as_tensor(tau), "v_threshold": torch.tensor(1.0)}
    x = sequence(4, 2, 3) if x is None else x
    return torch.func.functional_call(layer, given, (x,), {"state": {"v": v}})


DERIVATIVES = """
NeuronLayer >> >> Use backend='torch'
    twice(layer) >> double backward (create_graph=True) through the generated kernels
    jacobian(layer) >> no batched gradients
    batched(layer) >> no batched gradients
    twice(integers) >> double backward
    jacobian(integers) >> no batched gradients
    batched(integers) >> no batched gradients
NormNeuron >> >> Use backend='torch'
    twice(norm) >> double backward
    jacobian(norm) >> no batched gradients
    batched(norm) >> no batched gradients
lif >> >> Use backend='torch'.
    vmap(layer)(X[None]) >> the generated kernels of backend 'c' have no torch.func transforms
      (vmap, grad, jvp)
    grad(lambda x: layer(x).sum())(X) >> no torch.func transforms
    jvp(layer, (X,), (X,)) >> no torch.func transforms
    layer(TwoTensor(X, X)) >> cannot read a TwoTensor
    layer(FAKE) >> cannot read a FakeTensor of layout torch.strided
"""
TANGENTS = """
lif >> >> Use backend='torch'.
    call(layer, x=dual(X)) >> kernels of backend 'c' have no forward-mode derivatives
    call(layer, v=dual(X[0])) >> kernels of backend 'c' have no forward-mode derivatives
    call(layer, tau=dual(X[0, 0, 0])) >> kernels of backend 'c' have no forward-mode derivatives
lif >> >> Leave arithmetic out.
    call(integers, x=dual(X)) >> the integer models have no forward-mode derivatives
    call(integers, v=dual(X[0])) >> the integer models have no forward-mode derivatives
    call(integers, tau=dual(X[0, 0, 0])) >> the integer models have no forward-mode derivatives
    call(eager, x=dual(X)) >> the integer models have no forward-mode derivatives
    call(eager, v=dual(X[0])) >> the integer models have no forward-mode derivatives
    call(eager, tau=dual(X[0, 0, 0])) >> the integer models have no forward-mode derivatives
"""


@needs_cc
def test_derivatives_and_tensors_that_kernels_have_not():
    """One line, not a traceback from inside PyTorch. A fake tensor once ended the process."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        fake = torch.rand(4, 3)
    block, x = NormNeuron(LIF, 2, shortcut=True, backend="c"), sequence(4, 2, 3)
    layers = [NeuronLayer(LIF, backend="c"), NeuronLayer(LIF, backend="c", **FIXED)]
    layers += [NeuronLayer(LIF, backend="torch", **FIXED)]
    names = dict(zip(("layer", "integers", "eager"), layers, strict=True)) | {
        "norm": lambda c: block(c, c), "dual": lambda t: forward_ad.make_dual(t, t + 1),
        "FAKE": fake, "TwoTensor": TwoTensor, "X": x,
    }  # fmt: skip
    assert_refused(DERIVATIVES, globals() | vars(torch.func) | names, lnm.UnsupportedError)
    expected = [layer(x) for layer in layers]
    with forward_ad.dual_level():
        assert_equal([layer(x) for layer in layers], expected)  # without tangents a call runs
        assert_refused(TANGENTS, globals() | names, lnm.UnsupportedError)


@needs_cc
def test_the_negative_bit_of_a_parameter():
    """A lazy negation, as of the imaginary part of a conjugate."""
    layer, x = NeuronLayer(LIF, backend="c"), sequence(4, 2, 3)
    negated = torch.complex(torch.tensor(0.0), torch.tensor(5.0)).conj().imag
    assert negated.is_neg()
    given = {"v_threshold": negated, "tau": torch.tensor(2.0)}
    out = torch.func.functional_call(layer, given, (x,))
    given["v_threshold"] = torch.tensor(-5.0)
    assert_equal(out, torch.func.functional_call(layer, given, (x,)))
    assert out.sum() > 0


def as_parameter(layer):
    del layer.v_threshold
    layer.v_threshold = nn.Parameter(torch.tensor(0.5))
    return layer.v_threshold


def parametrized(layer):
    layer.v_threshold.requires_grad_()
    nn.utils.parametrize.register_parametrization(layer, "v_threshold", Positive())
    return layer.parametrizations.v_threshold.original


def learned(layer):
    return layer.v_threshold.requires_grad_()


TRAINED = [(way, o, False) for way in (as_parameter, parametrized, learned) for o in ({}, FIXED)]


@needs_cc
@pytest.mark.parametrize(("trained", "options", "compiled"), [*TRAINED, slow(learned, {}, True)])
def test_a_trained_constant(trained, options, compiled):
    """The kernels have no gradient for it: refused. It once stayed None, or 0 when compiled."""
    x, layer = sequence(4, 2, 3), NeuronLayer(LIF, backend="c", **options)
    constant = trained(layer)
    problem = "constant 'v_threshold' requires a gradient, which no kernel computes"
    remedy = "Make it learnable in the definition, or use backend='torch' or no_grad()."
    with refused(lnm.UnsupportedError, "lif", problem, remedy=remedy):
        (torch.compile(layer, backend="aot_eager") if compiled else layer)(x)
    with torch.no_grad():
        layer(x)
    layer.backend = "torch"
    layer(x).sum().backward()
    assert constant.grad.abs() > 0


@needs_cc
def test_a_trained_constant_that_is_a_start():
    """PyTorch computes its gradient, since no step reads it."""
    v, x = lnm.state("v", init=lnm.param("start", learnable=False)), lnm.input("x")
    neuron, found = lnm.Neuron({v: 0.5 * v + x}, v - 1, lnm.soft_reset(v, 1)), []
    for backend in ("c", "torch"):
        layer = NeuronLayer(neuron, backend=backend)
        layer.start.requires_grad_()
        layer(sequence(4, 2, 3)).sum().backward()
        found.append(layer.start.grad)
    torch.testing.assert_close(*found)
    assert found[0].abs() > 0


# ---- backends ----


def no_compiler():
    raise lnm.ToolError("c", "no C++ compiler found (g++)", remedy="Install g++.")


def test_auto_without_a_compiler_warns_once(monkeypatch, tmp_path):
    """Eager PyTorch runs, with one warning, where the cache has no kernel either."""
    monkeypatch.setenv("LNM_CACHE", str(tmp_path))
    monkeypatch.setattr(select, "compiler", no_compiler)
    layer, x = NeuronLayer(LIF), sequence(3, 2, 2)
    expected = NeuronLayer(LIF, backend="torch")(x)
    with pytest.warns(RuntimeWarning) as caught:
        assert_equal(layer(x), expected)
    assert [str(w.message) for w in caught] == [
        "c: no C++ compiler found (g++). Install g++. Eager PyTorch runs instead."
    ]
    assert caught[0].filename == __file__  # the user's line
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_equal([layer(x), NeuronLayer(LIF)(x)], [expected] * 2)


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
@pytest.mark.parametrize("dtype", [torch.float32, slow(torch.bfloat16)])
def test_in_place(dtype):
    """Without gradients the output overwrites x; with them, or where x has gaps, it does not."""
    plain, layer = (NeuronLayer(CUBIC, backend="c", inplace=i) for i in (False, True))
    x = sequence(20, 3, 700).to(dtype)
    with torch.no_grad():
        expected, own = plain(x, return_state=True), x.clone()
        version = own._version
        found = layer(own, return_state=True)
        assert found[0] is own
        assert own._version > version
        assert_equal(found, expected)
        for kept in (x[:1].expand(20, 3, 700), torch.stack([x, x], -1)[..., 0]):
            before = kept.clone()
            assert layer(kept).data_ptr() != kept.data_ptr()
            assert torch.equal(kept, before)
    own = x.clone()
    assert layer(own).data_ptr() != own.data_ptr()  # theta wants a gradient
    assert torch.equal(own, x)


# ---- kept states and options ----


@needs_cc
@pytest.mark.parametrize("is_block", [False, True])
def test_a_forgotten_reset_is_named(is_block):
    """A second backward through the first call; reset, detach or a retained graph avoid it."""
    options = {"channels": 4, "backend": "c", "carry_state": True}
    if is_block:
        layer = NormNeuron(LIF, shortcut=True, **options)
    else:
        layer = NeuronLayer(LEARNED, **options)
    xs = [sequence(3, 2, 4)] * (1 + is_block)
    layer(*xs).sum().backward()
    where = type(layer).__name__
    with refused(lnm.UnsupportedError, where, "a second time", remedy="call reset()"):
        layer(*xs).sum().backward()
    for avoid in (layer.reset, layer.detach):
        avoid()
        layer(*xs).sum().backward()
    layer.reset()
    layer(*xs).sum().backward(retain_graph=True)
    layer(*xs).sum().backward()


def test_kept_states_that_cannot_be_read_again():
    """Of an ended transform, or of inference mode: one line, and reset() helps."""
    layer, x = NeuronLayer(LIF, backend="torch", carry_state=True), sequence(4, 2, 3)
    with torch.inference_mode():
        layer(x)
    with refused(lnm.UnsupportedError, "lif", "torch.inference_mode", remedy="Call reset()."):
        layer(x)
    layer.reset()
    layer(x)
    layer.reset()
    torch.func.vmap(lambda y: layer(y))(torch.stack([x, x]))
    with refused(lnm.UnsupportedError, "lif", "a transform", remedy="Call reset()."):
        layer(x)


@pytest.mark.parametrize("before", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_new_batch_size_without_reset(before, dtype):
    """Refused until reset(), and the states stay; a batch of one is not broadcast to the next."""
    layer = NeuronLayer(LIF, backend="torch", step_mode="s")
    layer(torch.full((before, 3), 0.5))
    problem = f"state 'v' has shape ({before}, 3)"
    with refused(lnm.ShapeError, "lif", problem, "(4, 3)", "Call reset()"):
        layer(torch.zeros(4, 3, dtype=dtype))
    assert layer(torch.full((before, 3), 0.5), return_state=True)[1]["v"].unique() == 0.375
    layer.reset()
    assert layer(torch.zeros(4, 3, dtype=dtype)).shape == (4, 3)


SET_LATER = {
    "record": ("v", ("v", "stats"), ("stats", "v")), "interval": ((-1.0, 0.1), (-1.0, 0.5)),
    "arithmetic": (lnm.Fixed(8, 6), lnm.Fixed(8, 2)), "backend": ("torch", "c"),
    "step_mode": ("s",), "carry_state": (True,), "return_recorded": (False,), "inplace": (True,),
}  # fmt: skip
"""Option of a layer -> values that are set one after another, and then that of the beginning."""


@pytest.mark.parametrize("option", SET_LATER)
@pytest.mark.parametrize(
    ("backend", "compiled"),
    [("torch", False), *(slow(*c) for c in (("torch", True), ("c", False), ("c", True)))],
)
def test_an_option_set_later(option, backend, compiled):
    """It has the effect of the constructor's. In a graph, a new interval was once without it."""
    torch._dynamo.reset()
    given = {"record": "stats"} if option in ("interval", "return_recorded") else {}
    layer, x = NeuronLayer(LIF, **{"backend": backend} | given), sequence(6, 2, 3)
    run = torch.compile(layer, backend="eager") if compiled else layer
    start = getattr(layer, option)
    run(x)
    for value in (*SET_LATER[option], start):
        setattr(layer, option, value)
        fresh = NeuronLayer(LIF, **{"backend": backend} | given | {option: value})
        assert layer.recorded == {} or option != "record"
        layer.reset()
        assert repr(layer) == repr(fresh)
        assert getattr(layer, option) == getattr(fresh, option)
        for part in (x[:3], 2 * x[3:]):
            part = part if layer.step_mode == "m" else part[0]
            with torch.no_grad():
                found, expected = run(part.clone()), fresh(part.clone())
            kept = [(one.recorded, one.state) for one in (layer, fresh)]
            assert_equal((found, *kept[0]), (expected, *kept[1]))
    assert start == {"interval": (-1e30, 1e30)}.get(option, start)


# ---- refusals ----


def build(neuron=LIF, **options):
    return NeuronLayer(neuron, **({"backend": "torch"} | options))


def with_later(call):
    """Run a call, after an assignment to an attribute where it has one argument."""
    argument = call.removeprefix("build(").removesuffix(")")
    name, _, value = argument.partition("=")
    if name in SET_LATER:
        layer, value = build(record=("v",)), eval(value, NAMES)
        before, out = getattr(layer, name), layer(X)
        with pytest.raises(lnm.ModelError) as caught:
            setattr(layer, name, value)
        assert getattr(layer, name) == before
        assert_equal(layer(X), out)
        with pytest.raises(lnm.ModelError, match=re.escape(str(caught.value))):
            eval(call, NAMES)
    return eval(call, NAMES)


OPTIONS = """
NeuronLayer
    NeuronLayer('lif') >> neuron is 'lif' >> an lnm.Neuron, such as lnm.get('lif')
    build(backend='cc') >> no backend 'cc' >> auto, c, triton, cuda, torch >> 'c'?
    build(step_mode='multi') >> step_mode is 'multi' >> 'm', 's'
    build(inplace='no') >> inplace is 'no' >> True, False
    build(inplace=None) >> inplace is None >> True, False
    build(carry_state='no') >> carry_state is 'no' >> True, False
    build(return_recorded=1) >> return_recorded is 1 >> True, False
    build(dtype=torch.int8) >> dtype is torch.int8 >> None, torch.float32
    build(channels=0) >> channels is 0 >> an integer >= 1
    build(shape='3') >> shape is '3' >> integers, such as (C, H, W)
    build(shape=(3, True)) >> a size of shape is True >> an integer >= 1
    build(shape=(3, 4), channels=2) >> shape (3, 4) does not begin with channels 2 >>
      >> Give one of the two, or the same number.
    build(record=3) >> record is 3 >> names, such as ('v',)
    build(record=('h',)) >> no record 'h' >> v, stats
    build(record=('stat',)) >> no record 'stat' >> v, stats >> Did you mean 'stats'?
    build(interval=(1.0, 1.0)) >> interval is (1.0, 1.0) >> (low, high) with low < high
    build(arithmetic=16) >> arithmetic is 16 >> lnm.Fixed(16, 12)
    build(CLASH) >> parameter 'training' has the name of an attribute of the layer >>
      >> Rename it in the model.
    setattr(build(), 'neuron', LIF) >> neuron cannot be replaced >> >> Make another layer.
    setattr(build(), 'detach_reset', True) >> detach_reset cannot be replaced >>
      >> Make another layer.
"""
CALLS = """
NeuronLayer
    build(WRONG) >> init of 'theta' returned shape (2,) >> (3,)
lif
    build()(X, X) >> the call has 2 inputs >> x
    build()([1.0]) >> input 'x' is of type list >> a tensor >> Use torch.tensor(x).
    build()([X, X]) >> input 'x' is of type list >> a tensor >> Use torch.stack(x).
    build()(X.numpy()) >> input 'x' is of type ndarray >> a tensor >> Use torch.from_numpy(x).
    build()(X + 1j) >> input 'x' is torch.complex64 >> float32, float64 >>
      Use x.real, x.imag or x.abs().
    build()(X.long()) >> input 'x' is torch.int64 >> float32, float64, bfloat16, float16 >>
      Use x.float().
    build()(X.to_sparse()) >> layout torch.sparse_coo >> strided >> Use x.to_dense().
    build(backend='c')(X.to_sparse()) >> layout torch.sparse_coo >> strided >> Use x.to_dense().
    build()(torch.zeros(8)) >> input 'x' has shape (8,) >> (T, N, *)
    build(step_mode='s')(torch.zeros(())) >> input 'x' has shape () >> (N, *)
    build(CHANNEL, channels=5)(X) >> x_seq has shape (4, 2, 3), 3 channels (axis 2 of (T, N, C, *))
      >> (5,), the size of parameter 'tau' per channel
    build(CHANNEL, channels=5)(X[0]) >> x_seq has shape (2, 3), no channels (axis 2 of
      (T, N, C, *)) >> (5,)
    build(NEURON, shape=(3, 7))(X) >> x_seq has shape (4, 2, 3), neurons (3,) in a sample (T, N, *)
      >> (3, 7), the size of parameter 'tau' per neuron
    build()(X, state=[0.0]) >> state is a list >> a dict with names among v
    build()(X, state={'h': 0.0}) >> no state 'h' >> v
    build()(X, state={'v': 'rest'}) >> state 'v' is 'rest' >> a number or a tensor
    build()(X, state={'v': torch.zeros(5)}) >> state 'v' has shape (5,) >> (2, 3)
lif >> a number or a tensor, real and not bool
    build()(X, state={'v': X[0] + 1j}) >> state 'v' is torch.complex64
    build()(X, state={'v': X[0] > 0}) >> state 'v' is torch.bool
    build()(X, state={'v': X.numpy() + 1j}) >> state 'v' is array(
    build()(X, state={'v': True}) >> state 'v' is True
cuba_lif
    build(lnm.get('cuba_lif'))(X, state={'curent': 0.0}) >> no state 'curent' >> current, v >>
      Did you mean 'current'?
dendrite >> >> Give an axis of length 1 where the input repeats.
    build(DENDRITE, shape=(3,))(X, X[:2]) >> input 'drive' has shape (2, 2, 3) >>
      (4,), or a shape that broadcasts to (4, 2, 3) >> AXIS
    build(DENDRITE, shape=(3,))(X, X[:, :, :2]) >> input 'drive' has shape (4, 2, 2) >>
      (4,), or a shape that broadcasts to (4, 2, 3) >> AXIS
    build(DENDRITE, shape=(3,))(X, X[None]) >> input 'drive' has shape (1, 4, 2, 3) >>
      a shape that broadcasts to (4, 2, 3) >> AXIS
    build(DENDRITE, shape=(3,), step_mode='s')(X[0], X[:, 0, 0]) >> input 'drive' has shape (4,) >>
      a shape that broadcasts to (2, 3) >> AXIS
    build(DENDRITE, shape=(3,))(X, X.double()) >> input 'drive' is torch.float64 >>
      torch.float32, as the first input >> Use drive.to(torch.float32).
    build(DENDRITE, shape=(3,))(X, X + 1j) >> input 'drive' is torch.complex64 >>
      torch.float32, as the first input
    build(DENDRITE, shape=(3,))(X, X.to('meta')) >> input 'drive' is on meta >>
      cpu, as the first input
"""
X = torch.zeros(4, 2, 3)
NAMES = globals() | {
    "AXIS": "Give an axis of length 1 where the input repeats.",
    "CHANNEL": lnm.get("lif", learn_tau=True, per="channel"),
    "NEURON": lnm.get("lif", learn_tau=True, per="neuron"),
    "CLASH": lnm.Neuron(fire=lnm.input("x") - lnm.param("training", init=1.0), name="clash"),
    "WRONG": lnm.get("lnm", degree=2, theta=lambda generator, shape: torch.zeros(2)),
}


def test_refused_options():
    """In the constructor, and where an attribute is set; the layer then stays as it was."""
    assert_refused(OPTIONS, NAMES, run=with_later)


def test_refused_calls():
    """Place, problem, accepted values and remedy of each wrong argument of a call."""
    assert_refused(CALLS, NAMES, lnm.ShapeError)
    problem = "backend 'c' runs on the CPU; the input is on meta"
    with refused(lnm.ToolError, "lif", problem, remedy="Use backend='torch', or move the input."):
        NeuronLayer(LIF, backend="c")(torch.empty(3, 2, 2, device="meta"))


def test_autocast_takes_inputs_of_two_types():
    """They take the wider type, as in an addition; without autocast a type is refused."""
    layer, x = build(DENDRITE, shape=(3,)), sequence(4, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x.bfloat16(), x)
        assert layer(x.bfloat16(), x.bfloat16())[0].dtype is torch.bfloat16
        with refused(lnm.ShapeError, "dendrite", "input 'drive' is torch.int64"):
            layer(x, x.long())
    assert_equal(found, layer(x.bfloat16().float(), x))
