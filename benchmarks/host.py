"""Host time of an eager training forward: a layer beside a bare `autograd.Function`.

    python benchmarks/host.py [--calls 2000]

The tensor is tiny, so that the host's share dominates. Calls of the two alternate; the results are
medians in microseconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer


class Bare(torch.autograd.Function):
    """Minimal function: it saves its inputs and allocates an output."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, theta: Tensor) -> Tensor:
        """Return uninitialised memory."""
        ctx.save_for_backward(x, theta)
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient and a saved tensor."""
        return grad, ctx.saved_tensors[1]


class BareLayer(torch.nn.Module):
    """Module that applies `Bare`."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = torch.nn.Parameter(theta)

    def forward(self, x: Tensor) -> Any:
        """Apply `Bare`."""
        return Bare.apply(x, self.theta)  # type: ignore[no-untyped-call]


def seconds(call: Callable[[Tensor], Any], x: Tensor) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    call(x)
    return time.perf_counter() - start


def main() -> None:
    """Print both times and the difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    calls = parser.parse_args().calls
    x = torch.rand(4, 2, 3, requires_grad=True)
    layer = NeuronLayer(lnm.get("lnm", degree=3), backend="c")
    bare = BareLayer(layer.theta.detach().clone())
    times: dict[str, list[float]] = {"bare": [], "layer": []}
    for k in range(calls + 100):
        for name, call in (("bare", bare), ("layer", layer)):
            taken = seconds(call, x)
            if k >= 100:
                times[name].append(taken)
    least, ours = (1e6 * statistics.median(times[n]) for n in ("bare", "layer"))
    print(f"bare autograd.Function {least:.1f} us, layer {ours:.1f} us: {ours - least:.1f} us more")


if __name__ == "__main__":
    main()
