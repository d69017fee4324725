"""Verification steps of a network's folder, and the cycles of a sample."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lnm_codegen.backends.network_verilog.layers import form_in, layers_of
from lnm_codegen.backends.network_verilog.modules import memory_files
from lnm_codegen.backends.network_verilog.testbench import input_words
from lnm_codegen.backends.network_verilog.top import MeanCycles
from lnm_codegen.backends.verilog.array import LEAST_ROWS
from lnm_codegen.errors import LnmError, ModelError, ToolError, reason
from lnm_codegen.files import DAMAGED_ARRAYS
from lnm_codegen.hardware.folder import Circuit, read_circuit
from lnm_codegen.hardware.result import Check, StepResult, failed, skipped, step_result, verdict
from lnm_codegen.hardware.synth import Measured, Resources
from lnm_codegen.hardware.tools import Completed, missing, temporary_folder
from lnm_codegen.hardware.verify import steps
from lnm_codegen.hardware.verify.mutation import summed_figures
from lnm_codegen.hardware.verify.verilog import (
    cocotb,
    compare,
    count_cells,
    formal,
    icarus,
    lint,
    run_program,
    run_testbench,
)
from lnm_codegen.ir.network.exchange import read_network
from lnm_codegen.ir.network.interpret import interpret_network, sample_rows, score_rows
from lnm_codegen.ir.network.nodes import IntegerNetwork, Integers

# Verification step "model" of a network: NumPy = C, and memories that hold network.json.
#
# The memories are written again from network.json, whose reader proves that no accumulator
# overflows.


SAMPLES = "tb/samples.npz"
DRAWN, SEED = 64, 1
"""Random samples beside those of the folder."""
MODEL_SECONDS = 300
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
    expected: dict[str, str] = {}
    for layer in layers_of(network, *form_in(circuit.manifest)):
        expected |= memory_files(layer)
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
    scores = score_rows(network, expected.scores)
    labels = expected.labels[-1] if network.over == "step" else expected.labels
    given = rows.astype(np.int64)
    table = steps.run_driver(circuit, _driver(network), given, ("-O2",), MODEL_SECONDS)
    if isinstance(table, Completed):
        return failed(check, table)
    wrong = (table[:, :-1] != scores).any(1) | (table[:, -1] != labels)
    detail = f"{int(wrong.sum())} of {len(rows)} samples differ in {name}" if wrong.any() else ""
    return Check(check, verdict(not wrong.any()), len(rows), time.monotonic() - begun, detail)


def _driver(network: IntegerNetwork) -> str:
    """Return a program that runs the C network on every row of a file of integers."""
    name, count, size = network.name, network.score_count, network.sample_size
    by_step = network.over == "step"
    run, own = (
        (f"{name}_run(x.data(), all.data())", "all")
        if by_step
        else (f"{name}_run(x.data())", f"{name}_scores()")
    )
    return f"""#include "{name}.c"
#include <cstdio>
#include <vector>

int main() {{
    std::FILE *from = std::fopen("given", "rb"), *to = std::fopen("taken", "wb");
    std::vector<int64_t> row({size}), found({count} + 1);
    std::vector<{name}_input> x({size});
    std::vector<{name}_score> all({count});
    if (!from || !to) return 1;
    while (std::fread(row.data(), 8, row.size(), from) == row.size()) {{
        for (int k = 0; k < {size}; ++k) x[k] = ({name}_input)row[k];
        found[{count}] = {run};
        for (int k = 0; k < {count}; ++k) found[k] = {own}[k];
        if (std::fwrite(found.data(), 8, found.size(), to) != found.size()) return 1;
    }}
    return std::fclose(to);
}}
"""


# Verification step "synthesis" of a network: cells of an ECP5, no latch, weights in block RAM.


BLOCK_BITS = 18 << 10
"""Bits of a block RAM of an ECP5."""


def synthesis(circuit: Circuit) -> StepResult:
    """Synthesise the network for ECP5, in its wrapper if it has one, and count its cells."""
    bits = sum(
        int(layer["weight_memory_bits"])
        for layer in circuit.manifest["layers"]
        if layer["weight_memory_bits"] >= LEAST_ROWS * layer["lanes"] * layer["weight_bits"]
    )
    few = bits // BLOCK_BITS

    def problem(found: Resources) -> str:
        return f"at least {few} BRAM expected for {bits} bits of weights" * (found.bram < few)

    check = partial(count_cells, circuit, problem=problem)
    return step_result("synthesis", missing("yosys"), check, [*circuit.forms.values()][-1:])


# Verification step "verilator" of a network: the circuit against the C network.


MOST_SAMPLES, VERILATOR_SECONDS = 1000, 600
_MEAN = re.compile(r"^PASS .*, 0 wrong, ([0-9.]+) cycles a sample$", re.MULTILINE)


def verilator(circuit: Circuit, count: int | None = MOST_SAMPLES) -> StepResult:
    """Build the folder's program and run it on samples of the folder, and on random ones.

    The first `count` samples of the folder run, or all of them.
    """
    reason = missing("verilator", "g++", "make")
    return step_result("verilator", reason, lambda c: _compare(c, count), [circuit])


_OPTIONS = ("-Wall", '-GHEX="rtl/"')


def _compare(circuit: Circuit, most: int | None) -> Check:
    network, form = read_network(circuit.folder), circuit.forms["network"]
    rows = sample_rows(network, samples_of(circuit, network, most))
    with temporary_folder() as folder:
        arguments = _samples_file(circuit, rows, folder)
        return compare(circuit, form, form.files, _OPTIONS, arguments, VERILATOR_SECONDS)


def _samples_file(circuit: Circuit, rows: Integers, folder: Path) -> tuple[str, str]:
    """Write samples (S, values) for the folder's program, and return its first two arguments."""
    path, width = folder / "inputs", circuit.manifest["streams"]["s_axis_tdata"]["width"]
    path.write_text("\n".join(f"{w:x}" for w in input_words(rows, width)))
    return str(path), str(len(rows))


def mean_cycles(circuit: Circuit) -> MeanCycles:
    """Run all samples of a folder at full speed in Verilator.

    Raises:
        ToolError: A tool is missing or fails, or a score differs from that of the C network.
    """
    where = "mean cycles"
    if absent := missing("verilator", "g++", "make"):
        raise ToolError(where, absent)
    network, form = read_network(circuit.folder), circuit.forms["network"]
    rows = sample_rows(network, _kept(circuit.folder / SAMPLES).astype(np.int64))
    with temporary_folder() as folder:
        arguments = (*_samples_file(circuit, rows, folder), "0")
        _, done = run_program(circuit, form, form.files, _OPTIONS, arguments, VERILATOR_SECONDS)
    found = _MEAN.search(done.output)
    if not done.passed or found is None:
        raise ToolError(where, done.last_line())
    return MeanCycles(float(found[1]), len(rows))


# Verification steps of a network's folder.
#
# A step has the checks of the whole network, then those of each distinct array of neurons. Faults
# (mutation) are put into the arrays alone.


WHOLE: dict[str, Callable[[Circuit], StepResult]] = {
    "model": model,
    "lint": lint,
    "icarus": icarus,
    "cocotb": cocotb,
    "verilator": verilator,
    "formal": formal,
    "synthesis": synthesis,
}
"""Name -> step of the whole network. Every step of `steps.STEPS` runs on the arrays."""


def run_network_steps(
    circuit: Circuit, names: Sequence[str], every: bool = False
) -> Iterator[StepResult]:
    """Yield the result of one step after another; checks of an array have its name in front.

    With `every`, Verilator runs all samples of the folder.
    """
    arrays = [
        read_circuit(circuit.folder / "arrays" / name, "verify")
        for name in circuit.manifest["arrays"]
    ]
    whole_steps = WHOLE | ({"verilator": partial(verilator, count=None)} if every else {})
    for name in names:
        begun = time.monotonic()
        whole = whole_steps[name](circuit) if name in whole_steps else StepResult(name, ())
        parts = [steps.STEPS[name](array) for array in arrays]
        checks = [
            replace(check, name=f"{array.name}: {check.name}")
            for array, part in zip(arrays, parts, strict=True)
            for check in part.checks
        ]
        figures = whole.figures or summed_figures(parts)
        seconds = time.monotonic() - begun
        yield replace(whole, checks=(*whole.checks, *checks), seconds=seconds, figures=figures)


# Cycles of a network's sample, from a simulation of its golden samples in Icarus.


_CYCLES = re.compile(r"^cycles: first (\d+), each (\d+)$", re.MULTILINE)


def sample_cycles(circuit: Circuit) -> int | None:
    """Return the mean cycles of the golden samples at full speed; None without Icarus."""
    if missing("iverilog"):
        return None
    form = circuit.forms["network"]
    found = _CYCLES.search(run_testbench(circuit, form, form.files, timeout=600).output)
    return int(found[2]) if found else None


def with_cycles(measured: Measured, cycles: int | None) -> dict[str, Any]:
    """Return the JSON object of a measurement, with cycles and samples a second of a network."""
    found = measured.as_dict()
    if cycles is None:
        return found
    median = measured.median
    rate = None if median is None else round(median * 1e6 / cycles, 1)
    return {**found, "cycles_per_sample": cycles, "samples_per_second": rate}
