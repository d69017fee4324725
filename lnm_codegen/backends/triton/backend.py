"""Triton backend: a standalone module for NVIDIA GPUs, fused over time.

It writes one file: the step as functions, three kernels (forward, backward, reduction), `forward`
and `backward` on buffers, and a differentiable function for use without this package. Tests compile
it for AMD GPUs too, and do not execute that.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np

from lnm_codegen.backends import expr
from lnm_codegen.backends.base import Source, pass_files
from lnm_codegen.backends.expr import LIBRARY, LN2_LOW, elementary_view, ln2_high, rounding_constant
from lnm_codegen.backends.names import (
    Scope,
    collisions,
    names_of,
    renamed,
    require_no_collision,
    scope,
)
from lnm_codegen.backends.plan import FAR, ROLES, SIZES, Field, Plan, sharing_fields, values_text
from lnm_codegen.backends.render import (
    call,
    enclosed,
    function_name,
    render,
    shape_text,
    tuple_text,
)
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.declarations import Granularity, Param, finest
from lnm_codegen.ir.interpret import rounded
from lnm_codegen.ir.nodes import BinaryOp, Const, Expr, Fn, Kernel, Port, Role

Lines: TypeAlias = tuple[str, ...]
AHEAD, FORWARD_LANES, FORWARD_WARPS = 4, 512, 4

_COMMENTS = {
    "prepare": "Return the part of a step that depends on parameters alone.",
    "step_forward": "Return outputs and states of t, from states of t-1 and inputs of t.",
    "step_advance": "Return the states of the same step alone.",
    "step_backward": "Return gradients before step t, and a term of each parameter's gradient.",
    "prepare_backward": "Return parameters' gradients, from sums over time steps and neurons.",
}


class _Function(NamedTuple):
    comment: str
    signature: tuple[str, ...]
    lines: tuple[str, ...]
    results: tuple[str, ...]


class Triton:
    """The GPU backend in Python."""

    def emit(self, plan: Plan) -> Source:
        """Return one module.

        Names in the kernels get an affix if one collides with a variable of the kernels.

        Raises:
            UnsupportedError: A name collides with one of the host functions.
        """
        require_no_collision(f"triton: {plan.name}", host_scopes(plan))
        inner = renamed(plan, "own_{}_".format) if collisions(kernel_scopes(plan)) else plan
        path = f"{plan.name}.py"
        files = {path: _module(plan, inner)} | pass_files(self, plan)
        return Source(files, path)


def kernel_scopes(plan: Plan) -> list[Scope]:
    """Return the scopes of the kernels and of the functions that they call."""
    pers = {p.per for p in plan.params}
    names = {
        **names_of(plan),
        "adjoint": [p.var.name for p in plan.read_inputs(plan.prepare_backward)],
        "learned": [n for p in plan.learnable for n in p.element_names],
    }
    shared = "tl triton time_steps neurons sample channels inner checkpoints column lane mask step"
    shared += " range wanted prepare channel" if "channel" in pers else " range wanted prepare"
    shared += " neuron" if "neuron" in pers else ""
    sequence = "{}_seq {}_stride {}_row"
    further = " {}_inner {}_count {}_lane {}_first" if plan.further else ""
    begin = "{} {}_init {}_init_stride {}_next_now"
    ports = {"param": "{}_ptr", "element": "{}", "prepared": "{}"}
    return [
        scope(names, "tl triton float", variable="{}"),
        scope(
            names,
            f"{shared} every step_forward{' left slot table' if plan.states else ''}",
            state=f"{begin} {{}}_final",
            input=f"{{}} {sequence} {{}}_ahead{further}",
            output="{} {}_seq {}_row",
            count="{} {}_total {}_sum",
            **ports,
        ),
        scope(
            names,
            f"{shared} step_backward begin chunk end first left partials section skip slot width"
            f" workspace{' origin place remaining saved step_advance' if plan.states else ''}",
            state=f"{begin} {{}}_steps grad_{{}} grad_{{}}_final grad_{{}}_init grad_{{}}_now",
            input=f"{{}} {sequence} {{}}_steps grad_{{}} grad_{{}}_seq grad_{{}}_row{further}",
            output="grad_{} grad_{}_seq grad_{}_stride grad_{}_row grad_{}_steps",
            term="grad_{} sum_{} total_{}",
            **ports,
        ),
        scope(
            names,
            "tl triton begin channels column end first group group_rows inner inside mask member"
            " members number part partials prepare_backward range row row_inner rows width",
            param="{}_ptr grad_{}_ptr",
            adjoint="{}",
            learned="grad_{} total_{}",
            term="sum_{}",
        ),
    ]


def host_scopes(plan: Plan) -> list[Scope]:
    """Return the scopes of the functions of the host, and that of the module."""
    names = dict(names_of(plan)) | {"name": (function_name(plan.name),)}
    functions = "prepare prepare_backward step_forward step_advance step_backward"
    return [
        scope(
            names,
            "any backward block channels checkpoints forward inner map max min neurons num_warps"
            " sample staticmethod time_steps torch triton RuntimeError",
            param="{} grad_{}",
            count="{}_sum {}_parts",
        ),
        scope(
            names,
            "RuntimeError TypeError ValueError all any backward checkpoints dict float forward"
            " getattr isinstance map math max min range staticmethod tl torch triton tuple type"
            f" {functions}",
            name="{}",
        ),
    ]


def _module(plan: Plan, inner: Plan) -> str:
    """Return the module of a plan whose kernels have the names of `inner`."""
    view = dict(
        plan=plan,
        inner=inner,
        function=function_name(plan.name),
        start_lines=textwrap.wrap(plan.start_text, 96),
        chunk=chunk_of(plan),
        far=FAR,
        ahead=AHEAD,
        block=LANES,
        warps=warps_of(plan),
        forward_lanes=FORWARD_LANES,
        forward_warps=FORWARD_WARPS,
        math=math_functions(tuple(plan.functions.values()), plan.real),
        functions=functions_of(inner),
        reduction_block=reduction_block(plan),
        **kernels_view(inner),
        **reduction_view(inner),
        **reduction_launch(plan),
        **_host_view(plan),
        **_autograd_view(plan),
    )
    return render("triton/module.py.j2", view)


def functions_of(plan: Plan) -> tuple[_Function, ...]:
    """Return the functions of the step, of its parameters and of their gradients."""
    dialect = TritonDialect(plan.real)
    return tuple(
        _Function(
            _COMMENTS[name],
            enclosed(f"def {name}(", [p.var.name for p in plan.read_inputs(kernel)], "):"),
            _statements(kernel, dialect),
            enclosed("return ", kernel.result_names(*ROLES), indent=4),
        )
        for name, kernel in plan.functions.items()
    )


# Source of the host side of a Triton module: launches on buffers, a differentiable function.


def _host_view(plan: Plan) -> dict[str, object]:
    """Return the part of the view of `checkpoints`, `forward` and `backward`."""
    forward, launched = plan.forward_fields, backward_fields(plan)
    sums = {f"{q}_sum" for q in plan.counts}
    return dict(
        forward_arguments=_names(forward),
        forward_passed=tuple(
            f"{a.removesuffix('_sum')}_parts" if a in sums else a for a in _names(forward)
        ),
        forward_nullable=_nullable("skipped", forward),
        forward_aligned=_aligned(plan, forward, "neurons"),
        forward_required=_required(plan, forward),
        backward_arguments=_names(plan.backward_fields),
        backward_required=_required(plan, launched),
        backward_passed=_names(launched),
        backward_nullable=_nullable("omitted or skipped", plan.backward_fields),
        backward_aligned=_aligned(plan, launched, "neurons", "_width"),
        first=f"{(*plan.inputs, *plan.outputs)[0]}_seq",
        any_gradient=any_gradient(plan),
    )


def any_gradient(plan: Plan) -> str:
    """Return the condition that the gradient of a parameter is wanted."""
    return " or ".join(f"grad_{p.name} is not None" for p in plan.learnable)


def _names(fields: tuple[Field, ...]) -> Lines:
    return (*SIZES, *(f.name for f in fields))


def _required(plan: Plan, fields: tuple[Field, ...]) -> Lines:
    """Return the call that validates the arguments of a direction."""
    shared = [f'("{x}", {x}_inner, {x}_count),' for x in plan.further]
    tensors = [f"{f.name}={f.name}" for f in fields if f.kind != "int64_t" and not f.nullable]
    return enclosed("_require(", [*SIZES, f"({' '.join(shared)})", *tensors], ")", indent=4)


def _nullable(effect: str, fields: tuple[Field, ...]) -> str:
    text = ", ".join(f"`{f.name}`" for f in fields if f.nullable)
    line = f"    Arguments that may be None, and are then {effect}: {text or 'none'}."
    return textwrap.fill(line, 100, subsequent_indent="    ").strip()


def _aligned(plan: Plan, fields: tuple[Field, ...], *sizes: str) -> Lines:
    """Return the sizes and the tensors that decide the alignment of accesses."""
    apart = {p.name for p in plan.params} | {f"{q}_sum" for q in plan.counts}
    apart |= {f"{s}_init_stride" for s in plan.states}
    apart |= {name for x in plan.further for name, _ in sharing_fields(x)}
    words = {f"{x}_seq": f"None if {x}_count else {x}_seq" for x in plan.further}
    words |= {f"{s}_init": f"{s}_init if {s}_init_stride else None" for s in plan.states}
    words |= {f"{x}_stride": f"0 if {x}_count else {x}_stride" for x in plan.further}
    strides = [
        words.get(f.name, f.name) for f in fields if f.kind == "int64_t" and f.name not in apart
    ]
    rows = [
        words.get(f.name, f.name) for f in fields if f.kind != "int64_t" and f.name not in apart
    ]
    return (
        *enclosed("(", [*sizes, *strides], "),", indent=16),
        *enclosed("(", rows, ",)," if len(rows) == 1 else "),", indent=16),
    )


def _autograd_view(plan: Plan) -> dict[str, object]:
    """Return the part of the view of the differentiable function."""
    function = function_name(plan.name)
    inputs = tuple(f"{x}_seq" for x in plan.inputs)
    states = tuple(f"{s}_init" for s in plan.states)
    taken = (*inputs, *(p.name for p in plan.params), *states)
    finals = tuple(f"{s}_final" for s in plan.states)
    outputs = tuple(f"{o}_seq" for o in plan.outputs)
    learned = {p.name for p in plan.learnable}
    with_gradient = [a for a in taken if a in (*inputs, *states) or a in learned]
    defaults = [
        f"{s.name}_init={s.init if isinstance(s.init, float | int) else 0.0}"
        for s in plan.declared_states
    ]
    passed = {f"{x}_stride": "_shape[0]" for x in plan.inputs}
    passed |= {f"{s}_stride": "1" for s in states} | {f"{q}_sum": "None" for q in plan.counts}
    passed |= {name: "0" for x in plan.inputs[1:] for name, _ in sharing_fields(x)}
    passed |= {f"grad_{o}_stride": "_shape[0]" for o in plan.outputs} | {"checkpoints": "_saved"}
    kept = [*taken, "_saved"]
    received = [f"grad_{a}" for a in (*outputs, *finals)]
    given = [f"grad_{a}" if a in with_gradient else "None" for a in taken]
    return dict(
        forward_head=enclosed("def forward(", ["_ctx", *taken], "):", indent=4),
        save=enclosed("_ctx.save_for_backward(", kept, ")", indent=8),
        backward_head=enclosed("def backward(", ["_ctx", *received], "):", indent=4),
        restore=enclosed("", kept, " = map(torch.Tensor.contiguous, _ctx.saved_tensors)", indent=8),
        seeds=tuple(received),
        returned=", ".join((*outputs, *finals)),
        forward_given=tuple(passed.get(f.name, f.name) for f in plan.forward_fields),
        backward_given=tuple(passed.get(f.name, f.name) for f in plan.backward_fields),
        gradients=tuple((a, taken.index(a)) for a in with_gradient),
        grads_returned=enclosed("return ", given, indent=8),
        head=enclosed(
            f"def {function}(", [*inputs, *(p.name for p in plan.params), *defaults], "):"
        ),
        params=tuple((p.name, shape_text(p, "channels", "*inner")) for p in plan.params),
        applied=(
            *(f'_input("{x}", {x}, {inputs[0]})' for x in inputs),
            *(_parameter(p, inputs[0]) for p in plan.params),
            *(f'_state("{s}", {s}, {inputs[0]})' for s in states),
        ),
    )


def _parameter(p: Param, x_seq: str) -> str:
    rows = {
        "layer": (),
        "channel": (f"*{x_seq}.shape[2:3]",),
        "neuron": (f"*{x_seq}.shape[2:]",),
    }
    shape = (*rows[p.per], str(p.size)) if p.size is not None else rows[p.per]
    words = f'"{p.name}", {p.name}, {tuple_text(shape)}, {x_seq}, learnable={p.learnable}'
    return f"_parameter({words})"


# The forward and the backward kernel, and their chunk.
#
# Registers limit the chunk. A thread holds 16 bytes of neurons, the states and inputs of each step
# of a chunk, two sums for each term, parameters per channel or neuron. `ptxas` gives `lnm` of
# degree 4 with 16 steps 238 registers of 255.


LANES, BUDGET = 256, 44
"""Neurons of a backward program; numbers that a thread can hold for each neuron."""


def chunk_of(plan: Plan) -> int:
    """Return the steps of a chunk: a power of two whose values fit the registers."""
    kept = max(1, len(plan.states) + len(plan.inputs))
    rows = sum(per != "layer" for per in plan.per.values())
    others = 2 * len(plan.terms) + rows
    return next((k for k in (16, 8, 4) if k * kept + others <= BUDGET), 2)


def warps_of(plan: Plan) -> int:
    """Return the warps of a backward program: 16 bytes a thread for each number."""
    return 2 if plan.real == "float32" else 4


def as_real(plan: Plan) -> str:
    """Return the conversion of a number of a sequence to the type of the arithmetic."""
    return f".to(tl.{plan.real})" if plan.is_narrow else ""


def backward_fields(plan: Plan) -> tuple[Field, ...]:
    """Return the arguments of the backward kernel; the reduction writes gradients of parameters."""
    learned = {f"grad_{p.name}" for p in plan.learnable}
    return tuple(f for f in plan.backward_fields if f.name not in learned)


def signature(plan: Plan, fields: tuple[Field, ...]) -> Lines:
    """Return the arguments for `SIZES` and `fields`; `<name>_ptr` points to a parameter."""
    params = {p.name for p in plan.params}
    typed = [f"{n}: tl.int64" for n in SIZES]
    for f in fields:
        suffix = ": tl.int64" if f.kind == "int64_t" else "_ptr" * (f.name in params)
        typed.append(f.name + suffix)
    return tuple(typed)


def prepared_lines(plan: Plan, channel: str, neuron: str) -> Lines:
    """Return lines that load the parameters of a step and call `prepare`.

    `channel` and `neuron` are the index of a neuron's value among those of a parameter.
    """
    made = plan.computed_prepare.result_names(Role.PARAM)
    taken = [p.var.name for p in plan.read_inputs(plan.computed_prepare)]
    read = {*taken, *plan.prepared} - {*made}
    pers = {p.per for p in plan.params}
    lines = []
    if "channel" in pers:
        lines.append(f"channel = {channel}")
    if "neuron" in pers:
        lines.append(f"neuron = {neuron}")
    for p in plan.params:
        index = "" if p.per == "layer" else p.per
        for k, name in enumerate(p.element_names):
            if name in read:
                lines.append(f"{name} = tl.load({place(f'{p.name}_ptr', index, p, k)})")
    return (*lines, *(call(made, "prepare", taken, indent=4) if made else ()))


def step_call(
    plan: Plan,
    function: str,
    kernel: Kernel,
    indent: int,
    states: str = "",
    inputs: str = "",
    grads: str = "",
) -> Lines:
    """Return the call of a step; `states`, `inputs` and `grads` index the values of a chunk."""

    def argument(port: Port) -> str:
        name = port.var.name
        match port.role:
            case Role.STATE:
                return f"{name}_steps[{states}]" if states else name
            case Role.INPUT:
                return f"{name}_steps[{inputs}]{as_real(plan)}" if inputs else name
            case Role.GRAD if name.endswith("_next"):
                return name.removesuffix("_next")
            case Role.GRAD:
                return f"{name}_steps[{grads}]{as_real(plan)}" if grads else name
            case _:
                return name

    def variable(result: str) -> str:
        """Return the variable of a new state, or of the gradient of one; else the result."""
        state = result.removesuffix("_next")
        return state if state in plan.states else result

    def target(result: str) -> str:
        """Return the variable of a result; a value that steps carry must be a block of numbers."""
        kept = variable(result).removeprefix("grad_") in plan.states
        return f"{result}_now" if kept and not _varies(kernel, result) else variable(result)

    results = kernel.result_names(*ROLES)
    spread = (
        f"{variable(name)} = tl.where(lane >= 0, {name}_now, {variable(name)})"
        for name in results
        if target(name) == f"{name}_now"
    )
    arguments = [argument(p) for p in plan.read_inputs(kernel)]
    return (*call([*map(target, results)], function, arguments, indent), *spread)


def _varies(kernel: Kernel, result: str) -> bool:
    """Report whether a result differs between neurons for parameters of any granularity.

    Any other result is a number, or already a block if a parameter is per channel or neuron.
    """
    varying = set(kernel.input_names(Role.STATE, Role.INPUT, Role.GRAD))
    for let in kernel.body:
        if any(v.name in varying for v in ir.variables(let.value)):
            varying.add(let.target.name)
    return result in varying


def kernels_view(plan: Plan) -> dict[str, object]:
    """Return the part of the view that the forward and the backward kernel read."""
    forward = signature(plan, plan.forward_fields)
    backward = signature(plan, backward_fields(plan))
    count = max(len(plan.states), len(plan.terms))
    return dict(
        lanes=_lanes(plan),
        as_real=as_real(plan),
        prepared=prepared_lines(
            plan, "(column + lane) // inner % channels", "(column + lane) % sample"
        ),
        forward_signature=forward,
        forward_step=step_call(plan, "step_forward", plan.forward, 8),
        backward_signature=backward,
        advance_step=step_call(plan, "step_advance", plan.advance, 20, inputs="step"),
        recompute_step=step_call(plan, "step_advance", plan.advance, 24),
        backward_step=step_call(
            plan, "step_backward", plan.backward, 20, "step", "step", "_CHUNK - 1 - step"
        ),
        forward_run_time=quoted((*forward, "every")),
        backward_run_time=quoted((*backward, "width", "section", "workspace", "partials")),
        state_rows=scaled(len(plan.states), "neurons"),
        after=tuple(f" + {scaled(k, 'neurons')}" if k else "" for k in range(count)),
    )


def _lanes(plan: Plan) -> dict[str, str]:
    """Return the last arguments of `_load` and `_take` for each input."""
    shared = {x: f"{x}_lane, mask, _ALIGNED and not _{x}_SHARED" for x in plan.further}
    return dict.fromkeys(plan.inputs, "lane, mask, _ALIGNED") | shared


def scaled(count: int, size: str) -> str:
    """Return `count * size`, or `size` if count is 1."""
    return size if count == 1 else f"{count} * {size}"


def place(pointer: str, index: str, p: Param, k: int) -> str:
    """Return the address of element k of a parameter, at an index of its values or at the first."""
    offset = f"{index} * {p.size}" if p.size is not None and index else index
    return " + ".join(x for x in (pointer, offset, str(k or "")) if x)


def quoted(arguments: Sequence[str]) -> Lines:
    """Return the names of arguments as lines of a list of strings."""
    words = ", ".join(f'"{a.partition(":")[0]}"' for a in arguments)
    return tuple(textwrap.wrap(words + ",", 90))


# Source of the second launch of a Triton backward, the reduction: terms to gradients.
#
# Every term is summed for each value of the finest parameter. The adjoint of `prepare` is linear in
# these sums. The gradient of a coarser parameter is therefore a sum of its results in float64: over
# a group of values for a parameter per channel among others per neuron, over all for one per layer.
# Each program has one group. For a parameter per layer it stores a part, the sum over its group.
# The host sums the parts.


_SIZES = ("inner", "channels", "width", "rows", "row_inner", "group_rows", "partials")
_MEMBER_ROWS = (
    "number = row - group * group_rows  # in the channel",
    "row = (number // inner * channels + group) * inner + number % inner",
)
"""Lines that turn a number within all groups into the row of a channel's neuron."""


def reduction_launch(plan: Plan) -> dict[str, object]:
    """Return the part of the host's view that launches the reduction."""
    fine, coarse = _finest(plan), {p.name: p.size for p in layer_params(plan)}
    parts = {f"grad_{name}": f"_{name}_parts" for name in coarse}
    values = values_text(fine, "channels", "sample")
    if _by_channels(plan):
        groups = ("channels", "sample // max(channels, 1)")
    elif fine == "neuron":
        groups = ("triton.cdiv(sample, _SUM_ROWS)", "_SUM_ROWS")
    else:
        groups = (values, "1")
    return dict(
        sum_arguments=tuple(parts.get(a, a) for a in _arguments(plan)),
        rows_text=values,
        row_inner_text="inner" if fine == "channel" else "1",
        groups_text=groups[0],
        group_rows_text=groups[1],
        unless_empty="" if fine == "layer" else " and _groups",
        layer_params=tuple((name, size or 1) for name, size in coarse.items()),
    )


def layer_params(plan: Plan) -> tuple[Param, ...]:
    """Return the learnable parameters per layer beside finer ones.

    The reduction stores the parts of their gradients, in float64, one for each program.
    """
    return tuple(p for p in plan.learnable if p.per == "layer" != _finest(plan))


def reduction_block(plan: Plan) -> str:
    """Return the values of _MEMBERS, _SUM_ROWS and _SUM_WARPS."""
    fine = _finest(plan)
    members, rows = {"layer": (1024, 1), "channel": (1024, 1), "neuron": (32, 32)}[fine]
    return f"{members}, {rows}, {16 if fine == 'layer' else 4}"


def reduction_view(plan: Plan) -> dict[str, object]:
    """Return the part of the view that the kernel of the reduction reads."""
    fine, kernel = _finest(plan), plan.prepare_backward
    adds, stores = _gradients(plan, fine)
    pointers = [f"{name}_ptr" for name in _arguments(plan)]
    taken = [p.var.name for p in plan.read_inputs(kernel)]
    results = kernel.result_names(*ROLES)
    return dict(
        pointers=pointers,
        sum_run_time=quoted((*_SIZES, *pointers)),
        sum_after=tuple(f" + {scaled(k, 'width')}" if k else "" for k in range(len(plan.terms))),
        member_rows=_MEMBER_ROWS if _by_channels(plan) else (),
        params_read=_loads(plan, fine, taken),
        adjoint=call(results, "prepare_backward", taken, indent=8) if results else (),
        totals=_totals(plan, fine),
        row_adds=adds,
        group_stores=stores,
    )


def _finest(plan: Plan) -> Granularity:
    """Return the granularity that terms are summed to."""
    return finest([*(plan.per[q] for q in plan.terms), *(p.per for p in plan.learnable)])


def _by_channels(plan: Plan) -> bool:
    """Report whether a group is the neurons of a channel, which need not be adjacent."""
    return _finest(plan) == "neuron" and "channel" in {p.per for p in plan.learnable}


def _arguments(plan: Plan) -> Lines:
    """Return the parameters that the adjoint reads, and the gradients that it writes."""
    taken = {p.var.name for p in plan.read_inputs(plan.prepare_backward)}
    read = (p.name for p in plan.params if taken & {*p.element_names})
    return (*read, *(f"grad_{p.name}" for p in plan.learnable))


def _gradients(plan: Plan, fine: Granularity) -> tuple[list[str], list[str]]:
    """Return lines for each value of the finest parameter, and lines after a group."""
    adds: list[str] = []
    stores: list[str] = []
    for p in plan.learnable:
        wanted = f"if grad_{p.name}_ptr is not None:"
        index = "row" if p.per == fine else "group"
        at = {e: place(f"grad_{p.name}_ptr", index, p, k) for k, e in enumerate(p.element_names)}
        if p.per == fine:
            adds.append(wanted)
            adds += (f"    tl.store({at[e]}, grad_{e}, mask=inside)" for e in at)
        else:
            adds += (f"total_{e} += tl.where(inside, grad_{e}, 0.0).to(tl.float64)" for e in at)
            rounded = "" if p.per == "layer" else f".to(tl.{plan.real})"
            stores.append(wanted)
            stores += (f"    tl.store({at[e]}, tl.sum(total_{e}){rounded})" for e in at)
    return adds, stores


def _totals(plan: Plan, fine: Granularity) -> Lines:
    """Return lines that begin the sums of parameters coarser than the finest."""
    names = (e for p in plan.learnable if p.per != fine for e in p.element_names)
    return tuple(f"total_{name} = tl.zeros([_SUM_ROWS], tl.float64)" for name in names)


def _loads(plan: Plan, fine: Granularity, names: list[str]) -> Lines:
    """Return lines that load the parameters that the adjoint reads."""
    lines = []
    for p in plan.params:
        index = "" if p.per == "layer" else "row" if p.per == fine else "(row // inner % channels)"
        rest = ", mask=inside, other=1.0" if index else ""
        for k, name in enumerate(p.element_names):
            if name in names:
                lines.append(f"{name} = tl.load({place(f'{p.name}_ptr', index, p, k)}{rest})")
    return tuple(lines)


# Text of expressions, of a kernel's Lets and of the elementary functions.


@dataclass(frozen=True, slots=True)
class TritonDialect(expr.Dialect):
    """The dialect for one float type, "float32" or "float64"."""

    dtype: str

    NOT: ClassVar[str] = "~"

    @property
    def real(self) -> str:
        """The Triton name of the type."""
        return f"tl.{self.dtype}"

    def number(self, c: Const) -> str:
        """Return a literal."""
        return number(rounded(c.value, self.dtype), self.dtype)

    def select(self, e: ir.Select) -> tuple[str, int]:
        """Return a select; two literals would make it a float32."""
        cond, then, orelse = (expr.text(x, self) for x in (e.cond, e.then, e.orelse))
        typed = (
            self.dtype == "float64" and isinstance(e.then, Const) and isinstance(e.orelse, Const)
        )
        return f"tl.where({cond}, {then}, {orelse})" + f".to({self.real})" * typed, expr.CALL

    def fma(self, e: ir.Fma) -> tuple[str, int]:
        """Return a fused multiply-add."""
        a, b, c = (expr.text(x, self) for x in (e.a, e.b, e.c))
        return f"tl.fma({a}, {b}, {c})", expr.CALL

    def call(self, e: ir.Call) -> tuple[str, int]:
        """Return a function call; `tl.sqrt` of float32 is an approximation."""
        rounded_once = e.fn is Fn.SQRT and self.dtype == "float32"
        name = (
            f"tl.{LIBRARY[e.fn]}" + "_rn" * rounded_once
            if e.fn in LIBRARY
            else f"_neuron_{e.fn.value}"
        )
        return f"{name}({expr.text(e.arg, self)})", expr.CALL

    def spike(self, e: ir.Spike) -> tuple[str, int]:
        """Return the condition of a spike."""
        return f"{expr.text(e.arg, self, expr.SUM)} >= 0.0", expr.COMPARE

    def text(self, e: Expr) -> str:
        """Return an expression; `/` of float32 is an approximation, so a quotient is a call."""
        return expr.text(self._spelled(e) if self.dtype == "float32" else e, self)

    def _spelled(self, e: Expr) -> Expr:
        """Return `e` with the text of every quotient as a variable."""
        new = ir.map_children(e, self._spelled)
        match new:
            case ir.Binary(BinaryOp.DIV, lhs, rhs):
                return ir.Var(f"tl.div_rn({expr.text(lhs, self)}, {expr.text(rhs, self)})")
            case _:
                return new


def number(value: float, dtype: str) -> str:
    """Return a literal that reads back as `value`.

    Triton reads a literal of float32's range as a float32. A literal that would lose digits is
    printed with its type.
    """
    kind = np.dtype(dtype).type
    with np.errstate(all="ignore"):
        if not np.isfinite(value):
            return f'float("{value}")'
        text = str(kind(value))
        if not any(mark in text for mark in ".e"):
            text += ".0"
        exact = float(np.float32(value)) == float(value) or dtype == "float32"
        safe = value == 0 or abs(value) >= np.finfo("float32").tiny
    return text if exact and safe else f"tl.full([], {text}, tl.{dtype})"


def math_functions(kernels: Sequence[Kernel], dtype: str) -> str:
    """Return the source of the elementary functions that `kernels` call, or an empty string.

    `tl.exp` of float32 is an approximation whose error grows with the argument, and Triton has no
    tanh.
    """
    single = dtype == "float32"
    kind, whole = np.dtype(dtype).type, np.dtype("int32" if single else "int64")

    def literal(value: float) -> str:
        return number(float(kind(value)), dtype)

    def pattern(value: float) -> str:
        return hex(int(kind(value).view(whole)))

    def quotient(a: str, b: str) -> str:
        a, b = (x if single or x.isidentifier() or x == "1.0" else f"({x})" for x in (a, b))
        return f"tl.div_rn({a}, {b})" if single else f"{a} / {b}"

    view = elementary_view(kernels, dtype, literal)
    if view is None:
        return ""
    own = dict(
        real=f"tl.{dtype}",
        integer=f"tl.{whole}",
        rounding_constant_bits=pattern(rounding_constant(dtype)),
        root_half_bits=pattern(0.5**0.5),
        ln2_high=literal(ln2_high(dtype)),
        ln2_low=literal(LN2_LOW[dtype]),
        one_over=quotient("1.0", "1.0 + _neuron_exp(-x)"),
        tanh_quotient=quotient("minus", "2.0 + minus"),
        log_quotient=quotient("m - 1.0", "m + 1.0"),
    )
    return render("triton/math.py.j2", view | own)


def _statements(kernel: Kernel, dialect: TritonDialect) -> tuple[str, ...]:
    """Return the body of `kernel` as Python statements."""
    return expr.statements(
        kernel.phases(), "#", lambda let: [f"{let.target.name} = {dialect.text(let.value)}"]
    )
