"""A training step of a recurrent network beside an earlier version, a GRU and other libraries.

    python benchmarks/recurrence.py [--threads 2] [--rounds 10] [--old TREE] [--peers] [--cases 4]
        [--device cuda] [--precision high]

Each round times every subject once, forward and backward, so that a change of the machine meets
all of them. The table has minima and medians in milliseconds, and the minimum in units of ours.

| subject | what it is |
| --- | --- |
| ours | network "recurrent" with a linear readout, weights W, b and U |
| loop | on a GPU: the same as a loop over the steps of the layer |
| old | the same in a process of its own, from a worktree of an earlier commit |
| feed-forward | network "feedforward": without U |
| 2T products | `torch.mm` of (N, H) and (H, H), 2T times |
| GRU | `nn.GRU` and a linear readout |
| SpikingJelly, snnTorch, Norse | LIF with W and U, eager; and each step compiled |

2T products beside the feed-forward network are what the recurrence must cost at least.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import lnm_codegen as lnm
from lnm_codegen.train.models import build

CASES = ((1301, 64, 4, 36), (784, 100, 1, 128), (250, 64, 140, 512), (100, 128, 700, 256))
"""T, N, inputs and H: ECG-QTDB, sequential MNIST, and the sizes of SHD with 140 and 700 inputs."""
NEURONS = {"lif": lnm.get("lif"), "two": lnm.get("lnm", states=2, degree=1, per="channel")}
DEVICE = "cpu"
Case = tuple[int, int, int, int]
Run = Callable[[], float]
"""Run once and return the seconds."""


def timed(network: nn.Module, x: Tensor) -> Run:
    """Return a forward and backward that measures itself."""

    network, x = network.to(DEVICE), x.to(DEVICE)

    def run() -> float:
        network.zero_grad()
        return seconds(lambda: torch.autograd.backward(network(x).square().mean()))

    return run


def seconds(work: Callable[[], object]) -> float:
    """Return the time of a call, its work on a GPU included."""
    wait = torch.cuda.synchronize if DEVICE == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def ours(name: str, neuron: str, case: Case) -> Run:
    """Return the step of a network of this package."""
    steps, batch, inputs, width = case
    torch.manual_seed(0)
    network = build(
        name, NEURONS[neuron], (steps, inputs), 10, kind="sequence", hidden=(width,),
        readout="linear",
    )  # fmt: skip
    return timed(network, 2 * torch.randn(steps, batch, inputs))


def products(case: Case) -> Run:
    """Return 2T products of the size of U."""
    steps, batch, _, width = case
    s, u = torch.randn(batch, width, device=DEVICE), torch.randn(width, width, device=DEVICE)

    def run() -> float:
        return seconds(lambda: [torch.mm(s, u) for _ in range(2 * steps)])

    return run


def loop(run: Run) -> Run:
    """Return a step in which a recurrent layer on a GPU is a loop over its steps."""
    from lnm_codegen.nn import feedback  # which an earlier version, in its process, lacks

    def looped() -> float:
        most, feedback.WIDEST = feedback.WIDEST, 0
        try:
            return run()
        finally:
            feedback.WIDEST = most

    return looped


class Gru(nn.Module):
    """`nn.GRU` and a linear readout of the mean."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.gru, self.linear = nn.GRU(inputs, width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Any:
        """Return the logits."""
        return self.linear(self.gru(x)[0].mean(0))


class Peer(nn.Module):
    """A loop over the steps of a layer of a library, and a linear readout of the mean."""

    def __init__(self, step: Callable[..., Any], parts: list[nn.Module], width: int) -> None:
        super().__init__()
        self.step, self.parts, self.linear = step, nn.ModuleList(parts), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Any:
        """Return the logits."""
        state, total = None, 0.0
        for row in x.unbind():
            s, state = self.step(row, state)
            total = total + s
        return self.linear(total / len(x))


def peers(case: Case) -> Iterator[tuple[str, Run]]:
    """Yield the libraries, eager and with each step compiled."""
    import norse.torch as norse
    import snntorch
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    steps, batch, inputs, width = case
    x = 2 * torch.randn(steps, batch, inputs)
    feed, leaky = nn.Linear(inputs, width), snntorch.RLeaky(0.5, linear_features=width)
    cell = norse.LIFRecurrentCell(inputs, width)

    def of_snntorch(row: Tensor, state: Any) -> Any:
        spk, mem = leaky(feed(row), *(state or leaky.init_rleaky()))
        return spk, (spk, mem)

    node = neuron.LIFNode(surrogate_function=surrogate.ATan(), step_mode="s")
    held = layer.LinearRecurrentContainer(node, width, width)

    def of_spikingjelly(row: Tensor, state: Any) -> Any:
        if state is None:
            functional.reset_net(held)
        return held(feed(row)), True

    subjects: dict[str, tuple[Callable[..., Any], list[nn.Module]]] = {
        "SpikingJelly": (of_spikingjelly, [feed, held]),
        "snnTorch": (of_snntorch, [feed, leaky]),
        "Norse": (cell, [cell]),
    }
    for name, (step, parts) in subjects.items():
        yield name, timed(Peer(step, parts, width), x)
        yield f"{name}, compiled", timed(Peer(torch.compile(step), parts, width), x)


@contextmanager
def old(tree: Path, neuron: str, case: Case, threads: int) -> Iterator[Run]:
    """Yield the step of an earlier version, which a process runs once for each line it reads."""
    words = [sys.executable, __file__, "--serve", neuron, *map(str, case), "--threads", threads]
    process = subprocess.Popen(
        [*map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None

    def run() -> float:
        print(file=process.stdin, flush=True)
        return float(process.stdout.readline())  # type: ignore[union-attr]

    try:
        yield run
    finally:
        process.stdin.close()
        process.wait()


def serve(words: list[str]) -> None:
    """Time a step for each line of the input."""
    run = ours("recurrent", words[0], tuple(map(int, words[1:])))  # type: ignore[arg-type]
    for _ in sys.stdin:
        print(run(), flush=True)


def main() -> None:
    """Print a table for each case and neuron."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--old", type=Path, help="worktree of an earlier commit")
    parser.add_argument("--peers", action="store_true", help="time other libraries, in two rounds")
    parser.add_argument("--cases", type=int, default=len(CASES), help="how many, from the first")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("highest", "high"), default="highest")
    parser.add_argument("--serve", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.old is not None and (given.device, given.precision) != ("cpu", "highest"):
        parser.error("--old times an earlier version on a CPU, at the highest precision")
    global DEVICE
    DEVICE = given.device
    torch.set_float32_matmul_precision(given.precision)
    lnm.nn.keep_pages()
    torch.set_num_threads(given.threads)
    if given.serve:
        serve(given.serve)
        return
    where = torch.cuda.get_device_name() if DEVICE == "cuda" else platform.machine()
    print(f"{where}, PyTorch {torch.__version__}, {given.threads} threads")
    for case in CASES[: given.cases]:
        for neuron in NEURONS:
            subjects = {
                "ours": ours("recurrent", neuron, case),
                "feed-forward": ours("feedforward", neuron, case),
                "2T products": products(case),
                "GRU": timed(Gru(*case[2:]), torch.randn(*case[:3])),
            }
            if DEVICE == "cuda":
                subjects["loop"] = loop(subjects["ours"])
            if given.old is None:
                table(case, neuron, measured(subjects, given.rounds))
            else:
                with old(given.old, neuron, case, given.threads) as run:
                    table(case, neuron, measured({**subjects, "old": run}, given.rounds))
        if given.peers:
            torch._dynamo.reset()  # it gives up after a few sizes
            table(case, "LIF of other libraries", measured(dict(peers(case)), 2))


def measured(subjects: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Return the times of each subject; the first run of each does not count."""
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds + 1):
        for name, run in subjects.items():
            seconds = run()
            times[name] += [seconds] if number else []
    return times


def table(case: Case, neuron: str, times: dict[str, list[float]]) -> None:
    """Print the times of a case."""
    steps, batch, inputs, width = case
    print(f"\nT = {steps}, N = {batch}, {inputs} inputs, H = {width}, {neuron}")
    first = min(next(iter(times.values())))
    for name, own in times.items():
        low, middle = 1e3 * min(own), 1e3 * statistics.median(own)
        print(f"  {name:24} {low:9.2f} {middle:9.2f} {min(own) / first:7.2f}")


if __name__ == "__main__":
    main()
