"""A batch normalisation and the neuron layer after it: conditions, and the change of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lnm_codegen.errors import LnmError
from lnm_codegen.language.normalisation import normalised
from lnm_codegen.nn.convert.jelly import is_batch_norm
from lnm_codegen.nn.convert.libraries import is_spiking, library_of
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.norm.deferred import DeferredNorm
from lnm_codegen.nn.norm.layer import NormNeuron

_KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_FIELDS = ("channels", "norm", "shortcut", "sync")
"""Attributes that `NormNeuron.defer` sets."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A normalisation and the layer that reads its output, by their paths in a module.

    Attributes:
        norm: Path of the normalisation.
        neuron: Path of the layer.
        shortcut: The layer reads the sum of that output and a shortcut.
        flattened: The normalisation sees (T*N, C, *) and the layer (T, N, C, *).
        crossed: Paths of the modules that pass the output of the normalisation on to the layer.
    """

    norm: str
    neuron: str
    shortcut: bool = False
    flattened: bool = False
    crossed: tuple[str, ...] = ()

    def below(self, path: str) -> Pair:
        """Return the pair with paths from a module that has this one's at `path`."""
        norm, neuron, *crossed = (joined(path, n) for n in (self.norm, self.neuron, *self.crossed))
        return Pair(norm, neuron, self.shortcut, self.flattened, tuple(crossed))


def joined(path: str, name: str) -> str:
    """Return the path of a submodule."""
    return f"{path}.{name}" if path and name else path or name


def obstacle(norm: nn.Module, layer: nn.Module, pair: Pair) -> str:
    """Return why a layer cannot compute a normalisation; empty if it can."""
    kind = type(norm)
    is_known = kind in _KINDS or is_batch_norm(kind)
    if not (is_known and isinstance(norm, _BatchNorm)):
        return f"{kind.__name__} is not a class that fuse knows"
    library = library_of(layer)
    if library is not None:
        problem = f"{pair.neuron} is a {type(layer).__name__} of {library.name}"
        return f"{problem}: convert the model first (lnm.nn.convert), or see its conversion_report"
    if type(layer) is not NeuronLayer:
        return f"{pair.neuron} is a {type(layer).__name__}, not a NeuronLayer"
    if not norm.affine:
        return "it has no weight and no bias (affine=False)"
    if norm.running_mean is None or not norm.track_running_stats:
        return "it keeps no running statistics (track_running_stats=False)"
    if getattr(norm, "process_group", None) is not None:
        return "its process_group is not the default one"
    if layer.arithmetic is not None:
        return f"{pair.neuron} computes in integers"
    if has_hooks(norm) or layer._forward_pre_hooks:
        return f"it has hooks, or {pair.neuron} has forward pre-hooks"
    if "forward" in vars(norm) or "forward" in vars(layer):
        return f"its forward, or that of {pair.neuron}, was replaced on the object"
    names = [p.name for p in layer.neuron.params] + [s.name for s in layer.neuron.states]
    for name in names:
        if name in _FIELDS or hasattr(NormNeuron, name):
            return f"{pair.neuron} has a state or parameter {name!r}, an attribute of NormNeuron"
    own = {*vars(layer), *layer._parameters, *layer._buffers, *layer._modules}
    for name in (*_FIELDS, "normalisation"):
        if name in own:
            return f"{pair.neuron} has an attribute {name!r}, which NormNeuron needs"
    is_multi = getattr(norm, "step_mode", "s") == "m"
    if (layer.step_mode == "m") != (is_multi != pair.flattened) or (is_multi and pair.flattened):
        axis = 2 if is_multi and not pair.flattened else 1
        return f"it normalises axis {axis}, and {pair.neuron} has step_mode {layer.step_mode!r}"
    try:
        normalised(layer.neuron, pair.shortcut)
    except LnmError as error:
        return str(error)
    return ""


def has_hooks(module: nn.Module) -> bool:
    """Report whether a module has hooks of its forward or its backward."""
    hooks = (
        module._forward_hooks, module._forward_pre_hooks,
        module._backward_hooks, module._backward_pre_hooks,
    )  # fmt: skip
    return any(hooks)


def join(norm: nn.Module, layer: NeuronLayer, shortcut: bool) -> None:
    """Change the classes of both modules, so that the layer computes the normalisation.

    The objects, their parameters, buffers and hooks stay.
    """
    assert isinstance(norm, _BatchNorm)
    sync = isinstance(norm, nn.SyncBatchNorm)
    norm.__class__ = DeferredNorm  # type: ignore[assignment]
    layer.__class__ = NormNeuron
    assert isinstance(layer, NormNeuron)
    layer.defer(norm, norm.num_features, shortcut=shortcut, sync=sync)  # type: ignore[arg-type]


# Pairs in a `torch.nn.Sequential`, whose modules run one after the other.


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
