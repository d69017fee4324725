"""Memory kept for the backward and step time of a network, with and without `pack_spikes`.

    python benchmarks/bits.py [--network resnet18] [--batch 16] [--time-batch 4] [--time-steps 4]
                              [--calls 7] [--options '{"fused": false}']
                              [--compile inductor]

Memory is that of the storages that autograd keeps after the forward, parameters apart. A step is
forward, loss and backward of images of 3 x 32 x 32. Steps with and without the context alternate;
the script prints medians in seconds of wall time and of processor time, and the load.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

import lnm_codegen as lnm
from lnm_codegen.nn import keep_pages, pack_spikes
from lnm_codegen.train.models import build


def context(packs: bool) -> AbstractContextManager[None]:
    """Return the context of a forward."""
    return pack_spikes() if packs else nullcontext()


@contextmanager
def counting(kept: dict[int, Tensor]) -> Iterator[None]:
    """Put every tensor that autograd keeps into `kept`, one for each storage."""

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.detach()
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield


def bytes_kept(model: nn.Module, images: Tensor, packs: bool) -> int:
    """Return the bytes that a forward keeps, parameters apart."""
    kept: dict[int, Tensor] = {}
    with counting(kept), context(packs):
        out = model(images)
    assert out.requires_grad
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    return sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in own)


def step(model: nn.Module, images: Tensor, labels: Tensor, packs: bool) -> tuple[float, float]:
    """Return the seconds of wall time and of processor time of a training step."""
    model.zero_grad()
    wall, cpu = time.perf_counter(), time.process_time()
    with context(packs):
        loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Print memory, times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--time-batch", type=int, default=4)
    parser.add_argument("--time-steps", type=int, default=4)
    parser.add_argument("--calls", type=int, default=7)
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--compile", help="backend of torch.compile")
    given = parser.parse_args()
    keep_pages()
    torch.manual_seed(0)
    model = build(
        given.network, lnm.get("lif"), (3, 32, 32), 10,
        kind="image", time_steps=given.time_steps, **given.options,
    )  # fmt: skip
    if given.compile:
        model = torch.compile(model, backend=given.compile)
    images, labels = torch.randn(given.batch, 3, 32, 32), torch.randint(10, (given.batch,))
    whole, bits = (bytes_kept(model, images, packs) for packs in (False, True))
    print(f"kept {whole / 2**20:.1f} MiB, with bits {bits / 2**20:.1f}: {bits / whole:.3f}")
    images, labels = images[: given.time_batch], labels[: given.time_batch]
    times: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for k in range(given.calls + 1):
        for packs, taken in times.items():
            seconds = step(model, images, labels, packs)
            taken += [seconds] if k else []
    for name, place in (("wall", 0), ("processor", 1)):
        one, other = (statistics.median(t[place] for t in taken) for taken in times.values())
        print(f"{name} {one:.3f} s, with bits {other:.3f} s: {other / one:.3f}")
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
