"""Memory: results of layers reuse blocks that nothing refers to; `keep_pages`."""

from __future__ import annotations

import copy
import ctypes
import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.nn import empty_cache, keep_pages, memory
from lnm_codegen.nn.memory import Pool

STEPS = st.lists(
    st.tuples(st.sampled_from(["new", "view", "drop", "clear"]), st.integers(0, 10**6)),
    max_size=60,
)


def held(pool):
    return sum(size * len(blocks) for size, blocks in pool._blocks.items())


MOST = 6000


def in_use(live):
    return sum(memory._rounded(t.untyped_storage().nbytes()) for t, _ in live)


def strides(shape):
    return [prod(shape[k + 1 :]) for k in range(len(shape))]


@given(STEPS)
def test_blocks_in_use_are_never_handed_out(steps):
    """Each live tensor, or view of a dead one, keeps its number; memory is bounded."""
    pool, live, peak = Pool(MOST), [], 0
    for number, (what, drawn) in enumerate(steps):
        if what == "new":
            shape = (1 + drawn % 3, 100 + drawn // 3 % 40)
            tensor = pool.empty(shape, strides(shape), torch.float32)
            if tensor is None:
                assert in_use(live) + memory._rounded(4 * prod(shape)) > MOST
                continue
            assert not tensor._is_view()
            assert tensor.is_contiguous()
            assert tensor.data_ptr() % 64 == 0
            assert not tensor.requires_grad
            live.append((tensor.fill_(number), number))
        elif what == "clear":
            pool.clear()
            peak = 0
        elif live:
            k = drawn % len(live)
            tensor, own = live[k]
            live[k : k + 1] = [(tensor[-1:, 1:], own)] if what == "view" else []
        tensor = None
        assert all((t == own).all() for t, own in live)
        peak = max(peak, in_use(live))
        assert in_use(live) <= held(pool) <= min(2 * peak, MOST)
    live.clear()
    pool.clear()
    assert held(pool) == 0


def test_blocks_in_several_threads():
    """No two threads have one block."""
    pool = Pool()

    def work(number):
        for _ in range(200):
            found = [pool.empty((500,), (1,), torch.float64) for _ in range(3)]
            tensors = [t.fill_(number) for t in found if t is not None]
            assert all((t == number).all() for t in tensors)
            taken.append(len(tensors))

    taken = []
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert sum(taken) > 8  # a pool that another thread uses gives none


def test_a_call_looks_at_few_blocks(monkeypatch):
    """A thousand live tensors: the number of looks does not grow with them, but for doublings."""
    looks = 0

    def counted(blocks, k, look=memory._is_free):
        nonlocal looks
        looks += 1
        return look(blocks, k)

    monkeypatch.setattr(memory, "_is_free", counted)
    pool = Pool()
    live = [pool.empty((100,), (1,), torch.float32) for _ in range(1000)]
    assert looks < 1000 * (2 * memory._LOOKS + 4)
    del live[3:997]
    assert pool.empty((100,), (1,), torch.float32) is not None
    assert len({t.data_ptr() for t in live}) == len(live) == 6


def test_a_pool_in_use_does_not_wait():
    """PyTorch allocates for a signal handler, a finaliser and a forked process."""
    pool = Pool(MOST)
    with pool._lock:
        assert pool.empty((9,), (1,), torch.float32) is None
        pool.clear()
    assert pool.empty((9,), (1,), torch.float32) is not None
    assert pool.empty((MOST,), (1,), torch.float32) is None  # more than it may have


def large_layer():
    torch.manual_seed(0)
    return lnm.nn.NeuronLayer(lnm.get("lif"), backend="c"), torch.randn(4, 64, 1024)


@pytest.mark.needs_cc
def test_what_a_call_returned_stays():
    """Later calls change no output, gradient, view, array or graph of an earlier one."""
    layer, x = large_layer()
    x.requires_grad_()
    first = layer(x)
    expected = first.detach().clone()
    (gradient,) = torch.autograd.grad(first.sum(), x, retain_graph=True)
    kept = gradient.clone()
    held = [first.detach()[1:], first.detach().numpy()[1:], np.from_dlpack(first.detach())[1:]]
    held += [copy.deepcopy(first.detach())[1:]]
    for _ in range(5):
        out = layer(torch.randn_like(x).requires_grad_())
        out.backward(torch.randn_like(out))
    assert torch.equal(first, expected)
    assert torch.equal(gradient, kept)
    assert all(np.array_equal(np.asarray(h), expected[1:].numpy()) for h in held)
    (again,) = torch.autograd.grad(first.sum(), x)
    assert torch.equal(again, kept)


@pytest.mark.needs_cc
def test_outputs_are_ordinary_tensors():
    """They are changed in place under autograd, saved and shared between processes."""
    layer, x = large_layer()
    x.requires_grad_()
    out = layer(x)
    assert out.untyped_storage().nbytes() == out.numel() * 4
    (expected,) = torch.autograd.grad(3 * out.sum(), x, retain_graph=True)
    out.mul_(3)
    assert torch.equal(torch.autograd.grad(out.sum(), x)[0], expected)
    out, file = layer(x).detach(), io.BytesIO()
    torch.save(out, file)
    file.seek(0)
    assert torch.equal(torch.load(file), out)
    shared = out.clone()
    assert out.share_memory_().is_shared()
    assert torch.equal(out, shared)


@pytest.mark.needs_cc
def test_memory_returns(monkeypatch):
    """`empty_cache` drops the blocks of results that are gone, and no others.

    PyTorch allocates where the pool cannot, on the device of the input.
    """
    layer, x = large_layer()
    empty_cache()
    out, gone = layer(x), layer(x)
    before = held(memory._POOL)
    del gone
    empty_cache()
    assert before - held(memory._POOL) == memory._rounded(out.numel() * 4)

    def nothing(size):
        raise MemoryError

    monkeypatch.setattr(memory, "_aligned", nothing)
    assert torch.equal(layer(x), out)
    with torch.device("meta"):
        assert torch.equal(layer(x), out)


FAULTS = """
import resource, sys, torch
import lnm_codegen as lnm
def step():
    {step}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
{setup}
for _ in range(3):
    step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""


def faults(step, setup=""):
    """Return the page faults of ten steps, in another process."""
    command = [sys.executable, "-c", FAULTS.format(step=step, setup=setup)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
def test_a_layer_takes_no_new_pages():
    """Output and gradient of 32 MiB: ten steps touch fewer pages than one tensor has."""
    setup = """layer = lnm.nn.NeuronLayer(lnm.get("lif"), backend="c")
x, grad = torch.randn(16, 1 << 19), torch.randn(16, 1 << 19)"""
    found = faults("layer(x.detach().requires_grad_()).backward(grad)", setup)
    assert found < (1 << 25) // (1 << 21)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
@pytest.mark.slow
def test_pages_are_reused():
    """Ten tensors of 64 MiB: the default takes new pages for each, a keeping process none."""
    huge_pages = 10 * (1 << 26) // (1 << 21)  # the fewest that the system can hand out
    step = "torch.ones(1 << 24).add_(1.0)"
    assert faults(step) >= huge_pages > 2 * faults(step, "assert lnm.nn.keep_pages() is True")


def test_another_c_library(monkeypatch):
    """Without `mallopt` nothing changes, and the result says so."""
    for library in (object(), None):
        monkeypatch.setattr(memory.ctypes, "CDLL", lambda name, found=library: found)
        assert keep_pages() is False
