"""The host side of the Triton module: launches on buffers, and the differentiable function."""

from __future__ import annotations

import keyword
import textwrap
from dataclasses import dataclass

from lnm_codegen.backends.plan import SIZES, Field
from lnm_codegen.backends.render import render
from lnm_codegen.backends.triton.expr import enclosed
from lnm_codegen.backends.triton.kernels import scaled
from lnm_codegen.backends.triton.names import Names
from lnm_codegen.backends.triton.sums import SumsView, sums_view
from lnm_codegen.ir.declarations import Param

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _HostView:
    real: str
    state_rows: str
    counts: Words
    forward_arguments: Words
    forward_passed: Words
    forward_nullable: str
    forward_aligned: Words
    backward_arguments: Words
    backward_passed: Words
    backward_nullable: str
    backward_aligned: Words
    unit: str
    columns: str
    first: str
    term_count: int
    any_gradient: str
    adjoint_only: bool
    sums: SumsView


@dataclass(frozen=True, slots=True)
class _AutogradView:
    function: str
    io: str
    real: str
    by_rows: bool
    inputs: Words
    outputs: Words
    states: Words
    first: str
    forward_head: Words
    save: Words
    backward_head: Words
    restore: Words
    seeds: Words
    returned: str
    forward_passed: Words
    backward_passed: Words
    gradients: tuple[tuple[str, int], ...]
    grads_returned: Words
    head: Words
    params: tuple[tuple[str, str], ...]
    applied: Words
    channels_text: str
    returned_text: str


def function_name(name: str) -> str:
    """Return what the differentiable function is called: `if_` where the name is Python's."""
    return f"{name}_" if keyword.iskeyword(name) else name


def host_text(names: Names) -> str:
    """Return the source of `checkpoints`, `forward` and `backward`."""
    plan = names.plan
    first = (*plan.model.inputs, *plan.model.outputs)[0]
    wanted = [f"grad_{p.name}" for p in plan.learnable]
    backward = plan.backward_fields
    view = _HostView(
        real=f"torch.{plan.model.real}",
        state_rows=scaled(len(plan.states), "neurons"),
        counts=plan.counts,
        forward_arguments=_arguments(plan.forward_fields),
        forward_passed=tuple(
            a.removesuffix("_sum") + "_parts" if a in {f"{q}_sum" for q in plan.counts} else a
            for a in _arguments(plan.forward_fields)
        ),
        forward_nullable=_nullable(
            "    What may be None is then not written:", plan.forward_fields
        ),
        forward_aligned=_aligned(names, plan.forward_fields, "neurons"),
        backward_arguments=_arguments(backward),
        backward_passed=_arguments(names.backward_fields),
        backward_nullable=_nullable("    What may be None is then absent or not wanted:", backward),
        backward_aligned=_aligned(names, names.backward_fields, "neurons", "width"),
        unit="sample" if names.by_rows else "LANES",
        columns="width" if names.by_rows else "programs",
        first=f"{first}_seq",
        term_count=len(plan.terms),
        any_gradient=" or ".join(f"{w} is not None" for w in wanted),
        adjoint_only=not plan.learnable,
        sums=sums_view(names),
    )
    return render("triton/host.py.j2", view)


def _arguments(fields: tuple[Field, ...]) -> Words:
    return (*SIZES, *(f.name for f in fields))


def _nullable(lead: str, fields: tuple[Field, ...]) -> str:
    text = ", ".join(f"`{f.name}`" for f in fields if f.nullable)
    return textwrap.fill(f"{lead} {text or 'nothing'}.", 100, subsequent_indent="    ").strip()


def _aligned(names: Names, fields: tuple[Field, ...], *sizes: str) -> Words:
    """Return the sizes, and the tensors, whose rows are read or written side by side."""
    apart = {p.name for p in names.plan.model.params} | {f"{q}_sum" for q in names.plan.counts}
    apart |= {f"{s}_init" for s in names.plan.states}
    strides = [f.name for f in fields if f.kind == "int64_t" and not f.name.endswith("init_stride")]
    rows = [f.name for f in fields if f.kind != "int64_t" and f.name not in apart]
    return (
        *enclosed("(", [*sizes, *strides], "),", indent=16),
        *enclosed("(", rows, ",)," if len(rows) == 1 else "),", indent=16),
    )


def autograd_text(names: Names) -> str:
    """Return the source of the differentiable function."""
    plan = names.plan
    model = plan.model
    function = function_name(model.name)
    inputs = tuple(f"{x}_seq" for x in model.inputs)
    states = tuple(f"{s}_init" for s in plan.states)
    taken = (*inputs, *(p.name for p in model.params), *states)
    finals = tuple(f"{s}_final" for s in plan.states)
    outputs = tuple(f"{o}_seq" for o in model.outputs)
    learned = {p.name for p in plan.learnable}
    with_gradient = [a for a in taken if a in (*inputs, *states) or a in learned]
    defaults = [
        f"{s.name}_init={s.init if isinstance(s.init, float | int) else 0.0}" for s in model.states
    ]
    passed = {f"{x}_stride": "sizes[0]" for x in model.inputs}
    passed |= {f"{s}_stride": "1" for s in states} | {f"{q}_sum": "None" for q in plan.counts}
    passed |= {f"grad_{o}_stride": "sizes[0]" for o in model.outputs} | {
        "checkpoints": "checkpointed"
    }
    kept = [*taken, "checkpointed"]
    received = [f"grad_{a}" for a in (*outputs, *finals)]
    given = [f"grad_{a}" if a in with_gradient else "None" for a in taken]
    return render(
        "triton/autograd.py.j2",
        _AutogradView(
            function=function,
            io=f"torch.{model.dtype}",
            real=f"torch.{model.real}",
            by_rows=names.by_rows,
            inputs=model.inputs,
            outputs=outputs,
            states=plan.states,
            first=inputs[0],
            forward_head=enclosed("def forward(", ["ctx", *taken], "):", indent=4),
            save=enclosed("ctx.save_for_backward(", kept, ")", indent=8),
            backward_head=enclosed("def backward(", ["ctx", *received], "):", indent=4),
            restore=enclosed("", kept, " = ctx.saved_tensors", indent=8),
            seeds=tuple(received),
            returned=", ".join((*outputs, *finals)),
            forward_passed=tuple(passed.get(f.name, f.name) for f in plan.forward_fields),
            backward_passed=tuple(passed.get(f.name, f.name) for f in plan.backward_fields),
            gradients=tuple((a, taken.index(a)) for a in with_gradient),
            grads_returned=enclosed("return ", given, indent=8),
            head=enclosed(
                f"def {function}(", [*inputs, *(p.name for p in model.params), *defaults], "):"
            ),
            params=tuple((p.name, _shape_text(p)) for p in model.params),
            applied=(
                *inputs,
                *(_parameter(p, inputs[0]) for p in model.params),
                *(f"_state({s}, {inputs[0]})" for s in states),
            ),
            channels_text=", channels on axis 2" if names.by_rows else "",
            returned_text=", ".join((*outputs, *finals)),
        ),
    )


def _parameter(p: Param, x_seq: str) -> str:
    rows = {"layer": "1", "channel": "channels", "neuron": "sample"}[p.per]
    numbers = rows if p.size is None else f"{rows} * {p.size}".removeprefix("1 * ")
    return f"_parameter({p.name}, {numbers}, {x_seq}, learnable={p.learnable})"


def _shape_text(p: Param) -> str:
    """Return the shape of a parameter in words."""
    rows = {"layer": (), "channel": ("channels",), "neuron": ("channels", "*inner")}[p.per]
    shape = (*rows, str(p.size)) if p.size is not None else rows
    kind = f"({', '.join(shape)}{',' if len(shape) == 1 else ''})" if shape else "A number"
    return kind if p.learnable else f"{kind}; has no gradient"
