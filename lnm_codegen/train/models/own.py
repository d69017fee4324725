"""Networks of the user: any `nn.Module` with neuron layers in it.

A config names one as file.py:Net or module:Net, or `run(config, network=module)` takes it. It
receives images (N, C, H, W) or sequences (T, N, *features), and returns logits (N, classes) or
(T, N, classes). The layers are found among its modules.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import linecache
import textwrap
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lnm_codegen.errors import LnmError, ModelError, ShapeError, reason
from lnm_codegen.families.library import call_function
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.text.digest import definition_digest
from lnm_codegen.nn.convert.libraries import library_of
from lnm_codegen.nn.hooks import evaluating
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.states import reset
from lnm_codegen.train.data.dataset import Dataset
from lnm_codegen.train.names import short_name
from lnm_codegen.train.runs.config import LOSSES, OWN, TrainConfig
from lnm_codegen.validation import shown

_ACCEPTED = "a torch.nn.Module with one lnm.nn.NeuronLayer or more"
_INSTALLED = ("site-packages", "dist-packages", str(Path(__file__).parents[2]), "<frozen")
"""Parts of the paths of files that are not the user's."""


@dataclass(frozen=True)
class Made:
    """A network of the user.

    Attributes:
        network: The module.
        takes_neuron: It was made with the neuron of the config.
    """

    network: nn.Module
    takes_neuron: bool


def make(config: TrainConfig, data: Dataset, neuron: Callable[[], Neuron]) -> Made:
    """Return the network that a config names, file.py:Net or module:Net.

    It is called with the options of the network, and with `neuron`, `sample`, `classes` and
    `backend` where its signature names them.

    Raises:
        ModelError: No such file or function, an exception of its code, or a result that is no
            network; the config names a family, and the network takes no neuron.
    """
    taken: list[Neuron] = []

    def family() -> Neuron:
        taken.append(neuron())
        return taken[0]

    offered: dict[str, Callable[[], Any]] = {
        "neuron": family,
        "sample": lambda: data.sample,
        "classes": lambda: data.classes,
        "backend": lambda: config.backend,
    }
    network = call_function(config.network, config.network_arguments, offered)
    where = f"network: {config.network}"
    if not isinstance(network, nn.Module):
        raise ModelError(where, f"it returns a {type(network).__name__}", _ACCEPTED)
    if not taken:
        require_no_family(config, where)
    return Made(network, bool(taken))


def require_no_family(config: TrainConfig, where: str) -> None:
    """Raise ModelError if a config names a neuron for a network that has neurons of its own."""
    if config.family not in (OWN, TrainConfig.family) or config.arguments:
        given = ", ".join(f"{k}={shown(v)}" for k, v in config.arguments.items())
        problem = f"the network takes no neuron, and the run names {config.family!r} ({given})"
        remedy = f"Leave out the family and its arguments, or let {short_name(config.network)}"
        raise ModelError(where, problem.replace(" ()", ""), remedy=f"{remedy} take neuron=.")


def with_own_neurons(config: TrainConfig) -> TrainConfig:
    """Return the config of a network that has neurons of its own."""
    return replace(config, family=OWN, arguments={}, v_min=None)


def neuron_digests(network: nn.Module) -> dict[str, str]:
    """Return path -> digest of the definition of each neuron layer of a network."""
    return {
        path: definition_digest(layer.neuron, with_surrogates=True)
        for path, layer in network.named_modules()
        if isinstance(layer, NeuronLayer)
    }


def code_digests(network: nn.Module) -> dict[str, str]:
    """Return class -> digest of its source, for each class of the user among the modules.

    Comments, docstrings and layout do not count. Functions that a class calls, and a class whose
    source is not in a file, have no digest.
    """
    return {
        kind.__qualname__: digest
        for kind in dict.fromkeys(type(module) for module in network.modules())
        if (digest := _code_digest(kind)) is not None
    }


def module_texts(network: nn.Module) -> dict[str, str]:
    """Return path -> text of each module of PyTorch and of each neuron layer: class and options.

    The backend of a layer, which changes no result beyond the last bits, is left out.
    """
    return {
        path: f"{type(module).__qualname__}({_options(module)})"
        for path, module in network.named_modules()
        if isinstance(module, NeuronLayer) or type(module).__module__.startswith("torch.")
    }


def _options(module: nn.Module) -> str:
    if not isinstance(module, NeuronLayer):
        return module.extra_repr()
    found = {word: getattr(module, word) for word in ("arithmetic", "step_mode", "carry_state")}
    return ", ".join(f"{word}={value}" for word, value in found.items() if value)


def _code_digest(kind: type[nn.Module]) -> str | None:
    try:
        file = inspect.getfile(kind)
        if any(part in file for part in _INSTALLED):
            return None
        linecache.checkcache(file)
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = node.body[ast.get_docstring(node) is not None :]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


def require_trainable(network: nn.Module, data: Dataset, config: TrainConfig) -> None:
    """Refuse a network that cannot be trained on the samples; give lazy parameters their sizes.

    It runs twice on a few samples, in eval mode and without gradients. States that layers keep are
    reset before each run, as they are before each batch.

    Raises:
        ModelError: No neuron layer, one of another library, or no parameter to train; an exception
            of the network; or outputs that depend on the call before.
        ShapeError: Logits of another shape.
    """
    where = f"network: {config.network}"
    modules = dict(network.named_modules())
    foreign = [path for path, m in modules.items() if library_of(m) is not None]
    if foreign:
        problem = f"{foreign[0]!r} is a {type(modules[foreign[0]]).__name__} of another library"
        remedy = "Convert the network first: network = lnm.nn.convert(network)."
        raise ModelError(where, problem, "layers of this package", remedy)
    if not any(isinstance(m, NeuronLayer) for m in modules.values()):
        raise ModelError(where, f"{type(network).__name__} has no neuron layer", _ACCEPTED)
    x = few(data)
    with _without_padding(where, network) if data.padded else nullcontext():
        first, second = (_outputs(network, x.to(device_of(network)), where) for _ in range(2))
    _require_logits(where, first, x, data, config)
    if not torch.equal(first.nan_to_num(), second.nan_to_num()):
        raise ModelError(
            where,
            "two runs on the same samples differ, in eval mode: a module keeps something from call"
            " to call",
            "a network whose outputs depend on its inputs alone",
            "Give the module that keeps it a method reset(); lnm.nn.reset calls it before each"
            " batch.",
        )
    if not any(p.requires_grad for p in network.parameters()):
        raise ModelError(where, "it has no parameter with requires_grad", "one or more")


@contextmanager
def _without_padding(where: str, network: nn.Module) -> Iterator[None]:
    """Raise ModelError where a neuron layer receives NaN, as are steps behind a sample's end."""

    def check(_: nn.Module, inputs: Any) -> None:
        if any(isinstance(x, Tensor) and bool(x.isnan().any()) for x in inputs):
            problem = "a neuron layer receives NaN, which steps behind the end of a sample are"
            remedy = "Begin its forward with x, lengths = lnm_codegen.train.unpadded(x)."
            raise ModelError(where, problem, remedy=remedy)

    with ExitStack() as stack:
        for module in network.modules():
            if isinstance(module, NeuronLayer):
                stack.callback(module.register_forward_pre_hook(check).remove)
        yield


def device_of(network: nn.Module) -> torch.device:
    """Return the device of the first parameter or buffer of a network."""
    tensors = (*network.parameters(), *network.buffers())
    return tensors[0].device if tensors else torch.device("cpu")


def few(data: Dataset) -> Tensor:
    """Return a batch of 2 training samples, of 3 if T is 2, or of all if there are fewer."""
    is_sequence = data.kind == "sequence"
    count = min(3 if is_sequence and data.sample[0] == 2 else 2, len(data.train))
    with torch.random.fork_rng(devices=[]):  # a loader draws a seed
        x, _ = next(data.batches(data.train, count))
    return x[:, :count] if is_sequence else x[:count]


def _outputs(network: nn.Module, x: Tensor, where: str) -> Tensor:
    """Return the outputs of a run from the initial states."""
    devices = [] if x.device.type == "cpu" else [x.device]
    with evaluating(network), torch.no_grad(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        reset(network)
        try:
            out = network(x)
        except LnmError:
            raise
        except Exception as error:
            at = f" at {line}" if (line := _line(error)) else ""
            problem = f"it does not run on a batch {tuple(x.shape)}{at}: {reason(error)}"
            raise ModelError(where, problem) from error
        finally:
            reset(network)
    if not isinstance(out, Tensor):
        accepted = "logits, a tensor (N, classes) or (T, N, classes)"
        raise ShapeError(where, f"it returns a {type(out).__name__}", accepted)
    return out


def _line(error: Exception) -> str:
    """Return "file.py:12", the last line of the user's code in a traceback, or an empty text."""
    lines = [
        f"{Path(frame.f_code.co_filename).name}:{number}"
        for frame, number in traceback.walk_tb(error.__traceback__)
        if not any(part in frame.f_code.co_filename for part in _INSTALLED)
    ]
    return lines[-1] if lines else ""


def _require_logits(where: str, out: Tensor, x: Tensor, data: Dataset, config: TrainConfig) -> None:
    """Raise ShapeError unless outputs are logits of the batch x.

    A loss function of the user may take outputs of any shape.
    """
    if not data.has_classes or config.loss not in LOSSES:
        return
    axis = 1 if data.kind == "sequence" else 0
    count = x.shape[axis]
    steps = data.sample[0] if data.kind == "sequence" else None
    sample, step = (count, data.classes), (steps or "T", count, data.classes)
    per_step = data.per_step or config.loss == "tet"
    fits = out.dim() == 3 and tuple(out.shape[1:]) == sample
    if data.per_step:
        fits = fits and out.shape[0] == steps
    if not fits and (per_step or tuple(out.shape) != sample):
        shape = f"({', '.join(map(str, step))})"
        accepted = f"logits (T, N, classes) = {shape}"
        if not per_step:
            accepted = f"logits (N, classes) = {sample}, or (T, N, classes) = {shape}"
        problem = f"it returns {tuple(out.shape)} for a batch {tuple(x.shape)}"
        raise ShapeError(where, problem, accepted)
    if not out.is_floating_point():
        raise ShapeError(where, f"it returns {out.dtype}", "floating-point logits")
