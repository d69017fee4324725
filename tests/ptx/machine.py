"""A machine that executes kernels: threads in groups, in step or warp after warp.

In lockstep all threads of a launch are one group, which is fast. With `warps` each warp is a group;
blocks run in random order, and so do the warps of a block between two barriers. In both, threads
that diverge run at the least index first, and join where they meet.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np

from tests.ptx.counters import WARP, Counters
from tests.ptx.memory import (
    ALIGNED,
    Allocation,
    Fault,
    Memory,
    Races,
    require_aligned,
    require_inside,
    stamp,
)
from tests.ptx.operations import Operation, decode
from tests.ptx.program import Kernel, Symbol, Type, up

Array = np.ndarray

GARBAGE = 0xFF
"""Each byte of registers, shared and local memory at first: NaN as a float, -1 as an integer."""
WIDEST = 1 << 13
"""Threads of a group in lockstep; the blocks of a larger launch run in several groups."""


@dataclass(frozen=True)
class Machine:
    """How kernels are executed.

    Attributes:
        mode: `lockstep`, or `warps` in random order.
        seed: Of the order of blocks and warps.
        races: True to raise Fault at a race.
        traffic: True to count accesses to memory.
        counters: The counters of every kernel that has run.
    """

    mode: Literal["lockstep", "warps"] = "lockstep"
    seed: int = 0
    races: bool = True
    traffic: bool = False
    counters: dict[Kernel, Counters] = field(default_factory=dict, repr=False)

    def launch(
        self, kernel: Kernel, grid: int, block: int, shared: int, params: bytes, memory: Memory
    ) -> None:
        """Execute a kernel.

        Args:
            kernel: The kernel.
            grid: Number of blocks.
            block: Threads of a block.
            shared: Bytes of dynamic shared memory.
            params: The parameters, one after another.
            memory: Global memory.

        Raises:
            Fault: The kernel does what it must not do, or its result is not defined.
        """
        if len(params) != kernel.param_bytes:
            raise Fault(
                f"{len(params)} bytes of parameters; {kernel.name} has {kernel.param_bytes}"
            )
        least, most = kernel.threads
        if block % WARP or not least <= block <= most:
            raise Fault(f"a block of {block} threads; {kernel.name} has {least} to {most}")
        counters = self.counters.setdefault(kernel, Counters(kernel, self.traffic))
        counters.launches += 1
        memory.begin(self.races)
        launched = Launch(kernel, grid, block, kernel.shared + shared, params, memory, counters)
        with np.errstate(all="ignore"):
            if self.mode == "lockstep":
                several = max(1, WIDEST // block)
                for first in range(0, grid, several):
                    blocks = np.arange(first, min(first + several, grid))
                    _run([Group(launched, blocks, range(block), self._shared(launched, blocks))])
                return
            order = random.Random(self.seed)
            blocks = list(range(grid))
            order.shuffle(blocks)
            for one in blocks:
                here = np.array([one])
                held = self._shared(launched, here)
                warps = range(0, block, WARP)
                _run([Group(launched, here, range(w, w + WARP), held) for w in warps], order)

    def _shared(self, launched: Launch, blocks: Array) -> Allocation:
        size = up(launched.shared, ALIGNED) * len(blocks)
        data = np.full(size, GARBAGE, np.uint8)
        return Allocation(data, races=Races(size, alike=True) if self.races else None)


@dataclass(frozen=True)
class Launch:
    """What the groups of a launch have in common; `shared` is the bytes of a block."""

    kernel: Kernel
    grid: int
    block: int
    shared: int
    params: bytes
    memory: Memory
    counters: Counters


def _run(groups: list[Group], order: random.Random | None = None) -> None:
    """Run whole blocks to their end: from barrier to barrier, warps in random order."""
    block = groups[0].launch.block
    while True:
        turn = list(groups)
        if order:
            order.shuffle(turn)
        for group in turn:
            group.run()
        waiting = np.concatenate([group.waiting for group in groups]).reshape(-1, block)
        if (waiting != waiting[:, :1]).any():
            name = groups[0].launch.kernel.name
            raise Fault(f"{name}: deadlock: not all threads of a block come to a barrier")
        if (waiting < 0).all():
            return
        for group in groups:
            group.release()


@lru_cache(maxsize=64)
def _decoded(kernel: Kernel) -> list[Operation]:
    return [decode(instruction) for instruction in kernel.code]


@dataclass(frozen=True)
class Copy:
    """Bytes on their way to shared memory, and the number of each thread's group of copies."""

    lanes: Array
    offsets: Array
    raw: Array
    groups: Array

    def of(self, which: Array) -> Copy:
        """Return the part of some of the threads."""
        return Copy(*(array[which] for array in vars(self).values()))


class Group:
    """Threads that execute each instruction together, in whole warps.

    Attributes:
        launch: What the launch has in common.
        count: Number of threads.
        values: The registers: a predicate as bool, others as unsigned integers.
        carry: The carry flags.
        waiting: By thread, the index of the barrier at which it waits; -1 if it has ended.
    """

    def __init__(self, launch: Launch, blocks: Array, threads: range, shared: Allocation) -> None:
        self.launch, kernel = launch, launch.kernel
        self.count = len(blocks) * len(threads)
        self.block = np.repeat(blocks, len(threads))
        self.thread = np.tile(np.arange(threads.start, threads.stop), len(blocks))
        self._number = self.block * launch.block + self.thread
        self._stamps = stamp(self.block, self.thread // WARP, np.zeros(self.count))
        self._shared = shared
        self._row = (self.block - blocks[0]) * up(launch.shared, ALIGNED)
        self._local = Allocation(np.full(self.count * up(kernel.local, ALIGNED), GARBAGE, np.uint8))
        self._constants: dict[tuple[int, Type], Array] = {}
        garbage = {kind: self.constant(-1, kind).view(kind.held) for kind in set(kernel.registers)}
        self.values = [garbage[kind] for kind in kernel.registers]  # an array is never changed
        self.carry = np.ones(self.count, np.uint8)
        self._copies: list[Copy] = []
        self._committed = np.zeros(self.count, int)  # groups of copies
        self.waiting = np.full(self.count, -1)
        self._code = _decoded(kernel)
        self._ready: dict[int, Array] = {0: np.ones(self.count, bool)}
        self._parked: dict[int, Array] = {}
        self._at = 0

    # ---- what operations read and write ----

    def constant(self, bits: int, kind: Type) -> Array:
        """Return a number in every thread."""
        key = (bits, kind)
        if key not in self._constants:
            number = np.array(bits & ((1 << kind.bits) - 1), np.uint64).astype(kind.held)
            self._constants[key] = np.full(self.count, number).view(kind.dtype)
        return self._constants[key]

    def special(self, name: str, kind: Type) -> Array:
        """Return a special register; grids and blocks have one axis."""
        launch, zero = self.launch, np.zeros(self.count, int)
        found = {
            "%tid.x": self.thread, "%ctaid.x": self.block, "%laneid": self.thread % WARP,
            "%ntid.x": zero + launch.block, "%nctaid.x": zero + launch.grid,
            "%tid.y": zero, "%tid.z": zero, "%ctaid.y": zero, "%ctaid.z": zero,
        }[name]  # fmt: skip
        return found.astype(kind.dtype)

    def address_of(self, symbol: Symbol) -> int:
        """Return the address of a variable of the kernel."""
        if symbol.space == "global":
            return self.launch.memory.add(self.launch.kernel.tables[symbol.name])
        return symbol.address

    def load(self, space: str, addresses: Array, size: int, lanes: Array | slice) -> Array:
        """Return the bytes (threads, bytes) at addresses of the threads `lanes`."""
        if space == "param":
            raw = np.frombuffer(self.launch.params, np.uint8)
            require_inside(addresses.astype(int), size, raw.size, space)
            return raw[addresses.astype(int)[:, None] + np.arange(size)]
        self._note(space, addresses, size, lanes)
        if space == "global":
            return self.launch.memory.load(addresses, size, self._stamps[lanes])
        one, offsets = self._within(space, addresses, size, lanes)
        return one.load(offsets, size, self._stamps[lanes])

    def store(self, space: str, addresses: Array, raw: Array, lanes: Array | slice) -> None:
        """Write bytes, as `load` reads them."""
        self._note(space, addresses, raw.shape[1], lanes)
        if space == "global":
            self.launch.memory.store(addresses, raw, self._stamps[lanes])
            return
        one, offsets = self._within(space, addresses, raw.shape[1], lanes)
        one.store(offsets, raw, self._stamps[lanes])

    def copy(self, addresses: Array, raw: Array, lanes: Array) -> None:
        """Begin to write bytes to shared memory; they are there when their threads have waited."""
        size = raw.shape[1]
        self._note("shared", addresses, size, lanes)
        shared, offsets = self._within("shared", addresses, size, lanes)
        shared.begin_copy(offsets, size, self._stamps[lanes])
        self._copies.append(Copy(lanes, offsets, raw, self._committed[lanes]))

    def commit(self, mask: Array | None) -> None:
        """Make a group of each thread's copies since the last one."""
        self._committed = self._committed + (1 if mask is None else mask)

    def wait(self, pending: int, mask: Array | None) -> None:
        """End the copies of each thread's groups but for the last few."""
        limit = self._committed - pending
        if mask is not None:
            limit = np.where(mask, limit, 0)
        copies, self._copies = self._copies, []
        for copy in copies:
            ends = copy.groups < limit[copy.lanes]
            if ends.any():
                ended = copy.of(ends)
                self._shared.end_copy(ended.offsets, ended.raw, self._stamps[ended.lanes])
            if not ends.all():
                self._copies.append(copy.of(~ends))

    def add_each(self, addresses: Array, values: Array, lanes: Array) -> Array:
        """Add to numbers in global memory, one after another; return what each found."""
        self._note("global", addresses, values.dtype.itemsize, lanes)
        return self.launch.memory.add_each(addresses, values, self._stamps[lanes])

    def _note(self, space: str, addresses: Array, size: int, lanes: Array | slice) -> None:
        if self.launch.counters.traffic:
            self.launch.counters.access(self._at, space, addresses, size, self._number[lanes])

    def _within(
        self, space: str, addresses: Array, size: int, lanes: Array | slice
    ) -> tuple[Allocation, Array]:
        require_aligned(addresses, size, space)
        offsets = addresses.astype(int)
        limit = self.launch.shared if space == "shared" else self.launch.kernel.local
        require_inside(offsets, size, limit, space)
        if space == "shared":
            return self._shared, offsets + self._row[lanes]
        return self._local, offsets + np.arange(self.count)[lanes] * up(limit, ALIGNED)

    # ---- the order of execution ----

    def run(self) -> None:
        """Run until every thread waits at a barrier of its block, or has ended."""
        self.waiting[:] = -1
        while self._ready:
            at = min(self._ready)
            self._advance(at, self._ready.pop(at))
        if self._parked:
            at = min(self._parked)
            raise self._fault(at, "deadlock: not all threads of a warp come to it")

    def release(self) -> None:
        """Let the threads go on after the barrier; it orders their accesses."""
        for at in np.unique(self.waiting[self.waiting >= 0]):
            self._ready[int(at) + 1] = self.waiting == at
        self._stamps = self._stamps + 1

    def _put(self, at: int, mask: Array) -> None:
        self._ready[at] = self._ready[at] | mask if at in self._ready else mask

    def _advance(self, at: int, mask: Array) -> None:
        """Run threads from an index on, as long as it is the least."""
        counters, code = self.launch.counters, self.launch.kernel.code
        issued, acted = counters.issued, counters.acted
        limit = min(self._ready, default=math.inf)
        whole, warps = _extent(mask)
        while True:
            if at >= limit:
                if at > limit:
                    self._put(at, mask)  # others may be there, after a longer jump
                    return
                mask = mask | self._ready.pop(at)
                limit = min(self._ready, default=math.inf)
                whole, warps = _extent(mask)
            operation, instruction = self._code[at], code[at]
            if operation.together:
                mask = self._gathered(at, mask, operation)
                if mask is None:
                    return
                whole, warps = _extent(mask)
            issued[at] += warps
            acted[at] |= operation.jump is not None
            acting = None if whole else mask
            if instruction.guard is not None:
                guard = self.values[instruction.guard.index]
                acting = guard if instruction.sense else ~guard
                if not whole:
                    acting = acting & mask
                if not acting.any():
                    at += 1
                    continue
                if acting.all():
                    acting = None
            acted[at] = True
            if operation.step is not None:
                self._at = at
                try:
                    operation.step(self, acting)
                except Fault as fault:
                    raise self._fault(at, str(fault)) from None
            if operation.jump is None and not operation.ends:
                at += 1
                continue
            # All threads of `mask` leave, or some: those whose guard does not hold stay.
            if acting is None or acting is mask:
                rest = None
            else:
                rest = mask & ~acting
                if not rest.any():
                    rest = None
            if operation.ends:
                if rest is None:
                    return
                mask = rest
                whole, warps = _extent(mask)
                at += 1
            elif rest is None:
                at = operation.jump
            else:
                self._put(operation.jump, acting)
                self._put(at + 1, rest)
                return

    def _gathered(self, at: int, mask: Array, operation: Operation) -> Array | None:
        """Return the threads of whole warps that have come to an instruction; the others wait."""
        if self.launch.kernel.code[at].guard is not None:
            raise self._fault(at, "a guard before a synchronisation")
        if operation.together == "block":
            self.launch.counters.issued[at] += _extent(mask)[1]
            self.launch.counters.acted[at] = True
            self.waiting[mask] = at
            return None
        if at in self._parked:
            mask = mask | self._parked.pop(at)
        complete = np.repeat(mask.reshape(-1, WARP).all(1), WARP)
        if (rest := mask & ~complete).any():
            self._parked[at] = rest
        return complete if complete.any() else None

    def _fault(self, at: int, problem: str) -> Fault:
        kernel = self.launch.kernel
        return Fault(f"{kernel.name}, instruction {at}, {kernel.code[at].text!r}: {problem}")


def _extent(mask: Array) -> tuple[bool, int]:
    """Return whether all threads are in a mask, and how many warps it touches."""
    if mask.all():
        return True, mask.size // WARP
    return False, int(mask.reshape(-1, WARP).any(1).sum())
