"""Passes on polynomials: sums of products, nested sums, Horner's and Estrin's scheme."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeAlias

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.count import count
from lnm_codegen.ir.kernel import Names, names_of
from lnm_codegen.ir.nodes import Expr, Fma, Kernel, Let, Phase, Role, Var
from lnm_codegen.ir.polynomial import (
    Monomial,
    Poly,
    PolynomialReader,
    derivative,
    is_polynomial,
    is_product,
    product,
    signed,
    write,
)
from lnm_codegen.ir.types import REAL
from lnm_codegen.options import SchemeName

# Polynomials as sums of products; a Let for every other operator.


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


# Polynomials of several variables as the nested sums of Horner's scheme.
#
#     h = a + b*v + c*w + d*v*w + e*v**2    becomes    t0 = b + d*w + e*v
#                                                      h = a + c*w + v*t0
#
# If the adjoint computes h, the derivatives of h may read these sums, by the product rule:
#
#     dh/dv = t0 + v*e                      instead of    b + d*w + 2*e*v


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


# Horner's and Estrin's scheme; a product plus a term becomes a fused multiply-add (Fma).


Scheme: TypeAlias = Callable[[dict[int, Expr], Var], Expr]
"""Coefficients by exponent, and the variable -> a tree."""


def horner(kernel: Kernel, *, in_params: bool = False) -> Kernel:
    """Rewrite polynomials as c0 + v*(c1 + v*(c2 + ...)); inputs are added last.

    Leaves: no Power, except among parameters alone: `hoist` moves those expressions.
    Keeps: ports, results, the value of every Let at finite arguments up to rounding.
    """
    return _evaluated(kernel, _horner, in_params)


def estrin(kernel: Kernel, *, in_params: bool = False) -> Kernel:
    """Rewrite polynomials as (c0 + c1*v) + (c2 + c3*v)*v**2 + ...; inputs are added last.

    The chain of operations is shorter than Horner's. Leaves and keeps what `horner` does.
    """
    return _evaluated(kernel, _estrin, in_params)


SCHEMES: dict[SchemeName, Callable[[Kernel], Kernel]] = {"horner": horner, "estrin": estrin}


def _horner(coefficients: dict[int, Expr], v: Var) -> Expr:
    top = max(coefficients)
    tree = coefficients[top]
    for k in range(top - 1, -1, -1):
        tree = _fused(tree, v, coefficients.get(k))
    return tree


def _estrin(coefficients: dict[int, Expr], v: Var) -> Expr:
    level = [coefficients.get(k) for k in range(max(coefficients) + 1)]
    power: Expr = v
    while len(level) > 1:
        level += [None] * (len(level) % 2)
        pairs = zip(level[0::2], level[1::2], strict=True)
        level = [low if high is None else _fused(high, power, low) for low, high in pairs]
        power = ir.mul(power, power)
    return level[0] or ir.ZERO


def _fused(a: Expr, v: Expr, c: Expr | None) -> Expr:
    """Return a*v + c without a factor 1 or -1, and without c if it is None."""
    if a == ir.const(-1):
        return ir.neg(v) if c is None else ir.sub(c, v)
    if c is None:
        return v if a == ir.ONE else ir.mul(a, v)
    return ir.add(v, c) if a == ir.ONE else Fma(a, v, c)


def _evaluated(kernel: Kernel, scheme: Scheme, in_params: bool) -> Kernel:
    """Rewrite each polynomial by `scheme`, in the states first, in their order.

    The inputs of the step are added to the finished polynomial in everything else. If that one has
    no constant term, an input takes its place and saves an addition: fma(theta_1, v, x).
    """
    params = frozenset() if in_params else frozenset(kernel.input_vars(Role.PARAM))
    writer = _Writer(_ranks(kernel), frozenset(kernel.input_vars(Role.INPUT)), scheme)

    def rewrite(e: Expr) -> Expr:
        if is_polynomial(e) and not (params and ir.variables(e) <= params):
            return writer.write(PolynomialReader(lambda v: v in params).read(e))
        return ir.map_children(e, rewrite)

    return kernel.map_values(rewrite)


def _ranks(kernel: Kernel) -> dict[Var, int]:
    """Return the order of variables: states, targets of the Lets and inputs, then gradients."""
    ports = [(p.var, p.role is Role.GRAD) for p in kernel.inputs]
    lets = [(let.target, let.phase is Phase.ADJOINT) for let in kernel.body]
    states = [(v, False) for v in kernel.input_vars(Role.STATE)]
    ranked = sorted([*states, *lets, *ports], key=lambda item: item[1])
    return {v: k for k, v in enumerate(dict.fromkeys(var for var, _ in ranked))}


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writer of polynomials: by the scheme where a power repeats, else as a sum."""

    rank: Mapping[Var, int]
    inputs: frozenset[Var]
    scheme: Scheme

    def write(self, p: Poly, start: Expr | None = None) -> Expr:
        """Return start + p."""
        v = self._main_variable(p)
        if v is None:
            return self._sum(p, start)
        parts = _by_power(p, v)
        rest = parts.pop(0, {})
        coefficients = {k: self.write(q) for k, q in parts.items()}
        if start is None:
            lowest = self._lowest(rest)
            rest = {m: c for m, c in rest.items() if m not in lowest}
            start = self.write(lowest) if lowest else None
        if start is not None:
            coefficients[0] = start
        tree = self.scheme(coefficients, v)
        for late in (False, True):
            terms = {m: c for m, c in rest.items() if self._is_input(m) is late}
            tree = self.write(terms, tree) if terms else tree
        return tree

    def _main_variable(self, p: Poly) -> Var | None:
        """Return the variable of the lowest rank that is worth factoring out, or None."""
        if len(p) <= 1:
            return None
        powers = Counter[Var]()
        for monomial in p:
            powers.update(dict(monomial))
        repeated = [v for v, n in powers.items() if n > 1 and v in self.rank]
        return min(repeated, key=self.rank.__getitem__, default=None)

    def _lowest(self, rest: Poly) -> Poly:
        """Return the coefficient 0: terms of `rest`, which lacks the main variable.

        If `rest` has a constant term, the coefficient is that term alone: f(v) is then complete and
        may be shared. Otherwise it is every term that does not consist of inputs. It also takes one
        input x that is not a product, if it has no such term yet, which saves an addition:
        fma(b, c, fma(a, v, x)) instead of fma(a, v, b*c) + x.
        """
        if () in rest:
            return {(): rest[()]}
        terms = {m: c for m, c in rest.items() if not self._is_input(m)}
        plain = [m for m, c in rest.items() if not is_product(product(signed(c)[1], m))]
        if plain and not any(m in terms for m in plain):
            terms[plain[0]] = rest[plain[0]]
        return terms

    def _is_input(self, monomial: Monomial) -> bool:
        return bool(monomial) and all(v in self.inputs for v, _ in monomial)

    def _sum(self, p: Poly, start: Expr | None) -> Expr:
        """Return start + p term by term: products last, but before those of the inputs."""
        terms = []
        for monomial, c in p.items():
            negative, magnitude = signed(c)
            tree = product(magnitude, monomial, self.rank)
            multiplies = bool(monomial) and is_product(tree)  # `hoist` moves a coefficient alone
            terms.append(_Term(tree, negative, self._is_input(monomial), multiplies))
        terms.sort(key=lambda t: (t.is_input, t.is_product, t.negative))
        if start is None and terms:
            terms.insert(0, terms.pop(_first(terms)))
        for term in terms:
            start = term.added_to(start)
        return ir.ZERO if start is None else start


@dataclass(frozen=True, slots=True)
class _Term:
    magnitude: Expr
    negative: bool
    is_input: bool
    is_product: bool

    def added_to(self, total: Expr | None) -> Expr:
        match self.magnitude:
            case ir.Binary(ir.BinaryOp.MUL, a, b) if self.is_product and total is not None:
                return Fma(ir.neg(a) if self.negative else a, b, total)
            case e:
                return ir.signed_sum(total, e, self.negative)


def _first(terms: Sequence[_Term]) -> int:
    """Return the index of the term to begin with.

    A term that is not a product saves an addition. Among these, a term without a minus is first if
    all products of the sum consist of inputs.
    """
    plain = [k for k, t in enumerate(terms) if not t.is_product]
    if not any(t.is_product and not t.is_input for t in terms):
        plain.sort(key=lambda k: terms[k].negative)
    return plain[0] if plain else 0


def _by_power(p: Poly, v: Var) -> dict[int, Poly]:
    """Return the coefficients of the powers of `v`, themselves polynomials."""
    parts: dict[int, Poly] = {}
    for monomial, c in p.items():
        powers = dict(monomial)
        n = powers.pop(v, 0)
        parts.setdefault(n, {})[tuple(powers.items())] = c
    return parts
