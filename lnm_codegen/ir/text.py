"""Kernels and expressions as text, for `print(program)`, logs and tests."""

from __future__ import annotations

from fractions import Fraction

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Expr, Kernel

_LOOSEST, _OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _UNARY, _POWER, _ATOM = range(10)
_LEVEL = {"or": _OR, "and": _AND, "+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT}


def number_text(value: Fraction, name: str = "") -> str:
    """Return a constant as it reads best: its name, a whole number, a short decimal, a ratio."""
    if name:
        return name
    if value.denominator == 1:
        return str(value.numerator)
    decimal = repr(float(value))
    return decimal if Fraction(decimal) == value else f"{value.numerator}/{value.denominator}"


def expr_text(e: Expr, parent: int = _LOOSEST) -> str:
    """Return `e` with no more parentheses than it needs."""
    text, level = _parts(e)
    return f"({text})" if level < parent else text


def _parts(e: Expr) -> tuple[str, int]:
    match e:
        case ir.Const(value, name):
            text = number_text(value, name)
            bare = text.replace(".", "").replace("_", "").isalnum()
            return text, _ATOM if bare else _SUM
        case ir.Var(name, _):
            return name, _ATOM
        case ir.Unary(ir.UnaryOp.NOT, arg):
            return f"not {expr_text(arg, _NOT)}", _NOT
        case ir.Unary(_, arg):
            return f"-{expr_text(arg, _UNARY)}", _UNARY
        case ir.Binary(op, lhs, rhs):
            level = _LEVEL[op.value]
            left, right = expr_text(lhs, level), expr_text(rhs, level + 1)
            return f"{left} {op.value} {right}", level
        case ir.Power(base, exponent):
            return f"{expr_text(base, _ATOM)}**{exponent}", _POWER
        case ir.Compare(compare, lhs, rhs):
            left, right = expr_text(lhs, _SUM), expr_text(rhs, _SUM)
            return f"{left} {compare.value} {right}", _COMPARE
        case ir.Call(fn, arg):
            return f"{fn.value}({expr_text(arg)})", _ATOM
        case ir.Spike(arg, slope):
            return f"spike({expr_text(arg)}; slope {expr_text(slope)})", _ATOM
        case ir.Select() | ir.Fma() | ir.Detach():
            name = type(e).__name__.lower()
            return f"{name}({', '.join(expr_text(c) for c in ir.children(e))})", _ATOM


def kernel_text(kernel: Kernel) -> str:
    """Return a kernel: its ports by role, its Lets by phase, its results."""
    lines = [f"kernel {kernel.name}"]
    for ports, word in ((kernel.inputs, "takes"), (kernel.results, "gives")):
        roles = dict.fromkeys(p.role for p in ports)
        for role in roles:
            names = ", ".join(p.var.name for p in ports if p.role is role)
            lines.append(f"  {word} {role.value}: {names}")
        if word == "takes":
            lines += _body_lines(kernel)
    return "\n".join(lines)


def _body_lines(kernel: Kernel) -> list[str]:
    lines: list[str] = []
    phase = None
    for let in kernel.body:
        if let.phase is not phase:
            phase = let.phase
            lines.append(f"  # {phase.value}")
        lines.append(f"  {let.target.name} = {expr_text(let.value)}")
    return lines
