"""Removal of Detach from kernels that nothing differentiates any more."""

from __future__ import annotations

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Expr, Kernel
from lnm_codegen.ir.passes.cse import cse
from lnm_codegen.ir.types import REAL


def undetach(kernel: Kernel) -> Kernel:
    """Replace each Detach of a number by its operand; return `kernel` if it has none.

    A Detach of a spike stays. Leaves: no Let that copies a name, except to a result.
    Keeps: ports, results, the value of every Let, bit for bit.
    """
    attached = kernel.map_values(_attached)
    return kernel if attached == kernel else cse(attached)


def _attached(e: Expr) -> Expr:
    e = ir.map_children(e, _attached)
    return e.arg if isinstance(e, ir.Detach) and ir.type_of(e) is REAL else e
