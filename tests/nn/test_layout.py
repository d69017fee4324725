"""Layouts, 16-bit sequences and long sequences through the layer, on the C kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.bench.measure import Workload, peak_bytes
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.nn import NeuronLayer, NormNeuron
from lnm_codegen.nn.layout import layout_of
from lnm_codegen.nn.load.c import load_c
from tests.cases import CASES
from tests.refusals import refused

pytestmark = pytest.mark.needs_cc

SHAPE = (18, 2, 3, 4, 5)
"""(T, N, C, H, W): more than a chunk of steps."""

CHANNELS_LAST = (0, 1, 3, 4, 2)
MOVED = {
    "channels last": CHANNELS_LAST,
    "width before height": (0, 1, 2, 4, 3),
    "channels between": (0, 1, 3, 2, 4),
    "time inside batch": (1, 0, 2, 3, 4),  # (N, T, C, H, W): a step has gaps, and is copied
    "batch inside": (0, 2, 1, 3, 4),
    "batch innermost": (0, 2, 3, 4, 1),
}


def laid_out(x: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """Return the same numbers, lying in memory in the order of `axes`."""
    back = tuple(axes.index(k) for k in range(x.dim()))
    return x.permute(axes).contiguous().permute(back)


def results(layer: NeuronLayer, inputs: list[torch.Tensor], place: Any, place_grad: Any) -> Any:
    """Return outputs, final states and gradients, with everything given in some layout."""
    generator = torch.Generator().manual_seed(1)
    given = [place(x).requires_grad_() for x in inputs]
    state = {
        s.name: place(torch.rand(SHAPE, generator=generator))[0].clone().requires_grad_()
        for s in layer.neuron.states
    }
    out, final = layer(*given, state=state, return_state=True)
    outs = [*(out if isinstance(out, tuple) else (out,)), *final.values()]
    grads = [torch.randn(o.shape, generator=generator) for o in outs]
    grads = [place_grad(g) if g.dim() == len(SHAPE) else g for g in grads]
    moved = [(o, g) for o, g in zip(outs, grads, strict=True) if o.requires_grad]
    leaves = [*given, *state.values(), *layer.parameters()]
    found = torch.autograd.grad([o for o, _ in moved], leaves, [g for _, g in moved])
    return outs, found


@pytest.mark.parametrize("axes", MOVED.values(), ids=MOVED)
@pytest.mark.parametrize("case", ["lnm-3", "lif-learned", "lnm-4", "dendrite"])
def test_a_layout_changes_nothing(case, axes):
    """Layer-, channel- and neuron-wise parameters; x, states and gradients in any dense layout.

    Values per neuron are the same bits; a sum over neurons takes another order.
    """
    torch.manual_seed(0)
    neuron = CASES[case]()
    layer = NeuronLayer(neuron, shape=SHAPE[2:], backend="c")
    for p in layer.parameters():
        p.data += 0.05 * torch.randn(p.shape)
    inputs = [torch.randn(SHAPE) for _ in neuron.inputs]
    expected = results(layer, inputs, lambda t: t.clone(), lambda t: t)
    for place_grad in (lambda t: t, lambda t: laid_out(t, axes)):
        outs, grads = results(layer, inputs, lambda t: laid_out(t, axes), place_grad)
        for mine, theirs in zip(outs, expected[0], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
        apart = len(inputs) + len(neuron.states)
        for k, (mine, theirs) in enumerate(zip(grads, expected[1], strict=True)):
            close = 0 if k < apart else 1e-5
            torch.testing.assert_close(mine, theirs, rtol=close, atol=close)
            assert theirs.any()


@pytest.mark.parametrize(
    ("name", "rows", "copied"),
    [
        ("channels last", True, False),
        ("channels between", True, False),
        ("batch inside", False, False),
        ("batch inside", True, True),  # the rows of parameters would not follow each other
        ("time inside batch", False, True),
    ],
)
def test_what_is_copied(name, rows, copied):
    """A dense layout whose outermost axis is the batch is read in place, time stride and all."""
    x = laid_out(torch.randn(SHAPE), MOVED[name])
    layout = layout_of(x, rows)
    assert (layout is None) == copied
    if layout is not None:
        assert layout.empty_sequence(x).stride() == x.stride()
        shown_again = x[:1].expand(SHAPE)
        assert layout_of(shown_again, rows) == layout
        assert layout.sequence(shown_again) is shown_again


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("shape", [(20, 3, 5), (3, 70, 64), (0, 2, 2), (5, 0, 2)])
def test_16_bit_sequences(dtype, shape):
    """Arithmetic in float32, rounded once on the way out: the bits of a float32 layer, rounded."""
    torch.manual_seed(0)
    neuron = lnm.get("lnm", degree=3, per="channel")
    layer = NeuronLayer(neuron, channels=shape[2], backend="c", record=("v",))
    x, grad = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    got = []
    for kind in (dtype, torch.float32):
        given = x.to(kind).requires_grad_()
        out, state, seen = layer(given, return_state=True)
        grads = torch.autograd.grad(out, [given, layer.theta], grad.to(kind))
        assert (out.dtype, seen["v"].dtype, state["v"].dtype) == (kind, kind, torch.float32)
        got.append((out, seen["v"], state["v"], *grads))
    for low, high in zip(*got, strict=True):
        assert torch.equal(low, high.to(low.dtype))


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)]
)
def test_rounding_to_16_bits(dtype):
    """Ties to even, infinities, NaN, subnormal numbers, overflow: as PyTorch rounds."""
    v, x, gain = lnm.state("v"), lnm.input("x"), lnm.param("gain", init=1.0)
    layer = NeuronLayer(lnm.Neuron(charge={v: x * gain}, output=v), backend="c")
    bits = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16)
    every = bits.view(dtype).reshape(1, -1)
    with torch.no_grad():
        torch.testing.assert_close(layer(every), every, rtol=0, atol=0, equal_nan=True)
        for factor in (1 / 3, 1.0039063, 0.99902344):
            layer.gain.fill_(factor)
            expected = (every.float() * layer.gain).to(dtype)
            torch.testing.assert_close(layer(every), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "case", ["lnm-3", pytest.param("cuba_lif-learned", marks=pytest.mark.slow), "dendrite"]
)
def test_a_long_sequence_equals_its_parts(case):
    """5000 steps have two levels of saved states; two halves, joined by their states, have one."""
    torch.manual_seed(0)
    neuron, shape = CASES[case](), (5000, 1, 2, 3)
    layer = NeuronLayer(neuron, shape=shape[2:], backend="c")
    inputs = [0.5 * torch.randn(shape) for _ in neuron.inputs]
    grad = torch.randn(shape)

    def run(lengths: list[int]) -> tuple[Any, ...]:
        given = [x.clone().requires_grad_() for x in inputs]
        state, parts = None, []
        for piece in zip(*(x.split(lengths) for x in given), strict=True):
            out, state = layer(*piece, state=state, return_state=True)
            parts.append(out[0] if isinstance(out, tuple) else out)
        whole = torch.cat(parts)
        grads = torch.autograd.grad(whole, [*given, *layer.parameters()], grad)
        return whole, grads

    (whole, grads), (joined, expected) = run([5000]), run([2500, 2500])
    assert torch.equal(whole, joined)
    count = len(inputs)
    for mine, theirs in zip(grads[:count], expected[:count], strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(grads[count:], expected[count:], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("steps", "saved"),
    [(0, 0), (16, 0), (17, 1), (256, 15), (4096, 255), (4097, 15), (5000, 17), (65536, 63)],
)
def test_saved_states_grow_as_the_root_of_time(steps, saved):
    """States per neuron saved by the forward; never more than T / 16."""
    kernels = load_c(plan_of(lnm.get("lif")))
    assert kernels.saved_size(steps, 10) == 10 * saved
    assert 16 * saved <= steps


# ---- further inputs, expanded to the shape of the first ----


def modulated() -> lnm.Neuron:
    """A neuron with two inputs, one of which multiplies the state; derivatives stay moderate."""
    v, x, gain = lnm.state("v"), lnm.input("x"), lnm.input("gain")
    theta = lnm.param("theta", init=0.5, per="channel")
    return lnm.Neuron(
        charge={v: theta * v * gain + x - gain**2 / 4},
        fire=v - 1,
        reset=lnm.soft_reset(v, 1),
        name="modulated",
    )


@st.composite
def further(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Draw a shape (T, N, C, *) and one that broadcasts to it, or (T,) where that is time alone."""
    shape = tuple(draw(st.sampled_from((1, 2, 3, 7, 20))) for _ in range(draw(st.integers(3, 5))))
    if draw(st.booleans()) and draw(st.booleans()):
        return shape, shape[:1] if shape[0] != shape[-1] else (*shape[:1], *(1,) * (len(shape) - 1))
    own = tuple(n if draw(st.booleans()) else 1 for n in shape)
    kept = own[draw(st.integers(0, 2)) :]
    return shape, own if len(kept) == 1 and kept[0] > 1 else kept


def expanded(own: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a further input in full, by the rule that the documentation states."""
    if own.dim() == 1 and len(own) == shape[0]:
        own = own.reshape(-1, *(1,) * (len(shape) - 1))
    return own.expand(shape).contiguous()


def both(layer: Any, x: torch.Tensor, own: torch.Tensor, whole: bool, seed: int = 3) -> Any:
    """Return outputs, final state, gradients of x, theta and the further input."""
    given_x, gain = x.clone().requires_grad_(), own.clone().requires_grad_()
    wide = expanded(gain, tuple(x.shape)) if whole else gain
    out, final = layer(given_x, wide, return_state=True)
    draw = torch.Generator().manual_seed(seed)
    grads = [torch.randn(t.shape, generator=draw).to(t) for t in (out, final["v"])]
    wanted = [given_x, layer.theta, gain]
    return out, final["v"], *torch.autograd.grad([out, final["v"]], wanted, grads)


def assert_same(got: Any, expected: Any) -> None:
    """Assert equal bits, but for the last: gradients of a further input, equal up to rounding."""
    for mine, theirs in zip(got[:-1], expected[:-1], strict=True):
        assert torch.equal(mine, theirs)
    assert got[-1].shape == expected[-1].shape
    unit = torch.finfo(got[-1].dtype).eps
    scale = float(expected[-1].abs().max()) if expected[-1].numel() else 0
    # The sum of n numbers of one sign or not, each rounded; values of the draw are about 1.
    torch.testing.assert_close(got[-1], expected[-1], rtol=64 * unit, atol=64 * unit * (1 + scale))


@pytest.mark.parametrize("backend", ["torch", pytest.param("c", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "dtype",
    [
        torch.bfloat16,
        *(pytest.param(d, marks=pytest.mark.slow) for d in (torch.float, torch.double)),
    ],
)
@settings(max_examples=40, deadline=None)
@given(further(), st.permutations(range(3)), st.integers(0, 2**32 - 1))
def test_further_inputs_of_any_shape(
    backend: str, dtype: torch.dtype, shapes: Any, axes: list[int], seed: int
) -> None:
    """Any kept axes, any layout of both: the bits of the expanded input."""
    shape, own = shapes
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=draw).to(dtype)
    gain = torch.rand(own, generator=draw).to(dtype)
    if seed % 2:
        x = laid_out(x, (0, 1, *(2 + k for k in axes if k < len(shape) - 2)))
    layer = NeuronLayer(modulated(), channels=shape[2], backend=backend)
    assert_same(both(layer, x, gain, False), both(layer, x, gain, True))


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(further(), st.integers(0, 2**32 - 1))
def test_further_inputs_in_integers(shapes: Any, seed: int) -> None:
    """The integer models: the bits of the expanded input."""
    shape, own = shapes
    draw = torch.Generator().manual_seed(seed)
    x, gain = torch.randn(shape, generator=draw), torch.rand(own, generator=draw)
    for backend in ("c", "torch"):
        layer = NeuronLayer(
            modulated(), channels=shape[2], backend=backend, arithmetic=lnm.Fixed(16, 12)
        )
        assert_same(both(layer, x, gain, False), both(layer, x, gain, True))


@settings(max_examples=30, deadline=None)
@given(further(), st.integers(0, 2**32 - 1))
def test_further_inputs_of_the_interpreter(shapes: Any, seed: int) -> None:
    """`lnm.interpret` has the rule of the layer, and gradients of the given shape."""
    shape, own = shapes
    rng = np.random.default_rng(seed)
    x, gain, grad = rng.standard_normal(shape), rng.random(own), rng.standard_normal(shape)
    wide = expanded(torch.as_tensor(gain), shape).numpy()
    got = lnm.interpret(modulated(), x, gain, grad_out=grad)
    expected = lnm.interpret(modulated(), x, wide, grad_out=grad)
    np.testing.assert_array_equal(got.out, expected.out)
    np.testing.assert_array_equal(got.grads["x"], expected.grads["x"])
    leaf = torch.zeros(own, dtype=torch.float64, requires_grad=True)
    expanded(leaf, shape).backward(torch.as_tensor(expected.grads["gain"]))
    np.testing.assert_allclose(got.grads["gain"], leaf.grad.numpy(), rtol=1e-9, atol=1e-9)
    spec = lnm.Fixed(16, 12)
    fixed = [lnm.interpret_fixed(modulated(), x, g, spec=spec).out for g in (gain, wide)]
    np.testing.assert_array_equal(*fixed)


def test_a_vector_of_time_or_of_the_last_axis_is_refused() -> None:
    """A vector per channel once became a time series in a chunk of as many steps as channels."""
    layer = NeuronLayer(modulated(), channels=4, backend="torch")
    x, gain = torch.randn(10, 5, 4), torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert torch.equal(layer(x, gain), layer(x, gain.reshape(1, 1, 4)))
    problem = "input 'gain' has shape (4,), and both T and the last axis are 4"
    accepted = "(4, 1, 1) for time, or (1, 1, 4) for the last axis"
    with refused(lnm.ShapeError, "modulated", problem, accepted, "axis of length 1"):
        layer(x[6:], gain)
    with refused(lnm.ShapeError, "modulated", problem, accepted, "axis of length 1"):
        lnm.interpret(modulated(), x[6:].numpy(), gain.numpy())
    by_time, last = (layer(x[6:], gain.reshape(s)) for s in ((4, 1, 1), (1, 1, 4)))
    assert not torch.equal(by_time, last)


@pytest.mark.parametrize("own", [(), (1,), (3,), (2, 1), (1, 3), (2, 3)])
def test_further_inputs_step_by_step(own: tuple[int, ...]) -> None:
    """In single-step mode a further input broadcasts to (N, *), and (C,) is the last axis."""
    layer = NeuronLayer(modulated(), channels=3, backend="c", step_mode="s")
    whole = NeuronLayer(modulated(), channels=3, backend="c", step_mode="s")
    for _ in range(3):
        x, gain = torch.randn(2, 3), torch.rand(own)
        assert torch.equal(layer(x, gain), whole(x, gain.expand(2, 3).contiguous()))
        assert torch.equal(layer.v, whole.v)


@pytest.mark.parametrize("axes", [(0,), (), (2,), (0, 2), (0, 3), (1, 3)])
def test_further_inputs_are_not_expanded_in_memory(axes: tuple[int, ...]) -> None:
    """A call allocates its output, and for axes with others between them less than an eighth."""
    shape = (16, 16, 8, 64)
    layer = NeuronLayer(modulated(), channels=shape[2], backend="c")
    x, gain = torch.randn(shape), torch.rand([n if k in axes else 1 for k, n in enumerate(shape)])
    layer(x, gain)

    def call() -> Any:
        with torch.no_grad():
            return layer(x, gain)

    step = x.numel() * x.element_size()
    assert step <= peak_bytes(Workload(call)) <= step * 1.125

    def train() -> Any:
        return layer(x.requires_grad_(), gain).sum()

    moved = peak_bytes(Workload(train, lambda out: out.backward()))
    assert moved < 4 * step  # output, its gradient, that of x; none of the further input


TRAINED: dict[str, Any] = {
    "per neuron": lambda: NeuronLayer(CASES["lnm-4"](), shape=SHAPE[2:], backend="c"),
    "operator": lambda: NeuronLayer(CASES["lnm-4"](), shape=SHAPE[2:], backend="c"),
    "norm": lambda: NormNeuron(lnm.get("lif"), 3, backend="c"),
    "norm operator": lambda: NormNeuron(lnm.get("lif"), 3, backend="c"),
    "integers": lambda: NeuronLayer(lnm.get("lif"), backend="c", arithmetic=lnm.Fixed(16, 12)),
}
"""Layers with different code for the backward."""
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@pytest.mark.parametrize("place", ["contiguous", "channels last", "gaps"])
@pytest.mark.parametrize("name", TRAINED)
def test_hooks_of_saved_tensors_may_change_layouts(name: str, place: str) -> None:
    """`save_on_cpu(pin_memory=True)` makes tensors contiguous. Gradients were wrong."""
    pack: Any = {
        "contiguous": lambda x: x.clone(memory_format=torch.contiguous_format),
        "channels last": lambda x: x.clone(memory_format=LAST.get(x.dim(), torch.preserve_format)),
        "gaps": lambda x: torch.stack([x, x], -1)[..., 0],
    }[place]
    torch.manual_seed(0)
    layer = TRAINED[name]()
    x = torch.randn(SHAPE)
    x = (laid_out(x, CHANNELS_LAST) if place == "contiguous" else x).requires_grad_()
    torch._dynamo.reset()
    run = torch.compile(layer, backend="eager") if "operator" in name else layer
    weights, found = torch.randn(SHAPE), []
    for hook in (pack, lambda x: x):
        with torch.autograd.graph.saved_tensors_hooks(hook, lambda x: x):
            out = run(x)
        leaves = [x, *(p for p in layer.parameters() if p.requires_grad)]
        found.append(torch.autograd.grad((weights * out).sum(), leaves))
    for mine, expected in zip(*found, strict=True):
        torch.testing.assert_close(mine, expected)


@pytest.mark.slow
def test_operators_take_further_inputs() -> None:
    """`torch.compile` and `torch.export`: the bits of the eager call; T stays dynamic."""
    layer = NeuronLayer(modulated(), channels=3, backend="c")
    x = torch.randn(5, 2, 3, 4)
    for own in ((5,), (5, 1, 3, 1), (1, 2, 1, 4), ()):
        gain = torch.rand(own)
        torch._dynamo.reset()
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        assert_same(both_of(compiled, layer, x, gain), both_of(layer, layer, x, gain))
    steps = torch.export.Dim("T", min=2, max=100)
    shapes = {"x_seq": {0: steps}, "more_inputs": ({0: steps},)}
    with torch.no_grad():
        program = torch.export.export(layer, (x, torch.rand(5)), dynamic_shapes=shapes)
    x, gain = torch.randn(9, 2, 3, 4), torch.rand(9)
    assert torch.equal(program.module()(x, gain), layer(x, gain))


def both_of(run: Any, layer: NeuronLayer, x: torch.Tensor, own: torch.Tensor) -> Any:
    """Return the output, and the gradients of x, theta and the further input."""
    given_x, gain = x.clone().requires_grad_(), own.clone().requires_grad_()
    out = run(given_x, gain)
    grads = torch.autograd.grad((out * x).sum(), [given_x, layer.theta, gain])
    return out.detach(), *grads
