"""Random initial values of parameters in a layer, and the range that they come from.

A range is a pair (low, high), or one number. Its middle counts where there is no layer. Families do
not import PyTorch: methods of a generator's state make the tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from lnm_codegen.ir.declarations import Draw
from lnm_codegen.language.symbols import Declared, param
from lnm_codegen.validation import is_number, require_interval, require_number, wrong

Range: TypeAlias = float | tuple[float, float]
"""A number, or the ends of a uniform distribution."""
Sample: TypeAlias = Callable[[Any, tuple[int, ...]], tuple[Any, ...]]
"""See `Draw`."""


def require_range(
    where: str,
    word: str,
    value: Any,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
) -> tuple[float, float]:
    """Return the ends of a range, equal for one number.

    Raises:
        ModelError: Neither a finite number nor a pair (low, high) with low < high, or out of the
            bounds; see `require_number` for them.
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        ends = require_interval(where, word, value)
    elif is_number(value):
        ends = (value, value)
    else:
        raise wrong(where, word, value, "a finite number, or (low, high) with low < high")
    for end in ends:
        require_number(where, word, end, low=low, above=above, high=high, below=below)
    return float(ends[0]), float(ends[1])


def middle(ends: tuple[float, float]) -> float:
    """Return the middle of a range."""
    return (ends[0] + ends[1]) / 2


def uniform(generator: Any, axes: tuple[int, ...], ends: tuple[float, float]) -> Any:
    """Return a float64 tensor of uniform random numbers in a range."""
    return generator.get_state().double().new_empty(axes).uniform_(*ends, generator=generator)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Sample of one scalar parameter, uniform in a range."""

    ends: tuple[float, float]

    def __call__(self, generator: Any, axes: tuple[int, ...]) -> tuple[Any, ...]:
        """Return the values of the parameter, of shape `axes`."""
        return (uniform(generator, axes, self.ends),)


def param_in(
    where: str, name: str, value: Any, *, learnable: bool = True, **bounds: float
) -> Declared:
    """Declare a scalar parameter that begins in a range; for the bounds see `require_range`."""
    ends = require_range(where, name, value, **bounds)
    draw = Draw(Uniform(ends)) if ends[0] < ends[1] else None
    return param(name, init=middle(ends), learnable=learnable, draw=draw)


def rotation(r: Any, c: Any, s: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return r*[[c, -s], [s, c]], of numbers, tensors or expressions."""
    return (r * c, -r * s), (r * s, r * c)


@dataclass(frozen=True, slots=True)
class Poles:
    """Ranges of the modulus and the angle of a pole pair."""

    radius: tuple[float, float]
    angle: tuple[float, float]

    def middle(self) -> tuple[float, float]:
        """Return modulus and angle in the middle of their ranges."""
        return middle(self.radius), middle(self.angle)

    def draw(self, sample: Sample, part: int) -> Draw | None:
        """Return a part of a sample of these poles, or None if both ranges are one number."""
        drawn = self.radius[0] < self.radius[1] or self.angle[0] < self.angle[1]
        return Draw(sample, part) if drawn else None

    def sample(self, generator: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
        """Return uniform moduli and angles as tensors of shape `axes`."""
        return uniform(generator, axes, self.radius), uniform(generator, axes, self.angle)


@dataclass(frozen=True, slots=True)
class Matrix:
    """Sample of theta_v and theta_w: a damped rotation at `first` among `size` coefficients."""

    poles: Poles
    first: int
    size: int

    def __call__(self, generator: Any, axes: tuple[int, ...]) -> tuple[Any, ...]:
        """Return theta_v and theta_w, of shape (*axes, size)."""
        r, phi = self.poles.sample(generator, axes)
        found = []
        for row in rotation(r, phi.cos(), phi.sin()):
            theta = r.new_zeros((*axes, self.size))
            for k, coefficient in enumerate(row):
                theta[..., self.first + k] = coefficient
            found.append(theta)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class PolePair:
    """Sample of rho and phi."""

    poles: Poles

    def __call__(self, generator: Any, axes: tuple[int, ...]) -> tuple[Any, ...]:
        """Return rho and phi, of shape `axes`."""
        r, phi = self.poles.sample(generator, axes)
        return r.logit(), phi
