"""Spikes as bits under `torch.compile`: the spikes of a layer are packed, and unpacked at once.

    lnm::pack_spikes(Tensor spikes) -> Tensor
    lnm::unpack_spikes(Tensor bits, SymInt[] size, SymInt[] stride, ScalarType dtype) -> Tensor

The layers after the neuron read the unpacked spikes, which the graph marks for recomputation as
activation checkpointing does. The graphs that PyTorch makes of forward and backward therefore keep
the bits, and the backward unpacks them before each use.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, cast

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch.autograd import Function
from torch.utils.checkpoint import checkpoint

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn.bits.packing import BLOCK, LANES, pack, unpack
from lnm_codegen.nn.eager import is_exporting
from lnm_codegen.nn.operators import NAMESPACE, define


class TracedDepth:
    """Number of `pack_spikes` contexts that code under `torch.compile` is in.

    `torch.compile` writes no attribute of a `threading.local`.
    """

    depth = 0


TRACE = TracedDepth()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def keeps_whole() -> bool:
    """Report whether a traced layer is exported, or inside a transform of `torch.func`."""
    return is_exporting() or peek_interpreter_stack() is not None


def through_bits(spikes: Tensor) -> Tensor:
    """Return spikes, dense in memory, as a traced graph unpacks them from their bits."""
    bits = torch.ops.lnm.pack_spikes(spikes.detach())
    unpacked = checkpoint(
        _Unpack.apply, spikes, bits, use_reentrant=False, preserve_rng_state=False
    )
    return cast("Tensor", unpacked)


class _Unpack(Function):
    """Unpacked bits, with the gradient of the spikes."""

    @staticmethod
    def forward(ctx: Any, spikes: Tensor, bits: Tensor) -> Any:
        size, stride = spikes.size(), spikes.stride()
        return torch.ops.lnm.unpack_spikes(bits, size, stride, spikes.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad, None


def _run_pack(spikes: Tensor) -> Tensor:
    bits = pack(spikes.detach().as_strided((spikes.numel(),), (1,)))
    if bits is None:
        problem = f"an output of a layer, of shape {tuple(spikes.shape)}, is neither 0 nor 1"
        remedy = "Call the layer outside of the context."
        raise UnsupportedError("pack_spikes", problem, "spikes", remedy)
    return bits


def _fake_pack(spikes: Tensor) -> Tensor:
    return spikes.new_empty(((spikes.numel() + BLOCK - 1) // BLOCK, LANES), dtype=torch.uint8)


def _run_unpack(
    bits: Tensor, size: Sequence[int], stride: Sequence[int], dtype: torch.dtype
) -> Tensor:
    return unpack(bits, dtype)[: prod(size)].as_strided(size, stride)


def _fake_unpack(
    bits: Tensor, size: Sequence[int], stride: Sequence[int], dtype: torch.dtype
) -> Tensor:
    return bits.new_empty_strided(size, stride, dtype=dtype)


_LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]
_UNPACK = "(Tensor bits, SymInt[] size, SymInt[] stride, ScalarType dtype) -> Tensor"
define(_LIBRARY, "pack_spikes", "(Tensor spikes) -> Tensor", _run_pack, _fake_pack)
define(_LIBRARY, "unpack_spikes", _UNPACK, _run_unpack, _fake_unpack)
