"""Writer of `tests/resources/`: `python -m tests.update_resources`, for the tools that are here.

    python -m tests.update_resources              measure every set whose tools are here; write it
    python -m tests.update_resources cuda ...     measure these sets alone

A set is one file, `tests/resources/<set>.json`: versions of its tools -> number by name. An update
replaces the numbers of the present versions and keeps those of others. A name ends in the unit:

    bytes-cuda, bytes-triton    bytes that an element-step loads and stores, forward and backward,
                                counted while the emitted kernels run on the CPU
    cuda, triton                registers and bytes spilled of each kernel, from ptxas
    traffic-cuda, -triton       of each kernel, executed from its PTX (`benchmarks/gpu_bound.py`):
                                bytes of global memory and instructions of warps for each
                                element-step; sectors beyond the least number, conflicts of banks
    triton-recurrent            registers, bytes spilled and shared memory of a recurrent layer's
                                kernels, by PyTorch's precision of matrix products
    verilog                     LUT, FF, DSP, BRAM of the bare module on ECP5, and MHz for seed 1
    verilog-network             the same of a network of 64 inputs, 32 neurons and 10 classes
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from benchmarks.gpu_bound import costs
from lnm_codegen.backends.cuda.backend import Cuda
from lnm_codegen.backends.network_verilog.backend import emit_circuit
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.compiler.fixed import neuron_stage
from lnm_codegen.errors import ToolError
from lnm_codegen.files import write_whole
from lnm_codegen.hardware import tools
from lnm_codegen.hardware.folder import Circuit, CircuitForm, read_circuit
from lnm_codegen.hardware.synth import DEVICES, measure
from lnm_codegen.ir.network.exchange import network_files
from lnm_codegen.ir.network.nodes import (
    SPIKES,
    IntegerNetwork,
    ValueSpan,
    WeightStage,
    values_of_bits,
    width_of,
)
from lnm_codegen.ir.network.verify import require_network
from lnm_codegen.ir.types import Bits, Fixed, FixedSpec
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.load.c import compiler
from tests.backends.cuda.host import host_kernels, run_host
from tests.backends.cuda.test_backend import built
from tests.cases import arguments
from tests.hardware.circuits import write_neuron
from tests.test_agree import neuron_of

Numbers = dict[str, float]
"""Number by name."""

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "resources"
CASES = ("lif", "plif", "lnm-3", "lnm-matrix")
"""Neurons of `tests/cases.py`; `lnm-matrix` has two states of degree 1."""
ARCHITECTURES = ("sm_80", "sm_90")
NEURONS = (128, 256)
"""Neurons of a recurrent layer."""
KERNELS = ("forward", "backward", "sums")
FORMS = ("comb", "core")
DEVICE, SEED = "25k", 1
"""ECP5, and the only seed of nextpnr: `measure` takes the seeds from 1 on."""
FEWER, MORE = 32, 64
"""Time steps of two runs, whole chunks of every kernel: their difference is counted."""
BOUNDED = ("lif", "lnm-2", "lnm-3", "lnm-4")
"""Neurons of `benchmarks/gpu_bound.py`, which holds to these names."""
TRAFFIC = tuple(
    (name, dtype, steps, target)
    for name in BOUNDED
    for dtype in ("float32", "bfloat16")
    for steps, target in ((4, "sm_90"), (16, "sm_80"), (16, "sm_90"), (64, "sm_90"))
)
"""Neuron, type, time steps and target of the kernels that are executed."""
COUNT_TRITON = f"""
import json, sys
from tests.backends.triton.interpreted import bytes_per_step as count
print(json.dumps({{case: count(case, "float32", {FEWER}, {MORE}) for case in sys.argv[1:]}}))
"""
"""A program for a process of its own: Triton's interpreter is chosen before Triton is imported."""


@dataclass(frozen=True, slots=True)
class ResourceSet:
    """One file of numbers.

    Attributes:
        versions: Returns the versions of the tools, or raises ToolError if one is missing.
        measure: Returns the numbers.
    """

    versions: Callable[[], str]
    measure: Callable[[], Numbers]


# ---- bytes ----


def _with_compiler() -> str:
    compiler()
    return "every version"


def _cuda_bytes() -> Numbers:
    return {f"{case} bytes": _moved_by_cuda(case) for case in CASES}


def _moved_by_cuda(case: str) -> float:
    neuron, moved = neuron_of(case), []
    kernels = host_kernels(neuron, "float32")
    counters = [kernels.counter(name) for name in ("loaded", "stored")]
    for steps in (FEWER, MORE):
        for counter in counters:
            counter.value = 0
        shape = (steps, 4, 5, 128)
        run_host(neuron, arguments(neuron, np.random.default_rng(0), shape), ends=False)
        moved.append(sum(counter.value for counter in counters) / (shape[1] * shape[2] * shape[3]))
    return (moved[1] - moved[0]) / (MORE - FEWER)


def _with_interpreter() -> str:
    if _triton() < (3, 4):
        raise ToolError("triton", "the interpreter of Triton 3.3 knows no named tuples")
    return "every version"


def _triton_bytes() -> Numbers:
    found = json.loads(_python("-W", "ignore::RuntimeWarning", "-c", COUNT_TRITON, *CASES))
    return {f"{case} bytes": moved for case, moved in found.items()}


# ---- registers and spills ----


def _nvcc() -> str:
    try:
        done = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ToolError("cuda", "nvcc not found on PATH") from error
    return f"nvcc {_matched(r'V([0-9.]+)', done.stdout)}"


def _cuda() -> Numbers:
    found: Numbers = {}
    for case in CASES:
        model = plan_of(neuron_of(case))
        with tempfile.TemporaryDirectory() as folder:
            Cuda().emit(model).write(Path(folder))
            for arch in ARCHITECTURES:
                for kernel, numbers in built(Path(folder), model.name, arch).items():
                    word = kernel.removeprefix(f"{model.name}_").removesuffix("_kernel")
                    found |= _of_kernel(f"{case} {arch} {word}", *numbers)
    return found


def _of_kernel(name: str, registers: int, spilled: int) -> Numbers:
    return {f"{name} registers": registers, f"{name} spilled bytes": spilled}


def _triton() -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in version("triton").split(".")[:2])
    except PackageNotFoundError:
        raise ToolError("triton", "Triton is not installed") from None


def _triton_version() -> str:
    _triton()
    return f"triton {version('triton')}"


def _triton_registers() -> Numbers:
    jobs = [
        {"case": case, "kernel": f"_{kernel}_kernel", "target": arch}
        for case in CASES
        for arch in ARCHITECTURES
        for kernel in KERNELS
    ]
    found: Numbers = {}
    for o in json.loads(_python("-m", "tests.backends.triton.compiled", json.dumps(jobs))):
        if "registers" in o:
            name = f"{o['case']} {o['target']} {o['kernel'].split('_')[1]}"
            found |= _of_kernel(name, o["registers"], o["spilled"])
    return found


def _recurrent_registers() -> Numbers:
    from tests.ptx.triton_launch import compiled_for_recurrence

    found: Numbers = {}
    for case in CASES:
        for size in NEURONS:
            for precision in ("highest", "high"):
                for arch in ARCHITECTURES:
                    made = compiled_for_recurrence(neuron_of(case), size, precision, arch)
                    for kernel, used in made.items():
                        name = f"{case} H={size} {precision} {arch} {kernel}"
                        found |= _of_kernel(name, used["registers"], used["spilled"])
                        found[f"{name} shared bytes"] = used["shared"]
    return found


def _python(*words: str) -> str:
    """Return the output of Python in a process of its own, with an empty cache of Triton's."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    with tempfile.TemporaryDirectory() as folder:
        environment |= {"PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": folder}
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return done.stdout


# ---- executed PTX ----


def _ptx_compiler() -> str:
    from tests.ptx.cuda_launch import MISSING, compiler

    found = compiler()
    if found is None:
        raise ToolError("cuda", MISSING)
    return found


def _traffic(backend: str) -> Numbers:
    found: Numbers = {}
    for job in TRAFFIC:
        found |= traffic(backend, *job)
    return found


def traffic(backend: str, name: str, dtype: str, steps: int, target: str) -> Numbers:
    """Return the counts of the kernels of a neuron, executed on whole programs."""
    found: Numbers = {}
    for direction, cost in costs(backend, name, dtype, steps, target).items():
        memory = cost.counters.of("global")
        prefix = f"{name} {target} {dtype} T={steps} {direction}"
        found |= {
            f"{prefix} bytes": round(cost.bytes, 4),
            f"{prefix} instructions": round(cost.instructions, 4),
            f"{prefix} spare sectors": memory.units - memory.least,
            f"{prefix} conflicts": cost.conflicts,
        }
    return found


# ---- circuits ----


def _yosys_and_nextpnr() -> str:
    words = DEVICES[DEVICE].tools
    tools.require_tools("verilog", *words)
    found = {word: tools.version(word) or "" for word in words}
    return ", ".join(f"{w} {_matched(r'(?:Yosys |Version )([^ )]+)', found[w])}" for w in words)


def _verilog() -> Numbers:
    found: Numbers = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            circuit = write_neuron(Path(folder), neuron_of(case), forms=FORMS)
            for form in FORMS:
                found |= _of_circuit(f"{case} {form}", circuit, circuit.forms[form])
    return found


def _networks() -> Numbers:
    found: Numbers = {}
    for case in CASES:
        network = dense_network(neuron_of(case))
        with tempfile.TemporaryDirectory() as folder:
            made = emit_circuit(network, np.zeros((1, *network.input_shape), np.int64))
            made.source.write(folder)
            for path, data in network_files(network).items():
                write_whole(Path(folder, path), data)
            circuit = read_circuit(Path(folder), "resources")
            found |= _of_circuit(f"{case} network", circuit, circuit.forms["network"])
    return found


def dense_network(neuron: Neuron) -> IntegerNetwork:
    """Return a network 64-32-10 of drawn weights of 5 bits; the input is one of 4 equal steps."""
    rng, neurons = np.random.default_rng(0), Fixed(14, 10)
    values, one = values_of_bits(Bits(6, 4)), np.array([1])

    def weights(name: str, shape: tuple[int, int], span: ValueSpan, shift: int) -> WeightStage:
        made = WeightStage(
            name, "linear", rng.integers(-16, 16, shape), bits=5,
            bias=rng.integers(-64, 65, shape[0]), multiplier=one, shift=shift * one,
            accumulator=31, output=neurons.bits if shift else Bits(16, 0),
        )  # fmt: skip
        bound = made.bound(span)
        return replace(made, accumulator=width_of((-bound, bound)))

    stages = (
        weights("dense", (32, 64), values, 1),
        neuron_stage("neurons", neuron, FixedSpec(neurons), (32,)),
        weights("readout", (10, 32), SPIKES, 0),
    )
    return require_network(IntegerNetwork("net", 4, True, (64,), values, stages, "mean"))


def _of_circuit(name: str, circuit: Circuit, form: CircuitForm) -> Numbers:
    got = measure(circuit, form, DEVICES[DEVICE], seeds=SEED)
    found: Numbers = {f"{name} {unit}": n for unit, n in got.resources.as_dict().items()}
    return found | {f"{name} MHz": round(got.fmax[SEED], 1)}


def _matched(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise ToolError("resources", f"no version in {text!r}")
    return found[1]


SETS = {
    "bytes-cuda": ResourceSet(_with_compiler, _cuda_bytes),
    "bytes-triton": ResourceSet(_with_interpreter, _triton_bytes),
    "cuda": ResourceSet(_nvcc, _cuda),
    "triton": ResourceSet(_triton_version, _triton_registers),
    "triton-recurrent": ResourceSet(_triton_version, _recurrent_registers),
    "traffic-cuda": ResourceSet(_ptx_compiler, lambda: _traffic("cuda")),
    "traffic-triton": ResourceSet(_triton_version, lambda: _traffic("triton")),
    "verilog": ResourceSet(_yosys_and_nextpnr, _verilog),
    "verilog-network": ResourceSet(_yosys_and_nextpnr, _networks),
}
"""Name of a file -> how it is measured."""


# ---- files ----


def baselines(name: str) -> dict[str, Numbers]:
    """Return the numbers of a set by the versions of its tools."""
    path = FOLDER / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def changed(
    old: Numbers, new: Numbers, tolerance: Callable[[str], tuple[float, float]]
) -> list[str]:
    """Return a line for each number that changes by more than a tolerance, old and new in it.

    `tolerance` returns, for a unit, the largest relative and the largest absolute change that are
    accepted; the larger of both counts. A number that is new or gone is a change.
    """
    lines = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before is not None and after is not None:
            relative, absolute = tolerance(name.split()[-1])
            if abs(after - before) <= max(relative * abs(before), absolute):
                continue
        lines.append(f"{name}: {before} -> {after}")
    return lines


def update(name: str) -> None:
    """Measure a set and write its file; print each number that changes."""
    every, versions = baselines(name), SETS[name].versions()
    old, new = every.get(versions, {}), SETS[name].measure()
    for number in changed(old, new, lambda unit: (0, 0)):
        print(f"{name}: {versions}: {number}")
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps(dict(sorted((every | {versions: new}).items())), indent=1)
    write_whole(FOLDER / f"{name}.json", text + "\n")


def main(names: list[str]) -> int:
    """Update these sets, or every set whose tools are here."""
    if unknown := [name for name in names if name not in SETS]:
        print(f"no set {unknown[0]!r}. Accepted: {', '.join(SETS)}.\n\n{__doc__}", file=sys.stderr)
        return 2
    for name in names or SETS:
        try:
            update(name)
        except ToolError as error:
            print(f"{name}: left out. {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
