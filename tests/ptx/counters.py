"""Counts of what a kernel does when it runs: instructions, bytes, sectors, bank conflicts.

A machine reports each instruction and each access to one object. They are the figures of the
instructions as they are in PTX; a GPU runs what its assembler makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tests.ptx.program import Kernel

Array = np.ndarray

WARP, SECTOR, BANKS, WORD = 32, 32, 32, 4
"""Threads of a warp; bytes of a sector of global memory; banks of shared memory, bytes of each."""


@dataclass
class Traffic:
    """Accesses of one kind in one space.

    Attributes:
        requests: Instructions of a warp.
        bytes: Bytes that the threads ask for.
        units: Sectors of 32 bytes in global memory, passes through the banks of shared memory.
        least: The units that these bytes need at least.
    """

    requests: int = 0
    bytes: int = 0
    units: int = 0
    least: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            *(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        )


@dataclass
class Counters:
    """Counts of one kernel over its launches.

    Attributes:
        kernel: The kernel.
        traffic: True to count accesses to memory too.
        issued: By instruction, how many warps have issued it.
        acted: By instruction, whether a thread's guard let it act; of a branch, whether a thread
            came to it.
        accesses: By instruction and space, its accesses to global and shared memory.
        launches: Number of launches.
    """

    kernel: Kernel
    traffic: bool = False
    issued: list[int] = field(init=False)
    acted: list[bool] = field(init=False)
    accesses: dict[tuple[int, str], Traffic] = field(default_factory=dict, init=False)
    launches: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.issued = [0] * len(self.kernel.code)
        self.acted = [False] * len(self.kernel.code)

    @property
    def instructions(self) -> int:
        """Instructions that warps have issued."""
        return sum(self.issued)

    @property
    def coverage(self) -> float:
        """Part of the static instructions that have acted."""
        return sum(self.acted) / len(self.acted)

    @property
    def unreached(self) -> list[tuple[int, str]]:
        """Index and text of each instruction that has not acted."""
        code = enumerate(self.kernel.code)
        return [(k, i.text) for k, i in code if not self.acted[k] and i.name != "nop"]

    def of(self, space: str, verb: str = "") -> Traffic:
        """Return the accesses to a space, of `ld`, `st` and so on, or of all."""
        total = Traffic()
        for (index, where), one in self.accesses.items():
            if where == space and verb in ("", self.kernel.code[index].name):
                total += one
        return total

    def by_opcode(self) -> Mapping[str, int]:
        """Return the issued instructions by opcode."""
        found: dict[str, int] = {}
        for instruction, count in zip(self.kernel.code, self.issued, strict=True):
            found[instruction.opcode] = found.get(instruction.opcode, 0) + count
        return found

    def access(self, index: int, space: str, addresses: Array, size: int, threads: Array) -> None:
        """Note an instruction's accesses; `threads` numbers the thread of each."""
        if not self.traffic or space not in ("global", "shared"):
            return
        count = sectors if space == "global" else passes
        units, least = count(addresses.astype(np.int64), size, threads)
        one = Traffic(len(np.unique(threads // WARP)), size * addresses.size, units, least)
        self.accesses[index, space] = self.accesses.get((index, space), Traffic()) + one


def sectors(addresses: Array, size: int, threads: Array) -> tuple[int, int]:
    """Return the sectors that the warps touch, and the least that their distinct bytes fill."""
    warps = threads // WARP
    ends = (addresses // SECTOR, (addresses + size - 1) // SECTOR)
    touched = np.unique(np.concatenate([np.stack([warps, end], 1) for end in ends]), axis=0)
    distinct = np.unique(np.stack([warps, addresses], 1), axis=0)
    return len(touched), int((-(-np.bincount(distinct[:, 0]) * size // SECTOR)).sum())


def passes(addresses: Array, size: int, threads: Array) -> tuple[int, int]:
    """Return the passes that shared memory needs, and the least for these bytes.

    A pass serves one word of 4 bytes in each bank, to any number of threads. Accesses of 8 bytes
    are served by half warps, those of 16 bytes by quarters.
    """
    words = max(size // WORD, 1)
    served = threads * words // WARP
    each = (addresses[:, None] // WORD + np.arange(words)).reshape(-1)
    distinct = np.unique(np.stack([np.repeat(served, words), each], 1), axis=0)
    in_bank = np.bincount(distinct[:, 0] * BANKS + distinct[:, 1] % BANKS)
    in_bank = np.pad(in_bank, (0, -len(in_bank) % BANKS)).reshape(-1, BANKS)
    least = -(-np.bincount(distinct[:, 0]) // BANKS)
    return int(in_bank.max(1).sum()), int(least.sum())
