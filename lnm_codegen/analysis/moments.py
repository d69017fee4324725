"""Mean and deviation of a polynomial charge of a normally distributed potential.

    v ~ N(mu, sigma**2)      m_k = E v**k
                             m_0 = 1,  m_1 = mu,  m_k = mu*m_(k-1) + (k-1)*sigma**2*m_(k-2)
    E f(v)   = sum_i theta_i m_i
    Var f(v) = sum_ij theta_i theta_j (m_(i+j) - m_i m_j)

The quadratic neuron of the group behind LNM (arXiv 2510.05168) derives the width of its surrogate
from the distribution of the potential. Half the width as this deviation is our reading of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lnm_codegen.validation import wrong


def normal_moments(mean: float, deviation: float, count: int) -> list[float]:
    """Return m_0, ..., m_count of N(mean, deviation**2)."""
    moments = [1.0, mean]
    for k in range(2, count + 1):
        moments.append(mean * moments[-1] + (k - 1) * deviation**2 * moments[-2])
    return moments[: count + 1]


def charge_spread(
    theta: Sequence[float], mean: float, deviation: float, x_deviation: float = 0.0
) -> tuple[float, float]:
    """Return mean and deviation of f_theta(v) + x; x has mean 0 and is independent of v.

    Args:
        theta: theta_0, theta_1, ...
        mean: mu of the potential before the step.
        deviation: sigma of the potential, >= 0.
        x_deviation: Deviation of the input, >= 0.

    Raises:
        ModelError: A number is not finite, or a deviation is below 0.
    """
    for word, value in (("deviation", deviation), ("x_deviation", x_deviation), ("mean", mean)):
        if not math.isfinite(value) or (value < 0 and word != "mean"):
            number = "a finite number" if word == "mean" else "a finite number >= 0"
            raise wrong("charge_spread", word, value, number)
    m = normal_moments(mean, deviation, 2 * (len(theta) - 1))
    centre = sum(a * m[i] for i, a in enumerate(theta))
    variance = sum(
        a * b * (m[i + j] - m[i] * m[j]) for i, a in enumerate(theta) for j, b in enumerate(theta)
    )
    return centre, math.sqrt(max(variance, 0.0) + x_deviation**2)
