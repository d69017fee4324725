"""Fixed-point kernels without their rounding: the same nodes, in real numbers.

`exact` drops Round, Saturate and Shift, so that a Let of the result is what the Let of that name
would be without the errors of its format. `nodes_of` names every node of a float program as
`quantize` would, Horner's partial results included.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any, assert_never

import numpy as np

from lnm_codegen.analysis.arithmetic.interval import rational
from lnm_codegen.compiler.arguments import parameters_of
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.fixed.quantize import quantize
from lnm_codegen.ir.fixed.spec import FixedSpec
from lnm_codegen.ir.granularity import Extent
from lnm_codegen.ir.interpret import run
from lnm_codegen.ir.operators import BinaryOp, Role, UnaryOp
from lnm_codegen.ir.types import BOOL, REAL, Bits, Fixed
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.validation import did_you_mean

_WIDE = FixedSpec(Fixed(30, 0))
"""Any format names the nodes; this one holds constants up to 2**29."""


@lru_cache(maxsize=256)
def nodes_of(program: ir.Program) -> ir.Kernel:
    """Return the forward kernel with a Let for every node that `quantize` would make.

    A step that has no fixed-point form (a function, a division) is returned as it is.
    """
    try:
        return exact(quantize(program, _WIDE).kernel)
    except (UnsupportedError, ModelError):
        return program.forward


def exact(kernel: fx.Kernel, *, rounded_constants: bool = False) -> ir.Kernel:
    """Return the kernel in real numbers.

    Args:
        kernel: What `quantize` made.
        rounded_constants: Take each constant as its integer says, not as its author did.
    """

    def real(e: fx.Expr) -> ir.Expr:
        match e:
            case fx.Const(integer, bits, value):
                return ir.Const(bits.value(integer) if rounded_constants else value)
            case fx.Var(name, type_):
                return ir.Var(name, REAL if isinstance(type_, Bits) else BOOL)
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
    neuron: Neuron, values: Mapping[str, Any] | None = None, scheme: str = "horner"
) -> dict[str, Fraction]:
    """Return what the step takes of the parameters, exactly as `prepare` computes it in float64.

    Args:
        neuron: The definition.
        values: Parameters by name, one value each (of one channel, say); the declared `init`
            otherwise.
        scheme: "horner" or "estrin".

    Raises:
        ModelError: No such parameter, or one that is not finite.
        ShapeError: More than one value, or none that are numbers.
    """
    raw = parameters_of(neuron, values or {}, Extent(1, 1, 1), np.dtype("float64"))
    found = run(lower(neuron, scheme).prepare, raw, np.float64)
    numbers = {name: float(np.asarray(v).reshape(-1)[0]) for name, v in found.items()}
    return {name: rational(f"{neuron.name}: parameter {name!r}", v) for name, v in numbers.items()}


def parameters_for(
    name: str, kernel: ir.Kernel | fx.Kernel, given: Mapping[str, Any]
) -> dict[str, Fraction]:
    """Return the prepared parameters that a kernel takes, from what a user gave by name.

    Raises:
        ModelError: One that is missing, or not a finite number.
    """
    wanted = [p.var.name for p in kernel.inputs if p.role is Role.PARAM]
    for word in wanted:
        if word not in given:
            raise ModelError(
                f"{name}: no value for parameter {word!r}. Given: {', '.join(given) or 'none'}."
                f"{did_you_mean(word, given)}"
            )
    return {n: rational(f"{name}: parameter {n!r}", given[n]) for n in wanted}
