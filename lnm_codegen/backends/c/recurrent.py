"""C++ source of a recurrent layer: all time steps in one call, parallel over samples.

`<name>_recurrent.cpp` has the product with U, the loops and the sums; the step is that of the C
backend. Every sequence is (T, N, H), and a parameter per channel or per neuron has H values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.c.backend import (
    CHUNK,
    VALUES,
    gradient_loop,
    indices,
    step_view,
)
from lnm_codegen.backends.loops import StepAccess, prepared_lines, result_variables, step_call
from lnm_codegen.backends.plan import Field, Plan
from lnm_codegen.backends.render import render

TILE = 32
"""Most samples that a thread takes through all steps at once."""
GROUP = 4
"""Samples whose terms of a gradient are summed in the type of the arithmetic."""
DENSE = 0.3
"""Share of nonzero numbers in the fed output from which the dense product is taken."""


@dataclass(frozen=True)
class RecurrentSource:
    """A neuron whose output of `delay` steps before feeds one of its inputs.

    Attributes:
        plan: The neuron.
        fed: Output that U multiplies.
        into: Input to which the product is added.
    """

    plan: Plan
    fed: str
    into: str

    @property
    def others(self) -> tuple[str, ...]:
        """The inputs without feedback."""
        return tuple(x for x in self.plan.inputs if x != self.into)

    @cached_property
    def forward_fields(self) -> tuple[Field, ...]:
        """Words of the forward's argument."""
        plan = self.plan
        return (
            *_SIZES,
            Field(f"{self.into}_seq", "real", note="c"),
            Field(f"{self.into}_stride", "int64_t", note="of a step"),
            *self._shared,
            Field("_x", "real", written=True, note="c + U s; may be c"),
            *(Field(f"{o}_seq", "real", written=True) for o in plan.outputs),
            *(Field(f"{s}_final", "real", written=True, nullable=True) for s in plan.states),
            *(Field(f"{q}_sum", "double", written=True, nullable=True) for q in plan.counts),
            Field("_saved", "real", written=True, nullable=True, note="states before chunks"),
        )

    @cached_property
    def backward_fields(self) -> tuple[Field, ...]:
        """Words of the backward's argument."""
        plan, fields = self.plan, [*_SIZES, *self._shared]
        fields += [Field("_x", "real"), Field("_saved", "real", nullable=True)]
        fields += [Field("_s", "real", nullable=True, note="with taps: the fed output")]
        fields += [Field(n, "real", written=True, nullable=True) for n in ("_fed", "_grad_fed")]
        fields += [Field("_limit", "double", nullable=True, note="bound of carried gradients")]
        for o in (self.fed, *self.graded):
            fields += [Field(f"grad_{o}_seq", "real", nullable=True)]
            fields += [Field(f"grad_{o}_stride", "int64_t")]
        fields += [Field(f"grad_{s}_final", "real", nullable=True) for s in plan.states]
        fields += [Field(f"grad_{self.into}_seq", "real", written=True)]
        optional = [f"grad_{z}_seq" for z in self.others]
        optional += [f"grad_{s}_init" for s in plan.states] + ["_grad_feedback"]
        optional += [f"grad_{p.name}" for p in plan.learnable]
        return (*fields, *(Field(n, "real", written=True, nullable=True) for n in optional))

    @property
    def graded(self) -> tuple[str, ...]:
        """The outputs beside the fed one whose gradient the step reads."""
        return tuple(o for o in self.plan.graded_outputs if o != self.fed)

    @property
    def _shared(self) -> list[Field]:
        fields = []
        for z in self.others:
            fields += [Field(f"{z}_seq", "real")]
            fields += [Field(n, "int64_t") for n in (f"{z}_stride", f"_{z}_sample", f"_{z}_neuron")]
        for s in self.plan.states:
            fields += [Field(f"{s}_init", "real"), Field(f"{s}_init_stride", "int64_t")]
        return [*fields, *(Field(p.name, "real") for p in self.plan.params)]

    def saved_rows(self, time_steps: int) -> int:
        """Return the number of states (N, H) that a forward saves."""
        return max(time_steps - 1, 0) // CHUNK * len(self.plan.states)

    def emit(self) -> Source:
        """Return step and loops."""
        plan = self.plan
        access = StepAccess(
            "{}_row[h]".format, "{}_row[h]".format, "p.{}[h]".format,
            "{}_row[h]".format, "{}_row[h]".format,
        )  # fmt: skip
        wide = plan.real == "float64"
        view = dict(
            plan=plan,
            fed=self.fed,
            into=self.into,
            others=self.others,
            graded=self.graded,
            forward_fields=self.forward_fields,
            backward_fields=self.backward_fields,
            outer_fields=OUTER_FIELDS,
            chunk=CHUNK,
            group=GROUP,
            tile=TILE,
            dense=DENSE,
            packed="pd" if wide else "ps",
            wide512="__m512d" if wide else "__m512",
            wide256="__m256d" if wide else "__m256",
            values=VALUES,
            prepared_loop=prepared_lines(plan, indices(plan), indices(plan), indent=8),
            forward_locals=result_variables(plan.forward, indent=16),
            forward_call=step_call(plan, plan.forward, access, indent=16),
            advance_locals=result_variables(plan.advance, indent=20),
            advance_call=step_call(plan, plan.advance, access, indent=20),
            backward_locals=result_variables(plan.backward, indent=20),
            backward_call=step_call(plan, plan.backward, access, indent=20),
            gradient_loop=gradient_loop(plan),
        )
        name = f"{plan.name}_recurrent.cpp"
        files = {f"{plan.name}_step.h": render("c/step.h.j2", step_view(plan))}
        return Source(files | {name: render("c/recurrent.cpp.j2", view)}, name)


OUTER_FIELDS = (
    *(Field(n, "int64_t") for n in ("_rows", "sample", "_threads")),
    *(Field(n, "real", note="(rows, sample)") for n in ("_s", "_e")),
    Field("_outer", "real", written=True, note="(sample, sample), [of s][of e]"),
)
"""Words of the argument of the sparse gradient of U."""
_SIZES = (
    *(Field(n, "int64_t") for n in ("time_steps", "samples", "sample", "channels", "inner")),
    *(Field(n, "int64_t") for n in ("_delay", "_threads", "_diagonal")),
    Field("_u", "real", note="(sample, sample), [to][from], or (sample) on the diagonal"),
    Field("_lengths", "int32_t", nullable=True, note="(samples)"),
    Field("_feedback", "real", nullable=True, note="(delay, samples, sample), oldest first"),
    Field("_taps", "real", nullable=True, note="(delay, sample): factors of s[t-1], s[t-2], ..."),
)
