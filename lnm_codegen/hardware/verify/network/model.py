"""Verification step "model" of a network: NumPy = C, and memories that hold network.json.

The memories are written again from network.json, whose reader proves that no accumulator overflows.
"""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np

from lnm_codegen.backends.network_verilog.layers import layers_of
from lnm_codegen.backends.network_verilog.memories import memory_files
from lnm_codegen.backends.network_verilog.top import family_of
from lnm_codegen.errors import LnmError, ModelError, reason
from lnm_codegen.files import DAMAGED_ARRAYS
from lnm_codegen.hardware.folder import Circuit
from lnm_codegen.hardware.result import Check, StepResult, failed, skipped, verdict
from lnm_codegen.hardware.tools import missing, run, temporary_folder
from lnm_codegen.ir.network.exchange import read_network
from lnm_codegen.ir.network.interpret import interpret_network, sample_rows
from lnm_codegen.ir.network.nodes import IntegerNetwork, Integers, size_of

SAMPLES = "tb/samples.npz"
DRAWN, SEED = 64, 1
"""Random samples beside those of the folder."""
SECONDS = 300
_AGAIN = "Write the folder again."


def model(circuit: Circuit) -> StepResult:
    """Compare memories, C and NumPy."""
    try:
        network = read_network(circuit.folder)
    except LnmError as error:
        return StepResult("model", (Check("network.json", verdict(False), detail=str(error)),))
    return StepResult("model", (_memories(circuit, network), _c(circuit, network)))


def samples_of(circuit: Circuit, network: IntegerNetwork, count: int | None = None) -> Integers:
    """Return the first samples of the folder, then random ones with few and with many events."""
    rng, own = np.random.default_rng(SEED), network.input
    lead = () if network.repeated else (network.time_steps,)
    shape = (*lead, DRAWN, *network.input_shape)
    drawn = rng.integers(own.low, own.high, shape, endpoint=True)
    share = rng.random((DRAWN, *[1] * len(network.input_shape)))
    drawn = np.where(rng.random(shape) < share, drawn, min(max(0, own.low), own.high))
    path = circuit.folder / SAMPLES
    if not path.is_file():
        return drawn
    kept, axis = _kept(path), len(lead)
    alike = kept.ndim == drawn.ndim and np.delete(kept.shape, axis).tolist() == [
        n for k, n in enumerate(shape) if k != axis
    ]
    if kept.dtype.kind not in "iub" or not alike:
        problem = f"samples are {kept.dtype} {kept.shape}"
        raise ModelError(path, problem, f"integers {shape}, of any count", _AGAIN)
    kept = kept.astype(np.int64)[(slice(None),) * axis + (slice(count),)]
    return np.concatenate([kept, drawn], axis=axis)


def _kept(path: Path) -> Integers:
    """Return the samples of a file."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            return np.asarray(archive["x"])
    except (OSError, *DAMAGED_ARRAYS) as error:
        raise ModelError(path, f"not samples: {reason(error)}", remedy=_AGAIN) from None


def _memories(circuit: Circuit, network: IntegerNetwork) -> Check:
    """Compare rtl/*.hex with network.json."""
    name, begun = "memories = network.json", time.monotonic()
    lanes, loadable = circuit.manifest["lanes"], circuit.manifest["load_port"]
    expected: dict[str, str] = {}
    for layer in layers_of(network, lanes, loadable):
        expected |= memory_files(layer, f"{network.name}_{layer.name}", family_of(network))
    for file, text in expected.items():
        path = circuit.folder / file
        if not path.is_file() or path.read_bytes() != text.encode():
            return Check(name, verdict(False), detail=f"{file} differs from network.json")
    return Check(name, verdict(True), len(expected), time.monotonic() - begun)


def _c(circuit: Circuit, network: IntegerNetwork) -> Check:
    """Compare scores and labels of the C of model/ with NumPy."""
    check, name = "NumPy = C", network.name
    if reason := missing("g++"):
        return skipped(check, reason)
    begun, samples = time.monotonic(), samples_of(circuit, network)
    expected, rows = interpret_network(network, samples), sample_rows(network, samples)
    with temporary_folder() as folder:
        (folder / "driver.cpp").write_text(_driver(network), encoding="utf-8")
        (folder / "given").write_bytes(rows.astype(np.int64).tobytes())
        include = f"-I{circuit.folder / 'model'}"
        built = run(("g++", "-O2", include, "driver.cpp", "-o", "driver"), folder, timeout=SECONDS)
        if not built.passed:
            return failed(check, built)
        done = run((str(folder / "driver"),), folder, timeout=SECONDS)
        if not done.passed:
            return failed(check, done)
        table = np.fromfile(folder / "taken", np.int64).reshape(len(rows), -1)
    wrong = (table[:, :-1] != expected.scores).any(1) | (table[:, -1] != expected.labels)
    detail = f"{int(wrong.sum())} of {len(rows)} samples differ in {name}" if wrong.any() else ""
    return Check(check, verdict(not wrong.any()), len(rows), time.monotonic() - begun, detail)


def _driver(network: IntegerNetwork) -> str:
    """Return a program that runs the C network on every row of a file of integers."""
    name, classes = network.name, network.classes
    size = size_of(network.input_shape) * (1 if network.repeated else network.time_steps)
    return f"""#include "{name}.c"
#include <cstdio>
#include <vector>

int main() {{
    std::FILE *from = std::fopen("given", "rb"), *to = std::fopen("taken", "wb");
    std::vector<int64_t> row({size}), found({classes} + 1);
    std::vector<{name}_input> x({size});
    if (!from || !to) return 1;
    while (std::fread(row.data(), 8, row.size(), from) == row.size()) {{
        for (int k = 0; k < {size}; ++k) x[k] = ({name}_input)row[k];
        found[{classes}] = {name}_run(x.data());
        for (int k = 0; k < {classes}; ++k) found[k] = {name}_scores()[k];
        if (std::fwrite(found.data(), 8, found.size(), to) != found.size()) return 1;
    }}
    return std::fclose(to);
}}
"""
