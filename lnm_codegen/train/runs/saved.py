"""Trained networks and learned neuron parameters, read from a run folder.

config.json and the safetensors files hold data only. If the config names its family as
file.py:function or module:function, loading imports that file or module, which runs its code.
Where it is missing, neuron.toml defines the neuron; packages around a missing module may run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lnm_codegen.errors import LnmError, ModelError, ToolError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.text.digest import definition_digest
from lnm_codegen.train.data.dataset import Dataset
from lnm_codegen.train.data.own import samples_of
from lnm_codegen.train.models.base import Network, neurons_of
from lnm_codegen.train.models.own import require_trainable
from lnm_codegen.train.names import is_reference
from lnm_codegen.train.runs.config import (
    TrainConfig,
    is_record,
    neuron_of,
    read_json,
    with_definition,
)
from lnm_codegen.train.runs.folder import HISTORY, MODEL, read_tensors
from lnm_codegen.train.runs.origin import (
    dataset_of,
    make_network,
    read_origin,
    require_named_data,
    require_named_network,
    require_same_data,
    require_same_network,
    require_same_neuron,
    with_scale,
)

LARGEST_IN_HISTORY = 1 << 16
_REMEDY = "Train again with lnm train, or name another run."
_SAME = "Name a run of the same neuron and sizes."


@dataclass(frozen=True)
class Run:
    """A trained network and its data.

    Attributes:
        folder: The run folder.
        config: The config of the training. It lacks a surrogate given as an object: the network's
            output does not depend on it.
        network: The network with its weights, in eval mode: a `Network` of `MODELS`, or a module
            of yours. Its neuron layers are `neurons_of(network)`.
        data: The samples that the config names, or those that were given, with the mean and
            deviation of the training.
    """

    folder: Path
    config: TrainConfig
    network: Any = field(repr=False)
    data: Dataset = field(repr=False)


def load_run(
    folder: str | Path,
    data: Dataset | tuple[Any, ...] | None = None,
    network: nn.Module | None = None,
) -> Run:
    """Return the run of a folder that `lnm train` wrote.

    A family, a network or data that are a Python file or a module are imported, which runs their
    code. A function that gives the network or the data is called again.

    Args:
        folder: A folder with config.json and model.safetensors. Its neuron.toml defines the neuron
            if the file or module of the family is missing.
        data: Samples, of the run or others; by default those that the config names. These, and
            held-out samples of the same name, must be those of the run. All are normalised by the
            mean and deviation of the run, whatever their own scale. A tuple as in `run` must be the
            samples of the run: its `limit` and `validation` apply to them.
        network: A network of yours for the weights of the run, as `run(network=...)` had it; it is
            changed in place. By default the one that the config names.

    Raises:
        ModelError: No such folder; a file is missing, damaged or does not fit the other; the
            family, the network or the data cannot be loaded, or are not those of the run.
    """
    given = None if data is None else samples_of("load_run", data)
    is_tuple = given is not data
    place = Path(folder)
    if not place.is_dir():
        problem = "not a folder" if place.exists() else "no such folder"
        raise ModelError(f"run: {place}", problem, remedy="Name the folder that lnm train wrote.")
    path = place / "config.json"
    recorded = read_json(path, _REMEDY)
    config = _without_record(recorded)
    if not (place / MODEL).exists():
        problem = f"{place} holds no complete epoch: no {MODEL} in it"
        raise ModelError("run", problem, remedy=_REMEDY)
    weights, origin = read_tensors("run", place / MODEL, _REMEDY), read_origin(path)
    if network is None:
        require_named_network(origin, config)
    is_ours = network is None and not is_reference(config.network)
    neuron = _neuron_of_run(place, recorded) if is_ours else None
    try:
        if given is None:
            require_named_data(origin)
        found = given if given is not None and not is_tuple else dataset_of(config, given)
        found = with_scale(origin, found)
        if given is None or is_tuple or (found.is_held_out and found.name == config.data):
            require_same_data(origin, found)
        if network is None:
            network = make_network(
                config, found, lambda: neuron or _neuron_of_run(place, recorded)
            ).network
        if not isinstance(network, Network):
            require_trainable(network, found, config)
            require_same_network(origin, config, network)
    except (ModelError, ToolError) as error:
        if error.where.startswith("run: "):
            raise
        raise _of_run(path, error, "" if is_ours else _file_remedy(config.network)) from None
    _require_weights(f"run: {place / MODEL}", network.state_dict(), weights)
    network.load_state_dict(weights)
    network.eval()
    return Run(place, config, network, found)


def _without_record(config: TrainConfig) -> TrainConfig:
    """Return a config without the record of a surrogate, which no reader executes."""
    if not is_record(config.arguments.get("surrogate")):
        return config
    rest = {k: v for k, v in config.arguments.items() if k != "surrogate"}
    return replace(config, arguments=rest)


def _neuron_of_run(place: Path, recorded: TrainConfig) -> Neuron:
    """Return the neuron of a run folder, of its config or of its neuron.toml."""
    path, defined = place / "config.json", with_definition(_without_record(recorded), place)
    try:
        neuron = neuron_of(defined, recorded=True)
        require_same_neuron(read_origin(path), recorded, neuron, defined.family)
    except (ModelError, ToolError) as error:
        raise _of_run(path, error, _file_remedy(defined.family)) from None
    return neuron


def _of_run(path: Path, error: LnmError, remedy: str = "") -> ModelError:
    """Return an error that names the config.json of a run."""
    whole = f"run: {path}: {error.where}"
    return ModelError(whole, error.problem, error.accepted, remedy or error.remedy)


def _file_remedy(reference: str) -> str:
    """Return the remedy for a family or network in a missing file, or an empty text."""
    file = Path(reference.partition(":")[0])
    if file.suffix not in (".py", ".toml") or file.exists():
        return ""
    if file.is_absolute():
        return f"Put the file back, or correct {file} in config.json."
    return "The path is relative to the folder in which lnm train ran. Run the command there."


def test_data(run: Run) -> Dataset:
    """Return the data of a run with the test set of the data set.

    The test split of a run with `validation` is part of its training set.

    Raises:
        ModelError: The run has held-out samples of your own, whose test set is unknown.
    """
    if not run.data.is_held_out:
        return run.data
    if run.data.unread_test is not None:
        return run.data.with_test()
    if run.data.loaded is None:
        problem = f"the test set of {run.data.name} is unknown"
        remedy = "Give load_run the samples without held_out."
        raise ModelError(f"run: {run.folder}", problem, remedy=remedy)
    return replace(dataset_of(replace(run.config, validation=0)), scale=run.data.scale)


def _require_weights(where: str, want: Mapping[str, Tensor], have: Mapping[str, Tensor]) -> None:
    """Raise ModelError unless the weights fit the network of config.json and are finite."""
    unfit = "the file does not fit config.json"
    for name in (*want, *have):
        if name not in have or name not in want:
            owner = "file" if name not in have else "network"
            problem = f"{unfit}: the {owner} has no tensor {name!r}"
            raise ModelError(where, problem, remedy=_REMEDY)
        a, b = want[name], have[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            problem = f"{unfit}: {name!r} is {tuple(b.shape)} {b.dtype}"
            raise ModelError(where, problem, f"{tuple(a.shape)} {a.dtype}", _REMEDY)
        if not bool(torch.isfinite(b).all()):
            raise ModelError(where, f"{name!r} is not finite", remedy=_REMEDY)


def learned_parameters(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of the neurons' learned parameters, `<layer>.<parameter>`.

    A parameter of more than `LARGEST_IN_HISTORY` elements, per neuron of a large layer, is left
    out: a history of it would outgrow the weights.
    """
    return {
        f"{k}.{name}": value.detach().cpu().clone()
        for k, layer in enumerate(neurons_of(network))
        for name, value in layer.named_parameters()
        if value.numel() <= LARGEST_IN_HISTORY
    }


def load_neurons(
    network: nn.Module, neuron: Neuron, run: Path, order: Sequence[int] | None
) -> None:
    """Copy the learned neuron parameters of another run into `network`.

    Args:
        network: Changed in place.
        neuron: The neuron of its layers.
        run: The folder of the other run.
        order: Layer k takes the parameters of layer order[k], the first is 0; None keeps the
            order.

    Raises:
        ModelError: No such run, or one of another neuron; an order of another length, parameters of
            another shape, a parameter that the run's history omits for its size, or layers without
            learnable parameters.
    """
    where = "train: neurons_from"
    if not any(param.learnable for param in neuron.params):
        problem = f"{neuron.name} has no learnable parameter to take"
        remedy = "Make its parameters learnable; lr_neuron = 0 keeps those of the run."
        raise ModelError(where, problem, remedy=remedy)
    history = read_tensors(where, run / HISTORY, "Name a folder that lnm train wrote.")
    neurons = neurons_of(network)
    count = len(neurons)
    layers = tuple(range(count)) if order is None else tuple(order)
    if len(layers) != count:
        accepted = f"{count} numbers, one for each layer"
        raise ModelError("train", f"neurons_order is {layers}", accepted)
    taken: list[tuple[Tensor, Tensor]] = []
    for k, (layer, source) in enumerate(zip(neurons, layers, strict=True)):
        for name, value in layer.named_parameters():
            found = history.get(f"{source}.{name}")
            if found is None and value.numel() > LARGEST_IN_HISTORY:
                raise ModelError(
                    f"{where}: {run / HISTORY}",
                    f"layer {k} takes {name} with {value.numel()} numbers, and a history omits"
                    f" parameters of more than {LARGEST_IN_HISTORY}",
                    remedy="Learn per channel or per layer, or use smaller layers, in both runs.",
                )
            if found is None or found.shape[1:] != value.shape:
                have = "none" if found is None else tuple(found.shape[1:])
                raise ModelError(
                    f"{where}: {run / HISTORY}",
                    f"layer {k} takes {name} of shape {tuple(value.shape)}; layer {source} of"
                    f" the run has {have}",
                    remedy=_SAME,
                )
            taken.append((value, found[-1]))
    _require_neuron_of(where, run, neuron)
    with torch.no_grad():
        for own, learned in taken:
            own.copy_(learned)


def _require_neuron_of(where: str, run: Path, neuron: Neuron) -> None:
    """Raise ModelError unless a run folder has this neuron.

    Initial values of learnable parameters, and surrogates, may differ.
    """
    try:
        found = _neuron_of_run(run, read_json(run / "config.json", _REMEDY))
    except ModelError as error:
        raise error.within(where) from None
    if len({definition_digest(one, with_surrogates=False) for one in (neuron, found)}) > 1:
        problem = f"the run has another neuron than this {neuron.name}"
        raise ModelError(f"{where}: {run / 'config.json'}", problem, remedy=_SAME)
