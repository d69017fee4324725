"""Rules of well-formed kernels, of real numbers and of integers, and of a program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lnm_codegen.errors import InternalError
from lnm_codegen.ir import kernel as generic
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.kernel import E, K, V, variables
from lnm_codegen.ir.nodes import Expr, Program, Role
from lnm_codegen.ir.types import BOOL, MOST_BITS, REAL, Bits, Type


def verify(kernel: K) -> K:
    """Return `kernel` if it is well formed.

    Raises:
        InternalError: A rule of this module does not hold; the message names kernel and Let.
    """
    for fault in faults(kernel):
        raise InternalError(kernel.name, fault)
    return kernel


def faults(kernel: generic.Kernel[Any, Any]) -> Iterator[str]:
    """Yield the faults of a kernel; later ones may follow from earlier ones."""
    if isinstance(kernel, fx.Kernel):
        yield from _kernel_faults(kernel, _integer_faults, fx.type_of)
        yield from _state_faults(kernel)
    else:
        yield from _kernel_faults(kernel, _real_faults, ir.type_of)


def verify_program(program: Program) -> Program:
    """Return `program` if its kernels are well formed and fit together.

    Raises:
        InternalError: A rule of this module does not hold; the message names the kernel.
    """
    prepare, sums = verify(program.prepare), verify(program.prepare_backward)
    forward, backward = verify(program.forward), verify(program.backward)
    prepared = set(prepare.result_names(Role.PARAM))
    grads = set(backward.result_names(Role.PARAM))
    rules = (
        (forward, forward.input_names(Role.PARAM), prepared),
        (backward, backward.input_names(Role.PARAM), prepared),
        (backward, backward.result_names(Role.PARAM), {f"grad_{n}" for n in prepared}),
        (sums, sums.input_names(Role.GRAD), {f"sum_{n.removeprefix('grad_')}" for n in grads}),
    )
    for kernel, names, known in rules:
        for name in names:
            if name not in known:
                raise InternalError(kernel.name, f"the port {name!r} has no partner")
    return program


def _kernel_faults(
    kernel: generic.Kernel[E, V],
    value_faults: Callable[[E], Iterable[str]],
    type_of: Callable[[E], object],
) -> Iterator[str]:
    """Yield the faults of any kernel: names bound twice or too late, and types that differ.

    `value_faults` returns those within the value of one Let, `type_of` the type of a sound value.
    """
    for ports in (kernel.inputs, kernel.results):
        names = [p.var.name for p in ports]
        if len(names) != len(set(names)):
            yield f"two ports share a name: {', '.join(names)}"
    known = {p.var for p in kernel.inputs}
    for let in kernel.body:
        name = repr(let.target.name)
        for var in sorted(variables(let.value) - known, key=lambda v: v.name):
            yield f"{name} reads {var.name!r} before it is bound"
        yield from (f"{name} {fault}" for fault in value_faults(let.value))
        if type_of(let.value) != let.target.type:
            yield f"{name} differs in type from its value"
        if let.target.name in {v.name for v in known}:
            yield f"{name} is bound twice"
        known.add(let.target)
    for port in kernel.results:
        if port.var not in known:
            yield f"the result {port.var.name!r} is never bound"


def _real_faults(value: Expr) -> Iterator[str]:
    if isinstance(value, ir.Spike):
        if not ir.variables(value.slope) <= ir.variables(value.arg):
            yield "has a slope that reads more than its argument"
    for node in ir.walk(value):
        for child, wanted in _operand_types(node):
            if ir.type_of(child) is not wanted:
                yield f"has a {ir.type_of(child).value} as operand"


def _operand_types(e: Expr) -> list[tuple[Expr, Type]]:
    match e:
        case ir.Select(cond, then, orelse):
            return [(cond, BOOL), (then, REAL), (orelse, REAL)]
        case ir.Binary(ir.BinaryOp.AND | ir.BinaryOp.OR, a, b):
            return [(a, BOOL), (b, BOOL)]
        case ir.Unary(ir.UnaryOp.NOT, arg):
            return [(arg, BOOL)]
        case ir.Detach(arg):
            return [(arg, ir.type_of(arg))]
        case _:
            return [(child, REAL) for child in ir.children(e)]


def _integer_faults(value: fx.Expr) -> Iterator[str]:
    for node in reversed(list(fx.walk(value))):  # operands first: their types are sound
        yield from _node_faults(node)


def _state_faults(kernel: fx.Kernel) -> Iterator[str]:
    """Yield a fault unless each state leaves in its own format."""
    before = [(f"{v.name}_next", v.type) for v in kernel.input_vars(Role.STATE)]
    after = [(v.name, v.type) for v in kernel.result_vars(Role.STATE)]
    if before != after:
        found, expected = (
            ", ".join(f"{n} of {t}" for n, t in ports) or "none" for ports in (after, before)
        )
        yield f"the states that leave it are {found}; expected {expected}"


def _node_faults(node: fx.Expr) -> Iterator[str]:
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
