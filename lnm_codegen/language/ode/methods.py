"""Integration methods: one time step dt of a system, inputs constant over the step.

| method | state after the step |
| --- | --- |
| euler | s + dt*f(s) |
| rk2 | s + dt*f(s + dt/2*f(s)), the midpoint rule |
| rk4 | the classical method of four stages |
| exponential_euler | s + dt*f(s)*(exp(b*dt) - 1)/(b*dt), where f = a + b*s in each state alone |
| exact | the solution of a linear system, by `exact.py` |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import sympy

from lnm_codegen.language.binding import bind
from lnm_codegen.language.functions import where
from lnm_codegen.language.ode.exact import solved
from lnm_codegen.language.ode.functions import exprel_of
from lnm_codegen.language.ode.linear import LinearForms
from lnm_codegen.language.ode.system import System, needed
from lnm_codegen.language.symbols import Declared

MethodName: TypeAlias = Literal["euler", "exponential_euler", "exact", "rk2", "rk4"]
Point: TypeAlias = dict[Declared, Any]
Held: TypeAlias = Mapping[Any, Any]
Method: TypeAlias = Callable[[System, Point, sympy.Expr, Held], Point]
"""Function of a system, the states, dt and the values held by the step -> the states after dt."""


def euler(system: System, now: Point, dt: sympy.Expr, held: Held) -> Point:
    """Return one step of Euler's forward method."""
    return _moved(now, dt, system.at(now, held))


def rk2(system: System, now: Point, dt: sympy.Expr, held: Held) -> Point:
    """Return one step of the midpoint rule."""
    middle = _named(_moved(now, dt / 2, system.at(now, held)), "middle")
    return _moved(now, dt, system.at(middle, held))


def rk4(system: System, now: Point, dt: sympy.Expr, held: Held) -> Point:
    """Return one step of the classical Runge-Kutta method."""
    stages = [_named(system.at(now, held), "k1")]
    for k, part in ((2, dt / 2), (3, dt / 2), (4, dt)):
        at = _named(_moved(now, part, stages[-1]), f"at{k}")
        stages.append(_named(system.at(at, held), f"k{k}"))
    k1, k2, k3, k4 = stages
    mean = {s: (k1[s] + 2 * k2[s] + 2 * k3[s] + k4[s]) / 6 for s in k1}
    return _moved(now, dt, mean)


def exponential_euler(system: System, now: Point, dt: sympy.Expr, held: Held) -> Point:
    """Return one step that is exact for each state while all others are constant.

    Raises:
        ModelError: A rate that is not linear in its own state.
    """
    table, after = system.table(now, held), {}
    for state, rate in system.rates.items():
        remedy = "Use method='rk4', or 'euler'."
        place = f"ode: d{state.name}/dt with method='exponential_euler'"
        parts = needed(system.parts, rate)
        form = LinearForms([state], parts, table, place, remedy).of(rate)
        slope = bind(form.get(state, sympy.S.Zero), f"slope_{state.name}")
        speed = form.get(None, sympy.S.Zero) + slope * now[state]
        change = dt * bind(exprel_of(slope * dt), f"factor_{state.name}") * speed
        if state in system.paused:
            change = where(system.refractory, 0, change)
        after[state] = now[state] + change
    return after


METHODS: dict[MethodName, Method] = {
    "euler": euler,
    "exponential_euler": exponential_euler,
    "exact": solved,
    "rk2": rk2,
    "rk4": rk4,
}
"""Methods by name."""


def _moved(now: Point, dt: sympy.Expr, rates: Mapping[Declared, Any]) -> Point:
    return {state: value + dt * rates[state] for state, value in now.items()}


def _named(values: Mapping[Declared, Any], word: str) -> Point:
    return {state: bind(value, f"{word}_{state.name}") for state, value in values.items()}
