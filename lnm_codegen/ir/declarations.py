"""Declarations of a neuron: its states, inputs, parameters and spikes, as plain data.

`language/symbols.py` makes SymPy symbols of them. The IR and the backends know only this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeAlias

from lnm_codegen.errors import ModelError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Program, Role
from lnm_codegen.ir.passes.simplify import keep_results
from lnm_codegen.validation import is_number, require_integer, require_number, shown, wrong

Init: TypeAlias = float | tuple[float, ...] | Callable[[Any, tuple[int, ...]], Any]
Granularity: TypeAlias = Literal["layer", "channel", "neuron"]


@dataclass(frozen=True, slots=True)
class Draw:
    """Random initial values of a parameter in a layer: one part of a joint draw.

    Attributes:
        sample: Function (generator, axes) -> a tensor for each part. `axes` are the leading axes of
            the parameters, (), (C,) or (C, *); a vector has its size after them. The parameters of
            a layer with equal samples and different parts come from one call.
        part: Index of the part.
    """

    sample: Callable[[Any, tuple[int, ...]], Sequence[Any]]
    part: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """A state of one neuron, carried from step to step. `init` is a number or a function.

    `param` is the name of the parameter that is the initial value, or empty; `init` is then the
    parameter's `init`.
    """

    name: str
    init: Init = 0.0
    param: str = ""

    def with_init(self, init: Init) -> State:
        """Return this state with another initial value."""
        return replace(self, init=init)


@dataclass(frozen=True, slots=True)
class Input:
    """An input of one neuron, new at every step.

    `read` is False for one that no expression reads: it sets T and the shape of a layer.
    """

    name: str
    read: bool = True


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter: a scalar (`size` None) or a vector, learnable or not.

    `per` is its granularity: one value per layer, per channel or per neuron. A layer begins with
    the values of `draw` where that is given; everything else uses `init`.
    """

    name: str
    size: int | None = None
    init: Init = 0.0
    learnable: bool = True
    per: Granularity = "layer"
    draw: Draw | None = None

    @property
    def element_names(self) -> tuple[str, ...]:
        """Identifiers of the scalars: `tau`, or `theta_0`, `theta_1`, ..."""
        if self.size is None:
            return (self.name,)
        return tuple(f"{self.name}_{k}" for k in range(self.size))

    def with_per(self, per: Granularity) -> Param:
        """Return this parameter at another granularity."""
        return replace(self, per=per)

    def with_init(self, init: Init) -> Param:
        """Return this parameter with another initial value, which is not drawn."""
        return replace(self, init=init, draw=None)


@dataclass(frozen=True, slots=True)
class Prologue:
    """Normalisation of the first input before the step: x = scale*(raw - mean) + shift.

    Attributes:
        raw: Name of the input that is normalised.
        mean: Name of the parameter that is subtracted, one value per channel, as the next two.
        scale: Name of the factor; its gradient is the sum of e*(raw - mean), e that of x.
        shift: Name of the summand; its gradient is the sum of e.
    """

    raw: str
    mean: str
    scale: str
    shift: str


@dataclass(frozen=True, slots=True)
class SpikeDeclaration:
    """A named spike: 1 where its fire expression is >= 0, else 0."""

    name: str


@dataclass(frozen=True, slots=True)
class BoundValue:
    """A name for the value of an expression."""

    name: str


Declaration: TypeAlias = State | Input | Param | SpikeDeclaration | BoundValue


# Granularity of parameters: how many values one has, and which neurons share a value.
#
# The neurons of a time step are laid out as (B, C, I): batch, channels, inner. A scalar parameter
# has 1 value per layer, C values per channel (value c for every b and i), C*I values per neuron.


GRANULARITIES: tuple[Granularity, ...] = ("layer", "channel", "neuron")


@dataclass(frozen=True, slots=True)
class Extent:
    """The neurons of one call: `batch` copies of `channels` times `inner`."""

    batch: int
    channels: int
    inner: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Layout of the neurons of a time step."""
        return self.batch, self.channels, self.inner

    @property
    def neurons(self) -> int:
        """Return N, the number of neurons of a time step."""
        return self.batch * self.channels * self.inner

    def values(self, per: Granularity) -> int:
        """Return the number of values of a scalar parameter of this granularity."""
        return {"layer": 1, "channel": self.channels, "neuron": self.channels * self.inner}[per]


def finest(pers: Iterable[Granularity]) -> Granularity:
    """Return the finest of several granularities; "layer" for none."""
    return max(pers, key=GRANULARITIES.index, default="layer")


def prepared_granularity(program: Program, params: tuple[Param, ...]) -> dict[str, Granularity]:
    """Return the granularity of each prepared parameter: the finest of those it depends on."""
    known: dict[str, Granularity] = {n: p.per for p in params for n in p.element_names}
    for let in program.prepare.body:
        read = [known[v.name] for v in ir.variables(let.value)]
        known[let.target.name] = finest(read)
    return {name: known[name] for name in program.prepare.result_names(Role.PARAM)}


def learnable_terms(program: Program, params: tuple[Param, ...]) -> tuple[str, ...]:
    """Return the prepared parameters whose gradient a learnable parameter needs."""
    wanted = {f"grad_{n}" for p in params if p.learnable for n in p.element_names}
    adjoint = keep_results(program.prepare_backward, wanted)
    reads = {v.name for v in adjoint.reads}
    return tuple(s.removeprefix("sum_") for s in adjoint.input_names(Role.GRAD) if s in reads)


# Random initial values of parameters in a layer, which text definitions name.
#
# No module here imports PyTorch: methods of a generator's state make the tensors. A range is a pair
# (low, high), with two equal ends for one number.


Sample: TypeAlias = Callable[[Any, tuple[int, ...]], tuple[Any, ...]]
"""See `Draw`."""


def is_range(ends: Any) -> bool:
    """Report whether a value is a range: two finite numbers, the smaller one first."""
    is_pair = isinstance(ends, tuple) and len(ends) == 2 and all(map(is_number, ends))
    return is_pair and ends[0] <= ends[1]


def middle(ends: tuple[float, float]) -> float:
    """Return the middle of a range."""
    return (ends[0] + ends[1]) / 2


def uniform_in(generator: Any, axes: tuple[int, ...], ends: tuple[float, float]) -> Any:
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
        return (uniform_in(generator, axes, self.ends),)


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
        return uniform_in(generator, axes, self.radius), uniform_in(generator, axes, self.angle)


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
        accepted = "lnm.uniform(low, high), another lnm.Draw, or None"
        raise wrong(where, "draw", draw, accepted)
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


def uniform(low: float, high: float) -> Draw:
    """Return uniform random initial values in [low, high], the `draw` of a scalar parameter.

    Raises:
        ModelError: The ends are not finite numbers, the smaller one first.

    Example:
        >>> import lnm_codegen as lnm
        >>> a = lnm.param("a", init=0.5, per="channel", draw=lnm.uniform(0.0, 1.0))
    """
    return Draw(Uniform(_range_of("uniform", "(low, high)", (low, high))))


def pole_pair(
    radius: tuple[float, float] = (0.5, 0.95), angle: tuple[float, float] = (0.0, 1.5)
) -> tuple[Draw, Draw]:
    """Return the draws of two scalar parameters: rho = logit(r) and phi, of a pole pair.

    Modulus r and angle phi are uniform in their ranges. `lnm.get("lnm", states=2,
    parametrisation="pole")` draws its parameters so.

    Args:
        radius: Range of r, between 0 and 1.
        angle: Range of phi in radians.

    Raises:
        ModelError: A range has other numbers.
    """
    where = "pole_pair"
    poles = Poles(_range_of(where, "radius", radius), _range_of(where, "angle", angle))
    sample = PolePair(poles)
    _require_ranges(where, sample)
    return Draw(sample, 0), Draw(sample, 1)


def pole_matrix(
    size: int,
    first: int = 0,
    radius: tuple[float, float] = (0.5, 0.95),
    angle: tuple[float, float] = (0.0, 1.5),
) -> tuple[Draw, Draw]:
    """Return the draws of two vector parameters: the rows of r*[[cos, -sin], [sin, cos]](phi).

    Row k has elements `first` and `first + 1` of its vector; the others are 0.
    `lnm.get("lnm", states=2)` draws `theta_v` and `theta_w` so.

    Args:
        size: Size of both parameters.
        first: Index of the coefficient of v, which that of w follows.
        radius: Range of r, >= 0.
        angle: Range of phi in radians.

    Raises:
        ModelError: A range has other numbers, or the rows do not fit the size.
    """
    where = "pole_matrix"
    poles = Poles(_range_of(where, "radius", radius), _range_of(where, "angle", angle))
    sample = Matrix(poles, first, require_integer(where, "size", size, 2))
    _require_ranges(where, sample)
    return Draw(sample, 0), Draw(sample, 1)


def leak(
    mean: float, spread: float, shift: float = 0.0, ends: Sequence[float] = (0.0, 1.0)
) -> DrawnLeak:
    """Return random coefficients of a polynomial d*v, the `init` of a vector parameter.

    theta = ends*(d - shift) with d = sigmoid(N(mean, spread**2)), one d for each parameter set;
    elements beyond `ends` are 0. `lnm.get("lnm", decay_spread=...)` draws its theta so.

    Args:
        mean: Mean of the logit of d.
        spread: Standard deviation of the logit, > 0.
        shift: 1 where the charge adds v itself.
        ends: Factors of the first elements: (0, 1) for the coefficients of 1, v, v**2, ...

    Raises:
        ModelError: An argument is outside these ranges.
    """
    where = "leak"
    for word, value in (("mean", mean), ("shift", shift)):
        require_number(where, word, value)
    require_number(where, "spread", spread, above=0)
    if isinstance(ends, str) or not isinstance(ends, Sequence) or not all(map(is_number, ends)):
        raise wrong(where, "ends", ends, "a sequence of finite numbers")
    return DrawnLeak(float(mean), float(spread), float(shift), tuple(map(float, ends)))


def _range_of(where: str, word: str, ends: Any) -> tuple[float, float]:
    """Return a range, or raise ModelError."""
    found = tuple(ends) if isinstance(ends, list | tuple) else ends
    if not is_range(found):
        raise wrong(where, word, ends, "two finite numbers, the smaller one first")
    return float(found[0]), float(found[1])
