"""Tools that a backend lacks on a GPU, on a machine that has none."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import lnm_codegen as lnm
from lnm_codegen.nn import select as module
from tests.refusals import refused

triton_runtime = pytest.importorskip("triton.runtime", reason="Triton is not installed")


class Broken:
    """A driver of Triton whose module in C cannot be compiled."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """A machine with a GPU, where Triton raises an error."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: True)

    def raises(error: Exception) -> None:
        monkeypatch.setattr(triton_runtime, "driver", SimpleNamespace(active=Broken(error)))
        module._triton_problem.cache_clear()

    yield raises
    module._triton_problem.cache_clear()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Failed to find C compiler."),
        subprocess.CalledProcessError(1, ["gcc", "driver.c"]),
        AssertionError("libcuda.so cannot found!"),
    ],
)
def test_triton_without_a_compiler(broken: Callable[[Exception], None], error: Exception) -> None:
    """The named backend is refused in one line; "auto" runs eager PyTorch and warns."""
    broken(error)
    neuron, problem = lnm.get("lif"), "Triton cannot use the GPU: "
    with refused(lnm.ToolError, "triton", problem, remedy="Install a C compiler"):
        module.select(neuron, "triton", "cuda")
    with pytest.warns(RuntimeWarning, match=problem):
        assert module.select(neuron, "auto", "cuda") == "torch"


def test_explain_on_a_cpu_starts_no_gpu(broken: Callable[[Exception], None]) -> None:
    """Triton's driver is not asked for an input on a CPU."""
    broken(RuntimeError("asked"))
    layer = lnm.nn.NeuronLayer(lnm.get("lif"), backend="torch")
    assert "the input is on cpu" in layer.explain(module.torch.ones(2, 1, 3)).others["triton"]
    assert module._triton_problem.cache_info().misses == 0


def test_a_further_backend_needs_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line in `DEVICES` has all that `select` and `explain` say about its device."""
    monkeypatch.setitem(module.DEVICES, "rust", module.DEVICES["c"])
    with refused(lnm.ToolError, "lif", "backend 'rust' runs on the CPU; the input is on cuda"):
        module.select(lnm.get("lif"), "rust", "cuda")
    assert module.select(lnm.get("lif"), "rust", "cpu") == "rust"


def test_a_namespace_is_not_cuda_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other packages, such as cuda-pathfinder, are in the namespace `cuda`, too."""
    monkeypatch.setattr(module.torch.version, "hip", None)
    for found in ({"cuda": object()}, {}):

        def find_spec(name: str, found: dict[str, object] = found) -> object:
            if name == "cuda.bindings" and not found:
                raise ModuleNotFoundError("No module named 'cuda'")
            return found.get(name)

        monkeypatch.setattr(importlib.util, "find_spec", find_spec)
        error = module.missing("cuda")
        assert error is not None
        assert error.problem == "cuda-bindings is not installed"
