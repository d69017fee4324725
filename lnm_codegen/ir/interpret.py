"""Interpreter of kernels in NumPy, the reference of every backend.

Real numbers have one float type, integers 64 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeAlias, assert_never

import numpy as np

from lnm_codegen.ir import kernel as generic
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.nodes import BinaryOp, CompareOp, Expr, Fn, Kernel, UnaryOp
from lnm_codegen.ir.types import Bits, Rounding

Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[Any]]

_BINARY = {
    BinaryOp.ADD: np.add, BinaryOp.SUB: np.subtract, BinaryOp.MUL: np.multiply,
    BinaryOp.DIV: np.divide, BinaryOp.AND: np.logical_and, BinaryOp.OR: np.logical_or,
}  # fmt: skip
COMPARE = {
    CompareOp.LT: np.less, CompareOp.LE: np.less_equal, CompareOp.GT: np.greater,
    CompareOp.GE: np.greater_equal, CompareOp.EQ: np.equal, CompareOp.NE: np.not_equal,
}  # fmt: skip
_CALL: dict[Fn, Callable[[Any], Any]] = {
    Fn.EXP: np.exp, Fn.LOG: np.log, Fn.SQRT: np.sqrt, Fn.TANH: np.tanh, Fn.SIN: np.sin,
    Fn.COS: np.cos, Fn.SIGMOID: lambda x: 1 / (1 + np.exp(-x)),
}  # fmt: skip


def run(
    kernel: generic.Kernel[Any, Any], values: Mapping[str, Any], dtype: Any = np.float64
) -> dict[str, Array]:
    """Evaluate a kernel elementwise and return an array for each result, by name.

    Args:
        kernel: Of real numbers, before or after any pass; or of integers.
        values: An array or number for each input port, by name; they broadcast.
        dtype: float64 or float32, of real numbers; every operation is rounded to it. A float32 Fma
            goes through float64, which differs from one rounding in about one case in 2**29.
    """
    found = trace(kernel, values, dtype)
    return {p.var.name: found[p.var.name] for p in kernel.results}


def trace(
    kernel: generic.Kernel[Any, Any], values: Mapping[str, Any], dtype: Any = np.float64
) -> dict[str, Array]:
    """Evaluate a kernel as `run` does, and return every input and every Let by name."""
    is_real = isinstance(kernel, Kernel)
    env: dict[str, Any] = {}
    for name in (p.var.name for p in kernel.inputs):
        env[name] = np.asarray(values[name], dtype if is_real else None)
    with np.errstate(all="ignore"):
        for let in kernel.body:
            value = let.value
            env[let.target.name] = (
                evaluate(value, env, np.dtype(dtype)) if is_real else integer_value(value, env)
            )
    return {name: np.asarray(value) for name, value in env.items()}


def evaluate(e: Expr, env: Mapping[str, Any], dtype: np.dtype[Any]) -> Any:
    """Return the value of `e`, with Vars from `env`."""

    def of(child: Expr) -> Any:
        return evaluate(child, env, dtype)

    match e:
        case ir.Const(value, _):
            return rounded(value, dtype)
        case ir.Var(name, _):
            return env[name]
        case ir.Unary(op, arg):
            return np.logical_not(of(arg)) if op is UnaryOp.NOT else np.negative(of(arg))
        case ir.Binary(binary, lhs, rhs):
            return _BINARY[binary](of(lhs), of(rhs))
        case ir.Power(base, exponent):
            value = of(base)
            result = value
            for _ in range(exponent - 1):
                result = result * value
            return result
        case ir.Compare(compare, lhs, rhs):
            return COMPARE[compare](of(lhs), of(rhs))
        case ir.Select(cond, then, orelse):
            return np.where(of(cond), of(then), of(orelse)).astype(dtype)
        case ir.Fma(a, b, c):
            product = np.multiply(of(a), of(b), dtype=np.float64)
            return np.asarray(np.add(product, of(c), dtype=np.float64), dtype)
        case ir.Call(fn, arg):
            return np.asarray(_CALL[fn](of(arg)), dtype)
        case ir.Spike(arg, _):
            return np.greater_equal(of(arg), 0)
        case ir.Detach(arg):
            return of(arg)
        case _:
            assert_never(e)


def rounded(value: Fraction, dtype: Any) -> Any:
    """Return the number of `dtype` nearest to an exact `value` (infinite where it overflows)."""
    try:
        double = float(value)
    except OverflowError:
        double = float("inf") if value > 0 else float("-inf")
    type_ = np.dtype(dtype).type
    with np.errstate(over="ignore"):  # a neighbour of the largest number is infinite
        near = type_(double)
        around = (near, np.nextafter(near, type_(-np.inf)), np.nextafter(near, type_(np.inf)))
    if np.dtype(dtype) == np.float64:
        return near
    return min(around, key=lambda x: abs(_exact(x) - value))


def _exact(x: Any) -> Fraction:
    """Return a float exactly; an infinity as the power of two above the largest number.

    IEEE 754 rounds as if the exponent had no bound. Only then does a number overflow.
    """
    if np.isfinite(x):
        return Fraction(float(x))
    return Fraction(2) ** int(np.finfo(x.dtype).maxexp) * (1 if x > 0 else -1)


# Integers of fixed-point kernels, and the same kernels in real numbers.


Exact: TypeAlias = (
    fx.Negate | fx.Sum | fx.Product | fx.Compare | fx.Not | fx.Both | fx.Either | fx.Select
)
"""Nodes that mean the same for integers and for real numbers: no scale, rounding or limit."""


def integer_value(e: fx.Expr, env: Mapping[str, Any]) -> Any:
    """Return the value of `e` in integers, with Vars from `env`."""

    def of(child: fx.Expr) -> Any:
        return integer_value(child, env)

    match e:
        case fx.Const(integer, _, _):
            return np.int64(integer)
        case fx.Var(name, type_):
            return np.asarray(env[name], np.int64 if isinstance(type_, Bits) else np.bool_)
        case fx.Shift(arg, places):
            return of(arg) << np.int64(places)
        case fx.Round(arg, places, rounding):
            return without_places(of(arg), places, rounding)
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


def real_value(
    e: fx.Expr,
    env: Mapping[str, Any],
    constant: Callable[[fx.Const], Any],
    *,
    limited: bool = True,
) -> Any:
    """Return the value of `e` in real numbers: a Round changes nothing.

    A Saturate limits it, if `limited`. Numbers may be complex, and comparisons read the real parts.
    """

    def of(child: fx.Expr) -> Any:
        return real_value(child, env, constant, limited=limited)

    match e:
        case fx.Const():
            return constant(e)
        case fx.Var(name, _):
            return env[name]
        case fx.Shift(arg, _) | fx.Round(arg, _, _):
            return of(arg)
        case fx.Saturate(arg, _):
            low, high = fx.bits_of(e).interval
            value = of(arg)
            return np.minimum(np.maximum(value, float(low)), float(high)) if limited else value
        case fx.Compare():
            return combined(e, lambda operand: np.real(of(operand)))
        case _:
            return combined(e, of)


def without_places(value: Any, places: int, rounding: Rounding) -> Any:
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
