"""Small idx files for tests, as MNIST and its kin have them."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def idx_bytes(array: NDArray[np.uint8], kind: int = 8) -> bytes:
    head = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
    return head + array.tobytes()


def write_fashion(
    folder: Path, gz: bool = True, train: int = 40, test: int = 20, side: int = 8
) -> Path:
    """Write the four files with images whose brightest row tells their class."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for word, count in (("train", train), ("t10k", test)):
        labels = (np.arange(count) % 8).astype(np.uint8)
        images = rng.integers(0, 60, (count, side, side)).astype(np.uint8)
        images[np.arange(count), labels] += 150
        for stem, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = idx_bytes(array)
            path = folder / f"{word}-{stem}-ubyte"
            if gz:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(data))
            else:
                path.write_bytes(data)
    return folder
