"""Origin of a run: the network and the samples that a config names, and their record.

A config only names both. The file of a neuron may be edited after the run, and `run(data=...)`
takes any samples. So config.json has their definitions and sums, and `load_run` and `--resume`
compare what they load with them. A run of an earlier version has none, or lacks entries, which are
then not compared.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from lnm_codegen.errors import LnmError, ModelError, reason
from lnm_codegen.families import FAMILIES
from lnm_codegen.files import json_of
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.text.digest import definition_digest
from lnm_codegen.options import BackendName
from lnm_codegen.train.data.dataset import Dataset
from lnm_codegen.train.data.load import load, require_set_options
from lnm_codegen.train.models import build, require_network_options
from lnm_codegen.train.models.base import Network
from lnm_codegen.train.models.own import (
    Made,
    code_digests,
    make,
    module_texts,
    neuron_digests,
    require_no_family,
)
from lnm_codegen.train.names import is_reference
from lnm_codegen.train.runs.config import TrainConfig, neuron_of
from lnm_codegen.validation import shown, wrong

_GIVE = "In Python, give the samples of the run as data= of load_run, or of run to resume it."
_RESTORE = "Restore what it gives, or train a new run."
TOLERANCE = 1e-3
"""Largest difference of equal inputs, relative to their size. Machines differ in last bits."""


def dataset_of(config: TrainConfig, data: Dataset | None = None) -> Dataset:
    """Return the samples of a run; the held-out ones, if any, are its test split.

    Args:
        config: `limit` and `validation` apply to the samples, unless `data` is a held-out set.
        data: Samples; None loads those that the config names.

    Raises:
        ModelError: No such data, or a limit, validation or batch that does not fit them.
    """
    if data is None:
        require_set_options(config.data, config.data_arguments)
        data = load(config.data, config.data_dir, config.limit, **config.data_arguments)
    elif not data.is_held_out or data.unread_test is not None:
        data = data.first(config.limit)
    if config.validation and data.unread_test is not None:
        accepted = "0 for data=(train, valid, test), which has held-out samples"
        raise wrong("train", "validation", config.validation, accepted)
    own = data.train.batch
    if own not in (None, config.batch):
        problem = f"batch is {config.batch}, and the loader's batch_size {own}"
        raise ModelError("train", problem, remedy=f"Set batch to {own}.")
    return data.held_out(config.validation) if config.validation and not data.is_held_out else data


def make_network(
    config: TrainConfig,
    data: Dataset,
    neuron: Callable[[], Neuron],
    given: nn.Module | None = None,
) -> Made:
    """Return the network of a run: a built-in one, one of a file or module, or `given`.

    Args:
        config: See `network_of`.
        data: See `network_of`.
        neuron: Function that returns the neuron of the config. It is called if the network takes
            a neuron.
        given: A network of the user, with its weights.

    Raises:
        ModelError: As of `network_of` and `models.own.make`.
    """
    if given is not None:
        require_no_family(config, f"network: {config.network}")
        return Made(given, takes_neuron=False)
    if is_reference(config.network):
        with torch.random.fork_rng(devices=_gpus()):
            torch.manual_seed(config.seed)
            return make(config, data, neuron)
    return Made(network_of(config, data, neuron()), takes_neuron=True)


def network_of(config: TrainConfig, data: Dataset, neuron: Neuron | None = None) -> Network:
    """Return a built-in network whose weights depend only on the config; PyTorch's seed stays.

    Args:
        config: Its network, neuron, seed and backend.
        data: Samples of the size that the network takes.
        neuron: The neuron of the config, if it already exists.

    Raises:
        ModelError: The network does not fit the neuron, the samples, or the memory.
    """
    require_network_options(config.network, config.network_arguments)
    with torch.random.fork_rng(devices=_gpus()):
        torch.manual_seed(config.seed)
        try:
            return build(
                config.network,
                neuron_of(config) if neuron is None else neuron,
                data.sample,
                data.classes,
                kind=data.kind,
                per_step=data.per_step or config.loss == "tet",
                padded=data.padded,
                backend=cast("BackendName", config.backend),
                **config.network_arguments,
            )
        except LnmError:
            raise
        except (RuntimeError, MemoryError) as error:  # no memory for its weights
            problem = f"the network {config.network!r} cannot be built: {reason(error)[:120]}"
            raise ModelError("train", problem, remedy="Give it smaller layers.") from None


def _gpus() -> list[int]:
    """Return the GPUs whose random numbers `torch.manual_seed` would change."""
    ready = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return list(range(torch.cuda.device_count())) if ready else []


def origin_of(
    config: TrainConfig,
    neuron: Neuron | None,
    data: Dataset,
    network: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the origin of a run, for JSON. A built-in family needs no digest.

    Args:
        config: The config of the run.
        neuron: Its neuron; None for a network that has neurons of its own.
        data: Its samples.
        network: `network_origin` of a network of the user.
    """
    mean, deviation = data.scale
    samples = {
        "name": data.name,
        "own": data.loaded is None,
        "train": len(data.train),
        "test": len(data.test),
        "held_out": data.is_held_out,
        "sample": list(data.sample),
        "labels": _labels_digest(data),
        "inputs": None if _is_random(data) else _summary(data).tolist(),
        "mean": mean.tolist(),
        "deviation": deviation.tolist(),
    }
    digest = None if neuron is None else _neuron_digest(config, neuron)
    return {"neuron": digest, "network": network, "data": samples}


def network_origin(network: nn.Module, is_named: bool) -> dict[str, Any]:
    """Return the origin of a network of the user.

    Args:
        network: The network.
        is_named: The config names its file or module.
    """
    return {
        "own": not is_named,
        "neurons": neuron_digests(network),
        "code": code_digests(network),
        "modules": module_texts(network),
    }


def require_named_network(origin: dict[str, Any], config: TrainConfig) -> None:
    """Raise ModelError if the network of a run was given in Python, so that no config names it."""
    found = origin.get("network")
    if isinstance(found, dict) and found.get("own"):
        raise ModelError(
            "network",
            f"the run has a network of your own, a {config.network}",
            remedy="In Python, give it as network= of load_run, or of run to resume it. Or train"
            " with --network file.py:Net.",
        )


def require_same_network(origin: dict[str, Any], config: TrainConfig, network: nn.Module) -> None:
    """Raise ModelError if the neuron layers of a network of the user have changed.

    Warn if only other modules or the source of a class have: the change may be harmless.
    """
    found = origin.get("network")
    have = found.get("neurons") if isinstance(found, dict) else None
    if not isinstance(have, dict):
        return
    where, want = f"network: {config.network}", neuron_digests(network)
    remedy = "Restore the network, or train a new run."
    for path in (*have, *want):
        if path not in want or path not in have:
            owner = "the run has" if path in have else "the network has, and the run has not,"
            raise ModelError(where, f"{owner} a neuron layer {path!r}", remedy=remedy)
        if have[path] != want[path]:
            problem = f"the neuron of {path!r} has changed since the run began"
            raise ModelError(where, problem, remedy=remedy)
    if changed := changed_code(origin, network):
        warnings.warn(
            f"{where}: {changed}. Where this changes the outputs, restore it, or train a new run.",
            stacklevel=3,
        )


def changed_code(origin: dict[str, Any], network: nn.Module) -> str:
    """Return what has changed since the run beside neurons and parameters, or an empty text.

    "the module '2' is MaxPool2d(...), and in the run AvgPool2d(...)", or "the source of Net has
    changed since the run began".
    """
    found = origin.get("network")
    if not isinstance(found, dict):
        return ""
    modules, code = found.get("modules"), found.get("code")
    if isinstance(modules, dict) and modules != (want := module_texts(network)):
        path = next(p for p in (*modules, *want) if modules.get(p) != want.get(p))
        now, was = (texts.get(path, "absent") for texts in (want, modules))
        return f"the module {path!r} is {now}, and in the run {was}"
    if not isinstance(code, dict):
        return ""
    names = [name for name, digest in code_digests(network).items() if code.get(name) != digest]
    return f"the source of {', '.join(names)} has changed since the run began" if names else ""


def read_origin(path: Path) -> dict[str, Any]:
    """Return the origin in a config.json, or an empty dict if it has none."""
    found = json_of(path, f"run: {path}").get("origin")
    return found if isinstance(found, dict) else {}


def require_same_neuron(
    origin: dict[str, Any], config: TrainConfig, neuron: Neuron, source: str
) -> None:
    """Raise ModelError if `source`, a family or neuron.toml, defines another neuron than the run's.

    `config` is that of the run.
    """
    if origin.get("neuron") not in (None, _neuron_digest(config, neuron)):
        problem = "its definition has changed since the run began"
        raise ModelError(source, problem, remedy="Restore it, or train a new run.")


def require_named_data(origin: dict[str, Any]) -> None:
    """Raise ModelError if the samples of a run are your own, so that no config names them."""
    found = origin.get("data")
    if isinstance(found, dict) and found.get("own"):
        problem = f"the run has samples of your own, {shown(found.get('name'))}"
        remedy = f"{_GIVE} Or train with --data file.py:function, which is called again."
        raise ModelError("data", problem, remedy=remedy)


def with_scale(origin: dict[str, Any], data: Dataset) -> Dataset:
    """Return samples normalised by the mean and deviation of the run, if it records them.

    A set with samples for validation has its test split, if the run tested on that.
    """
    found = origin.get("data")
    if isinstance(found, dict) and found.get("held_out") is False:
        data = data.with_test()
    if not isinstance(found, dict) or "mean" not in found:
        return data
    mean, deviation = (_numbers(found, word).float() for word in ("mean", "deviation"))
    return replace(data, scale=(mean, deviation))


def require_same_data(origin: dict[str, Any], data: Dataset) -> None:
    """Raise ModelError if the samples are not those of the run."""
    found = origin.get("data")
    if not isinstance(found, dict):
        return
    shape = [found.get("name"), found.get("train"), found.get("test"), found.get("sample")]
    if shape != [data.name, len(data.train), len(data.test), list(data.sample)]:
        name, train, test, sample = shape
        problem = (
            f"the run has other samples: {name}, {train} to train and {test} to test, of shape"
            f" {sample}"
        )
    elif (
        None not in (digests := (found.get("labels"), _labels_digest(data))) and len({*digests}) > 1
    ):
        problem = "the run has other labels"
    elif not _has_same_inputs(found, data):
        problem = "the run has other inputs"
    elif not _has_same_scale(found, data):
        problem = "the run has another mean or deviation"
    else:
        return
    remedy = _RESTORE if is_reference(data.name) else _GIVE
    raise ModelError(f"data: {data.name}", problem, remedy=remedy)


def _neuron_digest(config: TrainConfig, neuron: Neuron) -> str | None:
    """Return the digest of a neuron of a file or module. A surrogate of the config is left out."""
    if config.family in FAMILIES:
        return None
    return definition_digest(neuron, with_surrogates="surrogate" not in config.arguments)


def _labels_digest(data: Dataset) -> str | None:
    """Return the digest of all labels, or None if no reader knows them yet."""
    found = hashlib.sha256()
    for split in (data.train, data.test):
        if split.known_labels is None:
            return None
        labels = split.known_labels.detach().cpu().to(torch.int64).contiguous()
        found.update(labels.numpy().tobytes())
    return found.hexdigest()


def _is_random(data: Dataset, reads: int = 2) -> bool:
    """Report whether the reads of a few samples differ, or fail."""
    for split in (data.train, data.test):
        first, *others = (split.few(seed) for seed in range(reads))
        if first is None:
            return True
        for other in others:
            if other is None or not all(map(_is_equal, first, other)):
                return True
    return False


def _is_equal(a: Tensor, b: Tensor) -> bool:
    """Report whether two tensors are equal; padding is NaN."""
    return torch.equal(a.nan_to_num(), b.nan_to_num())


def _summary(data: Dataset) -> Tensor:
    """Return three means over a few inputs of each split, (2, 3).

    They are the means of the inputs, of the inputs times a rising weight, and of their sizes.
    Targets that are no classes count as inputs.
    """
    found = []
    for split in (data.train, data.test):
        pair = split.few(0)
        assert pair is not None, "a split without a digest is not compared"
        values = pair[:1] if data.has_classes else pair
        x = torch.cat([value.detach().cpu().double().nan_to_num().flatten() for value in values])
        weight = torch.linspace(-1, 1, len(x), dtype=x.dtype)
        found.append(torch.stack([x.mean(), (weight * x).mean(), x.abs().mean()]))
    return torch.stack(found)


def _has_same_inputs(found: dict[str, Any], data: Dataset) -> bool:
    if found.get("inputs") is None or data.train.few(0) is None or data.test.few(0) is None:
        return True
    summary = _summary(data)
    return _is_close(found, "inputs", summary, summary[:, 2:]) or _is_random(data, 8)


def _has_same_scale(found: dict[str, Any], data: Dataset) -> bool:
    mean, deviation = data.scale
    pairs = {"mean": mean, "deviation": deviation}
    return all(_is_close(found, word, value, deviation) for word, value in pairs.items())


def _is_close(found: dict[str, Any], word: str, value: Tensor, size: Tensor) -> bool:
    """Report whether the recorded numbers, if any, are `value` up to a small share of `size`."""
    if word not in found:
        return True
    have = _numbers(found, word)
    return have.shape == value.shape and bool(((have - value).abs() <= TOLERANCE * size).all())


def _numbers(found: dict[str, Any], word: str) -> Tensor:
    try:
        return torch.tensor(found.get(word), dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        remedy = "Restore config.json, or train a new run."
        raise wrong("run: origin", word, found.get(word), "numbers", remedy) from None
