"""`pack_spikes`: saved tensors of autograd that are spikes of a layer are kept as bits.

A layer marks the storage of its spikes while `pack_spikes` is active. The mark is an attribute of
the storage, so it ends with the storage, and a tensor that reuses the memory has none. A saved
tensor whose storage is marked is a view of the spikes. It is kept as their bits, which all views
share, and its strides.

A change in place increments the version, and the changed spikes are kept whole. Changes through
`.data` do not. On the CPU the first packing notices them, since it compares values with 0 and 1.

Under `torch.compile` no tensor has a mark: see `lnm_codegen.nn.bits.traced`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import _GeneratorContextManager, contextmanager
from typing import Any, NamedTuple, TypeAlias, TypeVar, overload

import torch
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack
from torch.autograd.graph import saved_tensors_hooks

from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.bits.packing import BLOCK, pack, unpack
from lnm_codegen.nn.bits.traced import TRACE, keeps_whole, through_bits

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
        if name in names and type(out) is Tensor and out.numel() == _extent(out):
            if traced:
                found[k] = through_bits(out)
            else:
                setattr(out.untyped_storage(), _MARK, Mark(out))
    return tuple(found)


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
