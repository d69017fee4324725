"""Random initial values of parameters in a layer, which text definitions name.

No module here imports PyTorch: methods of a generator's state make the tensors. A range is a pair
(low, high), with two equal ends for one number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import Draw
from lnm_codegen.validation import is_number, shown, wrong

Sample: TypeAlias = Callable[[Any, tuple[int, ...]], tuple[Any, ...]]
"""See `Draw`."""


def is_range(ends: Any) -> bool:
    """Report whether a value is a range: two finite numbers, the smaller one first."""
    is_pair = isinstance(ends, tuple) and len(ends) == 2 and all(map(is_number, ends))
    return is_pair and ends[0] <= ends[1]


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
    parts: ClassVar[int] = 1
    size: ClassVar[None] = None

    def __call__(self, generator: Any, axes: tuple[int, ...]) -> tuple[Any, ...]:
        """Return the values of the parameter, of shape `axes`."""
        return (uniform(generator, axes, self.ends),)


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
    parts: ClassVar[int] = 2

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
    parts: ClassVar[int] = 2
    size: ClassVar[None] = None

    def __call__(self, generator: Any, axes: tuple[int, ...]) -> tuple[Any, ...]:
        """Return rho and phi, of shape `axes`."""
        r, phi = self.poles.sample(generator, axes)
        return r.logit(), phi


Known: TypeAlias = Uniform | Matrix | PolePair
"""Samples that text definitions and packages can contain."""


def require_draw(where: str, draw: Any, size: int | None) -> None:
    """Raise ModelError if `draw` is neither None nor a Draw for a parameter of that size."""
    if draw is None:
        return
    if not isinstance(draw, Draw):
        raise wrong(where, "draw", draw, "a Draw, or None")
    sample = draw.sample
    if not callable(sample):
        raise wrong(where, "the sample of draw", sample, "a function")
    if not isinstance(sample, Known):
        return
    _require_ranges(where, sample)
    if draw.part not in range(sample.parts) or sample.size != size:
        kind = type(sample).__name__
        problem = f"draw is part {shown(draw.part)} of a {kind} and size is {size}"
        parts = " or ".join(map(str, range(sample.parts)))
        raise ModelError(where, problem, f"part {parts} and size {sample.size}")


def _require_ranges(where: str, sample: Known) -> None:
    """Raise ModelError if a range of a sample, or a position, is not one of its kind."""
    if isinstance(sample, Uniform):
        ranges = {"ends": sample.ends}
    else:
        ranges = {"radius": sample.poles.radius, "angle": sample.poles.angle}
    for word, ends in ranges.items():
        if not is_range(ends):
            accepted = "a tuple of two finite numbers, the smaller one first"
            raise wrong(where, f"{word} of draw", ends, accepted)
    low, high = ranges.get("radius", (0.5, 0.5))
    if isinstance(sample, PolePair) and not 0 < low <= high < 1:
        raise wrong(where, "radius of draw", (low, high), "numbers between 0 and 1")
    if low < 0:
        raise wrong(where, "radius of draw", (low, high), "numbers >= 0")
    if isinstance(sample, Matrix) and not 0 <= sample.first <= sample.size - 2:
        accepted = f"0 to size - 2, {sample.size - 2}"
        raise wrong(where, "first of draw", sample.first, accepted)


@dataclass(frozen=True, slots=True)
class DrawnLeak:
    """Initial theta of f(v) = (decay - shift)*v, with decay = sigmoid(N(mean, spread**2)) by set.

    Attributes:
        mean: Mean of the logit of the decay.
        spread: Standard deviation of the logit.
        shift: 1 where the charge adds v itself (form C), else 0.
        ends: Coefficients of v in the basis, those of P_0 and P_1, or of P_1 alone.
    """

    mean: float
    spread: float
    shift: float
    ends: tuple[float, ...]

    def __call__(self, generator: Any, shape: tuple[int, ...]) -> Any:
        """Return theta of `shape`, (*rows, size), as a tensor of PyTorch."""
        theta = generator.get_state().double().new_zeros(shape)
        logit = theta.new_empty(shape[:-1]).normal_(self.mean, self.spread, generator=generator)
        slope = logit.sigmoid() - self.shift
        for k, end in enumerate(self.ends):
            theta[..., k] = end * slope
        return theta
