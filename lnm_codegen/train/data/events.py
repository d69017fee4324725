"""Data sets of events: recordings, their frames, and the sets."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lnm_codegen.errors import ToolError
from lnm_codegen.files import DAMAGED_ARRAYS
from lnm_codegen.train.data.dataset import Augment, Dataset, Size, Source, Split, source_split
from lnm_codegen.train.data.images import DRAWS, roll
from lnm_codegen.train.data.store import (
    Store,
    class_files,
    damaged,
    interleaved,
    missing,
    open_stores,
    unequal_classes,
)
from lnm_codegen.validation import Accepted, Flag

# Recordings of event cameras in four file formats.
#
# | format | files | an event |
# | --- | --- | --- |
# | bin5 | N-MNIST, N-Caltech101: .bin, .bs2 | 5 bytes: x, y, polarity 1 bit, time 23 bits |
# | AEDAT 2.0 | CIFAR10-DVS: .aedat | address and time, big-endian 32 bits each |
# | AEDAT 3.1 | DVS-Gesture: .aedat | in packets: 32 bits of address, 32 of time, little-endian |
# | npz | SpikingJelly's files | arrays t, x, y, p |
#
# Times are in microseconds, polarity is 0 (darker) or 1 (brighter).


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


# Frames of events over time: counted when a batch first needs them, and then kept.


MAX_COUNT = 32767
Binning: TypeAlias = Annotated[Literal["count", "time"], Accepted()]
Side: TypeAlias = Annotated[int, Accepted(low=1, high=128)]
"""Pixels along a side of a frame of a camera of 128."""
Recording = Callable[[], Events]


def frames(
    events: Events, time_steps: int, size: int, binning: str, side: int | None = None
) -> NDArray[np.int16]:
    """Count events per slice, polarity and pixel: (T, 2, side, side), 32,767 at most.

    Args:
        events: Events in the order of time.
        time_steps: T.
        size: Pixels along a side of the camera.
        binning: "count" gives each slice the same number of events and the last one the remainder
            too, as SpikingJelly does; "time" gives each the same number of microseconds.
        side: Pixels along a side of a frame, `size` by default; a smaller frame sums pixels.
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
    return counts.clip(max=MAX_COUNT).astype(np.int16).reshape(shape)


@dataclass(frozen=True)
class Framing:
    """Conversion of the recordings of a set to frames.

    Attributes:
        name: Name of the set.
        time_steps: T.
        camera: Pixels along a side of the camera.
        size: Pixels along a side of a frame, at most `camera`.
        binning: "count" or "time", see `frames`.
        keep: Keep the frames in memory.
    """

    name: str
    time_steps: int
    camera: int
    size: int
    binning: str
    keep: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, 2, H, W)."""
        return (self.time_steps, 2, self.size, self.size)

    def split(
        self, recordings: Sequence[Recording], labels: Tensor, augment: Augment | None
    ) -> Split:
        """Return a split that reads recordings and counts their events when a batch needs them."""

        def count(rows: Tensor) -> Tensor:
            counts = torch.empty((len(rows), *self.shape), dtype=torch.int16)
            for k, row in enumerate(rows.tolist()):
                events = recordings[row]()
                found = frames(events, self.time_steps, self.camera, self.binning, self.size)
                counts[k] = torch.from_numpy(found)
            return counts

        source = cached(count, len(labels), self.shape) if self.keep else count
        return source_split(source, labels, augment)


def cached(source: Source, count: int, shape: tuple[int, ...]) -> Source:
    """Return a source that calls `source` once for each row and keeps its int16 frames."""
    cache = torch.empty((count, *shape), dtype=torch.int16)  # takes memory where it is written
    known = torch.zeros(count, dtype=torch.bool)

    def read(rows: Tensor) -> Tensor:
        new = torch.unique(rows[~known[rows]])
        if len(new):
            cache[new] = source(new)
            known[new] = True
        return cache[rows]

    return read


# Recordings of an event-camera set, in the usual layouts of its files.


Part = tuple[list[Recording], Tensor]
"""Recordings and their labels."""


def class_part(store: Store, groups: Sequence[Sequence[str]], camera: int) -> Part:
    """Return the recordings of a split from the files of each class."""
    paths, labels = interleaved(groups)
    return [_recording(store, path, camera) for path in paths], labels


def class_folders(
    store: Store, base: str, suffixes: Sequence[str], classes: int, camera: int
) -> tuple[Part, Part] | None:
    """Return the parts Train/<class>/ and Test/<class>/, or those in lower case, or None.

    Raises:
        ToolError: The class folders are not 0 to classes - 1.
    """
    for words in ((f"{base}Train/", f"{base}Test/"), (f"{base}train/", f"{base}test/")):
        train, test = (class_files(store, word, suffixes) for word in words)
        if train or test:
            labels = [str(label) for label in range(classes)]
            if not set(train) == set(test) == set(labels):
                accepted = f"folders 0 to {classes - 1} in both"
                raise unequal_classes(store.root, words, (train, test), accepted)
            return (
                class_part(store, [train[label] for label in labels], camera),
                class_part(store, [test[label] for label in labels], camera),
            )
    return None


def numbered(store: Store, base: str) -> tuple[Part, Part] | None:
    """Return the parts of N-MNIST in SLAYER's layout, or None.

    The layout has files <number>.bs2 and two lists of numbers and labels.
    """
    return _listed(store, base, ("train1K.txt", "test100.txt"), _numbered_part)


def _numbered_part(store: Store, base: str, path: str) -> Part:
    recordings, labels = [], []
    for line in _lines(store, path):
        found = re.fullmatch(r"(\d+)\s+(\d)", line)
        if found is None:
            raise ToolError(store.root / path, f"the line {line!r}", "a number and a label")
        recordings.append(_recording(store, f"{base}{found[1]}.bs2", 34))
        labels.append(int(found[2]))
    return recordings, torch.tensor(labels, dtype=torch.int64)


def trials(store: Store, base: str) -> tuple[Part, Part] | None:
    """Return the parts of DVS-Gesture, or None.

    A trial is a part of an .aedat file; a table beside the file gives its start and end.
    """
    return _listed(store, base, ("trials_to_train.txt", "trials_to_test.txt"), _trial_part)


def _trial_part(store: Store, base: str, path: str) -> Part:
    recordings: list[Recording] = []
    labels = []

    @lru_cache(maxsize=1)  # a file holds a dozen trials in a row
    def whole(name: str) -> Events:
        return read_events(store.read(base + name), str(store.root / (base + name)))

    def trial(name: str, span: tuple[int, int]) -> Events:
        return require_inside(whole(name).between(*span), 128, str(store.root / (base + name)))

    for name in _lines(store, path):
        table = f"{base}{name.removesuffix('.aedat')}_labels.csv"
        for line in _lines(store, table)[1:]:
            found = re.fullmatch(r"(\d+),(\d+),(\d+)", line.replace(" ", ""))
            if found is None or not 1 <= int(found[1]) <= 11:
                accepted = "class (1 to 11), start, end"
                raise ToolError(store.root / table, f"the line {line!r}", accepted)
            span = int(found[2]), int(found[3])
            recordings.append(partial(trial, name, span))
            labels.append(int(found[1]) - 1)
    return recordings, torch.tensor(labels, dtype=torch.int64)


def _listed(
    store: Store, base: str, names: tuple[str, str], read: Callable[[Store, str, str], Part]
) -> tuple[Part, Part] | None:
    """Return the parts that two list files name, or None without these files."""
    first, second = (f"{base}{name}" for name in names)
    if not (store.has(first) and store.has(second)):
        return None
    return read(store, base, first), read(store, base, second)


def _recording(store: Store, path: str, camera: int) -> Recording:
    where = str(store.root / path)
    return lambda: require_inside(read_events(store.read(path), where), camera, where)


def _lines(store: Store, path: str) -> list[str]:
    """Return the lines of a text file that are neither empty nor a comment."""
    lines = store.read(path).decode("utf-8", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


# Event-camera sets as frames over time, (T, 2, H, W).
#
# A batch reads its recordings, cuts them into slices and counts events. The frames are then kept in
# memory as 16-bit integers (`keep`), since counting can take longer than training. Channel 0 is OFF
# (darker), 1 is ON.


def n_mnist(
    folder: Path, limit: int | None = None, time_steps: Size = 10, binning: Binning = "count",
    keep: Flag = True,
) -> Dataset:  # fmt: skip
    """Return N-MNIST: digits before a moving event camera, 34 x 34. Augmented by rolling.

    The options are those of `Framing`; a sample takes 46 kB at T = 10. The folder holds Train/ and
    Test/ with a folder of .bin or .npz files per digit, or .bs2 files beside train1K.txt and
    test100.txt. It may be an archive of either.
    """
    framing = Framing("n-mnist", time_steps, 34, 34, binning, keep)
    bases = ("", "extract/", "events_np/", "NMNISTsmall/", "test/test_files/NMNISTsmall/")
    for store, base in _places(folder, bases, ("nmnist-small.tar.xz",)):
        parts = class_folders(store, base, (".bin", ".npz"), 10, 34) or numbered(store, base)
        if parts is not None:
            return _event_set(framing, *parts, 10, limit)
    layouts = (
        "Train/<digit>/*.bin and Test/<digit>/*.bin, in the folder or in extract/",
        "train/<digit>/*.npz and test/<digit>/*.npz, in the folder or in events_np/",
        "*.bs2 with train1K.txt and test100.txt, in the folder, in NMNISTsmall/ or in"
        " nmnist-small.tar.xz",
    )
    raise missing("n-mnist", folder, layouts)


def cifar10_dvs(
    folder: Path, limit: int | None = None, time_steps: Size = 10, binning: Binning = "count",
    size: Side = 128, keep: Flag = True, train_per_class: Size = 900,
) -> Dataset:  # fmt: skip
    """Return CIFAR10-DVS: moving CIFAR-10 images before an event camera, 128 x 128.

    There is no official split. As in most papers, the first 900 recordings of a class
    (`train_per_class`), by their numbers, are the training split and the rest the test split.
    Augmented by rolling and flipping. The other options are those of `Framing`; a sample takes
    655 kB at T = 10, and 92 kB at the usual size of 48. The folder holds a folder of .aedat or .npz
    files for each class.
    """
    framing = Framing("cifar10-dvs", time_steps, 128, size, binning, keep)
    for store, base in _places(folder, ("", "extract/", "events_np/")):
        groups = list(class_files(store, base, (".aedat", ".npz")).values())
        if len(groups) != 10:
            continue
        most = max(len(group) for group in groups)
        if most <= train_per_class:
            problem, accepted = (
                f"at most {most} recordings in a class",
                f"more than {train_per_class}",
            )
            remedy = "Get the whole set, or lower train_per_class."
            raise ToolError(folder, problem, accepted, remedy)
        train, test = (
            class_part(store, [group[part] for group in groups], 128)
            for part in (slice(None, train_per_class), slice(train_per_class, None))
        )
        return _event_set(framing, train, test, 10, limit, flip=True)
    layouts = (
        "ten folders <class>/*.aedat or <class>/*.npz, in the folder, in extract/ or in events_np/",
    )
    raise missing("cifar10-dvs", folder, layouts)


def dvs_gesture(
    folder: Path, limit: int | None = None, time_steps: Size = 16, binning: Binning = "count",
    size: Side = 128, keep: Flag = True,
) -> Dataset:  # fmt: skip
    """Return DVS-Gesture: 11 gestures before an event camera, 128 x 128. Augmented by rolling.

    trials_to_train.txt and trials_to_test.txt list the recordings, whose tables give the start and
    the end of each trial, the end excluded: 1,176 and 288 trials. The options are those of
    `Framing`; a sample takes 1 MB at T = 16. The folder holds these two lists, .aedat files and
    their _labels.csv; or train/ and test/ with a folder of .npz files for each class.
    """
    framing = Framing("dvs-gesture", time_steps, 128, size, binning, keep)
    for store, base in _places(folder, ("", "DvsGesture/", "extract/DvsGesture/", "events_np/")):
        parts = trials(store, base) or class_folders(store, base, (".npz",), 11, 128)
        if parts is not None:
            return _event_set(framing, *parts, 11, limit)
    layouts = (
        "trials_to_train.txt and trials_to_test.txt with the .aedat and _labels.csv files that they"
        " name, in the folder or in DvsGesture/",
        "train/<class>/*.npz and test/<class>/*.npz, in the folder or in events_np/",
    )
    raise missing("dvs-gesture", folder, layouts)


def _places(
    folder: Path, bases: Sequence[str], archives: Sequence[str] = ()
) -> Iterator[tuple[Store, str]]:
    """Yield each base of the folder, then those of each archive."""
    return ((store, base) for store in open_stores(folder, archives) for base in bases)


def _event_set(
    framing: Framing, train: Part, test: Part, classes: int, limit: int | None, flip: bool = False
) -> Dataset:
    first = framing.split(*train, roll(flip)).first(limit)
    second = framing.split(*test, None).first(limit)
    return Dataset(framing.name, first, second, classes, "sequence", framing.shape, draws=DRAWS)
