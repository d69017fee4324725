"""Interpreter of fixed-point kernels: NumPy integers of 64 bits. The reference of C and Verilog."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, assert_never

import numpy as np

from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.interpret import COMPARE
from lnm_codegen.ir.interpret import Array as Array
from lnm_codegen.ir.types import Bits, Rounding

Exact: TypeAlias = (
    fx.Negate | fx.Sum | fx.Product | fx.Compare | fx.Not | fx.Both | fx.Either | fx.Select
)
"""Nodes that mean the same for integers and for real numbers: no scale, rounding or limit."""


def run(kernel: fx.Kernel, values: Mapping[str, Any]) -> dict[str, Array]:
    """Evaluate a kernel elementwise and return its results by name: integers, booleans for spikes.

    `values` are integers for each input port, by name; they broadcast.
    """
    env = trace(kernel, values)
    return {p.var.name: env[p.var.name] for p in kernel.results}


def trace(kernel: fx.Kernel, values: Mapping[str, Any]) -> dict[str, Array]:
    """Evaluate a kernel as `run` does, and return every input and every Let by name."""
    env: dict[str, Any] = {p.var.name: np.asarray(values[p.var.name]) for p in kernel.inputs}
    for let in kernel.body:
        env[let.target.name] = evaluate(let.value, env)
    return {name: np.asarray(value) for name, value in env.items()}


def evaluate(e: fx.Expr, env: Mapping[str, Any]) -> Any:
    """Return the value of `e`, with Vars from `env`."""

    def of(child: fx.Expr) -> Any:
        return evaluate(child, env)

    match e:
        case fx.Const(integer, _, _):
            return np.int64(integer)
        case fx.Var(name, type_):
            return np.asarray(env[name], np.int64 if isinstance(type_, Bits) else np.bool_)
        case fx.Shift(arg, places):
            return of(arg) << np.int64(places)
        case fx.Round(arg, places, rounding):
            return rounded(of(arg), places, rounding)
        case fx.Saturate(arg, width):
            most = np.int64((1 << (width - 1)) - 1)
            return np.minimum(np.maximum(of(arg), ~most), most)  # np.clip takes long for a number
        case _:
            return combined(e, of)


def combined(e: Exact, of: Callable[[fx.Expr], Any]) -> Any:
    """Return the value of a node whose operands `of` evaluates, as integers or real numbers."""
    match e:
        case fx.Negate(arg):
            return -of(arg)
        case fx.Sum(op, lhs, rhs):
            return of(lhs) + of(rhs) if op is SumOp.ADD else of(lhs) - of(rhs)
        case fx.Product(lhs, rhs):
            return of(lhs) * of(rhs)
        case fx.Compare(compare, lhs, rhs):
            return COMPARE[compare](of(lhs), of(rhs))
        case fx.Not(arg):
            return np.logical_not(of(arg))
        case fx.Both(lhs, rhs):
            return np.logical_and(of(lhs), of(rhs))
        case fx.Either(lhs, rhs):
            return np.logical_or(of(lhs), of(rhs))
        case fx.Select(cond, then, orelse):
            return np.where(of(cond), of(then), of(orelse))
        case _:
            assert_never(e)


def real_value(e: fx.Expr, env: Mapping[str, Any], constant: Callable[[fx.Const], Any]) -> Any:
    """Return the value of `e` in real numbers: a Saturate limits it, a Round changes nothing."""

    def of(child: fx.Expr) -> Any:
        return real_value(child, env, constant)

    match e:
        case fx.Const():
            return constant(e)
        case fx.Var(name, _):
            return env[name]
        case fx.Shift(arg, _) | fx.Round(arg, _, _):
            return of(arg)
        case fx.Saturate(arg, _):
            low, high = fx.bits_of(e).interval
            return np.minimum(np.maximum(of(arg), float(low)), float(high))
        case _:
            return combined(e, of)


def rounded(value: Any, places: int, rounding: Rounding) -> Any:
    """Return `value` without its last `places` bits."""
    half = np.int64(1 << (places - 1))
    match rounding:
        case Rounding.TRUNCATE:
            return value >> np.int64(places)
        case Rounding.HALF_UP:
            return (value + half) >> np.int64(places)
        case Rounding.CONVERGENT:  # half up, except that a tie rounds down to an even integer
            even = (value >> np.int64(places)) & 1
            return (value + half - 1 + even) >> np.int64(places)
        case _:
            assert_never(rounding)
