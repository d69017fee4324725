"""Reverse-mode differentiation of a kernel, as another kernel.

For a Let y = e(u, ...) with adjoint grad_y, every u receives grad_y * de/du:

    polynomial           grad times the derivative, a Let of its own if it has several terms
    select(c, a, b)      a: select(c, grad, 0)   b: select(c, 0, grad)
                         c, where it is a spike: grad * (a - b)
    spike(z; slope)      z: grad * slope
    detach(e)            nothing
    a / b                a: grad / b             b: -(grad / b) * y
    exp log sqrt ...     grad times the derivative, in terms of y where that is cheaper
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from functools import reduce
from typing import assert_never

from lnm_codegen.errors import InternalError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.kernel import names_of
from lnm_codegen.ir.nodes import (
    BinaryOp,
    Expr,
    Fn,
    Kernel,
    Let,
    Phase,
    Port,
    Role,
    UnaryOp,
    Var,
    spikes_of,
)
from lnm_codegen.ir.passes.polynomials import Nested, nested_form
from lnm_codegen.ir.polynomial import PolynomialReader, derivative, is_polynomial, product, write
from lnm_codegen.ir.types import BOOL

_LONGEST_SUM = 32
"""Terms of a gradient in one Let. The passes take more than linear time in the size of a Let."""


def backward(
    kernel: Kernel,
    *,
    seed: str = "grad_",
    nested: Set[Var] = frozenset(),
    constant: Set[str] = frozenset(),
) -> Kernel:
    """Return the adjoint of a kernel that `collect` has split.

    Takes: the inputs of `kernel` and, as GRAD ports `<seed><result>`, a gradient per result.
    Gives: `grad_<input>` for each input that is not `constant`. The body begins with the Lets of
    `kernel`; each Detach becomes its operand. Derivatives of the polynomials of `nested` read the
    sums of `nest`.
    """
    return _Backward(kernel, seed, nested).run(constant)


class _Backward:
    def __init__(self, kernel: Kernel, seed: str, nested: Set[Var]) -> None:
        self._kernel = kernel
        self._seed = seed
        self._names = names_of(kernel)
        self._spikes = spikes_of(kernel)
        self._terms: dict[Var, list[Expr]] = {}
        self._nested: dict[Var, Nested] = {}
        self._body: list[Let] = []
        for let in kernel.body:
            if let.target in nested:
                self._nested[let.target] = nested_form(kernel, let, self._names)
                self._body += self._nested[let.target].lets
            else:
                value = let.value.arg if isinstance(let.value, ir.Detach) else let.value
                self._body.append(replace(let, value=value))

    def run(self, constant: Set[str]) -> Kernel:
        kernel = self._kernel
        seeds = []
        for port in (p for p in kernel.results if p.role is not Role.COUNT):
            grad = Var(self._names.fresh(f"{self._seed}{port.var.name}"))
            seeds.append(Port(grad, Role.GRAD))
            self._terms.setdefault(port.var, []).append(grad)
        for let in reversed(kernel.body):
            self._reverse(let)
        results = []
        for port in (p for p in kernel.inputs if p.var.name not in constant):
            total = self._total(port.var)
            grad = self._let(f"grad_{port.var.name}", ir.ZERO if total is None else total)
            results.append(Port(grad, port.role))
        inputs = (*kernel.inputs, *seeds)
        return Kernel(f"{kernel.name}_backward", inputs, tuple(self._body), tuple(results))

    def _let(self, wanted: str, value: Expr) -> Var:
        target = Var(self._names.fresh(wanted))
        self._body.append(Let(target, value, Phase.ADJOINT))
        return target

    def _total(self, var: Var) -> Expr | None:
        terms = self._terms.get(var)
        return reduce(ir.add, terms) if terms else None

    def _accumulate(self, atom: Expr, term: Expr) -> None:
        """Add a term to the gradient of a variable, or of the variable that `atom` negates."""
        match atom:
            case ir.Unary(UnaryOp.NEG, arg):
                self._accumulate(arg, ir.neg(term))
            case Var() as var:
                terms = self._terms.setdefault(var, [])
                terms.append(term)
                if len(terms) >= _LONGEST_SUM:
                    self._terms[var] = [self._let(f"grad_{var.name}_part", reduce(ir.add, terms))]
            case ir.Const():
                pass
            case _:
                raise InternalError("backward", f"the operand {atom} is no atom")

    def _reverse(self, let: Let) -> None:
        total = self._total(let.target)
        if total is None or isinstance(let.value, ir.Const | ir.Detach):
            return
        if isinstance(let.value, Var):  # a copy passes its gradient on
            self._accumulate(let.value, total)
            return
        grad = total if isinstance(total, Var) else self._let(f"grad_{let.target.name}", total)
        match let.value:
            case ir.Spike(arg, slope):
                if not ir.is_atom(slope):
                    slope = self._let(f"slope_{let.target.name}", slope)
                self._accumulate(arg, _scaled(grad, slope))
            case ir.Select(cond, then, orelse):
                self._select(grad, cond, then, orelse)
            case ir.Binary(BinaryOp.DIV, a, b):
                quotient = self._let(f"grad_{let.target.name}_div", ir.div(grad, b))
                self._accumulate(a, quotient)
                self._accumulate(b, ir.neg(ir.mul(quotient, let.target)))
            case ir.Call(fn, arg):
                self._accumulate(arg, _call(fn, grad, arg, let.target))
            case ir.Compare() | ir.Unary(UnaryOp.NOT, _) | ir.Binary(BinaryOp.AND | BinaryOp.OR):
                pass
            case value if is_polynomial(value):
                self._polynomial(let.target, grad, value)
            case value:
                raise InternalError("backward", f"no rule for {type(value).__name__}")

    def _select(self, grad: Expr, cond: Expr, then: Expr, orelse: Expr) -> None:
        self._accumulate(then, ir.Select(cond, grad, ir.ZERO))
        self._accumulate(orelse, ir.Select(cond, ir.ZERO, grad))
        if isinstance(cond, Var) and self._spikes.get(cond) is not None:
            self._accumulate(cond, _scaled(grad, _difference(then, orelse)))

    def _polynomial(self, target: Var, grad: Expr, value: Expr) -> None:
        p = PolynomialReader(lambda v: v.type is BOOL).read(value)
        for var in dict.fromkeys(v for monomial in p for v, _ in monomial):
            terms = derivative(p, var)
            factor, *others = (product(c, monomial) for monomial, c in terms.items())
            if others:
                form = self._nested.get(target)
                slope = form.derivative(var) if form else write(terms)
                factor = self._let(f"d{target.name}_d{var.name}", slope)
            self._accumulate(var, _scaled(grad, factor))


def _scaled(grad: Expr, factor: Expr) -> Expr:
    match factor:
        case ir.Const(value=one) if one == 1:
            return grad
        case ir.Const(value=minus_one) if minus_one == -1:
            return ir.neg(grad)
        case ir.Unary(UnaryOp.NEG, arg):
            return ir.neg(_scaled(grad, arg))
        case _:
            return ir.mul(grad, factor)


def _difference(a: Expr, b: Expr) -> Expr:
    if b == ir.ZERO:
        return a
    if a == ir.ZERO:
        return ir.neg(b)
    if isinstance(a, ir.Const) and isinstance(b, ir.Const):
        return ir.Const(a.value - b.value)
    return ir.sub(a, b)


def _call(fn: Fn, grad: Expr, x: Expr, y: Expr) -> Expr:
    """Return grad * dfn(x)/dx, where y = fn(x)."""
    match fn:
        case Fn.EXP:
            return ir.mul(grad, y)
        case Fn.LOG:
            return ir.div(grad, x)
        case Fn.SQRT:
            return ir.div(grad, ir.add(y, y))
        case Fn.TANH:
            return ir.mul(grad, ir.sub(ir.ONE, ir.mul(y, y)))
        case Fn.SIGMOID:
            return ir.mul(grad, ir.mul(y, ir.sub(ir.ONE, y)))
        case Fn.SIN:
            return ir.mul(grad, ir.Call(Fn.COS, x))
        case Fn.COS:
            return ir.neg(ir.mul(grad, ir.Call(Fn.SIN, x)))
        case _:
            assert_never(fn)
