"""Cost of recurrence: a training step of the recurrent net beside the feed-forward one.

    python benchmarks/recurrence.py [--threads 1] [--rounds 15]

The script times forward and backward of three nets in turn and prints medians in milliseconds. They
are a feed-forward net with kernels fused over time, a recurrent net on the C kernels step by step,
and a recurrent net through the layers and autograd, as without C kernels. The neuron is LNM of
degree 3 with theta per channel.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from unittest import mock

import torch
from torch import Tensor

import lnm_codegen as lnm
from lnm_codegen.bench.measure import Workload, round_robin
from lnm_codegen.nn import keep_pages
from lnm_codegen.train.models import Network, build, recurrence

CASES = ((40, 100, 1, (128, 128)), (1301, 64, 4, (36,)))
"""T, N, features and layers of MNIST-1D and of ECG-QTDB."""


def step(network: Network, x: Tensor) -> Callable[[], None]:
    """Return a forward and backward."""

    def run() -> None:
        network.zero_grad()
        torch.autograd.backward(network(x).square().mean())

    return run


def through_layers(run: Callable[[], None]) -> Callable[[], None]:
    """Return the same run through the layers and autograd."""

    def slowly() -> None:
        with mock.patch.object(recurrence, "_uses_c", return_value=False):
            run()

    return slowly


def main() -> None:
    """Print a line for each net of each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    keep_pages()
    torch.set_num_threads(arguments.threads)
    print(f"{platform.machine()}, PyTorch {torch.__version__}, {arguments.threads} threads")
    print("T, N, layers: net, ms, low, high, times the first, microseconds per layer and step")
    neuron = lnm.get("lnm", degree=3, per="channel", v_min=-2.0)
    for steps, batch, features, hidden in CASES:
        x = 2 * torch.randn(steps, batch, features)
        nets = {
            name: build(name, neuron, (steps, features), 10, kind="sequence", hidden=hidden)
            for name in ("feedforward", "recurrent")
        }
        runs = {name: step(network, x) for name, network in nets.items()}
        runs["through layers"] = through_layers(runs["recurrent"])
        timings = round_robin({n: Workload(r) for n, r in runs.items()}, arguments.rounds, "cpu")
        first = timings["feedforward"].median
        for name, t in timings.items():
            each = 1e6 * t.median / steps / len(hidden)
            low, high = 1e3 * t.low, 1e3 * t.high
            print(f"{steps}, {batch}, {hidden}: {name:14} {1e3 * t.median:7.2f} {low:7.2f}"
                  f" {high:7.2f} {t.median / first:5.2f} {each:6.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
