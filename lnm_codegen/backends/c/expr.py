"""C, C++ and CUDA expressions: literals that read back, selects, fused multiply-adds, functions."""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial
from typing import Any, ClassVar

import numpy as np

from lnm_codegen.backends import expr
from lnm_codegen.backends.render import render
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import rounded
from lnm_codegen.ir.nodes import BinaryOp, Const, Fn, Kernel, UnaryOp
from lnm_codegen.ir.types import BOOL

_OWN = {Fn.EXP: "neuron_exp", Fn.LOG: "neuron_log", Fn.TANH: "neuron_tanh",
        Fn.SIGMOID: "neuron_sigmoid"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CDialect:
    """The dialect for one float type, "float32" or "float64"."""

    dtype: str

    symbols: ClassVar[dict[BinaryOp | UnaryOp, str]] = {
        BinaryOp.ADD: "+", BinaryOp.SUB: "-", BinaryOp.MUL: "*", BinaryOp.DIV: "/",
        BinaryOp.AND: "&", BinaryOp.OR: "|", UnaryOp.NEG: "-", UnaryOp.NOT: "!",
    }  # fmt: skip

    @property
    def real(self) -> str:
        """The C name of the type."""
        return c_type(self.dtype)

    @property
    def suffix(self) -> str:
        """What a literal, and a function of math.h, ends in."""
        return "f" if self.dtype == "float32" else ""

    def number(self, c: Const) -> str:
        """Write a literal."""
        value = rounded(c.value, self.dtype)
        if not np.isfinite(value):
            return "-HUGE_VAL" if value < 0 else "HUGE_VAL"
        return literal(value, self.dtype)

    def select(self, e: ir.Select) -> tuple[str, int]:
        """Write a select."""
        cond, then = expr.text(e.cond, self, expr.OR), expr.text(e.then, self, expr.OR)
        return f"{cond} ? {then} : {expr.text(e.orelse, self, expr.OR)}", expr.TERNARY

    def fma(self, e: ir.Fma) -> tuple[str, int]:
        """Write a fused multiply-add."""
        a, b, c = (expr.text(x, self) for x in (e.a, e.b, e.c))
        return f"fma{self.suffix}({a}, {b}, {c})", expr.CALL

    def call(self, e: ir.Call) -> tuple[str, int]:
        """Write a function call."""
        name = _OWN.get(e.fn, f"{e.fn.value}{self.suffix}")
        return f"{name}({expr.text(e.arg, self)})", expr.CALL

    def spike(self, e: ir.Spike) -> tuple[str, int]:
        """Write whether a spike is fired."""
        zero = literal(0.0, self.dtype)
        return f"{expr.text(e.arg, self, expr.SUM)} >= {zero}", expr.COMPARE

    def detach(self, e: ir.Detach) -> tuple[str, int]:
        """Write the operand of a Detach."""
        return expr.text(e.arg, self, expr.CALL), expr.CALL


C_TYPES = {"float32": "float", "float64": "double"}


def c_type(dtype: str) -> str:
    """Return the C type that holds a number; those of 16 bits are passed as their bits."""
    return C_TYPES.get(dtype, "uint16_t")


def literal(value: Any, dtype: str) -> str:
    """Return the shortest literal that reads back as `value` in `dtype`."""
    with np.errstate(over="ignore"):
        text = str(np.dtype(dtype).type(value))
    if not any(mark in text for mark in ".en"):
        text += ".0"
    return text + ("f" if dtype == "float32" else "")


@dataclass(frozen=True, slots=True)
class _MathView:
    exp: bool
    sigmoid: bool
    expm1: bool
    log: bool
    fma: str
    copysign: str
    bias: int
    mantissa: int
    one: str
    large: str
    log2e: str
    minus_ln2_high: str
    minus_ln2_low: str
    exp_coefficients: tuple[str, ...]
    exp_high: str
    exp_low: str
    tanh_high: str
    smallest_normal: str
    tiny_scale: str
    tiny_exponent: int
    root_half: str
    log_coefficients: tuple[str, ...]


def math_functions(kernels: tuple[Kernel, ...], dtype: str) -> str:
    """Return the source of the elementary functions that `kernels` call, or an empty string."""
    used = {
        node.fn
        for kernel in kernels
        for let in kernel.body
        for node in ir.walk(let.value)
        if isinstance(node, ir.Call)
    }
    if not used & set(_OWN):
        return ""
    single = dtype == "float32"
    bits, degree, terms = (23, 8, 5) if single else (52, 14, 11)
    high = float(np.dtype(dtype).type(np.log(2)))
    low = -1.9046543e-9 if single else 2.3190468138462996e-17

    def number(value: float) -> str:
        return literal(value, dtype)

    view = _MathView(
        exp=bool(used & {Fn.EXP, Fn.SIGMOID}),
        sigmoid=Fn.SIGMOID in used,
        expm1=Fn.TANH in used,
        log=Fn.LOG in used,
        fma="fmaf" if single else "fma",
        copysign="copysignf" if single else "copysign",
        bias=127 if single else 1023,
        mantissa=bits,
        one=number(1.0),
        large=number(1.5 * 2.0**bits),
        log2e=number(1.4426950408889634),
        minus_ln2_high=number(-high),
        minus_ln2_low=number(-low),
        exp_coefficients=tuple(number(1 / factorial(k)) for k in range(degree - 1, 1, -1)),
        exp_high=number(89.0 if single else 710.0),
        exp_low=number(-104.0 if single else -746.0),
        tanh_high=number(9.5 if single else 20.0),
        smallest_normal=number(float(np.finfo(dtype).tiny)),
        tiny_scale=number(2.0**bits),
        tiny_exponent=bits,
        root_half=number(0.5**0.5),
        log_coefficients=tuple(number(1 / (2 * k + 1)) for k in range(terms, 0, -1)),
    )
    integer = "typedef int32_t integer;\n" if single else "typedef int64_t integer;\n"
    return integer + render("c/math.h.j2", view)


def lines(kernel: Kernel, dialect: CDialect, results: tuple[str, ...]) -> tuple[str, ...]:
    """Return the body of `kernel` as C statements; `results` are references, not declared here."""
    written: list[str] = []
    phase = None
    for let in kernel.body:
        if let.phase is not phase and let.phase is not ir.Phase.PREPARE:
            written.append(f"// {let.phase.value}")
        phase = let.phase
        value = expr.text(let.value, dialect)
        name = let.target.name
        if name in results:
            written.append(f"{name} = {value};")
        else:
            kind = "const bool" if let.target.type is BOOL else "const real"
            written.append(f"{kind} {name} = {value};")
    return tuple(written)
