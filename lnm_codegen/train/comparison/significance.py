"""Statistics of a comparison: intervals of means, Welch's test, Holm's correction. By SciPy."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lnm_codegen.validation import require_package

LEVEL = 0.95
"""Confidence level of every interval."""


@dataclass(frozen=True)
class MeanDifference:
    """Difference of two means, its 95 % confidence interval, and p of Welch's two-sided test."""

    mean: float
    low: float
    high: float
    p: float


def require_scipy(where: str) -> None:
    """Raise ToolError, with the command that installs it, if SciPy is not installed."""
    require_package(where, "scipy.stats", "SciPy", extra="train")


def half_width(values: Sequence[float]) -> float | None:
    """Return half of the 95 % confidence interval of the mean; None for fewer than two values.

    It is t s/√n: s is the standard deviation of n values, t the 97.5 % quantile of Student's t of
    n - 1 degrees of freedom.

    Raises:
        ToolError: SciPy is not installed.
    """
    n = len(values)
    if n < 2:
        return None
    require_scipy("compare")
    from scipy.stats import t

    return float(t.ppf(0.5 + LEVEL / 2, n - 1)) * statistics.stdev(values) / math.sqrt(n)


def difference(a: Sequence[float], b: Sequence[float]) -> MeanDifference | None:
    """Return mean(a) - mean(b) by Welch's test; None for fewer than two values or no spread.

    Raises:
        ToolError: SciPy is not installed.
    """
    if min(len(a), len(b)) < 2 or len(set(a)) == len(set(b)) == 1:
        return None
    require_scipy("compare")
    from scipy.stats import ttest_ind

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the values of one of them are equal
        found = ttest_ind(a, b, equal_var=False)
        low, high = found.confidence_interval(LEVEL)
    mean = statistics.mean(a) - statistics.mean(b)
    return MeanDifference(mean, float(low), float(high), float(found.pvalue))


def holm(ps: Sequence[float]) -> list[float]:
    """Return the p-values of a family of tests, corrected by Holm's step-down method.

    With the k-th smallest of m numbered from 0: p_k' = max over j <= k of min(1, (m - j) p_j).
    """
    found, most = [0.0] * len(ps), 0.0
    for k, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        most = max(most, min(1.0, (len(ps) - k) * ps[place]))
        found[place] = most
    return found


Compared = Mapping[int, tuple[MeanDifference, float]]
"""Index of a row -> its difference from the reference in points, and Holm's p."""


def corrected(tests: Mapping[int, MeanDifference]) -> Compared:
    """Return the tests of a family, each with p after Holm's correction."""
    ps = holm([test.p for test in tests.values()])
    return {k: (tests[k], p) for k, p in zip(tests, ps, strict=True)}
