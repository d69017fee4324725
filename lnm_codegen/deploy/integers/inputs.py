"""Normalisation of the samples of a network, from values of the data to real inputs.

`network.json` describes arithmetic alone. `lnm emit --network` writes input.json beside it:

    {"format": "lnm_codegen.network_input", "version": 1, "data": name, "raw": [low, high],
     "mean": [...], "deviation": [...]}
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from lnm_codegen.ir.fixed.interpret import Array

FILE = "input.json"
FORMAT, VERSION = "lnm_codegen.network_input", 1


@dataclass(frozen=True, slots=True)
class InputScale:
    """Real inputs a = (r - mean) / deviation of values r of the data, computed in float32.

    With n numbers of each, the first n-th of the elements of a time step has the first, and so on:
    a channel of an image, or a feature.

    Attributes:
        data: Name of the data set.
        raw: The lowest and the highest r of the test samples.
        mean: One number, or n.
        deviation: As many numbers.
    """

    data: str
    raw: tuple[float, float]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @property
    def is_identity(self) -> bool:
        """Whether every a is r."""
        return not any(self.mean) and all(d == 1 for d in self.deviation)

    def file(self) -> str:
        """Return the text of input.json."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "data": self.data,
            "raw": self.raw,
            "mean": self.mean,
            "deviation": self.deviation,
        }
        return f"{json.dumps(content, indent=2)}\n"


def input_scale(data: str, scale: tuple[Tensor, Tensor], samples: Tensor) -> InputScale:
    """Return the normalisation of a data set.

    Args:
        data: Its name.
        scale: Its mean and deviation, one of each, or one for each channel or feature.
        samples: Test samples before normalisation.
    """
    mean, deviation = np.broadcast_arrays(*(part.numpy() for part in scale))
    low, high = _shortest(np.array([samples.min(), samples.max()]))
    return InputScale(data, (low, high), _shortest(mean), _shortest(deviation))


def _shortest(numbers: Array) -> tuple[float, ...]:
    """Return the shortest decimals that read back as these numbers in float32."""
    flat = numbers.astype(np.float32).reshape(-1)
    return tuple(float(np.format_float_scientific(number)) for number in flat)
