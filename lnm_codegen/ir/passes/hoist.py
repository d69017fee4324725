"""Hoisting: expressions of parameters alone move from the step to `prepare`, run once per call."""

from __future__ import annotations

from dataclasses import replace

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.kernel import names_of
from lnm_codegen.ir.nodes import Expr, Kernel, Let, Phase, Port, Role, Var
from lnm_codegen.ir.types import REAL


def hoist(prepare: Kernel, *kernels: Kernel) -> tuple[Kernel, ...]:
    """Move expressions of parameters alone from `kernels` into `prepare`.

    Args:
        prepare: Its results are the parameters that `kernels` take.
        kernels: Step kernels, whose PARAM ports become those they still read and the new ones.

    Returns:
        The longer `prepare`, then the kernels.
    """
    pass_ = _Hoist(prepare, kernels)
    moved = [pass_.kernel(k) for k in kernels]
    return pass_.prepared(), *moved


class _Hoist:
    def __init__(self, prepare: Kernel, kernels: tuple[Kernel, ...]) -> None:
        self._prepare = prepare
        self._names = names_of(prepare, *kernels)
        self._known = {let.value: let.target for let in prepare.body}
        self._new: list[Let] = []

    def kernel(self, kernel: Kernel) -> Kernel:
        params = kernel.input_vars(Role.PARAM)
        prepared: dict[Var, Expr] = {p: p for p in params}
        results = {p.var for p in kernel.results}
        body: list[Let] = []
        for let in kernel.body:
            value = self._replace(let.value, prepared)
            movable = ir.variables(let.value) <= prepared.keys() and ir.type_of(value) is REAL
            if movable and let.target not in results:
                prepared[let.target] = value if ir.is_atom(value) else self._param(value)
            else:
                body.append(replace(let, value=value))
        kernel = replace(kernel, body=tuple(body))
        made, reads = [let.target for let in self._new], kernel.reads
        kept = [v for v in dict.fromkeys((*params, *made, *self._known.values())) if v in reads]
        ports = [p for p in kernel.inputs if p.role is not Role.PARAM]
        return replace(kernel, inputs=(*ports, *(Port(v, Role.PARAM) for v in kept)))

    def _replace(self, e: Expr, prepared: dict[Var, Expr]) -> Expr:
        if isinstance(e, Var):
            return prepared.get(e, e)
        read = ir.variables(e)
        negated = isinstance(e, ir.Unary) and isinstance(e.arg, Var)  # subtraction and fma negate
        if read and read <= prepared.keys() and ir.type_of(e) is REAL and not negated:
            return self._param(ir.substitute(e, prepared))
        if isinstance(e, ir.Spike):  # the slope reads what the argument reads
            return ir.substitute(e, prepared)
        return ir.map_children(e, lambda c: self._replace(c, prepared))

    def _param(self, value: Expr) -> Var:
        if value not in self._known:
            target = Var(self._name(value), ir.type_of(value))
            self._known[value] = target
            self._new.append(Let(target, value, Phase.PREPARE))
        return self._known[value]

    def _name(self, value: Expr) -> str:
        match value:
            case ir.Binary(ir.BinaryOp.DIV, ir.Const(value=one), Var(name)) if one == 1:
                return self._names.fresh(f"inv_{name}")
            case ir.Binary(ir.BinaryOp.MUL, ir.Const(value=k), Var(name)) if k in range(2, 10):
                return self._names.fresh(f"{name}_x{k}")
            case ir.Unary(ir.UnaryOp.NEG, Var(name)):
                return self._names.fresh(f"minus_{name}")
            case ir.Call(fn, Var(name)):
                return self._names.fresh(f"{fn.value}_{name}")
            case _:
                return self._names.numbered("p")

    def prepared(self) -> Kernel:
        results = (*self._prepare.results, *(Port(x.target, Role.PARAM) for x in self._new))
        return replace(self._prepare, body=(*self._prepare.body, *self._new), results=results)
