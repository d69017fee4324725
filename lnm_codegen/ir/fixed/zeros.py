"""Products with a factor that is always 0 become 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from lnm_codegen.ir.fixed import nodes as fx


def without_zeros(kernel: fx.Kernel, constants: Mapping[str, int]) -> fx.Kernel:
    """Rewrite products in which a constant, or a parameter of constant value, is 0.

    Keeps: ports, results, the value and the bits of every Let.

    Args:
        kernel: What `quantize` made.
        constants: Parameters that do not change, by name.
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
            return fx.Const(0, fx.bits_of(e), Fraction(0))
        return e

    return replace(
        kernel, body=tuple(replace(let, value=rewrite(let.value)) for let in kernel.body)
    )
