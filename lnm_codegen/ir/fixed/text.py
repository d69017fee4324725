"""Fixed-point kernels as text, for `print`, logs and tests."""

from __future__ import annotations

from typing import assert_never

from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.types import Bits


def expr_text(e: fx.Expr) -> str:
    """Return an expression; operators of two operands stand in parentheses."""
    match e:
        case fx.Const(integer, bits, _):
            return f"{integer}:{bits}"
        case fx.Var(name, _):
            return name
        case fx.Negate(arg):
            return f"-{expr_text(arg)}"
        case fx.Sum(op, lhs, rhs):
            return f"({expr_text(lhs)} {op.value} {expr_text(rhs)})"
        case fx.Product(lhs, rhs):
            return f"({expr_text(lhs)} * {expr_text(rhs)})"
        case fx.Shift(arg, places):
            return f"({expr_text(arg)} << {places})"
        case fx.Round(arg, places, rounding):
            return f"{rounding.value}({expr_text(arg)}, {places})"
        case fx.Saturate(arg, width):
            return f"saturate({expr_text(arg)}, {width})"
        case fx.Compare(op, lhs, rhs):
            return f"({expr_text(lhs)} {op.value} {expr_text(rhs)})"
        case fx.Not(arg):
            return f"not {expr_text(arg)}"
        case fx.Both(lhs, rhs):
            return f"({expr_text(lhs)} and {expr_text(rhs)})"
        case fx.Either(lhs, rhs):
            return f"({expr_text(lhs)} or {expr_text(rhs)})"
        case fx.Select(cond, then, orelse):
            return f"select({', '.join(expr_text(x) for x in (cond, then, orelse))})"
        case _:
            assert_never(e)


def kernel_text(kernel: fx.Kernel) -> str:
    """Return a kernel: its ports by role, its Lets by phase with their formats, its results."""
    lines = [f"kernel {kernel.name}, fixed point"]
    for ports, word in ((kernel.inputs, "takes"), (kernel.results, "gives")):
        for role in dict.fromkeys(p.role for p in ports):
            names = ", ".join(_typed(p.var) for p in ports if p.role is role)
            lines.append(f"  {word} {role.value}: {names}")
        if word == "takes":
            phase = None
            for let in kernel.body:
                if let.phase is not phase:
                    phase = let.phase
                    lines.append(f"  # {phase.value}")
                lines.append(f"  {_typed(let.target)} = {expr_text(let.value)}")
    return "\n".join(lines)


def _typed(var: fx.Var) -> str:
    return f"{var.name}:{var.type}" if isinstance(var.type, Bits) else var.name
