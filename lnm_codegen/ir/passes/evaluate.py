"""What `horner` and `estrin` share: which polynomials a kernel has, and in what they are taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from lnm_codegen.errors import InternalError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import BinaryOp, Expr, Fma, Kernel, Phase, Role, Var
from lnm_codegen.ir.passes.collect import params_of
from lnm_codegen.ir.polynomial import (
    Monomial,
    Poly,
    Reader,
    is_polynomial,
    product,
    signed,
)

Scheme: TypeAlias = Callable[[dict[int, Expr], Var], Expr]
"""Coefficients by exponent, and the variable -> a tree."""


def evaluate_polynomials(kernel: Kernel, scheme: Scheme, in_params: bool) -> Kernel:
    """Rewrite each polynomial of `kernel` by `scheme`, in the states first, in their order.

    The inputs of the step are added to the finished polynomial in everything else. Where that one
    has no term to begin with, an input serves instead of one more addition: fma(theta_1, v, x).
    """
    params = frozenset() if in_params else params_of(kernel)
    inputs = frozenset(p.var for p in kernel.inputs if p.role is Role.INPUT)
    writer = _Writer(_order(kernel), inputs, scheme)

    def rewrite(e: Expr) -> Expr:
        if is_polynomial(e) and not (params and ir.variables(e) <= params):
            return writer.write(Reader(lambda v: v in params, _refuse).read(e))
        return ir.map_children(e, rewrite)

    body = tuple(replace(let, value=rewrite(let.value)) for let in kernel.body)
    return replace(kernel, body=body)


def fused(a: Expr, v: Expr, c: Expr | None) -> Expr:
    """Return a*v + c, leaving out what is 1, -1 or absent."""
    if a == ir.const(-1):
        return ir.neg(v) if c is None else ir.sub(c, v)
    if c is None:
        return v if a == ir.ONE else ir.mul(a, v)
    return ir.add(v, c) if a == ir.ONE else Fma(a, v, c)


def _refuse(e: Expr) -> Var:
    raise InternalError(f"{type(e).__name__} inside a polynomial; run collect first.")


def _order(kernel: Kernel) -> Sequence[Var]:
    """States, inputs and what is computed from them, then gradients."""
    ports = [(p.var, p.role is Role.GRAD) for p in kernel.inputs]
    lets = [(let.target, let.phase is Phase.ADJOINT) for let in kernel.body]
    states = [(p.var, False) for p in kernel.inputs if p.role is Role.STATE]
    ranked = sorted([*states, *lets, *ports], key=lambda item: item[1])
    return tuple(dict.fromkeys(var for var, _ in ranked))


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes polynomials with fused multiply-adds, by the scheme where a power repeats."""

    order: Sequence[Var]
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
        """Return the first variable of `order` that is worth factoring out, or None."""
        for v in self.order:
            exponents = [n for monomial in p for u, n in monomial if u == v]
            if len(exponents) > 1 or any(n > 1 for n in exponents):
                return v if len(p) > 1 else None
        return None

    def _lowest(self, rest: Poly) -> Poly:
        """Return which terms of `rest`, that lack the main variable, are its coefficient 0.

        The constant term, so that f(v) is finished and may be shared; else every term but those of
        the inputs; and of these one that saves an addition.
        """
        if () in rest:
            return {(): rest[()]}
        terms = {m: c for m, c in rest.items() if not self._is_input(m)}
        plain = [m for m, c in rest.items() if not _is_product(product(signed(c)[1], m))]
        if plain and not any(m in terms for m in plain):
            terms[plain[0]] = rest[plain[0]]
        return terms

    def _is_input(self, monomial: Monomial) -> bool:
        return bool(monomial) and all(v in self.inputs for v, _ in monomial)

    def _sum(self, p: Poly, start: Expr | None) -> Expr:
        """Return start + p term by term: products last, but those of the inputs behind them."""
        terms = [self._term(monomial, c) for monomial, c in p.items()]
        terms.sort(key=lambda t: (t.is_input, t.is_product, t.negative))
        if start is None and terms:
            terms.insert(0, terms.pop(_first(terms)))
        for term in terms:
            start = term.added_to(start)
        return ir.ZERO if start is None else start

    def _term(self, monomial: Monomial, c: Expr) -> _Term:
        negative, magnitude = signed(c)
        return _Term(product(magnitude, monomial, self.order), negative, self._is_input(monomial))


@dataclass(frozen=True, slots=True)
class _Term:
    magnitude: Expr
    negative: bool
    is_input: bool

    @property
    def is_product(self) -> bool:
        return _is_product(self.magnitude)

    def added_to(self, total: Expr | None) -> Expr:
        if total is None:
            return ir.neg(self.magnitude) if self.negative else self.magnitude
        match self.magnitude:
            case ir.Binary(BinaryOp.MUL, a, b):
                return Fma(ir.neg(a) if self.negative else a, b, total)
            case e:
                return ir.sub(total, e) if self.negative else ir.add(total, e)


def _first(terms: Sequence[_Term]) -> int:
    """Return which of the sorted terms to begin with.

    A sum, which takes one addition less; without a minus, unless an input would then stand before
    a product of states.
    """
    plain = [k for k, t in enumerate(terms) if not t.is_product]
    if not any(t.is_product and not t.is_input for t in terms):
        plain.sort(key=lambda k: terms[k].negative)
    return plain[0] if plain else 0


def _is_product(e: Expr) -> bool:
    return isinstance(e, ir.Binary) and e.op is BinaryOp.MUL


def _by_power(p: Poly, v: Var) -> dict[int, Poly]:
    """Return the coefficients of the powers of `v`, themselves polynomials."""
    parts: dict[int, Poly] = {}
    for monomial, c in p.items():
        powers = dict(monomial)
        n = powers.pop(v, 0)
        parts.setdefault(n, {})[tuple(powers.items())] = c
    return parts
