"""Launch sizes of the Triton kernels, without a GPU."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

import lnm_codegen as lnm
from lnm_codegen.compiler.emit import plan_of
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
    kernels = triton.TritonKernels(plan_of(lnm.get("if")))
    launched: list[dict[str, int]] = []
    kernels._module = SimpleNamespace(forward=lambda *_, **sizes: launched.append(sizes))
    tensors = [triton.torch.zeros(2), 0, triton.torch.zeros(2)]
    for neurons in (1000, 1000, 1000, triton.LEAST, 1000):
        kernels.forward((1, neurons, 1, 1, neurons), tensors)
    assert asked == [1000, triton.LEAST]
    assert launched == [{}, {}, {}, *[{"block": 1024, "num_warps": 4}] * 2]


def test_a_search_in_vain_is_repeated_by_longer_calls_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A layer whose launches are too short to time must not be searched at each call."""
    asked: list[int] = []
    monkeypatch.setattr(triton, "launch_sizes", lambda key, elements, *_: asked.append(elements))
    kernels = triton.TritonKernels(plan_of(lnm.get("if")))
    kernels._module = SimpleNamespace(forward=lambda *_: None)
    tensors = [triton.torch.zeros(2), 0, triton.torch.zeros(2)]
    for times in (1, 1, 1.5, 2, 3):
        neurons = int(times * triton.LEAST)
        kernels.forward((1, neurons, 1, 1, neurons), tensors)
    assert asked == [triton.LEAST, 2 * triton.LEAST]


def test_a_capture_leaves_the_search_to_later_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a layer was captured in a CUDA graph first, no call of that size was tuned."""
    cuda, gpu = triton.torch.cuda, triton.torch.device("cuda")
    monkeypatch.delenv("LNM_TUNE", raising=False)
    monkeypatch.setattr(cuda, "get_device_name", lambda device: "GPU")
    monkeypatch.setattr(triton, "device_of", lambda arguments: gpu)
    monkeypatch.setattr(triton, "current_device", lambda device: nullcontext())
    monkeypatch.setattr(triton, "fastest", lambda run: (1024, 4))
    monkeypatch.setattr(triton, "recall", lambda key: None)
    monkeypatch.setattr(triton, "remember", lambda key, value: None)
    kernels = triton.TritonKernels(plan_of(lnm.get("if")))
    launched: list[dict[str, int]] = []
    kernels._module = SimpleNamespace(forward=lambda *_, **sizes: launched.append(sizes))
    tensors = [triton.torch.zeros(2), 0, triton.torch.zeros(2)]
    for captures in (True, False, True):
        monkeypatch.setattr(cuda, "is_current_stream_capturing", lambda now=captures: now)
        kernels.forward((1, triton.LEAST, 1, 1, triton.LEAST), tensors)
    assert launched == [{}, *[{"block": 1024, "num_warps": 4}] * 2]


class Gpu:
    """A GPU with a queue, beside a host that takes 50 microseconds for a launch."""

    def __init__(self, launches: dict[triton.Sizes, float], wait: float = 2e-3) -> None:
        self.launches, self.wait, self.host, self.free = launches, wait, 0.0, 0.0

    def queue(self, seconds: float) -> None:
        self.free = max(self.free, self.host) + seconds

    def run(self, block: int, warps: int) -> None:
        self.host += 50e-6
        self.queue(self.launches[block, warps])

    def event(self, enable_timing: bool) -> SimpleNamespace:
        event = SimpleNamespace(at=0.0)
        event.record = lambda: setattr(event, "at", max(self.free, self.host))
        event.query = lambda: event.at <= self.host
        event.synchronize = lambda: setattr(self, "host", max(self.host, event.at))
        event.elapsed_time = lambda end: 1e3 * (end.at - event.at)
        return event

    def fastest(self, monkeypatch: pytest.MonkeyPatch) -> triton.Sizes | None:
        monkeypatch.setattr(triton.torch.cuda, "Event", self.event)
        monkeypatch.setattr(triton.torch.cuda, "_sleep", lambda cycles: self.queue(self.wait))
        return triton.fastest(self.run)


def test_launches_are_timed_without_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch of 20 microseconds was timed as the 50 that the host takes, and any one won."""
    times = dict.fromkeys(triton.CANDIDATES, 20e-6)
    assert Gpu(times | {(1024, 8): 19.8e-6}).fastest(monkeypatch) == triton.DEFAULT
    assert Gpu(times | {(1024, 8): 19e-6}).fastest(monkeypatch) == (1024, 8)


def test_a_time_that_cannot_be_measured_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Launches of 3 microseconds, and a host that queues for longer than the GPU waits."""
    times = dict.fromkeys(triton.CANDIDATES, 3e-6) | {(1024, 8): 2e-6}
    assert Gpu(times).fastest(monkeypatch) is None
    long = {sizes: 10 * seconds for sizes, seconds in times.items()}
    assert Gpu(long).fastest(monkeypatch) == (1024, 8)
    assert Gpu(long, wait=1e-4).fastest(monkeypatch) is None


def test_what_triton_refuses_is_one_line() -> None:
    """Forward and backward: a kernel that needs more than the GPU has is no traceback."""
    from triton.runtime.errors import OutOfResources

    def refuses(*_: object) -> None:
        raise OutOfResources(300_000, 232_448, "shared memory")

    kernels = triton.TritonKernels(plan_of(lnm.get("if")))
    kernels._module = SimpleNamespace(forward=refuses, backward=refuses)
    tensors = [triton.torch.zeros(2) for _ in range(kernels._saved + 1)]
    for call in (kernels.forward, kernels.backward):
        with refused(ToolError, "triton", "out of resource: shared memory", "", "another backend"):
            call((1, 2, 1, 1, 2), tensors)
