"""Leaks that a format loses: decays below 1 that become 1 once the coefficients are rounded.

The decay of a state is the derivative of its next value by the state, at states and inputs of 0.
It is that of the step in real numbers, so roundings inside the step do not count. A complex step
gives it: the imaginary part of f(i*h) is h * f'(0) up to h**3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.interpret import Array, combined
from lnm_codegen.ir.operators import Role

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
        values[let.target.name] = _value(let.value, values, constant)
    return np.asarray(np.imag(values[f"{state}_next"]) / _STEP)


def _value(e: fx.Expr, values: Mapping[str, Any], constant: Callable[[fx.Const], float]) -> Any:
    """Return a number, or a condition on the real parts, without roundings and saturations."""

    def of(child: fx.Expr) -> Any:
        return _value(child, values, constant)

    match e:
        case fx.Const():
            return np.complex128(constant(e))
        case fx.Var(name, _):
            return values[name]
        case fx.Shift(arg, _) | fx.Round(arg, _, _) | fx.Saturate(arg, _):
            return of(arg)
        case fx.Compare():
            return combined(e, lambda operand: np.real(of(operand)))
        case _:
            return combined(e, of)
