"""Polynomials over Vars, with expressions of parameters as coefficients.

The passes `collect`, `horner`, `estrin` and `backward` read trees as polynomials and write them
back. A coefficient that cancels to zero stays, so that a NaN or an infinity reaches the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import TypeAlias

from lnm_codegen.errors import InternalError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import BinaryOp, Const, Expr, Fma, Power, Unary, UnaryOp, Var, number_text

Monomial: TypeAlias = tuple[tuple[Var, int], ...]
Poly: TypeAlias = dict[Monomial, Expr]
Atom: TypeAlias = Callable[[Expr], Var]


def _not_collected(e: Expr) -> Var:
    """Raise InternalError: `collect` leaves no such operator inside a polynomial."""
    raise InternalError("polynomial", f"contains {type(e).__name__}", remedy="Run collect first.")


def is_product(e: Expr) -> bool:
    """Report whether `e` is a multiplication."""
    return isinstance(e, ir.Binary) and e.op is BinaryOp.MUL


def is_polynomial(e: Expr) -> bool:
    """Report whether the root of `e` is an operator of polynomials."""
    match e:
        case Power() | Fma() | Unary(UnaryOp.NEG, _):
            return True
        case ir.Binary(op, _, _):
            return op in (BinaryOp.ADD, BinaryOp.SUB, BinaryOp.MUL)
        case _:
            return False


class PolynomialReader:
    """Reader of trees as polynomials; any other operator becomes a Var through `atom`.

    A product is expanded only if a factor is a coefficient, all factors are monomials, or the
    factors contain at most one variable in all, and either one of them is a monomial or the product
    is a quadratic. Otherwise, and in a power, each sum among the factors becomes an atom. The base
    of a power anywhere, and a sum of several variables that is a factor anywhere, is an atom
    everywhere. Thus f(v + x) remains a polynomial in v + x, and (v + 65)**6 remains accurate near
    v = -65, where the terms of its expansion cancel.
    """

    def __init__(self, is_coefficient: Callable[[Var], bool], atom: Atom = _not_collected) -> None:
        self._is_coefficient = is_coefficient
        self._atom = atom
        self._opaque: set[Expr] = set()

    def read(self, e: Expr) -> Poly:
        """Return `e` as a polynomial."""
        for node in ir.walk(e):
            for factor in _multiplied_sums(node):
                if isinstance(node, Power) or len(self._plain_variables(factor)) > 1:
                    self._opaque.add(factor)
        return self._read(e)

    def _plain_variables(self, e: Expr) -> set[Var]:
        return {v for v in ir.variables(e) if not self._is_coefficient(v)}

    def _is_constant(self, e: Expr) -> bool:
        return all(self._is_coefficient(v) for v in ir.walk(e) if isinstance(v, Var))

    def _read(self, e: Expr) -> Poly:
        if self._is_constant(e):
            return {(): e}
        if e in self._opaque:
            return _power(self._atom(e))
        match e:
            case Var():
                return _power(e)
            case Unary(UnaryOp.NEG, arg):
                return _negated(self._read(arg))
            case ir.Binary(BinaryOp.ADD, a, b):
                return added(self._read(a), self._read(b))
            case ir.Binary(BinaryOp.SUB, a, b):
                return added(self._read(a), _negated(self._read(b)))
            case ir.Binary(BinaryOp.MUL, a, b):
                return self._product(self._read(a), self._read(b))
            case Fma(a, b, c):
                return added(self._product(self._read(a), self._read(b)), self._read(c))
            case Power(base, n):
                p = self._read(base)
                return reduce(multiplied, [p if n == 1 else self._as_factor(p)] * n)
            case _:
                return _power(self._atom(e))

    def _product(self, p: Poly, q: Poly) -> Poly:
        is_expanded = 1 in (len(p), len(q)) or _degree(p) + _degree(q) <= 2
        one_variable = len(_variables(p) | _variables(q)) <= 1 and is_expanded
        if one_variable or len(p) == len(q) == 1 or {()} in (p.keys(), q.keys()):
            return multiplied(p, q)
        return multiplied(self._as_factor(p), self._as_factor(q))

    def _as_factor(self, p: Poly) -> Poly:
        return p if len(p) == 1 else _power(self._atom(write(p)))


def _negated(p: Poly) -> Poly:
    return {m: ir.neg(c) for m, c in p.items()}


def _power(v: Var, n: int = 1) -> Poly:
    return {((v, n),): ir.ONE}


def _multiplied_sums(e: Expr) -> tuple[Expr, ...]:
    match e:
        case Power(base, _):
            return (base,) if _is_sum(base) else ()
        case ir.Binary(BinaryOp.MUL, a, b) | Fma(a, b, _) if _is_sum(a) and _is_sum(b):
            return (a, b)
        case _:
            return ()


def _is_sum(e: Expr) -> bool:
    return isinstance(e, ir.Binary) and e.op in (BinaryOp.ADD, BinaryOp.SUB)


def _variables(p: Poly) -> set[Var]:
    return {v for monomial in p for v, _ in monomial}


def _degree(p: Poly) -> int:
    return max(sum(n for _, n in monomial) for monomial in p)


def added(p: Poly, q: Poly) -> Poly:
    """Return p + q."""
    result = dict(p)
    for monomial, c in q.items():
        old = result.get(monomial)
        result[monomial] = c if old is None else _coefficient_sum(old, c)
    return result


def multiplied(p: Poly, q: Poly) -> Poly:
    """Return p * q, multiplied out."""
    result: Poly = {}
    for m1, c1 in p.items():
        for m2, c2 in q.items():
            powers = dict(m1)
            for v, n in m2:
                powers[v] = powers.get(v, 0) + n
            result = added(result, {_monomial(powers): coefficient_product(c1, c2)})
    return result


def _monomial(powers: dict[Var, int]) -> Monomial:
    return tuple(sorted(powers.items(), key=lambda item: item[0].name))


def _coefficient_sum(a: Expr, b: Expr) -> Expr:
    if isinstance(a, Const) and isinstance(b, Const):
        return Const(a.value + b.value)
    if isinstance(b, Unary) and b.op is UnaryOp.NEG:
        return ir.sub(a, b.arg)
    return ir.add(a, b)


def coefficient_product(a: Expr, b: Expr) -> Expr:
    """Return a * b, without a factor 1 or -1."""
    if isinstance(b, Const) and not isinstance(a, Const):
        a, b = b, a
    if isinstance(a, Const):
        if a.value == 1:
            return b
        if a.value == -1:
            return ir.neg(b)
        if isinstance(b, Const):
            return a if b.value == 1 else Const(a.value * b.value, _product_name(a, b))
    return ir.mul(a, b)


def _product_name(a: Const, b: Const) -> str:
    if not a.name and not b.name:
        return ""
    return f"({number_text(a.value, a.name)})*({number_text(b.value, b.name)})"


def derivative(p: Poly, v: Var) -> Poly:
    """Return dp/dv."""
    result: Poly = {}
    for monomial, c in p.items():
        powers = dict(monomial)
        n = powers.pop(v, 0)
        if n:
            if n > 1:
                powers[v] = n - 1
            result = added(result, {_monomial(powers): coefficient_product(ir.const(n), c)})
    return result


def product(c: Expr, monomial: Monomial, rank: Mapping[Var, int] | None = None) -> Expr:
    """Return coefficient times monomial as a tree; variables of a high rank come first."""
    rank = rank or {}
    powers = sorted(monomial, key=lambda item: -rank.get(item[0], -1))
    if len(powers) == 1 and powers[0][1] >= 4:
        factors = [_power_by_squaring(*powers[0])]
    else:
        factors = [v for v, n in powers for _ in range(n)]
    tree: Expr = c
    for factor in factors:
        tree = factor if tree == ir.ONE else ir.mul(tree, factor)
    return tree


def _power_by_squaring(v: Expr, n: int) -> Expr:
    if n == 1:
        return v
    half = _power_by_squaring(v, n // 2)
    square = ir.mul(half, half)
    return ir.mul(square, v) if n % 2 else square


def signed(c: Expr) -> tuple[bool, Expr]:
    """Return True for a coefficient that is written as negative, and its magnitude."""
    match c:
        case Const(value, name) if value < 0:
            return True, ir.neg(c) if not name else Const(-value, f"-({name})")
        case Unary(UnaryOp.NEG, arg):
            return True, arg
        case _:
            return False, c


def write(p: Poly) -> Expr:
    """Return p as a sum of products; a product without a minus comes first, if any."""
    terms = []
    for monomial, c in p.items():
        negative, magnitude = signed(c)
        terms.append((negative, product(magnitude, monomial)))
    terms.sort(key=lambda term: term[0])
    total: Expr | None = None
    for negative, term in terms:
        total = ir.signed_sum(total, term, negative)
    return ir.ZERO if total is None else total
