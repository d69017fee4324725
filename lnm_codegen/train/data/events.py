"""Recordings of event cameras: the file formats, and frames made of events.

| format | files | an event |
| --- | --- | --- |
| bin5 | N-MNIST, N-Caltech101: .bin, .bs2 | 5 bytes: x, y, polarity 1 bit, time 23 bits |
| AEDAT 2.0 | CIFAR10-DVS: .aedat | address and time, big-endian 32 bits each |
| AEDAT 3.1 | DVS-Gesture: .aedat | in packets: 32 bits of address, 32 of time, little-endian |
| npz | what SpikingJelly writes | arrays t, x, y, p |

Times are in microseconds, polarity is 0 (darker) or 1 (brighter).
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnm_codegen.errors import ToolError

Ints = NDArray[np.int64]

_DVS128 = 127
_AEDAT2, _AEDAT3 = b"#!AER-DAT2.0", b"#!AER-DAT3.1"
_PACKET = np.dtype(
    [("type", "<i2"), ("source", "<i2"), ("size", "<i4"), ("offset", "<i4"), ("overflow", "<i4"),
     ("capacity", "<i4"), ("number", "<i4"), ("valid", "<i4")]
)  # fmt: skip
_POLARITY, _POLARITY_BYTES = 1, 8
_MOST = 32767
_LATEST = 2**48
"""Microseconds, nine years: later times are a damaged file's, and would overflow in `frames`."""


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
        """Return those with start <= t < end."""
        kept = (self.t >= start) & (self.t < end)
        return Events(self.t[kept], self.x[kept], self.y[kept], self.p[kept])


def frames(
    events: Events, time_steps: int, size: int, binning: str, side: int | None = None
) -> NDArray[np.int16]:
    """Count events per slice, polarity and pixel: (T, 2, side, side), 32,767 at most.

    Args:
        events: In the order of time.
        time_steps: T.
        size: Pixels along a side of the camera.
        binning: "count" gives each slice as many events and the last what is left, as SpikingJelly
            does; "time" gives each as many microseconds.
        side: Pixels along a side of a frame: `size` by default; fewer sum what falls together.
    """
    side = size if side is None else side
    shape = (time_steps, 2, side, side)
    if not len(events):
        return np.zeros(shape, np.int16)
    if binning == "count":
        share = max(len(events) // time_steps, 1)
        slices = np.minimum(np.arange(len(events)) // share, time_steps - 1)
    else:
        since = events.t - events.t.min()
        slices = since * time_steps // (since.max() + 1)
    place = (slices, events.p, events.y * side // size, events.x * side // size)
    counts = np.bincount(np.ravel_multi_index(place, shape), minlength=math.prod(shape))
    return counts.clip(max=_MOST).astype(np.int16).reshape(shape)


def read_bin5(raw: bytes, where: str) -> Events:
    """Return the events of a .bin or .bs2 file.

    Args:
        raw: Its content.
        where: Its name, for messages.

    Raises:
        ToolError: It is not a whole number of events.
    """
    if len(raw) % 5:
        raise ToolError(
            where, f"{len(raw)} bytes", remedy="Expected a multiple of 5. Get the file again."
        )
    b = np.frombuffer(raw, np.uint8).astype(np.int64).reshape(-1, 5)
    time = ((b[:, 2] & 127) << 16) | (b[:, 3] << 8) | b[:, 4]
    return Events(time, b[:, 0], b[:, 1], b[:, 2] >> 7)


def read_aedat2(raw: bytes, where: str) -> Events:
    """Return the events of an AEDAT 2.0 file of a DVS128 camera.

    Address bits 1 to 7 and 8 to 14 count pixels from the far end and bit 0 is 1 for darker. Axes
    are those that SpikingJelly gives CIFAR10-DVS, so that trained networks can be exchanged:

        x = 127 - bits 8 to 14,  y = 127 - bits 1 to 7,  p = 1 - bit 0
    """
    begin = _after_comments(raw)
    if not raw.startswith(_AEDAT2) or (len(raw) - begin) % 8:
        raise ToolError(where, "not a whole AEDAT 2.0 file", remedy="Get the file again.")
    words = np.frombuffer(raw, ">u4", offset=begin).astype(np.int64).reshape(-1, 2)
    address, time = words.T
    x, y = _DVS128 - ((address >> 8) & 127), _DVS128 - ((address >> 1) & 127)
    return Events(time, x, y, 1 - (address & 1))


def read_aedat3(raw: bytes, where: str) -> Events:
    """Return the polarity events of an AEDAT 3.1 file, those marked invalid left out.

    A packet has a header of 28 bytes and room for `capacity` events of `size` bytes. An event's
    first word is bit 0 valid, bit 1 polarity, bits 2 to 16 y, bits 17 to 31 x; its second the low
    31 bits of the time.
    """
    end = b"#!END-HEADER\r\n"
    begin = raw.find(end)
    if not raw.startswith(_AEDAT3) or begin < 0:
        raise ToolError(where, "not an AEDAT 3.1 file", remedy="Get the file again.")
    place, words, times = begin + len(end), [], []
    while place < len(raw):
        start, place = place, place + _PACKET.itemsize
        head = np.frombuffer(raw[start:place].ljust(_PACKET.itemsize, b"\0"), _PACKET)[0]
        size, number, room = (int(head[word]) for word in ("size", "number", "capacity"))
        if size <= 0 or not 0 <= number <= room or place + size * room > len(raw):
            raise ToolError(
                where, f"the packet at byte {start} is cut off", remedy="Get the file again."
            )
        if head["type"] == _POLARITY and size == _POLARITY_BYTES:
            pair = np.frombuffer(raw, "<u4", 2 * number, place).astype(np.int64).reshape(-1, 2)
            pair = pair[(pair[:, 0] & 1) == 1]
            words.append(pair[:, 0])
            times.append(pair[:, 1] | int(head["overflow"]) << 31)
        place += size * room
    none = np.empty(0, np.int64)
    word, time = np.concatenate([none, *words]), np.concatenate([none, *times])
    return Events(time, word >> 17, (word >> 2) & 0x7FFF, (word >> 1) & 1)


def read_npz(raw: bytes, where: str) -> Events:
    """Return the events of an .npz file with arrays t, x, y and p. Nothing in it is unpickled."""
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            parts: list[Any] = [np.asarray(arrays[key]) for key in "txyp"]
    except (KeyError, IndexError, AttributeError, TypeError):
        raise ToolError(where, "no arrays t, x, y, p in it", remedy="Get the file again.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError,
            RuntimeError) as error:  # fmt: skip
        said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ToolError(where, f"cannot be read: {said}", remedy="Get the file again.") from None
    if len({part.shape for part in parts}) != 1 or parts[0].ndim != 1:
        raise ToolError(
            where, "t, x, y and p have other shapes", remedy="Expected (n,), all of them."
        )
    whole = [part.dtype.kind in "biu" or _are_whole(part) for part in parts]
    if not all(whole):
        raise ToolError(where, f"{'txyp'[whole.index(False)]} holds no whole numbers")
    return Events(*(part.astype(np.int64) for part in parts))


def _are_whole(values: NDArray[Any]) -> bool:
    """Say whether all are whole numbers that an int64 holds, written as floats."""
    if values.dtype.kind != "f":
        return False
    return bool((np.abs(values) < _LATEST).all() and (values == np.rint(values)).all())


def read_events(raw: bytes, where: str) -> Events:
    """Return the events of a file in any of the formats, told by its name and its first line."""
    suffix = PurePath(where).suffix.lower()
    if suffix == ".npz":
        return read_npz(raw, where)
    if suffix == ".aedat":
        return (read_aedat3 if raw.startswith(_AEDAT3) else read_aedat2)(raw, where)
    return read_bin5(raw, where)


def check_inside(events: Events, size: int, where: str) -> Events:
    """Return the events, or raise ToolError if one lies outside a camera of `size` pixels."""
    most = (("x", events.x, size), ("y", events.y, size), ("p", events.p, 2))
    for word, values, top in (*most, ("t", events.t, _LATEST)):
        if len(values) and not 0 <= values.min() <= values.max() < top:
            raise ToolError(
                where, f"{word} goes from {values.min()} to {values.max()}", f"0 to {top - 1}"
            )
    return events


def _after_comments(raw: bytes) -> int:
    place = 0
    while raw[place : place + 1] == b"#":
        place = raw.find(b"\n", place) + 1 or len(raw)
    return place
