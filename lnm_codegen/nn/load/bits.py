"""C functions that pack spikes into bits: compiled to a shared library in the cache."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.render import render
from lnm_codegen.errors import ToolError
from lnm_codegen.nn.load.c import built, load_library

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
    source = Source({"bits.cpp": render("c/bits.cpp.j2", {})}, "bits.cpp")
    try:
        return BitsLibrary(built(_NAME, source, beside=""))
    except ToolError:
        return None
