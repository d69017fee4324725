"""Measurements and floors move what they claim to move; no time is asserted."""

from __future__ import annotations

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.bench import suite as floor
from lnm_codegen.bench.measure import FEWEST, Workload, in_blocks, kept_bytes, peak_bytes
from lnm_codegen.bench.suite import Case, floor_bytes


def test_blocks_are_consecutive_calls(monkeypatch):
    """A block has one warm-up and at least `FEWEST` calls of one subject; blocks alternate."""
    monkeypatch.setattr("lnm_codegen.bench.measure.BLOCK", 0.0)
    called: list[str] = []
    names = ("a", "b")
    workloads = {n: Workload(lambda n=n: called.append(n)) for n in names}
    timings = in_blocks(workloads, blocks=2)
    block = 1 + FEWEST
    assert called == (["a"] * block + ["b"] * block) * 2
    assert all(t.low <= t.median <= t.high for t in timings.values())


def test_the_steady_state_is_the_fastest_block(monkeypatch):
    """The first block of a workload is slower here, as under another load."""
    monkeypatch.setattr("lnm_codegen.bench.measure.BLOCK", 0.0)
    clock = iter(range(10**6))
    slow = iter([50] * (1 + FEWEST) + [0] * 100)
    now = [0.0]

    def passed(device: str) -> float:
        now[0] += next(clock) * 0 + 1
        return now[0]

    def forward() -> None:
        now[0] += next(slow)

    monkeypatch.setattr("lnm_codegen.bench.measure._now", passed)
    timing = in_blocks({"a": Workload(forward)}, blocks=2)["a"]
    assert timing.median == 2
    assert timing.high == 52


MEASURE = "lnm_codegen.bench.measure"


class Gpu:
    """A GPU with a queue: the host takes 1 s for a launch, the GPU 3 s for a kernel."""

    def __init__(self, monkeypatch):
        self.host = self.busy = 0.0
        self.waits = 0
        monkeypatch.setattr(f"{MEASURE}.torch.cuda.synchronize", self.synchronize)
        monkeypatch.setattr(f"{MEASURE}.torch.cuda.Event", lambda **_: Mark(self))
        monkeypatch.setattr(f"{MEASURE}.time.perf_counter", lambda: self.host)

    def launch(self):
        self.host += 1
        self.busy = max(self.busy, self.host) + 3

    def synchronize(self):
        self.waits += 1
        self.host = max(self.host, self.busy)


class Mark:
    def __init__(self, gpu):
        self.gpu = gpu

    def record(self):
        self.at = max(self.gpu.busy, self.gpu.host)

    def elapsed_time(self, later):
        return 1e3 * (later.at - self.at)


def test_a_gpu_runs_a_block_without_a_pause(monkeypatch):
    """The time of a call is that of its kernels, without the launch, which the queue hides."""
    gpu = Gpu(monkeypatch)
    workload = Workload(gpu.launch, lambda _: gpu.launch())
    timing = in_blocks({"a": workload}, blocks=1, device="cuda")["a"]
    assert (timing.forward, timing.backward, timing.median) == (3, 3, 6)
    assert gpu.waits == 3 + 1  # one call that is waited for, and the end of the block


def test_kept_and_peak_bytes():
    """What a forward keeps, and the largest rise; what `prepare` drops counts for neither."""
    elements, old = 1 << 12, [torch.empty(1 << 14)]

    def forward() -> torch.Tensor:
        old.clear()
        temporary = torch.empty(3 * elements)
        return temporary[:elements] * 2

    def backward(_: torch.Tensor) -> None:
        torch.empty(8 * elements)

    workload = Workload(forward, backward)
    assert kept_bytes(workload, prepare=old.clear) == 4 * elements
    assert peak_bytes(workload, prepare=old.clear) == 9 * 4 * elements


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
@pytest.mark.parametrize(("inputs", "outputs"), [(2, 1), (1, 2)])
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


def test_sizes():
    """Streams have the bytes of the plan's sequences: five of them for one input, at any T."""
    for family, dtype, steps in (
        ("lif", torch.float32, 3), ("cuba_lif", torch.bfloat16, 3), ("lnm", torch.float32, 100)
    ):  # fmt: skip
        neuron = lnm.get(family)
        case = Case(neuron=neuron, label=family, shape=(steps, 2, 4, 5), dtype=dtype)
        bytes_ = floor.moved(len(neuron.inputs), len(neuron.output), dtype.itemsize)
        assert bytes_ == floor_bytes(case) == 5 * dtype.itemsize
    for elements, itemsize in ((1, 4), (1, 8), (2999, 2), (3000, 2), (17, 8)):
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
