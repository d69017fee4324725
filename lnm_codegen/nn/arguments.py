"""Arguments of a layer and of its calls: validation, types and records."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.compiler.arguments import AXES_REMEDY, NAMES_REMEDY, input_shape, misfit
from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.ir.declarations import Param
from lnm_codegen.language.functions import ExprLike, where
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.options import DtypeName
from lnm_codegen.validation import (
    counted,
    require_integer,
    require_interval,
    require_known,
    require_one_of,
    shown,
    wrong,
)

TYPES: dict[torch.dtype, DtypeName] = {
    torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}  # fmt: skip
"""Types of sequences, and their names."""

REAL = {t: torch.float64 if t is torch.float64 else torch.float32 for t in TYPES}
"""Type of sequences -> type of the arithmetic, states and parameters."""

_PLAIN = (Tensor, torch.nn.Parameter)

STATS = "stats"
"""Name that stands for counts in `record`."""


def default_dtype() -> torch.dtype:
    """Return PyTorch's default type if the arithmetic has it, else float32."""
    return REAL[torch.get_default_dtype()]


def require_sizes(shape: Any, channels: Any) -> tuple[int, ...] | None:
    """Return the shape of one sample's neurons, or None where it is not given.

    Raises:
        ModelError: A size is not an integer >= 1, or the shape begins with other channels.
    """
    if channels is not None:
        require_integer("NeuronLayer", "channels", channels)
    if shape is None:
        return None
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise wrong("NeuronLayer", "shape", shape, "integers, such as (C, H, W)")
    sizes = tuple(require_integer("NeuronLayer", "a size of shape", size) for size in shape)
    if channels is not None and sizes[:1] != (channels,):
        raise ModelError(
            "NeuronLayer",
            f"shape {sizes} does not begin with channels {channels}",
            remedy="Give one of the two, or the same number.",
        )
    return sizes


class Sizes(NamedTuple):
    """Sizes that a layer was given, and that no parameter of it has."""

    axes: tuple[int, ...]  # (C,), or the shape of one sample's neurons
    is_whole: bool

    def require(self, layer: str, x: Tensor, step_mode: str) -> None:
        """Raise ShapeError unless the first input of a call has these sizes.

        Args:
            layer: Its name in the error.
            x: The input, (T, N, *), or (N, *) in single-step mode.
            step_mode: "m" or "s".
        """
        first, axes, is_whole = 2 if step_mode == "m" else 1, *self
        if is_whole:
            if x.shape[first:] == axes:
                return
        elif x.dim() > first and x.size(first) == axes[0]:
            return
        shape, named = tuple(x.shape), f"shape={axes}" if is_whole else f"channels={axes[0]}"
        words = [*("T", "N")[2 - first :], *map(str, axes), *([] if is_whole else ["*"])]
        problem = f"x_seq has shape {shape}, and the layer has {named}"
        remedy = layout_remedy(axes, is_whole, shape, first)
        raise ShapeError(layer, problem, f"({', '.join(words)})", remedy)


def sizes_of(
    params: Sequence[Param], channels: int | None, shape: tuple[int, ...] | None
) -> Sizes | None:
    """Return the sizes of a layer that the shapes of its parameters do not show; None for none."""
    pers = {p.per for p in params}
    if shape is not None:
        return None if "neuron" in pers else Sizes(shape, True)
    return None if channels is None or pers != {"layer"} & pers else Sizes((channels,), False)


def layout_remedy(sizes: tuple[int, ...], whole: bool, shape: tuple[int, ...], axis: int) -> str:
    """Return what a shape looks like in which `sizes`, a `whole` sample or not, are elsewhere.

    `axis` is that of the channels.
    """
    count = len(sizes)
    if axis == 1:
        if shape[2 : 2 + count] != sizes:
            return ""
        return "It looks like a sequence (T, N, C, *). Use step_mode='m', or give one step."
    if shape[1 : 1 + count] == sizes:
        still, last = "Use x[None] for (N, C, *) without time", "x.movedim(-1, 0) for (N, C, *, T)"
        if whole:
            return f"{still}." if len(shape) == 1 + count else f"Use {last}."
        return f"Axis 1 has {sizes[0]}. {still}, or {last}."
    if len(shape) > 3 and shape[-1] == sizes[0]:
        return f"Axis -1 has {sizes[0]}. Use x.movedim(-1, 2) for (T, N, *, C)."
    return "Axis 0 is time, axis 1 the batch, and axis 2 the channels: (T, N, C, *)."


def require_record(record: Any) -> tuple[str, ...]:
    """Return the names in `record`, each once, or raise ModelError."""
    names = (record,) if isinstance(record, str) else record
    if not isinstance(names, Sequence) or not all(isinstance(n, str) for n in names):
        raise wrong("NeuronLayer", "record", record, "names, such as ('v',)")
    return tuple(dict.fromkeys(names))


def recording(neuron: Neuron, record: tuple[str, ...], interval: tuple[float, float]) -> Neuron:
    """Return the neuron with its records as further outputs and counts.

    Raises:
        ModelError: A name is not that of a state, or the interval is empty.
    """
    low, high = require_interval("NeuronLayer", "interval", interval)
    states = {s.name: s for s in neuron.states}
    for name in record:
        require_known("NeuronLayer", "record", name, (*states, STATS))
    neuron = neuron.with_outputs(**{f"{n}_recorded": states[n] for n in record if n != STATS})
    if STATS not in record:
        return neuron
    counts: dict[str, ExprLike] = {f"{s.name}_count": s for s, _ in neuron.fire}
    if states:
        v = potential_of(neuron)
        counts["outside_count"] = where(v >= low, where(v <= high, 0, 1), 1)
    return neuron.with_counts(**counts)


def recorded(
    neuron: Neuron, record: tuple[str, ...], outputs: tuple[Tensor, ...], counts: Sequence[Any]
) -> dict[str, Any]:
    """Return the records of a call by name.

    Counts stay tensors in a graph of a compiler, and in a transform of `torch.func`.
    """
    values: dict[str, Any] = dict(zip((n for n in record if n != STATS), outputs, strict=True))
    if STATS in record:
        names = [*neuron.spikes, *(("outside",) if neuron.states else ())]
        traced = torch.compiler.is_compiling()  # where a count without steps is a number
        found = [
            c.detach() if isinstance(c, Tensor) and (traced or not is_plain(c)) else float(c)
            for c in counts
        ]
        values[STATS] = dict(zip(names, found, strict=True))
    return values


def require_dtype(place: str, name: str) -> torch.dtype:
    """Return the type of sequences of this name, or raise ModelError."""
    require_one_of(place, "dtype", name, tuple(TYPES.values()))
    return next(dtype for dtype, word in TYPES.items() if word == name)


def require_inputs(
    layer: str, names: Sequence[str], inputs: tuple[Tensor, ...], step_mode: str
) -> tuple[Tensor, ...]:
    """Return the inputs of a call, expanded to the shape of the first, or raise ShapeError.

    An error begins with the name of the layer, and `names` are those of its inputs. Expanded
    inputs are views, with stride 0 on the axes along which they repeat.
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        require_no_tracing(layer)
    first, axes = inputs[0] if inputs else None, 2 if step_mode == "m" else 1
    if len(inputs) == len(names) == 1 and isinstance(first, Tensor):
        if (
            first.layout is torch.strided
            and not first.is_nested
            and first.dim() >= axes
            and first.dtype in TYPES
        ):
            return inputs  # the usual call, without the cost of the rest
    if len(inputs) != len(names):
        remedy = NAMES_REMEDY if inputs and len(inputs) < len(names) else ""
        problem = f"the call has {counted(len(inputs), 'input')}"
        raise ShapeError(layer, problem, names or "none", remedy)
    expected = "(T, N, *)" if axes == 2 else "(N, *)"
    expanded: list[Tensor] = []
    for name, x in zip(names, inputs, strict=True):
        remedy = ""
        if not isinstance(x, Tensor):
            found, accepted = f"is of type {type(x).__name__}", "a tensor"
            if isinstance(x, np.ndarray):
                remedy = f"Use torch.from_numpy({name})."
            elif isinstance(x, PackedSequence):
                remedy = f"Use torch.nn.utils.rnn.pad_packed_sequence({name})[0], whose steps of"
                remedy += " zeros run too."
            elif isinstance(x, list | tuple | int | float):
                is_list = isinstance(x, list | tuple) and any(isinstance(e, Tensor) for e in x)
                remedy = f"Use torch.{'stack' if is_list else 'tensor'}({name})."
        elif x.is_nested:
            found, accepted = "is a nested tensor", "one dense tensor for all samples"
            padded = f"torch.nested.to_padded_tensor({name}, 0.0)"
            remedy = f"Use {padded}.transpose(0, 1) for samples (T, *), whose steps of zeros run"
            remedy += " too."
        elif x.layout is not torch.strided:
            found, accepted = f"has the layout {x.layout}", "torch.strided"
            remedy = f"Use {name}.to_dense()."
        elif x is first and x.dim() < axes:
            found, accepted = f"has shape {tuple(x.shape)}", expected
        elif x.dtype != inputs[0].dtype:
            found, accepted = f"is {x.dtype}", f"{inputs[0].dtype}, as the first input"
            remedy = "" if x.is_complex() else f"Use {name}.to({inputs[0].dtype})."
        elif x.device != inputs[0].device:
            found, accepted = f"is on {x.device}", f"{inputs[0].device}, as the first input"
        elif x.dtype not in TYPES:
            found, accepted = f"is {x.dtype}", ", ".join(TYPES.values())
            remedy = f"Use {name}.float()."
            if x.is_complex():
                remedy = f"Use {name}.real, {name}.imag or {name}.abs()."
        else:
            shape = tuple(inputs[0].shape)
            # In a graph T may be a symbol, which a comparison with other axes would bound.
            is_strict = not torch.compiler.is_compiling()
            own = input_shape(x.shape, shape, axes == 2, is_strict=is_strict)
            if own is not None:
                # Under autograd, the gradient of `expand` is the sum over the axes of length 1.
                expanded.append(x if x.shape == shape else x.reshape(own).expand(shape))
                continue
            (found, accepted), remedy = misfit(x.shape, shape, axes == 2), AXES_REMEDY
        raise ShapeError(layer, f"input {name!r} {found}", accepted, remedy)
    return tuple(expanded)


def lengths_of(layer: str, lengths: Any, x: Tensor) -> Tensor:
    """Return the lengths of the samples of x, (T, N, *), as int64 on its device.

    Raises:
        ShapeError: They are not N integers from 1 to T.
    """
    steps, batch = x.shape[:2]
    try:
        found = torch.as_tensor(lengths)
    except (TypeError, ValueError, RuntimeError):
        raise ShapeError(layer, f"lengths is {shown(lengths)}", f"integers, ({batch},)") from None
    if found.shape != (batch,) or found.is_floating_point() or found.dtype is torch.bool:
        problem = f"lengths is {found.dtype} of shape {tuple(found.shape)}"
        raise ShapeError(layer, problem, f"integers, ({batch},)")
    if not torch.compiler.is_compiling() and batch:
        least, most = int(found.min()), int(found.max())
        if least < 1 or most > steps:
            problem = f"lengths are from {least} to {most}"
            raise ShapeError(layer, problem, f"1 to {steps}, the steps of x_seq")
    return found.to(device=x.device, dtype=torch.int64)


def is_recomputed() -> bool:
    """Report whether a backward recomputes the call (activation checkpointing)."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def is_autocast(x: Tensor) -> bool:
    """Report whether autocast is on for the device of a tensor."""
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def widened(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the inputs of a call, under autocast in the widest of their types."""
    if len(inputs) < 2 or not all(isinstance(x, Tensor) and x.dtype in TYPES for x in inputs):
        return inputs
    if not is_autocast(inputs[0]):
        return inputs
    widest = reduce(torch.promote_types, (x.dtype for x in inputs))
    return tuple(x.to(widest) for x in inputs)


def converted(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return an input in another type; it repeats where `x` does, with stride 0."""
    if x.dtype is dtype:
        return x
    varying = x[tuple(slice(None if stride else 1) for stride in x.stride())]
    return varying.to(dtype).expand(x.shape)


def require_axes(
    neuron: Neuron,
    axes: Sequence[tuple[int, ...] | None],
    shape: torch.Size,
    step_mode: str = "m",
) -> None:
    """Raise ShapeError where parameters have other leading axes than (T, N, C, *) needs.

    In single-step mode, T is 1 and the error leaves it out.
    """
    for param, own in zip(neuron.params, axes, strict=True):
        if param.per == "layer":
            continue
        given = tuple(shape[2:3] if param.per == "channel" else shape[2:])
        if given == own:
            continue
        first, names = (2, "T, N") if step_mode == "m" else (1, "N")
        if param.per == "channel":
            found = f"{given[0] if given else 'no'} channels (axis {first} of ({names}, C, *))"
        else:
            found = f"neurons {given} in a sample ({names}, *)"
        needed = "(C,)" if own is None else own  # None: per channel, and no input has shown C
        size = f"{needed}, the size of parameter {param.name!r} per {param.per}"
        seen = tuple(shape[2 - first :])
        remedy = "" if own is None else layout_remedy(own, param.per == "neuron", seen, first)
        raise ShapeError(neuron.name, f"x_seq has shape {seen}, {found}", size, remedy)


def is_plain(tensor: Tensor) -> bool:
    """Report whether a tensor outlives the transform of torch.func, or the trace, that made it."""
    return type(tensor) is Tensor and not is_functorch_wrapped_tensor(tensor)


def _has_memory(tensor: Tensor) -> bool:
    """Report whether a tensor has memory of its own: no fake tensor and no wrapper of others."""
    if isinstance(tensor, FakeTensor) or is_traceable_wrapper_subclass(tensor):
        return False
    return tensor.data_ptr() != 0


def _tangent_of(tensor: Tensor) -> Tensor | None:
    return forward_ad.unpack_dual(tensor).tangent  # type: ignore[no-untyped-call, no-any-return]


def require_plain_memory(
    layer: str, reader: str, tensors: Sequence[Tensor], remedy: str = "Use backend='torch'."
) -> None:
    """Raise UnsupportedError where a tensor has no plain memory that a `reader` can read."""
    for tensor in tensors:
        if (
            type(tensor) not in _PLAIN
            or tensor.layout is not torch.strided
            or is_functorch_wrapped_tensor(tensor)
        ):
            break
    else:
        if forward_ad._current_level < 0:
            return  # the usual call, without the cost of the rest
    for tensor in tensors:
        if is_functorch_wrapped_tensor(tensor):
            problem = f"{reader} have no torch.func transforms (vmap, grad, jvp)"
        elif forward_ad._current_level >= 0 and _tangent_of(tensor) is not None:
            problem = f"{reader} have no forward-mode derivatives (torch.autograd.forward_ad)"
        elif tensor.layout is not torch.strided or (tensor.numel() and not _has_memory(tensor)):
            problem = f"{reader} cannot read a {type(tensor).__name__} of layout {tensor.layout}"
        else:
            continue
        raise UnsupportedError(layer, problem, remedy=remedy)


def require_plain_gradients(layer: str, grads: Sequence[Tensor | None]) -> None:
    """Raise UnsupportedError where a gradient has no plain memory that the kernels can read."""
    reader, given = "the generated kernels", [g for g in grads if g is not None]
    require_plain_memory(layer, reader, given)
    for grad in given:
        if not torch._C._has_storage(grad):  # inside PyTorch's older vmap
            problem = f"{reader} have no batched gradients (is_grads_batched, vectorize)"
            raise UnsupportedError(layer, problem, remedy="Use backend='torch'.")


def parameters_as(
    neuron: Neuron, shapes: Sequence[tuple[int, ...]], values: Sequence[Tensor], x: Tensor
) -> list[Tensor]:
    """Return parameters in the type of the arithmetic on `x`, or raise ShapeError.

    The kernels read bare addresses: a wrong shape or device must not reach them.
    """
    real, device = REAL[x.dtype], x.device
    for k, value in enumerate(values):
        if value.shape != shapes[k] or value.device != device:
            raise ShapeError(
                neuron.name,
                f"parameter {neuron.params[k].name!r} is {tuple(value.shape)} on {value.device}",
                f"{shapes[k]} on {device}, the device of the input",
            )
    return [value if value.dtype is real else value.to(real) for value in values]


# Calls of a layer while `torch.onnx.export` runs.


_TABLES = 0
"""Tables that `onnx_table` has made."""


def note_table() -> None:
    """Note that a table was made."""
    global _TABLES
    _TABLES += 1


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def is_exporting_onnx() -> bool:
    """Report whether a traced call belongs to `torch.onnx.export`."""
    return torch.onnx.is_in_onnx_export()


def require_table(where: str) -> None:
    """Raise UnsupportedError if no table was made, and so none was given to the export."""
    if not _TABLES:
        problem = "torch.onnx.export has no function for the operator of a neuron layer"
        remedy = "Give it custom_translation_table=lnm.nn.onnx_table()."
        raise UnsupportedError(where, problem, remedy=remedy)


def require_evaluation(where: str) -> None:
    """Raise UnsupportedError if `torch.onnx.export` traces a call with batch statistics."""
    if is_exporting_onnx():
        problem = "the model is in training, and ONNX has no form for batch statistics"
        raise UnsupportedError(where, problem, remedy="Call model.eval() before the export.")


def require_no_tracing(where: str) -> None:
    """Raise UnsupportedError if `torch.onnx.export` traces with TorchScript (dynamo=False)."""
    if is_exporting_onnx():
        problem = "torch.onnx.export with dynamo=False has no form for a neuron layer"
        remedy = "Use dynamo=True and custom_translation_table=lnm.nn.onnx_table()."
        raise UnsupportedError(where, problem, remedy=remedy)
