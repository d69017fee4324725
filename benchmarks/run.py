"""LNM degree 3 on the CPU: kernels and layer against the floor, the eager loop, torch.compile.

    python benchmarks/run.py [--neurons N] [--steps 4,16,64] [--rounds 9] [--no-compile] [--csv F]

Forward plus backward, float32, atan surrogate, all four coefficients learnable. Everything of one
length runs round-robin in one process; medians. The floor is 5 streams of T*N*4 bytes at the best
copy bandwidth of the same run. A time alone says nothing on a shared machine: read the ratios.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import Timing, keep_memory, round_robin

keep_memory()

import torch  # noqa: E402
from floor import copies  # noqa: E402
from reference import lnm_loop  # noqa: E402

import lnm_codegen as lnm  # noqa: E402
from lnm_codegen.compiler import model_of  # noqa: E402
from lnm_codegen.nn.load import load_c  # noqa: E402

THETA = (0.05, 0.6, -0.10, 0.15)


def aligned(*shape: int) -> torch.Tensor:
    """Return zeros that begin a line of 64 bytes."""
    count = math.prod(shape)
    whole = torch.zeros(count + 16)
    offset = (-whole.data_ptr() // 4) % 16
    return whole[offset : offset + count].view(*shape)


def kernel_call(x: torch.Tensor, grad: torch.Tensor, neuron: lnm.Neuron):
    """Return a call of both kernels on buffers that exist."""
    kernel = load_c(model_of(neuron))
    steps, neurons = x.shape
    spikes, grad_x = aligned(steps, neurons), aligned(steps, neurons)
    sizes = (steps, neurons, 1, 1, neurons)
    given = [x, neurons, torch.zeros(1), 0, torch.tensor(THETA), torch.tensor(1.0)]
    checkpoints = torch.zeros(max(1, kernel.checkpoints(steps, neurons)))
    forward = [*given, spikes, None, checkpoints]
    backward = [*given, checkpoints, grad, neurons, None, grad_x, None, torch.zeros(4)]

    def call() -> None:
        kernel.forward(sizes, forward)
        kernel.backward(sizes, backward)

    return call


def trained(function, x: torch.Tensor, grad: torch.Tensor, parameters):
    """Return a call of `function` forward and backward; gradients are dropped, memory is kept."""

    def call() -> None:
        for tensor in (x, *parameters):
            tensor.grad = None
        function(x).backward(grad)

    return call


def allocated_per_element(call, elements: int) -> float:
    """Return bytes per element-step that PyTorch allocates at the peak of `call`."""
    with torch.profiler.profile(profile_memory=True) as profile:
        call()
    level = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    return peak / elements


def cold_start(steps: int) -> float:
    """Return seconds from a definition to the first result, imports done, with an empty cache."""
    code = (
        "import time, torch, lnm_codegen as lnm, lnm_codegen.nn\n"
        "start = time.perf_counter()\n"
        "layer = lnm.nn.NeuronLayer(lnm.get('lnm', degree=3))\n"
        f"layer(torch.rand({steps}, 1024)).sum().backward()\n"
        "print(time.perf_counter() - start)"
    )
    folder = tempfile.mkdtemp()
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={**os.environ, "LNM_CACHE": folder},
        )  # fmt: skip
    finally:
        shutil.rmtree(folder)
    return float(done.stdout)


def measure(steps: int, neurons: int, options: argparse.Namespace) -> list[dict[str, object]]:
    """Measure one length; return a row per implementation."""
    neuron = lnm.get("lnm", degree=3, theta=THETA)
    x, grad = aligned(steps, neurons), aligned(steps, neurons)
    x.normal_(0.35, 0.6)
    grad.normal_()
    # A clamp would change the work; these inputs lose a few neurons to -inf at long T instead,
    # so the potential is kept in range by the input.
    x.clamp_(min=-1.0)
    kernel = kernel_call(x, grad, neuron)
    wanted = x.clone().requires_grad_()
    layer = lnm.nn.NeuronLayer(neuron, backend="c")
    theta = torch.tensor(THETA, requires_grad=True)
    calls = {
        "kernels": kernel,
        "layer": trained(layer, wanted, grad, [layer.theta]),
        "eager loop": trained(lambda s: lnm_loop(s, theta), wanted, grad, [theta]),
    }
    compile_seconds = {}
    if options.compile:
        torch._dynamo.reset()
        compiled = torch.compile(lambda s: lnm_loop(s, theta), dynamic=False)
        calls["torch.compile"] = trained(compiled, wanted, grad, [theta])
        start = time.perf_counter()
        calls["torch.compile"]()
        compile_seconds["torch.compile"] = time.perf_counter() - start
    compile_seconds["layer"] = cold_start(steps)
    elements = steps * neurons
    timings = round_robin({**calls, **copies(elements)}, options.rounds)
    names = ("plain", "memcpy", "stream", "torch")
    best = min(timings[n].median for n in names)
    rows = []
    for name in calls:
        rows.append(row(name, steps, neurons, timings[name], 2.5 * best, timings["layer"]))
        rows[-1]["first call s"] = compile_seconds.get(name, "")
        rows[-1]["allocated B"] = (
            "" if name == "kernels" else round(allocated_per_element(calls[name], elements), 2)
        )
    floor = Timing(2.5 * best, 2.5 * best, 2.5 * best)
    rows.append(row("floor", steps, neurons, floor, 2.5 * best, timings["layer"]))
    return rows


def row(
    name: str, steps: int, neurons: int, timing: Timing, floor: float, layer: Timing
) -> dict[str, object]:
    """Return one line of the table; times are ns per element-step."""
    scale = 1e9 / (steps * neurons)
    return {
        "T": steps,
        "N": neurons,
        "threads": torch.get_num_threads(),
        "what": name,
        "ns": round(timing.median * scale, 3),
        "min": round(timing.low * scale, 3),
        "max": round(timing.high * scale, 3),
        "x floor": round(timing.median / floor, 2),
        "x layer": round(timing.median / layer.median, 2),
    }


def main() -> None:
    """Measure, print a table, write a CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--neurons", type=int, default=1 << 20)
    parser.add_argument("--steps", default="4,16,64")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--csv", default="benchmarks/results/cpu.csv")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads,")
    print(f"torch {torch.__version__}, Python {platform.python_version()}")
    rows: list[dict[str, object]] = []
    for steps in (int(s) for s in options.steps.split(",")):
        for line in measure(steps, options.neurons, options):
            rows.append(line)
            print("  ".join(f"{k} {v}" for k, v in line.items() if v != ""), flush=True)
    path = Path(options.csv)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        fields = list(dict.fromkeys(k for r in rows for k in r))
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
