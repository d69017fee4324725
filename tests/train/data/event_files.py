"""Small event-camera recordings for tests, in each format, and the sets made of them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from lnm_codegen.train.data.events import Events


def some_events(count: int, size: int, seed: int = 0, last: int = 300_000) -> Events:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, last, count))
    x, y, p = (rng.integers(0, top, count) for top in (size, size, 2))
    return Events(t, x, y, p)


def bin5(events: Events) -> bytes:
    """Return an event as x, y, then polarity and time in 24 bits, big-endian."""
    return b"".join(
        bytes([x, y]) + ((int(p) << 23) | int(t)).to_bytes(3, "big")
        for t, x, y, p in zip(events.t, events.x, events.y, events.p, strict=True)
    )


def aedat2(events: Events) -> bytes:
    """Return what the camera of CIFAR10-DVS writes for events in SpikingJelly's axes."""
    head = b"#!AER-DAT2.0\r\n# a comment\r\n"
    return head + b"".join(
        struct.pack(">II", ((127 - x) << 8) | ((127 - y) << 1) | (1 - p), t)
        for t, x, y, p in zip(events.t, events.x, events.y, events.p, strict=True)
    )


def aedat3(events: Events, packet: int = 7, invalid: int = 0) -> bytes:
    """Return packets of polarity events, one of special events after each, and `invalid` events."""
    parts = [b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"]
    words = [
        struct.pack("<II", (int(x) << 17) | (int(y) << 2) | (int(p) << 1) | 1, int(t) & (2**31 - 1))
        for t, x, y, p in zip(events.t, events.x, events.y, events.p, strict=True)
    ]
    overflow = int(events.t[0]) >> 31 if len(events) else 0
    words += [struct.pack("<II", 5 << 17, 0)] * invalid
    for k in range(0, len(words), packet):
        some = words[k : k + packet]
        n = len(some)
        parts += [struct.pack("<HHIIIIII", 1, 0, 8, 4, overflow, n, n, n), *some]
        parts += [struct.pack("<HHIIIIII", 0, 0, 8, 4, 0, 1, 1, 1), bytes(8)]
    return b"".join(parts)


def write_npz(path: Path, events: Events) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, t=events.t, x=events.x, y=events.y, p=events.p)


def write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_gestures(folder: Path) -> dict[str, tuple[Events, int]]:
    """Write two .aedat files of three trials each; return the events and label of each trial."""
    made = {}
    for k, (word, name) in enumerate((("train", "user01_lab"), ("test", "user02_led"))):
        events = some_events(900, 128, seed=k)
        write_bytes(folder / f"{name}.aedat", aedat3(events, packet=100))
        rows = ["class,startTime_usec,endTime_usec"]
        for trial, (start, end) in enumerate(((0, 90_000), (90_000, 200_000), (250_000, 290_000))):
            label = 1 + 5 * trial
            rows.append(f"{label},{start},{end}")
            made[f"{word}{trial}"] = (events.between(start, end), label - 1)
        (folder / f"{name}_labels.csv").write_text("\r\n".join(rows) + "\r\n", newline="")
        (folder / f"trials_to_{word}.txt").write_text(f"{name}.aedat\n\n")
    return made
