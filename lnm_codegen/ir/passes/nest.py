"""Polynomials of several variables as the nested sums of Horner's scheme.

    h = a + b*v + c*w + d*v*w + e*v**2    becomes    t0 = b + d*w + e*v
                                                     h = a + c*w + v*t0

If the adjoint computes h, the derivatives of h may read these sums, by the product rule:

    dh/dv = t0 + v*e                      instead of    b + d*w + 2*e*v
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from fractions import Fraction

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.count import count
from lnm_codegen.ir.names import Names, names_of
from lnm_codegen.ir.nodes import Expr, Kernel, Let, Role, Var
from lnm_codegen.ir.polynomial import Poly, PolynomialReader, derivative, is_polynomial, write

_UNITS = (ir.ONE, ir.Const(Fraction(-1)))


def nest(kernel: Kernel, targets: Set[Var]) -> Kernel:
    """Give each nested sum of the polynomials of `targets` a Let.

    Keeps: ports, results, the value of every Let at finite arguments up to rounding.
    """
    if not targets:
        return kernel
    names = names_of(kernel)
    body: list[Let] = []
    for let in kernel.body:
        body += nested_form(kernel, let, names).lets if let.target in targets else (let,)
    return replace(kernel, body=tuple(body))


def worth_nesting(kernel: Kernel, adjoint: Callable[[Set[Var]], Kernel]) -> Set[Var]:
    """Return the targets of polynomials whose nested sums save multiplications in the adjoint.

    Args:
        kernel: A step that `collect` has split.
        adjoint: Returns the final adjoint, if the polynomials of these targets are nested.
    """
    chosen: frozenset[Var] = frozenset()
    candidates = [let.target for let in kernel.body if _multiplies_variables(kernel, let)]
    if not candidates:
        return chosen
    plain = adjoint(chosen)
    least = _multiplications(plain)
    computed = {let.target for let in plain.body}
    for target in (t for t in candidates if t in computed):
        reached = _multiplications(adjoint(chosen | {target}))
        if reached < least:
            chosen, least = chosen | {target}, reached
    return chosen


def _multiplications(kernel: Kernel) -> int:
    operations = count(kernel)
    return operations.multiplications + operations.fused


@dataclass(frozen=True, slots=True)
class Nested:
    """A polynomial as Lets: the nested sums, each before its readers, then the target."""

    lets: tuple[Let, ...]

    def derivative(self, var: Var) -> Expr:
        """Return the derivative of the target with respect to `var`, in terms of the sums.

        A sum a + v*t + w*u has the derivative da + v*dt + w*du, plus t if `var` is v.
        """
        slopes: dict[Var, Expr] = {}
        for let in self.lets:
            p = _in_all_variables(let.value)
            direct = derivative(p, var)
            total = write(direct) if direct else None
            for sum_ in [u for monomial in p for u, _ in monomial if u in slopes]:
                term = ir.mul(slopes[sum_], write(derivative(p, sum_)))
                total = term if total is None else ir.add(total, term)
            if total is not None:
                slopes[let.target] = total
        return slopes.get(self.lets[-1].target, ir.ZERO)


def nested_form(kernel: Kernel, let: Let, names: Names) -> Nested:
    """Return the polynomial of a Let as nested sums, each of which becomes a temporary."""
    lets: list[Let] = []

    def named(value: Expr) -> Var:
        lets.append(Let(Var(names.temporary()), value, let.phase))
        return lets[-1].target

    value = write(_split(_polynomial(kernel, let), _variables(kernel), named))
    return Nested((*lets, replace(let, value=value)))


def _split(p: Poly, variables: Sequence[Var], named: Callable[[Expr], Var]) -> Poly:
    """Return p with each variable once, times a coefficient or times a named sum."""
    for k, v in enumerate(variables):
        quotient = _quotient(p, v)
        if quotient:
            rest = {m: c for m, c in p.items() if v not in dict(m)}
            inner = _split(quotient, variables[k:], named)
            if inner.keys() == {()}:
                product: Poly = {((v, 1),): inner[()]}
            else:
                product = {((v, 1), (named(write(inner)), 1)): ir.ONE}
            return _split(rest, variables[k + 1 :], named) | product
    return p


def _quotient(p: Poly, v: Var) -> Poly:
    """Return the terms of p that v divides, divided by v."""
    result: Poly = {}
    for monomial, c in p.items():
        powers = dict(monomial)
        n = powers.pop(v, 0)
        if n:
            powers |= {v: n - 1} if n > 1 else {}
            result[tuple(powers.items())] = c
    return result


def _multiplies_variables(kernel: Kernel, let: Let) -> bool:
    params = frozenset(kernel.input_vars(Role.PARAM))
    if not is_polynomial(let.value) or ir.variables(let.value) <= params:
        return False
    p, variables = _polynomial(kernel, let), _variables(kernel)
    used = [v for v in variables if any(v in dict(m) for m in p)]
    mixed = any(len(frozenset(used) & dict(m).keys()) > 1 for m in p)
    return mixed and any(_takes_operations(_quotient(p, v)) for v in used)


def _takes_operations(p: Poly) -> bool:
    """Return whether p is more than a number, a variable or its negative."""
    if len(p) != 1:
        return True
    [(monomial, c)] = p.items()
    return sum(n for _, n in monomial) > 1 or (monomial != () and c not in _UNITS)


def _variables(kernel: Kernel) -> tuple[Var, ...]:
    """Return the variables that are factored out: the states, then the values of the step."""
    return (*kernel.input_vars(Role.STATE), *(let.target for let in kernel.body))


def _polynomial(kernel: Kernel, let: Let) -> Poly:
    params = frozenset(kernel.input_vars(Role.PARAM))
    return PolynomialReader(lambda v: v in params).read(let.value)


def _in_all_variables(e: Expr) -> Poly:
    return PolynomialReader(lambda v: False).read(e)
