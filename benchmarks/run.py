"""Measurements of docs/evidence/performance.md: `lnm bench` on a list of cases, one process each.

    python benchmarks/run.py [--device cpu|cuda] [--only WORD] [--rounds 9] [--slice 540] [--again]

Each case writes benchmarks/results/<device>/<case>.csv. A case that has its file is skipped unless
--again is given, so an interrupted run resumes. A case that fails does not stop the others. On a
GPU the cases that say most come first. No case begins after `--slice` seconds, and one that runs
then is stopped. At the end the script prints the tables of all cases, with the machine and the
versions.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
THETA = (0.05, 0.6, -0.10, 0.15, -0.02)


@dataclass(frozen=True)
class Case:
    """Arguments of `lnm bench`.

    `loops` adds eager loops, torch.compile, peers and cold starts. A case with a `network` compares
    training steps of it; `steps`, `neurons` and `batch` are then empty for the default sizes.
    """

    name: str
    family: str
    settings: tuple[str, ...]
    steps: str
    neurons: str
    dtype: str = "float32"
    loops: bool = True
    network: str = ""
    batch: str = ""


def lnm(degree: int, *settings: str) -> tuple[str, ...]:
    theta = ",".join(str(t) for t in THETA[: degree + 1])
    return (f"degree={degree}", f"theta={theta}", *settings)


LIF = ("tau=2.0",)
WIDE = "256,256,256"  # on a GPU: a sequence of 4 steps is five times its level-2 cache
NETWORKS = [
    Case(f"step-{name}", "lif", LIF, "", "", network=name)
    for name in ("resnet18", "sew_resnet18", "vgg11", "feedforward")
]

CPU = [
    Case("lnm3", "lnm", lnm(3), "4,16,64", "32,128,256"),
    Case("lnm3-long", "lnm", lnm(3), "256", "32,128,64"),
    *(Case(f"lnm{d}", "lnm", lnm(d), "4,16,64", "32,128,256", loops=False) for d in (1, 2, 4)),
    Case("lnm3-channel", "lnm", lnm(3, "per=channel"), "4,16,64", "32,128,256", loops=False),
    Case("lnm3-bfloat16", "lnm", lnm(3), "4,16,64", "32,128,256", "bfloat16", loops=False),
    Case("lif", "lif", LIF, "4,16,64", "32,128,256"),
    Case("lnm3-small", "lnm", lnm(3), "4,16,64", "16,32,64"),
    *NETWORKS,
]

# Kernels first: a case takes seconds. Compiled loops and networks take a minute or more each.
GPU = [
    Case("lnm3", "lnm", lnm(3), "4,8,16,32", WIDE, loops=False),
    Case("lif", "lif", LIF, "4,16,32", WIDE, loops=False),
    Case("lnm3-bfloat16", "lnm", lnm(3), "4,16,32", WIDE, "bfloat16", loops=False),
    Case("lif-loops", "lif", LIF, "4", WIDE),
    Case("lnm3-loops", "lnm", lnm(3), "4", WIDE),
    *(replace(case, batch="128") for case in NETWORKS[:2]),
    *(Case(f"lnm{d}", "lnm", lnm(d), "4,16", WIDE, loops=False) for d in (1, 2, 4)),
    Case("lnm3-channel", "lnm", lnm(3, "per=channel"), "4,16", WIDE, loops=False),
    Case("lif-loops-16", "lif", LIF, "16", WIDE),
    Case("lnm3-loops-16", "lnm", lnm(3), "16", WIDE),
    replace(NETWORKS[2], batch="128"),
    NETWORKS[3],
]


def run(case: Case, device: str, rounds: int, target: Path, seconds: float | None) -> None:
    """Measure one case in another process, in at most some seconds, and write its file whole."""
    command = [sys.executable, "-m", "lnm_codegen.cli", "bench", case.family]
    for setting in case.settings:
        command += ["--set", setting]
    command += ["--device", device, "--rounds", str(rounds)]
    if case.network:
        command += ["--network", case.network]
        command += ["--batch", case.batch] if case.batch else []
    else:
        command += ["--steps", case.steps, "--neurons", case.neurons, "--dtype", case.dtype]
    if not case.loops:
        command += ["--no-loops", "--no-peers", "--no-starts"]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--out", folder]
        subprocess.run(command, check=True, env=os.environ, timeout=seconds)
        target.parent.mkdir(parents=True, exist_ok=True)
        written = Path(folder, "network.csv" if case.network else "bench.csv")
        if not case.network:
            place(written.with_suffix(".png"), target.with_suffix(".png"))
        place(written, target)  # the last one marks the case as done


def place(source: Path, target: Path) -> None:
    """Copy a file; the target is never half a file."""
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, part)
    os.replace(part, target)


def summary(folder: Path) -> str:
    """Return all rows of all layers as Markdown; other tables have no column "ns".

    Older tables have no steady times.
    """
    from lnm_codegen.bench.table import nanoseconds

    lines = [
        "| case | T | what | ns | x floor | x layer | steady ns | x streams (steady) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            lines += [
                f"| {path.stem} | {r['steps']} | {r['what']} | {nanoseconds(float(r['ns']))}"
                f" | {float(r['floor']):.2f} | {float(r['layer']):.2f}"
                + (
                    f" | {nanoseconds(float(r['steady']))} | {float(r['steady_streams']):.2f} |"
                    if "steady" in r
                    else " | | |"
                )
                for r in csv.DictReader(file)
                if "ns" in r
            ]
    return "\n".join(lines)


def main() -> None:
    """Measure the cases without a result, then print all results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", default="", help="only cases whose name contains this word")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--slice", type=float, help="seconds after which nothing runs")
    parser.add_argument("--again", action="store_true", help="also measure finished cases")
    options = parser.parse_args()
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda needs a GPU, and PyTorch finds none. Use a PyTorch that finds one.")
    folder, failed, began = RESULTS / options.device, [], time.monotonic()
    for case in CPU if options.device == "cpu" else GPU:
        target = folder / f"{case.name}.csv"
        if options.only not in case.name or (target.exists() and not options.again):
            continue
        spent = time.monotonic() - began
        left = None if options.slice is None else options.slice - spent
        if left is not None and left <= 0:
            failed.append(f"{case.name} (no time left)")
            continue
        print(f"# {case.name}", flush=True)
        try:
            run(case, options.device, options.rounds, target, left)
        except subprocess.CalledProcessError as error:  # the process has printed the reason
            failed.append(f"{case.name} (exit status {error.returncode})")
        except subprocess.TimeoutExpired:
            failed.append(f"{case.name} (stopped after {left:.0f} s)")
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}")
    print(summary(folder))
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}. Run the script again.")


if __name__ == "__main__":
    main()
