"""Memory of a GPU: allocations with gaps between them, and races on their bytes.

Addresses are made up: an allocation is the middle of a region of 1 TiB, so that an access beyond it
never hits another. A freed region is not used again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray

REGION = 40
"""Bits of an address within a region."""
MIDDLE = 1 << (REGION - 1)
ALIGNMENT = 256
"""Bytes; the address of an allocation has the remainder of the memory that it stands for."""

SEVERAL = (1 << 20) - 1
"""In place of a warp: several warps of the block."""


class Fault(Exception):
    """A kernel does what it must not do, or what is not defined."""


class Races:
    """Who read and wrote each byte; raises where two accesses have no order.

    Within a block a barrier orders accesses. Between blocks of a launch nothing does. A warp has an
    order of its own: its threads are taken to run in step.
    """

    def __init__(self, size: int) -> None:
        self._written = np.full(size, -1, np.int64)
        self._read = np.full(size, -1, np.int64)
        self._added = np.zeros(size, bool)

    def read(self, index: Array, stamps: Array) -> None:
        """Note loads: `index` (accesses, bytes) by `stamps` (accesses, 1)."""
        self._require(self._written[index], stamps, "reads what another warp wrote")
        before = self._read[index]
        self._read[index] = stamps
        # Of several readers, of this instruction or since the barrier, a mark remains.
        for other in (before, self._read[index]):
            if (crowd := _unordered(other, stamps)).any():
                same = _block(other) == _block(stamps)
                mark = np.where(same, stamps | (SEVERAL << 20), np.int64(-2))
                self._read[index[crowd]] = mark[crowd]

    def write(self, index: Array, stamps: Array, adds: bool = False) -> None:
        """Note stores, or integer additions, whose order changes nothing."""
        for table, verb in ((self._written, "wrote"), (self._read, "read")):
            before = table[index]
            if adds and verb == "wrote":
                before = np.where(self._added[index], -1, before)
            self._require(before, stamps, f"writes what another warp {verb}")
        self._written[index] = stamps
        self._added[index] = adds
        if not adds:
            self._require(self._written[index], stamps, "writes what another warp writes")

    @staticmethod
    def _require(before: Array, stamps: Array, problem: str) -> None:
        if (wrong := _unordered(before, stamps)).any():
            other = before[wrong]
            same = other == -2
            same |= _block(other) == _block(np.broadcast_to(stamps, before.shape)[wrong])
            where = "since the last barrier" if same.all() else "of another block"
            raise Fault(f"race: {problem} {where}")


def stamp(block: Array, warp: Array, epoch: Array) -> Array:
    """Return what identifies a warp between two barriers."""
    return block.astype(np.int64) << 40 | warp.astype(np.int64) << 20 | epoch.astype(np.int64)


def _block(stamps: Array) -> Array:
    return stamps >> 40


def _unordered(before: Array, stamps: Array) -> Array:
    """Report whether accesses before these, -1 for none, are by others and have no order."""
    same_block = _block(before) == _block(stamps)
    same_epoch = (before ^ stamps) & ((1 << 20) - 1) == 0
    return (before != -1) & (before != stamps) & (~same_block | same_epoch)


@dataclass
class Allocation:
    """Bytes at an address; `data` is the memory itself."""

    data: Array
    address: int = 0
    races: Races | None = None

    def load(self, index: Array, stamps: Array) -> Array:
        """Return the bytes (accesses, bytes) at an index of this shape."""
        if self.races is not None:
            self.races.read(index, stamps)
        return self.data[index]

    def store(self, index: Array, raw: Array, stamps: Array) -> None:
        """Write bytes, as `load` reads them."""
        if self.races is not None:
            self.races.write(index, stamps)
        self.data[index] = raw
        if (self.data[index] != raw).any():
            raise Fault("race: two threads of one instruction write different values to one byte")


@dataclass
class Memory:
    """Global memory: allocations by address."""

    allocations: list[Allocation | None] = field(default_factory=lambda: [None])
    _known: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, array: Array) -> int:
        """Return the address of an array's memory; the same memory has one address."""
        if not array.flags.c_contiguous:
            raise ValueError("an array with gaps")
        data = array.reshape(-1).view(np.uint8)
        key = (data.ctypes.data, data.size)
        if key not in self._known:
            base = (len(self.allocations) << REGION) + MIDDLE + data.ctypes.data % ALIGNMENT
            self._known[key] = base
            self.allocations.append(Allocation(data, base))
        return self._known[key]

    def free(self, address: int) -> None:
        """Forget the memory at an address; an access raises from now on."""
        self.allocations[address >> REGION] = None
        self._known = {key: known for key, known in self._known.items() if known != address}

    def begin(self, races: bool) -> None:
        """Begin a launch: what was before it has an order."""
        for one in self.allocations:
            if one is not None:
                one.races = Races(one.data.size) if races else None

    def load(self, addresses: Array, size: int, stamps: Array) -> Array:
        """Return the bytes (accesses, bytes) at addresses."""
        raw = np.empty((addresses.size, size), np.uint8)
        for one, lanes, index in self._located(addresses, size):
            raw[lanes] = one.load(index, stamps[lanes, None])
        return raw

    def store(self, addresses: Array, raw: Array, stamps: Array) -> None:
        """Write bytes, as `load` reads them."""
        for one, lanes, index in self._located(addresses, raw.shape[1]):
            one.store(index, raw[lanes], stamps[lanes, None])

    def add_each(self, addresses: Array, values: Array, stamps: Array) -> Array:
        """Add to numbers one after another, as atomics do; return what each found.

        Raises:
            Fault: The sum depends on the order: an addend is not whole, or a sum is too large.
        """
        found, is_real = np.empty_like(values), values.dtype.kind == "f"
        if is_real and (values != np.rint(values)).any():
            raise Fault("an atomic sum of numbers that are not whole depends on the order")
        for one, lanes, index in self._located(addresses, values.dtype.itemsize):
            if one.races is not None:
                one.races.write(index, stamps[lanes, None], adds=True)
            for k, place in zip(np.arange(addresses.size)[lanes], index, strict=True):
                number = one.data[place].view(values.dtype)
                found[k], total = number[0], number + values[k]
                if is_real and abs(total[0]) > 2.0 ** np.finfo(values.dtype).nmant:
                    raise Fault("an atomic sum beyond the whole numbers of its type")
                one.data[place] = total.view(np.uint8)
        return found

    def _located(
        self, addresses: Array, size: int
    ) -> list[tuple[Allocation, Array | slice, Array]]:
        """Return the allocations with their accesses and the (accesses, bytes) indices in them."""
        require_aligned(addresses, size, "global")
        regions = addresses >> np.uint64(REGION)
        if (regions == regions[0]).all():
            return [self._in(int(regions[0]), addresses, size, slice(None))]
        return [
            self._in(int(region), addresses[lanes], size, lanes)
            for region in np.unique(regions)
            for lanes in [np.nonzero(regions == region)[0]]
        ]

    def _in(
        self, region: int, addresses: Array, size: int, lanes: Array | slice
    ) -> tuple[Allocation, Array | slice, Array]:
        one = self.allocations[region] if region < len(self.allocations) else None
        if one is None:
            was = 0 < region < len(self.allocations)
            where = "freed memory" if was else f"no allocation, at {int(addresses[0]):#x}"
            raise Fault(f"global access to {where}")
        offsets = addresses.astype(np.int64) - one.address
        return one, lanes, indices(offsets, size, one.data.size, "global")


def indices(offsets: Array, size: int, limit: int, space: str) -> Array:
    """Return the indices (accesses, bytes) of accesses of `size` bytes, or raise Fault."""
    lowest, highest = offsets.min(), offsets.max()
    if lowest < 0 or highest + size > limit:
        worst = lowest if lowest < 0 else highest
        raise Fault(f"{space} access of {size} bytes at byte {worst} of {limit}")
    return offsets[:, None] + np.arange(size)


def require_aligned(addresses: Array, size: int, space: str) -> None:
    """Raise Fault for an address that is no multiple of the bytes of its access."""
    if (addresses & addresses.dtype.type(size - 1)).any():
        raise Fault(f"misaligned {space} access of {size} bytes")
