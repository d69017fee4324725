"""Comparisons that Yosys maps to a wrong circuit, and their text without signs.

Yosys maps a comparison of few bits with a constant to one LUT. Versions before August 2026 read a
negative constant there as a positive one (YosysHQ/yosys#6085).
"""

from __future__ import annotations

from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.operators import CompareOp

LUT_INPUTS = 6
"""Most inputs of a LUT; ECP5 and iCE40 have 4."""


def is_misread(op: CompareOp, operands: dict[fx.Expr, int | None]) -> bool:
    """Report whether Yosys may read a negative constant of a comparison as a positive one.

    Args:
        op: The comparison.
        operands: Expression -> its integer, None for one that is not a constant of the source.
            Yosys may find that its value is constant.
    """
    if op in (CompareOp.EQ, CompareOp.NE) or any(
        k is not None and k >= 0 for k in operands.values()
    ):
        return False
    widths = [fx.bits_of(e).width for e in operands if not isinstance(e, fx.Const)]
    return bool(widths) and max(widths) <= LUT_INPUTS


def unsigned(e: fx.Expr, text: str, width: int) -> str:
    """Return a number plus 2**width as an operand without sign; `text` has `width` bits."""
    if isinstance(e, fx.Const):
        return f"{width + 1}'d{e.integer + (1 << width)}"
    return f"{{!{text}[{width - 1}], {text}}}"
