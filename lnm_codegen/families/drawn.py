"""Initial values that are drawn by row: a leak of its own for each channel or neuron."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DrawnLeak:
    """Makes theta of f(v) = (decay - shift)*v with decay = sigmoid(N(mean, spread**2)) by row.

    Attributes:
        mean: Of the logit of the decay.
        spread: Its standard deviation.
        shift: 1 where the charge adds v itself (form C), else 0.
        ends: Coefficients of v in the basis, those of P_0 and P_1, or of P_1 alone.
    """

    mean: float
    spread: float
    shift: float
    ends: tuple[float, ...]

    def __call__(self, generator: Any, shape: tuple[int, ...]) -> Any:
        """Return theta of `shape`, (*rows, size), as a tensor of PyTorch."""
        # Families import no PyTorch: the tensor is made of the generator's own.
        theta = generator.get_state().double().new_zeros(shape)
        logit = theta.new_empty(shape[:-1]).normal_(self.mean, self.spread, generator=generator)
        slope = logit.sigmoid() - self.shift
        for k, end in enumerate(self.ends):
            theta[..., k] = end * slope
        return theta
