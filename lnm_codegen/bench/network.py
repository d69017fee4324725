"""Benchmark of a training step of a small convolutional network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lnm_codegen.bench.measure import Workload, round_robin
from lnm_codegen.bench.subjects import Resetting, spikingjelly_lif
from lnm_codegen.errors import LnmError
from lnm_codegen.families.library import get
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.select import FUSED
from lnm_codegen.train.models.conv import ConvBlock, ConvNet

IMAGE, CLASSES, CHANNELS, BATCH = (1, 28, 28), 10, (16, 32), 64


def measure_network(
    neuron: Neuron, lengths: Sequence[int], device: str, rounds: int, peers: bool
) -> list[dict[str, Any]]:
    """Return a row for each network and T: milliseconds of forward, backward and optimizer step."""
    rows: list[dict[str, Any]] = []
    for time_steps in lengths:
        images = torch.rand(BATCH, *IMAGE, device=device)
        labels = torch.randint(CLASSES, (BATCH,), device=device)
        steps = {
            name: Workload(_step(net.to(device), images, labels))
            for name, net in _networks(neuron, time_steps, device, peers)
        }
        timings = round_robin(steps, rounds, device)
        first = next(iter(timings.values())).median
        rows += [
            {
                "T": time_steps,
                "network of": name,
                "ms": round(1e3 * t.median, 2),
                "low": round(1e3 * t.low, 2),
                "high": round(1e3 * t.high, 2),
                "x first": round(t.median / first, 2),
            }
            for name, t in timings.items()
        ]
    return rows


def _step(net: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _networks(
    neuron: Neuron, time_steps: int, device: str, peers: bool
) -> Iterator[tuple[str, nn.Module]]:
    for one in (neuron, get("lif", tau=2.0)):
        for backend in (*FUSED, "torch"):
            net = ConvNet(one, CLASSES, IMAGE, CHANNELS, time_steps, backend).to(device)
            try:
                net(torch.zeros(1, *IMAGE, device=device))
            except LnmError:
                continue
            yield f"{one.name} {backend}", net
    peer = spikingjelly_lif() if peers else None
    if peer is not None:
        net = ConvNet(
            get("lif", tau=2.0), CLASSES, IMAGE, CHANNELS, time_steps, "torch", fused=False
        )
        for module in net.modules():
            if isinstance(module, ConvBlock):
                module.neuron = Resetting(copy.deepcopy(peer))  # type: ignore[assignment]
        yield "SpikingJelly LIFNode", net
