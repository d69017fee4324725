"""Sums and streamed stores of the C backend: the same bits, whatever threads, strides and sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lnm_codegen.nn import NeuronLayer
from tests.cases import CASES, Results, arguments, run
from tests.strategies import Arguments

pytestmark = pytest.mark.needs_cc
slow = pytest.mark.slow

STREAMED = 8 << 20
"""Bytes of a sequence from which rows are streamed, if each begins a line of 64 bytes."""


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def on(threads: int, case: str, a: Arguments, dtype: str = "float32", **layout: Any) -> Results:
    torch.set_num_threads(threads)
    return run(CASES[case](), a, "c", dtype, **layout)


def same_bits(a: Results, b: Results) -> None:
    for (what, mine), theirs in zip(a.arrays().items(), b.arrays().values(), strict=True):
        np.testing.assert_array_equal(
            mine.view(f"u{mine.itemsize}"), theirs.view(f"u{theirs.itemsize}"), err_msg=what
        )


@pytest.mark.parametrize(
    ("case", "shape"),
    [
        ("lnm-3", (3, 1, 1 << 15)),
        pytest.param("lnm-3", (3, 1, 1 << 17), marks=slow),
        pytest.param("lif-learned", (3, 2, 64, 1 << 10), marks=slow),  # per channel
        pytest.param("lif-learned", (3, 1 << 9, 256), marks=slow),  # no inner axis
        pytest.param("lnm-4", (3, 4, 8, 1 << 12), marks=slow),  # channel and neuron
        pytest.param("cuba_lif-learned", (3, 5, 7, 123), marks=slow),  # per neuron
        pytest.param("dendrite", (3, 9, 5, 333), marks=slow),  # layer, channel and neuron
        *(pytest.param(case, (steps, 2, 3, 5), marks=slow)  # around multiples of the chunk
          for case in ("lif", "lnm-4", "izhikevich-learned") for steps in (15, 16, 17, 32, 33)),
    ],
)  # fmt: skip
def test_gradients_have_one_value(case: str, shape: tuple[int, ...]) -> None:
    """Run to run, and with 1, 2 and 3 threads: the tree of every sum is fixed."""
    a = arguments(CASES[case](), np.random.default_rng(0), shape)
    first = on(1, case, a)
    for threads in (1, 2, 2, 3):
        same_bits(first, on(threads, case, a))


def lanes(a: Arguments, count: int) -> Arguments:
    """Return the first `count` neurons of the last axis."""

    def cut(table: Any) -> Any:
        if isinstance(table, dict):
            return {n: np.ascontiguousarray(v[..., :count]) for n, v in table.items()}
        return tuple(np.ascontiguousarray(v[..., :count]) for v in table)

    names = ("x_seq", "state", "grad_out", "grad_state")
    return replace(a, **{name: cut(getattr(a, name)) for name in names})


@pytest.mark.parametrize(
    ("case", "dtype", "steps"),
    [("lif", "float64", 9), *(pytest.param(c, "float32", t, marks=slow)
                              for c, t in (("lnm-3", 17), ("lif", 33)))],
)  # fmt: skip
def test_streamed_rows_are_the_same(case: str, dtype: str, steps: int) -> None:
    """Rows that begin a line are streamed, rows of 3 neurons fewer are not: the same numbers."""
    count = 1 << 17
    a = arguments(CASES[case](), np.random.default_rng(1), (steps, 1, count))
    assert steps * count * np.dtype(dtype).itemsize >= STREAMED
    streamed, plain = on(2, case, a, dtype), on(2, case, lanes(a, count - 3), dtype)
    for array in (*streamed.outputs.values(), streamed.grads["x"]):
        assert array.ctypes.data % 64 == 0, "torch no longer aligns: nothing was streamed"
    for mine, theirs in (
        (streamed.outputs, plain.outputs), (streamed.states, plain.states),
        *(({n: streamed.grads[n]}, plain.grads) for n in ("x", *plain.states)),
    ):  # fmt: skip
        for name, array in mine.items():
            np.testing.assert_array_equal(array[..., : count - 3], theirs[name])


@slow
def test_streaming_with_strides_and_threads() -> None:
    """An input that is every other step of a longer one, 1 and 2 threads, two tiles' tails."""
    a = arguments(CASES["lnm-3"](), np.random.default_rng(2), (17, 2, (1 << 16) + 16))

    def strided(t: torch.Tensor) -> torch.Tensor:
        return torch.stack([t, torch.full_like(t, torch.nan)], 1).flatten(0, 1)[::2].detach()

    same_bits(on(1, "lnm-3", a), on(2, "lnm-3", a, place=strided))


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
