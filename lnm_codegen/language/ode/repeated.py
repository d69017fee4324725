"""Sub-steps of a method in one time step, and the number of them that fits one neuron."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.names import Names
from lnm_codegen.language.binding import MOST, bindings_of, substeps
from lnm_codegen.language.ode.methods import Held, Method, Point
from lnm_codegen.language.ode.system import System


def repeated(
    method: Method, count: int, system: System, dt: sympy.Expr, held: Held, others: Iterable[Any]
) -> Point:
    """Return the states after `count` steps of a method, each of length dt/count.

    Args:
        method: The method.
        count: Number of sub-steps.
        system: The rates.
        dt: The time step.
        held: The table at the start of the step.
        others: Further expressions of the neuron, whose bound values count too.

    Raises:
        ModelError: More bound values than a neuron may have.
    """
    states = list(system.rates)
    reads: list[int] = []

    def step(*values: Any) -> tuple[Any, ...]:
        if len(reads) < 3:
            reads.append(len(bindings_of([*values, *others])))
            _require_few(reads, count)
        after = method(system, dict(zip(states, values, strict=True)), dt / count, held)
        return tuple(after[s] for s in states)

    if count == 1:
        return dict(zip(states, step(*states), strict=True))
    names = Names(s.name for s in states)
    words = {names.fresh(f"{s.name}_at") if s.name in ("k", "step") else s.name: s for s in states}
    return dict(zip(states, substeps(count, step, **words), strict=True))


def _require_few(reads: Sequence[int], count: int) -> None:
    """Refuse too many sub-steps, by the bound values that 0, 1 and 2 of them read."""
    if len(reads) < 3:
        return
    each = reads[2] - reads[1]
    total = reads[2] + (count - 2) * each
    if total > MOST:
        fit = max(1, 2 + (MOST - reads[2]) // each)
        problem = f"{count} substeps need {total} bound values"
        raise ModelError(
            "ode: substeps", problem, f"at most {MOST}", f"Use substeps={fit} at most."
        )
