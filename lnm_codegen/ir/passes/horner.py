"""Horner's scheme: nested fused multiply-adds."""

from __future__ import annotations

from lnm_codegen.ir.nodes import Expr, Kernel, Var
from lnm_codegen.ir.passes.evaluate import evaluate_polynomials, fused


def horner(kernel: Kernel, *, in_params: bool = False) -> Kernel:
    """Rewrite polynomials as nested Fma, c0 + v*(c1 + v*(c2 + ...)); inputs are added last.

    Leaves: no Power, except among parameters alone: those expressions are `hoist`'s.
    Keeps: ports, results, the value of every Let at finite arguments up to rounding.
    """
    return evaluate_polynomials(kernel, _horner, in_params)


def _horner(coefficients: dict[int, Expr], v: Var) -> Expr:
    top = max(coefficients)
    tree = coefficients[top]
    for k in range(top - 1, -1, -1):
        tree = fused(tree, v, coefficients.get(k))
    return tree
