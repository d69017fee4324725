"""Source of the Triton kernels of forward and backward, and their chunk.

Registers limit the chunk. A thread holds 16 bytes of neurons, the states and inputs of every step
of a chunk, two sums for each term and the parameters per channel or neuron. `ptxas` gives `lnm` of
degree 4 with 16 steps 238 registers of 255.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lnm_codegen.backends.plan import ROLES, SIZES, Field, Plan, values_text
from lnm_codegen.backends.render import call, render, render_files
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.declarations import Granularity, Param, finest
from lnm_codegen.ir.nodes import Kernel, Port, Role

Lines: TypeAlias = tuple[str, ...]
LANES, BUDGET = 256, 44
"""Neurons of a backward program; numbers that a thread can hold for each neuron."""


def chunk_of(plan: Plan) -> int:
    """Return the steps of a chunk: a power of two whose values fit the registers."""
    kept = max(1, len(plan.states) + len(plan.model.inputs))
    rows = sum(per != "layer" for per in plan.per.values())
    others = 2 * len(plan.terms) + rows
    return next((k for k in (16, 8, 4) if k * kept + others <= BUDGET), 2)


def warps_of(plan: Plan) -> int:
    """Return the warps of a backward program: 16 bytes a thread for each number."""
    return 2 if plan.model.real == "float32" else 4


@dataclass(frozen=True, slots=True)
class Arguments:
    """Arguments and variables of the kernels of a plan."""

    plan: Plan

    @property
    def real(self) -> str:
        """The Triton name of the type of the arithmetic."""
        return f"tl.{self.plan.model.real}"

    @property
    def by_rows(self) -> bool:
        """True if a parameter is per channel or neuron."""
        return self.plan.finest != "layer"

    @property
    def as_real(self) -> str:
        """Conversion of a number of a sequence to the type of the arithmetic."""
        return "" if self.plan.model.dtype == self.plan.model.real else f".to({self.real})"

    @property
    def backward_fields(self) -> tuple[Field, ...]:
        """Arguments of the backward kernel; the reduction writes the gradients of parameters."""
        learned = {f"grad_{p.name}" for p in self.plan.learnable}
        return tuple(f for f in self.plan.backward_fields if f.name not in learned)

    def signature(self, fields: tuple[Field, ...]) -> Lines:
        """Return the arguments for `SIZES` and `fields`; `<name>_ptr` points to a parameter."""
        params = {p.name for p in self.plan.model.params}
        typed = [f"{n}: tl.int64" for n in SIZES]
        for f in fields:
            suffix = ": tl.int64" if f.kind == "int64_t" else "_ptr" * (f.name in params)
            typed.append(f.name + suffix)
        return tuple(typed)

    def prepared(self) -> Lines:
        """Return lines that load the parameters of a step and call `prepare`."""
        plan = self.plan
        made = plan.computed_prepare.result_names(Role.PARAM)
        taken = [p.var.name for p in plan.read_inputs(plan.computed_prepare)]
        read = {*taken, *plan.prepared} - {*made}
        params, pers = plan.model.params, {p.per for p in plan.model.params}
        lines = []
        if "channel" in pers:
            lines.append("channel = (column + lane) // inner % channels")
        if "neuron" in pers:
            lines.append("neuron = (column + lane) % sample")
        for p in params:
            index = "" if p.per == "layer" else p.per
            for k, name in enumerate(p.element_names):
                if name in read:
                    lines.append(f"{name} = tl.load({place(f'{p.name}_ptr', index, p, k)})")
        return (*lines, *(call(made, "prepare", taken, indent=4) if made else ()))

    def step(
        self, function: str, kernel: Kernel, indent: int, states: str = "", inputs: str = ""
    ) -> Lines:
        """Return the call of a step; `states` and `inputs` index the values of a chunk."""
        arguments = [self._argument(p, states, inputs) for p in self.plan.read_inputs(kernel)]
        results = kernel.result_names(*ROLES)
        targets = [self._target(kernel, name) for name in results]
        spread = (
            f"{self._state(name)} = tl.where(lane >= 0, {name}_now, {self._state(name)})"
            for name, target in zip(results, targets, strict=True)
            if target == f"{name}_now"
        )
        return (*call(targets, function, arguments, indent), *spread)

    def _argument(self, port: Port, states: str, inputs: str) -> str:
        name = port.var.name
        match port.role:
            case Role.STATE:
                return f"{name}_steps[{states}]" if states else name
            case Role.INPUT:
                return f"{name}_steps[{inputs}]{self.as_real}" if inputs else name
            case Role.GRAD if name.endswith("_next"):
                return name.removesuffix("_next")
            case Role.GRAD:
                return f"{name}_steps[_CHUNK - 1 - step]{self.as_real}"
            case _:
                return name

    def _state(self, result: str) -> str:
        """Return the variable of a new state, or of the gradient of one; else the result."""
        state = result.removesuffix("_next")
        return state if state in self.plan.states else result

    def _target(self, kernel: Kernel, result: str) -> str:
        """Return the variable of a result; a value that steps carry must be a block of numbers."""
        variable = self._state(result)
        kept = variable.removeprefix("grad_") in self.plan.states
        return f"{result}_now" if kept and not _varies(kernel, result) else variable


def _varies(kernel: Kernel, result: str) -> bool:
    """Report whether a result differs between neurons for parameters of any granularity.

    Any other result is a number, or already a block if a parameter is per channel or neuron.
    """
    varying = set(kernel.input_names(Role.STATE, Role.INPUT, Role.GRAD))
    for let in kernel.body:
        if any(v.name in varying for v in ir.variables(let.value)):
            varying.add(let.target.name)
    return result in varying


def kernels_source(arguments: Arguments) -> str:
    """Return the forward and the backward kernel."""
    plan = arguments.plan
    forward = arguments.signature(plan.forward_fields)
    backward = arguments.signature(arguments.backward_fields)
    count = max(len(plan.states), len(plan.terms))
    view = dict(
        real=arguments.real,
        states=plan.states,
        inputs=plan.model.inputs,
        further=plan.model.inputs[1:],
        lanes=_lanes(plan.model.inputs),
        outputs=plan.model.outputs,
        graded_outputs=plan.graded_outputs,
        terms=plan.terms,
        counts=plan.counts,
        by_rows=arguments.by_rows,
        as_real=arguments.as_real,
        prepared=arguments.prepared(),
        forward_signature=forward,
        forward_step=arguments.step("step_forward", plan.forward, 8),
        backward_signature=backward,
        advance_step=arguments.step("step_advance", plan.advance, 20, inputs="step"),
        recompute_step=arguments.step("step_advance", plan.advance, 24),
        backward_step=arguments.step("step_backward", plan.backward, 20, "step", "step"),
        forward_run_time=quoted((*forward, "every")),
        backward_run_time=quoted((*backward, "width", "section", "workspace", "partials")),
        rows=scaled(len(plan.states), "neurons"),
        after=tuple(f" + {scaled(k, 'neurons')}" if k else "" for k in range(count)),
    )
    templates = {way: f"triton/{way}.py.j2" for way in ("forward", "backward")}
    return "".join(render_files(templates, view).values())


def _lanes(inputs: Sequence[str]) -> dict[str, str]:
    """Return the last arguments of `_load` and `_take` for each input."""
    shared = {x: f"{x}_lane, mask, _ALIGNED and not _{x}_SHARED" for x in inputs[1:]}
    return dict.fromkeys(inputs, "lane, mask, _ALIGNED") | shared


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


def reduction_source(arguments: Arguments) -> str:
    """Return the kernel of the reduction; an empty string if no parameter is learnable."""
    plan, real = arguments.plan, arguments.real
    if not plan.learnable:
        return ""
    fine, kernel = _finest(plan), plan.prepare_backward
    adds, stores = _gradients(plan, fine, real)
    pointers = [f"{name}_ptr" for name in _arguments(plan)]
    taken = [p.var.name for p in plan.read_inputs(kernel)]
    results = kernel.result_names(*ROLES)
    view = dict(
        pointers=pointers,
        run_time=quoted((*_SIZES, *pointers)),
        real=real,
        terms=plan.terms,
        after=tuple(f" + {scaled(k, 'width')}" if k else "" for k in range(len(plan.terms))),
        member_rows=_MEMBER_ROWS if _by_channels(plan) else (),
        params_read=_loads(plan, fine, taken),
        adjoint=call(results, "prepare_backward", taken, indent=8) if results else (),
        totals=_totals(plan, fine),
        row_adds=adds,
        group_stores=stores,
    )
    return render("triton/reduction.py.j2", view)


def _finest(plan: Plan) -> Granularity:
    """Return the granularity that terms are summed to."""
    return finest([*(plan.per[q] for q in plan.terms), *(p.per for p in plan.learnable)])


def _by_channels(plan: Plan) -> bool:
    """Report whether a group is the neurons of a channel, which need not be adjacent."""
    return _finest(plan) == "neuron" and "channel" in {p.per for p in plan.learnable}


def _arguments(plan: Plan) -> Lines:
    """Return the parameters that the adjoint reads, and the gradients that it writes."""
    taken = {p.var.name for p in plan.read_inputs(plan.prepare_backward)}
    read = (p.name for p in plan.model.params if taken & {*p.element_names})
    return (*read, *(f"grad_{p.name}" for p in plan.learnable))


def _gradients(plan: Plan, fine: Granularity, real: str) -> tuple[list[str], list[str]]:
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
            rounded = "" if p.per == "layer" else f".to({real})"
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
    for p in plan.model.params:
        index = "" if p.per == "layer" else "row" if p.per == fine else "(row // inner % channels)"
        rest = ", mask=inside, other=1.0" if index else ""
        for k, name in enumerate(p.element_names):
            if name in names:
                lines.append(f"{name} = tl.load({place(f'{p.name}_ptr', index, p, k)}{rest})")
    return tuple(lines)
