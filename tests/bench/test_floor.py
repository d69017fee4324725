"""The floors move the bytes that they claim to move; no time is asserted."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.bench import suite as floor
from lnm_codegen.bench.suite import Case, floor_bytes


class Moves:
    """Arrays of a floor, in the order of allocation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.arrays: list[torch.Tensor] = []
        allocate = floor._words

        def recorded(*sizes: object) -> torch.Tensor:
            self.arrays.append(allocate(*sizes))  # type: ignore[arg-type]
            return self.arrays[-1]

        monkeypatch.setattr(floor, "_words", recorded)


def run(workload) -> None:
    out = workload.forward()
    if workload.backward is not None:
        workload.backward(out)


@pytest.mark.needs_cc
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_streams_read_and_write_every_sequence(monkeypatch, inputs, outputs):
    """Each kind of loop writes sums of all reads, to arrays of the kernels' size."""
    moves, elements = Moves(monkeypatch), 1000
    found = floor.streams(elements, 4, inputs, outputs)
    assert {"torch", "plain", "stream"} == set(found)
    x, out, grad, grad_x = (
        [moves.arrays.pop(0) for _ in range(n)] for n in (inputs, outputs, outputs, inputs)
    )
    assert not moves.arrays
    for workload in found.values():
        for tensor in (*out, *grad_x):
            tensor.zero_()
        run(workload)
        for tensor in out:
            torch.testing.assert_close(tensor, sum(x))
        for tensor in grad_x:
            torch.testing.assert_close(tensor, sum([*x, *grad]))


@given(
    st.sampled_from(["lif", "cuba_lif", "lnm"]), st.sampled_from([torch.float32, torch.bfloat16])
)
@settings(max_examples=6, deadline=None)
def test_streams_are_the_bytes_of_the_kernels(family, dtype):
    """The bytes of the streams are those of the plan's sequences: five of them for one input."""
    neuron = lnm.get(family)
    case = Case(neuron=neuron, label=family, shape=(3, 2, 4, 5), dtype=dtype)
    bytes_ = floor.moved(len(neuron.inputs), len(neuron.output), dtype.itemsize)
    assert bytes_ == floor_bytes(case) == 5 * dtype.itemsize


@given(st.integers(1, 3000), st.sampled_from([2, 4, 8]))
@settings(max_examples=20, deadline=None)
def test_arrays_have_the_size_of_a_sequence(elements, itemsize):
    """An array of the floor has the bytes of a sequence, from a line of 64 bytes on."""
    words = floor._words(elements, itemsize, "cpu")
    assert words.numel() == elements * itemsize // 4
    assert words.data_ptr() % 64 == 0


@pytest.mark.needs_cc
def test_copies(monkeypatch):
    """Every kind of copy copies; a streamed one takes 8 numbers at a time."""
    moves = Moves(monkeypatch)
    found = floor.copies(96, 4)
    assert set(found) == {"torch", "plain", "memcpy", "stream"}
    a, b = moves.arrays
    for workload in found.values():
        b.zero_()
        run(workload)
        assert torch.equal(a, b)


def test_without_a_compiler(monkeypatch):
    """PyTorch's own loops are left."""
    monkeypatch.setattr(floor.shutil, "which", lambda _: None)
    assert set(floor.streams(64, 4)) == set(floor.copies(64, 4)) == {"torch"}
