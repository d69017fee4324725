"""Options of a layer: sizes of its neurons, and records of charged potentials and counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.errors import ModelError
from lnm_codegen.language.functions import where
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.validation import require_integer, require_known, wrong

STATS = "stats"
"""Name that stands for counts in `record`."""


def require_sizes(shape: Any, channels: Any) -> tuple[int, ...] | None:
    """Return the shape of one sample's neurons, or None where it is not given.

    Raises:
        ModelError: A size that is no integer >= 1, or a shape that begins with other channels.
    """
    if channels is not None:
        require_integer("NeuronLayer", "channels", channels)
    if shape is None:
        return None
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise wrong("NeuronLayer", "shape", shape, "integers, such as (C, H, W)")
    sizes = tuple(require_integer("NeuronLayer", "a size of shape", size) for size in shape)
    if channels is not None and sizes[:1] != (channels,):
        raise ModelError(
            "NeuronLayer",
            f"shape {sizes} does not begin with channels {channels}",
            remedy="Give one of the two, or the same number.",
        )
    return sizes


def require_record(record: Any) -> tuple[str, ...]:
    """Return the names in `record`, each once, or raise ModelError."""
    names = (record,) if isinstance(record, str) else record
    if not isinstance(names, Sequence) or not all(isinstance(n, str) for n in names):
        raise wrong("NeuronLayer", "record", record, "names, such as ('v',)")
    return tuple(dict.fromkeys(names))


def recording(neuron: Neuron, record: tuple[str, ...], interval: tuple[float, float]) -> Neuron:
    """Return the neuron with its records as further outputs and counts.

    Raises:
        ModelError: A name that is no state, or an empty interval.
    """
    states = {s.name: s for s in neuron.states}
    for name in record:
        require_known("NeuronLayer", "record", name, (*states, STATS))
    neuron = neuron.with_outputs(**{f"{n}_recorded": states[n] for n in record if n != STATS})
    if STATS not in record:
        return neuron
    pair = isinstance(interval, Sequence) and len(interval) == 2
    numbers = pair and all(isinstance(end, int | float) for end in interval)
    if not (numbers and interval[0] < interval[1]):
        raise wrong("NeuronLayer", "interval", interval, "(low, high) with low < high")
    low, high = interval
    counts = {f"{s.name}_count": s for s, _ in neuron.fire}
    if states:
        v = potential_of(neuron)
        counts["outside_count"] = where(v >= low, where(v <= high, 0, 1), 1)
    return neuron.with_counts(**counts)


def recorded(
    neuron: Neuron, record: tuple[str, ...], outputs: tuple[Tensor, ...], counts: Sequence[Any]
) -> dict[str, Any]:
    """Return the records of a call by name."""
    values: dict[str, Any] = dict(zip((n for n in record if n != STATS), outputs, strict=True))
    if STATS in record:
        names = [*neuron.spikes, *(("outside",) if neuron.states else ())]
        values[STATS] = {n: float(c) for n, c in zip(names, counts, strict=True)}
    return values
