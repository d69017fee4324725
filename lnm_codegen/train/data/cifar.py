"""CIFAR-10 and CIFAR-100 from a folder or archive of the user's, in the usual layouts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data.augment import DRAWS, crop_and_flip
from lnm_codegen.train.data.dataset import Dataset, Split, memory_split, source_split
from lnm_codegen.train.data.pixels import image_set
from lnm_codegen.train.data.store import (
    Store,
    class_files,
    damaged,
    interleaved,
    missing,
    open_stores,
    read_image,
    unequal_classes,
)
from lnm_codegen.train.data.unpickle import read_pickle

SIZE = 3 * 32 * 32
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")

Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


class _Published(NamedTuple):
    """Names in the published archives of a set, which differ between CIFAR-10 and CIFAR-100."""

    classes: int
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: str
    python: str
    binary: str
    archives: tuple[str, ...]


_CIFAR10 = _Published(
    10, tuple(f"data_batch_{k}" for k in range(1, 6)), ("test_batch",), "labels",
    "cifar-10-batches-py/", "cifar-10-batches-bin/",
    ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz", "cifar10-jpeg.tar.xz"),
)  # fmt: skip
_CIFAR100 = _Published(
    100, ("train",), ("test",), "fine_labels", "cifar-100-python/", "cifar-100-binary/",
    ("cifar-100-python.tar.gz", "cifar-100-binary.tar.gz"),
)  # fmt: skip


def cifar10(folder: Path, limit: int | None = None) -> Dataset:
    """Return CIFAR-10 (3, 32, 32); 50,000 for training, 10,000 for test.

    Augmented by crop and flip. A JPEG copy differs from the original, so its accuracies do not
    compare exactly.
    """
    return _cifar("cifar10", folder, limit, _CIFAR10)


def cifar100(folder: Path, limit: int | None = None) -> Dataset:
    """Return CIFAR-100 with its fine labels; otherwise as `cifar10`."""
    return _cifar("cifar100", folder, limit, _CIFAR100)


def _cifar(name: str, folder: Path, limit: int | None, names: _Published) -> Dataset:
    for store in open_stores(folder, names.archives):
        splits = (
            _batches(store, names, names.python, "", _pickled)
            or _batches(store, names, names.binary, ".bin", _records)
            or _folders(store, names.classes)
        )
        if splits is not None:
            train, test = (
                part.first(limit).in_memory(augment)
                for part, augment in zip(splits, (crop_and_flip, None), strict=True)
            )
            return image_set(name, train, test, names.classes, draws=DRAWS)
    first = names.train[0]
    layouts = (
        f"Python batches ({first}, in the folder or in {names.python})",
        f"binary batches ({first}.bin, in the folder or in {names.binary})",
        "image folders (train/<class>/*.png or .jpg, test/<class>/)",
        f"an archive of these ({', '.join(names.archives)}, or a .tar.* of another name in place of"
        " the folder)",
    )
    raise missing(name, folder, layouts)


def _batches(
    store: Store, names: _Published, below: str, suffix: str,
    read: Callable[[bytes, str, _Published], Batch],
) -> tuple[Split, Split] | None:  # fmt: skip
    """Return both splits from batch files, which `read` decodes, or None without such files."""

    def split(base: str, files: Sequence[str]) -> Split:
        batches = []
        for path in (f"{base}{file}{suffix}" for file in files):
            if not store.has(path):
                raise ToolError(store.root / path, "missing, although files beside it exist")
            data, labels = read(store.read(path), where := str(store.root / path), names)
            if not len(labels) or not 0 <= labels.min() <= labels.max() < names.classes:
                raise ToolError(where, "wrong labels", f"labels from 0 to {names.classes - 1}")
            batches.append((data, labels))
        images, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
        return memory_split(torch.from_numpy(images).view(-1, 3, 32, 32), torch.from_numpy(labels))

    for base in ("", below):
        if store.has(f"{base}{names.train[0]}{suffix}"):
            return split(base, names.train), split(base, names.test)
    return None


def _pickled(raw: bytes, where: str, names: _Published) -> Batch:
    """Read a pickled dict: data (count, 3072), colour by colour, and a list of labels."""
    content = read_pickle(raw, where)
    if not isinstance(content, dict) or "data" not in content or names.labels not in content:
        raise damaged(where, "no images in it", f"a dict with 'data' and {names.labels!r}")
    data, labels = content["data"], content[names.labels]
    is_bytes = isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 2
    if not is_bytes or data.shape[1] != SIZE or not _are_labels(labels, len(data)):
        accepted = f"'data' of (count, {SIZE}) bytes and as many integers in {names.labels!r}"
        raise damaged(where, "no images in it", accepted)
    return data, np.asarray(labels, np.int64)


def _are_labels(labels: Any, count: int) -> bool:
    return (
        isinstance(labels, list)
        and len(labels) == count
        and all(type(one) is int and abs(one) < 2**31 for one in labels)
    )


def _records(raw: bytes, where: str, names: _Published) -> Batch:
    """Read records of a label byte (CIFAR-100: coarse and fine) and the bytes of an image."""
    head = 1 if names.classes == 10 else 2
    if not raw or len(raw) % (head + SIZE):
        raise damaged(where, f"{len(raw)} bytes", f"a multiple of {head + SIZE}")
    records = np.frombuffer(raw, np.uint8).reshape(-1, head + SIZE)
    return records[:, head:], records[:, head - 1].astype(np.int64)


def _folders(store: Store, classes: int) -> tuple[Split, Split] | None:
    """Read train/<class>/<image>; classes are numbered in the order of their names."""
    words = ("train/", "test/")
    train, test = (class_files(store, word, SUFFIXES) for word in words)
    if not train and not test:
        return None
    if list(train) != list(test) or len(train) != classes:
        raise unequal_classes(store.root, words, (train, test), f"the same {classes} in both")
    return _images(store, list(train.values())), _images(store, list(test.values()))


def _images(store: Store, groups: Sequence[Sequence[str]]) -> Split:
    paths, labels = interleaved(groups)

    def decode(path: str) -> Tensor:
        pixels = np.asarray(read_image(store, path, FORMATS))
        high, wide, _ = pixels.shape
        if (high, wide) != (32, 32):
            raise ToolError(store.root / path, f"{wide} x {high} pixels", "32 x 32 pixels")
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    return source_split(lambda rows: torch.stack([decode(paths[k]) for k in rows.tolist()]), labels)
