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
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lnm_codegen.analysis.arithmetic.interval import Interval, integer_bits, interval_of, point
from lnm_codegen.analysis.arithmetic.pieces import ConstrainedBox, SymbolicKernel
from lnm_codegen.analysis.arithmetic.polynomial import Poly, substituted
from lnm_codegen.analysis.exact import exact, parameters_for
from lnm_codegen.analysis.propagate import Decisions, propagate, saturating
from lnm_codegen.analysis.ranges import Given, checked, kernel_ranges
from lnm_codegen.analysis.symbolic import symbolic
from lnm_codegen.errors import ModelError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.types import Bits
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
