"""Input sequences that drive two states far, and a proof that they never come back.

Without resets the state goal*s after T steps is largest if each input is the end of its interval
that pushes goal*A**k*s up, where k steps remain (bang-bang). With resets it is a guess.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from lnm_codegen.analysis.plane.matrix import radius_of
from lnm_codegen.analysis.plane.polygon import Point
from lnm_codegen.analysis.plane.step import Mode, PlaneStep, mapped

Ends: TypeAlias = tuple[bool, ...]
"""For each input, True for the high end of its interval."""
_GOALS: tuple[Point[float], ...] = ((-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))
_FEWEST, _MOST = 32, 256


def driven(
    step: PlaneStep[float], start: Point[float], steps: int
) -> Iterator[Iterator[tuple[Ends, Point[float]]]]:
    """Yield runs towards each side of each state: the ends and the state after each step."""
    for goal in _GOALS:
        yield _run(step, start, _plan(step, step.mode_at(start), goal, steps))


def shortest(
    step: PlaneStep[float], start: Point[float], bound: float, most: int
) -> list[tuple[Ends, Point[float]]]:
    """Return the shortest run that passes a bound while no spike or clamp acts; [] if none does.

    The largest goal*s after n steps is goal*A**n*start plus, for k < n, the best input through
    goal*A**k. At a pole pair on the unit circle the inputs are in resonance with it. A real
    eigenvalue weighs its left eigenvector alone as n grows.
    """
    mode = step.mode_at(start)
    lengths = {goal: _steps_to(step, mode, start, goal, bound, most) for goal in _GOALS}
    goal = min(lengths, key=lambda g: lengths[g])
    if lengths[goal] > most:
        return []
    found = list(_run(step, start, _plan(step, mode, goal, lengths[goal])))
    return found if max(map(abs, found[-1][1])) > bound else []


def _steps_to(
    step: PlaneStep[float],
    mode: Mode[float],
    start: Point[float],
    goal: Point[float],
    bound: float,
    most: int,
) -> int:
    """Return the least number of steps to goal*s > bound in one mode, or most + 1."""
    (a, b), (c, d) = step.linear(mode)
    (m, n), (o, p) = mode.matrix
    (x, y), total = goal, 0.0
    for k in range(1, most + 1):
        u, v = x * m + y * o, x * n + y * p
        total += x * mode.offset[0] + y * mode.offset[1]
        total += sum(max(u * e + v * f for e, f in ends) for ends in step.inputs)
        x, y = x * a + y * c, x * b + y * d
        if not total + x * start[0] + y * start[1] <= bound:
            return k
    return most + 1


def reached(step: PlaneStep[float], start: Point[float]) -> tuple[Point[float], Point[float]]:
    """Return the least and the largest of each state in such runs, moved in by their rounding."""
    slack = max(1 - radius_of(step.linear(step.mode_at(start))), 1e-3)
    steps = max(_FEWEST, min(_MOST, round(5 / slack)))
    states = [start, *(s for run in driven(step, start, steps) for _, s in run)]
    columns = list(zip(start, zip(*states, strict=True), strict=True))
    rounding = 2.0**-32
    low = [min(first, min(c) + rounding * (1 + abs(min(c)))) for first, c in columns]
    high = [max(first, max(c) - rounding * (1 + abs(max(c)))) for first, c in columns]
    return (low[0], low[1]), (high[0], high[1])


def _plan(step: PlaneStep[float], mode: Mode[float], goal: Point[float], steps: int) -> list[Ends]:
    (a, b), (c, d) = step.linear(mode)
    (m, n), (o, p) = mode.matrix
    x, y = goal
    plan: list[Ends] = []
    for _ in range(steps):
        u, v = x * m + y * o, x * n + y * p
        plan.append(
            tuple(u * (high[0] - low[0]) + v * (high[1] - low[1]) >= 0 for low, high in step.inputs)
        )
        x, y = x * a + y * c, x * b + y * d
        size = max(abs(x), abs(y)) or 1.0
        x, y = x / size, y / size
    return plan[::-1]


def _run(
    step: PlaneStep[float], start: Point[float], plan: list[Ends]
) -> Iterator[tuple[Ends, Point[float]]]:
    s = start
    for ends in plan:
        x, y = mapped(step.forms, s)
        for high, segment in zip(ends, step.inputs, strict=True):
            x, y = x + segment[high][0], y + segment[high][1]
        mode = step.mode_of((x, y))
        v, w = mapped(mode.matrix, (x, y))
        s = (v + mode.offset[0], w + mode.offset[1])
        yield ends, s
