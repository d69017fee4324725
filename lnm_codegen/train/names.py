"""Names of data sets and networks. Without PyTorch, so that `lnm train` refuses others at once."""

from __future__ import annotations

from pathlib import Path

from lnm_codegen.errors import ModelError, ToolError
from lnm_codegen.families.library import is_missing
from lnm_codegen.train.runs.config import TrainConfig, neuron_of
from lnm_codegen.validation import require_known

DATASETS = (
    "arrays", "digits", "digits-rows", "fashion-mnist", "fashion-columns", "mnist",
    "mnist-sequential", "mnist-permuted", "mnist1d", "time-series", "delayed-xor", "first-bound",
    "gated-memory", "ecg-qtdb", "cifar10", "cifar100", "imagenet", "n-mnist", "cifar10-dvs",
    "dvs-gesture", "shd", "ssc",
)  # fmt: skip
"""Names of the data sets; `data.load.SETS` has the constructor of each."""

NETWORKS = (
    "conv", "feedforward", "recurrent", "vgg11", "vggsnn", "resnet18", "resnet19", "resnet20",
    "resnet34", "transformer",
)  # fmt: skip
"""Names of the networks; `models.MODELS` has the constructor of each."""


def require_dataset(name: str) -> str:
    """Return the name of a data set, or a reference to a function of yours; or raise ModelError.

    Raises:
        ModelError: No such set, or a file or module that does not exist.
    """
    return _require_name("data", "set", name, DATASETS, "function")


def require_network(name: str) -> str:
    """Return the name of a network, or a reference to a network of yours; or raise ModelError.

    Raises:
        ModelError: No such network, or a file or module that does not exist.
    """
    return _require_name("models", "network", name, NETWORKS, "Net")


def _require_name(where: str, word: str, name: str, known: tuple[str, ...], member: str) -> str:
    if not is_reference(name):
        accepted = (*known, f"file.py:{member}", f"module:{member}")
        return require_known(where, word, name, accepted)
    if is_missing(name):
        place = name.rpartition(":")[0]
        remedy = f"Name a file of the current folder or a whole path, file.py:{member}."
        raise ModelError(f"{where}: {name}", f"{place} does not exist", remedy=remedy)
    return name


def is_reference(name: str) -> bool:
    """Report whether a name is file.py:function or module:function."""
    return isinstance(name, str) and ":" in name


def short_name(name: str) -> str:
    """Return a name without the path of a file: "dir/mine.py:frames" is "mine-frames"."""
    place, colon, function = name.rpartition(":")
    return f"{Path(place).name.removesuffix('.py')}-{function}" if colon else name


def require_names(config: TrainConfig) -> None:
    """Refuse a config whose data set, network, neuron or folder of data does not exist.

    A neuron of a Python file or module is left to the run, so that its code runs once. So is the
    neuron of a network of yours, which may take none.

    Raises:
        ModelError: No such data set, network or family, or arguments that the family refuses.
        ToolError: No such folder.
    """
    require_dataset(config.data)
    require_network(config.network)
    if config.data_dir is not None and not Path(config.data_dir).exists():
        problem = f"{config.data_dir} does not exist"
        remedy = "Name a folder with --data-dir; docs/data.md lists its layouts."
        raise ToolError(f"data: {config.data}", problem, remedy=remedy)
    if not is_reference(config.family) and not is_reference(config.network):
        neuron_of(config)
