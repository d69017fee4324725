"""Launch sizes of the Triton kernels, without a GPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import lnm_codegen as lnm
from lnm_codegen.compiler.model import model_of
from lnm_codegen.errors import ToolError
from lnm_codegen.nn.load import triton
from tests.refusals import refused


def test_short_calls_read_the_cache_folder_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that runs step by step must not open a file at each step."""
    asked: list[int] = []

    def launch_sizes(key: str, elements: int, *_: object) -> tuple[int, int] | None:
        asked.append(elements)
        return None if elements < triton.LEAST else (1024, 4)

    monkeypatch.setattr(triton, "launch_sizes", launch_sizes)
    kernels = triton.TritonKernels(model_of(lnm.get("if")))
    launched: list[dict[str, int]] = []
    kernels._module = SimpleNamespace(forward=lambda *_, **sizes: launched.append(sizes))
    tensors = [triton.torch.zeros(2), 0, triton.torch.zeros(2)]
    for neurons in (1000, 1000, 1000, triton.LEAST, 1000):
        kernels.forward((1, neurons, 1, 1, neurons), tensors)
    assert asked == [1000, triton.LEAST]
    assert launched == [{}, {}, {}, *[{"block": 1024, "num_warps": 4}] * 2]


def test_what_triton_refuses_is_one_line() -> None:
    """Forward and backward: a kernel that needs more than the GPU has is no traceback."""
    from triton.runtime.errors import OutOfResources

    def refuses(*_: object) -> None:
        raise OutOfResources(300_000, 232_448, "shared memory")

    kernels = triton.TritonKernels(model_of(lnm.get("if")))
    kernels._module = SimpleNamespace(forward=refuses, backward=refuses)
    tensors = [triton.torch.zeros(2) for _ in range(kernels._saved + 1)]
    for call in (kernels.forward, kernels.backward):
        with refused(ToolError, "triton", "out of resource: shared memory", "", "another backend"):
            call((1, 2, 1, 1, 2), tensors)
