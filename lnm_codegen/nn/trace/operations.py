"""PyTorch's operations as functions of expressions and conditions, by their names in PyTorch.

Values and gradients are PyTorch's, except at the kinks of `abs`, `maximum` and `minimum`: there the
gradient goes to one branch, as `lnm.abs`, `lnm.max` and `lnm.min` define it, which also select the
second operand at NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from lnm_codegen.language import functions as fn
from lnm_codegen.language.symbols import Expression, is_spike


@dataclass(frozen=True, slots=True, eq=False)
class TracedCondition:
    """A tensor of bool. `choose(a, b)` is the expression that is a where it holds, b elsewhere."""

    choose: Callable[[Any, Any], Expression]


Value: TypeAlias = "Expression | TracedCondition"


def number(a: Any) -> Any:
    """Return an expression; a condition counts as 1 or 0."""
    if isinstance(a, TracedCondition):
        return a.choose(1, 0)
    return fn.as_expr(int(a) if isinstance(a, bool) else a)


def condition(a: Any) -> TracedCondition:
    """Return a condition; a number holds where it is not 0."""
    if isinstance(a, TracedCondition):
        return a
    whole = a.args[0] if isinstance(a, fn.stop_gradient) else a
    return _compared(">")(whole, 0) if is_spike(whole) else _not(_equal(a, 0))


def _compared(sign: str) -> Callable[[Any, Any], TracedCondition]:
    def compare(input: Any, other: Any) -> TracedCondition:
        a, b = number(input), number(other)
        return TracedCondition(lambda then, orelse: fn.select(a, sign, b, then, orelse))

    return compare


def _equal(input: Any, other: Any) -> TracedCondition:
    return _and(_compared(">=")(input, other), _compared("<=")(input, other))


def _not(input: Any) -> TracedCondition:
    a = condition(input)
    return TracedCondition(lambda then, orelse: a.choose(orelse, then))


def _and(input: Any, other: Any) -> TracedCondition:
    a, b = condition(input), condition(other)
    return TracedCondition(lambda then, orelse: a.choose(b.choose(then, orelse), orelse))


def _or(input: Any, other: Any) -> TracedCondition:
    return _not(_and(_not(input), _not(other)))


def _xor(input: Any, other: Any) -> TracedCondition:
    a, b = condition(input), condition(other)
    return TracedCondition(
        lambda then, orelse: a.choose(b.choose(orelse, then), b.choose(then, orelse))
    )


def _are_bool(*values: Any) -> bool:
    return all(isinstance(value, TracedCondition | bool) for value in values)


def _add(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    if _are_bool(input, other) and alpha == 1:
        return _or(input, other)
    return number(input) + number(other) * number(alpha)


def _sub(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    return number(input) - number(other) * number(alpha)


def _mul(input: Any, other: Any) -> Any:
    if _are_bool(input, other):
        return _and(input, other)
    return number(input) * number(other)


def _div(input: Any, other: Any) -> Any:
    return number(input) / number(other)


def _clamp(input: Any, min: Any = None, max: Any = None) -> Any:
    a = number(input)
    if min is not None:
        low = number(min)
        if max is not None and low.free_symbols:  # no gradient of equal bounds
            low = fn.select(low, "<", number(max), low, fn.stop_gradient(low))
        a = fn.select(a, "<", number(min), low, a)
    return a if max is None else fn.select(a, ">", number(max), number(max), a)


def _where(condition: Any, input: Any, other: Any) -> Any:
    where = _condition_of(condition).choose
    if not _are_bool(input, other):
        return where(number(input), number(other))
    a, b = _condition_of(input), _condition_of(other)
    return TracedCondition(
        lambda then, orelse: where(a.choose(then, orelse), b.choose(then, orelse))
    )


_condition_of = condition


def _masked_fill(input: Any, mask: Any, value: Any) -> Any:
    is_bool = isinstance(input, TracedCondition)
    return _where(mask, condition(value) if is_bool else value, input)


def _relu(input: Any) -> Any:
    a = number(input)
    return fn.select(a, "<=", 0, 0, a)  # gradient 0 at 0


def _leaky_relu(input: Any, negative_slope: Any = 0.01) -> Any:
    a = number(input)
    return fn.select(a, ">", 0, a, a * number(negative_slope))


def _hardtanh(input: Any, min_val: Any = -1.0, max_val: Any = 1.0) -> Any:
    a = number(input)
    return fn.select(a, "<=", min_val, min_val, fn.select(a, ">=", max_val, max_val, a))


def _sign(input: Any) -> Any:
    if isinstance(input, TracedCondition):
        return input
    a = number(input)
    return fn.select(a, ">", 0, 1, fn.select(a, "<", 0, -1, 0))


def _heaviside(input: Any, values: Any) -> Any:
    if _are_bool(input, values):
        return _or(input, values)
    a = number(input)
    return fn.select(a, ">", 0, 1, fn.select(a, "<", 0, 0, number(values)))


def _filled(value: Any) -> Callable[..., Any]:
    def fill(input: Any, *, dtype: Any = None, device: Any = None) -> Any:
        return _full_like(input, value, dtype=dtype, device=device)

    return fill


def _full_like(
    input: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,  # noqa: ARG001 (a name of PyTorch)
) -> Any:
    is_bool = isinstance(input, TracedCondition) and dtype is None
    return condition(fill_value) if is_bool else number(fill_value)


def _unary(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def apply(input: Any) -> Any:
        return function(number(input))

    return apply


def _binary(
    function: Callable[[Any, Any], Any], of_bool: Callable[[Any, Any], TracedCondition]
) -> Callable[[Any, Any], Any]:
    def apply(input: Any, other: Any) -> Any:
        if _are_bool(input, other):
            return of_bool(input, other)
        return function(number(input), number(other))

    return apply


def _same(input: Any, *, memory_format: Any = None) -> Any:  # noqa: ARG001 (a name of PyTorch)
    return input


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": _add, "sub": _sub, "subtract": _sub, "mul": _mul, "multiply": _mul,
    "div": _div, "divide": _div, "true_divide": _div,
    "rsub": lambda input, other: _sub(other, input),
    "pow": lambda input, exponent: number(input) ** number(exponent),
    "addcmul": lambda input, tensor1, tensor2, *, value=1: (
        number(input) + number(value) * number(tensor1) * number(tensor2)
    ),
    "lerp": lambda input, end, weight: (
        number(input) + number(weight) * (number(end) - number(input))
    ),
    "neg": _unary(lambda a: -1 * a), "negative": _unary(lambda a: -1 * a),
    "positive": _unary(lambda a: a), "square": _unary(lambda a: a**2),
    "reciprocal": _unary(lambda a: 1 / a), "rsqrt": _unary(lambda a: 1 / fn.sqrt(a)),
    "sqrt": _unary(fn.sqrt), "exp": _unary(fn.exp), "log": _unary(fn.log),
    "tanh": _unary(fn.tanh), "sin": _unary(fn.sin), "cos": _unary(fn.cos),
    "sigmoid": _unary(fn.sigmoid), "expit": _unary(fn.sigmoid),
    "special_expit": _unary(fn.sigmoid), "silu": _unary(lambda a: a * fn.sigmoid(a)),
    "abs": _unary(fn.abs), "absolute": _unary(fn.abs), "sign": _sign, "relu": _relu,
    "leaky_relu": _leaky_relu, "hardtanh": _hardtanh,
    "relu6": lambda input: _hardtanh(input, 0.0, 6.0),
    "clamp": _clamp, "clip": _clamp, "clamp_min": lambda input, min: _clamp(input, min),
    "clamp_max": lambda input, max: _clamp(input, None, max),
    "maximum": _binary(fn.max, _or), "minimum": _binary(fn.min, _and),
    "max": _binary(fn.max, _or), "min": _binary(fn.min, _and),
    "where": _where, "masked_fill": _masked_fill, "heaviside": _heaviside,
    "lt": _compared("<"), "less": _compared("<"), "le": _compared("<="),
    "less_equal": _compared("<="), "gt": _compared(">"), "greater": _compared(">"),
    "ge": _compared(">="), "greater_equal": _compared(">="),
    "eq": _equal, "ne": lambda input, other: _not(_equal(input, other)),
    "not_equal": lambda input, other: _not(_equal(input, other)),
    "logical_and": _and, "logical_or": _or, "logical_not": _not, "logical_xor": _xor,
    "bitwise_and": _and, "bitwise_or": _or, "bitwise_not": _not, "bitwise_xor": _xor,
    "bool": condition, "float": number, "double": number, "clone": _same, "contiguous": _same,
    "detach": lambda input: (
        input if isinstance(input, TracedCondition) else fn.stop_gradient(number(input))
    ),
    "zeros_like": _filled(0), "ones_like": _filled(1), "full_like": _full_like,
}  # fmt: skip
"""Name of a function or a method of tensors -> the function of expressions and conditions."""

SELF = ("bool", "contiguous", "float", "positive")
"""Names of those that return their tensor itself, where it has the type already."""
