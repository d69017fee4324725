"""`lnm.nn.fuse`: batch normalisations and the neuron layers after them become one kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lnm_codegen.nn.fusion.pair import (
    Pair,
    has_hooks,
    is_sequential,
    join,
    joined,
    obstacle,
    sequence_pairs,
)
from lnm_codegen.nn.fusion.trace import Trace
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.validation import wrong

_UNKNOWN = "no NeuronLayer follows it in an nn.Sequential, or in the forward of one module"


@runtime_checkable
class HasNormPairs(Protocol):
    """A module that names its own pairs, so that `fuse` does not read its forward.

    Its forward calls `nn.norm.inputs.with_shortcut` for a pair with a shortcut.
    """

    def norm_pairs(self) -> Iterable[Pair]:
        """Return the pairs, with paths from this module."""


def fuse(model: nn.Module) -> FuseReport:
    """Change batch normalisations and the layers that read them into `NormNeuron`s, in place.

        x = norm(c), s = neuron(x)           ->  s = neuron(c)
        x = norm(c) + r, s = neuron(x)       ->  s = neuron(c, r)

    The layer becomes a `NormNeuron`, and the normalisation returns its input. Both stay the same
    objects at the same paths, with their parameters, running statistics, hooks and mode. So
    parameters keep their names, the state_dict keeps its keys, an optimiser that exists goes on,
    and a state_dict may be loaded before or after. Outputs agree up to rounding: a potential within
    rounding of the threshold may fire in one form only.

    A normalisation is `nn.BatchNorm1d`, `2d` or `3d`, `nn.SyncBatchNorm`, or SpikingJelly's
    `BatchNorm` or `ThresholdDependentBatchNorm`. `fuse` finds it

    * in an `nn.Sequential`, before a layer. A plain BatchNorm sees (T*N, C, *): the next module is
      `nn.Unflatten(0, (T, N))`, or it is the last in SpikingJelly's `SeqToANNContainer`; or the
      layer has step_mode="s";
    * in the forward of a module, if `torch.fx` can trace it, also with the addition of a shortcut.
      The class of a module with such an addition becomes a subclass, whose forward is the traced
      one; it can be copied, but not pickled. Numbers and branches that its attributes give stay
      those of this call.
      A forward with a branch on its arguments is left as it is, where traces show the branch;
    * in the networks of `lnm_codegen.train.models`.

    `fuse` reads only these forwards. It does not see other code that calls a normalisation or a
    layer on its own, or a part of an `nn.Sequential`. Forward hooks of a fused layer receive c.

    Code that looks for `_BatchNorm` no longer finds a fused one, such as
    `torch.optim.swa_utils.update_bn`; docs/reference/fusion.md has a loop in its place.

    Args:
        model: Changed in place.

    Returns:
        What was fused, and what was left and why. `print` it.

    Raises:
        ModelError: `model` is not a module.

    Example:
        >>> import torch, lnm_codegen as lnm
        >>> neuron = lnm.nn.NeuronLayer(lnm.get("lif"), backend="torch")
        >>> steps = torch.nn.Flatten(0, 1), torch.nn.BatchNorm2d(3), torch.nn.Unflatten(0, (4, 2))
        >>> print(lnm.nn.fuse(torch.nn.Sequential(*steps, neuron)))
        Fused: 1.
          1 -> 3
        Left as they are: 0.
    """
    if not isinstance(model, nn.Module):
        raise wrong("fuse", "model", model, "a torch.nn.Module")
    search = _Search(model)
    for path, module in list(model.named_modules()):
        search.visit(path, module)
    return search.report()


@dataclass
class _Search:
    """Pairs of a model that were fused, by the path of the normalisation, and reasons."""

    model: nn.Module
    fused: dict[str, FusedPair] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        modules = list(self.model.named_modules(remove_duplicate=False))
        self._paths = Counter(id(module) for _, module in modules)
        self._norms = [n for n, m in self.model.named_modules() if isinstance(m, _BatchNorm)]
        self._alone: set[str] = set()  # normalisations that a forward also uses on their own

    def visit(self, path: str, module: nn.Module) -> None:
        """Fuse the pairs that one module calls."""
        if isinstance(module, HasNormPairs):
            for pair in module.norm_pairs():
                self._fuse(pair.below(path))
        elif is_sequential(module):
            for pair in sequence_pairs(path, module):
                self._fuse(pair)
        elif any(isinstance(m, _BatchNorm) for _, m in _called(path, module)):
            self._trace(path, module)

    def _trace(self, path: str, module: nn.Module) -> None:
        trace = Trace(path, module)
        if trace.problem:
            for name, called in _called(path, module):
                if isinstance(called, _BatchNorm):
                    self.reasons.setdefault(name, f"{path or 'the model'}: {trace.problem}")
            return
        pairs, reasons, alone = trace.pairs()
        self._alone |= {joined(path, name) for name in alone}
        fused = [pair for pair in pairs if self._fuse(pair.below(path))]
        for name, reason in reasons.items():
            self.reasons.setdefault(joined(path, name), reason)
        if any(pair.shortcut for pair in fused):
            trace.pass_shortcuts(fused)

    def _fuse(self, pair: Pair) -> bool:
        """Fuse a pair, or keep the reason; report whether it was fused."""
        norm, layer = self.model.get_submodule(pair.norm), self.model.get_submodule(pair.neuron)
        if pair.norm in self.fused or pair.norm in self._alone:
            return False
        reason = obstacle(norm, layer, pair) or self._changed_between(pair)
        for path, module in ((pair.norm, norm), (pair.neuron, layer)):
            if self._paths[id(module)] > 1:
                reason = f"{path} has several paths in the model"
        if reason:
            self.reasons[pair.norm] = reason
            return False
        assert isinstance(layer, NeuronLayer)
        join(norm, layer, pair.shortcut)
        self.fused[pair.norm] = FusedPair(pair.norm, pair.neuron, pair.shortcut)
        return True

    def _changed_between(self, pair: Pair) -> str:
        """Return which module between a normalisation and its layer has code of the user's."""
        for path in pair.crossed:
            module = self.model.get_submodule(path)
            if has_hooks(module):
                return f"{path} has hooks"
            if "forward" in vars(module):
                return f"the forward of {path} was replaced on the object"
        return ""

    def report(self) -> FuseReport:
        """Return the report, in the order of the model."""
        left = (n for n in self._norms if n not in self.fused)
        return FuseReport(
            tuple(self.fused[n] for n in self._norms if n in self.fused),
            tuple(UnfusedNorm(n, self.reasons.get(n, _UNKNOWN)) for n in left),
        )


def _called(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that a forward may call: submodules, and those of sequential ones."""
    for name, child in module.named_children():
        place = joined(path, name)
        yield place, child
        if is_sequential(child):
            yield from _called(place, child)


# Report of `lnm.nn.fuse`.


@dataclass(frozen=True, slots=True)
class FusedPair:
    """A batch normalisation that the layer after it computes.

    Attributes:
        norm: Path of the normalisation in the model: "blocks.0.first.norm".
        neuron: Path of the layer.
        shortcut: The layer also adds a shortcut, the second input of its calls.
    """

    norm: str
    neuron: str
    shortcut: bool = False

    def __str__(self) -> str:
        """Return "bn -> neuron"."""
        return f"{self.norm} -> {self.neuron}{' (+ shortcut)' if self.shortcut else ''}"


@dataclass(frozen=True, slots=True)
class UnfusedNorm:
    """A batch normalisation that stays as it is, and the reason."""

    norm: str
    reason: str

    def __str__(self) -> str:
        """Return "bn: reason"."""
        return f"{self.norm}: {self.reason}"


@dataclass(frozen=True, slots=True)
class FuseReport:
    """The batch normalisations of a model, in its order: those that were fused, and the others.

    `print(report)` has a line for each.
    """

    fused: tuple[FusedPair, ...] = ()
    left: tuple[UnfusedNorm, ...] = ()

    def __str__(self) -> str:
        """Return one line for each batch normalisation."""
        if not (self.fused or self.left):
            return "No batch normalisation."
        lines = [f"Fused: {len(self.fused)}.", *(f"  {pair}" for pair in self.fused)]
        lines += [f"Left as they are: {len(self.left)}.", *(f"  {one}" for one in self.left)]
        return "\n".join(lines)
