"""Validation of the arguments of a call, as conditions in C that C and CUDA share."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from lnm_codegen.backends.plan import Plan

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
        "shared_fit": "".join(f" && {sizes.format(x)}" for x in plan.model.inputs[1:]),
        "forward_lacks": wrapped(_lacks(plan, [f"{o}_seq" for o in plan.model.outputs]), " || ", 8),
        "backward_lacks": wrapped(backward, " || ", 8),
    }


def wrapped(parts: Sequence[str], between: str, indent: int) -> str:
    """Return parts in lines of 96 columns, the later lines indented."""
    text = between.join(p.replace(" ", "\0") for p in parts)
    lines = textwrap.wrap(text, 96 - indent, break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * indent}".join(lines).replace("\0", " ")


def _lacks(plan: Plan, sequences: Sequence[str]) -> list[str]:
    """Return the conditions that a pointer which a kernel reads or writes is null.

    The inputs are such pointers, the `sequences`, the initial states and the parameters.
    """
    params = plan.model.params
    groups = {
        "a->time_steps && a->neurons": [f"{x}_seq" for x in plan.model.inputs] + list(sequences),
        "a->neurons": [f"{s}_init" for s in plan.states],
        "a->sample": [p.name for p in params if p.per == "neuron"],
        "a->channels": [p.name for p in params if p.per == "channel"],
    }
    null = {k: " || ".join(f"!a->{name}" for name in names) for k, names in groups.items()}
    found = [f"({k} && ({text}))" for k, text in null.items() if text]
    return [*found, *(f"!a->{p.name}" for p in params if p.per == "layer")]
