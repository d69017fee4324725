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

ALIGNED = 16
"""Bytes of the largest access."""
SEVERAL = (1 << 20) - 1
"""In place of a warp: several warps of the block."""
NOBODY, BLOCKS = np.int64(-1), np.int64(-2)
"""In place of a stamp: no access, and accesses of several blocks."""


class Fault(Exception):
    """A kernel does what it must not do, or what is not defined."""


class Races:
    """Who read and wrote each byte; raises where two accesses have no order.

    Within a block a barrier orders accesses. Between blocks of a launch nothing does. A warp has an
    order of its own: its threads are taken to run in step.

    Notes are kept for granules, of which an access is one or more: 16 bytes at first, and as few as
    the smallest access has.

    Args:
        size: Bytes.
        lead: The remainder of their address.
        alike: True if several warps may write the same value to a byte, as Triton's do in shared
            memory where a tile is smaller than a block.
    """

    def __init__(self, size: int, lead: int = 0, alike: bool = False) -> None:
        self.alike = alike
        self._granule, self._lead = ALIGNED, lead % ALIGNED
        count = -(-(size + self._lead) // ALIGNED)
        self._written = np.full(count, NOBODY)
        self._read = np.full(count, NOBODY)
        self._added = np.zeros(count, bool)

    def read(self, offsets: Array, size: int, stamps: Array) -> None:
        """Note loads of `size` bytes at aligned offsets, by the warps that `stamps` name."""
        index, stamps = self._granules(offsets, size, stamps)
        self._require(self._written[index], stamps, "reads what another warp wrote")
        before = self._read[index]
        self._read[index] = stamps
        # Of several readers, since the barrier or of this instruction, a mark remains.
        for other in (before, self._read[index]):
            crowd = _unordered(other, stamps)
            if crowd.any():
                other, mine = other[crowd], stamps[crowd]
                same = _block(other) == _block(mine)
                self._read[index[crowd]] = np.where(same, mine | (SEVERAL << 20), BLOCKS)

    def write(
        self,
        offsets: Array,
        size: int,
        stamps: Array,
        adds: bool = False,
        same: Array | None = None,
    ) -> None:
        """Note stores, or integer additions, whose order changes nothing.

        `same` marks stores of what is there already; the caller compares those of one instruction.
        """
        index, stamps = self._granules(offsets, size, stamps)
        wrote = self._written[index]
        if adds:
            wrote = np.where(self._added[index], NOBODY, wrote)
        if same is not None:
            wrote = np.where(np.repeat(same, len(index) // len(same)), NOBODY, wrote)
        self._require(wrote, stamps, "writes what another warp wrote")
        self._require(self._read[index], stamps, "writes what another warp read")
        self._written[index] = stamps
        self._added[index] = adds
        if not adds and same is None:
            self._require(self._written[index], stamps, "writes what another warp writes")

    def _granules(self, offsets: Array, size: int, stamps: Array) -> tuple[Array, Array]:
        """Return the granules of accesses, one after another, and the stamp of each."""
        if size < self._granule:
            parts, self._granule = self._granule // size, size
            self._written, self._read, self._added = (
                np.repeat(table, parts) for table in (self._written, self._read, self._added)
            )
        first, count = (offsets + self._lead) // self._granule, size // self._granule
        if count == 1:
            return first, stamps
        return (first[:, None] + np.arange(count)).reshape(-1), np.repeat(stamps, count)

    @staticmethod
    def _require(before: Array, stamps: Array, problem: str) -> None:
        wrong = _unordered(before, stamps)
        if wrong.any():
            same = _block(before[wrong]) == _block(stamps[wrong])
            where = "since the last barrier" if same.all() else "of another block"
            raise Fault(f"race: {problem} {where}")


def stamp(block: Array, warp: Array, epoch: Array) -> Array:
    """Return what identifies a warp between two barriers."""
    return block.astype(np.int64) << 40 | warp.astype(np.int64) << 20 | epoch.astype(np.int64)


def _block(stamps: Array) -> Array:
    return stamps >> 40


def _unordered(before: Array, stamps: Array) -> Array:
    """Report whether accesses before these are by others and have no order."""
    others = (before != stamps) & (before != NOBODY)
    if not others.any():
        return others
    same_block = _block(before) == _block(stamps)
    same_epoch = (before ^ stamps) & ((1 << 20) - 1) == 0
    return others & (~same_block | same_epoch)


@dataclass
class Allocation:
    """Bytes at an address; `data` is the memory itself.

    `coming` marks each word of 4 bytes that a copy will write which nobody has waited for.
    """

    data: Array
    address: int = 0
    races: Races | None = None
    coming: Array | None = None

    def load(self, offsets: Array, size: int, stamps: Array) -> Array:
        """Return the bytes (accesses, size) at aligned offsets."""
        self._require_here(offsets, size)
        if self.races is not None:
            self.races.read(offsets, size, stamps)
        view, index = self._units(offsets, size)
        return view[index].view(np.uint8)

    def store(self, offsets: Array, raw: Array, stamps: Array) -> None:
        """Write bytes (accesses, size)."""
        size = raw.shape[1]
        self._require_here(offsets, size)
        view, index = self._units(offsets, size)
        units = np.ascontiguousarray(raw).view(view.dtype)
        if self.races is not None:
            same = (view[index] == units).all(1) if self.races.alike else None
            self.races.write(offsets, size, stamps, same=same)
        view[index] = units
        if (view[index] != units).any():
            raise Fault("race: two threads of one instruction write different values to one byte")

    def begin_copy(self, offsets: Array, size: int, stamps: Array) -> None:
        """Note that a copy may write from now on; until its end nobody may access these bytes."""
        if self.races is not None:
            self.races.write(offsets, size, stamps)
        if self.coming is None:
            self.coming = np.zeros(-(-self.data.size // 4), bool)
        self._require_here(offsets, size)
        self.coming[_words(offsets, size)] = True

    def end_copy(self, offsets: Array, raw: Array, stamps: Array) -> None:
        """Write the bytes of a copy."""
        assert self.coming is not None
        self.coming[_words(offsets, raw.shape[1])] = False
        self.store(offsets, raw, stamps)

    def _require_here(self, offsets: Array, size: int) -> None:
        if self.coming is not None and self.coming[_words(offsets, size)].any():
            raise Fault("an access to bytes of a copy that was not waited for")

    def _units(self, offsets: Array, size: int) -> tuple[Array, Array]:
        """Return the memory as units, and the units (accesses, units) of each access."""
        unit = min(size, 8)
        if self.address % unit:
            unit = 1
        view = self.data[: self.data.size // unit * unit].view(f"u{unit}")
        return view, (offsets // unit)[:, None] + np.arange(size // unit)


def _words(offsets: Array, size: int) -> Array:
    """Return the words of 4 bytes of each access."""
    return offsets[:, None] // 4 + np.arange(-(-size // 4))


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
                one.races = Races(one.data.size, one.address) if races else None

    def load(self, addresses: Array, size: int, stamps: Array) -> Array:
        """Return the bytes (accesses, bytes) at addresses."""
        raw = np.empty((addresses.size, size), np.uint8)
        for one, lanes, offsets in self._located(addresses, size):
            raw[lanes] = one.load(offsets, size, stamps[lanes])
        return raw

    def store(self, addresses: Array, raw: Array, stamps: Array) -> None:
        """Write bytes, as `load` reads them."""
        for one, lanes, offsets in self._located(addresses, raw.shape[1]):
            one.store(offsets, raw[lanes], stamps[lanes])

    def add_each(self, addresses: Array, values: Array, stamps: Array) -> Array:
        """Add to numbers one after another, as atomics do; return what each found.

        Raises:
            Fault: The sum depends on the order: an addend is not whole, or a sum is too large.
        """
        found, is_real = np.empty_like(values), values.dtype.kind == "f"
        if is_real and (values != np.rint(values)).any():
            raise Fault("an atomic sum of numbers that are not whole depends on the order")
        size = values.dtype.itemsize
        for one, lanes, offsets in self._located(addresses, size):
            if one.races is not None:
                one.races.write(offsets, size, stamps[lanes], adds=True)
            for k, offset in zip(np.arange(addresses.size)[lanes], offsets, strict=True):
                number = one.data[offset : offset + size].view(values.dtype)
                found[k], total = number[0], number + values[k]
                if is_real and abs(total[0]) > 2.0 ** np.finfo(values.dtype).nmant:
                    raise Fault("an atomic sum beyond the whole numbers of its type")
                number[:] = total
        return found

    def _located(
        self, addresses: Array, size: int
    ) -> list[tuple[Allocation, Array | slice, Array]]:
        """Return the allocations with their accesses and the offsets in them."""
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
        require_inside(offsets, size, one.data.size, "global")
        return one, lanes, offsets


def require_inside(offsets: Array, size: int, limit: int, space: str) -> None:
    """Raise Fault for an access of `size` bytes that is not within `limit` bytes."""
    lowest, highest = offsets.min(), offsets.max()
    if lowest < 0 or highest + size > limit:
        worst = lowest if lowest < 0 else highest
        raise Fault(f"{space} access of {size} bytes at byte {worst} of {limit}")


def require_aligned(addresses: Array, size: int, space: str) -> None:
    """Raise Fault for an address that is no multiple of the bytes of its access."""
    if (addresses & addresses.dtype.type(size - 1)).any():
        raise Fault(f"misaligned {space} access of {size} bytes")
