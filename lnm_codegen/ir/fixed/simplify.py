"""Simplifications of fixed-point kernels: direct comparisons and products with zero."""

from __future__ import annotations

from collections.abc import Mapping

from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.passes.simplify import dce


def compare_sides(kernel: fx.Kernel) -> fx.Kernel:
    """Rewrite `z = a - b` and `z >= 0` as `a >= b`, and drop every Let that no result needs.

    Keeps: ports, results, the value of every Let that remains. Differences are exact, so that
    their sign is the order of their sides.
    """
    differences = {
        let.target: let.value
        for let in kernel.body
        if isinstance(let.value, fx.Sum) and let.value.op is SumOp.SUB
    }

    def rewrite(e: fx.Expr) -> fx.Expr:
        match fx.map_children(e, rewrite):
            case fx.Compare(op, fx.Var() as var, fx.Const(0)) if var in differences:
                return fx.Compare(op, differences[var].lhs, differences[var].rhs)
            case other:
                return other

    return dce(kernel.map_values(rewrite))


def fold_zeros(kernel: fx.Kernel, constants: Mapping[str, int]) -> fx.Kernel:
    """Rewrite as 0 each product with a factor 0; `constants` are parameters that do not change.

    Keeps: ports, results, the value and the bits of every Let.
    """

    def is_zero(e: fx.Expr) -> bool:
        match e:
            case fx.Const(integer, _, _):
                return integer == 0
            case fx.Var(name, _):
                return constants.get(name) == 0
            case fx.Shift(arg, _):
                return is_zero(arg)
            case _:
                return False

    def rewrite(e: fx.Expr) -> fx.Expr:
        e = fx.map_children(e, rewrite)
        if isinstance(e, fx.Product) and (is_zero(e.lhs) or is_zero(e.rhs)):
            return fx.zero(fx.bits_of(e))
        return e

    return kernel.map_values(rewrite)
