"""Where the recordings of an event-camera set are, in the layouts people have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache, partial

import torch
from torch import Tensor

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data.events import Events, check_inside, read_events
from lnm_codegen.train.data.framing import Recording
from lnm_codegen.train.data.store import Store, class_files, interleaved

Part = tuple[list[Recording], Tensor]
"""Recordings and their labels."""


def class_part(store: Store, groups: Sequence[Sequence[str]], camera: int) -> Part:
    """Return the recordings of a split from the files of each class."""
    paths, labels = interleaved(groups)
    return [_recording(store, path, camera) for path in paths], labels


def class_folders(
    store: Store, base: str, suffixes: Sequence[str], classes: int, camera: int
) -> tuple[Part, Part] | None:
    """Find Train/<class>/ and Test/<class>/, or the same in lower case; classes are numbers.

    Raises:
        ToolError: There are some, but not as many classes as there should be.
    """
    for words in (("Train/", "Test/"), ("train/", "test/")):
        train, test = (class_files(store, base + word, suffixes) for word in words)
        if not train and not test:
            continue
        wanted = {str(label) for label in range(classes)}
        if set(train) != wanted or set(test) != wanted:
            raise ToolError(
                store.root,
                (
                    f"{len(train)} folders with recordings in {base}{words[0]} and {len(test)} in "
                    f"{base}{words[1]}"
                ),
                remedy=f"Expected those of classes 0 to {classes - 1}.",
            )
        order = sorted(wanted, key=int)
        return (
            class_part(store, [train[label] for label in order], camera),
            class_part(store, [test[label] for label in order], camera),
        )
    return None


def numbered(store: Store, base: str) -> tuple[Part, Part] | None:
    """Find <number>.bs2 of N-MNIST with two lists of numbers and labels, as SLAYER has them."""
    lists = [f"{base}train1K.txt", f"{base}test100.txt"]
    if not all(store.has(path) for path in lists):
        return None
    train, test = (_numbered_part(store, base, path) for path in lists)
    return train, test


def _numbered_part(store: Store, base: str, path: str) -> Part:
    recordings, labels = [], []
    for line in _lines(store, path):
        found = re.fullmatch(r"(\d+)\s+(\d)", line)
        if found is None:
            raise ToolError(
                store.root / path, f"line {line!r}", remedy="Expected a number and a label."
            )
        recordings.append(_recording(store, f"{base}{found[1]}.bs2", 34))
        labels.append(int(found[2]))
    return recordings, torch.tensor(labels, dtype=torch.int64)


def trials(store: Store, base: str) -> tuple[Part, Part] | None:
    """Find the trials of DVS-Gesture: parts of .aedat files, cut where a table of each says."""
    lists = [f"{base}trials_to_train.txt", f"{base}trials_to_test.txt"]
    if not all(store.has(path) for path in lists):
        return None
    train, test = (_trial_part(store, base, path) for path in lists)
    return train, test


def _trial_part(store: Store, base: str, path: str) -> Part:
    recordings: list[Recording] = []
    labels = []

    @lru_cache(maxsize=1)  # a file holds a dozen trials, which are read one after another
    def whole(name: str) -> Events:
        return read_events(store.read(base + name), str(store.root / (base + name)))

    def trial(name: str, span: tuple[int, int]) -> Events:
        return check_inside(whole(name).between(*span), 128, str(store.root / (base + name)))

    for name in _lines(store, path):
        table = f"{base}{name.removesuffix('.aedat')}_labels.csv"
        for line in _lines(store, table)[1:]:
            found = re.fullmatch(r"(\d+),(\d+),(\d+)", line.replace(" ", ""))
            if found is None or not 1 <= int(found[1]) <= 11:
                raise ToolError(
                    store.root / table,
                    f"line {line!r}",
                    remedy="Expected class (1 to 11), start, end.",
                )
            span = int(found[2]), int(found[3])
            recordings.append(partial(trial, name, span))
            labels.append(int(found[1]) - 1)
    return recordings, torch.tensor(labels, dtype=torch.int64)


def _recording(store: Store, path: str, camera: int) -> Recording:
    where = str(store.root / path)
    return lambda: check_inside(read_events(store.read(path), where), camera, where)


def _lines(store: Store, path: str) -> list[str]:
    """Return the lines of a text file that are neither empty nor a comment."""
    lines = store.read(path).decode("utf-8", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
