"""PyTorch backend: a readable function, eager, over `unbind`.

Autograd differentiates it through the surrogate alone: an independent check of the symbolic
backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lnm_codegen.backends import expr
from lnm_codegen.backends.base import Source
from lnm_codegen.backends.names import Scope, names_of, require_no_collision, scope
from lnm_codegen.backends.plan import Plan, require_distinct
from lnm_codegen.backends.render import render, tuple_text
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import rounded
from lnm_codegen.ir.nodes import Const, Kernel, Let, Role, spikes_of
from lnm_codegen.ir.passes.simplify import keep_results


@dataclass(frozen=True, slots=True)
class TorchDialect(expr.Dialect):
    """Python over tensors. `spikes` are tensors of 0 and 1 that carry a derivative."""

    spikes: frozenset[ir.Var]
    like: str

    NOT: ClassVar[str] = "~"

    def number(self, c: Const) -> str:
        """Return a literal."""
        return repr(float(rounded(c.value, "float64")))

    def select(self, e: ir.Select) -> tuple[str, int]:
        """Return a select."""
        then, orelse = expr.text(e.then, self), expr.text(e.orelse, self)
        if e.cond in self.spikes:
            name = expr.text(e.cond, self)
            if (e.then, e.orelse) == (ir.ONE, ir.ZERO):
                return name, expr.CALL
            return f"_select_on_spike({name}, {then}, {orelse})", expr.CALL
        if isinstance(e.then, Const) and isinstance(e.orelse, Const):
            then = f"{self.like}.new_full((), {then})"
        return f"torch.where({expr.text(e.cond, self)}, {then}, {orelse})", expr.CALL

    def fma(self, e: ir.Fma) -> tuple[str, int]:
        """Return a fused multiply-add."""
        a, b = expr.text(e.a, self, expr.PRODUCT), expr.text(e.b, self, expr.PRODUCT + 1)
        return f"{a} * {b} + {expr.text(e.c, self, expr.SUM + 1)}", expr.SUM

    def call(self, e: ir.Call) -> tuple[str, int]:
        """Return a function call."""
        return f"torch.{e.fn.value}({expr.text(e.arg, self)})", expr.CALL

    def spike(self, e: ir.Spike) -> tuple[str, int]:
        """Raise an error: a spike is printed with its Let."""
        raise AssertionError("a spike is printed with its Let")

    def detach(self, e: ir.Detach) -> tuple[str, int]:
        """Return the operand of a Detach."""
        return f"{expr.text(e.arg, self, expr.CALL)}.detach()", expr.CALL


class Torch:
    """The eager PyTorch backend."""

    def emit(self, plan: Plan) -> Source:
        """Return one module with `prepare`, `step` and `multi_step`.

        Raises:
            UnsupportedError: Two names collide in the generated code.
        """
        where = f"torch: {plan.name}"
        arguments = [*(f"{x}_seq" for x in plan.inputs), *plan.states]
        require_distinct(where, [*arguments, *(p.name for p in plan.params)])
        require_no_collision(where, scopes_of(plan))
        path = f"{plan.name}_torch.py"
        return Source({path: _module(plan)}, path)


def scopes_of(plan: Plan) -> list[Scope]:
    """Return the scopes of the template in which a name of the plan can equal another word."""
    names = names_of(plan)
    ports = dict.fromkeys(("state", "output", "count", "param"), "{}")
    spikes = spikes_of(plan.forward)
    lets = [let for kernel in (plan.prepare, plan.forward) for let in kernel.body]
    calls_torch = any(
        isinstance(node, ir.Call)
        or (isinstance(node, ir.Select) and node.cond not in spikes)
        or (isinstance(node, Const) and node is let.value)
        for let in lets
        for node in ir.walk(let.value)
    )
    return [
        scope(names, "torch" if calls_torch else "", variable="{}"),
        scope(names, "prepare step zip", **ports, input="{} {}_seq"),
    ]


def _module(plan: Plan) -> str:
    forward = plan.program.forward
    inputs, outputs = plan.inputs, plan.outputs
    states, params = (tuple(d.name for d in of) for of in (plan.declared_states, plan.params))
    taken, counts = forward.input_names(Role.PARAM), forward.result_names(Role.COUNT)
    results, kept = forward.result_names(*Role), (*outputs, *states, *counts)
    prepare = keep_results(plan.program.prepare, set(taken))
    unpack = (f"{tuple_text(p.element_names)} = {p.name}.unbind(-1)" for p in plan.params if p.size)
    steps = _lines(forward, (*inputs, *states)[0])
    sequences = tuple(f"{x}_seq" for x in inputs)
    signature = [*sequences, *states, *(["*"] if params else []), *params]
    stacked = (f"_stacked(_{o}_seq, {sequences[0]})" for o in outputs)
    view = dict(
        name=plan.family,
        equations=plan.definition,
        spikes=_spikes(forward),
        selects_on_spike=any("_select_on_spike(" in line for line in steps),
        params=params,
        prepare_signature=", ".join(params),
        prepare_lines=(*unpack, *_lines(prepare, (*prepare.input_names(Role.PARAM), "")[0])),
        prepared=tuple_text(taken),
        step_arguments=", ".join((*states, *inputs, *taken)),
        step_lines=steps,
        step_results=", ".join(results),
        step_returned=_targets(results),
        states=states,
        inputs=inputs,
        outputs=outputs,
        counts=counts,
        sequence_signature=", ".join(signature),
        loop=f"for {tuple_text(inputs)} in zip({', '.join(f'{x}.unbind(0)' for x in sequences)})",
        step_call=f"{_targets(kept)} = step({', '.join((*states, *inputs))}, *_prepared)",
        returned=_targets([*stacked, *states, *(f"_{c}_sum" for c in counts)]),
        returned_text=", ".join(kept),
    )
    return render("torch/module.py.j2", view)


def _targets(names: Sequence[str]) -> str:
    return f"{names[0]}," if len(names) == 1 else ", ".join(names)


def _spikes(kernel: Kernel) -> tuple[tuple[str, str, str, str], ...]:
    """Return (function, class, argument, slope) of each spike."""
    found = []
    classes: set[str] = set()
    for let in kernel.body:
        if isinstance(let.value, ir.Spike):
            z = let.value.arg.name if isinstance(let.value.arg, ir.Var) else "z"
            slope = expr.text(let.value.slope, TorchDialect(frozenset(), z))
            name = _function_name(let.target.name)
            found.append((name, _class_name(name, classes), z, slope))
    return tuple(found)


def _function_name(fired: str) -> str:
    return "_spike" + fired.removeprefix("fired")


def _class_name(function: str, taken: set[str]) -> str:
    """Return the class of a spike's function, and take it and its dual: s1 and s_1 differ."""
    word = "_" + function.title().replace("_", "")
    name, number = word, 2
    while taken & {name, f"{name}Dual"}:
        name, number = f"{word}{number}", number + 1
    taken |= {name, f"{name}Dual"}
    return name


def _lines(kernel: Kernel, like: str) -> tuple[str, ...]:
    dialect = TorchDialect(frozenset(spikes_of(kernel)), like)

    def statement(let: Let) -> list[str]:
        match let.value:
            case ir.Spike(arg, _):
                z = expr.text(arg, dialect)
                z = f"torch.full_like({like}, {z})" if isinstance(arg, Const) else z
                value = f"{_function_name(let.target.name)}({z})"
            case Const() if like:
                value = f"torch.full_like({like}, {expr.text(let.value, dialect)})"
            case _:
                value = expr.text(let.value, dialect)
        return [f"{let.target.name} = {value}"]

    return expr.statements(kernel.phases(), "#", statement)
