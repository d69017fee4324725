"""Printer of Triton: literals, expressions, statements and elementary functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lnm_codegen.backends import expr
from lnm_codegen.backends import expr as elementary
from lnm_codegen.backends.expr import LIBRARY, LN2_LOW, elementary_view
from lnm_codegen.backends.render import render
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import rounded
from lnm_codegen.ir.nodes import BinaryOp, Const, Expr, Fn, Kernel


@dataclass(frozen=True, slots=True)
class TritonDialect(expr.Dialect):
    """The dialect for one float type, "float32" or "float64"."""

    dtype: str

    NOT: ClassVar[str] = "~"

    @property
    def real(self) -> str:
        """The Triton name of the type."""
        return f"tl.{self.dtype}"

    def number(self, c: Const) -> str:
        """Return a literal."""
        return number(rounded(c.value, self.dtype), self.dtype)

    def select(self, e: ir.Select) -> tuple[str, int]:
        """Return a select; two literals would make it a float32."""
        cond, then, orelse = (expr.text(x, self) for x in (e.cond, e.then, e.orelse))
        typed = (
            self.dtype == "float64" and isinstance(e.then, Const) and isinstance(e.orelse, Const)
        )
        return f"tl.where({cond}, {then}, {orelse})" + f".to({self.real})" * typed, expr.CALL

    def fma(self, e: ir.Fma) -> tuple[str, int]:
        """Return a fused multiply-add."""
        a, b, c = (expr.text(x, self) for x in (e.a, e.b, e.c))
        return f"tl.fma({a}, {b}, {c})", expr.CALL

    def call(self, e: ir.Call) -> tuple[str, int]:
        """Return a function call; `tl.sqrt` of float32 is an approximation."""
        rounded_once = e.fn is Fn.SQRT and self.dtype == "float32"
        name = (
            f"tl.{LIBRARY[e.fn]}" + "_rn" * rounded_once
            if e.fn in LIBRARY
            else f"_neuron_{e.fn.value}"
        )
        return f"{name}({expr.text(e.arg, self)})", expr.CALL

    def spike(self, e: ir.Spike) -> tuple[str, int]:
        """Return the condition of a spike."""
        return f"{expr.text(e.arg, self, expr.SUM)} >= 0.0", expr.COMPARE

    def text(self, e: Expr) -> str:
        """Return an expression; `/` of float32 is an approximation, so a quotient is a call."""
        return expr.text(self._spelled(e) if self.dtype == "float32" else e, self)

    def _spelled(self, e: Expr) -> Expr:
        """Return `e` with the text of every quotient as a variable."""
        new = ir.map_children(e, self._spelled)
        match new:
            case ir.Binary(BinaryOp.DIV, lhs, rhs):
                return ir.Var(f"tl.div_rn({expr.text(lhs, self)}, {expr.text(rhs, self)})")
            case _:
                return new


def number(value: float, dtype: str) -> str:
    """Return a literal that reads back as `value`.

    Triton reads a literal of float32's range as a float32. A literal that would lose digits is
    printed with its type.
    """
    kind = np.dtype(dtype).type
    with np.errstate(all="ignore"):
        if not np.isfinite(value):
            return f'float("{value}")'
        text = str(kind(value))
        if not any(mark in text for mark in ".e"):
            text += ".0"
        exact = float(np.float32(value)) == float(value) or dtype == "float32"
        safe = value == 0 or abs(value) >= np.finfo("float32").tiny
    return text if exact and safe else f"tl.full([], {text}, tl.{dtype})"


def math_functions(kernels: Sequence[Kernel], dtype: str) -> str:
    """Return the source of the elementary functions that `kernels` call, or an empty string.

    `tl.exp` of float32 is an approximation whose error grows with the argument, and Triton has no
    tanh.
    """
    single = dtype == "float32"
    kind, whole = np.dtype(dtype).type, np.dtype("int32" if single else "int64")

    def literal(value: float) -> str:
        return number(float(kind(value)), dtype)

    def pattern(value: float) -> str:
        return hex(int(kind(value).view(whole)))

    def quotient(a: str, b: str) -> str:
        a, b = (x if single or x.isidentifier() or x == "1.0" else f"({x})" for x in (a, b))
        return f"tl.div_rn({a}, {b})" if single else f"{a} / {b}"

    view = elementary_view(kernels, dtype, literal)
    if view is None:
        return ""
    own = dict(
        real=f"tl.{dtype}",
        integer=f"tl.{whole}",
        rounding_constant_bits=pattern(elementary.rounding_constant(dtype)),
        root_half_bits=pattern(0.5**0.5),
        ln2_high=literal(elementary.ln2_high(dtype)),
        ln2_low=literal(LN2_LOW[dtype]),
        one_over=quotient("1.0", "1.0 + _neuron_exp(-x)"),
        tanh_quotient=quotient("minus", "2.0 + minus"),
        log_quotient=quotient("m - 1.0", "m + 1.0"),
    )
    return render("triton/math.py.j2", view | own)


def lines(kernel: Kernel, dialect: TritonDialect) -> tuple[str, ...]:
    """Return the body of `kernel` as Python statements."""
    return expr.statements(
        kernel.phases(), "#", lambda let: [f"{let.target.name} = {dialect.text(let.value)}"]
    )
