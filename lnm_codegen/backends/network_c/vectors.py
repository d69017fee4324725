"""Samples of the example program, with the scores that the NumPy interpreter gives."""

from __future__ import annotations

import textwrap

from lnm_codegen.backends.network_c.tables import literal
from lnm_codegen.ir.network.nodes import IntegerNetwork, Integers, size_of


def vectors_view(network: IntegerNetwork, samples: Integers, scores: Integers) -> dict[str, object]:
    """Return the view of `<name>_vectors.h`.

    `samples` are (S, values), the time steps of a sample one after another; `scores` (S, classes).
    """
    steps = 1 if network.repeated else network.time_steps
    return dict(
        name=network.name,
        upper=network.name.upper(),
        samples=len(samples),
        sample_size=steps * size_of(network.input_shape),
        classes=network.classes,
        sample_inputs=tuple(map(_lines, samples)),
        sample_scores=tuple(map(_lines, scores)),
    )


def _lines(row: Integers) -> tuple[str, ...]:
    return tuple(textwrap.wrap(", ".join(literal(int(k)) for k in row.reshape(-1)), 104))
