"""`layer.explain` against the kernels."""

from __future__ import annotations

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.ir.kernel import preformatted
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.explain import explain, shaped
from tests.cases import CASES

pytestmark = pytest.mark.needs_cc


CUBIC = lnm.get("lnm", degree=3)
TWO = lnm.get("lnm", states=2, degree=1)
POLE = lnm.get("lnm", states=2, degree=1, parametrisation="pole")


@pytest.mark.parametrize(
    ("neuron", "dtype", "steps", "saved", "forward", "backward"),
    [
        (CUBIC, torch.float32, 4, 0, 8, 12),
        (CUBIC, torch.float32, 16, 0, 8, 12),
        (CUBIC, torch.float32, 64, 3, 8, 12),
        (CUBIC, torch.bfloat16, 16, 0, 4, 6),
        (CUBIC, torch.float64, 16, 0, 16, 24),
        (CUBIC, torch.float64, 64, 3, 16, 24),
        (CUBIC, torch.float32, 8192, 22, 8, 16),
        (TWO, torch.float32, 16, 0, 8, 12),
        (TWO, torch.float32, 64, 3, 8, 12),
        (POLE, torch.float32, 64, 3, 8, 12),
    ],
)
def test_bytes(neuron, dtype, steps, saved, forward, backward):
    """20 bytes per neuron and step up to a chunk, 10 in bfloat16; beyond it, the states too.

    Two coupled states are saved before every chunk.
    """
    found = NeuronLayer(neuron, backend="c").explain(torch.empty(steps, 2, 5, dtype=dtype))
    size = saved * (8 if dtype is torch.float64 else 4) * len(neuron.states)
    assert found.bytes_moved == pytest.approx((forward + size / steps, backward + size / steps))
    assert found.bytes_kept == 10 * size


@pytest.mark.parametrize("backend", ["triton", "cuda"])
def test_bytes_of_two_states_on_a_gpu(backend):
    """Chunks of 8 steps: 20 bytes at T = 8, and a save of two states more for each chunk."""
    for steps, moved in ((8, (8, 12)), (64, (8 + 8 * 7 / 64, 12 + 8 * 7 / 64))):
        found = explain(TWO, "auto", backend, [shaped((steps, 2, 5), torch.float32, "cuda")])
        assert found.schedule is not None
        assert found.schedule.chunk == 8
        assert found.bytes_moved == pytest.approx(moved)


def test_text():
    """The whole page, on a CPU without a GPU."""
    layer = NeuronLayer(lnm.get("lnm", degree=3, per="channel"), channels=3)
    assert str(layer.explain(torch.empty(64, 2, 3, 4))) == "\n".join(
        [
            "lnm on (64, 2, 3, 4) float32: backend 'c', the selection of 'auto' on cpu",
            "  not 'triton': runs on a GPU; the input is on cpu",
            "  not 'cuda': runs on an NVIDIA GPU; the input is on cpu",
            "  not 'torch': slower, several kernels for each operation and step",
            "  parameters      theta per channel, v_threshold per layer",
            "  launches        1 forward, 1 backward",
            "  chunk           16 steps; the states before every chunk are saved",
            "  bytes moved     8.188 forward + 12.19 backward = 20.38 per neuron and step",
            "  bytes saved     288 beyond inputs and outputs",
            "  operations      8 forward + 26 backward per neuron and step, the recomputed forward"
            " included",
            "  pack_spikes     keeps spike as bits",
            "  copied          gradients of the outputs, where they are expanded or have another"
            " layout",
        ]
    )


def test_copies():
    """Gaps, a second input of another layout, parameters per neuron in another order."""
    layer = NeuronLayer(CASES["dendrite"](), shape=(3, 4), backend="c")
    x = torch.empty(5, 2, 3, 4)
    turned = torch.empty(5, 2, 4, 3).transpose(2, 3)
    grads = "gradients of the outputs, where they are expanded or have another layout"
    assert layer.explain(x, x).copies == (grads,)
    assert layer.explain(x, turned).copies == (
        "drive: another layout than x, or axes with gaps",
        grads,
    )
    assert layer.explain(turned, turned).copies == (
        "parameters per neuron: into the order of x in memory", grads,
    )  # fmt: skip
    gaps = torch.empty(5, 2, 3, 8)[..., ::2]
    assert layer.explain(gaps, x).copies == (
        "x: a step has gaps, or its outermost axis is not N", grads,
    )  # fmt: skip


def test_eager():
    """Nothing is fused, and the reason is the user's."""
    found = NeuronLayer(lnm.get("lif"), backend="torch").explain(torch.empty(4, 2))
    assert found._repr_html_() == preformatted(str(found))  # Jupyter shows the same page
    assert found.schedule is None
    assert found.others["c"] == "'torch' was requested"
    assert "PyTorch's own, several for each operation and step" in str(found)


@pytest.mark.parametrize(
    ("own", "numbers"),
    [((16,), 1 / 60), ((16, 1, 3, 1), 1 / 20), ((1, 5, 3, 4), 1 / 16), ((), 1 / 960)],
)
def test_bytes_of_a_further_input(own, numbers):
    """A number that neurons or steps share is read once; a gradient is written and summed."""
    layer = NeuronLayer(CASES["glif-steps"](), backend="c")
    x, gain = torch.empty(16, 5, 3, 4), torch.empty(own)
    whole, found = layer.explain(x, torch.empty(x.shape)), layer.explain(x, gain)
    forward, backward = whole.bytes_moved
    assert found.bytes_moved == pytest.approx(
        (forward - 4 + 4 * numbers, backward - 8 + 4 * numbers)
    )
    trained = layer.explain(x, gain.requires_grad_()).bytes_moved
    assert trained == pytest.approx((forward - 4 + 4 * numbers, backward + 4 * numbers))
    assert found.copies == whole.copies
    gaps = layer.explain(x, torch.empty(16, 5, 1, 4))
    assert gaps.copies[0] == "g: another layout than x, or axes with gaps"
