"""Constants of the elementary functions exp, log, tanh and sigmoid.

All targets that define these functions use the same formulas. Errors are a few units in the last
place; infinities and NaN are those of libm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import factorial

import numpy as np

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Fn, Kernel

FUNCTIONS = {
    Fn.EXP: "elementary_exp", Fn.LOG: "elementary_log", Fn.TANH: "elementary_tanh",
    Fn.SIGMOID: "elementary_sigmoid",
}  # fmt: skip
"""The functions, by their names in generated C; Triton has its own."""

LIBRARY = {Fn.SQRT: "sqrt", Fn.SIN: "sin", Fn.COS: "cos"}
"""The other functions of the IR, by their names in math.h and `triton.language`."""

LN2_LOW = {"float32": -1.9046543e-9, "float64": 2.3190468138462996e-17}
"""ln(2) minus its nearest value of the type."""


def elementary_view(
    kernels: Sequence[Kernel], dtype: str, number: Callable[[float], str]
) -> dict[str, object] | None:
    """Return the template view of the elementary functions, or None if no kernel calls one.

    Args:
        kernels: Kernels that are printed.
        dtype: "float32" or "float64".
        number: A float to a literal of the type.
    """
    values = [let.value for kernel in kernels for let in kernel.body]
    used = {node.fn for value in values for node in ir.walk(value) if isinstance(node, ir.Call)}
    if not used & set(FUNCTIONS):
        return None
    single = dtype == "float32"
    mantissa, exp_degree, terms = (23, 7, 5) if single else (52, 13, 11)
    return dict(
        exp=bool(used & {Fn.EXP, Fn.SIGMOID}),
        sigmoid=Fn.SIGMOID in used,
        expm1=Fn.TANH in used,
        log=Fn.LOG in used,
        bias=127 if single else 1023,
        mantissa=mantissa,
        rounding_constant=number(rounding_constant(dtype)),
        log2e=number(1.4426950408889634),
        minus_ln2_high=number(-ln2_high(dtype)),
        minus_ln2_low=number(-LN2_LOW[dtype]),
        exp_coefficients=tuple(number(1 / factorial(k)) for k in range(exp_degree, 1, -1)),
        exp_high=number(89.0 if single else 710.0),
        exp_low=number(-104.0 if single else -746.0),
        tanh_high=number(9.5 if single else 20.0),
        smallest_normal=number(float(np.finfo(dtype).tiny)),
        tiny_scale=number(2.0**mantissa),
        log_coefficients=tuple(number(1 / (2 * k + 1)) for k in range(terms, 0, -1)),
    )


def ln2_high(dtype: str) -> float:
    """Return the value of the type nearest to ln(2)."""
    return float(np.dtype(dtype).type(np.log(2)))


def rounding_constant(dtype: str) -> float:
    """Return the constant C for which (x + C) - C rounds x to an integer."""
    return 1.5 * 2.0 ** (23 if dtype == "float32" else 52)
