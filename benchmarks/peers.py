"""Benchmark of neurons of other libraries that `lnm bench` omits, on a CPU: learned leak, norse.

    python benchmarks/peers.py [--rounds 5]

Forward and backward of x (T, 2**20), round-robin, medians: our `plif` beside SpikingJelly's
ParametricLIFNode (also under torch.compile), our `lif` beside norse's LIFBoxCell loop, our `lif`
beside SpikingJelly's LIFNode for T = 40 and 128 x 128 neurons. Nanoseconds per neuron and step, and
the ratio to ours, under default allocation and with pages kept (`lnm.nn.keep_pages`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import norse.torch as norse
import torch
from spikingjelly.activation_based import neuron as sj
from spikingjelly.activation_based import surrogate
from torch import Tensor

import lnm_codegen as lnm
from lnm_codegen.bench.measure import Workload, by_allocator, round_robin
from lnm_codegen.bench.table import write_table

RESULTS = Path(__file__).parent / "results" / "peers.csv"
SHAPES = ((4, 2**20), (16, 2**20), (40, 128, 128))


def main() -> None:
    """Measure the neurons, print and write a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    rows, again = by_allocator("cpu", lambda _: measured(rounds))
    for row, other in zip(rows, again or [{}] * len(rows), strict=True):
        row["kept_ns"], row["kept_times"] = other.get("ns", ""), other.get("times", "")
        print(row)
    write_table(rows, RESULTS)


def measured(rounds: int) -> list[dict[str, Any]]:
    """Return a row for each neuron."""
    rows = []
    for shape in SHAPES:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        for ours, others in groups().items():
            calls = {name: call(run, x, grad) for name, run in others.items()}
            found = round_robin(calls, rounds)
            base = found[next(iter(others))].median
            for name, timing in found.items():
                ns = 1e9 * timing.median / x.numel()
                row = {"shape": "x".join(map(str, shape)), "beside": ours, "what": name,
                       "ns": round(ns, 3), "times": round(timing.median / base, 2)}  # fmt: skip
                rows.append(row)
    return rows


def call(run: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> Workload:
    """Return the workload of a layer."""
    return Workload(lambda: run(x.detach().requires_grad_()), lambda out: out.backward(grad))


def groups() -> dict[str, dict[str, Any]]:
    """Return our layer's name -> our layer and the others to compare."""
    peer = sj.ParametricLIFNode(surrogate_function=surrogate.ATan(2.0), step_mode="m")
    box = norse.LIFBoxCell(norse.LIFBoxParameters(method="super"))

    def parametric(x: Tensor) -> Tensor:
        peer.reset()
        return peer(x)

    node = sj.LIFNode(surrogate_function=surrogate.ATan(2.0), step_mode="m")

    def leaky(x: Tensor) -> Tensor:
        node.reset()
        return node(x)

    def boxes(x: Tensor) -> Tensor:
        state, out = None, []
        for now in x.unbind(0):
            spikes, state = box(now, state)
            out.append(spikes)
        return torch.stack(out)

    return {
        "plif": {
            "plif": lnm.nn.NeuronLayer(lnm.get("plif"), backend="c"),
            "SpikingJelly ParametricLIFNode": parametric,
            "the same under torch.compile": torch.compile(parametric),
        },
        "lif": {
            "lif": lnm.nn.NeuronLayer(lnm.get("lif"), backend="c"),
            "SpikingJelly LIFNode": leaky,
            "norse LIFBoxCell loop": boxes,
        },
    }


if __name__ == "__main__":
    main()
