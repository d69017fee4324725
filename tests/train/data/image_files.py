"""Tiny CIFAR files for tests, in each layout that people have."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]

TRAIN_FILES = {10: [f"data_batch_{k}" for k in range(1, 6)], 100: ["train"]}
TEST_FILE = {10: "test_batch", 100: "test"}
LAYOUTS = ("python", "binary", "folders")


def cifar_arrays(classes: int, each: int = 1) -> tuple[Arrays, Arrays]:
    """Return training and test images (count, 3, 32, 32) and labels, class after class in turn.

    Smooth, so that JPEG changes them little.
    """
    rng = np.random.default_rng(0)
    parts = []
    for count in (each * classes, classes):
        corners = rng.integers(0, 256, (count, 3, 2, 2)).astype(float)
        ramp = np.stack([np.linspace(1, 0, 32), np.linspace(0, 1, 32)])
        images = np.einsum("ncij,iy,jx->ncyx", corners, ramp, ramp)
        parts.append((np.rint(images).astype(np.uint8), np.arange(count) % classes))
    return parts[0], parts[1]


def write_cifar(
    folder: Path, classes: int, layout: str, each: int = 5, suffix: str = ".png"
) -> tuple[Arrays, Arrays]:
    """Write CIFAR as `layout` and return what was written."""
    train, test = cifar_arrays(classes, each)
    folder.mkdir(parents=True, exist_ok=True)
    if layout == "folders":
        for word, part in (("train", train), ("test", test)):
            write_folders(folder / word, part, suffix)
        return train, test
    write = write_batch if layout == "python" else write_records
    names = TRAIN_FILES[classes]
    for k, name in enumerate(names):
        some = slice(k * len(train[1]) // len(names), (k + 1) * len(train[1]) // len(names))
        write(folder / name, (train[0][some], train[1][some]), classes)
    write(folder / TEST_FILE[classes], test, classes)
    return train, test


def write_batch(path: Path, part: Arrays, classes: int) -> None:
    """Write a pickle of protocol 2, as Python 2 did."""
    images, labels = part
    batch: dict[str, Any] = {"data": images.reshape(len(images), 3072), "batch_label": "one of"}
    key = "labels" if classes == 10 else "fine_labels"
    batch[key] = labels.tolist()
    batch["filenames"] = [f"{k}.png" for k in range(len(images))]
    path.write_bytes(pickle.dumps(batch, protocol=2))


def write_records(path: Path, part: Arrays, classes: int) -> None:
    images, labels = part
    head = labels[:, None].astype(np.uint8)
    if classes == 100:
        head = np.hstack([head // 5, head])  # coarse, fine
    records = np.hstack([head, images.reshape(len(images), 3072)])
    path.with_name(f"{path.name}.bin").write_bytes(records.tobytes())


def write_folders(folder: Path, part: Arrays, suffix: str) -> None:
    """Write <class>/<number>, so that names in order are not labels in order of writing."""
    for k, (image, label) in enumerate(zip(*part, strict=True)):
        place = folder / f"class{label:02d}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(place / f"{k}{suffix}", quality=98)


def pack(folder: Path, archive: Path, mode: str) -> None:
    """Put what is in `folder` into a tar archive."""
    with tarfile.open(archive, mode) as out:
        for path in sorted(folder.iterdir()):
            out.add(path, path.name)
