"""A neuron with feedback for a backend, and the arguments of its kernels over time.

Every sequence is (T, N, H), and a parameter per channel or per neuron has H values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lnm_codegen.backends.plan import Field, Plan

CHUNK = 16
"""Time steps from one saved state to the next."""
WIDEST = 512
"""Most neurons that U connects in a kernel for GPUs.

There one processor reads all of U for each step. Beyond it, a product for each step divides U among
all processors."""


@dataclass(frozen=True)
class RecurrentPlan:
    """A neuron whose output of `delay` steps before feeds one of its inputs.

    Attributes:
        plan: The neuron.
        fed: Output that U multiplies.
        into: Input to which the product is added.
        is_spike: Whether that output is 0 or 1.
    """

    plan: Plan
    fed: str
    into: str
    is_spike: bool

    @property
    def others(self) -> tuple[str, ...]:
        """The inputs without feedback."""
        return tuple(x for x in self.plan.inputs if x != self.into)

    @property
    def graded(self) -> tuple[str, ...]:
        """The outputs beside the fed one whose gradient the step reads."""
        return tuple(o for o in self.plan.graded_outputs if o != self.fed)

    @cached_property
    def forward_fields(self) -> tuple[Field, ...]:
        """Arguments of the forward."""
        plan = self.plan
        return (
            *_SIZES,
            Field(f"{self.into}_seq", "io", note="c"),
            Field(f"{self.into}_stride", "int64_t", note="of a step"),
            *self._shared,
            Field("_x", "io", written=True, note="c + U s; may be c"),
            *(Field(f"{o}_seq", "io", written=True) for o in plan.outputs),
            *(Field(f"{s}_final", "real", written=True, nullable=True) for s in plan.states),
            *(Field(f"{q}_sum", "double", written=True, nullable=True) for q in plan.counts),
            Field("_saved", "real", written=True, nullable=True, note="states before chunks"),
        )

    @cached_property
    def backward_fields(self) -> tuple[Field, ...]:
        """Arguments of the backward."""
        plan, fields = self.plan, [*_SIZES, *self._shared]
        fields += [Field("_x", "io"), Field("_saved", "real", nullable=True)]
        fields += [Field("_s", "io", nullable=True, note="with taps: the fed output")]
        fields += [Field(n, "real", written=True, nullable=True) for n in ("_fed", "_grad_fed")]
        fields += [Field("_limit", "double", nullable=True, note="bound of carried gradients")]
        for o in (self.fed, *self.graded):
            fields += [Field(f"grad_{o}_seq", "io", nullable=True)]
            fields += [Field(f"grad_{o}_stride", "int64_t")]
        fields += [Field(f"grad_{s}_final", "real", nullable=True) for s in plan.states]
        fields += [Field(f"grad_{self.into}_seq", "io", written=True)]
        optional = [(f"grad_{z}_seq", "io") for z in self.others]
        optional += [(f"grad_{s}_init", "real") for s in plan.states]
        optional += [("_grad_feedback", "io")]
        optional += [(f"grad_{p.name}", "real") for p in plan.learnable]
        return (*fields, *(Field(n, kind, written=True, nullable=True) for n, kind in optional))

    @property
    def _shared(self) -> list[Field]:
        fields = []
        for z in self.others:
            fields += [Field(f"{z}_seq", "io")]
            fields += [Field(n, "int64_t") for n in (f"{z}_stride", f"_{z}_sample", f"_{z}_neuron")]
        for s in self.plan.states:
            fields += [Field(f"{s}_init", "real"), Field(f"{s}_init_stride", "int64_t")]
        return [*fields, *(Field(p.name, "real") for p in self.plan.params)]

    def saved_rows(self, time_steps: int) -> int:
        """Return the number of states (N, H) that a forward saves."""
        return max(time_steps - 1, 0) // CHUNK * len(self.plan.states)


_SIZES = (
    *(Field(n, "int64_t") for n in ("time_steps", "_samples", "sample", "channels", "inner")),
    *(Field(n, "int64_t") for n in ("_delay", "_threads", "_diagonal")),
    Field("_u", "real", note="(sample, sample), [to][from], or (sample) on the diagonal"),
    Field("_lengths", "int32_t", nullable=True, note="(N)"),
    Field("_feedback", "io", nullable=True, note="(delay, N, sample), oldest first"),
    Field("_taps", "real", nullable=True, note="(delay, sample): factors of s[t-1], s[t-2], ..."),
)
