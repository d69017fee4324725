"""Learned parameters of a neuron layer after each epoch, as arrays and as a plot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from lnm_codegen.nn import NeuronLayer
from lnm_codegen.plot.axes import STATE_COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def layer_history(history: Mapping[str, Tensor], k: int, layer: NeuronLayer) -> dict[str, Tensor]:
    """Return parameter -> (epochs + 1, rows, elements) of layer k, in the order of declaration.

    Args:
        history: `<layer>.<parameter>` -> (epochs + 1, *shape), as in history.safetensors.
        k: Number of the layer; the first is 0.
        layer: The layer. A parameter of another shape is left out.
    """
    found = {}
    for decl in layer.neuron.params:
        value = history.get(f"{k}.{decl.name}")
        shape = tuple(getattr(layer, decl.name).shape)
        if value is not None and tuple(value.shape[1:]) == shape:
            found[decl.name] = value.reshape(len(value), -1, decl.size or 1).double()
    return found


def draw_history(axis: Axes, name: str, values: Tensor) -> None:
    """Draw a parameter after each epoch: the median over the rows and the 10 to 90 % range.

    Args:
        axis: Axes to draw into.
        name: Name of the parameter; element i has the label `<name>_<i>`.
        values: (epochs + 1, rows, elements).
    """
    epochs, (_, rows, elements) = range(len(values)), values.shape
    low, middle, high = np.quantile(values.numpy(), (0.1, 0.5, 0.9), axis=1)
    for i in range(elements):
        color = STATE_COLORS[i % len(STATE_COLORS)]
        style = ("-", "--")[i // len(STATE_COLORS) % 2]
        axis.plot(epochs, middle[:, i], style, color=color, linewidth=1.4, label=f"{name}_{i}")
        if rows > 1:
            axis.fill_between(epochs, low[:, i], high[:, i], alpha=0.15, linewidth=0, color=color)
    axis.set_xlabel("epoch")
    axis.locator_params(axis="x", integer=True)
