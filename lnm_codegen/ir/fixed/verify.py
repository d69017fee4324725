"""What a well-formed fixed-point kernel is, one rule per function."""

from __future__ import annotations

from lnm_codegen.errors import InternalError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.types import BOOL, MOST_BITS, Bits


def verify(kernel: fx.Kernel) -> fx.Kernel:
    """Return `kernel` if it is well formed.

    Raises:
        InternalError: A rule of this module does not hold; the message names kernel and Let.
    """
    known = {p.var for p in kernel.inputs}
    for let in kernel.body:
        for var in sorted(fx.variables(let.value) - known, key=lambda v: v.name):
            raise _broken(kernel, let, f"reads {var.name!r} before it is bound")
        for node in fx.walk(let.value):
            _operands(kernel, let, node)
        if fx.type_of(let.value) != let.target.type:
            raise _broken(kernel, let, "differs in bits from its value")
        if let.target.name in {v.name for v in known}:
            raise _broken(kernel, let, "is bound twice")
        known.add(let.target)
    for port in kernel.results:
        if port.var not in known:
            raise InternalError(f"{kernel.name}: the result {port.var.name!r} is never bound.")
    return kernel


def _broken(kernel: fx.Kernel, let: fx.Let, what: str) -> InternalError:
    return InternalError(f"{kernel.name}: {let.target.name!r} {what}.")


def _operands(kernel: fx.Kernel, let: fx.Let, node: fx.Expr) -> None:
    """Points meet, conditions stand where they may, nothing is wider than the models hold."""
    types = [fx.type_of(child) for child in fx.children(node)]
    match node:
        case fx.Sum() | fx.Compare() | fx.Select():
            numbers = types[-2:]
            points = {t.frac for t in numbers if isinstance(t, Bits)}
            if len(points) != 1 or BOOL in numbers:
                raise _broken(kernel, let, f"has a {type(node).__name__} whose points differ")
            if isinstance(node, fx.Select) and types[0] is not BOOL:
                raise _broken(kernel, let, "selects by a number")
        case fx.Not() | fx.Both() | fx.Either():
            if set(types) != {BOOL}:
                raise _broken(kernel, let, f"has a {type(node).__name__} of numbers")
        case _:
            if BOOL in types:
                raise _broken(kernel, let, f"has a condition in a {type(node).__name__}")
    if isinstance(node, fx.Round | fx.Shift) and node.places < 1:
        raise _broken(kernel, let, "shifts by no place")
    own = fx.type_of(node)
    if isinstance(own, Bits) and not 1 <= own.width <= MOST_BITS:
        raise _broken(kernel, let, f"has a number of {own.width} bits")
