"""The views of the Triton kernels: which lines they are made of, and how long a chunk is.

Registers decide the chunk. A thread keeps 16 bytes of neurons, the states and inputs of every
step of a chunk, two sums per term and the rows of parameters: `ptxas` gives `lnm` of degree 4 with
16 steps 238 registers of 255.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lnm_codegen.backends.plan import Plan
from lnm_codegen.backends.render import render
from lnm_codegen.backends.triton.expr import call
from lnm_codegen.backends.triton.names import Names
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Kernel, Role

Lines: TypeAlias = tuple[str, ...]
LANES, BUDGET = 256, 44
"""Neurons of a backward program side by side; numbers that a thread can keep per neuron."""


@dataclass(frozen=True, slots=True)
class KernelsView:
    """What the kernel templates share."""

    real: str
    states: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    terms: tuple[str, ...]
    counts: tuple[str, ...]
    by_rows: bool
    as_real: str
    made: Lines
    forward_signature: Lines
    forward_step: Lines
    backward_signature: Lines
    advance_step: Lines
    rerun_step: Lines
    backward_step: Lines
    forward_run_time: Lines
    backward_run_time: Lines
    rows: str
    after: Lines


def chunk_of(plan: Plan) -> int:
    """Return how many steps a chunk has: a power of two whose values fit the registers."""
    kept = max(1, len(plan.states) + len(plan.model.inputs))
    rows = sum(per != "layer" for per in plan.per.values())
    others = 2 * len(plan.terms) + rows
    return next((k for k in (16, 8, 4) if k * kept + others <= BUDGET), 2)


def warps_of(plan: Plan) -> int:
    """Return the warps of a backward program: 16 bytes a thread for each number."""
    return 2 if plan.model.real == "float32" else 4


def kernels_view(names: Names) -> KernelsView:
    """Return the view of forward and backward."""
    plan, real = names.plan, names.dialect.real
    forward, advance, backward = plan.forward, plan.advance, plan.backward

    count = max(len(plan.states), len(plan.terms))

    def step(function: str, kernel: Kernel, arguments: tuple[str, ...], indent: int) -> Lines:
        targets = [_target(kernel, plan, name) for name in kernel.result_names(*Role)]
        spread = (
            f"{_state(name, plan)} = tl.where(lane >= 0, {name}_now, {_state(name, plan)})"
            for name in kernel.result_names(*Role)
            if _target(kernel, plan, name) == f"{name}_now"
        )
        return (*call(targets, function, arguments, indent), *spread)

    return KernelsView(
        real=real,
        states=plan.states,
        inputs=plan.model.inputs,
        outputs=plan.model.outputs,
        terms=plan.terms,
        counts=plan.counts,
        by_rows=names.by_rows,
        as_real=names.as_real,
        made=names.made(),
        forward_signature=names.signature(plan.forward_fields),
        forward_step=step("step_forward", forward, names.arguments(forward), 8),
        backward_signature=names.signature(names.backward_fields),
        advance_step=step("step_advance", advance, names.arguments(advance, inputs="step"), 20),
        rerun_step=step("step_advance", advance, names.arguments(advance), 24),
        backward_step=step(
            "step_backward", backward, names.arguments(backward, states="step", inputs="step"), 20
        ),
        forward_run_time=quoted((*names.signature(plan.forward_fields), "every")),
        backward_run_time=quoted((*names.signature(names.backward_fields), *_BACKWARD)),
        rows=scaled(len(plan.states), "neurons"),
        after=tuple(f" + {scaled(k, 'neurons')}" if k else "" for k in range(count)),
    )


_BACKWARD = ("width", "section", "workspace", "partials")


def kernels_text(names: Names) -> str:
    """Return the source of the forward and the backward kernel."""
    view = kernels_view(names)
    return render("triton/forward.py.j2", view) + render("triton/backward.py.j2", view)


def scaled(count: int, size: str) -> str:
    """Return `count * size`, shorter where count is 1."""
    return size if count == 1 else f"{count} * {size}"


def quoted(arguments: Sequence[str]) -> Lines:
    """Return the names of arguments as lines of a list of strings."""
    words = ", ".join(f'"{a.partition(":")[0]}"' for a in arguments)
    return tuple(textwrap.wrap(words + ",", 90))


def _state(result: str, plan: Plan) -> str:
    """Return the local that a new state, or the gradient of one, is kept in; else the result."""
    if result.removesuffix("_next") in plan.states:
        return result.removesuffix("_next")
    return result


def _target(kernel: Kernel, plan: Plan, result: str) -> str:
    """Return the local that takes a result: what is kept over steps must be a block of numbers."""
    local = _state(result, plan)
    kept = local in plan.states or local.removeprefix("grad_") in plan.states
    return f"{result}_now" if kept and not _varies(kernel, result) else local


def _varies(kernel: Kernel, result: str) -> bool:
    """Say whether a result differs between neurons whatever the parameters' granularity.

    One that does not is a number, or, where a parameter has rows, already a block.
    """
    varying = set(kernel.input_names(Role.STATE, Role.INPUT, Role.GRAD))
    for let in kernel.body:
        if any(v.name in varying for v in ir.variables(let.value)):
            varying.add(let.target.name)
    return result in varying
