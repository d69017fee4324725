"""Surrogate spike functions: a subclass of `torch.autograd.Function`, as a spike of the language.

Functions of SpikingJelly and snnTorch with a counterpart in `lnm.surrogate` are known by name. For
any other subclass, its forward must be the step of its first argument, and its backward, traced for
a gradient of 1, gives the slope.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from lnm_codegen.language import functions as fn
from lnm_codegen.language import surrogate as slopes
from lnm_codegen.language.surrogate import Surrogate, Z
from lnm_codegen.language.symbols import Declared, spike_named
from lnm_codegen.nn.trace.operations import number
from lnm_codegen.nn.trace.value import Traced, TraceNode, expression, refusal, without_gradient

_JELLY, _TORCH = "spikingjelly.activation_based.surrogate", "snntorch.surrogate"
_NAMED: dict[tuple[str, str], Callable[..., Surrogate]] = {
    (_JELLY, "atan"): slopes.atan,
    (_JELLY, "sigmoid"): slopes.sigmoid,
    (_JELLY, "rect"): slopes.rectangle,
    (_JELLY, "piecewise_quadratic"): slopes.triangle,
    (_JELLY, "soft_sign"): slopes.soft_sign,
    (_JELLY, "erf"): slopes.erf,
    (_JELLY, "piecewise_exp"): slopes.piecewise_exponential,
    (_TORCH, "ATan"): slopes.atan,
    (_TORCH, "Sigmoid"): slopes.sigmoid,
    (_TORCH, "FastSigmoid"): slopes.fast_sigmoid,
    (_TORCH, "StraightThroughEstimator"): slopes.straight_through,
}
"""Module and name of a function -> our surrogate, a function of its further arguments."""

TINY = 1.2e-38
"""A number just above the least normal one of float32."""


@dataclass(frozen=True, slots=True, eq=False)
class TracedSpike:
    """A spike of a traced function: 1 where z >= 0, or where z > 0 if it is `strict`."""

    symbol: Declared
    z: TraceNode
    surrogate: Surrogate
    strict: bool

    def step(self, z: Any) -> Any:
        """Return the spike as a number without a gradient."""
        return fn.select(z, ">" if self.strict else ">=", 0, 1, 0)

    def fire(self, z: Any) -> Any:
        """Return the fire expression: spikes of the language are 1 where it is >= 0.

        A strict one is z where z > 0, else min(z, 0) - TINY: negative also at 0, with slope 1.
        """
        if not self.strict:
            return z
        below = fn.select(z, "<=", 0, z, 0) - fn.as_expr(TINY)
        return fn.select(z, ">", 0, z, below)


@dataclass(slots=True)
class Spikes:
    """The spikes that a function has made so far; equal ones are one."""

    made: list[TracedSpike] = field(default_factory=list)

    def add(self, z: TraceNode, surrogate: Surrogate, strict: bool) -> TraceNode:
        """Return a node of the spike's symbol."""
        for known in self.made:
            same = (known.surrogate, known.strict) == (surrogate, strict)
            if same and number(known.z.value) == number(z.value):
                return TraceNode(known.symbol)
        symbol = spike_named(f"spike_{len(self.made) + 1}")
        self.made.append(TracedSpike(symbol, z, surrogate, strict))
        return TraceNode(symbol)


class _Context:
    """The argument `ctx` of a traced `torch.autograd.Function`."""

    def __init__(self) -> None:
        self.saved_tensors: tuple[Any, ...] = ()
        self.needs_input_grad = (True,) * 8

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors for the backward."""
        self.saved_tensors = tensors


_LOCK = threading.Lock()


@contextmanager
def recorded() -> Iterator[Spikes]:
    """Record the spikes of functions of autograd on traced values, within the `with` statement.

    `apply` of any subclass, also one that was stored before, calls that of the base class of
    `torch.autograd.Function`, which C++ implements. A method of that name takes its place.
    """
    spikes = Spikes()
    base: Any = torch.autograd.Function.__mro__[1]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if any(isinstance(a, Traced) for a in (*args, *kwargs.values())):
            return _spike(spikes, cls, args, kwargs)
        return super(base, cls).apply(*args, **kwargs)

    with _LOCK:
        base.apply = classmethod(apply)
        try:
            yield spikes
        finally:
            del base.apply


def _spike(spikes: Spikes, function: Any, args: Any, kwargs: Any) -> Traced:
    """Return the spike of a call of a function of autograd."""
    name = f"{function.__module__}.{function.__qualname__}"
    first, *rest = map(_plain, args) if args else (None,)
    kwargs = {key: _plain(value) for key, value in kwargs.items()}
    others = [a for a in (*rest, *kwargs.values()) if isinstance(a, Traced)]
    if others or not isinstance(first, Traced):
        problem = f"{name}.apply with a traced tensor other than its first argument"
        raise refusal(problem, "a spike function of one tensor and numbers")
    make = _NAMED.get((function.__module__, function.__qualname__))
    with torch.enable_grad():
        strict, made = _traced(name, function, rest, kwargs)
        surrogate = make(*rest, **kwargs) if make else made()
    return without_gradient(Traced(spikes.add(first.node, surrogate, strict)))


def _plain(value: Any) -> Any:
    """Return a number for the traced value of `torch.tensor(0.5)`; any other value as it is."""
    is_number = isinstance(value, Traced) and getattr(value.value, "is_Number", False)
    return float(value.value) if is_number else value


def _traced(name: str, function: Any, rest: Any, kwargs: Any) -> tuple[bool, Any]:
    """Return whether a spike function fires at z > 0 alone, and a function for its surrogate."""
    z, context = Traced(TraceNode(Z)), _Context()
    if function.setup_context is torch.autograd.Function.setup_context:
        out = function.forward(context, z, *rest, **kwargs)
    else:
        out = function.forward(z, *rest, **kwargs)
        function.setup_context(context, (z, *rest, *kwargs.values()), out)
    value = expression(out)
    strict = value == fn.select(Z, ">", 0, 1, 0)
    if not strict and value != fn.select(Z, ">=", 0, 1, 0):
        accepted = "1 where its first argument is > 0 or >= 0, and 0 elsewhere"
        raise refusal(f"the forward of {name} is {value} for z", accepted)

    def slope() -> Surrogate:
        found = function.backward(context, Traced(TraceNode(fn.as_expr(1))))
        found = found[0] if isinstance(found, tuple) else found
        expr = expression(found)
        return slopes.from_slope(lambda _: expr, function.__name__.lower())

    return strict, slope


def settled(expr: Any, steps: dict[Any, Any]) -> Any:
    """Return an expression with a number in place of each spike whose gradient it does not use.

    These are the spikes in conditions and in the arguments of `stop_gradient`.
    """
    while True:
        parts = [*expr.atoms(fn.stop_gradient), *(w.args[0] for w in expr.atoms(fn.Where))]
        table = {p: fn.replaced(p, steps) for p in parts}
        new = fn.replaced(expr, {p: q for p, q in table.items() if p is not q})
        if new == expr:
            return new
        expr = new


def plain(exprs: Mapping[Any, Any], symbols: Iterable[Any]) -> Mapping[Any, Any] | None:
    """Return expressions for a reset with `detach_reset`, or None if it would change a gradient.

    `stop_gradient(spike)` becomes the spike, and where(spike > 0, a, b) where(spike, a, b).
    """
    symbols = list(symbols)
    numbers = {s: fn.as_expr(1) for s in symbols}
    read = {s for e in exprs.values() for s in e.free_symbols}
    if not read & {*symbols}:
        return None
    if any(settled(e, numbers).free_symbols & {*symbols} for e in exprs.values()):
        return None
    table: dict[Any, Any] = {}
    for symbol in symbols:
        table[fn.stop_gradient(symbol)] = symbol
        positive = fn.select(symbol, ">", 0, 1, 0)
        table[positive.args[0]] = symbol
    return {key: fn.replaced(fn.replaced(e, table), table) for key, e in exprs.items()}
