"""Statistics of claims: intervals of means, differences of means, p-values of families of tests."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import mannwhitneyu, t

LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """Difference of two means, its confidence interval, and p of a two-sided test."""

    mean: float
    low: float
    high: float
    p: float


def half_width(values: Sequence[float]) -> float | None:
    """Return half of the 95 % confidence interval of the mean; None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    error = statistics.stdev(values) / n**0.5
    return float(t.ppf(0.5 + LEVEL / 2, n - 1)) * error


def mean_text(values: Sequence[float]) -> str:
    """Return the mean with one decimal, and half of its 95 % confidence interval."""
    half = half_width(values)
    return f"{statistics.mean(values):.1f}" + ("" if half is None else f" ± {half:.1f}")


def difference(a: Sequence[float], b: Sequence[float]) -> Difference | None:
    """Return mean(a) - mean(b) by Welch's test; None for fewer than two values or no spread."""
    if min(len(a), len(b)) < 2:
        return None
    parts = [statistics.variance(values) / len(values) for values in (a, b)]
    error = sum(parts) ** 0.5
    if error == 0.0:
        return None
    degrees = sum(parts) ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    half = float(t.ppf(0.5 + LEVEL / 2, degrees)) * error
    mean = statistics.mean(a) - statistics.mean(b)
    return Difference(mean, mean - half, mean + half, 2 * float(t.sf(abs(mean) / error, degrees)))


def ranked(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Return p of the two-sided rank test of Mann and Whitney, and the order of the ranks.

    The order is above 0 if values of `a` are more often above those of `b` than below.
    """
    found = mannwhitneyu(a, b)
    return float(found.pvalue), float(found.statistic) - len(a) * len(b) / 2


def holm(ps: Sequence[float]) -> list[float]:
    """Return the p-values of a family of tests, corrected by Holm's step-down method.

    With the k-th smallest of m numbered from 0: p_k' = max over j <= k of min(1, (m - j) p_j).
    """
    corrected, most = [0.0] * len(ps), 0.0
    for k, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        most = max(most, min(1.0, (len(ps) - k) * ps[place]))
        corrected[place] = most
    return corrected
