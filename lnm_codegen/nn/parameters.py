"""The parameters of a layer: their rows, and their places in the module."""

from __future__ import annotations

import torch
from torch import nn

from lnm_codegen.errors import ModelError, ShapeError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import Param


def rows_of(
    neuron: Neuron, param: Param, channels: int | None, shape: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Return the leading axes of a parameter: (), (C,) or the shape of one sample's neurons.

    Raises:
        ModelError: Its granularity needs `channels` or `shape`, and neither is given.
    """
    if param.per == "layer":
        return ()
    if param.per == "channel" and channels is not None:
        return (channels,)
    if shape is not None:
        return shape[:1] if param.per == "channel" else shape
    missing = "channels=C" if param.per == "channel" else "shape=(C, *)"
    raise ModelError(
        "NeuronLayer",
        f"parameter {param.name!r} of {neuron.name} is per {param.per}",
        remedy=f"Give {missing}.",
    )


def shape_of(param: Param, rows: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a parameter whose leading axes are `rows`."""
    return rows if param.size is None else (*rows, param.size)


def register(module: nn.Module, param: Param, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Make a parameter an attribute of a module: an `nn.Parameter` if it is learnable.

    Raises:
        ModelError: The module has an attribute of that name.
        ShapeError: What its `init` makes has another shape.
    """
    if hasattr(module, param.name):
        raise ModelError(
            "NeuronLayer",
            f"parameter {param.name!r} has the name of an attribute of nn.Module",
            remedy="Rename it in the model.",
        )
    if callable(param.init):
        value = torch.as_tensor(param.init(torch.default_generator, shape))
        if value.shape != shape:
            raise ShapeError(
                "NeuronLayer",
                f"the init of {param.name!r} gave shape {tuple(value.shape)}; expected {shape}",
            )
    else:
        value = torch.tensor(param.init, dtype=dtype).expand(shape)
    value = value.to(dtype).clone()
    if param.learnable:
        module.register_parameter(param.name, nn.Parameter(value))
    else:
        module.register_buffer(param.name, value)
