"""Cost of the neuron layers in a training step of a spiking ResNet-18 on real images.

    python benchmarks/resnet.py [--data-dir DIR] [--batch 16] [--time-steps 4] [--rounds 5]

The script times three networks with the same weights in turn: LIF and LNM of degree 3 on our C
kernels, and SpikingJelly's `LIFNode`. It then times each network's neuron layers alone, forward
and backward, on their input currents in a step. Images are CIFAR-10's from DIR (docs/data.md), or
32x32 crops of the two photographs of scikit-learn.

Amdahl's limit is the speed-up over SpikingJelly's step if neurons took no time.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_sample_images
from spikingjelly.activation_based import neuron as peer
from spikingjelly.activation_based import surrogate
from torch import Tensor, nn

import lnm_codegen as lnm
from lnm_codegen.bench.steps import Contender, neurons_alone, step_of, with_node
from lnm_codegen.bench.subjects import Resetting
from lnm_codegen.bench.table import write_table
from lnm_codegen.train.data import load
from lnm_codegen.train.models import build

RESULTS = Path(__file__).parent / "results" / "resnet18.csv"
NEURONS = {
    "LNM degree 3": lnm.get("lnm", degree=3, v_min=-2.0),
    "LIF": lnm.get("lif", tau=2.0, decay_input=False),
}


def main() -> None:
    """Measure the networks, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--time-steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    images = images_of(options.data_dir, options.batch)
    labels = torch.arange(options.batch) % 10
    networks = {n: network_of(n, options.time_steps) for n in (*NEURONS, "SpikingJelly LIFNode")}
    steps = {n: step_of(Contender(n, net), images, labels) for n, net in networks.items()}
    layers = {name: neurons_alone(net, images) for name, net in networks.items()}
    whole, alone = round_robin(steps, options.rounds), round_robin(layers, options.rounds)
    rows = table(whole, alone)
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"batch {options.batch}, T = {options.time_steps}")
    for row in rows:
        print(" | ".join(f"{k} {v}" for k, v in row.items()))
    write_table(rows, RESULTS)


def images_of(folder: Path | None, count: int) -> Tensor:
    """Return normalised images (count, 3, 32, 32)."""
    if folder is not None:
        data = load("cifar10", folder, limit=max(count, 10))
        return next(iter(data.batches(data.train, count)))[0]
    photographs = [torch.from_numpy(i.copy()).permute(2, 0, 1) for i in load_sample_images().images]
    cuts = [p[:, y : y + 32, x : x + 32] for p in photographs for y in range(0, 380, 90)
            for x in range(0, 600, 150)]  # fmt: skip
    pixels = torch.stack(cuts[:count]).float()
    return (pixels - pixels.mean()) / pixels.std()


def network_of(name: str, time_steps: int) -> nn.Module:
    """Return a ResNet-18 with the same weights for each name."""
    torch.manual_seed(0)
    definition = NEURONS.get(name, NEURONS["LIF"])
    network = build(
        "resnet18", definition, (3, 32, 32), 10, kind="image", time_steps=time_steps, backend="c"
    )
    return network if name in NEURONS else with_node(network, Resetting(peer_layer()))


def peer_layer() -> nn.Module:
    """Return SpikingJelly's equivalent LIF, multi-step, on its PyTorch backend."""
    return peer.LIFNode(
        tau=2.0, decay_input=False, v_threshold=1.0, v_reset=0.0,
        surrogate_function=surrogate.ATan(2.0), step_mode="m",
    )  # fmt: skip


def round_robin(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each call in each round, without the first round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for k in range(rounds + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if k:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def table(whole: dict[str, list[float]], alone: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return a row for each network; ratios are medians of ratios within a round."""
    last = list(whole)[-1]

    def ratio(a: list[float], b: list[float]) -> float:
        return round(statistics.median(x / y for x, y in zip(a, b, strict=True)), 3)

    limit = [w / (w - n) for w, n in zip(whole[last], alone[last], strict=True)]
    return [
        {
            "network": name,
            "step_ms": round(1e3 * statistics.median(whole[name]), 1),
            "neurons_ms": round(1e3 * statistics.median(alone[name]), 1),
            "neurons_share": ratio(alone[name], whole[name]),
            "step_to_lif": ratio(whole[name], whole["LIF"]),
            "neurons_faster_than_peer": ratio(alone[last], alone[name]),
            "step_faster_than_peer": ratio(whole[last], whole[name]),
            "amdahl_limit": round(statistics.median(limit), 3),
        }
        for name in whole
    ]


if __name__ == "__main__":
    main()
