"""Circuits of random networks in Icarus, and their lint."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np

from lnm_codegen.backends.network_verilog.backend import NetworkCircuit, emit_circuit
from lnm_codegen.ir.network.nodes import IntegerNetwork
from tests.networks import Draw, random_network, random_samples


@cache
def random_circuit(
    seed: int,
    count: int = 4,
    loadable: bool = False,
    drawn: Draw = random_network,
    per_cycle: int = 1,
) -> tuple[IntegerNetwork, np.ndarray, NetworkCircuit]:
    """Return a network, samples and their circuit, of one to four lanes."""
    rng = np.random.default_rng(seed)
    network = drawn(rng, as_circuit=True)
    samples = random_samples(rng, network, count)
    lanes = int(rng.integers(1, 5))
    return network, samples, emit_circuit(network, samples, lanes, loadable, per_cycle=per_cycle)


def sources(folder: Path) -> list[str]:
    """Return the modules of a folder."""
    return [str(p) for pattern in ("rtl/*.v", "arrays/*/rtl/*.v") for p in folder.glob(pattern)]


def simulated(
    folder: Path,
    *,
    form: str = "network",
    allow_warnings: bool = False,
    parameters: Mapping[str, int] = MappingProxyType({}),
) -> str:
    """Return the output of a testbench in Icarus; a warning is an error by default."""
    bench = next(folder.glob(f"tb/*_{form}_tb.v"))
    command = ["iverilog", "-g2005", "-Wall", "-Wno-timescale", "-o", "x.vvp"]
    command += [f"-P{bench.stem}.{name}={value}" for name, value in parameters.items()]
    done = subprocess.run(
        [*command, *sources(folder), str(bench)], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert allow_warnings or not done.stderr
    done = subprocess.run(
        ["vvp", "-n", "../x.vvp"], cwd=folder / "tb", capture_output=True, text=True, timeout=300
    )
    return done.stdout


def cycles_of(output: str) -> tuple[int, int]:
    """Return the cycles of the first sample and of each."""
    found = re.search(r"^cycles: first (\d+), each (\d+)$", output, re.M)
    assert found, output
    return int(found[1]), int(found[2])
