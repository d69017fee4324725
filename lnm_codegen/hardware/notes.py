"""Notes on a circuit: products wider than a multiplier, numbers that are or round to 0 or 1."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lnm_codegen.compiler.lost import lost_numbers
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.interpret import Array, real_value
from lnm_codegen.ir.kernel import Role

MULTIPLIERS = {18: "18 x 18 bits (ECP5)", 16: "16 x 16 bits (iCE40)"}
"""Widest factor of a target's multiplier -> its name, from the widest."""

_ELEMENT = re.compile(r"(\w+)_(\d+)")


def width_note(program: fx.Program) -> str | None:
    """Return a sentence about products that take several multipliers each, or None.

    A product with a factor one bit wider than a multiplier takes two to four of them, and logic.
    """
    found = [node for let in program.kernel.body for node in fx.walk(let.value)]
    widths = [
        max(fx.bits_of(node.lhs).width, fx.bits_of(node.rhs).width)
        for node in dict.fromkeys(found)
        if isinstance(node, fx.Product)
    ]
    for limit, name in MULTIPLIERS.items():
        wide = [width for width in widths if width > limit]
        if wide:
            return (
                f"{len(wide)} of {len(widths)} products have a factor of more than {limit} bits"
                f" (up to {max(wide)}), so that each takes several multipliers of {name}"
            )
    return None


def zero_note(coefficients: Mapping[str, Sequence[int]]) -> str | None:
    """Return a sentence about the last coefficients of a polynomial that are 0, or None.

    Args:
        coefficients: Name -> integers, such as theta_0, theta_1, theta_2.
    """
    idle = _last_zeros(coefficients)
    if not idle:
        return None
    verb = "is" if len(idle) == 1 else "are"
    return f"{', '.join(idle)} {verb} 0 in this format, so that each step multiplies by 0"


def _last_zeros(coefficients: Mapping[str, Sequence[int]]) -> list[str]:
    """Return the names of the last coefficients of each polynomial that are 0."""
    elements: dict[str, dict[int, bool]] = defaultdict(dict)
    for name, integers in coefficients.items():
        if match := _ELEMENT.fullmatch(name):
            elements[match[1]][int(match[2])] = any(integers)
    idle: list[str] = []
    for base, used in elements.items():
        last = max((k for k, is_used in used.items() if is_used), default=-1)
        idle += [f"{base}_{k}" for k in sorted(used) if k > last]
    return idle


def rounded_note(
    program: fx.Program,
    coefficients: Mapping[str, Sequence[int]],
    reals: Mapping[str, Sequence[float]],
) -> str | None:
    """Return a sentence about numbers that become 0, or decays that become 1, or None.

    The numbers are coefficients and constants that are not 0. `lost_leaks` defines a decay.

    Args:
        program: The neuron.
        coefficients: Name -> integers, as for `zero_note`, whose names are left out.
        reals: Name -> as many numbers before rounding.
    """
    idle = _last_zeros(coefficients)
    numbers = (n for n in lost_numbers(program, coefficients, reals) if n.name not in idle)
    zeros = [_counted(n.name, n.values, n.of) for n in numbers]
    lost = lost_leaks(program, coefficients, reals)
    leaks = [_counted(state, sum(own), len(own)) for state, own in lost.items() if any(own)]
    found = [f"{_rounded(zeros, '0')} in this format"] if zeros else []
    found += [f"the decay of {_rounded(leaks, '1')}, so that a leak is lost"] if leaks else []
    return "; ".join(found) or None


def _counted(name: str, lost: int, count: int) -> str:
    return name if lost == count else f"{name} ({lost} of {count} values)"


def _rounded(words: list[str], to: str) -> str:
    words = [*dict.fromkeys(words)]
    return f"{', '.join(words)} {'rounds' if len(words) == 1 else 'round'} to {to}"


# Leaks that a format loses: decays below 1 that become 1 once the coefficients are rounded.
#
# The decay of a state is the derivative of its next value by the state, at states and inputs of 0.
# It is that of the step in real numbers, so roundings inside the step do not count. A complex step
# gives it: the imaginary part of f(i*h) is h * f'(0) up to h**3.


_STEP = 2.0**-100
_LEAST = 1e-12
"""A smaller leak is a rounding error of float64."""


def lost_leaks(
    program: fx.Program,
    integers: Mapping[str, Sequence[int]],
    reals: Mapping[str, Sequence[float]],
) -> dict[str, list[bool]]:
    """Return state -> for each neuron, whether its decay in (0, 1) becomes 1 or more.

    Args:
        program: The neuron.
        integers: Coefficient -> integers.
        reals: Coefficient -> as many numbers before rounding.
    """
    coefficients = [v for v in program.kernel.input_vars(Role.PARAM) if v.name in integers]
    count = max((len(reals[v.name]) for v in coefficients), default=1)

    def each(values: Sequence[float]) -> Array:
        return np.repeat(np.asarray(values, float), count // len(values))

    exact = {v.name: each(reals[v.name]) for v in coefficients}
    rounded = {v.name: each(integers[v.name]) / _one(v) for v in coefficients}
    found = {}
    for state in program.kernel.input_vars(Role.STATE):
        before = _decay(program, state.name, exact, lambda c: float(c.real))
        after = _decay(program, state.name, rounded, lambda c: c.integer / _one(c))
        lost = (before > 0) & (before < 1 - _LEAST) & (after >= 1)
        found[state.name] = np.broadcast_to(lost, count).tolist()
    return found


def _one(e: fx.Expr) -> float:
    return 2.0 ** fx.bits_of(e).frac


def _decay(
    program: fx.Program,
    state: str,
    coefficients: Mapping[str, Array],
    constant: Callable[[fx.Const], float],
) -> Array:
    kernel = program.kernel
    zeros = {port.var.name: np.complex128(0) for port in kernel.inputs}
    values: dict[str, Any] = {**zeros, **coefficients, state: np.complex128(_STEP * 1j)}
    for let in kernel.body:
        values[let.target.name] = real_value(let.value, values, constant, limited=False)
    return np.asarray(np.imag(values[f"{state}_next"]) / _STEP)
