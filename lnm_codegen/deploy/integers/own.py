"""A network of one's own in integers: an `nn.Sequential` on (T, N, *), or a module with a chain."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import prune
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from lnm_codegen.backends.network_c import Accumulation
from lnm_codegen.deploy.integers.convert import (
    default_network,
    differing_notes,
    real_network,
    zero_notes,
)
from lnm_codegen.deploy.integers.emit import (
    EmittedNetwork,
    NetworkTarget,
    emit_integers,
    with_unique_name,
)
from lnm_codegen.deploy.integers.real import WeightFormat
from lnm_codegen.deploy.network import trace_layers
from lnm_codegen.errors import LnmError, ModelError, ShapeError, UnsupportedError, reason
from lnm_codegen.ir.network.nodes import OVER, OverTime
from lnm_codegen.language.symbols import require_name
from lnm_codegen.nn.chain import REDUCTIONS, Chain
from lnm_codegen.nn.exchange.record import SAME
from lnm_codegen.nn.feedback import run_layer
from lnm_codegen.nn.fusion.pair import is_sequential, restores_time, steps
from lnm_codegen.nn.hooks import evaluating
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.norm.deferred import DeferredNorm
from lnm_codegen.nn.norm.layer import NormNeuron
from lnm_codegen.nn.residual import Residual
from lnm_codegen.options import NetworkTargetName
from lnm_codegen.validation import require_integer, require_one_of, require_type, shown, wrong


def emit_network(
    module: nn.Module,
    samples: Tensor,
    backend: NetworkTargetName = "c",
    *,
    name: str | None = None,
    over: OverTime | None = None,
    weights: int = 8,
    vectors: int | None = None,
    accumulate: Accumulation | None = None,
    lanes: int | None = None,
    neurons_per_cycle: int | None = None,
    load_port: bool = False,
    axi: bool = False,
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
        name: Prefix of files, functions and modules; by default "network", in Verilog with a digest
            behind it, so that a design can have several networks.
        over: Scores of an `nn.Sequential`: "mean" (default), "last" or "max" of its outputs over
            time, or "step": the outputs of every step.
        weights: Bits of a weight, 2 to 16.
        vectors: Samples of the example, by default 4, or of the testbench, by default 8, fewer
            if they have many time steps.
        accumulate: Sums in C: "events" (default) adds the weights of inputs that are not zero,
            "dense" multiplies all.
        lanes: Weights that a layer in Verilog adds in a cycle, by default 4. With 1, neurons share
            one multiplier.
        neurons_per_cycle: Most neurons of a layer in Verilog that are updated in a cycle, by
            default 1.
        load_port: A port in Verilog by which trained numbers are loaded.
        axi: A wrapper in Verilog for a system bus: AXI4-Stream and registers on AXI4-Lite.

    Raises:
        ModelError: Another argument, a number that is not finite or does not fit its format, or a
            `chain()` with other outputs than the module.
        ShapeError: `samples` have another shape or type.
        UnsupportedError: A module or a neuron has no form in integers; the place has its path.
    """
    require_type(WHERE, "module", module, nn.Module, "a torch.nn.Module")
    require_type(WHERE, "samples", samples, Tensor, "a tensor, inputs of the module")
    require_one_of(WHERE, "backend", backend, get_args(NetworkTargetName))
    require_integer(WHERE, "weights", weights, 2, 16)
    target = NetworkTarget(backend, vectors, accumulate, lanes, neurons_per_cycle, load_port, axi)
    target.require(WHERE)
    if name is not None:
        require_name(f"{WHERE}: name", name)
    if samples.dtype not in (torch.float32, torch.float64):
        problem, remedy = f"samples are {samples.dtype}", "Convert them: samples.float()."
        raise ShapeError(WHERE, problem, "torch.float32, torch.float64", remedy)
    others = samples[~samples.isfinite()]
    if others.numel():
        raise ModelError(WHERE, f"samples hold {float(others[0]):g}", "finite numbers")
    lazy = next((n for n, p in module.named_parameters() if is_lazy(p)), None)
    if lazy is not None:
        problem, remedy = f"the parameter {lazy!r} has no shape yet", "Call the module once."
        raise ModelError(WHERE, problem, remedy=remedy)
    network, chain = chained(module, samples, over)
    axes = 1 if chain.time_steps is None else 0
    if samples.dim() < axes + 2 or samples.numel() == 0:
        accepted = "(T, N, *)" if axes else "(N, *)"
        raise ShapeError(WHERE, f"samples have shape {tuple(samples.shape)}", accepted)
    if vectors is not None:
        require_integer(WHERE, "vectors", vectors, 1, samples.shape[axes])
    sample = (*samples.shape[:axes], *samples.shape[axes + 1 :])
    with evaluating(network):
        real = real_network(name or "network", network, chain, sample)
        require_outputs(network, chain, samples)
        integers = default_network(real, samples.detach(), WeightFormat(weights))
        _, traces = trace_layers(network, samples)
    notes = zero_notes(integers, real.neurons) + differing_notes(real.neurons, integers, traces)
    integers = integers if name else with_unique_name(integers, target)
    return emit_integers(integers, samples.detach(), target, notes)


# The chain of a network of one's own, and its validation against the outputs of the network.


WHERE = "emit_network"
FRAMES = (
    nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
)  # fmt: skip
"""Modules on (T*N, *)."""
SEQUENCES = (
    "nn.Linear, NeuronLayer, NormNeuron, RecurrentLayer, Residual and nn.Flatten(2) on (T, N, *)"
)
IN_FRAMES = (
    "nn.Linear, nn.Conv2d, batch normalisations, poolings, Residual and nn.Flatten(1) on (T*N, *)"
)
PLAIN = "modules that compute what their class says"
_REMOVERS: tuple[tuple[type, str], ...] = (
    (prune.BasePruningMethod, "torch.nn.utils.prune.remove(module, 'weight')"),
    (WeightNorm, "torch.nn.utils.remove_weight_norm(module)"),
    (SpectralNorm, "torch.nn.utils.remove_spectral_norm(module)"),
)
"""Hooks of PyTorch that compute a weight, and the call that removes each."""
_BY_HANDLE = "Remove it by its handle: handle.remove()."
MOST_DIFFERING = 0.1
"""Share of the samples whose scores may differ: a sum in another order may change a spike."""


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


def chained(module: nn.Module, samples: Tensor, over: Any) -> tuple[nn.Module, Chain]:
    """Return a module whose output is the scores, and its chain.

    Raises:
        ModelError: `over`, or a result of `chain()`, that is not accepted.
        UnsupportedError: A module that the chain would not run as it is.
    """
    if is_sequential(module):
        reduction: OverTime = "mean" if over is None else over
        require_one_of(WHERE, "over", reduction, OVER)
        found = _Sequence(samples)
        found.add_all("", module)
        if found.in_frames:
            remedy = "Add nn.Unflatten(0, (T, N)) at its end."
            raise UnsupportedError(WHERE, "the outputs are (T*N, *)", "(T, N, classes)", remedy)
        chain = Chain(tuple(found.modules), None, reduction, inputs=found.inputs)
        return _Scores(module, reduction), chain
    accepted = "an nn.Sequential, or a module with a method chain()"
    find: Any = getattr(module, "chain", None)
    if not callable(find):
        raise UnsupportedError(WHERE, f"the module is a {type(module).__name__}", accepted)
    chain = find()
    require_type(WHERE, "chain()", chain, Chain, "a lnm_codegen.nn.chain.Chain")
    if over is not None:
        raise wrong(WHERE, "over", over, "None, since chain() has it", "Omit it.")
    require_one_of(f"{WHERE}: chain()", "over", chain.over, OVER)
    require_integer(f"{WHERE}: chain()", "time_steps", chain.time_steps, optional=True)
    _require_feedback(chain)
    _require_inputs(chain)
    _require_no_hooks(WHERE, module)
    names = {id(own): path for path, own in module.named_modules()}
    for path, step in chain.modules:
        _require_plain(path, step)
        if names.get(id(step)) != path and not isinstance(step, nn.Flatten | nn.Identity):
            problem = f"{path!r} is not the path of its {type(step).__name__}"
            raise ModelError(f"{WHERE}: chain()", problem, "paths of module.named_modules()")
    return module, chain


def _require_feedback(chain: Chain) -> None:
    """Refuse feedback that is no U without bias of neurons in the chain."""
    where, modules = f"{WHERE}: chain()", dict(chain.modules)
    require_type(where, "feedback", chain.feedback, Mapping, "a dict, path of neurons -> U")
    for path, back in chain.feedback.items():
        if not isinstance(modules.get(path), NeuronLayer):
            raise wrong(where, "a path of feedback", path, "the path of neurons in the chain")
        if not isinstance(back, nn.Linear) or back.bias is not None:
            problem = f"feedback of {path!r} is {shown(back)}"
            raise ModelError(where, problem, "an nn.Linear without bias")


def _require_inputs(chain: Chain) -> None:
    """Refuse inputs of a module that are not paths of modules before it."""
    where = f"{WHERE}: chain()"
    require_type(where, "inputs", chain.inputs, Mapping, "a dict, path -> paths")
    known = {""}
    for path, _ in chain.modules:
        read = chain.inputs.get(path, ())
        others = [one for one in read if one not in known]
        if others:
            raise wrong(where, f"an input of {path!r}", others[0], "the path of a module before it")
        known.add(path)
    others = [path for path in chain.inputs if path not in known]
    if others:
        raise wrong(where, "a path of inputs", others[0], "the path of a module of the chain")


class _Sequence:
    """The modules of a sequential one that change more than the shape (T, N), and their inputs."""

    def __init__(self, samples: Tensor) -> None:
        self.modules: list[tuple[str, nn.Module]] = []
        self.inputs: dict[str, tuple[str, ...]] = {}
        self.in_frames = False
        self._samples = samples
        self._next: tuple[str, ...] = ()  # of the next module, if it does not read the one before

    def add_all(self, path: str, module: nn.Module) -> None:
        """Add the modules of a sequential one, those of nested ones too."""
        _require_no_hooks(WHERE if not path else f"{WHERE}: {path}", module)
        for place, step in steps(path, module):
            if type(step) is Residual:
                self._add_residual(place, step)
            else:
                self._add(place, step)

    def _append(self, path: str, step: nn.Module) -> None:
        if self._next:
            self.inputs[path] = self._next
        self._next = ()
        self.modules.append((path, step))

    @property
    def _end(self) -> tuple[str, ...]:
        """The modules whose sum is the output so far."""
        return self._next or ((self.modules[-1][0],) if self.modules else ("",))

    def _add_residual(self, path: str, block: Residual) -> None:
        _require_plain(path, block)
        start, in_frames = self._end, self.in_frames
        ends = []
        for name, part in (("body", block.body), ("shortcut", block.shortcut)):
            self._next, self.in_frames = start, in_frames
            place = f"{path}.{name}"
            if is_sequential(part):
                self.add_all(place, part)
            elif type(part) is Residual:
                self._add_residual(place, part)
            else:
                self._add(place, part)
            ends.append((self._end, self.in_frames))
        if ends[0][1] != ends[1][1]:
            problem = "one of body and shortcut has outputs (T*N, *), the other (T, N, *)"
            raise UnsupportedError(f"{WHERE}: {path}", problem, "two equal shapes")
        self._next = (*ends[0][0], *ends[1][0])
        self._append(path, nn.Identity())

    def _add(self, path: str, step: nn.Module) -> None:
        _require_plain(path, step)
        kind, in_frames = type(step), self.in_frames
        axes = _flattened(step)
        if axes == (0, 1) and not in_frames:
            self.in_frames = True
        elif restores_time(step) and in_frames and _is_time_of(step, self._samples):
            self.in_frames = False
        elif axes == (2 - in_frames, -1):
            self._append(path, step)
        elif isinstance(step, NeuronLayer) and not in_frames:
            self._append(path, step)
        elif kind is nn.Linear or kind is DeferredNorm or (kind in FRAMES and in_frames):
            self._append(path, step)
        elif kind not in SAME:
            raise _refused(path, step, in_frames)


def _refused(path: str, step: nn.Module, in_frames: bool) -> UnsupportedError:
    """Return the error of a module that is not one of the accepted."""
    where = f"{WHERE}: {path}"
    if is_parametrized(step):
        names = ", ".join(step.parametrizations)  # type: ignore[arg-type]
        first = next(iter(step.parametrizations))  # type: ignore[arg-type]
        kind = type(step).__name__.removeprefix("Parametrized")
        remedy = (
            "Remove it, which keeps its values: torch.nn.utils.parametrize"
            f".remove_parametrizations(module, {first!r})."
        )
        problem = f"the {kind} has a parametrization of {names}"
        return UnsupportedError(where, problem, "modules without parametrizations", remedy)
    accepted, remedy = (IN_FRAMES, "") if in_frames else (SEQUENCES, "")
    if not in_frames and isinstance(step, FRAMES):
        remedy = "Put nn.Flatten(0, 1) before it, and nn.Unflatten(0, (T, N)) after it."
    place = "(T*N, *)" if in_frames else "(T, N, *)"
    return UnsupportedError(where, f"{shown(step)} on {place}", accepted, remedy)


def _flattened(step: nn.Module) -> tuple[int, int] | None:
    """Return the first and the last axis of an `nn.Flatten`."""
    return (step.start_dim, step.end_dim) if type(step) is nn.Flatten else None


def _is_time_of(step: Any, samples: Tensor) -> bool:
    """Report whether an `nn.Unflatten` gives the first two axes of the samples."""
    pairs = zip(step.unflattened_size, samples.shape, strict=False)
    return all(size in (-1, own) for size, own in pairs)


def _require_plain(path: str, step: nn.Module) -> None:
    """Refuse a module that computes more than its class says, or depends on earlier calls."""
    where = f"{WHERE}: {path}"
    _require_no_hooks(where, step)
    forward = type(step).forward.__module__
    if "forward" in vars(step) or not forward.startswith(("torch.nn.", "lnm_codegen.")):
        problem = f"a {type(step).__name__} has a forward of its own"
        raise UnsupportedError(where, problem, PLAIN)
    if isinstance(step, NeuronLayer):
        if step.step_mode == "s" or step.carry_state:
            problem = "the layer keeps its states, by step_mode='s' or carry_state=True"
            raise UnsupportedError(where, problem, "layers that begin each call anew")
        if step.arithmetic is not None:
            raise UnsupportedError(where, "the layer computes in integers", "arithmetic=None")


def _require_no_hooks(where: str, module: nn.Module) -> None:
    """Refuse hooks, which may change values, except for those of this package."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    if not all(str(getattr(h, "__module__", "")).startswith("lnm_codegen.") for h in hooks):
        problem = f"the {type(module).__name__} has a forward hook, which may change values"
        removers = (call for h in hooks for kind, call in _REMOVERS if isinstance(h, kind))
        call = next(removers, "")
        remedy = f"Remove it, which keeps its values: {call}." if call else _BY_HANDLE
        raise UnsupportedError(where, problem, "modules without hooks", remedy)


def require_outputs(network: nn.Module, chain: Chain, samples: Tensor) -> None:
    """Run a network and its chain in float, and compare their scores.

    Raises:
        ModelError: The scores of many samples differ by more than rounding.
        ShapeError: The network, or its chain, does not run on the samples.
    """
    with _running("the module", samples):
        out, _ = trace_layers(network, samples)
    require_type(WHERE, "the output of the module", out, Tensor, "a tensor (N, classes)")
    own = REDUCTIONS[chain.over](out) if out.dim() == 3 else out
    axis = 1 if chain.over == "step" else 0
    with _running("chain()", samples), torch.no_grad():
        scores = _run(chain, samples)
    problem = f"chain() has scores {tuple(scores.shape)}, and the module {tuple(own.shape)}"
    if own.shape == scores.shape:
        equal = torch.isclose(own, scores, rtol=1e-3, atol=1e-3, equal_nan=True)
        equal = equal.movedim(axis, 0)
        differing = int((~equal.flatten(1).all(1)).sum())
        if differing <= MOST_DIFFERING * len(equal):
            return
        problem = f"chain() and the module differ in the scores of {differing} of {len(equal)}"
        problem += " samples"
    raise ModelError(WHERE, problem, "a chain of every module, in order")


@contextmanager
def _running(subject: str, samples: Tensor) -> Iterator[None]:
    """Raise ShapeError where PyTorch refuses the samples."""
    try:
        yield
    except LnmError:
        raise
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        shape = f"{tuple(samples.shape)}, {samples.dtype}"
        problem = f"{subject} does not run on samples {shape}: {reason(error)}"
        raise ShapeError(WHERE, problem, "inputs of the module") from error


def _run(chain: Chain, samples: Tensor) -> Tensor:
    """Return the scores of a chain in float."""
    steps = chain.time_steps
    x = samples if steps is None else samples.expand(steps, *samples.shape)
    found = {"": x}
    for name, step in chain.modules:
        read = [found[path] for path in chain.inputs.get(name, ())] or [x]
        x = sum(read[1:], read[0])
        match step:
            case NormNeuron() if step.shortcut:
                x = step(*read)
            case NeuronLayer() if name in chain.feedback:
                (x,), *_ = run_layer(step, x, chain.feedback[name].weight)
            case nn.Flatten():
                x = x.flatten(2)
            case nn.Linear() | NeuronLayer() | DeferredNorm() | nn.Identity():
                x = step(x)
            case _:
                x = step(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        found[name] = x
    return REDUCTIONS[chain.over](x)
