"""CIFAR-10 and CIFAR-100 from a folder or archive of the user's, in the layouts people have."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data.augment import DRAWS, crop_and_flip
from lnm_codegen.train.data.dataset import Dataset
from lnm_codegen.train.data.options import missing
from lnm_codegen.train.data.pixels import image_set
from lnm_codegen.train.data.split import Split, held
from lnm_codegen.train.data.store import Store, class_files, interleaved, open_stores
from lnm_codegen.train.data.unpickle import read_pickle

PIXELS = (3, 32, 32)
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
"""What the files may hold, whatever their names: Pillow would hand EPS to another program."""

Pair = tuple[Split, Split]

_BATCHES = {
    10: (tuple(f"data_batch_{k}" for k in range(1, 6)), ("test_batch",)),
    100: (("train",), ("test",)),
}
_LABELS = {10: "labels", 100: "fine_labels"}
_ARCHIVES = {
    10: ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz", "cifar10-jpeg.tar.xz"),
    100: ("cifar-100-python.tar.gz", "cifar-100-binary.tar.gz"),
}
_PYTHON = {10: "cifar-10-batches-py/", 100: "cifar-100-python/"}
_BINARY = {10: "cifar-10-batches-bin/", 100: "cifar-100-binary/"}


def cifar10(folder: Path, limit: int | None = None) -> Dataset:
    """Return CIFAR-10 (3, 32, 32); 50,000 to train on, 10,000 to test. Augmented by crop and flip.

    A copy as JPEG has lost what JPEG loses: its figures do not compare to the digit.
    """
    return _cifar("cifar10", folder, limit, 10)


def cifar100(folder: Path, limit: int | None = None) -> Dataset:
    """Return CIFAR-100, its fine labels; otherwise as `cifar10`."""
    return _cifar("cifar100", folder, limit, 100)


def _cifar(name: str, folder: Path, limit: int | None, classes: int) -> Dataset:
    for store in open_stores(folder, _ARCHIVES[classes]):
        for layout in (_python, _binary, _folders):
            found = layout(store, classes)
            if found is not None:
                train, test = (
                    part.first(limit).in_memory(augment)
                    for part, augment in zip(found, (crop_and_flip, None), strict=True)
                )
                return image_set(name, train, test, classes, draws=DRAWS)
    first = _BATCHES[classes][0][0]
    layouts = (
        f"Python batches ({first}, there or in {_PYTHON[classes]})",
        f"binary batches ({first}.bin, there or in {_BINARY[classes]})",
        "image folders (train/<class>/*.png or .jpg, test/<class>/)",
        f"an archive of these ({', '.join(_ARCHIVES[classes])}, or a .tar.* of another name as the"
        " folder itself)",
    )
    raise missing(name, folder, layouts, "Name a folder of one of these with --data-dir.")


def _python(store: Store, classes: int) -> Pair | None:
    """Read pickled dicts: data (count, 3072), colour by colour, and lists of labels."""
    for base in ("", _PYTHON[classes]):
        if store.has(base + _BATCHES[classes][0][0]):
            train, test = (
                [_pickled(store, base + name, classes) for name in names]
                for names in _BATCHES[classes]
            )
            return _joined(train), _joined(test)
    return None


def _pickled(store: Store, path: str, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    where, key = str(store.root / path), _LABELS[classes]
    content = read_pickle(_read(store, path), where)
    if not isinstance(content, dict) or "data" not in content or key not in content:
        raise ToolError(
            where, f"no dict with 'data' and {key!r} in it", remedy="Get the file again."
        )
    data, labels = content["data"], content[key]
    sound = isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 2
    if not sound or data.shape[1] != 3072 or not _are_labels(labels, len(data)):
        raise ToolError(
            where,
            "not images",
            remedy=(
                f"Expected 'data' of (count, 3072) bytes and as many whole numbers in {key!r}. Get "
                "the file again."
            ),
        )
    return data, _checked(np.asarray(labels, np.int64), classes, where)


def _are_labels(labels: Any, count: int) -> bool:
    return (
        isinstance(labels, list)
        and len(labels) == count
        and all(type(one) is int and abs(one) < 2**31 for one in labels)
    )


def _binary(store: Store, classes: int) -> Pair | None:
    """Read records of a label byte (CIFAR-100: coarse and fine) and 3072 bytes of image."""
    for base in ("", _BINARY[classes]):
        if store.has(f"{base}{_BATCHES[classes][0][0]}.bin"):
            train, test = (
                [_records(store, f"{base}{name}.bin", classes) for name in names]
                for names in _BATCHES[classes]
            )
            return _joined(train), _joined(test)
    return None


def _records(store: Store, path: str, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    where, head = str(store.root / path), 1 if classes == 10 else 2
    raw = np.frombuffer(_read(store, path), np.uint8)
    if not len(raw) or len(raw) % (head + 3072):
        raise ToolError(
            where,
            f"{len(raw)} bytes",
            remedy=f"Expected a multiple of {head + 3072}. Get the file again.",
        )
    records = raw.reshape(-1, head + 3072)
    return records[:, head:], _checked(records[:, head - 1].astype(np.int64), classes, where)


def _checked(labels: NDArray[np.int64], classes: int, where: str) -> NDArray[np.int64]:
    if not len(labels) or not 0 <= labels.min() <= labels.max() < classes:
        raise ToolError(where, f"no labels, or not all from 0 to {classes - 1}")
    return labels


def _joined(parts: Sequence[tuple[NDArray[np.uint8], NDArray[np.int64]]]) -> Split:
    images, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    return held(torch.from_numpy(images).view(-1, *PIXELS), torch.from_numpy(labels))


def _read(store: Store, path: str) -> bytes:
    if not store.has(path):
        raise ToolError(store.root / path, "not there, though files beside it are")
    return store.read(path)


def _folders(store: Store, classes: int) -> Pair | None:
    """Read train/<class>/<image>; classes are numbered in the order of their names."""
    train, test = (class_files(store, f"{word}/", SUFFIXES) for word in ("train", "test"))
    if not train and not test:
        return None
    if list(train) != list(test) or len(train) != classes:
        raise ToolError(
            store.root,
            f"{len(train)} class folders with images in train/ and {len(test)} in test/",
            remedy=f"Expected the same {classes} in both.",
        )
    return _images(store, list(train.values())), _images(store, list(test.values()))


def _images(store: Store, groups: Sequence[Sequence[str]]) -> Split:
    paths, labels = interleaved(groups)

    def read(rows: Tensor, chance: Tensor | None) -> Tensor:
        return torch.stack([_decode(store, paths[row]) for row in rows.tolist()])

    return Split(labels, read)


def _decode(store: Store, path: str) -> Tensor:
    from PIL import Image

    where = store.root / path
    try:
        with Image.open(io.BytesIO(store.read(path)), formats=FORMATS) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise ToolError(where, f"not an image: {said}", remedy="Get the file again.") from None
    if pixels.shape != (32, 32, 3):
        raise ToolError(
            where, f"{pixels.shape[1]} x {pixels.shape[0]} pixels", remedy="Expected 32 x 32."
        )
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())
