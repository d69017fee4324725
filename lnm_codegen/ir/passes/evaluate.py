"""What `horner` and `estrin` share: which polynomials a kernel has, and in what they are taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from lnm_codegen.errors import InternalError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Expr, Fma, Kernel, Phase, Role, Var
from lnm_codegen.ir.passes.collect import params_of
from lnm_codegen.ir.polynomial import (
    Poly,
    Reader,
    by_power,
    is_polynomial,
    main_variable,
    plus,
    write,
)

Scheme: TypeAlias = Callable[[dict[int, Expr], Var], Expr]
"""Coefficients by exponent, and the variable -> a tree."""


def evaluate_polynomials(kernel: Kernel, scheme: Scheme, in_params: bool) -> Kernel:
    """Rewrite each polynomial of `kernel` by `scheme`, in the states first, in their order."""
    params = frozenset() if in_params else params_of(kernel)
    order = _order(kernel)

    def rewrite(e: Expr) -> Expr:
        if is_polynomial(e) and not (params and ir.variables(e) <= params):
            return _emit(Reader(lambda v: v in params, _refuse).read(e), order, scheme)
        return ir.map_children(e, rewrite)

    body = tuple(replace(let, value=rewrite(let.value)) for let in kernel.body)
    return replace(kernel, body=body)


def fused(a: Expr, v: Expr, c: Expr | None) -> Expr:
    """Return a*v + c, leaving out what is 1, -1 or absent."""
    if a == ir.const(-1):
        return ir.neg(v) if c is None else ir.sub(c, v)
    if c is None:
        return v if a == ir.ONE else ir.mul(a, v)
    return ir.add(v, c) if a == ir.ONE else Fma(a, v, c)


def _refuse(e: Expr) -> Var:
    raise InternalError(f"{type(e).__name__} inside a polynomial; run collect first.")


def _order(kernel: Kernel) -> Sequence[Var]:
    """States, inputs and what is computed from them, then gradients."""
    ports = [(p.var, p.role is Role.GRAD) for p in kernel.inputs]
    lets = [(let.target, let.phase is Phase.ADJOINT) for let in kernel.body]
    states = [(p.var, False) for p in kernel.inputs if p.role is Role.STATE]
    ranked = sorted([*states, *lets, *ports], key=lambda item: item[1])
    return tuple(dict.fromkeys(var for var, _ in ranked))


def _emit(p: Poly, order: Sequence[Var], scheme: Scheme) -> Expr:
    v = main_variable(p, order)
    if v is None:
        return write(p, order, fused=True)
    parts = by_power(p, v)
    rest = parts.pop(0, {})
    coefficients = {k: _emit(q, order, scheme) for k, q in parts.items()}
    if () in rest:  # f(v) has a constant term: the inputs are added to the finished f(v)
        coefficients[0] = rest.pop(())
    elif rest:
        coefficients[0] = _emit(rest, order, scheme)
        rest = {}
    return plus(scheme(coefficients, v), rest, order)
