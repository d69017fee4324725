"""Modules whose forward is known: classes that are nodes, as they are, without hooks."""

from __future__ import annotations

from typing import TypeVar

from torch import nn
from torch.nn.modules import module as torch_module
from torch.nn.modules.batchnorm import _BatchNorm

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn.convert.jelly import LAYERS, is_batch_norm
from lnm_codegen.nn.convert.libraries import library_of
from lnm_codegen.nn.exchange.modules import Delay, Scale, SumPool2d
from lnm_codegen.nn.exchange.parts import HasParts
from lnm_codegen.nn.exchange.signals import Layout
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.norm.deferred import DeferredNorm

M = TypeVar("M", bound=nn.Module)

WHERE = "to_nir"
NAMES = (
    "nn.Linear", "nn.Conv1d", "nn.Conv2d", "nn.AvgPool2d", "nn.Flatten", "nn.BatchNorm1d",
    "nn.BatchNorm2d", "nn.Dropout", "nn.Identity", "lnm.nn.NeuronLayer", "lnm.nn.NormNeuron",
)  # fmt: skip
SAME = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
RESHAPING = (nn.Flatten, nn.Unflatten)
_OTHERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.AvgPool2d, SumPool2d, Scale, Delay, DeferredNorm)
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
_PYTORCH, _OURS = "torch.nn.modules.", "lnm_codegen."


def is_leaf(module: nn.Module) -> bool:
    """Report whether a call of a module is one node, or is refused by its class."""
    own = (*_OTHERS, *SAME, *RESHAPING, NeuronLayer, _BatchNorm)
    if isinstance(module, own) or isinstance(module, HasParts):
        return True
    return type(module).__module__.startswith("torch.nn.modules") and not isinstance(
        module, _CONTAINERS
    )


def known(where: str, module: M, kind: type) -> M:
    """Return a module of exactly this class, or of SpikingJelly's, or raise UnsupportedError."""
    own = type(module)
    if own is not kind and not own.__module__.startswith(LAYERS):
        raise _subclass(where, own, kind)
    return module


def require_forward(where: str, module: nn.Module, layout: Layout) -> None:
    """Raise UnsupportedError if a neuron layer or an identity has a forward of the user's.

    A batch normalisation must also be over the channels of an input with this layout.
    """
    own = type(module)
    if isinstance(module, _BatchNorm):
        _require_channels(where, module, layout)
    elif isinstance(module, (*SAME, *RESHAPING, NeuronLayer)):
        if not own.forward.__module__.startswith((_PYTORCH, _OURS, LAYERS)):
            raise _subclass(where, own, _known_base(own))


def _require_channels(where: str, module: nn.Module, layout: Layout) -> None:
    own = type(module)
    if not own.__module__.startswith(_PYTORCH) and not is_batch_norm(own):
        raise _subclass(where, own, _known_base(own))
    axis = 2 if getattr(module, "step_mode", "s") == "m" else 1
    if axis != (2 if layout == "steps" else 1):
        axes, accepted = "(T*N, C, *)", "(T, N, C, *)"
        if layout == "steps":
            axes, accepted = accepted, f"{axes}, by x.flatten(0, 1)"
        elif layout == "once":
            axes = "(N, C, *)"
        problem = f"a {own.__name__} normalises axis {axis} of {axes}"
        raise UnsupportedError(where, problem, accepted)


def _known_base(own: type) -> type:
    """Return the first class of PyTorch or of this package that a class derives from."""
    return next(base for base in own.__mro__ if base.__module__.startswith((_PYTORCH, _OURS)))


def _subclass(where: str, own: type, kind: type) -> UnsupportedError:
    problem = f"a {own.__name__}, a subclass of {kind.__name__}, may have another forward"
    return UnsupportedError(where, problem, NAMES)


def require_plain(model: nn.Module) -> None:
    """Raise UnsupportedError for a layer to convert, a hook, or a forward on the object.

    Hooks of containers, and those before the forward of a node, run between nodes: a record shows
    what they do. Hooks of this package change no value.
    """
    for path, leaf in model.named_modules():
        if library := library_of(leaf):
            where = f"{WHERE}: {path}" if path else WHERE
            problem = f"it is a {type(leaf).__name__} of {library.name}"
            raise UnsupportedError(where, problem, "NeuronLayer", "Use lnm.nn.convert(model).")
        for inner, module in leaf.named_modules(prefix=path) if is_leaf(leaf) else ():
            where = f"{WHERE}: {inner}" if inner else WHERE
            if "forward" in vars(module):
                problem = f"the forward of the {type(module).__name__} was replaced on the object"
                raise UnsupportedError(where, problem, "modules with the forward of their class")
            hooks = [*torch_module._global_forward_hooks.values(), *module._forward_hooks.values()]
            hooks += [] if module is leaf else module._forward_pre_hooks.values()
            if not all(str(getattr(h, "__module__", "")).startswith(_OURS) for h in hooks):
                problem = f"the {type(module).__name__} has a forward hook, which may change values"
                remedy = "Remove it by its handle: handle.remove()."
                raise UnsupportedError(where, problem, "modules without hooks", remedy)
