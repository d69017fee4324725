"""Layouts, 16-bit sequences, long sequences and further inputs, on the C kernels."""

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
from tests.layers import as_tuple, assert_close, assert_equal, gradients, sequence, slow
from tests.refusals import refused

pytestmark = pytest.mark.needs_cc

SHAPE = (18, 2, 3, 4, 5)
"""(T, N, C, H, W): more than a chunk of steps."""


def laid_out(x: torch.Tensor, axes: Any) -> torch.Tensor:
    """Return the same numbers, lying in memory in the order of `axes`."""
    back = tuple(axes.index(k) for k in range(x.dim()))
    return x.permute(axes).contiguous().permute(back)


PLACES = {
    "as it is": lambda t: t,
    "channels last": lambda t: laid_out(t, (0, 1, 3, 4, 2)),
    "width before height": lambda t: laid_out(t, (0, 1, 2, 4, 3)),
    "channels between": lambda t: laid_out(t, (0, 1, 3, 2, 4)),
    "time inside batch": lambda t: laid_out(t, (1, 0, 2, 3, 4)),  # has gaps, and is copied
    "batch inside": lambda t: laid_out(t, (0, 2, 1, 3, 4)),
    "batch innermost": lambda t: laid_out(t, (0, 2, 3, 4, 1)),
    "flipped": lambda t: t.flip(0).contiguous().flip(0),
    "steps": lambda t: torch.stack([t, t + 1], 1)[:, 0],
    "numbers": lambda t: torch.stack([t, t + 1], -1)[..., 0],
    "part": lambda t: torch.cat([t, t], 0)[: t.shape[0]],
    "address": lambda t: torch.cat([torch.zeros(1), t.reshape(-1)])[1:].reshape(t.shape),
    "one frame": lambda t: t[:1].expand(t.shape),
    "one number": lambda t: t[:1, :1, :1, :1, :1].expand(t.shape),
}


@pytest.mark.parametrize("case", ["lnm-3", "lif-learned", "lnm-4", "dendrite"])
def test_a_layout_changes_nothing(case: str) -> None:
    """Parameters of every granularity; x, further inputs, states and gradients in any layout.

    Values per neuron are the same bits; a sum over neurons takes another order.
    """
    neuron = CASES[case]()
    layer = NeuronLayer(neuron, shape=SHAPE[2:], backend="c")
    for k, p in enumerate(layer.parameters()):
        p.data += 0.05 * sequence(*p.shape, seed=k)
    inputs = [sequence(*SHAPE, seed=k) for k in range(len(neuron.inputs))]
    starts = [sequence(*SHAPE, seed=k + 5)[:1] for k in range(len(neuron.states))]
    weights = [sequence(*SHAPE, seed=k + 9) - 0.5 for k in range(len(neuron.output))]
    ends = [sequence(*SHAPE[1:], seed=k) for k in range(len(neuron.states))]

    def run(*tensors: torch.Tensor) -> Any:
        given, own = tensors[: len(inputs)], tensors[len(inputs) :]
        state = {s.name: v[0] for s, v in zip(neuron.states, own, strict=True)}
        out, final = layer(*given, state=state, return_state=True)
        return *as_tuple(out), *final.values()

    ways = [*PLACES.values()]
    for k, first in enumerate(ways):
        other, grad = ways[k - 4], ways[k - 9]
        moved = [first(inputs[0]), *map(other, [*inputs[1:], *starts])]
        seeds = [*map(grad, weights), *ends]
        found = gradients(run, moved, layer.parameters(), seeds)
        dense = [[t.contiguous() for t in tensors] for tensors in (moved, seeds)]
        expected = gradients(run, dense[0], layer.parameters(), dense[1])
        apart = len(seeds) + len(moved)
        assert_equal(found[:apart], expected[:apart])
        assert_close(found[apart:], expected[apart:], 1e-5)
        assert all(e.any() for e in expected)


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
def test_what_is_copied(name: str, rows: bool, copied: bool) -> None:
    """A dense layout whose outermost axis is the batch is read in place, time stride and all."""
    x = PLACES[name](sequence(*SHAPE))
    layout = layout_of(x, rows)
    assert (layout is None) == copied
    if layout is not None:
        assert layout.empty_sequence(x).stride() == x.stride()
        shown_again = x[:1].expand(SHAPE)
        assert layout_of(shown_again, rows) == layout
        assert layout.sequence(shown_again) is shown_again
    one = sequence(5, 1, 3)
    odd, plain = one.as_strided(one.shape, (3, 7, 1)), layout_of(one, rows)
    assert plain is not None
    assert plain.sequence(odd) is odd  # an axis of length 1 has any stride


@pytest.mark.parametrize(
    ("case", "dtype", "record"),
    [
        ("lif", torch.bfloat16, ()),
        *(slow("lnm-3", dtype, ("v",)) for dtype in (torch.bfloat16, torch.float16)),
    ],
)
def test_16_bit_sequences(case: str, dtype: torch.dtype, record: Any) -> None:
    """Arithmetic in float32, rounded once on the way out: the bits of a float32 layer, rounded."""
    for shape in ((20, 3, 5), (3, 70, 64), (0, 2, 2), (5, 0, 2)):
        layer = NeuronLayer(CASES[case](), channels=shape[2], backend="c", record=record)
        x, grad, found = sequence(*shape), sequence(*shape, seed=1), []
        for kind in (dtype, torch.float32):
            given = x.to(dtype).to(kind).requires_grad_()
            out, state, *seen = layer(given, return_state=True)
            leaves = [given, *layer.parameters()]
            grads = torch.autograd.grad(out, leaves, grad.to(dtype).to(kind))
            assert out.dtype is kind
            assert state["v"].dtype is torch.float32
            found.append((out, state["v"], *grads, *(r["v"] for r in seen)))
        for low, high in zip(*found, strict=True):
            assert torch.equal(low, high.to(low.dtype))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_to_16_bits(dtype: torch.dtype) -> None:
    """Ties to even, infinities, NaN, subnormal numbers, overflow: as PyTorch rounds."""
    v, x, gain = lnm.state("v"), lnm.input("x"), lnm.param("gain", init=1.0)
    layer = NeuronLayer(lnm.Neuron(charge={v: x * gain}, output=v), backend="c")
    bits = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16)
    mixed = bits[torch.randperm(len(bits), generator=torch.Generator().manual_seed(0))]
    every = torch.cat([bits, mixed]).view(dtype).reshape(1, -1)
    with torch.no_grad():
        torch.testing.assert_close(layer(every), every, rtol=0, atol=0, equal_nan=True)
        for factor in (1 / 3, 1.0039063, 0.99902344):
            layer.gain.fill_(factor)
            expected = (every.float() * layer.gain).to(dtype)
            torch.testing.assert_close(layer(every), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("case", ["lnm-3", slow("cuba_lif-learned"), "dendrite"])
def test_a_long_sequence_equals_its_parts(case: str) -> None:
    """5000 steps have two levels of saved states; two halves, joined by their states, have one."""
    neuron, shape = CASES[case](), (5000, 1, 2, 3)
    layer = NeuronLayer(neuron, shape=shape[2:], backend="c")
    inputs = [0.5 * (sequence(*shape, seed=k) - 0.75) for k in range(len(neuron.inputs))]

    def run(lengths: list[int]) -> Any:
        def joined(*xs: torch.Tensor) -> torch.Tensor:
            state, parts = None, []
            for piece in zip(*(x.split(lengths) for x in xs), strict=True):
                out, state = layer(*piece, state=state, return_state=True)
                parts.append(as_tuple(out)[0])
            return torch.cat(parts)

        return gradients(joined, inputs, layer.parameters(), [sequence(*shape, seed=7) - 0.75])

    whole, parts = run([5000]), run([2500, 2500])
    apart = 1 + len(inputs)
    assert_equal(whole[:apart], parts[:apart])
    assert_close(whole[apart:], parts[apart:], 1e-4)


@pytest.mark.parametrize(
    ("steps", "saved"),
    [(0, 0), (16, 0), (17, 1), (256, 15), (4096, 255), (4097, 15), (5000, 17), (65536, 63)],
)
def test_saved_states_grow_as_the_root_of_time(steps: int, saved: int) -> None:
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


def assert_as_expanded(layer: Any, x: torch.Tensor, gain: torch.Tensor, run: Any = None) -> None:
    """Expect the bits of the expanded input, and its own gradients up to rounding."""
    run = layer if run is None else run
    weights = [(sequence(*s, seed=3) - 0.75).to(x) for s in (x.shape, x.shape[1:])]
    weights[1] = weights[1].to(torch.promote_types(x.dtype, torch.float32))
    found = []
    for place, call in ((lambda g, _: g, run), (expanded, layer)):

        def called(x: torch.Tensor, g: torch.Tensor, place: Any = place, call: Any = call) -> Any:
            out, final = call(x, place(g, tuple(x.shape)), return_state=True)
            return out, final["v"]

        out, final, grad_x, grad, theta = gradients(called, [x, gain], [layer.theta], weights)
        found.append((out, final, grad_x, theta, grad))
    got, expected = found
    assert_equal(got[:-1], expected[:-1])
    assert got[-1].shape == expected[-1].shape
    unit = torch.finfo(x.dtype).eps
    scale = float(expected[-1].abs().max()) if expected[-1].numel() else 0
    # The sum of n numbers of one sign or not, each rounded; values of the draw are about 1.
    torch.testing.assert_close(got[-1], expected[-1], rtol=64 * unit, atol=64 * unit * (1 + scale))


REAL = {"backend": "c"}
INTEGERS = {"arithmetic": lnm.Fixed(16, 12)}


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        (REAL, torch.float32),
        slow(REAL, torch.float64),
        slow(REAL, torch.bfloat16),
        ({"backend": "torch"}, torch.bfloat16),
        slow({"backend": "torch"}, torch.float32),
        slow({"backend": "torch"}, torch.float64),
        slow(INTEGERS | {"backend": "torch"}, torch.float32),
        slow(INTEGERS | REAL, torch.float32),
    ],
)
@settings(max_examples=15)
@given(further(), st.permutations(range(3)), st.integers(0, 2**32 - 1))
def test_further_inputs_of_any_shape(
    options: Any, dtype: torch.dtype, shapes: Any, axes: list[int], seed: int
) -> None:
    """Any kept axes, any layout of both: the bits of the expanded input."""
    shape, own = shapes
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=draw).to(dtype)
    gain = torch.rand(own, generator=draw).to(dtype)
    if seed % 2:
        x = laid_out(x, (0, 1, *(2 + k for k in axes if k < len(shape) - 2)))
    assert_as_expanded(NeuronLayer(modulated(), channels=shape[2], **options), x, gain)


@settings(max_examples=10)
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


def test_further_inputs_step_by_step_and_in_place() -> None:
    """A further input broadcasts to (N, *), and (C,) is the last axis; no input is written over."""
    steps = {"channels": 3, "backend": "c", "step_mode": "s"}
    for own in ((), (1,), (3,), (2, 1), (1, 3), (2, 3)):
        layer, whole = (NeuronLayer(modulated(), **steps) for _ in range(2))
        for _ in range(3):
            x, gain = torch.randn(2, 3), torch.rand(own)
            assert torch.equal(layer(x, gain), whole(x, gain.expand(2, 3).contiguous()))
            assert torch.equal(layer.v, whole.v)
    plain, layer = (NeuronLayer(modulated(), backend="c", inplace=i) for i in (False, True))
    a = sequence(6, 1, 300)
    with torch.no_grad():
        expected = plain(a[1:], a[:-1])
        assert torch.equal(layer(a[1:], a[:-1]), expected)  # the inputs share memory


def test_further_inputs_are_not_expanded_in_memory() -> None:
    """A call allocates its output, and for axes with others between them less than an eighth."""
    shape = (16, 16, 8, 64)
    layer, x = NeuronLayer(modulated(), channels=shape[2], backend="c"), torch.randn(shape)
    for axes in ((0,), (), (2,), (0, 2), (0, 3), (1, 3)):
        gain = torch.rand([n if k in axes else 1 for k, n in enumerate(shape)])
        layer(x, gain)

        def call(gain: torch.Tensor = gain) -> Any:
            with torch.no_grad():
                return layer(x, gain)

        def train(gain: torch.Tensor = gain) -> Any:
            return layer(x.detach().requires_grad_(), gain).sum()

        step = x.numel() * x.element_size()
        assert step <= peak_bytes(Workload(call)) <= step * 1.125
        # The output, its gradient, that of x; none of the further input.
        assert peak_bytes(Workload(train, lambda out: out.backward())) < 4 * step


TRAINED: dict[str, Any] = {
    "per neuron": lambda: NeuronLayer(CASES["lnm-4"](), shape=SHAPE[2:], backend="c"),
    "norm": lambda: NormNeuron(lnm.get("lif"), 3, shortcut=True, backend="c"),
    "integers": lambda: NeuronLayer(lnm.get("lif"), backend="c", arithmetic=lnm.Fixed(16, 12)),
}
"""Layers with different code for the backward."""
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
PACKS: dict[str, Any] = {
    "contiguous": lambda x: x.clone(memory_format=torch.contiguous_format),
    "channels last": lambda x: x.clone(memory_format=LAST.get(x.dim(), torch.preserve_format)),
    "gaps": lambda x: torch.stack([x, x], -1)[..., 0],
}


def unchanged(x: torch.Tensor) -> torch.Tensor:
    return x


@pytest.mark.parametrize(
    ("name", "compiled"),
    [*((n, False) for n in TRAINED), ("per neuron", True), slow("norm", True)],
)
def test_hooks_of_saved_tensors_may_change_layouts(name: str, compiled: bool) -> None:
    """`save_on_cpu(pin_memory=True)` makes tensors contiguous. Gradients were wrong."""
    torch._dynamo.reset()
    layer = TRAINED[name]()
    run = torch.compile(layer, backend="eager") if compiled else layer
    for place, pack in PACKS.items():
        x = PLACES["channels last" if place == "contiguous" else "as it is"](sequence(*SHAPE))
        inputs, params = [x] * (1 + (name == "norm")), [*layer.parameters()]
        weights, found = [sequence(*SHAPE, seed=1)], []
        for hook in (pack, unchanged):

            def called(*xs: torch.Tensor, hook: Any = hook) -> Any:
                with torch.autograd.graph.saved_tensors_hooks(hook, unchanged):
                    return run(*xs)

            found.append(gradients(called, inputs, params, weights))
        assert_close(*found, 1e-5)


@pytest.mark.slow
def test_operators_take_further_inputs() -> None:
    """`torch.compile` and `torch.export`: the bits of the eager call; T stays dynamic."""
    layer = NeuronLayer(modulated(), channels=3, backend="c")
    x = torch.randn(5, 2, 3, 4)
    for own in ((5,), (5, 1, 3, 1), (1, 2, 1, 4), ()):
        torch._dynamo.reset()
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        assert_as_expanded(layer, x, torch.rand(own), compiled)
    steps = torch.export.Dim("T", min=2, max=100)
    shapes = {"x_seq": {0: steps}, "more_inputs": ({0: steps},)}
    with torch.no_grad():
        program = torch.export.export(layer, (x, torch.rand(5)), dynamic_shapes=shapes)
    x, gain = torch.randn(9, 2, 3, 4), torch.rand(9)
    assert torch.equal(program.module()(x, gain), layer(x, gain))
