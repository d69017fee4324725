"""Lookup of data sets by name, or by a function of a file or module of yours."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lnm_codegen.errors import LnmError, ModelError
from lnm_codegen.families.library import call_function
from lnm_codegen.train.data.arrays import arrays
from lnm_codegen.train.data.dataset import LARGEST, Dataset, Loaded
from lnm_codegen.train.data.events import cifar10_dvs, dvs_gesture, n_mnist
from lnm_codegen.train.data.images import (
    cifar10,
    cifar100,
    digits,
    digits_rows,
    fashion_columns,
    fashion_mnist,
    imagenet,
    mnist,
    mnist_permuted,
    mnist_sequential,
)
from lnm_codegen.train.data.own import samples_of
from lnm_codegen.train.data.series import ecg_qtdb, mnist1d, time_series
from lnm_codegen.train.data.spoken import shd, ssc
from lnm_codegen.train.data.synthetic import delayed_xor, first_bound, gated_memory
from lnm_codegen.train.names import is_reference, require_dataset
from lnm_codegen.validation import require_declared, require_integer, require_known

SETS: Mapping[str, Callable[..., Dataset]] = {
    "arrays": arrays,
    "digits": digits,
    "digits-rows": digits_rows,
    "fashion-mnist": fashion_mnist,
    "fashion-columns": fashion_columns,
    "mnist": mnist,
    "mnist-sequential": mnist_sequential,
    "mnist-permuted": mnist_permuted,
    "mnist1d": mnist1d,
    "time-series": time_series,
    "delayed-xor": delayed_xor,
    "first-bound": first_bound,
    "gated-memory": gated_memory,
    "ecg-qtdb": ecg_qtdb,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "imagenet": imagenet,
    "n-mnist": n_mnist,
    "cifar10-dvs": cifar10_dvs,
    "dvs-gesture": dvs_gesture,
    "shd": shd,
    "ssc": ssc,
}
"""Name of `DATASETS` -> its constructor, which takes `limit`, `folder` if it reads files, and the
options of its set. The types of its arguments declare what `load` accepts."""


def load(
    name: str, folder: Path | str | None = None, limit: int | None = None, **options: Any
) -> Dataset:
    """Return a set.

    Args:
        name: One of `DATASETS`; or file.py:function or module:function. That function is called
            with the options, and returns a `Dataset`, (train, test) or (train, valid, test); see
            `from_datasets`.
        folder: Folder of its files, or the file of `arrays`, for a set that reads files. A function
            takes it as its argument `folder`.
        limit: Largest number of samples in each split, for a quick try.
        options: Options of that set; its function in `SETS` describes them.

    Raises:
        ModelError: An unknown set, an option that it lacks or out of its range, a folder for a set
            that reads no files, or no folder for a set that needs one.
        ToolError: The files are missing or malformed, or a package is missing.
    """
    require_set_options(name, options)
    where = f"data: {name}"
    if limit is not None:
        require_integer(where, "limit", limit, 1, LARGEST)
    if is_reference(name):
        return _of_function(name, None if folder is None else Path(folder), limit, options)
    make = SETS[name]
    parameters = inspect.signature(make).parameters
    if folder is not None:
        if "folder" not in parameters:
            raise ModelError(where, "the set reads no files", remedy="Leave out --data-dir.")
        folder = Path(folder)
    elif "folder" in parameters and parameters["folder"].default is inspect.Parameter.empty:
        remedy = "Name it with --data-dir; docs/data.md lists its layouts."
        raise ModelError(where, "the set is read from a folder of yours", remedy=remedy)
    require_declared(where, make, options)
    place = {} if folder is None else {"folder": folder}
    return replace(make(limit=limit, **place, **options), loaded=Loaded(folder, limit, options))


def _of_function(
    name: str, folder: Path | None, limit: int | None, options: dict[str, Any]
) -> Dataset:
    """Return the samples of a function of the user."""
    place = {} if folder is None else {"folder": folder}
    try:
        data = samples_of(f"what {name} returns", call_function(name, {**place, **options}))
    except LnmError as error:
        raise error.within("data") from error.__cause__
    return replace(data.first(limit), name=name, loaded=Loaded(folder, limit, options))


def require_set_options(name: str, options: Iterable[str]) -> None:
    """Raise ModelError unless a set of this name has options of these names.

    A function of the user refuses options when it is called.
    """
    if is_reference(require_dataset(name)):
        return
    parameters = inspect.signature(SETS[name]).parameters
    accepted = [word for word in parameters if word not in ("folder", "limit")]
    for word in options:
        require_known(f"data: {name}", "option", word, accepted)
