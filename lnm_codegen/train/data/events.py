"""Recordings of event cameras in four file formats.

| format | files | an event |
| --- | --- | --- |
| bin5 | N-MNIST, N-Caltech101: .bin, .bs2 | 5 bytes: x, y, polarity 1 bit, time 23 bits |
| AEDAT 2.0 | CIFAR10-DVS: .aedat | address and time, big-endian 32 bits each |
| AEDAT 3.1 | DVS-Gesture: .aedat | in packets: 32 bits of address, 32 of time, little-endian |
| npz | SpikingJelly's files | arrays t, x, y, p |

Times are in microseconds, polarity is 0 (darker) or 1 (brighter).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnm_codegen.errors import ToolError
from lnm_codegen.files import DAMAGED_ARRAYS
from lnm_codegen.train.data.store import damaged

Ints = NDArray[np.int64]

_DVS128 = 127
_AEDAT2, _AEDAT3 = b"#!AER-DAT2.0", b"#!AER-DAT3.1"
_PACKET = np.dtype(
    [("type", "<i2"), ("source", "<i2"), ("size", "<i4"), ("offset", "<i4"), ("overflow", "<i4"),
     ("capacity", "<i4"), ("number", "<i4"), ("valid", "<i4")]
)  # fmt: skip
_POLARITY, _POLARITY_BYTES = 1, 8
_LATEST = 2**48
"""Bound of times in microseconds, nine years: later ones mean damage, and overflow in `frames`."""


@dataclass(frozen=True, eq=False)
class Events:
    """Events in the order of the file: t in microseconds, x, y in pixels, p 0 or 1; all (n,)."""

    t: Ints
    x: Ints
    y: Ints
    p: Ints

    def __len__(self) -> int:
        return len(self.t)

    def between(self, start: int, end: int) -> Events:
        """Return the events with start <= t < end."""
        kept = (self.t >= start) & (self.t < end)
        return Events(self.t[kept], self.x[kept], self.y[kept], self.p[kept])


def read_bin5(raw: bytes, where: str) -> Events:
    """Return the events of a .bin or .bs2 file with content `raw` and name `where`.

    Raises:
        ToolError: The content is not a whole number of events.
    """
    if len(raw) % 5:
        raise damaged(where, f"{len(raw)} bytes", "a multiple of 5")
    b = np.frombuffer(raw, np.uint8).astype(np.int64).reshape(-1, 5)
    time = ((b[:, 2] & 127) << 16) | (b[:, 3] << 8) | b[:, 4]
    return Events(time, b[:, 0], b[:, 1], b[:, 2] >> 7)


def read_aedat2(raw: bytes, where: str) -> Events:
    """Return the events of an AEDAT 2.0 file of a DVS128 camera.

    Address bits 1 to 7 and 8 to 14 count pixels from the far end, and bit 0 is 1 for darker. The
    axes are those of SpikingJelly's CIFAR10-DVS, so that trained networks can be exchanged:

        x = 127 - bits 8 to 14,  y = 127 - bits 1 to 7,  p = 1 - bit 0
    """
    begin = _after_comments(raw)
    if not raw.startswith(_AEDAT2) or (len(raw) - begin) % 8:
        raise damaged(where, "not a whole AEDAT 2.0 file")
    words = np.frombuffer(raw, ">u4", offset=begin).astype(np.int64).reshape(-1, 2)
    address, time = words.T
    x, y = _DVS128 - ((address >> 8) & 127), _DVS128 - ((address >> 1) & 127)
    return Events(time, x, y, 1 - (address & 1))


def read_aedat3(raw: bytes, where: str) -> Events:
    """Return the valid polarity events of an AEDAT 3.1 file.

    A packet has a header of 28 bytes and space for `capacity` events of `size` bytes. The first
    word of an event has bit 0 valid, bit 1 polarity, bits 2 to 16 y, bits 17 to 31 x; the second
    has the low 31 bits of the time.
    """
    end = b"#!END-HEADER\r\n"
    begin = raw.find(end)
    if not raw.startswith(_AEDAT3) or begin < 0:
        raise damaged(where, "not an AEDAT 3.1 file")
    place, words, times = begin + len(end), [], []
    while place < len(raw):
        start, place = place, place + _PACKET.itemsize
        head = np.frombuffer(raw[start:place].ljust(_PACKET.itemsize, b"\0"), _PACKET)[0]
        size, number, capacity = (int(head[word]) for word in ("size", "number", "capacity"))
        if size <= 0 or not 0 <= number <= capacity or place + size * capacity > len(raw):
            raise damaged(where, f"the packet at byte {start} is cut off")
        if head["type"] == _POLARITY and size == _POLARITY_BYTES:
            pair = np.frombuffer(raw, "<u4", 2 * number, place).astype(np.int64).reshape(-1, 2)
            pair = pair[(pair[:, 0] & 1) == 1]
            words.append(pair[:, 0])
            times.append(pair[:, 1] | int(head["overflow"]) << 31)
        place += size * capacity
    none = np.empty(0, np.int64)
    word, time = np.concatenate([none, *words]), np.concatenate([none, *times])
    return Events(time, word >> 17, (word >> 2) & 0x7FFF, (word >> 1) & 1)


def read_npz(raw: bytes, where: str) -> Events:
    """Return the events of an .npz file with arrays t, x, y and p, without unpickling."""
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            parts: list[Any] = [np.asarray(arrays[key]) for key in "txyp"]
    except (KeyError, IndexError, AttributeError, TypeError):
        raise damaged(where, "no arrays t, x, y, p in it") from None
    except (OSError, *DAMAGED_ARRAYS) as error:
        raise damaged(where, error) from None
    if len({part.shape for part in parts}) != 1 or parts[0].ndim != 1:
        raise ToolError(where, "t, x, y and p differ in shape", "(n,) for each of them")
    for word, part in zip("txyp", parts, strict=True):
        if part.dtype.kind not in "biu" and not _are_whole(part):
            raise ToolError(where, f"{word} holds other values", "integers")
    return Events(*(part.astype(np.int64) for part in parts))


def _are_whole(values: NDArray[Any]) -> bool:
    """Report whether all are integers, stored as floats, that an int64 holds."""
    if values.dtype.kind != "f":
        return False
    return bool((np.abs(values) < _LATEST).all() and (values == np.rint(values)).all())


def read_events(raw: bytes, where: str) -> Events:
    """Return the events of a file; its name and first line determine the format."""
    suffix = PurePath(where).suffix.lower()
    if suffix == ".npz":
        return read_npz(raw, where)
    if suffix == ".aedat":
        return (read_aedat3 if raw.startswith(_AEDAT3) else read_aedat2)(raw, where)
    return read_bin5(raw, where)


def require_inside(events: Events, size: int, where: str) -> Events:
    """Return the events, or raise ToolError if one lies outside a camera of `size` pixels."""
    most = (("x", events.x, size), ("y", events.y, size), ("p", events.p, 2))
    for word, values, top in (*most, ("t", events.t, _LATEST)):
        if len(values) and not 0 <= values.min() <= values.max() < top:
            problem = f"{word} ranges from {values.min()} to {values.max()}"
            raise ToolError(where, problem, f"0 to {top - 1}")
    return events


def _after_comments(raw: bytes) -> int:
    place = 0
    while raw[place : place + 1] == b"#":
        place = raw.find(b"\n", place) + 1 or len(raw)
    return place
