"""Cubins of the CUDA backend: compiled by NVRTC without a GPU, cached, rebuilt when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

import lnm_codegen as lnm
from lnm_codegen.compiler.model import model_of
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
    model = model_of(lnm.get("if"))
    image = load_cuda.cubin(model, "sm_90")
    assert image.startswith(b"\x7fELF")
    (kept,) = tmp_path.glob("*/if.sm_90.cubin")
    compiled = load_cuda._compiled

    def never(*arguments: object) -> bytes:
        raise AssertionError("compiled again")

    monkeypatch.setattr(load_cuda, "_compiled", never)
    assert load_cuda.cubin(model, "sm_90") == image
    kept.write_bytes(image[:1000])
    monkeypatch.setattr(load_cuda, "_compiled", compiled)
    assert load_cuda.cubin(model, "sm_90") == image
    assert kept.read_bytes() == image


def test_what_nvrtc_refuses_is_one_line() -> None:
    """An architecture that does not exist."""
    problem = "NVRTC failed: nvrtc: error: invalid value for --gpu-architecture (-arch)"
    with refused(lnm.ToolError, "cuda", problem) as caught:
        load_cuda.cubin(model_of(lnm.get("if")), "sm_1")
    assert "(options: " in caught.value.problem
    assert "--gpu-architecture=sm_1" in caught.value.problem


@pytest.mark.parametrize("current", [0, 7])
def test_a_thread_without_a_context_gets_one(current: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new thread of autograd has none; another context is left alone."""
    from cuda.bindings import driver

    context = [current]
    calls = {
        "cuCtxGetCurrent": lambda: (0, context[0]),
        "cuDeviceGet": lambda index: (0, index + 10),
        "cuDevicePrimaryCtxRetain": lambda device: (0, device + 100),
        "cuCtxSetCurrent": lambda given: context.append(given) or (0,),
    }
    for name, call in calls.items():
        monkeypatch.setattr(driver, name, call)
    load_cuda._require_context(1)
    assert context == ([0, 111] if current == 0 else [7])


def test_every_launch_requires_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any call of the driver."""
    from contextlib import nullcontext

    import torch

    def required(index: int) -> None:
        raise RuntimeError(f"a context of {index}")

    monkeypatch.setattr(load_cuda, "_require_context", required)
    monkeypatch.setattr(load_cuda, "device_of", lambda _: torch.device("cpu", 0))
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    kernels = load_cuda.load_cuda(model_of(lnm.get("if")))
    with pytest.raises(RuntimeError, match="a context of 0"):
        kernels.forward((1, 1, 1, 1, 1), [torch.zeros(1)])


def test_a_cpu_tensor_is_refused() -> None:
    """The backend names the device."""
    import torch

    layer = lnm.nn.NeuronLayer(lnm.get("if"), backend="cuda")
    problem = "backend 'cuda' runs on an NVIDIA GPU; the input is on cpu"
    with refused(lnm.ToolError, "if", problem):
        layer(torch.zeros(3, 2))
