"""Configuration of a training run: a dataclass whose fields declare every option once.

The annotation of a field holds its type, accepted values, and place in an experiment file and on
the command line; the docstring has its meaning. Readers of files and `lnm train` follow them. An
experiment file (TOML) has these tables; config.json of a run folder has the fields:

    [neuron]    family, v_min, and arguments of the family
    [network]   name, and options of the network
    [data]      name, folder, limit, validation, augment, and options of the data set
    [train]     every other field of TrainConfig

In TOML the word "none" stands for None. Reading either file executes no code. A family that is a
Python file or a module is imported later, by `neuron_of`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from lnm_codegen.errors import ModelError
from lnm_codegen.families import FAMILIES
from lnm_codegen.families.common import LOWEST, OpenShare
from lnm_codegen.families.library import (
    is_missing,
    require_reference,
    resolve,
    resolve_recorded,
)
from lnm_codegen.files import MAX_BYTES, json_of, toml_of
from lnm_codegen.language.neuron import Neuron, require_one_port
from lnm_codegen.language.surrogate import Surrogate, surrogate_named
from lnm_codegen.options import BackendName, MemoryFormatName, PrecisionName
from lnm_codegen.validation import (
    Accepted,
    Count,
    Flag,
    declared_types,
    meanings_of,
    require_accepted,
    require_known,
    require_number,
    require_one_of,
    require_type,
    wrong,
)

LOSSES = ("mean", "tet")
FUNCTION = "function"
"""The loss or the metric of a run that got a function in Python."""
AUTO = "auto"
"""Value of an option that a run measures; see `train.fastest`."""
MEASURED = ("precision", "memory_format")
ONE_PORT = "Train it in a network of your own, --network file.py:Net; see docs/networks.md."
"""Remedy for a neuron with several inputs or outputs, which no built-in network takes."""
OWN = "own"
"""The family in the config of a run whose network has neurons of its own."""


@dataclass(frozen=True)
class Option:
    """Place of a field of `TrainConfig`.

    Attributes:
        metavar: Placeholder of its command-line option; `--train` sets a field without one.
        table: Its table in an experiment file.
        key: Its key in that table, if not its name; "*" collects every other key.
        check: Argument validation beyond that of its type: (place, name, value).
        help: Its meaning, from the docstring.
    """

    metavar: str = ""
    table: str = "train"
    key: str = ""
    check: Callable[[str, str, Any], object] | None = None
    help: str = ""


def _require_clip(where: str, name: str, value: Any) -> None:
    if value != math.inf:
        require_number(where, name, value, above=0)


def _require_loss(where: str, name: str, value: Any) -> None:
    if not (isinstance(value, str) and ":" in value):
        require_one_of(where, name, value, (*LOSSES, FUNCTION, "file.py:function"))


def _require_metric(where: str, name: str, value: Any) -> None:
    if not (value is None or value == FUNCTION or (isinstance(value, str) and ":" in value)):
        raise wrong(where, name, value, "file.py:function, or None")


_TABLE = partial(require_type, kind=Mapping, accepted="a dict of options by name")
_PATH = partial(require_type, kind=str | Path | None, accepted="a path, or None")
_ORDER = partial(require_type, kind=tuple | None, accepted="a tuple of integers, or None")
_Text = Annotated[str, Accepted()]
_Natural = Annotated[int, Accepted(low=0)]
_Amount = Annotated[float, Accepted(low=0)]
_Share = Annotated[float, Accepted(low=0, below=1)]


@dataclass(frozen=True)
class TrainConfig:
    """Options of a training run; they determine its results on one machine.

    Attributes:
        family: Built-in family, .toml file, file.py:function or module:function.
        arguments: Arguments of the family; a v_min here has priority.
        v_min: Lower clamp of the potential, or none. The default applies only to built-in families
            of one state that take a clamp.
        network: Network of docs/networks.md, or file.py:Net or module:Net, a module of yours.
        network_arguments: Options of the network.
        data: Data set of docs/data.md, or file.py:function or module:function that returns yours.
        data_dir: Folder of the data set, or a file.
        data_arguments: Further options of the data set or the function.
        limit: Use only N training and N test samples.
        validation: Test on N held-out training samples; 0: on the test set.
        augment: Crop, flip and shift training samples; see docs/data.md.
        loss: Cross entropy of mean logits (mean), or of each time step (tet); or your function of
            (outputs, targets), file.py:function.
        metric: Function of (outputs, targets) that is reported in place of the accuracy,
            file.py:function.
        tet_weight: Lambda of the loss tet, from 0, below 1.
        label_smoothing: Share of the target spread over all classes, from 0, below 1.
        tbptt: Cut sequences into chunks of K time steps; gradients do not pass from chunk to chunk.
        epochs: Passes over the training samples.
        batch: Samples in a step, over all processes.
        optimizer: adam, adamw, or sgd with momentum 0.9.
        lr: Learning rate of the weights.
        lr_neuron: Learning rate of the neurons' parameters; 0 freezes them.
        schedule: Learning rates over time: half cosine to 0 (cosine), or constant.
        warmup: Epochs in which learning rates rise from 0.
        weight_decay: Weight decay, of the weights and not of the neurons.
        clip: Largest gradient norm, of weights and of neurons separately.
        penalty: Weight of the penalty on steep slopes of the charge.
        penalty_slope: Slope, or spectral radius of two states, beyond which a penalty is due.
        project: X: project theta to where |x| <= X keeps the potential bounded; or none. Two
            states: to a spectral radius of project_radius, for any X.
        project_radius: Largest spectral radius of two states under project.
        ema: Decay per step of a moving average of the weights to test and save; smaller in the
            first steps, (n + 1)/(n + 10) in step n.
        evaluate_every: Test after every N epochs and after the last; 0: only the last.
        neurons_from: Run folder from whose learned neurons this run starts.
        neurons_order: For each layer, the layer of that run to start from; the first is 0.
        precision: float32, or autocast to bfloat16 or float16; auto: the faster of float32 and
            bfloat16 in two steps before the run.
        memory_format: Layout of convolutions: contiguous or channels_last; auto: the faster one in
            two steps before the run.
        compile: Compile the network with torch.compile.
        pack_spikes: Keep spikes as bits from forward to backward: less memory, equal results.
        deterministic: Use only deterministic algorithms of PyTorch.
        device: cpu, cuda or cuda:1.
        seed: Seed of weights, shuffling and augmentation.
        backend: Backend of the neurons: auto, c, triton, cuda, torch.
        threads: CPU threads; PyTorch's number by default.
        tensorboard: Also write events for TensorBoard.
    """

    family: Annotated[str, Option("FAMILY", "neuron", check=require_reference)] = "lnm"
    arguments: Annotated[dict[str, Any], Option("", "neuron", "*", _TABLE)] = field(
        default_factory=dict
    )
    v_min: Annotated[float | None, Accepted(), Option("V", "neuron")] = LOWEST
    network: Annotated[_Text, Option("NAME", "network", "name")] = "conv"
    network_arguments: Annotated[dict[str, Any], Option("", "network", "*", _TABLE)] = field(
        default_factory=dict
    )
    data: Annotated[_Text, Option("NAME", "data", "name")] = "digits"
    data_dir: Annotated[Path | None, Option("DIR", "data", "folder", _PATH)] = None
    data_arguments: Annotated[dict[str, Any], Option("", "data", "*", _TABLE)] = field(
        default_factory=dict
    )
    limit: Annotated[Count | None, Option("N", "data")] = None
    validation: Annotated[_Natural, Option("", "data")] = 0
    augment: Annotated[Flag, Option("", "data")] = False
    loss: Annotated[str, Option(check=_require_loss)] = "mean"
    metric: Annotated[str | None, Option(check=_require_metric)] = None
    tet_weight: _Share = 0.05
    label_smoothing: _Share = 0.0
    tbptt: Count | None = None
    epochs: Annotated[Count, Option("N")] = 10
    batch: Annotated[Count, Option("N")] = 32
    optimizer: Annotated[str, Accepted(words=("adam", "adamw", "sgd"))] = "adam"
    lr: Annotated[_Amount, Option("X")] = 1e-2
    lr_neuron: Annotated[_Amount, Option("X")] = 1e-2
    schedule: Annotated[str, Accepted(words=("cosine", "constant"))] = "cosine"
    warmup: _Natural = 0
    weight_decay: Annotated[_Amount, Option("X")] = 0.0
    clip: Annotated[float, Option("X", check=_require_clip)] = 1.0
    penalty: Annotated[_Amount, Option("X")] = 0.0
    penalty_slope: _Amount = 1.05
    project: Annotated[float | None, Accepted(above=0)] = None
    project_radius: OpenShare = 0.999
    ema: _Share = 0.0
    evaluate_every: _Natural = 1
    neurons_from: Annotated[Path | None, Option(check=_PATH)] = None
    neurons_order: Annotated[tuple[int, ...] | None, Option(check=_ORDER)] = None
    precision: Annotated[str, Accepted(words=(*get_args(PrecisionName), AUTO))] = "float32"
    memory_format: Annotated[str, Accepted(words=(*get_args(MemoryFormatName), AUTO))] = (
        "contiguous"
    )
    compile: Flag = False
    pack_spikes: Flag = False
    deterministic: Flag = False
    device: _Text = "cpu"
    seed: Annotated[int, Accepted(low=0, high=2**63 - 1), Option("N")] = 0
    backend: Annotated[str, Accepted(words=get_args(BackendName)), Option("NAME")] = "auto"
    threads: Annotated[int | None, Accepted(low=1, high=1024), Option("N")] = None
    tensorboard: Flag = False

    def __post_init__(self) -> None:
        for name, option in OPTIONS.items():
            value = getattr(self, name)
            require_accepted("train", name, value, _DECLARED[name])
            if option.check is not None:
                option.check("train", name, value)
        if self.neurons_order is not None and self.neurons_from is None:
            accepted = "none where neurons_from is none"
            raise wrong("train", "neurons_order", self.neurons_order, accepted)
        if self.warmup and self.warmup >= self.epochs:
            accepted = f"an integer below epochs, {self.epochs}"
            raise wrong("train", "warmup", self.warmup, accepted)

    def as_json(self) -> dict[str, Any]:
        """Return the fields for JSON: paths are text."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}


_DECLARED = declared_types(TrainConfig.__init__)
_, _MEANINGS = meanings_of(TrainConfig, "Attributes")
OPTIONS: Mapping[str, Option] = {
    name: replace(
        next((mark for mark in _DECLARED[name].marks if isinstance(mark, Option)), Option()),
        help=_MEANINGS.get(name, ""),
    )
    for name in TrainConfig.__dataclass_fields__
}
"""Metadata of each field, in order."""


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


# Reading of an experiment file, or of config.json.


TABLES: Mapping[str, dict[str, str]] = {
    table: {o.key or n: n for n, o in OPTIONS.items() if o.table == table and o.key != "*"}
    for table in dict.fromkeys(option.table for option in OPTIONS.values())
}
"""Table -> key -> field."""
OPEN_TABLES = {option.table: name for name, option in OPTIONS.items() if option.key == "*"}
"""Table -> the field that collects its other keys."""

_TYPES = {
    str: "text", int: "an integer", float: "a number", bool: "true or false", Path: "a path",
    tuple: "a list of integers", dict: "a table", NoneType: '"none"',
}  # fmt: skip


FIELD_TYPES = {
    name: (
        get_origin(declared.kind) or declared.kind, *((NoneType,) if declared.optional else ())
    )
    for name, declared in _DECLARED.items() if name in OPTIONS
}  # fmt: skip
"""Field -> the types that it accepts."""


def read_toml(path: Path) -> TrainConfig:
    """Return the config of an experiment file.

    Raises:
        ModelError: No such file, no TOML, or a key or value that is not accepted; the message
            names file, table and key.
    """
    return config_of_tables(toml_of(path), str(path))


def config_of_tables(tables: Mapping[str, Any], where: str) -> TrainConfig:
    """Return the config of the tables of an experiment file. Messages begin with `where`.

    Raises:
        ModelError: A key or value is not accepted.
    """
    flat: dict[str, Any] = {}
    for name, table in tables.items():
        require_known(where, "table", name, TABLES)
        if not isinstance(table, dict):
            raise wrong(where, name, table, "a table")
        for key, given in table.items():
            value = None if given == "none" else given
            if key not in TABLES[name] and name in OPEN_TABLES:
                flat.setdefault(OPEN_TABLES[name], {})[key] = value
            else:
                require_known(f"{where}: {name}", "key", key, TABLES[name])
                flat[TABLES[name][key]] = value
    if "v_min" in flat:
        place_v_min(flat)
    return config_of(flat, where)


def place_v_min(flat: dict[str, Any]) -> None:
    """Make the v_min of `flat` the only clamp: an earlier one in the arguments is removed.

    It also becomes an argument of a family to which the default does not apply. A family without an
    argument v_min then raises the error.
    """
    family, arguments = flat.get("family", TrainConfig.family), dict(flat.get("arguments", {}))
    arguments.pop("v_min", None)
    if flat["v_min"] is not None and not takes_clamp(family, arguments):
        arguments["v_min"] = flat["v_min"]
    flat["arguments"] = arguments


def read_json(path: Path, remedy: str) -> TrainConfig:
    """Return the config of a config.json. Messages end with `remedy`.

    Raises:
        ModelError: As for `read_toml`.
    """
    where = f"run: {path}"
    if not path.exists():
        problem = f"{path.parent} holds no run: no {path.name} in it"
        raise ModelError("run", problem, remedy=remedy)
    content = json_of(path, where, remedy)
    table = content.get("config") if isinstance(content, dict) else None
    if not isinstance(table, dict):
        raise ModelError(where, "no table 'config' in it", remedy=remedy)
    return config_of(table, where, remedy)


def config_of(flat: Mapping[str, Any], where: str = "", remedy: str = "") -> TrainConfig:
    """Build a TrainConfig from the fields of a file.

    Messages begin with `where` and end with `remedy`.

    Raises:
        ModelError: A field is unknown, or its value has another type or is out of range.
    """
    place, values = where or "train", {}
    for key, given in flat.items():
        types = FIELD_TYPES[require_known(place, "field", key, FIELD_TYPES)]
        values[key] = _converted(given, types)
        if not _fits(values[key], types):
            accepted = " or ".join(_TYPES[one] for one in types)
            raise wrong(place, key, given, accepted, remedy)
    try:
        return TrainConfig(**values)
    except ModelError as error:
        raise (error.within(where) if where else error) from None


def _converted(value: Any, types: tuple[Any, ...]) -> Any:
    """Convert a value to the type of its field: text to Path, integer to float, list to tuple."""
    value = _tuples(value)
    if isinstance(value, str) and Path in types:
        return Path(value)
    if type(value) is int and tuple in types:
        return (value,)
    if type(value) is int and float in types and abs(value) < 2**53:
        return float(value)
    return value


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    return {k: _tuples(v) for k, v in value.items()} if isinstance(value, dict) else value


def _fits(value: Any, types: tuple[Any, ...]) -> bool:
    if isinstance(value, tuple):
        return tuple in types and all(type(v) is int for v in value)
    return type(value) in types or (isinstance(value, Path) and Path in types)


# Definition of a run's neuron in its folder, for readers without the file or module of the family.
#
# Without PyTorch, so that `lnm train --resume` reads it before it loads PyTorch.


DEFINITION = "neuron.toml"


def definition_text(config: TrainConfig, neuron: Neuron) -> str | None:
    """Return the text of neuron.toml for a neuron of a file or module.

    None for a built-in family, and for a neuron without a text that `lnm.load` accepts.
    """
    if config.family in FAMILIES:
        return None
    try:
        text = neuron.to_toml()
    except ModelError:
        return None
    return text if len(text.encode()) <= MAX_BYTES else None


def with_definition(config: TrainConfig, folder: Path) -> TrainConfig:
    """Return the config of a run, with neuron.toml as its family where its own is missing.

    The arguments of the family are part of that definition.
    """
    own = folder / DEFINITION
    if own.is_file() and is_missing(config.family):
        return replace(config, family=str(own), arguments={})
    return config


def require_same_definition(folder: Path, config: TrainConfig, neuron: Neuron) -> None:
    """Raise ModelError if neuron.toml of a run, where it has one, is not that of a neuron.

    Unlike the digest of the origin, it has the initial values of learnable parameters.
    """
    path, text = folder / DEFINITION, definition_text(config, neuron)
    if text is not None and path.is_file() and toml_of(path) != tomllib.loads(text):
        problem = "its definition or an initial value has changed since the run began"
        raise ModelError(config.family, problem, remedy="Restore it, or train a new run.")
