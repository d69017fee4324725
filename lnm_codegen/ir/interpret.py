"""Interpreter of kernels: NumPy, one float type. The reference of every backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeAlias, assert_never

import numpy as np

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import BinaryOp, CompareOp, Expr, Fn, Kernel, UnaryOp

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


def run(kernel: Kernel, values: Mapping[str, Any], dtype: Any = np.float64) -> dict[str, Array]:
    """Evaluate a kernel elementwise and return an array for each result, by name.

    Args:
        kernel: Any kernel, before or after any pass.
        values: An array or number for each input port, by name; they broadcast.
        dtype: float64 or float32; every operation is rounded to it. A float32 Fma goes through
            float64, which differs from one rounding in about one case in 2**29.
    """
    env: dict[str, Any] = {p.var.name: np.asarray(values[p.var.name], dtype) for p in kernel.inputs}
    with np.errstate(all="ignore"):
        for let in kernel.body:
            env[let.target.name] = evaluate(let.value, env, np.dtype(dtype))
    return {p.var.name: np.asarray(env[p.var.name]) for p in kernel.results}


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
            return _fma(of(a), of(b), of(c), dtype)
        case ir.Call(fn, arg):
            return np.asarray(_CALL[fn](of(arg)), dtype)
        case ir.Spike(arg, _):
            return np.greater_equal(of(arg), 0)
        case ir.Detach(arg):
            return of(arg)
        case _:
            assert_never(e)


def _fma(a: Any, b: Any, c: Any, dtype: np.dtype[Any]) -> Any:
    wide = np.float64
    product = np.multiply(a, b, dtype=wide)
    return np.asarray(np.add(product, c, dtype=wide), dtype)


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
