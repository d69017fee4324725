"""Forward hooks and the eval mode, for the time of a context."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from torch import nn


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
def evaluating(network: nn.Module) -> Iterator[None]:
    """Set a network to eval mode until the context ends; each module then has its former mode."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
