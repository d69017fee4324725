"""A reader of pickles that hold dicts, lists, numbers, text and arrays of bytes only.

CIFAR's Python batches are pickles, and a pickle can call any function by its name. This reader
accepts five names and replaces each by a stand-in. None of NumPy's own types is built, because a
pickle can put its dtypes and arrays into a state that crashes the interpreter. The stand-ins record
the arguments, and the reader builds the array at the end.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnm_codegen.errors import reason
from lnm_codegen.train.data.store import damaged


class _Dtype:
    """Stand-in for numpy.dtype: a byte, and no other."""

    def __init__(self, kind: Any, *flags: Any) -> None:
        if kind not in ("u1", "|u1"):
            raise pickle.UnpicklingError(f"an array of {kind!r}, not of bytes")

    def __setstate__(self, state: Any) -> None:
        """Ignore the state: a byte has none that matters."""


class _Array:
    """Stand-in for numpy.ndarray, and for the function that makes an empty one."""

    def __init__(self, *empty: Any) -> None:
        self.array: NDArray[np.uint8] | None = None

    def __setstate__(self, state: Any) -> None:
        """Build the array from (version, shape, dtype, column-major order, bytes)."""
        _, shape, dtype, by_columns, raw = state
        is_shape = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if not (is_shape and type(dtype) is _Dtype and type(raw) is bytes):
            raise pickle.UnpicklingError("an array without shape, type or bytes")
        if len(raw) != math.prod(shape):
            raise pickle.UnpicklingError(f"{len(raw)} bytes for an array of {shape}")
        flat = np.frombuffer(raw, np.uint8)
        self.array = flat.reshape(shape, order="F" if by_columns else "C")


class _Latin1:
    """Stand-in for `_codecs.encode`, by which Python 3 writes bytes in old protocols.

    It is not a function: a pickle could change a function's defaults for the whole process.
    """

    def __new__(cls, text: str, encoding: str = "latin1") -> bytes:  # type: ignore[misc]
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"the encoding {encoding!r} is not allowed")
        return str(text).encode("latin1")

    def __setstate__(self, state: Any) -> None:
        """Take no state: no object has this type."""


_ALLOWED = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("_codecs", "encode"): _Latin1,
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed")
        return _ALLOWED[module, name]


def read_pickle(raw: bytes, where: str) -> Any:
    """Return the content of a pickle; text of Python 2 is read as Latin-1.

    Args:
        raw: The pickle.
        where: Its name, for messages.

    Raises:
        ToolError: The pickle is broken, or has a name or a type that is not allowed.
    """
    try:
        found = _Restricted(io.BytesIO(raw), encoding="latin1").load()
        if isinstance(found, dict):
            return {key: _plain(value) for key, value in found.items()}
        return _plain(found)
    except Exception as error:  # a broken pickle raises nearly anything
        accepted = "pickles of dicts, lists, numbers, text and arrays of bytes"
        raise damaged(where, f"refused: {reason(error)}", accepted) from None


def _plain(value: Any) -> Any:
    return value.array if isinstance(value, _Array) else value
