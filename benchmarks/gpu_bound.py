"""Bounds of the speed of the GPU kernels, from their executed PTX. It needs no GPU.

    python -m benchmarks.gpu_bound [--neurons lif,lnm-2,lnm-3,lnm-4] [--backends triton,cuda]
                                   [--types float32,bfloat16] [--steps 4,16,64]
                                   [--target sm_90]

The interpreter of `tests/ptx` executes each kernel on 1024 neurons, each with an initial state of
its own. It counts the bytes that the instructions ask for, the 32-byte sectors of global memory
that they touch, the instructions that warps issue, and the passes through the banks of shared
memory. ptxas gives registers and spills. A bound is the time that the busiest resource of a card
needs, if nothing ever waits:

    memory  sectors x 32 bytes / published bandwidth
    issue   warp instructions, weighted / (multiprocessors x 4 schedulers x clock)
    shared  passes / (multiprocessors x clock)

An instruction of PTX has the weight of the machine instructions that ptxas makes of it (`weight`).

Left out: latency, caches, launches, execution units narrower than a warp (division, 64-bit
integers), and the second kernel of a reduction, whose work does not grow with T. So a bound is no
prediction: a layer takes longer, or less where its tensors are in a cache.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np

import lnm_codegen as lnm
from tests.cases import arguments
from tests.ptx.counters import SECTOR, WARP, Counters
from tests.ptx.machine import Machine
from tests.ptx.memory import Memory
from tests.ptx.program import Kernel

COUNT = 1024
"""Neurons of a run: whole programs of every kernel."""
SCHEDULERS, REGISTERS = 4, 65536
"""Of a multiprocessor, of each compute capability below: warp schedulers, registers of 32 bits."""
WEIGHTS = {
    "div.rn.f32": 10, "rcp.rn.f32": 10, "sqrt.rn.f32": 10, "div.u32": 17, "rem.u32": 17,
    "mul.lo.s64": 5, "min.s64": 4, "max.s64": 4,
}  # fmt: skip
"""Machine instructions of what ptxas expands, counted in its listing for sm_90, without the path of
subnormal numbers."""
ISA = "8.6"
"""Version of PTX that modules are given: an older ptxas than the compiler's reads them."""
DIRECTIONS = ("forward", "backward")
PUBLISHED = "SpikingJelly, Triton LIF, RTX 4090, float16, T = 32, published: 0.025 ns"


@dataclass(frozen=True)
class Card:
    """A GPU, from its vendor's documents.

    Attributes:
        name: Name of the product.
        bandwidth: Bytes a second of global memory.
        multiprocessors: Their number.
        clock: Largest published clock, in Hz.
        warps, blocks, shared: Most resident warps and blocks, and bytes of shared memory, of a
            multiprocessor.
    """

    name: str
    bandwidth: float
    multiprocessors: int
    clock: float
    warps: int
    blocks: int
    shared: int

    @property
    def issue(self) -> float:
        """Instructions of a warp that it issues a second."""
        return self.multiprocessors * SCHEDULERS * self.clock


CARDS = (
    # NVIDIA H100 Tensor Core GPU data sheet (SXM, 3.35 TB/s) and architecture white paper (132
    # multiprocessors; 66.9 TFLOPS of float32 are 1.98 GHz).
    Card("H100 SXM", 3.35e12, 132, 1.98e9, 64, 32, 228 * 1024),
    # NVIDIA A100 Tensor Core GPU data sheet (SXM, 80 GB: 2,039 GB/s) and architecture white paper.
    Card("A100 SXM", 2.039e12, 108, 1.41e9, 64, 32, 164 * 1024),
    # NVIDIA Ada GPU architecture white paper, table of the GeForce RTX 4090.
    Card("RTX 4090", 1.008e12, 128, 2.52e9, 48, 24, 100 * 1024),
)
"""Residency: CUDA C++ Programming Guide, technical specifications per compute capability."""


@dataclass(frozen=True)
class Assembled:
    """What ptxas makes of a kernel: registers, bytes spilled, bytes of static shared memory."""

    registers: int
    spilled: int
    shared: int


def weight(opcode: str) -> int:
    """Return the machine instructions of one of PTX; 64-bit integers take two."""
    return WEIGHTS.get(opcode, 2 if opcode.endswith(("s64", "u64", "b64")) else 1)


@dataclass(frozen=True)
class Cost:
    """What one kernel does; `threads` and `shared` are those of a block, `elements` its T x N."""

    counters: Counters
    elements: int
    threads: int
    shared: int

    @property
    def bytes(self) -> float:
        """Bytes of global memory that an element-step asks for."""
        return self.counters.of("global").bytes / self.elements

    @property
    def sectors(self) -> float:
        """Bytes of the sectors that an element-step touches."""
        return SECTOR * self.counters.of("global").units / self.elements

    @property
    def coalesced(self) -> float:
        """Sectors that the bytes need at least, divided by those that are touched."""
        memory = self.counters.of("global")
        return memory.least / memory.units

    @property
    def instructions(self) -> float:
        """PTX instructions that warps issue for an element-step."""
        return self.counters.instructions / self.elements

    @property
    def conflicts(self) -> int:
        """Passes through the banks of shared memory beyond the least number."""
        shared = self.counters.of("shared")
        return shared.units - shared.least

    @property
    def assembled(self) -> Assembled:
        """What ptxas makes of the kernel."""
        kernel = self.counters.kernel
        return assembled(kernel.module)[kernel.name]

    @property
    def weighted(self) -> float:
        """The same, each with the weight of its machine instructions."""
        by_opcode = self.counters.by_opcode()
        return sum(weight(opcode) * n for opcode, n in by_opcode.items()) / self.elements

    def times(self, card: Card) -> dict[str, float]:
        """Return the time in ns that each resource of a card needs for an element-step."""
        passes = self.counters.of("shared").units / self.elements
        return {
            "memory": 1e9 * self.sectors / card.bandwidth,
            "issue": 1e9 * self.weighted / card.issue,
            "shared": 1e9 * passes / (card.multiprocessors * card.clock),
        }

    def resident(self, card: Card) -> int:
        """Return the warps that a multiprocessor holds."""
        warps, made = self.threads // WARP, self.assembled
        of_warp = -(-made.registers * WARP // 256) * 256  # allocated in units of 256
        in_quarter = REGISTERS // SCHEDULERS // of_warp
        held = made.shared + self.shared + 1024  # the system keeps 1 KiB of a block
        blocks = min(card.blocks, card.warps // warps, card.shared // held)
        return min(blocks, in_quarter * SCHEDULERS // warps) * warps


@dataclass(frozen=True)
class Observer(Machine):
    """A machine that keeps the threads and the dynamic shared memory of each kernel's blocks."""

    blocks: dict[Kernel, tuple[int, int]] = field(default_factory=dict)

    def launch(
        self, kernel: Kernel, grid: int, block: int, shared: int, params: bytes, memory: Memory
    ) -> None:
        """Execute a kernel."""
        self.blocks[kernel] = (block, shared)
        super().launch(kernel, grid, block, shared, params, memory)


def neuron_of(name: str) -> lnm.Neuron:
    """Return a neuron by the name of a row, such as `lif` or `lnm-3`."""
    family, _, degree = name.partition("-")
    return lnm.get(family, degree=int(degree)) if degree else lnm.get(family)


@cache
def costs(backend: str, name: str, dtype: str, steps: int, target: str) -> dict[str, Cost]:
    """Execute the kernels of a neuron; return their costs by direction."""
    neuron = neuron_of(name)
    a = arguments(neuron, np.random.default_rng(0), (steps, 1, 1, COUNT))
    a.grad_state = {}
    machine = Observer(traffic=True, races=False)
    if backend == "cuda":
        from tests.backends.cuda.host import run_host
        from tests.ptx.cuda_launch import compiled as on_cuda

        with on_cuda(machine, target):
            run_host(neuron, a, dtype, ends=False)
    else:
        from tests.backends.triton.runs import build, run
        from tests.ptx.triton_launch import compiled as on_triton

        built = build(neuron, dtype)
        # As in a large layer, the threads of the backward serve several neurons.
        spread = mock.patch.object(built.module, "_SPREAD", COUNT // built.module._ROWS)
        with spread, on_triton(machine, target):
            run(built, a, wanted=False)
    return {
        direction: Cost(counters, steps * COUNT, *machine.blocks[kernel])
        for direction in DIRECTIONS
        for kernel, counters in machine.counters.items()
        if kernel.name.endswith(f"{direction}_kernel")
    }


@cache
def assembled(module: str) -> dict[str, Assembled]:
    """Return what ptxas makes of each kernel of a module, by name."""
    from tests.backends.triton.compiled import assembler

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "module.ptx")
        path.write_text(re.sub(r"\.version \S+", f".version {ISA}", module), encoding="utf-8")
        target = re.findall(r"\.target (\w+)", module)[0]
        capability = int(re.sub(r"\D", "", target))
        command = [assembler(capability), "-v", "--fmad=false", f"--gpu-name={target}", path]
        command += ["-o", Path(folder, "module.cubin")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = re.findall(
        r"Function properties for ([\w$]+)\s+.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers([^\n]*)",
        said, re.DOTALL,
    )  # fmt: skip
    return {
        name: Assembled(
            int(registers), int(out) + int(back),
            sum(map(int, re.findall(r"(\d+) bytes smem", rest))),
        )
        for name, out, back, registers, rest in found
    }  # fmt: skip


def table(
    backend: str, names: list[str], types: list[str], steps: list[int], target: str
) -> Iterator[str]:
    """Yield the lines of a table; a cell has the forward's number and the backward's."""
    first = CARDS[0]
    columns = ["neuron", "type", "T", "bytes asked for", "in sectors", "coalesced, %"]
    columns += ["instructions", "weighted", "conflicts", "registers", "warps"]
    columns += [f"{c.name}, ns" for c in CARDS]
    yield f"| {' | '.join(columns)} |"
    yield "| --- " * len(columns) + "|"
    for name in names:
        for dtype in types:
            for count in steps:
                pair = list(costs(backend, name, dtype, count, target).values())
                registers = [_registers(cost.assembled) for cost in pair]
                cells = [
                    name, dtype, str(count),
                    " + ".join(f"{c.bytes:.2f}" for c in pair),
                    " + ".join(f"{c.sectors:.2f}" for c in pair),
                    ", ".join(f"{100 * c.coalesced:.4g}" for c in pair),
                    " + ".join(f"{c.instructions:.2f}" for c in pair),
                    " + ".join(f"{c.weighted:.2f}" for c in pair),
                    ", ".join(str(c.conflicts) for c in pair),
                    ", ".join(registers),
                    ", ".join(str(c.resident(first)) for c in pair),
                    *(bound(pair, card) for card in CARDS),
                ]  # fmt: skip
                yield f"| {' | '.join(cells)} |"


def _registers(made: Assembled) -> str:
    return f"{made.registers}" + (f" ({made.spilled} B spilled)" if made.spilled else "")


def bound(pair: list[Cost], card: Card) -> str:
    """Return the bounds of both directions in ns, and what limits where that is not memory."""
    cells = []
    for times in (cost.times(card) for cost in pair):
        limit = max(times, key=times.__getitem__)
        issue = f"{100 * times['issue'] / times['memory']:.0f} %"
        cells.append((times[limit], issue if limit == "memory" else f"{issue}, {limit}"))
    return " + ".join(f"{time:.4f} ({issue})" for time, issue in cells)


def main() -> None:
    """Print a table for each backend."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks.gpu_bound", None, __doc__)
    parser.formatter_class = plain
    parser.add_argument("--neurons", default="lif,lnm-2,lnm-3,lnm-4")
    parser.add_argument("--backends", default="triton,cuda")
    parser.add_argument("--types", default="float32,bfloat16")
    parser.add_argument("--steps", default="4,16,64")
    parser.add_argument("--target", default="sm_90")
    given = parser.parse_args()
    print(f"Counts for {given.target}; warps of the {CARDS[0].name}.")
    lists = [getattr(given, word).split(",") for word in ("neurons", "types")]
    for backend in given.backends.split(","):
        print(f"\n{backend}:\n", flush=True)
        steps = [int(n) for n in given.steps.split(",")]
        for line in table(backend, *lists, steps, given.target):
            print(line, flush=True)
    print(f"\n{PUBLISHED}.")


if __name__ == "__main__":
    main()
