"""`torch`: a readable PyTorch function, eager, over `unbind`.

Its autograd, through the surrogate alone, is an independent check of the symbolic backward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lnm_codegen.backends import expr
from lnm_codegen.backends.base import Model, Source
from lnm_codegen.backends.render import render
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import rounded
from lnm_codegen.ir.names import spikes_of
from lnm_codegen.ir.nodes import BinaryOp, Const, Kernel, Role, UnaryOp
from lnm_codegen.ir.passes.dce import keep_results

_FUNCTIONS = {fn: f"torch.{fn.value}" for fn in ir.Fn}


@dataclass(frozen=True, slots=True)
class _Dialect:
    """Python over tensors. `spikes` are tensors of 0 and 1 that carry a derivative."""

    spikes: frozenset[ir.Var]
    like: str

    symbols: ClassVar[dict[BinaryOp | UnaryOp, str]] = {
        BinaryOp.ADD: "+", BinaryOp.SUB: "-", BinaryOp.MUL: "*", BinaryOp.DIV: "/",
        BinaryOp.AND: "&", BinaryOp.OR: "|", UnaryOp.NEG: "-", UnaryOp.NOT: "~",
    }  # fmt: skip

    def number(self, c: Const) -> str:
        """Write a literal."""
        return repr(float(rounded(c.value, "float64")))

    def select(self, e: ir.Select) -> tuple[str, int]:
        """Write a select."""
        then, orelse = expr.text(e.then, self), expr.text(e.orelse, self)
        if e.cond in self.spikes:
            name = expr.text(e.cond, self)
            if (e.then, e.orelse) == (ir.ONE, ir.ZERO):
                return name, expr.CALL
            return f"select_on_spike({name}, {then}, {orelse})", expr.CALL
        if isinstance(e.then, Const) and isinstance(e.orelse, Const):
            then = f"{self.like}.new_tensor({then})"
        return f"torch.where({expr.text(e.cond, self)}, {then}, {orelse})", expr.CALL

    def fma(self, e: ir.Fma) -> tuple[str, int]:
        """Write a fused multiply-add."""
        a, b = expr.text(e.a, self, expr.PRODUCT), expr.text(e.b, self, expr.PRODUCT + 1)
        return f"{a} * {b} + {expr.text(e.c, self, expr.SUM + 1)}", expr.SUM

    def call(self, e: ir.Call) -> tuple[str, int]:
        """Write a function call."""
        return f"{_FUNCTIONS[e.fn]}({expr.text(e.arg, self)})", expr.CALL

    def spike(self, e: ir.Spike) -> tuple[str, int]:
        """Write whether a spike is fired."""
        raise AssertionError("a spike is printed with its Let")

    def detach(self, e: ir.Detach) -> tuple[str, int]:
        """Write the operand of a Detach."""
        return f"{expr.text(e.arg, self, expr.CALL)}.detach()", expr.CALL


@dataclass(frozen=True, slots=True)
class _View:
    name: str
    equations: tuple[str, ...]
    spikes: tuple[tuple[str, str, str], ...]
    selects_on_spike: bool
    params: tuple[str, ...]
    prepare_signature: str
    prepare_lines: tuple[str, ...]
    prepared: str
    step_arguments: str
    step_lines: tuple[str, ...]
    step_results: str
    step_returned: str
    states: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    counts: tuple[str, ...]
    sequence_signature: str
    loop: str
    step_call: str
    returned: str
    returned_text: str


class Torch:
    """The eager PyTorch backend."""

    name = "torch"

    def emit(self, model: Model) -> Source:
        """Return one module with `prepare`, `step` and `multi_step`."""
        path = f"{model.name}_torch.py"
        return Source({path: render("torch/module.py.j2", _view(model))}, path)


def _view(model: Model) -> _View:
    forward = model.program.forward
    inputs, outputs = model.inputs, model.outputs
    states = tuple(s.name for s in model.states)
    taken = forward.input_names(Role.PARAM)
    prepare = keep_results(model.program.prepare, set(taken))
    unpack = [
        f"{_tuple(p.element_names)} = {p.name}.unbind(-1)"
        for p in model.params
        if p.size is not None
    ]
    counts = forward.result_names(Role.COUNT)
    steps = _lines(forward, (*inputs, *states)[0])
    first_param = (*prepare.input_names(Role.PARAM), "")[0]
    sequences = tuple(f"{x}_seq" for x in inputs)
    names = ", ".join(p.name for p in model.params)
    like = sequences[0]
    taken_each_step = ", ".join((*states, *inputs))
    return _View(
        name=model.family,
        equations=model.equations,
        spikes=_spikes(forward),
        selects_on_spike=any("select_on_spike(" in line for line in steps),
        params=tuple(p.name for p in model.params),
        prepare_signature=names,
        prepare_lines=(*unpack, *_lines(prepare, first_param)),
        prepared=_tuple(taken),
        step_arguments=", ".join((*states, *inputs, *taken)),
        step_lines=tuple(steps),
        step_results=", ".join(p.var.name for p in forward.results),
        step_returned=_targets(tuple(p.var.name for p in forward.results), ()),
        states=states,
        inputs=inputs,
        outputs=outputs,
        counts=counts,
        sequence_signature=", ".join((*sequences, *states)) + (f", *, {names}" if names else ""),
        loop=f"for {_tuple(inputs)} in zip({', '.join(f'{x}.unbind(0)' for x in sequences)})",
        step_call=f"{_targets(outputs, states, counts)} = step({taken_each_step}, *prepared)",
        returned=_targets(
            tuple(f"stacked({o}_seq, {like})" for o in outputs),
            states,
            tuple(f"{c}_sum" for c in counts),
        ),
        returned_text=", ".join((*outputs, *states, *counts)),
    )


def _tuple(names: tuple[str, ...]) -> str:
    """Return names as a tuple of Python, which needs a comma where it has one element."""
    return f"({', '.join(names)}{',' if len(names) == 1 else ''})"


def _targets(*groups: tuple[str, ...]) -> str:
    names = [name for group in groups for name in group]
    return names[0] + "," if len(names) == 1 else ", ".join(names)


def _spikes(kernel: Kernel) -> tuple[tuple[str, str, str], ...]:
    """Return (class name, argument, slope) of each spike."""
    found = []
    for let in kernel.body:
        if isinstance(let.value, ir.Spike) and isinstance(let.value.arg, ir.Var):
            z = let.value.arg.name
            slope = expr.text(let.value.slope, _Dialect(frozenset(), z))
            found.append((_class_name(let.target.name), z, slope))
    return tuple(found)


def _class_name(fired: str) -> str:
    words = fired.removeprefix("fired").split("_")
    return "Spike" + "".join(w.title() for w in words if w)


def _lines(kernel: Kernel, like: str) -> list[str]:
    dialect = _Dialect(frozenset(spikes_of(kernel)), like)
    lines: list[str] = []
    phase = None
    for let in kernel.body:
        if let.phase is not phase and let.phase is not ir.Phase.PREPARE:
            lines.append(f"# {let.phase.value}")
        phase = let.phase
        match let.value:
            case ir.Spike(arg, _):
                value = f"{_class_name(let.target.name)}.apply({expr.text(arg, dialect)})"
            case Const() if like:
                value = f"torch.full_like({like}, {expr.text(let.value, dialect)})"
            case _:
                value = expr.text(let.value, dialect)
        lines.append(f"{let.target.name} = {value}")
    return lines
