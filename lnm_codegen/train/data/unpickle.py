"""Read pickles that hold dicts, lists, numbers, text and arrays of bytes, and refuse every other.

CIFAR's Python batches are pickles, and a pickle can name any function and have it called. Here it
may name four, and none is NumPy's own, whose dtypes and arrays a pickle can put into a state that
brings the interpreter down: stand-ins take down what would be built, and the array is made at the
end.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnm_codegen.errors import ToolError


class _Dtype:
    """Stands for numpy.dtype: a byte, and no other."""

    def __init__(self, kind: Any, *flags: Any) -> None:
        if kind not in ("u1", "|u1"):
            raise pickle.UnpicklingError(f"an array of {kind!r}, not of bytes")

    def __setstate__(self, state: Any) -> None:
        """A byte has no state that matters."""


class _Array:
    """Stands for numpy.ndarray, and for the function that makes an empty one."""

    def __init__(self, *empty: Any) -> None:
        self.array: NDArray[np.uint8] | None = None

    def __setstate__(self, state: Any) -> None:
        """Take (version, shape, dtype, whether columns come first, bytes)."""
        _, shape, dtype, by_columns, raw = state
        sound = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if not (sound and type(dtype) is _Dtype and type(raw) is bytes):
            raise pickle.UnpicklingError("an array without shape, type or bytes")
        if len(raw) != math.prod(shape):
            raise pickle.UnpicklingError(f"{len(raw)} bytes for an array of {shape}")
        flat = np.frombuffer(raw, np.uint8)
        self.array = flat.reshape(shape, order="F" if by_columns else "C")


class _Latin1:
    """Stands for `_codecs.encode`, by which Python 3 writes bytes in old protocols.

    No function, as a pickle can give a function a state: other defaults, for the whole process.
    """

    def __new__(cls, text: str, encoding: str = "latin1") -> bytes:  # type: ignore[misc]
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"the encoding {encoding!r} is not allowed")
        return str(text).encode("latin1")

    def __setstate__(self, state: Any) -> None:
        """Nothing has this type, so nothing can be given a state."""


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
    """Return what a pickle holds; text of Python 2 is read as Latin-1.

    Args:
        raw: The pickle.
        where: Its name, for messages.

    Returns:
        Its content; where that is a dict, its values that are arrays are NumPy's.

    Raises:
        ToolError: It is broken, or names anything that is not on the list.
    """
    try:
        found = _Restricted(io.BytesIO(raw), encoding="latin1").load()
        if isinstance(found, dict):
            return {key: _plain(value) for key, value in found.items()}
        return _plain(found)
    except Exception as error:  # a broken pickle raises nearly anything
        said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ToolError(
            f"{where}: refused",
            said,
            "pickles of dicts, lists, numbers, text and arrays of bytes",
            "Get the file again.",
        ) from None


def _plain(value: Any) -> Any:
    return value.array if isinstance(value, _Array) else value
