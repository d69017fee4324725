"""Explanation of a call that normalises with the statistics of the batch."""

from __future__ import annotations

from dataclasses import replace

from lnm_codegen.backends.plan import BYTES
from lnm_codegen.nn.explain import Explanation
from lnm_codegen.nn.select import device_type


def with_passes(found: Explanation, needs_gradient: bool) -> Explanation:
    """Return the explanation of a neuron's kernels with both passes of its prologue.

    `needs_gradient`: The input requires a gradient, which the second pass corrects.
    """
    if found.schedule is None:
        return found
    sums, size = 1 if device_type(found.backend) == "cpu" else 2, BYTES[found.dtype]
    schedule = replace(
        found.schedule,
        forward_launches=found.schedule.forward_launches + sums,
        backward_launches=found.schedule.backward_launches + 1,
    )
    forward, backward = found.bytes_moved
    moved = (forward + size, backward + 3 * size * needs_gradient)
    return replace(found, schedule=schedule, bytes_moved=moved)
