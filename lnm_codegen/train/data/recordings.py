"""Recordings of an event-camera set, in the usual layouts of its files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import torch
from torch import Tensor

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data.events import Events, read_events, require_inside
from lnm_codegen.train.data.framing import Recording
from lnm_codegen.train.data.store import Store, class_files, interleaved, unequal_classes

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
