"""Values in a forward: nodes that they are sums of, features, and where T and N are."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from torch import Tensor

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn.exchange.layers import Shape

Layout: TypeAlias = Literal["steps", "merged", "once", "step"]
"""Axes before the features: (T, N), (T*N,), (N,) of a value that is the same at each step, or (N,)
of one time step."""


@dataclass(frozen=True)
class FrameSignal:
    """A value of the forward.

    Attributes:
        sources: Nodes whose sum it is.
        shape: Its features.
        layout: Its axes before them.
        repeated: It has the axis T, and is the same at each step.
        time: Index of its time step, of layout "step".
    """

    sources: tuple[str, ...]
    shape: Shape
    layout: Layout
    repeated: bool = False
    time: int = 0

    def of_node(self, name: str, shape: Shape) -> FrameSignal:
        """Return the output of a node with this input."""
        return replace(self, sources=(name,), shape=shape)


@dataclass(frozen=True)
class Frame:
    """T and N of the sample; T is 0 until it is known."""

    steps: int
    batch: int

    def lead(self, layout: Layout) -> Shape:
        """Return the axes before the features."""
        if layout == "steps":
            return self.steps, self.batch
        return (self.steps * self.batch,) if layout == "merged" else (self.batch,)

    def features(self, where: str, value: Tensor, layout: Layout) -> Shape:
        """Return the axes after T and N of a value of known layout, or raise UnsupportedError."""
        lead = self.lead(layout)
        if tuple(value.shape[: len(lead)]) != lead:
            problem = f"its output has shape {tuple(value.shape)}"
            raise UnsupportedError(where, problem, f"{lead} before the features")
        return tuple(value.shape[len(lead) :])

    def reshaped(
        self, where: str, signal: FrameSignal, shape: Shape
    ) -> tuple[FrameSignal, Shape | None]:
        """Return a signal after a reshape that keeps the order of its elements.

        The second result is (start, end) where features are merged, or None.
        """
        alone = signal.layout in ("once", "step")
        layouts: tuple[Layout, ...] = (signal.layout,) if alone else ("steps", "merged")
        for layout in layouts:
            if shape == (*self.lead(layout), *signal.shape):
                return replace(signal, layout=layout), None
        for layout in layouts:
            lead = self.lead(layout)
            found = merged_axes(signal.shape, shape[len(lead) :])
            if shape[: len(lead)] == lead and found is not None:
                return replace(signal, layout=layout, shape=shape[len(lead) :]), found
        leads = " or ".join(f"({', '.join(map(str, self.lead(k)))}, ...)" for k in layouts)
        problem = f"a reshape of features {signal.shape} to {shape}"
        raise UnsupportedError(where, problem, f"{leads} with the features kept or flattened")


def merged_axes(before: Shape, after: Shape) -> tuple[int, int] | None:
    """Return (start, end) of the axes that a flattening merges, or None if it is none."""
    count = len(before) - len(after)
    for start in range(len(after)) if count > 0 else ():
        end = start + count
        merged = (*before[:start], math.prod(before[start : end + 1]), *before[end + 1 :])
        if merged == after:
            return start, end
    return None
