"""Types of a call of a layer, for type checkers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, TypeAlias, cast, overload

from torch import Tensor

States: TypeAlias = Mapping[str, Tensor | float]
"""State -> initial value, (N, *) or a number."""


class LayerCall(Protocol):
    """Signature of `NeuronLayer.forward`, for a neuron with one output and without records.

    A layer that returns records, or whose neuron has several outputs, returns a tuple in place of
    the output: use `typing.cast`, or `return_recorded=False`.
    """

    @overload
    def __call__(
        self,
        x_seq: Tensor,
        *more_inputs: Tensor,
        state: States | None = None,
        return_state: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def __call__(
        self,
        x_seq: Tensor,
        *more_inputs: Tensor,
        state: States | None = None,
        return_state: Literal[True],
    ) -> tuple[Tensor, dict[str, Tensor]]: ...

    def __call__(
        self,
        x_seq: Tensor,
        *more_inputs: Tensor,
        state: States | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Run the layer."""


def typed_call(forward: Callable[..., Any]) -> LayerCall:
    """Return a method of a layer as it is, with the types of `LayerCall`."""
    return cast("LayerCall", forward)
