"""Elementary functions of a Triton module: the formulas of `c`, as Triton text.

`tl.exp` of float32 is an approximation whose error grows with the argument, and Triton has no
tanh.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial

import numpy as np

from lnm_codegen.backends.render import render
from lnm_codegen.backends.triton.expr import OWN, number
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Fn, Kernel


@dataclass(frozen=True, slots=True)
class _MathView:
    real: str
    exp: bool
    sigmoid: bool
    expm1: bool
    log: bool
    integer: str
    bias: int
    mantissa: int
    large: str
    large_bits: str
    log2e: str
    minus_ln2_high: str
    minus_ln2_low: str
    exp_coefficients: tuple[str, ...]
    exp_high: str
    exp_low: str
    tanh_high: str
    smallest_normal: str
    tiny_scale: str
    root_half_bits: str
    log_coefficients: tuple[str, ...]
    ln2_high: str
    ln2_low: str
    one_over: str
    tanh_quotient: str
    log_quotient: str


def math_functions(kernels: tuple[Kernel, ...], dtype: str) -> str:
    """Return the source of the elementary functions that `kernels` call, or an empty string."""
    values = (let.value for kernel in kernels for let in kernel.body)
    used = {node.fn for value in values for node in ir.walk(value) if isinstance(node, ir.Call)}
    if not used & set(OWN):
        return ""
    single = dtype == "float32"
    kind, whole = np.dtype(dtype).type, np.dtype("int32" if single else "int64")
    bits, degree, terms = (23, 8, 5) if single else (52, 14, 11)

    def literal(value: float) -> str:
        return number(float(kind(value)), dtype)

    def quotient(a: str, b: str) -> str:
        return (
            f"tl.div_rn({a}, {b})"
            if single
            else f"({a}) / ({b})".replace("(1.0)", "1.0").replace("(minus)", "minus")
        )

    def pattern(value: float) -> str:
        return hex(int(kind(value).view(whole)))

    view = _MathView(
        real=f"tl.{dtype}",
        exp=bool(used & {Fn.EXP, Fn.SIGMOID}),
        sigmoid=Fn.SIGMOID in used,
        expm1=Fn.TANH in used,
        log=Fn.LOG in used,
        integer=f"tl.{whole}",
        bias=127 if single else 1023,
        mantissa=bits,
        large=literal(1.5 * 2.0**bits),
        large_bits=pattern(1.5 * 2.0**bits),
        log2e=literal(1.4426950408889634),
        minus_ln2_high=literal(-float(kind(np.log(2)))),
        minus_ln2_low=literal(1.9046543e-9 if single else -2.3190468138462996e-17),
        exp_coefficients=tuple(literal(1 / factorial(k)) for k in range(degree - 1, 1, -1)),
        exp_high=literal(89.0 if single else 710.0),
        exp_low=literal(-104.0 if single else -746.0),
        tanh_high=literal(9.5 if single else 20.0),
        smallest_normal=literal(float(np.finfo(dtype).tiny)),
        tiny_scale=literal(2.0**bits),
        root_half_bits=pattern(0.5**0.5),
        log_coefficients=tuple(literal(1 / (2 * k + 1)) for k in range(terms, 0, -1)),
        ln2_high=literal(float(kind(np.log(2)))),
        ln2_low=literal(-1.9046543e-9 if single else 2.3190468138462996e-17),
        one_over=quotient("1.0", "1.0 + neuron_exp(-x)"),
        tanh_quotient=quotient("minus", "2.0 + minus"),
        log_quotient=quotient("m - 1.0", "m + 1.0"),
    )
    return render("triton/math.py.j2", view)
