"""Which comparisons of a fixed-point kernel may fall differently than in exact arithmetic.

`a op b` may where |a - b| is no more than the error of a - b, its margin. A Select whose branches
differ by a multiple of a - b, as those of a clamp do (where(h < v_min, v_min, h)), is continuous:
both branches are equal where the comparison is undecided, and its value is off by no more than they
are. Every other Select takes the decision into what it computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from lnm_codegen.analysis.arithmetic.interval import Interval
from lnm_codegen.analysis.arithmetic.polynomial import Poly, constant, variable
from lnm_codegen.analysis.propagate import Propagated
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.operators import CompareOp

_ORDER = (CompareOp.LT, CompareOp.LE, CompareOp.GT, CompareOp.GE)


@dataclass
class Decisions:
    """Found Let by Let, in order.

    Attributes:
        margins: Let with a comparison that may fall differently -> its margin.
        behind: Let -> the decisions that its value depends on.
    """

    kernel: fx.Kernel
    parts: tuple[Propagated, ...]
    margins: dict[str, Fraction] = field(default_factory=dict)
    behind: dict[str, tuple[str, ...]] = field(default_factory=dict)

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
        """Return how large the error of lhs - rhs may be; 0 where none reaches the decision."""
        difference = fx.Sum(SumOp.SUB, e.lhs, e.rhs)
        low = sum((part.error(difference).low for part in self.parts), Fraction(0))
        high = sum((part.error(difference).high for part in self.parts), Fraction(0))
        margin = Interval(low, high).magnitude
        exact = self.parts[-1].range(difference)
        return margin if exact.low <= margin and exact.high >= -margin else Fraction(0)

    def _comparison(self, e: fx.Expr) -> fx.Compare | None:
        while isinstance(e, fx.Var) and e.name in self._lets:
            e = self._lets[e.name]
        return e if isinstance(e, fx.Compare) else None


def _is_continuous(compared: fx.Compare, then: fx.Expr, orelse: fx.Expr) -> bool:
    if compared.op not in _ORDER:
        return False
    difference = _polynomial(then) - _polynomial(orelse)
    distance = _polynomial(compared.lhs) - _polynomial(compared.rhs)
    if not difference.terms or not distance.terms:
        return not difference.terms
    factor = difference.terms[-1][1] / distance.terms[-1][1]
    return difference == distance.scaled(factor)


def _polynomial(e: fx.Expr) -> Poly:
    """Return a number as a polynomial of the names it reads; any other part counts as a name."""
    match e:
        case fx.Const(_, _, real):
            return constant(real)
        case fx.Var(name, _):
            return variable(name)
        case fx.Negate(arg):
            return _polynomial(arg).scaled(Fraction(-1))
        case fx.Sum(op, lhs, rhs):
            a, b = _polynomial(lhs), _polynomial(rhs)
            return a + b if op is SumOp.ADD else a - b
        case fx.Product(lhs, rhs):
            return _polynomial(lhs) * _polynomial(rhs)
        case fx.Shift(arg, _):
            return _polynomial(arg)
        case _:
            return variable(repr(e))


def saturating(
    kernel: fx.Kernel, ranges: Mapping[str, Interval], errors: Mapping[str, Interval]
) -> dict[str, tuple[str, ...]]:
    """Return for each Let which nodes may leave their formats, up to and with that one."""
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
