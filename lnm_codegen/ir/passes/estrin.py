"""Estrin's scheme: pairs of coefficients side by side, a shorter chain than Horner's."""

from __future__ import annotations

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Expr, Kernel, Var
from lnm_codegen.ir.passes.evaluate import evaluate_polynomials, fused


def estrin(kernel: Kernel, *, in_params: bool = False) -> Kernel:
    """Rewrite polynomials as (c0 + c1*v) + (c2 + c3*v)*v**2 + ...; inputs are added last.

    Leaves: no Power, except among parameters alone: those expressions are `hoist`'s.
    Keeps: ports, results, the value of every Let at finite arguments up to rounding.
    """
    return evaluate_polynomials(kernel, _estrin, in_params)


def _estrin(coefficients: dict[int, Expr], v: Var) -> Expr:
    level = [coefficients.get(k) for k in range(max(coefficients) + 1)]
    power: Expr = v
    while len(level) > 1:
        level += [None] * (len(level) % 2)
        pairs = zip(level[0::2], level[1::2], strict=True)
        level = [low if high is None else fused(high, power, low) for low, high in pairs]
        power = ir.mul(power, power)
    return level[0] or ir.ZERO
