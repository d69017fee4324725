"""Statements that C and CUDA share: calls of the step, prepared parameters, validated arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from lnm_codegen.backends.plan import Plan
from lnm_codegen.backends.render import in_lines
from lnm_codegen.ir.declarations import Granularity, Param
from lnm_codegen.ir.nodes import Kernel, Role

Indices = Mapping[Granularity, str]
"""Granularity -> the expression of the index of a value. A missing granularity is not read."""

Access = Callable[[str], str]
"""Name of a port -> the expression of its value for one neuron."""


class StepAccess(NamedTuple):
    """Expressions of the arguments of a step.

    Attributes:
        state: A state before the step.
        input: An input.
        parameter: A prepared parameter with several values.
        grad_state: The gradient of a state after the step.
        grad_output: The gradient of an output, by its port.
    """

    state: Access
    input: Access
    parameter: Access
    grad_state: Access = str
    grad_output: Access = str


def step_call(plan: Plan, kernel: Kernel, access: StepAccess, indent: int = 0) -> str:
    """Return the arguments of a step function: inputs, then variables for the results."""
    values = []
    for port in plan.read_inputs(kernel):
        name = port.var.name
        match port.role:
            case Role.STATE:
                values.append(access.state(name))
            case Role.INPUT:
                values.append(access.input(name))
            case Role.GRAD if name.endswith("_next"):
                values.append(access.grad_state(name.removesuffix("_next")))
            case Role.GRAD:
                values.append(access.grad_output(name))
            case _:
                by_layer = plan.per[name] == "layer"
                values.append(f"p.{name}" if by_layer else access.parameter(name))
    longest = " " * len("step_backward(")
    return joined(longest, [*values, *_results(kernel)], "", indent).lstrip()


def result_variables(kernel: Kernel, indent: int = 0) -> str:
    """Return the declaration of a variable for each result, or an empty string."""
    return joined("real ", _results(kernel), ";", indent) if kernel.results else ""


def _results(kernel: Kernel) -> list[str]:
    return [f"{p.var.name}_value" for p in kernel.results]


def prepared_lines(plan: Plan, rows: Indices, at: Indices, indent: int) -> tuple[str, ...]:
    """Return the statements that fill `p`, the prepared parameters.

    Args:
        plan: The plan.
        rows: Indices in the arguments.
        at: Indices in `p`.
        indent: Column of the statements.
    """
    raw, made = raw_values(plan, rows), plan.computed_prepare
    lines: list[str] = []
    if made.results:
        taken = [raw[p.var.name] for p in plan.read_inputs(made)]
        call = joined("prepare(", [*taken, *_results(made)], ");", indent)
        lines += [result_variables(made, indent), call]
    for q in plan.prepared:
        index = "" if plan.per[q] == "layer" else f"[{at[plan.per[q]]}]"
        value = f"{q}_value" if q in made.result_names(Role.PARAM) else raw[q]
        lines.append(f"p.{q}{index} = {value};")
    return tuple(lines)


def raw_values(plan: Plan, rows: Indices) -> dict[str, str]:
    """Return the expression of each declared scalar in the arguments; 0 if it is not read."""
    return {
        name: f"a.{p.name}[{place(rows[p.per], p, k)}]" if p.per in rows else "real(0)"
        for p in plan.params
        for k, name in enumerate(p.element_names)
    }


def counted_once(value: str, first: str) -> str:
    """Return a sum at the first of the values that share it, and 0 at the others.

    `first` is the condition of the first value.
    """
    return f"{first} ? {value} : 0"


def place(row: str, p: Param, k: int) -> str:
    """Return the index of element k of a parameter, at the index `row` of its values."""
    if p.size is None:
        return row
    return str(k) if row == "0" else f"{row if row.isidentifier() else f'({row})'} * {p.size} + {k}"


def joined(start: str, words: Sequence[str], end: str, indent: int = 0) -> str:
    """Return start + words between commas + end, in lines of 110 columns.

    The first line begins at `indent`, the others four columns further in.
    """
    lines = [" " * indent + start]
    for k, word in enumerate(words):
        piece = word + (", " if k + 1 < len(words) else end)
        if len(lines[-1]) + len(piece.rstrip()) > 110:
            lines.append(" " * (indent + 4))
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)[indent:]


# Validation of the arguments of a call, as conditions in C that C and CUDA share.


ABI = 2
"""Version of the structs of arguments. Version 1 had neither size nor version."""


def conditions(plan: Plan, saved: str) -> dict[str, str]:
    """Return conditions on the arguments `a` of a call: sizes that fit, pointers that are null.

    Args:
        plan: The plan.
        saved: The length of `checkpoints`, as an expression.
    """
    sizes = "(a->{0}_count == 0 || (a->{0}_count > 0 && a->{0}_inner > 0))"
    backward = _lacks(plan, [f"grad_{o}_seq" for o in plan.graded_outputs])
    if plan.states:
        backward.append(f"({saved} && !a->checkpoints)")
    return {
        "shared_fit": "".join(f" && {sizes.format(x)}" for x in plan.further),
        "forward_lacks": wrapped(_lacks(plan, [f"{o}_seq" for o in plan.outputs]), " || ", 8),
        "backward_lacks": wrapped(backward, " || ", 8),
    }


def wrapped(parts: Sequence[str], between: str, indent: int) -> str:
    """Return parts in lines of 96 columns, the later lines indented."""
    return f"\n{' ' * indent}".join(in_lines(parts, 96 - indent, between))


def _lacks(plan: Plan, sequences: Sequence[str]) -> list[str]:
    """Return the conditions that a pointer which a kernel reads or writes is null.

    The inputs are such pointers, the `sequences`, the initial states and the parameters.
    """
    params = plan.params
    groups = {
        "a->time_steps && a->neurons": [f"{x}_seq" for x in plan.inputs] + list(sequences),
        "a->neurons": [f"{s}_init" for s in plan.states],
        "a->sample": [p.name for p in params if p.per == "neuron"],
        "a->channels": [p.name for p in params if p.per == "channel"],
    }
    null = {k: " || ".join(f"!a->{name}" for name in names) for k, names in groups.items()}
    found = [f"({k} && ({text}))" for k, text in null.items() if text]
    return [*found, *(f"!a->{p.name}" for p in params if p.per == "layer")]
