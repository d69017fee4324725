"""Ranges of every node of a step, for states, inputs and parameters in given intervals.

    node = sum of polynomials of independent variables      exact: critical points, end points
    node = select(c, a, b)                                  hull of a where c, b where not c
    any other node                                          interval arithmetic in rationals

Ranges are those of exact arithmetic; `error_bounds` adds the effect of rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import reduce
from operator import mul
from typing import Any, TypeAlias

from lnm_codegen.analysis.arithmetic.functions import applied, divided
from lnm_codegen.analysis.arithmetic.interval import Interval, hull, interval_of, meet, point
from lnm_codegen.analysis.exact import exact, nodes_of, prepared_parameters
from lnm_codegen.analysis.symbolic import symbolic
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.operators import BinaryOp, Role, UnaryOp
from lnm_codegen.ir.types import BOOL
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.options import SchemeName
from lnm_codegen.validation import require_known

Given: TypeAlias = Mapping[str, Any]
"""Name -> (low, high), a number, or an Interval."""


def ranges(
    of: Neuron | ir.Program | fx.Program,
    *,
    states: Given,
    inputs: Given,
    values: Mapping[str, Any] | None = None,
    scheme: SchemeName = "horner",
) -> dict[str, Interval]:
    """Return the range of every port and node of a forward step.

    Args:
        of: A neuron, or a program from `lnm.lower` or `lnm.quantize`. The last is taken without
            its rounding.
        states: State -> (low, high) before the step.
        inputs: Input -> (low, high).
        values: Parameters by name. For a neuron they are the declared ones, its `init` otherwise;
            for a program they are those of `prepare`, as numbers or intervals.
        scheme: "horner" or "estrin", for a neuron.

    Returns:
        Name -> interval: the inputs of the kernel, then its Lets in order, with the names of
        `quantize`. A condition is in [0, 1].

    Raises:
        ModelError: A name is missing or unknown, or an interval is not finite or its low exceeds
            its high.
        UnsupportedError: A function is not monotone, or is outside its domain.
    """
    kernel = kernel_of(of, scheme)
    box = checked(of.name, kernel, Role.STATE, states)
    box |= checked(of.name, kernel, Role.INPUT, inputs)
    if isinstance(of, Neuron):
        box |= {n: point(v) for n, v in prepared_parameters(of, values, scheme).items()}
    else:
        box |= checked(of.name, kernel, Role.PARAM, values or {}, others=True)
    return kernel_ranges(kernel, box)


def kernel_of(of: Neuron | ir.Program | fx.Program, scheme: SchemeName = "horner") -> ir.Kernel:
    """Return the kernel with the nodes of `quantize`."""
    if isinstance(of, fx.Program):
        return exact(of.kernel)
    return nodes_of(lower(of, scheme) if isinstance(of, Neuron) else of)


def checked(
    where: str, kernel: ir.Kernel, role: Role, given: Given, *, others: bool = False
) -> dict[str, Interval]:
    """Return an interval of each input of a role, or raise ModelError; `others` admits names."""
    names = kernel.input_names(role)
    for name in () if others else given:
        require_known(where, role.value, name, names)
    for name in names:
        if name not in given:
            problem = f"no interval for {role.value} {name!r}"
            raise ModelError(
                where, problem, remedy=f"Give {name} = (low, high); in text, {name}=LOW,HIGH."
            )
    return {n: interval_of(where, f"{role.value} {n!r}", given[n]) for n in names}


def kernel_ranges(kernel: ir.Kernel, box: Mapping[str, Interval]) -> dict[str, Interval]:
    """Return the range of every input and Let of a kernel over a box of its inputs."""
    found = symbolic(kernel, box)
    table = {p.var.name: box[p.var.name] for p in kernel.inputs}
    for let in kernel.body:
        name = let.target.name
        table[name] = found.range(name)
        if not table[name].tight and let.target.type is not BOOL:
            with suppress(UnsupportedError):  # independent operands may leave a domain
                operands = from_operands(let.value, table, f"{kernel.name}, {name}")
                table[name] = (meet(table[name], operands) or table[name]).shortened()
    return table


def from_operands(e: ir.Expr, table: Mapping[str, Interval], where: str) -> Interval:
    """Return interval arithmetic on the operands of an expression: outward, not tight."""

    def of(child: ir.Expr) -> Interval:
        return from_operands(child, table, where)

    match e:
        case ir.Const(value, _):
            return point(value)
        case ir.Var(name, _):
            return table[name]
        case ir.Unary(UnaryOp.NEG, arg):
            return -of(arg)
        case ir.Detach(arg):
            return of(arg)
        case ir.Binary(BinaryOp.ADD, lhs, rhs):
            result = of(lhs) + of(rhs)
        case ir.Binary(BinaryOp.SUB, lhs, rhs):
            result = of(lhs) - of(rhs)
        case ir.Binary(BinaryOp.MUL, lhs, rhs):
            result = of(lhs) * of(rhs)
        case ir.Binary(BinaryOp.DIV, lhs, rhs):
            result = divided(of(lhs), of(rhs), where)
        case ir.Fma(a, b, c):
            result = of(a) * of(b) + of(c)
        case ir.Power(base, exponent):
            result = reduce(mul, [of(base)] * exponent)
        case ir.Select(_, then, orelse):
            result = hull((of(then), of(orelse)))
        case ir.Call(fn, arg):
            result = applied(fn, of(arg), where)
        case _:  # a condition as a number
            result = Interval(ir.ZERO.value, ir.ONE.value)
    return result.loose()
