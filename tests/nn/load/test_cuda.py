"""The CUDA backend without a GPU: cubins by NVRTC, launches on a stub of the driver."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lnm_codegen as lnm
from lnm_codegen.backends.loops import ABI
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.nn.load import cuda as load_cuda
from tests.refusals import refused

nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC needs cuda-bindings")


@pytest.fixture(autouse=True)
def _nvrtc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LNM_CACHE", str(tmp_path))
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:
        pytest.skip(f"NVRTC needs nvidia-cuda-nvrtc: {error}")


def test_a_cubin_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machine code for one architecture; the file in the cache serves the next call, if sound."""
    model = plan_of(lnm.get("if"))
    image = load_cuda.cubin(model, "sm_90")
    assert image.startswith(b"\x7fELF")
    (kept,) = tmp_path.glob("*/if.sm_90.cubin")
    monkeypatch.setattr(load_cuda, "_compiled", None)
    other = plan_of(lnm.get("if").with_init(v=0.25))  # another start, the same kernels
    assert load_cuda.cubin(model, "sm_90") == load_cuda.cubin(other, "sm_90") == image
    kept.write_bytes(image[:1000])
    monkeypatch.setattr(load_cuda, "_compiled", lambda *_: b"again")
    assert load_cuda.cubin(model, "sm_90") == kept.read_bytes() == b"again"


def test_what_nvrtc_refuses_is_one_line() -> None:
    """An architecture that does not exist."""
    problem = "NVRTC failed: nvrtc: error: invalid value for --gpu-architecture (-arch)"
    with refused(lnm.ToolError, "cuda", problem) as caught:
        load_cuda.cubin(plan_of(lnm.get("if")), "sm_1")
    assert "(options: " in caught.value.problem
    assert "--gpu-architecture=sm_1" in caught.value.problem


def test_a_cpu_tensor_is_refused() -> None:
    layer = lnm.nn.NeuronLayer(lnm.get("if"), backend="cuda")
    problem = "backend 'cuda' runs on an NVIDIA GPU; the input is on cpu"
    with refused(lnm.ToolError, "if", problem):
        layer(load_cuda.torch.zeros(3, 2))


# ---- launches ----


class Code(IntEnum):
    """Results of the driver."""

    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_CONTEXT = 201


OK = Code.CUDA_SUCCESS


def stub_driver() -> Any:
    """Return a stub of the driver: a context for each thread, modules loaded, kernels launched."""
    thread, loaded, launched = threading.local(), list[bytes](), list[tuple[Any, ...]]()

    def launch(function: str, *words: int) -> tuple[Any, ...]:
        if getattr(thread, "context", None) != "primary":
            return (Code.CUDA_ERROR_INVALID_CONTEXT,)
        grid, (stream, values, _) = words[0], words[-3:]
        struct = ctypes.cast(values, ctypes.POINTER(ctypes.POINTER(ctypes.c_int64)))[0]
        launched.append((function, grid, stream, struct[:7]))
        return (OK,)

    return SimpleNamespace(
        loaded=loaded,
        launched=launched,
        CUfunction_attribute=SimpleNamespace(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8),
        cuDeviceGet=lambda index: (OK, index),
        cuDevicePrimaryCtxRetain=lambda device: (OK, "primary"),
        cuCtxSetCurrent=lambda context: (OK, setattr(thread, "context", context))[:1],
        cuModuleLoadData=lambda image: (OK, (loaded.append(image), len(loaded))[1]),
        cuModuleGetFunction=lambda module, name: (OK, name.decode()),
        cuFuncSetAttribute=lambda *_: (OK,),
        cuLaunchKernel=launch,
    )


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The stub in place of the driver, and a GPU of which PyTorch knows nothing."""
    stub = stub_driver()
    monkeypatch.setattr("cuda.bindings.driver", stub, raising=False)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", stub)
    monkeypatch.setattr(load_cuda, "cubin", lambda model, arch: arch.encode())
    cuda = load_cuda.torch.cuda
    monkeypatch.setattr(cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=7))
    monkeypatch.setattr(cuda, "get_device_capability", lambda device: (9, 0))
    load_cuda._context.cache_clear()
    yield stub
    load_cuda._context.cache_clear()


def run(kernels: load_cuda.CudaKernels, direction: str, sizes: tuple[int, ...]) -> None:
    """Run a direction on arguments that no stub reads."""
    fields = getattr(kernels._plan.plan, f"{direction}_fields")
    number = load_cuda.torch.zeros(1)
    getattr(kernels, direction)(sizes, [0 if f.kind == "int64_t" else number for f in fields])


def test_a_thread_without_a_context_launches(driver: Any) -> None:
    """Autograd runs a backward in a thread of its own, where it may be the first call of CUDA."""
    kernels = load_cuda.CudaKernels(plan_of(lnm.get("lnm", degree=2)))
    sizes = (5, 60, 1, 1, 60)
    run(kernels, "forward", sizes)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(run, kernels, "backward", sizes).result()
    names = [f"lnm_{word}_kernel" for word in ("forward", "backward", "sums")]
    assert [name for name, *_ in driver.launched] == names
    assert driver.loaded == [b"sm_90"]
    for _, _, stream, struct in driver.launched:
        assert stream == 7
        assert struct[1:] == [ABI, *sizes]


def test_an_empty_sample_is_one_block(driver: Any) -> None:
    """As for an input (5, 2, 4, 0) with parameters per channel; gradients become zeros."""
    kernels = load_cuda.CudaKernels(plan_of(lnm.get("lnm", degree=2, per="channel")))
    for direction in ("forward", "backward"):
        run(kernels, direction, (5, 0, 0, 4, 1))
    assert [grid for _, grid, *_ in driver.launched] == [1, 1, 4]
