"""Formulas of prepared parameters as text, for comments."""

from __future__ import annotations

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Binary, Expr, Kernel, Var
from lnm_codegen.ir.operators import BinaryOp


def formulas(prepare: Kernel) -> dict[str, str]:
    """Return the value of each computed result by name, in declared parameters and other results.

    inv_tau of `lif` is 1 / tau, say. Declared parameters have no formula.
    """
    results = {port.var for port in prepare.results}
    table: dict[Var, Expr] = {}
    found: dict[str, str] = {}
    for let in prepare.body:
        value = ir.substitute(let.value, table)
        if let.target in results:
            found[let.target.name] = ir.expr_text(_without_fma(value))
        else:
            table[let.target] = value
    return found


def _without_fma(e: Expr) -> Expr:
    """Return `e` with a*b + c for fma(a, b, c)."""
    e = ir.map_children(e, _without_fma)
    if isinstance(e, ir.Fma):
        a, b, c = ir.children(e)
        return Binary(BinaryOp.ADD, Binary(BinaryOp.MUL, a, b), c)
    return e
