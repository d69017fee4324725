"""Layouts, 16-bit sequences and long sequences through the layer, on the C kernels."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.compiler.model import model_of
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.layout import layout_of
from lnm_codegen.nn.load.c import load_c
from tests.cases import CASES

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
        for mine, theirs in zip(grads, expected[1], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
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


@pytest.mark.parametrize("case", ["lnm-3", "cuba_lif-learned", "dendrite"])
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
    kernels = load_c(model_of(lnm.get("lif")))
    assert kernels.saved_size(steps, 10) == 10 * saved
    assert 16 * saved <= steps
