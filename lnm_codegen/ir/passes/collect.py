"""Polynomials as sums of products; a Let for every other operator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.names import names_of
from lnm_codegen.ir.nodes import Expr, Kernel, Let, Phase, Role, Var
from lnm_codegen.ir.polynomial import PolynomialReader, is_polynomial, write
from lnm_codegen.ir.types import REAL


def collect(kernel: Kernel, *, in_params: bool = False) -> Kernel:
    """Split each Let into polynomials, written as sums of products, and single operators.

    Coefficients are expressions of parameters. With `in_params`, for `prepare`, parameters are
    variables of the polynomials too.
    Leaves: the operands of every other operator are Vars, Consts or expressions of parameters.
    Keeps: ports, results, the value of every Let at finite arguments up to rounding.
    """
    pass_ = _Collect(kernel, () if in_params else kernel.input_vars(Role.PARAM))
    for let in kernel.body:
        pass_.let(let)
    return replace(kernel, body=tuple(pass_.body))


class _Collect:
    def __init__(self, kernel: Kernel, params: Iterable[Var]) -> None:
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
        if self._is_prepared(value) and let.target.type is REAL:  # a spike stays in the step
            self._params.add(let.target)

    def _value(self, e: Expr) -> Expr:
        if ir.is_atom(e) or self._is_prepared(e):
            return e
        if is_polynomial(e):
            return write(PolynomialReader(lambda v: v in self._params, self._atom).read(e))
        return ir.map_children(e, self._operand)

    def _is_prepared(self, e: Expr) -> bool:
        return bool(self._params) and ir.variables(e) <= self._params

    def _operand(self, e: Expr) -> Expr:
        return e if ir.is_atom(e) or self._is_prepared(e) else self._atom(e)

    def _atom(self, e: Expr) -> Var:
        value = self._value(e)
        if isinstance(value, Var):
            return value
        if value not in self._known:
            target = Var(self._names.temporary(), ir.type_of(value))
            self.body.append(Let(target, value, self._phase))
            self._known[value] = target
        return self._known[value]
