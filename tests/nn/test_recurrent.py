"""`RecurrentLayer`, `Delay` and lengths, beside a plain loop over single steps."""

from __future__ import annotations

import copy
import math
import pickle
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call, grad, vmap
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

import lnm_codegen as lnm
from lnm_codegen.nn import Delay, NeuronLayer, NormNeuron, RecurrentLayer, feedback
from lnm_codegen.nn.hooks import watching
from tests.layers import needs_cc
from tests.recurrent import DENDRITE, IZHIKEVICH, LIF, TWO, compared, drawn, exact
from tests.refusals import assert_refused

FORMS = st.sampled_from(
    [{}, {"recurrent": "diagonal"}, {"autapses": False}, {"blocks": 2}, {"mask": 1}, {"taps": 1}]
)


@needs_cc
@settings(max_examples=25)
@given(
    neuron=st.sampled_from([LIF, TWO, IZHIKEVICH]), form=FORMS, size=st.sampled_from([2, 16, 18]),
    batch=st.integers(1, 5), steps=st.integers(1, 35), delay=st.integers(1, 4),
    ends=st.booleans(), inputs=st.sampled_from([None, 3]), seed=st.integers(0, 9),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_it_is_a_loop_over_steps(
    neuron, form, size, batch, steps, delay, ends, inputs, seed, dtype
):
    """Bits of outputs and states; gradients of inputs, states, weights, delays, parameters."""
    torch.manual_seed(seed)
    options = dict(form)
    if "mask" in options:
        options = {"recurrent": torch.rand(size, size) < 0.5}
    if options.pop("taps", 0):
        delay = Delay(size, delay + 1, least=1, dtype=dtype)
    layer = exact(
        RecurrentLayer(neuron, size, inputs, delay=delay, backend="c", dtype=dtype, **options)
    )
    lengths = torch.randint(1, steps + 1, (batch,)) if ends else None
    compared(layer, steps, batch, lengths, dtype)


@needs_cc
@settings(max_examples=15)
@given(
    neuron=st.sampled_from([LIF, TWO, DENDRITE]), form=FORMS, steps=st.integers(1, 9),
    delay=st.integers(1, 3), ends=st.booleans(), inputs=st.sampled_from([None, 3]),
    mode=st.sampled_from(["m", "s"]), backend=st.sampled_from(["c", "torch"]),
)  # fmt: skip
def test_what_its_neurons_receive(neuron, form, steps, delay, ends, inputs, mode, backend):
    """Neurons alone give the same on it: W and U are in it, in a later call of a stream too."""
    options = dict(form)
    if "mask" in options:
        options = {"recurrent": torch.rand(4, 4) < 0.5}
    if options.pop("taps", 0):
        delay = Delay(4, delay + 1, least=1)
    options["feedback"] = "count" if neuron is DENDRITE else None
    layer = exact(RecurrentLayer(neuron, 4, inputs, delay=delay, backend=backend, **options))
    layer.step_mode, layer.carry_state = mode, True
    x, more, state = drawn(layer, steps, 3)
    alone = NeuronLayer(neuron, shape=(4,), backend=backend)
    lengths = torch.randint(1, steps + 1, (3,)) if ends and mode == "m" else None
    seen = []
    layer.state = state
    with watching([(layer, lambda _, received: seen.append(received))]), torch.no_grad():
        if mode == "s":
            for row in zip(x, *more, strict=True):
                layer(*row)
        else:
            layer(x, *more, lengths=lengths)
            layer(x, *more)
    assert len(seen) == (steps if mode == "s" else 2)
    values = {p.name: getattr(layer, p.name) for p in neuron.params}
    for received in seen:
        named = {"state": received.state, "lengths": received.lengths}
        out = functional_call(alone, values, received.inputs, named)
        for mine, theirs in zip(
            out if isinstance(out, tuple) else (out,), received.outputs, strict=True
        ):
            assert torch.equal(mine, theirs)
    feeds = seen[0].feeds
    assert list(feeds) == (["weight"] if inputs else []) + ["recurrent"]
    connected = torch.ones_like(layer.recurrent) if layer.mask is None else layer.mask
    assert feeds["recurrent"].weights == int(connected.sum())
    assert int(feeds["recurrent"].reached.sum()) == int(connected.sum())


@needs_cc
@pytest.mark.parametrize("into", [s.name for s in DENDRITE.inputs])
@pytest.mark.parametrize("feedback", [name for name, _ in DENDRITE.output])
def test_several_inputs_and_outputs(feedback, into):
    """U may read any output, and feed another input than the first."""
    layer = RecurrentLayer(
        DENDRITE, 5, 3, feedback=feedback, into=into, backend="c", dtype=torch.float64
    )
    compared(exact(layer), 9, 3, dtype=torch.float64, close=1e-12)  # graded sums are rounded


@needs_cc
@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 16, 17, 36, 128, 256, 512])
@pytest.mark.parametrize(("steps", "batch"), [(1, 64), (20, 3), (100, 1), (7, 40)])
@pytest.mark.parametrize("neuron", [LIF, TWO])
def test_sizes(neuron, size, steps, batch):
    """Every size, and 1 to 4 threads with the same bits."""
    layer = exact(RecurrentLayer(neuron, size, 5, backend="c"))
    compared(layer, steps, batch)
    layer = exact(RecurrentLayer(neuron, size, backend="c"))  # no W: PyTorch sums its gradient
    x, results = drawn(layer, steps, batch)[0].requires_grad_(), []
    own = [getattr(layer, p.name) for p in neuron.params if p.learnable]
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 4):
            torch.set_num_threads(threads)
            out = layer(x)
            results.append((out, *torch.autograd.grad(out.sum(), [x, *own])))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("backend", [pytest.param("c", marks=needs_cc), "torch"])
def test_two_calls_are_one(backend):
    """States, with the last outputs, pass from call to call, gradients included."""
    layer = exact(RecurrentLayer(TWO, 6, 3, delay=3, backend=backend, carry_state=True))
    x, lengths = drawn(layer, 12, 4)[0], torch.tensor([12, 12, 5, 9])
    whole = layer(x)
    grads = torch.autograd.grad(whole.sum(), list(layer.parameters()))
    layer.reset()
    parts = torch.cat([layer(x[:5]), layer(x[5:7]), layer(x[7:])])
    assert torch.equal(whole, parts)
    found = torch.autograd.grad(parts.sum(), list(layer.parameters()))
    for a, b in zip(found, grads, strict=True):
        torch.testing.assert_close(a, b)
    layer.reset()
    layer.step_mode = "s"
    assert torch.equal(torch.stack([layer(row) for row in x]), whole)
    layer.step_mode, layer.carry_state = "m", False
    assert torch.equal(layer(x, lengths=lengths)[:5], whole[:5])


@pytest.mark.parametrize("backend", [pytest.param("c", marks=needs_cc), "torch"])
def test_copies_records_and_graphs(backend):
    """Copies compute the same; records count no padding; a compiled call is the same."""
    layer = exact(RecurrentLayer(LIF, 4, 3, backend=backend, record=("v", "stats")))
    layer.return_recorded = False
    x, lengths = drawn(layer, 8, 3)[0], torch.tensor([8, 2, 5])
    out = layer(x, lengths=lengths)
    assert layer.recorded["stats"]["spike"] == out.sum()
    assert not layer.recorded["v"][2:, 1].any()
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x, lengths=lengths), out)
    loaded = RecurrentLayer(LIF, 4, "lazy", backend=backend)
    loaded.load_state_dict(layer.state_dict())
    assert torch.equal(loaded(x, lengths=lengths), out)
    assert RecurrentLayer(LIF, 4, "lazy", backend="torch")(x).shape == out.shape


@needs_cc
@pytest.mark.parametrize(("delay", "size", "threads"), [(1, 67, 1), (3, 64, 3)])
def test_the_gradient_of_u_is_a_sum_over_spikes(delay, size, threads, monkeypatch):
    """From few spikes, with given ones before the start, as the product of matrices."""
    layer = exact(RecurrentLayer(LIF, size, delay=delay, backend="c"))
    x, _, state = drawn(layer, 7, 3)
    grads, before = [], torch.get_num_threads()
    torch.set_num_threads(threads)
    for most in (feedback.SPARSE, 0.0):
        monkeypatch.setattr(feedback, "SPARSE", most)
        out = layer(x / 2, state=state)
        assert 0 < out.mean() < 0.15
        grads.append(torch.autograd.grad(out.square().sum(), layer.recurrent)[0])
    torch.set_num_threads(before)
    assert grads[0].any()
    torch.testing.assert_close(*grads)


@needs_cc
def test_what_is_saved():
    """x, the spikes (as bits where asked), a state for each chunk; the same gradients."""
    layer = RecurrentLayer(TWO, 8, inputs=2, backend="c")
    steps, batch = 49, 16
    x = 3 * torch.randn(steps, batch, 2)
    found, grads, number = {}, [], 4 * batch * 8
    for packs in (False, True):
        saved: list[int] = []
        kept = saved_tensors_hooks(lambda t, own=saved: own.append(t.nbytes) or t, lambda t: t)
        with kept, lnm.nn.pack_spikes() if packs else nullcontext():
            out = layer(x)
            found[packs] = sum(saved)
        grads.append(torch.autograd.grad(out.sum(), list(layer.parameters())))
    for one, other in zip(*grads, strict=True):
        assert torch.equal(one, other)
    chunks = 2 * 3  # states at the borders of chunks of 16 steps
    rest = x.nbytes + sum(p.nbytes for p in layer.parameters()) + 2 * number
    assert (2 * steps + chunks) * number <= found[False] <= (2 * steps + chunks) * number + rest
    bits = found[True] - found[False] + steps * number
    assert steps * number // 32 <= bits <= steps * number // 32 + 64  # a whole block


@needs_cc
def test_compiled():
    """`torch.compile` keeps the kernels: one operator each way."""
    layer = exact(RecurrentLayer(TWO, 4, 3, delay=2, carry_limit=2.0, backend="c"))
    x = drawn(layer, 8, 3)[0]
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    out, found = layer(x), compiled(x)
    assert torch.equal(out, found)
    grads = [torch.autograd.grad(o.sum(), list(layer.parameters())) for o in (out, found)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("backend", [pytest.param("c", marks=needs_cc), "torch"])
def test_transforms(backend):
    """Activation checkpointing, autocast of W's product alone, export for any T, `torch.func`."""
    layer = exact(RecurrentLayer(TWO, 4, 3, backend=backend)).eval()
    x = drawn(layer, 8, 3)[0].requires_grad_()
    out, params = layer(x), dict(layer.named_parameters())
    grads = torch.autograd.grad(out.sum(), [x, *params.values()])
    again = checkpoint(layer, x, use_reentrant=False)
    assert torch.equal(again, out)
    found = torch.autograd.grad(again.sum(), [x, *params.values()])
    for mine, theirs in zip(found, grads, strict=True):
        torch.testing.assert_close(mine, theirs)
    with torch.autocast("cpu", torch.bfloat16):
        cast = layer(x)
        c = linear(x, layer.weight, layer.bias)
    assert (cast.dtype, c.dtype) == (torch.float32, torch.bfloat16)
    own = copy.deepcopy(layer)
    own.weight = own.bias = None
    assert torch.equal(cast, own(c.float()))
    if backend == "torch":
        loss = grad(lambda p: functional_call(layer, p, (x,)).sum())(params)
        for mine, theirs in zip(loss.values(), grads[1:], strict=True):
            torch.testing.assert_close(mine, theirs)
        pair = torch.stack([x, x / 2]).detach()
        assert torch.equal(vmap(layer)(pair), torch.stack([layer(pair[0]), layer(pair[1])]))
    else:
        sizes = ({0: torch.export.Dim("T", min=2, max=99)},)
        with torch.no_grad():
            program = torch.export.export(layer, (x,), dynamic_shapes=sizes).module()
        assert torch.equal(program(x[:5]), out[:5])


@pytest.mark.parametrize("backend", [pytest.param("c", marks=needs_cc), "torch"])
def test_padding_may_be_nan(backend):
    """No gradient sees it, that of W neither."""
    layer = exact(RecurrentLayer(TWO, 4, 3, backend=backend))
    x, lengths, found = drawn(layer, 8, 3)[0], torch.tensor([8, 2, 5]), []
    padding = (torch.arange(8)[:, None] >= lengths)[:, :, None]
    for value in (0.0, math.nan):
        own = x.masked_fill(padding, value).requires_grad_()
        out = layer(own, lengths=lengths)
        found.append((out, *torch.autograd.grad(out.sum(), [own, *layer.parameters()])))
    for zeros, nans in zip(*found, strict=True):
        assert torch.equal(zeros, nans)
    one = RecurrentLayer(TWO, 4, 3, backend=backend, step_mode="s")
    assert one(x[0], lengths=torch.ones(3, dtype=torch.long)).shape == (3, 4)


def test_a_copy_is_not_watched():
    """Nor does a call in place lose what its neurons received."""
    layer, seen = NeuronLayer(LIF, backend="torch", inplace=True), []
    x = torch.rand(4, 2, 3)
    with watching([(layer, lambda _, received: seen.append(received))]), torch.no_grad():
        layer(x.clone())
        copied = pickle.loads(pickle.dumps(layer.state_dict())), copy.deepcopy(layer)
        copied[1](x.clone())
    assert len(seen) == 1
    assert torch.equal(seen[0].inputs[0], x)
    assert (copied[1]._watched, layer._watched) == (0, 0)


def test_a_delay_that_is_no_number_shows():
    """NaN and infinity are no delay of 0; a sequence of no steps has no delay to wait for."""
    for value in (math.nan, math.inf):
        delay = Delay(1, 3)
        with torch.no_grad():
            delay.delay.fill_(value)
        assert bool(delay(torch.ones(4, 1, 1)).isnan().all())
    out, state = Delay(2, 3)(torch.ones(0, 1, 2), torch.ones(3, 1, 2), return_state=True)
    assert (out.shape, state.shape) == ((0, 1, 2), (3, 1, 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("blocks", [None, 2])
def test_weights_of_16_bits(dtype, blocks):
    """They begin as orthogonal as 16 bits allow."""
    layer = RecurrentLayer(LIF, 4, 3, blocks=blocks, dtype=dtype, backend="torch")
    u = layer.recurrent.double()
    eye = torch.eye(u.shape[-1], dtype=torch.float64).expand_as(u)
    torch.testing.assert_close(u @ u.mT, eye, rtol=0, atol=0.02)
    out = layer(torch.rand(5, 2, 3, dtype=dtype))
    assert out.dtype is dtype
    out.sum().backward()
    assert layer.recurrent.grad.dtype is dtype


@needs_cc
def test_a_parameter_named_as_a_size():
    """The kernels have names of their own for sizes."""
    v, x, leak = lnm.state("v"), lnm.input("x"), lnm.param("samples", init=0.5)
    neuron = lnm.Neuron(
        charge={v: leak * v + x}, fire=v - 1, surrogate=lnm.surrogate.atan(), name="named"
    )
    compared(exact(RecurrentLayer(neuron, 5, backend="c")), 4, 3)


def test_what_a_call_runs():
    """`explain` names the kernel, or why there is a loop."""
    x = torch.rand(5, 2, 3)
    layer = RecurrentLayer(LIF, 4, 3, backend="c")
    assert "one kernel in each direction; c + U s is saved in place of c" in str(layer.explain(x))
    own = RecurrentLayer(LIF, 4, backend="c").explain(torch.rand(5, 2, 4))
    assert own.feedback.endswith("c + U s is saved beside c")
    assert own.bytes_kept == 4 * 5 * 2 * 4
    for backend, dtype, why in (
        ("torch", torch.float32, "backend 'torch' has no kernel for it"),
        ("c", torch.bfloat16, "bfloat16 has no kernel for it"),
    ):
        layer = RecurrentLayer(LIF, 4, backend=backend)
        found = layer.explain(torch.rand(5, 2, 4, dtype=dtype))
        assert found.feedback == f"a loop over 5 steps: {why}"
    assert NeuronLayer(LIF, backend="torch").explain(x).feedback == ""


@pytest.mark.parametrize("backend", [pytest.param("c", marks=needs_cc), "torch"])
def test_lengths_of_a_layer_without_feedback(backend):
    """Each sample is as if it were alone, without its padding; records too."""
    layer = NeuronLayer(TWO, channels=3, backend=backend, record=("stats",), return_recorded=False)
    x = torch.randn(9, 4, 3, generator=torch.Generator().manual_seed(0)) * 3
    lengths, spikes = torch.tensor([9, 2, 5, 5]), 0
    x.requires_grad_()
    out, final = layer(x, lengths=lengths, return_state=True)
    total = layer.recorded["stats"]["spike"]
    grad = torch.autograd.grad(out.sum() + final["v"].square().sum(), x)[0]
    for n, end in enumerate(lengths.tolist()):
        own = x[:end, n : n + 1].detach().requires_grad_()
        alone, state = layer(own, return_state=True)
        spikes += layer.recorded["stats"]["spike"]
        assert torch.equal(out[:end, n : n + 1], alone)
        assert not out[end:, n].any()
        assert torch.equal(final["v"][n], state["v"][0])
        expected = torch.autograd.grad(alone.sum() + state["v"].square().sum(), own)[0]
        assert torch.equal(grad[:end, n : n + 1], expected)
        assert not grad[end:, n].any()
    assert total == spikes


def test_a_delay_between_two_steps():
    """Linear interpolation, its gradient, and a sequence in two parts."""
    delay = Delay(2, 3, dtype=torch.float64)
    delay.delay.data = torch.tensor([0.25, 3.0], dtype=torch.float64)
    x = torch.randn(7, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    y = delay(x)
    before = torch.cat([torch.zeros(1, 2, 3), x[:-1, :, 0].detach()])
    torch.testing.assert_close(y[:, :, 0], 0.75 * x[:, :, 0] + 0.25 * before)
    assert torch.equal(y[3:, :, 1], x[:-3, :, 1])
    (grad,) = torch.autograd.grad(y.sum(), delay.delay, retain_graph=True)
    torch.testing.assert_close(grad[0], (before - x[:, :, 0]).sum().detach())
    assert torch.autograd.gradcheck(delay, (x,))
    first, state = delay(x[:4], return_state=True)
    torch.testing.assert_close(torch.cat([first, delay(x[4:], state=state)]), y)
    assert copy.deepcopy(delay).width == 1


def test_a_delay_is_found_with_a_triangle_that_narrows():
    """From 2.3 to 5 steps; with a width of 1 the gradient sees no further than one step."""
    found = {}
    for width in (1.0, 4.0):
        torch.manual_seed(1)
        delay = Delay(1, 10, init=2.3, width=width)
        optimiser = torch.optim.Adam(delay.parameters(), 0.05)
        for step in range(300):
            delay.width = max(1.0, width * (1 - step / 200))
            x = (torch.rand(60, 8, 1) < 0.1).float()
            target = torch.cat([torch.zeros(5, 8, 1), x[:-5]])
            loss = (delay(x) - target).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        found[width] = delay.delay.item()
    assert abs(found[4.0] - 5) < 0.01
    assert found[1.0] < 4


def named_parameter(name):
    """Return a leaky neuron whose decay has a name."""
    v, x, decay = lnm.state("v"), lnm.input("x"), lnm.param(name, init=0.5)
    return lnm.Neuron(charge={v: decay * v + x}, fire=v - 1, reset=lnm.soft_reset(v, 1.0))


def test_refusals():
    """What a layer, a delay and lengths refuse."""
    mask = torch.ones(4, 4)
    layer = RecurrentLayer(LIF, 4, 3, backend="torch")
    names = {
        "R": RecurrentLayer, "LIF": LIF, "LI": lnm.get("li"), "MASK": mask, "D": Delay, "T": torch,
        "LAYER": layer, "N": NeuronLayer(LIF, backend="torch"), "X": torch.rand(5, 2, 3),
        "NORM": NormNeuron(LIF, 3, backend="torch"), "NAMED": named_parameter, "OTHER": Delay(3, 2),
        "LEARNED": RecurrentLayer(LIF, 4, delay=Delay(4, 2, least=1)),
        "CHANGED": RecurrentLayer(LIF, 4, 3),
    }  # fmt: skip
    names["CHANGED"].recurrent = torch.nn.Parameter(torch.ones(1, 1))
    assert_refused(
        """
?
    R(LIF, 0) >> RecurrentLayer: size
    R(LIF, 4, delay=0) >> RecurrentLayer: delay
    R(LIF, 4, recurrent="sparse") >> RecurrentLayer: recurrent is 'sparse'
    R(LIF, 4, recurrent=MASK) >> RecurrentLayer: recurrent is torch.float32 of shape (4, 4)
    R(LIF, 4, recurrent="diagonal", blocks=2) >> RecurrentLayer: a diagonal U with blocks
    R(LIF, 4, recurrent="diagonal", autapses=False) >> RecurrentLayer: a diagonal U with autapses
    R(LIF, 4, recurrent=MASK > 0, blocks=2) >> RecurrentLayer: a mask with blocks
    R(LIF, 4, blocks=3) >> RecurrentLayer: size 4 is no multiple of blocks 3
    R(LIF, 4, channels=4) >> RecurrentLayer: it takes no argument 'channels'
    R(LIF, 4, feedback="spikes") >> RecurrentLayer: no feedback 'spikes'
    R(LIF, 4, into="y") >> RecurrentLayer: no into 'y'
    R(LIF, 4, delay=OTHER) >> RecurrentLayer: the delay is of size 3 and from 0 on
    R("lif", 4) >> RecurrentLayer: neuron is 'lif'
    R(NAMED("delay"), 4) >> RecurrentLayer: the neuron has a state or parameter 'delay'
    R(NAMED("delays"), 4) >> RecurrentLayer: the neuron has a state or parameter 'delays'
    R(NAMED("carry_limit"), 4) >> RecurrentLayer: the neuron has a state or parameter 'carry_limit'
    R(LIF, 4, 0) >> RecurrentLayer: inputs is 0
    R(LIF, 4, "four") >> RecurrentLayer: inputs is 'four'
    R(LIF, 4, bias="no") >> RecurrentLayer: bias is 'no'
    R(LIF, 4, recurrent=MASK.numpy()) >> RecurrentLayer: recurrent is array
    setattr(LAYER, "delay", 0) >> RecurrentLayer: delay is 0
    setattr(LAYER, "delay", 1.5) >> RecurrentLayer: delay is 1.5
    setattr(LAYER, "carry_limit", -1) >> RecurrentLayer: carry_limit is -1
    setattr(LAYER, "delay", OTHER) >> RecurrentLayer: delay is set to a module
    setattr(LEARNED, "delay", 2) >> RecurrentLayer: delay is set, and the delays are learned
    D(4, 0) >> Delay: largest
    D(4, 2, width=0.5) >> Delay: width
    D(4, 2, init=3) >> Delay: init
""",
        names,
    )
    from lnm_codegen.errors import ShapeError, UnsupportedError

    assert_refused(
        """
?
    LAYER(X[..., :2]) >> lif: x_seq has shape (5, 2, 2)
    LAYER(X.double()) >> lif: x_seq is torch.float64, and the weight torch.float32
    LAYER(X, lengths=T.tensor([5, 6])) >> lif: lengths are from 5 to 6
    LAYER(X, lengths=T.tensor([5.0, 5])) >> lif: lengths is torch.float32 of shape (2,)
    N(X, lengths=[1]) >> lif: lengths is torch.int64 of shape (1,)
    N(X, lengths="all") >> lif: lengths is 'all'
    LAYER(X, state={"feedback": T.zeros(2, 4)}) >> lif: state 'feedback' has shape (2, 4)
    LAYER(X, state={"w": 0}) >> lif: no state 'w'
    LAYER(X[0]) >> lif: x_seq has shape (2, 3)
    CHANGED(X) >> lif: 'recurrent' has shape (1, 1)
    OTHER(X[:, :, :2]) >> Delay: x_seq is torch.float32 of shape (5, 2, 2)
    OTHER(X.long()) >> Delay: x_seq is torch.int64 of shape (5, 2, 3)
    OTHER(X.numpy()) >> Delay: x_seq is of type ndarray
    OTHER(X, state=T.zeros(1)) >> Delay: state has shape (1,)
    OTHER(X, state={}) >> Delay: state is no tensor
""",
        names,
        ShapeError,
    )
    rows = """
?
    R(LI, 4) >> RecurrentLayer: li has no output that is a spike
    NORM(X, lengths=T.tensor([5, 2])) >> lif: a normalised neuron takes no lengths
"""
    assert_refused(rows, names, UnsupportedError)
