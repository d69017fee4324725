"""The idx format of MNIST and its kin: unsigned bytes, plain or gzipped.

bytes 0, 1   zero
byte  2      0x08, unsigned byte
byte  3      number of axes
then         each axis as a big-endian unsigned 32-bit integer, then the bytes, row-major
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lnm_codegen.errors import ToolError

LARGEST = 2**31
"""Bytes of an idx file, unpacked: forty times Fashion-MNIST."""


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """Return the array of an idx file; a name ending in .gz is decompressed.

    Args:
        path: The file.
        axes: How many axes it must have: 3 for images, 1 for labels.

    Raises:
        ToolError: The file cannot be read, or it is not exactly what its header says.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        said = getattr(error, "strerror", None) or error
        raise ToolError(path, f"cannot be read: {said}", remedy="Get the file again.") from None
    if len(raw) > LARGEST:
        raise ToolError(path, f"more than {LARGEST} bytes", "idx files up to that")
    head = 4 + 4 * axes
    if len(raw) < head or raw[:2] != b"\0\0":
        raise ToolError(path, "not an idx file", "the idx files of MNIST and its kin")
    kind, found = raw[2], raw[3]
    if kind != 8 or found != axes:
        raise ToolError(
            path, f"idx type 0x{kind:02x} with {found} axes", f"0x08 (unsigned byte) with {axes}"
        )
    shape = struct.unpack(f">{axes}I", raw[4:head])
    if len(raw) - head != math.prod(shape):
        raise ToolError(
            path,
            (f"{len(raw) - head} bytes of data; its header says {math.prod(shape)}, shape {shape}"),
            remedy="Get the file again.",
        )
    return np.frombuffer(raw, np.uint8, offset=head).reshape(shape)
