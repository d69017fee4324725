"""The cheapest nested forms of polynomials in two variables v and w, found by trying all of them.

A polynomial has free coefficients, which are numbers; a multiple of a coefficient is a number too.
A step computes r + u*q with one multiplication. u is a factor, q and r are numbers or values of
other steps, and r may be absent. A *form* of a polynomial gives each term but the constant to a
factor that divides it; each quotient has a form, and the products are added in any order. Several
forms cost as many multiplications as their steps compute different values.

The factors are v and w. In the forward they are also powers v**2, v*w, w**2, ..., for all
polynomials together. Each costs one multiplication and is the product of two factors.

In the backward, g is the upstream gradient of p. The gradient of the coefficient of a monomial m is
g*m, one multiplication for each. The gradients of v and w are sums over steps, by a mixture of

    forms           (g*m) * a form; each term of dp/dv under a monomial m that divides it
    product rule    g * dp/dv, where d(r + v*q)/dv = dr/dv + q + v*dq/dv reads a form of p
    reverse mode    of r + u*q: u receives g*q, and q has the upstream gradient g*u
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from itertools import chain, combinations, permutations, product
from operator import or_
from typing import TypeAlias

Monomial: TypeAlias = tuple[int, int]
"""The exponents of v and w."""
Poly: TypeAlias = frozenset[tuple[Monomial, str, int]]
"""Terms: monomial, coefficient, multiple of the coefficient."""
Values: TypeAlias = int
"""A set of values, a bit for each."""
Way: TypeAlias = tuple[int, Values]
"""Steps that compute sums of gradients, and the values that these steps read."""

ONE, V, W = (0, 0), (1, 0), (0, 1)


def monomials(degree: int) -> list[Monomial]:
    """Return v, w, v**2, v*w, w**2, ... up to a total degree."""
    return [(n - j, j) for n in range(1, degree + 1) for j in range(n + 1)]


def dense(degree: int, *constant: str) -> Poly:
    """Return the polynomial of every monomial, and of a constant if it is named."""
    terms = [(m, f"c{m}", 1) for m in monomials(degree)]
    return frozenset([*terms, *((ONE, name, 1) for name in constant)])


def fewest_forward(polynomials: Sequence[Poly]) -> int:
    """Return the fewest multiplications that compute these polynomials."""
    degree = max(sum(m) for p in polynomials for m, _, _ in p)
    powers = [m for m in monomials(degree) if sum(m) > 1]
    subsets = chain(*(combinations(powers, n) for n in range(len(powers) + 1)))
    return min(
        len(some) + sum(_fewest_steps(p, (V, W, *some)) for p in polynomials)
        for some in subsets
        if _are_products(some)
    )


def fewest_backward(p: Poly, *, needs_value: bool) -> int:
    """Return the fewest multiplications of the backward of p; it may need p's value as well."""
    found = []
    for form in forms(p):
        given = form.values if needs_value else 0
        ways = (_least(choices) for choices in _choices(form, given))
        found.append(given.bit_count() + min(ways))
    return min(found) + sum(m != ONE for m, _, _ in p)


def _are_products(powers: Sequence[Monomial]) -> bool:
    """Report whether each power is the product of two others, or of variables."""
    pairs = product((V, W, *powers), repeat=2)
    return {*powers} <= {(a[0] + b[0], a[1] + b[1]) for a, b in pairs}


@cache
def _fewest_steps(p: Poly, factors: tuple[Monomial, ...]) -> int:
    """Return the fewest steps that compute one polynomial, whose coefficients are distinct."""
    terms = frozenset(t for t in p if t[0] != ONE)
    return min(
        sum(1 + _fewest_steps(q, factors) for q in quotients.values())
        for quotients in _groupings(terms, factors)
    )


@dataclass(frozen=True)
class Form:
    """A form of `p`: the values that it computes, and the forms of its quotients by factor."""

    p: Poly
    values: Values = 0
    parts: tuple[tuple[Monomial, Form], ...] = ()


@cache
def forms(p: Poly) -> tuple[Form, ...]:
    """Return every form of p."""
    constant = frozenset(t for t in p if t[0] == ONE)
    if p == constant:
        return (Form(p),)
    found = []
    for quotients in _groupings(p - constant, (V, W)):
        products = [_times(q, u) for u, q in quotients.items()]
        for inner in product(*map(forms, quotients.values())):
            parts = tuple(zip(quotients, inner, strict=True))
            values = _union(f.values for f in inner)
            found += [Form(p, values | s, parts) for s in _sums(constant, products)]
    return tuple(found)


def _groupings(p: Poly, factors: Iterable[Monomial]) -> Iterator[dict[Monomial, Poly]]:
    """Yield the quotients by factor for each way to give every term to a factor."""
    possible = [[u for u in factors if _divides(u, m)] for m, _, _ in p]
    for chosen in product(*possible):
        quotients: dict[Monomial, Poly] = defaultdict(frozenset)
        for (m, c, n), u in zip(p, chosen, strict=True):
            quotients[u] |= {((m[0] - u[0], m[1] - u[1]), c, n)}
        yield dict(quotients)


def _sums(start: Poly, products: Sequence[Poly]) -> set[Values]:
    """Return the values of start + product + product + ..., for each order of the products."""
    return {_union(_partial_sums(start, order)) for order in permutations(products)}


def _partial_sums(total: Poly, products: Iterable[Poly]) -> Iterator[Values]:
    for p in products:
        total = _plus(total, p)
        yield _numbers.setdefault(total, 1 << len(_numbers))


_numbers: dict[Poly, Values] = {}
"""Every value that occurred, as the set of it alone."""


def _choices(form: Form, given: Values) -> Iterator[list[list[Way]]]:
    """Yield lists of ways; one way of each adds the gradients of v and w. `given` costs nothing."""
    direct = []
    for u in (V, W):
        if slope := _slope(form.p, u):
            ways = [*_ways(slope), *((1, x) for x in _derivatives(form, u))]
            direct.append([(steps, x & ~given) for steps, x in ways])
    yield direct
    if form.parts:  # reverse mode: a step for each factor, then the gradients of each quotient
        read = _union(part.values for _, part in form.parts) & ~given
        yield [[(len(form.parts), read)], *(_inner_ways(part, given) for _, part in form.parts)]


def _inner_ways(form: Form, given: Values) -> list[Way]:
    return _best(way for choices in _choices(form, given) for way in _joined(choices))


@cache
def _ways(p: Poly) -> list[Way]:
    """Return the ways to add g*p, by forms: each term under some (g*m)."""
    found = []
    for quotients in _groupings(p, [ONE, *monomials(3)]):
        for inner in product(*map(forms, quotients.values())):
            found.append((len(quotients), _union(f.values for f in inner)))
    return _best(found)


@cache
def _derivatives(form: Form, u: Monomial) -> set[Values]:
    """Return the values of the derivative by u, for each way to apply the product rule to a form.

    Inside a quotient any form of its derivative will do.
    """
    same = [part for factor, part in form.parts if factor == u]
    inner = [(factor, part) for factor, part in form.parts if _slope(part.p, u)]
    start = same[0].p if same else frozenset()
    orders = _sums(start, [_times(_slope(part.p, u), factor) for factor, part in inner])
    slopes = [
        {*_derivatives(part, u), *(f.values for f in forms(_slope(part.p, u)))} for _, part in inner
    ]
    read = _union(part.values for part in same)
    return {read | _union(sets) for sets in product(orders, *slopes)}


def _least(choices: list[list[Way]]) -> int:
    """Return the fewest steps and values of one way of each list."""
    read = [_union(x for _, x in ways) for ways in choices]
    reduced = []
    for k, ways in enumerate(choices):  # a value that no other list reads is as good as a step
        shared = _union(read[:k] + read[k + 1 :])
        reduced.append(_best((n + (x & ~shared).bit_count(), x & shared) for n, x in ways))
    return min(n + x.bit_count() for n, x in _joined(reduced))


def _best(ways: Iterable[Way]) -> list[Way]:
    """Return the ways without those that another way replaces: no more steps, no other values."""
    found: list[Way] = []
    for steps, values in sorted(set(ways), key=lambda way: (way[0], way[1].bit_count())):
        if not any(x & ~values == 0 for _, x in found):
            found.append((steps, values))
    return found


def _joined(choices: Sequence[Sequence[Way]]) -> Iterator[Way]:
    for chosen in product(*choices):
        yield sum(steps for steps, _ in chosen), _union(x for _, x in chosen)


def _union(sets: Iterable[Values]) -> Values:
    return reduce(or_, sets, 0)


def _divides(a: Monomial, b: Monomial) -> bool:
    return a[0] <= b[0] and a[1] <= b[1]


def _times(p: Poly, u: Monomial) -> Poly:
    return frozenset(((m[0] + u[0], m[1] + u[1]), c, n) for m, c, n in p)


def _plus(p: Poly, q: Poly) -> Poly:
    total: dict[tuple[Monomial, str], int] = defaultdict(int)
    for m, c, n in chain(p, q):
        total[m, c] += n
    return frozenset((m, c, n) for (m, c), n in total.items())


def _slope(p: Poly, u: Monomial) -> Poly:
    """Return dp/du, u = v or w."""
    axis = u.index(1)
    return frozenset(
        ((m[0] - u[0], m[1] - u[1]), c, n * m[axis]) for m, c, n in p if _divides(u, m)
    )
