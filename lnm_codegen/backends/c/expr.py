"""Printer of C, C++ and CUDA: literals, expressions, statements and elementary functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lnm_codegen.backends import expr
from lnm_codegen.backends.elementary import FUNCTIONS, LIBRARY, elementary_view
from lnm_codegen.backends.plan import ROLES
from lnm_codegen.backends.render import render
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import rounded
from lnm_codegen.ir.nodes import Const, Kernel, Let
from lnm_codegen.ir.types import BOOL


@dataclass(frozen=True, slots=True)
class CDialect(expr.Dialect):
    """The dialect for one float type, "float32" or "float64"."""

    dtype: str

    NOT: ClassVar[str] = "!"

    @property
    def real(self) -> str:
        """The C name of the type."""
        return c_type(self.dtype)

    @property
    def suffix(self) -> str:
        """Suffix of a literal and of a function of math.h."""
        return "f" if self.dtype == "float32" else ""

    def number(self, c: Const) -> str:
        """Return a literal."""
        value = rounded(c.value, self.dtype)
        if not np.isfinite(value):
            return "-HUGE_VAL" if value < 0 else "HUGE_VAL"
        return literal(value, self.dtype)

    def select(self, e: ir.Select) -> tuple[str, int]:
        """Return a select."""
        cond, then = expr.text(e.cond, self, expr.OR), expr.text(e.then, self, expr.OR)
        return f"{cond} ? {then} : {expr.text(e.orelse, self, expr.OR)}", expr.TERNARY

    def fma(self, e: ir.Fma) -> tuple[str, int]:
        """Return a fused multiply-add."""
        a, b, c = (expr.text(x, self) for x in (e.a, e.b, e.c))
        return f"fma{self.suffix}({a}, {b}, {c})", expr.CALL

    def call(self, e: ir.Call) -> tuple[str, int]:
        """Return a function call."""
        name = FUNCTIONS.get(e.fn) or LIBRARY[e.fn] + self.suffix
        return f"{name}({expr.text(e.arg, self)})", expr.CALL

    def spike(self, e: ir.Spike) -> tuple[str, int]:
        """Return the condition of a spike."""
        zero = literal(0.0, self.dtype)
        return f"{expr.text(e.arg, self, expr.SUM)} >= {zero}", expr.COMPARE


C_TYPES = {"float32": "float", "float64": "double"}


def c_type(dtype: str) -> str:
    """Return the C type of a number; numbers of 16 bits are passed as their bits."""
    return C_TYPES.get(dtype, "uint16_t")


def literal(value: Any, dtype: str) -> str:
    """Return the shortest literal that reads back as `value` in `dtype`."""
    with np.errstate(over="ignore"):
        text = str(np.dtype(dtype).type(value))
    if not any(mark in text for mark in ".en"):
        text += ".0"
    return text + ("f" if dtype == "float32" else "")


def math_functions(kernels: Sequence[Kernel], dtype: str) -> str:
    """Return the source of the elementary functions that `kernels` call, or an empty string."""

    def number(value: float) -> str:
        return literal(value, dtype)

    view = elementary_view(kernels, dtype, number)
    if view is None:
        return ""
    suffix, bits = ("f", 32) if dtype == "float32" else ("", 64)
    own = dict(
        word=f"uint{bits}_t",
        fma=f"fma{suffix}",
        copysign=f"copysign{suffix}",
        one=number(1.0),
        root_half=number(0.5**0.5),
    )
    return f"typedef int{bits}_t integer;\n" + render("c/math.h.j2", view | own)


def lines(kernel: Kernel, dialect: CDialect) -> tuple[str, ...]:
    """Return the body of `kernel` as C statements; its results are references."""
    results = kernel.result_names(*ROLES)

    def statement(let: Let) -> list[str]:
        kind = "const bool " if let.target.type is BOOL else "const real "
        declared = "" if let.target.name in results else kind
        return [f"{declared}{let.target.name} = {expr.text(let.value, dialect)};"]

    return expr.statements(kernel.phases(), "//", statement)
