"""Polynomials as sums of products; every other operator on atoms."""

from __future__ import annotations

from dataclasses import replace

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.names import names_of
from lnm_codegen.ir.nodes import Expr, Kernel, Let, Phase, Role, Var
from lnm_codegen.ir.polynomial import Reader, is_polynomial, write
from lnm_codegen.ir.types import REAL


def collect(kernel: Kernel, *, in_params: bool = False) -> Kernel:
    """Split each Let into polynomials, written as sums of products, and single operators.

    Polynomials are taken in everything but parameters, whose expressions are the coefficients;
    with `in_params` (for `prepare`, which has nothing else) in the parameters too.
    Leaves: the operands of every other operator are Vars, Consts or expressions of parameters.
    Keeps: ports, results, the value of every Let at finite arguments up to rounding.
    """
    pass_ = _Collect(kernel, frozenset() if in_params else params_of(kernel))
    for let in kernel.body:
        pass_.let(let)
    return replace(kernel, body=tuple(pass_.body))


def params_of(kernel: Kernel) -> frozenset[Var]:
    """Return the parameters that `kernel` takes."""
    return frozenset(p.var for p in kernel.inputs if p.role is Role.PARAM)


class _Collect:
    def __init__(self, kernel: Kernel, params: frozenset[Var]) -> None:
        self.body: list[Let] = []
        self._names = names_of(kernel)
        self._params = set(params)
        self._known: dict[Expr, Var] = {}
        self._phase = Phase.CHARGE

    def let(self, let: Let) -> None:
        self._phase = let.phase
        value = self._value(let.value)
        self.body.append(replace(let, value=value))
        self._known.setdefault(value, let.target)
        if self._is_decided(value) and let.target.type is REAL:  # a spike stays in the step
            self._params.add(let.target)

    def _value(self, e: Expr) -> Expr:
        if ir.is_atom(e) or self._is_decided(e):
            return e
        if is_polynomial(e):
            return write(Reader(lambda v: v in self._params, self._atom).read(e))
        if isinstance(e, ir.Spike):
            return replace(e, arg=self._operand(e.arg))
        return ir.map_children(e, self._operand)

    def _is_decided(self, e: Expr) -> bool:
        return bool(self._params) and ir.variables(e) <= self._params

    def _operand(self, e: Expr) -> Expr:
        if ir.is_atom(e) or self._is_decided(e):
            return e
        return self._atom(e)

    def _atom(self, e: Expr) -> Var:
        value = self._value(e)
        if isinstance(value, Var):
            return value
        if value not in self._known:
            target = Var(self._names.temporary(), ir.type_of(value))
            self.body.append(Let(target, value, self._phase))
            self._known[value] = target
        return self._known[value]
