"""Configuration of a training run: a dataclass whose fields declare every option once.

The annotation of a field holds its type, help text, validation, and place in an experiment file and
on the command line. `config_file` and `lnm train` read all of them here.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from lnm_codegen.errors import ModelError
from lnm_codegen.families import FAMILIES
from lnm_codegen.families.common import LOWEST
from lnm_codegen.families.library import require_reference, resolve, resolve_recorded
from lnm_codegen.language.neuron import Neuron, require_one_port
from lnm_codegen.language.surrogate import Surrogate, surrogate_named
from lnm_codegen.options import BackendName
from lnm_codegen.validation import (
    require_bool,
    require_integer,
    require_number,
    require_one_of,
    require_type,
    wrong,
)

LOSSES = ("mean", "tet")
FUNCTION = "function"
"""The loss or the metric of a run that got a function in Python."""
ONE_PORT = "Train it in a network of your own, --network file.py:Net; see docs/networks.md."
"""Remedy for a neuron with several inputs or outputs, which no built-in network takes."""
OWN = "own"
"""The family in the config of a run whose network has neurons of its own."""
Validator = Callable[[str, str, Any], object]
"""Argument validation: (place, name, value) raises ModelError."""


@dataclass(frozen=True)
class Option:
    """Metadata of a field of `TrainConfig`.

    Attributes:
        help: Its meaning, for `--help` and for the docstring.
        validate: Its argument validation.
        metavar: Placeholder of its command-line option; `--train` sets a field without one.
        table: Its table in an experiment file.
        key: Its key in that table, if not its name; "*" collects every other key.
    """

    help: str
    validate: Validator
    metavar: str = ""
    table: str = "train"
    key: str = ""


def _one_of(*accepted: str) -> Validator:
    return partial(require_one_of, accepted=accepted)


def _require_clip(where: str, name: str, value: Any) -> None:
    if value != math.inf:
        require_number(where, name, value, above=0)


def _require_loss(where: str, name: str, value: Any) -> None:
    if not (isinstance(value, str) and ":" in value):
        require_one_of(where, name, value, (*LOSSES, FUNCTION, "file.py:function"))


def _require_metric(where: str, name: str, value: Any) -> None:
    if not (value is None or value == FUNCTION or (isinstance(value, str) and ":" in value)):
        raise wrong(where, name, value, "file.py:function, or None")


_TEXT = partial(require_type, kind=str, accepted="text")
_TABLE = partial(require_type, kind=Mapping, accepted="a dict of options by name")
_PATH = partial(require_type, kind=str | Path | None, accepted="a path, or None")
_ORDER = partial(require_type, kind=tuple | None, accepted="a tuple of integers, or None")
_COUNT = partial(require_integer, low=1)
_COUNT_OR_NONE = partial(require_integer, low=1, optional=True)
_NATURAL = partial(require_integer, low=0)
_SEED = partial(require_integer, low=0, high=2**63 - 1)
_THREADS = partial(require_integer, low=1, high=1024, optional=True)
_AMOUNT = partial(require_number, low=0)
_SHARE = partial(require_number, low=0, below=1)
_INSIDE = partial(require_number, above=0, below=1)
_NUMBER_OR_NONE = partial(require_number, optional=True)
_POSITIVE_OR_NONE = partial(require_number, above=0, optional=True)
_OPTIMIZER = _one_of("adam", "adamw", "sgd")
_SCHEDULE = _one_of("cosine", "constant")
_PRECISION = _one_of("float32", "bfloat16", "float16")
_BACKENDS = get_args(BackendName)
_BACKEND = _one_of(*_BACKENDS)


@dataclass(frozen=True)
class TrainConfig:
    """Options of a training run; they determine its results on one machine."""

    family: Annotated[
        str,
        Option(
            "Built-in family, .toml file, file.py:function or module:function.",
            require_reference,
            "FAMILY",
            "neuron",
        ),
    ] = "lnm"
    arguments: Annotated[
        dict[str, Any],
        Option(
            "Arguments of the family; a v_min here has priority.", _TABLE, table="neuron", key="*"
        ),
    ] = field(default_factory=dict)
    v_min: Annotated[
        float | None,
        Option(
            "Lower clamp of the potential, or none. The default applies only to built-in families "
            "of one state that take a clamp.",
            _NUMBER_OR_NONE,
            "V",
            "neuron",
        ),
    ] = LOWEST
    network: Annotated[
        str,
        Option(
            "Network of docs/networks.md, or file.py:Net or module:Net, a module of yours.",
            _TEXT,
            "NAME",
            "network",
            "name",
        ),
    ] = "conv"
    network_arguments: Annotated[
        dict[str, Any], Option("Options of the network.", _TABLE, table="network", key="*")
    ] = field(default_factory=dict)
    data: Annotated[
        str,
        Option(
            "Data set of docs/data.md, or file.py:function or module:function that returns yours.",
            _TEXT,
            "NAME",
            "data",
            "name",
        ),
    ] = "digits"
    data_dir: Annotated[
        Path | None, Option("Folder of the data set, or a file.", _PATH, "DIR", "data", "folder")
    ] = None
    data_arguments: Annotated[
        dict[str, Any],
        Option("Further options of the data set or the function.", _TABLE, table="data", key="*"),
    ] = field(default_factory=dict)
    limit: Annotated[
        int | None,
        Option("Use only N training and N test samples.", _COUNT_OR_NONE, "N", "data"),
    ] = None
    validation: Annotated[
        int,
        Option("Test on N held-out training samples; 0: on the test set.", _NATURAL, table="data"),
    ] = 0
    augment: Annotated[
        bool,
        Option(
            "Crop, flip and shift training samples; see docs/data.md.", require_bool, table="data"
        ),
    ] = False
    loss: Annotated[
        str,
        Option(
            "Cross entropy of mean logits (mean), or of each time step (tet); or your function of "
            "(outputs, targets), file.py:function.",
            _require_loss,
        ),
    ] = "mean"
    metric: Annotated[
        str | None,
        Option(
            "Function of (outputs, targets) that is reported in place of the accuracy, "
            "file.py:function.",
            _require_metric,
        ),
    ] = None
    tet_weight: Annotated[float, Option("Lambda of the loss tet, from 0, below 1.", _SHARE)] = 0.05
    label_smoothing: Annotated[
        float, Option("Share of the target spread over all classes, from 0, below 1.", _SHARE)
    ] = 0.0
    tbptt: Annotated[
        int | None,
        Option(
            "Cut sequences into chunks of K time steps; gradients do not pass from chunk to chunk.",
            _COUNT_OR_NONE,
        ),
    ] = None
    epochs: Annotated[int, Option("Passes over the training samples.", _COUNT, "N")] = 10
    batch: Annotated[int, Option("Samples in a step, over all processes.", _COUNT, "N")] = 32
    optimizer: Annotated[str, Option("adam, adamw, or sgd with momentum 0.9.", _OPTIMIZER)] = "adam"
    lr: Annotated[float, Option("Learning rate of the weights.", _AMOUNT, "X")] = 1e-2
    lr_neuron: Annotated[
        float, Option("Learning rate of the neurons' parameters; 0 freezes them.", _AMOUNT, "X")
    ] = 1e-2
    schedule: Annotated[
        str, Option("Learning rates over time: half cosine to 0 (cosine), or constant.", _SCHEDULE)
    ] = "cosine"
    warmup: Annotated[int, Option("Epochs in which learning rates rise from 0.", _NATURAL)] = 0
    weight_decay: Annotated[
        float, Option("Weight decay, of the weights and not of the neurons.", _AMOUNT, "X")
    ] = 0.0
    clip: Annotated[
        float,
        Option("Largest gradient norm, of weights and of neurons separately.", _require_clip, "X"),
    ] = 1.0
    penalty: Annotated[
        float, Option("Weight of the penalty on steep slopes of the charge.", _AMOUNT, "X")
    ] = 0.0
    penalty_slope: Annotated[
        float,
        Option("Slope, or spectral radius of two states, beyond which a penalty is due.", _AMOUNT),
    ] = 1.05
    project: Annotated[
        float | None,
        Option(
            "X: project theta to where |x| <= X keeps the potential bounded; or none. Two states:"
            " to a spectral radius of project_radius, for any X.",
            _POSITIVE_OR_NONE,
        ),
    ] = None
    project_radius: Annotated[
        float, Option("Largest spectral radius of two states under project.", _INSIDE)
    ] = 0.999
    ema: Annotated[
        float, Option("Decay per step of a moving average of the weights to test and save.", _SHARE)
    ] = 0.0
    evaluate_every: Annotated[
        int, Option("Test after every N epochs and after the last; 0: only the last.", _NATURAL)
    ] = 1
    neurons_from: Annotated[
        Path | None, Option("Run folder from whose learned neurons this run starts.", _PATH)
    ] = None
    neurons_order: Annotated[
        tuple[int, ...] | None,
        Option("For each layer, the layer of that run to start from; the first is 0.", _ORDER),
    ] = None
    precision: Annotated[
        str, Option("float32, or autocast to bfloat16 or float16.", _PRECISION)
    ] = "float32"
    compile: Annotated[bool, Option("Compile the network with torch.compile.", require_bool)] = (
        False
    )
    pack_spikes: Annotated[
        bool,
        Option(
            "Keep spikes as bits from forward to backward: less memory, equal results.",
            require_bool,
        ),
    ] = False
    deterministic: Annotated[
        bool, Option("Use only deterministic algorithms of PyTorch.", require_bool)
    ] = False
    device: Annotated[str, Option("cpu, cuda or cuda:1.", _TEXT)] = "cpu"
    seed: Annotated[int, Option("Seed of weights, shuffling and augmentation.", _SEED, "N")] = 0
    backend: Annotated[
        str,
        Option(f"Backend of the neurons: {', '.join(_BACKENDS)}.", _BACKEND, "NAME"),
    ] = "auto"
    threads: Annotated[
        int | None, Option("CPU threads; PyTorch's number by default.", _THREADS, "N")
    ] = None
    tensorboard: Annotated[bool, Option("Also write events for TensorBoard.", require_bool)] = False

    def __post_init__(self) -> None:
        for name, option in OPTIONS.items():
            option.validate("train", name, getattr(self, name))
        if self.neurons_order is not None and self.neurons_from is None:
            accepted = "none where neurons_from is none"
            raise wrong("train", "neurons_order", self.neurons_order, accepted)
        if self.warmup and self.warmup >= self.epochs:
            accepted = f"an integer below epochs, {self.epochs}"
            raise wrong("train", "warmup", self.warmup, accepted)

    def as_json(self) -> dict[str, Any]:
        """Return the fields for JSON: paths are text."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}


_HINTS = get_type_hints(TrainConfig, include_extras=True)
OPTIONS: Mapping[str, Option] = {name: get_args(hint)[1] for name, hint in _HINTS.items()}
"""Metadata of each field, in order."""

TrainConfig.__doc__ = f"{TrainConfig.__doc__}\n\nAttributes:\n" + "\n".join(
    textwrap.fill(f"{name}: {option.help}", 96, initial_indent=" " * 4, subsequent_indent=" " * 8)
    for name, option in OPTIONS.items()
)


def takes_clamp(family: str, arguments: Mapping[str, Any]) -> bool:
    """Report whether the default of `v_min` applies: a built-in family of one state with a clamp.

    Neurons of two states have no clamp by default.
    """
    return _has_clamp(family) and arguments.get("states", 1) == 1


def clamp_of(config: TrainConfig) -> float | None:
    """Return the lower clamp of the potential of a config's neuron, or None without one.

    It is the argument v_min, else the field. The default of the field is no clamp of two states.
    Neurons of files and modules count as neurons without a clamp.
    """
    if not _has_clamp(config.family):
        return None
    applies = takes_clamp(config.family, config.arguments) or config.v_min != LOWEST
    clamp: float | None = config.arguments.get("v_min", config.v_min if applies else None)
    return clamp


def _has_clamp(family: str) -> bool:
    found = FAMILIES.get(family)
    return found is not None and "v_min" in found.signature.parameters


def neuron_of(config: TrainConfig, recorded: bool = False) -> Neuron:
    """Return the neuron of every spiking layer.

    Args:
        config: Its family and arguments name the neuron.
        recorded: The config is that of a run folder; see `library.resolve_recorded`.

    Raises:
        ModelError: No such family, arguments that it does not take, or, for a built-in network, a
            neuron without exactly one input and one output.
    """
    arguments = dict(config.arguments)
    surrogate = arguments.get("surrogate")
    if isinstance(surrogate, str | dict):
        arguments["surrogate"] = surrogate_of(surrogate)
    if (clamp := clamp_of(config)) is not None:
        arguments["v_min"] = clamp
    family = config.family
    if family == OWN:
        problem = "the neurons of this run are those of its network"
        raise ModelError("train", problem, remedy="Name a family.")
    neuron = resolve_recorded(family, arguments) if recorded else resolve(family, **arguments)
    if ":" not in config.network:
        require_one_port("train", neuron, ONE_PORT)
    return neuron


# Surrogate of a config: a name, a table of a name and its arguments, or an object.
#
# config.json has a record of an object. It names its formulas, and no reader executes them.


def is_record(surrogate: object) -> bool:
    """Report whether a surrogate is the record of an object in config.json."""
    return isinstance(surrogate, dict) and {"name", "slope", "primitive"} <= surrogate.keys()


def surrogate_of(given: str | dict[str, Any]) -> Surrogate:
    """Return the surrogate of a name or a table.

    Raises:
        ModelError: An unknown name or argument, or the record of an object.
    """
    if isinstance(given, str):
        return surrogate_named("train", given, {})
    if is_record(given):
        problem = f"the surrogate {given['name']!r} was given as an object, which no file holds"
        remedy = "Resume the run in Python, with the config with which it began."
        raise ModelError("train", problem, remedy=remedy)
    table = dict(given)
    return surrogate_named("train", table.pop("kind", None), table)
