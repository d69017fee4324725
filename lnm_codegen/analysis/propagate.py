"""Propagation of errors and of undecided comparisons through a fixed-point kernel.

`error.py` states the rules of errors. A comparison `a op b` is undecided if |a - b| is at most the
error of a - b, its margin: it may then differ from the one in exact arithmetic. A Select whose
branches differ by a multiple of a - b, as those of a clamp do (where(h < v_min, v_min, h)), is
continuous: both branches are equal where the comparison is undecided, and the error of the value is
at most theirs. This must hold for rounded constants too: a condition that several Selects share may
round v_min to another format. The value of any other Select depends on the decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias, assert_never

from lnm_codegen.analysis.arithmetic.interval import Interval, hull, meet, point
from lnm_codegen.analysis.arithmetic.polynomial import Poly, constant, variable
from lnm_codegen.errors import InternalError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.operators import CompareOp
from lnm_codegen.ir.types import Bits, Rounding

Uncertain: TypeAlias = tuple[Interval, Interval]
"""Exact range and error of a number."""

_NONE = point(Fraction(0))
_ORDER = (CompareOp.LT, CompareOp.LE, CompareOp.GT, CompareOp.GE)


@dataclass(frozen=True)
class Propagated:
    """Exact ranges and errors of every number of a kernel."""

    ranges: Mapping[str, Interval]  # name -> exact range that the errors are relative to
    errors: dict[str, Interval]  # name -> computed - exact
    rounding: bool  # round nodes contribute errors; otherwise the rounding of constants does

    def of(self, e: fx.Expr) -> Uncertain:
        """Return range and error of a number, if every decision agrees and nothing saturates.

        The range is interval arithmetic on the names that the number reads.
        """
        match e:
            case fx.Const(integer, bits, real):
                own = bits.value(integer)
                return (point(own), _NONE) if self.rounding else (point(real), point(own - real))
            case fx.Var(name, _):
                return self.ranges[name], self.errors[name]
            case fx.Negate(arg):
                a, error = self.of(arg)
                return -a, -error
            case fx.Sum(op, lhs, rhs):
                (a, e_a), (b, e_b) = self.of(lhs), self.of(rhs)
                return (a + b, e_a + e_b) if op is SumOp.ADD else (a - b, e_a - e_b)
            case fx.Product(lhs, rhs):
                (a, e_a), (b, e_b) = self.of(lhs), self.of(rhs)
                return a * b, e_a * b + a * e_b + e_a * e_b
            case fx.Shift(arg, _) | fx.Saturate(arg, _):
                return self.of(arg)
            case fx.Round(arg, places, rounding):
                a, error = self.of(arg)
                if self.rounding:
                    unit = Fraction(1, 1 << fx.bits_of(arg).frac)
                    error = error + rounding_error(places, rounding).scaled(unit)
                return a, error
            case fx.Select(_, then, orelse):
                (a, e_a), (b, e_b) = self.of(then), self.of(orelse)
                return hull((a, b)), hull((e_a, e_b))
            case fx.Compare() | fx.Not() | fx.Both() | fx.Either():
                raise InternalError("propagate", f"{type(e).__name__} is not a number")
            case _:
                assert_never(e)


def rounding_error(places: int, rounding: Rounding) -> Interval:
    """Return rounded - exact in units of the last place *before* `places` bits are dropped."""
    unit, half = 1 << places, 1 << (places - 1)
    match rounding:
        case Rounding.HALF_UP:
            return Interval(Fraction(1 - half), Fraction(half))
        case Rounding.TRUNCATE:
            return Interval(Fraction(1 - unit), Fraction(0))
        case Rounding.CONVERGENT:
            return Interval(Fraction(-half), Fraction(half))
        case _:
            assert_never(rounding)


def propagate(
    kernel: fx.Kernel,
    ranges: Mapping[str, Interval],
    inputs: Mapping[str, Interval],
    *,
    rounding: bool,
    known: Mapping[str, Interval] | None = None,
) -> Propagated:
    """Return the errors of every Let of a kernel from `quantize`.

    `inputs` are the errors of inputs, others have none; `known` are intervals that contain the
    errors of Lets.
    """
    errors = {p.var.name: inputs.get(p.var.name, _NONE) for p in kernel.inputs}
    found = Propagated(ranges, errors, rounding)
    for let in kernel.body:
        name = let.target.name
        if isinstance(let.target.type, Bits):
            _, error = found.of(let.value)
            narrower = meet(error, known[name]) if known and name in known else None
            errors[name] = error if narrower is None else narrower
    return found


@dataclass
class Decisions:
    """Undecided comparisons of a kernel; the errors of the parts add up.

    Without parts, every comparison counts as undecided.
    """

    kernel: fx.Kernel
    parts: tuple[Propagated, ...]
    margins: dict[str, Fraction] = field(default_factory=dict)  # by undecided Let
    behind: dict[str, tuple[str, ...]] = field(default_factory=dict)  # Let -> decisions before it

    def __post_init__(self) -> None:
        self._lets = {let.target.name: let.value for let in self.kernel.body}
        for let in self.kernel.body:
            self._name = let.target.name
            self.behind[self._name] = tuple(dict.fromkeys(self._of(let.value)))

    def _of(self, e: fx.Expr) -> tuple[str, ...]:
        match e:
            case fx.Var(name, _):
                return self.behind.get(name, ())
            case fx.Compare(_, lhs, rhs):
                upstream = (*self._of(lhs), *self._of(rhs))
                margin = self._margin(e)
                if not margin:
                    return upstream
                self.margins[self._name] = max(margin, self.margins.get(self._name, margin))
                return (*upstream, self._name)
            case fx.Select(cond, then, orelse):
                branches = (*self._of(then), *self._of(orelse))
                compared = self._comparison(cond)
                if compared is None or not _is_continuous(compared, then, orelse):
                    return (*self._of(cond), *branches)
                return (*self._of(compared.lhs), *self._of(compared.rhs), *branches)
            case _:
                return tuple(word for child in fx.children(e) for word in self._of(child))

    def _margin(self, e: fx.Compare) -> Fraction:
        """Return the largest error of lhs - rhs, or 0 if it cannot change the decision."""
        if not self.parts:
            return Fraction(1)
        difference = fx.Sum(SumOp.SUB, e.lhs, e.rhs)
        found = [part.of(difference) for part in self.parts]
        exact = found[-1][0]
        low = sum((error.low for _, error in found), Fraction(0))
        high = sum((error.high for _, error in found), Fraction(0))
        margin = Interval(low, high).magnitude
        return margin if exact.low <= margin and exact.high >= -margin else Fraction(0)

    def _comparison(self, e: fx.Expr) -> fx.Compare | None:
        while isinstance(e, fx.Var) and e.name in self._lets:
            e = self._lets[e.name]
        return e if isinstance(e, fx.Compare) else None


def decisions_before(kernel: fx.Kernel) -> dict[str, tuple[str, ...]]:
    """Return Let -> the Lets whose comparisons its value depends on; a clamp adds none."""
    return Decisions(kernel, ()).behind


def _is_continuous(compared: fx.Compare, then: fx.Expr, orelse: fx.Expr) -> bool:
    """Report whether both branches are equal where both sides of the comparison are equal."""
    operands = (then, orelse, compared.lhs, compared.rhs)
    return compared.op in _ORDER and all(
        _is_multiple(*(_polynomial(e, rounded=rounded) for e in operands))
        for rounded in (False, True)
    )


def _is_multiple(then: Poly, orelse: Poly, lhs: Poly, rhs: Poly) -> bool:
    """Report whether then - orelse is a multiple of lhs - rhs."""
    difference, distance = then - orelse, lhs - rhs
    if not difference.terms or not distance.terms:
        return not difference.terms
    factor = difference.terms[-1][1] / distance.terms[-1][1]
    return difference == distance.scaled(factor)


def _polynomial(e: fx.Expr, *, rounded: bool) -> Poly:
    """Return a number as a polynomial of names; a part that is not polynomial counts as a name.

    With `rounded`, each constant has the value of its integer.
    """

    def of(part: fx.Expr) -> Poly:
        return _polynomial(part, rounded=rounded)

    match e:
        case fx.Const(integer, bits, real):
            return constant(bits.value(integer) if rounded else real)
        case fx.Var(name, _):
            return variable(name)
        case fx.Negate(arg):
            return -of(arg)
        case fx.Sum(op, lhs, rhs):
            return of(lhs) + of(rhs) if op is SumOp.ADD else of(lhs) - of(rhs)
        case fx.Product(lhs, rhs):
            return of(lhs) * of(rhs)
        case fx.Shift(arg, _):
            return of(arg)
        case _:
            return variable(repr(e))


def saturating(
    kernel: fx.Kernel, ranges: Mapping[str, Interval], errors: Mapping[str, Interval]
) -> dict[str, tuple[str, ...]]:
    """Return Let -> the nodes that may leave their formats, up to and including that Let."""
    found: dict[str, tuple[str, ...]] = {}
    for let in kernel.body:
        name = let.target.name
        read = sorted(v.name for v in fx.variables(let.value))
        before = [word for v in read for word in found.get(v, ())]
        if any(isinstance(node, fx.Saturate) for node in fx.walk(let.value)):
            bits = fx.bits_of(let.target)
            if not Interval(*bits.interval).holds(ranges[name] + errors[name]):
                before.append(name)
        found[name] = tuple(dict.fromkeys(before))
    return found
