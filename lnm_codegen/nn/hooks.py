"""Forward hooks, what neurons receive, and the eval mode, for the time of a context."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from lnm_codegen.nn.call import Received
    from lnm_codegen.nn.layer import NeuronLayer


@contextmanager
def hooked(
    hooks: Iterable[tuple[nn.Module, Callable[..., None]]], *, with_kwargs: bool = False
) -> Iterator[None]:
    """Call each hook after every forward of its module, until the context ends.

    Args:
        hooks: (module, hook). A hook receives module, inputs and output; with `with_kwargs` it
            receives the keyword arguments after the inputs.
        with_kwargs: See `torch.nn.Module.register_forward_hook`.
    """
    handles = []
    try:
        for module, hook in hooks:
            handles.append(module.register_forward_hook(hook, with_kwargs=with_kwargs))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def watching(
    pairs: Iterable[tuple[NeuronLayer, Callable[[NeuronLayer, Received], None]]],
) -> Iterator[None]:
    """Pass what the neurons of a layer receive in each call to a function, until the context ends.

    A layer may compute the inputs of its neurons itself, by a normalisation or by weights, and
    take its arguments in the order of another library.
    """

    def told(observe: Callable[[NeuronLayer, Received], None]) -> Callable[..., None]:
        def hook(layer: NeuronLayer, *_: object) -> None:
            if layer._received is not None:  # a forward of the user's may not run ours
                observe(layer, layer._received)

        return hook

    watched = list(pairs)
    for layer, _ in watched:
        layer._watched += 1
    try:
        with hooked((layer, told(observe)) for layer, observe in watched):
            yield
    finally:
        for layer, _ in watched:
            layer._watched -= 1
            layer._received = None


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Set a network to eval mode until the context ends; each module then has its former mode."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
