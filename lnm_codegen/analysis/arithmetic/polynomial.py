"""Polynomials of several named variables with rational coefficients, and their ranges over a box.

A polynomial is a constant plus parts that share no variable. Parts of independent variables take
their extremes independently, so the range of the sum is the sum of the ranges. It is exact where
every part is univariate, such as f(v) + x; other parts use interval arithmetic.
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
    """A sum of coefficient * monomial, sorted and without zeros: equal ones compare equal."""

    terms: tuple[tuple[Monomial, Fraction], ...]

    def __add__(self, other: Poly) -> Poly:
        return poly_of((*self.terms, *other.terms))

    def __neg__(self) -> Poly:
        return self.scaled(Fraction(-1))

    def __sub__(self, other: Poly) -> Poly:
        return self + -other

    def __mul__(self, other: Poly) -> Poly:
        return poly_of((_times(m, n), c * d) for m, c in self.terms for n, d in other.terms)

    def scaled(self, factor: Fraction) -> Poly:
        """Return factor * self."""
        return Poly(tuple((m, factor * c) for m, c in self.terms) if factor else ())

    @property
    def constant(self) -> Fraction | None:
        """Value of a polynomial without variables, else None."""
        if not self.terms:
            return Fraction(0)
        (monomial, c), *others = self.terms
        return c if not monomial and not others else None

    @property
    def variables(self) -> frozenset[str]:
        """Variables that occur."""
        return frozenset(v for monomial, _ in self.terms for v, _ in monomial)

    @property
    def degree(self) -> int:
        """Largest sum of exponents."""
        return max((sum(n for _, n in monomial) for monomial, _ in self.terms), default=0)


def poly_of(terms: Iterable[tuple[Monomial, Fraction]]) -> Poly:
    """Return the sum of terms, in which a monomial may occur several times."""
    total: dict[Monomial, Fraction] = {}
    for monomial, c in terms:
        total[monomial] = total[monomial] + c if monomial in total else c
    return Poly(tuple(sorted((m, c) for m, c in total.items() if c)))


def constant(value: Fraction) -> Poly:
    """Return a polynomial without variables."""
    return poly_of([((), value)])


def variable(name: str) -> Poly:
    """Return the polynomial that is one variable."""
    return Poly(((((name, 1),), Fraction(1)),))


def substituted(p: Poly, table: Mapping[str, Poly]) -> Poly:
    """Return p with the variables of the table replaced by polynomials."""
    if not p.variables & table.keys():
        return p
    total = poly_of(())
    for monomial, c in p.terms:
        term = constant(c)
        for name, n in monomial:
            factor = table.get(name, variable(name))
            for _ in range(n):
                term = term * factor
        total = total + term
    return total


def univariate(p: Poly, name: str) -> Coefficients:
    """Return the coefficients of p, whose only variable is `name`."""
    powers = {sum(n for _, n in monomial): c for monomial, c in p.terms}
    assert p.variables <= {name}
    return tuple(powers.get(k, Fraction(0)) for k in range(max(powers, default=-1) + 1))


def range_over(
    p: Poly, box: Mapping[str, Interval], sources: Mapping[str, frozenset[str]]
) -> Interval:
    """Return the range of p over a box.

    `sources` maps a variable to the independent quantities that determine it. Variables with a
    common source are dependent.
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
    """Return polynomials without common sources whose sum is p."""
    groups: list[tuple[frozenset[str], dict[Monomial, Fraction]]] = []
    for monomial, c in p.terms:
        own = frozenset(s for name, _ in monomial for s in sources[name])
        terms = {monomial: c}
        apart = []
        for held, others in groups:
            if held & own:
                own, terms = own | held, others | terms
            else:
                apart.append((held, others))
        groups = [*apart, (own, terms)]
    return [poly_of(terms.items()) for _, terms in groups]


def _times(a: Monomial, b: Monomial) -> Monomial:
    powers = dict(a)
    for name, n in b:
        powers[name] = powers.get(name, 0) + n
    return tuple(sorted(powers.items()))
