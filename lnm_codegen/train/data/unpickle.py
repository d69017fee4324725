"""Read pickles that hold dicts, lists, numbers, text and arrays, and refuse every other.

CIFAR's Python batches are pickles, and a pickle can name any function and have it called. Here it
may name four, which make arrays; anything else is refused before anything is called.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
from numpy._core.multiarray import _reconstruct

from lnm_codegen.errors import ToolError


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """Stand in for `_codecs.encode`, by which Python 3 writes bytes in old protocols."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the encoding {encoding!r} is not allowed")
    return str(text).encode("latin1")


_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("_codecs", "encode"): _latin1,
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed")
        return _ALLOWED[module, name]


def read_pickle(raw: bytes, where: str) -> Any:
    """Return what a pickle holds; text of Python 2 is read as Latin-1.

    Args:
        raw: The pickle.
        where: Its name, for messages.

    Raises:
        ToolError: It is broken, or names anything that is not on the list.
    """
    try:
        return _Restricted(io.BytesIO(raw), encoding="latin1").load()
    except Exception as error:  # a broken pickle raises nearly anything
        said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ToolError(
            f"{where}: refused: {said}. Accepted: pickles of dicts, lists, numbers, text and"
            " arrays. Get the file again."
        ) from None
