"""MNIST-1D (Greydanus and Kobak 2024, arXiv 2011.14439): digits drawn as lines, sample by sample.

Its own package generates it, 4,000 and 1,000 sequences of 40 samples, the same at every call, and
standardises them over both splits. Published with it: logistic regression 32, MLP 68, GRU 91,
CNN 94; with shuffled time GRU 57, CNN 56.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import numpy as np
import torch

from lnm_codegen.errors import ToolError, reason
from lnm_codegen.train.data.dataset import Dataset, memory_split
from lnm_codegen.validation import require_bool


def mnist1d(limit: int | None = None, shuffled: bool = False) -> Dataset:
    """Return MNIST-1D: T = 40 steps of one number, a label per sequence.

    `shuffled` permutes time, in one order for all: a control without meaning in the order.
    """
    require_bool("data: mnist1d", "shuffled", shuffled)
    arrays = _generate(shuffled)
    train, test = (
        memory_split(
            torch.from_numpy(np.asarray(arrays[f"x{end}"], np.float32)).unsqueeze(2),
            torch.from_numpy(np.asarray(arrays[f"y{end}"], np.int64)),
        ).first(limit)
        for end in ("", "_test")
    )
    return Dataset("mnist1d", train, test, 10, "sequence", (40, 1))


@cache
def _generate(shuffled: bool) -> dict[str, Any]:
    """Call the package, which seeds the global generators, and restore their states."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002 (the package seeds it)
    try:
        from mnist1d.data import get_dataset_args, make_dataset

        args = get_dataset_args()
        args.shuffle_seq = shuffled
        arrays: dict[str, Any] = make_dataset(args)
        return arrays
    except ImportError as error:
        remedy = "Install the package that generates it: pip install 'lnm_codegen[data]'."
        raise ToolError("data: mnist1d", reason(error), remedy=remedy) from None
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
