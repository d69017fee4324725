"""Numbers that are 0 or 1 as bits, and back: in C on the CPU, else in PyTorch.

Block b of the bits has 64 bytes, for the numbers 512*b to 512*b + 511. Bit k of byte j is number
64*k + j of the block. The bits after the last number are 0.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from lnm_codegen.nn.load.bits import load_bits
from lnm_codegen.nn.memory import empty

ROWS, LANES = 8, 64
BLOCK = ROWS * LANES
"""Numbers in a block."""


def pack(numbers: Tensor) -> Tensor | None:
    """Return the bits of contiguous numbers, (blocks, 64) of uint8.

    On the CPU, the result is None if a number is neither 0 nor 1. On a GPU, where that question
    would wait for the kernels before it, the caller must know the answer.
    """
    library = load_bits() if numbers.is_cpu else None
    if library is None:
        return _packed(numbers)
    shape = (-(-numbers.numel() // BLOCK), LANES)
    bits = empty(numbers, shape, (LANES, 1), torch.uint8)
    return bits if library.pack(numbers, bits) else None


def unpack(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the numbers of whole blocks, (blocks*512,)."""
    library = load_bits() if bits.is_cpu else None
    if library is None:
        return _unpacked(bits, dtype)
    numbers = empty(bits, (bits.shape[0] * BLOCK,), (1,), dtype)
    library.unpack(bits, numbers)
    return numbers


def _packed(numbers: Tensor) -> Tensor | None:
    """Return the bits in plain PyTorch."""
    missing = -numbers.numel() % BLOCK
    rows = (pad(numbers, (0, missing)) if missing else numbers).view(-1, ROWS, LANES)
    fired = rows == 1
    if numbers.is_cpu and not torch.equal(fired.to(rows.dtype), rows):
        return None
    words = fired.view(torch.uint8)
    bits = words[:, 0].clone()
    for k in range(1, ROWS):
        bits.add_(words[:, k], alpha=1 << k)
    return bits


def _unpacked(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the numbers in plain PyTorch."""
    shifts = torch.arange(ROWS, dtype=torch.uint8, device=bits.device)
    return ((bits[:, None] >> shifts[:, None]) & 1).to(dtype).view(-1)
