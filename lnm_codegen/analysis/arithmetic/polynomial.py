"""Polynomials of several named variables with rational coefficients, and their ranges over a box.

A polynomial splits into a constant and parts that share no variable. Parts of independent variables
take their extremes independently, so that the range of the sum is the sum of the ranges: exact
where every part is univariate (f(v) + x, say), interval arithmetic for the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from lnm_codegen.analysis.arithmetic.interval import Interval, point
from lnm_codegen.analysis.arithmetic.univariate import Coefficients, value_range

Monomial: TypeAlias = tuple[tuple[str, int], ...]
"""(variable, exponent >= 1) by name; () for the constant."""


@dataclass(frozen=True, slots=True)
class Poly:
    """A sum of coefficient * monomial, sorted, without zeros: equal ones compare equal."""

    terms: tuple[tuple[Monomial, Fraction], ...]

    def __add__(self, other: Poly) -> Poly:
        total = dict(self.terms)
        for monomial, c in other.terms:
            total[monomial] = total.get(monomial, Fraction(0)) + c
        return poly_of(total)

    def __sub__(self, other: Poly) -> Poly:
        return self + other.scaled(Fraction(-1))

    def __mul__(self, other: Poly) -> Poly:
        total: dict[Monomial, Fraction] = {}
        for m1, c1 in self.terms:
            for m2, c2 in other.terms:
                monomial = _times(m1, m2)
                total[monomial] = total.get(monomial, Fraction(0)) + c1 * c2
        return poly_of(total)

    def scaled(self, factor: Fraction) -> Poly:
        """Return factor * self."""
        return poly_of({m: factor * c for m, c in self.terms})

    @property
    def constant(self) -> Fraction | None:
        """The value of a polynomial without variables, else None."""
        if not self.terms:
            return Fraction(0)
        (monomial, c), *others = self.terms
        return c if not monomial and not others else None

    @property
    def variables(self) -> frozenset[str]:
        """The variables that occur."""
        return frozenset(v for monomial, _ in self.terms for v, _ in monomial)

    @property
    def degree(self) -> int:
        """The largest sum of exponents."""
        return max((sum(n for _, n in monomial) for monomial, _ in self.terms), default=0)


def poly_of(terms: Mapping[Monomial, Fraction]) -> Poly:
    """Return the polynomial of these terms."""
    return Poly(tuple(sorted((m, c) for m, c in terms.items() if c)))


def constant(value: Fraction) -> Poly:
    """Return a polynomial without variables."""
    return poly_of({(): value})


def variable(name: str) -> Poly:
    """Return the polynomial that is one variable."""
    return Poly(((((name, 1),), Fraction(1)),))


def substituted(p: Poly, table: Mapping[str, Poly]) -> Poly:
    """Return p with variables replaced by polynomials."""
    if not p.variables & table.keys():
        return p
    total = poly_of({})
    for monomial, c in p.terms:
        term = constant(c)
        for name, n in monomial:
            factor = table.get(name, variable(name))
            for _ in range(n):
                term = term * factor
        total = total + term
    return total


def univariate(p: Poly, name: str) -> Coefficients:
    """Return the coefficients of p, which has no variable but `name`."""
    powers = {sum(n for _, n in monomial): c for monomial, c in p.terms}
    assert p.variables <= {name}
    return tuple(powers.get(k, Fraction(0)) for k in range(max(powers, default=-1) + 1))


def range_over(
    p: Poly, box: Mapping[str, Interval], sources: Mapping[str, frozenset[str]]
) -> Interval:
    """Return the range of p over a box.

    Args:
        p: The polynomial.
        box: Variable -> interval.
        sources: Variable -> the independent quantities that decide it; itself where it is one.
            Variables with a common source are not independent.
    """
    total = point(Fraction(0))
    for part in _parts(p, sources):
        names = part.variables
        if len(names) == 1:
            (name,) = names
            total = total + value_range(univariate(part, name), box[name])
        else:
            total = total + _by_terms(part, box)
    return total


def _by_terms(p: Poly, box: Mapping[str, Interval]) -> Interval:
    total = point(Fraction(0))
    for monomial, c in p.terms:
        term = point(c)
        for name, n in monomial:
            term = term * value_range((*(Fraction(0),) * n, Fraction(1)), box[name])
        total = total + term
    return total.loose() if p.variables else total


def _parts(p: Poly, sources: Mapping[str, frozenset[str]]) -> list[Poly]:
    """Return polynomials that share no source and add up to p."""
    groups: list[tuple[frozenset[str], dict[Monomial, Fraction]]] = []
    for monomial, c in p.terms:
        own = _sources_of((v for v, _ in monomial), sources)
        terms = {monomial: c}
        apart = []
        for held, others in groups:
            if held & own:
                own, terms = own | held, others | terms
            else:
                apart.append((held, others))
        groups = [*apart, (own, terms)]
    return [poly_of(terms) for _, terms in groups]


def _sources_of(names: Iterable[str], sources: Mapping[str, frozenset[str]]) -> frozenset[str]:
    return frozenset(s for name in names for s in sources[name])


def _times(a: Monomial, b: Monomial) -> Monomial:
    powers = dict(a)
    for name, n in b:
        powers[name] = powers.get(name, 0) + n
    return tuple(sorted(powers.items()))
