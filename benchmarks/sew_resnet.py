"""Training steps of SEW-ResNet-18, 224 x 224, T = 4, bfloat16: SpikingJelly's neurons and ours.

    python benchmarks/sew_resnet.py [--device cuda] [--batch 112] [--size 224] [--slice 540]
                                    [--only WORD] [--again]

The network is SpikingJelly's own `sew_resnet18`, cnf="ADD". SpikingJelly published this table in
its pull request 740. Rows differ in the neuron, its kernels and the mode:

    eager      forward under autocast, loss, backward, SGD
    compiled   the same with the network under torch.compile
    graph      the same step, captured in a CUDA graph and replayed

Each row has a process of its own and a line of benchmarks/results/DEVICE/sew-resnet18.csv: the
median step in ms, and the peak of PyTorch's allocations in GiB. A row that has its line on this GPU
is skipped, so an interrupted run resumes. The rows that say most come first. No row begins after
`--slice` seconds, and a row that runs then is stopped. A row that fails leaves its reason in the
column "problem", and is measured again.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

RESULTS = Path(__file__).parent / "results"
TIME_STEPS, CLASSES, LIMIT = 4, 1000, 300
ROWS = (
    ("ours, fused, bits", "eager"), ("SpikingJelly, Triton", "eager"),
    ("ours, fused", "compiled"), ("SpikingJelly, Triton", "compiled"),
    ("ours, fused", "eager"), ("SpikingJelly, PyTorch", "eager"),
    ("ours, fused", "graph"), ("SpikingJelly, Triton", "graph"),
    ("SpikingJelly, PyTorch", "compiled"), ("ours, layer", "eager"),
    ("SpikingJelly, PyTorch", "graph"), ("FlexSN", "eager"), ("FlexSN", "compiled"),
    ("ours, layer", "compiled"), ("ours, layer", "graph"),
)  # fmt: skip
"""Neurons and modes, those that say most first."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; times and memory are None where there is a problem."""

    neuron: str
    mode: str
    device: str
    batch: int
    size: int
    step_ms: float | None
    peak_gib: float | None
    problem: str = ""


def allow_no_torchvision() -> None:
    """Let SpikingJelly's model be imported without torchvision, which only loads weights there."""
    if importlib.util.find_spec("torchvision") is None:
        package, inner = ModuleType("torchvision"), "torchvision._internally_replaced_utils"
        package.__path__ = []
        sys.modules["torchvision"], sys.modules[inner] = package, ModuleType(inner)
        sys.modules[inner].load_state_dict_from_url = None  # type: ignore[attr-defined]


def network_of(neuron: str, device: str) -> nn.Module:
    """Return the network with a kind of neurons, on a device."""
    allow_no_torchvision()
    from spikingjelly.activation_based import functional
    from spikingjelly.activation_based import neuron as peer
    from spikingjelly.activation_based.model import sew_resnet

    import lnm_codegen as lnm

    def ours(**_: object) -> nn.Module:
        return lnm.nn.NeuronLayer(lnm.get("lif", tau=2.0))

    def lif(**options: Any) -> nn.Module:
        return peer.LIFNode(tau=2.0, **options)

    def flexible(**_: object) -> nn.Module:
        return peer.FlexSN(flexible_lif, num_states=1, step_mode="m")

    made = {"ours": ours, "FlexSN": flexible}.get(neuron.split(",")[0], lif)
    torch.manual_seed(0)
    net: nn.Module = sew_resnet.sew_resnet18(
        cnf="ADD", spiking_neuron=made, num_classes=CLASSES, detach_reset=False
    )
    functional.set_step_mode(net, "m")
    if "fused" in neuron:
        print(lnm.nn.fuse(net))
    return net.to(device)


def flexible_lif(x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return spike and potential of a LIF step, tau = 2, hard reset to 0."""
    from spikingjelly.activation_based.surrogate import ATan

    h = v + (x - v) / 2
    s = ATan()(h - 1.0)
    return s, (1 - s) * h


def step_of(
    net: nn.Module, neuron: str, mode: str, x: Tensor, labels: Tensor
) -> Callable[[], None]:
    """Return a training step."""
    from spikingjelly.activation_based import base

    from lnm_codegen.nn import pack_spikes

    nodes = [m for m in net.modules() if isinstance(m, base.MemoryModule)]
    forward = torch.compile(net) if mode == "compiled" else net
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    around = pack_spikes if neuron.endswith("bits") else nullcontext

    def step() -> None:
        for node in nodes:
            node.reset()
        optimizer.zero_grad(set_to_none=mode != "graph")
        with torch.autocast(x.device.type, torch.bfloat16), around():
            rate = forward(x).mean(0)
        cross_entropy(rate.float(), labels).backward()
        optimizer.step()

    return captured(step) if mode == "graph" else step


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """Return the replay of a step, captured after three on a side stream."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def name_of(device: str) -> str:
    """Return the name of the GPU, or "cpu"."""
    return "cpu" if device == "cpu" else torch.cuda.get_device_name()


def measure(given: argparse.Namespace, neuron: str, mode: str) -> Row:
    """Measure one row in this process."""
    on_gpu = given.device == "cuda"
    net = network_of(neuron, given.device)
    x = torch.randn(TIME_STEPS, given.batch, 3, given.size, given.size, device=given.device)
    labels = torch.randint(CLASSES, (given.batch,), device=given.device)
    step = step_of(net, neuron, mode, x, labels)
    wait = torch.cuda.synchronize if on_gpu else (lambda: None)
    for _ in range(3):
        step()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(given.rounds):
        wait()
        began = time.perf_counter()
        step()
        wait()
        seconds.append(time.perf_counter() - began)
    # A replayed graph allocates nothing: what it holds was reserved at its capture.
    peak = torch.cuda.max_memory_reserved if mode == "graph" else torch.cuda.max_memory_allocated
    return Row(
        neuron, mode, name_of(given.device), given.batch, given.size,
        1e3 * statistics.median(seconds),
        peak() / 2**30 if on_gpu else None,
    )  # fmt: skip


def write(rows: list[Row], path: Path) -> None:
    """Write the table whole."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8", newline="") as file:
        out = csv.DictWriter(file, list(Row.__dataclass_fields__), lineterminator="\n")
        out.writeheader()
        out.writerows(asdict(row) for row in rows)
    os.replace(part, path)


def read(path: Path) -> list[Row]:
    """Return the rows of an earlier run."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Row(
                r["neuron"], r["mode"], r["device"], int(r["batch"]), int(r["size"]),
                float(r["step_ms"]) if r["step_ms"] else None,
                float(r["peak_gib"]) if r["peak_gib"] else None, r["problem"],
            )
            for r in csv.DictReader(file)
        ]  # fmt: skip


def in_a_process(given: argparse.Namespace, neuron: str, mode: str, seconds: float) -> Row:
    """Measure one row in a process of its own, for at most some seconds."""
    kernels = {"SpikingJelly, Triton": "triton", "SpikingJelly, PyTorch": "torch"}.get(neuron)
    environment = {**os.environ, **({"SJ_LIF_CUDA_IMPLEMENTATION": kernels} if kernels else {})}
    sizes = [f"--{n}={getattr(given, n)}" for n in ("device", "batch", "size", "rounds")]
    command = [sys.executable, __file__, *sizes, "--row", neuron, mode]
    card, problem = name_of(given.device), f"took more than {seconds:.0f} s"
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
        last = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()[-1:]
        problem = "".join(last) or f"exit status {done.returncode}"
        if done.returncode == 0:
            ms, gib = problem.split()
            peak = None if gib == "None" else float(gib)
            return Row(neuron, mode, card, given.batch, given.size, float(ms), peak)
    except subprocess.TimeoutExpired:
        pass
    return Row(neuron, mode, card, given.batch, given.size, None, None, problem[:200])


def main() -> None:
    """Measure the rows without a line, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--batch", type=int, default=112)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--slice", type=float, default=540.0, help="seconds after which nothing runs"
    )
    parser.add_argument("--again", action="store_true", help="also measure rows that have a line")
    parser.add_argument("--only", default="", help="only rows whose neuron and mode contain this")
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda needs a GPU, and PyTorch finds none. Use a PyTorch that finds one.")
    if given.row:
        row = measure(given, *given.row)
        print(row.step_ms, row.peak_gib)
        return
    path = RESULTS / given.device / "sew-resnet18.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, began = [] if given.again else read(path), time.monotonic()
    card = name_of(given.device)
    for neuron, mode in ROWS:
        known = {(r.neuron, r.mode) for r in rows if not r.problem and r.device == card}
        left = given.slice - (time.monotonic() - began)
        fits = given.device == "cuda" or mode != "graph"
        if (neuron, mode) in known or not fits or given.only not in f"{neuron}, {mode}":
            continue
        if left <= 0:
            sys.exit("Time is up. Run the script again for the other rows.")
        found = in_a_process(given, neuron, mode, min(LIMIT, left))
        new = neuron, mode, card
        rows = [r for r in rows if (r.neuron, r.mode, r.device) != new] + [found]
        write(rows, path)
        print(neuron, mode, found.step_ms, found.peak_gib, found.problem, sep=" | ", flush=True)


if __name__ == "__main__":
    main()
