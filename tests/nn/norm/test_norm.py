"""Kernels of a normalised neuron on every target, and statistics of a batch in their passes."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

import lnm_codegen as lnm
from lnm_codegen.backends.base import Source
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.language.normalisation import channel_sums, input_correction
from lnm_codegen.nn import NormNeuron
from lnm_codegen.nn.layout import layout_of
from lnm_codegen.nn.load.cuda import cubin
from lnm_codegen.nn.norm.function import batch_moments, passes_of, track
from tests.backends.cuda.host import host_kernels, run_host
from tests.cases import arguments, exact
from tests.layers import gradients, slow
from tests.strategies import Arguments, rows_of

needs_cc = pytest.mark.needs_cc
BLOCK, WITH_SHORTCUT = lnm.normalised(lnm.get("lif")), lnm.normalised(lnm.get("lif"), True)
PASSES = (channel_sums(), input_correction())
FILES = {
    "c": {"{}_step.h", "{}.h", "{}.cpp"},
    "cuda": {"{}_step.h", "{}_layout.h", "{}.cu", "{}_launch.h", "{}_launch.cpp"},
    "triton": {"{}.py"},
}


# ---- sources ----


@pytest.mark.parametrize("backend", FILES)
def test_the_source_holds_both_passes(backend: Any) -> None:
    """The files of a normalised neuron are its own and those of the passes, which stand alone.

    Two normalised neurons share no file, but for the example, and no function with C linkage.
    """
    source = lnm.emit(BLOCK, backend, dtype="bfloat16")
    assert source.entry in source.files
    helpers = [f"lif_norm_{neuron.name}" for neuron in PASSES]
    for helper in helpers:
        own = {name.format(helper) for name in FILES[backend]}
        assert own <= source.files.keys()
        for name in own:
            assert "lif_norm" not in source.files[name].replace(helper, "")
    for name in FILES[backend]:
        assert not any(helper in source.files[name.format("lif_norm")] for helper in helpers)
    a = lnm.emit(BLOCK, backend, name="na")
    b = lnm.emit(lnm.normalised(lnm.get("plif"), True), backend, name="nb", dtype="float64")
    assert {n for n in a.files.keys() & b.files.keys() if "example" not in n} == set()
    shared = re.compile(r"channel_sums|input_correction")
    for source, name in ((a, "na"), (b, "nb")):
        for text in source.files.values():
            code = re.sub(r"from `\w+`|`[^`]*`", "", text)
            assert all(code[m.start() - 3 : m.start()] == f"{name}_" for m in shared.finditer(code))


def sequences(source: Source, name: str, functions: str) -> set[str]:
    """Return the sequences that functions of a C source read or write at each time step."""
    text = source.files[f"{name}.cpp"]
    bodies = re.findall(rf"ALWAYS_INLINE void (?:{functions})\(.*?\n}}\n", text, re.S)
    assert len(bodies) == len(functions.split("|"))
    return {found for body in bodies for found in re.findall(r"a\.(\w+_seq) \+ time", body)}


def test_bytes_of_an_element_step_in_c() -> None:
    """36 of BatchNorm2d and a layer's 52, read from the source, of which the statistics take 4.

    A block of lanes stays in the L1 cache between the recomputation and the adjoint, so that the
    backward reads each number once. BatchNorm2d moves 12 forward and 20 backward, a layer 8 and 12.
    """
    source = lnm.emit(BLOCK, "c")
    skipped = {"grad_c_seq"}  # null in a call, see `batch_moments`
    statistics = sequences(source, "lif_norm_channel_sums", "backward_chunk") - skipped
    forward = sequences(source, BLOCK.name, "forward_chunk")
    backward = sequences(source, BLOCK.name, "recompute|backward_chunk")
    correction = sequences(source, "lif_norm_input_correction", "forward_chunk")
    assert statistics == {"c_seq"}
    assert forward == {"x_raw_seq", "spike_seq"}
    assert backward == {"x_raw_seq", "grad_spike_seq", "grad_x_raw_seq"}
    assert correction == {"grad_seq", "c_seq", "corrected_seq"}
    assert 4 * sum(map(len, (statistics, forward, backward, correction))) == 36
    layer = lnm.emit(lnm.get("lif"), "c")
    alone = [sequences(layer, "lif", f) for f in ("forward_chunk", "recompute|backward_chunk")]
    assert 12 + 20 + 4 * sum(map(len, alone)) == 52


def test_the_sums_read_no_gradient() -> None:
    """The backward of the sums takes the gradient of its output as 1, and loads none."""
    backward = plan_of(channel_sums()).program.backward
    assert "grad_y" not in {v.name for v in backward.reads}
    for backend, load in (("triton", "grad_y_row"), ("cuda", "grad_y_at")):
        sums, other = (
            "".join(lnm.emit(neuron, backend).files.values())  # type: ignore[arg-type]
            for neuron in (channel_sums(), lnm.get("lif"))
        )
        assert load not in sums
        assert load in other.replace("grad_spike", "grad_y")


# ---- CUDA on the host ----


def drawn(neuron: lnm.Neuron, shape: tuple[int, ...]) -> Arguments:
    """Return arguments whose parameters per channel are random; the sums have gradient 1."""
    rng = np.random.default_rng(0)
    a = arguments(neuron, rng, shape)
    per_channel = (p for p in neuron.params if p.per == "channel")
    params = {p.name: exact(rng.uniform(0.25, 1.5, rows_of(p.per, shape))) for p in per_channel}
    grads = (np.ones(shape),) if neuron is PASSES[0] else a.grad_out
    return replace(a, params=a.params | params, grad_out=grads)


@needs_cc
@pytest.mark.parametrize("neuron", [WITH_SHORTCUT, *map(slow, PASSES)], ids=lambda n: n.name)
def test_the_cuda_kernels_on_the_host(neuron: lnm.Neuron) -> None:
    """Outputs and gradients are those of the interpreter, within float32."""
    for shape in ((5, 2, 3, 4), (17, 3, 4, 64), (4, 3, 2, 33)):
        a = drawn(neuron, shape)
        got, expected = run_host(neuron, a), a.interpret(neuron)
        for name, array in got.outputs.items():
            np.testing.assert_allclose(array, expected.outputs[name], rtol=1e-5, atol=1e-5)
        learned = [p.name for p in neuron.params if p.learnable]
        inputs = [] if neuron is PASSES[0] else [s.name for s in neuron.inputs]
        for name in (*learned, *inputs):
            mine, theirs = got.grads[name], np.asarray(expected.grads[name])
            size = max(np.abs(theirs).max(), 1)
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-5 * size, err_msg=name)


@needs_cc
@pytest.mark.slow
def test_bytes_of_an_element_step_in_cuda() -> None:
    """The same, counted as the kernels run; the sums would also write zeros, 4 bytes more."""
    moved = {}
    shape = (4, 4, 8, 128)
    for neuron in (*PASSES, BLOCK):
        kernels = host_kernels(neuron, "float32")
        for name in ("loaded", "stored"):
            kernels.counter(name).value = 0
        run_host(neuron, drawn(neuron, shape), ends=False)
        total = kernels.counter("loaded").value + kernels.counter("stored").value
        moved[neuron.name] = total / np.prod(shape)
    sums = 4 + 4 + 8  # the backward reads c and writes 0; the forward, which is not used, moves 8
    starts = 2 * 4 / shape[0]  # forward and backward load the initial states, once a neuron
    correction = 12 + 20  # its backward is not used
    assert moved == {
        "channel_sums": sums, BLOCK.name: 20 + starts, "input_correction": correction,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("neuron", [WITH_SHORTCUT, *PASSES], ids=lambda n: n.name)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nvrtc_compiles_the_kernels(neuron: lnm.Neuron, dtype: Any) -> None:
    """To machine code of sm_80 and sm_90."""
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    for arch in ("sm_80", "sm_90"):
        assert cubin(plan_of(neuron, dtype=dtype), arch)[:4] == b"\x7fELF"


# ---- statistics: |mean| >> std, 16-bit types, processes ----


def normal(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@needs_cc
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1000.0, 1.0), (-3e4, 0.1), (1e-3, 1e-6)])
def test_moments(mean: float, std: float) -> None:
    """Mean within a few millionths of the spread, and the variance of itself, in float32.

    Of the last, one number in a thousand, which the pivot reads, lies 1000 spreads away.
    """
    for shape in ((4, 8, 6, 16, 16), (3, 5, 7, 9), (40, 2, 3, 33), (2, 1, 4), (4, 8, 2, 16, 16)):
        c, close = mean + std * normal(*shape), 4e-6
        if shape == (4, 8, 2, 16, 16):
            c[0, 0, :, 0, 0], close = mean + 1000 * std, 2e-5
        layout = layout_of(c, True)
        assert layout is not None
        found = batch_moments(passes_of("c", c.dtype)[0], layout, c, None)
        var, exact_mean = torch.var_mean(
            c.double(), [k for k in range(c.dim()) if k != 2], correction=0
        )
        assert ((found[0] - exact_mean).abs() <= close * var.sqrt()).all()
        assert ((found[1] - var).abs() <= close * var).all()
        assert (found[2] == c.numel() // c.shape[2]).all()


@needs_cc
def test_gradients_where_the_mean_is_large() -> None:
    """At mean 1000 and std 1, float32 gradients have errors of float32, in the size of the largest.

    sum(e*c) - mean*sum(e), whose terms are a thousand times the result, misses the tolerance.
    """
    c, weight = 1000 + normal(4, 16, 3, 16, 16), normal(4, 16, 3, 16, 16, seed=2) + 0.5
    found, neuron = {}, lnm.get("li")
    for dtype, backend in ((torch.float64, "torch"), (torch.float32, "c")):
        block = NormNeuron(neuron, 3, backend=backend, dtype=dtype)
        grads = gradients(block, [c.to(dtype)], [block.weight, block.bias], [weight])[1:]
        found[dtype] = [g.double() for g in grads]
    tolerance = 5e-6
    for mine, theirs in zip(found[torch.float32], found[torch.float64], strict=True):
        assert (mine - theirs).abs().max() <= tolerance * theirs.abs().max()
    e = found[torch.float64][0].float()  # a gradient of the same kind, which is not centred
    e = e - e.mean() + 0.1
    axes, mean = (0, 1, 3, 4), c.mean((0, 1, 3, 4))
    naive = (e * c).sum(axes) - mean * e.sum(axes)
    centred = (e.double() * (c.double() - c.double().mean(axes).reshape(-1, 1, 1))).sum(axes)
    assert (naive - centred).abs().max() > tolerance * centred.abs().max()


@needs_cc
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_statistics_of_16_bits(dtype: torch.dtype) -> None:
    """Within 1e-3 of those of float32: the mean in spreads, the variance in itself."""
    c = normal(4, 16, 5, 16, 16) * 2 + 1
    mine, other = (NormNeuron(lnm.get("lif"), 5, momentum=1.0, backend="c") for _ in range(2))
    assert mine(c.to(dtype)).dtype is dtype
    other(c)
    assert mine.running_mean.dtype is torch.float32
    spread = other.running_var.sqrt()
    assert ((mine.running_mean - other.running_mean).abs() <= 1e-3 * spread).all()
    assert ((mine.running_var - other.running_var).abs() <= 1e-3 * other.running_var).all()


def test_the_weight_of_a_batch_of_several_processes() -> None:
    """The momentum in float64, where the moments say how many elements there are, or none."""
    block = NormNeuron(lnm.get("lif"), 2, backend="torch").double()
    mean = torch.tensor([1.0, 2.0], dtype=torch.double)
    for count in (8.0, 0.0):
        track(block, torch.stack((mean, mean, torch.full_like(mean, count))), None)
        assert block.running_mean.tolist() == [0.1, 0.2]
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


@needs_cc
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["c", "torch"])
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
    expected = gradients(block, [c, r], [block.weight, block.bias], [weight])
    assert torch.equal(torch.cat((first[0], second[0]), 1), expected[0])
    for k in (1, 2):
        torch.testing.assert_close(torch.cat((first[k], second[k]), 1), expected[k])
    own = [2 * first[3], 2 * first[4], *first[5:]]
    whole = [*expected[3:], block.running_mean, block.running_var]
    torch.testing.assert_close(own, whole)
    assert all(map(torch.equal, first[3:], second[3:]))
