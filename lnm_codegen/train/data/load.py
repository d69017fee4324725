"""`load`: a set by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lnm_codegen.errors import ModelError
from lnm_codegen.train.data.cifar import cifar10, cifar100
from lnm_codegen.train.data.dataset import Dataset
from lnm_codegen.train.data.digits import digits, digits_rows
from lnm_codegen.train.data.ecg import ecg_qtdb
from lnm_codegen.train.data.event_sets import cifar10_dvs, dvs_gesture, n_mnist
from lnm_codegen.train.data.idx_sets import (
    fashion_columns,
    fashion_mnist,
    mnist,
    mnist_permuted,
    mnist_sequential,
)
from lnm_codegen.train.data.imagenet import imagenet
from lnm_codegen.train.data.mnist1d import mnist1d
from lnm_codegen.train.data.options import check_count
from lnm_codegen.train.data.saccades import fashion_events
from lnm_codegen.train.data.series import time_series
from lnm_codegen.train.data.synthetic import delayed_xor, randman, yin_yang
from lnm_codegen.validation import did_you_mean

SETS: Mapping[str, Callable[..., Dataset]] = {
    "digits": digits,
    "digits-rows": digits_rows,
    "fashion-mnist": fashion_mnist,
    "fashion-columns": fashion_columns,
    "fashion-events": fashion_events,
    "mnist": mnist,
    "mnist-sequential": mnist_sequential,
    "mnist-permuted": mnist_permuted,
    "mnist1d": mnist1d,
    "time-series": time_series,
    "delayed-xor": delayed_xor,
    "randman": randman,
    "yin-yang": yin_yang,
    "ecg-qtdb": ecg_qtdb,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "imagenet": imagenet,
    "n-mnist": n_mnist,
    "cifar10-dvs": cifar10_dvs,
    "dvs-gesture": dvs_gesture,
}
"""What makes each set. A function takes `limit`, `folder` if it reads files, and its options."""

DATASETS = tuple(SETS)


def load(
    name: str, folder: Path | str | None = None, limit: int | None = None, **options: Any
) -> Dataset:
    """Return a set.

    Args:
        name: One of `DATASETS`.
        folder: Where its files are, for a set that reads some.
        limit: Keep only so many training and test samples, for a quick try.
        options: Of that set; see its function in `SETS`.

    Raises:
        ModelError: No set of that name, an option that it does not have or out of its range, a
            folder for a set that reads no files, or none for one that does.
        ToolError: The files are missing or malformed, or a package is.
    """
    if name not in SETS:
        raise ModelError("data", f"no set {name!r}", DATASETS, did_you_mean(name, DATASETS))
    parameters = inspect.signature(SETS[name]).parameters
    accepted = [word for word in parameters if word not in ("folder", "limit")]
    for word in options:
        if word not in accepted:
            raise ModelError(
                "data",
                f"{name} has no option {word!r}",
                ", ".join(accepted) or "none",
                did_you_mean(word, accepted),
            )
    if limit is not None:
        check_count(name, "limit", limit)
    if folder is not None:
        if "folder" not in parameters:
            raise ModelError(
                "data",
                f"{name!r} reads no files and takes no folder",
                remedy="Leave out --data-dir.",
            )
        return SETS[name](folder=Path(folder), limit=limit, **options)
    if "folder" in parameters and parameters["folder"].default is inspect.Parameter.empty:
        raise ModelError(
            "data",
            f"{name!r} is read from a folder of yours",
            remedy="Name it with --data-dir; docs/data.md says what may be in it.",
        )
    return SETS[name](limit=limit, **options)
