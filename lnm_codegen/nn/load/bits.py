"""C functions that pack spikes into bits: compiled to a shared library in the cache.

It is the smallest library, and so also the test of whether this machine can compile any.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.render import render
from lnm_codegen.errors import ToolError
from lnm_codegen.nn.load.c import built, load_library
from lnm_codegen.nn.load.cache import (
    anywhere,
    cache_folder,
    located,
    private_folder,
    warn_private,
)

_NAME = "lnm_bits"
_ONE = {
    torch.float16: 0x3C00,
    torch.bfloat16: 0x3F80,
    torch.float32: 0x3F800000,
    torch.float64: 0x3FF0000000000000,
}
"""Type -> the word of 1."""


class BitsLibrary:
    """The two functions of a loaded library; `templates/c/bits.cpp.j2` has their layout."""

    def __init__(self, path: Path) -> None:
        loaded = load_library(path)
        pointers = [ctypes.c_void_p, ctypes.c_void_p]
        numbers = [ctypes.c_int64, ctypes.c_int, ctypes.c_uint64, ctypes.c_int]
        self._pack, self._unpack = loaded.lnm_pack_bits, loaded.lnm_unpack_bits
        self._pack.argtypes, self._pack.restype = [*pointers, *numbers], ctypes.c_int
        self._unpack.argtypes, self._unpack.restype = [*pointers, *numbers], None

    def pack(self, numbers: Tensor, bits: Tensor) -> bool:
        """Write the bits of contiguous numbers, and report whether all are 0 or 1."""
        arguments = self._arguments(numbers.dtype)
        return not self._pack(numbers.data_ptr(), bits.data_ptr(), numbers.numel(), *arguments)

    def unpack(self, bits: Tensor, numbers: Tensor) -> None:
        """Write the numbers of whole blocks of bits."""
        arguments, blocks = self._arguments(numbers.dtype), bits.shape[0]
        self._unpack(bits.data_ptr(), numbers.data_ptr(), blocks, *arguments)

    @staticmethod
    def _arguments(dtype: torch.dtype) -> tuple[int, int, int]:
        return dtype.itemsize, _ONE[dtype], torch.get_num_threads()


@cache
def load_bits() -> BitsLibrary | None:
    """Build (or find in the cache) and load the library; None where that is not possible."""
    try:
        return anywhere(bits_in)
    except ToolError:
        return None


def compiling_folder() -> tuple[Path, ToolError | None]:
    """Return the folder in which "auto" compiles kernels, and why it is not the cache folder.

    Raises:
        ToolError: "auto" can compile in neither the cache folder nor the private folder.
    """
    _, error = located(bits_in)
    return (cache_folder() if error is None else private_folder()), error


def settle_cache() -> None:
    """Let every backend of this process and of its children use the folder that "auto" uses.

    Where "auto" cannot compile kernels, nothing changes: an error follows where one is needed.
    """
    try:
        folder, error = compiling_folder()
    except ToolError:
        return
    if error is not None:
        warn_private(error)
        os.environ["LNM_CACHE"] = str(folder)


def bits_in(folder: Path | None = None) -> BitsLibrary:
    """Build (or find) the library in the cache folder, or in another `folder`, and load it.

    Raises:
        ToolError: No library can be compiled, written or loaded.
    """
    source = Source({"bits.cpp": render("c/bits.cpp.j2", {})}, "bits.cpp")
    return BitsLibrary(built(_NAME, source, beside="", folder=folder))
