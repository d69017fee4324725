"""Sums of the C backend: the same bits from run to run, from thread count to thread count, and
whether rows are streamed past the caches or not.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from lnm_codegen.nn import NeuronLayer
from tests.cases import CASES, Results, arguments, run
from tests.strategies import Arguments

pytestmark = pytest.mark.needs_cc

STREAMED = 8 << 20
"""Bytes of a sequence from which rows are streamed, if each begins a line of 64 bytes."""


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def same_bits(a: Results, b: Results) -> None:
    for (what, mine), theirs in zip(a.arrays().items(), b.arrays().values(), strict=True):
        np.testing.assert_array_equal(
            mine.view(f"u{mine.itemsize}"), theirs.view(f"u{theirs.itemsize}"), err_msg=what
        )


@pytest.mark.parametrize(
    ("case", "shape"),
    [
        ("lnm-3", (3, 1, 1 << 17)),
        # per channel
        pytest.param("lif-learned", (3, 2, 64, 1 << 10), marks=pytest.mark.slow),
        pytest.param("lif-learned", (3, 1 << 9, 256), marks=pytest.mark.slow),  # no inner axis
        pytest.param("lnm-4", (3, 4, 8, 1 << 12), marks=pytest.mark.slow),  # channel and neuron
        # per neuron, tiles that end anywhere
        pytest.param("cuba_lif-learned", (3, 5, 7, 123), marks=pytest.mark.slow),
        # layer, channel and neuron in one
        pytest.param("dendrite", (3, 9, 5, 333), marks=pytest.mark.slow),
    ],
)
def test_gradients_have_one_value(case: str, shape: tuple[int, ...]) -> None:
    """Run to run, and with 1, 2 and 3 threads: the tree of every sum is fixed."""
    neuron = CASES[case]()
    a = arguments(neuron, np.random.default_rng(0), shape)
    torch.set_num_threads(1)
    first = run(neuron, a, "c", "float32")
    for threads in (1, 2, 2, 3):
        torch.set_num_threads(threads)
        same_bits(first, run(neuron, a, "c", "float32"))


def lanes(a: Arguments, count: int) -> Arguments:
    """Return the first `count` neurons of the last axis."""

    def cut(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array[..., :count])

    return Arguments(
        tuple(map(cut, a.x_seq)),
        {n: cut(v) for n, v in a.state.items()},
        a.params,
        tuple(map(cut, a.grad_out)),
        {n: cut(g) for n, g in a.grad_state.items()},
    )


@pytest.mark.parametrize(
    ("case", "dtype", "steps"),
    [("lnm-3", "float32", 17), ("lif", "float32", 33), ("lif", "float64", 9)],
)
def test_streamed_rows_are_the_same(case: str, dtype: str, steps: int) -> None:
    """Rows that begin a line are streamed, rows of 3 neurons fewer are not: the same numbers.

    Also within a chunk of a step and beyond it, and for an input read in place through strides.
    """
    neuron = CASES[case]()
    count = 1 << 17
    a = arguments(neuron, np.random.default_rng(1), (steps, 1, count))
    assert steps * count * np.dtype(dtype).itemsize >= STREAMED
    streamed = run(neuron, a, "c", dtype)
    plain = run(neuron, lanes(a, count - 3), "c", dtype)
    for array in (*streamed.outputs.values(), streamed.grads["x"]):
        assert array.ctypes.data % 64 == 0, "torch no longer aligns: nothing was streamed"
    names = ("x", *plain.states)
    for mine, theirs in (
        *((streamed.outputs[n], plain.outputs[n]) for n in plain.outputs),
        *((streamed.states[n], plain.states[n]) for n in plain.states),
        *((streamed.grads[n], plain.grads[n]) for n in names),
    ):
        np.testing.assert_array_equal(mine[..., : count - 3], theirs)


def test_streaming_with_strides_and_threads() -> None:
    """An input that is every other step of a longer one, 1 and 2 threads, two tiles' tails."""
    neuron = CASES["lnm-3"]()
    a = arguments(neuron, np.random.default_rng(2), (17, 2, (1 << 16) + 16))

    def strided(t: torch.Tensor) -> torch.Tensor:
        return torch.stack([t, torch.full_like(t, torch.nan)], 1).flatten(0, 1)[::2].detach()

    torch.set_num_threads(1)
    first = run(neuron, a, "c", "float32")
    torch.set_num_threads(2)
    same_bits(first, run(neuron, a, "c", "float32", place=strided))


def test_gradients_over_many_steps() -> None:
    """A sum of equal terms rounds at most as a sum over chunks does: linear in the time steps."""
    layer = NeuronLayer(CASES["lnm-3"](), backend="c")

    def gradient(steps: int) -> float:
        layer.zero_grad()
        x = torch.full((1, 8, 1), 0.1).expand(steps, 8, 1)
        layer(x).backward(x)
        return float(layer.theta.grad[1])

    first = gradient(1000)
    expected = first + 99 * (gradient(2000) - first)
    assert gradient(100_000) == pytest.approx(expected, rel=2e-4)
