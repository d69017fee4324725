"""Rules of a well-formed fixed-point kernel."""

from __future__ import annotations

from collections.abc import Iterator

from lnm_codegen.errors import InternalError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.types import BOOL, MOST_BITS, Bits
from lnm_codegen.ir.verify import kernel_faults


def verify(kernel: fx.Kernel) -> fx.Kernel:
    """Return `kernel` if it is well formed.

    Raises:
        InternalError: A rule of this module does not hold; the message names kernel and Let.
    """
    for fault in faults(kernel):
        raise InternalError(kernel.name, fault)
    return kernel


def faults(kernel: fx.Kernel) -> Iterator[str]:
    """Yield the faults of a kernel; later ones may follow from earlier ones."""
    yield from kernel_faults(kernel, _value_faults, fx.type_of)
    yield from _states(kernel)


def _value_faults(value: fx.Expr) -> Iterator[str]:
    for node in reversed(list(fx.walk(value))):  # operands first: their types are sound
        yield from _operands(node)


def _states(kernel: fx.Kernel) -> Iterator[str]:
    """Yield a fault unless each state leaves in its own format."""
    before = [(f"{v.name}_next", v.type) for v in kernel.input_vars(Role.STATE)]
    after = [(v.name, v.type) for v in kernel.result_vars(Role.STATE)]
    if before != after:
        found, expected = (
            ", ".join(f"{n} of {t}" for n, t in ports) or "none" for ports in (after, before)
        )
        yield f"the states that leave it are {found}; expected {expected}"


def _operands(node: fx.Expr) -> Iterator[str]:
    """Yield faults of a node: points that differ, misplaced conditions, widths out of range."""
    types = [fx.type_of(child) for child in fx.children(node)]
    kind = type(node).__name__
    match node:
        case fx.Sum() | fx.Compare() | fx.Select():
            numbers = types[-2:]
            points = {t.frac for t in numbers if isinstance(t, Bits)}
            if len(points) != 1 or BOOL in numbers:
                yield f"has a {kind} whose points differ"
                return
            if isinstance(node, fx.Select) and types[0] is not BOOL:
                yield "selects by a number"
        case fx.Not() | fx.Both() | fx.Either():
            if set(types) != {BOOL}:
                yield f"has a {kind} of numbers"
        case _:
            if BOOL in types:
                yield f"has a condition in a {kind}"
                return
    if isinstance(node, fx.Round | fx.Shift) and node.places < 1:
        yield "shifts by no place"
    if isinstance(node, fx.Const):
        if node.bits.nearest(node.real) != node.integer:
            yield f"has a constant {node.integer}:{node.bits} that is not {node.real} rounded"
        if not node.bits.holds(node.integer):
            yield f"has a constant {node.integer} that does not fit {node.bits}"
    own = fx.type_of(node)
    if isinstance(own, Bits) and not (1 <= own.width <= MOST_BITS and own.frac >= 0):
        yield f"has a number of {own.width} bits, {own.frac} of them a fraction"
