"""Cost of a kernel: operations and values, per neuron and time step.

The nodes of the IR are counted, so that the numbers are exact and depend on no target. A negation,
a Detach, `and`, `or` and `not` of conditions and a copy are free: targets fold them into their
neighbours. A spike is one comparison; its slope counts where the adjoint computes it. An integer
power counts as its multiplications; only kernels before `horner | estrin` have one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace
from typing import assert_never

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import BinaryOp, Expr, Kernel


@dataclass(frozen=True, slots=True)
class Count:
    """Numbers of operations; counts add.

    A fused multiply-add counts as `fused` alone, a spike as a comparison. `functions` has (name,
    number) of each special function, sorted by name.
    """

    multiplications: int = 0
    additions: int = 0
    fused: int = 0
    divisions: int = 0
    comparisons: int = 0
    selects: int = 0
    functions: tuple[tuple[str, int], ...] = ()

    def __add__(self, other: Count) -> Count:
        calls = Counter(dict(self.functions)) + Counter(dict(other.functions))
        numbers = {word: getattr(self, word) + getattr(other, word) for word in OPERATIONS}
        return replace(self, functions=tuple(sorted(calls.items())), **numbers)

    @property
    def total(self) -> int:
        """The number of all operations; a fused multiply-add counts once."""
        plain: int = sum(getattr(self, word) for word in OPERATIONS)
        return plain + sum(n for _, n in self.functions)


_BINARY = {
    BinaryOp.ADD: Count(additions=1), BinaryOp.SUB: Count(additions=1),
    BinaryOp.MUL: Count(multiplications=1), BinaryOp.DIV: Count(divisions=1),
    BinaryOp.AND: Count(), BinaryOp.OR: Count(),
}  # fmt: skip
OPERATIONS = tuple(f.name for f in fields(Count) if f.name != "functions")
"""The fields of a `Count` that are numbers."""


@dataclass(frozen=True, slots=True)
class Values:
    """Numbers of values in one run of a kernel.

    Input ports are read, result ports written, Lets computed unless they copy. `live` is the most
    values that are needed at once, in the order of the Lets.
    """

    read: int
    computed: int
    written: int
    live: int


def count(kernel: Kernel) -> Count:
    """Return the operations of one run of a kernel."""
    nodes = (node for let in kernel.body for node in ir.walk(let.value))
    return sum(map(_cost, nodes), Count())


def values(kernel: Kernel) -> Values:
    """Return the numbers of values that a kernel reads, computes, writes and holds at once."""
    return Values(
        read=len(kernel.inputs),
        computed=sum(not ir.is_atom(let.value) for let in kernel.body),
        written=len(kernel.results),
        live=_live(kernel),
    )


def _cost(e: Expr) -> Count:
    """Return the cost of a node without its operands."""
    match e:
        case ir.Const() | ir.Var() | ir.Unary() | ir.Detach():
            return Count()
        case ir.Binary(op, _, _):
            return _BINARY[op]
        case ir.Power(_, exponent):
            return Count(multiplications=exponent - 1)
        case ir.Compare() | ir.Spike():
            return Count(comparisons=1)
        case ir.Select():
            return Count(selects=1)
        case ir.Fma():
            return Count(fused=1)
        case ir.Call(fn, _):
            return Count(functions=((fn.value, 1),))
        case _:
            assert_never(e)


def _live(kernel: Kernel) -> int:
    """Return the largest number of values that later Lets or results need, copies counted once."""
    origin: dict[ir.Var, Expr] = {}
    for let in kernel.body:
        if ir.is_atom(let.value):
            origin[let.target] = ir.substitute(let.value, origin)
    needed = {v for p in kernel.results for v in ir.variables(ir.substitute(p.var, origin))}
    most = len(needed)
    for let in reversed(kernel.body):
        if let.target not in origin:
            needed.discard(let.target)
            reads = ir.variables(ir.substitute(let.value, origin))
            most = max(most, len(needed | reads), len(needed) + 1)
            needed |= reads
    return most
