"""What a layer may be made with: its options, sizes and types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lnm_codegen.errors import ModelError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import TYPES
from lnm_codegen.nn.choice import BACKENDS
from lnm_codegen.validation import did_you_mean


def checked_neuron(neuron: Any, backend: Any, inplace: Any, detach_reset: Any) -> Neuron:
    """Return the neuron of a layer, its reset detached as asked for, or raise ModelError."""
    if not isinstance(neuron, Neuron):
        raise ModelError(
            "NeuronLayer", f"neuron is {neuron!r}", "an lnm.Neuron, such as lnm.get('lif')"
        )
    check_choice("backend", backend, BACKENDS)
    check_choice("inplace", inplace, (True, False))
    if detach_reset is None:
        return neuron
    check_choice("detach_reset", detach_reset, (True, False))
    return neuron.with_detach_reset(detach_reset)


def check_choice(word: str, value: Any, accepted: tuple[Any, ...]) -> None:
    """Raise ModelError unless `value` is one of `accepted`."""
    if value not in accepted:
        choices = ", ".join(repr(a) for a in accepted)
        raise ModelError(
            "NeuronLayer",
            f"{word} is {value!r}",
            choices,
            did_you_mean(str(value), map(str, accepted)),
        )


def checked_shape(shape: Any, channels: Any) -> tuple[int, ...] | None:
    """Return the shape of one sample's neurons as a tuple; raise ModelError where either is none.

    Both may be None; if neither is, the shape begins with the channels.
    """
    sizes: tuple[int, ...] | None = None
    if shape is not None:
        if not isinstance(shape, Sequence) or isinstance(shape, str):
            raise ModelError("NeuronLayer", f"shape is {shape!r}", "integers, such as (C, H, W)")
        for size in shape:
            _check_size("a size of shape", size)
        sizes = tuple(shape)
    if channels is not None:
        _check_size("channels", channels)
        if sizes is not None and sizes[:1] != (channels,):
            raise ModelError(
                "NeuronLayer",
                f"channels is {channels}, but shape {sizes} begins with another number",
                remedy="Give one of them, or the same.",
            )
    return sizes


def _check_size(word: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError("NeuronLayer", f"{word} is {value!r}", "an integer >= 1")


def check_dtype(dtype: Any) -> None:
    """Raise ModelError unless parameters may be of this type; None stands for the default."""
    if dtype not in (None, *TYPES):
        raise ModelError("NeuronLayer", f"dtype is {dtype!r}", ", ".join(map(str, TYPES)))
