"""A block of normalisation, shortcut and neuron beside BatchNorm2d and a layer, in one run.

    python benchmarks/block.py [--shape 4,32,64,32,32] [--threads 2] [--blocks 7] [--neuron lif]

Each subject runs forward and backward on sequences of shape (T, N, C, H, W), with and without a
shortcut. The script prints nanoseconds per neuron and step in blocks of consecutive calls (steady
state, the block with the least median) and in a round-robin, ratios, and the load.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import torch
from torch import Tensor, nn

import lnm_codegen as lnm
from lnm_codegen.bench.measure import Workload, in_blocks, round_robin
from lnm_codegen.nn import NeuronLayer, NormNeuron, keep_pages


class Separate(nn.Module):
    """BatchNorm2d over time and batch, the addition of a shortcut, and a layer."""

    def __init__(self, neuron: lnm.Neuron, channels: int) -> None:
        super().__init__()
        self.norm, self.layer = nn.BatchNorm2d(channels), NeuronLayer(neuron, backend="c")

    def forward(self, x: Tensor, *shortcut: Tensor) -> Any:
        """Return the spikes."""
        h = self.norm(x.flatten(0, 1)).view_as(x)
        return self.layer(h + shortcut[0] if shortcut else h)


def workload(module: nn.Module, inputs: tuple[Tensor, ...], gradient: Tensor) -> Workload:
    """Return a call pair of the module."""

    def backward(out: Tensor) -> None:
        for tensor in (*inputs, *module.parameters()):
            tensor.grad = None
        out.backward(gradient)

    return Workload(lambda: module(*inputs), backward)


def main() -> None:
    """Print times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="4,32,64,32,32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--neuron", default="lif")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_pages()
    shape = tuple(int(n) for n in given.shape.split(","))
    x, other = (torch.randn(shape).requires_grad_() for _ in range(2))
    gradient, neuron = torch.randn(shape), lnm.get(given.neuron)
    workloads = {}
    for name, inputs in (("", (x,)), (", shortcut", (x, other))):
        block = NormNeuron(neuron, shape[2], shortcut=bool(name), backend="c")
        for subject, module in (
            ("BatchNorm2d + layer", Separate(neuron, shape[2])),
            ("block", block),
        ):
            workloads[subject + name] = workload(module, inputs, gradient)
    for how, times in (
        ("blocks of calls", in_blocks(workloads, given.blocks)),
        ("round-robin", round_robin(workloads, given.blocks)),
    ):
        print(how)
        for name, timing in times.items():
            ratio = times[name.replace("block", "BatchNorm2d + layer")].median / timing.median
            parts = [1e9 * t / x.numel() for t in (timing.forward, timing.backward, timing.median)]
            print(f"  {name:32} {parts[0]:.3f} + {parts[1]:.3f} = {parts[2]:.3f} ns, {ratio:.2f}")
    print(f"{given.threads} threads, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
