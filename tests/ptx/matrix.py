"""Neurons, types, targets and shapes that are executed, and which of them quick runs have."""

from __future__ import annotations

import pytest

from tests.cases import BLOCKS, CASES, ZOO

QUICK = ("lif", "lnm-2", "lnm-4", "lnm-matrix", "izhikevich", "lif-normalised")
"""Cases whose kernels differ most; quick runs have the first two."""
SHAPES = ((33, 2, 3, 11), (32, 2, 2, 36), (4, 3, 37, 13))
"""Whole chunks of 16 steps, and less; rows aligned to 16 bytes, and not; several programs."""
TYPES = ("float32", "float64", "bfloat16", "float16")
TARGETS = ("sm_80", "sm_90")

slow = pytest.mark.slow

every = pytest.mark.parametrize(
    ("case", "dtype", "target"),
    [
        pytest.param(
            case, dtype, target,
            marks=() if case in QUICK[:2] and (dtype, target) == ("float32", "sm_90") else slow,
        )
        for case in CASES | ZOO | BLOCKS
        for dtype in TYPES
        for target in TARGETS
    ],
)  # fmt: skip
"""Every neuron, type and target."""


def shapes(case: str) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of a case."""
    return SHAPES if case in QUICK else SHAPES[:2]
