"""How far a fixed-point step may be from the exact one, from the same state and input.

Write a^ for what the kernel computes and a for the exact value, e_a = a^ - a. Then

    sum        e = e_a + e_b            product    e = e_a*b + a*e_b + e_a*e_b
    rounding   e + r, of k dropped bits and unit u = 2**-frac:
               half_up r in [-(1/2 - 2**-k)*u, u/2], truncate (-u, 0], convergent [-u/2, u/2]

For the one-rounding Horner scheme that gives |e| <= u/2 * sum of |v|**k over k < d. Two parts add
up, each with the ranges of the values it is measured against:

    arithmetic     the kernel against exact arithmetic on its own, rounded coefficients;
    coefficients   exact arithmetic on rounded coefficients against that on real ones; where nothing
                   was decided before, it is the exact range of a difference of polynomials.

A select between values that are equal where its comparison is undecided (a clamp) adds nothing. Any
other comparison may fall differently where its operands differ by no more than their error: it is
listed as a decision, and the bounds hold where every such decision agrees. Saturation is no error
but another function: a node that may leave its format is marked, and so is what follows from it;
their bounds hold where nothing saturates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lnm_codegen.analysis.arithmetic.condition import Region
from lnm_codegen.analysis.arithmetic.interval import Interval, integer_bits, interval_of, point
from lnm_codegen.analysis.arithmetic.pieces import Symbolic
from lnm_codegen.analysis.arithmetic.polynomial import Poly, substituted
from lnm_codegen.analysis.decisions import Decisions, saturating
from lnm_codegen.analysis.exact import exact, parameters_for
from lnm_codegen.analysis.propagate import propagate
from lnm_codegen.analysis.ranges import Given, checked, kernel_ranges
from lnm_codegen.analysis.symbolic import symbolic
from lnm_codegen.errors import ModelError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.types import Bits


@dataclass(frozen=True, slots=True)
class NodeError:
    """The error of one node: computed - exact.

    Attributes:
        bits: The node's format.
        range: Its exact range, with real coefficients.
        arithmetic: What rounding in the kernel contributes.
        coefficients: What rounding the coefficients and constants contributes.
        saturates: It may leave its format.
        after: Nodes before it that may; where they do, the bound says nothing.
        decisions: Decisions before it on whose agreement the bound depends.
    """

    bits: Bits
    range: Interval
    arithmetic: Interval
    coefficients: Interval
    saturates: bool
    after: tuple[str, ...]
    decisions: tuple[str, ...]

    @property
    def total(self) -> Interval:
        """The whole error."""
        return self.arithmetic + self.coefficients

    @property
    def bound(self) -> Fraction:
        """The largest absolute error."""
        return self.total.magnitude

    @property
    def ulp(self) -> Fraction:
        """`bound` in units of the last place of the node."""
        return self.bound * (1 << self.bits.frac)

    @property
    def integer_bits(self) -> int:
        """The least m, sign included, so that range and error fit Qm.frac."""
        return integer_bits(self.range + self.total, self.bits.frac)


@dataclass(frozen=True, slots=True)
class Decision:
    """A comparison that may fall differently than in exact arithmetic.

    Attributes:
        margin: It does so only where its operands differ by no more than this.
        after: Nodes before it that may saturate.
    """

    margin: Fraction
    after: tuple[str, ...]


@dataclass(frozen=True)
class ErrorBounds:
    """What `error_bounds` returns: `nodes` by name in order, `decisions` by the Let they are in."""

    nodes: dict[str, NodeError]
    decisions: dict[str, Decision]


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
        program: What `lnm.quantize` made.
        parameters: Prepared parameter -> its real value (`prepared_parameters(neuron)`).
        states: State -> (low, high) before the step: multiples of its unit, taken without error.
        inputs: Input -> (low, high), likewise.
        errors: State or input -> (low, high) of how far what the kernel takes is from the exact
            value, such as half a unit where a real input is rounded; 0 otherwise.

    Raises:
        ModelError: A name that is missing or unknown, an interval upside down or not finite, a
            parameter that does not fit its format.
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
    arithmetic = propagate(
        kernel, own_ranges, _entering(program.name, box, errors or {}), rounding=True
    )
    known = _differences(
        real_kernel, symbolic(own_kernel, own_box), symbolic(real_kernel, real_box)
    )
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


def _entering(name: str, box: Mapping[str, Interval], errors: Given) -> dict[str, Interval]:
    for word in errors:
        if word not in box:
            raise ModelError(name, f"errors names {word!r}, which is no state or input", box)
    return {n: interval_of(f"{name}: error of {n!r}", e) for n, e in errors.items()}


def _rounded(name: str, var: fx.Var, value: Fraction) -> Fraction:
    """Return a parameter as its integer says."""
    bits = var.type
    assert isinstance(bits, Bits)
    integer = bits.nearest(value)
    if not bits.holds(integer):
        low, high = bits.interval
        raise ModelError(
            name,
            (
                f"parameter {var.name!r} is {float(value):g}, which does not fit {bits}: "
                f"{float(low):g} to {float(high):g}"
            ),
            remedy="Give more integer bits.",
        )
    return bits.value(integer)


def _differences(kernel: ir.Kernel, own: Symbolic, real: Symbolic) -> dict[str, Interval]:
    """Return the exact error of coefficients of each Let that is one polynomial of the inputs."""
    found: dict[str, Interval] = {}
    whole = Region(real.box, real.sources, ())
    inputs = {p.var.name for p in kernel.inputs}
    for let in kernel.body:
        name = let.target.name
        a, b = _only(own, name), _only(real, name)
        if a is None or b is None or not (a.variables | b.variables) <= inputs:
            continue  # a name that cancels has errors of its own
        inside = whole.range_of(a - b)
        if inside is not None:
            found[name] = inside
    return found


def _only(values: Symbolic, name: str) -> Poly | None:
    """Return the polynomial of a Let, if it is one everywhere."""
    first, *others = values.pieces[name]
    if others or first.conditions or isinstance(first.value, bool):
        return None
    return substituted(first.value, values.definitions)
