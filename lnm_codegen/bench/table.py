"""Rows of the benchmark of layers, as a table, CSV and figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lnm_codegen.analysis.canvas import new_figure, png
from lnm_codegen.files import write_whole

COPIES, STREAMS = "floor by copies", "floor by streams"
"""Rows of the two floors."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. Times are in ns, and memory in bytes, per neuron and time step.

    `forward` to `streams` are of the round-robin: each call finds the caches as the other subjects
    leave them. `steady` is the least median of a block of consecutive calls (`in_blocks`), and its
    ratio is to the streams in their own blocks. On a GPU `floor` is of the blocks too, since a
    round-robin contains the time of a launch.
    """

    neuron: str
    steps: int
    neurons: int
    dtype: str
    device: str
    threads: int
    what: str
    forward: float
    backward: float
    ns: float
    low: float
    high: float
    floor: float  # ratio to the plan's memory traffic at the bandwidth of a copy
    streams: float  # ratio to the kernels' own streams, over arrays of the same size
    steady: float
    steady_streams: float  # ratio of `steady` to that of the streams
    layer: float  # ratio to our first layer
    kept: float | None = None  # ns with pages kept (`lnm.nn.keep_pages`)
    peak_bytes: float | None = None
    first_call: float | None = None  # seconds, compilation included
    cached: float | None = None  # seconds of a first call with a filled cache


HEADER = (
    "T", "what", "ns", "forward", "backward", "x copy", "x streams", "x layer", "steady ns",
    "x streams (steady)", "kept ns", "bytes", "first s", "cached s",
)  # fmt: skip


LEGEND = """\
Times are ns per neuron and time step. ns, forward, backward: medians of a round-robin, in which
each call finds the caches as the other subjects leave them. steady ns: blocks of consecutive calls
of one subject; the least median of a block. x copy: ratio to the kernels' bytes at the bandwidth
of a copy of one sequence to another; on a GPU, in blocks. x streams: ratio to the kernels' own
reads and writes, over as many arrays of the same size; in the round-robin, and in blocks (steady).
kept ns: round-robin with pages kept."""
"""Explanation of `HEADER`."""


def table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the cells under `HEADER`."""
    return [
        (
            str(row.steps),
            row.what,
            nanoseconds(row.ns),
            nanoseconds(row.forward) if row.forward else "",
            nanoseconds(row.backward) if row.backward else "",
            f"{row.floor:.2f}",
            f"{row.streams:.2f}",
            f"{row.layer:.2f}",
            nanoseconds(row.steady),
            f"{row.steady_streams:.2f}",
            "" if row.kept is None else nanoseconds(row.kept),
            *(_short(value) for value in (row.peak_bytes, row.first_call, row.cached)),
        )
        for row in rows
    ]


def nanoseconds(value: float) -> str:
    """Return a time with three decimals, or with three digits where it is below 0.1."""
    return f"{value:.3f}" if value >= 0.1 else f"{value:.3g}"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def write_csv(rows: Sequence[Any], path: Path) -> None:
    """Write all fields of rows, which are dataclasses, as CSV."""
    write_table([_rounded(asdict(row)) for row in rows], path)


def write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows with the same keys as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.getvalue())


def _rounded(row: dict[str, object]) -> dict[str, object]:
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}


def write_figure(rows: Sequence[Row], path: Path) -> None:
    """Plot the time of each subject and of the floors against T, with log scales."""
    figure = new_figure("bench", 7, 4.5)
    axes = figure.subplots()
    for what in dict.fromkeys(row.what for row in rows):
        points = sorted((row.steps, row.ns) for row in rows if row.what == what)
        line = "--" if what == STREAMS else ":"
        style = (
            {"color": "black", "linestyle": line} if what.startswith("floor") else {"marker": "o"}
        )
        axes.plot(*zip(*points, strict=True), label=what, **style)  # type: ignore[arg-type]
    axes.set(xscale="log", yscale="log", xlabel="time steps T", ylabel="ns per neuron and step")
    title = f"{rows[0].neuron}, forward and backward, {rows[0].dtype}, {rows[0].device}"
    axes.set_title(title, parse_math=False)  # the neuron may be a path
    axes.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, png(figure, 150))
