"""Spikes as bits: `pack_spikes`, their packing, and bits under `torch.compile`."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import _GeneratorContextManager, contextmanager
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast, overload

import torch
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack
from torch.autograd import Function
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.render import render
from lnm_codegen.errors import ModelError, ToolError, UnsupportedError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.eager import is_exporting
from lnm_codegen.nn.load.c import built, load_library
from lnm_codegen.nn.load.cache import (
    anywhere,
    cache_folder,
    located,
    private_folder,
    warn_private,
)
from lnm_codegen.nn.memory import empty
from lnm_codegen.nn.operators import NAMESPACE, define

# C functions that pack spikes into bits: compiled to a shared library in the cache.
#
# It is the smallest library, and so also the test of whether this machine can compile any.


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


# Numbers that are 0 or 1 as bits, and back: in C on the CPU, else in PyTorch.
#
# Block b of the bits has 64 bytes, for the numbers 512*b to 512*b + 511. Bit k of byte j is number
# 64*k + j of the block. The bits after the last number are 0.


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
        return _packed_eager(numbers)
    shape = (-(-numbers.numel() // BLOCK), LANES)
    bits = empty(numbers, shape, (LANES, 1), torch.uint8)
    return bits if library.pack(numbers, bits) else None


def unpack(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the numbers of whole blocks, (blocks*512,)."""
    library = load_bits() if bits.is_cpu else None
    if library is None:
        return _unpacked_eager(bits, dtype)
    numbers = empty(bits, (bits.shape[0] * BLOCK,), (1,), dtype)
    library.unpack(bits, numbers)
    return numbers


def _packed_eager(numbers: Tensor) -> Tensor | None:
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


def _unpacked_eager(bits: Tensor, dtype: torch.dtype) -> Tensor:
    shifts = torch.arange(ROWS, dtype=torch.uint8, device=bits.device)
    return ((bits[:, None] >> shifts[:, None]) & 1).to(dtype).view(-1)


# Spikes as bits under `torch.compile`: the spikes of a layer are packed, and unpacked at once.
#
#     lnm::pack_spikes(Tensor spikes) -> Tensor
#     lnm::unpack_spikes(Tensor bits, SymInt[] size, SymInt[] stride, ScalarType dtype) -> Tensor
#
# The layers after the neuron read the unpacked spikes, which the graph marks for recomputation as
# activation checkpointing does. The graphs that PyTorch makes of forward and backward therefore
# keep the bits, and the backward unpacks them before each use.


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


# `pack_spikes`: saved tensors of autograd that are spikes of a layer are kept as bits.
#
# A layer marks the storage of its spikes while `pack_spikes` is active. The mark is an attribute of
# the storage, so it ends with the storage, and a tensor that reuses the memory has none. A saved
# tensor whose storage is marked is a view of the spikes. It is kept as their bits, which all views
# share, and its strides.
#
# A change in place increments the version, and the changed spikes are kept whole. Changes through
# `.data` do not. On the CPU the first packing notices them, since it compares values with 0 and 1.


Model = TypeVar("Model", bound=nn.Module)
Hooks: TypeAlias = tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]
"""Functions that pack and unpack a saved tensor."""

_MARK = "_lnm_spikes"
"""Attribute of a storage that has spikes."""


class Thread(threading.local):
    """Number of `pack_spikes` contexts that a thread is in, and models with those of forwards."""

    def __init__(self) -> None:
        self.depth = 0
        self.contexts: list[tuple[nn.Module, _GeneratorContextManager[None]]] = []


_THREAD = Thread()


class SharedBits:
    """Bits of spikes that saved tensors share, as the hooks around `pack_spikes` have kept them."""

    __slots__ = ("__weakref__", "kept")

    def __init__(self, kept: Any) -> None:
        self.kept = kept


class Mark:
    """Spikes in a storage: their version, type and range in elements, and their bits, if kept."""

    __slots__ = ("bits", "count", "dtype", "first", "version")

    def __init__(self, spikes: Tensor) -> None:
        self.version, self.dtype = spikes._version, spikes.dtype
        self.first, self.count = int(spikes.storage_offset()), spikes.numel()
        self.bits: Callable[[], SharedBits | None] = _nothing

    def has(self, tensor: Tensor) -> bool:
        """Report whether a tensor in this storage has unchanged spikes, and nothing else."""
        first = tensor.storage_offset()
        return (
            tensor._version == self.version
            and tensor.dtype is self.dtype
            and self.first <= first
            and first + _extent(tensor) <= self.first + self.count
            and tensor.numel() > 0
            and not tensor.is_neg()
        )


class Packed(NamedTuple):
    """A saved tensor as bits: a view, by elements, of the spikes that the bits have."""

    bits: SharedBits
    dtype: torch.dtype
    size: Sequence[int]
    stride: Sequence[int]
    first: int
    extent: int


class Whole(NamedTuple):
    """A saved tensor as it is, and its version."""

    kept: Tensor
    version: int


def _nothing() -> None:
    return None


def _extent(tensor: Tensor) -> int:
    """Return the number of elements of memory from the first element of a tensor to its last."""
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((size - 1) * stride for size, stride in pairs)


def packable(neuron: Neuron) -> tuple[str, ...]:
    """Return the names of the outputs of a neuron that are spikes, 0 or 1."""
    spikes = {symbol for symbol, _ in neuron.fire}
    return tuple(name for name, value in neuron.output if value in spikes)


def with_bits(neuron: Neuron, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the outputs of a layer, with spikes that are kept as bits if `pack_spikes` is active.

    Eager spikes are marked. Traced spikes are unpacked from bits. `outputs` are those of the
    neuron; others may follow.
    """
    traced = torch.compiler.is_compiling()
    is_active = _THREAD.depth or (traced and TRACE.depth)
    if not is_active or not torch.is_grad_enabled() or (traced and keeps_whole()):
        return outputs
    names, found = packable(neuron), list(outputs)
    for k, (name, _) in enumerate(neuron.output):
        out = outputs[k]
        if name in names:
            if not traced:
                mark(out)
            elif type(out) is Tensor and out.numel() == _extent(out):
                found[k] = through_bits(out)
    return tuple(found)


def mark(spikes: Tensor) -> None:
    """Let spikes of a layer be kept as bits, if `pack_spikes` is active."""
    if _THREAD.depth and type(spikes) is Tensor and spikes.numel() == _extent(spikes):
        setattr(spikes.untyped_storage(), _MARK, Mark(spikes))


@overload
def pack_spikes() -> _GeneratorContextManager[None]: ...


@overload
def pack_spikes(model: Model) -> Model: ...


def pack_spikes(model: Model | None = None) -> Model | _GeneratorContextManager[None]:
    """Keep the spikes that a backward needs as bits: in a context, or in the forwards of a model.

    A convolution or linear layer saves its input for the gradient of its weight. If that input is
    the output of a `NeuronLayer` or `NormNeuron`, one bit a spike is saved instead, and unpacked in
    the backward. This holds for every operation that saves spikes or a view of them. Gradients are
    bit-exact to those without this context. The backward may run outside of the context.

    `pack_spikes(model)` registers hooks by which every forward of the model is such a context, and
    returns the model. `pack_spikes()` is a context. A function that it decorates, such as `forward`
    of a module, packs in each thread of `torch.nn.DataParallel`. Hooks of saved tensors around the
    context receive what it keeps.

    Saved as they are:

    * Outputs that are not 0 or 1, such as ternary or graded spikes; `explain` names them.
    * Copies of spikes, such as those that autocast casts to 16 bits, and results of pooling.
    * Spikes of a layer inside `torch.func`. PyTorch refuses transforms of `torch.func` that begin
      inside the context.
    * Spikes under `torch.compile` with the Dynamo backend "eager". Other backends keep bits, inside
      the context and where the compiled function contains it.

    Args:
        model: A module, or None for a context.

    Raises:
        ModelError: `model` is no module.
        UnsupportedError: In the backward: a tensor that was saved as it is was changed in place.
            On the CPU, under `torch.compile`: spikes of a layer are neither 0 nor 1.

    Example:
        >>> import torch, lnm_codegen as lnm
        >>> readout = torch.nn.Linear(3, 2)
        >>> layer = lnm.nn.NeuronLayer(lnm.get("lif"), backend="torch")
        >>> with lnm.nn.pack_spikes():
        ...     out = readout(layer(torch.ones(4, 1, 3)))
        >>> out.sum().backward()
    """
    if model is None:
        return _packing()
    if not isinstance(model, nn.Module):
        problem = f"model is {type(model).__name__}"
        raise ModelError("pack_spikes", problem, "a torch.nn.Module, or nothing for a context")
    if _begin not in model._forward_pre_hooks.values():
        model.register_forward_pre_hook(_begin, prepend=True)
        model.register_forward_hook(_end, always_call=True)
    return model


def _begin(model: nn.Module, _inputs: object) -> None:
    """Enter the context of a forward."""
    if torch.compiler.is_compiling():
        TRACE.depth += 1
    else:
        context = _packing()
        context.__enter__()
        _THREAD.contexts.append((model, context))


def _end(model: nn.Module, _inputs: object, _output: object) -> None:
    """Leave the context of a forward, also after an error, unless a hook before `_begin` raised."""
    if torch.compiler.is_compiling():
        TRACE.depth -= 1
    elif _THREAD.contexts and _THREAD.contexts[-1][0] is model:
        _THREAD.contexts.pop()[1].__exit__(None, None, None)


@contextmanager
def _packing() -> Iterator[None]:
    if torch.compiler.is_compiling():
        TRACE.depth += 1
        try:
            yield
        finally:
            TRACE.depth -= 1
        return
    if peek_interpreter_stack() is not None:
        yield
        return
    outer = _active_hooks()
    with saved_tensors_hooks(*_hooks(outer)):
        _THREAD.depth += 1
        try:
            yield
        finally:
            _THREAD.depth -= 1


def _active_hooks() -> Hooks | None:
    """Return the hooks of the thread. PyTorch before 2.8 does not name them."""
    asked = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return asked(False) if asked else None


def _hooks(outer: Hooks | None) -> Hooks:
    """Return the hooks of a context; `outer` receive what it keeps, and return it."""
    keep, give = outer or (_whole, _unchanged)

    def pack_saved(tensor: Tensor) -> Any:
        return _packed(tensor, keep) or keep(tensor)

    def unpack_saved(kept: Any) -> Tensor:
        return _unpacked(kept, give) if type(kept) is Packed else give(kept)

    return pack_saved, unpack_saved


def _packed(tensor: Tensor, keep: Callable[[Tensor], Any]) -> Packed | None:
    """Return a saved tensor as bits, if it is a view of spikes."""
    if type(tensor) is not Tensor or tensor.layout is not torch.strided:
        return None
    mark: Mark | None = getattr(tensor.untyped_storage(), _MARK, None)
    if mark is None or not mark.has(tensor):
        return None
    bits = mark.bits()
    if bits is None:
        words = pack(tensor.detach().as_strided((mark.count,), (1,), mark.first))
        if words is None:
            return None
        bits = SharedBits(keep(words))
        mark.bits = weakref.ref(bits)
    first = int(tensor.storage_offset()) - mark.first
    return Packed(bits, mark.dtype, tensor.size(), tensor.stride(), first, _extent(tensor))


def _unpacked(packed: Packed, give: Callable[[Any], Tensor]) -> Tensor:
    """Return the tensor that was packed; only the blocks that it reads are unpacked."""
    begin, end = packed.first // BLOCK, -(-(packed.first + packed.extent) // BLOCK)
    numbers = unpack(give(packed.bits.kept)[begin:end].contiguous(), packed.dtype)
    return numbers.as_strided(packed.size, packed.stride, packed.first - begin * BLOCK)


def _whole(tensor: Tensor) -> Whole:
    """Keep a tensor, without a reference to the graph that refers to this."""
    return Whole(tensor.detach(), tensor._version)


def _unchanged(kept: Whole) -> Tensor:
    """Return a tensor that was kept, unless it was changed since."""
    tensor, version = kept
    if tensor._version != version:
        problem = (
            f"a tensor of shape {tuple(tensor.shape)} that the backward needs was changed in"
            f" place: it has version {tensor._version}, and had {version}"
        )
        raise UnsupportedError("pack_spikes", problem, remedy="Change a clone of it.")
    return tensor
