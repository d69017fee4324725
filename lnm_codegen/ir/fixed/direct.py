"""Comparisons of a difference with zero become comparisons of its two sides."""

from __future__ import annotations

from dataclasses import replace

from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp


def direct(kernel: fx.Kernel) -> fx.Kernel:
    """Rewrite `z = a - b` and `z >= 0` as `a >= b`, and drop every Let that no result needs.

    Keeps: ports, results, the value of every Let that stays. Differences are exact, so that their
    sign is the order of their sides.
    """
    differences = {
        let.target: let.value
        for let in kernel.body
        if isinstance(let.value, fx.Sum) and let.value.op is SumOp.SUB
    }

    def rewrite(e: fx.Expr) -> fx.Expr:
        e = fx.map_children(e, rewrite)
        if isinstance(e, fx.Compare) and isinstance(e.lhs, fx.Var) and _is_zero(e.rhs):
            difference = differences.get(e.lhs)
            if difference is not None:
                return replace(e, lhs=difference.lhs, rhs=difference.rhs)
        return e

    body = tuple(replace(let, value=rewrite(let.value)) for let in kernel.body)
    return replace(kernel, body=_needed(kernel, body))


def _is_zero(e: fx.Expr) -> bool:
    return isinstance(e, fx.Const) and e.integer == 0


def _needed(kernel: fx.Kernel, body: tuple[fx.Let, ...]) -> tuple[fx.Let, ...]:
    needed = {p.var for p in kernel.results}
    kept = []
    for let in reversed(body):
        if let.target in needed:
            kept.append(let)
            needed |= fx.variables(let.value)
    return tuple(reversed(kept))
