"""A network of one's own in integers: an `nn.Sequential` on (T, N, *), or a module with a chain."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, get_args

from torch import Tensor, nn

from lnm_codegen.backends.network_c.layers import Accumulation
from lnm_codegen.deploy.integers.convert import default_network, real_network
from lnm_codegen.deploy.integers.emit import EmittedNetwork, NetworkTarget, emit_integers
from lnm_codegen.deploy.integers.weights import WeightFormat
from lnm_codegen.errors import ShapeError, UnsupportedError
from lnm_codegen.ir.network.nodes import OVER, OverTime
from lnm_codegen.language.names import require_name
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.chain import REDUCTIONS, Chain
from lnm_codegen.nn.exchange.known import SAME
from lnm_codegen.nn.fusion.sequence import is_sequential, restores_time, steps
from lnm_codegen.nn.hooks import evaluating
from lnm_codegen.nn.norm.deferred import DeferredNorm
from lnm_codegen.options import NetworkTargetName
from lnm_codegen.validation import require_integer, require_one_of, require_type, shown, wrong

WHERE = "emit_network"
FRAMES = (nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d)
"""Modules on (T*N, *)."""
ACCEPTED = (
    "nn.Linear, NeuronLayer, NormNeuron and nn.Flatten(2) on (T, N, *); between nn.Flatten(0, 1)"
    " and nn.Unflatten(0, (T, N)) nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d,"
    " nn.MaxPool2d, nn.AvgPool2d and nn.Flatten(1)"
)


def emit_network(
    module: nn.Module,
    samples: Tensor,
    backend: NetworkTargetName = "c",
    *,
    name: str = "network",
    over: OverTime | None = None,
    weights: int = 8,
    vectors: int | None = None,
    accumulate: Accumulation | None = None,
    lanes: int | None = None,
    load_port: bool = False,
) -> EmittedNetwork:
    """Return a trained network of your own in integers, as C or Verilog.

    It runs in eval mode on the samples. The numbers of the neurons have 16 bits, the input 12.

    Args:
        module: An `nn.Sequential` of linear layers, neuron layers and more, from (T, N, *) to
            outputs (T, N, classes); nested ones too. Or a module whose method `chain()` returns a
            `Chain`, such as the networks `feedforward` and `conv` of `lnm.train.build`.
        samples: Inputs of the module, some hundred training samples: formats hold the values that
            occur on them. The first are those of the example in C, or of the testbench.
        backend: "c" or "verilog".
        name: Prefix of files and functions.
        over: Scores of an `nn.Sequential`: "mean" (default), "last" or "max" of its outputs over
            time.
        weights: Bits of a weight, 2 to 16.
        vectors: Samples of the example, by default 4, or of the testbench, by default 8.
        accumulate: Sums in C: "events" (default) adds the weights of inputs that are not zero,
            "dense" multiplies all.
        lanes: Weights that a layer in Verilog adds in a cycle, by default 4.
        load_port: A port in Verilog by which weights are loaded.

    Raises:
        ModelError: Another argument, or a number that does not fit its format.
        ShapeError: `samples` have another shape.
        UnsupportedError: A module or a neuron has no form in integers; the place has its path.
    """
    require_type(WHERE, "module", module, nn.Module, "a torch.nn.Module")
    require_type(WHERE, "samples", samples, Tensor, "a tensor, inputs of the module")
    require_one_of(WHERE, "backend", backend, get_args(NetworkTargetName))
    require_integer(WHERE, "weights", weights, 2, 16)
    target = NetworkTarget(backend, vectors, accumulate, lanes, load_port)
    target.require(WHERE)
    require_name(f"{WHERE}: name", name)
    network, chain = _chained(module, samples, over)
    axes = 1 if chain.time_steps is None else 0
    if samples.dim() < axes + 2 or samples.numel() == 0:
        accepted = "(T, N, *)" if axes else "(N, *)"
        raise ShapeError(WHERE, f"samples have shape {tuple(samples.shape)}", accepted)
    if vectors is not None:
        require_integer(WHERE, "vectors", vectors, 1, samples.shape[axes])
    sample = (*samples.shape[:axes], *samples.shape[axes + 1 :])
    with evaluating(network):
        real = real_network(name, network, chain, sample)
        integers = default_network(real, samples.detach(), WeightFormat(weights))
    return emit_integers(integers, samples.detach(), target)


class _Scores(nn.Sequential):
    """The modules of a sequential module, with the same paths, and its scores over time."""

    def __init__(self, module: nn.Module, over: OverTime) -> None:
        children = {name: child for name, child in module._modules.items() if child is not None}
        super().__init__(OrderedDict(children))
        self.over = over

    def forward(self, x: Any) -> Any:
        """Return the scores (N, classes)."""
        for child in self:
            x = child(x)
        return REDUCTIONS[self.over](x)


def _chained(module: nn.Module, samples: Tensor, over: Any) -> tuple[nn.Module, Chain]:
    """Return a module whose output is the scores, and its chain."""
    if is_sequential(module):
        reduction: OverTime = "mean" if over is None else over
        require_one_of(WHERE, "over", reduction, OVER)
        found = tuple(_modules(module, samples))
        return _Scores(module, reduction), Chain(found, None, reduction)
    accepted = "an nn.Sequential, or a module with a method chain()"
    find: Any = getattr(module, "chain", None)
    if not callable(find):
        raise UnsupportedError(WHERE, f"the module is a {type(module).__name__}", accepted)
    chain = find()
    require_type(WHERE, "chain()", chain, Chain, "a lnm_codegen.nn.chain.Chain")
    if over is not None:
        raise wrong(WHERE, "over", over, "None, since chain() has it", "Omit it.")
    return module, chain


def _modules(module: nn.Module, samples: Tensor) -> Iterator[tuple[str, nn.Module]]:
    """Yield path and module of a chain: those that change more than the shape (T, N)."""
    _require_no_hooks(WHERE, module)
    in_frames = False
    for path, step in steps("", module):
        _require_no_hooks(f"{WHERE}: {path}", step)
        kind, problem = type(step), ""
        axes = _flattened(step)
        if axes == (0, 1) and not in_frames:
            in_frames = True
        elif restores_time(step) and in_frames and _is_time_of(step, samples):
            in_frames = False
        elif axes == (2 - in_frames, -1):
            yield path, step
        elif isinstance(step, NeuronLayer) and not in_frames:
            problem = _problem_of(step)
            yield path, step
        elif kind is nn.Linear or kind is DeferredNorm or (kind in FRAMES and in_frames):
            yield path, step
        elif kind not in SAME:
            problem = f"{shown(step)} on {'(T*N, *)' if in_frames else '(T, N, *)'}"
        if problem:
            raise UnsupportedError(f"{WHERE}: {path}", problem, ACCEPTED)
    if in_frames:
        remedy = "Add nn.Unflatten(0, (T, N)) at its end."
        raise UnsupportedError(WHERE, "the outputs are (T*N, *)", "(T, N, classes)", remedy)


def _require_no_hooks(where: str, module: nn.Module) -> None:
    """Refuse hooks, which may change values, except for those of this package."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    if not all(str(getattr(h, "__module__", "")).startswith("lnm_codegen.") for h in hooks):
        problem = f"the {type(module).__name__} has a forward hook, which may change values"
        remedy = "Remove it by its handle: handle.remove()."
        raise UnsupportedError(where, problem, "modules without hooks", remedy)


def _flattened(step: nn.Module) -> tuple[int, int] | None:
    """Return the first and the last axis of an `nn.Flatten`."""
    return (step.start_dim, step.end_dim) if type(step) is nn.Flatten else None


def _is_time_of(step: Any, samples: Tensor) -> bool:
    """Report whether an `nn.Unflatten` gives the first two axes of the samples."""
    pairs = zip(step.unflattened_size, samples.shape, strict=False)
    return all(size in (-1, own) for size, own in pairs)


def _problem_of(layer: NeuronLayer) -> str:
    """Return why a layer does not run whole sequences of real numbers from its start, or ""."""
    if not type(layer).forward.__module__.startswith("lnm_codegen."):
        return f"a {type(layer).__name__} has a forward of its own"
    if layer.step_mode == "s" or layer.carry_state:
        return "the layer keeps its states, by step_mode='s' or carry_state=True"
    return "" if layer.arithmetic is None else "the layer computes in integers"
