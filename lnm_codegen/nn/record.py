"""`record`: charged potentials as further outputs, and counts that the kernel itself makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.errors import ModelError
from lnm_codegen.language.functions import where
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.validation import did_you_mean

STATS = "stats"


def checked_record(record: Any) -> tuple[str, ...]:
    """Return the `record` argument of a layer as words, each once, or raise ModelError."""
    words = (record,) if isinstance(record, str) else record
    if not isinstance(words, Sequence) or not all(isinstance(w, str) for w in words):
        raise ModelError("NeuronLayer", f"record is {record!r}", "names, such as ('v',)")
    return tuple(dict.fromkeys(words))


def recording(neuron: Neuron, record: tuple[str, ...], interval: tuple[float, float]) -> Neuron:
    """Return the neuron that puts out and counts what is to be recorded.

    Raises:
        ModelError: A name that is no state, or an interval that is none.
    """
    states = {s.name: s for s in neuron.states}
    for word in record:
        if word not in (*states, STATS):
            accepted = ", ".join(repr(w) for w in (*states, STATS))
            raise ModelError(
                "NeuronLayer",
                f"record names {word!r}",
                accepted,
                did_you_mean(word, (*states, STATS)),
            )
    neuron = neuron.with_outputs(**{f"{w}_recorded": states[w] for w in record if w != STATS})
    if STATS not in record:
        return neuron
    pair = isinstance(interval, Sequence) and len(interval) == 2
    numbers = pair and all(isinstance(end, int | float) for end in interval)
    if not (numbers and interval[0] < interval[1]):
        raise ModelError("NeuronLayer", f"interval is {interval!r}", "(low, high), low < high")
    low, high = interval
    counts = {f"{s.name}_count": s for s, _ in neuron.fire}
    if states:
        v = potential_of(neuron)
        counts["outside_count"] = where(v >= low, where(v <= high, 0, 1), 1)
    return neuron.with_counts(**counts)


def recorded(
    neuron: Neuron, record: tuple[str, ...], outputs: tuple[Tensor, ...], sums: Sequence[Any]
) -> dict[str, Any]:
    """Return what was recorded, by name."""
    values: dict[str, Any] = dict(zip((w for w in record if w != STATS), outputs, strict=True))
    if STATS in record:
        names = [*neuron.spikes, *(("outside",) if neuron.states else ())]
        values[STATS] = {n: float(c) for n, c in zip(names, sums, strict=True)}
    return values
