"""Statistics of a batch and sums of its backward: |mean| >> std, 16-bit types, processes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

import lnm_codegen as lnm
from lnm_codegen.nn import NormNeuron
from lnm_codegen.nn.layout import layout_of
from lnm_codegen.nn.norm.function import batch_moments, passes_of, track

pytestmark = pytest.mark.needs_cc


def moments_of(c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the moments that the C kernels find, and those of NumPy's order in float64."""
    layout = layout_of(c, True)
    assert layout is not None
    got = batch_moments(passes_of("c", c.dtype)[0], layout, c, None)
    axes = tuple(k for k in range(c.dim()) if k != 2)
    var, mean = torch.var_mean(c.double(), axes, correction=0)
    count = torch.full_like(mean, c.numel() // c.shape[2])
    return got, torch.stack((mean, var, count))


@pytest.mark.parametrize("shape", [(4, 8, 6, 16, 16), (3, 5, 7, 9), (40, 2, 3, 33), (2, 1, 4)])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1000.0, 1.0), (-3e4, 1e-1), (1e-3, 1e-6)])
def test_moments(shape: tuple[int, ...], mean: float, std: float) -> None:
    """Mean within a few millionths of the spread, and the variance of itself, in float32."""
    c = mean + std * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    got, expected = moments_of(c)
    spread = expected[1].sqrt()
    assert ((got[0] - expected[0]).abs() <= 4e-6 * spread).all()
    assert ((got[1] - expected[1]).abs() <= 4e-6 * expected[1]).all()
    assert torch.equal(got[2], expected[2])


def test_moments_where_the_pivot_is_an_outlier() -> None:
    """One number in a thousand, which the pivot reads, lies 1000 spreads of the others away."""
    c = torch.randn(4, 8, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    c[0, 0, :, 0, 0] = 1000.0
    got, expected = moments_of(c)
    torch.testing.assert_close(got, expected, rtol=2e-5, atol=2e-5)


def test_gradients_where_the_mean_is_large() -> None:
    """At mean 1000 and std 1, float32 gradients have errors of float32, in the size of the largest.

    sum(e*c) - mean*sum(e), whose terms are a thousand times the result, misses the tolerance.
    """
    generator = torch.Generator().manual_seed(2)
    c = 1000 + torch.randn(4, 16, 3, 16, 16, generator=generator)
    weight = torch.randn(c.shape, generator=generator) + 0.5
    found = {}
    for dtype, backend in ((torch.float64, "torch"), (torch.float32, "c")):
        block = NormNeuron(lnm.get("li"), 3, backend=backend, dtype=dtype)
        given = c.to(dtype).requires_grad_()
        out = block(given)
        grads = torch.autograd.grad((out * weight).sum(), [given, block.weight, block.bias])
        found[dtype] = [g.double() for g in grads]
    tolerance = 5e-6
    for mine, exact in zip(found[torch.float32], found[torch.float64], strict=True):
        assert (mine - exact).abs().max() <= tolerance * exact.abs().max()

    e = found[torch.float64][0].float()  # a gradient of the same kind, which is not centred
    e = e - e.mean() + 0.1
    axes, mean = (0, 1, 3, 4), c.mean((0, 1, 3, 4))
    naive = (e * c).sum(axes) - mean * e.sum(axes)
    exact = (e.double() * (c.double() - c.double().mean(axes).reshape(-1, 1, 1))).sum(axes)
    assert (naive - exact).abs().max() > tolerance * exact.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)]
)
def test_statistics_of_16_bits(dtype: torch.dtype) -> None:
    """Within 1e-3 of those of float32: the mean in spreads, the variance in itself."""
    c = torch.randn(4, 16, 5, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 + 1
    blocks = [NormNeuron(lnm.get("lif"), 5, momentum=1.0, backend="c") for _ in range(2)]
    out = blocks[0](c.to(dtype))
    blocks[1](c)
    assert out.dtype is dtype
    mine, exact = blocks
    assert mine.running_mean.dtype is torch.float32
    spread = exact.running_var.sqrt()
    assert ((mine.running_mean - exact.running_mean).abs() <= 1e-3 * spread).all()
    assert ((mine.running_var - exact.running_var).abs() <= 1e-3 * exact.running_var).all()


def test_the_weight_of_a_batch_of_several_processes() -> None:
    """The momentum in float64, where the moments say how many elements there are, or none."""
    block = NormNeuron(lnm.get("lif"), 2, backend="torch").double()
    mean = torch.tensor([1.0, 2.0], dtype=torch.double)
    for count, expected in ((8.0, [0.1, 0.2]), (0.0, [0.1, 0.2])):
        track(block, torch.stack((mean, mean, torch.full_like(mean, count))), None)
        assert block.running_mean.tolist() == expected
        assert block.num_batches_tracked == 1


def test_a_graph_has_the_processes_of_its_call() -> None:
    """A graph once kept `sync`, and the statistics of one process after `init_process_group`."""
    torch._dynamo.reset()
    block = NormNeuron(lnm.get("lif"), 2, backend="torch")

    @torch.compile(backend="eager", fullgraph=True)
    def combined(x: torch.Tensor) -> torch.Tensor:
        return x + (block._group() is not None)

    def is_combined() -> bool:
        return bool(combined(torch.zeros(())))

    assert not is_combined()
    for _ in range(2):
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
        try:
            for sync in (True, False, True):
                block.sync = sync
                assert is_combined() == sync
        finally:
            dist.destroy_process_group()
        assert not is_combined()


PROGRAM = """
import sys, torch, torch.distributed as dist, lnm_codegen as lnm
from torch.nn.parallel import DistributedDataParallel
store, rank, backend, result = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
torch.manual_seed(0)
c, r = torch.randn(4, 6, 3, 5, 5).double() * 2 + 1, torch.rand(4, 6, 3, 5, 5).double()
weight = torch.randn(c.shape).double()
own = slice(0, 2) if rank == 0 else slice(2, 6)  # the processes have different batches
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
block = lnm.nn.NormNeuron(lnm.get("lif"), 3, shortcut=True, backend=backend, dtype=torch.double)
parallel = DistributedDataParallel(block)
leaves = [c[:, own].clone().requires_grad_(), r[:, own].clone().requires_grad_()]
out = parallel(*leaves)
(out * weight[:, own]).sum().backward()
found = [out.detach(), *(x.grad for x in leaves), block.weight.grad, block.bias.grad]
torch.save([*found, block.running_mean, block.running_var], result)
dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["c", pytest.param("torch", marks=pytest.mark.slow)])
def test_statistics_of_all_processes(backend: str, tmp_path: Any) -> None:
    """Two processes with different batches give what one gives on both, as SyncBatchNorm does.

    The gradients of weight and bias are means over processes, as DistributedDataParallel has them.
    """
    results = [tmp_path / f"{rank}.pt" for rank in range(2)]
    runs = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, tmp_path / "store", str(k), backend, path])
        for k, path in enumerate(results)
    ]
    assert [run.wait(timeout=240) for run in runs] == [0, 0]
    first, second = (torch.load(path) for path in results)
    torch.manual_seed(0)
    c, r = torch.randn(4, 6, 3, 5, 5).double() * 2 + 1, torch.rand(4, 6, 3, 5, 5).double()
    weight = torch.randn(c.shape).double()
    block = NormNeuron(lnm.get("lif"), 3, shortcut=True, backend=backend, dtype=torch.double)
    c.requires_grad_(), r.requires_grad_()
    out = block(c, r)
    (out * weight).sum().backward()
    assert torch.equal(torch.cat((first[0], second[0]), 1), out)
    for k, leaf in ((1, c), (2, r)):
        torch.testing.assert_close(torch.cat((first[k], second[k]), 1), leaf.grad)
    for k, leaf in ((3, block.weight), (4, block.bias)):
        torch.testing.assert_close(first[k] * 2, leaf.grad)
        assert torch.equal(first[k], second[k])
    for k, own in ((5, block.running_mean), (6, block.running_var)):
        torch.testing.assert_close(first[k], own)
        assert torch.equal(first[k], second[k])
