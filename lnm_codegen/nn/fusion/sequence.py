"""Pairs in a `torch.nn.Sequential`, whose modules run one after the other."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lnm_codegen.nn.convert.libraries import library_of
from lnm_codegen.nn.fusion.pair import Pair, has_hooks, joined
from lnm_codegen.nn.layer import NeuronLayer


def is_sequential(module: nn.Module) -> bool:
    """Report whether a module runs its submodules one after the other, as they are."""
    return type(module).forward is nn.Sequential.forward and "forward" not in vars(module)


def steps(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield path and module of what a sequential module runs, those of nested ones included."""
    for name, child in module._modules.items():
        place = joined(path, name)
        if child is None:
            continue
        if is_sequential(child) and not has_hooks(child):
            yield from steps(place, child)
        else:
            yield place, child


def last_norm(module: nn.Module) -> tuple[str, bool] | None:
    """Return the path of the normalisation that makes the output of a module, or None.

    The second result is True if the module flattens T and N before, and restores them after it.
    """
    if isinstance(module, _BatchNorm):
        return "", False
    if type(module).__name__ == "SeqToANNContainer" and len(module._modules):
        name, last = list(module._modules.items())[-1]
        if last is not None and isinstance(last, _BatchNorm):
            return name, True
    return None


def restores_time(module: nn.Module) -> bool:
    """Report whether a module is `nn.Unflatten(0, (T, N))`."""
    if type(module) is not nn.Unflatten:
        return False
    return module.dim == 0 and len(tuple(module.unflattened_size)) == 2


def is_spiking(module: nn.Module) -> bool:
    """Report whether a module is a neuron layer, of this package or to be converted."""
    return isinstance(module, NeuronLayer) or library_of(module) is not None


def sequence_pairs(path: str, module: nn.Module) -> Iterator[Pair]:
    """Yield the pairs of a sequential module, those of nested ones included."""
    norm: tuple[str, bool] | None = None
    crossed: tuple[str, ...] = ()
    for place, step in steps(path, module):
        if type(step) is nn.Identity:
            crossed += (place,)
            continue
        if is_spiking(step) and norm is not None:
            yield Pair(norm[0], place, flattened=norm[1], crossed=crossed)
        if restores_time(step) and norm is not None and not norm[1]:
            norm, crossed = (norm[0], True), (*crossed, place)
            continue
        found = last_norm(step)
        norm = None if found is None else (joined(place, found[0]), found[1])
        crossed = (place,) if found is not None and found[0] else ()
