"""What a well-formed kernel is, one rule per function."""

from __future__ import annotations

from lnm_codegen.errors import InternalError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Expr, Kernel, Let, Var
from lnm_codegen.ir.types import BOOL, REAL, Type


def verify(kernel: Kernel) -> Kernel:
    """Return `kernel` if it is well formed.

    Raises:
        InternalError: A rule of this module does not hold; the message names kernel and Let.
    """
    known = {p.var for p in kernel.inputs}
    _distinct(kernel, [p.var.name for p in kernel.inputs])
    for let in kernel.body:
        _reads_known(kernel, let, known)
        _typed(kernel, let)
        if let.target.name in {v.name for v in known}:
            raise _broken(kernel, let, "is bound twice")
        known.add(let.target)
    for port in kernel.results:
        if port.var not in known:
            raise InternalError(kernel.name, f"the result {port.var.name!r} is never bound")
    _distinct(kernel, [p.var.name for p in kernel.results])
    return kernel


def _broken(kernel: Kernel, let: Let, what: str) -> InternalError:
    return InternalError(kernel.name, f"{let.target.name!r} {what}")


def _distinct(kernel: Kernel, names: list[str]) -> None:
    if len(names) != len(set(names)):
        raise InternalError(kernel.name, f"two ports share a name: {', '.join(names)}")


def _reads_known(kernel: Kernel, let: Let, known: set[Var]) -> None:
    for var in sorted(ir.variables(let.value) - known, key=lambda v: v.name):
        raise _broken(kernel, let, f"reads {var.name!r} before it is bound")
    if isinstance(let.value, ir.Spike):
        if not ir.variables(let.value.slope) <= ir.variables(let.value.arg):
            raise _broken(kernel, let, "has a slope that reads more than its argument")


def _typed(kernel: Kernel, let: Let) -> None:
    if ir.type_of(let.value) is not let.target.type:
        raise _broken(kernel, let, "differs in type from its value")
    for node in ir.walk(let.value):
        for child, wanted in _operand_types(node):
            if ir.type_of(child) is not wanted:
                raise _broken(kernel, let, f"has a {ir.type_of(child).value} as operand")


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
