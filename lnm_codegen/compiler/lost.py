"""Numbers that a format rounds to 0, and whether the neuron needs them.

A coefficient or a constant that is not 0 and rounds to 0 is *lost*. A neuron runs twice in real
arithmetic that saturates as its formats do and rounds nothing: once with every number, once with 0
for the lost ones, which returns to the states of the first run every 8 steps. The neuron needs a
lost number if the runs differ, before a spike differs in these 8 steps, in

* a state, by 1/2 unit of its format or more and by 1/8 or more of its largest change in 8 steps,
* an output that is a number, likewise, by 1/8 or more of its largest magnitude,
* the margin of a spike, the difference of its operands, by 1/2 unit or more and by 1/8 or more of
  the margin, both of this step and at rest,
* a spike at rest, that is, without input.

So a number whose whole effect is below the resolution may become 0, unless a search chooses the
resolution. The measure is the change of a state, so the loss of 1 / tau counts although a slow
state changes little in a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, log2
from typing import Any

import numpy as np

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.interpret import Array, real_value
from lnm_codegen.ir.kernel import Phase, Role
from lnm_codegen.ir.nodes import number_text
from lnm_codegen.ir.types import Bits

SHARE = 1 / 8
"""Part of a state's change, of an output or of a margin at rest that counts."""
WINDOW = 8
"""Steps of a run from equal states: unstable neurons amplify each difference."""
STEPS, RUNS, SEED = 32, 16, 0
"""Time steps, random sequences and their seed, where no inputs are given."""
WIDTH, DOUBLINGS = 2.0, 20
"""Largest input then, times the power of 2 at which the neuron spikes."""
MOST_STEPS, MOST_SAMPLES, MOST_NEURONS = 256, 8, 1024
"""Most time steps, samples and neurons of given inputs that are compared."""
MOST_WIDTH = 32
"""Widest format."""
SPARE = 3
"""Bits of a number after its first one, in a format that keeps it."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A number that is not 0 and rounds to 0.

    Attributes:
        name: Name of a coefficient, or a constant as text.
        node: Node whose format it has; empty if it is in a comparison, which has the default.
        bits: This format.
        sizes: Smallest and largest magnitude of the lost values, and the largest of all values.
        values: Lost values.
        of: All values of the coefficient.
    """

    name: str
    node: str
    bits: Bits
    sizes: tuple[float, float, float]
    values: int = 1
    of: int = 1

    def __str__(self) -> str:
        """Return the number with its largest lost value."""
        if self.name != self.node:
            return self.name
        share = f" ({self.values} of {self.of} values)" if self.values < self.of else ""
        return f"{self.name} = {self.sizes[1]:.3g}{share}"

    @property
    def keeping(self) -> tuple[str, Bits]:
        """The node, or "default", and a format that keeps the number; a node holds its range.

        Of several values that need more than `MOST_WIDTH` bits, the smallest may be lost.
        """
        frac = max(self.bits.frac, ceil(-log2(self.sizes[0])) + SPARE)
        whole = self.bits.width - self.bits.frac
        if self.name == self.node:
            whole = 1
            while not Bits(whole + frac, frac).holds(
                Bits(2, frac).nearest(Fraction(self.sizes[2]))
            ):
                whole += 1
            needed = max(self.bits.frac, ceil(-log2(self.sizes[1])) + SPARE)
            frac = min(frac, max(MOST_WIDTH - whole, needed))
        return self.node or "default", Bits(max(whole + frac, 2), frac)


def lost_numbers(
    program: fx.Program, integers: Mapping[str, Any], reals: Mapping[str, Any]
) -> list[Lost]:
    """Return the numbers of a neuron that are lost: coefficients, then constants.

    Args:
        program: The neuron.
        integers: Coefficient -> integers.
        reals: Coefficient -> as many numbers before rounding.
    """
    found, inputs = [], program.kernel.input_names(*Role)
    for name in integers:
        before = np.abs(np.asarray(reals[name], float))
        lost = (np.asarray(integers[name]) == 0) & (before > 0)
        if np.any(lost):
            sizes = float(before[lost].min()), float(before[lost].max()), float(before.max())
            counts = int(np.sum(lost)), lost.size
            found.append(Lost(name, name, program.kernel.bits(name), sizes, *counts))
    targets = {let.target.name: let.target for let in program.kernel.body}
    for let in program.kernel.body:
        owner = _owner(let.target.name, targets)
        for e in fx.walk(let.value):
            if isinstance(e, fx.Const) and e.integer == 0 != e.real:
                size = abs(float(e.real))
                node = "" if targets[owner].type != e.bits else owner
                node = node.removesuffix("_next") if node not in inputs else node
                found.append(Lost(number_text(e.real), node, e.bits, (size, size, size)))
    return list(dict.fromkeys(found))


def _owner(name: str, targets: Mapping[str, fx.Var]) -> str:
    """Return the node whose format the constants of a Let have: h for a partial result h_1."""
    whole, mark, digits = name.rpartition("_")
    return whole if mark and digits.isdigit() and whole in targets else name


def lost_error(where: str, lost: Sequence[Lost], difference: float) -> ModelError:
    """Return the error of lost numbers that a neuron needs."""
    formats = " and ".join(dict.fromkeys(str(one.bits) for one in lost))
    verb, pronoun = ("rounds", "it") if len(lost) == 1 else ("round", "them")
    problem = (
        f"{', '.join(map(str, lost))} {verb} to 0 in {formats}, and the neuron needs {pronoun}:"
        f" with 0, a state or the margin of a spike differs by up to {difference:.3g}"
    )
    fitting = keeping_formats(lost)
    accepted = ", ".join(f"{bits} for {name}" for name, bits in fitting.items())
    remedy = "ound the states with lnm.clip, so that they need fewer integer bits."
    own = "Give these formats in an lnm.FixedSpec, or in a file for --format, or b"
    remedy = (own if fitting else "B") + remedy
    return ModelError(where, problem, accepted, remedy)


def keeping_formats(lost: Sequence[Lost]) -> dict[str, Bits]:
    """Return node -> a format that keeps its lost numbers, of at most 32 bits."""
    found: dict[str, Bits] = {}
    for name, bits in (one.keeping for one in lost):
        found[name] = max(bits, found.get(name, bits), key=lambda b: (b.frac, b.width))
    return {name: bits for name, bits in found.items() if bits.width <= MOST_WIDTH}


def needed(
    kernel: fx.Kernel,
    lost: list[Lost],
    integers: Mapping[str, Array],
    reals: Mapping[str, Array],
    start: Mapping[str, Array],
    inputs: Mapping[str, Array] | None = None,
    resolved: bool = True,
) -> tuple[list[Lost], float]:
    """Return the lost numbers that a neuron needs, and the largest difference without them.

    Args:
        kernel: The step.
        lost: Its `lost_numbers`, one or more.
        integers: Coefficient -> integers, (1, 1), (C, 1) or (C, I).
        reals: Coefficient -> numbers before rounding, likewise.
        start: State -> initial real numbers, one or one for each neuron.
        inputs: Input -> real numbers (T, N, neurons) of the runs; None to draw them.
        resolved: A difference below 1/2 unit of a format does not count.
    """
    pair = _Pair(kernel, integers, reals, start, inputs, resolved)
    difference = pair.difference(lost)
    if not difference:
        return [], 0.0
    return [one for one in lost if pair.difference([one])] or lost, difference


@dataclass(frozen=True)
class _Trace:
    """Numbers and spikes of a run by name, (T, N, G, M)."""

    numbers: dict[str, Array]  # states after the step, outputs, margins
    spikes: dict[str, Array]


class _Pair:
    """A neuron with all of its numbers, and without some of them.

    The M neurons of a group have equal coefficients; there are G groups.
    """

    def __init__(
        self,
        kernel: fx.Kernel,
        integers: Mapping[str, Array],
        reals: Mapping[str, Array],
        start: Mapping[str, Array],
        inputs: Mapping[str, Array] | None,
        resolved: bool,
    ) -> None:
        self._kernel, self._resolved = kernel, resolved
        names = kernel.input_names(Role.PARAM)
        shape = np.broadcast_shapes((1, 1), *(np.shape(reals[n]) for n in names))
        groups = int(np.prod(shape))
        arrays = {**(inputs or {}), **start}
        members = max(np.shape(v)[-1] for v in arrays.values()) // groups
        own = _spread(groups, MOST_NEURONS if inputs is None else MOST_NEURONS // 4)
        others = _spread(max(members, 1), MOST_NEURONS // len(own))

        def coefficients(values: Mapping[str, Array]) -> dict[str, Array]:
            full = {n: np.broadcast_to(values[n], shape).reshape(groups, 1) for n in names}
            return {n: np.asarray(v[own], float) for n, v in full.items()}

        def neurons(values: Array) -> Array:
            array = np.asarray(values, float)
            if array.shape[-1] == 1:
                return array[..., None]
            return np.asarray(
                array.reshape(*array.shape[:-1], groups, -1)[..., own, :][..., others]
            )

        self._reals, self._integers = coefficients(reals), coefficients(integers)
        self._start = {n: neurons(v) for n, v in start.items()}
        self._compared = {
            let.target.name: let.value
            for let in kernel.body
            if let.phase is Phase.FIRE and isinstance(let.value, fx.Compare)
        }
        rest = {v.name: np.zeros((STEPS, 1, 1, 1)) for v in kernel.input_vars(Role.INPUT)}
        if inputs is None:
            moving = self._drawn()
        else:
            moving = {
                n: neurons(v[:MOST_STEPS][:, _spread(v.shape[1], MOST_SAMPLES)])
                for n, v in inputs.items()
            }
        self._runs = [(given, self._run(given)) for given in (rest, moving)]
        self._least = self._least_differences()

    def _least_differences(self) -> dict[str, Array]:
        """Return the least difference of each number that counts, for each group."""
        found = {}
        (_, at_rest), (_, exact) = self._runs
        units = {v.name: _unit(v) for v in self._kernel.input_vars(Role.STATE)}
        for name, value in exact.numbers.items():
            if name in self._compared:
                measure = np.abs(at_rest.numbers[name][:1]).min((0, 1, 3), keepdims=True)
                measure = np.where(measure > 0, measure, np.inf)
                unit = _unit(self._compared[name].lhs)
            else:
                moved = value - self._starts(name, value) if name in self._start else value
                measure = np.abs(moved).max((0, 1, 3), keepdims=True)
                unit = units.get(name) or _unit(
                    next(v for v in self._kernel.result_vars(Role.OUTPUT) if v.name == name)
                )
            found[name] = np.maximum(SHARE * measure, unit / 2 if self._resolved else 0.0)
        return found

    def _starts(self, name: str, states: Array) -> Array:
        """Return the state at the start of the window of each step."""
        first = np.broadcast_to(self._start[name], states[:1].shape)
        before = np.concatenate([first, states[:-1]])
        return np.repeat(before[::WINDOW], WINDOW, 0)[: len(states)]

    def difference(self, lost: Sequence[Lost]) -> float:
        """Return the largest difference that counts, or 0."""
        largest = 0.0
        for is_rest, (inputs, exact) in zip((True, False), self._runs, strict=True):
            other = self._run(inputs, lost, exact)
            equal = np.ones_like(next(iter(exact.numbers.values())), bool)
            for name, spikes in exact.spikes.items():
                equal &= spikes == other.spikes[name]
            before = np.ones_like(equal)
            for t in range(1, len(equal)):
                if t % WINDOW:
                    before[t] = equal[t - 1]
                    equal[t] &= equal[t - 1]
            for name, value in exact.numbers.items():
                gaps = np.abs(value - other.numbers[name])
                counts = gaps >= self._least[name]
                if name in self._compared:
                    counts &= gaps >= SHARE * np.abs(value)
                    if is_rest:
                        counts |= exact.spikes[name] != other.spikes[name]
                    counts &= before
                else:
                    counts &= equal
                largest = max(largest, float(gaps[counts & (gaps > 0)].max(initial=0.0)))
        return largest

    def _run(
        self,
        inputs: Mapping[str, Array],
        lost: Sequence[Lost] = (),
        exact: _Trace | None = None,
    ) -> _Trace:
        """Run with all numbers; or with 0 for the lost ones, from the states of an exact run."""
        names = {one.name for one in lost if one.name == one.node}
        texts = {(one.name, one.bits) for one in lost if one.name != one.node}
        given = {
            n: np.where((self._integers[n] == 0) & (n in names), 0.0, v)
            for n, v in self._reals.items()
        }

        def constant(c: fx.Const) -> float:
            is_lost = c.integer == 0 and (number_text(c.real), c.bits) in texts
            return 0.0 if is_lost else float(c.real)

        states: Mapping[str, Array] = self._start
        limits = {v.name: _ends(v) for v in self._kernel.input_vars(Role.INPUT, Role.STATE)}
        numbers: dict[str, list[Array]] = {}
        spikes: dict[str, list[Array]] = {}
        steps = len(next(iter(inputs.values())))
        shape = np.broadcast_shapes(
            *(np.shape(v) for v in (*given.values(), *states.values())),
            *(x.shape[1:] for x in inputs.values()),
        )
        for t in range(steps):
            if exact is not None and t and t % WINDOW == 0:
                states = {n: exact.numbers[n][t - 1] for n in states}
            now = {n: np.clip(v, *limits[n]) for n, v in states.items()}
            now |= {n: np.clip(x[t], *limits[n]) for n, x in inputs.items()} | given
            for let in self._kernel.body:
                now[let.target.name] = real_value(let.value, now, constant)
                if let.target.name in self._compared:
                    compared = self._compared[let.target.name]
                    sides = [real_value(e, now, constant) for e in (compared.lhs, compared.rhs)]
                    numbers.setdefault(let.target.name, []).append(sides[0] - sides[1])
                    spikes.setdefault(let.target.name, []).append(now[let.target.name])
            states = {n: now[f"{n}_next"] for n in states}
            for name, value in states.items():
                numbers.setdefault(name, []).append(value)
            for var in self._kernel.result_vars(Role.OUTPUT):
                if isinstance(var.type, Bits):
                    numbers.setdefault(var.name, []).append(now[var.name])

        def whole(rows: list[Array]) -> Array:
            return np.stack([np.broadcast_to(row, shape) for row in rows])

        return _Trace(
            {n: whole(rows) for n, rows in numbers.items()},
            {n: whole(rows) for n, rows in spikes.items()},
        )

    def _drawn(self) -> dict[str, Array]:
        """Return inputs in [-X, X]: X is 2, or 2 times the power of 2 at which spikes occur."""
        rng = np.random.default_rng(SEED)
        names = self._kernel.input_names(Role.INPUT)
        alone = [[one * (n == own) for n in names] for own in names for one in (-1, -0.25, 0.25, 1)]
        levels = np.array([*alone, [1.0] * len(names), [-1.0] * len(names)])
        constant = np.broadcast_to(levels, (STEPS, *levels.shape))
        random = rng.uniform(-1, 1, (STEPS, RUNS, len(names)))
        drawn = WIDTH * np.concatenate([constant, random], 1)[..., None, None]
        inputs = {n: drawn[:, :, k] for k, n in enumerate(names)}
        limits = [
            float(v.type.interval[1])
            for v in self._kernel.input_vars(Role.INPUT)
            if isinstance(v.type, Bits)
        ]
        powers = [
            2.0**k for k in range(DOUBLINGS) if WIDTH * 2.0**k <= 2 * max(limits, default=WIDTH)
        ]
        for scale in (1.0, *powers[1:], *(2.0**-k for k in range(1, DOUBLINGS))):
            scaled = {n: scale * x for n, x in inputs.items()}
            if not self._compared or any(s.any() for s in self._run(scaled).spikes.values()):
                return scaled
        return inputs


def _spread(count: int, most: int) -> Array:
    """Return at most so many indices of a count, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _unit(e: fx.Expr) -> float:
    return 2.0 ** -fx.bits_of(e).frac


def _ends(var: fx.Var) -> tuple[float, float]:
    low, high = fx.bits_of(var).interval
    return float(low), float(high)
