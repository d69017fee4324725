"""Error bounds of a fixed-point step against the exact one, from the same state and input.

Write a^ for the value of the kernel and a for the exact value, e_a = a^ - a. Then

    sum        e = e_a + e_b            product    e = e_a*b + a*e_b + e_a*e_b
    rounding   e + r, of k dropped bits and unit u = 2**-frac:
               half_up r in [-(1/2 - 2**-k)*u, u/2], truncate (-u, 0], convergent [-u/2, u/2]

For the one-rounding Horner scheme this gives |e| <= u/2 * sum of |v|**k over k < d. The error is
the sum of two parts, each with its own reference ranges:

    arithmetic     the kernel against exact arithmetic on its own, rounded coefficients
    coefficients   exact arithmetic on rounded coefficients against that on real ones; before the
                   first decision it is the exact range of a difference of polynomials

A select adds nothing if its branches are equal where its comparison is undecided (a clamp). Any
other comparison may differ where its operands differ by at most their error. It is listed as a
decision, and the bounds hold where every such decision agrees. Saturation is not an error but
another function: a node that may leave its format is marked, and so is every node that follows from
it. Their bounds hold where nothing saturates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias, assert_never

from lnm_codegen.analysis.exact import exact, parameters_for
from lnm_codegen.analysis.interval import Interval, hull, integer_bits, interval_of, meet, point
from lnm_codegen.analysis.polynomial import (
    ConstrainedBox,
    Poly,
    SymbolicKernel,
    constant,
    substituted,
    variable,
)
from lnm_codegen.analysis.ranges import Given, checked, kernel_ranges, symbolic
from lnm_codegen.errors import InternalError, ModelError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.interpret import combined
from lnm_codegen.ir.kernel import Role
from lnm_codegen.ir.nodes import CompareOp
from lnm_codegen.ir.types import Bits, Rounding
from lnm_codegen.validation import require_known


@dataclass(frozen=True, slots=True)
class NodeError:
    """Error of one node: computed - exact."""

    bits: Bits  # the node's format
    range: Interval  # exact, with real coefficients
    arithmetic: Interval  # contribution of rounding in the kernel
    coefficients: Interval  # contribution of rounding the coefficients and constants
    saturates: bool  # it may leave its format
    after: tuple[str, ...]  # earlier nodes that may saturate; where they do, no bound holds
    decisions: tuple[str, ...]  # earlier decisions that must agree for the bound to hold

    @property
    def total(self) -> Interval:
        """Sum of both contributions."""
        return self.arithmetic + self.coefficients

    @property
    def bound(self) -> Fraction:
        """Largest absolute error."""
        return self.total.magnitude

    @property
    def ulp(self) -> Fraction:
        """`bound` in units of the node's last place."""
        return self.bound * (1 << self.bits.frac)

    @property
    def integer_bits(self) -> int:
        """Least m, sign included, such that range plus error fits Qm.frac."""
        return integer_bits(self.range + self.total, self.bits.frac)


@dataclass(frozen=True, slots=True)
class Decision:
    """A comparison that may differ from the one in exact arithmetic."""

    margin: Fraction  # it may differ only where its operands differ by at most this
    after: tuple[str, ...]  # earlier nodes that may saturate


@dataclass(frozen=True)
class ErrorBounds:
    """Errors and decisions of a fixed-point step."""

    nodes: dict[str, NodeError]  # by name, in order
    decisions: dict[str, Decision]  # by the Let that holds the comparison


def error_bounds(
    program: fx.Program,
    *,
    parameters: Mapping[str, Any],
    states: Given,
    inputs: Given,
    errors: Given | None = None,
) -> ErrorBounds:
    """Return bounds of the error of every node of a fixed-point step.

    Args:
        program: A program from `lnm.quantize`.
        parameters: Prepared parameter -> its real value (`prepared_parameters(neuron)`).
        states: State -> (low, high) before the step: exact multiples of its unit.
        inputs: Input -> (low, high), likewise.
        errors: State or input -> (low, high) of its error before the step, such as half a unit for
            a rounded real input; 0 otherwise.

    Raises:
        ModelError: A name is missing or unknown; an interval is not finite, or its low exceeds its
            high; a parameter does not fit its format.
    """
    kernel = program.kernel
    real_kernel, own_kernel = exact(kernel), exact(kernel, rounded_constants=True)
    box = checked(program.name, real_kernel, Role.STATE, states)
    box |= checked(program.name, real_kernel, Role.INPUT, inputs)
    real = parameters_for(program.name, kernel, parameters)
    own = {v.name: _rounded(program.name, v, real[v.name]) for v in kernel.input_vars(Role.PARAM)}
    real_box = box | {n: point(v) for n, v in real.items()}
    own_box = box | {n: point(v) for n, v in own.items()}
    real_ranges = kernel_ranges(real_kernel, real_box)
    own_ranges = kernel_ranges(own_kernel, own_box)
    moved = {n: point(own[n] - real[n]) for n in own}
    for word in errors or {}:
        require_known(program.name, "state or input", word, box)
    entering = {
        n: interval_of(program.name, f"error of {n!r}", e) for n, e in (errors or {}).items()
    }
    arithmetic = propagate(kernel, own_ranges, entering, rounding=True)
    own_values, real_values = symbolic(own_kernel, own_box), symbolic(real_kernel, real_box)
    known = _differences(real_kernel, own_values, real_values)
    coefficients = propagate(kernel, real_ranges, moved, rounding=False, known=known)
    decisions = Decisions(kernel, (arithmetic, coefficients))
    clipped = saturating(kernel, own_ranges, arithmetic.errors)
    nodes = {}
    for let in kernel.body:
        name, bits = let.target.name, let.target.type
        if isinstance(bits, Bits):
            nodes[name] = NodeError(
                bits=bits,
                range=real_ranges[name],
                arithmetic=arithmetic.errors[name],
                coefficients=coefficients.errors[name],
                saturates=name in clipped[name],
                after=tuple(n for n in clipped[name] if n != name),
                decisions=decisions.behind[name],
            )
    found = {n: Decision(m, clipped[n]) for n, m in decisions.margins.items()}
    return ErrorBounds(nodes, found)


def _rounded(name: str, var: fx.Var, value: Fraction) -> Fraction:
    """Return the value of a parameter's integer."""
    bits = fx.bits_of(var)
    integer = bits.nearest(value)
    if not bits.holds(integer):
        low, high = (float(end) for end in bits.interval)
        raise ModelError(
            name,
            f"parameter {var.name!r} is {float(value):g}, which does not fit {bits}",
            f"{low:g} to {high:g}",
            "Give more integer bits.",
        )
    return bits.value(integer)


def _differences(
    kernel: ir.Kernel, own: SymbolicKernel, real: SymbolicKernel
) -> dict[str, Interval]:
    """Return the exact coefficient error of each Let that is one polynomial of the inputs."""
    found: dict[str, Interval] = {}
    whole = ConstrainedBox(real.box, real.sources, ())
    inputs = {p.var.name for p in kernel.inputs}
    for let in kernel.body:
        name = let.target.name
        a, b = _only(own, name), _only(real, name)
        if a is None or b is None or not (a.variables | b.variables) <= inputs:
            continue  # a name that cancels has an error of its own
        inside = whole.range_of(a - b)
        if inside is not None:
            found[name] = inside
    return found


def _only(values: SymbolicKernel, name: str) -> Poly | None:
    """Return the polynomial of a Let that has one piece without conditions, or None."""
    first, *others = values.pieces[name]
    if others or first.conditions or isinstance(first.value, bool):
        return None
    return substituted(first.value, values.definitions)


# Propagation of errors and of undecided comparisons through a fixed-point kernel.
#
# A comparison `a op b` is undecided if |a - b| is at most
# the error of a - b, its margin: it may then differ from the one in exact arithmetic. A Select
# whose branches differ by a multiple of a - b, as those of a clamp do (where(h < v_min, v_min, h)),
# is continuous: both branches are equal where the comparison is undecided, and the error of the
# value is at most theirs. This must hold for rounded constants too: a condition that several
# Selects share may round v_min to another format. The value of any other Select depends on the
# decision.


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
        case fx.Negate() | fx.Sum() | fx.Product():
            found: Poly = combined(e, of)
            return found
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
