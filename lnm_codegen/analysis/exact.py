"""Fixed-point kernels without their rounding: the same nodes, in real numbers.

`exact` drops Round, Saturate and Shift, so that each Let has the value it would have without the
errors of its format. `nodes_of` names every node of a float program as `quantize` does, including
Horner's partial results.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any, assert_never

import numpy as np

from lnm_codegen.analysis.interval import rational
from lnm_codegen.compiler.arguments import parameters_of
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.declarations import Extent
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.fixed.quantize import WIDE, quantize
from lnm_codegen.ir.interpret import run
from lnm_codegen.ir.kernel import Role
from lnm_codegen.ir.nodes import BinaryOp, UnaryOp
from lnm_codegen.ir.types import BOOL, REAL, Bits
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.options import SchemeName
from lnm_codegen.validation import did_you_mean


@lru_cache(maxsize=256)
def nodes_of(program: ir.Program) -> ir.Kernel:
    """Return the forward kernel with a Let for every node of `quantize`, if that accepts it."""
    try:
        return exact(quantize(program, WIDE).kernel)
    except (UnsupportedError, ModelError):
        return program.forward


def exact(kernel: fx.Kernel, *, rounded_constants: bool = False) -> ir.Kernel:
    """Return a kernel from `quantize` in real numbers.

    With `rounded_constants` each constant has the value of its integer, else its declared value.
    """

    def real(e: fx.Expr) -> ir.Expr:
        match e:
            case fx.Const(integer, bits, value):
                return ir.Const(bits.value(integer) if rounded_constants else value)
            case fx.Var():
                return var(e)
            case fx.Negate(arg):
                return ir.neg(real(arg))
            case fx.Sum(op, lhs, rhs):
                return (ir.add if op is SumOp.ADD else ir.sub)(real(lhs), real(rhs))
            case fx.Product(lhs, rhs):
                return ir.mul(real(lhs), real(rhs))
            case fx.Shift(arg, _) | fx.Round(arg, _, _) | fx.Saturate(arg, _):
                return real(arg)
            case fx.Compare(compare, lhs, rhs):
                return ir.Compare(compare, real(lhs), real(rhs))
            case fx.Not(arg):
                return ir.Unary(UnaryOp.NOT, real(arg))
            case fx.Both(lhs, rhs):
                return ir.Binary(BinaryOp.AND, real(lhs), real(rhs))
            case fx.Either(lhs, rhs):
                return ir.Binary(BinaryOp.OR, real(lhs), real(rhs))
            case fx.Select(cond, then, orelse):
                return ir.Select(real(cond), real(then), real(orelse))
            case _:
                assert_never(e)

    def var(v: fx.Var) -> ir.Var:
        return ir.Var(v.name, REAL if isinstance(v.type, Bits) else BOOL)

    return ir.Kernel(
        kernel.name,
        tuple(ir.Port(var(p.var), p.role) for p in kernel.inputs),
        tuple(ir.Let(var(let.target), real(let.value), let.phase) for let in kernel.body),
        tuple(ir.Port(var(p.var), p.role) for p in kernel.results),
    )


def prepared_parameters(
    neuron: Neuron, values: Mapping[str, Any] | None = None, scheme: SchemeName = "horner"
) -> dict[str, Fraction]:
    """Return the prepared parameters of the step, exactly as `prepare` computes them in float64.

    `values` are parameters by name, one value each; the declared `init` otherwise.

    Raises:
        ModelError: A parameter is unknown or not finite.
        ShapeError: A parameter has more than one value, or is not numeric.
    """
    raw = parameters_of(neuron, values or {}, Extent(1, 1, 1), np.dtype("float64"))
    found = run(lower(neuron, scheme).prepare, raw, np.float64)
    numbers = {name: float(np.asarray(v).reshape(-1)[0]) for name, v in found.items()}
    return {n: rational(neuron.name, f"parameter {n!r}", v) for n, v in numbers.items()}


def parameters_for(
    name: str, kernel: ir.Kernel | fx.Kernel, given: Mapping[str, Any]
) -> dict[str, Fraction]:
    """Return the given values of a kernel's prepared parameters, or raise ModelError."""
    names = kernel.input_names(Role.PARAM)
    for word in names:
        if word not in given:
            accepted = f"a value for each of {', '.join(names)}"
            remedy = did_you_mean(word, given)
            raise ModelError(name, f"no value for parameter {word!r}", accepted, remedy)
    return {n: rational(name, f"parameter {n!r}", given[n]) for n in names}
