"""Random neurons of the language, and arguments for them.

`neurons()` draws the definition, `arguments_for` the numbers, from a NumPy generator so that ties
in a comparison have probability zero. Values stay moderate for a few steps:
states begin in [-1, 1], inputs lie in [-1.5, 1.5], parameters near their `init`, a polynomial of
degree 3 or 4 is clamped, exponentials have bounded arguments and divisors keep away from 0.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.compiler.stimulus import starts_of, unit_of
from lnm_codegen.language.symbols import Declared, Vector

few = settings(
    max_examples=25 if os.environ.get("LNM_TEST_FULL") else 12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
"""For properties of random neurons; `make test-full` sets the variable."""


def examples(count: int) -> settings:
    """For other properties: `count` examples in `make test-full`, else a third, at least 4."""
    quick = max(4, count // 3)
    return settings(max_examples=count if os.environ.get("LNM_TEST_FULL") else quick, deadline=None)


PERS = ("layer", "channel", "neuron")
SHAPES = ((3, 2, 3), (4, 1, 2, 2), (2, 3, 2), (3, 1, 1, 4))
CONSTANTS = (0.25, -0.3, 0.5, -0.125, 1.0, 0.7)

SURROGATES = (
    lnm.surrogate.atan(),
    lnm.surrogate.atan(alpha=3.0),
    lnm.surrogate.sigmoid(),
    lnm.surrogate.rectangle(alpha=0.5),
    lnm.surrogate.triangle(alpha=0.5),
    lnm.surrogate.fast_sigmoid(alpha=2.0),
    lnm.surrogate.soft_sign(),
    lnm.surrogate.erf(),
    lnm.surrogate.piecewise_exponential(),
    lnm.surrogate.multi_gaussian(),
    lnm.surrogate.straight_through(),
    lnm.surrogate.from_primitive(lambda z: (1 + lnm.tanh(2 * z)) / 2, name="half_tanh"),
    lnm.surrogate.from_slope(lambda z: 1 / (2 + z**2 + z**4), name="quartic"),
)


@dataclass
class Arguments:
    """Arguments of `lnm.interpret` or of a layer: `x_seq`, and keywords."""

    x_seq: tuple[np.ndarray, ...]
    state: dict[str, np.ndarray]
    params: dict[str, np.ndarray]
    grad_out: tuple[np.ndarray, ...]
    grad_state: dict[str, np.ndarray] = field(default_factory=dict)

    def interpret(self, neuron: lnm.Neuron, **options: Any) -> Any:
        """Run the interpreter on these arguments, gradients included."""
        given: dict[str, Any] = {"state": self.state, **self.params}
        given |= {"grad_out": self.grad_out, "grad_state": self.grad_state}
        return lnm.interpret(neuron, *self.x_seq, **(given | options))


def shared(x: np.ndarray, inner: int, count: int) -> np.ndarray:
    """Return a sequence in which neuron m has the number of neuron m / inner % count * inner."""
    flat = x.reshape(len(x), -1)
    return flat[:, np.arange(flat.shape[1]) // inner % count * inner].reshape(x.shape)


def distinct(x: np.ndarray, inner: int, count: int) -> np.ndarray:
    """Return the numbers (T, count) of a result of `shared`."""
    return np.ascontiguousarray(x.reshape(len(x), -1)[:, : count * inner : inner])


def rows_of(per: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the leading axes of a parameter of that granularity, for x_seq of `shape`."""
    return {"layer": (), "channel": tuple(shape[2:3]), "neuron": tuple(shape[2:])}[per]


def arguments_for(
    neuron: lnm.Neuron, rng: np.random.Generator, shape: Sequence[int] = (3, 2, 3)
) -> Arguments:
    """Draw inputs, initial states, parameters and gradients for x_seq of `shape`.

    States are drawn in [-1, 1], or near their declared values for a neuron in other units.
    """

    def uniform(size: Sequence[int], width: float) -> np.ndarray:
        return rng.uniform(-width, width, tuple(size))

    params = {}
    for decl in neuron.params:
        size = rows_of(decl.per, shape) + (() if decl.size is None else (decl.size,))
        params[decl.name] = np.asarray(decl.init) + uniform(size, 0.2)
    starts = {s.name: (0.0, 1.0) for s in neuron.states}
    if unit_of(neuron) > 1:
        starts = starts_of(neuron)
    return Arguments(
        x_seq=tuple(uniform(shape, 1.5) for _ in neuron.inputs),
        state={n: c + uniform(shape[1:], w) for n, (c, w) in starts.items()},
        params=params,
        grad_out=tuple(uniform(shape, 1.0) for _ in neuron.output),
        grad_state={s.name: uniform(shape[1:], 1.0) for s in neuron.states},
    )


def generators() -> st.SearchStrategy[np.random.Generator]:
    """Draw a NumPy generator."""
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


def shapes() -> st.SearchStrategy[tuple[int, ...]]:
    """Draw a shape of x_seq."""
    return st.sampled_from(SHAPES)


class _Grammar:
    """Generator of expressions over declared symbols."""

    def __init__(
        self,
        draw: Any,
        smooth: bool,
        fixed: bool = False,
        pers: Sequence[str] = PERS,
        stops: bool = False,
        binds: bool = False,
    ) -> None:
        self.draw = draw
        self.smooth = smooth
        self.fixed = fixed
        self.pers = pers
        self.stops = stops
        self.binds = binds
        self._count = itertools.count()
        self.atoms: list[Declared] = []

    def pick(self, values: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(values))

    def chance(self) -> bool:
        return bool(self.draw(st.booleans()))

    def param(self, init: float, size: int | None = None) -> Any:
        """Declare a parameter: any granularity, learnable or not."""
        k = next(self._count)
        if size is None:
            name, value = f"p{k}_", init
        else:
            name, value = f"theta{k}_", tuple(init * (0.5 - 0.3 * n) for n in range(size))
        learnable = self.draw(st.integers(0, 3)) > 0
        return lnm.param(name, size=size, init=value, learnable=learnable, per=self.pick(self.pers))

    def rarely(self) -> bool:
        return bool(self.draw(st.integers(0, 4)) == 4)

    def coefficient(self) -> Any:
        if self.chance():
            return self.pick(CONSTANTS)
        return self.param(self.pick((0.4, -0.35, 0.3)))

    def decided(self) -> Any:
        """Draw an expression of parameters alone, of either sign."""
        match self.draw(st.integers(0, 2)):
            case 0:
                return self.param(0.6) - self.pick((0.5, 0.7, self.coefficient()))
            case 1:
                return lnm.tanh(2 * self.param(0.1)) - self.param(0.15) ** 2
            case _:
                return self.param(0.05)

    def condition(self, depth: int) -> Any:
        if self.rarely():
            a, b = self.decided(), 0.04
        else:
            a, b = self.atom(), self.term(depth - 1)
        first = self.pick((a < b, a >= b, a > self.pick(CONSTANTS)))
        match self.draw(st.integers(0, 3)):
            case 0:
                return first & (self.atom() < self.pick(CONSTANTS))
            case 1:
                return first | (self.atom() <= self.pick(CONSTANTS))
            case 2:
                return ~(first & (self.atom() > self.pick(CONSTANTS)))
            case _:
                return first

    def atom(self) -> Any:
        return self.pick(self.atoms)

    def term(self, depth: int) -> Any:
        """Draw a term whose value is at most about 2 where atoms are."""
        if self.binds and self.chance():
            return lnm.bind(self._term(depth), self.pick(("k", "k", "stage")))
        return self._term(depth)

    def _term(self, depth: int) -> Any:
        if depth <= 0:
            return self.coefficient() * self.atom()
        smooth = (
            self._linear, self._product, self._tanh, self._sigmoid, self._wave, self._exponential,
            self._quotient, self._root, self._decay, self._square, self._shared,
        )  # fmt: skip
        kinked = (self._where, self._extremum, self._abs, self._clip)
        if self.fixed:
            smooth = (self._linear, self._product, self._decay, self._square, self._gain)
        else:
            kinked += (self._power,)
        if self.stops:
            smooth += (self._stopped, self._stopped)
        return self.pick(smooth if self.smooth else smooth + kinked)(depth)

    def _stopped(self, depth: int) -> Any:
        """Draw a value whose gradient stops, in a product with the value itself or another one."""
        inner = self.pick((self.term(depth - 1), self.param(0.4)))
        other = self.pick((inner, self.atom(), self.coefficient()))
        return other * lnm.stop_gradient(inner) / 2

    def _linear(self, depth: int) -> Any:
        return self.coefficient() * self.atom() + self.coefficient() * self.atom()

    def _product(self, depth: int) -> Any:
        return self.atom() * self.term(depth - 1) / 4

    def _tanh(self, depth: int) -> Any:
        return lnm.tanh(self.term(depth - 1) + self.atom())

    def _sigmoid(self, depth: int) -> Any:
        return self.atom() * lnm.sigmoid(self.param(0.5) if self.chance() else self.atom() * 2)

    def _gain(self, depth: int) -> Any:
        """Draw a product with an expression of parameters alone."""
        return self.atom() * self.pick((lnm.sigmoid(self.param(0.5)), lnm.exp(-self.param(0.6))))

    def _wave(self, depth: int) -> Any:
        return self.pick((lnm.sin, lnm.cos))(self.term(depth - 1)) * self.coefficient()

    def _exponential(self, depth: int) -> Any:
        if self.chance():
            return lnm.exp(lnm.tanh(self.atom())) / 3
        return self.atom() * lnm.exp(-self.param(0.6))

    def _quotient(self, depth: int) -> Any:
        return self.term(depth - 1) / (1 + self.atom() ** 2)

    def _root(self, depth: int) -> Any:
        a = self.atom()
        if self.chance():
            return lnm.sqrt(1 + a**2) / 2
        return lnm.log(2 + lnm.tanh(a))

    def _decay(self, depth: int) -> Any:
        return (self.atom() - self.atom()) / self.param(2.0)

    def _square(self, depth: int) -> Any:
        return (self.atom() + self.atom() / 2) ** self.pick((2, 3)) / 16

    def _shared(self, depth: int) -> Any:
        part = self.term(depth - 1)
        return part * self.coefficient() + lnm.tanh(part)

    def _where(self, depth: int) -> Any:
        return lnm.where(self.condition(depth), self.term(depth - 1), self.coefficient())

    def _extremum(self, depth: int) -> Any:
        return self.pick((lnm.max, lnm.min))(self.term(depth - 1), self.atom() / 2)

    def _power(self, depth: int) -> Any:
        """Draw a power that is no polynomial; a hard reset to 0 gives it the base 0."""
        base = self.pick((lnm.abs, lambda a: lnm.max(a, 0)))(self.atom())
        return base ** self.pick((1.5, 1.37, self.param(1.4))) / 3

    def _abs(self, depth: int) -> Any:
        return lnm.abs(self.term(depth - 1))

    def _clip(self, depth: int) -> Any:
        return lnm.clip(self.term(depth - 1), -0.5, self.pick((0.5, 1.0)))

    def charge(self, state: Any, x: Any) -> Any:
        """Draw a charge: leak, polynomial or terms, and the input."""
        expr = x if self.chance() else x * self.coefficient()
        match self.draw(st.integers(0, 3)):
            case 0:
                degree = self.pick((1, 2) if self.smooth else (1, 2, 3, 4))
                theta: Vector = self.param(0.3, size=degree + 1)
                expr = lnm.poly(state, theta) + expr
                if degree > 2:
                    return lnm.clip(expr, -2, 2)
            case 1:
                z = state + expr
                theta = self.param(0.3, size=3)
                expr = lnm.poly(z / 2 if self.fixed or self.chance() else lnm.tanh(z), theta)
            case 2:
                expr = state + (expr - state) / self.param(2.0)
            case _:
                expr = self.coefficient() * state / 2 + expr
        for _ in range(self.draw(st.integers(0, 2))):
            expr = expr + self.term(2) / 2
        return expr if self.smooth or self.chance() else lnm.max(expr, -2)


@st.composite
def neurons(
    draw: Any,
    spiking: bool | None = None,
    smooth: bool = False,
    fixed: bool = False,
    pers: Sequence[str] = PERS,
    stops: bool = False,
    binds: bool = False,
    starts: bool = False,
) -> lnm.Neuron:
    """Draw a neuron.

    Args:
        draw: From Hypothesis.
        spiking: Whether it has spikes; either by default.
        smooth: Without functions that have a kink: where, min, max, abs, clip.
        fixed: Without functions and divisions in the step, which have no fixed-point form.
        pers: Granularities of parameters.
        stops: With stop_gradient.
        binds: With bound values.
        starts: With parameters as initial states.
    """
    g = _Grammar(draw, smooth, fixed, pers, stops, binds)
    states = [
        lnm.state(n, init=g.param(0.1) if starts else 0.1)
        for n in draw(st.sampled_from((["v"], ["v", "w"])))
    ]
    inputs = [lnm.input(n) for n in draw(st.sampled_from((["x"], ["x"], ["x", "drive"])))]
    g.atoms = [*states, *inputs]
    charge = {states[0]: g.charge(states[0], inputs[0])}
    if len(inputs) == 2:
        charge[states[0]] += g.coefficient() * inputs[1]
    if len(states) == 2 and draw(st.integers(0, 3)) > 0:
        charge[states[1]] = g.charge(states[1], g.atom())
    if spiking is None:
        spiking = draw(st.integers(0, 4)) > 0
    names = draw(st.sampled_from((["spike"], ["spike"], ["spike", "s_low"], ["up", "down"])))
    fire = {}
    for k, name in enumerate(names if spiking else ()):
        z = (-states[0] if k else states[0]) + (g.term(1) / 2 if g.chance() else 0)
        z = z - g.pick((g.param(0.6), 0.5, 0))
        fire[lnm.spike_named(name)] = g.decided() if g.rarely() else z
    reset = _resets(g, states, list(fire), charge)
    return lnm.Neuron(
        charge=charge,
        fire=fire or None,
        reset=reset,
        output=_outputs(g, states, list(fire)),
        surrogate={s: g.pick(SURROGATES) for s in fire},
        detach_reset=bool(fire) and g.chance(),
        name=g.pick(("drawn", "other")),
    )


def _resets(g: _Grammar, states: list[Any], spikes: list[Any], charge: dict[Any, Any]) -> Any:
    reset: dict[Any, Any] = {}
    for state in states:
        if spikes and (g.chance() or state not in charge):
            reset[state] = _reset(g, state, spikes, state in charge)
        elif state not in charge:
            reset[state] = g.coefficient() * state + g.term(1)
    if spikes and g.chance():
        last = lnm.state("s_prev", init=0.0)
        reset[last] = spikes[0] if g.chance() else last / 2 + spikes[-1]
    return reset


def _reset(g: _Grammar, state: Any, spikes: list[Any], charged: bool) -> Any:
    on = g.pick(spikes)
    match g.draw(st.integers(0, 4)):
        case 0:  # not to 0, the kink of abs
            return lnm.where(on, g.pick((0.05, -0.1, g.coefficient())), state)
        case 1:
            return state - on * (g.param(0.6) if g.chance() else 1)
        case 2:
            return state * (1 - on) + on * g.term(1)
        case 3:
            return lnm.where(on, g.term(1), lnm.where(spikes[-1], state / 2, state))
        case _:
            return state / 2 + on * spikes[-1] * g.coefficient()


def _outputs(g: _Grammar, states: list[Any], spikes: list[Any]) -> Any:
    if not spikes:
        return g.pick((states[0], states[0] * g.coefficient() + g.term(1)))
    choices = [
        spikes[0] - spikes[-1] * g.coefficient(),
        spikes[0] * states[0],
        {"graded": lnm.where(spikes[-1], states[0], g.coefficient()), "count": sum(spikes)},
        {"potential": states[-1], "s_out": spikes[0]},
        states[0] + spikes[0] * g.term(1),
    ]
    if any(s.name == "spike" for s in spikes):
        choices += [None, None, None]
    return g.pick(choices)


@st.composite
def two_state_arguments(draw: Any, degrees: Sequence[int] = (1, 2, 3, 4, 5)) -> dict[str, Any]:
    """Draw arguments of `lnm.get("lnm", states=2, ...)`.

    The coefficients are numbers: terms of a higher degree are smaller, and states that could
    diverge within a few steps are clamped.
    """
    pole, constant = draw(st.booleans()), draw(st.booleans())
    degree = draw(st.sampled_from(degrees))
    names = [*(("rho", "phi") if pole else ()), "theta_v", "theta_w", "v_threshold"]
    totals = [0] * constant + [k for k in range(2 if pole else 1, degree + 1) for _ in range(k + 1)]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = [0.5 if k < 2 else 0.3**k for k in totals]
    given: dict[str, Any] = {
        name: tuple(float(c) for c in rng.uniform(0.3, 1.0, len(sizes)) * signs * sizes)
        for name in ("theta_v", "theta_w")
        if (signs := rng.choice([-1.0, 1.0], len(sizes))).size
    }
    if not given:
        names = [name for name in names if not name.startswith("theta")]
    radius, angle = float(rng.uniform(0.5, 0.95)), float(rng.uniform(0.0, 1.5))
    clamps = {"v_min": -1.5, "v_max": 2.0, "w_min": -1.25, "w_max": 1.75}
    if degree < 3:
        clamps = {name: end for name, end in clamps.items() if draw(st.booleans())}
    return {
        "states": 2,
        "degree": degree,
        "parametrisation": "pole" if pole else "free",
        "reset": draw(st.sampled_from(("v", "both"))),
        "v_reset": draw(st.sampled_from((None, 0.0, -0.25))),
        **({"radius": radius, "angle": angle} if pole else {}),
        "learn_theta_0": constant,
        "learn_threshold": draw(st.booleans()),
        "v_threshold": 0.5,
        "detach_reset": draw(st.booleans()),
        "per": {name: draw(st.sampled_from(PERS)) for name in names},
        **clamps,
        **given,
    }
